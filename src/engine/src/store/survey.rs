//! Decides, before the log of a store with forks is replayed, which suspects count.
//!
//! A replay takes commits in the order in which they came, but whether a commit of a forked log
//! counts depends on what came after it. So the records are read twice: once for the proofs and for
//! who builds upon whom, then for the tables. Stores without forks are read once.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::kinds;
use super::tables::{LogTable, SpaceTable};
use super::tail::MOVES_MAX;
use super::{ReadError, Store};
use crate::base::{CommitId, LogId};
use crate::event::{Commit, Dictionary, ForkProof};
use crate::log::{Disk, Position, Record};

/// Which commits of forked logs count, among those that are replayed.
pub(crate) type Counted = BTreeSet<CommitId>;

/// Where each forked log is closed, and where the proof lies, by space and log.
type Proofs = BTreeMap<(usize, LogId), (u64, Position)>;

impl<D: Disk + Clone> Store<D> {
    /// Finds all proofs, drops the sidecars that were built without knowing them, closes the logs
    /// in the tables that are left, and returns which suspects of the rest count.
    pub(crate) fn survey(&mut self) -> Result<Counted, ReadError> {
        let segments: Vec<u64> = self.log.segments().iter().map(|s| s.number).collect();
        let mut proofs = Proofs::new();
        let mut unread = segments.len();
        loop {
            let from = self.sealed.len();
            for number in segments.get(from..unread).unwrap_or_default() {
                self.proofs_of(*number, &mut proofs);
            }
            unread = from;
            for (space_ix, table) in self.tables.iter().enumerate() {
                for (log, closed) in table.closed_logs() {
                    note(&mut proofs, (space_ix, log), (closed.seq, closed.position));
                }
            }
            if self.sealed.is_empty() || !self.is_stale(&proofs) {
                break;
            }
            self.sealed.pop();
            self.take_tables();
        }
        for ((space_ix, log), (seq, position)) in proofs {
            if let Some(table) = self.tables.get_mut(space_ix)
                && table.closed(&log).is_none_or(|closed| closed.seq != seq)
            {
                table.close(log, seq, position);
            }
        }
        self.vouched(segments.get(self.sealed.len()..).unwrap_or_default())
    }

    /// Tells whether the tables hold as ordinary what a proof makes suspect.
    fn is_stale(&self, proofs: &Proofs) -> bool {
        proofs.iter().any(|((space_ix, log), (seq, _))| {
            self.tables.get(*space_ix).is_some_and(|table| {
                let known = table.closed(log).is_some_and(|closed| closed.seq == *seq);
                !known && table.reaches(log, *seq)
            })
        })
    }

    /// Returns the first segment that has, of a branch, what nothing that counts builds upon. As a
    /// rule there is none.
    ///
    /// A branch is written before what makes it count. If that went with the power, or was refused
    /// in the end, the sidecar of a segment that was sealed in between says that the branch counts.
    pub(crate) fn unfounded(&self) -> Option<u64> {
        let first = |table: &SpaceTable| {
            let founded = founded(table);
            let short = |branch: &LogTable| {
                let end = founded.get(&branch.log).copied().unwrap_or(branch.first - 1);
                let next = (end < branch.seq).then_some(end + 1)?;
                table.segment_of(&branch.log, next)
            };
            table.logs().filter(|log| log.is_branch()).filter_map(short).min()
        };
        self.tables.iter().filter(|table| !table.is_unforked()).filter_map(first).min()
    }

    /// Returns the first segment whose sidecar has a log closed by a proof that is nowhere. As a
    /// rule there is none.
    ///
    /// A sidecar that is built anew knows of what lies further on, durable or not. Where a proof
    /// there went with the power, nothing shows the fork any more, and the log is open until the
    /// proof comes again. Where something is lost to damage that may be the proof, which is asked
    /// for.
    pub(crate) fn unproved(&self) -> Option<u64> {
        let last = self.sealed.last()?.number;
        if self.distrusted.is_some() || !self.damaged_places.is_empty() {
            return None;
        }
        let mut gone = BTreeSet::new();
        for (space_ix, table) in self.tables.iter().enumerate() {
            // What lies in a sealed segment is as durable as its sidecar.
            let beyond = table.closed_logs().filter(|(_, closed)| closed.position.segment > last);
            for (log, closed) in beyond {
                let mut proofs = Proofs::new();
                self.proofs_of(closed.position.segment, &mut proofs);
                let found = proofs.get(&(space_ix, log));
                if found.is_none_or(|(seq, _)| *seq > closed.seq) {
                    gone.insert((space_ix, log));
                }
            }
        }
        if gone.is_empty() {
            return None;
        }
        let knows = |table: &SpaceTable, log: &LogId| {
            table.closed(log).is_some_and(|closed| closed.position.segment > last)
        };
        let knowing = self.sealed.iter().find(|sealed| {
            // One that cannot be read goes too.
            let Ok(tables) = sealed.tables() else { return true };
            gone.iter().any(|(ix, log)| tables.get(*ix).is_some_and(|table| knows(table, log)))
        });
        knowing.map(|sealed| sealed.number)
    }

