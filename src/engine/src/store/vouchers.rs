//! What vouches for a part of a log that is handed on.
//!
//! An author signs its own log as it stands. Of another's log a store holds one voucher, for all
//! that it holds of it, and makes those for shorter parts from that. It cannot make one for a part
//! whose voucher was for more than could be taken: [`ReadError::Unvouched`].

use super::{ReadError, Store};
use crate::base::{CommitId, LogId};
use crate::event::tree::{PrefixProof, Tree};
use crate::event::{Attestation, Voucher};
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
            None => return self.voucher_before_fork(space_ix, log, seq),
        };
        if seq == tip.seq {
            return Ok(held);
        }
        let entry = self.table(space_ix)?.log(log).ok_or(ReadError::UnknownEvent)?;
        let ids = |index: u64| self.commit_id(space_ix, log, index + 1).ok();
        shorter(&entry.tree, &held, seq, &ids)
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
    let proof = proof.map_err(|_| ReadError::Unvouched)?;
    Ok(Voucher { attestation: held.attestation.clone(), proof })
}
