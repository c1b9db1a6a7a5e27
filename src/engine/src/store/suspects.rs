//! Lets commits of a forked log count once a commit of another log builds upon them.
//!
//! Whether they do is a function of what is known, not of the order in which it came: a commit that
//! counts makes all of its past count, and a suspect that nothing else builds upon waits (FORMAT
//! 5.6). So a forker can hide nothing that others have built upon, and nobody else's commit is held
//! up by a fork.
//!
//! What vouches for suspects is written ahead of all of them (FORMAT 10): whatever of them a crash
//! or a failing disk leaves in the log, it is not without a voucher.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::waiting::Held;
use super::{InsertError, Inserted, ReadError, Store};
use crate::base::CommitId;
use crate::causal::Tip;
use crate::event::{Commit, Voucher};
use crate::log::Disk;

/// What a commit needs before it can count.
enum Need {
    /// That suspect must count first.
    Suspect(Tip),
    /// Something that is not here.
    Missing,
}

impl<D: Disk + Clone> Store<D> {
    /// Makes the whole past of a commit count that is not suspect itself, and checks the commit
    /// against it; false if something of that past is missing.
    ///
    /// # Errors
    /// [`InsertError`]: nothing came to count. What is not valid vouches for nothing.
    pub(crate) fn vouch_past(
        &mut self,
        space_ix: usize,
        commit: &Commit,
        inserted: &mut Inserted,
    ) -> Result<bool, InsertError> {
        let Some(order) = self.unvouched_past(space_ix, commit)? else { return Ok(false) };
        let before = (inserted.commits, inserted.events);
        let released = self.release_all(space_ix, &order, inserted);
        let checked = released.and_then(|()| self.check_past(space_ix, commit));
        if let Err(error) = checked {
            if !order.is_empty() {
                (inserted.commits, inserted.events) = before;
                self.take_back()?;
            }
            return Err(error);
        }
        Ok(true)
    }

    /// Appends a commit that is ready, after what vouches for it; if it cannot be, what was
    /// `released` for it counts no more.
    pub(crate) fn append_ready(
        &mut self,
        space_ix: usize,
        commit: Arc<Commit>,
        voucher: Option<(Tip, Voucher)>,
        released: bool,
    ) -> Result<(), InsertError> {
        let vouched = voucher.map_or(Ok(()), |(tip, v)| self.append_voucher(space_ix, tip, v));
        let appended = vouched.and_then(|()| self.append_commit(space_ix, commit));
        if appended.is_err() && released {
            self.take_back()?;
        }
        Ok(appended.map(drop)?)
    }

    /// Lets what was released count no more: nothing builds upon it yet, so a replay leaves it out.
    fn take_back(&mut self) -> Result<(), InsertError> {
        let flushed = self.flush();
        // What a failing disk left in memory alone is not there to be read again.
        if self.trouble().is_none() {
            self.reload()?;
        }
        Ok(flushed?)
    }

    /// Lets suspects count, each after what it builds upon, and what vouches for them before all.
    fn release_all(
        &mut self,
        space_ix: usize,
        order: &[Tip],
        inserted: &mut Inserted,
    ) -> Result<(), InsertError> {
        let vouchers = self.vouchers_of(space_ix, order)?;
        for (tip, voucher) in &vouchers {
            self.append_voucher(space_ix, *tip, voucher.clone())?;
        }
        for tip in order {
            // Where several branches of one log come at once, the last one's alone is waited with.
            let again = vouchers.get(tip).filter(|_| {
                let table = self.table(space_ix);
                table.is_ok_and(|table| !table.awaits(tip))
            });
            if let Some(voucher) = again {
                self.append_voucher(space_ix, *tip, voucher.clone())?;
            }
            self.release(space_ix, tip, inserted)?;
        }
        Ok(())
    }

    fn release(
        &mut self,
        space_ix: usize,
        tip: &Tip,
        inserted: &mut Inserted,
    ) -> Result<(), InsertError> {
        let suspect = self.waiting.release(space_ix, tip).ok_or(ReadError::UnknownEvent)?;
        sometimes!("store-suspect-counts");
        let Held { commit, .. } = suspect;
        self.check_past(space_ix, &commit)?;
        inserted.commits += 1;
        inserted.events += commit.events().len() as u64;
        self.append_commit(space_ix, commit)?;
        Ok(())
    }

