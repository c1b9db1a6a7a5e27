//! Reading: one record, all records, and what the log is made of.
//!
//! Durable bytes come from the disk, the rest from memory: what a failing disk shows of bytes that
//! it did not sync is never trusted.

use super::append::Log;
use super::disk::{Disk, DiskError, DiskErrorKind, FileId};
use super::error::{Damage, DamageKind, ReadError};
use super::manifest::State;
use super::segment::SegmentId;
use super::walk::Walk;
use super::{FIRST_OFFSET, Position, Record, Scan};
use crate::base::{Hash, WallTime};

/// What the log knows of one of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its place in the log: what positions name.
    pub number: u64,
    /// Its file; a repair puts another file in the same place.
    pub file: FileId,
    /// Whether it takes no more records.
    pub sealed: bool,
    /// Where it ends, in bytes.
    pub bytes: u32,
    /// Records of callers.
    pub records: u64,
    /// SHA-256 of the file; zero if it is not sealed, or did not read as it was written then.
    pub sha: Hash,
}

impl<D: Disk> Log<D> {
    /// Reads the record at a position.
    ///
    /// # Errors
    /// [`ReadError`]; damage and trouble of the disk are told apart.
    pub fn read(&self, position: Position) -> Result<Record, ReadError> {
        let reader = self.reader(position.segment, RECORD_READ_BYTES);
        reader.ok_or(ReadError::NotFound(position))?.read(position.offset)
    }

    /// Starts reading single records of a segment, about `ahead_bytes` of it at once: what lies in
    /// the bytes that were read last costs no read. None if there is no such segment.
    pub fn reader(&self, segment: u64, ahead_bytes: u32) -> Option<RecordReader<'_, D>> {
        let walk = self.walk(segment)?.with_chunk(ahead_bytes);
        Some(RecordReader { segment, walk })
    }

    /// Reads all records from a position on, up to [`Self::written`].
    ///
    /// `from` is where a record starts or ends; the default position means all.
    pub fn scan(&self, from: Position) -> Scan<'_, D> {
        Scan::new(self, from)
    }

    /// Returns all segments in the order of the log. Cost: one copy of the list.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let active = self.active.as_ref().map(|active| SegmentInfo {
            number: active.id.place,
            file: active.id.file_id(),
            sealed: false,
            bytes: active.end(),
            records: active.records,
            sha: [0; 32],
        });
        let closed = self.manifest.entries.iter().filter(|entry| entry.state != State::Begun);
        closed
            .filter(|entry| active.as_ref().is_none_or(|active| active.number != entry.id.place))
            .map(|entry| SegmentInfo {
                number: entry.id.place,
                file: entry.id.file_id(),
                sealed: true,
                bytes: entry.end,
                records: entry.records,
                sha: entry.sha,
            })
            .chain(active.clone())
            .collect()
    }

    /// Returns the wall clock when a segment was begun, as its header says.
    pub fn base_wall(&self, segment: u64) -> Option<WallTime> {
        self.source(segment).map(|(id, _, _)| id.base)
    }

    /// Returns the file that a segment lies in; a repair puts another one in its place.
    pub fn file_of(&self, segment: u64) -> Option<FileId> {
        self.source(segment).map(|(id, _, _)| id.file_id())
    }

    /// Where the bytes of a segment are: on disk up to an end, then in memory.
    fn source(&self, place: u64) -> Option<(SegmentId, u32, &[u8])> {
        match &self.active {
            Some(active) if active.id.place == place => {
                Some((active.id, active.durable, &active.tail))
            }
            _ => self
                .manifest
                .entry(place)
                .filter(|entry| entry.state != State::Begun)
                .map(|entry| (entry.id, entry.end, &[][..])),
        }
    }

    /// Returns up to where bytes that cannot be judged yet follow a closed segment's end.
    pub(super) fn unread(&self, place: u64) -> Option<u32> {
        self.manifest.entry(place)?.unread
    }

    /// Starts reading a segment.
    pub(super) fn walk(&self, place: u64) -> Option<Walk<'_, D>> {
        let (id, end, memory) = self.source(place)?;
        let walk = Walk::new(&self.disk, id.file_id(), id.seed(&self.store), end);
        Some(walk.with_memory(memory))
    }

    /// Returns the first segment from `place` on.
    pub(super) fn place_from(&self, place: u64) -> Option<u64> {
        let entries = &self.manifest.entries;
        let at = entries.partition_point(|entry| entry.id.place < place);
        let closed = entries.get(at).filter(|entry| entry.state != State::Begun);
        let active = self.active.as_ref().map(|active| active.id.place).filter(|p| *p >= place);
        closed.map(|entry| entry.id.place).or(active)
    }
}

/// Reads single records of one segment, in any order; cheapest in ascending order.
#[derive(Debug)]
pub struct RecordReader<'a, D> {
    segment: u64,
    walk: Walk<'a, D>,
}

impl<D: Disk> RecordReader<'_, D> {
    /// Reads the record at an offset.
    ///
    /// # Errors
    /// [`ReadError`]; damage and trouble of the disk are told apart.
    pub fn read(&mut self, offset: u32) -> Result<Record, ReadError> {
        let (position, walk) = (Position { segment: self.segment, offset }, &mut self.walk);
        if position.offset < FIRST_OFFSET || position.offset >= walk.end() {
            return Err(ReadError::NotFound(position));
        }
        let damaged = |kind| ReadError::Damaged {
            position,
            damage: Damage {
                segment: position.segment,
                file: walk.file(),
                offset: u64::from(position.offset),
                len: 0,
                kind,
            },
        };
        let (rotted, missing) = (damaged(DamageKind::Rotted), damaged(DamageKind::Missing));
        let fault = |source: DiskError| match source.kind {
            DiskErrorKind::NotFound | DiskErrorKind::PastEnd => missing,
            _ => ReadError::Io { position, source },
        };
        let found = match walk.look(position.offset) {
            Err(error) => return Err(fault(error)),
            Ok(None) => return Err(rotted),
            Ok(Some(found)) if !found.kind.is_callers() => {
                return Err(ReadError::NotFound(position));
            }
            Ok(Some(found)) => found,
        };
        let body = walk.body(&found).map_err(fault)?.to_vec();
        let next = Position { segment: position.segment, offset: found.end() };
        Ok(Record { kind: found.kind, body, next })
    }
}

/// Bytes that are read for a single record: most are smaller.
const RECORD_READ_BYTES: u32 = 4096;
