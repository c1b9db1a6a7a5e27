//! The maximal commits of a space.
//!
//! Commits come in causal order, each once. A head in the past of a new commit is its `prev` or one
//! of its deps: had another commit come after it, it would be no head any more. So dropping those
//! keeps the set exact, and a new commit's deps are simply the heads of the other logs.

use std::collections::{BTreeSet, btree_set};

use super::Tip;
use crate::base::CommitId;

/// The commits of a space that no known commit comes after.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heads {
    tips: BTreeSet<Tip>,
}

impl Heads {
    /// Returns the heads of an empty space.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a commit whose past is here, and drops `prev` (of the same log) and `deps`.
    ///
    /// Each commit is to be added once, in causal order. Cost: a logarithm for each dep.
    pub fn insert(&mut self, tip: Tip, prev: Option<CommitId>, deps: &[Tip]) {
        if let Some(id) = prev {
            self.tips.remove(&Tip { log: tip.log, seq: tip.seq.saturating_sub(1), id });
        }
        for dep in deps {
            self.tips.remove(dep);
        }
        self.tips.insert(tip);
    }

    /// Walks the heads, ascending by (log, seq, id).
    pub fn iter(&self) -> btree_set::Iter<'_, Tip> {
        self.tips.iter()
    }

    /// Returns how many heads there are; more than one means concurrency.
    pub fn len(&self) -> usize {
        self.tips.len()
    }

    /// Tells whether the space has no commit.
    pub fn is_empty(&self) -> bool {
        self.tips.is_empty()
    }
}

impl<'a> IntoIterator for &'a Heads {
    type Item = &'a Tip;
    type IntoIter = btree_set::Iter<'a, Tip>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Tip> for Heads {
    /// Takes tips none of which is in the past of another, as [`Heads::iter`] gave them.
    fn from_iter<I: IntoIterator<Item = Tip>>(tips: I) -> Self {
        Self { tips: tips.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LogId, ReplicaId};

    fn tip(log: u8, seq: u8) -> Tip {
        let replica = ReplicaId([log; 32]);
        let id = CommitId([log * 16 + seq; 32]);
        Tip { log: LogId { replica, incarnation: 0 }, seq: u64::from(seq), id }
    }

    #[test]
    fn a_head_leaves_when_a_commit_comes_after_it() {
        let mut heads = Heads::new();
        heads.insert(tip(1, 1), None, &[]);
        heads.insert(tip(2, 1), None, &[tip(1, 1)]);
        assert_eq!(heads.iter().collect::<Vec<_>>(), [&tip(2, 1)]);
        // Concurrent to log 2.
        heads.insert(tip(1, 2), Some(tip(1, 1).id), &[]);
        heads.insert(tip(1, 3), Some(tip(1, 2).id), &[]);
        assert_eq!(heads.iter().collect::<Vec<_>>(), [&tip(1, 3), &tip(2, 1)]);
        heads.insert(tip(2, 2), Some(tip(2, 1).id), &[tip(1, 3)]);
        assert_eq!(heads.iter().collect::<Vec<_>>(), [&tip(2, 2)]);
    }

    #[test]
    fn another_commit_under_the_same_number_stays() {
        let fork = Tip { id: CommitId([9; 32]), ..tip(1, 1) };
        let mut heads: Heads = [tip(1, 1), fork].into_iter().collect();
        heads.insert(tip(1, 2), Some(tip(1, 1).id), &[]);
        assert_eq!(heads.iter().collect::<Vec<_>>(), [&fork, &tip(1, 2)]);
    }
}
