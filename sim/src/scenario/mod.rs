//! A run before it begins: who takes part, on what links and disks, and what happens when.
//!
//! Everything that goes wrong is a step with its own moment and duration, and draws are keyed by
//! what they concern ([`crate::draw`]), so a step can be left out and the rest stays as it was. A
//! scenario has a text form that survives changes of the generator better than a seed
//! ([`Scenario::parse`]).

mod rare;
mod shapes;
mod swarm;
mod text;

pub use text::ScenarioError;
pub(crate) use text::mode_name;

use kdelta_engine::log::CrashMode;

use crate::byzantine::Attack;
use crate::disk::{Fault, Row};

/// A run before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What delays, salts and damages are drawn from.
    pub seed: u64,
    /// Who takes part, and how things are when nothing is wrong.
    pub options: Options,
    /// What happens, in order of time.
    pub steps: Vec<Step>,
}

/// Something that happens at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
    /// What.
    pub action: Action,
}

/// How a world is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many replicas there are at first. They sit on seats 0, 1, and so on.
    pub replicas: usize,
    /// Seats that stay empty: a scenario with somebody left out.
    pub absent: Vec<usize>,
    /// Seats whose replicas do not share the space from the beginning. If there are any nobody is
    /// open, and they come in by tickets or not at all.
    pub strangers: Vec<usize>,
    /// Who knows whose address.
    pub topology: Topology,
    /// Whether replicas know where they are, and tell their peers: those get to know one another.
    pub told: bool,
    /// Whether bad media spare no last good copy: it is not asked then that all is made whole, only
    /// that what is lost is told of.
    pub annihilation: bool,
    /// Whether the replica of the first seat owns the space. All may read it: others cannot sync.
    pub owned: bool,
    /// At how many bytes a segment is sealed.
    pub segment_bytes: u32,
    /// Memory of a store, in bytes.
    pub memory_bytes: usize,
    /// Whether a store notices that its directory is a copy.
    pub places: bool,
    /// Least and greatest delay of a disk sync, in microseconds.
    pub sync_us: [u64; 2],
    /// The links.
    pub link: LinkOptions,
    /// How long things go wrong, in milliseconds; all is mended then.
    pub trouble_ms: u64,
}

/// How a link behaves. A connection is a stream in both directions, as QUIC's are: what is lost
/// below it shows as delay, and what must not happen to it ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkOptions {
    /// Least and usual delay of a message, in microseconds.
    pub delay_us: [u64; 2],
    /// Of a million messages so many are far later than usual: up to a hundred times.
    pub late_ppm: u32,
    /// Of a million messages so many are lost once, and come after a second try.
    pub loss_ppm: u32,
    /// Of a million messages so many end the connection, in the middle of the message.
    pub reset_ppm: u32,
    /// Bytes a second each way; 0 is no limit.
    pub bytes_per_s: u64,
    /// Of a million messages so many come twice or after the next one, against QUIC's promise.
    pub mangle_ppm: u32,
}

/// Who knows whose address at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// Everybody everybody's.
    Mesh,
    /// Each that of the next, the last that of the first.
    Ring,
    /// Each that of the next.
    Line,
    /// Everybody that of seat 0.
    Star,
    /// Each those of the seats after it at distances that are powers of two.
    Web,
}

