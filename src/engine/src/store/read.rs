//! Reads of keys and their history.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ownership::Ruling;
use super::tail::{Namespace, table_key};
use super::{Found, ReadError, Reason, Store};
use crate::base::{CommitId, Dot, EventId, GrantId, Key, SpaceId};
use crate::causal::VersionVector;
use crate::crdt::{Action, Stamp, State, Supersedes, View};
use crate::event::Meta;
use crate::log::Disk;

/// One event of a key's history.
#[derive(Debug, Clone)]
pub struct HistoryEvent {
    /// When and by whom it was written.
    pub stamp: Stamp,
    /// What it did.
    pub action: Action,
    /// What it carried; none if it was erased.
    pub payload: Option<Arc<[u8]>>,
    /// The events that it superseded by name.
    pub parents: Vec<EventId>,
    /// Whether it superseded all that its author had seen of the key, instead of naming it.
    pub cut: bool,
    /// What its commit says about itself.
    pub meta: Option<Meta>,
    /// The grant that its commit names.
    pub grant: Option<GrantId>,
    /// Why it does not count, if it does not.
    pub inert: Option<Reason>,
}

/// Which events of a history are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that count.
    Effective,
    /// Those that do not.
    Inert,
    /// All.
    All,
}

/// A page of keys in the order of their bytes.
#[derive(Debug, Clone)]
pub struct Page {
    /// The keys and what they show.
    pub keys: Vec<(Key, View)>,
    /// Whether more may follow.
    pub more: bool,
}

impl<D: Disk + Clone> Store<D> {
    /// Returns what a key shows, now or at an earlier version; none if nothing is live.
    ///
    /// Costs a look into the cache, else a few reads; at an earlier version one read for each
    /// event of the key.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn get(
        &mut self,
        space: &SpaceId,
        key: &Key,
        at: Option<&VersionVector>,
    ) -> Result<Option<View>, ReadError> {
        Ok(self.state_at(space, key, at)?.view())
    }

    /// Returns the state of a key, now or at an earlier version.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn state_at(
        &mut self,
        space: &SpaceId,
        key: &Key,
        at: Option<&VersionVector>,
    ) -> Result<Arc<State>, ReadError> {
        let Some(version) = at else { return self.state(space, key) };
        let space_ix = self.space_index(space)?;
        let row = table_key(space_ix, Namespace::Key, key.as_bytes());
        Ok(Arc::new(self.refold_row(space_ix, &row, Some(version))?))
    }

    /// Returns the state of a key as of an earlier version, by what is known in a later one: what
    /// did not turn out to be inert.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn state_known(
        &self,
        space: &SpaceId,
        key: &Key,
        at: &VersionVector,
        known: &VersionVector,
    ) -> Result<State, ReadError> {
        let space_ix = self.space_index(space)?;
        let row = table_key(space_ix, Namespace::Key, key.as_bytes());
        let ruling = self.table(space_ix)?.ruling(Some(known));
        self.refold_ruled(space_ix, &row, Some(at), &ruling)
    }

    /// Returns the live keys that begin with `prefix`, after `after`, at most `limit` of them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn list(
        &mut self,
        space: &SpaceId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<&VersionVector>,
    ) -> Result<Page, ReadError> {
        let space_ix = self.space_index(space)?;
        let mut keys = Vec::new();
        let mut after = after.map(|key| key.as_bytes().to_vec());
        loop {
            let want = (limit - keys.len()).saturating_add(1).min(ROWS_AT_ONCE);
            let prefix = prefix.as_bytes();
            let rows = self.row_page(space_ix, Namespace::Key, prefix, after.as_deref(), want)?;
            let Some(last) = rows.last().cloned() else {
                return Ok(Page { keys, more: false });
            };
            for row in rows {
                let Ok(key) = Key::from_bytes(&row) else { continue };
                let Some(view) = self.get(space, &key, at)? else { continue };
                if keys.len() == limit {
                    return Ok(Page { keys, more: true });
                }
                keys.push((key, view));
            }
            after = Some(last);
        }
    }

    /// Returns the events of a key that count, newest first, children before parents; at most
    /// `limit`.
    ///
    /// Costs a read for each event of the key.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn history(
        &self,
        space: &SpaceId,
        key: &Key,
        limit: usize,
    ) -> Result<Vec<HistoryEvent>, ReadError> {
        self.history_of(space, key, Which::Effective, limit)
    }

    /// Returns the events of a key that count, or those that do not, or all, in the same order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn history_of(
        &self,
        space: &SpaceId,
        key: &Key,
        which: Which,
        limit: usize,
    ) -> Result<Vec<HistoryEvent>, ReadError> {
        let space_ix = self.space_index(space)?;
        let row = table_key(space_ix, Namespace::Key, key.as_bytes());
        let found = self.history_of_row(space_ix, &row)?;
        // Most of what an event supersedes is in the same history: no need to look it up again.
        let ids: BTreeMap<Dot, CommitId> =
            found.iter().map(|found| (found.stamp.dot, found.stamp.commit)).collect();
        let ruling = self.table(space_ix)?.ruling(None);
        let asked = |found: &Found| {
            let counts = ruling.counts(&found.stamp.dot.log, found.stamp.dot.seq);
            which == Which::All || (which == Which::Effective) == counts
        };
        let newest = found.into_iter().rev().filter(asked).take(limit);
        newest.map(|found| self.history_event(space_ix, &found, &ids, &ruling)).collect()
    }

    fn history_event(
        &self,
        space_ix: usize,
        found: &Found,
        ids: &BTreeMap<Dot, CommitId>,
        ruling: &Ruling<'_>,
    ) -> Result<HistoryEvent, ReadError> {
        let verdict = self.table(space_ix)?.verdict_of(ruling, &found.commit, found.stamp.commit);
        let inert = verdict.err();
        let mut parents = Vec::new();
        let supersedes = &found.event.skeleton.supersedes;
        if let Supersedes::Dots(dots) = supersedes {
            let table = self.table(space_ix)?;
            let outer = |dot: &Dot| (table.origin(&dot.log), dot.seq, dot.index);
            // What does not count was never superseded by what does.
            let superseded = |dot: &&Dot| inert.is_some() || ruling.counts(&dot.log, dot.seq);
            for dot in dots.iter().filter(superseded) {
                let commit = match ids.get(dot) {
                    Some(commit) => *commit,
                    // Across a fork one name stands for several commits: the one that has an
                    // event of this key is meant.
                    None if dots.iter().any(|d| ids.contains_key(d) && outer(d) == outer(dot)) => {
                        continue;
                    }
                    None => match self.commit_id(space_ix, &dot.log, dot.seq) {
                        Ok(commit) => commit,
                        Err(error) => {
                            self.pass_over(self.unknown(space_ix, error))?;
                            continue;
                        }
                    },
                };
                parents.push(EventId { commit, index: dot.index });
            }
        }
        Ok(HistoryEvent {
            stamp: found.stamp,
            action: found.event.skeleton.action,
            payload: found.event.payload().cloned(),
            parents,
            cut: matches!(supersedes, Supersedes::Cut(_)),
            meta: found.commit.meta(),
            grant: found.commit.grant,
            inert,
        })
    }
}

/// How many rows are looked up at once.
const ROWS_AT_ONCE: usize = 512;
