//! What a store knows of each space and each log in it: tips, trees, clocks and heads.
//!
//! Derived from the log. A snapshot of all tables goes into each sidecar, so that opening a store
//! reads the newest snapshot and replays only what lies after it.

use std::collections::BTreeMap;

use super::Whose;
use super::ownership::{Acted, Ownership};
use crate::base::{CodecError, CommitId, Hlc, LogId, Reader, SpaceId, Writer};
use crate::causal::{Clocks, Heads, Tip, VersionVector};
use crate::event::tree::Tree;
use crate::event::{Commit, Voucher};
use crate::limits;
use crate::log::Position;

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
    /// The sum of the sizes that their headers give.
    pub(crate) bytes: u64,
    /// What vouches for commits that are still to come: it is stored ahead of them.
    pending: BTreeMap<LogId, (Tip, Voucher)>,
    /// The logs that their authors forked.
    closed: BTreeMap<LogId, Closed>,
    /// Whether anybody owns it, if that was ever told here.
    pub(super) whose: Whose,
    /// Who may do what; none where all may do everything, or the genesis is not here.
    pub(super) ownership: Option<Ownership>,
}

/// A log of which two commits under one number are known: it ends before them, and what counts of
/// the rest are branches, each under a name of its own that only this store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The least number under which two commits are proven.
    pub(crate) seq: u64,
    /// Where the record of the proof begins.
    pub(crate) position: Position,
    /// The names of the branches of which something counts.
    pub(crate) branches: Vec<LogId>,
}

/// Where a commit goes: onto the end of a log or branch, or to the beginning of a new branch.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) name: LogId,
    pub(crate) begins: Option<Beginning>,
}

/// Where a branch begins.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    /// The commit that its first one follows, by inner name; none if that is the log's first.
    pub(crate) base: Option<(LogId, u64)>,
    /// The log's tree up to there.
    pub(crate) tree: Tree,
}

/// One log in one space, or one branch of a closed log.
#[derive(Debug, Clone)]
pub(crate) struct LogTable {
    /// The name here: the log's own, or that of the branch.
    pub(crate) log: LogId,
    /// The log that it is, or is a branch of.
    pub(crate) origin: LogId,
    /// The first seq in here: 1 unless it is a branch.
    pub(crate) first: u64,
    /// The commit before that, of a branch.
    pub(crate) base: Option<(LogId, u64)>,
    pub(crate) seq: u64,
    pub(crate) id: CommitId,
    pub(crate) hlc: Hlc,
    pub(crate) tree: Tree,
    /// Vouches for the prefix that ends at the tip; own logs are attested anew when asked.
    pub(crate) voucher: Option<Voucher>,
    /// The segments that hold the log: the first seq in each, ascending.
    segments: Vec<(u64, u64)>,
    /// Under which grants its commits were written, ascending; nothing in a space that nobody owns.
    pub(super) acted: Vec<Acted>,
}

impl LogTable {
    /// Begins a log, or a branch of it whose commits follow those of `tree`.
    fn begin(name: LogId, origin: LogId, beginning: Beginning) -> Self {
        let Beginning { base, tree } = beginning;
        Self {
            log: name,
            origin,
            first: tree.size() + 1,
            base,
            seq: tree.size(),
            id: CommitId::ZERO,
            hlc: Hlc::default(),
            tree,
            voucher: None,
            segments: Vec::new(),
            acted: Vec::new(),
        }
    }

    /// Returns the last commit, by the name that all replicas use.
    pub(crate) fn tip(&self) -> Tip {
        Tip { log: self.origin, seq: self.seq, id: self.id }
    }

    /// Tells whether this is a branch of a closed log.
    pub(crate) fn is_branch(&self) -> bool {
        self.log != self.origin
    }
}

impl Chain {
    /// The end of a log that is not forked, or the part of one before its fork.
    pub(crate) fn trunk(log: LogId) -> Self {
        Self { name: log, begins: None }
    }
}

impl SpaceTable {
    /// Makes the table of a space of which nothing is here yet.
    pub(crate) fn new(id: SpaceId, whose: Whose) -> Self {
        Self {
            id,
            logs: Vec::new(),
            by_id: BTreeMap::new(),
            heads: Heads::default(),
            clocks: Clocks::default(),
            hlc: Hlc::default(),
            commits: 0,
            events: 0,
            bytes: 0,
            pending: BTreeMap::new(),
            closed: BTreeMap::new(),
            whose,
            ownership: None,
        }
    }

    /// Tells whether no log is closed: then every log has the name that all replicas use.
    pub(crate) fn is_unforked(&self) -> bool {
        self.closed.is_empty()
    }

    /// Returns what is known of a forked log.
    pub(crate) fn closed(&self, log: &LogId) -> Option<&Closed> {
        self.closed.get(log)
    }

