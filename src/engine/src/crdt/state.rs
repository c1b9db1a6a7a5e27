//! The state of one key: its live events, of every type.
//!
//! Events come in causal order, each once, so there are no tombstones: what an event supersedes is
//! in its past and therefore here already, and it never comes back (the optimised OR-set of
//! Bieniusa et al. 2012, with the causal context kept once for the whole space, as in Shapiro's
//! and Almeida's delta-state CRDTs). Which commits count is decided elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::live::{Event, Live};
use super::tally::{Inexact, Single, Tally};
use super::{Action, Delta, Stamp, Supersedes, Type, Value, payload};
use crate::base::{Dot, LogId};
use crate::causal::VersionVector;

/// The live events of one key.
///
/// Two states, both exact or neither, are equal if they hold the same live events.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub(super) live: Live,
    /// One for each log with live adds of a counter, ascending.
    pub(super) tallies: Vec<Tally>,
    pub(super) exact: bool,
}

/// What became of a change to a state.
#[must_use = "a state that asks for a fold is not up to date"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The state is up to date.
    Done,
    /// The state was not changed: a part of a folded counter is superseded. Fold the key's whole
    /// history, this change included, into [`State::exact`], then call [`State::finish`].
    Refold,
}

/// One live event as people see it; for a counter, all live adds of one log together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEvent {
    /// The event; for a counter, the last add of the log.
    pub stamp: Stamp,
    /// The type of the event.
    pub ty: Type,
    /// The field, in a map.
    pub field: Option<Arc<str>>,
    /// What the event says: the value, the element, or the sum of the log's adds.
    pub value: Value,
    /// How many events this stands for; 1 unless it is a counter's.
    pub count: u64,
}

/// Tells whether what is here already is taken again: only with a planted bug, which stands before
/// each of the guards, any of which is enough.
pub(crate) fn counts_again() -> bool {
    mutant!("add-counts-again")
}

impl State {
    /// Returns the state of a key that was never written.
    pub const fn new() -> Self {
        Self { live: Live::new(), tallies: Vec::new(), exact: false }
    }

    /// Returns an empty state that keeps every add of a counter apart, so it never asks for a
    /// fold. For folding a history: 64 bytes for each live add until
    /// [`finish`](Self::finish).
    pub const fn exact() -> Self {
        Self { live: Live::new(), tallies: Vec::new(), exact: true }
    }

