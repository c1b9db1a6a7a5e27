//! The spaces of a replica, and what is granted in those that somebody owns.

use super::peers::{DEFAULT_SPACE, NodeError};
use super::replica::{Disk, Durability, Replica};
use super::{clock, locked};
use crate::engine::base::{GrantId, SpaceId};
use crate::engine::event::{Grant, Owned};
use crate::engine::node::TicketError;
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

    /// Sets what a space may take here, in bytes; durable on return. See
    /// [`Store::set_quota`](crate::engine::store::Store::set_quota).
    ///
    /// # Errors
    /// [`WriteError`]; nothing was changed then.
    pub fn set_quota(&self, space: &SpaceId, quota: Option<u64>) -> Result<(), WriteError> {
        self.read(|store| store.set_quota(space, quota))
    }

    /// Leaves a space: it is shown and synced no more, and its peers and tickets are forgotten. Its
    /// history stays on this disk, and [`join`](Self::join) with its id brings it back.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed then.
    pub fn leave(&self, space: SpaceId) -> Result<(), NodeError> {
        self.read(|store| store.leave_space(&space)).map_err(WriteError::from)?;
        let mut state = locked(&self.shared.state);
        state.node.part_from(clock::now(), space);
        self.shared.settle(&mut state);
        Ok(())
    }

    /// Joins a space again that was left, by its id.
    pub(super) fn join_again(
        &self,
        space: SpaceId,
        name: Option<&str>,
    ) -> Result<SpaceId, NodeError> {
        let known = |store: &mut Store<Disk>| store.local().spaces.iter().any(|s| s.id == space);
        if !self.read(known) {
            return Err(NodeError::Ticket(TicketError::Damaged));
        }
        let name = name.unwrap_or(DEFAULT_SPACE);
        self.read(|store| store.join_space(space, name)).map_err(|error| match error {
            WriteError::SpaceName(_) => NodeError::NameTaken(name.to_owned()),
            error => error.into(),
        })?;
        Ok(space)
    }
}
