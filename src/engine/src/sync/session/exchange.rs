//! What a session does with each message of the peer's.

use std::collections::BTreeMap;

use super::{ForkState, Phase, Session, Source, Step, out_of_turn};
use crate::base::{CommitId, LogId, sha256};
use crate::limits;
use crate::sync::batch::Batch;
use crate::sync::fork::ForkPoint;
use crate::sync::plan::{Diverged, plan};
use crate::sync::reconcile::{Reconciler, find, lacking};
use crate::sync::wire::follows;
use crate::sync::{Message, Open, Piece, RangeBody, RangeItem, Run, SyncError, Tip};

impl Session {
    pub(super) fn on_settled(
        &mut self,
        source: &dyn Source,
        message: Message,
    ) -> Result<(), SyncError> {
        let name = message.name();
        let done = self.peer_have.is_some();
        match message {
            Message::Want { last, runs, .. } if !done => self.on_want(last, runs),
            Message::Have { all, .. } if !done && self.asked_for.is_empty() => {
                self.peer_have = Some(all);
                self.forward += 1;
                Ok(())
            }
            Message::AskId { log, seq, id, .. } if !done => self.on_ask(source, log, seq, id),
            Message::Chunk { last_of_want, more, bytes, .. } => {
                self.on_chunk(last_of_want, more, bytes)
            }
            Message::IdAt { log, seq, id, .. } => self.on_id_at(source, log, seq, id),
            _ if done => out_of_turn(name, "the peer has said that it is done"),
            Message::Have { .. } => out_of_turn(name, "a request of the peer is not complete"),
            _ => out_of_turn(name, "frontiers have been compared"),
        }
    }

    pub(super) fn on_open(&mut self, source: &dyn Source, open: Open) {
        self.stats.round_trips += 1;
        self.forward += 1;
        let same_count =
            mutant!("same-count-is-in-sync") && open.logs == self.own.frontier.len() as u64;
        if open.digest.is_some() && open.digest == self.own.digest || same_count {
            self.end(Step::InSync);
            return;
        }
        if self.asks_for_proofs(&open.closed) {
            return;
        }
        self.peer_missing = open.missing;
        let Some(theirs) = open.frontier else {
            if self.own.frontier.len() > limits::FRONTIER_WHOLE_LOGS_MAX {
                self.begin_ranges(&open.nonce);
            }
            self.phase = Phase::TheirTurn;
            return;
        };
        if self.own.frontier.len() > limits::FRONTIER_WHOLE_LOGS_MAX {
            // The peer sent all it has, so the answer is what it lacks, and needs no other.
            let mut batch = Batch::default();
            batch.answer(LogId::default(), None, &lacking(&self.own.frontier, &theirs));
            self.send_batch(batch);
        }
        for tip in lacking(&theirs, &self.own.frontier) {
            learn(&mut self.theirs, &mut self.left_out, tip);
        }
        self.settle(source);
    }

    /// Ends the session if the peer knows of forks that this side does not: frontiers mean the same
    /// to both only when both know of the same forks.
    fn asks_for_proofs(&mut self, theirs: &[(LogId, u64)]) -> bool {
        let known = |log: &LogId, seq: u64| {
            let at = self.own.closed.binary_search_by_key(log, |(log, _)| *log);
            at.ok().and_then(|at| self.own.closed.get(at)).is_some_and(|(_, own)| *own <= seq)
        };
        let unknown = theirs.iter().filter(|(log, seq)| !known(log, *seq));
        let logs: Vec<LogId> = unknown.map(|(log, _)| *log).collect();
        if logs.is_empty() {
            return false;
        }
        sometimes!("sync-proofs-asked-for");
        self.send(Message::AskProofs { space: self.space, logs });
        self.end(Step::Unproven);
        true
    }

