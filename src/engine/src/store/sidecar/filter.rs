//! A filter that says of most absent keys that they are absent (FORMAT 8.4).
//!
//! A Bloom filter split into cache lines (Putze, Sanders, Singler 2007, "Cache-, hash- and
//! space-efficient Bloom filters"): 10 bits a key and six probes within one line of 64 bytes, so a
//! question costs one cache miss. It never denies a key that is there; about 1.2 % of the absent
//! ones pass. The hash is our own 64-bit mix by folded multiplication: it withstands chance, not an
//! attacker, who gains nothing but reads of the disk.

/// The bytes of one line: what a processor's cache loads at once.
const LINE_BYTES: usize = 64;
const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 6;
/// Bits that name a place in a line of 512.
const PROBE_BITS: u32 = 9;

/// The hash of a key: the same for every sidecar, so it is made once per question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Hashes a key. Costs about a nanosecond for 8 bytes of it.
    pub fn new(key: &[u8]) -> Self {
        let mut hash = 0x9e37_79b9_7f4a_7c15 ^ key.len() as u64;
        let (words, tail) = key.as_chunks::<8>();
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word), 0xa076_1d64_78bd_642f);
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        Self(fold(hash ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db))
    }

    /// Returns the hash within one file: a key that passes one filter by chance fails the next.
    fn seeded(self, seed: u64) -> u64 {
        fold(self.0 ^ seed, 0x8ebc_6af0_9c88_c6e3)
    }
}

/// Multiplies to 128 bits and folds the halves together.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are meant")]
    let (high, low) = ((product >> 64) as u64, product as u64);
    high ^ low
}

/// Returns the seed of the filter of one sidecar.
pub(super) fn seed(store: &[u8; 16], segment: u64) -> u64 {
    KeyHash::new(store).seeded(segment)
}

/// Makes the filter over all `hashes`; none gives no bytes.
pub(super) fn build(hashes: &[KeyHash], seed: u64) -> Vec<u8> {
    let lines_max = crate::limits::SIDECAR_PIECE_BYTES_MAX / LINE_BYTES;
    let lines = (hashes.len() * BITS_PER_KEY).div_ceil(LINE_BYTES * 8).min(lines_max);
    let mut bytes = vec![0; lines * LINE_BYTES];
    let (lines, _) = bytes.as_chunks_mut::<LINE_BYTES>();
    for hash in hashes {
        let hash = hash.seeded(seed);
        let index = line_of(hash, lines.len());
        let Some(line) = lines.get_mut(index) else { continue };
        for (byte, mask) in probes(hash) {
            if let Some(byte) = line.get_mut(byte) {
                *byte |= mask;
            }
        }
    }
    bytes
}

/// A filter in memory.
#[derive(Debug)]
pub(super) struct Filter {
    bytes: Vec<u8>,
    seed: u64,
}

impl Filter {
    pub(super) fn new(bytes: Vec<u8>, seed: u64) -> Self {
        Self { bytes, seed }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Says whether the key may be there; false is certain.
    pub(super) fn may_contain(&self, hash: KeyHash) -> bool {
        let hash = hash.seeded(self.seed);
        let (lines, _) = self.bytes.as_chunks::<LINE_BYTES>();
        let line = lines.get(line_of(hash, lines.len()));
        let set = |line: &[u8; LINE_BYTES], (byte, mask): (usize, u8)| {
            line.get(byte).is_some_and(|byte| byte & mask != 0)
        };
        line.is_some_and(|line| probes(hash).all(|probe| set(line, probe)))
    }
}

/// Returns the line of a hash: its upper half, scaled to the number of lines.
fn line_of(hash: u64, lines: usize) -> usize {
    (((hash >> 32) * lines as u64) >> 32) as usize
}

/// Returns byte and mask of each bit of a hash in its line.
fn probes(hash: u64) -> impl Iterator<Item = (usize, u8)> {
    // The upper half chose the line, so the places come from a further mix.
    let places = fold(hash, 0x5895_65f2_1d4b_2bd3);
    (0..PROBES).map(move |probe| {
        let place = (places >> (probe * PROBE_BITS)) & ((1 << PROBE_BITS) - 1);
        ((place >> 3) as usize, 1 << (place & 7))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Vec<u8> {
        format!("users/{number}/name").into_bytes()
    }

    #[test]
    fn a_key_that_is_there_always_passes_and_of_the_others_two_in_a_hundred_at_most() {
        for count in [1, 10, 500, 20_000_u32] {
            let hashes: Vec<KeyHash> = (0..count).map(|n| KeyHash::new(&key(n))).collect();
            let seed = seed(&[7; 16], u64::from(count));
            let filter = Filter::new(build(&hashes, seed), seed);
            assert!(hashes.iter().all(|hash| filter.may_contain(*hash)));
            let absent = (1_000_000..1_100_000).map(|n| KeyHash::new(&key(n)));
            let passed = absent.filter(|hash| filter.may_contain(*hash)).count();
            assert!(passed <= 2000, "{passed} of 100000 absent keys pass among {count}");
        }
    }

    #[test]
    fn short_counted_keys_spread_as_well() {
        let hashes: Vec<KeyHash> =
            (0..20_000_u32).map(|n| KeyHash::new(&n.to_be_bytes())).collect();
        let filter = Filter::new(build(&hashes, 1), 1);
        let absent = (20_000..120_000_u32).map(|n| KeyHash::new(&n.to_be_bytes()));
        let passed = absent.filter(|hash| filter.may_contain(*hash)).count();
        assert!(passed <= 2000, "{passed} of 100000");
    }

    #[test]
    fn an_empty_filter_takes_no_space_and_passes_nothing() {
        let filter = Filter::new(build(&[], 3), 3);
        assert_eq!(filter.len(), 0);
        assert!(!filter.may_contain(KeyHash::new(b"x")));
    }

    #[test]
    fn zero_bytes_at_the_end_count() {
        assert_ne!(KeyHash::new(b"a"), KeyHash::new(b"a\0"));
        assert_ne!(KeyHash::new(b""), KeyHash::new(b"\0"));
    }
}
