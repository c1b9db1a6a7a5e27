//! What vouches for a part of a log that is handed on.
//!
//! An author signs its own log as it stands. Of another's log a store holds one voucher, for all
//! that it holds of it, and makes those for shorter parts from that. Where less could be taken than
//! was vouched for, it makes the one for what it took at once, while the ids of the rest are at
//! hand. Without one the part is not handed on: [`ReadError::Unvouched`]. One that was lost to
//! damage comes again with the last commit of its log, which each session asks for.

use std::sync::Arc;

use super::chunk::Chunk;
use super::tables::LogTable;
use super::{AppendError, ReadError, Store};
use crate::base::{CommitId, LogId, SpaceId};
use crate::causal::Tip;
use crate::event::tree::{PrefixProof, Tree};
use crate::event::{Attestation, Commit, Voucher};
use crate::log::Disk;

impl<D: Disk + Clone> Store<D> {
    /// Returns what vouches for the prefix of a log or branch that ends at `seq`.
    pub(crate) fn voucher(
        &mut self,
        space_ix: usize,
        log: &LogId,
        seq: u64,
    ) -> Result<Voucher, ReadError> {
        let table = self.table(space_ix)?;
        let entry = table.log(log).ok_or(ReadError::UnknownEvent)?;
        let (tip, space) = (entry.tip(), table.id);
        let held = match &entry.voucher {
            Some(voucher) => voucher.clone(),
            None if log.replica == self.key.id() => {
                let root = entry.tree.root();
                let attestation = Attestation::sign(&self.key, space, tip, root);
                let voucher = Voucher { attestation, proof: Vec::new() };
                if let Some(table) = self.tables.get_mut(space_ix) {
                    table.vouch(tip, voucher.clone());
                }
                voucher
            }
            None => {
                sometimes!("store-vouched-by-a-fork-proof");
                return self.voucher_before_fork(space_ix, log, seq);
            }
        };
        if seq == tip.seq {
            return Ok(held);
        }
        let entry = self.table(space_ix)?.log(log).ok_or(ReadError::UnknownEvent)?;
        let ids = |index: u64| self.commit_id(space_ix, log, index + 1).ok();
        shorter(&entry.tree, &held, seq, &ids)
    }

    /// Returns the last commits of others' logs that nothing here vouches for: what did is lost.
    /// Branches aside, and logs that end in a fork, which its proof vouches for.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn unvouched(&self, space: &SpaceId) -> Result<Vec<Tip>, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        let own = self.key.id();
        let ends = table.logs().filter(|log| {
            let forked = || table.is_suspect(&log.log, log.seq + 1);
            let vouched = log.voucher.is_some() || log.log.replica == own || forked();
            !log.is_branch() && !vouched
        });
        Ok(ends.map(LogTable::tip).collect())
    }

    /// Takes what vouches for logs of a chunk that are here, and that nothing here vouches for.
    pub(crate) fn vouch_anew<'a>(
        &mut self,
        space_ix: usize,
        chunk: &Chunk,
        known: impl Iterator<Item = &'a Tip>,
    ) -> Result<(), AppendError> {
        for tip in known {
            let table = self.table(space_ix)?;
            let lacking = table.ending_in(tip).filter(|log| log.voucher.is_none());
            let voucher = chunk.vouchers.get(&tip.log).filter(|_| lacking.is_some());
            if let Some(voucher) = voucher.filter(|v| v.covers(&table.id, tip).is_ok()) {
                sometimes!("store-vouched-anew");
                self.append_voucher(space_ix, *tip, voucher.clone())?;
            }
        }
        Ok(())
    }

    /// Stores what vouches for as much of each log as was taken of it, where the rest waits or came
    /// among `refused`: both may be gone when a peer asks.
    pub(crate) fn vouch_for_taken(
        &mut self,
        space_ix: usize,
        refused: &[Arc<Commit>],
    ) -> Result<(), AppendError> {
        let mut made = Vec::new();
        for (log, end, held) in self.table(space_ix)?.unvouched() {
            let beyond = |seq: u64| {
                let among = || refused.iter().find(|c| c.log() == log.log && c.seq() == seq);
                self.waiting.get(space_ix, log.log, seq).or_else(among).map(|commit| commit.id())
            };
            let mut tree = log.tree.clone();
            let rest: Option<Vec<CommitId>> = (log.seq + 1..=end.seq).map(beyond).collect();
            let Some(rest) = rest.filter(|rest| rest.last() == Some(&end.id)) else { continue };
            rest.iter().for_each(|id| tree.append(id));
            let ids = |index: u64| match index.checked_sub(log.seq) {
                Some(at) => rest.get(usize::try_from(at).ok()?).copied(),
                None => self.commit_id(space_ix, &log.log, index + 1).ok(),
            };
            if let Ok(voucher) = shorter(&tree, held, log.seq, &ids) {
                made.push((log.tip(), voucher));
            }
        }
        for (tip, voucher) in made {
            self.append_voucher(space_ix, tip, voucher)?;
        }
        Ok(())
    }

    /// Returns what vouches for a part of a closed log before its fork, if all of that is here: the
    /// proof of the fork has a voucher for the commit after it.
    fn voucher_before_fork(
        &self,
        space_ix: usize,
        log: &LogId,
        seq: u64,
    ) -> Result<Voucher, ReadError> {
        let table = self.table(space_ix)?;
        let entry = table.log(log).ok_or(ReadError::UnknownEvent)?;
        let proof = self.fork_proof(&table.id, log).map_err(|_| ReadError::Unvouched)?;
        if entry.seq + 1 != proof.seq() || entry.id != proof.prev() {
            return Err(ReadError::Unvouched);
        }
        let [side, _] = proof.sides();
        let beyond = side.tip();
        let mut tree = entry.tree.clone();
        tree.append(&beyond.id);
        let ids = |index: u64| {
            let own = || self.commit_id(space_ix, log, index + 1).ok();
            if index + 1 == beyond.seq { Some(beyond.id) } else { own() }
        };
        shorter(&tree, side.voucher(), seq, &ids)
    }
}

/// Makes what vouches for the first `seq` commits of a tree from what vouches for all of them.
fn shorter(
    tree: &Tree,
    held: &Voucher,
    seq: u64,
    ids: &dyn Fn(u64) -> Option<CommitId>,
) -> Result<Voucher, ReadError> {
    let (prefix, size) = (tree.size(), held.attestation.seq);
    let proof = if prefix == size {
        tree.proof(seq - 1, size, ids)
    } else {
        tree.extend_proof(seq - 1, PrefixProof { prefix, size, hashes: &held.proof }, ids)
    };
    sometimes!("store-cannot-vouch", proof.is_err());
    let proof = proof.map_err(|_| ReadError::Unvouched)?;
    Ok(Voucher { attestation: held.attestation.clone(), proof })
}
