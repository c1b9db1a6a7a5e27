//! Which commits of an owned space count, here and now, and what follows when that changes.
//!
//! Inert commits are kept, indexed and handed on like all others; whoever folds asks here whether a
//! commit counts. A revocation that comes to be known changes that for commits that were folded
//! long ago. So the states in older sidecars are not used from then on: keys are folded anew when
//! they are asked for, and newer sidecars hold what was folded then.
//!
//! Who owns a space its genesis tells. Before it has come nobody writes there, and what others
//! bring waits for it; what does not have it in its past is inert in an owned space, whenever it
//! comes. Where the genesis is lost later the local file still knows whether anybody owns the
//! space: if so, nothing that is left counts until it is back.

use std::collections::BTreeSet;

use super::authority::{At, Authority, Demands, Reason, Standing};
use super::tables::SpaceTable;
use super::{ReadError, Store, Whose};
use crate::base::{CodecError, GrantId, LogId, Reader, SpaceId, Writer};
use crate::causal::VersionVector;
use crate::event::{Commit, Genesis, Mode, Owned};
use crate::log::Disk;

/// What is known of who may do what in an owned space.
#[derive(Debug, Clone)]
pub(crate) struct Ownership {
    owned: Owned,
    pub(super) genesis: At,
    pub(crate) authority: Authority,
    /// States in the sidecars of segments up to this one are not used: they were folded when other
    /// commits counted. None if all are as they would be folded now.
    folded_anew: Option<u64>,
}

/// Some commits of a log, from a number on, that were written under one grant and had the rights
/// that they needed, or had not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acted {
    pub(crate) first: u64,
    pub(crate) grant: Option<GrantId>,
    pub(crate) sound: bool,
}

/// How a commit stands.
#[derive(Debug)]
pub(crate) enum Ruled {
    /// It counts, under this grant if it names one.
    Counts(Option<GrantId>),
    /// It had the rights that it needed, and they were taken back.
    Void(Reason),
    /// It had not.
    Unsound,
}

/// Says which commits count of those that a fold has.
#[derive(Debug)]
pub(crate) struct Ruling<'a> {
    table: &'a SpaceTable,
    /// The authority as of an earlier version; none if it is that of now.
    earlier: Option<Authority>,
}

impl Acted {
    pub(super) const BYTES_MIN: usize = 2;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.first);
        out.put_u8(u8::from(self.sound) | u8::from(self.grant.is_some()) << 1);
        if let Some(grant) = &self.grant {
            out.put(&grant.0);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (first, flags) = (reader.varint()?, reader.u8()?);
        let grant = if flags & 2 == 0 { None } else { Some(GrantId(reader.hash()?)) };
        Ok(Self { first, grant, sound: flags & 1 != 0 })
    }
}

impl Ownership {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.owned.encode(out);
        out.put_log(&self.genesis.0);
        out.put_varint(self.genesis.1);
        out.put_varint(self.folded_anew.map_or(0, |segment| segment + 1));
        self.authority.encode(out);
    }

    pub(super) fn decode(space: &SpaceId, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let owned = Owned::decode(reader)?;
        let genesis = (reader.log()?, reader.varint()?);
        let folded_anew = reader.varint()?.checked_sub(1);
        let authority = Authority::decode(space, &owned, reader)?;
        Ok(Self { owned, genesis, authority, folded_anew })
    }

    /// Tells whether the states in a segment's sidecar are as they would be folded now.
    pub(super) fn trusts_states_of(&self, segment: u64) -> bool {
        self.folded_anew.is_none_or(|last| last < segment)
    }
}

impl SpaceTable {
    /// Takes note of what a commit that was just recorded says of authority, and whether it had the
    /// rights that it needed. Tells whether other commits than this one count from now on.
    pub(super) fn judge(&mut self, commit: &Commit, name: LogId) -> bool {
        match &commit.header().genesis {
            Some(Genesis { mode: Mode::Owned(owned), .. }) => {
                return self.found((name, commit.seq()), owned.clone());
            }
            Some(Genesis { mode: Mode::Open, .. }) => {
                // What was lost with an earlier place of it counted all the while.
                return std::mem::replace(&mut self.whose, Whose::Open) != Whose::Open
                    && self.commits > 1;
            }
            None => {}
        }
        let Some(mut ownership) = self.ownership.take() else { return false };
        let at = (name, commit.seq());
        let (standing, demands) = (Standing::of(commit, at), Demands::of(commit));
        let knows = |of, by| self.knows(of, by);
        let admitted = knows(ownership.genesis, at)
            .then(|| ownership.authority.admit(&standing, &demands, &knows).ok())
            .flatten();
        self.ownership = Some(ownership);
        // What finds no room was refused before it was appended, but for what a version with more
        // room wrote to this log.
        let (sound, changed) = match admitted {
            Some(admitted) => (admitted.sound.is_ok(), admitted.changed),
            None => (false, BTreeSet::new()),
        };
        let acted = Acted { first: at.1, grant: standing.grant, sound };
        if let Some(log) = self.log_mut(&name) {
            log.act(acted);
        }
        self.concern_held(&changed)
    }

