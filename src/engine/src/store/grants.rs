//! Owned spaces, and what is granted and revoked in them.

use std::sync::Arc;

use super::authority::{At, Authority, Demands, Granted, Reason, Rights, Standing};
use super::write::Saying;
use super::{ReadError, Store, Whose, WriteError, Written};
use crate::base::{GrantId, HlcClock, Now, ReplicaId, SpaceId, WallTime, work};
use crate::event::{Act, Actions, Audience, Commit, Draft, Grant, Kind, Meta, Owned};
use crate::limits;
use crate::log::Disk;

impl<D: Disk + Clone> Store<D> {
    /// Makes a space that its roots own, under a name that is not taken. Only what they grant
    /// counts there.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was written then.
    pub fn create_owned_space(
        &mut self,
        now: Now,
        name: &str,
        owned: Owned,
    ) -> Result<SpaceId, WriteError> {
        self.found_space(now, name, Some(owned))
    }

    /// Makes a space of this store's own, which somebody may own.
    pub(super) fn found_space(
        &mut self,
        now: Now,
        name: &str,
        owned: Option<Owned>,
    ) -> Result<SpaceId, WriteError> {
        self.check_space_name(name)?;
        if let Some(owned) = &owned {
            // What a root with less wrote would count for nothing, in its own space.
            let least = owned.roots.iter().map(work).min().unwrap_or_default();
            if least < u32::from(owned.difficulty) {
                let lacks = Reason::Work { bits: least, needed: owned.difficulty };
                return Err(WriteError::Unauthorised(lacks));
            }
        }
        let whose = if owned.is_some() { Whose::Owned } else { Whose::Open };
        let log = self.own_log()?;
        let hlc = HlcClock::resume(Default::default()).tick(now.wall);
        let commit = Draft { owned, ..Draft::genesis(log, hlc) }.seal(&mut self.rng)?;
        let id = commit.space();
        self.add_space(id, name, true, whose)?;
        let space_ix = self.space_index(&id)?;
        self.append_commit(space_ix, Arc::new(commit))?;
        Ok(id)
    }

    /// Grants something, under the first grant of this replica's own that has it to give. The id
    /// of the grant is that of the commit.
    ///
    /// # Errors
    /// [`WriteError`], as for [`write`](Self::write).
    pub fn grant(
        &mut self,
        now: Now,
        space: &SpaceId,
        grant: Grant,
        note: Option<Arc<[u8]>>,
    ) -> Result<Written, WriteError> {
        self.act(now, space, Kind::Grant, Act::Grant(grant), note)
    }

    /// Takes a grant back: what is written under it, or under one that was given under it, counts
    /// no more, but for what this replica has.
    ///
    /// # Errors
    /// [`WriteError`], as for [`write`](Self::write).
    pub fn revoke(
        &mut self,
        now: Now,
        space: &SpaceId,
        target: GrantId,
        note: Option<Arc<[u8]>>,
    ) -> Result<Written, WriteError> {
        self.act(now, space, Kind::Revoke, Act::Revoke(target), note)
    }

