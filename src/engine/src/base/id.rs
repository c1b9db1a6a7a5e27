//! Names of things: replicas, spaces, commits, logs, dots and events.
//!
//! Each is a fixed number of bytes with a lower-case hexadecimal text form. A name says nothing of
//! whether the thing exists or is valid.

use std::fmt;
use std::str::FromStr;

use super::Hash;

/// Text that is not the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct ParseIdError {
    /// How many digits the id has.
    pub expected: usize,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub Hash);

        impl $name {
            /// All bytes zero: stands for "none" where a format has a fixed-width field.
            pub const ZERO: Self = Self([0; 32]);

            /// Returns the bytes of the id.
            pub fn as_bytes(&self) -> &Hash {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}…)", stringify!($name), hex(self.0.get(..4).unwrap_or_default()))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let bytes = unhex(text).and_then(|b| Hash::try_from(b).ok());
                bytes.map(Self).ok_or(ParseIdError { expected: 64 })
            }
        }
    };
}

id_type! {
    /// An Ed25519 public key: the replica writes and connects under it.
    ReplicaId
}
id_type! {
    /// The hash of a space's genesis commit.
    SpaceId
}
id_type! {
    /// The hash of a commit's canonical header.
    CommitId
}
id_type! {
    /// The hash of a grant.
    GrantId
}

/// One hash chain of commits: one life of one replica's store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    /// Who writes the log.
    pub replica: ReplicaId,
    /// Which life of that replica's store: a random number, new after restore, copy or loss.
    pub incarnation: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.replica, self.incarnation)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}-{:04x}", self.replica, self.incarnation >> 48)
    }
}

impl FromStr for LogId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = ParseIdError { expected: 64 };
        let (replica, incarnation) = text.split_once('-').ok_or(bad.clone())?;
        let bytes = unhex(incarnation).and_then(|b| <[u8; 8]>::try_from(b).ok()).ok_or(bad)?;
        Ok(Self { replica: replica.parse()?, incarnation: u64::from_be_bytes(bytes) })
    }
}

/// The short name of an event: its log, the seq of its commit, and its index in the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The log that the commit is in.
    pub log: LogId,
    /// The commit's number in that log, from 1, without holes.
    pub seq: u64,
    /// The event's index in the commit, from 0.
    pub index: u16,
}

/// The full name of an event: its commit's hash and its index in the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The commit.
    pub commit: CommitId,
    /// The event's index in the commit, from 0.
    pub index: u16,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.commit, self.index)
    }
}

impl FromStr for EventId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = ParseIdError { expected: 64 };
        let (commit, index) = text.split_once('.').ok_or(bad.clone())?;
        if index.len() > 1 && index.starts_with('0') {
            return Err(bad);
        }
        Ok(Self { commit: commit.parse()?, index: index.parse().map_err(|_| bad)? })
    }
}

/// Returns the lower-case hexadecimal form of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Returns the bytes whose lower-case hexadecimal form is `text`, if it is one.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        let commit = CommitId([0xab; 32]);
        assert_eq!(commit.to_string().parse(), Ok(commit));
        let event = EventId { commit, index: 17 };
        assert_eq!(event.to_string().parse(), Ok(event));
        let log = LogId { replica: ReplicaId([7; 32]), incarnation: 0x0123_4567_89ab_cdef };
        assert_eq!(log.to_string().parse(), Ok(log));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "ab", &"g".repeat(64), &"AB".repeat(32), &"a".repeat(63), &"é".repeat(32)]
        {
            assert!(text.parse::<CommitId>().is_err(), "{text}");
        }
        assert!(format!("{}.01", CommitId::ZERO).parse::<EventId>().is_err());
        assert!(format!("{}.65536", CommitId::ZERO).parse::<EventId>().is_err());
    }
}
