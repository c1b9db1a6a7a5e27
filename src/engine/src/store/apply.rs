//! Appends commits to the log and takes them into tables, tail and cached states.

use std::sync::Arc;

use super::branches::inner_supersedes;
use super::tables::Chain;
use super::tail::{Namespace, Row, rows, table_key};
use super::{AppendError, Damaged, ReadError, Store};
use crate::base::{CommitId, Dot, LogId, Writer};
use crate::causal::Tip;
use crate::crdt::{Applied, Delta, Stamp, State};
use crate::event::compact::{self, Loose};
use crate::event::{Commit, Dictionary, ForkProof, Voucher};
use crate::log::{Disk, LogError, Position, ReadError as LogReadError, Record, RecordKind};

/// The kinds of records that the store writes.
pub(crate) mod kinds {
    use crate::log::RecordKind;

    /// Names a log for the rest of the segment.
    pub(crate) const DICTIONARY: RecordKind = RecordKind::NAMES;
    /// One commit in compact form.
    pub(crate) const COMMIT: RecordKind = RecordKind(0x11);
    /// What vouches for the tip of a log.
    pub(crate) const VOUCHER: RecordKind = RecordKind(0x12);
    /// Two commits of one log under one number.
    pub(crate) const FORK_PROOF: RecordKind = RecordKind(0x13);
}

/// Where a commit lies, and its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitPlace {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    pub(crate) id: CommitId,
}

