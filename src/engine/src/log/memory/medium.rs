//! What happens to a disk in memory beneath its trait: rot, other hands, and a look at the medium.
//!
//! Nothing here counts as an operation, meets a fault switch or needs power.

use std::ops::Range;

use super::{Change, File, MemoryDisk, put, size};
use crate::log::FileId;

/// What a power cut could undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtStake {
    /// Changes of contents that were not synced.
    pub changes: usize,
    /// New files without a durable directory entry, and removed ones that may come back.
    pub entries: usize,
}

impl MemoryDisk {
    /// Flips one bit of a file, in cache and on the medium, as rot does. False if there is none.
    pub fn flip_bit(&self, file: FileId, bit: u64) -> bool {
        let mut state = self.lock();
        let Some(file) = state.files.get_mut(&file) else { return false };
        let Ok(at) = usize::try_from(bit / 8) else { return false };
        let mut found = false;
        for content in [&mut file.durable, &mut file.view] {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= 1 << (bit % 8);
                found = true;
            }
        }
        found
    }

    /// Puts bytes into a file, in cache and on the medium: stale or misplaced ones, for example.
    pub fn plant(&self, file: FileId, offset: usize, bytes: &[u8]) {
        let mut state = self.lock();
        let file = state.files.entry(file).or_default();
        file.entered = true;
        put(&mut file.durable, offset, bytes);
        put(&mut file.view, offset, bytes);
    }

    /// Cuts a file short, in cache and on the medium.
    pub fn chop(&self, file: FileId, len: usize) {
        if let Some(file) = self.lock().files.get_mut(&file) {
            file.durable.truncate(len);
            file.view.truncate(len);
            file.clean_lie |= !file.pending.is_empty();
            file.pending.clear();
        }
    }

    /// Drops what the cache holds of a file and no sync will write: readers see the medium again,
    /// and on it what waits for a sync.
    pub fn evict(&self, file: FileId) {
        if let Some(file) = self.lock().files.get_mut(&file)
            && std::mem::take(&mut file.clean_lie)
        {
            file.view.clone_from(&file.durable);
            for (_, change) in &file.pending {
                change.apply(&mut file.view);
            }
        }
    }

    /// Sets what a file holds, in cache and on the medium, or takes it away.
    pub fn set(&self, file: FileId, content: Option<&[u8]>) {
        let mut state = self.lock();
        match content {
            None => drop(state.files.remove(&file)),
            Some(bytes) => {
                let (durable, view) = (bytes.to_vec(), bytes.to_vec());
                let content = File { durable, view, entered: true, ..File::default() };
                state.files.insert(file, content);
            }
        }
        state.removed.remove(&file);
    }

    /// Takes over the files of another disk, un-synced changes included, for its own. Counters and
    /// switches stay.
    pub fn take_over(&self, other: &Self) {
        let other = other.lock().clone();
        let mut state = self.lock();
        (state.files, state.removed) = (other.files, other.removed);
    }

    /// Returns the length of a file as readers see it, in bytes.
    pub fn size(&self, file: FileId) -> Option<u64> {
        self.lock().files.get(&file).map(|file| file.view.len() as u64)
    }

    /// Returns what readers see of a part of a file, cut off at its end. None without the file.
    pub fn part(&self, file: FileId, range: Range<u64>) -> Option<Vec<u8>> {
        self.lock().files.get(&file).map(|file| clipped(&file.view, range).to_vec())
    }

    /// Returns what is durable of a part of a file, with zeros for what is not there. The caller
    /// keeps the range to what memory can hold.
    pub fn durable_part(&self, file: FileId, range: Range<u64>) -> Vec<u8> {
        let state = self.lock();
        let durable = state.files.get(&file).map_or(&[][..], |file| &file.durable);
        let mut part = clipped(durable, range.clone()).to_vec();
        part.resize(size(range.end.saturating_sub(range.start)), 0);
        part
    }

    /// Returns the whole content that would be there if the power went now, un-synced bytes lost.
    pub fn durable(&self, file: FileId) -> Option<Vec<u8>> {
        let state = self.lock();
        state.files.get(&file).filter(|file| file.entered).map(|file| file.durable.clone())
    }

    /// Returns the parts of a file that were written and not synced, in order of writing.
    pub fn unsynced(&self, file: FileId) -> Vec<Range<u64>> {
        let state = self.lock();
        let pending = state.files.get(&file).map_or(&[][..], |file| &file.pending);
        let written = pending.iter().filter_map(|(_, change)| match change {
            Change::Write { offset, bytes } => Some(*offset as u64..(*offset + bytes.len()) as u64),
            _ => None,
        });
        written.collect()
    }

    /// Returns what a power cut could undo.
    pub fn at_stake(&self) -> AtStake {
        let state = self.lock();
        AtStake {
            changes: state.files.values().map(|file| file.pending.len()).sum(),
            entries: state.removed.len() + state.files.values().filter(|f| !f.entered).count(),
        }
    }
}

/// The bytes of `range`, as far as there are any.
fn clipped(content: &[u8], range: Range<u64>) -> &[u8] {
    let end = size(range.end).min(content.len());
    content.get(size(range.start).min(end)..end).unwrap_or_default()
}
