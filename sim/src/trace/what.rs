//! What can happen in a run, as plain data.
//!
//! Every kind has a tag that enters the digest; a tag is never given to another kind. Messages, the
//! most frequent entries, hold no text of their own, so that recording one allocates nothing.

use std::borrow::Cow;
use std::fmt;

use kdelta_engine::base::CommitId;

/// Text of an entry: free of cost where it is a literal.
pub type Text = Cow<'static, str>;

/// The first eight bytes of a commit's id: enough to tell the commits of one run apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Short(pub u64);

impl From<&CommitId> for Short {
    fn from(id: &CommitId) -> Self {
        let head = id.as_bytes().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(head))
    }
}

impl fmt::Display for Short {
    /// Writes the first twelve hexadecimal digits of the id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0 >> 16)
    }
}

/// One thing that happened.
///
/// Unless said otherwise it happened on the lane of its [`Entry`](super::Entry). Messages, links,
/// syncs and backups are numbered by whoever records them; a number is used once in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A user asked for something.
    Requested {
        /// What was asked for, as text.
        op: Text,
        /// The key that it is about.
        key: Text,
        /// The commit that it became, if it wrote.
        commit: Option<Short>,
    },
    /// A user asked for something and did not get it.
    Refused {
        /// What was asked for, as text.
        op: Text,
        /// The key that it is about.
        key: Text,
        /// What the answer was.
        reason: Text,
    },
    /// A commit was acknowledged to its user as durable.
    Acknowledged {
        /// Which commit.
        commit: Short,
    },
    /// A message left for another lane.
    Sent {
        /// The number of the message.
        number: u64,
        /// The lane that it goes to.
        to: usize,
        /// What kind of message it is.
        kind: &'static str,
        /// How long it is, in bytes.
        bytes: u64,
        /// The hash of its bytes, as [`hash`](super::hash) makes it.
        content: u64,
    },
    /// A message arrived.
    Delivered {
        /// The number of the message.
        number: u64,
        /// The lane that it came from.
        from: usize,
    },
    /// A message arrived once more.
    Duplicated {
        /// The number of the message.
        number: u64,
        /// The lane that it came from.
        from: usize,
    },
    /// A message will never arrive. The entry has no lane.
    Lost {
        /// The number of the message.
        number: u64,
        /// Why it was lost.
        reason: &'static str,
    },
    /// A link came up between this lane and a peer: both lanes know of it.
    LinkUp {
        /// The number of the link.
        link: u64,
        /// The lane at the far end.
        peer: usize,
    },
    /// A link is gone, as this end sees it. Each end that sees it has an entry of its own.
    LinkDown {
        /// The number of the link.
        link: u64,
        /// The lane at the far end.
        peer: usize,
        /// Why it went.
        reason: Text,
    },
    /// From now on nothing arrives in one direction. The entry has no lane.
    CutBegan {
        /// The lane whose messages do not arrive.
        from: usize,
        /// The lane at which they do not arrive.
        to: usize,
    },
    /// A cut in one direction is over. The entry has no lane.
    CutEnded {
        /// The lane whose messages did not arrive.
        from: usize,
        /// The lane at which they did not arrive.
        to: usize,
    },
    /// From now on lanes reach only those of their own group. Ends the partition before it. The
    /// entry has no lane.
    PartitionBegan {
        /// The groups of lanes.
        groups: Vec<Vec<usize>>,
    },
    /// Everybody reaches everybody again. The entry has no lane.
    PartitionEnded,
    /// A disk sync began.
    SyncBegun {
        /// The number of the sync.
        sync: u64,
    },
    /// A disk sync is done: what was written before it began is durable.
    SyncDone {
        /// The number of the sync.
        sync: u64,
    },
    /// A disk sync failed.
    SyncFailed {
        /// The number of the sync.
        sync: u64,
    },
    /// A disk was given a fault.
    FaultInjected {
        /// What kind of fault, and where.
        fault: Text,
    },
    /// A replica met a fault of its disk.
    FaultHit {
        /// What kind of fault, and where.
        fault: Text,
    },
    /// A replica stopped, and its disk kept what the mode says.
    Crashed {
        /// What the disk kept of what was not synced.
        mode: Text,
    },
    /// A replica started on the disk that it had.
    Restarted,
    /// A replica stopped in good order and stays away.
    WentAway,
    /// A replica that was away is back.
    CameBack,
    /// A disk was copied to a place where nothing runs.
    BackedUp {
        /// The number of the backup.
        backup: u64,
    },
    /// A disk was copied, and the copy runs on a lane of its own.
    Copied {
        /// The lane of the copy.
        to: usize,
    },
    /// A replica started on a backup in place of its disk.
    Restored {
        /// The number of the backup.
        backup: u64,
    },
    /// A wall clock jumped.
    ClockJumped {
        /// How far, in milliseconds.
        ms: i64,
    },
    /// A wall clock goes at another rate from now on.
    ClockDrifts {
        /// How much faster than time, in millionths.
        ppm: i64,
    },
    /// Faults are over: from now on everything must come to rest. Cuts and partitions that end here
    /// have entries of their own. The entry has no lane.
    HealBegan,
    /// Something that must hold does not: on one replica, or, in an entry without a lane, among
    /// all.
    Broken {
        /// The name of what must hold.
        name: Text,
        /// What was seen instead.
        seen: Text,
    },
    /// Anything else worth a line.
    Note {
        /// What there is to say.
        text: Text,
    },
}

