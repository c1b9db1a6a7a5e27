//! Appends commits to the log and takes them into tables, tail and cached states.

use std::sync::Arc;

use super::tail::{Namespace, rows, table_key};
use super::{AppendError, Damaged, ReadError, Store};
use crate::base::{CommitId, LogId, Writer};
use crate::causal::Tip;
use crate::crdt::{Applied, Stamp, State};
use crate::event::compact::{self, Loose};
use crate::event::{Commit, Dictionary, Voucher};
use crate::log::{Disk, LogError, Position, ReadError as LogReadError, RecordKind};

/// The kinds of records that the store writes.
pub(crate) mod kinds {
    use crate::log::RecordKind;

    /// Names a log for the rest of the segment.
    pub(crate) const DICTIONARY: RecordKind = RecordKind(0x10);
    /// One commit in compact form.
    pub(crate) const COMMIT: RecordKind = RecordKind(0x11);
    /// What vouches for the tip of a log.
    pub(crate) const VOUCHER: RecordKind = RecordKind(0x12);
}

/// Where a commit lies, and its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitPlace {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    pub(crate) id: CommitId,
}

impl<D: Disk + Clone> Store<D> {
    /// Appends a commit whose past is here, and applies it.
    ///
    /// # Errors
    /// The log's; nothing was stored then.
    pub(crate) fn append_commit(
        &mut self,
        space_ix: usize,
        commit: Arc<Commit>,
    ) -> Result<Position, AppendError> {
        let segment = self.intern(space_ix, compact::logs(&commit))?;
        let mut body = Vec::with_capacity(commit.header().size as usize + 64);
        let encoded =
            compact::encode(&commit, &self.tail.dictionary, self.base_ms_of(segment)?, &mut body);
        assert!(encoded.is_ok(), "every log that the commit names is interned");
        let position = self.append(kinds::COMMIT, &body)?;
        self.index_commit(space_ix, position, &commit);
        self.apply_states(space_ix, &commit);
        Ok(position)
    }

    /// Appends what vouches for the prefix of a log that ends at `tip`, ahead of its commits.
    pub(crate) fn append_voucher(
        &mut self,
        space_ix: usize,
        tip: Tip,
        voucher: Voucher,
    ) -> Result<(), AppendError> {
        self.intern(space_ix, [tip.log])?;
        let table = self.table(space_ix)?;
        let Some(ix) = self.tail.dictionary.find(&table.id, &tip.log) else { return Ok(()) };
        let mut body = Vec::new();
        body.put_varint(u64::from(ix));
        body.put_varint(tip.seq);
        body.put(&tip.id.0);
        voucher.encode(&mut body);
        self.append(kinds::VOUCHER, &body)?;
        if let Some(table) = self.tables.get_mut(space_ix) {
            table.vouch(tip, voucher);
        }
        Ok(())
    }

    /// Takes an appended commit into the tail and the tables.
    pub(crate) fn index_commit(&mut self, space_ix: usize, position: Position, commit: &Commit) {
        if let Some(table) = self.tables.get_mut(space_ix) {
            table.record(commit);
        }
        self.index_place(space_ix, position, commit);
    }

    /// Takes the place of a commit that the tables know into the tail.
    pub(crate) fn index_place(&mut self, space_ix: usize, position: Position, commit: &Commit) {
        self.tail.segment = Some(position.segment);
        self.tail.insert(position.offset, commit, rows(space_ix, commit));
        if let Some(table) = self.tables.get_mut(space_ix) {
            table.place(&commit.log(), commit.seq(), position.segment);
        }
    }

    /// Brings the cached states of the touched keys up to date.
    ///
    /// A key that is not in the cache gets in if its state before the commit is at hand; others are
    /// folded when asked for.
    fn apply_states(&mut self, space_ix: usize, commit: &Commit) {
        for (index, event) in commit.events().iter().enumerate() {
            let Some(key) = event.key() else { continue };
            let row = table_key(space_ix, Namespace::Key, key.as_bytes());
            let Some(mut state) = self.cache.take(&row).or_else(|| self.before(space_ix, &row))
            else {
                continue;
            };
            #[expect(clippy::cast_possible_truncation, reason = "at most 4096 events")]
            let dot = commit.dot(index as u16);
            let changed = Arc::make_mut(&mut state);
            let applied = match event.delta() {
                Some((_, delta)) => {
                    let stamp = Stamp { hlc: commit.hlc(), dot, commit: commit.id() };
                    changed.apply(&stamp, &delta)
                }
                None => changed.supersede(&dot, &event.skeleton.supersedes),
            };
            if applied != Applied::Refold {
                self.cache.insert(row, state);
            }
        }
    }

    /// Returns the state of a row before the one commit of the growing segment that touches it.
    fn before(&self, space_ix: usize, row: &[u8]) -> Option<Arc<State>> {
        if self.tail.offsets(row).len() != 1 {
            return None;
        }
        match self.sealed_state(space_ix, row) {
            Ok((state, places)) if places.is_empty() => Some(Arc::new(state.unwrap_or_default())),
            _ => None,
        }
    }