    /// Returns what vouches for the branches that suspects make, to their ends. One of which less
    /// is built upon than came has its voucher with what waits on.
    fn vouchers_of(
        &self,
        space_ix: usize,
        order: &[Tip],
    ) -> Result<BTreeMap<Tip, Voucher>, ReadError> {
        let suspect = |tip: &Tip| self.waiting.held(space_ix, tip);
        let before = |tip: &Tip| suspect(tip).map(|held| held.commit.prev());
        let followed: BTreeSet<CommitId> = order.iter().filter_map(before).collect();
        let mut vouchers = BTreeMap::new();
        for end in order.iter().filter(|tip| !followed.contains(&tip.id)) {
            let own = suspect(end).and_then(|held| held.voucher.clone());
            let voucher = own.map_or_else(|| self.voucher_to(space_ix, end), |own| Ok(Some(own)));
            vouchers.extend(voucher?.map(|voucher| (*end, voucher)));
        }
        Ok(vouchers)
    }

    /// Makes what vouches for a branch that ends in a suspect from what vouches for more of it.
    fn voucher_to(&self, space_ix: usize, end: &Tip) -> Result<Option<Voucher>, ReadError> {
        // The ids of what waits of the branch, the first one last, and then to the voucher.
        let (mut ids, mut first) = (Vec::new(), *end);
        while let Some(held) = self.waiting.held(space_ix, &first) {
            ids.push(first.id);
            first = Tip { seq: first.seq.saturating_sub(1), id: held.commit.prev(), ..*end };
        }
        ids.reverse();
        let mut last = self.waiting.after(space_ix, end);
        let held = loop {
            let Some(held) = last else { return Ok(None) };
            ids.push(held.commit.id());
            match &held.voucher {
                Some(voucher) => break voucher,
                None => last = self.waiting.after(space_ix, &held.commit.tip()),
            }
        };
        self.part_of(space_ix, &first, &ids, held, end.seq)
    }

    /// Returns the suspects in the past of a commit that do not count yet, each after what it
    /// builds upon; none if something is missing.
    fn unvouched_past(
        &self,
        space_ix: usize,
        commit: &Commit,
    ) -> Result<Option<Vec<Tip>>, ReadError> {
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        let mut stack = Vec::new();
        for need in self.needs(space_ix, commit.deps())? {
            let Need::Suspect(tip) = need else { return Ok(None) };
            stack.push((tip, false));
        }
        // Depth first, on a stack of its own: the past may be long.
        while let Some((tip, done)) = stack.pop() {
            if done {
                order.push(tip);
                continue;
            }
            if !seen.insert(tip) {
                continue;
            }
            let Some(suspect) = self.waiting.suspect(space_ix, &tip) else { return Ok(None) };
            stack.push((tip, true));
            let (log, seq, prev) = (suspect.log(), suspect.seq() - 1, suspect.prev());
            let before = (seq > 0).then_some(Tip { log, seq, id: prev });
            let past: Vec<Tip> = suspect.deps().iter().copied().chain(before).collect();
            for need in self.needs(space_ix, &past)? {
                let Need::Suspect(tip) = need else { return Ok(None) };
                stack.push((tip, false));
            }
        }
        Ok(Some(order))
    }

    /// Returns which of these commits do not count yet.
    fn needs(&self, space_ix: usize, tips: &[Tip]) -> Result<Vec<Need>, ReadError> {
        let table = self.table(space_ix)?;
        let mut needs = Vec::new();
        for tip in tips {
            if !table.is_suspect(&tip.log, tip.seq) {
                needs.extend((tip.seq > table.seq(&tip.log)).then_some(Need::Missing));
            } else if self.locate(space_ix, tip)?.is_none() {
                needs.push(Need::Suspect(*tip));
            }
        }
        Ok(needs)
    }
}