impl What {
    /// Returns the tag that enters the digest: stable over versions.
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Requested { .. } => 1,
            Self::Refused { .. } => 2,
            Self::Acknowledged { .. } => 3,
            Self::Sent { .. } => 4,
            Self::Delivered { .. } => 5,
            Self::Duplicated { .. } => 6,
            Self::Lost { .. } => 7,
            Self::LinkUp { .. } => 8,
            Self::LinkDown { .. } => 9,
            Self::CutBegan { .. } => 10,
            Self::CutEnded { .. } => 11,
            Self::PartitionBegan { .. } => 12,
            Self::PartitionEnded => 13,
            Self::SyncBegun { .. } => 14,
            Self::SyncDone { .. } => 15,
            Self::SyncFailed { .. } => 16,
            Self::FaultInjected { .. } => 17,
            Self::FaultHit { .. } => 18,
            Self::Crashed { .. } => 19,
            Self::Restarted => 20,
            Self::WentAway => 21,
            Self::CameBack => 22,
            Self::BackedUp { .. } => 23,
            Self::Copied { .. } => 24,
            Self::Restored { .. } => 25,
            Self::ClockJumped { .. } => 26,
            Self::ClockDrifts { .. } => 27,
            Self::HealBegan => 28,
            Self::Broken { .. } => 29,
            Self::Note { .. } => 30,
        }
    }

    /// Returns the name of the kind, as JSON Lines and the page spell it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "requested",
            Self::Refused { .. } => "refused",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Sent { .. } => "sent",
            Self::Delivered { .. } => "delivered",
            Self::Duplicated { .. } => "duplicated",
            Self::Lost { .. } => "lost",
            Self::LinkUp { .. } => "link-up",
            Self::LinkDown { .. } => "link-down",
            Self::CutBegan { .. } => "cut-began",
            Self::CutEnded { .. } => "cut-ended",
            Self::PartitionBegan { .. } => "partition-began",
            Self::PartitionEnded => "partition-ended",
            Self::SyncBegun { .. } => "sync-begun",
            Self::SyncDone { .. } => "sync-done",
            Self::SyncFailed { .. } => "sync-failed",
            Self::FaultInjected { .. } => "fault-injected",
            Self::FaultHit { .. } => "fault-hit",
            Self::Crashed { .. } => "crashed",
            Self::Restarted => "restarted",
            Self::WentAway => "went-away",
            Self::CameBack => "came-back",
            Self::BackedUp { .. } => "backed-up",
            Self::Copied { .. } => "copied",
            Self::Restored { .. } => "restored",
            Self::ClockJumped { .. } => "clock-jumped",
            Self::ClockDrifts { .. } => "clock-drifts",
            Self::HealBegan => "heal-began",
            Self::Broken { .. } => "broken",
            Self::Note { .. } => "note",
        }
    }
}
