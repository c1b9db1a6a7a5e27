//! What hot keys show, for readers that do not wait for the engine.
//!
//! A bounded table in shards, each under a lock of its own that readers share. The engine drops
//! what a commit touches while it applies it, before the write returns, and everything when it
//! reads its log anew; readers that found nothing fill in what they then read under the engine's
//! lock, so that nothing stale is ever put back. A view that is here is therefore what the engine
//! would answer, up to commits that are being applied at that very moment.
//!
//! When the budget is used up, one shard in turn loses what was not read since its last turn
//! (CLOCK with a coarse hand; Corbató 1968). Keys without a value are not kept.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::engine::base::{Key, SpaceId};
use crate::engine::crdt::View;
use crate::engine::store::Mirror;

/// The views of hot keys.
#[derive(Debug)]
pub(super) struct Hot {
    hasher: DefaultHashBuilder,
    shards: Vec<RwLock<Shard>>,
    /// About how many bytes are in use. Changed under the engine's lock only.
    bytes: AtomicUsize,
    bytes_max: usize,
    /// The apply ordinal: how often what is shown has changed.
    published: AtomicU64,
    /// The shard whose turn it is to give room.
    hand: AtomicUsize,
}

/// A part of the table. Alone on its cache lines, so that readers of others are not slowed down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    entries: HashTable<Entry>,
    /// The space that is called `default` now, once somebody asked: in each shard, so that a read
    /// of it takes one lock.
    default_space: Option<SpaceId>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    view: Arc<View>,
    key: Key,
    space: SpaceId,
    bytes: usize,
    /// Whether it was read since the shard's last turn.
    used: AtomicBool,
}

impl Hot {
    /// Makes an empty table for about `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: std::iter::repeat_with(RwLock::default).take(SHARDS).collect(),
            bytes: AtomicUsize::new(0),
            bytes_max,
            published: AtomicU64::new(0),
            hand: AtomicUsize::new(0),
        }
    }

    /// Returns what a key shows, if that is here.
    pub(super) fn get(&self, space: &SpaceId, key: &str) -> Option<Arc<View>> {
        let of_key = self.hash(key);
        read(self.shard(of_key)?).get(space, key, of_key)
    }

    /// Returns what a key of the space `default` shows, if both are here.
    pub(super) fn get_default(&self, key: &str) -> Option<Arc<View>> {
        let of_key = self.hash(key);
        let shard = read(self.shard(of_key)?);
        shard.get(&shard.default_space?, key, of_key)
    }

    /// Returns what all of `keys` show as of one moment, if all of that is here.
    pub(super) fn get_all(&self, space: &SpaceId, keys: &[Key]) -> Option<Vec<Arc<View>>> {
        let before = self.published.load(Ordering::Acquire);
        let views = keys.iter().map(|key| self.get(space, key.as_str())).collect::<Option<_>>()?;
        // A commit drops all that it touches, then moves the ordinal, and only then can anything
        // newer be filled in. So whoever found something of it finds the ordinal moved.
        (self.published.load(Ordering::Acquire) == before).then_some(views)
    }

    /// Puts in what a key shows. The caller holds the engine's lock and read it under the same
    /// hold.
    pub(super) fn fill(&self, space: &SpaceId, key: &Key, view: &Arc<View>) {
        let bytes = key.as_bytes().len() + view.bytes() + ENTRY_BYTES;
        if bytes > self.bytes_max / ENTRY_SHARE {
            return;
        }
        let of_key = self.hash(key.as_str());
        let Some(shard) = self.shard(of_key) else { return };
        let hash = within(space, of_key);
        let (view, key, space) = (Arc::clone(view), key.clone(), *space);
        let entry = Entry { hash, view, key, space, bytes, used: AtomicBool::new(false) };
        {
            let mut shard = write(shard);
            if shard.entries.find(hash, |e| e.is(&entry.space, entry.key.as_str())).is_some() {
                return;
            }
            shard.entries.insert_unique(hash, entry, |entry| entry.hash);
        }
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
            self.make_room();
        }
    }

    /// Returns the space that is called `default`, if that is known here.
    pub(super) fn default_space(&self) -> Option<SpaceId> {
        read(self.shards.first()?).default_space
    }

    /// Takes note of what is called `default`. The caller holds the engine's lock.
    pub(super) fn set_default_space(&self, space: SpaceId) {
        for shard in &self.shards {
            write(shard).default_space = Some(space);
        }
    }

    /// Takes from one shard after the other what was not read since its last turn.
    fn make_room(&self) {
        for _ in 0..SHARDS {
            if self.bytes.load(Ordering::Relaxed) <= self.bytes_max {
                return;
            }
            let at = self.hand.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let Some(shard) = self.shards.get(at) else { return };
            let mut shard = write(shard);
            let (before, mut freed) = (shard.entries.len(), 0);
            shard.entries.retain(|entry| {
                let keep = std::mem::take(entry.used.get_mut());
                freed += if keep { 0 } else { entry.bytes };
                keep
            });
            if shard.entries.len() > before / 8 * 7 {
                // Nearly all of it is hot: every other one goes, or nothing new ever got in.
                let mut odd = false;
                shard.entries.retain(|entry| {
                    odd = !odd;
                    freed += if odd { entry.bytes } else { 0 };
                    !odd
                });
            }
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    fn hash(&self, key: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    fn shard(&self, of_key: u64) -> Option<&RwLock<Shard>> {
        // Not the bits by which the shard's own table finds its place.
        self.shards.get((of_key >> 40) as usize % SHARDS)
    }
}

/// The hash by which an entry is found in its shard.
fn within(space: &SpaceId, of_key: u64) -> u64 {
    // A space's id is a hash itself.
    let front = space.0.first_chunk().copied().unwrap_or_default();
    of_key ^ u64::from_le_bytes(front)
}

impl Shard {
    fn get(&self, space: &SpaceId, key: &str, of_key: u64) -> Option<Arc<View>> {
        let entry = self.entries.find(within(space, of_key), |entry| entry.is(space, key))?;
        // Written only when it changes: readers would take the line from each other.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.view))
    }
}

impl Mirror for Hot {
    fn changed(&self, space: &SpaceId, key: &str) {
        if self.bytes.load(Ordering::Relaxed) == 0 {
            return;
        }
        let of_key = self.hash(key);
        let Some(shard) = self.shard(of_key) else { return };
        let mut shard = write(shard);
        let hash = within(space, of_key);
        if let Ok(found) = shard.entries.find_entry(hash, |entry| entry.is(space, key)) {
            self.bytes.fetch_sub(found.remove().0.bytes, Ordering::Relaxed);
        }
    }

    fn published(&self) {
        self.published.fetch_add(1, Ordering::Release);
    }

    fn cleared(&self) {
        for shard in &self.shards {
            *write(shard) = Shard::default();
        }
        self.bytes.store(0, Ordering::Relaxed);
        self.published.fetch_add(1, Ordering::Release);
    }
}

impl Entry {
    fn is(&self, space: &SpaceId, key: &str) -> bool {
        self.key.as_str() == key && self.space == *space
    }
}

/// A panic while one of these locks was held cannot have left an entry half made.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// How many parts the table has: far more than threads read at once.
const SHARDS: usize = 64;
/// What an entry costs besides its key and its view, in bytes: its place in a table that is half
/// full, and the counters of key and view.
const ENTRY_BYTES: usize = 2 * size_of::<Entry>() + 32;
/// No view takes more than this part of the budget.
const ENTRY_SHARE: usize = 16;

#[cfg(test)]
mod tests;
