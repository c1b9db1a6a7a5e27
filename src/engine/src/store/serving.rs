//! What is still to be sent of several logs, in causal order over all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{ReadError, Store};
use crate::base::{Hlc, LogId, SpaceId};
use crate::causal::VersionVector;
use crate::event::Commit;
use crate::log::Disk;

/// A part of one log that a peer asks for: the commits after `after`, up to and with `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The log.
    pub log: LogId,
    /// The last seq that the peer has.
    pub after: u64,
    /// The last seq that it wants.
    pub upto: u64,
}

/// The parts of logs that are still to be sent.
///
/// What they need of the branches of forked logs comes with them, unasked: just before what builds
/// upon it, as it counts for nobody without that. Of each part the next commit is looked at to find
/// the order; few of those are kept in memory, the others are read again when it is their turn.
#[derive(Debug, Default)]
pub struct Serving {
    lanes: Vec<Lane>,
    /// The lanes whose next commit is known, by its stamp.
    order: BTreeSet<(Hlc, LogId, usize)>,
    /// The lanes whose next commit is still to be looked at.
    unread: Vec<usize>,
    branches: BTreeMap<LogId, Lane>,
    /// Whether `branches` says what the peer had of them at the start.
    begun: bool,
    /// Bytes of the commits that are kept.
    held: usize,
}

/// A log or branch that is served, by inner name.
#[derive(Debug)]
struct Lane {
    log: LogId,
    sent: u64,
    upto: u64,
    next: Option<Ahead>,
}

/// The next commit of a lane.
#[derive(Debug)]
struct Ahead {
    hlc: Hlc,
    commit: Option<Commit>,
}

/// Whose commit it is: a run's or a branch's.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    Run(usize),
    Branch(LogId),
}

impl Next {
    pub(super) fn is_branch(self) -> bool {
        matches!(self, Self::Branch(_))
    }
}

impl Serving {
    /// Starts to serve `runs`.
    pub fn new(runs: impl IntoIterator<Item = Run>) -> Self {
        let runs = runs.into_iter().filter(|run| run.after < run.upto);
        let lane = |run: Run| Lane { log: run.log, sent: run.after, upto: run.upto, next: None };
        let lanes: Vec<Lane> = runs.map(lane).collect();
        Self { unread: (0..lanes.len()).collect(), lanes, ..Self::default() }
    }

    /// Starts to serve `runs` to a peer that holds these parts of branches already, by inner name.
    pub fn beyond(runs: impl IntoIterator<Item = Run>, held: &[(LogId, u64)]) -> Self {
        let branches = held.iter().map(|(name, seq)| (*name, Lane::of_branch(*name, *seq)));
        Self { branches: branches.collect(), ..Self::new(runs) }
    }

    /// Tells whether all was sent.
    pub fn is_done(&self) -> bool {
        self.order.is_empty() && self.unread.is_empty()
    }

    fn lane(&mut self, next: Next) -> Option<&mut Lane> {
        match next {
            Next::Run(at) => self.lanes.get_mut(at),
            Next::Branch(name) => self.branches.get_mut(&name),
        }
    }

    /// Takes the next commit out of its lane, if it is kept there.
    fn take(&mut self, next: Next) -> Option<Commit> {
        let commit = self.lane(next)?.next.as_mut()?.commit.take()?;
        self.held -= commit.header().size as usize;
        Some(commit)
    }

    /// Keeps a commit that is not sent yet after all.
    pub(super) fn put_back(&mut self, next: Next, commit: Commit) {
        let (size, hlc) = (commit.header().size as usize, commit.hlc());
        if let Some(lane) = self.lane(next) {
            lane.next = Some(Ahead { hlc, commit: Some(commit) });
            self.held += size;
        }
    }

