//! Finds the forks that a repair would hide.
//!
//! Where a store's directory was copied, peers may hold what the copy wrote under numbers that this
//! store gave to commits of its own. As a rule one of the two is refused where the other is, and
//! that shows the fork. But if this store's own were set aside for damage, the copy's come in their
//! place as anything that is missing. Here the proof of such a fork is made, so that both sides
//! count. It cannot be made where the first commit that parts the log is lost; that of another's
//! log is made by whoever is whole.

use super::repair::Aside;
use super::{ReadError, Store, WriteError};
use crate::base::{CommitId, Instant, Now};
use crate::event::{Attestation, Commit, ForkSide, Voucher};
use crate::log::Disk;

impl<D: Disk + Clone> Store<D> {
    /// Closes the own logs of which something was set aside and another commit is in its place by
    /// now; tells whether there are any. What was set aside of them is set aside again.
    pub(super) fn close_own_forks(&mut self, hidden: &[Aside]) -> Result<bool, WriteError> {
        let mut closed = 0;
        for aside in hidden {
            let Some((space_ix, commit)) = self.parted(aside)? else { continue };
            let Some(side) = self.own_side(space_ix, &commit)? else { continue };
            let Some(proof) = self.prove(side) else { continue };
            // Nothing is known of the time but that it was later than all that is here.
            let now = Now { mono: Instant::default(), wall: self.table(space_ix)?.hlc.wall() };
            closed += self.keep_and_close(now, &[proof])?;
        }
        Ok(closed > 0)
    }

    /// Reads a commit that was set aside if its past is here, and another has its number.
    fn parted(&self, aside: &Aside) -> Result<Option<(usize, Commit)>, ReadError> {
        let id = aside.told.map(|(_, tip)| tip.id);
        let read = self.told_commit(&aside.body, &aside.dictionary, &[], aside.base_ms, id)?;
        let Some(commit) = read else { return Ok(None) };
        let Some(space_ix) = self.local.space_index(&commit.space()) else { return Ok(None) };
        let (log, seq) = (commit.log(), commit.seq());
        let table = self.table(space_ix)?;
        if table.is_suspect(&log, seq) || seq > table.seq(&log) {
            return Ok(None);
        }
        let before =
            if seq > 1 { self.commit_id(space_ix, &log, seq - 1)? } else { CommitId::ZERO };
        if before != commit.prev() || self.commit_id(space_ix, &log, seq)? == commit.id() {
            return Ok(None);
        }
        for dep in commit.deps() {
            if self.locate(space_ix, dep)?.is_none() {
                return Ok(None);
            }
        }
        // Read with ids that it did not mean it is another, but says the same at the same time.
        let held = self.whole_commit(space_ix, &log, seq)?;
        let said = |commit: &Commit| (commit.hlc(), commit.header().root);
        Ok((said(&held) != said(&commit)).then_some((space_ix, commit)))
    }

    /// Vouches for a commit of an own log that is not in the tables, and whose past is.
    fn own_side(&self, space_ix: usize, commit: &Commit) -> Result<Option<ForkSide>, ReadError> {
        let tip = commit.tip();
        let base = (tip.seq > 1).then(|| (tip.log, tip.seq - 1));
        let mut tree = self.tree_to(space_ix, base)?;
        tree.append(&tip.id);
        let attestation = Attestation::sign(&self.key, commit.space(), tip, tree.root());
        let voucher = Voucher { attestation, proof: Vec::new() };
        Ok(ForkSide::new(commit.header().clone(), voucher).ok())
    }
}
