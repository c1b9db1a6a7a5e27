//! Hybrid logical clock (Kulkarni et al. 2014): stamps that respect causality and stay near the
//! wall clock.
//!
//! A stamp is greater than every stamp its author had seen. It orders concurrent events for
//! display and decides ties; it never decides whether a write counts.

use std::fmt;

use super::WallTime;
use crate::limits;

/// A stamp: 48 bits of milliseconds since 1970, then a 16-bit counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// Returns the first stamp of a millisecond; later ones than the year 10889 are cut to it.
    pub fn from_wall(wall: WallTime) -> Self {
        Self(wall.0.min((1 << 48) - 1) << 16)
    }

    /// Returns the milliseconds since 1970.
    pub fn wall(self) -> WallTime {
        WallTime(self.0 >> 16)
    }

    /// Returns the next greater stamp, which may lie in the next millisecond.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A stamp lies further ahead of the local clock than [`limits::DRIFT_MS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stamped {ahead_ms} ms ahead of this replica's clock")]
pub struct DriftError {
    /// How far ahead, in milliseconds.
    pub ahead_ms: u64,
}

/// Makes a replica's stamps.
#[derive(Debug, Clone, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// Goes on from the greatest stamp that this replica holds.
    pub fn resume(last: Hlc) -> Self {
        Self { last }
    }

    /// Returns a stamp greater than all that were made or observed.
    pub fn tick(&mut self, now: WallTime) -> Hlc {
        self.last = self.last.next().max(Hlc::from_wall(now));
        self.last
    }

    /// Takes note of a stamp that was made elsewhere.
    pub fn observe(&mut self, remote: Hlc) {
        self.last = self.last.max(remote);
    }

    /// Checks that `remote` is not too far ahead of `now`.
    ///
    /// # Errors
    /// [`DriftError`]: keep what carries the stamp waiting; it is early, not wrong.
    pub fn check(remote: Hlc, now: WallTime) -> Result<(), DriftError> {
        let ahead_ms = remote.wall().0.saturating_sub(now.0);
        if ahead_ms > limits::DRIFT_MS_MAX { Err(DriftError { ahead_ms }) } else { Ok(()) }
    }

    /// Returns the greatest stamp made or observed.
    pub fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_when_the_wall_clock_stands_still_or_goes_back() {
        let mut clock = HlcClock::default();
        let mut last = Hlc::default();
        for wall in [5, 5, 5, 4, 0, 6, 6] {
            let stamp = clock.tick(WallTime(wall));
            assert!(stamp > last, "{stamp:?} after {last:?}");
            last = stamp;
        }
        assert_eq!(last.wall(), WallTime(6));
    }

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        let mut clock = HlcClock::resume(Hlc((7 << 16) | 0xffff));
        assert_eq!(clock.tick(WallTime(7)), Hlc(8 << 16));
    }

    #[test]
    fn a_stamp_after_an_observed_one_is_greater() {
        let mut clock = HlcClock::default();
        clock.observe(Hlc::from_wall(WallTime(1000)));
        assert!(clock.tick(WallTime(10)) > Hlc::from_wall(WallTime(1000)));
    }

    #[test]
    fn only_what_is_too_far_ahead_drifts() {
        let now = WallTime(1_000_000);
        let at = |ms: u64| Hlc::from_wall(WallTime(now.0 + ms));
        assert_eq!(HlcClock::check(at(limits::DRIFT_MS_MAX), now), Ok(()));
        let error = HlcClock::check(at(limits::DRIFT_MS_MAX + 1), now);
        assert_eq!(error, Err(DriftError { ahead_ms: limits::DRIFT_MS_MAX + 1 }));
        // A stamp from long ago must not underflow.
        assert_eq!(HlcClock::check(Hlc(0), now), Ok(()));
    }
}
