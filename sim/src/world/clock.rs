//! The clocks of a replica: one that only goes forward, and one on the wall that may jump.

use kdelta_engine::base::{Instant, Now, WallTime};

use super::NS_PER_MS;

/// Both clocks, as functions of the world's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Clock {
    /// How far the wall clock is off, besides what drift makes, in milliseconds.
    skew_ms: i64,
    /// How much too fast both are, in millionths.
    ppm: i32,
    /// The world's time and the replica's when that rate began, in nanoseconds.
    began_ns: [u64; 2],
}

impl Clock {
    /// Returns what the replica's clocks show at the world's time.
    pub(crate) fn now(&self, world_ns: u64) -> Now {
        let mono = self.mono_ns(world_ns);
        let wall = (BEGIN_MS + mono / NS_PER_MS).saturating_add_signed(self.skew_ms);
        Now { mono: Instant(mono), wall: WallTime(wall) }
    }

    /// Returns the world's time at which the replica's clock shows `mono` or a little more.
    pub(crate) fn world_ns(&self, mono: Instant) -> u64 {
        let [world, own] = self.began_ns;
        let passed = u128::from(mono.0.saturating_sub(own)) * u128::from(MILLION);
        let passed = passed / u128::from(self.rate()) + 1;
        world.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Makes the wall clock jump.
    pub(crate) fn jump(&mut self, ms: i64) {
        self.skew_ms = self.skew_ms.saturating_add(ms);
    }

    /// Changes the rate from now on.
    pub(crate) fn drift(&mut self, world_ns: u64, ppm: i32) {
        self.began_ns = [world_ns, self.mono_ns(world_ns)];
        self.ppm = ppm.clamp(-PPM_MAX, PPM_MAX);
    }

    /// Sets the wall clock right, as far as whole milliseconds go.
    pub(crate) fn set_right(&mut self, world_ns: u64) {
        self.drift(world_ns, 0);
        let [world, own] = self.began_ns.map(|ns| i64::try_from(ns / NS_PER_MS).unwrap_or(0));
        self.skew_ms = world - own;
    }

    fn mono_ns(&self, world_ns: u64) -> u64 {
        let [world, own] = self.began_ns;
        let passed = u128::from(world_ns.saturating_sub(world)) * u128::from(self.rate());
        own.saturating_add(u64::try_from(passed / u128::from(MILLION)).unwrap_or(u64::MAX))
    }

    fn rate(&self) -> u64 {
        MILLION.saturating_add_signed(i64::from(self.ppm))
    }
}

/// When a world begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;
const MILLION: u64 = 1_000_000;
const PPM_MAX: i32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_a_wake_is_never_early() {
        let mut clock = Clock::default();
        let mut last = 0;
        for (at, ppm) in [(0, 300), (5_000_000_123, -500), (9_000_000_777, 0), (9_100_000_000, 99)]
        {
            clock.drift(at, ppm);
            for world in [at, at + 1, at + 999_999, at + 77_777_777] {
                let mono = clock.now(world).mono.0;
                assert!(mono >= last);
                last = mono;
                for wake in [mono, mono + 1, mono + 123_456_789] {
                    let world = clock.world_ns(Instant(wake));
                    assert!(clock.now(world).mono.0 >= wake && clock.now(world).mono.0 <= wake + 2);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_right_shows_the_worlds_time() {
        let mut clock = Clock::default();
        clock.jump(-90_000);
        clock.drift(0, 500);
        clock.set_right(10_000_000_000_000);
        let (off, exact) =
            (clock.now(20_000_000_000_000), Clock::default().now(20_000_000_000_000));
        assert!(off.wall.0.abs_diff(exact.wall.0) <= 1);
    }
}
