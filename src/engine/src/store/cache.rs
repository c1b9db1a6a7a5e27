//! Folded states and read commits that were used lately, within a byte budget.
//!
//! Two generations: what is used moves to the young one; when that is half the budget, the old one
//! is dropped and the young one becomes old. Whatever is dropped is folded again when asked for.
//!
//! States are found by hash, for a write looks for its row several times and a cache is larger than
//! what a processor keeps near. Nothing is ever read in the order of the tables, which is none.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;

use super::Mirror;
use super::tail::Row;
use crate::base::SpaceId;
use crate::crdt::State;
use crate::event::compact::Loose;
use crate::log::Position;

/// A bounded map from table keys to states.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Who is told of every state that changes.
    pub(crate) mirror: Option<Arc<dyn Mirror>>,
    hasher: SeedableRandomState,
    young: HashTable<Entry>,
    old: HashTable<Entry>,
    young_bytes: usize,
    budget_bytes: usize,
    /// How often the young generation became old.
    turns: u64,
}

/// The state of a row, with the hash of the row: a table that grows does not look for the row.
#[derive(Debug)]
struct Entry {
    hash: u64,
    row: Row,
    state: Arc<State>,
}

/// What an entry costs besides its key and state, in bytes: its place in a table that is half full,
/// and the counters.
const ENTRY_BYTES: usize = 2 * size_of::<Entry>() + 24;

impl Cache {
    /// Makes an empty cache that holds about `budget_bytes`. The seed is a secret: peers choose
    /// keys, and who knew the hash could choose keys that are all found in one place.
    pub(crate) fn new(budget_bytes: usize, seed: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        let (young, old) = (HashTable::new(), HashTable::new());
        Self { mirror: None, hasher, young, old, young_bytes: 0, budget_bytes, turns: 0 }
    }

    /// Forgets all states: any of them may have changed.
    pub(crate) fn clear(&mut self) {
        if let Some(mirror) = &self.mirror {
            mirror.cleared();
        }
        (self.young, self.old, self.young_bytes) = Default::default();
    }

    /// Returns the state of a row, if it is here.
    pub(crate) fn get(&mut self, row: &[u8]) -> Option<Arc<State>> {
        let hash = self.hasher.hash_one(row);
        if let Some(entry) = self.young.find(hash, |entry| *entry.row == *row) {
            return Some(Arc::clone(&entry.state));
        }
        let Entry { row, state, .. } = remove(&mut self.old, hash, row)?;
        self.insert(row, Arc::clone(&state));
        Some(state)
    }

    /// Puts the state of a row in.
    pub(crate) fn insert(&mut self, row: Row, state: Arc<State>) {
        let hash = self.hasher.hash_one(&row[..]);
        remove(&mut self.old, hash, &row);
        if let Some(before) = remove(&mut self.young, hash, &row) {
            self.young_bytes = self.young_bytes.saturating_sub(before.bytes());
        }
        let entry = Entry { hash, row, state };
        self.young_bytes += entry.bytes();
        self.young.insert_unique(hash, entry, |entry| entry.hash);
        if self.young_bytes > self.budget_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
            self.turns += 1;
        }
    }

    /// Returns how often a generation became old so far.
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }

    /// Tells whether all that was put in since there had been so many turns is still here.
    pub(crate) fn holds_since(&self, turns: u64) -> bool {
        self.turns.wrapping_sub(turns) < 2
    }

    /// Takes the state of a key's row out, to be changed and put back.
    ///
    /// Whoever changed all that belongs together calls [`published`](Self::published) then.
    pub(crate) fn take(&mut self, space: &SpaceId, key: &str, row: &[u8]) -> Option<Arc<State>> {
        if let Some(mirror) = &self.mirror {
            mirror.changed(space, key);
        }
        let hash = self.hasher.hash_one(row);
        if let Some(entry) = remove(&mut self.young, hash, row) {
            self.young_bytes = self.young_bytes.saturating_sub(entry.bytes());
            return Some(entry.state);
        }
        remove(&mut self.old, hash, row).map(|entry| entry.state)
    }

    /// Ends a change of states that belong together.
    pub(crate) fn published(&self) {
        if let Some(mirror) = &self.mirror {
            mirror.published();
        }
    }
}

impl Entry {
    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        self.row.len() + self.state.bytes() + ENTRY_BYTES
    }
}

fn remove(table: &mut HashTable<Entry>, hash: u64, row: &[u8]) -> Option<Entry> {
    let found = table.find_entry(hash, |entry| *entry.row == *row).ok()?;
    Some(found.remove().0)
}

/// The commits that were read last, within a byte budget, in two generations as above.
#[derive(Debug)]
pub(crate) struct Recent {
    young: BTreeMap<Position, Arc<Loose>>,
    old: BTreeMap<Position, Arc<Loose>>,
    young_bytes: usize,
    budget_bytes: usize,
}

/// What a record costs besides its bytes: map node, two headers, counters.
const RECORD_BYTES: usize = 120;

impl Recent {
    /// Makes an empty cache that holds about `budget_bytes` of records.
    pub(crate) fn new(budget_bytes: usize) -> Self {
        let (young, old) = (BTreeMap::new(), BTreeMap::new());
        Self { young, old, young_bytes: 0, budget_bytes }
    }

    /// Returns the commit whose record begins there, if it is here.
    pub(crate) fn get(&mut self, position: &Position) -> Option<Arc<Loose>> {
        let found = self.young.get(position).or_else(|| self.old.get(position));
        found.map(Arc::clone)
    }

    /// Puts in the commit whose record of `bytes` begins there.
    pub(crate) fn insert(&mut self, position: Position, commit: Arc<Loose>, bytes: usize) {
        self.young_bytes += bytes + RECORD_BYTES;
        self.young.insert(position, commit);
        if self.young_bytes > self.budget_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}
