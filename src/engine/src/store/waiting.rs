//! Commits that cannot be applied yet: a dep is missing, their time has not come, or they are
//! *suspects*: commits of a forked log that count only once another log builds upon them.
//!
//! Bounded in bytes, of which each log has its share: when the room is full, the log that takes
//! most of it gives way, its last commits first. What does not fit is asked for again later. So
//! whoever keeps back what its commits wait for takes the room from nobody else. Suspects of the
//! chunk that is being taken find a place in any case until it is through: what builds upon them
//! comes right after them. In memory only: nothing in here was acknowledged to anyone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::{CommitId, Hash, LogId};
use crate::causal::Tip;
use crate::event::{Commit, Voucher};

/// The commits of all spaces that wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    logs: BTreeMap<Of, OfLog>,
    /// What each log takes of the room, ascending.
    shares: BTreeSet<(usize, Of)>,
    bytes: usize,
    bytes_max: usize,
    /// Suspects that find no room, for as long as the chunk that they came in is being taken.
    in_hand: BTreeMap<(usize, Tip), Held>,
}

/// The index of a space, and a log of it.
type Of = (usize, LogId);

/// The commits of one log that wait.
#[derive(Debug, Default)]
struct OfLog {
    commits: BTreeMap<u64, Held>,
    suspects: BTreeMap<(u64, CommitId), Held>,
    bytes: usize,
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
    /// Makes an empty room for `bytes_max` bytes, or for one commit of any size.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let (logs, shares, in_hand) = Default::default();
        Self { logs, shares, bytes: 0, bytes_max, in_hand }
    }

    /// Takes a commit in; tells whether there was room.
    pub(crate) fn insert(&mut self, space_ix: usize, held: Held) -> bool {
        let of = (space_ix, held.commit.log());
        // Of a forked log another one may have waited under that number.
        self.change(of, |log| log.take(held.commit.seq()));
        self.make_room(of, held.cost()) && self.change(of, |log| log.put(held))
    }

    /// Takes out the commit under that number.
    pub(crate) fn remove(&mut self, space_ix: usize, log: LogId, seq: u64) -> Option<Arc<Commit>> {
        self.change((space_ix, log), |log| log.take(seq)).map(|held| held.commit)
    }

    /// Returns the commit under that number.
    pub(crate) fn get(&self, space_ix: usize, log: LogId, seq: u64) -> Option<&Arc<Commit>> {
        self.logs.get(&(space_ix, log))?.commits.get(&seq).map(|held| &held.commit)
    }

    /// Takes out what vouches for a log up to the first that waits from `seq` on and has something.
    pub(crate) fn take_voucher(
        &mut self,
        space_ix: usize,
        log: LogId,
        seq: u64,
    ) -> Option<(Tip, Voucher)> {
        self.change((space_ix, log), |log| log.take_voucher(seq))
    }

    /// Takes a suspect in, [until the chunk is through](Self::chunk_is_through) at least.
    pub(crate) fn hold(&mut self, space_ix: usize, suspect: Held) {
        let tip = suspect.commit.tip();
        let of = (space_ix, tip.log);
        self.release(space_ix, &tip);
        if self.make_room(of, suspect.cost()) {
            self.change(of, |log| log.hold(suspect));
        } else {
            self.in_hand.insert((space_ix, tip), suspect);
        }
    }

    /// Drops the suspects for which there is no room and that nothing in the chunk built upon;
    /// tells whether there were none.
    pub(crate) fn chunk_is_through(&mut self) -> bool {
        std::mem::take(&mut self.in_hand).is_empty()
    }

    /// Returns a suspect.
    pub(crate) fn suspect(&self, space_ix: usize, tip: &Tip) -> Option<&Arc<Commit>> {
        self.held(space_ix, tip).map(|suspect| &suspect.commit)
    }

    /// Returns a suspect, and what vouches for it.
    pub(crate) fn held(&self, space_ix: usize, tip: &Tip) -> Option<&Held> {
        let in_hand = || self.in_hand.get(&(space_ix, *tip));
        let log = self.logs.get(&(space_ix, tip.log));
        log.and_then(|log| log.suspects.get(&(tip.seq, tip.id))).or_else(in_hand)
    }

    /// Returns a suspect that follows another in its log.
    pub(crate) fn after(&self, space_ix: usize, tip: &Tip) -> Option<&Held> {
        let (seq, least) = (tip.seq.checked_add(1)?, CommitId::ZERO);
        let log = self.logs.get(&(space_ix, tip.log));
        let waiting = log.map(|log| log.suspects.range((seq, least)..)).into_iter().flatten();
        let waiting = waiting.take_while(|((at, _), _)| *at == seq).map(|(_, held)| held);
        let from = (space_ix, Tip { seq, id: least, ..*tip });
        let in_hand = self.in_hand.range(from..);
        let in_hand = in_hand
            .take_while(|((space, at), _)| (*space, at.log, at.seq) == (space_ix, tip.log, seq));
        let in_hand = in_hand.map(|(_, held)| held);
        waiting.chain(in_hand).find(|held| held.commit.prev() == tip.id)
    }

    /// Takes out a suspect.
    pub(crate) fn release(&mut self, space_ix: usize, tip: &Tip) -> Option<Held> {
        let in_hand = self.in_hand.remove(&(space_ix, *tip));
        in_hand.or_else(|| self.change((space_ix, tip.log), |log| log.release(tip)))
    }

    /// Drops what waits of a log, suspects aside.
    pub(crate) fn forget(&mut self, space_ix: usize, log: &LogId) {
        self.change((space_ix, *log), |log| while log.pop_last_commit().is_some() {});
    }

    /// Makes room for a commit at the cost of logs that take more than its own would with it; tells
    /// whether there is room now.
    fn make_room(&mut self, of: Of, bytes: usize) -> bool {
        let share = self.logs.get(&of).map_or(0, |log| log.bytes) + bytes;
        while self.bytes > 0 && self.bytes + bytes > self.bytes_max {
            if mutant!("waiting-room-unbounded") {
                break;
            }
            let Some(&(_, largest)) = self.shares.last().filter(|(most, _)| *most > share) else {
                sometimes!("store-waiting-room-full");
                return false;
            };
            sometimes!("store-waiting-gives-way");
            match self.change(largest, OfLog::pop_last_suspect) {
                // It may be of the same chunk.
                Some(suspect) => {
                    drop(self.in_hand.insert((largest.0, suspect.commit.tip()), suspect))
                }
                None => drop(self.change(largest, OfLog::pop_last_commit)),
            }
        }
        true
    }

    /// Changes what waits of a log.
    fn change<T>(&mut self, of: Of, change: impl FnOnce(&mut OfLog) -> T) -> T {
        let log = self.logs.entry(of).or_default();
        let before = log.bytes;
        let outcome = change(log);
        let after = log.bytes;
        self.shares.remove(&(before, of));
        if after == 0 {
            self.logs.remove(&of);
        } else {
            self.shares.insert((after, of));
        }
        self.bytes = self.bytes - before + after;
        outcome
    }

    /// Returns the logs of a space of which commits wait.
    pub(crate) fn logs(&self, space_ix: usize) -> Vec<LogId> {
        let logs = self.logs.range((space_ix, LogId::default())..);
        let logs = logs.take_while(|((space, _), _)| *space == space_ix);
        logs.filter(|(_, log)| !log.commits.is_empty()).map(|((_, log), _)| *log).collect()
    }

    /// Returns how many commits wait, suspects aside.
    pub(crate) fn len(&self) -> usize {
        self.logs.values().map(|log| log.commits.len()).sum()
    }
}

