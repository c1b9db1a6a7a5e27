//! Grants and revocations: who may do what in an owned space (FORMAT 3.3).
//!
//! They stand in the headers of their commits, so they are signed, hashed and never erased. A value
//! of a type here has the one canonical form. Whether an act counts depends on other commits, and
//! is decided by the store.

use std::fmt;

use crate::base::{CodecError, GrantId, Hash, Reader, ReplicaId, SpaceId, Writer, sha256};
use crate::limits;

/// What a commit says about authority, besides a note.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Lets somebody do something.
    Grant(Grant),
    /// Takes a grant back: what its holders write counts no more, but for what the commit has in
    /// its past.
    Revoke(GrantId),
}

/// What somebody is let do, under the grant that the commit names.
///
/// Its id is that of its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub audience: Audience,
    /// What.
    pub actions: Actions,
    /// With which keys.
    pub prefixes: Prefixes,
    /// Until when, in milliseconds since 1970: the last stamp that counts.
    pub expiry_ms: Option<u64>,
    /// How many more times it may be passed on.
    pub depth: u8,
}

/// Whom a grant means.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// A replica, which may write under it.
    Replica(ReplicaId),
    /// Whoever shows the secret that has this hash, see [`Audience::bearer`]. It never writes
    /// commits; a node acts for it.
    Bearer(Hash),
}

/// A set of what can be done.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Actions(u8);

/// Beginnings of keys, in their one canonical form: strictly ascending, none begins with another.
#[derive(Clone, PartialEq, Eq)]
pub struct Prefixes(Vec<Box<[u8]>>);

/// Returns the id under which the root at `index` of an owned space acts.
pub fn root_grant(space: &SpaceId, index: u8) -> GrantId {
    GrantId(sha256("kdelta/root/1", &[&space.0, &[index]]))
}

impl Act {
    /// Appends the canonical form, which does not say which kind of act it is.
    pub(super) fn encode(&self, out: &mut impl Writer) {
        match self {
            Self::Grant(grant) => grant.encode(out),
            Self::Revoke(target) => out.put(&target.0),
        }
    }
}

impl Grant {
    /// Appends the canonical form.
    pub fn encode(&self, out: &mut impl Writer) {
        self.audience.encode(out);
        out.put_u8(self.actions.0);
        out.put_len(self.prefixes.0.len());
        self.prefixes.iter().for_each(|prefix| out.put_bytes(prefix));
        out.put_u8(u8::from(self.expiry_ms.is_some()));
        if let Some(expiry_ms) = self.expiry_ms {
            out.put_u64(expiry_ms);
        }
        out.put_u8(self.depth);
    }

    /// Takes the canonical form.
    ///
    /// # Errors
    /// [`CodecError`] for any other form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let audience = Audience::decode(reader)?;
        let actions = Actions::from_byte(reader.u8()?)?;
        let prefixes = Prefixes::decode(reader)?;
        let expiry_ms = match reader.u8()? {
            0 => None,
            1 => Some(reader.u64()?),
            _ => return Err(CodecError::NotCanonical("a flag is 0 or 1")),
        };
        let grant = Self { audience, actions, prefixes, expiry_ms, depth: reader.u8()? };
        grant.check()?;
        Ok(grant)
    }

    /// Checks the bounds that its types do not hold.
    pub(super) fn check(&self) -> Result<(), CodecError> {
        if self.expiry_ms.is_some_and(|expiry_ms| expiry_ms > limits::EXPIRY_MS_MAX) {
            return Err(CodecError::TooLarge("expiry"));
        }
        if self.depth > limits::GRANT_DEPTH_MAX {
            return Err(CodecError::TooLarge("depth"));
        }
        Ok(())
    }
}

impl Audience {
    /// Returns whoever shows `secret`.
    pub fn bearer(secret: &[u8; 32]) -> Self {
        Self::Bearer(sha256("kdelta/bearer/1", &[secret]))
    }

    /// Appends the canonical form: 33 bytes.
    pub fn encode(&self, out: &mut impl Writer) {
        let (tag, bytes) = match self {
            Self::Replica(replica) => (0, &replica.0),
            Self::Bearer(hash) => (1, hash),
        };
        out.put_u8(tag);
        out.put(bytes);
    }

    /// Takes the canonical form.
    ///
    /// # Errors
    /// [`CodecError`] for any other form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        match reader.u8()? {
            0 => Ok(Self::Replica(ReplicaId(reader.array()?))),
            1 => Ok(Self::Bearer(reader.hash()?)),
            _ => Err(CodecError::Unknown("audience of a grant")),
        }
    }
}

