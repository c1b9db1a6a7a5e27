//! The spaces of a store: which there are, under which names, and which log is the store's own.

use super::tables::SpaceTable;
use super::{Local, LocalSpace, ReadError, Store, Whose, WriteError};
use crate::base::{CommitId, Hlc, LogId, ReplicaId, SpaceId};
use crate::causal::{Tip, VersionVector};
use crate::limits;
use crate::log::{Disk, DiskError};

impl<D: Disk + Clone> Store<D> {
    /// Returns the id of this replica.
    pub fn replica(&self) -> ReplicaId {
        self.key.id()
    }

    /// Returns the disk that the store is on.
    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    /// Returns what this store knows that is not history.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Changes what this store knows that is not history; durable on return.
    ///
    /// # Errors
    /// The disk's; the change is undone then.
    pub fn edit_local<T>(&mut self, edit: impl FnOnce(&mut Local) -> T) -> Result<T, DiskError> {
        let before = self.local.clone();
        let outcome = edit(&mut self.local);
        if self.local != before
            && let Err(error) = self.local.save(&self.disk)
        {
            self.local = before;
            return Err(error);
        }
        if self.local.spaces != before.spaces {
            // Whoever keeps a copy may have kept what a name stood for, too.
            self.cache.clear();
        }
        Ok(outcome)
    }

    /// Returns the space of that name.
    pub fn space_named(&self, name: &str) -> Option<SpaceId> {
        self.local.space_named(name).map(|space| space.id)
    }

    /// Tells whether a space is served here.
    pub fn has_space(&self, id: &SpaceId) -> bool {
        self.local.spaces.iter().any(|space| space.id == *id && !space.retired)
    }

    /// Adds a space that was made elsewhere, under a name that is not taken.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was changed then.
    pub fn join_space(&mut self, id: SpaceId, name: &str) -> Result<(), WriteError> {
        if let Some(space) = self.local.spaces.iter().find(|space| space.id == id) {
            if space.name == name && !space.retired {
                return Ok(());
            }
            if space.retired && self.local.space_named(name).is_none() {
                let again = |space: &mut LocalSpace| {
                    (space.name, space.retired, space.own) = (name.to_owned(), false, false);
                };
                // Others may have the genesis that was lost here: its number is not given again.
                let lost = space.own && self.counts(&id)? == (0, 0);
                let life = lost.then(|| self.rng.u64());
                self.edit_local(|local| {
                    local.spaces.iter_mut().filter(|space| space.id == id).for_each(again);
                    if let Some(life) = life {
                        local.begin_life(life);
                    }
                })?;
                return Ok(());
            }
            return Err(WriteError::SpaceName("the space is here already under another name"));
        }
        self.check_space_name(name)?;
        self.add_space(id, name, false, Whose::Unknown)
    }

    /// Tells whether the space under `name` can be replaced by another without losing anything: it
    /// holds nothing but its genesis and was never shared.
    pub fn is_replaceable(&self, name: &str) -> bool {
        let Some(space) = self.local.space_named(name) else { return true };
        let Some(ix) = self.local.space_index(&space.id) else { return true };
        !space.shared && self.tables.get(ix).is_none_or(|table| table.commits <= 1)
    }

    /// Takes a space out of service; its commits stay in the log.
    ///
    /// # Errors
    /// The disk's.
    pub fn retire_space(&mut self, name: &str) -> Result<(), DiskError> {
        let name = name.to_owned();
        self.edit_local(|local| {
            let space = local.spaces.iter_mut().find(|s| !s.retired && s.name == name);
            if let Some(space) = space {
                space.retired = true;
            }
        })
    }

    /// Takes a space out of service, and forgets whom it was shared with: no peer is admitted to it
    /// any more, and its tickets end. Its commits stay in the log, and
    /// [`join_space`](Self::join_space) brings it back.
    ///
    /// # Errors
    /// The disk's; nothing was changed then.
    pub fn leave_space(&mut self, id: &SpaceId) -> Result<(), DiskError> {
        self.edit_local(|local| {
            local.tickets.retain(|ticket| ticket.space != *id);
            for peer in &mut local.peers {
                peer.admitted.retain(|space| space != id);
                peer.secrets.retain(|(space, _)| space != id);
            }
            local.spaces.iter_mut().filter(|space| space.id == *id).for_each(|space| {
                space.retired = true;
            });
        })
    }

    /// Takes spaces out of service that were made here and lost their genesis before it was
    /// durable: nobody was told of them, and their names are free again. Durable with the next
    /// edit; until then each opening finds the same.
    pub(super) fn retire_unfounded(&mut self) {
        if !self.blind.is_empty() || !self.damaged_places.is_empty() {
            return;
        }
        for (space, table) in self.local.spaces.iter_mut().zip(self.tables.iter()) {
            let unfounded = space.own && !space.shared && table.commits == 0;
            space.retired |= unfounded;
        }
    }