    /// Begins with the genesis of an owned space. What came before it does not have it in its past.
    fn found(&mut self, genesis: At, owned: Owned) -> bool {
        let authority = Authority::new(&self.id, &owned);
        self.whose = Whose::Owned;
        self.ownership = Some(Ownership { owned, genesis, authority, folded_anew: None });
        let earlier: Vec<At> = self.logs().map(|log| (log.log, log.first)).collect();
        for at in &earlier {
            if let Some(log) = self.log_mut(&at.0) {
                log.act(Acted { first: at.1, grant: None, sound: *at == genesis });
            }
        }
        earlier.len() > 1
    }

    /// Tells whether it is known who may do what. Until it is nothing but the genesis is taken:
    /// where that was lost, what else there may be has it not in its past, and counts for nothing.
    pub(super) fn is_founded(&self) -> bool {
        self.whose == Whose::Open || self.ownership.is_some()
    }

    /// Tells whether anything that is held was written under one of these grants.
    fn concern_held(&self, grants: &BTreeSet<GrantId>) -> bool {
        let under = |acted: &Acted| acted.grant.is_some_and(|grant| grants.contains(&grant));
        !grants.is_empty() && self.logs().any(|log| log.acted.iter().any(under))
    }

    /// Tells whether the first commit is in the past of the second, and is not the same.
    pub(super) fn knows(&self, of: At, by: At) -> bool {
        of != by && self.clocks.is_past((&of.0, of.1), (&by.0, by.1)) == Some(true)
    }

    /// Returns which commits count, of all or of those in `version`.
    ///
    /// What a view of the past shows depends on nothing that came later, so revocations outside of
    /// it are left out.
    pub(crate) fn ruling(&self, version: Option<&VersionVector>) -> Ruling<'_> {
        let ownership = self.ownership.as_ref();
        let earlier = version.zip(ownership).map(|(version, ownership)| {
            let within = |(log, seq): At| version.contains(&log, seq);
            ownership.authority.within(&within, &|a, b| self.knows(a, b))
        });
        Ruling { table: self, earlier }
    }

    /// Tells whether states in a segment's sidecar are as they would be folded now.
    pub(super) fn trusts_states_of(&self, segment: u64) -> bool {
        self.ownership.as_ref().is_none_or(|ownership| ownership.trusts_states_of(segment))
    }

    /// From now on no state in the sidecar of a segment up to `last` is used.
    pub(super) fn fold_anew(&mut self, last: Option<u64>) {
        if let Some(ownership) = &mut self.ownership {
            ownership.folded_anew = ownership.folded_anew.max(last);
        }
    }
}

impl Ruling<'_> {
    /// Tells whether a commit that was recorded counts; `log` is its inner name.
    pub(crate) fn counts(&self, log: &LogId, seq: u64) -> bool {
        matches!(self.of(log, seq), Ruled::Counts(_)) || mutant!("inert-counts")
    }

    /// Tells how it stands.
    pub(crate) fn of(&self, log: &LogId, seq: u64) -> Ruled {
        let Some(ownership) = &self.table.ownership else {
            let counts = self.table.is_founded();
            return if counts { Ruled::Counts(None) } else { Ruled::Unsound };
        };
        let acted = self.table.log(log).and_then(|log| log.acted_at(seq));
        let Some(acted) = acted.filter(|acted| acted.sound) else { return Ruled::Unsound };
        let Some(grant) = acted.grant else { return Ruled::Counts(None) };
        let authority = self.earlier.as_ref().unwrap_or(&ownership.authority);
        match authority.void((*log, seq), &grant, &|a, b| self.table.knows(a, b)) {
            None => Ruled::Counts(Some(grant)),
            Some(reason) => Ruled::Void(reason),
        }
    }
}

impl<D: Disk + Clone> Store<D> {
    /// Tells whose a space is, as far as that was ever told here.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn whose(&self, space: &SpaceId) -> Result<Whose, ReadError> {
        Ok(self.table(self.space_index(space)?)?.whose)
    }

    /// Tells whether a space is owned, as far as that was ever told here.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn is_owned(&self, space: &SpaceId) -> Result<bool, ReadError> {
        Ok(self.whose(space)? == Whose::Owned)
    }

    /// Tells whether it is known here who may do what in a space: of one that was joined and never
    /// synced it is not, nor of one that somebody owns and whose genesis was lost.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn is_founded(&self, space: &SpaceId) -> Result<bool, ReadError> {
        Ok(self.table(self.space_index(space)?)?.is_founded())
    }
}

impl super::tables::LogTable {
    fn act(&mut self, acted: Acted) {
        let same = |last: &Acted| (last.grant, last.sound) == (acted.grant, acted.sound);
        if !self.acted.last().is_some_and(same) {
            self.acted.push(acted);
        }
    }

    fn acted_at(&self, seq: u64) -> Option<&Acted> {
        let after = self.acted.partition_point(|acted| acted.first <= seq);
        self.acted.get(after.checked_sub(1)?)
    }
}