impl OfLog {
    fn put(&mut self, held: Held) -> bool {
        self.bytes += held.cost();
        self.commits.insert(held.commit.seq(), held).is_none()
    }

    fn take(&mut self, seq: u64) -> Option<Held> {
        let held = self.commits.remove(&seq)?;
        self.bytes -= held.cost();
        Some(held)
    }

    fn hold(&mut self, suspect: Held) {
        self.bytes += suspect.cost();
        let Tip { seq, id, .. } = suspect.commit.tip();
        self.suspects.insert((seq, id), suspect);
    }

    fn release(&mut self, tip: &Tip) -> Option<Held> {
        let suspect = self.suspects.remove(&(tip.seq, tip.id))?;
        self.bytes -= suspect.cost();
        Some(suspect)
    }

    fn take_voucher(&mut self, seq: u64) -> Option<(Tip, Voucher)> {
        let mut held = self.commits.range_mut(seq..).map(|(_, held)| held);
        let held = held.find(|held| held.voucher.is_some())?;
        let before = held.cost();
        let voucher = held.voucher.take()?;
        self.bytes -= before - held.cost();
        Some((held.commit.tip(), voucher))
    }

    fn pop_last_suspect(&mut self) -> Option<Held> {
        let tip = self.suspects.last_key_value()?.1.commit.tip();
        self.release(&tip)
    }

