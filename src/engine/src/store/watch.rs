//! Commits in the order in which they came to this store.
//!
//! A watch and a live link are each a position in the log that moves forward: there is no queue
//! that a slow reader could fill, and a position outlives a restart.

use super::apply::kinds;
use super::{Damaged, ReadError, Store};
use crate::base::{CommitId, SpaceId};
use crate::causal::Tip;
use crate::event::compact::Loose;
use crate::log::{Disk, Position};

/// One commit as it lies in the log.
#[derive(Debug)]
pub struct Arrived {
    /// Where its record begins.
    pub position: Position,
    /// Where the next record begins.
    pub next: Position,
    /// Its name; a branch of a forked log is named as in version vectors.
    pub tip: Tip,
    /// Whether it is on a branch of a forked log.
    pub is_branch: bool,
    /// Whether it is inert: in an owned space, written without the rights that it needed.
    pub is_inert: bool,
    /// What it holds.
    pub commit: Loose,
}

impl<D: Disk + Clone> Store<D> {
    /// Returns commits of a space from `from` on, up to `upto`, in order of arrival, and the
    /// position from which to go on. Stops after the commit, of any space, with which it has read
    /// `bytes_max` bytes of them, so that it may find none and yet not be at the end.
    ///
    /// # Errors
    /// [`ReadError`] if what lies there and may concern the space is damaged.
    pub fn arrived(
        &self,
        space: &SpaceId,
        from: Position,
        upto: Position,
        bytes_max: usize,
    ) -> Result<(Vec<Arrived>, Position), ReadError> {
        let space_ix = self.space_index(space)?;
        let ruling = self.table(space_ix)?.ruling(None);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for item in self.log.scan(from) {
            let (position, record) = match item {
                Ok(record) => record,
                Err(damage) => {
                    if self.may_concern(&damage, space_ix)? {
                        let offset = u32::try_from(damage.offset).unwrap_or(u32::MAX);
                        self.pass_over(Damaged { segment: damage.segment, offset }.into())?;
                    }
                    continue;
                }
            };
            if position >= upto {
                break;
            }
            if record.kind != kinds::COMMIT {
                continue;
            }
            let next = record.next;
            if let Some((commit, id)) = self.counted(space, position, &record.body)? {
                let tip = Tip { log: commit.log, seq: commit.seq, id };
                let is_branch = self.table(space_ix)?.origin(&tip.log) != tip.log;
                let is_inert = !ruling.counts(&tip.log, tip.seq);
                found.push(Arrived { position, next, tip, is_branch, is_inert, commit });
            }
            bytes += record.body.len();
            if bytes >= bytes_max {
                return Ok((found, next));
            }
        }
        Ok((found, upto))
    }

    /// Returns a commit of a space with its id; none if it is of another, does not count, counts at
    /// another place of the log, waits for what was lost before it, or what names its log is lost
    /// and the caller makes do without.
    fn counted(
        &self,
        space: &SpaceId,
        at: Position,
        body: &[u8],
    ) -> Result<Option<(Loose, CommitId)>, ReadError> {
        let commit = match self.loose(at, body) {
            Ok(Some(commit)) if commit.space == *space => commit,
            Ok(_) => return Ok(None),
            Err(error) => return self.pass_over(error).map(|()| None),
        };
        match self.applied_at(self.space_index(space)?, &commit.log, commit.seq) {
            Ok(place) if (place.segment, place.offset) != (at.segment, at.offset) => Ok(None),
            Ok(place) => Ok(Some((commit, place.id))),
            Err(ReadError::UnknownEvent) if !self.is_whole(self.space_index(space)?) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the id of the commit whose record begins at `position`; of a proof of a fork, that
    /// of its first side.
    ///
    /// # Errors
    /// [`ReadError`] if neither begins there.
    pub fn commit_at(&self, position: Position) -> Result<CommitId, ReadError> {
        for table in &self.tables {
            let closed = table.closed_logs().find(|(_, closed)| closed.position == position);
            if let Some((log, _)) = closed {
                let [side, _] = self.fork_proof(&table.id, &log)?.sides().clone();
                return Ok(side.tip().id);
            }
        }
        let commit = self.read_commit(position.segment, position.offset)?;
        let space_ix = self.space_index(&commit.space)?;
        self.commit_id(space_ix, &commit.log, commit.seq)
    }
}
