//! The logs that a segment or chunk names, each by a small index (FORMAT 6.1).
//!
//! An entry also says how far the log had come before the segment began, its *base*, so that seqs
//! are written as small differences and the first `prev` needs no bytes. Ids of the commits that
//! lie in the segment are noted as they come by; the noted ids are not part of the bytes, and
//! their number is bounded by that of the segment's records.

use std::collections::BTreeMap;

use crate::base::{CodecError, CommitId, LogId, Reader, SpaceId, Writer};
use crate::causal::check_seq;
use crate::limits;

/// One log of one space, as a dictionary names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The space.
    pub space: SpaceId,
    /// The log.
    pub log: LogId,
    /// The seq that the log had reached before the segment; 0 if none.
    pub base_seq: u64,
    /// The id of the commit at `base_seq`; all zero if none.
    pub base_id: CommitId,
}

/// Small indexes for the logs of one segment or chunk.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    /// By index. Not a vector: a hostile entry with a great index would make it large.
    slots: BTreeMap<u32, Slot>,
    index: BTreeMap<(SpaceId, LogId), u32>,
}

#[derive(Debug, Clone)]
struct Slot {
    entry: Entry,
    /// Ids of commits in this segment: runs of contiguous seqs by their first seq, disjoint.
    runs: BTreeMap<u64, Vec<CommitId>>,
}

impl Dictionary {
    /// Returns the index of a log and whether it is new; a log that is known keeps its base.
    ///
    /// # Panics
    /// On more than [`limits::DICTIONARY_ENTRIES_MAX`] logs: seal the segment long before.
    pub fn intern(
        &mut self,
        space: SpaceId,
        log: LogId,
        base_seq: u64,
        base_id: CommitId,
    ) -> (u32, bool) {
        if let Some(ix) = self.find(&space, &log) {
            return (ix, false);
        }
        let ix = self.len();
        assert!((ix as usize) < limits::DICTIONARY_ENTRIES_MAX, "the dictionary is full");
        assert!((base_seq == 0) == (base_id == CommitId::ZERO), "a base has a seq and an id");
        self.insert(ix, Entry { space, log, base_seq, base_id });
        (ix, true)
    }

    /// Returns one more than the greatest index.
    pub fn len(&self) -> u32 {
        // The limit of entries is far below 2^32.
        self.slots.last_key_value().map_or(0, |(ix, _)| ix + 1)
    }

    /// Tells whether no log is named.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the entry at `ix`.
    pub fn entry(&self, ix: u32) -> Option<&Entry> {
        self.slot(ix).map(|slot| &slot.entry)
    }

