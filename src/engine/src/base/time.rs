//! Time as an argument: the engine never reads a clock.

use std::time::Duration;

/// A moment of a steady clock, in nanoseconds since the process (or simulated world) began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// Returns the moment `after` later, or the last one that can be told.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A reading of a wall clock, in milliseconds since 1970-01-01 UTC. It may jump either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(pub u64);

/// What the two clocks of a host show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// The steady clock: timeouts and intervals.
    pub mono: Instant,
    /// The wall clock: stamps that people read.
    pub wall: WallTime,
}
