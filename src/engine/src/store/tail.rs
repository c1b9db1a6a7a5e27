//! The index of the segment that is still growing: which records touched which key, and where each
//! commit lies.
//!
//! It is kept in memory, bounded by the size of a segment, and becomes the segment's sidecar when
//! the segment is sealed. It holds positions, not states: those are folded when asked for.

use std::collections::BTreeMap;
use std::ops::Bound;

use smallvec::{SmallVec, smallvec};

use crate::base::{CommitId, LogId, SpaceId};
use crate::event::{Commit, Dictionary};

/// What a table key names. The value is its byte on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// A key that users write.
    Key = 0,
    /// A tag.
    Tag = 1,
    /// A request id.
    Request = 2,
}

/// The name of a row in sidecars and in the tail: space index, namespace, bytes. Those of short
/// keys lie in place, so that comparing two of them looks nowhere else.
pub(crate) type Row = SmallVec<[u8; 24]>;

/// The rows of one commit.
pub(crate) type Rows = SmallVec<[Row; 1]>;

/// Returns the name of a row.
pub(crate) fn table_key(space_ix: usize, namespace: Namespace, bytes: &[u8]) -> Row {
    let mut key = table_prefix(space_ix, namespace);
    key.extend_from_slice(bytes);
    key
}

/// The bytes that all rows of a namespace in a space begin with.
pub(crate) fn table_prefix(space_ix: usize, namespace: Namespace) -> Row {
    let mut key = Row::new();
    // Big-endian, so that rows sort by space first.
    key.extend_from_slice(&u32::try_from(space_ix).unwrap_or(u32::MAX).to_be_bytes());
    key.push(namespace as u8);
    key
}

/// Takes the space's index and the namespace off the front of a row's name.
pub(crate) fn split_row(row: &[u8]) -> Option<(usize, Namespace)> {
    let (ix, rest) = row.split_first_chunk::<4>()?;
    let space_ix = usize::try_from(u32::from_be_bytes(*ix)).ok()?;
    let namespaces = [Namespace::Key, Namespace::Tag, Namespace::Request];
    let namespace = namespaces.into_iter().find(|n| rest.first() == Some(&(*n as u8)))?;
    Some((space_ix, namespace))
}

/// The rows that a commit touches, each once.
pub(crate) fn rows(space_ix: usize, commit: &Commit) -> Rows {
    let row = |key: &str| table_key(space_ix, Namespace::Key, key.as_bytes());
    let mut rows: Rows = commit.events().iter().filter_map(|e| e.key_text()).map(row).collect();
    if let Some(meta) = commit.meta() {
        if let Some(tag) = &meta.tag {
            rows.push(table_key(space_ix, Namespace::Tag, tag.name().as_bytes()));
        }
        if let Some(id) = &meta.request_id {
            rows.push(table_key(space_ix, Namespace::Request, id));
        }
    }
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// The index of the growing segment.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The segment; none before its first commit.
    pub(crate) segment: Option<u64>,
    /// The logs that the segment's records name, and the ids of its commits.
    pub(crate) dictionary: Dictionary,
    /// Those of the last segments before, oldest first, as far as they were read just before:
    /// records that were moved from there leave out ids that they knew.
    pub(crate) before: Vec<Dictionary>,
    /// How many entries of the dictionary are in the segment.
    pub(crate) interned: u32,
    /// The segment is being replayed, and nobody asks for rows before it is settled.
    pub(crate) is_replayed: bool,
    rows: BTreeMap<Row, Offsets>,
    /// Rows that are not among those yet: see [`Tail::settle`].
    unsettled: Vec<Unsettled>,
    offsets: BTreeMap<(u32, u64), u32>,
    /// The ids of those that are not the first commit under their number in the segment: what is
    /// first was not taken.
    others: BTreeMap<(u32, u64), CommitId>,
    /// The commits of branches, by inner name: the records say the forked log's own id.
    branches: BTreeMap<(SpaceId, LogId, u64), (u32, CommitId)>,
}

/// Through how many segments records are followed that were moved again and again.
pub(crate) const MOVES_MAX: usize = 4;

/// Where the records of a row begin, ascending.
type Offsets = SmallVec<[u32; 4]>;

/// A row and where a record touched it, on the way into the index; ordered by row, then offset.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unsettled {
    /// The row's first bytes: most comparisons end here, without a look at the rest.
    head: [u8; 32],
    row: Row,
    offset: u32,
}

/// A commit of the growing segment: where it lies, and its inner name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TailCommit {
    pub(crate) space: SpaceId,
    pub(crate) log: LogId,
    pub(crate) seq: u64,
    pub(crate) offset: u32,
    pub(crate) id: CommitId,
}

impl Tail {
    /// Starts the index of a segment that is read after another.
    pub(crate) fn after(former: Self, segment: u64) -> Self {
        let Self { mut before, dictionary, .. } = former;
        if !dictionary.is_empty() {
            before.push(dictionary);
        }
        before.drain(..before.len().saturating_sub(MOVES_MAX));
        Self { segment: Some(segment), before, ..Self::default() }
    }

