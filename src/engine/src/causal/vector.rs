//! Version vectors (Parker et al. 1983): per log, the last seq that is known without a hole.
//!
//! A vector names a causally closed set of commits if it was built from one. It does not name the
//! tips by hash; a frontier does.

use std::collections::{BTreeMap, btree_map};

use crate::base::{CodecError, Dot, LogId, Reader, Writer};
use crate::limits;

/// Per log, the last seq known without a hole; a log that is not in it is known up to 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionVector {
    /// Never holds a zero, so equal knowledge is equal bytes.
    seqs: BTreeMap<LogId, u64>,
}

/// How two pasts relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Causality {
    /// Both know the same.
    Equal,
    /// The first is a proper part of the second.
    Before,
    /// The second is a proper part of the first.
    After,
    /// Each knows something that the other does not.
    Concurrent,
}

impl VersionVector {
    /// Returns the vector that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the last known seq of `log`, 0 if none is.
    pub fn get(&self, log: &LogId) -> u64 {
        self.seqs.get(log).copied().unwrap_or(0)
    }

    /// Tells whether commit `seq` of `log` is known.
    pub fn contains(&self, log: &LogId, seq: u64) -> bool {
        seq <= self.get(log)
    }

    /// Tells whether the commit that holds `dot` is known.
    pub fn contains_dot(&self, dot: &Dot) -> bool {
        self.contains(&dot.log, dot.seq)
    }

    /// Raises what is known of `log` to `seq`; never lowers it.
    pub fn advance(&mut self, log: LogId, seq: u64) {
        if seq > 0 {
            let known = self.seqs.entry(log).or_default();
            *known = seq.max(*known);
        }
    }

    /// Raises every entry to the one of `other`: the least upper bound.
    pub fn join(&mut self, other: &Self) {
        for (log, seq) in other {
            self.advance(log, seq);
        }
    }

    /// Tells whether everything in `other` is in this one too.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(log, seq)| self.contains(&log, seq))
    }

    /// Compares two pasts. Cost: linear in the entries of both, times a logarithm.
    pub fn compare(&self, other: &Self) -> Causality {
        match (self.covers(other), other.covers(self)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::After,
            (false, true) => Causality::Before,
            (false, false) => Causality::Concurrent,
        }
    }

    /// Returns the number of logs in it.
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Tells whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// Walks the entries, ascending by log; no seq is zero.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.seqs.iter())
    }

    /// Appends the canonical bytes: a count, then (log, seq) ascending. 41 to 50 bytes an entry.
    pub fn encode(&self, out: &mut impl Writer) {
        out.put_len(self.len());
        for (log, seq) in self {
            out.put_log(&log);
            out.put_varint(seq);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, at most [`limits::VECTOR_LOGS_MAX`] entries.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are not the one canonical form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = reader.count(limits::VECTOR_LOGS_MAX, 41, "version vector")?;
        let mut seqs = BTreeMap::new();
        for _ in 0..count {
            let (log, seq) = (reader.log()?, reader.varint()?);
            if seq == 0 || seqs.last_key_value().is_some_and(|(last, _)| *last >= log) {
                return Err(CodecError::NotCanonical("version vector"));
            }
            seqs.insert(log, seq);
        }
        Ok(Self { seqs })
    }
}

impl FromIterator<(LogId, u64)> for VersionVector {
    /// Takes the greatest seq of each log.
    fn from_iter<I: IntoIterator<Item = (LogId, u64)>>(entries: I) -> Self {
        let mut vector = Self::new();
        for (log, seq) in entries {
            vector.advance(log, seq);
        }
        vector
    }
}

/// The entries of a [`VersionVector`], ascending by log.
#[derive(Debug, Clone)]
pub struct Iter<'a>(btree_map::Iter<'a, LogId, u64>);

impl Iterator for Iter<'_> {
    type Item = (LogId, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(log, seq)| (*log, *seq))
    }
}

impl<'a> IntoIterator for &'a VersionVector {
    type Item = (LogId, u64);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ReplicaId;
    use proptest::prelude::*;

    fn log(n: u8) -> LogId {
        LogId { replica: ReplicaId([n; 32]), incarnation: u64::from(n) }
    }

    /// Few logs and small numbers: ties and overlaps are what we are after.
    fn vector() -> impl Strategy<Value = VersionVector> {
        prop::collection::vec((0u8..4, 0u64..4), 0..5)
            .prop_map(|entries| entries.into_iter().map(|(n, seq)| (log(n), seq)).collect())
    }

    fn joined(a: &VersionVector, b: &VersionVector) -> VersionVector {
        let mut both = a.clone();
        both.join(b);
        both
    }

    /// The specification: a vector is the set of all commits that it knows.
    fn spec(vector: &VersionVector) -> std::collections::BTreeSet<(LogId, u64)> {
        vector.iter().flat_map(|(log, last)| (1..=last).map(move |seq| (log, seq))).collect()
    }

    proptest! {
        #[test]
        fn join_and_compare_are_union_and_inclusion(
            a in vector(), b in vector(), c in vector(),
        ) {
            let (sa, sb) = (spec(&a), spec(&b));
            prop_assert_eq!(spec(&joined(&a, &b)), sa.union(&sb).copied().collect());
            let expected = match (sa.is_superset(&sb), sb.is_superset(&sa)) {
                (true, true) => Causality::Equal,
                (true, false) => Causality::After,
                (false, true) => Causality::Before,
                (false, false) => Causality::Concurrent,
            };
            prop_assert_eq!(a.compare(&b), expected);
            prop_assert_eq!(expected == Causality::Equal, a == b);
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            prop_assert_eq!(joined(&a, &a), a);
        }

        #[test]
        fn bytes_round_trip(a in vector()) {
            let mut bytes = Vec::new();
            a.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(VersionVector::decode(&mut reader), Ok(a));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_that_decode_are_what_is_written(
            bytes in prop::collection::vec(0u8..3, 0..130),
        ) {
            let mut reader = Reader::new(&bytes);
            if let Ok(vector) = VersionVector::decode(&mut reader) {
                let mut again = Vec::new();
                vector.encode(&mut again);
                prop_assert_eq!(again.as_slice(), &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }

    #[test]
    fn disorder_zeros_and_false_counts_are_refused() {
        let bytes = |entries: &[(u8, u64)]| {
            let mut out = Vec::new();
            out.put_len(entries.len());
            for (n, seq) in entries {
                out.put_log(&log(*n));
                out.put_varint(*seq);
            }
            out
        };
        let decode = |bytes: &[u8]| VersionVector::decode(&mut Reader::new(bytes));
        assert!(decode(&bytes(&[(1, 5), (2, 1)])).is_ok());
        for bad in [bytes(&[(2, 5), (1, 1)]), bytes(&[(1, 5), (1, 6)]), bytes(&[(1, 0)])] {
            assert_eq!(decode(&bad), Err(CodecError::NotCanonical("version vector")));
        }
        let mut huge = Vec::new();
        huge.put_varint(u64::MAX);
        assert_eq!(decode(&huge), Err(CodecError::TooLarge("version vector")));
    }
}
