//! What a store knows of each space and each log in it: tips, trees, clocks and heads.
//!
//! Derived from the log. A snapshot of all tables goes into each sidecar, so that opening a store
//! reads the newest snapshot and replays only what lies after it.

use std::collections::BTreeMap;

use crate::base::{CodecError, CommitId, Hlc, LogId, Reader, SpaceId, Writer};
use crate::causal::{Clocks, Heads, Tip, VersionVector};
use crate::event::tree::Tree;
use crate::event::{Commit, Voucher};
use crate::limits;

/// All spaces of a store, by their index on disk.
pub(crate) type Tables = Vec<SpaceTable>;

/// One space as this replica holds it.
#[derive(Debug, Clone)]
pub(crate) struct SpaceTable {
    pub(crate) id: SpaceId,
    /// In order of arrival; the position is the log's index in states on disk.
    logs: Vec<LogTable>,
    by_id: BTreeMap<LogId, u32>,
    pub(crate) heads: Heads,
    pub(crate) clocks: Clocks,
    /// The greatest stamp of any commit here.
    pub(crate) hlc: Hlc,
    /// How many commits were applied, and how many events were in them.
    pub(crate) commits: u64,
    pub(crate) events: u64,
    /// What vouches for commits that are still to come: it is stored ahead of them.
    pending: BTreeMap<LogId, (Tip, Voucher)>,
}

/// One log in one space.
#[derive(Debug, Clone)]
pub(crate) struct LogTable {
    pub(crate) log: LogId,
    pub(crate) seq: u64,
    pub(crate) id: CommitId,
    pub(crate) hlc: Hlc,
    pub(crate) tree: Tree,
    /// Vouches for the prefix that ends at the tip; own logs are attested anew when asked.
    pub(crate) voucher: Option<Voucher>,
    /// The segments that hold the log: the first seq in each, ascending.
    segments: Vec<(u64, u64)>,
}

impl LogTable {
    /// Returns the log's last commit.
    pub(crate) fn tip(&self) -> Tip {
        Tip { log: self.log, seq: self.seq, id: self.id }
    }
}

