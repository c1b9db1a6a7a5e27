//! Counters of rare paths: a batch of simulations that never took one did not test it.
//!
//! A mark stands where something rare happens: a torn tail is cut, a waiting room is full, a fork
//! is closed. After a batch of seeds every mark should have been hit; one that never is shows that
//! the faults are too tame, or that the code is dead (after the coverage marks of TigerBeetle and
//! the "sometimes" assertions of Antithesis).
//!
//! Without the feature `marks`, which is off by default, `sometimes!` leaves no code. With it each
//! hit is one relaxed add to a counter of the process: threads that run worlds add to the same.

mod table;

pub use table::ALL;

/// A rare path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its name: the floor, then what happens there.
    pub name: &'static str,
    /// What happens there.
    pub what: &'static str,
}

/// Counts a hit of the mark of that name, if the condition holds. The name must be in the table.
#[cfg(feature = "marks")]
macro_rules! sometimes {
    ($name:literal) => {
        sometimes!($name, true)
    };
    ($name:literal, $condition:expr) => {{
        const PLACE: usize = $crate::base::mark::place($name);
        const { assert!(PLACE < $crate::base::mark::ALL.len(), "no such mark") };
        if $condition {
            $crate::base::mark::hit(PLACE);
        }
    }};
}

/// Counts nothing: there are no marks in this build. The condition is not evaluated.
#[cfg(not(feature = "marks"))]
macro_rules! sometimes {
    ($name:literal) => {{}};
    ($name:literal, $condition:expr) => {
        if false && $condition {}
    };
}

#[cfg(feature = "marks")]
pub(crate) use counters::{hit, place};
#[cfg(feature = "marks")]
pub use counters::{hits, reset};

#[cfg(feature = "marks")]
mod counters {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::named::same;
    use super::ALL;

    /// How often each mark of the table was hit.
    static HITS: [AtomicU64; ALL.len()] = [const { AtomicU64::new(0) }; ALL.len()];

    /// Returns every mark and how often it was hit, those never hit included, in the table's order.
    pub fn hits() -> Vec<(&'static str, u64)> {
        let counts = HITS.iter().map(|hits| hits.load(Ordering::Relaxed));
        ALL.iter().map(|mark| mark.name).zip(counts).collect()
    }

    /// Sets all counters to 0.
    pub fn reset() {
        HITS.iter().for_each(|hits| hits.store(0, Ordering::Relaxed));
    }

    pub(crate) fn hit(place: usize) {
        if let Some(hits) = HITS.get(place) {
            hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the place of a mark in the table, or the table's length.
    pub(crate) const fn place(name: &str) -> usize {
        let (mut rest, mut at) = (ALL, 0);
        while let Some((first, others)) = rest.split_first() {
            if same(first.name, name) {
                return at;
            }
            (rest, at) = (others, at + 1);
        }
        at
    }
}
