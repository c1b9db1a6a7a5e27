//! What peers say to each other.
//!
//! A message names its space where it has one. Values only: bytes are in `wire`, meaning is in
//! [`Session`](super::Session) and the node.

use std::fmt;

use super::{Hello, Tip};
use crate::base::{CommitId, Hash, LogId, ReplicaId, SpaceId};
use crate::limits;

/// One message of the peer protocol, version 1.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first frame both ways.
    Hello(Hello),
    /// Asks to be admitted to a space by the secret of a ticket.
    Admit {
        /// The space.
        space: SpaceId,
        /// What [`admission_proof`](super::admission_proof) returns.
        proof: Hash,
    },
    /// Begins a session about one space.
    Open(Open),
    /// A piece of a batch of range reconciliation.
    Ranges {
        /// The space.
        space: SpaceId,
        /// The batch ends here, and it is the other side's turn.
        last: bool,
        /// Adjacent ranges, ascending; the first begins where the piece before it ended.
        items: Vec<RangeItem>,
    },
    /// Asks for commits.
    Want {
        /// The space.
        space: SpaceId,
        /// The request ends here; before that the runs of further messages belong to it.
        last: bool,
        /// What is asked for, strictly ascending by log and `after`, without overlap.
        runs: Vec<Run>,
    },
    /// Commits that were asked for, or a part of a chunk of them.
    Chunk {
        /// The space.
        space: SpaceId,
        /// Nothing follows for the request that this answers.
        last_of_want: bool,
        /// The chunk goes on in the next message of this kind and space.
        more: bool,
        /// The bytes, opaque to this floor.
        bytes: Vec<u8>,
    },
    /// The sender of this will ask for nothing more in this session.
    Have {
        /// The space.
        space: SpaceId,
        /// It durably holds everything in the other side's pinned frontier, and all of its own.
        all: bool,
    },
    /// Commits that were not asked for, as soon as they are durable, or a part of a chunk of them.
    Push {
        /// The space.
        space: SpaceId,
        /// The chunk goes on in the next message of this kind and space.
        more: bool,
        /// The bytes, opaque to this floor.
        bytes: Vec<u8>,
    },
    /// The sender durably holds these logs up to these tips.
    Acked {
        /// The space.
        space: SpaceId,
        /// Strictly ascending by log, at most [`limits::ACKED_TIPS_MAX`].
        tips: Vec<Tip>,
    },
    /// Asks which commit the other side holds under a number, to find where a log forked.
    AskId {
        /// The space.
        space: SpaceId,
        /// The log.
        log: LogId,
        /// The number.
        seq: u64,
        /// What the asking side holds there.
        id: CommitId,
    },
    /// Answers [`Message::AskId`].
    IdAt {
        /// The space.
        space: SpaceId,
        /// The log.
        log: LogId,
        /// The number.
        seq: u64,
        /// What the answering side holds there.
        id: Option<CommitId>,
    },
    /// Asks for the proofs that these logs are forked. The session is over for both sides; a new
    /// one may be opened when the last proof has come.
    AskProofs {
        /// The space.
        space: SpaceId,
        /// Strictly ascending, at most [`limits::CLOSED_LISTED_MAX`], not empty.
        logs: Vec<LogId>,
    },
    /// A proof that a log is forked, or one side of it: asked for, or as soon as it is known.
    Proof {
        /// The space.
        space: SpaceId,
        /// Nothing follows for the request that this answers.
        last: bool,
        /// The bytes, opaque to this floor; none if there is nothing to send.
        bytes: Vec<u8>,
    },
    /// What came by [`Message::Push`] was here already: names of new commits are enough now.
    Prune {
        /// The space.
        space: SpaceId,
    },
    /// Asks for commits that were named and have not come from elsewhere, and for pushes from now
    /// on. Belongs to no session: what is held of the runs comes by [`Message::Push`].
    Graft {
        /// The space.
        space: SpaceId,
        /// As in [`Message::Want`], and not empty.
        runs: Vec<Run>,
    },
    /// Where replicas may be reached that the two sides share a space with. Who does not know it
    /// may skip it.
    Addresses {
        /// Strictly ascending by replica, at most [`limits::PLACES_MAX`]; the sender's own may be
        /// among them.
        places: Vec<Place>,
    },
    /// Allows the other side to send that many more bytes of commits, over all spaces.
    Grant {
        /// The bytes, at least 1.
        bytes: u64,
    },
    /// Ends the conversation about one space, or refuses to begin it.
    Refuse {
        /// The space.
        space: SpaceId,
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        text: PeerText,
    },
    /// Ends the connection; nothing follows.
    Close {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        text: PeerText,
    },
}

impl Message {
    /// Returns the space that the message is about; none for those about the connection.
    pub fn space(&self) -> Option<SpaceId> {
        match self {
            Self::Open(open) => Some(open.space),
            Self::Admit { space, .. }
            | Self::Ranges { space, .. }
            | Self::Want { space, .. }
            | Self::Chunk { space, .. }
            | Self::Have { space, .. }
            | Self::Push { space, .. }
            | Self::Acked { space, .. }
            | Self::AskId { space, .. }
            | Self::IdAt { space, .. }
            | Self::AskProofs { space, .. }
            | Self::Proof { space, .. }
            | Self::Prune { space }
            | Self::Graft { space, .. }
            | Self::Refuse { space, .. } => Some(*space),
            Self::Hello(_) | Self::Addresses { .. } | Self::Grant { .. } | Self::Close { .. } => {
                None
            }
        }
    }

