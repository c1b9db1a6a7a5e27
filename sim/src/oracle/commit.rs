//! Commits, events and their hashes, by FORMAT sections 2 to 5.1.

use std::collections::BTreeSet;
use std::sync::Arc;

use kdelta_engine::base::{CommitId, Dot, Hash, LogId, SpaceId, sha256};

use super::act::{Act, Genesis};
use super::bytes::{Wrong, put_len, put_log, put_varint, sha};

/// A commit by place and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tip {
    /// Its log.
    pub log: LogId,
    /// Its number in the log.
    pub seq: u64,
    /// Its hash.
    pub id: CommitId,
}

impl Tip {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_log(out, &self.log);
        put_varint(out, self.seq);
        out.extend_from_slice(&self.id.0);
    }
}

/// What a commit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Founds a space.
    Genesis,
    /// Has events.
    Data,
    /// Takes note of heads.
    Ack,
    /// Carries a tag.
    Tag,
    /// Lets somebody do something.
    Grant,
    /// Takes a grant back.
    Revoke,
}

const KINDS: [Kind; 6] =
    [Kind::Genesis, Kind::Data, Kind::Ack, Kind::Tag, Kind::Grant, Kind::Revoke];

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Self> {
        KINDS.get(usize::from(byte)).copied()
    }

    /// Tells whether an act stands behind its byte.
    pub(super) fn acts(self) -> bool {
        matches!(self, Self::Grant | Self::Revoke)
    }

    pub(super) fn byte(self) -> u8 {
        let at = KINDS.iter().position(|kind| *kind == self);
        at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
    }
}

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Removes what it supersedes, of any type.
    Delete,
    /// Puts a JSON value.
    Put,
    /// Puts bytes.
    PutBytes,
    /// Adds to a counter.
    CounterAdd,
    /// Adds an element.
    SetAdd,
    /// Removes an element.
    SetRemove,
    /// Puts a field.
    MapPut,
    /// Removes a field.
    MapDelete,
}

/// (type, verb) of each action.
const ACTIONS: [(Action, u8, u8); 8] = [
    (Action::Delete, 0, 1),
    (Action::Put, 1, 1),
    (Action::PutBytes, 2, 1),
    (Action::CounterAdd, 3, 1),
    (Action::SetAdd, 4, 1),
    (Action::SetRemove, 4, 2),
    (Action::MapPut, 5, 1),
    (Action::MapDelete, 5, 2),
];

impl Action {
    pub(super) fn of(ty: u8, verb: u8) -> Option<Self> {
        ACTIONS.iter().find(|known| (known.1, known.2) == (ty, verb)).map(|known| known.0)
    }

    fn bytes(self) -> [u8; 2] {
        let known = ACTIONS.iter().find(|known| known.0 == self);
        known.map_or([0, 0], |known| [known.1, known.2])
    }
}

/// Which earlier events of its key an event removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supersedes {
    /// Those.
    Dots(Vec<Dot>),
    /// Per log, all up to that seq.
    Cut(Vec<(LogId, u64)>),
}

/// What a leaf says, apart from its skeleton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Full {
        /// Random.
        salt: [u8; 16],
        /// The key; empty in a meta leaf.
        key: Arc<[u8]>,
        /// The payload.
        payload: Arc<[u8]>,
    },
    /// Only its hash.
    Erased(Hash),
}

impl Content {
    fn hash(&self) -> Hash {
        match self {
            Self::Erased(hash) => *hash,
            Self::Full { salt, key, payload } => {
                let mut len = Vec::new();
                put_len(&mut len, key.len());
                sha(&[salt, &len, key, payload])
            }
        }
    }

    /// How many bytes the hash covers; of an erased one, the fewest that it may have covered.
    fn len(&self) -> usize {
        let Self::Full { salt, key, payload } = self else { return 17 };
        let mut len = Vec::new();
        put_len(&mut len, key.len());
        salt.len() + len.len() + key.len() + payload.len()
    }
}

/// One event of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it does.
    pub action: Action,
    /// What it removes.
    pub supersedes: Supersedes,
    /// Its key and payload.
    pub content: Content,
}

impl Event {
    /// The canonical skeleton.
    pub fn skeleton(&self) -> Vec<u8> {
        let mut out = self.action.bytes().to_vec();
        match &self.supersedes {
            Supersedes::Dots(dots) => {
                out.push(0);
                put_len(&mut out, dots.len());
                for dot in dots {
                    put_log(&mut out, &dot.log);
                    put_varint(&mut out, dot.seq);
                    put_varint(&mut out, u64::from(dot.index));
                }
            }
            Supersedes::Cut(cut) => {
                out.push(1);
                put_len(&mut out, cut.len());
                for (log, seq) in cut {
                    put_log(&mut out, log);
                    put_varint(&mut out, *seq);
                }
            }
        }
        out
    }
}

/// A commit whose hashes were recomputed and agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its hash.
    pub id: CommitId,
    /// Its space; of a genesis, the space that it founds.
    pub space: SpaceId,
    /// Its log.
    pub log: LogId,
    /// Its number in the log.
    pub seq: u64,
    /// The commit before it in the log; zero of the first.
    pub prev: CommitId,
    /// Its stamp.
    pub hlc: u64,
    /// What its author had seen of other logs.
    pub deps: Vec<Tip>,
    /// The grant that its author acts under.
    pub grant: Option<Hash>,
    /// What it is for.
    pub kind: Kind,
    /// What only a genesis says.
    pub genesis: Option<Genesis>,
    /// What only a grant or a revocation says.
    pub act: Option<Act>,
    /// Its events, in order.
    pub events: Vec<Event>,
    /// Its meta leaf.
    pub meta: Option<Content>,
    /// The sum of the lengths of its leaves.
    pub size: u64,
    /// The root over its leaves.
    pub root: Hash,
}

