//! RFC 6962 section 2.1, word for word: what the clever trees must equal.

use super::node;
use crate::base::{Hash, sha256};

/// Section 2.1: MTH.
pub(super) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256("", &[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(k(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// Section 2.1.1: PATH.
pub(super) fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = k(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut below, other) =
        if m < k { (path(m, left), right) } else { (path(m - k, right), left) };
    below.push(root(other));
    below
}

/// The largest power of two smaller than n.
fn k(n: usize) -> usize {
    (0..).map(|bit| 1 << bit).take_while(|power| *power < n).last().unwrap()
}
