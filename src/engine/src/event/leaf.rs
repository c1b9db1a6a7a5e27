//! The leaves of a commit: events, each in two parts (FORMAT 4).
//!
//! The skeleton says what the event does to the other events of its key; it is never erased. The
//! content (key and payload, under a salt) can be erased: its hash stays in its place, so the
//! commit's root still verifies and says nothing about what was there.

use std::sync::Arc;

use super::Measure;
use crate::base::{CodecError, Dot, Hash, Key, Reader, Sha256Stream, Writer, sha256};
use crate::causal::check_seq;
use crate::crdt::{Action, Delta, Supersedes};
use crate::limits;

/// Fewest bytes of a dot in canonical form.
pub(super) const DOT_BYTES_MIN: usize = 40 + 1 + 1;
/// Fewest bytes of an entry of a cut in canonical form.
pub(super) const CUT_ENTRY_BYTES_MIN: usize = 40 + 1;
/// Length of a salt, in bytes.
pub(super) const SALT_BYTES: usize = 16;
/// Fewest bytes of a content: a salt and the length of an empty key.
pub(super) const CONTENT_BYTES_MIN: usize = SALT_BYTES + 1;
/// Stands where the skeleton of an event would be, in the meta leaf.
pub(super) const META_SKELETON: [u8; 2] = [0xff, 0x00];

/// What an event does, apart from its key and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skeleton {
    /// What it does to its key.
    pub action: Action,
    /// Which earlier events of its key it removes.
    pub supersedes: Supersedes,
}

impl Skeleton {
    /// Appends the canonical form, with whole log ids.
    pub fn encode(&self, out: &mut impl Writer) {
        out.put(&self.action.to_bytes());
        match &self.supersedes {
            Supersedes::Dots(dots) => {
                out.put_u8(0);
                out.put_len(dots.len());
                for dot in dots {
                    out.put_log(&dot.log);
                    out.put_varint(dot.seq);
                    out.put_varint(u64::from(dot.index));
                }
            }
            Supersedes::Cut(cut) => {
                out.put_u8(1);
                out.put_len(cut.len());
                for (log, seq) in cut {
                    out.put_log(log);
                    out.put_varint(*seq);
                }
            }
        }
    }

    /// Takes the canonical form.
    ///
    /// # Errors
    /// [`CodecError`] for any other form, and for a list that is too long or not ascending.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let action = Action::from_bytes(reader.array()?)?;
        let supersedes = match reader.u8()? {
            0 => {
                let count = reader.count(limits::PREDS_MAX, DOT_BYTES_MIN, "preds")?;
                let dot = |_| {
                    let (log, seq) = (reader.log()?, reader.varint()?);
                    let index = u16::try_from(reader.varint()?);
                    Ok(Dot { log, seq, index: index.map_err(|_| CodecError::TooLarge("index"))? })
                };
                Supersedes::Dots((0..count).map(dot).collect::<Result<_, CodecError>>()?)
            }
            1 => {
                let count = reader.count(limits::CUT_ENTRIES_MAX, CUT_ENTRY_BYTES_MIN, "cut")?;
                let entry = |_| Ok((reader.log()?, reader.varint()?));
                Supersedes::Cut((0..count).map(entry).collect::<Result<_, CodecError>>()?)
            }
            _ => return Err(CodecError::Unknown("form of preds")),
        };
        let skeleton = Self { action, supersedes };
        skeleton.check_lists()?;
        Ok(skeleton)
    }

    /// Returns the length of the canonical form, in bytes.
    pub fn encoded_len(&self) -> usize {
        let mut measure = Measure(0);
        self.encode(&mut measure);
        measure.0
    }

    /// Checks all that can be known without other commits, for an event that sits at `own`.
    pub(super) fn check(&self, own: &Dot) -> Result<(), CodecError> {
        self.check_lists()?;
        let earlier = match &self.supersedes {
            Supersedes::Dots(dots) => dots
                .iter()
                .all(|dot| dot.log != own.log || (dot.seq, dot.index) < (own.seq, own.index)),
            Supersedes::Cut(cut) => cut.iter().all(|(log, seq)| *log != own.log || *seq <= own.seq),
        };
        if earlier { Ok(()) } else { Err(CodecError::NotCanonical("preds come before the event")) }
    }

    fn check_lists(&self) -> Result<(), CodecError> {
        let ascending = match &self.supersedes {
            Supersedes::Dots(dots) => {
                if dots.len() > limits::PREDS_MAX {
                    return Err(CodecError::TooLarge("preds"));
                }
                for dot in dots {
                    check_seq(dot.seq)?;
                    if usize::from(dot.index) >= limits::COMMIT_EVENTS_MAX {
                        return Err(CodecError::TooLarge("index"));
                    }
                }
                dots.is_sorted_by(|a, b| a < b)
            }
            Supersedes::Cut(cut) => {
                if cut.is_empty() {
                    return Err(CodecError::NotCanonical("a cut has an entry"));
                }
                if cut.len() > limits::CUT_ENTRIES_MAX {
                    return Err(CodecError::TooLarge("cut"));
                }
                cut.iter().try_for_each(|(_, seq)| check_seq(*seq))?;
                cut.is_sorted_by(|a, b| a.0 < b.0)
            }
        };
        if ascending { Ok(()) } else { Err(CodecError::NotCanonical("preds are ascending")) }
    }
}

