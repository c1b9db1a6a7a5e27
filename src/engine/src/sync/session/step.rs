//! What goes into a session at its start and what comes out of it.

use crate::base::{CommitId, Hash, LogId};
use crate::sync::{Message, Missing, Piece, Run, Shortfall, SyncError, Tip};

/// What a session asks its own side's store.
pub trait Source {
    /// Returns the commit of `log` at `seq`, if it is held and readable. An index look-up.
    fn id_at(&self, log: &LogId, seq: u64) -> Option<CommitId>;
}

impl<F: Fn(&LogId, u64) -> Option<CommitId>> Source for F {
    fn id_at(&self, log: &LogId, seq: u64) -> Option<CommitId> {
        self(log, seq)
    }
}

/// What one side durably holds when a session begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pinned {
    /// The state hash of the space; none while commits are missing.
    pub digest: Option<Hash>,
    /// The tip of each log, strictly ascending by log.
    pub frontier: Vec<Tip>,
    /// Commits below the tips that were lost, ascending by (log, seq), apart from each other.
    /// Beyond [`crate::limits::MISSING_RANGES_MAX`] the peer hears of the first ones only.
    pub missing: Vec<Missing>,
    /// The logs that are known to be forked, and where, ascending by log.
    pub closed: Vec<(LogId, u64)>,
}

/// What the driver of a session has to do next.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send the message.
    Send(Message),
    /// Ask for these runs by [`Session::want`](crate::sync::Session::want), now or later, less
    /// those that are on their way
    /// from another peer.
    Request(Vec<Run>),
    /// Stream these runs by [`Session::chunk`](crate::sync::Session::chunk), in causal order over
    /// all of them. Of a run that is
    /// not held, or under another id, nothing is sent. Requests are served one after the other.
    Serve {
        /// What the peer asked for; ascending by log, without overlap.
        runs: Vec<Run>,
    },
    /// Check and apply a chunk of commits, once all of it is there.
    Deliver(Piece),
    /// The two sides hold different commits of the log under one seq: somebody copied a replica,
    /// or lies. Nothing is asked for or served of this log in this session.
    Diverged {
        /// The log.
        log: LogId,
        /// Our tip.
        ours: Tip,
        /// The peer's tip.
        theirs: Tip,
    },
    /// The log's chains are equal below `seq` and differ from there on. Exchange the two commits at
    /// `seq` as a proof.
    ForkFound {
        /// The log.
        log: LogId,
        /// The first seq at which the two sides hold different commits.
        seq: u64,
    },
    /// Over before anything was compared: the peer knows of forks that this side does not, and was
    /// asked for the proofs. Open a new session when the last of them has come.
    Unproven,
    /// Over: each side durably holds everything in both pinned frontiers.
    InSync,
    /// Over: both sides did what they could, and something is lacking.
    Ended(Shortfall),
    /// Over: broken off.
    Failed(SyncError),
}

/// What a session cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Exchanges in which this side had to wait for an answer, one after the other: opening,
    /// reconciliation, requests for commits, questions about forks.
    pub round_trips: u32,
    /// Bytes of all frames sent, commits included.
    pub bytes_sent: u64,
    /// Bytes of all frames received, commits included.
    pub bytes_received: u64,
    /// Bytes of commits among those sent.
    pub commit_bytes_sent: u64,
    /// Bytes of commits among those received.
    pub commit_bytes_received: u64,
}

impl Stats {
    /// Adds what another session cost; the sessions ran side by side.
    pub fn add(&mut self, other: &Self) {
        self.round_trips = self.round_trips.max(other.round_trips);
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.commit_bytes_sent += other.commit_bytes_sent;
        self.commit_bytes_received += other.commit_bytes_received;
    }
}
