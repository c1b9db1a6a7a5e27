//! Opens a store: reads the newest tables and replays what lies after them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::apply::kinds;
use super::blind::{Blind, hides};
use super::branches::Deps;
use super::cache::{Cache, Recent};
use super::error::known;
use super::local::{Local, LocalError};
use super::refusals::Refusals;
use super::seal::Sealed;
use super::survey::Counted;
use super::tables::{Chain, LogTable, SpaceTable, Tables};
use super::tail::Tail;
use super::vouchers::read_voucher;
use super::waiting::Waiting;
use super::{Damaged, OpenError, Options, ReadError, Store};
use crate::base::{CommitId, Hash, LogId, Now, Rng, sha256};
use crate::causal::Tip;
use crate::crdt::counts_again;
use crate::event::{Commit, Dictionary, ForkProof, KeyPair, compact};
use crate::log::{
    Damage, Disk, DiskError, FileId, FileKind, Log, LogOptions, Position, Record, Recovery,
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

/// How many damaged sidecars one call has built anew at most: a rebuild builds all that follow it,
/// so each finds an older one.
const REBUILDS_MAX: usize = 16;

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
        // Of a stream of its own: what is drawn does not depend on how states are found.
        let hashing = Rng::new(sha256("kdelta/cache", &[&seed])).u64();
        let local = match Local::load(&disk)? {
            Some(local) => local,
            None if disk.files(FileKind::Segment)?.is_empty() => {
                let (store, incarnation, place) = (rng.bytes(), rng.u64(), options.place);
                Local { store, incarnation, place, ..Local::default() }
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
            cache: Cache::new(options.memory_bytes / 2, hashing),
            recent: RefCell::new(Recent::new(options.memory_bytes / 16)),
            waiting: Waiting::new(options.memory_bytes / 4),
            refusals: Refusals::default(),
            new_life: false,
            blind: Blind::default(),
            damaged_places: BTreeSet::new(),
            asides: Vec::new(),
            degraded: false,
            distrusted: None,
            options,
        };
        for damage in recovery.damage.iter().filter(|damage| hides(damage)) {
            store.damaged_places.insert(damage.segment);
        }
        store.blind.noticed.clone_from(&store.damaged_places);
        // Of the own log something may be lost, or it may have had another life than the one that
        // is known: no number is used again.
        store.new_life = store.mourns() || !Local::verify(&store.disk).is_empty();
        let (replayed_events, rebuilt) = store.load()?;
        store.retire_unfounded();
        // Durable with the next edit; until then each opening finds the same.
        for (space, table) in store.local.spaces.iter_mut().zip(&store.tables) {
            space.whose = table.whose;
        }
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
        sometimes!("store-damaged-sidecar-rebuilt");
        self.remove_sidecar(segment)?;
        self.reload()
    }

    /// Removes a sidecar. Where the disk's answer is lost it may be gone all the same.
    pub(super) fn remove_sidecar(&self, segment: u64) -> Result<(), DiskError> {
        let file = FileId { kind: FileKind::Sidecar, number: segment };
        match self.disk.remove(file) {
            Err(error) if self.disk.files(file.kind)?.contains(&file) => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks a question; if a damaged sidecar is in the way, builds that anew and asks again.
    ///
    /// # Errors
    /// Those of `question`, and [`ReadError`] if the log cannot be read.
    pub fn ask<T>(
        &mut self,
        question: impl Fn(&mut Self) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.past_rot(ReadError::to_rebuild, question)
    }

    /// Does something; if a damaged sidecar is in the way, builds that anew and does it again:
    /// derived data is never worth an error where the truth is at hand.
    pub(crate) fn past_rot<T, E: From<ReadError>>(
        &mut self,
        rotted: impl Fn(&E) -> Option<u64>,
        act: impl Fn(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        for _ in 0..REBUILDS_MAX {
            let outcome = act(self);
            match outcome.as_ref().err().and_then(&rotted) {
                Some(segment) => self.rebuild(segment)?,
                None => return outcome,
            }
        }
        act(self)
    }

    /// Forgets what the log took back, by reading again what it holds.
    pub(crate) fn reload(&mut self) -> Result<(), ReadError> {
        self.forget();
        // What is folded here is kept: nothing may be passed over.
        let degraded = std::mem::replace(&mut self.degraded, false);
        let loaded = self.load();
        self.degraded = degraded;
        loaded.map(drop)
    }

    /// Forgets everything that is derived from the log.
    fn forget(&mut self) {
        self.tables.clear();
        self.tail = Tail::default();
        self.sealed.clear();
        self.cache.clear();
        self.recent = RefCell::new(Recent::new(self.options.memory_bytes / 16));
        self.asides.clear();
        self.blind.clear();
    }

    /// Fills tables, sidecars and tail from the log. A sidecar that turns out to be damaged while
    /// others are built upon it goes, and all is done again without it.
    fn load(&mut self) -> Result<(u64, u64), ReadError> {
        let mut gone = BTreeSet::new();
        loop {
            let loaded = self.load_once();
            let rotted = loaded.as_ref().err().and_then(ReadError::to_rebuild);
            // Twice the same one: it is not the file that is at fault.
            let Some(segment) = rotted.filter(|segment| gone.insert(*segment)) else {
                return loaded;
            };
            if self.remove_sidecar(segment).is_err() {
                return loaded;
            }
            self.forget();
        }
    }

    fn load_once(&mut self) -> Result<(u64, u64), ReadError> {
        let mut end = u64::MAX;
        self.open_sidecars(end);
        if let Some(first) = self.unproved() {
            end = first;
            self.forget();
            self.open_sidecars(end);
        }
        let before: u64 = self.tables.iter().map(|table| table.events).sum();
        let (mut before, mut rebuilt) = match self.replay_rest(None)? {
            Some(rebuilt) => (before, rebuilt),
            // A fork was met: what counts of it must be known before anything is replayed.
            None => self.replay_forked(end)?,
        };
        // What is lost may be what built upon a branch.
        let whole = self.blind.is_empty() && self.damaged_places.is_empty();
        if let Some(first) = self.unfounded().filter(|_| whole) {
            (before, rebuilt) = self.replay_forked(first.min(end))?;
        }
        self.tail.before.clear();
        let after: u64 = self.tables.iter().map(|table| table.events).sum();
        Ok((after - before, rebuilt))
    }

    /// Replays what no sidecar before the segment `end` tells, with what counts of forked logs
    /// found out first. Returns how many events the tables had before, and how many sidecars were
    /// built.
    fn replay_forked(&mut self, end: u64) -> Result<(u64, u64), ReadError> {
        sometimes!("store-replayed-for-a-fork");
        self.forget();
        self.open_sidecars(end);
        let counted = self.survey()?;
        let before = self.tables.iter().map(|table| table.events).sum();
        Ok((before, self.replay_rest(Some(&counted))?.unwrap_or_default()))
    }

    /// Opens the sidecars before the segment `end`, up to the first that is missing, damaged, not
    /// to be trusted, or not built upon the one before as that is now; takes the newest tables.
    fn open_sidecars(&mut self, end: u64) {
        let end = self.distrusted.map_or(end, |first| first.min(end));
        for segment in self.log.segments().iter().filter(|segment| segment.sealed) {
            if segment.number >= end {
                break;
            }
            // None is kept that was built from what was damaged already: it tells all.
            match Sealed::open(&self.disk, &self.local.store, segment.number, segment.sha) {
                Ok(sealed) if sealed.follows(self.sealed.last()) => self.sealed.push(sealed),
                _ => break,
            }
        }
        self.take_tables();
    }

    /// Takes the newest tables that can be read from the sidecars; without any, all is replayed.
    pub(crate) fn take_tables(&mut self) {
        self.tables.clear();
        while let Some(sealed) = self.sealed.last() {
            match sealed.tables() {
                Ok(tables) if self.trusts_proofs(&tables) => {
                    self.tables = tables;
                    break;
                }
                _ => drop(self.sealed.pop()),
            }
        }
        let known = self.tables.len();
        let missing = self.local.spaces.iter().skip(known);
        self.tables.extend(missing.map(|space| SpaceTable::new(space.id, space.whose)));
        for (table, space) in self.tables.iter_mut().zip(&self.local.spaces) {
            table.whose = table.whose.max(space.whose);
        }
    }

    /// Replays the segments that have no sidecar, and returns how many sidecars were built; none if
    /// a fork was met and `counted` does not say what counts of it.
    fn replay_rest(&mut self, counted: Option<&Counted>) -> Result<Option<u64>, ReadError> {
        let mut rebuilt = 0;
        let segments = self.log.segments();
        for place in self.blind.noticed.clone() {
            if self.sealed.iter().any(|sealed| sealed.number == place) {
                self.blind.lost.insert(place);
            } else if segments.iter().all(|segment| segment.number != place) {
                self.blind.hide(Damaged { segment: place, offset: 0 }, None);
            }
        }
        for segment in segments.iter().skip(self.sealed.len()) {
            if !self.replay(segment.number, segment.sealed, counted)? {
                return Ok(None);
            }
            if segment.sealed {
                sometimes!("store-missing-sidecar-built");
                self.index_sealed(segment.number, segment.sha)?;
                // What follows may be replayed without them.
                self.cache.clear();
                rebuilt += 1;
            }
        }
        Ok(Some(rebuilt))
    }

    /// Takes the records of one segment into tables and tail, and its states into the cache if a
    /// sidecar is to be made of it; false if a fork is in the way.
    fn replay(
        &mut self,
        number: u64,
        sealed: bool,
        counted: Option<&Counted>,
    ) -> Result<bool, ReadError> {
        self.tail = Tail::after(std::mem::take(&mut self.tail), number);
        let from = Position { segment: number, offset: 0 };
        let within = |item: &Result<(Position, Record), Damage>| match item {
            Ok((position, _)) => position.segment == number,
            Err(damage) => damage.segment == number,
        };
        let found: Vec<_> = self.log.scan(from).take_while(within).collect();
        if self.blind.noticed.contains(&number) && found.iter().all(Result::is_ok) {
            // The log knows of a loss that does not show: anything may be missing.
            self.blind.hide(Damaged { segment: number, offset: 0 }, None);
        }
        let base_ms = self.base_ms_of(number)?;
        let mut told = self.told_of(number);
        let named = told.names.is_some();
        if let Some(names) = &told.names {
            (self.tail.dictionary, self.tail.interned) = (names.clone(), names.len());
        }
        let before = self.asides.len();
        let lossy = !self.blind.is_empty() || found.iter().any(Result::is_err);
        let tables = self.tables.iter().filter(|_| lossy);
        let tips = |table: &SpaceTable| table.logs().map(LogTable::tip).collect();
        let tips: Vec<Vec<Tip>> = tables.map(tips).collect();
        // What is lost may have touched any key: then states are folded with care, one by one.
        let folds = sealed && !lossy && self.damaged_places.is_empty();
        let terms = Terms { base_ms, counted, folds, id: None };
        self.tail.is_replayed = !folds;
        for item in found {
            let (position, record) = match item {
                Ok(record) => record,
                Err(damage) => {
                    self.hide_stretch(&damage, named);
                    self.mourn(number);
                    continue;
                }
            };
            told.note_before(position.offset, &mut self.tail.dictionary);
            let tip = told.at(position.offset);
            let terms = Terms { id: tip.map(|(_, tip)| tip.id), ..terms };
            let replayed = self.replay_record(position, &record, terms)?;
            if replayed == Replayed::Fork {
                return Ok(false);
            }
            if replayed == Replayed::Unbuilt {
                self.set_aside(position, &record, base_ms, tip);
            }
            if replayed == Replayed::Lost {
                self.hide_record(Damaged { segment: number, offset: position.offset }, &record);
                self.mourn(number);
                self.cache.clear();
                if record.kind == kinds::COMMIT {
                    self.set_aside(position, &record, base_ms, tip);
                }
            }
        }
        self.tail.is_replayed = false;
        self.tail.settle();
        if self.asides.len() > before {
            self.remember_tips(number, tips);
        }
        Ok(true)
    }

    /// Takes note that a segment is damaged: what is lost may be our own log's tip.
    fn mourn(&mut self, number: u64) {
        self.damaged_places.insert(number);
        self.new_life |= self.mourns();
    }

    /// Takes one record in.
    fn replay_record(
        &mut self,
        at: Position,
        record: &Record,
        terms: Terms<'_>,
    ) -> Result<Replayed, ReadError> {
        let replayed = match record.kind {
            kinds::COMMIT => return self.replay_commit(at, &record.body, terms),
            kinds::DICTIONARY => self.replay_names(&record.body),
            kinds::FORK_PROOF => self.replay_proof(&record.body),
            kinds::VOUCHER => self.replay_voucher(&record.body),
            _ => Some(Replayed::Done),
        };
        Ok(replayed.unwrap_or(Replayed::Lost))
    }

    fn replay_commit(
        &mut self,
        at: Position,
        body: &[u8],
        terms: Terms<'_>,
    ) -> Result<Replayed, ReadError> {
        let Some(commit) = self.replayed_commit(at.segment, body, terms)? else {
            return Ok(Replayed::Lost);
        };
        // Its writer knew its id from here on, and left it out, though it may not be taken now.
        self.tail.note(&commit);
        let space_ix = self.local.space_index(&commit.space());
        let Some((space_ix, table)) = space_ix.and_then(|ix| Some((ix, self.tables.get(ix)?)))
        else {
            return Ok(Replayed::Lost);
        };
        if table.is_suspect(&commit.log(), commit.seq()) {
            let Some(counted) = terms.counted else { return Ok(Replayed::Fork) };
            let Some(place) = known(self.locate(space_ix, &commit.tip()))? else {
                return Ok(Replayed::Lost);
            };
            sometimes!("store-branch-met-twice", place.is_some());
            let here = place.is_some() && !mutant!("branch-replayed-twice");
            if here || !counted.contains(&commit.id()) {
                // What builds upon it may be what cannot be read before that which is lost is back.
                let kept = commit.log().replica == self.key.id() || !self.blind.is_empty();
                let regained = !here && kept && self.distrusted.is_some();
                return Ok(if regained { Replayed::Unbuilt } else { Replayed::Done });
            }
        } else if self.is_here(space_ix, &commit)?
            && !mutant!("record-replayed-twice")
            && !counts_again()
        {
            sometimes!("store-record-met-twice");
            return Ok(Replayed::Done);
        }
        let Some((chain, deps)) = self.follows(space_ix, &commit)? else {
            return Ok(Replayed::Lost);
        };
        if !self.blind.is_empty() && !self.is_its_past(space_ix, &commit, &chain, &deps)? {
            return Ok(Replayed::Lost);
        }
        let name = chain.name;
        self.index_commit(space_ix, at, &commit, chain, &deps);
        if terms.folds {
            self.apply_states(space_ix, &commit, name);
        }
        Ok(Replayed::Done)
    }

    fn replay_names(&mut self, body: &[u8]) -> Option<Replayed> {
        self.tail.dictionary.read_entries(body).ok()?;
        self.tail.interned = self.tail.dictionary.len();
        Some(Replayed::Done)
    }

    fn replay_proof(&self, body: &[u8]) -> Option<Replayed> {
        let proof = ForkProof::decode(body).ok()?;
        let space_ix = self.local.space_index(&proof.space())?;
        let closed = self.tables.get(space_ix)?.closed(&proof.log());
        let news = closed.is_none_or(|closed| closed.seq > proof.seq());
        Some(if news { Replayed::Fork } else { Replayed::Done })
    }

    fn replay_voucher(&mut self, body: &[u8]) -> Option<Replayed> {
        let (ix, seq, id, voucher) = read_voucher(body).ok()?;
        let entry = self.tail.dictionary.entry(u32::try_from(ix).ok()?)?;
        let (space_ix, log) = (self.local.space_index(&entry.space)?, entry.log);
        let tip = Tip { log, seq, id };
        self.tables.get_mut(space_ix)?.vouch(tip, voucher);
        Some(Replayed::Done)
    }

    /// Tells whether a commit was taken before: a repair may have fetched it a second time.
    fn is_here(&self, space_ix: usize, commit: &Commit) -> Result<bool, ReadError> {
        if commit.seq() > self.seq(space_ix, &commit.log()) {
            return Ok(false);
        }
        let id = known(self.commit_id(space_ix, &commit.log(), commit.seq()))?;
        Ok(id == Some(commit.id()))
    }

    /// Tells where a commit from the log goes, and its deps by inner names; none if what it builds
    /// upon is not here.
    pub(crate) fn follows(
        &self,
        space_ix: usize,
        commit: &Commit,
    ) -> Result<Option<(Chain, Deps)>, ReadError> {
        let Some(chain) = known(self.chain_of(space_ix, commit))?.flatten() else {
            return Ok(None);
        };
        let deps = known(self.inner_deps(space_ix, commit))?.flatten();
        Ok(deps.map(|deps| (chain, deps)))
    }

    /// Tells whether what a commit builds upon by number is what it says: where something is lost,
    /// or a repair did not end, the other side of a fork that nobody knows of may be in its place.
    fn is_its_past(
        &self,
        space_ix: usize,
        commit: &Commit,
        chain: &Chain,
        deps: &[(LogId, u64)],
    ) -> Result<bool, ReadError> {
        let end = self.table(space_ix)?.log(&chain.name).map(|log| log.id);
        if chain.begins.is_none() && end.is_some_and(|id| id != commit.prev()) {
            return Ok(false);
        }
        for (dep, (name, seq)) in commit.deps().iter().zip(deps) {
            if known(self.commit_id(space_ix, name, *seq))? != Some(dep.id) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a commit's record while its segment is replayed; none if it is damaged.
    fn replayed_commit(
        &mut self,
        segment: u64,
        body: &[u8],
        Terms { base_ms, id, .. }: Terms<'_>,
    ) -> Result<Option<Commit>, ReadError> {
        let Tail { dictionary, before, .. } = &self.tail;
        let commit = self.told_commit(body, dictionary, before, base_ms, id)?;
        if commit.is_some() || !before.is_empty() {
            return Ok(commit);
        }
        // The segment before was not replayed, and its index says nothing of what does not count.
        self.tail.before = self.names_before(segment)?;
        let Tail { dictionary, before, .. } = &self.tail;
        self.told_commit(body, dictionary, before, base_ms, id)
    }

    /// Reads a commit's record; none if it is damaged. Ids that it leaves out are known to its
    /// segment's dictionary, or, of a record that was moved, to the segment that it was in.
    pub(super) fn record_commit(
        &self,
        body: &[u8],
        dictionary: &Dictionary,
        before: &[Dictionary],
        base_ms: u64,
    ) -> Result<Option<Commit>, ReadError> {
        if let Ok(commit) = compact::decode(body, dictionary, base_ms, &|_, _| None) {
            return Ok(Some(commit));
        }
        let space = compact::read(body, dictionary, base_ms).ok().map(|loose| loose.space);
        let Some((space, space_ix)) = space.and_then(|id| Some((id, self.local.space_index(&id)?)))
        else {
            return Ok(None);
        };
        let failed = Cell::new(None);
        let ids = |log: &LogId, seq| {
            let noted = |names: &Dictionary| names.id(names.find(&space, log)?, seq);
            let noted = before.iter().rev().find_map(noted);
            noted.or_else(|| {
                let id = known(self.commit_id(space_ix, log, seq));
                id.unwrap_or_else(|error| {
                    failed.set(Some(error));
                    None
                })
            })
        };
        let commit = compact::decode(body, dictionary, base_ms, &ids).ok();
        failed.take().map_or(Ok(commit), Err)
    }

    /// Returns the milliseconds that stamps in a segment are relative to.
    pub(crate) fn base_ms_of(&self, segment: u64) -> Result<u64, ReadError> {
        let base = self.log.base_wall(segment);
        Ok(base.ok_or(Damaged { segment, offset: 0 })?.0)
    }
}

/// How the records of a segment are replayed.
#[derive(Debug, Clone, Copy)]
struct Terms<'a> {
    /// What stamps are relative to.
    base_ms: u64,
    /// Which suspects count; none if no fork was met yet.
    counted: Option<&'a Counted>,
    /// Whether states are brought up to date as well.
    folds: bool,
    /// The id of the commit in the record, if it is told.
    id: Option<CommitId>,
}

/// What became of a record that is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replayed {
    /// It is in the tables, or has no place there.
    Done,
    /// It is about a fork of which is not known what counts.
    Fork,
    /// It was written here, and nothing builds upon it: a repair takes it back.
    Unbuilt,
    /// It is damaged, or what it builds upon was lost.
    Lost,
}
