//! The ancestry index of one space: which commits lie in the past of which.
//!
//! For each pair (log, other) it keeps the steps at which `log` came to know more of `other`, so
//! any question is one binary search, and a log that never saw another costs nothing. The steps
//! may be cut into windows: a store keeps the recent one in memory and the rest beside its
//! segments. A question outside the window has no answer rather than a wrong one.
//!
//! Where all know of all it holds a pair for every two logs: about 32 bytes each in memory and 4 on
//! disk. So a log is named once, and by its place from then on.

use std::collections::{BTreeMap, BTreeSet};

use super::VersionVector;
use crate::base::{CodecError, LogId, Reader, Writer};
use crate::limits;

/// For every recorded commit, the version vector of its past, in steps.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    /// Every log that is known of, in the order in which they came.
    names: Vec<LogId>,
    places: BTreeMap<LogId, Place>,
    /// Of logs of which something is recorded.
    tracks: BTreeMap<Place, Track>,
}

/// Where a log stands in `names`.
type Place = u32;

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
#[derive(Debug, Clone, Default)]
struct Track {
    /// The first seq that can be asked for.
    start: u64,
    /// The last recorded seq.
    tip: u64,
    /// What it knows of other logs, ascending by place.
    known: Vec<(Place, Steps)>,
}

/// Steps, ascending in both numbers; at least one, and most often no more.
#[derive(Debug, Clone)]
enum Steps {
    One(Step),
    More(Vec<Step>),
}