impl Actions {
    /// Seeing keys, values and history.
    pub const READ: Self = Self(1);
    /// Writing, but for deleting keys.
    pub const PUT: Self = Self(2);
    /// Deleting keys.
    pub const DELETE: Self = Self(4);
    /// Erasing what was written.
    pub const ERASE: Self = Self(8);
    /// Passing rights on.
    pub const DELEGATE: Self = Self(16);
    /// Taking back grants that are not more senior.
    pub const REVOKE: Self = Self(32);
    /// Certifying what history may go.
    pub const CHECKPOINT: Self = Self(64);
    /// All that concerns the space as a whole.
    pub const ADMIN: Self = Self(128);
    /// Everything.
    pub const ALL: Self = Self(255);

    /// Each action and its name.
    pub const NAMES: [(Self, &str); 8] = [
        (Self::READ, "read"),
        (Self::PUT, "put"),
        (Self::DELETE, "delete"),
        (Self::ERASE, "erase"),
        (Self::DELEGATE, "delegate"),
        (Self::REVOKE, "revoke"),
        (Self::CHECKPOINT, "checkpoint"),
        (Self::ADMIN, "admin"),
    ];

    /// Returns the number in the formats.
    pub fn to_byte(self) -> u8 {
        self.0
    }

    /// Reads the number in the formats.
    ///
    /// # Errors
    /// [`CodecError::NotCanonical`]: a grant of nothing.
    pub fn from_byte(byte: u8) -> Result<Self, CodecError> {
        if byte == 0 {
            Err(CodecError::NotCanonical("some action is granted"))
        } else {
            Ok(Self(byte))
        }
    }