    /// Takes note that the next commit of a lane is sent; returns the inner name of its log.
    pub(super) fn sent(&mut self, next: Next, seq: u64) -> LogId {
        if let Next::Run(at) = next {
            self.pass(at);
            if self.lanes.get(at).is_some_and(|lane| seq < lane.upto) {
                self.unread.push(at);
            }
        }
        let Some(lane) = self.lane(next) else { return LogId::default() };
        (lane.sent, lane.next) = (seq, None);
        lane.log
    }

    /// Takes a lane out of the order.
    fn pass(&mut self, at: usize) {
        if let Some(Lane { log, next: Some(ahead), .. }) = self.lanes.get(at) {
            self.order.remove(&(ahead.hlc, *log, at));
        }
    }
}

impl<D: Disk + Clone> Store<D> {
    /// Returns what is to be sent next.
    ///
    /// # Errors
    /// [`ReadError`] if a commit is damaged here; the run that it is in is given up.
    pub(super) fn next_served(
        &mut self,
        space_ix: usize,
        serving: &mut Serving,
    ) -> Result<Option<(Next, Commit)>, ReadError> {
        while let Some(at) = serving.unread.pop() {
            let Some(lane) = serving.lanes.get(at) else { continue };
            let log = lane.log;
            match self.look_ahead(space_ix, serving, Next::Run(at)) {
                Ok(hlc) => drop(serving.order.insert((hlc, log, at))),
                Err(ReadError::UnknownEvent) => {}
                Err(error) => return Err(error),
            }
        }
        let Some((_, _, at)) = serving.order.first().copied() else { return Ok(None) };
        let next = match self.table(space_ix)?.is_unforked() {
            true => Next::Run(at),
            false => self.branch_before(space_ix, serving, at)?.map_or(Next::Run(at), Next::Branch),
        };
        if let Some(commit) = serving.take(next) {
            return Ok(Some((next, commit)));
        }
        let Some(Lane { log, sent, .. }) = serving.lane(next) else { return Ok(None) };
        let (log, seq) = (*log, *sent + 1);
        let commit = self.whole_commit(space_ix, &log, seq);
        if commit.is_err() {
            serving.pass(at);
        }
        Ok(Some((next, commit?)))
    }

    /// Reads as much of the next commit of a lane as there is room for; returns its stamp.
    fn look_ahead(
        &mut self,
        space_ix: usize,
        serving: &mut Serving,
        next: Next,
    ) -> Result<Hlc, ReadError> {
        let room = serving.held < HELD_BYTES_MAX;
        let Some(lane) = serving.lane(next) else { return Err(ReadError::UnknownEvent) };
        let seq = lane.sent + 1;
        let ahead = if room {
            let commit = self.whole_commit(space_ix, &lane.log, seq)?;
            Ahead { hlc: commit.hlc(), commit: Some(commit) }
        } else {
            Ahead { hlc: self.commit_hlc(space_ix, &lane.log, seq)?, commit: None }
        };
        let (hlc, kept) = (ahead.hlc, ahead.commit.as_ref().map(|c| c.header().size as usize));
        lane.next = Some(ahead);
        serving.held += kept.unwrap_or(0);
        Ok(hlc)
    }

    /// Returns the branch whose next commit comes first of those that the next commit of a lane
    /// builds upon and the peer does not have.
    fn branch_before(
        &mut self,
        space_ix: usize,
        serving: &mut Serving,
        at: usize,
    ) -> Result<Option<LogId>, ReadError> {
        let Some(lane) = serving.lanes.get(at) else { return Ok(None) };
        let (log, seq) = (lane.log, lane.sent + 1);
        self.begin_branches(space_ix, serving)?;
        let table = self.table(space_ix)?;
        let branches = table.logs().filter(|log| log.is_branch());
        let branches = branches.map(|branch| {
            let needed = table.clocks.known(&log, seq, &branch.log).unwrap_or(0);
            (branch.log, branch.first - 1, needed)
        });
        let branches: Vec<(LogId, u64, u64)> = branches.collect();
        let mut earliest = None;
        for (name, before, needed) in branches {
            let lane =
                serving.branches.entry(name).or_insert_with(|| Lane::of_branch(name, before));
            if lane.sent >= needed {
                continue;
            }
            let hlc = match &lane.next {
                Some(ahead) => ahead.hlc,
                None => self.look_ahead(space_ix, serving, Next::Branch(name))?,
            };
            earliest = earliest.into_iter().chain([(hlc, name)]).min();
        }
        Ok(earliest.map(|(_, name)| name))
    }

