//! Commits that cannot be applied yet: a dep is missing, their time has not come, or they are
//! *suspects*: commits of a forked log that count only once another log builds upon them.
//!
//! Bounded in bytes; what does not fit is asked for again later, and suspects give way to others.
//! In memory only: nothing in here was acknowledged to anyone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{CommitId, Hash, LogId};
use crate::causal::Tip;
use crate::event::{Commit, Voucher};

/// The commits of all spaces that wait, by log and seq; suspects by id.
#[derive(Debug)]
pub(crate) struct Waiting {
    commits: BTreeMap<(usize, LogId), BTreeMap<u64, Held>>,
    suspects: BTreeMap<(usize, CommitId), Held>,
    bytes: usize,
    bytes_max: usize,
}

/// A commit that waits, and what vouches for its log up to it, if that came along.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) commit: Arc<Commit>,
    pub(crate) voucher: Option<Voucher>,
}

/// What a waiting commit costs besides its leaves and what vouches for it, in bytes.
const OVERHEAD_BYTES: usize = 512;

impl Waiting {
    /// Makes an empty room for `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { commits: BTreeMap::new(), suspects: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Takes a commit in; tells whether there was room.
    pub(crate) fn insert(&mut self, space_ix: usize, held: Held) -> bool {
        let bytes = held.cost();
        if !self.has_room(bytes) {
            return false;
        }
        let log = self.commits.entry((space_ix, held.commit.log())).or_default();
        // Of a forked log another one may have waited under that number.
        let former = log.insert(held.commit.seq(), held);
        self.bytes = self.bytes + bytes - former.map_or(0, |former| former.cost());
        true
    }

    /// Takes out the commit under that number.
    pub(crate) fn remove(&mut self, space_ix: usize, log: LogId, seq: u64) -> Option<Arc<Commit>> {
        let of_log = self.commits.get_mut(&(space_ix, log))?;
        let held = of_log.remove(&seq)?;
        if of_log.is_empty() {
            self.commits.remove(&(space_ix, log));
        }
        self.bytes -= held.cost();
        Some(held.commit)
    }

    /// Returns the commit under that number.
    pub(crate) fn get(&self, space_ix: usize, log: LogId, seq: u64) -> Option<&Arc<Commit>> {
        self.commits.get(&(space_ix, log))?.get(&seq).map(|held| &held.commit)
    }

    /// Takes out what vouches for a log up to the first that waits from `seq` on and has something.
    pub(crate) fn take_voucher(
        &mut self,
        space_ix: usize,
        log: LogId,
        seq: u64,
    ) -> Option<(Tip, Voucher)> {
        let mut from = self.commits.get_mut(&(space_ix, log))?.range_mut(seq..);
        let held = from.find_map(|(_, held)| held.voucher.is_some().then_some(held))?;
        let before = held.cost();
        let voucher = held.voucher.take()?;
        self.bytes -= before - held.cost();
        Some((held.commit.tip(), voucher))
    }

    /// Takes a suspect in; tells whether there was room.
    pub(crate) fn hold(&mut self, space_ix: usize, suspect: Held) -> bool {
        let (id, bytes) = (suspect.commit.id(), suspect.cost());
        if !self.has_room(bytes) {
            return false;
        }
        let former = self.suspects.insert((space_ix, id), suspect);
        self.bytes = self.bytes + bytes - former.map_or(0, |former| former.cost());
        true
    }

    /// Returns the suspect of that id.
    pub(crate) fn suspect(&self, space_ix: usize, id: &CommitId) -> Option<&Arc<Commit>> {
        self.suspects.get(&(space_ix, *id)).map(|suspect| &suspect.commit)
    }

    /// Takes out the suspect of that id.
    pub(crate) fn release(&mut self, space_ix: usize, id: &CommitId) -> Option<Held> {
        let suspect = self.suspects.remove(&(space_ix, *id))?;
        self.bytes -= suspect.cost();
        Some(suspect)
    }

    /// Drops what waits of a log.
    pub(crate) fn forget(&mut self, space_ix: usize, log: &LogId) {
        let dropped = self.commits.remove(&(space_ix, *log)).unwrap_or_default();
        self.bytes -= dropped.values().map(Held::cost).sum::<usize>();
    }

    /// Tells whether so many bytes find room; if need be, suspects are dropped for them.
    fn has_room(&mut self, bytes: usize) -> bool {
        if self.bytes + bytes > self.bytes_max {
            let dropped = std::mem::take(&mut self.suspects);
            sometimes!("store-suspects-give-way", !dropped.is_empty());
            self.bytes -= dropped.values().map(Held::cost).sum::<usize>();
        }
        let room = self.bytes + bytes <= self.bytes_max;
        sometimes!("store-waiting-room-full", !room);
        room || mutant!("waiting-room-unbounded")
    }

    /// Returns the logs of a space of which commits wait.
    pub(crate) fn logs(&self, space_ix: usize) -> Vec<LogId> {
        let logs = self.commits.keys().filter(|(space, _)| *space == space_ix);
        logs.map(|(_, log)| *log).collect()
    }

    /// Returns how many commits wait, suspects aside.
    pub(crate) fn len(&self) -> usize {
        self.commits.values().map(BTreeMap::len).sum()
    }
}

impl Held {
    fn cost(&self) -> usize {
        let hashes = self.voucher.as_ref().map_or(0, |voucher| voucher.proof.len());
        self.commit.header().size as usize + OVERHEAD_BYTES + hashes * size_of::<Hash>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Attestation, KeyPair, arbitrary};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_room_is_empty_when_nothing_waits(
            one in arbitrary::some_commit(),
            other in arbitrary::some_commit(),
            hashes in 0..9_usize,
            takes: bool,
        ) {
            let (space, key) = (one.space(), KeyPair::from_seed([1; 32]));
            let own = Tip { log: LogId { replica: key.id(), incarnation: 1 }, ..one.tip() };
            let attestation = Attestation::sign(&key, space, own, [0; 32]);
            let voucher = Voucher { attestation, proof: vec![[0; 32]; hashes] };
            let mut waiting = Waiting::new(usize::MAX);
            let (log, seq) = (one.log(), one.seq());
            let slot = waiting.commits.entry((0, log)).or_default();
            // Two commits of a forked log under one number.
            let other = Held { commit: Arc::new(other), voucher: Some(voucher.clone()) };
            waiting.bytes = other.cost();
            slot.insert(seq, other);
            let one = Held { commit: Arc::new(one), voucher: Some(voucher) };
            let vouched = one.commit.tip();
            prop_assert!(waiting.insert(0, one));
            if takes {
                let taken = waiting.take_voucher(0, log, seq).map(|(tip, _)| tip);
                prop_assert_eq!(taken, Some(vouched));
                prop_assert!(waiting.take_voucher(0, log, seq).is_none());
            }
            waiting.forget(0, &log);
            prop_assert_eq!((waiting.bytes, waiting.len()), (0, 0));
        }
    }
}
