//! Finds again which log an index meant, or which commit of a forked log a number, where the record
//! that said so is lost.
//!
//! A segment names each log once; if that record rots, the commits of the log can be read by
//! nobody, though their bytes are whole. Once a peer has brought those commits, each name can be
//! guessed and the guess proved: under the right names a commit hashes to the id that is known.
//! Of a forked log several commits have one number, and a record means the first one that its
//! segment held; where that is lost or lies elsewhere by now, the same proof tells which it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Store;
use super::repair::Aside;
use super::tables::{LogTable, SpaceTable};
use crate::base::{CommitId, LogId};
use crate::event::compact::{self, DecodeError};
use crate::event::{Commit, Dictionary, Entry};
use crate::log::Disk;

impl<D: Disk + Clone> Store<D> {
    /// Reads a commit's record, choosing among the branches of forked logs where it leaves out ids;
    /// none if no choice makes of it what `is_it` knows. Costs a few hashes for each branch.
    pub(super) fn proved(
        &self,
        space_ix: usize,
        body: &[u8],
        dictionary: &Dictionary,
        base_ms: u64,
        is_it: &dyn Fn(&Commit) -> bool,
    ) -> Option<Commit> {
        if self.table(space_ix).ok()?.is_unforked() {
            return None;
        }
        let record = Choice { space_ix, body, base_ms, names: dictionary.without_ids() };
        self.choose(&record, &mut BTreeMap::new(), is_it, &mut { TRIALS_MAX })
    }

    fn choose(
        &self,
        record: &Choice<'_>,
        chosen: &mut BTreeMap<(LogId, u64), CommitId>,
        is_it: &dyn Fn(&Commit) -> bool,
        trials: &mut u32,
    ) -> Option<Commit> {
        *trials = trials.checked_sub(1)?;
        let Choice { space_ix, body, base_ms, names } = record;
        let table = self.table(*space_ix).ok()?;
        let ids = |log: &LogId, seq: u64| match chosen.get(&(*log, seq)) {
            None if table.is_suspect(log, seq) => None,
            None => self.commit_id(*space_ix, log, seq).ok(),
            id => id.copied(),
        };
        match compact::decode(body, names, *base_ms, &ids) {
            Ok(commit) => Some(commit).filter(is_it),
            Err(DecodeError::MissingId { log, seq }) if table.is_suspect(&log, seq) => {
                for id in self.ids_under(*space_ix, &log, seq) {
                    chosen.insert((log, seq), id);
                    let found = self.choose(record, chosen, is_it, trials);
                    if found.is_some() {
                        return found;
                    }
                }
                chosen.remove(&(log, seq));
                None
            }
            Err(_) => None,
        }
    }

    /// Returns the ids of all commits that count under a number of a forked log.
    fn ids_under(&self, space_ix: usize, log: &LogId, seq: u64) -> Vec<CommitId> {
        let Ok(table) = self.table(space_ix) else { return Vec::new() };
        let of = |branch: &LogTable| self.commit_place(space_ix, &branch.log, seq).ok().flatten();
        table.branches(log).filter_map(of).map(|place| place.id).collect()
    }

    /// Finds out which commits those are that were set aside, and lets those that follow in their
    /// segments know: they leave out ids that were known there, also of what has another commit in
    /// its place by now.
    pub(super) fn note_asides(&self, asides: &mut [Aside]) {
        let mut noted: Vec<Commit> = Vec::new();
        let mut segment = 0;
        for aside in asides {
            if segment != aside.position.segment {
                noted.clear();
                segment = aside.position.segment;
            }
            let names = Arc::make_mut(&mut aside.dictionary);
            for commit in &noted {
                if let Some(ix) = names.find(&commit.space(), &commit.log()) {
                    names.note(ix, commit.seq(), commit.id());
                }
            }
            let Ok(loose) = compact::read(&aside.body, names, aside.base_ms) else { continue };
            let Some(space_ix) = self.local.space_index(&loose.space) else { continue };
            let ids = |log: &_, seq| self.commit_id(space_ix, log, seq).ok();
            let here = |commit: &Commit| {
                self.locate(space_ix, &commit.tip()).is_ok_and(|found| found.is_some())
            };
            let read = compact::decode(&aside.body, names, aside.base_ms, &ids).ok();
            let proved = || self.proved(space_ix, &aside.body, names, aside.base_ms, &here);
            let known = read.clone().filter(here).or_else(proved);
            // Of a forked log what is left out may be that of any branch: then nothing is sure.
            let sure = || self.table(space_ix).is_ok_and(SpaceTable::is_unforked);
            noted.extend(known.or_else(|| read.filter(|_| sure())));
        }
    }