    /// Gives every log that is named an index in the growing segment, on disk before its first use.
    fn intern(
        &mut self,
        space_ix: usize,
        logs: impl IntoIterator<Item = LogId>,
    ) -> Result<u64, AppendError> {
        match self.seal_if_full() {
            // It is sealed when the sync that is under way is done.
            Ok(()) | Err(AppendError::Log(LogError::SyncUnderWay)) => {}
            Err(error) => return Err(error),
        }
        let table = self.tables.get(space_ix).ok_or(ReadError::UnknownSpace)?;
        for log in logs {
            let (seq, id) = table.log(&log).map_or((0, CommitId::ZERO), |log| (log.seq, log.id));
            self.tail.dictionary.intern(table.id, log, seq, id);
        }
        let end = self.tail.dictionary.len();
        if self.tail.interned < end {
            let mut body = Vec::new();
            self.tail.dictionary.put_entries(self.tail.interned, &mut body);
            let position = self.append(kinds::DICTIONARY, &body)?;
            self.tail.segment = Some(position.segment);
            self.tail.interned = end;
        }
        Ok(self.tail.segment.unwrap_or_default())
    }

    /// Appends a record; a group that is full is closed first.
    fn append(&mut self, kind: RecordKind, body: &[u8]) -> Result<Position, AppendError> {
        let result = match self.log.append(kind, body) {
            Err(LogError::GroupFull) => {
                self.log.flush()?;
                self.log.append(kind, body)
            }
            result => result,
        };
        self.follow()?;
        Ok(result?)
    }

    /// Reads one commit's record, without what its hash needs.
    ///
    /// A commit of many events is asked for by each of its keys in turn: the last ones are kept.
    pub(crate) fn read_commit(&self, segment: u64, offset: u32) -> Result<Arc<Loose>, ReadError> {
        let position = Position { segment, offset };
        if let Some(commit) = self.recent.borrow_mut().get(&position) {
            return Ok(commit);
        }
        let (body, _) = self.commit_record(segment, offset)?;
        let commit = self.loose(segment, &body).map_err(|error| match error {
            ReadError::Damaged(_) => ReadError::Damaged(Damaged { segment, offset }),
            error => error,
        })?;
        let commit = Arc::new(commit);
        self.recent.borrow_mut().insert(position, Arc::clone(&commit), body.len());
        Ok(commit)
    }

    /// Takes the body of a commit's record apart.
    pub(crate) fn loose(&self, segment: u64, body: &[u8]) -> Result<Loose, ReadError> {
        let base_ms = self.base_ms_of(segment)?;
        self.with_dictionary(segment, |dictionary| {
            compact::read(body, dictionary, base_ms)
                .map_err(|_| ReadError::Damaged(Damaged { segment, offset: 0 }))
        })?
    }

    /// Reads a commit with everything that its hash covers, and checks the hash.
    pub(crate) fn whole_commit(
        &self,
        space_ix: usize,
        log: &LogId,
        seq: u64,
    ) -> Result<Commit, ReadError> {
        let place = self.commit_place(space_ix, log, seq)?.ok_or(ReadError::UnknownEvent)?;
        let damaged = || Damaged { segment: place.segment, offset: place.offset };
        let (body, base_ms) = self.commit_record(place.segment, place.offset)?;
        let ids = |log: &LogId, seq: u64| self.commit_id(space_ix, log, seq).ok();
        let commit = self.with_dictionary(place.segment, |dictionary| {
            compact::decode(&body, dictionary, base_ms, &ids)
                .map_err(|_| ReadError::Damaged(damaged()))
        })??;
        // The id comes from the index: bytes that rotted in a way the checksum missed, or an index
        // that names the wrong record, end here and go to no peer.
        if commit.id() == place.id { Ok(commit) } else { Err(ReadError::Damaged(damaged())) }
    }

    fn commit_record(&self, segment: u64, offset: u32) -> Result<(Vec<u8>, u64), ReadError> {
        let damaged = || ReadError::Damaged(Damaged { segment, offset });
        let record = self.log.read(Position { segment, offset }).map_err(|error| match error {
            LogReadError::Io { source, .. } => ReadError::Disk(source),
            _ => damaged(),
        })?;
        let base_ms = self.base_ms_of(segment)?;
        if record.kind == kinds::COMMIT { Ok((record.body, base_ms)) } else { Err(damaged()) }
    }

    fn with_dictionary<T>(
        &self,
        segment: u64,
        read: impl FnOnce(&Dictionary) -> T,
    ) -> Result<T, ReadError> {
        if self.tail.segment == Some(segment) {
            return Ok(read(&self.tail.dictionary));
        }
        Ok(read(&*self.dictionary(segment)?))
    }

    /// Finds a commit that was applied.
    pub(crate) fn commit_place(
        &self,
        space_ix: usize,
        log: &LogId,
        seq: u64,
    ) -> Result<Option<CommitPlace>, ReadError> {
        let table = self.table(space_ix)?;
        let Some(segment) = table.segment_of(log, seq) else { return Ok(None) };
        if self.tail.segment == Some(segment) {
            let found = self.tail.commit(&table.id, log, seq);
            return Ok(found.map(|(offset, id)| CommitPlace { segment, offset, id }));
        }
        let Some(ix) = self.dictionary(segment)?.find(&table.id, log) else { return Ok(None) };
        let found = self.sealed_at(segment)?.sidecar.commit(ix, seq)?;
        Ok(found.map(|at| CommitPlace { segment, offset: at.offset, id: at.id }))
    }
}