impl SpaceTable {
    /// Makes the table of a space of which nothing is here yet.
    pub(crate) fn new(id: SpaceId) -> Self {
        Self {
            id,
            logs: Vec::new(),
            by_id: BTreeMap::new(),
            heads: Heads::default(),
            clocks: Clocks::default(),
            hlc: Hlc::default(),
            commits: 0,
            events: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Returns a log of the space.
    pub(crate) fn log(&self, id: &LogId) -> Option<&LogTable> {
        self.log_at(*self.by_id.get(id)?)
    }

    /// Returns a log of the space to be changed.
    pub(crate) fn log_mut(&mut self, id: &LogId) -> Option<&mut LogTable> {
        let ix = *self.by_id.get(id)?;
        self.logs.get_mut(usize::try_from(ix).ok()?)
    }

    /// Returns the log with that index in states on disk.
    pub(crate) fn log_at(&self, ix: u32) -> Option<&LogTable> {
        self.logs.get(usize::try_from(ix).ok()?)
    }

    /// Returns a log's index in states on disk.
    pub(crate) fn index(&self, id: &LogId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// Returns the last seq of a log, 0 if nothing of it is here.
    pub(crate) fn seq(&self, id: &LogId) -> u64 {
        self.log(id).map_or(0, |log| log.seq)
    }

    /// Iterates over the logs, ascending by id.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &LogTable> {
        self.by_id.values().filter_map(|ix| self.log_at(*ix))
    }

    /// Returns the last commit of each log, ascending by log id.
    pub(crate) fn frontier(&self) -> Vec<Tip> {
        self.logs().map(LogTable::tip).collect()
    }

    /// Returns the last seq of each log.
    pub(crate) fn version(&self) -> VersionVector {
        self.logs().map(|log| (log.log, log.seq)).collect()
    }

    /// Takes a commit whose prev and deps are all here.
    pub(crate) fn record(&mut self, commit: &Commit) {
        let tip = commit.tip();
        let deps: Vec<(LogId, u64)> = commit.deps().iter().map(|d| (d.log, d.seq)).collect();
        let recorded = self.clocks.record(tip.log, tip.seq, &deps);
        assert!(recorded.is_ok(), "commits are recorded in causal order: {recorded:?}");
        self.heads.insert(tip, (tip.seq > 1).then_some(commit.prev()), commit.deps());
        self.hlc = self.hlc.max(commit.hlc());
        self.commits += 1;
        self.events += commit.events().len() as u64;
        let hlc = commit.hlc();
        if self.log(&tip.log).is_none() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "fewer logs than 2^32 fit anywhere"
            )]
            self.by_id.insert(tip.log, self.logs.len() as u32);
            let (log, seq, id) = (tip.log, 0, CommitId::ZERO);
            let (tree, voucher, segments) = (Tree::default(), None, Vec::new());
            self.logs.push(LogTable { log, seq, id, hlc, tree, voucher, segments });
        }
        if let Some(log) = self.log_mut(&tip.log) {
            assert!(log.seq + 1 == tip.seq, "commits of a log are recorded in order");
            log.tree.append(&tip.id);
            (log.seq, log.id, log.hlc, log.voucher) = (tip.seq, tip.id, hlc, None);
        }
        if let Some((at, voucher)) = self.pending.remove(&tip.log) {
            self.vouch(at, voucher);
        }
    }

    /// Takes what vouches for the prefix of a log that ends at `tip`, now or when it is reached.
    pub(crate) fn vouch(&mut self, tip: Tip, voucher: Voucher) {
        match self.log_mut(&tip.log) {
            Some(log) if log.seq == tip.seq => log.voucher = Some(voucher),
            Some(log) if log.seq > tip.seq => {}
            _ => drop(self.pending.insert(tip.log, (tip, voucher))),
        }
    }

    /// Takes note of the segment that a commit lies in.
    pub(crate) fn place(&mut self, log: &LogId, seq: u64, segment: u64) {
        let Some(log) = self.log_mut(log) else { return };
        // Records that were moved to another segment lie there from now on.
        while log.segments.last().is_some_and(|(first, _)| *first >= seq) {
            log.segments.pop();
        }
        if log.segments.last().is_none_or(|(_, last)| *last != segment) {
            log.segments.push((seq, segment));
        }
    }

    /// Returns the segment that a commit lies in, if it was applied.
    pub(crate) fn segment_of(&self, log: &LogId, seq: u64) -> Option<u64> {
        let log = self.log(log).filter(|log| seq <= log.seq)?;
        let after = log.segments.partition_point(|(first, _)| *first <= seq);
        log.segments.get(after.checked_sub(1)?).map(|(_, segment)| *segment)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.id.0);
        out.put_u64(self.hlc.0);
        out.put_varint(self.commits);
        out.put_varint(self.events);
        out.put_len(self.logs.len());
        for log in &self.logs {
            out.put_log(&log.log);
            out.put_varint(log.seq);
            out.put(&log.id.0);
            out.put_u64(log.hlc.0);
            log.tree.encode(0, out);
            out.put_u8(u8::from(log.voucher.is_some()));
            if let Some(voucher) = &log.voucher {
                voucher.encode(out);
            }
            out.put_len(log.segments.len());
            for (first, segment) in &log.segments {
                out.put_varint(*first);
                out.put_varint(*segment);
            }
        }
        out.put_len(self.heads.len());
        for tip in &self.heads {
            tip.encode(out);
        }
        self.clocks.encode(out);
        out.put_len(self.pending.len());
        for (tip, voucher) in self.pending.values() {
            tip.encode(out);
            voucher.encode(out);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut space = Self::new(SpaceId(r.hash()?));
        space.hlc = r.hlc()?;
        space.commits = r.varint()?;
        space.events = r.varint()?;
        for ix in 0..r.count(limits::LOGS_MAX, 80, "logs")? {
            let log = r.log()?;
            let (seq, id, hlc) = (r.varint()?, r.commit_id()?, r.hlc()?);
            let tree = Tree::decode(r)?;
            let voucher = if r.u8()? == 0 { None } else { Some(Voucher::decode(r)?) };
            let mut segments = Vec::new();
            for _ in 0..r.count(usize::MAX, 2, "segments")? {
                segments.push((r.varint()?, r.varint()?));
            }
            let ix = u32::try_from(ix).map_err(|_| CodecError::TooLarge("logs"))?;
            space.by_id.insert(log, ix);
            space.logs.push(LogTable { log, seq, id, hlc, tree, voucher, segments });
        }
        let heads = r.count(limits::LOGS_MAX, Tip::BYTES_MIN, "heads")?;
        space.heads = (0..heads).map(|_| Tip::decode(r)).collect::<Result<_, _>>()?;
        space.clocks = Clocks::decode(r)?;
        for _ in 0..r.count(limits::LOGS_MAX, Tip::BYTES_MIN, "vouchers")? {
            let tip = Tip::decode(r)?;
            space.pending.insert(tip.log, (tip, Voucher::decode(r)?));
        }
        Ok(space)
    }
}

/// Returns the bytes of a snapshot of all tables.
pub(crate) fn encode(tables: &[SpaceTable]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_len(tables.len());
    for space in tables {
        space.encode(&mut out);
    }
    out
}

/// Reads a snapshot of all tables.
pub(crate) fn decode(bytes: &[u8]) -> Result<Tables, CodecError> {
    let mut r = Reader::new(bytes);
    let mut tables = Vec::new();
    for _ in 0..r.count(limits::SPACES_MAX, 44, "spaces")? {
        tables.push(SpaceTable::decode(&mut r)?);
    }
    r.finish()?;
    Ok(tables)
}
