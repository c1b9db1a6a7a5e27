//! One pass over several commits of a segment: what lies close together is read at once.

use std::sync::Arc;

use super::apply::{body_of, kinds};
use super::load::Places;
use super::overlay::Overlay;
use super::sidecar::CommitSearch;
use super::{Damaged, ReadError, Store};
use crate::base::{CommitId, LogId};
use crate::event::Dictionary;
use crate::event::compact::{self, Loose};
use crate::log::{Disk, Position, RecordReader};

/// Reads commits of one segment, in ascending order if it shall be cheap.
pub(crate) struct Pass<'a, D: Disk> {
    store: &'a Store<D>,
    space_ix: usize,
    segment: u64,
    ahead_bytes: u32,
    /// Opened by the first read.
    records: Option<RecordReader<'a, D>>,
    /// What is needed to take records apart; found by the first one.
    terms: Option<Terms>,
    ids: Option<CommitSearch<'a, Overlay<D>>>,
    /// The log of the last commit, and its index in the dictionary.
    log: Option<(LogId, u32)>,
}

struct Terms {
    dictionary: Arc<Dictionary>,
    base_ms: u64,
}

impl<D: Disk + Clone> Store<D> {
    /// Starts a pass over the commits at those places.
    pub(crate) fn pass(&self, space_ix: usize, places: &Places) -> Pass<'_, D> {
        let (segment, count) = (places.segment, places.offsets.len());
        let span = match (places.offsets.first(), places.offsets.last()) {
            (Some(first), Some(last)) => last.saturating_sub(*first) as usize,
            _ => 0,
        };
        // Reading on pays if enough of what is read is asked for next.
        let ahead_bytes = if span / count.max(1) <= GAP_BYTES { AHEAD_BYTES } else { 4096 };
        let ahead_bytes = if count > 1 { ahead_bytes } else { 4096 };
        let (records, terms, ids, log) = (None, None, None, None);
        Pass { store: self, space_ix, segment, ahead_bytes, records, terms, ids, log }
    }
}

impl<'a, D: Disk + Clone> Pass<'a, D> {
    /// Reads the commit at an offset, without what its hash needs.
    pub(crate) fn commit(&mut self, offset: u32) -> Result<Arc<Loose>, ReadError> {
        let (store, segment) = (self.store, self.segment);
        let position = Position { segment, offset };
        if let Some(commit) = store.recent.borrow_mut().get(&position) {
            return Ok(commit);
        }
        let damaged = || ReadError::Damaged(Damaged { segment, offset });
        if self.records.is_none() {
            self.records = store.log.reader(segment, self.ahead_bytes);
        }
        let records = self.records.as_mut().ok_or_else(damaged)?;
        let body = body_of(kinds::COMMIT, position, records.read(offset))?;
        let commit = if store.tail.segment == Some(segment) {
            compact::read(&body, &store.tail.dictionary, store.base_ms_of(segment)?)
        } else {
            let Terms { dictionary, base_ms } = self.terms()?;
            compact::read(&body, dictionary, *base_ms)
        };
        let commit = store.inner(position, commit.map_err(|_| damaged())?)?;
        let commit = Arc::new(commit.ok_or(ReadError::UnknownEvent)?);
        store.recent.borrow_mut().insert(position, Arc::clone(&commit), body.len());
        Ok(commit)
    }

    /// Returns the id of a commit that was read in this pass.
    pub(crate) fn id(&mut self, commit: &Loose) -> Result<CommitId, ReadError> {
        let store = self.store;
        if store.tail.segment != Some(self.segment)
            && let Some(ix) = self.index(commit)?
        {
            if self.ids.is_none() {
                self.ids = Some(store.sealed_at(self.segment)?.sidecar.search());
            }
            if let Some(ids) = &mut self.ids
                && let Some(at) = ids.find(ix, commit.seq)?
            {
                return Ok(at.id);
            }
        }
        store.commit_id(self.space_ix, &commit.log, commit.seq)
    }

    fn index(&mut self, commit: &Loose) -> Result<Option<u32>, ReadError> {
        match self.log {
            Some((log, ix)) if log == commit.log => return Ok(Some(ix)),
            _ => {}
        }
        let ix = self.terms()?.dictionary.find(&commit.space, &commit.log);
        self.log = ix.map(|ix| (commit.log, ix));
        Ok(ix)
    }

    fn terms(&mut self) -> Result<&Terms, ReadError> {
        let terms = match self.terms.take() {
            Some(terms) => terms,
            None => Terms {
                dictionary: self.store.dictionary(self.segment)?,
                base_ms: self.store.base_ms_of(self.segment)?,
            },
        };
        Ok(self.terms.insert(terms))
    }
}

/// How many bytes of the log may lie between two records for reading ahead to pay.
const GAP_BYTES: usize = 8 << 10;
/// How many bytes are read at once then.
const AHEAD_BYTES: u32 = 64 << 10;
