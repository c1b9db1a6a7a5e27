//! The segment that is being written: its bytes that are not durable yet, and its open group.
//!
//! Everything beyond the durable end is kept here, so that reads never depend on what a failing
//! disk returns, and records can be written elsewhere when a sync fails.

use super::Position;
use super::manifest::{Entry, State};
use super::record::{self, Head, RecordKind, Seed};
use super::segment::{self, GROUP_BYTES, Group, HEADER_BYTES, Header, Predecessor, SegmentId};
use crate::base::{Hash, Sha256Stream};

#[derive(Debug)]
pub(super) struct Active {
    pub(super) id: SegmentId,
    pub(super) seed: Seed,
    pub(super) previous: Predecessor,
    /// The bytes from the durable end on: flushed ones first, then the open group.
    pub(super) tail: Vec<u8>,
    /// Where the durable bytes end; 0 until the first sync.
    pub(super) durable: u32,
    /// Where the bytes end that were handed to the disk.
    pub(super) flushed: u32,
    /// Where the last record ends, or the group record that closed it.
    pub(super) written: u32,
    written_flushed: u32,
    /// The greatest mark that the file holds.
    pub(super) marked: u32,
    /// The length that was reserved on disk.
    pub(super) allocated: u32,
    /// Records in the open group.
    pub(super) open_count: u32,
    chain: u32,
    chain_flushed: u32,
    /// Records of callers, the open group included.
    pub(super) records: u64,
    pub(super) groups: u32,
    /// The hash of the flushed bytes; none if it must be read back.
    pub(super) sha: Option<Sha256Stream>,
    /// The bodies of the records of [`RecordKind::NAMES`], with where they start.
    pub(super) names: Vec<(u32, Vec<u8>)>,
    /// Whether the manifest names this segment.
    pub(super) listed: bool,
    /// An earlier process wrote the tail, and may have told somebody that it is durable.
    pub(super) inherited: bool,
}

/// What a survey found of a segment that is written on.
pub(super) struct Resumed {
    pub(super) end: u32,
    pub(super) chain: u32,
    pub(super) records: u64,
    pub(super) groups: u32,
    pub(super) marked: u32,
    pub(super) names: Vec<(u32, Vec<u8>)>,
    pub(super) listed: bool,
}

impl Active {
    /// Begins a segment. Nothing is on disk yet.
    pub(super) fn begin(store: [u8; 16], id: SegmentId, previous: Predecessor) -> Self {
        let seed = id.seed(&store);
        let tail = Header { store, id, previous }.encode();
        Self {
            id,
            seed,
            previous,
            tail,
            durable: 0,
            flushed: 0,
            written: HEADER_BYTES,
            written_flushed: HEADER_BYTES,
            marked: 0,
            allocated: 0,
            open_count: 0,
            chain: seed.chain(),
            chain_flushed: seed.chain(),
            records: 0,
            groups: 0,
            sha: Some(Sha256Stream::new("")),
            names: Vec::new(),
            listed: false,
            inherited: false,
        }
    }

    /// Goes on with a segment that is durable up to its end.
    pub(super) fn resume(
        store: [u8; 16],
        id: SegmentId,
        previous: Predecessor,
        resumed: Resumed,
    ) -> Self {
        Self {
            tail: Vec::new(),
            durable: resumed.end,
            flushed: resumed.end,
            written: resumed.end,
            written_flushed: resumed.end,
            marked: resumed.marked,
            allocated: resumed.end,
            chain: resumed.chain,
            chain_flushed: resumed.chain,
            records: resumed.records,
            groups: resumed.groups,
            sha: None,
            names: resumed.names,
            listed: resumed.listed,
            ..Self::begin(store, id, previous)
        }
    }

    /// Takes over what an earlier process wrote beyond `mark`, and could not be made durable.
    pub(super) fn inherit(&mut self, mark: u32, tail: Vec<u8>) {
        (self.durable, self.tail, self.inherited) = (mark, tail, true);
        let mut has_records = false;
        self.undurable(|_, _, _| has_records = true);
        if !has_records {
            // A mark that the log wrote for itself: nobody waits for that, and it is not moved.
            (self.written, self.written_flushed) = (mark, mark);
        }
    }