    fn begin_ranges(&mut self, theirs: &[u8; 16]) {
        let (first, second) =
            if self.initiator { (&self.nonce, theirs) } else { (theirs, &self.nonce) };
        sometimes!("sync-by-ranges");
        let salt = sha256("kdelta/reconcile/1", &[&self.space.0, first, second]);
        let reconciler = Reconciler::new(&salt, &self.own.frontier);
        if !self.initiator {
            self.send_batch(reconciler.first(&self.own.frontier));
        }
        self.reconciler = Some(reconciler);
    }

    pub(super) fn on_ranges(
        &mut self,
        source: &dyn Source,
        last: bool,
        items: &[RangeItem],
    ) -> Result<(), SyncError> {
        let Self { theirs, left_out, own, reply, .. } = self;
        let mut learn = |tip| learn(theirs, left_out, tip);
        for item in items {
            let from = self.incoming.item(item)?;
            match (&self.reconciler, &item.body) {
                (Some(own_side), _) => {
                    own_side.answer(&own.frontier, from, item, reply, &mut learn);
                }
                (None, RangeBody::Answer(tips)) => {
                    lacking(tips, &own.frontier).into_iter().for_each(&mut learn);
                }
                (None, RangeBody::Skip) => {}
                (None, _) => return out_of_turn("Ranges", "the whole frontier was sent before"),
            }
        }
        if !last {
            return Ok(());
        }
        self.batches += 1;
        self.forward += 1;
        if self.batches > limits::RECONCILE_BATCHES_MAX {
            return Err(SyncError::TooMany("batches of reconciliation"));
        }
        // The first batch that the initiator gets answers its hello.
        self.stats.round_trips += u32::from(self.batches > 1 || !self.initiator);
        let asked = std::mem::take(&mut self.incoming).asked;
        let reply = std::mem::take(&mut self.reply);
        let asks = reply.asks();
        if asked {
            self.send_batch(reply);
        }
        if !asks {
            self.settle(source);
        }
        Ok(())
    }

    fn on_want(&mut self, last: bool, runs: Vec<Run>) -> Result<(), SyncError> {
        let follows = match (self.asked_for.last(), runs.first()) {
            (Some(before), Some(first)) => follows(before, first),
            _ => true,
        };
        if !follows || (runs.is_empty() && !last) {
            return out_of_turn("Want", "its runs are not in order");
        }
        if self.asked_for.len() + runs.len() > limits::RUNS_PER_WANT_MAX {
            return Err(SyncError::TooMany("runs in a request"));
        }
        self.asked_for.extend(runs);
        if !last {
            return Ok(());
        }
        self.served += 1;
        if self.serving >= limits::WANTS_OPEN_MAX || self.served > limits::WANTS_PER_SESSION_MAX {
            return Err(SyncError::TooMany("requests for commits"));
        }
        self.serving += 1;
        let mut runs = std::mem::take(&mut self.asked_for);
        // The peer may not know yet that its chain is not ours.
        runs.retain(|run| !self.diverged.contains_key(&run.log()));
        self.steps.push_back(Step::Serve { runs });
        Ok(())
    }

    fn on_chunk(&mut self, last: bool, more: bool, bytes: Vec<u8>) -> Result<(), SyncError> {
        if self.wants_open == 0 {
            return Err(SyncError::Unsolicited("Chunk"));
        }
        match self.reassembly.part(bytes, more)? {
            Piece::Whole(chunk) if chunk.is_empty() => {}
            piece => self.steps.push_back(Step::Deliver(piece)),
        }
        if last {
            self.wants_open -= 1;
            self.stats.round_trips += 1;
            self.forward += 1;
        }
        Ok(())
    }

