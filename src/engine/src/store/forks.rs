//! Closes logs that their authors forked.
//!
//! Two commits of one log under one number prove that the replica was copied or lies. The proof is
//! kept in the log, spreads, and closes that log id on every replica that learns of it: the log
//! ends before the fork, and of what lies beyond counts only what other logs build upon. What must
//! be folded anew is replayed from where the fork lies; no cached state outlives that.
//!
//! A replica that finds its own log closed was copied, or set back to an older state. It goes on
//! under a new incarnation, whose first commit builds upon the old tip: so its own branch counts
//! everywhere. That commit is written before the log is closed, and is the only one that this store
//! ever writes unasked: without it, writes that were acknowledged here would be out of sight.

use super::apply::kinds;
use super::{InsertError, ReadError, Store, WriteError};
use crate::base::{LogId, Now, SpaceId};
use crate::causal::Tip;
use crate::event::{ForkProof, ForkSide};
use crate::limits;
use crate::log::{Disk, Position};

impl<D: Disk + Clone> Store<D> {
    /// Returns the closed logs of a space and where each is forked, ascending by log.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn closed_logs(&self, space: &SpaceId) -> Result<Vec<(LogId, u64)>, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        Ok(table.closed_logs().map(|(log, closed)| (log, closed.seq)).collect())
    }

    /// Tells whether a log is known to be forked at `seq` or before.
    pub fn is_closed(&self, space: &SpaceId, log: &LogId, seq: u64) -> bool {
        let table = self.space_index(space).and_then(|space_ix| self.table(space_ix));
        table.is_ok_and(|table| table.is_suspect(log, seq))
    }

    /// Tells whether anything of a log is held.
    pub fn holds_log(&self, space: &SpaceId, log: &LogId) -> bool {
        let table = self.space_index(space).and_then(|space_ix| self.table(space_ix));
        table.is_ok_and(|table| table.log(log).is_some())
    }

    /// Returns the logs whose proof lies in the log from `from` on, before `upto`.
    pub fn closed_between(&self, space: &SpaceId, from: Position, upto: Position) -> Vec<LogId> {
        let table = self.space_index(space).and_then(|space_ix| self.table(space_ix));
        let Ok(table) = table else { return Vec::new() };
        let inside = |position: Position| from <= position && position < upto;
        let closed = table.closed_logs().filter(|(_, closed)| inside(closed.position));
        closed.map(|(log, _)| log).collect()
    }

    /// Returns the name that all replicas use for a log, given that of the log or of one of its
    /// branches.
    pub fn origin(&self, space: &SpaceId, name: &LogId) -> LogId {
        let table = self.space_index(space).and_then(|space_ix| self.table(space_ix));
        table.map_or(*name, |table| table.origin(name))
    }

    /// Reads the proof that a log is forked. Costs two checks of a signature.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::UnknownEvent`] if the log is not closed here.
    pub fn fork_proof(&self, space: &SpaceId, log: &LogId) -> Result<ForkProof, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        let position = table.closed(log).ok_or(ReadError::UnknownEvent)?.position;
        let damaged = super::Damaged { segment: position.segment, offset: position.offset };
        let record = self.log.read(position).ok().filter(|r| r.kind == kinds::FORK_PROOF);
        let record = record.ok_or_else(|| damaged.clone())?;
        ForkProof::decode(&record.body).map_err(|_| ReadError::Damaged(damaged))
    }

    /// Returns this replica's side of a fork: the commit that it holds of a log under a number.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn fork_side(
        &mut self,
        space: &SpaceId,
        log: &LogId,
        seq: u64,
    ) -> Result<ForkSide, ReadError> {
        let space_ix = self.space_index(space)?;
        let header = self.whole_commit(space_ix, log, seq)?.header().clone();
        let voucher = self.voucher(space_ix, log, seq)?;
        ForkSide::new(header, voucher).map_err(|_| ReadError::Unvouched)
    }

    /// Makes a proof of somebody's side of a fork and this replica's own; none if they are no fork.
    pub fn prove(&mut self, side: ForkSide) -> Option<ForkProof> {
        let Tip { log, seq, .. } = side.tip();
        let own = self.fork_side(&side.space(), &log, seq).ok()?;
        ForkProof::new(own, side).ok()
    }

    /// Closes the logs that `proofs` speak of, and folds anew what follows from that; returns how
    /// many were not closed so far down before.
    ///
    /// Where commits beyond a fork are held it costs a replay from the first of them on.
    ///
    /// # Errors
    /// [`WriteError`] if the disk refuses; what was not closed stays as it was.
    pub fn close_forked(&mut self, now: Now, proofs: &[ForkProof]) -> Result<u64, WriteError> {
        self.log.set_wall(now.wall);
        let (mut closed, mut stale) = (0, false);
        for proof in proofs {
            let (log, seq) = (proof.log(), proof.seq());
            let Some(space_ix) = self.local.space_index(&proof.space()) else { continue };
            let table = self.table(space_ix)?;
            let known = table.closed(&log).is_some_and(|closed| closed.seq <= seq);
            let full = table.closed(&log).is_none()
                && table.closed_logs().count() >= limits::CLOSED_LOGS_MAX;
            if known || full {
                continue;
            }
            let reaches = table.reaches(&log, seq);
            if reaches {
                self.vouch_for_own(now, space_ix, log)?;
                self.keep_vouchers(space_ix, log, seq)?;
            }
            let position = self.append_proof(proof)?;
            self.waiting.forget(space_ix, &log);
            closed += 1;
            match self.tables.get_mut(space_ix) {
                Some(table) if !reaches => table.close(log, seq, position),
                _ => stale = true,
            }
        }
        if stale {
            self.flush()?;
            self.reload()?;
        }
        Ok(closed)
    }

    /// Builds upon this replica's own branch, under a new incarnation, unless something does.
    fn vouch_for_own(&mut self, now: Now, space_ix: usize, log: LogId) -> Result<(), WriteError> {
        let current = log.incarnation == self.local.incarnation;
        let own = current || self.local.past_incarnations.contains(&log.incarnation);
        if log.replica != self.key.id() || !own {
            return Ok(());
        }
        // Nothing more may be written to it, closed or not yet.
        self.new_life |= current;
        let table = self.table(space_ix)?;
        let tip = table.log(&log).map(super::tables::LogTable::tip);
        if !tip.is_some_and(|tip| table.heads.iter().any(|head| *head == tip)) {
            return Ok(());
        }
        let own = self.own_log()?;
        self.acknowledge_heads(now, space_ix, own)?;
        let heads = self.foreign_heads(space_ix, own);
        self.acknowledge(now, space_ix, own, &heads)
    }

    /// Stores what vouches for as much of a log, and of its branches, as other logs build upon: the
    /// voucher for their present ends will not be for what counts.
    fn keep_vouchers(&mut self, space_ix: usize, log: LogId, seq: u64) -> Result<(), WriteError> {
        if log.replica == self.key.id() {
            return Ok(());
        }
        let table = self.table(space_ix)?;
        let of_log = |name: &LogId| table.origin(name) == log;
        let names: Vec<LogId> = table.logs().map(|l| l.log).filter(|name| of_log(name)).collect();
        let others: Vec<(LogId, u64)> =
            table.logs().filter(|l| l.origin != log).map(|l| (l.log, l.seq)).collect();
        let upto = |name: &LogId| {
            let known = others.iter().filter_map(|(l, at)| table.clocks.known(l, *at, name));
            known.max().unwrap_or(0)
        };
        let ends: Vec<(LogId, u64)> = names.iter().map(|name| (*name, upto(name))).collect();
        for (name, end) in ends.into_iter().filter(|(_, end)| *end >= seq) {
            // Without a voucher of its own a branch counts here and is handed on by others.
            if let Ok(voucher) = self.voucher(space_ix, &name, end) {
                let id = self.commit_id(space_ix, &name, end)?;
                self.append_voucher(space_ix, Tip { log, seq: end, id }, voucher)?;
            }
        }
        Ok(())
    }
}

impl From<WriteError> for InsertError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Read(error) => Self::Read(error),
            WriteError::Log(error) => Self::Log(error),
            other => Self::Unwritten(other.to_string()),
        }
    }
}