/// The part of a leaf that can be erased. In the meta leaf the key is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All there.
    Present {
        /// Random bytes, so that the hash of a small value cannot be guessed.
        salt: [u8; SALT_BYTES],
        /// The key as received; it may break the rules for keys.
        key: Arc<[u8]>,
        /// The payload as received; it may break the rules of its action.
        payload: Arc<[u8]>,
    },
    /// Only the hash of what was there.
    Erased(Hash),
}

impl Content {
    /// Returns the inner hash of the leaf, which stays when the rest is erased.
    pub fn hash(&self) -> Hash {
        match self {
            Self::Present { salt, key, payload } => {
                let mut stream = Sha256Stream::new("");
                stream.put(salt);
                stream.put_bytes(key);
                stream.put(payload);
                stream.finish()
            }
            Self::Erased(hash) => *hash,
        }
    }

    /// Returns the length of what is hashed, in bytes; none when erased.
    pub fn encoded_len(&self) -> Option<usize> {
        match self {
            Self::Present { salt, key, payload } => {
                let mut measure = Measure(0);
                measure.put(salt);
                measure.put_bytes(key);
                measure.put(payload);
                Some(measure.0)
            }
            Self::Erased(_) => None,
        }
    }

    /// Returns what is left after erasing.
    #[must_use]
    pub fn erased(&self) -> Self {
        Self::Erased(self.hash())
    }
}

/// One immutable delta to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it does; never erased.
    pub skeleton: Skeleton,
    /// Key and payload, or their hash.
    pub content: Content,
}

impl Event {
    /// Returns the leaf that stands for the event in its commit's tree.
    pub fn leaf_hash(&self) -> Hash {
        let mut bytes = Vec::with_capacity(self.skeleton.encoded_len() + 33);
        bytes.put_u8(0);
        self.skeleton.encode(&mut bytes);
        bytes.put(&self.content.hash());
        sha256("", &[&bytes])
    }

    /// Returns the key; none if the event is erased or its key breaks a rule.
    pub fn key(&self) -> Option<Key> {
        Key::new(self.key_text()?).ok()
    }

    /// Returns the key as text; none where [`key`](Self::key) gives none. Cheaper than that.
    pub fn key_text(&self) -> Option<&str> {
        match &self.content {
            Content::Present { key, .. } => Key::text(key),
            Content::Erased(_) => None,
        }
    }

    /// Tells whether the event's key is a key and has those bytes.
    pub fn is_of(&self, key: &[u8]) -> bool {
        match &self.content {
            Content::Present { key: own, .. } => own.as_ref() == key && Key::is_valid(key),
            Content::Erased(_) => false,
        }
    }

    /// Returns the payload; none where [`delta`](Self::delta) gives none.
    pub fn payload(&self) -> Option<&Arc<[u8]>> {
        match &self.content {
            Content::Present { key, payload, .. } => {
                let counts = Key::is_valid(key) && payload.len() <= limits::VALUE_BYTES_MAX;
                counts.then_some(payload)
            }
            Content::Erased(_) => None,
        }
    }

    /// Returns the delta to the key; none if the event is erased, or counts as erased because its
    /// key breaks a rule or its payload is over [`limits::VALUE_BYTES_MAX`].
    pub fn delta(&self) -> Option<Delta> {
        let payload = self.payload()?.clone();
        let Skeleton { action, supersedes } = self.skeleton.clone();
        Some(Delta { action, supersedes, payload })
    }
}

