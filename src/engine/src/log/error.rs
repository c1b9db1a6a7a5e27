//! What can go wrong in the log, and damage as a value.

use super::Position;
use super::disk::{DiskError, FileId};
use super::segment::HEADER_BYTES;

/// Bytes of a truth file that are not what was once durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The place of the segment in the log; 0 for a file that is no segment.
    pub segment: u64,
    /// The file.
    pub file: FileId,
    /// Where the damage begins, in bytes.
    pub offset: u64,
    /// How many bytes are concerned; 0 if that is not known.
    pub len: u64,
    /// What is wrong with them.
    pub kind: DamageKind,
}

impl Damage {
    /// Tells whether it concerns nothing but the header of a segment, without which all records
    /// can be read.
    pub fn is_of_header(&self) -> bool {
        self.segment > 0 && (self.offset, self.len) == (0, u64::from(HEADER_BYTES))
    }
}

/// What is wrong with damaged bytes.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DamageKind {
    /// Their checksum fails: the medium changed them.
    Rotted,
    /// They are gone: the file is too short or does not exist.
    Missing,
    /// The disk cannot read them. It may be able to later.
    Unreadable,
    /// The header of a segment is damaged; its records are read all the same.
    Header,
    /// Each record validates, but the file as a whole is not the one that was sealed.
    Hash,
    /// The segment names another predecessor than the one that stands before it.
    Order,
    /// An earlier opening found damage somewhere in the segment and closed it; `verify` tells
    /// where.
    Noted,
    /// The newest manifest, or the clean mark, is damaged or missing. No record is concerned; the
    /// next edit heals it.
    Bookkeeping,
}

/// Why the log cannot be opened. No file was changed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The files belong to another store: the wrong directory, or one put together from two.
    #[error("{file} belongs to another store")]
    OtherStore {
        /// The file.
        file: FileId,
    },
    /// A newer kdelta wrote the files. Use that one.
    #[error("{file} has format version {major}, which this kdelta cannot read")]
    Version {
        /// The file.
        file: FileId,
        /// Its major version.
        major: u16,
    },
    /// The disk cannot be read. Nothing is known about the log; try again.
    #[error("the log cannot be read: {0}")]
    Disk(#[from] DiskError),
}

/// Why the log did not take a change.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The body is above [`crate::limits::RECORD_BYTES_MAX`]. The log is unchanged.
    #[error("a record of {len} bytes is above the limit")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// The open group is at its limit. The log is unchanged: flush, then append again.
    #[error("the open group is full; flush it first")]
    GroupFull,
    /// The segment is at its limit. The log is unchanged: seal it, then append again.
    #[error("the segment is full; seal it first")]
    SegmentFull,
    /// The log has [`crate::limits::SEGMENTS_MAX`] segments. The log is unchanged, for good.
    #[error("the log has as many segments as it may")]
    SegmentsFull,
    /// Too many bytes wait for a sync. The log is unchanged: let it sync, then append again.
    #[error("too many bytes wait for a sync of the log")]
    SyncBehind,
    /// A sync is under way. The log is unchanged: hand its result to `synced` first.
    #[error("a sync of the log is under way")]
    SyncUnderWay,
    /// The disk is full. After `append` the log is unchanged; after `flush` the open group is taken
    /// back. Free some space and try again.
    #[error("the disk is full")]
    Full(#[source] DiskError),
    /// The disk takes no changes. What happened to the log is as for [`Self::Full`].
    #[error("the disk takes no changes")]
    ReadOnly(#[source] DiskError),
    /// The disk failed, and what is not durable cannot be written elsewhere yet. Nothing more is
    /// lost: the log keeps those records in memory, and each change tries again.
    #[error("the disk failed, and there is no space to write elsewhere yet")]
    Stalled(#[source] DiskError),
    /// The disk failed twice in a row. The log takes no more changes; reads go on. Copy what is
    /// needed, see to the disk, and open the store again.
    #[error("the disk failed while {stage}; the store is read-only until it is opened again")]
    Failed {
        /// What was being done.
        stage: &'static str,
        /// How it failed.
        #[source]
        source: DiskError,
    },
    /// The list of segments could not be written, which must be before a segment begins and at an
    /// orderly end. No record is concerned; each change tries again.
    #[error("the list of segments cannot be written")]
    Manifest(#[source] DiskError),
    /// The new file of a repair could not be written. The log is unchanged.
    #[error("the repaired segment cannot be written")]
    Repair(#[source] DiskError),
    /// There is no sealed segment in this place. The log is unchanged.
    #[error("there is no sealed segment {0}")]
    NoSegment(u64),
}

impl LogError {
    /// Wraps what kept the manifest from being written.
    pub(super) fn manifest(error: DiskError) -> Self {
        if error.is_refusal() { Self::refused(error) } else { Self::Manifest(error) }
    }

    /// Wraps a refusal; the kinds that a disk uses for it fall into two groups.
    pub(super) fn refused(error: DiskError) -> Self {
        sometimes!("log-disk-full", error.kind == super::DiskErrorKind::Full);
        sometimes!("log-disk-read-only", error.kind == super::DiskErrorKind::ReadOnly);
        match error.kind {
            super::DiskErrorKind::Full => Self::Full(error),
            _ => Self::ReadOnly(error),
        }
    }
}

/// Why a record cannot be read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No record of a caller is known there: the position is not of this log, or was moved.
    #[error("there is no record at {0}")]
    NotFound(Position),
    /// The bytes there are damaged. Repair fetches them from peers.
    #[error("the record at {position} is damaged")]
    Damaged {
        /// The record.
        position: Position,
        /// What is known of it.
        damage: Damage,
    },
    /// The disk cannot read. Nothing is known about the record; try again.
    #[error("the record at {position} cannot be read")]
    Io {
        /// The record.
        position: Position,
        /// How the disk failed.
        #[source]
        source: DiskError,
    },
}
