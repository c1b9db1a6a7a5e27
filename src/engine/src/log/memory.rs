//! A disk in memory that can crash, tear, refuse, fail and rot.
//!
//! It keeps per file what is durable and what was only written since, so that [`MemoryDisk::crash`]
//! leaves what a power cut might leave. It is exact about [`Disk`]: nothing un-synced survives by
//! promise, a failed sync marks pages clean (a later one succeeds and saves nothing), `replace` and
//! `rename` are durable, `remove` is not. All choices come from the caller's generator, so a run
//! can be repeated. It models no delays. The fault model follows SurrealKV's `CrashMode`,
//! TigerBeetle's storage checker and Rebello et al., ATC 2020.

mod medium;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use medium::AtStake;

use super::disk::{Disk, DiskError, DiskErrorKind, FileId, FileKind};
use crate::base::Rng;

/// What a power cut does to bytes that were written and not synced.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    /// All of it is lost, new files too.
    LoseAll,
    /// All of it is kept: the process was killed, the machine was not.
    KeepAll,
    /// What was written up to some moment is kept, the rest is lost.
    Prefix,
    /// Any subset of the sectors of this many bytes is kept; any new file may be gone.
    Sectors(u32),
    /// All is kept but the last write, of which a front part of whole sectors is.
    Torn(u32),
    /// Files have their new lengths, with zeros for data.
    ZeroTail,
    /// Files have their new lengths, with random bytes for data.
    GarbageTail,
    /// Data is kept, but new files lost their directory entries.
    EntryLost,
}

impl CrashMode {
    /// One of each, with the sector sizes that matter.
    pub const ALL: [Self; 11] = [
        Self::LoseAll,
        Self::KeepAll,
        Self::Prefix,
        Self::Sectors(4096),
        Self::Sectors(512),
        Self::Sectors(1),
        Self::Torn(512),
        Self::Torn(1),
        Self::ZeroTail,
        Self::GarbageTail,
        Self::EntryLost,
    ];
}

/// Switches for what goes wrong while a disk runs. All off by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Of the syncs that come, this many pass first...
    pub syncs_to_pass: u64,
    /// ...and then this many fail. A replace counts as a sync.
    pub syncs_to_fail: u64,
    /// How failing syncs fail; [`DiskErrorKind::Io`] if not set.
    pub sync_error: Option<DiskErrorKind>,
    /// Of the writes that come, this many pass first...
    pub writes_to_pass: u64,
    /// ...and then this many fail, half of their bytes written.
    pub writes_to_fail: u64,
    /// So many files cannot be cut shorter.
    pub cuts_to_fail: u64,
    /// Bytes that all files together may have; above it the disk is full.
    pub space: Option<u64>,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Places where reading fails, until the file is replaced or removed: it lies elsewhere then.
    pub unreadable: Vec<(FileId, Range<u64>)>,
    /// After this many more changes the power is off and everything fails, until the crash.
    pub power_off_in: Option<u64>,
}

/// A disk in memory. Share it by `Arc` to keep a hold on it while a log uses it.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    files: BTreeMap<FileId, File>,
    /// Durable content of removed files; a power cut may bring them back.
    removed: BTreeMap<FileId, Vec<u8>>,
    faults: Faults,
    changes: u64,
    syncs: u64,
}

#[derive(Debug, Clone, Default)]
struct File {
    /// What a sync made durable.
    durable: Vec<u8>,
    /// Whether the directory entry is durable.
    entered: bool,
    /// What readers see.
    view: Vec<u8>,
    /// Changes since the last sync, with their moment.
    pending: Vec<(u64, Change)>,
    /// Whether readers see more than what is durable or pending: a sync failed.
    clean_lie: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Grow(usize),
    Shrink(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(content, *offset, bytes),
            Self::Grow(len) => content.resize(content.len().max(*len), 0),
            Self::Shrink(len) => content.truncate(*len),
        }
    }

    /// Where the content ends at least once this was applied.
    fn reach(&self) -> usize {
        match self {
            Self::Write { offset, bytes } => offset + bytes.len(),
            Self::Grow(len) => *len,
            Self::Shrink(_) => 0,
        }
    }
}

