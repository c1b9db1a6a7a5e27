//! How long operations take. The disk only tells; virtual time is the caller's.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kdelta_engine::log::FileId;

use super::text::Op;

/// How long something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delay {
    /// Microseconds.
    pub us: u64,
    /// It does not end until the fault is taken away or the power goes.
    pub stuck: bool,
}

impl Delay {
    pub(super) fn add(&mut self, other: Self) {
        self.us = self.us.saturating_add(other.us);
        self.stuck |= other.stuck;
    }
}

/// What a healthy disk takes for one operation, from the least to the most, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// A read or a listing.
    pub read: RangeInclusive<u64>,
    /// A change that only the cache sees.
    pub write: RangeInclusive<u64>,
    /// A sync, a replacement or a rename.
    pub sync: RangeInclusive<u64>,
}

impl Latency {
    /// No time at all.
    pub const NONE: Self = Self { read: 0..=0, write: 0..=0, sync: 0..=0 };

    fn of(&self, op: Op) -> &RangeInclusive<u64> {
        match op {
            Op::List | Op::Read => &self.read,
            Op::Sync | Op::Replace | Op::Rename => &self.sync,
            _ => &self.write,
        }
    }
}

/// What the operations since the last look took.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    pub(super) latency: Latency,
    seed: u64,
    drawn: u64,
    pub(super) spent: Delay,
    /// Files whose next sync was waited for beforehand.
    pub(super) waited: BTreeSet<FileId>,
}

impl Default for Clock {
    fn default() -> Self {
        let (latency, spent, waited) = (Latency::NONE, Delay::default(), BTreeSet::new());
        Self { latency, seed: 0, drawn: 0, spent, waited }
    }
}

impl Clock {
    pub(super) fn set(&mut self, latency: Latency, seed: u64) {
        (self.latency, self.seed) = (latency, seed);
    }

    /// Draws what one operation takes on a healthy disk.
    pub(super) fn draw(&mut self, op: Op) -> Delay {
        let (low, high) = (*self.latency.of(op).start(), *self.latency.of(op).end());
        let choices = high.saturating_sub(low).saturating_add(1);
        self.drawn += 1;
        Delay { us: low + mix(self.seed, self.drawn) % choices, stuck: false }
    }
}

/// The `count`th output of `SplitMix64` (Steele, Lea, Flood 2014): cheap, and no choice of bytes
/// hangs on it.
fn mix(seed: u64, count: u64) -> u64 {
    let mut z = seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
