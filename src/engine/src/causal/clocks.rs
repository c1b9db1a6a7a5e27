//! The ancestry index of one space: which commits lie in the past of which.
//!
//! For each pair (log, other) it keeps the steps at which `log` came to know more of `other`, so
//! any question is one binary search, and a log that never saw another costs nothing. The steps
//! may be cut into windows: a store keeps the recent one in memory and the rest beside its
//! segments. A question outside the window has no answer rather than a wrong one.

use std::collections::{BTreeMap, BTreeSet};

use super::VersionVector;
use crate::base::{CodecError, LogId, Reader, Writer};
use crate::limits;

/// For every recorded commit, the version vector of its past, in steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clocks {
    tracks: BTreeMap<LogId, Track>,
}

/// Why a commit was not recorded. Nothing was changed.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The commit is not the next of its log. Record the ones before it first.
    #[error("commit {seq} of log {log} cannot follow commit {tip}")]
    Gap {
        /// The commit's log.
        log: LogId,
        /// The commit's number.
        seq: u64,
        /// The last recorded number of that log, 0 if none is.
        tip: u64,
    },
    /// A dep is not recorded, or lies below the window. Record it first, or find its past
    /// elsewhere and call [`Clocks::record_past`].
    #[error("commit {seq} of log {log} is not in the window of known commits")]
    UnknownDep {
        /// The dep's log.
        log: LogId,
        /// The dep's number.
        seq: u64,
    },
}

/// What is known of one log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Track {
    /// The first seq that can be asked for.
    start: u64,
    /// The last recorded seq.
    tip: u64,
    /// Per other log, ascending in both numbers; none is empty.
    known: BTreeMap<LogId, Vec<Step>>,
}

/// From commit `at` on, the other log is known up to `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    at: u64,
    seq: u64,
}

impl Clocks {
    /// Returns the index of an empty space.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records commit `seq` of `log`, whose deps are recorded already.
    ///
    /// Cost: one binary search for each pair of a dep and a log that this dep knows.
    ///
    /// # Errors
    /// [`RecordError`] if the commit or a dep comes out of order.
    pub fn record(
        &mut self,
        log: LogId,
        seq: u64,
        deps: &[(LogId, u64)],
    ) -> Result<(), RecordError> {
        let mut past = VersionVector::new();
        for (dep_log, dep_seq) in deps {
            let track = self.tracks.get(dep_log).filter(|track| track.holds(*dep_seq));
            let missing = RecordError::UnknownDep { log: *dep_log, seq: *dep_seq };
            track.ok_or(missing)?.add_past(*dep_log, *dep_seq, &mut past);
        }
        self.record_past(log, seq, &past)
    }

    /// Records commit `seq` of `log`, given the joined past of its deps.
    ///
    /// # Errors
    /// [`RecordError::Gap`] if the commit is not the next of its log.
    pub fn record_past(
        &mut self,
        log: LogId,
        seq: u64,
        past: &VersionVector,
    ) -> Result<(), RecordError> {
        let tip = self.tip(&log);
        if tip.checked_add(1) != Some(seq) {
            return Err(RecordError::Gap { log, seq, tip });
        }
        let track = self.tracks.entry(log).or_insert(Track { start: 1, ..Track::default() });
        track.tip = seq;
        for (other, known) in past.iter().filter(|(other, _)| *other != log) {
            let steps = track.known.entry(other).or_default();
            if steps.last().is_none_or(|last| last.seq < known) {
                steps.push(Step { at: seq, seq: known });
            }
        }
        Ok(())
    }

    /// Lets `log`, of which nothing is recorded, begin with commit `seq` instead of the first: it
    /// is a branch of another log, which is to be among the deps of that commit.
    pub fn begin(&mut self, log: LogId, seq: u64) {
        let tip = seq.saturating_sub(1);
        self.tracks.entry(log).or_insert(Track { start: seq.max(1), tip, known: BTreeMap::new() });
    }

    /// Returns the last recorded seq of `log`, 0 if none is.
    pub fn tip(&self, log: &LogId) -> u64 {
        self.tracks.get(log).map_or(0, |track| track.tip)
    }

    /// Returns the first seq of `log` that can be asked for; none for an unknown log.
    pub fn start(&self, log: &LogId) -> Option<u64> {
        self.tracks.get(log).map(|track| track.start)
    }