/// What happens in a step. Seats that are empty then, or asleep, make it void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A user writes: all ops in one commit.
    Write {
        /// Where.
        seat: usize,
        /// What.
        ops: Vec<WorkOp>,
    },
    /// The user of an app does something ([`crate::app`]).
    Act {
        /// Where.
        seat: usize,
        /// Names the draws by which the app decides what.
        number: u64,
    },
    /// A user asks a replica to sync with another one.
    Sync {
        /// Who asks.
        seat: usize,
        /// Whom.
        with: usize,
    },
    /// A user of one replica gives a stranger a ticket, who takes it.
    Ticket {
        /// Whose it is.
        from: usize,
        /// Who takes it.
        to: usize,
        /// Which.
        kind: TicketKind,
    },
    /// An operator verifies a replica, and repairs it from its peers until it is whole.
    Repair {
        /// Which.
        seat: usize,
    },
    /// The power of a replica fails, or its process is killed; it comes back later.
    Crash {
        /// Whose.
        seat: usize,
        /// What is left of what was not synced.
        mode: CrashMode,
        /// How long it is away, in milliseconds.
        away_ms: u64,
    },
    /// A replica is stopped in order, and started again later.
    Stop {
        /// Which.
        seat: usize,
        /// How long it is away, in milliseconds.
        away_ms: u64,
    },
    /// A disk is copied, and the copy runs beside the original under the same key.
    Copy {
        /// Whose disk.
        seat: usize,
        /// Where the copy sits.
        to: usize,
    },
    /// A disk is backed up as it is on the medium.
    Save {
        /// Whose.
        seat: usize,
    },
    /// A replica is set back to its last backup.
    Restore {
        /// Which.
        seat: usize,
    },
    /// A replica loses its disk and begins with an empty one, under the same key.
    Wipe {
        /// Which.
        seat: usize,
    },
    /// Something happens to a disk.
    Disk {
        /// Whose.
        seat: usize,
        /// What.
        fault: DiskFault,
    },
    /// A hostile peer comes, connects to some for a time, and is gone.
    Hostile {
        /// Where it sits.
        to: usize,
        /// How it attacks.
        attack: Attack,
        /// For how long, in milliseconds.
        ms: u64,
        /// Whom.
        seats: Vec<usize>,
    },
    /// Only those with equal letters reach each other for a time.
    Part {
        /// For each seat its side.
        sides: Vec<u8>,
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Nothing arrives on the way from one to the other for a time.
    OneWay {
        /// Who sends.
        from: usize,
        /// Who does not receive.
        to: usize,
        /// How long, in milliseconds.
        ms: u64,
    },
    /// What one sends to the other is held up for a time, and then comes all at once.
    Clog {
        /// Who sends.
        from: usize,
        /// Who waits.
        to: usize,
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The connections between two break off.
    Reset {
        /// One.
        a: usize,
        /// The other.
        b: usize,
    },
    /// A replica hangs for a time: it does nothing, then all at once.
    Pause {
        /// Which.
        seat: usize,
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The wall clock of a replica jumps.
    Jump {
        /// Whose.
        seat: usize,
        /// By how much, in milliseconds.
        ms: i64,
    },
    /// A user lets another replica do something in an owned space.
    Grant {
        /// Whose user.
        from: usize,
        /// Whom.
        to: usize,
        /// What.
        right: Right,
    },
    /// A user takes back whatever the newest grant lets another replica do.
    Revoke {
        /// Whose user.
        from: usize,
        /// From whom.
        of: usize,
    },
    /// Both clocks of a replica go wrong from now on.
    Drift {
        /// Whose.
        seat: usize,
        /// By how much, in millionths: positive is too fast.
        ppm: i32,
    },
}

/// What somebody is let do, besides reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Write all keys.
    Write,
    /// Write some of them.
    Some,
    /// Write, and let others write.
    Share,
    /// Everything.
    All,
}

impl Right {
    /// All, each with its name.
    pub(crate) const ALL: [(Self, &'static str); 4] =
        [(Self::Write, "write"), (Self::Some, "some"), (Self::Share, "share"), (Self::All, "all")];

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(right, _)| *right == self).map_or("write", |(_, name)| name)
    }

    fn named(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(_, known)| *known == name);
        known.map(|(right, _)| right).ok_or_else(|| format!("no right is called `{name}`"))
    }
}

/// What is the matter with a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketKind {
    /// Nothing: it is new, and lets one in.
    Good,
    /// It is the last good one of that replica, and somebody else has it too.
    Again,
    /// Its time is over.
    Expired,
    /// Nobody issued it.
    Forged,
}

