//! How a session can go wrong, and how it can end short.

use super::{Code, PartsError, PeerText};
use crate::base::{LogId, SpaceId};

/// Why a session broke off. Nothing that was delivered before is affected.
///
/// All but [`SyncError::Refused`] are the peer's fault: close the connection with
/// [`Code::PROTOCOL`].
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// The message belongs to another space's session.
    #[error("a message for space {0:?} came to the session of another")]
    WrongSpace(SpaceId),
    /// The message has no place in a session, or not now.
    #[error("{message} out of turn: {state}")]
    OutOfTurn {
        /// The name of the message.
        message: &'static str,
        /// What was going on.
        state: &'static str,
    },
    /// An answer to something that was not asked.
    #[error("{0} without having been asked")]
    Unsolicited(&'static str),
    /// A limit of the protocol was passed.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// Entries lie outside the range that they are said to be in.
    #[error("entries lie outside their range")]
    OutOfRange,
    /// What the peer says about the log cannot be true of hash chains.
    #[error("the peer contradicts itself about log {0}")]
    Contradiction(LogId),
    /// The parts of a chunk do not make a chunk.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// The peer ended the session. Whether to try again depends on the code.
    #[error("the peer refused ({code:?}): {text}")]
    Refused {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        text: PeerText,
    },
    /// This side ended the session, and told the peer why.
    #[error("broken off here ({code:?}): {text}")]
    BrokenOff {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        text: PeerText,
    },
}

/// What kept a session that ran to its end from ending in sync.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shortfall {
    /// Logs of which both sides hold different commits under one number.
    pub diverged: Vec<LogId>,
    /// Logs of which this side still lacks something that the peer had pinned.
    pub lacking: u64,
    /// Ranges of commits that this side had lost and did not get back.
    pub missing: u64,
    /// Differing logs that were left for the next session, because the limit was reached.
    pub left_out: u64,
    /// The peer reported that it, too, is short of something.
    pub peer_short: bool,
}
