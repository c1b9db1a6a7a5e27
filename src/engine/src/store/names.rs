//! Finds again which log an index meant, where the record that said so is lost.
//!
//! A segment names each log once; if that record rots, the commits of the log can be read by
//! nobody, though their bytes are whole. Once a peer has brought those commits, each name can be
//! guessed and the guess proved: under the right names a commit hashes to the id that is known.

use std::sync::Arc;

use super::Store;
use super::repair::Aside;
use crate::base::CommitId;
use crate::event::compact::{self, DecodeError};
use crate::event::{Dictionary, Entry};
use crate::log::Disk;

impl<D: Disk + Clone> Store<D> {
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
                let commit = compact::decode(&aside.body, &names, aside.base_ms, &ids).ok()?;
                let known = self.commit_id(space_ix, &loose.log, loose.seq).ok()?;
                (commit.id() == known).then_some(names)
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

    /// Returns every log that is known, with how far it had come when the segment began.
    fn candidates(&self, aside: &Aside) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (space_ix, table) in self.tables.iter().enumerate() {
            let tips = aside.tips.get(space_ix).map(Vec::as_slice).unwrap_or_default();
            for log in table.logs().take(TRIALS_MAX as usize) {
                let tip = tips.iter().find(|tip| tip.log == log.log);
                let (base_seq, base_id) = tip.map_or((0, CommitId::ZERO), |tip| (tip.seq, tip.id));
                entries.push(Entry { space: table.id, log: log.log, base_seq, base_id });
            }
        }
        entries
    }
}

/// Most guesses for one commit: enough for two names that are lost among 60 logs.
const TRIALS_MAX: u32 = 4096;