    /// Takes back what this replica gave to others and what ended long ago. Until then a holder who
    /// sets its clock back can go on writing, see [`limits::SEAL_AFTER_MS`]. Returns how many.
    ///
    /// # Errors
    /// [`WriteError`], as for [`write`](Self::write).
    pub fn seal_ended(&mut self, now: Now) -> Result<usize, WriteError> {
        let before = WallTime(now.wall.0.saturating_sub(limits::SEAL_AFTER_MS));
        let own = self.key.id();
        let mut ended = Vec::new();
        for table in &self.tables {
            let authority = table.ownership.as_ref().map(|ownership| &ownership.authority);
            let grants = authority.map_or(Vec::new(), |authority| authority.ended(&own, before));
            ended.extend(grants.into_iter().map(|grant| (table.id, grant)));
        }
        let mut sealed = 0;
        for (space, grant) in ended {
            match self.revoke(now, &space, grant, None) {
                Ok(_) => sealed += 1,
                // Its own grant may have ended since, or been taken back.
                Err(WriteError::Unauthorised(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sealed)
    }

    /// Grants another replica all that this one may do and may pass on, in all spaces that somebody
    /// owns. Says for each in which it may do anything whether that was all of it.
    ///
    /// # Errors
    /// [`WriteError`], as for [`write`](Self::write); some of it may be done.
    pub fn pass_on(&mut self, now: Now, to: ReplicaId) -> Result<Vec<(SpaceId, bool)>, WriteError> {
        let mut passed = Vec::new();
        for space_ix in 0..self.tables.len() {
            let space = self.table(space_ix)?.id;
            let own = self.rights(&space, &Audience::Replica(self.key.id()), now.wall)?;
            let mut all = true;
            for rights in &own {
                let depth = rights.depth.checked_sub(1);
                let depth = depth.filter(|_| rights.actions.contains(Actions::DELEGATE));
                let Some(depth) = depth else {
                    all = false;
                    continue;
                };
                let Rights { actions, ref prefixes, expiry_ms, .. } = *rights;
                let (audience, prefixes) = (Audience::Replica(to), prefixes.clone());
                let grant = Grant { audience, actions, prefixes, expiry_ms, depth };
                self.grant(now, &space, grant, None)?;
            }
            if !own.is_empty() {
                passed.push((space, all));
            }
        }
        Ok(passed)
    }

    /// Tells whether somebody owns any of the spaces here.
    pub(crate) fn has_owned_spaces(&self) -> bool {
        self.tables.iter().any(|table| table.ownership.is_some())
    }

    fn act(
        &mut self,
        now: Now,
        space: &SpaceId,
        kind: Kind,
        act: Act,
        note: Option<Arc<[u8]>>,
    ) -> Result<Written, WriteError> {
        self.log.set_wall(now.wall);
        let space_ix = self.space_index(space)?;
        self.check_founded(space_ix)?;
        if self.table(space_ix)?.ownership.is_none() {
            return Err(WriteError::Open);
        }
        let meta = note.map(|note| Meta { note: Some(note), ..Meta::default() });
        self.past_rot(WriteError::to_rebuild, |store| {
            let (act, meta) = (Some(act.clone()), meta.clone());
            store.commit(now, space_ix, Saying { kind, events: Vec::new(), act, meta })
        })
    }

    /// Returns the grants of an owned space, those of its roots too; nothing of an open one.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn grants(&self, space: &SpaceId) -> Result<Vec<Granted>, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        Ok(table.ownership.iter().flat_map(|ownership| ownership.authority.list()).collect())
    }

    /// Returns what somebody may do in an owned space at a time.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn rights(
        &self,
        space: &SpaceId,
        audience: &Audience,
        now: WallTime,
    ) -> Result<Vec<Rights>, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        let ownership = table.ownership.as_ref();
        Ok(ownership.map_or(Vec::new(), |known| known.authority.rights(audience, now)))
    }

    /// Tells whether a replica may be sent what is in a space: where nobody owns it, any that is
    /// admitted may. So may any where the genesis is not here: what is not in its past is nobody's.
    pub fn may_read(&self, space: &SpaceId, replica: &ReplicaId, now: WallTime) -> bool {
        self.authority(space).is_none_or(|authority| {
            let rights = authority.rights(&Audience::Replica(*replica), now);
            rights.iter().any(Rights::reads_all)
        })
    }

    /// Tells whether a replica was granted something in a space, and nothing of it holds any more.
    pub fn is_shut_out(&self, space: &SpaceId, replica: &ReplicaId, now: WallTime) -> bool {
        let audience = Audience::Replica(*replica);
        self.authority(space).is_some_and(|authority| {
            authority.has_heard_of(&audience) && authority.rights(&audience, now).is_empty()
        })
    }

    /// Returns what is known of who may do what in a space; none where that is not asked, or not
    /// known.
    fn authority(&self, space: &SpaceId) -> Option<&Authority> {
        let table = self.table(self.space_index(space).ok()?).ok()?;
        table.ownership.as_ref().map(|ownership| &ownership.authority)
    }

    /// Returns the grants that this replica may act under; none in a space that nobody owns.
    pub(super) fn own_grants(
        &self,
        space_ix: usize,
        now: Now,
    ) -> Result<Option<Vec<GrantId>>, ReadError> {
        let table = self.table(space_ix)?;
        Ok(table.ownership.as_ref().map(|ownership| {
            let own = Audience::Replica(self.key.id());
            ownership.authority.rights(&own, now.wall).iter().map(|rights| rights.grant).collect()
        }))
    }

    /// Checks that it is known here who may do what in a space: before, nobody writes there.
    pub(super) fn check_founded(&self, space_ix: usize) -> Result<(), WriteError> {
        let founded = self.table(space_ix)?.is_founded();
        if founded { Ok(()) } else { Err(WriteError::NotYetHere) }
    }

    /// Says whether a commit that follows all that is here has the rights that it needs.
    pub(super) fn check_rights(
        &self,
        space_ix: usize,
        commit: &Commit,
    ) -> Result<Result<(), Reason>, ReadError> {
        let table = self.table(space_ix)?;
        let Some(ownership) = &table.ownership else { return Ok(Ok(())) };
        let at = (commit.log(), commit.seq());
        let mut heads = self.inner_deps(space_ix, commit)?.unwrap_or_default();
        heads.extend((at.1 > 1).then_some((at.0, at.1 - 1)));
        let knows = |of: At, by: At| {
            let follows = |head: &At| of == *head || table.knows(of, *head);
            if by == at { heads.iter().any(follows) } else { table.knows(of, by) }
        };
        let (standing, demands) = (Standing::of(commit, at), Demands::of(commit));
        Ok(ownership.authority.check(&standing, &demands, &knows))
    }
}
