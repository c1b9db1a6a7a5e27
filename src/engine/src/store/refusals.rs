//! What became of writes: durable, or taken back because the disk refused their group.
//!
//! Places in the log are used again after a group was taken back, so a place alone does not tell
//! whether what was written there is still meant. A receipt says how often the disk had refused by
//! then, too.

use std::collections::VecDeque;

use crate::log::Position;

/// Stands for all that was written up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    pub(super) refusals: u64,
    pub(super) end: Position,
}

/// What became of what a [`Receipt`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It is not durable yet.
    Pending,
    /// It survives a crash.
    Durable,
    /// The disk did not take the last of it, for this reason: it is gone.
    TakenBack(&'a str),
}

/// The groups that the disk did not take.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How many there were.
    pub(super) count: u64,
    /// The last ones, with growing ends: one that ended the log further down hides those before.
    last: VecDeque<Refusal>,
}

/// A group that the disk did not take.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The how-manieth it was, from one.
    count: u64,
    /// What lies before this stayed.
    pub(super) kept: Position,
    /// Why, for people.
    pub(super) reason: String,
}

impl Refusals {
    /// Takes note of one, after which the log ends at `kept`.
    pub(super) fn note(&mut self, kept: Position, reason: String) {
        self.count += 1;
        while self.last.back().is_some_and(|last| last.kept >= kept) {
            self.last.pop_back();
        }
        self.last.push_back(Refusal { count: self.count, kept, reason });
        if self.last.len() > REFUSALS_MAX {
            // Nobody waits that long; who does is told that it is gone rather than that it is not.
            self.last.remove(1);
        }
    }

    /// Returns the one of all after the first `count` that left the least.
    pub(super) fn since(&self, count: u64) -> Option<&Refusal> {
        self.last.iter().find(|refusal| refusal.count > count)
    }
}

/// How many are kept. Between two that count, something became durable.
const REFUSALS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn the_one_that_left_the_least_counts() {
        let ends = [50, 90, 70, 70, 80, 60, 95];
        for first in 0..ends.len() {
            let mut refusals = Refusals::default();
            for end in ends {
                refusals.note(at(end), String::new());
            }
            let least = ends.iter().skip(first).min().map(|end| at(*end));
            assert_eq!(refusals.since(first as u64).map(|refusal| refusal.kept), least);
        }
    }

    #[test]
    fn many_are_not_kept_for_ever() {
        let mut refusals = Refusals::default();
        for end in 1..=1000 {
            refusals.note(at(end), String::new());
        }
        assert_eq!(refusals.last.len(), REFUSALS_MAX);
        assert_eq!(refusals.since(0).map(|refusal| refusal.kept), Some(at(1)));
        assert_eq!(refusals.since(999).map(|refusal| refusal.kept), Some(at(1000)));
        assert!(refusals.since(1000).is_none());
    }
}
