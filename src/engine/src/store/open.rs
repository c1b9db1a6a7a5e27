//! Opens a store: reads the newest tables and replays what lies after them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::apply::kinds;
use super::cache::{Cache, Recent};
use super::local::{Local, LocalError};
use super::seal::Sealed;
use super::tables::{SpaceTable, Tables};
use super::tail::Tail;
use super::waiting::Waiting;
use super::{Damaged, OpenError, Options, ReadError, Store};
use crate::base::{CommitId, Hash, Now, Reader, Rng};
use crate::causal::Tip;
use crate::event::{Commit, KeyPair, Voucher, compact};
use crate::log::{
    DamageKind, Disk, FileId, FileKind, Log, LogOptions, Moved, Position, Record, Recovery,
};

/// What opening a store found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the log found.
    pub recovery: Recovery,
    /// How many events were replayed.
    pub replayed_events: u64,
    /// How many sidecars were built anew.
    pub rebuilt: u64,
}

impl<D: Disk + Clone> Store<D> {
    /// Opens the store on `disk`, or a new one if there is none.
    ///
    /// Reads the newest tables and replays the segment that was still growing: the cost does not
    /// depend on the length of history. Writes nothing to a store that was closed in order.
    ///
    /// # Errors
    /// [`OpenError`]. Damage in the log is no error: reads of what it concerns say so.
    pub fn open(
        disk: D,
        key: KeyPair,
        seed: Hash,
        now: Now,
        options: Options,
    ) -> Result<(Self, Opened), OpenError> {
        let mut rng = Rng::new(seed);
        let local = match Local::load(&disk)? {
            Some(local) => local,
            None if disk.files(FileKind::Segment)?.is_empty() => {
                Local { store: rng.bytes(), incarnation: rng.u64(), ..Local::default() }
            }
            None => return Err(LocalError::Missing.into()),
        };
        let mut log_options = LogOptions::new(local.store, rng.split("log"));
        log_options.segment_bytes_max = options.segment_bytes;
        log_options.wall = now.wall;
        let (log, recovery) = Log::open(disk.clone(), &log_options)?;
        let mut store = Self {
            disk,
            log,
            local,
            key,
            rng,
            tables: Tables::new(),
            tail: Tail::default(),
            sealed: Vec::new(),
            cache: Cache::new(options.memory_bytes / 2),
            recent: RefCell::new(Recent::new(options.memory_bytes / 16)),
            waiting: Waiting::new(options.memory_bytes / 4),
            new_life: false,
            blind: None,
            damaged_places: BTreeSet::new(),
            asides: Vec::new(),
            degraded: false,
            options,
        };
        for damage in recovery.damage.iter().filter(|damage| hides(damage.kind)) {
            let offset = u32::try_from(damage.offset).unwrap_or(u32::MAX);
            store.blind.get_or_insert(Damaged { segment: damage.segment, offset });
            store.damaged_places.insert(damage.segment);
        }
        // Of the own log something may be lost: no number is used again.
        store.new_life = store.mourns();
        let (replayed_events, rebuilt) = store.load()?;
        Ok((store, Opened { recovery, replayed_events, rebuilt }))
    }

    /// Tells whether a segment is damaged since the current life began.
    fn mourns(&self) -> bool {
        self.damaged_places.iter().any(|place| !self.local.lost_segments.contains(place))
    }

    /// Builds the sidecar of a segment anew, and those after it: it turned out to be damaged.
    ///
    /// # Errors
    /// [`ReadError`] if the log cannot be read.
    pub fn rebuild(&mut self, segment: u64) -> Result<(), ReadError> {
        self.disk.remove(FileId { kind: FileKind::Sidecar, number: segment })?;
        self.reload()
    }

    /// Forgets what the log took back, by reading again what it holds.
    pub(crate) fn reload(&mut self) -> Result<(), ReadError> {
        self.tables.clear();
        self.tail = Tail::default();
        self.sealed.clear();
        self.cache = Cache::new(self.options.memory_bytes / 2);
        self.recent = RefCell::new(Recent::new(self.options.memory_bytes / 16));
        self.asides.clear();
        self.load()?;
        Ok(())
    }

    /// Fills tables, sidecars and tail from the log.
    fn load(&mut self) -> Result<(u64, u64), ReadError> {
        let segments = self.log.segments();
        for segment in segments.iter().filter(|segment| segment.sealed) {
            // What was built from a damaged segment says too little.
            if self.damaged_places.contains(&segment.number) {
                break;
            }
            match Sealed::open(&self.disk, &self.local.store, segment.number, segment.sha) {
                Ok(sealed) => self.sealed.push(sealed),
                Err(_) => break,
            }
        }
        // The newest tables that can be read; without any, everything is replayed.
        while let Some(sealed) = self.sealed.last() {
            match sealed.tables() {
                Ok(tables) => {
                    self.tables = tables;
                    break;
                }
                Err(_) => drop(self.sealed.pop()),
            }
        }
        let known = self.tables.len();
        let missing = self.local.spaces.iter().skip(known).map(|space| SpaceTable::new(space.id));
        self.tables.extend(missing);
        let before: u64 = self.tables.iter().map(|table| table.events).sum();
        let mut rebuilt = 0;
        for segment in segments.iter().skip(self.sealed.len()) {
            self.replay(segment.number)?;
            if segment.sealed {
                self.index_sealed(segment.number, segment.sha)?;
                rebuilt += 1;
            }
        }
        let after: u64 = self.tables.iter().map(|table| table.events).sum();
        Ok((after - before, rebuilt))
    }