impl Commit {
    /// Its place and hash.
    pub fn tip(&self) -> Tip {
        Tip { log: self.log, seq: self.seq, id: self.id }
    }

    /// Computes root, size and id, and checks every rule that needs no other commit.
    ///
    /// `size` is what the bytes say, if some leaf is erased.
    pub(super) fn complete(mut self, size: Option<u64>) -> Result<Self, Wrong> {
        let mut leaves = Vec::new();
        let mut sum = 0_usize;
        let mut add = |skeleton: &[u8], content: &Content| {
            sum += skeleton.len() + content.len();
            leaves.push(sha(&[&[0], skeleton, &content.hash()]));
        };
        self.events.iter().for_each(|event| add(&event.skeleton(), &event.content));
        self.meta.iter().for_each(|meta| add(&[0xff, 0], meta));
        let sum = sum as u64;
        self.size = size.unwrap_or(sum);
        if self.size < sum || self.size > 16_777_216 {
            return Err("the size of the commit is wrong");
        }
        self.root = tree(&leaves);
        self.id = CommitId(sha256("kdelta/commit/1", &[&self.header()]));
        if self.kind == Kind::Genesis && self.space.0 != self.id.0 {
            return Err("a genesis founds another space");
        }
        self.check()?;
        Ok(self)
    }

    /// The canonical header.
    pub fn header(&self) -> Vec<u8> {
        let mut out = vec![1, 1];
        let space = if self.kind == Kind::Genesis { [0; 32] } else { self.space.0 };
        out.extend_from_slice(&space);
        put_log(&mut out, &self.log);
        put_varint(&mut out, self.seq);
        out.extend_from_slice(&self.prev.0);
        out.extend_from_slice(&self.hlc.to_le_bytes());
        put_len(&mut out, self.deps.len());
        self.deps.iter().for_each(|dep| dep.put(&mut out));
        out.push(u8::from(self.grant.is_some()));
        out.extend(self.grant.iter().flatten());
        out.push(self.kind.byte());
        self.genesis.iter().for_each(|genesis| genesis.put(&mut out));
        self.act.iter().for_each(|act| act.put(&mut out));
        put_len(&mut out, self.events.len());
        out.push(u8::from(self.meta.is_some()));
        put_varint(&mut out, self.size);
        out.extend_from_slice(&self.root);
        out
    }

    /// The rules of 3.1 and 4 about header and skeletons.
    fn check(&self) -> Result<(), Wrong> {
        let (events, deps) = (self.events.len(), self.deps.len());
        if self.seq == 0 || self.seq > u64::MAX >> 1 {
            return Err("a seq is out of range");
        }
        if (self.seq == 1) != (self.prev == CommitId::ZERO) {
            return Err("prev and seq contradict each other");
        }
        let ascend = self.deps.is_sorted_by(|a, b| a.log < b.log);
        if deps > 256 || !ascend || self.deps.iter().any(|dep| dep.log == self.log) {
            return Err("the deps are not canonical");
        }
        let fits = match self.kind {
            Kind::Genesis => {
                self.seq == 1
                    && deps == 0
                    && self.grant.is_none()
                    && events == 0
                    && self.genesis.is_some()
            }
            Kind::Data => (1..=4096).contains(&events),
            Kind::Ack => events == 0,
            Kind::Grant => events == 0 && matches!(self.act, Some(Act::Grant(_))),
            Kind::Revoke => events == 0 && matches!(self.act, Some(Act::Revoke(_))),
            Kind::Tag => events == 0 && self.meta.is_some(),
        };
        if !fits {
            return Err("the commit does not fit its kind");
        }
        (0_u16..).zip(&self.events).try_for_each(|(index, event)| self.check_event(index, event))
    }

    fn check_event(&self, index: u16, event: &Event) -> Result<(), Wrong> {
        let fits = match &event.supersedes {
            Supersedes::Dots(dots) => {
                let earlier =
                    |dot: &Dot| dot.log != self.log || (dot.seq, dot.index) < (self.seq, index);
                dots.len() <= 1024
                    && dots.is_sorted_by(|a, b| a < b)
                    && dots.iter().all(|dot| dot.seq > 0 && dot.index < 4096 && earlier(dot))
            }
            Supersedes::Cut(cut) => {
                (1..=65_536).contains(&cut.len())
                    && cut.is_sorted_by(|a, b| a.0 < b.0)
                    && cut
                        .iter()
                        .all(|(log, seq)| *seq > 0 && (*log != self.log || *seq <= self.seq))
            }
        };
        if fits { Ok(()) } else { Err("an event supersedes what it cannot") }
    }

    /// The logs and seqs that its events name.
    pub(super) fn named(&self) -> BTreeSet<(LogId, u64)> {
        let mut named = BTreeSet::new();
        for event in &self.events {
            match &event.supersedes {
                Supersedes::Dots(dots) => {
                    named.extend(dots.iter().map(|dot| (dot.log, dot.seq)));
                }
                Supersedes::Cut(cut) => named.extend(cut),
            }
        }
        named
    }
}

/// The root of RFC 6962 over leaves that are hashed.
pub(super) fn tree(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha(&[&[1], &tree(left), &tree(right)])
        }
    }
}