    fn on_ask(
        &mut self,
        source: &dyn Source,
        log: LogId,
        seq: u64,
        theirs: CommitId,
    ) -> Result<(), SyncError> {
        let ours = source.id_at(&log, seq);
        let found = self.forks.asked(log, seq, theirs, ours)?;
        if let Some(ours) = ours.filter(|ours| *ours != theirs) {
            let tip = |id| Tip { log, seq, id };
            let ours = find(&self.own.frontier, &log).copied().unwrap_or(tip(ours));
            let theirs = self.theirs.get(&log).copied().unwrap_or(tip(theirs));
            self.report(Diverged { ours, theirs, search: false })?;
        }
        self.send(Message::IdAt { space: self.space, log, seq, id: ours });
        self.fork_found(found);
        Ok(())
    }

    fn on_id_at(
        &mut self,
        source: &dyn Source,
        log: LogId,
        seq: u64,
        theirs: Option<CommitId>,
    ) -> Result<(), SyncError> {
        let ours = source.id_at(&log, seq);
        let (next, found) = self.forks.answer(log, seq, ours, theirs)?;
        self.stats.round_trips += 1;
        self.fork_found(found);
        if let Some((log, seq)) = next {
            self.ask(source, log, seq);
        }
        self.next_fork(source);
        Ok(())
    }

    /// Asks for an id, or ends the search where we do not hold our own commit.
    fn ask(&mut self, source: &dyn Source, log: LogId, seq: u64) {
        match source.id_at(&log, seq) {
            Some(id) => self.send(Message::AskId { space: self.space, log, seq, id }),
            None => self.forks.abandon(),
        }
    }

    /// Begins the next search, passing over those that cannot begin.
    fn next_fork(&mut self, source: &dyn Source) {
        while let Some((log, seq)) = self.forks.next() {
            self.ask(source, log, seq);
        }
    }

    fn fork_found(&mut self, found: Option<ForkPoint>) {
        if let Some((log, seq)) = found
            && self.diverged.insert(log, ForkState::Found) != Some(ForkState::Found)
        {
            sometimes!("sync-fork-found");
            self.forward += 1;
            self.steps.push_back(Step::ForkFound { log, seq });
        }
    }

    /// Reports, once, that the chains of a log part, and gives up what was expected of it.
    fn report(&mut self, diverged: Diverged) -> Result<(), SyncError> {
        let Diverged { ours, theirs, search } = diverged;
        let log = theirs.log;
        if self.diverged.contains_key(&log) {
            return Ok(());
        }
        if self.diverged.len() >= limits::SESSION_LOGS_MAX {
            return Err(SyncError::TooMany("diverging logs"));
        }
        self.diverged.insert(log, ForkState::Reported);
        self.targets.remove(&log);
        self.steps.push_back(Step::Diverged { log, ours, theirs });
        if search {
            self.forks.begin(log, ours.seq.min(theirs.seq));
        }
        Ok(())
    }

    /// Goes on to what follows from the differences, which are all known now.
    fn settle(&mut self, source: &dyn Source) {
        self.phase = Phase::Settled;
        self.reconciler = None;
        let plan = plan(&self.own, &self.theirs, &self.peer_missing, source, self.initiator);
        for diverged in plan.diverged {
            // Cannot fail: no more logs are learned of than may be reported.
            let _ = self.report(diverged);
        }
        let mut runs = plan.runs;
        runs.retain(|run| !self.diverged.contains_key(&run.log()));
        for run in &runs {
            let target = self.targets.entry(run.log()).or_default();
            *target = run.upto.seq.max(*target);
        }
        if !runs.is_empty() {
            self.steps.push_back(Step::Request(runs));
        }
        self.next_fork(source);
    }

    fn send_batch(&mut self, batch: Batch) {
        self.left_out += batch.left_out();
        for message in batch.into_messages(self.space) {
            self.send(message);
        }
    }
}

/// Notes an entry of the peer's that differs from ours, or counts it as left out.
fn learn(theirs: &mut BTreeMap<LogId, Tip>, left_out: &mut u64, tip: Tip) {
    if theirs.len() < limits::SESSION_LOGS_MAX || theirs.contains_key(&tip.log) {
        theirs.insert(tip.log, tip);
    } else {
        *left_out += 1;
    }
}