    /// Completes the names of logs by which commits that were set aside can be read.
    ///
    /// What cannot be proved stays unnamed. Costs a few hashes for each log and segment.
    pub(super) fn name_logs(&self, asides: &mut [Aside]) {
        let mut named: Option<(u64, Arc<Dictionary>)> = None;
        for aside in asides {
            if let Some((segment, names)) = &named
                && *segment == aside.position.segment
            {
                let mut dictionary = (*aside.dictionary).clone();
                for (ix, entry) in names.entries() {
                    dictionary.complete(ix, *entry);
                }
                aside.dictionary = Arc::new(dictionary);
            }
            if let Err(DecodeError::MissingEntry { .. }) =
                compact::read(&aside.body, &aside.dictionary, aside.base_ms)
            {
                let mut trials = TRIALS_MAX;
                if let Some(names) = self.guess(aside, (*aside.dictionary).clone(), &mut trials) {
                    aside.dictionary = Arc::new(names);
                }
            }
            named = Some((aside.position.segment, Arc::clone(&aside.dictionary)));
        }
    }

    /// Returns the names under which a commit is one that is known; none if no guess proves true.
    fn guess(&self, aside: &Aside, names: Dictionary, trials: &mut u32) -> Option<Dictionary> {
        *trials = trials.checked_sub(1)?;
        match compact::read(&aside.body, &names, aside.base_ms) {
            Ok(loose) => {
                let space_ix = self.local.space_index(&loose.space)?;
                let ids = |log: &_, seq| self.commit_id(space_ix, log, seq).ok();
                let is_it = |commit: &Commit| match aside.told {
                    Some((_, tip)) => commit.id() == tip.id,
                    None => self.locate(space_ix, &commit.tip()).is_ok_and(|at| at.is_some()),
                };
                let (body, base_ms) = (aside.body.as_slice(), aside.base_ms);
                let commit = compact::decode(body, &names, base_ms, &ids).ok().filter(is_it);
                // Of a forked log an id that is left out may be that of any branch.
                let record = Choice { space_ix, body, base_ms, names: names.without_ids() };
                let any = || self.choose(&record, &mut BTreeMap::new(), &is_it, trials);
                commit.or_else(any).map(|_| names)
            }
            Err(DecodeError::MissingEntry { ix }) => {
                let ix = u32::try_from(ix).ok()?;
                for entry in self.candidates(aside) {
                    let mut names = names.clone();
                    if names.complete(ix, entry)
                        && let Some(names) = self.guess(aside, names, trials)
                    {
                        return Some(names);
                    }
                }
                None
            }
            Err(_) => None,
        }
    }

    /// Returns every log that is known, with how far it had come when the segment began; a forked
    /// one with the end of each branch that it may have been then.
    fn candidates(&self, aside: &Aside) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (space_ix, table) in self.tables.iter().enumerate() {
            let tips = aside.tips.get(space_ix).map(Vec::as_slice).unwrap_or_default();
            let logs: BTreeSet<LogId> = table.logs().map(|log| log.origin).collect();
            for log in logs.into_iter().take(TRIALS_MAX as usize) {
                let of_log = tips.iter().filter(|tip| tip.log == log);
                let ends = of_log.map(|tip| (tip.seq, tip.id));
                // Where it was closed before, or not there yet, it began with nothing.
                let ends = ends.chain([(0, CommitId::ZERO)]);
                entries.extend(ends.map(|(base_seq, base_id)| Entry {
                    space: table.id,
                    log,
                    base_seq,
                    base_id,
                }));
            }
        }
        entries
    }
}

/// A record that leaves out ids.
struct Choice<'a> {
    space_ix: usize,
    body: &'a [u8],
    base_ms: u64,
    names: Dictionary,
}

/// Most guesses for one commit: enough for two names that are lost among 60 logs.
const TRIALS_MAX: u32 = 4096;
