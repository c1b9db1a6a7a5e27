//! The live adds of a counter, folded: one tally for each log.
//!
//! A fold cannot be taken apart. An event that supersedes all of it or none of it is exact; one
//! that supersedes a part of it is answered with "fold again", and the key is folded anew from its
//! history by a state that also keeps every single add, which is exact whatever comes.

use super::{Delta, Stamp};
use crate::base::{CommitId, Dot, Hlc, LogId};

/// The live adds of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) log: LogId,
    /// The first and the last live add, as (seq, index).
    pub(super) first: Place,
    pub(super) last: Place,
    /// How many there are, at least one.
    pub(super) count: u64,
    /// Cannot overflow: the count is below 2^63, each add an `i64`.
    pub(super) sum: i128,
    /// The stamp of the last add.
    pub(super) hlc: Hlc,
    pub(super) commit: CommitId,
    /// Every add, ascending by place; empty unless the state is exact.
    pub(super) singles: Vec<Single>,
}

/// Where in its log an event is: (seq, index).
pub(super) type Place = (u64, u16);

/// One add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Single {
    place: Place,
    by: i64,
    hlc: Hlc,
    commit: CommitId,
}

/// A part of a fold would have to be taken away.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inexact;

impl Single {
    /// Reads an add; none if the payload is not eight bytes.
    pub(super) fn read(stamp: &Stamp, delta: &Delta) -> Option<Self> {
        let by = <[u8; 8]>::try_from(&*delta.payload).ok().map(i64::from_le_bytes)?;
        let Stamp { hlc, dot, commit } = *stamp;
        Some(Self { place: (dot.seq, dot.index), by, hlc, commit })
    }
}

impl Tally {
    /// Begins with one add.
    pub(super) fn new(log: LogId, single: Single, exact: bool) -> Self {
        let Single { place, by, hlc, commit } = single;
        let singles = if exact { vec![single] } else { Vec::new() };
        Self { log, first: place, last: place, count: 1, sum: by.into(), hlc, commit, singles }
    }

    /// Adds a later add of the same log.
    pub(super) fn add(&mut self, single: Single) {
        assert!(self.last < single.place, "the adds of a log come in order");
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(single.by.into());
        (self.last, self.hlc, self.commit) = (single.place, single.hlc, single.commit);
        if !self.singles.is_empty() {
            self.singles.push(single);
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp { hlc: self.hlc, dot: self.last_dot(), commit: self.commit }
    }

    pub(super) fn last_dot(&self) -> Dot {
        self.dot(self.last)
    }

    fn dot(&self, (seq, index): Place) -> Dot {
        Dot { log: self.log, seq, index }
    }

    /// Tells whether one add can be taken away: it is not among these, or it is known apart.
    pub(super) fn can_lose(&self, place: Place) -> bool {
        let among = self.first <= place && place <= self.last;
        !among || self.count == 1 || !self.singles.is_empty()
    }

    /// Tells whether all that a cut covers can be taken away.
    pub(super) fn can_cut(&self, covers: impl Fn(Dot) -> bool) -> bool {
        // A cut that covers the later of two events of a log covers the earlier one.
        let part = covers(self.dot(self.first)) && !covers(self.last_dot());
        !part || !self.singles.is_empty()
    }

    /// Takes away one add, if it is among these; returns whether anything is left.
    pub(super) fn lose(&mut self, place: Place) -> bool {
        assert!(self.can_lose(place), "a fold is not taken apart");
        if self.count == 1 {
            return self.last != place;
        }
        if let Ok(at) = self.singles.binary_search_by_key(&place, |single| single.place) {
            let gone = self.singles.remove(at);
            self.sum = self.sum.saturating_sub(gone.by.into());
            self.ends();
        }
        true
    }

    /// Takes away what a cut covers; returns whether anything is left.
    pub(super) fn cut(&mut self, covers: impl Fn(Dot) -> bool) -> bool {
        assert!(self.can_cut(&covers), "a fold is not taken apart");
        if covers(self.last_dot()) {
            return false;
        }
        let log = self.log;
        let dot = |(seq, index): Place| Dot { log, seq, index };
        let kept = self.singles.partition_point(|single| covers(dot(single.place)));
        let gone: i128 = self.singles.drain(..kept).map(|single| i128::from(single.by)).sum();
        self.sum = self.sum.saturating_sub(gone);
        self.ends();
        true
    }

    /// Forgets the single adds.
    pub(super) fn fold(&mut self) {
        self.singles = Vec::new();
    }

    /// Joins what two states hold of one log, given how far each knows that log.
    pub(super) fn join(
        (a, a_knows): (Option<&Self>, u64),
        (b, b_knows): (Option<&Self>, u64),
        exact: bool,
    ) -> Result<Option<Self>, Inexact> {
        let Some(any) = a.or(b) else { return Ok(None) };
        if a == b {
            return Ok(a.cloned());
        }
        if let (Some(of_a), Some(of_b)) = (known_apart(a), known_apart(b)) {
            let both = |s: &Single| of_b.binary_search_by_key(&s.place, |o| o.place).is_ok();
            let stays = of_a.iter().filter(|s| s.place.0 > b_knows || both(s));
            let mut all: Vec<Single> = stays.copied().collect();
            all.extend(of_b.iter().filter(|s| s.place.0 > a_knows));
            all.sort_unstable_by_key(|single| single.place);
            all.dedup_by_key(|single| single.place);
            return Ok(Self::of(any.log, &all, exact));
        }
        match (kept(a, b, b_knows)?, kept(b, a, a_knows)?) {
            (Some(_), Some(_)) => Err(Inexact),
            (one, other) => Ok(one.or(other).cloned()),
        }
    }

    fn of(log: LogId, singles: &[Single], exact: bool) -> Option<Self> {
        let (first, rest) = singles.split_first()?;
        let mut tally = Self::new(log, *first, exact);
        rest.iter().for_each(|single| tally.add(*single));
        Some(tally)
    }

    /// Brings what is said of the ends in line with the single adds.
    fn ends(&mut self) {
        if let (Some(first), Some(last)) = (self.singles.first(), self.singles.last()) {
            self.count = self.singles.len() as u64;
            (self.first, self.last) = (first.place, last.place);
            (self.hlc, self.commit) = (last.hlc, last.commit);
        }
    }
}

/// Returns the adds one by one, if they are known so.
fn known_apart(tally: Option<&Tally>) -> Option<Vec<Single>> {
    let Some(tally) = tally else { return Some(Vec::new()) };
    if tally.count != 1 {
        return (!tally.singles.is_empty()).then(|| tally.singles.clone());
    }
    let by = i64::try_from(tally.sum).ok()?;
    Some(vec![Single { place: tally.last, by, hlc: tally.hlc, commit: tally.commit }])
}

/// Returns `tally` if all of it stays beside `other`, whose state knows its log up to `known`.
fn kept<'a>(
    tally: Option<&'a Tally>,
    other: Option<&Tally>,
    known: u64,
) -> Result<Option<&'a Tally>, Inexact> {
    let Some(tally) = tally else { return Ok(None) };
    if tally.first.0 > known {
        return Ok(Some(tally));
    }
    let shares = |o: &Tally| o.first <= tally.last && tally.first <= o.last;
    if tally.last.0 > known || other.is_some_and(shares) { Err(Inexact) } else { Ok(None) }
}
