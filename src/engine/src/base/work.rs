//! Work that is in a name.
//!
//! Of a replica id a hash can begin with many zero bits only if many keys were drawn for it: about
//! 2^n for n bits. So a place that strangers may write to can ask that a name costs something. To
//! check that takes one hash, and nothing besides the id.

use super::{ReplicaId, sha256};

/// Returns the work that is in a replica id: how many zero bits its hash begins with.
pub fn work(replica: &ReplicaId) -> u32 {
    let mut bits = 0;
    for byte in sha256(DOMAIN, &[replica.as_bytes()]) {
        bits += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    bits
}

const DOMAIN: &str = "kdelta/replica-work/1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_zero_bits_that_the_hash_begins_with() {
        for seed in 0..=255u8 {
            let id = ReplicaId([seed; 32]);
            let hash = sha256("kdelta/replica-work/1", &[&[seed; 32]]);
            let bit = |at: u32| hash[at as usize / 8] >> (7 - at % 8) & 1;
            let work = work(&id);
            assert!((0..work).all(|at| bit(at) == 0) && bit(work) == 1, "{seed}");
        }
    }

    #[test]
    fn it_does_not_change() {
        let of = |at: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&at.to_le_bytes());
            work(&ReplicaId(id))
        };
        let most = (0..1 << 16).map(|at| (of(at), at)).max_by_key(|(work, at)| (*work, !*at));
        assert_eq!(most, Some((17, 58570)), "pinned: names are chosen by it");
    }
}
