//! Finds and folds the state of a row: from the cache, else from the newest sidecar that holds one
//! and the records since.

use std::sync::Arc;

use super::apply::CommitPlace;
use super::ownership::Ruling;
use super::sidecar::KeyHash;
use super::tail::{Namespace, table_key};
use super::{ReadError, Store, TagState};
use crate::base::{CommitId, Dot, Key, LogId, Reader, SpaceId};
use crate::causal::{Tip, VersionVector};
use crate::crdt::{Applied, Stamp, State};
use crate::event::Event;
use crate::event::compact::Loose;
use crate::log::Disk;

/// Where the records of a row lie: one segment and the offsets in it, ascending.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) segment: u64,
    pub(crate) offsets: Vec<u32>,
}

/// One event of a key's history, as it lies in the log.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) stamp: Stamp,
    pub(crate) event: Event,
    pub(crate) commit: Arc<Loose>,
}

impl<D: Disk + Clone> Store<D> {
    /// Returns the state of a key as of all applied commits.
    pub(crate) fn state(&mut self, space: &SpaceId, key: &Key) -> Result<Arc<State>, ReadError> {
        let space_ix = self.space_index(space)?;
        let row = table_key(space_ix, Namespace::Key, key.as_bytes());
        if let Some(state) = self.cache.get(&row) {
            return Ok(state);
        }
        let (state, sound) = self.sound(|store| store.ask(|store| store.fold_row(space_ix, &row)));
        let state = Arc::new(state?);
        if sound {
            self.cache.insert(row, Arc::clone(&state));
        }
        Ok(state)
    }

    /// Folds a row anew from the newest state on disk and what came after it.
    pub(crate) fn fold_row(&self, space_ix: usize, row: &[u8]) -> Result<State, ReadError> {
        let (base, places) = self.newest_state(space_ix, row)?;
        let mut state = base.unwrap_or_default();
        let ruling = self.table(space_ix)?.ruling(None);
        for places in places {
            for found in self.events(space_ix, row, &places)? {
                let Dot { log, seq, .. } = found.stamp.dot;
                if !ruling.counts(&log, seq) {
                    continue;
                }
                if apply(&mut state, &found) == Applied::Refold {
                    sometimes!("store-counter-folded-anew");
                    return self.refold_row(space_ix, row, None);
                }
            }
        }
        Ok(state)
    }

    /// Folds a row from all of its history, or from that part which lies in `version`.
    ///
    /// The outcome is a function of the set of commits alone: events are taken in the order of
    /// their stamps, which is a linear extension of causality.
    pub(crate) fn refold_row(
        &self,
        space_ix: usize,
        row: &[u8],
        version: Option<&VersionVector>,
    ) -> Result<State, ReadError> {
        self.refold_ruled(space_ix, row, version, &self.table(space_ix)?.ruling(version))
    }

    /// The same, by a ruling on what counts.
    pub(crate) fn refold_ruled(
        &self,
        space_ix: usize,
        row: &[u8],
        version: Option<&VersionVector>,
        ruling: &Ruling<'_>,
    ) -> Result<State, ReadError> {
        let mut state = State::exact();
        for found in self.history_of_row(space_ix, row)? {
            let dot = found.stamp.dot;
            let within = version.is_none_or(|v| v.contains(&dot.log, dot.seq));
            if within && ruling.counts(&dot.log, dot.seq) {
                let applied = apply(&mut state, &found);
                assert!(applied == Applied::Done, "an exact state never asks for a fold");
            }
        }
        Ok(state.finish())
    }

    /// Returns all events of a row, oldest first by stamp.
    pub(crate) fn history_of_row(
        &self,
        space_ix: usize,
        row: &[u8],
    ) -> Result<Vec<Found>, ReadError> {
        let mut all = Vec::new();
        for places in self.places(space_ix, row)? {
            all.extend(self.events(space_ix, row, &places)?);
        }
        all.sort_by_key(|found| found.stamp);
        Ok(all)
    }

    /// Returns what was last said of a tag.
    pub(crate) fn tag_state(
        &self,
        space_ix: usize,
        row: &[u8],
    ) -> Result<Option<TagState>, ReadError> {
        let mut newest = None;
        let ruling = self.table(space_ix)?.ruling(None);
        for places in self.places(space_ix, row)? {
            for offset in places.offsets {
                let loose = match self.read_commit(places.segment, offset) {
                    Ok(loose) => loose,
                    Err(error) => {
                        self.pass_over(error)?;
                        continue;
                    }
                };
                let counts = ruling.counts(&loose.log, loose.seq);
                let Some(tag) = loose.meta().and_then(|meta| meta.tag).filter(|_| counts) else {
                    continue;
                };
                let id = self.commit_id(space_ix, &loose.log, loose.seq)?;
                let tip = Tip { log: loose.log, seq: loose.seq, id };
                newest = Some(TagState::later(newest, TagState::new(tip, loose.hlc, &tag)));
            }
        }
        Ok(newest)
    }

