//! The spaces of a replica, and what is granted in those that somebody owns.

use super::clock;
use super::locked;
use super::replica::{Disk, Durability, Replica};
use crate::engine::base::{GrantId, SpaceId};
use crate::engine::event::{Grant, Owned};
use crate::engine::store::{Store, WriteError, Written};

impl Replica {
    /// Makes an open space under a name that is not taken; durable on return.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was stored then.
    pub fn create_space(&self, name: &str) -> Result<SpaceId, WriteError> {
        self.durably(|store| store.create_space(clock::now(), name))
    }

    /// Makes a space that its roots own, under a name that is not taken; durable on return.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was stored then.
    pub fn create_owned_space(&self, name: &str, owned: Owned) -> Result<SpaceId, WriteError> {
        self.durably(|store| store.create_owned_space(clock::now(), name, owned))
    }

    /// Grants something in an owned space; durable on return. The id of the grant is that of the
    /// commit.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was stored then.
    pub fn grant(&self, space: &SpaceId, grant: Grant) -> Result<Written, WriteError> {
        self.durably(|store| store.grant(clock::now(), space, grant, None))
    }

    /// Takes a grant back; durable on return. What is written under it counts no more, but for what
    /// this replica has.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was stored then.
    pub fn revoke(&self, space: &SpaceId, target: GrantId) -> Result<Written, WriteError> {
        self.durably(|store| store.revoke(clock::now(), space, target, None))
    }

    /// Does something to the store, and waits until it is durable.
    fn durably<T>(
        &self,
        act: impl FnOnce(&mut Store<Disk>) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let mut state = locked(&self.shared.state);
        state.check_open()?;
        let done = act(state.node.store())?;
        self.shared.finish(state, Durability::Local)?;
        Ok(done)
    }

    /// Returns the space of that name, or of that id in 64 digits; with `create`, one that is not
    /// there is made.
    ///
    /// # Errors
    /// [`WriteError`] if it cannot be made.
    pub fn space(&self, name: &str, create: bool) -> Result<Option<SpaceId>, WriteError> {
        let mut state = locked(&self.shared.state);
        state.check_open()?;
        let store = state.node.store();
        if let Some(id) = store.space_named(name) {
            return Ok(Some(id));
        }
        if let Ok(id) = name.parse::<SpaceId>() {
            return Ok(Some(id).filter(|id| store.has_space(id)));
        }
        if !create {
            return Ok(None);
        }
        let id = store.create_space(clock::now(), name)?;
        self.shared.finish(state, Durability::Local)?;
        Ok(Some(id))
    }
}