    /// Lets go of the single adds that an [`exact`](Self::exact) state keeps.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.tallies.iter_mut().for_each(Tally::fold);
        self.exact = false;
        self
    }

    /// Applies one event: drops what it supersedes, then adds it if its action and payload allow.
    ///
    /// Events must come in causal order, each once; one that is live already changes nothing.
    /// Cost: a logarithm for each listed dot; linear in the live events for a cut.
    pub fn apply(&mut self, stamp: &Stamp, delta: &Delta) -> Applied {
        if self.holds(&stamp.dot) && !counts_again() {
            return Applied::Done;
        }
        if self.supersede(&stamp.dot, &delta.supersedes) == Applied::Refold {
            return Applied::Refold;
        }
        if delta.action == Action::CounterAdd {
            if let Some(single) = Single::read(stamp, delta) {
                self.add(&stamp.dot, single);
            }
        } else if let Some(ty) = delta.action.value_type()
            && payload::is_well_formed(delta.action, &delta.payload)
        {
            if mutant!("tie-broken-by-arrival") && ty == Type::Register {
                self.live.retain(|event| event.ty != ty || event.stamp.hlc != stamp.hlc);
            }
            let payload = Arc::clone(&delta.payload);
            self.live.insert(Event { stamp: *stamp, ty, payload });
        }
        Applied::Done
    }

    /// Drops what the event at `own` supersedes and adds nothing: all that an erased or malformed
    /// event does.
    pub fn supersede(&mut self, own: &Dot, supersedes: &Supersedes) -> Applied {
        match supersedes {
            Supersedes::Dots(dots) => {
                let held = |dot: &Dot| {
                    self.tally(&dot.log).is_none_or(|tally| tally.can_lose((dot.seq, dot.index)))
                };
                if !dots.iter().all(held) {
                    return Applied::Refold;
                }
                for dot in dots {
                    self.live.remove(dot);
                    self.remove_add(dot);
                }
            }
            Supersedes::Cut(cut) if cut.is_empty() => {}
            Supersedes::Cut(_) => {
                let covers = |dot: Dot| supersedes.covers(&dot, own);
                if !self.tallies.iter().all(|tally| tally.can_cut(covers)) {
                    return Applied::Refold;
                }
                self.tallies.retain_mut(|tally| tally.cut(covers));
                self.live.retain(|event| !covers(event.stamp.dot));
            }
        }
        Applied::Done
    }

    /// Joins the state that another set of commits gives: the least upper bound.
    ///
    /// `mine` and `theirs` are the commits that the two states were made from. An event stays if
    /// it is live in both, or live in one and unknown to the other: what one knows and does not
    /// hold live, it saw superseded.
    pub fn join(&mut self, mine: &VersionVector, other: &Self, theirs: &VersionVector) -> Applied {
        match self.join_tallies(mine, other, theirs) {
            Err(Inexact) => return Applied::Refold,
            Ok(tallies) => self.tallies = tallies,
        }
        self.live.retain(|event| {
            let dot = &event.stamp.dot;
            !theirs.contains_dot(dot) || other.live.get(dot).is_some()
        });
        for event in other.live.iter().filter(|event| !mine.contains_dot(&event.stamp.dot)) {
            self.live.insert(event.clone());
        }
        Applied::Done
    }

    /// Tells whether nothing is live: the key does not exist for readers.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.tallies.is_empty()
    }

    /// Returns the type that readers see: the one of the live event with the greatest stamp.
    pub fn shown(&self) -> Option<Type> {
        if let Some(ty) = self.live.only_type().filter(|_| self.tallies.is_empty()) {
            return Some(ty);
        }
        let events = self.live.iter().map(|event| (event.stamp, event.ty));
        let adds = self.tallies.iter().map(|tally| (tally.stamp(), Type::Counter));
        events.chain(adds).max_by_key(|(stamp, _)| *stamp).map(|(_, ty)| ty)
    }

    /// Returns every live event, greatest stamp first. Cost: linear, and a sort.
    pub fn events(&self) -> Vec<LiveEvent> {
        let events = self.live.iter().map(|event| LiveEvent {
            stamp: event.stamp,
            ty: event.ty,
            field: match event.ty {
                Type::Map => event.field().map(|(name, _)| name.into()),
                _ => None,
            },
            value: Value::of(event),
            count: 1,
        });
        let adds = self.tallies.iter().map(|tally| LiveEvent {
            stamp: tally.stamp(),
            ty: Type::Counter,
            field: None,
            value: Value::sum(tally.sum),
            count: tally.count,
        });
        let mut all: Vec<_> = events.chain(adds).collect();
        all.sort_unstable_by_key(|event| std::cmp::Reverse(event.stamp));
        all
    }

    /// Estimates the memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        let singles = |tally: &Tally| tally.singles.capacity() * size_of::<Single>();
        let tallies = self.tallies.capacity() * size_of::<Tally>()
            + self.tallies.iter().map(singles).sum::<usize>();
        size_of::<Self>() + tallies + self.live.bytes()
    }

    /// Tells whether the event is known to be live, or was folded away.
    fn holds(&self, dot: &Dot) -> bool {
        // Adds of one log come in order: one at or before the last live add is known.
        let last = self.tally(&dot.log).is_some_and(|tally| (dot.seq, dot.index) <= tally.last);
        last || self.live.get(dot).is_some()
    }

    fn tally(&self, log: &LogId) -> Option<&Tally> {
        self.tally_at(log).ok().and_then(|at| self.tallies.get(at))
    }

    fn tally_at(&self, log: &LogId) -> Result<usize, usize> {
        self.tallies.binary_search_by_key(log, |tally| tally.log)
    }

    fn add(&mut self, dot: &Dot, single: Single) {
        match self.tally_at(&dot.log) {
            Ok(at) => self.tallies.get_mut(at).into_iter().for_each(|tally| tally.add(single)),
            Err(at) => self.tallies.insert(at, Tally::new(dot.log, single, self.exact)),
        }
    }

    fn remove_add(&mut self, dot: &Dot) {
        if let Ok(at) = self.tally_at(&dot.log)
            && let Some(tally) = self.tallies.get_mut(at)
            && !tally.lose((dot.seq, dot.index))
        {
            self.tallies.remove(at);
        }
    }

    fn join_tallies(
        &self,
        mine: &VersionVector,
        other: &Self,
        theirs: &VersionVector,
    ) -> Result<Vec<Tally>, Inexact> {
        let logs: BTreeSet<LogId> =
            self.tallies.iter().chain(&other.tallies).map(|tally| tally.log).collect();
        let mut joined = Vec::new();
        for log in logs {
            let a = (self.tally(&log), mine.get(&log));
            let b = (other.tally(&log), theirs.get(&log));
            joined.extend(Tally::join(a, b, self.exact)?);
        }
        Ok(joined)
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}