    /// Returns the newest state of a row on disk, and where the records since lie, oldest first.
    fn newest_state(
        &self,
        space_ix: usize,
        row: &[u8],
    ) -> Result<(Option<State>, Vec<Places>), ReadError> {
        if let Some(segment) = self.tail.segment {
            self.check_sight(space_ix, segment)?;
        }
        let (base, mut places) = self.sealed_state(space_ix, row)?;
        places.extend(self.tail_places(row));
        Ok((base, places))
    }

    /// Returns the newest state of a row in the sidecars, and where their records since lie, oldest
    /// first.
    pub(crate) fn sealed_state(
        &self,
        space_ix: usize,
        row: &[u8],
    ) -> Result<(Option<State>, Vec<Places>), ReadError> {
        let (mut base, mut places) = (None, Vec::new());
        let hash = KeyHash::new(row);
        for sealed in self.sealed.iter().rev() {
            self.check_sight(space_ix, sealed.number)?;
            let Some(entry) = sealed.lookup(row, hash)? else { continue };
            let table = self.table(space_ix)?;
            let trusted = table.trusts_states_of(sealed.number);
            if let Some(bytes) = sealed.sidecar.state(&entry)?.filter(|_| trusted) {
                let log = |ix| table.log_at(ix).map(|log| log.log);
                let state = State::decode(&mut Reader::new(&bytes), &log);
                base = Some(state.map_err(|_| sealed.damaged("state"))?);
                if mutant!("removed-comes-back") {
                    continue;
                }
                break;
            }
            let offsets = sealed.sidecar.offsets(&entry)?;
            places.push(Places { segment: sealed.number, offsets });
        }
        if base.is_none() {
            self.check_sight(space_ix, 0)?;
        }
        places.reverse();
        Ok((base, places))
    }

    /// Returns where all records of a row lie, oldest first.
    pub(crate) fn places(&self, space_ix: usize, row: &[u8]) -> Result<Vec<Places>, ReadError> {
        self.check_sight(space_ix, 0)?;
        let mut places = self.tail_places(row);
        let hash = KeyHash::new(row);
        for sealed in self.sealed.iter().rev() {
            if let Some(entry) = sealed.lookup(row, hash)? {
                let offsets = sealed.sidecar.offsets(&entry)?;
                places.push(Places { segment: sealed.number, offsets });
            }
        }
        places.reverse();
        Ok(places)
    }

    fn tail_places(&self, row: &[u8]) -> Vec<Places> {
        let offsets = self.tail.offsets(row).to_vec();
        match self.tail.segment {
            Some(segment) if !offsets.is_empty() => vec![Places { segment, offsets }],
            _ => Vec::new(),
        }
    }

    /// Reads the events of a key's row at those places.
    fn events(
        &self,
        space_ix: usize,
        row: &[u8],
        places: &Places,
    ) -> Result<Vec<Found>, ReadError> {
        let mut events = Vec::new();
        let key = row.get(table_key(space_ix, Namespace::Key, b"").len()..).unwrap_or_default();
        let mut pass = self.pass(space_ix, places);
        for offset in &places.offsets {
            let loose = match pass.commit(*offset) {
                Ok(loose) => loose,
                Err(error) => {
                    self.pass_over(error)?;
                    continue;
                }
            };
            let commit = pass.id(&loose)?;
            for (index, event) in loose.events.iter().enumerate() {
                if event.is_of(key) {
                    let index = u16::try_from(index).map_err(|_| ReadError::UnknownEvent)?;
                    let dot = Dot { log: loose.log, seq: loose.seq, index };
                    let stamp = Stamp { hlc: loose.hlc, dot, commit };
                    let (event, commit) = (event.clone(), Arc::clone(&loose));
                    events.push(Found { stamp, event, commit });
                }
            }
        }
        Ok(events)
    }

    /// Returns the id of a commit that was applied; of a branch also those before it began.
    pub(crate) fn commit_id(
        &self,
        space_ix: usize,
        log: &LogId,
        seq: u64,
    ) -> Result<CommitId, ReadError> {
        Ok(self.applied_at(space_ix, log, seq)?.id)
    }

    /// Returns where a commit that was applied lies; of a branch also those before it began.
    pub(super) fn applied_at(
        &self,
        space_ix: usize,
        log: &LogId,
        seq: u64,
    ) -> Result<CommitPlace, ReadError> {
        let (table, mut name) = (self.table(space_ix)?, *log);
        while let Some(branch) = table.log(&name).filter(|branch| seq < branch.first) {
            name = branch.base.ok_or(ReadError::UnknownEvent)?.0;
        }
        self.commit_place(space_ix, &name, seq)?.ok_or(ReadError::UnknownEvent)
    }
}

/// Applies one event of a key to its state.
pub(crate) fn apply(state: &mut State, found: &Found) -> Applied {
    match found.event.delta() {
        Some(delta) => state.apply(&found.stamp, &delta),
        None => state.supersede(&found.stamp.dot, &found.event.skeleton.supersedes),
    }
}