    /// Tells whether all of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Tells whether any of `other` is among these.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns these and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES.iter().filter(|(action, _)| self.meets(*action));
        for (at, (_, name)) in named.enumerate() {
            f.write_str(if at > 0 { "," } else { "" })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Prefixes {
    /// Returns the prefix of every key.
    pub fn all() -> Self {
        Self(vec![Box::default()])
    }

    /// Puts prefixes in order, and leaves out what another one covers.
    ///
    /// # Errors
    /// [`CodecError`] if there are none, or too many, or one is too long, or all together are.
    pub fn new<P: Into<Box<[u8]>>>(
        prefixes: impl IntoIterator<Item = P>,
    ) -> Result<Self, CodecError> {
        let mut all: Vec<Box<[u8]>> = prefixes.into_iter().map(Into::into).collect();
        all.sort();
        // What begins with another one comes after it, with none between that does not.
        all.dedup_by(|later, earlier| later.starts_with(earlier));
        Self(all).checked()
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = reader.count(limits::GRANT_PREFIXES_MAX, 1, "prefixes")?;
        let mut prefixes = Vec::with_capacity(count);
        for _ in 0..count {
            prefixes.push(reader.bytes(limits::KEY_BYTES_MAX, "prefix")?.into());
        }
        Self(prefixes).checked()
    }

    fn checked(self) -> Result<Self, CodecError> {
        let prefixes = &self.0;
        if prefixes.len() > limits::GRANT_PREFIXES_MAX {
            return Err(CodecError::TooLarge("prefixes"));
        }
        if prefixes.iter().any(|prefix| prefix.len() > limits::KEY_BYTES_MAX) {
            return Err(CodecError::TooLarge("prefix"));
        }
        let bytes: usize = prefixes.iter().map(|prefix| prefix.len()).sum();
        if bytes > limits::GRANT_PREFIX_BYTES_MAX {
            return Err(CodecError::TooLarge("prefixes"));
        }
        if prefixes.is_empty() || !prefixes.is_sorted_by(|a, b| a < b && !b.starts_with(a)) {
            return Err(CodecError::NotCanonical("prefixes ascend, and none covers another"));
        }
        Ok(self)
    }

    /// Returns each of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Tells whether a key, or a longer prefix, begins with one of these.
    pub fn cover(&self, key: &[u8]) -> bool {
        self.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Tells whether every key that these cover is covered by `others`.
    pub fn within(&self, others: &Self) -> bool {
        self.iter().all(|prefix| others.cover(prefix))
    }
}

impl fmt::Debug for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|prefix| prefix.escape_ascii().to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::arbitrary::{random_bytes, some_grant};
    use proptest::prelude::*;

    fn encoded(grant: &Grant) -> Vec<u8> {
        let mut bytes = Vec::new();
        grant.encode(&mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<Grant, CodecError> {
        let mut reader = Reader::new(bytes);
        let grant = Grant::decode(&mut reader)?;
        reader.finish()?;
        Ok(grant)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_grant_has_one_encoding(grant in some_grant()) {
            let bytes = encoded(&grant);
            prop_assert_eq!(decoded(&bytes), Ok(grant.clone()));
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(other) = decoded(&bytes) {
                    prop_assert_ne!(&other, &grant, "bit {}", bit);
                    prop_assert_eq!(encoded(&other), bytes, "bit {}", bit);
                }
            }
            for len in 0..bytes.len() {
                prop_assert!(decoded(&bytes[..len]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in random_bytes(300)) {
            if let Ok(grant) = decoded(&bytes) {
                prop_assert_eq!(encoded(&grant), bytes);
            }
        }

        /// The one canonical form covers the same keys as what it was made of.
        #[test]
        fn prefixes_cover_what_any_of_them_does(
            prefixes in prop::collection::vec("[ab]{0,3}", 1..6), key in "[ab]{0,5}",
        ) {
            let made = Prefixes::new(prefixes.iter().map(|text| text.as_bytes())).unwrap();
            let covers = prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
            prop_assert_eq!(made.cover(key.as_bytes()), covers);
            let again = Prefixes::new(made.iter()).unwrap();
            prop_assert_eq!(&again, &made);
            prop_assert!(made.within(&Prefixes::all()) && made.within(&made));
        }
    }

    #[test]
    fn prefixes_within_others_cover_no_more() {
        let of = |texts: &[&str]| Prefixes::new(texts.iter().map(|text| text.as_bytes())).unwrap();
        assert!(of(&["a/b", "a/c", "d"]).within(&of(&["a/", "d"])));
        assert!(!of(&["a/b", "e"]).within(&of(&["a/", "d"])));
        assert!(!of(&["a"]).within(&of(&["a/"])));
        assert!(!Prefixes::all().within(&of(&["a"])));
        assert_eq!(of(&["a", "a/b", ""]), Prefixes::all());
    }

    #[test]
    fn prefixes_that_are_not_canonical_are_refused() {
        let raw = |prefixes: &[&[u8]]| {
            let mut bytes = Vec::new();
            bytes.put_len(prefixes.len());
            prefixes.iter().for_each(|prefix| bytes.put_bytes(prefix));
            Prefixes::decode(&mut Reader::new(&bytes))
        };
        assert!(raw(&[b""]).is_ok() && raw(&[b"a", b"b"]).is_ok());
        let long = [b'x'; limits::KEY_BYTES_MAX + 1];
        let full: Vec<_> = (0..3).map(|n| vec![n; limits::KEY_BYTES_MAX]).collect();
        let full: Vec<&[u8]> = full.iter().map(AsRef::as_ref).collect();
        let many: Vec<_> = (0..17).map(|n| vec![n]).collect();
        let many: Vec<&[u8]> = many.iter().map(AsRef::as_ref).collect();
        assert!(raw(&full[..2]).is_ok() && raw(&many[..16]).is_ok());
        let wrong: [&[&[u8]]; 8] = [
            &[],
            &[b"b", b"a"],
            &[b"a", b"a"],
            &[b"a", b"ab"],
            &[b"", b"a"],
            &[&long],
            &full,
            &many,
        ];
        for prefixes in wrong {
            assert!(raw(prefixes).is_err(), "{prefixes:?}");
        }
        assert!(Prefixes::new(full).is_err() && Prefixes::new::<&[u8]>([]).is_err());
    }

    #[test]
    fn bounds_of_a_grant_are_kept() {
        let audience = Audience::bearer(&[1; 32]);
        let (actions, prefixes) = (Actions::READ, Prefixes::all());
        let expiry_ms = Some(limits::EXPIRY_MS_MAX);
        let grant = Grant { audience, actions, prefixes, expiry_ms, depth: 8 };
        assert_eq!(decoded(&encoded(&grant)), Ok(grant.clone()));
        let late = Grant { expiry_ms: Some(limits::EXPIRY_MS_MAX + 1), ..grant.clone() };
        assert_eq!(decoded(&encoded(&late)), Err(CodecError::TooLarge("expiry")));
        let deep = Grant { depth: 9, ..grant };
        assert_eq!(decoded(&encoded(&deep)), Err(CodecError::TooLarge("depth")));
    }

    #[test]
    fn actions_have_names() {
        assert_eq!(Actions::PUT.and(Actions::READ).to_string(), "read,put");
        let named = Actions::NAMES.iter().fold(0, |all, (action, _)| all | action.to_byte());
        assert_eq!(named, Actions::ALL.to_byte());
        assert!(Actions::from_byte(0).is_err() && Actions::ALL.contains(Actions::ADMIN));
        assert!(!Actions::READ.meets(Actions::PUT.and(Actions::DELETE)));
    }
}
