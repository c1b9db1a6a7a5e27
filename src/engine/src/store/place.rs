//! Places in the log that outlive a repair.
//!
//! A repair writes a segment anew: its records keep their order and lie elsewhere. So whoever reads
//! on later keeps the last commit before its place too, and goes on behind that, wherever it lies.
//! Where that commit is itself one that was lost, and came again after all else, nobody can tell
//! what of the segment was read: it is read again from its beginning, so that nothing is missed.

use super::{Arrived, Damaged, ReadError, Store};
use crate::base::{CommitId, LogId, SpaceId};
use crate::log::{Disk, FileId, Position};

/// A place in the log, as a reader of one space keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    position: Position,
    /// The file that was there.
    file: Option<FileId>,
    /// The last commit of the space that begins before it in its segment.
    last: Option<CommitId>,
    /// Whether it is the end of what is read, and not the beginning.
    ends: bool,
}

impl Place {
    /// Returns where it was when it was taken.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl<D: Disk + Clone> Store<D> {
    /// Takes note of a place to begin from, for a reader of a space.
    ///
    /// Costs a pass over what is known of the commits of the space in its segment.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn place(&self, space: &SpaceId, position: Position) -> Result<Place, ReadError> {
        let (file, last) = (self.file_of(position.segment), self.last_before(space, position)?);
        Ok(Place { position, file, last, ends: false })
    }

    /// Takes note of a place to read up to.
    ///
    /// # Errors
    /// As for [`place`](Self::place).
    pub fn place_of_end(&self, space: &SpaceId, position: Position) -> Result<Place, ReadError> {
        Ok(Place { ends: true, ..self.place(space, position)? })
    }

    /// Returns where a place is now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn find(&self, space: &SpaceId, place: &Place) -> Result<Position, ReadError> {
        let segment = place.position.segment;
        if self.file_of(segment) == place.file {
            return Ok(place.position);
        }
        let start = Position { segment, offset: 0 };
        let Some(last) = place.last else { return Ok(start) };
        match self.in_segment(space, segment, &last.to_string())? {
            Some(at) => {
                let read = self.log.read(at);
                let record = read.map_err(|_| Damaged { segment, offset: at.offset })?;
                Ok(record.next)
            }
            None if place.ends => Ok(Position { offset: u32::MAX, ..start }),
            None => Ok(start),
        }
    }

    /// Returns the place to go on from after what was read from another.
    pub fn go_on(&self, from: &Place, found: &[Arrived], next: Position) -> Place {
        let before = from.last.filter(|_| from.position.segment == next.segment);
        let within = found.iter().rfind(|arrived| arrived.position.segment == next.segment);
        let last = within.map(|arrived| arrived.tip.id).or(before);
        Place { position: next, file: self.file_of(next.segment), last, ends: from.ends }
    }

    /// Finds the place of a commit, or proof of a fork, that lay at `position`, and whose id begins
    /// with these digits: where it is, or where to go on from if it is lost from its segment. None
    /// if it never was there.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn find_cursor(
        &self,
        space: &SpaceId,
        position: Position,
        digits: &str,
    ) -> Result<Option<Position>, ReadError> {
        if self.commit_at(position).is_ok_and(|id| id.to_string().starts_with(digits)) {
            return Ok(Some(position));
        }
        // Where no other file took the place of the first one, nothing lies elsewhere.
        let file = self.file_of(position.segment);
        if file.is_none_or(|file| file.number == position.segment) {
            return Ok(None);
        }
        if let Some(at) = self.in_segment(space, position.segment, digits)? {
            return Ok(Some(at));
        }
        let elsewhere = self.commits_with_prefix(self.space_index(space)?, digits)?;
        let start = Position { offset: 0, ..position };
        Ok((!elsewhere.is_empty()).then_some(start))
    }

    /// Returns where a commit of a space lies that counts, by inner name.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn position_of(
        &self,
        space: &SpaceId,
        log: &LogId,
        seq: u64,
    ) -> Result<Position, ReadError> {
        Ok(self.applied_at(self.space_index(space)?, log, seq)?.at())
    }

    fn file_of(&self, segment: u64) -> Option<FileId> {
        self.log.file_of(segment)
    }

    /// Finds a commit of a space, or the proof of a fork, in one segment by digits of its id.
    fn in_segment(
        &self,
        space: &SpaceId,
        segment: u64,
        digits: &str,
    ) -> Result<Option<Position>, ReadError> {
        let space_ix = self.space_index(space)?;
        for tip in self.commits_with_prefix(space_ix, digits)? {
            let at = self.applied_at(space_ix, &tip.log, tip.seq)?.at();
            if at.segment == segment {
                return Ok(Some(at));
            }
        }
        for (_, closed) in self.table(space_ix)?.closed_logs() {
            if closed.position.segment == segment
                && let Ok(id) = self.commit_at(closed.position)
                && id.to_string().starts_with(digits)
            {
                return Ok(Some(closed.position));
            }
        }
        Ok(None)
    }

    /// Returns the last commit of a space that begins before a position in its segment.
    fn last_before(
        &self,
        space: &SpaceId,
        position: Position,
    ) -> Result<Option<CommitId>, ReadError> {
        let segment = position.segment;
        let before = |offset: u32| offset < position.offset;
        if self.tail.segment == Some(segment) {
            let commits = self.tail.commits();
            let before = commits.filter(|commit| commit.space == *space && before(commit.offset));
            return Ok(before.max_by_key(|commit| commit.offset).map(|commit| commit.id));
        }
        let Ok(sealed) = self.sealed_at(segment) else { return Ok(None) };
        let mut last: Option<(u32, CommitId)> = None;
        for (ix, entry) in sealed.dictionary()?.entries() {
            if entry.space != *space {
                continue;
            }
            for commit in sealed.sidecar.commits(ix, 0) {
                let commit = commit?;
                if before(commit.offset) && last.is_none_or(|(at, _)| at < commit.offset) {
                    last = Some((commit.offset, commit.id));
                }
            }
        }
        Ok(last.map(|(_, id)| id))
    }
}
