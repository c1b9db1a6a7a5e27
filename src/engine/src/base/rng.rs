//! Random bytes from a seed.
//!
//! SHA-256 in counter mode: whoever does not know the seed cannot tell the bytes from random ones,
//! so they serve as salts and nonces. The host seeds it from the operating system, the simulator
//! from its own seed. It reads no random source itself.

use super::{Hash, sha256};

/// A seeded, splittable generator.
#[derive(Clone)]
pub struct Rng {
    seed: Hash,
    counter: u64,
    block: Hash,
    used: usize,
}

impl Rng {
    /// Starts the stream that belongs to `seed`.
    pub fn new(seed: Hash) -> Self {
        Self { seed, counter: 0, block: [0; 32], used: 32 }
    }

    /// Returns the next `N` bytes of the stream.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for byte in &mut out {
            if self.used == self.block.len() {
                self.block = sha256("kdelta/rng", &[&self.seed, &self.counter.to_le_bytes()]);
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block.get(self.used).copied().unwrap_or_default();
            self.used += 1;
        }
        out
    }

    /// Returns the next 64 bits of the stream.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// Returns a number below `bound`, which is not zero. The bias is below 2^-32 for small bounds.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        self.u64() % bound
    }

    /// Returns a generator whose stream does not depend on what is drawn from this one later.
    #[must_use]
    pub fn split(&mut self, purpose: &str) -> Self {
        Self::new(sha256("kdelta/rng-split", &[&self.bytes::<32>(), purpose.as_bytes()]))
    }
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The seed is a secret: salts are drawn from it.
        f.debug_struct("Rng").field("counter", &self.counter).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream_however_it_is_read() {
        let (mut a, mut b) = (Rng::new([1; 32]), Rng::new([1; 32]));
        let whole: [u8; 80] = a.bytes();
        let parts: Vec<u8> = (0..80).flat_map(|_| b.bytes::<1>()).collect();
        assert_eq!(whole.as_slice(), parts);
        assert_ne!(Rng::new([2; 32]).bytes::<80>(), whole);
    }
}
