//! The attacks, and their names in text.

use std::fmt;
use std::str::FromStr;

/// What a hostile peer does in every conversation that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attack {
    /// Syncs honestly, but a bit of the commits in each chunk is flipped on the way out.
    BadHash,
    /// Syncs honestly, but a bit of the last voucher in each chunk is flipped on the way out.
    BadSignature,
    /// Syncs honestly, but what the commits in each chunk say is left out on the way out.
    Hollow,
    /// Signs commits for the log of the peer that it talks to.
    Impersonate,
    /// Tells each peer, and the same peer after each new connection, another history of its log.
    Forks,
    /// Pushes many branches of one log, proofs of them, and commits that build upon some, of which
    /// not all are valid.
    Branches,
    /// Pushes commits whose deps, or whose predecessors, nobody can ever have.
    WithheldDeps,
    /// Lets invalid commits wait at one peer, and gives what they wait for to another.
    LateInvalid,
    /// Claims a frontier beyond everybody's, and answers requests for it by nothing.
    InflatedFrontier,
    /// Sends heads of frames that are longer than their type allows.
    Oversize,
    /// Pushes one chunk that never ends.
    Endless,
    /// Sends a frame of the greatest length, a byte at a time.
    Trickle,
    /// Sends random bytes instead of a hello.
    Garbage,
    /// Sends random bytes after a valid hello.
    LateGarbage,
    /// Hangs up in the middle of a frame.
    Truncated,
    /// Offers only versions that do not exist.
    UnknownVersion,
    /// Syncs and writes honestly under a clock that is a year ahead.
    FutureClock,
    /// Writes one commit in each of very many logs.
    Sybil,
    /// Sends again, on new connections, what was said on old ones.
    Replay,
    /// Asks for everything again and again, and gives nothing, not even credit.
    RequestFlood,
    /// Sends valid proofs of forks of logs that nobody holds.
    ProofFlood,
    /// Writes valid commits of nearly the greatest size.
    HugeCommits,
    /// Asks for nothing, more often than one may in a session.
    Greedy,
    /// Writes one commit in each of more logs than an opening lists.
    Crowd,
    /// Writes in an owned space without a right: under no grant, under others', under one that was
    /// taken back and dated before that, under one that it gave itself; and takes others' back.
    Trespass,
    /// Says nothing at all.
    Mute,
    /// Says hello and opens sessions, and nothing after that.
    Silent,
}

impl Attack {
    /// All attacks, in the order of their names' list.
    pub const ALL: [Self; 27] = [
        Self::BadHash,
        Self::BadSignature,
        Self::Hollow,
        Self::Impersonate,
        Self::Forks,
        Self::Branches,
        Self::WithheldDeps,
        Self::LateInvalid,
        Self::InflatedFrontier,
        Self::Oversize,
        Self::Endless,
        Self::Trickle,
        Self::Garbage,
        Self::LateGarbage,
        Self::Truncated,
        Self::UnknownVersion,
        Self::FutureClock,
        Self::Sybil,
        Self::Replay,
        Self::RequestFlood,
        Self::ProofFlood,
        Self::HugeCommits,
        Self::Greedy,
        Self::Crowd,
        Self::Trespass,
        Self::Mute,
        Self::Silent,
    ];

    /// Returns the name in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadHash => "bad-hash",
            Self::BadSignature => "bad-signature",
            Self::Hollow => "hollow",
            Self::Impersonate => "impersonate",
            Self::Forks => "forks",
            Self::Branches => "branches",
            Self::WithheldDeps => "withheld-deps",
            Self::LateInvalid => "late-invalid",
            Self::InflatedFrontier => "inflated-frontier",
            Self::Oversize => "oversize",
            Self::Endless => "endless",
            Self::Trickle => "trickle",
            Self::Garbage => "garbage",
            Self::LateGarbage => "late-garbage",
            Self::Truncated => "truncated",
            Self::UnknownVersion => "unknown-version",
            Self::FutureClock => "future-clock",
            Self::Sybil => "sybil",
            Self::Replay => "replay",
            Self::RequestFlood => "request-flood",
            Self::ProofFlood => "proof-flood",
            Self::HugeCommits => "huge-commits",
            Self::Greedy => "greedy",
            Self::Crowd => "crowd",
            Self::Trespass => "trespass",
            Self::Mute => "mute",
            Self::Silent => "silent",
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAttack(
    /// The text.
    pub String,
);

impl fmt::Display for UnknownAttack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no attack is called {:?}", self.0)
    }
}

impl std::error::Error for UnknownAttack {}

impl FromStr for Attack {
    type Err = UnknownAttack;

    fn from_str(text: &str) -> Result<Self, UnknownAttack> {
        let named = Self::ALL.into_iter().find(|attack| attack.name() == text);
        named.ok_or_else(|| UnknownAttack(text.to_owned()))
    }
}
