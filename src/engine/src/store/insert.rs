//! Takes commits that came from elsewhere: checks what vouches for them, and applies what is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::authority::TooMuch;
use super::chunk::Chunk;
use super::waiting::Held;
use super::{InsertError, ReadError, Store};
use crate::base::{CommitId, Hlc, HlcClock, LogId, Now, SpaceId};
use crate::causal::Tip;
use crate::crdt::{Supersedes, counts_again};
use crate::event::{Commit, Kind, Voucher};
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

/// What vouches for the new part of each log in a chunk, and the last commit of that part; what is
/// written or put by is taken out.
type Vouched = BTreeMap<LogId, (Tip, Voucher)>;

/// Takes out what vouches for a log up to `tip`.
fn take_if_for(vouched: &mut Vouched, tip: &Tip) -> Option<Voucher> {
    vouched.get(&tip.log).filter(|(last, _)| last == tip)?;
    vouched.remove(&tip.log).map(|(_, voucher)| voucher)
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
        self.past_rot(InsertError::to_rebuild, |store| store.insert_once(now, bytes))
    }

    fn insert_once(&mut self, now: Now, bytes: &[u8]) -> Result<Inserted, InsertError> {
        self.log.set_wall(now.wall);
        let chunk = Chunk::decode(bytes)?;
        let space_ix = self.space_index(&chunk.space)?;
        let last = self.check_chunk(space_ix, &chunk)?;
        let tips = chunk.commits.iter().map(|commit| (commit.log(), commit.tip()));
        let tips: BTreeMap<LogId, Tip> = tips.collect();
        let mut inserted = Inserted { tips: tips.into_values().collect(), ..Inserted::default() };
        let mut vouched: Vouched = last
            .iter()
            .filter_map(|(log, tip)| Some((*log, (*tip, chunk.vouchers.get(log)?.clone()))))
            .collect();
        let known = inserted.tips.iter().filter(|tip| !last.contains_key(&tip.log));
        self.vouch_anew(space_ix, &chunk, known)?;
        let commits: Vec<Arc<Commit>> = chunk.commits.into_iter().map(Arc::new).collect();
        let mut taken = Ok(());
        let brings = |commit: &&Arc<Commit>| last.contains_key(&commit.log()) || counts_again();
        for commit in commits.iter().filter(brings) {
            taken = self.take_new(now, space_ix, commit, &mut vouched, &mut inserted);
            if taken.is_err() {
                break;
            }
        }
        let taken = taken.and_then(|()| self.take_waiting(now, space_ix, &mut inserted));
        let all_kept = self.waiting.chunk_is_through();
        self.vouch_for_taken(space_ix, &commits)?;
        taken?;
        if !all_kept {
            return Err(InsertError::WaitingRoom);
        }
        inserted.waiting = self.waiting.len();
        Ok(inserted)
    }

    /// Takes a commit of a chunk if it is new.
    fn take_new(
        &mut self,
        now: Now,
        space_ix: usize,
        commit: &Arc<Commit>,
        vouched: &mut Vouched,
        inserted: &mut Inserted,
    ) -> Result<(), InsertError> {
        let table = self.table(space_ix)?;
        if !table.is_suspect(&commit.log(), commit.seq()) {
            if commit.seq() > table.seq(&commit.log()) {
                return self.take(now, space_ix, Arc::clone(commit), vouched, inserted);
            }
            if counts_again() {
                self.apply_states(space_ix, commit, commit.log());
            }
            return Ok(());
        }
        match self.locate(space_ix, &commit.tip())? {
            Some(_) => Ok(()),
            None => {
                let voucher = take_if_for(vouched, &commit.tip());
                self.waiting.hold(space_ix, Held { commit: Arc::clone(commit), voucher });
                Ok(())
            }
        }
    }

    /// Applies what waits and has become ready, in all spaces.
    ///
    /// # Errors
    /// As for [`insert_chunk`](Self::insert_chunk).
    pub fn retry_waiting(&mut self, now: Now) -> Result<Inserted, InsertError> {
        let mut inserted = Inserted::default();
        for space_ix in 0..self.tables.len() {
            self.take_waiting(now, space_ix, &mut inserted)?;
            self.vouch_for_taken(space_ix, &[])?;
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
        let table = self.table(space_ix)?;
        let mut last: BTreeMap<LogId, Tip> = BTreeMap::new();
        for commit in &chunk.commits {
            let tip = commit.tip();
            // The id says nothing of what was left out, so whoever brings it could empty it.
            if commit.has_erased() && !mutant!("hollow-taken") {
                return Err(InsertError::Hollow { log: tip.log, seq: tip.seq });
            }
            let held = table.log(&tip.log);
            if held.is_some_and(|held| held.seq == tip.seq && held.id != tip.id) {
                return Err(InsertError::Fork { log: tip.log, seq: tip.seq });
            }
            last.insert(tip.log, tip);
        }
        for (log, tip) in std::mem::take(&mut last) {
            if self.is_new(space_ix, &tip)? {
                last.insert(log, tip);
            }
        }
        for base in &chunk.bases {
            let Some(tip) = last.get(&base.log) else { continue };
            self.check_base(space_ix, base)?;
            let voucher = chunk.vouchers.get(&base.log);
            let voucher = voucher.ok_or(InsertError::NoVoucher { log: base.log })?;
            voucher
                .covers(&chunk.space, tip)
                .map_err(|error| InsertError::Unvouched { log: base.log, error })?;
        }
        Ok(last)
    }

    /// Tells whether a commit is not here yet.
    fn is_new(&self, space_ix: usize, tip: &Tip) -> Result<bool, InsertError> {
        let table = self.table(space_ix)?;
        if table.is_suspect(&tip.log, tip.seq) {
            return Ok(self.locate(space_ix, tip)?.is_none());
        }
        if tip.seq > table.seq(&tip.log) {
            return Ok(true);
        }
        if self.commit_id(space_ix, &tip.log, tip.seq)? != tip.id {
            return Err(InsertError::Fork { log: tip.log, seq: tip.seq });
        }
        Ok(false)
    }

    /// Checks that what comes after `base` continues what is here, or what waits.
    fn check_base(&self, space_ix: usize, base: &Tip) -> Result<(), InsertError> {
        let (log, seq) = (base.log, base.seq);
        let gap = InsertError::Gap { log, seq: seq + 1 };
        let table = self.table(space_ix)?;
        if table.is_suspect(&log, seq) {
            let waits = self.waiting.suspect(space_ix, base).is_some();
            let here = waits || self.locate(space_ix, base)?.is_some();
            return if here { Ok(()) } else { Err(gap) };
        }
        let ours = table.seq(&log);
        if seq > ours {
            return if self.waits(space_ix, base) { Ok(()) } else { Err(gap) };
        }
        let known = if seq == 0 { CommitId::ZERO } else { self.commit_id(space_ix, &log, seq)? };
        if known == base.id { Ok(()) } else { Err(InsertError::Fork { log, seq }) }
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
        vouched: &mut Vouched,
        inserted: &mut Inserted,
    ) -> Result<(), InsertError> {
        let before = (inserted.commits, inserted.events);
        match self.ready(now, space_ix, &commit, inserted)? {
            Ok(()) => {
                let voucher = vouched.remove(&commit.log());
                // A commit of our own that we do not have: the store was set back. What else was
                // forgotten cannot be known, so that the next write begins a new incarnation.
                let LogId { replica, incarnation } = commit.log();
                self.new_life |= replica == self.key.id() && incarnation == self.local.incarnation;
                sometimes!("store-was-set-back", self.new_life);
                self.append_counted(space_ix, commit, voucher, before, inserted)
            }
            Err(reason) => {
                let log = commit.log();
                if mutant!("out-of-order-dropped") {
                    return Ok(());
                }
                sometimes!("store-commit-waits-for-deps", matches!(reason, NotReady::Missing));
                sometimes!("store-commit-waits-for-time", matches!(reason, NotReady::Early(_)));
                // With it, and not in the log: what is refused in the end leaves nothing behind.
                let voucher = take_if_for(vouched, &commit.tip());
                match (self.waiting.insert(space_ix, Held { commit, voucher }), reason) {
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
                    let before = (inserted.commits, inserted.events);
                    let ready = self.ready(now, space_ix, &commit, inserted);
                    match &ready {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => break,
                        // Its author broke a rule, and not who brought what it waited for.
                        Err(InsertError::Invalid { .. }) => {
                            self.waiting.forget(space_ix, &log);
                            break;
                        }
                        // It waits on, for room, and keeps no other log waiting.
                        Err(InsertError::Quota(_)) => break,
                        Err(_) => {}
                    }
                    let vouched = self.table(space_ix)?.is_vouched_to(&log, next);
                    let voucher = (!vouched)
                        .then(|| self.waiting.take_voucher(space_ix, log, next))
                        .flatten();
                    self.waiting.remove(space_ix, log, next);
                    ready?.ok();
                    sometimes!("store-waiting-commit-taken");
                    self.append_counted(space_ix, commit, voucher, before, inserted)?;
                    progress = true;
                }
            }
        }
        Ok(())
    }

    /// Appends a commit that is ready, and counts it. `before` is what was counted before it was
    /// looked at: if it cannot be appended, what came to count for it does not.
    fn append_counted(
        &mut self,
        space_ix: usize,
        commit: Arc<Commit>,
        voucher: Option<(Tip, Voucher)>,
        before: (u64, u64),
        inserted: &mut Inserted,
    ) -> Result<(), InsertError> {
        let (released, events) = (inserted.commits > before.0, commit.events().len() as u64);
        let founds = commit.kind() == Kind::Genesis;
        let appended = self.append_ready(space_ix, commit, voucher, released);
        match appended {
            Ok(()) => {
                inserted.commits += 1;
                inserted.events += events;
            }
            Err(_) => (inserted.commits, inserted.events) = before,
        }
        if founds && appended.is_ok() {
            self.remember_whose().map_err(ReadError::from)?;
        }
        appended
    }

    /// Tells whether a commit can be applied now; suspects in its past count from then on.
    fn ready(
        &mut self,
        now: Now,
        space_ix: usize,
        commit: &Commit,
        inserted: &mut Inserted,
    ) -> Result<Result<(), NotReady>, InsertError> {
        let founded = commit.kind() == Kind::Genesis || self.table(space_ix)?.is_founded();
        if !founded || commit.seq() != self.seq(space_ix, &commit.log()) + 1 {
            return Ok(Err(NotReady::Missing));
        }
        if let Err(error) = HlcClock::check(commit.hlc(), now.wall)
            && !mutant!("early-commit-taken")
        {
            return Ok(Err(NotReady::Early(error)));
        }
        self.check_quota(space_ix, commit)?;
        if !self.vouch_past(space_ix, commit, inserted)? {
            return Ok(Err(NotReady::Missing));
        }
        Ok(Ok(()))
    }

    /// Checks what the format demands of a commit and its past: stamps grow, deps are what they
    /// say, and nothing is superseded that the author had not seen (FORMAT 4).
    pub(crate) fn check_past(
        &mut self,
        space_ix: usize,
        commit: &Commit,
    ) -> Result<(), InsertError> {
        let (log, seq) = (commit.log(), commit.seq());
        let invalid = |reason| InsertError::Invalid { log, seq, reason };
        let chain = self.chain_of(space_ix, commit)?.ok_or(ReadError::UnknownEvent)?;
        let before = match chain.begins {
            Some(beginning) => beginning.base,
            None => (seq > 1).then_some((chain.name, seq - 1)),
        };
        let (prev, prev_hlc) = match before {
            Some((name, at)) => self.commit_at_seq(space_ix, &name, at)?,
            None => (CommitId::ZERO, Hlc::default()),
        };
        if before.is_some() && prev_hlc >= commit.hlc() {
            return Err(invalid("its stamp is not after that of the commit before it"));
        }
        let table = self.table(space_ix)?;
        if (commit.kind() == Kind::Genesis) != (SpaceId(commit.id().0) == table.id) {
            return Err(invalid("it is not this space's genesis"));
        }
        if prev != commit.prev() {
            return Err(InsertError::Fork { log, seq: seq - 1 });
        }
        let deps = self.inner_deps(space_ix, commit)?.ok_or(ReadError::UnknownEvent)?;
        for (dep, (name, at)) in commit.deps().iter().zip(&deps) {
            let (id, hlc) = self.commit_at_seq(space_ix, name, *at)?;
            if id != dep.id {
                return Err(InsertError::Fork { log: dep.log, seq: dep.seq });
            }
            if hlc >= commit.hlc() {
                return Err(invalid("its stamp is not after that of a dep"));
            }
        }
        let ownership = self.table(space_ix)?.ownership.as_ref();
        if let (Some(ownership), Some(act)) = (ownership, &commit.header().act)
            && !ownership.authority.has_room_for(act)
        {
            return Err(InsertError::Unwritten(TooMuch.to_string()));
        }
        let heads: Vec<(LogId, u64)> = before.into_iter().chain(deps).collect();
        if self.supersedes_only_past(space_ix, commit, &heads)? {
            Ok(())
        } else {
            Err(invalid("it supersedes what its author had not seen"))
        }
    }

    /// Tells whether all that a commit's events supersede lies in the past of `heads`, which are
    /// what the commit follows.
    fn supersedes_only_past(
        &self,
        space_ix: usize,
        commit: &Commit,
        heads: &[(LogId, u64)],
    ) -> Result<bool, ReadError> {
        let (log, seq) = (commit.log(), commit.seq());
        let table = self.table(space_ix)?;
        let knows = |name: &LogId, at: u64| {
            heads.iter().any(|(head, head_seq)| {
                table.clocks.is_past((name, at), (head, *head_seq)).unwrap_or(false)
            })
        };
        let in_past = |of: &LogId, at: u64| {
            if *of == log {
                return at < seq;
            }
            if !table.is_suspect(of, at) {
                return knows(of, at);
            }
            table.branches(of).any(|branch| branch.first <= at && knows(&branch.log, at))
        };
        Ok((0_u16..).zip(commit.events()).all(|(index, event)| match &event.skeleton.supersedes {
            Supersedes::Dots(dots) => dots.iter().all(|dot| {
                let own = dot.log == log && dot.seq == seq;
                if own { dot.index < index } else { in_past(&dot.log, dot.seq) }
            }),
            Supersedes::Cut(cut) => {
                cut.iter().all(|(of, at)| (*of == log && *at == seq) || in_past(of, *at))
            }
        }))
    }

    /// Returns id and stamp of a commit that counts, by inner name.
    fn commit_at_seq(
        &self,
        space_ix: usize,
        name: &LogId,
        seq: u64,
    ) -> Result<(CommitId, Hlc), ReadError> {
        if let Some(last) = self.table(space_ix)?.log(name).filter(|last| last.seq == seq) {
            return Ok((last.id, last.hlc));
        }
        Ok((self.commit_id(space_ix, name, seq)?, self.commit_hlc(space_ix, name, seq)?))
    }
}
