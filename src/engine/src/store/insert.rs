//! Takes commits that came from elsewhere: checks what vouches for them, and applies what is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chunk::Chunk;
use super::{InsertError, ReadError, Store};
use crate::base::{CommitId, HlcClock, LogId, Now, SpaceId};
use crate::causal::Tip;
use crate::crdt::Supersedes;
use crate::event::{Commit, Kind};
use crate::log::Disk;

/// What came of a chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inserted {
    /// How many commits were applied.
    pub commits: u64,
    /// How many events were in them.
    pub events: u64,
    /// How many commits wait for their deps or their time.
    pub waiting: usize,
    /// What the sender holds: the last commit of each log in the chunk.
    pub tips: Vec<Tip>,
}

/// Why a commit is not applied now.
enum NotReady {
    Missing,
    Early(crate::base::DriftError),
}

impl<D: Disk + Clone> Store<D> {
    /// Takes a chunk: every commit in it that is new and vouched for is applied, or waits.
    ///
    /// Applied commits are in the log's open group on return and not yet durable.
    ///
    /// # Errors
    /// [`InsertError`] says whose fault it is. Commits before the culprit stay applied.
    pub fn insert_chunk(&mut self, now: Now, bytes: &[u8]) -> Result<Inserted, InsertError> {
        self.log.set_wall(now.wall);
        let chunk = Chunk::decode(bytes)?;
        let space_ix = self.space_index(&chunk.space)?;
        let last = self.check_chunk(space_ix, &chunk)?;
        let tips = chunk.commits.iter().map(|commit| (commit.log(), commit.tip()));
        let tips: BTreeMap<LogId, Tip> = tips.collect();
        let mut inserted = Inserted { tips: tips.into_values().collect(), ..Inserted::default() };
        for (log, tip) in &last {
            if let Some(voucher) = chunk.vouchers.get(log) {
                self.append_voucher(space_ix, *tip, voucher.clone())?;
            }
        }
        for commit in chunk.commits {
            if !last.contains_key(&commit.log())
                || commit.seq() <= self.seq(space_ix, &commit.log())
            {
                continue;
            }
            self.take(now, space_ix, Arc::new(commit), &mut inserted)?;
        }
        self.take_waiting(now, space_ix, &mut inserted)?;
        inserted.waiting = self.waiting.len();
        Ok(inserted)
    }

    /// Applies what waits and has become ready, in all spaces.
    ///
    /// # Errors
    /// As for [`insert_chunk`](Self::insert_chunk).
    pub fn retry_waiting(&mut self, now: Now) -> Result<Inserted, InsertError> {
        let mut inserted = Inserted::default();
        for space_ix in 0..self.tables.len() {
            self.take_waiting(now, space_ix, &mut inserted)?;
        }
        inserted.waiting = self.waiting.len();
        Ok(inserted)
    }

    /// Checks that each log's part of the chunk continues ours and is vouched for.
    ///
    /// Returns the last commit of each log that brings something new.
    fn check_chunk(
        &mut self,
        space_ix: usize,
        chunk: &Chunk,
    ) -> Result<BTreeMap<LogId, Tip>, InsertError> {
        let mut last: BTreeMap<LogId, Tip> = BTreeMap::new();
        for commit in &chunk.commits {
            last.insert(commit.log(), commit.tip());
        }
        last.retain(|log, tip| tip.seq > self.seq(space_ix, log));
        for base in &chunk.bases {
            let Some(tip) = last.get(&base.log) else { continue };
            let ours = self.seq(space_ix, &base.log);
            if base.seq > ours && !self.waits(space_ix, base) {
                return Err(InsertError::Gap { log: base.log, seq: base.seq + 1 });
            }
            let known = match base.seq {
                0 => CommitId::ZERO,
                seq if seq <= ours => self.commit_id(space_ix, &base.log, seq)?,
                _ => base.id,
            };
            if known != base.id {
                return Err(InsertError::Fork { log: base.log, seq: base.seq });
            }
            let voucher = chunk.vouchers.get(&base.log);
            let voucher = voucher.ok_or(InsertError::NoVoucher { log: base.log })?;
            voucher
                .covers(&chunk.space, tip)
                .map_err(|error| InsertError::Unvouched { log: base.log, error })?;
        }
        Ok(last)
    }