    /// Where all bytes end, the open group included.
    pub(super) fn end(&self) -> u32 {
        self.durable + u32::try_from(self.tail.len()).unwrap_or(u32::MAX)
    }

    /// Names a place in this segment.
    pub(super) fn position(&self, offset: u32) -> Position {
        Position { segment: self.id.place, offset }
    }

    /// The bytes that are not on disk yet.
    pub(super) fn unflushed(&self) -> &[u8] {
        self.tail.get((self.flushed - self.durable) as usize..).unwrap_or_default()
    }

    /// Where the last flushed record ends, or the group record that closed it.
    pub(super) fn flushed_records_end(&self) -> u32 {
        if self.flushed == 0 { 0 } else { self.written_flushed }
    }

    /// Adds a record to the open group and returns where it starts.
    pub(super) fn append(&mut self, kind: RecordKind, body: &[u8]) -> u32 {
        let at = self.end();
        let crc = record::write(&mut self.tail, self.seed, at, kind, body);
        if kind == RecordKind::NAMES {
            self.names.push((at, body.to_vec()));
        }
        self.chain = record::extend_chain(self.chain, crc);
        self.open_count += 1;
        self.records += 1;
        self.written = self.end();
        at
    }

    /// Ends the open group with a group record; an empty group is only a mark.
    pub(super) fn close_group(&mut self) {
        let at = self.end();
        let start = self.flushed.max(HEADER_BYTES);
        let group = Group {
            end: at + GROUP_BYTES,
            start,
            mark: self.durable,
            count: self.open_count,
            chain: self.chain,
        };
        segment::write_group(&mut self.tail, self.seed, at, &group);
        if self.open_count > 0 {
            self.written = self.end();
        }
    }

    /// Notes that all bytes are on disk.
    pub(super) fn flushed_all(&mut self) {
        if let Some(mut sha) = self.sha.take() {
            sha.update(self.unflushed());
            self.sha = Some(sha);
        }
        self.flushed = self.end();
        self.allocated = self.allocated.max(self.flushed);
        self.written_flushed = self.written;
        self.chain_flushed = self.chain;
        self.marked = self.marked.max(self.durable);
        self.open_count = 0;
        self.groups += 1;
    }

    /// Drops the open group, as if it had never been appended.
    pub(super) fn take_back(&mut self) {
        self.tail.truncate((self.flushed - self.durable) as usize);
        self.names.retain(|(at, _)| *at < self.flushed);
        self.records -= u64::from(self.open_count);
        self.open_count = 0;
        self.written = self.written_flushed;
        self.chain = self.chain_flushed;
    }

    /// Notes that the bytes below `upto` are durable.
    pub(super) fn durable_to(&mut self, upto: u32) {
        if upto > self.durable {
            self.tail.drain(..((upto - self.durable) as usize).min(self.tail.len()));
            self.durable = upto;
        }
    }

    /// Calls `each` for the records that are not durable, with where they start.
    pub(super) fn undurable(&self, mut each: impl FnMut(u32, RecordKind, &[u8])) {
        let mut at = self.durable.max(HEADER_BYTES);
        while let Some(rest) = self.tail.get((at - self.durable) as usize..) {
            let Some(head) = Head::read(self.seed, at, rest) else { break };
            let body = rest.get(head.head_bytes as usize..head.total() as usize);
            let Some(body) = body else { break };
            if head.kind.is_callers() {
                each(at, head.kind, body);
            }
            at += head.total();
        }
        assert!(at == self.end().max(HEADER_BYTES), "the tail consists of whole records");
    }

    /// How the manifest names this segment.
    pub(super) fn entry(&self, state: State, end: u32, records: u64, sha: Hash) -> Entry {
        Entry { id: self.id, state, end, records, sha, former: None, damaged: false, unread: None }
    }
}
