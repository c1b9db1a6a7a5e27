//! What the sidecar of a damaged segment tells of its records.
//!
//! A repair does not trust the sidecars from the first damage on: they would hide it. But they
//! were made when the segment was whole, and name its logs and the id of every commit in it that
//! counts. So what damage took is known by name, and what leaves out an id is read as it was
//! written: a hash shows that it is right. Commits that do not count are in no sidecar.

use std::collections::BTreeMap;

use super::seal::Sealed;
use super::sidecar::SidecarError;
use super::tables::SpaceTable;
use super::{ReadError, Store};
use crate::base::{CommitId, SpaceId};
use crate::causal::Tip;
use crate::event::{Commit, Dictionary, compact};
use crate::log::Disk;

/// The names and commits of a segment, as far as they are told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The logs that its records name; none if nothing is told.
    pub(super) names: Option<Dictionary>,
    /// Its commits, by offset, under the names that all replicas use.
    commits: BTreeMap<u32, (SpaceId, Tip)>,
    /// Up to where the commits are noted.
    noted: u32,
}

impl Told {
    /// Returns which commit lies at an offset.
    pub(super) fn at(&self, offset: u32) -> Option<(SpaceId, Tip)> {
        self.commits.get(&offset).copied()
    }

    /// Takes note of the commits before an offset, as their writer did, whether they can be read or
    /// not.
    pub(super) fn note_before(&mut self, offset: u32, dictionary: &mut Dictionary) {
        for (space, tip) in self.commits.range(self.noted..offset.max(self.noted)).map(|(_, c)| c) {
            if let Some(ix) = dictionary.find(space, &tip.log) {
                dictionary.note(ix, tip.seq, tip.id);
            }
        }
        self.noted = self.noted.max(offset);
    }
}

impl<D: Disk + Clone> Store<D> {
    /// Returns what the sidecar of a segment tells; nothing where it is used otherwise.
    pub(super) fn told_of(&self, number: u64) -> Told {
        if self.distrusted.is_none() {
            return Told::default();
        }
        let mut segments = self.log.segments().into_iter();
        let sealed = segments.find(|segment| segment.number == number && segment.sealed);
        let told = sealed.and_then(|segment| {
            let sealed = Sealed::open(&self.disk, &self.local.store, number, segment.sha).ok()?;
            tell(&sealed).ok()
        });
        told.unwrap_or_default()
    }

    /// Tells whether the proofs by which tables have logs closed lie in segments that are trusted:
    /// what is damaged may be the proof, and without it nobody can be shown the fork.
    pub(super) fn trusts_proofs(&self, tables: &[SpaceTable]) -> bool {
        let Some(first) = self.distrusted else { return true };
        let mut closed = tables.iter().flat_map(SpaceTable::closed_logs);
        closed.all(|(_, closed)| closed.position.segment < first)
    }

    /// Reads a commit's record; none if it is damaged, or is not the one with that id.
    pub(super) fn told_commit(
        &self,
        body: &[u8],
        dictionary: &Dictionary,
        before: &[Dictionary],
        base_ms: u64,
        id: Option<CommitId>,
    ) -> Result<Option<Commit>, ReadError> {
        let commit = self.record_commit(body, dictionary, before, base_ms)?;
        let is_it = |commit: &Commit| id.is_none_or(|id| commit.id() == id);
        if id.is_none() || commit.as_ref().is_some_and(is_it) {
            return Ok(commit);
        }
        let space = compact::read(body, dictionary, base_ms).map(|loose| loose.space);
        let space_ix = space.ok().and_then(|space| self.local.space_index(&space));
        let proved = |space_ix| self.proved(space_ix, body, dictionary, base_ms, &is_it);
        Ok(space_ix.and_then(proved))
    }
}

/// Reads what a sidecar tells.
fn tell<D: Disk + Clone>(sealed: &Sealed<D>) -> Result<Told, SidecarError> {
    let tables = sealed.tables()?;
    let (mut names, mut commits) = (Dictionary::default(), BTreeMap::new());
    for (ix, entry) in sealed.dictionary()?.entries() {
        let table = tables.iter().find(|table| table.id == entry.space);
        let log = table.map_or(entry.log, |table| table.origin(&entry.log));
        if log == entry.log {
            // Names of branches are the sidecar's own: no record uses them.
            names.complete(ix, *entry);
        }
        for commit in sealed.sidecar.commits(ix, 0) {
            let commit = commit?;
            let tip = Tip { log, seq: commit.seq, id: commit.id };
            commits.insert(commit.offset, (entry.space, tip));
        }
    }
    Ok(Told { names: Some(names), commits, noted: 0 })
}
