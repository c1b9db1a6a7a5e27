//! How much of a space a store takes: a limit that its user sets, for this replica alone.
//!
//! What a space takes is the sum of the sizes in its commits' headers: keys, values and what they
//! supersede, of all of history, so that it is the same on every replica that has the same. How
//! they lie on the disk is not counted. Above the quota no data is taken, be it written here or
//! brought by a peer. What grants, revokes, tags and acknowledges is written here all the same; of
//! what a peer brings it is taken as far as it comes before data for which there is no room.

use super::{LocalSpace, ReadError, Store, WriteError};
use crate::base::SpaceId;
use crate::event::{Commit, Kind};
use crate::log::Disk;

/// A space has no room for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the space would take {needed} bytes here, and its quota is {quota}")]
pub struct QuotaError {
    /// What it would take with the commit, in bytes.
    pub needed: u64,
    /// What it may take, in bytes.
    pub quota: u64,
}

/// What a space takes here, and what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The sum of the sizes of its commits, in bytes.
    pub bytes: u64,
    /// The most that it may take, in bytes; none if there is no such limit.
    pub quota: Option<u64>,
}

impl<D: Disk + Clone> Store<D> {
    /// Returns what a space takes here, and what it may.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn usage(&self, space: &SpaceId) -> Result<Usage, ReadError> {
        let space_ix = self.space_index(space)?;
        let local = self.local.spaces.get(space_ix);
        let quota = local.and_then(|space: &LocalSpace| space.quota);
        Ok(Usage { bytes: self.table(space_ix)?.bytes, quota })
    }

    /// Sets what a space may take here, in bytes, or that it may take any amount; durable on
    /// return. What is here already stays, whatever it takes.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was changed then.
    pub fn set_quota(&mut self, space: &SpaceId, quota: Option<u64>) -> Result<(), WriteError> {
        let space_ix = self.space_index(space)?;
        self.edit_local(|local| {
            if let Some(space) = local.spaces.get_mut(space_ix) {
                space.quota = quota;
            }
        })?;
        Ok(())
    }

    /// Checks that a space may take a commit.
    pub(super) fn check_quota(&self, space_ix: usize, commit: &Commit) -> Result<(), QuotaError> {
        let quota = self.local.spaces.get(space_ix).and_then(|space| space.quota);
        let (Some(quota), Some(table)) = (quota, self.tables.get(space_ix)) else { return Ok(()) };
        let needed = table.bytes.saturating_add(commit.header().size.into());
        let taken = commit.kind() != Kind::Data || needed <= quota;
        if taken { Ok(()) } else { Err(QuotaError { needed, quota }) }
    }
}