    /// Returns the greatest seq of `other` in the past of commit `seq` of `log`, 0 if none is
    /// there; the commit itself counts. None if that commit lies outside the window.
    pub fn known(&self, log: &LogId, seq: u64, other: &LogId) -> Option<u64> {
        let track = self.tracks.get(log).filter(|track| track.holds(seq))?;
        Some(if log == other { seq } else { track.known_at(seq, other) })
    }

    /// Returns the past of commit `seq` of `log`, itself included. None if it lies outside the
    /// window. Cost: a binary search for each log that it knows.
    pub fn past(&self, log: &LogId, seq: u64) -> Option<VersionVector> {
        let track = self.tracks.get(log).filter(|track| track.holds(seq))?;
        let mut past = VersionVector::new();
        track.add_past(*log, seq, &mut past);
        Some(past)
    }

    /// Tells whether commit `(log, seq)` is in the past of commit `of`, which counts as its own
    /// past. None if `of` lies outside the window.
    pub fn is_past(&self, (log, seq): (&LogId, u64), of: (&LogId, u64)) -> Option<bool> {
        self.known(of.0, of.1, log).map(|known| seq <= known)
    }

    /// Drops what is needed only for commits before `start`, per log; the commit at it stays.
    pub fn forget(&mut self, start: &VersionVector) {
        for (log, track) in &mut self.tracks {
            track.forget(start.get(log).min(track.tip));
        }
    }

    /// Returns a copy that answers only from `start` on; see [`forget`](Self::forget).
    #[must_use]
    pub fn window(&self, start: &VersionVector) -> Self {
        let mut window = self.clone();
        window.forget(start);
        window
    }

