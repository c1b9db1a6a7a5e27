//! What locks a key: a passphrase, through a function that is slow on purpose.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// A passphrase. Wiped from memory when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes the bytes of a passphrase, 1 to 1,024; none if they are fewer or more.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = (1..=PASSPHRASE_BYTES_MAX).contains(&bytes.len());
        fits.then(|| Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Reads the first line of a file, without its end.
    ///
    /// # Errors
    /// The file cannot be read, or that line is empty or too long.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
        File::open(path)?.take(FILE_BYTES_MAX as u64).read_to_end(&mut text)?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let none = "its first line is no passphrase of 1 to 1024 bytes";
        Self::new(line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, none))
    }
}

impl PartialEq for Passphrase {
    /// Compares what one person typed twice: how long that takes tells nobody anything.
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// How slow it is to try a passphrase, and what makes each file need its own tries (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// Memory in KiB.
    pub(super) memory_kib: u32,
    /// Passes over it.
    pub(super) passes: u32,
    /// Lanes.
    pub(super) lanes: u32,
}

impl Cost {
    /// What new files cost: the second choice of RFC 9106, for machines that are not large.
    pub(super) const USUAL: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };

    /// Tells whether a file may ask for this: at most 1 GiB and a minute or so.
    pub(super) fn is_bearable(self) -> bool {
        let Self { memory_kib, passes, lanes } = self;
        let lanes_fit = (1..=16).contains(&lanes);
        lanes_fit && (8 * lanes..=1 << 20).contains(&memory_kib) && (1..=16).contains(&passes)
    }

    /// Makes the cipher of a passphrase; none if the cost is not bearable.
    fn cipher(self, passphrase: &Passphrase, salt: &[u8; SALT_BYTES]) -> Option<XChaCha20Poly1305> {
        if !self.is_bearable() {
            return None;
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        let function = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        function.hash_password_into(&passphrase.0, salt, key.as_mut_slice()).ok()?;
        Some(XChaCha20Poly1305::new(&Key::from(*key)))
    }

    /// Seals a seed; `head` is what stands before it in the file, which cannot be changed either.
    pub(super) fn seal(
        self,
        passphrase: &Passphrase,
        (salt, nonce): (&[u8; SALT_BYTES], &[u8; NONCE_BYTES]),
        head: &[u8],
        seed: &[u8; 32],
    ) -> Option<Vec<u8>> {
        let cipher = self.cipher(passphrase, salt)?;
        cipher.encrypt(&XNonce::from(*nonce), Payload { msg: seed, aad: head }).ok()
    }

    /// Opens what [`seal`](Self::seal) made; none if it was sealed with another passphrase.
    pub(super) fn open(
        self,
        passphrase: &Passphrase,
        (salt, nonce): (&[u8; SALT_BYTES], &[u8; NONCE_BYTES]),
        head: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<[u8; 32]>> {
        let cipher = self.cipher(passphrase, salt)?;
        let payload = Payload { msg: sealed, aad: head };
        let seed = Zeroizing::new(cipher.decrypt(&XNonce::from(*nonce), payload).ok()?);
        <[u8; 32]>::try_from(seed.as_slice()).ok().map(Zeroizing::new)
    }
}

/// Longest passphrase, in bytes.
const PASSPHRASE_BYTES_MAX: usize = 1024;
/// How much is read of a file with a passphrase, in bytes.
const FILE_BYTES_MAX: usize = 4096;
/// Random bytes that make one passphrase two keys in two files.
pub(super) const SALT_BYTES: usize = 16;
/// Random bytes that the cipher never sees twice.
pub(super) const NONCE_BYTES: usize = 24;
/// A sealed seed with its tag, in bytes.
pub(super) const SEALED_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_of_a_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        for text in ["open sesame", "open sesame\n", "open sesame\r\nmore\n"] {
            std::fs::write(&path, text).unwrap();
            let read = Passphrase::read(&path).unwrap();
            assert_eq!(Some(read), Passphrase::new(b"open sesame"), "{text:?}");
        }
        for text in ["", "\n", "\nsecond", &"x".repeat(1025)] {
            std::fs::write(&path, text).unwrap();
            let refused = Passphrase::read(&path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }

    #[test]
    fn what_a_file_may_ask_for_has_bounds() {
        let usual = Cost::USUAL;
        assert!(usual.is_bearable());
        for cost in [
            Cost { memory_kib: (1 << 20) + 1, ..usual },
            Cost { memory_kib: u32::MAX, ..usual },
            Cost { memory_kib: 31, ..usual },
            Cost { passes: 0, ..usual },
            Cost { passes: 17, ..usual },
            Cost { lanes: 0, ..usual },
            Cost { lanes: 17, ..usual },
        ] {
            assert!(!cost.is_bearable(), "{cost:?}");
        }
    }
}