/// From commit `at` on, the other log is known up to `seq`.
#[derive(Debug, Clone, Copy)]
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
        let mut past = if deps.is_empty() { Vec::new() } else { vec![0; self.names.len()] };
        for (dep_log, dep_seq) in deps {
            let missing = RecordError::UnknownDep { log: *dep_log, seq: *dep_seq };
            let (place, track) = self.track_at(dep_log, *dep_seq).ok_or(missing)?;
            track.each_past(place, *dep_seq, |other, seq| {
                if let Some(known) = past.get_mut(other as usize) {
                    *known = seq.max(*known);
                }
            });
        }
        let past = (0..).zip(past).filter(|(_, seq)| *seq > 0);
        self.learn(log, seq, past)
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
        self.check_next(&log, seq)?;
        let mut past: Vec<(Place, u64)> =
            past.iter().map(|(other, seq)| (self.place(other), seq)).collect();
        past.sort_unstable();
        self.learn(log, seq, past)
    }

    /// Records a commit whose past is known, ascending by place.
    fn learn(
        &mut self,
        log: LogId,
        seq: u64,
        past: impl IntoIterator<Item = (Place, u64)>,
    ) -> Result<(), RecordError> {
        self.check_next(&log, seq)?;
        let own = self.place(log);
        let track = self.tracks.entry(own).or_insert(Track { start: 1, ..Track::default() });
        track.tip = seq;
        let mut from = 0;
        for (other, known) in past.into_iter().filter(|(other, _)| *other != own) {
            let step = Step { at: seq, seq: known };
            let later = track.known.get(from..).unwrap_or_default();
            match later.binary_search_by_key(&other, |(place, _)| *place) {
                Ok(at) => {
                    from += at;
                    if let Some((_, steps)) = track.known.get_mut(from) {
                        steps.push(step);
                    }
                }
                Err(at) => {
                    from += at;
                    track.known.insert(from, (other, Steps::One(step)));
                }
            }
        }
        Ok(())
    }

    fn check_next(&self, log: &LogId, seq: u64) -> Result<(), RecordError> {
        let tip = self.tip(log);
        if tip.checked_add(1) == Some(seq) {
            return Ok(());
        }
        Err(RecordError::Gap { log: *log, seq, tip })
    }

    /// Lets `log`, of which nothing is recorded, begin with commit `seq` instead of the first: it
    /// is a branch of another log, which is to be among the deps of that commit.
    pub fn begin(&mut self, log: LogId, seq: u64) {
        let place = self.place(log);
        let tip = seq.saturating_sub(1);
        self.tracks.entry(place).or_insert(Track { start: seq.max(1), tip, known: Vec::new() });
    }

    /// Returns the last recorded seq of `log`, 0 if none is.
    pub fn tip(&self, log: &LogId) -> u64 {
        self.track(log).map_or(0, |(_, track)| track.tip)
    }

    /// Returns the first seq of `log` that can be asked for; none for an unknown log.
    pub fn start(&self, log: &LogId) -> Option<u64> {
        self.track(log).map(|(_, track)| track.start)
    }

    /// Returns the greatest seq of `other` in the past of commit `seq` of `log`, 0 if none is
    /// there; the commit itself counts. None if that commit lies outside the window.
    pub fn known(&self, log: &LogId, seq: u64, other: &LogId) -> Option<u64> {
        let (_, track) = self.track_at(log, seq)?;
        if log == other {
            return Some(seq);
        }
        let steps = self.places.get(other).and_then(|other| track.steps(*other));
        Some(steps.map_or(0, |steps| steps.at(seq)))
    }

    /// Returns the commits of other logs that know more of `log` than those before them, as up to
    /// where, log and seq, ascending. Costs a search in each log.
    pub fn learnt(&self, log: &LogId) -> BTreeSet<(u64, LogId, u64)> {
        let Some(place) = self.places.get(log) else { return BTreeSet::new() };
        let steps = self.tracks.iter().filter_map(|(by, track)| {
            let by = self.names.get(usize::try_from(*by).ok()?)?;
            let steps = track.steps(*place)?.all().iter();
            Some(steps.map(|step| (step.seq, *by, step.at)))
        });
        steps.flatten().collect()
    }

    /// Returns the past of commit `seq` of `log`, itself included. None if it lies outside the
    /// window. Cost: a binary search for each log that it knows.
    pub fn past(&self, log: &LogId, seq: u64) -> Option<VersionVector> {
        let (place, track) = self.track_at(log, seq)?;
        let mut past = VersionVector::new();
        track.each_past(place, seq, |other, seq| {
            if let Some(other) = self.names.get(other as usize) {
                past.advance(*other, seq);
            }
        });
        Some(past)
    }

    /// Tells whether commit `(log, seq)` is in the past of commit `of`, which counts as its own
    /// past. None if `of` lies outside the window.
    pub fn is_past(&self, (log, seq): (&LogId, u64), of: (&LogId, u64)) -> Option<bool> {
        self.known(of.0, of.1, log).map(|known| seq <= known)
    }

    /// Drops what is needed only for commits before `start`, per log; the commit at it stays.
    pub fn forget(&mut self, start: &VersionVector) {
        for (place, track) in &mut self.tracks {
            let start = self.names.get(*place as usize).map_or(0, |log| start.get(log));
            track.forget(start.min(track.tip));
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
            let more: usize = track.known.iter().map(|(_, steps)| steps.more_bytes()).sum();
            track.known.capacity() * size_of::<(Place, Steps)>() + more
        };
        let names = self.names.capacity() * (2 * size_of::<LogId>() + size_of::<Track>() + 32);
        names + self.tracks.values().map(steps).sum::<usize>()
    }

    /// Returns the place of a log, which is given one if it has none.
    fn place(&mut self, log: LogId) -> Place {
        *self.places.entry(log).or_insert_with(|| {
            self.names.push(log);
            // So many logs fit into no memory.
            Place::try_from(self.names.len() - 1).unwrap_or(Place::MAX)
        })
    }

    fn track(&self, log: &LogId) -> Option<(Place, &Track)> {
        let place = *self.places.get(log)?;
        Some((place, self.tracks.get(&place)?))
    }

    /// Returns the track of a log if commit `seq` lies in its window.
    fn track_at(&self, log: &LogId, seq: u64) -> Option<(Place, &Track)> {
        self.track(log).filter(|(_, track)| track.start <= seq && seq <= track.tip)
    }
}

impl PartialEq for Clocks {
    /// Places are of no concern: equal are those with equal bytes.
    fn eq(&self, other: &Self) -> bool {
        let bytes = |clocks: &Self| {
            let mut bytes = Vec::new();
            clocks.encode(&mut bytes);
            bytes
        };
        bytes(self) == bytes(other)
    }
}

impl Eq for Clocks {}

impl Track {
    fn steps(&self, other: Place) -> Option<&Steps> {
        let at = self.known.binary_search_by_key(&other, |(place, _)| *place).ok()?;
        self.known.get(at).map(|(_, steps)| steps)
    }

    /// Calls `take` with each log that a commit of this one, which is at `own`, knows, and up to
    /// where.
    fn each_past(&self, own: Place, seq: u64, mut take: impl FnMut(Place, u64)) {
        take(own, seq);
        for (other, steps) in &self.known {
            take(*other, steps.at(seq));
        }
    }

    fn forget(&mut self, start: u64) {
        if start <= self.start {
            return;
        }
        self.start = start;
        for (_, steps) in &mut self.known {
            steps.forget(start);
        }
    }
}

impl Steps {
    /// Of at least one step.
    fn of(mut steps: Vec<Step>) -> Option<Self> {
        match steps.pop() {
            Some(only) if steps.is_empty() => Some(Self::One(only)),
            Some(last) => {
                steps.push(last);
                Some(Self::More(steps))
            }
            None => None,
        }
    }