    /// Returns how many commits wait for their deps or their time.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    fn waits(&self, space_ix: usize, tip: &Tip) -> bool {
        self.waiting.get(space_ix, tip.log, tip.seq).is_some_and(|commit| commit.id() == tip.id)
    }

    fn take(
        &mut self,
        now: Now,
        space_ix: usize,
        commit: Arc<Commit>,
        inserted: &mut Inserted,
    ) -> Result<(), InsertError> {
        match self.ready(now, space_ix, &commit)? {
            Ok(()) => {
                inserted.commits += 1;
                inserted.events += commit.events().len() as u64;
                // A commit of our own that we do not have: the store was set back. What else was
                // forgotten cannot be known, so that the next write begins a new incarnation.
                let LogId { replica, incarnation } = commit.log();
                self.new_life |= replica == self.key.id() && incarnation == self.local.incarnation;
                self.append_commit(space_ix, commit)?;
                Ok(())
            }
            Err(reason) => {
                let log = commit.log();
                match (self.waiting.insert(space_ix, commit), reason) {
                    (true, _) => Ok(()),
                    (false, NotReady::Missing) => Err(InsertError::WaitingRoom),
                    (false, NotReady::Early(error)) => Err(InsertError::Early { log, error }),
                }
            }
        }
    }

    fn take_waiting(
        &mut self,
        now: Now,
        space_ix: usize,
        inserted: &mut Inserted,
    ) -> Result<(), InsertError> {
        let mut progress = true;
        while progress {
            progress = false;
            for log in self.waiting.logs(space_ix) {
                loop {
                    let next = self.seq(space_ix, &log) + 1;
                    let Some(commit) = self.waiting.get(space_ix, log, next).cloned() else {
                        break;
                    };
                    let ready = self.ready(now, space_ix, &commit);
                    if matches!(ready, Ok(Err(_))) {
                        break;
                    }
                    self.waiting.remove(space_ix, log, next);
                    ready?.ok();
                    inserted.commits += 1;
                    inserted.events += commit.events().len() as u64;
                    self.append_commit(space_ix, commit)?;
                    progress = true;
                }
            }
        }
        Ok(())
    }

    /// Tells whether a commit can be applied now.
    fn ready(
        &mut self,
        now: Now,
        space_ix: usize,
        commit: &Commit,
    ) -> Result<Result<(), NotReady>, InsertError> {
        if commit.seq() != self.seq(space_ix, &commit.log()) + 1 {
            return Ok(Err(NotReady::Missing));
        }
        for dep in commit.deps() {
            if dep.seq > self.seq(space_ix, &dep.log) {
                return Ok(Err(NotReady::Missing));
            }
        }
        if let Err(error) = HlcClock::check(commit.hlc(), now.wall) {
            return Ok(Err(NotReady::Early(error)));
        }
        self.check_past(space_ix, commit)?;
        Ok(Ok(()))
    }

    /// Checks what the format demands of a commit and its past: stamps grow, deps are what they
    /// say, and nothing is superseded that the author had not seen (FORMAT 4).
    fn check_past(&mut self, space_ix: usize, commit: &Commit) -> Result<(), InsertError> {
        let (log, seq) = (commit.log(), commit.seq());
        let invalid = |reason| InsertError::Invalid { log, seq, reason };
        let table = self.tables.get(space_ix).ok_or(ReadError::UnknownSpace)?;
        let prev = table.log(&log);
        if prev.is_some_and(|prev| prev.hlc >= commit.hlc()) {
            return Err(invalid("its stamp is not after that of the commit before it"));
        }
        if (commit.kind() == Kind::Genesis) != (SpaceId(commit.id().0) == table.id) {
            return Err(invalid("it is not this space's genesis"));
        }
        if prev.map_or(CommitId::ZERO, |prev| prev.id) != commit.prev() {
            return Err(InsertError::Fork { log, seq: seq - 1 });
        }
        for dep in commit.deps() {
            if self.commit_id(space_ix, &dep.log, dep.seq)? != dep.id {
                return Err(InsertError::Fork { log: dep.log, seq: dep.seq });
            }
            if self.commit_hlc(space_ix, &dep.log, dep.seq)? >= commit.hlc() {
                return Err(invalid("its stamp is not after that of a dep"));
            }
        }
        let table = self.tables.get(space_ix).ok_or(ReadError::UnknownSpace)?;
        let deps: Vec<(LogId, u64)> = commit.deps().iter().map(|d| (d.log, d.seq)).collect();
        let in_past = |of: &LogId, at: u64| {
            if *of == log {
                return at < seq;
            }
            let before = (seq > 1).then_some((log, seq - 1));
            before.iter().chain(&deps).any(|(head, head_seq)| {
                table.clocks.is_past((of, at), (head, *head_seq)).unwrap_or(false)
            })
        };
        for (index, event) in commit.events().iter().enumerate() {
            let holds = match &event.skeleton.supersedes {
                Supersedes::Dots(dots) => dots.iter().all(|dot| {
                    let own = dot.log == log && dot.seq == seq;
                    if own { usize::from(dot.index) < index } else { in_past(&dot.log, dot.seq) }
                }),
                Supersedes::Cut(cut) => {
                    cut.iter().all(|(of, at)| (*of == log && *at == seq) || in_past(of, *at))
                }
            };
            if !holds {
                return Err(invalid("it supersedes what its author had not seen"));
            }
        }
        Ok(())
    }
}
