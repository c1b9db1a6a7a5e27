//! Closes logs that their authors forked.
//!
//! Two commits of one log under one number prove that the replica was copied or lies. The proof is
//! kept in the log, spreads, and closes that log id on every replica that learns of it: the log
//! ends before the fork, and of what lies beyond counts only what other logs build upon. What must
//! be folded anew is replayed from where the fork lies; no cached state outlives that.
//!
//! A replica that finds its own log closed was copied, or set back to an older state, and goes on
//! under a new incarnation. Whoever holds a branch that nobody built upon does so, in a commit
//! without events, before the log is closed: then it counts everywhere. That is the only commit
//! that this store ever writes unasked. Without it, what the owner of a copied replica wrote, and
//! was acknowledged, would go out of sight.

use std::collections::BTreeSet;

use super::apply::{body_of, kinds};
use super::{Damaged, InsertError, ReadError, Store, WriteError};
use crate::base::{Key, LogId, Now, SpaceId};
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

    /// Returns the logs whose proof lies in the log from `from` on, before `upto`, and where it
    /// lies.
    pub fn closed_between(
        &self,
        space: &SpaceId,
        from: Position,
        upto: Position,
    ) -> Vec<(LogId, Position)> {
        let table = self.space_index(space).and_then(|space_ix| self.table(space_ix));
        let Ok(table) = table else { return Vec::new() };
        let closed = table.closed_logs().map(|(log, closed)| (log, closed.position));
        closed.filter(|(_, at)| from <= *at && *at < upto).collect()
    }

    /// Returns the last commits that count of each branch of a closed log.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn branch_tips(&self, space: &SpaceId, log: &LogId) -> Result<Vec<Tip>, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        let mut tips: Vec<Tip> = table.branches(log).map(|branch| branch.tip()).collect();
        tips.sort_unstable();
        Ok(tips)
    }

    /// Returns the keys that were touched by commits of a closed log beyond its fork, as far as
    /// they came before the proof: what they show may have changed with it.
    ///
    /// Costs a pass over the log from the fork to the proof.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn forked_keys(&self, space: &SpaceId, log: &LogId) -> Result<Vec<Key>, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        let closed = table.closed(log).ok_or(ReadError::UnknownEvent)?;
        let from = table.segment_of(log, closed.seq.saturating_sub(1)).unwrap_or(0);
        let (mut keys, mut names) = (BTreeSet::new(), self.names_before(from)?);
        for segment in self.log.segments() {
            if segment.number < from || closed.position.segment < segment.number {
                continue;
            }
            self.each_commit(segment.number, &mut names, |commit| {
                let of_log = commit.space() == *space && commit.log() == *log;
                if of_log && commit.seq() >= closed.seq {
                    keys.extend(commit.events().iter().filter_map(|event| event.key()));
                }
            })?;
        }
        Ok(keys.into_iter().collect())
    }

    /// Returns this store's name for a commit's log, and its seq: for a branch of a closed log not
    /// the log's own id. None if the commit does not count here.
    pub fn inner_name(&self, space: &SpaceId, tip: &Tip) -> Option<(LogId, u64)> {
        self.locate(self.space_index(space).ok()?, tip).ok()?
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
        let body = body_of(kinds::FORK_PROOF, position, self.log.read(position))?;
        let Position { segment, offset } = position;
        ForkProof::decode(&body).map_err(|_| Damaged { segment, offset }.into())
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
    /// What is held of a branch and nobody built upon is built upon first, by a commit without
    /// events: so it goes on counting, here and everywhere. Where commits beyond a fork are held it
    /// all costs a replay from the first of them on.
    ///
    /// # Errors
    /// [`WriteError`] if the disk refuses; what was not closed stays as it was.
    pub fn close_forked(&mut self, now: Now, proofs: &[ForkProof]) -> Result<u64, WriteError> {
        self.log.set_wall(now.wall);
        self.keep_and_close(now, proofs)
    }

    /// The same, at a time that is no clock's.
    pub(super) fn keep_and_close(
        &mut self,
        now: Now,
        proofs: &[ForkProof],
    ) -> Result<u64, WriteError> {
        if proofs.iter().any(|proof| proof.log().replica == self.key.id()) {
            self.read_again()?;
        }
        for proof in proofs {
            if let Some((space_ix, true)) = self.concerns(proof)? {
                self.vouch_for_held(now, space_ix, proof.log(), proof.seq())?;
            }
        }
        self.close_logs(proofs)
    }

    /// Reads once more what could not be read when the store was opened. What was written here, and
    /// is not built upon when its log is closed, counts no more, though a later opening reads it.
    fn read_again(&mut self) -> Result<(), WriteError> {
        if self.blind.noticed.is_empty() || self.distrusted.is_some() {
            return Ok(());
        }
        let unread = self.notice_anew();
        if unread == self.blind.noticed {
            return Ok(());
        }
        self.damaged_places.retain(|place| !unread.contains(place));
        self.damaged_places.extend(&self.blind.noticed);
        self.flush()?;
        Ok(self.reload()?)
    }

    /// The same, building upon nothing: what nobody else built upon stops counting.
    pub(crate) fn close_logs(&mut self, proofs: &[ForkProof]) -> Result<u64, WriteError> {
        let (mut closed, mut stale) = (0, false);
        for proof in proofs {
            let Some((space_ix, reaches)) = self.concerns(proof)? else { continue };
            let (log, seq) = (proof.log(), proof.seq());
            if reaches {
                self.keep_vouchers(space_ix, log, seq)?;
            }
            let position = self.append_proof(proof)?;
            self.waiting.forget(space_ix, &log);
            closed += 1;
            match self.tables.get_mut(space_ix) {
                Some(table) if !reaches => {
                    sometimes!("store-log-closed-ahead");
                    table.close(log, seq, position);
                }
                _ => stale = true,
            }
        }
        if stale {
            sometimes!("store-log-closed-and-folded-anew");
            self.flush()?;
            self.reload()?;
        }
        Ok(closed)
    }

    /// Tells which space a proof is about, and whether commits beyond the fork are held; none if it
    /// says nothing new, or there are too many.
    fn concerns(&self, proof: &ForkProof) -> Result<Option<(usize, bool)>, ReadError> {
        let (log, seq) = (proof.log(), proof.seq());
        let Some(space_ix) = self.local.space_index(&proof.space()) else { return Ok(None) };
        let table = self.table(space_ix)?;
        let known = table.is_suspect(&log, seq);
        let full =
            table.closed(&log).is_none() && table.closed_logs().count() >= limits::CLOSED_LOGS_MAX;
        Ok((!known && !full).then(|| (space_ix, table.reaches(&log, seq))))
    }

    /// Builds upon what is held of a log, unless something does, and upon parts of it if there is
    /// much from the fork at `seq` on; its own author does so under a new incarnation.
    fn vouch_for_held(
        &mut self,
        now: Now,
        space_ix: usize,
        log: LogId,
        seq: u64,
    ) -> Result<(), WriteError> {
        // Nothing more may be written to it, though it is not closed yet.
        let LogId { replica, incarnation } = log;
        self.new_life |= replica == self.key.id() && incarnation == self.local.incarnation;
        self.build_upon_parts(now, space_ix, log, seq)?;
        let table = self.table(space_ix)?;
        let tip = table.log(&log).map(super::tables::LogTable::tip);
        if !tip.is_some_and(|tip| table.heads.iter().any(|head| *head == tip)) {
            return Ok(());
        }
        sometimes!("store-branch-kept");
        let own = self.own_log()?;
        self.acknowledge_heads(now, space_ix, own)?;
        let heads = self.foreign_heads(space_ix, own);
        match self.acknowledge(now, space_ix, own, &heads) {
            // Who has no rights here keeps nothing by building upon it.
            Err(WriteError::Unauthorised(_)) => Ok(()),
            outcome => outcome,
        }
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
