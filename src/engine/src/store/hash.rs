//! Two digests that replicas compare: of the commits that count, and of what keys show.

use super::tail::Namespace;
use super::{ReadError, Store};
use crate::base::{Hash, Key, Sha256Stream, SpaceId, Writer};
use crate::crdt::View;
use crate::log::Disk;

impl<D: Disk + Clone> Store<D> {
    /// Returns the digest of the counted frontier: equal on two replicas exactly if the same
    /// commits of the space count on both.
    ///
    /// Costs a hash over one entry a log.
    ///
    /// None while commits are lost to damage.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn state_hash(&self, space: &SpaceId) -> Result<Option<Hash>, ReadError> {
        let space_ix = self.space_index(space)?;
        let table = self.table(space_ix)?;
        if !self.is_whole(space_ix) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        bytes.put(&space.0);
        let frontier = table.frontier();
        bytes.put_len(frontier.len());
        for tip in frontier {
            tip.encode(&mut bytes);
        }
        // Of a closed log also where it is forked, and the tips of what counts of its branches.
        bytes.put_len(table.closed_logs().count());
        for (log, closed) in table.closed_logs() {
            bytes.put_log(&log);
            bytes.put_varint(closed.seq);
            let tips = self.branch_tips(space, &log)?;
            bytes.put_len(tips.len());
            for tip in tips {
                bytes.put_varint(tip.seq);
                bytes.put(&tip.id.0);
            }
        }
        Ok(Some(crate::base::sha256("kdelta/state/1", &[&bytes])))
    }

    /// Returns the digest of what all keys show: equal on two replicas if all of them show the
    /// same.
    ///
    /// Costs a read of every key.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn value_hash(&mut self, space: &SpaceId) -> Result<Hash, ReadError> {
        let space_ix = self.space_index(space)?;
        let mut values = ValueHasher::new(space);
        let mut after = None;
        loop {
            let rows = self.row_page(space_ix, Namespace::Key, b"", after.as_deref(), PAGE)?;
            let Some(last) = rows.last().cloned() else { return Ok(values.finish()) };
            for key in rows {
                let Ok(key) = Key::from_bytes(&key) else { continue };
                let state = self.state(space, &key)?;
                if let Some(view) = state.view() {
                    values.add(&key, &view);
                }
            }
            after = Some(last);
        }
    }
}

/// Makes the digest of what all keys of a space show, for who reads them anyway.
#[derive(Debug)]
pub struct ValueHasher(Sha256Stream);

impl ValueHasher {
    /// Starts with no key.
    pub fn new(space: &SpaceId) -> Self {
        let mut stream = Sha256Stream::new("kdelta/values/1");
        stream.update(&space.0);
        Self(stream)
    }

    /// Adds the next live key, in the order of their bytes, and what it shows.
    pub fn add(&mut self, key: &Key, view: &View) {
        self.0.update(&view.value_entry(key));
    }

    /// Returns the digest: what [`Store::value_hash`] gives for the same keys.
    pub fn finish(self) -> Hash {
        self.0.finish()
    }
}

/// How many rows are read at once.
const PAGE: usize = 512;