    /// Returns the entries with their indexes, ascending; damage may have left holes.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.slots.iter().map(|(ix, slot)| (*ix, &slot.entry))
    }

    /// Returns the index of a log.
    pub fn find(&self, space: &SpaceId, log: &LogId) -> Option<u32> {
        self.index.get(&(*space, *log)).copied()
    }

    /// Remembers the id of a commit that lies in this segment. The first id of a seq stays.
    pub fn note(&mut self, ix: u32, seq: u64, id: CommitId) {
        let Some(slot) = self.slots.get_mut(&ix) else { return };
        if let Some((first, run)) = slot.runs.range_mut(..=seq).next_back() {
            let end = first.saturating_add(run.len() as u64);
            if seq < end {
                return;
            }
            if seq == end {
                run.push(id);
                return;
            }
        }
        slot.runs.insert(seq, vec![id]);
    }

    /// Returns the same names, with no ids noted.
    #[must_use]
    pub fn without_ids(&self) -> Self {
        let bare = |slot: &Slot| Slot { entry: slot.entry, runs: BTreeMap::new() };
        let slots = self.slots.iter().map(|(ix, slot)| (*ix, bare(slot)));
        Self { slots: slots.collect(), index: self.index.clone() }
    }

    /// Adds a name under an index that has none; tells whether it fits.
    pub fn complete(&mut self, ix: u32, entry: Entry) -> bool {
        (ix as usize) < limits::DICTIONARY_ENTRIES_MAX
            && self.entry(ix).is_none()
            && self.add(ix, entry).is_ok()
    }

    /// Returns the id of a commit that lies in this segment or is the base of its log.
    ///
    /// The id at seq 0, before a log's first commit, is all zero if the log's base is 0.
    pub fn id(&self, ix: u32, seq: u64) -> Option<CommitId> {
        let slot = self.slot(ix)?;
        if seq == slot.entry.base_seq {
            return Some(slot.entry.base_id);
        }
        let (first, run) = slot.runs.range(..=seq).next_back()?;
        run.get(usize::try_from(seq - first).ok()?).copied()
    }

    /// Appends the entries with indexes from `from` on, each once: the body of a DICT record.
    pub fn put_entries(&self, from: u32, out: &mut impl Writer) {
        let mut space = None;
        for (ix, Slot { entry, .. }) in self.slots.range(from..) {
            let new_space = space != Some(entry.space);
            let has_base = entry.base_seq > 0;
            out.put_varint(u64::from(*ix));
            out.put_u8(u8::from(new_space) | u8::from(has_base) << 1);
            if new_space {
                out.put(&entry.space.0);
            }
            out.put_log(&entry.log);
            if has_base {
                out.put_varint(entry.base_seq);
                out.put(&entry.base_id.0);
            }
            space = Some(entry.space);
        }
    }

    /// Reads what [`Dictionary::put_entries`] wrote, up to the end of `bytes`.
    ///
    /// Entries that are known already must be the same. On an error those before it stay.
    ///
    /// # Errors
    /// [`CodecError`] for any other form and for what contradicts an earlier entry.
    pub fn read_entries(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        let mut reader = Reader::new(bytes);
        let mut last: Option<(u32, SpaceId)> = None;
        while reader.remaining() > 0 {
            let ix = u32::try_from(reader.varint()?).unwrap_or(u32::MAX);
            if ix as usize >= limits::DICTIONARY_ENTRIES_MAX {
                return Err(CodecError::TooLarge("dictionary"));
            }
            if last.is_some_and(|(last, _)| last >= ix) {
                return Err(CodecError::NotCanonical("dictionary indexes ascend"));
            }
            let flags = reader.u8()?;
            let space = match (flags & 1, last) {
                (0, Some((_, space))) => space,
                (0, None) => return Err(CodecError::NotCanonical("the first entry has its space")),
                _ => SpaceId(reader.hash()?),
            };
            if flags & 1 == 1 && last.is_some_and(|(_, last)| last == space) {
                return Err(CodecError::NotCanonical("a space is written once"));
            }
            let log = reader.log()?;
            let (base_seq, base_id) = match flags >> 1 {
                0 => (0, CommitId::ZERO),
                1 => (reader.varint()?, reader.commit_id()?),
                _ => return Err(CodecError::Unknown("flag of a dictionary entry")),
            };
            if flags >> 1 == 1 {
                check_seq(base_seq)?;
                if base_id == CommitId::ZERO {
                    return Err(CodecError::NotCanonical("a base has an id"));
                }
            }
            self.add(ix, Entry { space, log, base_seq, base_id })?;
            last = Some((ix, space));
        }
        Ok(())
    }

    fn add(&mut self, ix: u32, entry: Entry) -> Result<(), CodecError> {
        match (self.entry(ix), self.find(&entry.space, &entry.log)) {
            (None, None) => {
                self.insert(ix, entry);
                Ok(())
            }
            (Some(known), _) if *known == entry => Ok(()),
            _ => Err(CodecError::NotCanonical("a dictionary names each log once")),
        }
    }

    fn insert(&mut self, ix: u32, entry: Entry) {
        self.index.insert((entry.space, entry.log), ix);
        self.slots.insert(ix, Slot { entry, runs: BTreeMap::new() });
    }

    fn slot(&self, ix: u32) -> Option<&Slot> {
        self.slots.get(&ix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::arbitrary::{log, random_bytes};
    use proptest::prelude::*;

    fn some_dictionary() -> impl Strategy<Value = Dictionary> {
        let entry = (0u8..3, 0u64..6, prop::option::of((1u64..400, any::<[u8; 32]>())));
        prop::collection::vec(entry, 0..12).prop_map(|entries| {
            let mut dictionary = Dictionary::default();
            for (space, n, base) in entries {
                let (seq, id) = base.map_or((0, CommitId::ZERO), |(seq, id)| (seq, CommitId(id)));
                dictionary.intern(SpaceId([space; 32]), log(n), seq, id);
            }
            dictionary
        })
    }

    fn encoded(dictionary: &Dictionary, from: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        dictionary.put_entries(from, &mut bytes);
        bytes
    }

    fn listed(dictionary: &Dictionary) -> Vec<(u32, Entry)> {
        dictionary.entries().map(|(ix, entry)| (ix, *entry)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn entries_come_back_from_one_piece_or_several(
            dictionary in some_dictionary(), cut in 0u32..12,
        ) {
            let mut whole = Dictionary::default();
            prop_assert_eq!(whole.read_entries(&encoded(&dictionary, 0)), Ok(()));
            prop_assert_eq!(listed(&whole), listed(&dictionary));
            // The tail alone leaves holes, which the rest then fills; what is known may come again.
            let mut pieces = Dictionary::default();
            prop_assert_eq!(pieces.read_entries(&encoded(&dictionary, cut)), Ok(()));
            let mut tail = listed(&dictionary);
            tail.retain(|(ix, _)| *ix >= cut);
            prop_assert_eq!(listed(&pieces), tail);
            prop_assert_eq!(pieces.read_entries(&encoded(&dictionary, 0)), Ok(()));
            prop_assert_eq!(listed(&pieces), listed(&dictionary));
            for (ix, entry) in pieces.entries() {
                prop_assert_eq!(pieces.find(&entry.space, &entry.log), Some(ix));
                prop_assert_eq!(pieces.id(ix, entry.base_seq), Some(entry.base_id));
            }
        }

        #[test]
        fn a_flipped_bit_is_refused_or_gives_other_entries(dictionary in some_dictionary()) {
            let bytes = encoded(&dictionary, 0);
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut other = Dictionary::default();
                if other.read_entries(&bytes) == Ok(()) {
                    prop_assert_ne!(listed(&other), listed(&dictionary));
                    prop_assert_eq!(encoded(&other, 0), bytes);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in random_bytes(300)) {
            let mut dictionary = Dictionary::default();
            if dictionary.read_entries(&bytes) == Ok(()) {
                prop_assert_eq!(encoded(&dictionary, 0), bytes);
            }
        }

        #[test]
        fn noted_ids_are_found_in_whatever_order_they_came(
            notes in prop::collection::vec((1u64..30, any::<[u8; 32]>()), 0..60),
        ) {
            let mut dictionary = Dictionary::default();
            let (ix, _) = dictionary.intern(SpaceId([1; 32]), log(0), 0, CommitId::ZERO);
            let mut spec = BTreeMap::from([(0, CommitId::ZERO)]);
            for (seq, id) in notes {
                dictionary.note(ix, seq, CommitId(id));
                spec.entry(seq).or_insert(CommitId(id));
            }
            for seq in 0..32 {
                prop_assert_eq!(dictionary.id(ix, seq), spec.get(&seq).copied());
            }
        }
    }

    #[test]
    fn a_log_has_one_index_and_an_index_one_log() {
        let mut dictionary = Dictionary::default();
        let space = SpaceId([1; 32]);
        assert_eq!(dictionary.intern(space, log(0), 7, CommitId([1; 32])), (0, true));
        assert_eq!(dictionary.intern(space, log(0), 9, CommitId([2; 32])), (0, false));
        assert_eq!(dictionary.entry(0).unwrap().base_seq, 7);
        assert_eq!(dictionary.intern(SpaceId([2; 32]), log(0), 0, CommitId::ZERO), (1, true));
        let mut other = Dictionary::default();
        other.intern(SpaceId([2; 32]), log(0), 0, CommitId::ZERO);
        // In `other` the second log has index 0; in `dictionary` it has index 1.
        assert!(other.read_entries(&encoded(&dictionary, 0)).is_err());
        assert_eq!(dictionary.find(&space, &log(1)), None);
    }

    #[test]
    fn a_far_index_is_refused_before_it_is_believed() {
        let mut bytes = Vec::new();
        bytes.put_varint(limits::DICTIONARY_ENTRIES_MAX as u64);
        let error = Dictionary::default().read_entries(&bytes);
        assert_eq!(error, Err(CodecError::TooLarge("dictionary")));
    }
}