    /// Iterates over the forked logs, ascending by id.
    pub(crate) fn closed_logs(&self) -> impl Iterator<Item = (LogId, &Closed)> {
        self.closed.iter().map(|(log, closed)| (*log, closed))
    }

    /// Tells whether a commit counts only if another log builds upon it.
    pub(crate) fn is_suspect(&self, log: &LogId, seq: u64) -> bool {
        self.closed.get(log).is_some_and(|closed| closed.seq <= seq)
    }

    /// Returns how far a log that ends at `seq` counts by itself.
    pub(crate) fn plain_end(&self, log: &LogId, seq: u64) -> u64 {
        self.closed.get(log).map_or(seq, |closed| seq.min(closed.seq - 1))
    }

    /// Tells whether anything of a log is recorded from `seq` on.
    pub(crate) fn reaches(&self, log: &LogId, seq: u64) -> bool {
        self.seq(log) >= seq || self.branches(log).any(|branch| branch.seq >= seq)
    }

    /// Closes a log from `seq` on. Nothing of it from there on may have been recorded.
    pub(crate) fn close(&mut self, log: LogId, seq: u64, position: Position) {
        assert!(self.seq(&log) < seq, "a log is closed before what is beyond is recorded");
        self.closed.insert(log, Closed { seq, position, branches: Vec::new() });
    }

    /// Returns the branches of a log.
    pub(crate) fn branches(&self, log: &LogId) -> impl Iterator<Item = &LogTable> {
        let names = self.closed.get(log).map_or(&[][..], |closed| &closed.branches);
        names.iter().filter_map(|name| self.log(name))
    }

    /// Returns the name that all replicas use for a log or for the log of a branch.
    pub(crate) fn origin(&self, name: &LogId) -> LogId {
        self.log(name).map_or(*name, |log| log.origin)
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

    /// Iterates over the logs and branches, ascending by their names here.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &LogTable> {
        self.by_id.values().filter_map(|ix| self.log_at(*ix))
    }

    /// Returns the last commit of each log, ascending by log id; of a closed one, the last before
    /// the fork.
    pub(crate) fn frontier(&self) -> Vec<Tip> {
        self.logs().filter(|log| !log.is_branch()).map(LogTable::tip).collect()
    }

    /// Returns the last seq of each log and branch.
    pub(crate) fn version(&self) -> VersionVector {
        self.logs().map(|log| (log.log, log.seq)).collect()
    }

    /// Takes a commit whose prev and deps are all here; `deps` are by their names here. Tells
    /// whether other commits count from now on than did before, this one aside.
    pub(crate) fn record(&mut self, commit: &Commit, chain: Chain, deps: &[(LogId, u64)]) -> bool {
        let (tip, name, hlc) = (commit.tip(), chain.name, commit.hlc());
        let mut deps = deps.to_vec();
        if let Some(beginning) = chain.begins {
            deps.extend(beginning.base);
            self.clocks.begin(name, tip.seq);
            self.add(LogTable::begin(name, tip.log, beginning));
            if let Some(closed) = self.closed.get_mut(&tip.log) {
                closed.branches.push(name);
            }
        } else if self.log(&name).is_none() {
            let beginning = Beginning { base: None, tree: Tree::default() };
            self.add(LogTable::begin(name, tip.log, beginning));
        }
        let recorded = self.clocks.record(name, tip.seq, &deps);
        assert!(recorded.is_ok(), "commits are recorded in causal order: {recorded:?}");
        self.heads.insert(tip, (tip.seq > 1).then_some(commit.prev()), commit.deps());
        self.hlc = self.hlc.max(hlc);
        self.commits += 1;
        self.events += commit.events().len() as u64;
        self.bytes += u64::from(commit.header().size);
        if let Some(log) = self.log_mut(&name) {
            assert!(log.seq + 1 == tip.seq, "commits of a log are recorded in order");
            log.tree.append(&tip.id);
            (log.seq, log.id, log.hlc, log.voucher) = (tip.seq, tip.id, hlc, None);
        }
        if let Some((at, voucher)) = self.pending.remove(&tip.log) {
            self.vouch(at, voucher);
        }
        self.judge(commit, name)
    }

    fn add(&mut self, log: LogTable) {
        #[expect(clippy::cast_possible_truncation, reason = "fewer logs than 2^32 fit anywhere")]
        self.by_id.insert(log.log, self.logs.len() as u32);
        self.logs.push(log);
    }

    /// Takes what vouches for the prefix of a log that ends at `tip`, now or when it is reached.
    pub(crate) fn vouch(&mut self, tip: Tip, voucher: Voucher) {
        match self.ending_in(&tip).map(|log| log.log) {
            Some(name) => {
                if let Some(log) = self.log_mut(&name) {
                    log.voucher = Some(voucher);
                }
            }
            None if tip.seq <= self.seq(&tip.log) => {}
            None => drop(self.pending.insert(tip.log, (tip, voucher))),
        }
    }