impl MemoryDisk {
    /// Makes an empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a copy of the disk as it is now, un-synced changes and switches included.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self { state: Mutex::new(self.lock().clone()) }
    }

    /// Changes the fault switches.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// Returns how many changes (writes, growths, cuts, syncs, renames and so on) were asked for.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Returns how many syncs and replaces were asked for.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Returns all files, in order.
    pub fn all_files(&self) -> Vec<FileId> {
        self.lock().files.keys().copied().collect()
    }

    /// Returns what readers see of a file.
    pub fn content(&self, file: FileId) -> Option<Vec<u8>> {
        self.lock().files.get(&file).map(|file| file.view.clone())
    }

    /// Cuts the power and turns it on again: what was not synced is left as `mode` says.
    pub fn crash(&self, mode: CrashMode, rng: &mut Rng) {
        let mut state = self.lock();
        let state = &mut *state;
        state.faults.power_off_in = None;
        let last = state.changes;
        let cut = if mode == CrashMode::Prefix { rng.below(last + 1) } else { last };
        for (id, content) in std::mem::take(&mut state.removed) {
            if matches!(mode, CrashMode::Sectors(_) | CrashMode::LoseAll) && rng.below(2) == 0 {
                let file = File { durable: content, entered: true, ..File::default() };
                state.files.entry(id).or_insert(file);
            }
        }
        let newest = state.files.values().flat_map(|f| f.pending.last()).map(|(at, _)| *at).max();
        state.files.retain(|_, file| {
            let stays = file.entered
                || match mode {
                    CrashMode::LoseAll | CrashMode::EntryLost => false,
                    CrashMode::KeepAll | CrashMode::Torn(_) => true,
                    CrashMode::Prefix => file.pending.first().is_some_and(|(at, _)| *at < cut),
                    _ => rng.below(2) == 0,
                };
            if file.clean_lie || !file.pending.is_empty() {
                for (at, change) in std::mem::take(&mut file.pending) {
                    let newest = newest == Some(at);
                    survive(&mut file.durable, &change, mode, (at < cut, newest), rng);
                }
                file.view.clone_from(&file.durable);
                file.clean_lie = false;
            }
            file.entered = true;
            stays
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies what a power cut leaves of one change.
fn survive(
    content: &mut Vec<u8>,
    change: &Change,
    mode: CrashMode,
    (before_cut, newest): (bool, bool),
    rng: &mut Rng,
) {
    match (mode, change) {
        (CrashMode::LoseAll, _) => {}
        (CrashMode::KeepAll | CrashMode::EntryLost, _) => change.apply(content),
        (CrashMode::Prefix, _) => {
            if before_cut {
                change.apply(content);
            }
        }
        (CrashMode::Sectors(size), Change::Write { offset, bytes }) => {
            for (start, sector) in sectors(*offset, bytes, size) {
                if rng.below(2) == 0 {
                    put(content, start, sector);
                }
            }
        }
        (CrashMode::Torn(size), Change::Write { offset, bytes }) if newest => {
            let all: Vec<_> = sectors(*offset, bytes, size).collect();
            let kept = usize::try_from(rng.below(all.len() as u64 + 1)).unwrap_or(0);
            for (start, sector) in all.into_iter().take(kept) {
                put(content, start, sector);
            }
        }
        (CrashMode::Sectors(_), _) => {
            if rng.below(2) == 0 {
                change.apply(content);
            }
        }
        (CrashMode::Torn(_), _) => change.apply(content),
        (CrashMode::ZeroTail, _) => content.resize(content.len().max(change.reach()), 0),
        (CrashMode::GarbageTail, _) => {
            while content.len() < change.reach() {
                content.extend_from_slice(&rng.bytes::<1>());
            }
        }
    }
}

/// Splits a write at the borders of sectors.
fn sectors(offset: usize, bytes: &[u8], size: u32) -> impl Iterator<Item = (usize, &[u8])> {
    let size = size.max(1) as usize;
    let mut rest = bytes;
    let mut at = offset;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = (size - at % size).min(rest.len());
        let (sector, after) = rest.split_at(len);
        let start = at;
        (rest, at) = (after, at + len);
        Some((start, sector))
    })
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

fn fail<T>(kind: DiskErrorKind, file: FileId, what: &str) -> Result<T, DiskError> {
    Err(DiskError::new(kind, format!("{file}: {what}")))
}

/// A file's length or offset; memory holds no larger ones.
fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl State {
    /// Stands before every operation.
    fn power(&self, file: FileId) -> Result<(), DiskError> {
        if self.faults.power_off_in == Some(0) {
            return fail(DiskErrorKind::Io, file, "the power is off");
        }
        Ok(())
    }

    /// Stands before every change.
    fn change(&mut self, file: FileId) -> Result<(), DiskError> {
        self.power(file)?;
        self.changes += 1;
        if let Some(left) = &mut self.faults.power_off_in {
            *left -= 1;
        }
        if self.faults.read_only {
            return fail(DiskErrorKind::ReadOnly, file, "the disk is read-only");
        }
        Ok(())
    }

    /// Returns how much of a growth to `end` bytes there is room for.
    fn room(&self, file: FileId, end: usize) -> usize {
        let Some(space) = self.faults.space else { return end };
        let used: usize = self.files.values().map(|file| file.view.len()).sum();
        let own = self.files.get(&file).map_or(0, |file| file.view.len());
        end.min(own.max(size(space).saturating_sub(used) + own))
    }

    fn record(&mut self, file: FileId, change: Change) {
        let at = self.changes;
        let file = self.files.entry(file).or_default();
        change.apply(&mut file.view);
        file.pending.push((at, change));
    }

    fn sync_fault(&mut self) -> Option<DiskErrorKind> {
        self.syncs += 1;
        let faults = &mut self.faults;
        due(&mut faults.syncs_to_pass, &mut faults.syncs_to_fail)
            .then(|| faults.sync_error.unwrap_or(DiskErrorKind::Io))
    }
}

/// Counts down to a fault and tells whether it is due.
fn due(pass: &mut u64, fail: &mut u64) -> bool {
    if *fail == 0 {
        return false;
    }
    if *pass > 0 {
        *pass -= 1;
        return false;
    }
    *fail -= 1;
    true
}

impl Disk for MemoryDisk {
    fn files(&self, kind: FileKind) -> Result<Vec<FileId>, DiskError> {
        let state = self.lock();
        state.power(FileId::new(kind, 0))?;
        let all = FileId::new(kind, 0)..=FileId::new(kind, u64::MAX);
        Ok(state.files.range(all).map(|(file, _)| *file).collect())
    }

    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        let state = self.lock();
        state.power(file)?;
        match state.files.get(&file) {
            Some(found) => Ok(found.view.len() as u64),
            None => fail(DiskErrorKind::NotFound, file, "no such file"),
        }
    }

    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let state = self.lock();
        state.power(file)?;
        let Some(found) = state.files.get(&file) else {
            return fail(DiskErrorKind::NotFound, file, "no such file");
        };
        let end = offset.saturating_add(buffer.len() as u64);
        let hit = |(id, range): &(FileId, Range<u64>)| {
            *id == file && range.start < end && offset < range.end
        };
        if state.faults.unreadable.iter().any(hit) {
            return fail(DiskErrorKind::Io, file, "a sector cannot be read");
        }
        let Some(bytes) = found.view.get(size(offset)..size(end)) else {
            return fail(DiskErrorKind::PastEnd, file, "the file ends before that");
        };
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.change(file)?;
        let offset = size(offset);
        let faults = &mut state.faults;
        if due(&mut faults.writes_to_pass, &mut faults.writes_to_fail) {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec();
            state.record(file, Change::Write { offset, bytes: half });
            return fail(DiskErrorKind::Io, file, "the write failed");
        }
        let end = state.room(file, offset + bytes.len());
        let fits = bytes.get(..end.saturating_sub(offset).min(bytes.len())).unwrap_or_default();
        let short = fits.len() < bytes.len();
        state.record(file, Change::Write { offset, bytes: fits.to_vec() });
        if short {
            return fail(DiskErrorKind::Full, file, "no space is left");
        }
        Ok(())
    }

    fn allocate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.change(file)?;
        if state.room(file, size(len)) < size(len) {
            return fail(DiskErrorKind::Full, file, "no space is left");
        }
        state.record(file, Change::Grow(size(len)));
        Ok(())
    }

    fn truncate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.change(file)?;
        if !state.files.contains_key(&file) {
            return fail(DiskErrorKind::NotFound, file, "no such file");
        }
        if due(&mut 0, &mut state.faults.cuts_to_fail) {
            return fail(DiskErrorKind::Io, file, "it cannot be cut");
        }
        state.record(file, Change::Shrink(size(len)));
        Ok(())
    }

    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.change(file)?;
        let fault = state.sync_fault();
        let Some(found) = state.files.get_mut(&file) else {
            return fail(DiskErrorKind::NotFound, file, "no such file");
        };
        let pending = std::mem::take(&mut found.pending);
        if let Some(kind) = fault {
            // The pages count as clean from now on; only the cache has them.
            found.clean_lie |= !pending.is_empty();
            return fail(kind, file, "the sync failed");
        }
        for (_, change) in pending {
            change.apply(&mut found.durable);
        }
        found.entered = true;
        Ok(())
    }

    fn replace(&self, file: FileId, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.change(file)?;
        if let Some(kind) = state.sync_fault() {
            return fail(kind, file, "the sync failed");
        }
        let own = state.files.get(&file).map_or(0, |file| file.view.len());
        if state.room(file, own + bytes.len()) < own + bytes.len() {
            // The new content lies beside the old one until the rename.
            return fail(DiskErrorKind::Full, file, "no space is left");
        }
        let (durable, view) = (bytes.to_vec(), bytes.to_vec());
        state.faults.unreadable.retain(|(at, _)| *at != file);
        state.files.insert(file, File { durable, view, entered: true, ..File::default() });
        Ok(())
    }

    fn remove(&self, file: FileId) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.change(file)?;
        let Some(found) = state.files.remove(&file) else {
            return fail(DiskErrorKind::NotFound, file, "no such file");
        };
        if found.entered {
            state.removed.insert(file, found.durable);
        }
        state.faults.unreadable.retain(|(at, _)| *at != file);
        Ok(())
    }

    fn rename(&self, from: FileId, to: FileId) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.change(from)?;
        let Some(mut found) = state.files.remove(&from) else {
            return fail(DiskErrorKind::NotFound, from, "no such file");
        };
        found.entered = true;
        state.files.insert(to, found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId::new(FileKind::Segment, 1);

    fn written() -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.write(FILE, 0, b"durable").unwrap();
        disk.sync(FILE).unwrap();
        disk.write(FILE, 7, &[7; 2000]).unwrap();
        disk
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        for mode in CrashMode::ALL {
            for seed in 0..20 {
                let disk = written();
                disk.crash(mode, &mut Rng::new([seed; 32]));
                let content = disk.content(FILE).unwrap();
                assert!(content.starts_with(b"durable"), "{mode:?}");
                match mode {
                    CrashMode::LoseAll => assert_eq!(content.len(), 7),
                    CrashMode::KeepAll => assert_eq!(content[7..], [7; 2000]),
                    _ => assert!(content.len() <= 2007),
                }
            }
        }
    }

    #[test]
    fn a_new_file_is_lost_until_it_is_synced() {
        for mode in [CrashMode::LoseAll, CrashMode::EntryLost] {
            let disk = MemoryDisk::new();
            disk.write(FILE, 0, b"x").unwrap();
            disk.crash(mode, &mut Rng::new([0; 32]));
            assert_eq!(disk.content(FILE), None, "{mode:?}");
        }
    }

    #[test]
    fn after_a_failed_sync_a_later_one_succeeds_and_saves_nothing() {
        let disk = written();
        disk.faults(|faults| faults.syncs_to_fail = 1);
        assert!(disk.sync(FILE).is_err());
        disk.sync(FILE).unwrap();
        assert_eq!(disk.content(FILE).unwrap().len(), 2007, "the cache still has it");
        disk.crash(CrashMode::KeepAll, &mut Rng::new([0; 32]));
        assert_eq!(disk.content(FILE).unwrap(), b"durable");
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_takes_more_when_space_returns() {
        let disk = written();
        disk.faults(|faults| faults.space = Some(2010));
        let error = disk.write(FILE, 2007, b"12345").unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Full);
        assert!(disk.content(FILE).unwrap().ends_with(b"123"));
        assert!(disk.write(FILE, 0, b"over old bytes").is_ok());
        disk.faults(|faults| faults.space = None);
        assert!(disk.write(FILE, 2007, b"12345").is_ok());
    }
}
