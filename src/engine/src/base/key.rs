//! The name of one history inside a space.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits;

/// A key: 1 to 1024 bytes of UTF-8 without NUL, ordered by its bytes.
///
/// `/` is only a convention. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// Why text is not a key.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No bytes at all.
    #[error("a key cannot be empty")]
    Empty,
    /// More than [`limits::KEY_BYTES_MAX`] bytes.
    #[error("a key has at most {max} bytes, this one has {len}", max = limits::KEY_BYTES_MAX)]
    TooLong {
        /// The length in bytes.
        len: usize,
    },
    /// A NUL byte is inside.
    #[error("a key cannot contain a NUL byte")]
    Nul,
    /// The bytes are not UTF-8.
    #[error("a key must be UTF-8")]
    NotUtf8,
}

impl Key {
    /// Checks `text` and makes it a key.
    ///
    /// # Errors
    /// [`KeyError`] names the rule that is broken.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > limits::KEY_BYTES_MAX {
            return Err(KeyError::TooLong { len: text.len() });
        }
        if text.contains('\0') {
            return Err(KeyError::Nul);
        }
        Ok(Self(text.into()))
    }

    /// Checks `bytes` and makes them a key.
    ///
    /// # Errors
    /// [`KeyError`] names the rule that is broken.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > limits::KEY_BYTES_MAX {
            return Err(KeyError::TooLong { len: bytes.len() });
        }
        Self::new(std::str::from_utf8(bytes).map_err(|_| KeyError::NotUtf8)?)
    }

    /// Returns `bytes` as text if they are a key. Cheaper than making the key.
    pub fn text(bytes: &[u8]) -> Option<&str> {
        let length = (1..=limits::KEY_BYTES_MAX).contains(&bytes.len());
        std::str::from_utf8(bytes).ok().filter(|_| length && !bytes.contains(&0))
    }

    /// Tells whether `bytes` are a key.
    pub fn is_valid(bytes: &[u8]) -> bool {
        Self::text(bytes).is_some()
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the bytes of the key, without copying them.
    pub fn into_bytes(self) -> Arc<[u8]> {
        self.0.into()
    }

    /// Returns the bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_checked() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert_eq!(Key::new("a\0b"), Err(KeyError::Nul));
        assert_eq!(Key::new(&"k".repeat(1025)), Err(KeyError::TooLong { len: 1025 }));
        assert_eq!(Key::from_bytes(b"\xff"), Err(KeyError::NotUtf8));
        assert!(Key::new(&"k".repeat(1024)).is_ok());
        for bytes in [&b""[..], b"a\0b", b"\xff", b"a", &[b'k'; 1024], &[b'k'; 1025]] {
            assert_eq!(Key::is_valid(bytes), Key::from_bytes(bytes).is_ok());
        }
    }
}