    /// Estimates the memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        let steps = |track: &Track| -> usize {
            track.known.values().map(|steps| 96 + steps.capacity() * size_of::<Step>()).sum()
        };
        self.tracks.values().map(|track| 128 + steps(track)).sum()
    }

    /// Appends the canonical bytes: the logs once, then small numbers, about 2 bytes a step.
    pub fn encode(&self, out: &mut impl Writer) {
        let others = self.tracks.values().flat_map(|track| track.known.keys());
        let logs: BTreeSet<_> = self.tracks.keys().chain(others).collect();
        let index: BTreeMap<_, _> = logs.iter().zip(0u64..).collect();
        out.put_len(logs.len());
        for log in &logs {
            out.put_log(log);
        }
        out.put_len(self.tracks.len());
        for (log, track) in &self.tracks {
            out.put_varint(index.get(&log).copied().unwrap_or_default());
            out.put_varint(track.start);
            out.put_varint(track.tip - track.start);
            out.put_len(track.known.len());
            for (other, steps) in &track.known {
                out.put_varint(index.get(&other).copied().unwrap_or_default());
                out.put_len(steps.len());
                let mut last = Step { at: track.start, seq: 0 };
                for step in steps {
                    out.put_varint(step.at - last.at);
                    out.put_varint(step.seq - last.seq);
                    last = *step;
                }
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are not the one canonical form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = reader.count(limits::VECTOR_LOGS_MAX, 40, "logs of clocks")?;
        let mut logs = Vec::with_capacity(count);
        for _ in 0..count {
            let log = reader.log()?;
            if logs.last().is_some_and(|last| *last >= log) {
                return Err(CodecError::NotCanonical("logs of clocks"));
            }
            logs.push(log);
        }
        let mut used = BTreeSet::new();
        let mut tracks = BTreeMap::new();
        for _ in 0..reader.count(count, 4, "tracks of clocks")? {
            let log = named(reader, &logs)?;
            if tracks.last_key_value().is_some_and(|(last, _)| *last >= log) {
                return Err(CodecError::NotCanonical("tracks of clocks"));
            }
            let track = Track::decode(reader, log, &logs)?;
            used.insert(log);
            used.extend(track.known.keys().copied());
            tracks.insert(log, track);
        }
        if used.len() != count {
            return Err(CodecError::NotCanonical("unused logs of clocks"));
        }
        Ok(Self { tracks })
    }
}

impl Track {
    fn holds(&self, seq: u64) -> bool {
        self.start <= seq && seq <= self.tip
    }

    fn known_at(&self, seq: u64, other: &LogId) -> u64 {
        self.known.get(other).map_or(0, |steps| at(steps, seq))
    }

    fn add_past(&self, log: LogId, seq: u64, past: &mut VersionVector) {
        past.advance(log, seq);
        for (other, steps) in &self.known {
            past.advance(*other, at(steps, seq));
        }
    }

    fn forget(&mut self, start: u64) {
        if start <= self.start {
            return;
        }
        self.start = start;
        for steps in self.known.values_mut() {
            let later = steps.partition_point(|step| step.at <= start);
            steps.drain(..later.saturating_sub(1));
            if let Some(first) = steps.first_mut() {
                first.at = first.at.max(start);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, own: LogId, logs: &[LogId]) -> Result<Self, CodecError> {
        let bad = CodecError::NotCanonical("steps of clocks");
        let start = reader.varint()?;
        let tip = start.checked_add(reader.varint()?).filter(|_| start > 0).ok_or(bad)?;
        let mut known = BTreeMap::new();
        for _ in 0..reader.count(logs.len(), 4, "tracks of clocks")? {
            let other = named(reader, logs)?;
            if other == own || known.last_key_value().is_some_and(|(last, _)| *last >= other) {
                return Err(bad);
            }
            let count = reader.count(usize::MAX, 2, "steps of clocks")?;
            let mut steps: Vec<Step> = Vec::with_capacity(count);
            for n in 0..count {
                let (at, seq) = (reader.varint()?, reader.varint()?);
                let last = steps.last().copied().unwrap_or(Step { at: start, seq: 0 });
                let next = last.at.checked_add(at).zip(last.seq.checked_add(seq));
                let (at, seq) = next.filter(|next| next.0 <= tip).ok_or(bad)?;
                if seq == last.seq || n > 0 && at == last.at {
                    return Err(bad);
                }
                steps.push(Step { at, seq });
            }
            if steps.is_empty() {
                return Err(bad);
            }
            known.insert(other, steps);
        }
        Ok(Self { start, tip, known })
    }
}

/// Returns what the last step at or before `seq` says.
fn at(steps: &[Step], seq: u64) -> u64 {
    let later = steps.partition_point(|step| step.at <= seq);
    later.checked_sub(1).and_then(|last| steps.get(last)).map_or(0, |step| step.seq)
}

fn named(reader: &mut Reader<'_>, logs: &[LogId]) -> Result<LogId, CodecError> {
    let index = usize::try_from(reader.varint()?).ok();
    let log = index.and_then(|index| logs.get(index));
    log.copied().ok_or(CodecError::NotCanonical("unknown log of clocks"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ReplicaId;
    use proptest::prelude::*;

    fn log(n: usize) -> LogId {
        LogId { replica: ReplicaId([u8::try_from(n).unwrap(); 32]), incarnation: 7 }
    }

    type Commit = (LogId, u64);

    /// A history as a graph: commits in causal order, each with its deps.
    #[derive(Debug, Clone, Default)]
    struct Graph(Vec<(Commit, Vec<Commit>)>);

    impl Graph {
        /// The specification: walk the graph.
        fn past(&self, of: Commit) -> BTreeSet<Commit> {
            let mut seen = BTreeSet::new();
            let mut open = vec![of];
            while let Some(next) = open.pop() {
                if next.1 > 0 && seen.insert(next) {
                    open.push((next.0, next.1 - 1));
                    let found = self.0.iter().find(|(commit, _)| *commit == next);
                    open.extend(found.unwrap().1.iter().copied());
                }
            }
            seen
        }

        fn clocks(&self) -> Clocks {
            let mut clocks = Clocks::new();
            for ((log, seq), deps) in &self.0 {
                clocks.record(*log, *seq, deps).unwrap();
            }
            clocks
        }
    }

    /// Each step: a log writes, with deps on some commits that exist, not always the newest.
    fn graph() -> impl Strategy<Value = Graph> {
        let dep = (0usize..4, 0u64..3);
        prop::collection::vec((0usize..4, prop::collection::vec(dep, 0..3)), 0..24).prop_map(
            |steps| {
                let mut graph = Graph::default();
                let mut tips = [0u64; 4];
                for (author, wanted) in steps {
                    let deps: VersionVector = wanted
                        .into_iter()
                        .filter(|(other, _)| *other != author)
                        .map(|(other, back)| (log(other), tips[other].saturating_sub(back)))
                        .collect();
                    tips[author] += 1;
                    graph.0.push(((log(author), tips[author]), deps.iter().collect()));
                }
                graph
            },
        )
    }

    proptest! {
        #[test]
        fn the_index_says_what_walking_the_graph_says(graph in graph()) {
            let clocks = graph.clocks();
            for (commit, _) in &graph.0 {
                let past = graph.past(*commit);
                let vector: VersionVector = past.iter().copied().collect();
                prop_assert_eq!(clocks.past(&commit.0, commit.1), Some(vector.clone()));
                for n in 0..5 {
                    let known = clocks.known(&commit.0, commit.1, &log(n));
                    prop_assert_eq!(known, Some(vector.get(&log(n))));
                }
                for (other, _) in &graph.0 {
                    let said = clocks.is_past((&other.0, other.1), (&commit.0, commit.1));
                    prop_assert_eq!(said, Some(past.contains(other)));
                }
            }
        }

        #[test]
        fn a_window_answers_the_same_or_not_at_all(
            graph in graph(),
            starts in prop::array::uniform4(0u64..8),
        ) {
            let clocks = graph.clocks();
            let start = starts.iter().enumerate().map(|(n, s)| (log(n), *s));
            let start: VersionVector = start.collect();
            let window = clocks.window(&start);
            for ((log, seq), _) in &graph.0 {
                let inside = *seq >= start.get(log).min(clocks.tip(log));
                let expected = clocks.past(log, *seq).filter(|_| inside);
                prop_assert_eq!(window.past(log, *seq), expected);
            }
            prop_assert_eq!(&window.window(&start), &window);
            let mut bytes = Vec::new();
            window.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Clocks::decode(&mut reader), Ok(window));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn damaged_bytes_are_refused_or_canonical(
            graph in graph(),
            place: prop::sample::Index,
            bit in 0u8..8,
        ) {
            let mut bytes = Vec::new();
            graph.clocks().encode(&mut bytes);
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut reader = Reader::new(&bytes);
            if let Ok(clocks) = Clocks::decode(&mut reader) {
                let mut again = Vec::new();
                clocks.encode(&mut again);
                prop_assert_eq!(again.as_slice(), &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }

    #[test]
    fn a_log_without_deps_costs_no_steps() {
        let mut clocks = Clocks::new();
        for seq in 1..=10_000 {
            clocks.record(log(1), seq, &[]).unwrap();
        }
        assert!(clocks.bytes() < 1024);
        assert_eq!(clocks.past(&log(1), 5000).unwrap().get(&log(1)), 5000);
    }

    #[test]
    fn disorder_is_named_and_changes_nothing() {
        let mut clocks = Clocks::new();
        clocks.record(log(1), 1, &[]).unwrap();
        let before = clocks.clone();
        let gap = RecordError::Gap { log: log(1), seq: 3, tip: 1 };
        assert_eq!(clocks.record(log(1), 3, &[]), Err(gap));
        assert!(clocks.record(log(1), 1, &[]).is_err());
        let missing = RecordError::UnknownDep { log: log(2), seq: 1 };
        assert_eq!(clocks.record(log(1), 2, &[(log(2), 1)]), Err(missing));
        assert_eq!(clocks, before);
        assert_eq!(clocks.known(&log(1), 2, &log(1)), None);
        assert_eq!(clocks.known(&log(2), 1, &log(1)), None);
    }

    #[test]
    fn a_branch_begins_where_it_leaves_its_log() {
        let mut clocks = Clocks::new();
        for seq in 1..=4 {
            clocks.record(log(1), seq, &[]).unwrap();
        }
        clocks.begin(log(2), 3);
        assert!(clocks.record(log(2), 1, &[]).is_err());
        clocks.record(log(2), 3, &[(log(1), 2)]).unwrap();
        clocks.record(log(2), 4, &[]).unwrap();
        assert_eq!(clocks.known(&log(2), 4, &log(1)), Some(2));
        assert_eq!(clocks.known(&log(2), 2, &log(1)), None, "what lies before is in the log");
        let mut bytes = Vec::new();
        clocks.encode(&mut bytes);
        assert_eq!(Clocks::decode(&mut Reader::new(&bytes)), Ok(clocks));
    }

    #[test]
    fn a_commit_from_below_the_window_is_recorded_by_its_past() {
        let mut clocks = Clocks::new();
        for seq in 1..=5 {
            clocks.record(log(1), seq, &[]).unwrap();
        }
        clocks.forget(&[(log(1), 5)].into_iter().collect());
        assert!(clocks.record(log(2), 1, &[(log(1), 2)]).is_err());
        clocks.record_past(log(2), 1, &[(log(1), 2)].into_iter().collect()).unwrap();
        assert_eq!(clocks.known(&log(2), 1, &log(1)), Some(2));
    }
}