impl CommitPlace {
    /// Returns where the record begins.
    pub(crate) fn at(&self) -> Position {
        Position { segment: self.segment, offset: self.offset }
    }
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
        let (position, chain, deps) = self.with_room(|store| {
            // First, for it may seal a segment, and where the disk fails on that the tables are
            // read anew.
            let segment = store.intern(space_ix, compact::logs(&commit))?;
            let chain = store.chain_of(space_ix, &commit)?.ok_or(ReadError::UnknownEvent)?;
            let deps = store.inner_deps(space_ix, &commit)?.ok_or(ReadError::UnknownEvent)?;
            let mut body = Vec::with_capacity(commit.header().size as usize + 64);
            let (names, base_ms) = (&store.tail.dictionary, store.base_ms_of(segment)?);
            // What is moved by a failing disk may lie without the first of several in its segment.
            let table = store.table(space_ix)?;
            let forked = |log: &LogId, seq| table.is_suspect(log, seq);
            let encoded = compact::encode_beside(&commit, names, base_ms, &forked, &mut body);
            assert!(encoded.is_ok(), "every log that the commit names is interned");
            Ok((store.log.append(kinds::COMMIT, &body)?, chain, deps))
        })?;
        let name = chain.name;
        self.index_commit(space_ix, position, &commit, chain, &deps);
        self.apply_states(space_ix, &commit, name);
        Ok(position)
    }

    /// Appends what vouches for the prefix of a log that ends at `tip`, ahead of its commits.
    pub(crate) fn append_voucher(
        &mut self,
        space_ix: usize,
        tip: Tip,
        voucher: Voucher,
    ) -> Result<(), AppendError> {
        self.with_room(|store| {
            store.intern(space_ix, [tip.log])?;
            let table = store.table(space_ix)?;
            let Some(ix) = store.tail.dictionary.find(&table.id, &tip.log) else { return Ok(()) };
            let mut body = Vec::new();
            body.put_varint(u64::from(ix));
            body.put_varint(tip.seq);
            body.put(&tip.id.0);
            voucher.encode(&mut body);
            store.log.append(kinds::VOUCHER, &body)?;
            Ok(())
        })?;
        if let Some(table) = self.tables.get_mut(space_ix) {
            table.vouch(tip, voucher);
        }
        Ok(())
    }

    /// Appends a proof that a log is forked. What follows from it is done elsewhere.
    pub(crate) fn append_proof(&mut self, proof: &ForkProof) -> Result<Position, AppendError> {
        let mut body = Vec::new();
        proof.encode(&mut body);
        self.with_room(|store| Ok(store.log.append(kinds::FORK_PROOF, &body)?))
    }

    /// Takes an appended commit into the tail and the tables.
    pub(crate) fn index_commit(
        &mut self,
        space_ix: usize,
        position: Position,
        commit: &Commit,
        chain: Chain,
        deps: &[(LogId, u64)],
    ) {
        let name = chain.name;
        let last = self.sealed.last().map(|sealed| sealed.number);
        if let Some(table) = self.tables.get_mut(space_ix)
            && table.record(commit, chain, deps)
            && !mutant!("states-outlive-a-revocation")
        {
            sometimes!("store-others-count");
            table.fold_anew(last);
            self.cache.clear();
        }
        self.index_place(space_ix, position, commit, name);
    }

    /// Takes the place of a commit that the tables know, under its inner name, into the tail.
    pub(crate) fn index_place(
        &mut self,
        space_ix: usize,
        position: Position,
        commit: &Commit,
        name: LogId,
    ) {
        self.tail.segment = Some(position.segment);
        let rows = rows(space_ix, commit);
        if self.tail.is_replayed {
            self.tail.insert_unsettled(position.offset, commit, name, rows);
        } else {
            self.tail.insert(position.offset, commit, name, rows);
        }
        if let Some(table) = self.tables.get_mut(space_ix) {
            table.place(&name, commit.seq(), position.segment);
        }
    }

    /// Brings the cached states of the touched keys up to date.
    ///
    /// A key that is not in the cache gets in if its state before the commit is at hand; others are
    /// folded when asked for.
    pub(crate) fn apply_states(&mut self, space_ix: usize, commit: &Commit, name: LogId) {
        let ruling = self.tables.get(space_ix).map(|table| table.ruling(None));
        if ruling.is_some_and(|ruling| !ruling.counts(&name, commit.seq())) {
            return;
        }
        // Rows that are to be folded anew: what the sidecars say of them misses an event of this
        // very commit.
        let mut stale: Vec<Row> = Vec::new();
        let turns = self.cache.turns();
        for (index, event) in (0_u16..).zip(commit.events()) {
            if mutant!("batch-shown-in-part") && index > 0 {
                break;
            }
            let Some(key) = event.key_text() else { continue };
            let row = table_key(space_ix, Namespace::Key, key.as_bytes());
            if stale.contains(&row) {
                continue;
            }
            let cached = self.cache.take(&commit.space(), key, &row);
            // Of a commit that is larger than the cache an earlier event may have been taken in and
            // dropped again: then what was before the commit is no state to go on from.
            let held = self.cache.holds_since(turns);
            let before = || held.then(|| self.before(space_ix, &row)).flatten();
            let Some(mut state) = cached.or_else(before) else { continue };
            let Some(table) = self.tables.get(space_ix) else { continue };
            let author = (name, commit.seq());
            let supersedes = &event.skeleton.supersedes;
            let inner = inner_supersedes(table, author, supersedes);
            let dot = Dot { log: name, ..commit.dot(index) };
            let changed = Arc::make_mut(&mut state);
            let applied = match event.delta() {
                Some(delta) => {
                    let stamp = Stamp { hlc: commit.hlc(), dot, commit: commit.id() };
                    let supersedes = inner.unwrap_or(delta.supersedes);
                    changed.apply(&stamp, &Delta { supersedes, ..delta })
                }
                None => changed.supersede(&dot, inner.as_ref().unwrap_or(supersedes)),
            };
            match applied {
                Applied::Done => self.cache.insert(row, state),
                Applied::Refold => stale.push(row),
            }
        }
        self.cache.published();
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
            let position = self.log.append(kinds::DICTIONARY, &body)?;
            self.tail.segment = Some(position.segment);
            self.tail.interned = end;
        }
        Ok(self.tail.segment.unwrap_or_default())
    }

    /// Appends something, names and all; a group that is full is closed first, and all is encoded
    /// again: where the disk failed on it, the names are others.
    ///
    /// What an earlier failure of the disk left to be written comes first: it is read again, and
    /// that must not find what the tables do not have yet.
    fn with_room<T>(
        &mut self,
        append: impl Fn(&mut Self) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let ready = self.log.retry();
        self.follow()?;
        ready?;
        match append(self) {
            Err(AppendError::Log(LogError::GroupFull)) => {
                let flushed = self.log.flush();
                self.follow()?;
                flushed?;
                append(self)
            }
            result => result,
        }
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
        let commit = self.loose(position, &body).map_err(|error| match error {
            ReadError::Damaged(_) => ReadError::Damaged(Damaged { segment, offset }),
            error => error,
        })?;
        let commit = Arc::new(commit.ok_or(ReadError::UnknownEvent)?);
        self.recent.borrow_mut().insert(position, Arc::clone(&commit), body.len());
        Ok(commit)
    }

    /// Takes the body of a commit's record apart and puts it into inner names; none if the commit
    /// does not count.
    pub(crate) fn loose(&self, at: Position, body: &[u8]) -> Result<Option<Loose>, ReadError> {
        let segment = at.segment;
        let base_ms = self.base_ms_of(segment)?;
        let loose = self.with_dictionary(segment, |dictionary| {
            compact::read(body, dictionary, base_ms)
                .map_err(|_| ReadError::Damaged(Damaged { segment, offset: 0 }))
        })??;
        self.inner(at, loose)
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
        let ids = |log: &LogId, seq: u64| self.noted_id(space_ix, place.segment, log, seq);
        // The id comes from the index: bytes that rotted in a way the checksum missed, or an index
        // that names the wrong record, end here and go to no peer.
        let is_it = |commit: &Commit| commit.id() == place.id;
        let commit = self.with_dictionary(place.segment, |dictionary| {
            let commit = compact::decode(&body, dictionary, base_ms, &ids).ok().filter(is_it);
            // Damage, or records that were moved, may have taken what was first under a number.
            commit.or_else(|| self.proved(space_ix, &body, dictionary, base_ms, &is_it))
        })?;
        commit.ok_or_else(|| ReadError::Damaged(damaged()))
    }

    /// Returns the id that a record of the segment leaves out where it names a commit: of several
    /// under one number, that of the first in the segment (FORMAT 6.1), or of a record that was
    /// moved, in the segment before (FORMAT 7.8).
    fn noted_id(&self, space_ix: usize, segment: u64, log: &LogId, seq: u64) -> Option<CommitId> {
        let table = self.table(space_ix).ok()?;
        if !table.is_suspect(log, seq) {
            return self.commit_id(space_ix, log, seq).ok();
        }
        let places = table.branches(log).filter_map(|branch| {
            let place = self.commit_place(space_ix, &branch.log, seq).ok()??;
            let back = segment.checked_sub(place.segment)?;
            Some(((back, place.offset), place.id))
        });
        places.min().map(|(_, id)| id)
    }

    fn commit_record(&self, segment: u64, offset: u32) -> Result<(Vec<u8>, u64), ReadError> {
        let position = Position { segment, offset };
        let body = body_of(kinds::COMMIT, position, self.log.read(position))?;
        Ok((body, self.base_ms_of(segment)?))
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

/// Returns the body of a record that was read and must be of that kind; trouble of the disk is no
/// damage.
pub(crate) fn body_of(
    kind: RecordKind,
    Position { segment, offset }: Position,
    record: Result<Record, LogReadError>,
) -> Result<Vec<u8>, ReadError> {
    match record {
        Ok(record) if record.kind == kind => Ok(record.body),
        Err(LogReadError::Io { source, .. }) => Err(ReadError::Disk(source)),
        _ => Err(ReadError::Damaged(Damaged { segment, offset })),
    }
}
