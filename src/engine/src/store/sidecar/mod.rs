//! The sidecar of a sealed segment: an immutable, sorted index file, and its folded states.
//!
//! It answers which records of the segment touched a key, what the key's state was at the
//! segment's end, and where a commit lies, by number or by id. It is derived: when it is missing
//! or damaged it is built anew from the segment, and it never gives a wrong answer, for every byte
//! is covered by a checksum that binds it to its store, its segment and its place in the file, and
//! that is checked whenever the byte is read. Opening reads the footer alone.
//!
//! What the keys, states and blobs mean is not known here. Specification: FORMAT 8. The key index
//! is a static B-tree of prefix-compressed blocks (Graefe 2011, "Modern B-tree techniques").

mod block;
mod builder;
mod check;
mod commits;
mod entry;
mod filter;
mod footer;
mod keys;
mod merge;
mod piece;
mod reader;
mod table;
#[cfg(test)]
mod tests;

use crate::base::Hash;
use crate::log::{DiskError, DiskErrorKind};

pub use builder::Builder;
pub use commits::{CommitAt, CommitIter, CommitSearch, IdPrefix};
pub use entry::Entry;
pub use filter::KeyHash;
pub use keys::KeyIter;
pub use merge::{Merge, Merged};
pub use reader::Sidecar;

/// Where a sidecar stands among the others of its store: each is built upon the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Stands for what those after it build upon.
    pub own: Hash,
    /// What stood so in the one before when this was built; zeros if there was none.
    pub upon: Hash,
}

/// Why a sidecar gave no answer. Nothing is lost in any case: the segment holds the truth.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// There is no such file. Build it from the segment.
    #[error("the segment has no sidecar")]
    Missing,
    /// Bytes are not what was written, or belong to something else. Build the file anew.
    #[error("sidecar of segment {segment:016x} damaged at byte {offset}: {what}")]
    Damaged {
        /// The segment that the sidecar was to belong to.
        segment: u64,
        /// Where in the sidecar the bad piece begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The medium does not give a part of it. Build the file anew: it comes to lie elsewhere.
    #[error("sidecar of segment {segment:016x} cannot be read")]
    Unreadable {
        /// The segment that the sidecar belongs to.
        segment: u64,
        /// What the disk said.
        source: DiskError,
    },
    /// The disk refused to read. The file may be whole: try again, or fold from the segment.
    #[error("the sidecar cannot be read")]
    Disk(#[source] DiskError),
}

impl SidecarError {
    /// Returns the segment whose sidecar is to be built anew before the question is asked again.
    pub fn to_rebuild(&self) -> Option<u64> {
        match self {
            Self::Damaged { segment, .. } | Self::Unreadable { segment, .. } => Some(*segment),
            Self::Missing | Self::Disk(_) => None,
        }
    }

    fn from_disk(segment: u64, error: DiskError) -> Self {
        match error.kind {
            DiskErrorKind::NotFound => Self::Missing,
            DiskErrorKind::Io => Self::Unreadable { segment, source: error },
            _ => Self::Disk(error),
        }
    }
}
