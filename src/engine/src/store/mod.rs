//! Floor 5: commits become keys with a state.
//!
//! A store keeps the commits of its spaces in one log, folds them into states, and answers reads of
//! now and of any point in history. The log is the truth; tables, sidecars and cached states are
//! derived from it and rebuilt when they are missing or damaged.
//!
//! Only commits whose whole past is here are applied, each once, so a state needs no tombstones.
//! Nothing here waits for a disk sync, talks to a peer or knows a clock.

mod apply;
#[cfg_attr(not(test), expect(dead_code, reason = "the store does not ask it yet"))]
mod authority;
mod blind;
mod branches;
mod cache;
mod chunk;
mod durable;
mod error;
mod forks;
mod grants;
mod handover;
mod hash;
mod insert;
mod load;
mod local;
mod mirror;
mod names;
mod open;
mod overlay;
mod ownership;
mod parts;
mod pass;
mod place;
mod point;
mod quota;
mod reached;
mod read;
mod refusals;
mod regain;
mod repair;
mod seal;
mod serving;
pub mod sidecar;
mod spaces;
mod survey;
mod suspects;
mod tables;
mod tags;
mod tail;
mod told;
mod verdict;
mod verify;
mod vouchers;
mod waiting;
mod watch;
mod write;

#[cfg(test)]
pub(crate) mod tests;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::{EventId, Hash, Hlc, Key, Rng, SpaceId};
use crate::causal::Tip;
use crate::crdt::Op;
use crate::event::{KeyPair, Tag};
use crate::log::{Disk, Log, Position};

pub use authority::{Axis, Granted, Reason, Rights};
pub use chunk::Outgoing;
use error::AppendError;
pub use error::{Damaged, InsertError, OpenError, ReadError, WriteError};
pub use hash::ValueHasher;
pub use insert::Inserted;
use load::Found;
pub use local::{Local, LocalError, LocalPeer, LocalSpace, LocalTicket, Whose};
pub use mirror::Mirror;
pub use open::Opened;
pub use place::Place;
pub use point::Point;
pub use quota::{QuotaError, Usage};
pub use reached::Reached;
pub use read::{HistoryEvent, Page, Which};
pub use refusals::{Outcome, Receipt};
pub use repair::Repaired;
pub use serving::{Run, Serving};
pub use tags::TagState;
pub use verdict::Verdict;
pub use verify::{Problem, Verified, verify};
pub use watch::Arrived;

/// The commits, keys and spaces of one replica.
#[derive(Debug)]
pub struct Store<D: Disk> {
    disk: D,
    log: Log<D>,
    local: Local,
    key: KeyPair,
    rng: Rng,
    tables: tables::Tables,
    tail: tail::Tail,
    sealed: Vec<seal::Sealed<D>>,
    cache: cache::Cache,
    recent: RefCell<cache::Recent>,
    waiting: waiting::Waiting,
    refusals: refusals::Refusals,
    /// Whether the next local write begins a new incarnation.
    new_life: bool,
    /// Damage that hides which keys it concerns.
    blind: blind::Blind,
    /// The places of damaged segments.
    damaged_places: BTreeSet<u64>,
    /// Commits whose past is lost.
    asides: Vec<repair::Aside>,
    /// Whether reads answer with what is intact, where some is lost.
    degraded: bool,
    /// From this segment on the sidecars are not used, while a repair is under way.
    distrusted: Option<u64>,
    options: Options,
}

/// How a store is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// About how many bytes of memory may be used for states and waiting commits.
    pub memory_bytes: usize,
    /// At how many bytes a segment is sealed.
    pub segment_bytes: u32,
    /// What the host finds the store's directory to be (an inode number, say): when it changes,
    /// the directory is a copy, and the store goes on under a new incarnation.
    pub place: Option<u64>,
}

/// A write that a caller asks for: all of it becomes one commit, or nothing does.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// Where it is written.
    pub space: SpaceId,
    /// What is done to which key, in order.
    pub ops: Vec<KeyOp>,
    /// A note for the history, as canonical JSON.
    pub note: Option<Arc<[u8]>>,
    /// A name for a point in history.
    pub tag: Option<Tag>,
    /// The same id twice is one write.
    pub request_id: Option<Vec<u8>>,
}

/// One op on one key.
#[derive(Debug, Clone)]
pub struct KeyOp {
    /// The key.
    pub key: Key,
    /// What is done to it.
    pub op: Op,
    /// Whether a key of another type is replaced.
    pub retype: bool,
    /// What the key must be before, here and now.
    pub expect: Option<Expect>,
}

/// What a conditional write compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing live.
    Absent,
    /// That event is shown.
    Event(EventId),
    /// Exactly those events are live.
    Context(Hash),
}

impl Expect {
    /// Tells whether a key is as expected that shows this.
    #[must_use]
    pub fn holds(&self, view: Option<&crate::crdt::View>) -> bool {
        match (self, view) {
            (Self::Absent, view) => view.is_none(),
            (Self::Event(id), Some(view)) => view.version == *id,
            (Self::Context(context), Some(view)) => view.context == *context,
            (_, None) => false,
        }
    }
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Written {
    /// The commit.
    pub tip: Tip,
    /// Its stamp.
    pub hlc: Hlc,
    /// Its events, in order.
    pub events: Vec<(Key, EventId)>,
    /// Where its record begins; none if the write was done before.
    pub position: Option<Position>,
    /// Whether an earlier write with the same request id did it.
    pub repeated: bool,
}
