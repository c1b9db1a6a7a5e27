//! Blocks: sorted keys with values, prefix-compressed (FORMAT 8.2).
//!
//! Data blocks and index nodes share this form. Every 16th key is whole, a restart point; a search
//! is a binary one over these and a walk over at most 16 entries that rebuilds no key and
//! allocates nothing.

use std::ops::Range;

use crate::base::{CodecError, Reader, Writer};
use crate::limits;

const RESTART_INTERVAL: usize = 16;

/// Makes one block after another.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    first: Vec<u8>,
    last: Vec<u8>,
    entries: usize,
}

impl BlockBuilder {
    /// Adds an entry; keys come in ascending order.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let mut shared = 0;
        if self.entries.is_multiple_of(RESTART_INTERVAL) {
            self.restarts.push(super::piece::len32(self.bytes.len()));
        } else {
            shared = common_prefix(&self.last, key);
        }
        if self.entries == 0 {
            self.first.clear();
            self.first.put(key);
        }
        let suffix = key.get(shared..).unwrap_or_default();
        self.bytes.put_len(shared);
        self.bytes.put_len(suffix.len());
        self.bytes.put_len(value.len());
        self.bytes.put(suffix);
        self.bytes.put(value);
        self.last.truncate(shared);
        self.last.put(suffix);
        self.entries += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Returns the size so far, without the restart points.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the first key of the block being made.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Returns the last key added, to this block or to the one before.
    pub(super) fn last(&self) -> &[u8] {
        &self.last
    }

    /// Completes the block, hands its bytes to `take`, and begins the next one.
    pub(super) fn finish<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> T {
        for restart in &self.restarts {
            self.bytes.put_u32(*restart);
        }
        self.bytes.put_u32(super::piece::len32(self.restarts.len()));
        let taken = take(&self.bytes);
        self.bytes.clear();
        self.restarts.clear();
        self.entries = 0;
        taken
    }
}

/// A block that was read. Its entries are parsed as they are met, and never trusted.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    entries_end: usize,
    restarts: usize,
}

/// The greatest entry whose key is at most the one sought.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) value: Range<usize>,
    /// Where the entry after it begins.
    pub(super) next: usize,
    /// Whether its key is the one sought.
    pub(super) exact: bool,
}

/// One entry as it lies in the block.
struct Raw {
    shared: usize,
    suffix: Range<usize>,
    value: Range<usize>,
}

impl Raw {
    fn next(&self) -> usize {
        self.value.end
    }
}

