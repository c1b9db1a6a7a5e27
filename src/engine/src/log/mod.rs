//! Floor 4: bytes that survive a crash.
//!
//! An append-only log of records in segment files, over one small [`Disk`] trait. It knows nothing
//! of commits: a record is a kind and bytes. Records gather in an open group; a flush writes the
//! group with one write, and the host syncs it outside any lock. It promises that what was durable
//! is never cut, that damage is found and named, that a record that could not be written is either
//! taken back or moved, and that opening costs the same whatever the history. It decides neither
//! when to flush, sync or seal, nor who may open a store twice; both are the host's business.
//! The format and the rules of recovery: `docs/FORMAT.md`, chapter 7.

mod active;
mod append;
mod disk;
mod error;
mod failover;
mod layout;
mod manifest;
mod memory;
mod read;
mod record;
mod recovery;
mod rot;
mod scan;
mod seal;
mod segment;
mod survey;
mod verify;
mod walk;

#[cfg(test)]
mod tests;

use std::fmt;

pub use append::{Log, LogOptions, Moved, SyncTicket};
pub use disk::{Disk, DiskError, DiskErrorKind, FileId, FileKind};
pub use error::{Damage, DamageKind, LogError, OpenError, ReadError};
pub use memory::{AtStake, CrashMode, Faults, MemoryDisk};
pub use read::{RecordReader, SegmentInfo};
pub use record::RecordKind;
pub use recovery::{Recovery, Torn};
pub use scan::Scan;
pub use verify::{Verify, verify};

/// Where the first record of a segment starts.
const FIRST_OFFSET: u32 = segment::HEADER_BYTES;

/// A place in the log: where a record starts or ends.
///
/// Positions are ordered as the records are. The default one lies before all records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The place of the segment in the log, from 1.
    pub segment: u64,
    /// The offset in the segment, in bytes.
    pub offset: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// What a caller appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The caller's kind.
    pub kind: RecordKind,
    /// The caller's bytes.
    pub body: Vec<u8>,
    /// Where the record ends: scanning from here yields the one after it.
    pub next: Position,
}