    fn pop_last_commit(&mut self) -> Option<Held> {
        let seq = *self.commits.last_key_value()?.0;
        self.take(seq)
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

    fn some_commits() -> impl Strategy<Value = Vec<Commit>> {
        prop::collection::vec(arbitrary::some_commit(), 1..12)
    }

    fn held(commit: &Commit, hashes: usize) -> Held {
        let (space, key) = (commit.space(), KeyPair::from_seed([1; 32]));
        let own = Tip { log: LogId { replica: key.id(), incarnation: 1 }, ..commit.tip() };
        let attestation = Attestation::sign(&key, space, own, [0; 32]);
        let voucher = Some(Voucher { attestation, proof: vec![[0; 32]; hashes] });
        Held { commit: Arc::new(commit.clone()), voucher }
    }

    /// What is counted is what is there.
    fn check(waiting: &Waiting) -> Result<(), TestCaseError> {
        for log in waiting.logs.values() {
            let commits = log.commits.values().chain(log.suspects.values());
            prop_assert_eq!(log.bytes, commits.map(Held::cost).sum::<usize>());
            prop_assert!(log.bytes > 0);
        }
        let shares = waiting.logs.iter().map(|(of, log)| (log.bytes, *of));
        prop_assert_eq!(&waiting.shares, &shares.collect());
        prop_assert_eq!(
            waiting.bytes,
            waiting.shares.iter().map(|(bytes, _)| bytes).sum::<usize>()
        );
        let room = waiting.bytes <= waiting.bytes_max;
        prop_assert!(room || waiting.len() + suspects(waiting) == 1, "one of any size, or none");
        Ok(())
    }

    fn suspects(waiting: &Waiting) -> usize {
        waiting.logs.values().map(|log| log.suspects.len()).sum()
    }

    proptest! {
        #[test]
        fn the_room_counts_what_is_in_it(
            commits in some_commits(),
            hashes in 0..9_usize,
            bytes_max in 0..9000_usize,
            suspect in any::<u16>(),
            takes in any::<u16>(),
        ) {
            let mut waiting = Waiting::new(bytes_max);
            let among = |bits: u16, n: usize| bits >> n & 1 == 1;
            for (n, commit) in commits.iter().enumerate() {
                if among(suspect, n) {
                    waiting.hold(0, held(commit, hashes));
                } else {
                    waiting.insert(0, held(commit, hashes));
                }
                check(&waiting)?;
                let kept = waiting.suspect(0, &commit.tip()).is_some();
                prop_assert_eq!(kept, among(suspect, n), "in hand at least");
                if among(takes, n) {
                    waiting.take_voucher(0, commit.log(), commit.seq());
                    check(&waiting)?;
                }
            }
            let dropped = !waiting.chunk_is_through();
            let lost = commits.iter().enumerate().any(|(n, commit)| {
                among(suspect, n) && waiting.suspect(0, &commit.tip()).is_none()
            });
            prop_assert!(lost || !dropped);
            for (n, commit) in commits.iter().enumerate() {
                if among(takes, n) {
                    waiting.remove(0, commit.log(), commit.seq());
                    waiting.release(0, &commit.tip());
                    check(&waiting)?;
                }
            }
            commits.iter().for_each(|commit| waiting.forget(0, &commit.log()));
            prop_assert_eq!(waiting.len(), 0);
            check(&waiting)?;
            commits.iter().for_each(|commit| drop(waiting.release(0, &commit.tip())));
            prop_assert_eq!((waiting.bytes, waiting.logs.len()), (0, 0));
        }

        #[test]
        fn a_commit_gets_its_voucher_back_once(
            commit in arbitrary::some_commit(),
            hashes in 0..9_usize,
        ) {
            let mut waiting = Waiting::new(usize::MAX);
            waiting.insert(0, held(&commit, hashes));
            let (log, seq) = (commit.log(), commit.seq());
            let taken = waiting.take_voucher(0, log, seq).map(|(tip, _)| tip);
            prop_assert_eq!(taken, Some(commit.tip()));
            prop_assert!(waiting.take_voucher(0, log, seq).is_none());
        }

        /// Whoever fills the room with what never becomes ready takes it from nobody else.
        #[test]
        fn who_takes_most_gives_way(commits in some_commits(), honest in arbitrary::some_commit()) {
            let full: usize = commits.iter().map(|commit| held(commit, 0).cost()).sum();
            let mut waiting = Waiting::new(full);
            for (commit, seq) in commits.iter().zip(1..) {
                // All of them in one log, other than that of the honest.
                let of = (0, LogId::default());
                waiting.change(of, |log| {
                    let held = held(commit, 0);
                    log.bytes += held.cost();
                    log.commits.insert(seq, held);
                });
            }
            prop_assume!(honest.log() != LogId::default());
            let fits = waiting.insert(0, held(&honest, 0));
            let is_fair = 2 * held(&honest, 0).cost() <= full;
            prop_assert!(fits || !is_fair, "half the room is everybody's of two");
            check(&waiting)?;
        }
    }
}