/// Returns the leaf that stands for the meta leaf in its commit's tree.
pub(super) fn meta_leaf_hash(content: &Content) -> Hash {
    sha256("", &[&[0], &META_SKELETON, &content.hash()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LogId, ReplicaId};
    use crate::event::arbitrary::{random_bytes, some_event};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_skeleton_has_one_encoding(event in some_event()) {
            let mut bytes = Vec::new();
            event.skeleton.encode(&mut bytes);
            prop_assert_eq!(event.skeleton.encoded_len(), bytes.len());
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Skeleton::decode(&mut reader), Ok(event.skeleton));
            prop_assert_eq!(reader.finish(), Ok(()));
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let mut reader = Reader::new(&changed);
                if let Ok(skeleton) = Skeleton::decode(&mut reader) {
                    let mut again = Vec::new();
                    skeleton.encode(&mut again);
                    prop_assert_eq!(&again[..], &changed[..changed.len() - reader.remaining()]);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in random_bytes(200)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(skeleton) = Skeleton::decode(&mut reader) {
                prop_assert_eq!(skeleton.encoded_len(), bytes.len() - reader.remaining());
            }
        }

        #[test]
        fn erasing_keeps_the_leaf(event in some_event()) {
            let erased = Event { content: event.content.erased(), ..event.clone() };
            prop_assert_eq!(erased.leaf_hash(), event.leaf_hash());
            prop_assert_eq!((erased.key(), erased.delta()), (None, None));
        }
    }

    fn event(key: &[u8], payload: Vec<u8>) -> Event {
        let skeleton = Skeleton { action: Action::RegisterPut, supersedes: Supersedes::NOTHING };
        let content = Content::Present { salt: [1; 16], key: key.into(), payload: payload.into() };
        Event { skeleton, content }
    }

    #[test]
    fn a_leaf_is_the_hash_that_the_format_says() {
        let inner = sha256("", &[&[1; 16], &[3], b"key", b"value"]);
        let leaf = sha256("", &[&[0], &[1, 1], &[0, 0], &inner]);
        assert_eq!(event(b"key", b"value".to_vec()).leaf_hash(), leaf);
        let meta = sha256("", &[&[0], &[0xff, 0], &inner]);
        assert_eq!(meta_leaf_hash(&event(b"key", b"value".to_vec()).content), meta);
    }

    #[test]
    fn key_and_payload_cannot_change_places() {
        let (a, b) = (event(b"ab", b"c".to_vec()), event(b"a", b"bc".to_vec()));
        assert_ne!(a.leaf_hash(), b.leaf_hash());
    }

    #[test]
    fn a_broken_key_or_a_huge_payload_counts_as_erased() {
        let payload = b"1".to_vec();
        assert!(event(b"key", payload.clone()).delta().is_some());
        for key in [&b""[..], b"\xff", b"a\0b", &[b'k'; 1025]] {
            assert_eq!(event(key, payload.clone()).delta(), None);
        }
        assert!(event(b"key", vec![0; limits::VALUE_BYTES_MAX]).delta().is_some());
        assert_eq!(event(b"key", vec![0; limits::VALUE_BYTES_MAX + 1]).delta(), None);
    }

    #[test]
    fn preds_are_ascending_earlier_and_few() {
        let log = |n| LogId { replica: ReplicaId([n; 32]), incarnation: 0 };
        let dot = |n, seq, index| Dot { log: log(n), seq, index };
        let own = dot(5, 10, 3);
        let check =
            |supersedes| Skeleton { action: Action::Delete, supersedes }.check(&own).is_ok();
        let dots = |dots: &[Dot]| check(Supersedes::Dots(dots.to_vec()));
        assert!(dots(&[dot(4, 99, 0), dot(5, 9, 4095), dot(5, 10, 2)]));
        assert!(!dots(&[dot(5, 10, 3)]) && !dots(&[dot(5, 11, 0)]));
        assert!(!dots(&[dot(5, 2, 0), dot(5, 1, 0)]) && !dots(&[dot(5, 1, 0), dot(5, 1, 0)]));
        assert!(!dots(&[dot(4, 0, 0)]) && !dots(&[dot(4, 1, 4096)]));
        let many = |count| (1..=count).map(|seq| dot(4, seq, 0)).collect::<Vec<_>>();
        assert!(dots(&many(limits::PREDS_MAX as u64)));
        assert!(!dots(&many(limits::PREDS_MAX as u64 + 1)));
        let cut = |cut: &[_]| check(Supersedes::Cut(cut.to_vec()));
        assert!(cut(&[(log(4), 99), (log(5), 10)]));
        assert!(!cut(&[]) && !cut(&[(log(5), 11)]) && !cut(&[(log(4), 0)]));
        assert!(!cut(&[(log(5), 1), (log(4), 1)]) && !cut(&[(log(4), 1), (log(4), 2)]));
    }
}
