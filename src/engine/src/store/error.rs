//! What can go wrong in a store, one enum an operation.

use crate::base::{CodecError, DriftError, EventId, Key, KeyError, LogId};
use crate::crdt::OpError;
use crate::event::{DraftError, VoucherError};
use crate::log::{DiskError, LogError, OpenError as LogOpenError};

use super::sidecar::SidecarError;
use super::{LocalError, QuotaError, Reason};

/// Why a store could not be opened. Nothing was changed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The local file is damaged or cannot be read.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// A derived file can neither be read nor rebuilt.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why something could not be read. The store is unchanged.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No space of that id is here.
    #[error("no such space")]
    UnknownSpace,
    /// No event of that name is here.
    #[error("no such event here")]
    UnknownEvent,
    /// More than one event begins like that.
    #[error("more than one event begins with {0}")]
    AmbiguousEvent(String),
    /// No tag of that name is here.
    #[error("no tag {0:?} here")]
    UnknownTag(String),
    /// The space lost commits to damage; what they concern cannot be answered.
    #[error("{0}")]
    Damaged(#[from] Damaged),
    /// Nothing here vouches for that part of a log.
    #[error("nothing vouches for that part of the log")]
    Unvouched,
    /// The disk refused.
    #[error("the disk cannot be read: {0}")]
    Disk(#[from] DiskError),
    /// A derived file is damaged; opening the store again rebuilds it.
    #[error("a derived file is damaged: {0}")]
    Sidecar(#[from] SidecarError),
}

impl WriteError {
    /// Returns the segment whose sidecar is to be built anew before this is tried again; none if
    /// that would not help.
    pub(crate) fn to_rebuild(&self) -> Option<u64> {
        match self {
            Self::Read(error) => error.to_rebuild(),
            _ => None,
        }
    }
}

impl InsertError {
    /// Returns the segment whose sidecar is to be built anew before this is tried again; none if
    /// that would not help.
    pub(crate) fn to_rebuild(&self) -> Option<u64> {
        match self {
            Self::Read(error) => error.to_rebuild(),
            _ => None,
        }
    }
}

impl ReadError {
    /// Returns the segment whose sidecar is to be built anew before the question is asked again;
    /// none if that would not help.
    pub fn to_rebuild(&self) -> Option<u64> {
        match self {
            Self::Sidecar(error) => error.to_rebuild(),
            _ => None,
        }
    }
}

/// Turns what is not here, or lost, into none. An index or a disk that gives no answer says nothing
/// of that, and stays an error.
pub(crate) fn known<T>(found: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error @ (ReadError::Sidecar(_) | ReadError::Disk(_))) => Err(error),
        Err(_) => Ok(None),
    }
}

/// A place where the log is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log segment {segment} is damaged at byte {offset}")]
pub struct Damaged {
    /// The segment's number.
    pub segment: u64,
    /// The offset of the damaged bytes.
    pub offset: u32,
}

/// Why a write did not happen. Nothing of it was stored.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An op does not fit the key's state.
    #[error("{key}: {error}")]
    Op {
        /// The key.
        key: Key,
        /// Why.
        error: OpError,
    },
    /// The key is not what the caller expected.
    #[error("{key} is not what was expected")]
    Expectation {
        /// The key.
        key: Key,
        /// What it shows now.
        version: Option<EventId>,
    },
    /// There is nothing to write.
    #[error("a batch needs at least one op")]
    Empty,
    /// The genesis of the space is not here: it was joined and never synced, or that was lost.
    #[error("the genesis of the space is not here, so it is not known who may write there")]
    NotYetHere,
    /// The space has no room for it here.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// Nobody owns the space: there is nothing to grant.
    #[error("the space is open: whoever is admitted may read and write all of it")]
    Open,
    /// In a space that somebody owns this replica may not do that.
    #[error("not authorised: {0}")]
    Unauthorised(Reason),
    /// The name cannot be one of a space, or is taken.
    #[error("{0}")]
    SpaceName(&'static str),
    /// A limit is reached.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The key is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The disk did not take the group that the write was in.
    #[error("the write was not stored: {0}")]
    TakenBack(String),
    /// The disk failed: the write is visible, and will not survive a crash.
    #[error("the write is not durable: {0}")]
    NotDurable(String),
    /// The files cannot be looked at, so that no repair begins.
    #[error("nothing was repaired: {0}")]
    Unrepaired(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The state that the write builds upon cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log takes no more: full, read-only, or failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store's local file cannot be written.
    #[error("the store cannot be written: {0}")]
    Disk(#[from] DiskError),
}

/// Why a commit was not appended. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// What it builds upon cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log takes no more.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<AppendError> for WriteError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Read(error) => Self::Read(error),
            AppendError::Log(error) => Self::Log(error),
        }
    }
}

impl From<AppendError> for InsertError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Read(error) => Self::Read(error),
            AppendError::Log(error) => Self::Log(error),
        }
    }
}

/// Why a peer's commits were not taken. Those before it in the chunk were.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The bytes are not a chunk: the peer's fault.
    #[error("malformed chunk: {0}")]
    Malformed(#[from] CodecError),
    /// The chunk has no voucher for the log: the peer's fault.
    #[error("commits of {log:?} came without a voucher")]
    NoVoucher {
        /// The log.
        log: LogId,
    },
    /// Nothing vouches for the commits: the peer's fault.
    #[error("commits of {log:?} are not vouched for: {error}")]
    Unvouched {
        /// The log.
        log: LogId,
        /// Why.
        error: VoucherError,
    },
    /// A commit breaks a rule of the format: its author's fault; it blocks that log.
    #[error("commit {seq} of {log:?} is not valid: {reason}")]
    Invalid {
        /// The log.
        log: LogId,
        /// The commit's number.
        seq: u64,
        /// The rule.
        reason: &'static str,
    },
    /// Contents of the commit were left out, and nothing can have erased them: the peer's fault.
    #[error("commit {seq} of {log:?} came without all that it says")]
    Hollow {
        /// The log.
        log: LogId,
        /// The commit's number.
        seq: u64,
    },
    /// The author wrote two commits under one number.
    #[error("{log:?} is forked at commit {seq}")]
    Fork {
        /// The log.
        log: LogId,
        /// The number.
        seq: u64,
    },
    /// Commits before it are missing: ask for them first.
    #[error("commit {seq} of {log:?} came without the ones before it")]
    Gap {
        /// The log.
        log: LogId,
        /// The first commit that came.
        seq: u64,
    },
    /// The commit is stamped too far in the future; it is taken when its time has come.
    #[error("{log:?}: {error}")]
    Early {
        /// The log.
        log: LogId,
        /// How far ahead.
        error: DriftError,
    },
    /// The space has no room for it here: nobody's fault, and it is taken once there is.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// No room for more commits whose deps are missing.
    #[error("the waiting room is full")]
    WaitingRoom,
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log takes no more.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store cannot be written.
    #[error("the commits cannot be stored: {0}")]
    Unwritten(String),
}