    fn proofs_of(&self, number: u64, proofs: &mut Proofs) {
        for (position, record) in self.records_of(number) {
            if record.kind == kinds::FORK_PROOF
                && let Ok(proof) = ForkProof::decode(&record.body)
                && let Some(space_ix) = self.local.space_index(&proof.space())
            {
                note(proofs, (space_ix, proof.log()), (proof.seq(), position));
            }
        }
    }

    /// Returns which suspects are in the past of a commit that is none, among those of segments.
    fn vouched(&self, segments: &[u64]) -> Result<Counted, ReadError> {
        // By id, what each suspect builds upon that may be suspect.
        let mut suspects: BTreeMap<CommitId, Vec<CommitId>> = BTreeMap::new();
        let mut counted = Counted::new();
        let names = segments.first().map(|first| self.names_before(*first)).transpose()?;
        let mut names = names.unwrap_or_default();
        for number in segments {
            self.each_commit(*number, &mut names, |commit| {
                let Some(space_ix) = self.local.space_index(&commit.space()) else { return };
                let Some(table) = self.tables.get(space_ix) else { return };
                let (log, seq) = (commit.log(), commit.seq());
                let deps = commit.deps().iter().filter(|dep| table.is_suspect(&dep.log, dep.seq));
                let mut builds_upon: Vec<CommitId> = deps.map(|dep| dep.id).collect();
                if table.is_suspect(&log, seq) {
                    builds_upon.push(commit.prev());
                    suspects.insert(commit.id(), builds_upon);
                    return;
                }
                while let Some(id) = builds_upon.pop() {
                    if let Some(further) = suspects.get(&id)
                        && counted.insert(id)
                    {
                        builds_upon.extend(further);
                    }
                }
            })?;
        }
        Ok(counted)
    }

    /// Returns the dictionaries of the last segments before one, as they were at their ends.
    pub(super) fn names_before(&self, number: u64) -> Result<Vec<Dictionary>, ReadError> {
        let mut former = self.log.segments();
        former.retain(|former| former.number < number);
        let mut names = Vec::new();
        for former in former.iter().skip(former.len().saturating_sub(MOVES_MAX)) {
            self.each_commit(former.number, &mut names, |_| {})?;
        }
        Ok(names)
    }

    /// Reads the commits of a segment; what is damaged is left out.
    /// `names` are the dictionaries of the segments before, as far as they were read; that of this
    /// one is added.
    pub(super) fn each_commit(
        &self,
        number: u64,
        names: &mut Vec<Dictionary>,
        mut take: impl FnMut(&Commit),
    ) -> Result<(), ReadError> {
        let Ok(base_ms) = self.base_ms_of(number) else { return Ok(()) };
        let mut told = self.told_of(number);
        let mut dictionary = told.names.clone().unwrap_or_default();
        for (Position { offset, .. }, record) in self.records_of(number) {
            told.note_before(offset, &mut dictionary);
            match record.kind {
                kinds::DICTIONARY => drop(dictionary.read_entries(&record.body)),
                kinds::COMMIT => {
                    let (body, id) = (&record.body, told.at(offset).map(|(_, tip)| tip.id));
                    let commit = self.told_commit(body, &dictionary, names, base_ms, id)?;
                    let Some(commit) = commit else { continue };
                    if let Some(ix) = dictionary.find(&commit.space(), &commit.log()) {
                        dictionary.note(ix, commit.seq(), commit.id());
                    }
                    take(&commit);
                }
                _ => {}
            }
        }
        names.push(dictionary);
        Ok(())
    }

    pub(super) fn records_of(&self, number: u64) -> impl Iterator<Item = (Position, Record)> {
        let from = Position { segment: number, offset: 0 };
        let records = self.log.scan(from).filter_map(Result::ok);
        records.take_while(move |(position, _)| position.segment == number)
    }
}

/// Returns how far each log and branch counts by what the tables hold: logs to their ends, branches
/// as far as another log builds upon them that counts.
fn founded(table: &SpaceTable) -> BTreeMap<LogId, u64> {
    let (branches, logs): (Vec<_>, Vec<_>) = table.logs().partition(|log| log.is_branch());
    let mut founded: BTreeMap<LogId, u64> = logs.iter().map(|log| (log.log, log.seq)).collect();
    let mut progress = true;
    while progress {
        progress = false;
        for branch in &branches {
            let knows = |(log, seq): (&LogId, &u64)| {
                let other = table.origin(log) != branch.origin;
                other.then(|| table.clocks.known(log, *seq, &branch.log))?
            };
            let end = founded.iter().filter_map(knows).max().unwrap_or(0);
            if end >= branch.first && founded.get(&branch.log).is_none_or(|known| *known < end) {
                founded.insert(branch.log, end);
                progress = true;
            }
        }
    }
    founded
}

/// Takes a proof in; of several for one log the one with the least number holds.
fn note(proofs: &mut Proofs, log: (usize, LogId), at: (u64, Position)) {
    let known = proofs.entry(log).or_insert(at);
    if at.0 < known.0 {
        *known = at;
    }
}