    /// Takes note of what the peer has of branches: all that its part of each run builds upon.
    fn begin_branches(&self, space_ix: usize, serving: &mut Serving) -> Result<(), ReadError> {
        if std::mem::replace(&mut serving.begun, true) {
            return Ok(());
        }
        let table = self.table(space_ix)?;
        for branch in table.logs().filter(|log| log.is_branch()) {
            let known = |lane: &Lane| table.clocks.known(&lane.log, lane.sent, &branch.log);
            let known = serving.lanes.iter().filter_map(known).max();
            let held = serving.branches.get(&branch.log).map(|lane| lane.sent);
            let sent = known.max(held).unwrap_or(0).max(branch.first - 1);
            serving.branches.insert(branch.log, Lane::of_branch(branch.log, sent));
        }
        Ok(())
    }

    /// Returns how much of each branch somebody holds who holds so much of each log, by inner name:
    /// all that it builds upon. Nothing in a space without forks.
    pub fn branches_below(&self, space: &SpaceId, version: &VersionVector) -> Vec<(LogId, u64)> {
        let table = self.space_index(space).and_then(|space_ix| self.table(space_ix));
        let Ok(table) = table else { return Vec::new() };
        let branches = table.logs().filter(|log| log.is_branch());
        let held = branches.filter_map(|branch| {
            let logs = table.logs().filter(|log| !log.is_branch());
            let known = logs.filter_map(|log| {
                let upto = version.get(&log.log).min(log.seq);
                table.clocks.known(&log.log, upto, &branch.log)
            });
            Some((branch.log, known.max()?))
        });
        held.collect()
    }
}

impl Lane {
    fn of_branch(log: LogId, sent: u64) -> Self {
        Self { log, sent, upto: u64::MAX, next: None }
    }
}

/// How many bytes of commits are kept for the order, give or take one commit.
const HELD_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{TestStore, now, open, pass, put, write};
    use super::*;
    use crate::causal::Tip;
    use crate::log::MemoryDisk;

    fn store(seed: u8) -> TestStore {
        open(&Arc::new(MemoryDisk::new()), seed)
    }

    #[test]
    fn large_commits_of_many_logs_are_sent_in_order_and_not_all_kept_meanwhile() {
        let mut hub = store(1);
        let space = hub.create_space(now(1), "default").unwrap();
        let value = format!("\"{}\"", "x".repeat(1 << 20));
        for seed in 2..12 {
            let mut author = store(seed);
            author.join_space(space, "default").unwrap();
            pass(&mut hub, &mut author, space);
            for ms in 0..2 {
                write(&mut author, ms * 100 + u64::from(seed), vec![put("key", &value)]);
            }
            pass(&mut author, &mut hub, space);
        }
        let whole = |tip: &Tip| Run { log: tip.log, after: 0, upto: tip.seq };
        let runs: Vec<Run> = hub.frontier(&space).unwrap().iter().map(whole).collect();
        let (mut serving, mut reader) = (Serving::new(runs), store(99));
        reader.join_space(space, "default").unwrap();
        let mut most = 0;
        while let Some(chunk) = hub.next_chunk(&space, &mut serving, 1 << 16).unwrap() {
            most = most.max(serving.held);
            // In causal order: nothing has to wait.
            assert_eq!(reader.insert_chunk(now(10_000), &chunk.bytes).unwrap().waiting, 0);
        }
        assert!(serving.is_done() && serving.held == 0 && most < HELD_BYTES_MAX + (2 << 20));
        assert_eq!(reader.state_hash(&space).unwrap(), hub.state_hash(&space).unwrap());
    }
}
