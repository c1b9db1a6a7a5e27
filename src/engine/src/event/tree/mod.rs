//! The Merkle tree of RFC 6962, over the leaves of a commit and over the commits of a log.
//!
//! [`Tree`] grows with a log: it keeps the roots of the complete subtrees on its right edge, so an
//! append costs one hash on average and the root O(log n), and the root of every complete subtree
//! of 256 leaves or more, so a proof costs O(log n) and at most 256 leaf hashes on either side;
//! the first proof of a tree that was loaded costs a hash for each 256 leaves besides.
//! What is not cached is computed again from the commit ids that the caller supplies.
//!
//! Source: RFC 6962 section 2.1; verification as in RFC 9162 section 2.1.3.2.

mod log_tree;

#[cfg(test)]
mod spec;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the trees in these tests are small")]
mod tests;

pub use log_tree::{PrefixProof, Tree, TreeError};

use crate::base::{CommitId, Hash, sha256};

/// Returns the leaf that stands for a commit in its log's tree.
pub fn leaf(id: &CommitId) -> Hash {
    sha256("", &[&[0], &id.0])
}

/// Returns the hash over two subtrees.
fn node(left: &Hash, right: &Hash) -> Hash {
    sha256("", &[&[1], left, right])
}

/// Returns the root over leaves that are hashed already; over none, the hash of nothing.
pub fn root(leaves: &[Hash]) -> Hash {
    // Most commits have one event.
    if let [leaf] = leaves {
        return *leaf;
    }
    let mut edge = Edge::default();
    for leaf in leaves {
        edge.append(*leaf, |_, _, _| ());
    }
    edge.root()
}

/// Tells whether `proof` leads from the leaf at `index` to the root of a tree of `size` leaves.
///
/// `leaf` is the leaf's hash; the proof lists its siblings from the leaf up.
pub fn verify(root: &Hash, size: u64, index: u64, leaf: &Hash, proof: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            // On the right edge a subtree without a sibling rises as it is.
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// The roots of the complete subtrees that a size breaks down to, largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Edge {
    size: u64,
    peaks: Vec<Hash>,
}

impl Edge {
    /// Adds a leaf; `complete` is told level, index and root of each subtree that it completes.
    fn append(&mut self, leaf: Hash, mut complete: impl FnMut(u32, u64, &Hash)) {
        let (mut level, mut root) = (0, leaf);
        while self.size >> level & 1 == 1 {
            // One peak per bit of the size.
            if let Some(left) = self.peaks.pop() {
                root = node(&left, &root);
            }
            level += 1;
            complete(level, self.size >> level, &root);
        }
        self.peaks.push(root);
        self.size += 1;
    }

    fn root(&self) -> Hash {
        let right_to_left = self.peaks.iter().rev().copied();
        right_to_left.reduce(|right, left| node(&left, &right)).unwrap_or_else(|| sha256("", &[]))
    }

    /// Returns the root of a complete subtree if it is a peak.
    fn peak(&self, level: u32, index: u64) -> Option<Hash> {
        let above = self.size.checked_shr(level)?;
        if above & 1 == 0 || index != above - 1 {
            return None;
        }
        self.peaks.get((above >> 1).count_ones() as usize).copied()
    }
}
