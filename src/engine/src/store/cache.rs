//! Folded states and read commits that were used lately, within a byte budget.
//!
//! Two generations: what is used moves to the young one; when that is half the budget, the old one
//! is dropped and the young one becomes old. Whatever is dropped is folded again when asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Mirror;
use crate::base::{Key, SpaceId};
use crate::crdt::State;
use crate::event::compact::Loose;
use crate::log::Position;

/// A bounded map from table keys to states.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Who is told of every state that changes.
    pub(crate) mirror: Option<Arc<dyn Mirror>>,
    young: BTreeMap<Vec<u8>, Arc<State>>,
    old: BTreeMap<Vec<u8>, Arc<State>>,
    young_bytes: usize,
    budget_bytes: usize,
    /// How often the young generation became old.
    turns: u64,
}

/// What an entry costs besides its key and state, in bytes: map node, two headers, counters.
const ENTRY_BYTES: usize = 120;

impl Cache {
    /// Makes an empty cache that holds about `budget_bytes`.
    pub(crate) fn new(budget_bytes: usize) -> Self {
        let (young, old) = (BTreeMap::new(), BTreeMap::new());
        Self { mirror: None, young, old, young_bytes: 0, budget_bytes, turns: 0 }
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
        if let Some(state) = self.young.get(row) {
            return Some(Arc::clone(state));
        }
        let (row, state) = self.old.remove_entry(row)?;
        self.insert(row, Arc::clone(&state));
        Some(state)
    }

    /// Puts the state of a row in.
    pub(crate) fn insert(&mut self, row: Vec<u8>, state: Arc<State>) {
        self.old.remove(&row);
        self.young_bytes += row.len() + state.bytes() + ENTRY_BYTES;
        if let Some(before) = self.young.insert(row, state) {
            // The row's length is counted once more than it is held until the next turn: a bound
            // need not be exact, only safe.
            self.young_bytes = self.young_bytes.saturating_sub(before.bytes() + ENTRY_BYTES);
        }
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
    pub(crate) fn take(&mut self, space: &SpaceId, key: &Key, row: &[u8]) -> Option<Arc<State>> {
        if let Some(mirror) = &self.mirror {
            mirror.changed(space, key);
        }
        if let Some(state) = self.young.remove(row) {
            let bytes = row.len() + state.bytes() + ENTRY_BYTES;
            self.young_bytes = self.young_bytes.saturating_sub(bytes);
            return Some(state);
        }
        self.old.remove(row)
    }

    /// Ends a change of states that belong together.
    pub(crate) fn published(&self) {
        if let Some(mirror) = &self.mirror {
            mirror.published();
        }
    }
}

/// The commits that were read last, within a byte budget, in two generations as above.
#[derive(Debug)]
pub(crate) struct Recent {
    young: BTreeMap<Position, Arc<Loose>>,
    old: BTreeMap<Position, Arc<Loose>>,
    young_bytes: usize,
    budget_bytes: usize,
}

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
        self.young_bytes += bytes + ENTRY_BYTES;
        self.young.insert(position, commit);
        if self.young_bytes > self.budget_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}