    fn all(&self) -> &[Step] {
        match self {
            Self::One(step) => std::slice::from_ref(step),
            Self::More(steps) => steps,
        }
    }

    /// Returns what the last step at or before `seq` says.
    fn at(&self, seq: u64) -> u64 {
        let steps = self.all();
        let later = steps.partition_point(|step| step.at <= seq);
        later.checked_sub(1).and_then(|last| steps.get(last)).map_or(0, |step| step.seq)
    }

    /// Adds a step, if more is known since.
    fn push(&mut self, step: Step) {
        if self.all().last().is_some_and(|last| last.seq >= step.seq) {
            return;
        }
        match self {
            Self::One(first) => *self = Self::More(vec![*first, step]),
            Self::More(steps) => steps.push(step),
        }
    }

    fn forget(&mut self, start: u64) {
        let later = self.all().partition_point(|step| step.at <= start);
        let mut kept = self.all().get(later.saturating_sub(1)..).unwrap_or_default().to_vec();
        if let Some(first) = kept.first_mut() {
            first.at = first.at.max(start);
        }
        if let Some(kept) = Self::of(kept) {
            *self = kept;
        }
    }

    /// The memory beside itself.
    fn more_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::More(steps) => steps.capacity() * size_of::<Step>(),
        }
    }
}

impl Clocks {
    /// Appends the canonical bytes: the logs once, ascending, then small numbers, about 2 bytes a
    /// step.
    pub fn encode(&self, out: &mut impl Writer) {
        out.put_len(self.places.len());
        let mut ranks = vec![0u64; self.names.len()];
        for (rank, (log, place)) in (0..).zip(&self.places) {
            out.put_log(log);
            if let Some(known) = ranks.get_mut(*place as usize) {
                *known = rank;
            }
        }
        let rank = |place: Place| ranks.get(place as usize).copied().unwrap_or_default();
        out.put_len(self.tracks.len());
        for place in self.places.values() {
            let Some(track) = self.tracks.get(place) else { continue };
            out.put_varint(rank(*place));
            out.put_varint(track.start);
            out.put_varint(track.tip - track.start);
            out.put_len(track.known.len());
            let mut known: Vec<_> =
                track.known.iter().map(|(other, steps)| (rank(*other), steps)).collect();
            known.sort_unstable_by_key(|(rank, _)| *rank);
            for (rank, steps) in known {
                out.put_varint(rank);
                out.put_len(steps.all().len());
                let mut last = Step { at: track.start, seq: 0 };
                for step in steps.all() {
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
        let mut clocks = Self::new();
        for _ in 0..count {
            let log = reader.log()?;
            if clocks.names.last().is_some_and(|last| *last >= log) {
                return Err(CodecError::NotCanonical("logs of clocks"));
            }
            clocks.place(log);
        }
        let mut used = vec![false; count];
        let mut note = |place: Place| {
            if let Some(used) = used.get_mut(place as usize) {
                *used = true;
            }
        };
        for _ in 0..reader.count(count, 4, "tracks of clocks")? {
            let place = named(reader, count)?;
            if clocks.tracks.last_key_value().is_some_and(|(last, _)| *last >= place) {
                return Err(CodecError::NotCanonical("tracks of clocks"));
            }
            let track = Track::decode(reader, place, count)?;
            note(place);
            track.known.iter().for_each(|(other, _)| note(*other));
            clocks.tracks.insert(place, track);
        }
        if used.contains(&false) {
            return Err(CodecError::NotCanonical("unused logs of clocks"));
        }
        Ok(clocks)
    }
}

impl Track {
    fn decode(reader: &mut Reader<'_>, own: Place, logs: usize) -> Result<Self, CodecError> {
        let bad = CodecError::NotCanonical("steps of clocks");
        let start = reader.varint()?;
        let tip = start.checked_add(reader.varint()?).filter(|_| start > 0).ok_or(bad)?;
        let mut known: Vec<(Place, Steps)> = Vec::new();
        for _ in 0..reader.count(logs, 4, "tracks of clocks")? {
            let other = named(reader, logs)?;
            if other == own || known.last().is_some_and(|(last, _)| *last >= other) {
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
            known.push((other, Steps::of(steps).ok_or(bad)?));
        }
        known.shrink_to_fit();
        Ok(Self { start, tip, known })
    }
}

/// Reads which of so many logs is meant.
fn named(reader: &mut Reader<'_>, logs: usize) -> Result<Place, CodecError> {
    let place = Place::try_from(reader.varint()?).ok();
    let place = place.filter(|place| (*place as usize) < logs);
    place.ok_or(CodecError::NotCanonical("unknown log of clocks"))
}

#[cfg(test)]
mod tests;
