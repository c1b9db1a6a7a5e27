//! Commits that cannot be applied yet: a dep is missing, or their time has not come.
//!
//! Bounded in bytes; what does not fit is asked for again later. In memory only: nothing in here
//! was acknowledged to anyone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::LogId;
use crate::event::Commit;

/// The commits of all spaces that wait, by log and seq.
#[derive(Debug)]
pub(crate) struct Waiting {
    commits: BTreeMap<(usize, LogId), BTreeMap<u64, Arc<Commit>>>,
    bytes: usize,
    bytes_max: usize,
}

/// What a waiting commit costs besides its leaves, in bytes.
const OVERHEAD_BYTES: usize = 512;

impl Waiting {
    /// Makes an empty room for `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { commits: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Takes a commit in; tells whether there was room.
    pub(crate) fn insert(&mut self, space_ix: usize, commit: Arc<Commit>) -> bool {
        let bytes = cost(&commit);
        if self.bytes + bytes > self.bytes_max {
            return false;
        }
        let log = self.commits.entry((space_ix, commit.log())).or_default();
        if log.insert(commit.seq(), commit).is_none() {
            self.bytes += bytes;
        }
        true
    }

    /// Takes out the commit under that number.
    pub(crate) fn remove(&mut self, space_ix: usize, log: LogId, seq: u64) -> Option<Arc<Commit>> {
        let of_log = self.commits.get_mut(&(space_ix, log))?;
        let commit = of_log.remove(&seq)?;
        if of_log.is_empty() {
            self.commits.remove(&(space_ix, log));
        }
        self.bytes -= cost(&commit);
        Some(commit)
    }

    /// Returns the commit under that number.
    pub(crate) fn get(&self, space_ix: usize, log: LogId, seq: u64) -> Option<&Arc<Commit>> {
        self.commits.get(&(space_ix, log))?.get(&seq)
    }

    /// Returns the logs of a space of which commits wait.
    pub(crate) fn logs(&self, space_ix: usize) -> Vec<LogId> {
        let logs = self.commits.keys().filter(|(space, _)| *space == space_ix);
        logs.map(|(_, log)| *log).collect()
    }

    /// Returns how many commits wait.
    pub(crate) fn len(&self) -> usize {
        self.commits.values().map(BTreeMap::len).sum()
    }
}

fn cost(commit: &Commit) -> usize {
    commit.header().size as usize + OVERHEAD_BYTES
}