impl Block {
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, CodecError> {
        let (rest, count) = bytes.split_last_chunk().ok_or(CodecError::Truncated)?;
        let restarts = u32::from_le_bytes(*count) as usize;
        let entries_end = restarts.checked_mul(4).and_then(|len| rest.len().checked_sub(len));
        let entries_end = entries_end.ok_or(CodecError::Truncated)?;
        Ok(Self { entries_end, restarts, bytes })
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> Result<&[u8], CodecError> {
        self.bytes.get(range).ok_or(CodecError::Truncated)
    }

    /// Returns the size in memory, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Finds the greatest key that is at most `key`.
    pub(super) fn floor(&self, key: &[u8]) -> Result<Option<Floor>, CodecError> {
        let Some(mut at) = self.restart_before(key)? else { return Ok(None) };
        let mut floor = None;
        // How much of `key` the entry before began with. That entry was less than `key`.
        let mut matched = 0;
        while at < self.entries_end {
            let entry = self.entry(at)?;
            let (value, next) = (entry.value.clone(), entry.next());
            if entry.shared < matched {
                // It is greater than the one before where that one still equalled `key`.
                break;
            }
            if entry.shared == matched {
                let suffix = self.bytes(entry.suffix)?;
                let rest = key.get(matched..).unwrap_or_default();
                let common = common_prefix(suffix, rest);
                match (suffix.get(common), rest.get(common)) {
                    (None, None) => return Ok(Some(Floor { value, next, exact: true })),
                    (Some(_), None) => break,
                    (Some(theirs), Some(ours)) if theirs > ours => break,
                    _ => matched += common,
                }
            }
            // Otherwise it shares with the one before what made that one less than `key`.
            floor = Some(Floor { value, next, exact: false });
            at = next;
        }
        Ok(floor)
    }

    /// Returns the value of the entry that begins at `at`, and where the next begins.
    pub(super) fn value_at(&self, at: usize) -> Result<Option<(Range<usize>, usize)>, CodecError> {
        if at >= self.entries_end {
            return Ok(None);
        }
        let entry = self.entry(at)?;
        let next = entry.next();
        Ok(Some((entry.value, next)))
    }

    /// Starts a walk that meets every key from `from` on, and at most a few less than it.
    pub(super) fn cursor(&self, from: &[u8]) -> Result<Cursor, CodecError> {
        let at = self.restart_before(from)?.unwrap_or(0);
        Ok(Cursor { at, key: Vec::new() })
    }

    /// Returns the last restart point whose key is at most `key`.
    fn restart_before(&self, key: &[u8]) -> Result<Option<usize>, CodecError> {
        let (mut low, mut high) = (0, self.restarts);
        let mut found = None;
        while low < high {
            let middle = low.midpoint(high);
            let at = self.restart(middle)?;
            let entry = self.entry(at)?;
            if entry.shared != 0 {
                return Err(CodecError::NotCanonical("restart point"));
            }
            if self.bytes(entry.suffix)? <= key {
                found = Some(at);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    fn restart(&self, index: usize) -> Result<usize, CodecError> {
        let at = self.entries_end + index * 4;
        let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map(|bytes| u32::from_le_bytes(*bytes) as usize).ok_or(CodecError::Truncated)
    }

    fn entry(&self, at: usize) -> Result<Raw, CodecError> {
        let rest = self.bytes.get(at..self.entries_end).ok_or(CodecError::Truncated)?;
        let mut reader = Reader::new(rest);
        let shared = reader.count(limits::SIDECAR_KEY_BYTES_MAX, 0, "shared key bytes")?;
        let suffix = reader.count(limits::SIDECAR_KEY_BYTES_MAX, 1, "key bytes")?;
        let value = reader.count(limits::SIDECAR_PIECE_BYTES_MAX, 1, "value bytes")?;
        let start = self.entries_end - reader.remaining();
        reader.take(suffix)?;
        reader.take(value)?;
        let middle = start + suffix;
        Ok(Raw { shared, suffix: start..middle, value: middle..middle + value })
    }
}

/// A walk over the keys of a block.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    at: usize,
    key: Vec<u8>,
}

impl Cursor {
    /// Goes to the next entry and returns its value; its key is then [`Cursor::key`].
    pub(super) fn step(&mut self, block: &Block) -> Result<Option<Range<usize>>, CodecError> {
        if self.at >= block.entries_end {
            return Ok(None);
        }
        let entry = block.entry(self.at)?;
        self.at = entry.next();
        if entry.shared > self.key.len() {
            return Err(CodecError::NotCanonical("shared key bytes"));
        }
        self.key.truncate(entry.shared);
        self.key.put(block.bytes(entry.suffix)?);
        if self.key.len() > limits::SIDECAR_KEY_BYTES_MAX {
            return Err(CodecError::TooLarge("key bytes"));
        }
        Ok(Some(entry.value))
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Returns how many bytes `a` and `b` begin with in common.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn block_of(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> Block {
        let mut builder = BlockBuilder::default();
        for (key, value) in map {
            builder.push(key, value);
        }
        Block::parse(builder.finish(<[u8]>::to_vec)).unwrap()
    }

    /// Two letters only, so that keys share prefixes of every length.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0..2_u8, 0..9)
    }

    proptest! {
        #[test]
        fn a_search_finds_what_a_map_finds(
            map in proptest::collection::btree_map(key(), any::<Vec<u8>>(), 0..90),
            asked in proptest::collection::vec(key(), 0..40),
        ) {
            let block = block_of(&map);
            for asked in asked.iter().chain(map.keys()) {
                let floor = block.floor(asked).unwrap();
                let expected = map.range(..=asked.clone()).next_back();
                let value = floor.as_ref().map(|f| block.bytes(f.value.clone()).unwrap());
                prop_assert_eq!(value, expected.map(|(_, value)| value.as_slice()));
                let exact = floor.is_some_and(|floor| floor.exact);
                prop_assert_eq!(exact, map.contains_key(asked));
                let mut cursor = block.cursor(asked).unwrap();
                let mut walked = BTreeSet::new();
                while cursor.step(&block).unwrap().is_some() {
                    walked.insert(cursor.key().to_vec());
                }
                walked.retain(|key| key >= asked);
                prop_assert!(walked.iter().eq(map.range(asked.clone()..).map(|(key, _)| key)));
            }
        }

        #[test]
        fn any_bytes_are_searched_without_a_panic(
            mut bytes in any::<Vec<u8>>(),
            restarts in 0..9_u32,
            key in key(),
        ) {
            bytes.put_u32(restarts);
            if let Ok(block) = Block::parse(bytes) {
                let _ = block.floor(&key);
                if let Ok(mut cursor) = block.cursor(&key) {
                    while let Ok(Some(_)) = cursor.step(&block) {}
                }
            }
        }
    }
}