    /// Returns the log or branch that ends in `tip`.
    pub(crate) fn ending_in(&self, tip: &Tip) -> Option<&LogTable> {
        let mut ends = self.log(&tip.log).into_iter().chain(self.branches(&tip.log));
        ends.find(|log| log.seq == tip.seq && log.id == tip.id)
    }

    /// Tells whether a log is vouched for up to a commit that is still to come, `seq` or beyond.
    pub(crate) fn is_vouched_to(&self, log: &LogId, seq: u64) -> bool {
        self.pending.get(log).is_some_and(|(tip, _)| tip.seq >= seq)
    }

    /// Tells whether what vouches for a log up to a commit is here, and the commit is to come.
    pub(crate) fn awaits(&self, tip: &Tip) -> bool {
        self.pending.get(&tip.log).is_some_and(|(at, _)| at == tip)
    }

    /// Returns the logs that are vouched for only up to commits that are still to come.
    pub(crate) fn unvouched(&self) -> impl Iterator<Item = (&LogTable, Tip, &Voucher)> {
        self.pending.values().filter_map(|(tip, voucher)| {
            let log = self.log(&tip.log).filter(|log| log.voucher.is_none())?;
            (log.seq < tip.seq).then_some((log, *tip, voucher))
        })
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
        out.put_varint(self.bytes);
        out.put_len(self.logs.len());
        for log in &self.logs {
            out.put_log(&log.log);
            out.put_u8(u8::from(log.is_branch()) | u8::from(log.base.is_some()) << 1);
            if log.is_branch() {
                out.put_log(&log.origin);
                out.put_varint(log.first);
            }
            if let Some((base, seq)) = &log.base {
                out.put_log(base);
                out.put_varint(*seq);
            }
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
            out.put_len(log.acted.len());
            log.acted.iter().for_each(|acted| acted.encode(out));
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
        out.put_len(self.closed.len());
        for (log, closed) in &self.closed {
            out.put_log(log);
            out.put_varint(closed.seq);
            out.put_varint(closed.position.segment);
            out.put_u32(closed.position.offset);
        }
        out.put_u8(self.whose as u8);
        out.put_u8(u8::from(self.ownership.is_some()));
        if let Some(ownership) = &self.ownership {
            ownership.encode(out);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut space = Self::new(SpaceId(r.hash()?), Whose::Unknown);
        let hlc = r.hlc()?;
        space.hlc = if mutant!("stamp-not-resumed") { Hlc::default() } else { hlc };
        space.commits = r.varint()?;
        space.events = r.varint()?;
        space.bytes = r.varint()?;
        for _ in 0..r.count(limits::LOGS_MAX, 80, "logs")? {
            space.add(LogTable::decode(r)?);
        }
        let heads = r.count(limits::LOGS_MAX, Tip::BYTES_MIN, "heads")?;
        space.heads = (0..heads).map(|_| Tip::decode(r)).collect::<Result<_, _>>()?;
        space.clocks = Clocks::decode(r)?;
        for _ in 0..r.count(limits::LOGS_MAX, Tip::BYTES_MIN, "vouchers")? {
            let tip = Tip::decode(r)?;
            space.pending.insert(tip.log, (tip, Voucher::decode(r)?));
        }
        for _ in 0..r.count(limits::CLOSED_LOGS_MAX, 46, "closed logs")? {
            let (log, seq) = (r.log()?, r.varint()?);
            let position = Position { segment: r.varint()?, offset: r.u32()? };
            let of_log = space.logs.iter().filter(|table| table.is_branch() && table.origin == log);
            let branches = of_log.map(|table| table.log).collect();
            space.closed.insert(log, Closed { seq, position, branches });
        }
        space.whose = Whose::of(r.u8()?)?;
        if r.u8()? != 0 {
            space.ownership = Some(Ownership::decode(&space.id, r)?);
        }
        Ok(space)
    }
}

impl LogTable {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let log = r.log()?;
        let flags = r.u8()?;
        let (origin, first) = if flags & 1 == 0 { (log, 1) } else { (r.log()?, r.varint()?) };
        let base = if flags & 2 == 0 { None } else { Some((r.log()?, r.varint()?)) };
        let (seq, id, hlc) = (r.varint()?, r.commit_id()?, r.hlc()?);
        let tree = Tree::decode(r)?;
        let voucher = if r.u8()? == 0 { None } else { Some(Voucher::decode(r)?) };
        let mut segments = Vec::new();
        for _ in 0..r.count(usize::MAX, 2, "segments")? {
            segments.push((r.varint()?, r.varint()?));
        }
        let acted = r.count(usize::MAX, Acted::BYTES_MIN, "grants of a log")?;
        let acted = (0..acted).map(|_| Acted::decode(r)).collect::<Result<_, _>>()?;
        Ok(Self { log, origin, first, base, seq, id, hlc, tree, voucher, segments, acted })
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
