//! What came before what: the causal past of an entry.
//!
//! Happened-before (Lamport 1978) over entries: entries of one lane follow each other; a delivery
//! follows its sending, whether it is the first or a later one; a link that comes up joins what
//! both ends knew; a copy's lane begins with what its source knew; a replica that starts on a
//! backup knows what the backup knew. A broken invariant without a lane is seen from all lanes.
//! Other entries without a lane (partitions, cuts, losses, notes) are outside the relation.
//!
//! A delivery whose sending is not among the entries has only its own lane before it. A lane goes
//! on through a crash: what was forgotten there is still in the past.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, What};

/// For each entry, the entries right before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parents {
    /// Where the parents of each entry end in `all`.
    ends: Vec<usize>,
    all: Vec<usize>,
}

impl Parents {
    /// Finds the parents of all entries.
    ///
    /// Cost: near-linear: one look-up by lane and one by message for each entry.
    pub fn of(entries: &[Entry]) -> Self {
        let mut parents = Self { ends: Vec::with_capacity(entries.len()), all: Vec::new() };
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        let mut sent: BTreeMap<u64, usize> = BTreeMap::new();
        let mut backups: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let mut further = None;
            let source = match entry.what {
                What::Delivered { number, .. } | What::Duplicated { number, .. } => {
                    sent.get(&number).copied()
                }
                What::Restored { backup } => backups.get(&backup).copied(),
                What::LinkUp { peer: lane, .. } | What::Copied { to: lane } => {
                    further = Some(lane);
                    last.get(&lane).copied()
                }
                _ => None,
            };
            match entry.replica {
                Some(lane) => {
                    let own = last.insert(lane, at);
                    parents.all.extend(own);
                    parents.all.extend(source.filter(|source| own != Some(*source)));
                    if let Some(lane) = further {
                        last.insert(lane, at);
                    }
                }
                // An entry that joins two lanes is the last of both, and one parent.
                None if matches!(entry.what, What::Broken { .. }) => {
                    parents.all.extend(last.values().collect::<BTreeSet<_>>());
                }
                None => {}
            }
            match entry.what {
                What::Sent { number, .. } => drop(sent.entry(number).or_insert(at)),
                What::BackedUp { backup } => drop(backups.insert(backup, at)),
                _ => {}
            }
            parents.ends.push(parents.all.len());
        }
        parents
    }

    /// Returns the entries right before an entry; none if there is no such entry.
    pub fn get(&self, index: usize) -> &[usize] {
        let Some(end) = self.ends.get(index) else { return &[] };
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).unwrap_or(&0);
        self.all.get(*start..*end).unwrap_or_default()
    }

    /// Returns the causal past of an entry as indexes in order; the entry itself is the last of
    /// them. Empty if there is no such entry.
    ///
    /// Cost: linear in the entries up to `index`.
    pub fn past(&self, index: usize) -> Vec<usize> {
        if index >= self.ends.len() {
            return Vec::new();
        }
        let mut within = vec![false; index + 1];
        if let Some(slot) = within.last_mut() {
            *slot = true;
        }
        // Parents come before their children, so one way back meets every child first.
        let mut past = Vec::new();
        for at in (0..=index).rev() {
            if within.get(at) == Some(&true) {
                past.push(at);
                for parent in self.get(at) {
                    if let Some(slot) = within.get_mut(*parent) {
                        *slot = true;
                    }
                }
            }
        }
        past.reverse();
        past
    }
}

/// Returns the causal past of one entry, in order, the entry itself last. Empty if there is no
/// such entry.
///
/// Cost: near-linear in the entries up to `index`.
pub fn causal_past(entries: &[Entry], index: usize) -> Vec<usize> {
    entries.get(..=index).map_or_else(Vec::new, |before| Parents::of(before).past(index))
}