    /// Takes note of a commit's record at `offset`; `name` is the inner name of where it went. Its
    /// log is in the dictionary.
    pub(crate) fn insert(&mut self, offset: u32, commit: &Commit, name: LogId, rows: Rows) {
        for row in rows {
            let offsets = self.rows.entry(row).or_default();
            if offsets.last() != Some(&offset) {
                offsets.push(offset);
            }
        }
        self.insert_commit(offset, commit, name);
    }

    /// The same, but that the rows are not looked up before [`settle`](Self::settle): sorting many
    /// of them at once costs a fraction of finding the place of each.
    pub(crate) fn insert_unsettled(
        &mut self,
        offset: u32,
        commit: &Commit,
        name: LogId,
        rows: Rows,
    ) {
        for row in rows {
            let mut head = [0; 32];
            head.iter_mut().zip(&row).for_each(|(to, from)| *to = *from);
            self.unsettled.push(Unsettled { head, row, offset });
        }
        self.insert_commit(offset, commit, name);
    }

    /// Takes in the rows that were left for later. Nothing was inserted otherwise in between.
    pub(crate) fn settle(&mut self) {
        let mut unsettled = std::mem::take(&mut self.unsettled);
        if unsettled.is_empty() {
            return;
        }
        assert!(self.rows.is_empty(), "rows are left for later from the first record on");
        unsettled.sort_unstable();
        let mut rows: Vec<(Row, Offsets)> = Vec::new();
        for Unsettled { row, offset, .. } in unsettled {
            match rows.last_mut().filter(|(last, _)| *last == row) {
                Some((_, offsets)) => offsets.push(offset),
                None => rows.push((row, smallvec![offset])),
            }
        }
        self.rows = rows.into_iter().collect();
    }

    fn insert_commit(&mut self, offset: u32, commit: &Commit, name: LogId) {
        self.note(commit);
        if name != commit.log() {
            let key = (commit.space(), name, commit.seq());
            self.branches.insert(key, (offset, commit.id()));
        } else if let Some(ix) = self.dictionary.find(&commit.space(), &name) {
            let place = (ix, commit.seq());
            self.offsets.insert(place, offset);
            if self.dictionary.id(ix, commit.seq()) != Some(commit.id()) {
                self.others.insert(place, commit.id());
            }
        }
    }

    /// Takes note of the id of a commit in the segment, as its writer did, if it counts or not.
    pub(crate) fn note(&mut self, commit: &Commit) {
        if let Some(ix) = self.dictionary.find(&commit.space(), &commit.log()) {
            self.dictionary.note(ix, commit.seq(), commit.id());
        }
    }

    /// Returns the offsets of the records that touched a row, ascending.
    pub(crate) fn offsets(&self, row: &[u8]) -> &[u32] {
        self.rows.get(row).map_or(&[], SmallVec::as_slice)
    }

    /// Returns where a commit lies, and its id.
    pub(crate) fn commit(&self, space: &SpaceId, log: &LogId, seq: u64) -> Option<(u32, CommitId)> {
        if let Some(found) = self.branches.get(&(*space, *log, seq)) {
            return Some(*found);
        }
        let ix = self.dictionary.find(space, log)?;
        Some((*self.offsets.get(&(ix, seq))?, self.id(ix, seq)?))
    }

    /// Returns the id of a commit that counts.
    fn id(&self, ix: u32, seq: u64) -> Option<CommitId> {
        self.others.get(&(ix, seq)).copied().or_else(|| self.dictionary.id(ix, seq))
    }

    /// Iterates over the rows in a range, ascending.
    pub(crate) fn rows_in(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl Iterator<Item = &Row> {
        self.rows.range::<[u8], _>(range).map(|(row, _)| row)
    }

    /// Iterates over the commits that count, those of logs before those of branches.
    pub(crate) fn commits(&self) -> impl Iterator<Item = TailCommit> {
        let of_logs = self.offsets.iter().filter_map(|((ix, seq), offset)| {
            let entry = self.dictionary.entry(*ix)?;
            let (space, log, id) = (entry.space, entry.log, self.id(*ix, *seq)?);
            Some(TailCommit { space, log, seq: *seq, offset: *offset, id })
        });
        let of_branches = self.branches.iter().map(|((space, log, seq), (offset, id))| {
            TailCommit { space: *space, log: *log, seq: *seq, offset: *offset, id: *id }
        });
        of_logs.chain(of_branches)
    }

    /// Returns the dictionary with the inner names of branches added: records do not use them, the
    /// sidecar does.
    pub(crate) fn named(&self) -> Dictionary {
        let mut dictionary = self.dictionary.clone();
        for (space, name, _) in self.branches.keys() {
            dictionary.intern(*space, *name, 0, CommitId::ZERO);
        }
        dictionary
    }
}
