//! The trace of a run: what happened, when and to whom.
//!
//! [`Trace`] folds every entry into a [`Digest`] and keeps as many as it is told to ([`Keep`]).
//! Runs of one seed have equal digests, on every machine; where two differ, [`first_difference`]
//! says at which entry. From the entries themselves come the causal past of a failure ([`cone`]),
//! lines for people ([`text`]) and for programs ([`json`]), and a page to look at ([`html`]).
//!
//! A trace knows nothing of the world that it comes from: it neither reads a clock nor decides
//! anything. Lanes are numbered from 0, one for each replica and each running copy of one.

pub mod cone;
mod digest;
pub mod html;
pub mod json;
pub mod text;
mod what;

use std::ops::Range;

pub use digest::{Digest, hash};
pub use what::{Short, Text, What};

use digest::Fold;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in nanoseconds since the run began.
    pub at_ns: u64,
    /// The lane on which it happened; none if it happened to the world.
    pub replica: Option<usize>,
    /// What it was.
    pub what: What,
}

/// Which entries a trace keeps in memory. The digest is made over all of them in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None.
    Digest,
    /// The last so many; up to twice as many are held.
    Last(usize),
    /// Those whose number, counted from 0, is at least `from` and less than `to`: to look at the
    /// block that [`first_difference`] names in runs too long to be kept whole.
    Between {
        /// The number of the first.
        from: u64,
        /// One more than the number of the last.
        to: u64,
    },
    /// All.
    All,
}

/// A record of a run.
#[derive(Debug, Clone)]
pub struct Trace {
    keep: Keep,
    fold: Fold,
    count: u64,
    checkpoints: Vec<Digest>,
    entries: Vec<Entry>,
}

impl Trace {
    /// Makes the trace of a run that has not begun.
    pub const fn new(keep: Keep) -> Self {
        let (fold, count) = (Fold::new(), 0);
        Self { keep, fold, count, checkpoints: Vec::new(), entries: Vec::new() }
    }

    /// Records what happened, in the order in which it happened.
    ///
    /// Cost: a few tens of nanoseconds, and that of keeping the entry where it is kept.
    #[inline]
    pub fn record(&mut self, at_ns: u64, replica: Option<usize>, what: What) {
        let entry = Entry { at_ns, replica, what };
        self.fold.entry(&entry);
        self.count += 1;
        if self.count.is_multiple_of(CHECKPOINT_ENTRIES) {
            self.checkpoints.push(self.fold.digest(self.count));
        }
        match self.keep {
            Keep::Digest => {}
            Keep::All => self.entries.push(entry),
            Keep::Between { from, to } => {
                if (from..to).contains(&(self.count - 1)) {
                    self.entries.push(entry);
                }
            }
            Keep::Last(most) => {
                // Twice as many are held at times, so that each is moved once only.
                if self.entries.len() >= most.saturating_mul(2) {
                    let over = self.entries.len() - most;
                    self.entries.drain(..over);
                }
                if most > 0 {
                    self.entries.push(entry);
                }
            }
        }
    }

    /// Returns how many entries were recorded, kept or not.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the digest of all that was recorded.
    pub fn digest(&self) -> Digest {
        self.fold.digest(self.count)
    }

    /// Returns the digests after each [`CHECKPOINT_ENTRIES`] entries.
    pub fn checkpoints(&self) -> &[Digest] {
        &self.checkpoints
    }

    /// Returns the entries that are kept, in order.
    pub fn entries(&self) -> &[Entry] {
        let over = match self.keep {
            Keep::Last(most) => self.entries.len().saturating_sub(most),
            _ => 0,
        };
        self.entries.get(over..).unwrap_or_default()
    }

    /// Returns the number of the first entry that is kept, counted from 0.
    pub fn first_kept(&self) -> u64 {
        self.first_held() + (self.entries.len() - self.entries().len()) as u64
    }

    /// Returns the number of the first entry in memory.
    const fn first_held(&self) -> u64 {
        match self.keep {
            Keep::Between { from, .. } => from,
            _ => self.count - self.entries.len() as u64,
        }
    }

    /// Returns an entry by its number, if it is kept.
    pub fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.first_held())?).ok()?)
    }
}

/// Returns where two runs differ first, as numbers of entries counted from 0: one number where the
/// entries around it are kept or one run just ends there, else the block between two checkpoints.
/// None if the runs are the same.
///
/// Cost: logarithmic in the runs, and a comparison of what is kept of one block.
pub fn first_difference(a: &Trace, b: &Trace) -> Option<Range<u64>> {
    let shorter = a.count.min(b.count);
    if a.count == b.count && a.digest() == b.digest() {
        return None;
    }
    // A fold that has gone apart does not come together again: equal checkpoints come first.
    let common = a.checkpoints.len().min(b.checkpoints.len());
    let (mut low, mut high) = (0, common);
    while low < high {
        let middle = low + (high - low) / 2;
        if a.checkpoints.get(middle) == b.checkpoints.get(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let from = low as u64 * CHECKPOINT_ENTRIES;
    let to = (from + CHECKPOINT_ENTRIES).min(shorter);
    for number in from..to {
        match (a.entry(number), b.entry(number)) {
            (Some(one), Some(other)) if one == other => {}
            (Some(_), Some(_)) => return Some(number..number + 1),
            // What came before may differ too, and is not there to be compared.
            _ => return Some(from..from + CHECKPOINT_ENTRIES),
        }
    }
    Some(shorter..shorter + 1)
}

/// A checkpoint of the digest is made after so many entries: 16 bytes for each.
pub const CHECKPOINT_ENTRIES: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(keep: Keep, count: u64) -> Trace {
        let mut trace = Trace::new(keep);
        for number in 0..count {
            trace.record(number, None, What::Note { text: number.to_string().into() });
        }
        trace
    }

    #[test]
    fn the_last_entries_are_kept_and_counted() {
        for (most, count) in [(0, 9), (1, 9), (3, 2), (3, 3), (3, 6), (3, 7), (3, 100)] {
            let trace = notes(Keep::Last(most), count);
            let first = count.saturating_sub(most as u64);
            let kept: Vec<u64> = trace.entries().iter().map(|entry| entry.at_ns).collect();
            assert_eq!(kept, (first..count).collect::<Vec<_>>(), "{most} of {count}");
            assert_eq!(trace.first_kept(), first, "{most} of {count}");
            assert_eq!(trace.digest(), notes(Keep::All, count).digest());
        }
    }

    #[test]
    fn entries_between_are_found_by_their_number() {
        let trace = notes(Keep::Between { from: 5, to: 8 }, 100);
        let found: Vec<_> = (0..100).filter(|number| trace.entry(*number).is_some()).collect();
        assert_eq!(found, [5, 6, 7]);
        assert_eq!(trace.entry(6).map(|entry| entry.at_ns), Some(6));
    }
}