    /// Takes the records of one segment into tables and tail.
    fn replay(&mut self, number: u64) -> Result<(), ReadError> {
        self.tail = Tail::of(number);
        let from = Position { segment: number, offset: 0 };
        let mut records = Vec::new();
        for item in self.log.scan(from) {
            match item {
                Ok((position, _)) if position.segment != number => break,
                Ok(record) => records.push(record),
                Err(damage) if damage.segment != number => break,
                Err(damage) => {
                    let offset = u32::try_from(damage.offset).unwrap_or(u32::MAX);
                    self.blind.get_or_insert(Damaged { segment: number, offset });
                    self.damaged_places.insert(number);
                    self.new_life |= self.mourns();
                }
            }
        }
        let base_ms = self.base_ms_of(number)?;
        for (position, record) in records {
            if self.replay_record(position, &record, base_ms).is_none() {
                self.blind.get_or_insert(Damaged { segment: number, offset: position.offset });
                self.damaged_places.insert(number);
                self.new_life |= self.mourns();
                if record.kind == kinds::COMMIT {
                    self.set_aside(position, &record, base_ms);
                }
            }
        }
        Ok(())
    }

    /// Takes one record in; none if what it builds upon was lost.
    fn replay_record(&mut self, at: Position, record: &Record, base_ms: u64) -> Option<()> {
        match record.kind {
            kinds::DICTIONARY => {
                self.tail.dictionary.read_entries(&record.body).ok()?;
                self.tail.interned = self.tail.dictionary.len();
            }
            kinds::COMMIT => {
                let ids = |_: &_, _| None::<CommitId>;
                let dictionary = &self.tail.dictionary;
                let commit = compact::decode(&record.body, dictionary, base_ms, &ids).ok()?;
                let space_ix = self.local.space_index(&commit.space())?;
                if !self.follows(space_ix, &commit) {
                    return None;
                }
                self.index_commit(space_ix, at, &commit);
            }
            kinds::VOUCHER => {
                let mut r = Reader::new(&record.body);
                let ix = u32::try_from(r.varint().ok()?).ok()?;
                let entry = self.tail.dictionary.entry(ix)?;
                let (space_ix, log) = (self.local.space_index(&entry.space)?, entry.log);
                let tip = Tip { log, seq: r.varint().ok()?, id: r.commit_id().ok()? };
                let voucher = Voucher::decode(&mut r).ok()?;
                self.tables.get_mut(space_ix)?.vouch(tip, voucher);
            }
            _ => {}
        }
        Some(())
    }

    /// Tells whether a commit from the log is the next of its log and all its deps are here.
    pub(crate) fn follows(&self, space_ix: usize, commit: &Commit) -> bool {
        commit.seq() == self.seq(space_ix, &commit.log()) + 1
            && commit.deps().iter().all(|dep| dep.seq <= self.seq(space_ix, &dep.log))
    }

    /// Follows records that the log had to write anew in another segment.
    pub(crate) fn follow_moved(&mut self, moved: &Moved) -> Result<(), ReadError> {
        self.recent = RefCell::new(Recent::new(self.options.memory_bytes / 16));
        let old = moved.end.segment;
        let segments = self.log.segments();
        for segment in segments.iter().filter(|segment| segment.number >= old) {
            self.tail = Tail::of(segment.number);
            self.reindex(segment.number)?;
            if segment.sealed {
                self.index_sealed(segment.number, segment.sha)?;
            }
        }
        Ok(())
    }

    /// Takes the records of a segment into the tail alone: the tables know their commits.
    fn reindex(&mut self, number: u64) -> Result<(), ReadError> {
        let from = Position { segment: number, offset: 0 };
        let records: Vec<_> = self
            .log
            .scan(from)
            .filter_map(Result::ok)
            .take_while(|(position, _)| position.segment == number)
            .collect();
        let base_ms = self.base_ms_of(number)?;
        for (position, record) in records {
            match record.kind {
                kinds::DICTIONARY => {
                    let read = self.tail.dictionary.read_entries(&record.body);
                    read.map_err(|_| Damaged { segment: number, offset: position.offset })?;
                    self.tail.interned = self.tail.dictionary.len();
                }
                kinds::COMMIT => {
                    let damaged = Damaged { segment: number, offset: position.offset };
                    let ids = |_: &_, _| None::<CommitId>;
                    let commit =
                        compact::decode(&record.body, &self.tail.dictionary, base_ms, &ids)
                            .map_err(|_| damaged)?;
                    let space_ix = self.space_index(&commit.space())?;
                    self.index_place(space_ix, position, &commit);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the milliseconds that stamps in a segment are relative to.
    pub(crate) fn base_ms_of(&self, segment: u64) -> Result<u64, ReadError> {
        let base = self.log.base_wall(segment);
        Ok(base.ok_or(Damaged { segment, offset: 0 })?.0)
    }
}

/// Tells whether damage of that kind may hide records.
fn hides(kind: DamageKind) -> bool {
    !matches!(kind, DamageKind::Header | DamageKind::Bookkeeping | DamageKind::Order)
}
