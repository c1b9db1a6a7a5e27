//! Salted sums of frontier entries, for any range in constant time.
//!
//! The fingerprint of a range is the sum of the salted hashes of its entries, modulo 2^128 (the low
//! half of the 256-bit sum), with their count. The salt is fresh in each session: authors who know
//! no salt cannot grind entries whose sums collide, as they could against a plain sum.

use std::ops::Range;

use super::Tip;
use super::message::RangeBody;
use crate::base::{Hash, Sha256Stream};

/// Prefix sums over a frontier. 16 bytes an entry; one hash an entry to make.
#[derive(Debug)]
pub(super) struct PrefixSums {
    sums: Vec<u128>,
}

impl PrefixSums {
    /// Sums `tips` up in their order.
    pub(super) fn new(salt: &Hash, tips: &[Tip]) -> Self {
        let mut sums = Vec::with_capacity(tips.len() + 1);
        let mut sum = 0_u128;
        sums.push(sum);
        for tip in tips {
            sum = sum.wrapping_add(hash(salt, tip));
            sums.push(sum);
        }
        Self { sums }
    }

    /// Returns the fingerprint of the entries at the places in `span`.
    pub(super) fn of(&self, span: &Range<usize>) -> RangeBody {
        let at = |place: usize| self.sums.get(place).copied().unwrap_or_default();
        let sum = at(span.end).wrapping_sub(at(span.start)).to_le_bytes();
        RangeBody::Fingerprint { count: span.len() as u64, sum }
    }
}

fn hash(salt: &Hash, tip: &Tip) -> u128 {
    let mut stream = Sha256Stream::new("");
    stream.update(salt);
    stream.update(&tip.log.replica.0);
    stream.update(&tip.log.incarnation.to_le_bytes());
    if !mutant!("fingerprint-without-tips") {
        stream.update(&tip.seq.to_le_bytes());
        stream.update(&tip.id.0);
    }
    let digest = stream.finish();
    let (low, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
    u128::from_le_bytes(*low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CommitId, LogId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_range_has_the_sum_of_its_entries(ids: Vec<u8>, a in 0usize..50, b in 0usize..50) {
            let tip = |id: &u8| Tip { log: LogId::default(), seq: 1, id: CommitId([*id; 32]) };
            let tips: Vec<Tip> = ids.iter().map(tip).collect();
            let (a, b) = (a.min(tips.len()), b.min(tips.len()));
            let span = a.min(b)..a.max(b);
            let naive: u128 = tips[span.clone()]
                .iter()
                .fold(0, |sum, tip| sum.wrapping_add(hash(&[7; 32], tip)));
            prop_assert_eq!(
                PrefixSums::new(&[7; 32], &tips).of(&span),
                RangeBody::Fingerprint { count: span.len() as u64, sum: naive.to_le_bytes() }
            );
        }
    }
}
