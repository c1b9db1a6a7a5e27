//! What goes into a node and what comes out of it.

use crate::base::{Instant, ReplicaId, SpaceId};
use crate::log::{DiskError, SyncTicket};
use crate::sync::{Code, Stats};

/// One connection, named by the host; never used again after it closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One request to sync, named by the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Something happened outside.
#[derive(Debug)]
pub enum Input {
    /// A connection stands; the transport has proved the peer's key.
    Connected {
        /// The connection.
        link: LinkId,
        /// Who is at the far end.
        peer: ReplicaId,
        /// Whether this side dialled.
        outgoing: bool,
    },
    /// Bytes of the connection's stream.
    Received {
        /// The connection.
        link: LinkId,
        /// The next bytes.
        bytes: Vec<u8>,
    },
    /// A connection is gone.
    Closed {
        /// The connection.
        link: LinkId,
        /// Why, for people.
        reason: String,
    },
    /// A peer could not be reached.
    DialFailed {
        /// The peer.
        peer: ReplicaId,
        /// Why, for people.
        reason: String,
    },
    /// The network says where a replica may be.
    Found {
        /// The replica, if it is true.
        peer: ReplicaId,
        /// Where, `host:port`, the likeliest first; none if it is there no more.
        addresses: Vec<String>,
    },
    /// Where peers may reach this node from now on: they are told.
    Here {
        /// `host:port`, best first; those beyond [`TOLD_ADDRESSES_MAX`] are not told.
        ///
        /// [`TOLD_ADDRESSES_MAX`]: crate::limits::TOLD_ADDRESSES_MAX
        addresses: Vec<String>,
    },
    /// The disk sync that [`Output::Sync`] asked for is done.
    Synced(SyncTicket, Result<(), DiskError>),
    /// Time passed.
    Tick,
}

/// Something is to be done outside. Outputs that a crash could make untrue wait in the node until
/// the disk has what they speak of.
#[derive(Debug)]
pub enum Output {
    /// Sync a file, outside of any lock, and hand back [`Input::Synced`].
    Sync(SyncTicket),
    /// Send bytes on a connection.
    Send {
        /// The connection.
        link: LinkId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A connection is no stranger's any more: give it the full limits.
    Admit {
        /// The connection.
        link: LinkId,
    },
    /// Send what is queued, then close a connection.
    Close {
        /// The connection.
        link: LinkId,
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        text: String,
    },
    /// Connect to a peer; the outcome comes as [`Input::Connected`] or [`Input::DialFailed`].
    Dial {
        /// The peer.
        peer: ReplicaId,
        /// Where it may be, `host:port`.
        addresses: Vec<String>,
    },
    /// A session begins; where one is under way already, this one follows it. For the log.
    SessionBegan {
        /// The connection.
        link: LinkId,
        /// The space.
        space: SpaceId,
    },
    /// A session has ended. For the log.
    SessionEnded {
        /// The connection.
        link: LinkId,
        /// The space.
        space: SpaceId,
        /// What came of it.
        ended: Ended,
    },
    /// A request to sync is answered.
    JobDone {
        /// The request.
        job: JobId,
        /// What came of it.
        report: Report,
    },
    /// Nothing more to do before that moment, or before the next input.
    Wait(Option<Instant>),
}

/// What came of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why it did not end in sync; none if it did.
    pub problem: Option<Problem>,
    /// What it cost.
    pub stats: Stats,
}

/// What came of syncing with one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The peer.
    pub peer: ReplicaId,
    /// The spaces that were synced.
    pub spaces: Vec<SpaceId>,
    /// Whether both sides durably hold what either held at the start, in all those spaces.
    pub in_sync: bool,
    /// What it cost, all spaces together.
    pub stats: Stats,
    /// How many events came in, and how many went out.
    pub received_events: u64,
    /// How many events went out.
    pub sent_events: u64,
    /// Why it was not reached or not synced.
    pub problem: Option<Problem>,
}

/// Why a sync did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The peer cannot be reached.
    Unreachable(String),
    /// The peer refuses, or this side does.
    Refused(Code, String),
    /// The peers hold no space in common that both admit each other to.
    NothingInCommon,
    /// No grant in a space that they have in common lets the peer read all of it.
    NotGranted,
    /// The connection broke off.
    Broken(String),
    /// Something is still missing on one of the sides.
    Short(String),
}
