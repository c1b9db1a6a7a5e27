//! What vouches for a part of a log that is handed on.
//!
//! An author signs its own log as it stands. Of another's log a store holds one voucher, for all
//! that it holds of it, and makes those for shorter parts from that. Where less could be taken than
//! was vouched for, it makes the one for what it took at once, while the ids of the rest are at
//! hand. Without one the part is not handed on: [`ReadError::Unvouched`]. One that was lost to
//! damage comes again with the last commit of its log, which each session asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::apply::kinds;
use super::chunk::Chunk;
use super::tables::LogTable;
use super::tail::MOVES_MAX;
use super::{AppendError, ReadError, Store, WriteError};
use crate::base::{CodecError, CommitId, LogId, Reader, SpaceId};
use crate::causal::Tip;
use crate::event::tree::{PrefixProof, Tree};
use crate::event::{Attestation, Commit, ForkProof, Voucher};
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

    /// Makes what vouches for the first `seq` commits of a branch from what vouches for more of it:
    /// it ends in the last of `beyond`, which follow `base`, and that counts.
    pub(super) fn part_of(
        &self,
        space_ix: usize,
        base: &Tip,
        beyond: &[CommitId],
        held: &Voucher,
        seq: u64,
    ) -> Result<Option<Voucher>, ReadError> {
        if base.seq + beyond.len() as u64 == seq {
            return Ok(Some(held.clone()));
        }
        let from = if base.seq == 0 { None } else { self.locate(space_ix, base)? };
        if from.is_none() && base.seq > 0 {
            return Ok(None);
        }
        let mut tree = self.tree_to(space_ix, from)?;
        beyond.iter().for_each(|id| tree.append(id));
        let ids = |index: u64| match (index.checked_sub(base.seq), from) {
            (Some(at), _) => beyond.get(usize::try_from(at).ok()?).copied(),
            (None, Some((name, _))) => self.commit_id(space_ix, &name, index + 1).ok(),
            (None, None) => None,
        };
        Ok(shorter(&tree, held, seq, &ids).ok())
    }

    /// Stores what vouches for branches that a repair took back: what did so before is in the log,
    /// but the tables remember only what came last of a log, be it of another branch. Costs a pass
    /// over the log.
    pub(super) fn vouch_from_log(&mut self, taken: &[(usize, Tip)]) -> Result<(), WriteError> {
        let lacks = |(space_ix, tip): &&(usize, Tip)| {
            let end = self.tables.get(*space_ix).and_then(|table| table.ending_in(tip));
            tip.log.replica != self.key.id() && end.is_some_and(|end| end.voucher.is_none())
        };
        let ends: Vec<(usize, Tip)> = taken.iter().filter(lacks).copied().collect();
        let logs: BTreeSet<LogId> = ends.iter().map(|(_, end)| end.log).collect();
        if logs.is_empty() {
            return Ok(());
        }
        let told = self.told_of_logs(&logs)?;
        for (space_ix, end) in ends {
            let space = self.table(space_ix)?.id;
            let proof = self.fork_proof(&space, &end.log).ok();
            let sides = proof.iter().flat_map(ForkProof::sides);
            let sides = sides.map(|side| (side.tip(), side.voucher()));
            let all = told.vouchers.iter().map(|(tip, voucher)| (*tip, voucher)).chain(sides);
            let made = all.filter(|(_, voucher)| voucher.attestation.space == space);
            let mut made = made.filter_map(|(tip, voucher)| {
                let beyond = told.between(&end, &tip)?;
                self.part_of(space_ix, &end, &beyond, voucher, end.seq).ok()?
            });
            let Some(voucher) = made.find(|made| made.covers(&space, &end).is_ok()) else {
                continue;
            };
            self.append_voucher(space_ix, end, voucher)?;
        }
        Ok(())
    }

    /// Stores what vouches for logs as far as a distrusted index remembers it: what is lost may be
    /// the record of it, and nobody else may have the log. It proves itself.
    pub(super) fn vouch_from_sidecars(&mut self) -> Result<(), WriteError> {
        for told in self.distrusted_tables() {
            let Some(space_ix) = self.local.space_index(&told.id) else { continue };
            let own = self.key.id();
            for log in told.logs().filter(|log| log.log.replica != own) {
                let Some(voucher) = log.voucher.clone() else { continue };
                let tip = log.tip();
                let here = self.table(space_ix)?.ending_in(&tip);
                let lacks = here.is_some_and(|here| here.voucher.is_none());
                if lacks && voucher.covers(&told.id, &tip).is_ok() {
                    self.append_voucher(space_ix, tip, voucher)?;
                }
            }
        }
        Ok(())
    }

    /// Reads from the log what it has of logs, counted or not.
    fn told_of_logs(&self, logs: &BTreeSet<LogId>) -> Result<OfLogs, ReadError> {
        let (mut told, mut names) = (OfLogs::default(), Vec::new());
        for segment in self.log.segments() {
            self.each_commit(segment.number, &mut names, |commit| {
                if logs.contains(&commit.log()) {
                    told.before.insert(commit.id(), commit.prev());
                }
            })?;
            names.drain(..names.len().saturating_sub(MOVES_MAX));
            for (_, record) in self.records_of(segment.number) {
                if record.kind == kinds::VOUCHER
                    && let Ok((_, seq, id, voucher)) = read_voucher(&record.body)
                {
                    let log = voucher.attestation.log;
                    let of_them = logs.contains(&log);
                    told.vouchers.extend(of_them.then_some((Tip { log, seq, id }, voucher)));
                }
            }
        }
        Ok(told)
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

/// What the log says of some logs.
#[derive(Debug, Default)]
struct OfLogs {
    /// What each commit follows.
    before: BTreeMap<CommitId, CommitId>,
    /// What vouches for the prefixes that end in these.
    vouchers: Vec<(Tip, Voucher)>,
}

impl OfLogs {
    /// Returns the ids of what follows `end` up to `tip`, if that is one branch.
    fn between(&self, end: &Tip, tip: &Tip) -> Option<Vec<CommitId>> {
        let count = tip.seq.checked_sub(end.seq).filter(|_| tip.log == end.log)?;
        let (mut ids, mut id) = (Vec::new(), tip.id);
        for _ in 0..count {
            ids.push(id);
            id = *self.before.get(&id)?;
        }
        ids.reverse();
        (id == end.id).then_some(ids)
    }
}

/// Reads the record of a voucher: the log's index in its segment, the last commit's seq and id, and
/// what vouches for the log up to there.
pub(super) fn read_voucher(body: &[u8]) -> Result<(u64, u64, CommitId, Voucher), CodecError> {
    let mut r = Reader::new(body);
    Ok((r.varint()?, r.varint()?, r.commit_id()?, Voucher::decode(&mut r)?))
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