    /// Returns how many commits and events of a space count here.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn counts(&self, space: &SpaceId) -> Result<(u64, u64), ReadError> {
        let table = self.table(self.space_index(space)?)?;
        Ok((table.commits, table.events))
    }

    /// Returns the last commit of each log of a space, ascending by log; of a forked log, the last
    /// before the fork.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn frontier(&self, space: &SpaceId) -> Result<Vec<Tip>, ReadError> {
        Ok(self.table(self.space_index(space)?)?.frontier())
    }

    /// Returns the seqs that are held of each log and branch of a space.
    pub(crate) fn held(
        &self,
        space: &SpaceId,
    ) -> Result<Vec<(LogId, std::ops::RangeInclusive<u64>)>, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        Ok(table.logs().map(|log| (log.log, log.first..=log.seq)).collect())
    }

    /// Returns the last seq of each log of a space. A branch of a forked log has an entry of its
    /// own, under a name that only this store uses.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn version(&self, space: &SpaceId) -> Result<VersionVector, ReadError> {
        Ok(self.table(self.space_index(space)?)?.version())
    }

    /// Returns the latest stamp of a space.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn latest(&self, space: &SpaceId) -> Result<Hlc, ReadError> {
        Ok(self.table(self.space_index(space)?)?.hlc)
    }

    /// Returns counters of the inside, by name.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let filters: usize = self.sealed.iter().map(|s| s.sidecar.resident_bytes()).sum();
        vec![
            ("commits", self.tables.iter().map(|table| table.commits).sum()),
            ("events", self.tables.iter().map(|table| table.events).sum()),
            ("logs", self.tables.iter().map(|table| table.logs().count() as u64).sum()),
            ("segments", self.log.segments().len() as u64),
            ("segment_bytes", u64::from(self.log.active_bytes())),
            ("sidecar_memory_bytes", filters as u64),
            ("waiting_commits", self.waiting.len() as u64),
        ]
    }

    /// Returns the greatest stamp of any commit of a space.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn last_hlc(&self, space: &SpaceId) -> Result<Hlc, ReadError> {
        Ok(self.table(self.space_index(space)?)?.hlc)
    }

    /// Returns the id of a commit that was applied; none if it was not, or cannot be read.
    pub fn id_at(&self, space: &SpaceId, log: &LogId, seq: u64) -> Option<CommitId> {
        self.commit_id(self.space_index(space).ok()?, log, seq).ok()
    }

    /// Reads a commit that was applied and computes its hashes anew.
    ///
    /// # Errors
    /// [`ReadError`] if it is not what it was.
    pub fn check_commit(&self, space: &SpaceId, log: &LogId, seq: u64) -> Result<(), ReadError> {
        self.whole_commit(self.space_index(space)?, log, seq).map(drop)
    }

    pub(crate) fn space_index(&self, id: &SpaceId) -> Result<usize, ReadError> {
        self.local.space_index(id).ok_or(ReadError::UnknownSpace)
    }

    pub(crate) fn table(&self, space_ix: usize) -> Result<&SpaceTable, ReadError> {
        self.tables.get(space_ix).ok_or(ReadError::UnknownSpace)
    }

    /// Returns the last seq of a log, 0 if nothing of it is here.
    pub(crate) fn seq(&self, space_ix: usize, log: &LogId) -> u64 {
        self.tables.get(space_ix).map_or(0, |table| table.seq(log))
    }

    /// Returns the log that this store writes, made durable before it is used for the first time.
    ///
    /// A store whose directory turns out to be another than the one recorded is a copy, and one
    /// whose log is forked was copied: it goes on under a new incarnation, so that no number ever
    /// names two commits.
    pub(crate) fn own_log(&mut self) -> Result<LogId, WriteError> {
        let place = self.options.place;
        let moved = self.local.place.is_some() && place.is_some() && self.local.place != place;
        let new = self.local.generation == 0;
        let ended = self.new_life || moved || self.is_own_log_closed();
        let ended = ended && !mutant!("incarnation-kept");
        sometimes!("store-new-incarnation", ended);
        sometimes!("store-directory-was-copied", moved);
        if new || ended || (self.local.place.is_none() && place.is_some()) {
            let incarnation = ended.then(|| self.rng.u64());
            let lost: Vec<u64> = self.damaged_places.iter().copied().collect();
            self.edit_local(|local| {
                local.place = place;
                local.lost_segments = lost;
                if let Some(incarnation) = incarnation {
                    local.begin_life(incarnation);
                }
            })?;
            if new && self.local.generation == 0 {
                self.local.save(&self.disk)?;
            }
            self.new_life = false;
        }
        Ok(LogId { replica: self.key.id(), incarnation: self.local.incarnation })
    }

    /// Tells whether this replica's current log is forked somewhere: then it was copied.
    fn is_own_log_closed(&self) -> bool {
        let own = LogId { replica: self.key.id(), incarnation: self.local.incarnation };
        self.tables.iter().any(|table| table.closed(&own).is_some())
    }

    pub(crate) fn check_space_name(&self, name: &str) -> Result<(), WriteError> {
        if name.is_empty() || name.len() > limits::SPACE_NAME_BYTES_MAX {
            return Err(WriteError::SpaceName("a space's name has 1 to 64 bytes"));
        }
        if name.chars().any(|c| c.is_control() || c == '/') {
            return Err(WriteError::SpaceName("a space's name has no control characters and no /"));
        }
        if self.local.space_named(name).is_some() {
            return Err(WriteError::SpaceName("a space of that name is here already"));
        }
        if self.local.spaces.len() >= limits::SPACES_MAX {
            return Err(WriteError::SpaceName("there are too many spaces in this store"));
        }
        Ok(())
    }

    /// Adds a space to the local file and the tables.
    pub(crate) fn add_space(
        &mut self,
        id: SpaceId,
        name: &str,
        own: bool,
        whose: Whose,
    ) -> Result<(), WriteError> {
        let (name, shared, retired) = (name.to_owned(), false, false);
        let space = LocalSpace { id, name, shared, retired, own, whose, quota: None };
        self.edit_local(|local| local.spaces.push(space))?;
        self.tables.push(SpaceTable::new(id, whose));
        Ok(())
    }

    /// Has the local file know of each space who owns it, as far as the tables do: durable on
    /// return.
    pub(super) fn remember_whose(&mut self) -> Result<(), DiskError> {
        let whose: Vec<Whose> = self.tables.iter().map(|table| table.whose).collect();
        self.edit_local(|local| {
            for (space, whose) in local.spaces.iter_mut().zip(whose) {
                space.whose = whose;
            }
        })
    }
}