impl TicketKind {
    /// All, each with its name.
    const ALL: [(Self, &'static str); 4] = [
        (Self::Good, "good"),
        (Self::Again, "again"),
        (Self::Expired, "expired"),
        (Self::Forged, "forged"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("good", |(_, name)| name)
    }

    fn named(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(_, known)| *known == name);
        known.map(|(kind, _)| kind).ok_or_else(|| format!("no ticket is called `{name}`"))
    }
}

/// What a user asks for on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkOp {
    /// Adds to a counter.
    Count(u32, i64),
    /// Puts a number into a register.
    Put(u32, u32),
    /// Puts that many bytes into a register of bytes.
    Bytes(u32, u32),
    /// Adds an element to a set.
    Add(u32, u8),
    /// Removes an element from a set.
    Remove(u32, u8),
    /// Puts a number into a field of a map.
    Field(u32, u8, u32),
    /// Removes a field of a map.
    Unfield(u32, u8),
    /// Deletes a key of whatever type. The letter is that of the type it mostly has.
    Delete(char, u32),
    /// Puts a number into a key that mostly has another type, and makes it a register.
    Retype(char, u32, u32),
}

/// Something that happens to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskFault {
    /// Of the syncs that come so many pass, and then so many fail.
    SyncsFail(u64, u64),
    /// Of the writes that come so many pass, and then so many fail halfway.
    WritesFail(u64, u64),
    /// So many bytes are left, for so many milliseconds.
    Full(u64, u64),
    /// Nothing can be changed, for so many milliseconds.
    ReadOnly(u64),
    /// The power fails after so many more changes; the replica is away for so many milliseconds.
    PowerOff(u64, CrashMode, u64),
    /// A fault of that row is drawn for the disk as it is, from that number. None is if nothing
    /// may be hit: the last good copy is spared.
    Drawn(Row, u64),
    /// A place cannot be read until the store was opened the next time, and then reads as before.
    /// Where is drawn from that number. The last copy that can be read is spared.
    Glitch(u64),
    /// A part of the newest segment rots, drawn from that number. The last good copy is spared.
    Newest(u64),
    /// The replica is stopped in order, and away for so many milliseconds; meanwhile a file of its
    /// disk loses its tail or is gone, drawn from the first number. The last good copy is spared.
    Lost(u64, u64),
    /// This very fault, whatever it hits.
    Media(Fault),
}

impl Action {
    /// Returns the seats that the action is about; a parting is about nobody in particular.
    pub fn seats(&self) -> Vec<usize> {
        match self {
            Self::Write { seat, .. }
            | Self::Act { seat, .. }
            | Self::Crash { seat, .. }
            | Self::Stop { seat, .. }
            | Self::Save { seat }
            | Self::Restore { seat }
            | Self::Wipe { seat }
            | Self::Repair { seat }
            | Self::Disk { seat, .. }
            | Self::Pause { seat, .. }
            | Self::Jump { seat, .. }
            | Self::Drift { seat, .. } => vec![*seat],
            Self::Copy { seat, to } => vec![*seat, *to],
            Self::Hostile { to, seats, .. } => [&[*to], seats.as_slice()].concat(),
            Self::OneWay { from, to, .. } | Self::Clog { from, to, .. } => vec![*from, *to],
            Self::Sync { seat, with } => vec![*seat, *with],
            Self::Ticket { from, to, .. } | Self::Grant { from, to, .. } => vec![*from, *to],
            Self::Revoke { from, of } => vec![*from, *of],
            Self::Reset { a, b } => vec![*a, *b],
            Self::Part { .. } => Vec::new(),
        }
    }

    /// Tells whether this is something that goes wrong, rather than something that a user asks.
    pub fn is_fault(&self) -> bool {
        use Action::{Act, Repair, Sync, Ticket, Write};
        let asked = matches!(self, Write { .. } | Act { .. } | Sync { .. } | Repair { .. });
        !asked && !matches!(self, Ticket { .. } | Self::Grant { .. } | Self::Revoke { .. })
    }
}

/// Most seats of a world.
pub const SEATS_MAX: usize = 250;
/// Most replicas with which a world may be asked to begin: the sides of a parted network are
/// letters, and copies come on top.
pub const NODES_MAX: usize = 20;
