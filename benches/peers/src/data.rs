//! Keys, values and orders: the same for everyone, from a seed.

use crate::engines::Key;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 100;

/// A small generator: enough to scatter keys and to leave nothing to compress.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(scatter(seed) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }
}

/// The key of a number: no two numbers have the same, and neighbours are far apart.
pub(crate) fn key(number: u64) -> Key {
    let mut key = [0; 16];
    let mut rest = scatter(number);
    for place in &mut key {
        *place = b"0123456789abcdef"[usize::from((rest & 15) as u8)];
        rest >>= 4;
    }
    key
}

/// The value that is put under a key by its `number`-th write: its number, and noise.
pub(crate) fn value(number: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    let mut rng = Rng::new(number);
    for part in value.chunks_mut(8) {
        let noise = rng.next().to_le_bytes();
        part.copy_from_slice(&noise[..part.len()]);
    }
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// So many numbers below `end`, at random.
pub(crate) fn order(seed: u64, count: usize, end: u64) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.below(end)).collect()
}

/// Mixes the bits of a number; one to one.
fn scatter(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
