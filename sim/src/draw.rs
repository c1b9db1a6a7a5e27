//! Randomness by key: a draw depends on the seed, on what it is for, on whom it concerns and on its
//! number, and on no other draw.
//!
//! So a scenario without one of its faults draws the rest as before, and shrinking stays local. The
//! mixer is SplitMix64's finalizer (Steele, Lea and Flood, OOPSLA 2014): good enough to choose
//! delays and faults by, and no secret. Integers only, so that all builds agree.

use kdelta_engine::base::{Rng, sha256};

/// What draws are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Which faults a scenario has, how strong, and its sizes.
    Swarm,
    /// What is written, where and when.
    Work,
    /// When faults happen, and to whom.
    Fault,
    /// Delays and losses of one direction of a link.
    Link,
    /// Delays of a disk.
    Disk,
    /// What a power cut leaves.
    Crash,
    /// The randomness of a replica's life: salts, incarnations, jitter.
    Life,
    /// What a hostile peer does.
    Hostile,
    /// What an app and its users do.
    App,
    /// When what a seat shows is held against its disk.
    Glance,
    /// What is rare in scenarios, class by class.
    Rare,
    /// How disks are opened once more in the end.
    Again,
}

/// All draws of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    seed: u64,
}

impl Draws {
    /// Starts the draws that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed: mix(seed ^ 0x6b64_656c_7461_0001) }
    }

    /// Returns the draws of one stream that concern one entity.
    pub fn of(&self, stream: Stream, entity: u64) -> Source {
        Source { key: mix(mix(self.seed ^ (stream as u64 + 1)) ^ entity), drawn: 0 }
    }
}

/// The draws that concern one entity, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    key: u64,
    drawn: u64,
}

impl Source {
    /// Returns the next 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.key.wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Returns a number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let drawn = self.u64();
        if bound == 0 { 0 } else { drawn % bound }
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low.saturating_add(self.below(high.saturating_sub(low).saturating_add(1)))
    }

    /// Returns an index below `len`; 0 if there is none.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// Tells whether something of that many in a million happens.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    /// Returns a number from 1 to `max`, small ones far more often: its logarithm is uniform.
    pub fn skewed(&mut self, max: u64) -> u64 {
        let bits = u64::from(max.max(1).ilog2()) + 1;
        let top = 1u64 << self.below(bits).min(62);
        self.between(top, (top * 2 - 1).min(max.max(1)))
    }

    /// Puts things into another order, each as likely as any other.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.index(last + 1));
        }
    }

    /// Returns a generator for the engine that goes on from here.
    pub fn rng(&mut self) -> Rng {
        Rng::new(self.seed())
    }

    /// Returns 32 bytes to seed something with.
    pub fn seed(&mut self) -> [u8; 32] {
        sha256("kdelta/sim/seed", &[&self.u64().to_le_bytes(), &self.key.to_le_bytes()])
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_key_alone() {
        let draws = Draws::new(7);
        let mut link = draws.of(Stream::Link, 1);
        let expected: Vec<u64> = (0..5).map(|_| link.u64()).collect();
        let (mut other, mut again) = (draws.of(Stream::Disk, 1), draws.of(Stream::Link, 1));
        let mixed: Vec<u64> = (0..5).map(|_| (other.u64(), again.u64()).1).collect();
        assert_eq!(mixed, expected);
        for different in [draws.of(Stream::Link, 2), Draws::new(8).of(Stream::Link, 1)] {
            assert_ne!(different.clone().u64(), expected[0]);
        }
    }

    #[test]
    fn draws_keep_to_their_bounds_and_reach_them() {
        let mut source = Draws::new(1).of(Stream::Work, 0);
        let mut seen = [false; 4];
        for _ in 0..200 {
            let between = source.between(3, 6);
            seen[usize::try_from(between - 3).unwrap()] = true;
            assert!((1..=100).contains(&source.skewed(100)));
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!((source.below(0), source.index(0), source.skewed(0)), (0, 0, 1));
        assert!(!source.chance(0) && source.chance(1_000_000));
    }
}
