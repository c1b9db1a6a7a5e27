//! Lets commits of a forked log count once a commit of another log builds upon them.
//!
//! Whether they do is a function of what is known, not of the order in which it came: a commit that
//! counts makes all of its past count, and a suspect that nothing else builds upon waits (FORMAT
//! 5.6). So a forker can hide nothing that others have built upon, and nobody else's commit is held
//! up by a fork.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::waiting::Held;
use super::{InsertError, Inserted, ReadError, Store};
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
        let released = order.iter().try_for_each(|tip| self.release(space_ix, tip, inserted));
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

    fn release(
        &mut self,
        space_ix: usize,
        tip: &Tip,
        inserted: &mut Inserted,
    ) -> Result<(), InsertError> {
        let suspect = self.waiting.release(space_ix, tip).ok_or(ReadError::UnknownEvent)?;
        sometimes!("store-suspect-counts");
        let Held { commit, voucher } = suspect;
        self.check_past(space_ix, &commit)?;
        if let Some(voucher) = voucher {
            self.append_voucher(space_ix, commit.tip(), voucher)?;
        }
        inserted.commits += 1;
        inserted.events += commit.events().len() as u64;
        self.append_commit(space_ix, commit)?;
        Ok(())
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
