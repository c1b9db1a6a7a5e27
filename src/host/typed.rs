//! The replica as an application uses it: one call an operation, in the space `default`.
//!
//! Thin helpers over [`Replica::write`] and [`Replica::read`], which do everything these do not:
//! conditions, other spaces, notes and request ids. Writes are durable on return.

use std::sync::Arc;

use super::replica::{Committed, Durability, Replica};
use crate::engine::base::{Key, KeyError, SpaceId};
use crate::engine::crdt::{Json, JsonError, Op, View};
use crate::engine::store::{HistoryEvent, KeyOp, Point, ReadError, Write, WriteError};

/// Why a call did nothing.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The key can name nothing: 1 to 1024 bytes of text without NUL.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The value is not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The store refused the write; nothing was written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Replica {
    /// Returns the space `default`, made if it is not there.
    ///
    /// # Errors
    /// [`CallError::Write`] if it cannot be made.
    pub fn default_space(&self) -> Result<SpaceId, CallError> {
        if let Some(space) = self.hot_default_space() {
            return Ok(space);
        }
        Ok(self.space("default", true)?.ok_or(ReadError::UnknownSpace)?)
    }

    /// Stores a JSON text under a key.
    ///
    /// # Errors
    /// [`CallError`]; nothing was written then.
    pub fn put(&self, key: &str, json: &str) -> Result<Committed, CallError> {
        self.batch([(key, Op::Put(Json::parse(json.as_bytes())?))])
    }

    /// Adds to a counter.
    ///
    /// # Errors
    /// [`CallError`]; nothing was written then.
    pub fn counter_add(&self, key: &str, by: i64) -> Result<Committed, CallError> {
        self.batch([(key, Op::CounterAdd(by))])
    }

    /// Removes what is seen of a key; what was written elsewhere meanwhile survives.
    ///
    /// # Errors
    /// [`CallError`]; nothing was written then.
    pub fn delete(&self, key: &str) -> Result<Committed, CallError> {
        self.batch([(key, Op::Delete)])
    }

    /// Writes all ops as one commit, or none: here and at every peer.
    ///
    /// # Errors
    /// [`CallError`]; nothing was written then.
    pub fn batch<'a>(
        &self,
        ops: impl IntoIterator<Item = (&'a str, Op)>,
    ) -> Result<Committed, CallError> {
        let space = self.default_space()?;
        let ops = ops
            .into_iter()
            .map(|(key, op)| Ok(KeyOp { key: Key::new(key)?, op, retype: false, expect: None }));
        let ops = ops.collect::<Result<Vec<_>, KeyError>>()?;
        let write = Write { space, ops, ..Write::default() };
        Ok(self.write(write, Durability::Local)?)
    }

    /// Returns what a key shows now; none if nothing is live. Costs as [`Replica::view`] does.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn get(&self, key: &str) -> Result<Option<Arc<View>>, CallError> {
        if let Some(view) = self.hot_view(key) {
            return Ok(Some(view));
        }
        let (space, key) = (self.default_space()?, Key::new(key)?);
        Ok(self.view(&space, &key)?)
    }

    /// Returns what several keys show at one moment, in the order of `keys`: of every batch all is
    /// seen, or nothing. Costs as [`Replica::views`] does.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Arc<View>>>, CallError> {
        let space = self.default_space()?;
        let keys = keys.iter().map(|key| Key::new(key)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.views(&space, &keys)?)
    }

    /// Returns what a key showed at an earlier point.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn get_at(&self, key: &str, point: &Point) -> Result<Option<View>, CallError> {
        let (space, key) = (self.default_space()?, Key::new(key)?);
        Ok(self.read(|store| {
            let version = store.resolve(&space, point)?;
            store.get(&space, &key, Some(&version))
        })?)
    }

    /// Returns the newest `limit` events of a key, newest first.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn history(&self, key: &str, limit: usize) -> Result<Vec<HistoryEvent>, CallError> {
        let (space, key) = (self.default_space()?, Key::new(key)?);
        Ok(self.read(|store| store.history(&space, &key, limit))?)
    }
}
