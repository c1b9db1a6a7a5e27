//! Under which grant a commit counts, or why it does not.
//!
//! Of a commit that was not sound the tables keep that it was not. Why is found out anew when
//! somebody asks: it is looked at once more, by what it has in its past alone, as it was when it
//! came. Why one is void, the revocations tell.

use super::authority::{At, Demands, Reason, Standing};
use super::ownership::{Ruled, Ruling};
use super::tables::SpaceTable;
use super::{Arrived, ReadError, Store};
use crate::base::{CommitId, GrantId, LogId, SpaceId};
use crate::causal::VersionVector;
use crate::event::compact::Loose;
use crate::log::Disk;

/// The grant under which a commit counts, or why it is inert. None is named by a genesis, and in
/// a space that nobody owns.
pub type Verdict = Result<Option<GrantId>, Reason>;

impl<D: Disk + Clone> Store<D> {
    /// Says whether a commit counts, of all commits or of those in a version, by inner name.
    ///
    /// Costs a read where it had not the rights that it needed.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::UnknownEvent`] if it is not here.
    pub fn verdict(
        &self,
        space: &SpaceId,
        (log, seq): (LogId, u64),
        at: Option<&VersionVector>,
    ) -> Result<Verdict, ReadError> {
        let space_ix = self.space_index(space)?;
        let table = self.table(space_ix)?;
        match table.ruling(at).of(&log, seq) {
            Ruled::Counts(grant) => Ok(Ok(grant)),
            Ruled::Void(reason) => Ok(Err(reason)),
            Ruled::Unsound => {
                let place = self.applied_at(space_ix, &log, seq)?;
                let commit = self.read_commit(place.segment, place.offset)?;
                Ok(Err(table.lacked(&commit, place.id)))
            }
        }
    }

    /// Says the same of commits that were just read.
    ///
    /// # Errors
    /// [`ReadError::UnknownSpace`].
    pub fn verdicts(
        &self,
        space: &SpaceId,
        commits: &[Arrived],
        at: Option<&VersionVector>,
    ) -> Result<Vec<Verdict>, ReadError> {
        let table = self.table(self.space_index(space)?)?;
        let ruling = table.ruling(at);
        let verdict =
            |arrived: &Arrived| table.verdict_of(&ruling, &arrived.commit, arrived.tip.id);
        Ok(commits.iter().map(verdict).collect())
    }
}

impl SpaceTable {
    /// Says whether a commit counts that was recorded, and is in inner names.
    pub(super) fn verdict_of(&self, ruling: &Ruling<'_>, commit: &Loose, id: CommitId) -> Verdict {
        match ruling.of(&commit.log, commit.seq) {
            Ruled::Counts(grant) => Ok(grant),
            Ruled::Void(reason) => Err(reason),
            Ruled::Unsound => Err(self.lacked(commit, id)),
        }
    }

    /// Says what a commit lacked that was not sound.
    fn lacked(&self, commit: &Loose, id: CommitId) -> Reason {
        let at = (commit.log, commit.seq);
        let knows = |of: At, by: At| self.knows(of, by);
        let owned = self.ownership.as_ref().filter(|owned| knows(owned.genesis, at));
        let Some(ownership) = owned else { return Reason::BeforeGenesis };
        let Loose { kind, grant, hlc, .. } = *commit;
        let replica = self.origin(&commit.log).replica;
        let standing = Standing { at, id, replica, grant, hlc };
        let (act, meta) = (commit.act.as_ref(), commit.meta_content.as_ref());
        let demands = Demands { kind, act, events: &commit.events, meta };
        // What had all its rights found no room in memory.
        let checked = ownership.authority.check(&standing, &demands, &knows);
        checked.err().unwrap_or(Reason::TooManyActs)
    }
}
