//! The two clocks of the machine, read as the engine wants them.

use std::sync::OnceLock;
use std::time::{Instant as SteadyInstant, SystemTime, UNIX_EPOCH};

use crate::engine::base::{Instant, Now, WallTime};

/// Reads both clocks.
///
/// The steady one starts at zero with the first call in this process and never goes back. A wall
/// clock before 1970 reads as zero.
pub fn now() -> Now {
    static START: OnceLock<SteadyInstant> = OnceLock::new();
    let start = *START.get_or_init(SteadyInstant::now);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        mono: Instant::default().plus(start.elapsed()),
        wall: WallTime(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_never_goes_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next.mono >= last.mono);
            last = next;
        }
        // The machine that runs this test knows that 2020 is over.
        assert!(last.wall > WallTime(1_577_836_800_000));
    }
}