    /// Returns the name of the message, for errors and metrics.
    pub fn name(&self) -> &'static str {
        super::wire::name_of(super::wire::kind_of(self))
    }

    /// Returns how many bytes of commits the message carries: what counts against credit.
    pub fn commit_bytes(&self) -> usize {
        match self {
            Self::Chunk { bytes, .. } | Self::Push { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// Tells whether this is what each [`Message::Open`] is answered with: one of its kind, or a
    /// refusal.
    pub fn answers_an_open(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Refuse { .. })
    }

    /// Returns acknowledgements of `tips` (strictly ascending by log), as many as are needed.
    pub fn acked(space: SpaceId, tips: &[Tip]) -> Vec<Self> {
        let pieces = tips.chunks(limits::ACKED_TIPS_MAX);
        pieces.map(|tips| Self::Acked { space, tips: tips.to_vec() }).collect()
    }
}

/// Begins a session: what one side durably held in one space at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The space.
    pub space: SpaceId,
    /// Random in each session: both sides' nonces salt the fingerprints.
    pub nonce: [u8; 16],
    /// The state hash of the space; none while commits are missing.
    pub digest: Option<Hash>,
    /// How many logs the frontier has.
    pub logs: u64,
    /// The frontier, strictly ascending by log; on the wire exactly if `logs` is at most
    /// [`limits::FRONTIER_WHOLE_LOGS_MAX`].
    pub frontier: Option<Vec<Tip>>,
    /// Commits below the tips that are lost, ascending and apart from each other.
    pub missing: Vec<Missing>,
    /// Logs that are known to be forked, and the seq of each fork, ascending by log. At most
    /// [`limits::CLOSED_LISTED_MAX`]; of more, those from a random one on.
    pub closed: Vec<(LogId, u64)>,
}

/// A range of commits that a replica once held and cannot read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Missing {
    /// The log.
    pub log: LogId,
    /// The first missing seq, from 1.
    pub from: u64,
    /// The last missing seq, at least `from`.
    pub to: u64,
}

/// Adjacent commits of one log: those with a seq above `after` up to that of `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The last seq before the run; 0 for a run from the start.
    pub after: u64,
    /// The commit that the run ends in. Its id is zero where the asking side lost it and cannot
    /// name it: then whatever the other side holds there is meant.
    pub upto: Tip,
}

impl Run {
    /// Returns the log of the run.
    pub fn log(&self) -> LogId {
        self.upto.log
    }
}

/// Where a replica may be reached, as somebody says: the handshake tells who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The replica.
    pub replica: ReplicaId,
    /// `host:port`, the likeliest first: 1 to [`limits::TOLD_ADDRESSES_MAX`] of them, each with at
    /// most [`limits::ADDRESS_BYTES_MAX`] bytes and no control characters.
    pub addresses: Vec<String>,
}

/// A range of log ids in a batch of reconciliation, and what is said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeItem {
    /// The first log id beyond the range; none if the range has no end.
    pub upto: Option<LogId>,
    /// What is said.
    pub body: RangeBody,
}

/// What is said about a range of frontier entries.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeBody {
    /// Nothing.
    Skip,
    /// The sender's entries in summary; the other side answers if its own differ.
    Fingerprint {
        /// How many entries there are.
        count: u64,
        /// Their salted sum; zero for none.
        sum: [u8; 16],
    },
    /// All of the sender's entries; the other side answers with those of its own that differ.
    Ask(Vec<Tip>),
    /// Those of the sender's entries that the other side lacks or has otherwise; no answer.
    Answer(Vec<Tip>),
}

/// Why a peer refuses or leaves, for programs. Unknown codes are legal and mean "some reason".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

impl Code {
    /// The end of an orderly life: shutting down, or the other side is no longer needed.
    pub const DONE: Self = Self(0);
    /// The other side broke the protocol.
    pub const PROTOCOL: Self = Self(1);
    /// No version in common.
    pub const VERSION: Self = Self(2);
    /// The space is not held here, or not by this peer's leave: the two are not told apart.
    pub const NOT_ADMITTED: Self = Self(3);
    /// Too much to do; try again later.
    pub const BUSY: Self = Self(4);
    /// This side's own trouble, such as a disk that refuses; try again later.
    pub const TROUBLE: Self = Self(5);
    /// Nothing was heard for too long.
    pub const TIMEOUT: Self = Self(6);
    /// Another connection of the same pair took over.
    pub const SUPERSEDED: Self = Self(7);
    /// The space is held here, and no grant in it lets this peer read all of it.
    pub const NOT_GRANTED: Self = Self(8);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::DONE => "done",
            Self::PROTOCOL => "protocol",
            Self::VERSION => "version",
            Self::NOT_ADMITTED => "not-admitted",
            Self::BUSY => "busy",
            Self::TROUBLE => "trouble",
            Self::TIMEOUT => "timeout",
            Self::SUPERSEDED => "superseded",
            Self::NOT_GRANTED => "not-granted",
            Self(other) => return write!(f, "code {other}"),
        };
        f.write_str(name)
    }
}

/// A short text from or for a peer: at most [`limits::PEER_TEXT_BYTES_MAX`] bytes, no control
/// characters, so it is safe to print.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerText(String);

impl PeerText {
    /// Makes a text, cut at the limit, with control characters replaced by `?`.
    pub fn new(text: &str) -> Self {
        let mut kept = String::new();
        for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
            if kept.len() + c.len_utf8() > limits::PEER_TEXT_BYTES_MAX {
                break;
            }
            kept.push(c);
        }
        Self(kept)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_and_cleaned() {
        assert_eq!(PeerText::new("a\u{1b}[31m\nb").as_str(), "a?[31m?b");
        let long = PeerText::new(&"é".repeat(300));
        assert_eq!(long.as_str().len(), 256);
        assert_eq!(PeerText::new(long.as_str()), long);
    }
}
