//! Reads of what keys show now: past the engine's lock where that is known already.

use std::sync::Arc;

use super::hot::Hot;
use super::locked;
use super::replica::{Disk, Replica};
use crate::engine::base::{Key, SpaceId};
use crate::engine::crdt::View;
use crate::engine::store::{ReadError, Store};

impl Replica {
    /// Returns what a key shows now; none if nothing is live.
    ///
    /// A read that begins after a write returned sees it. Costs a look into a concurrent table if
    /// the key was read before and not written since; else the engine's lock is taken, and the
    /// cost is that of [`Store::get`].
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn view(&self, space: &SpaceId, key: &Key) -> Result<Option<Arc<View>>, ReadError> {
        if let Some(view) = self.shared.hot.get(space, key.as_str()) {
            return Ok(Some(view));
        }
        fill(&self.shared.hot, locked(&self.shared.state).node.store(), space, key)
    }

    /// Returns what several keys show at one moment: of every commit all is seen, or nothing.
    ///
    /// Costs as [`view`](Self::view) does, for each key; if one of them is not in the table, or
    /// something is written meanwhile, all are read under the engine's lock: keep them few.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn views(
        &self,
        space: &SpaceId,
        keys: &[Key],
    ) -> Result<Vec<Option<Arc<View>>>, ReadError> {
        if let Some(views) = self.shared.hot.get_all(space, keys) {
            return Ok(views.into_iter().map(Some).collect());
        }
        let mut state = locked(&self.shared.state);
        let store = state.node.store();
        keys.iter().map(|key| fill(&self.shared.hot, store, space, key)).collect()
    }

    /// Returns the space that is called `default`, if there is one.
    pub(super) fn hot_default_space(&self) -> Option<SpaceId> {
        if let Some(space) = self.shared.hot.default_space() {
            return Some(space);
        }
        let mut state = locked(&self.shared.state);
        state.check_open().ok()?;
        let space = state.node.store().space_named("default")?;
        self.shared.hot.set_default_space(space);
        Some(space)
    }

    /// Returns what a key of the space `default` shows, if both are known without the engine.
    pub(super) fn hot_view(&self, key: &str) -> Option<Arc<View>> {
        self.shared.hot.get_default(key)
    }
}

/// Reads a key and keeps what it shows for the next readers. The store is held all the while.
fn fill(
    hot: &Hot,
    store: &mut Store<Disk>,
    space: &SpaceId,
    key: &Key,
) -> Result<Option<Arc<View>>, ReadError> {
    let Some(view) = store.get(space, key, None)? else { return Ok(None) };
    let view = Arc::new(view);
    hot.fill(space, key, &view);
    Ok(Some(view))
}
