//! Attacks that a real node carries out, with what it says or when it says it changed.

use std::collections::BTreeMap;

use kdelta_engine::base::{Hash, Hlc, Now, ReplicaId, Rng, SpaceId, WallTime, sha256};
use kdelta_engine::event::KeyPair;
use kdelta_engine::node::{Input, LinkId};
use kdelta_engine::sync::{Decoder, Message, encode};

use super::forge::{Author, Put, chunk, hollow};
use super::puppet::{Puppet, Wish};
use super::{Action, Attack};

/// One real node, or several under one key.
#[derive(Debug)]
pub(super) struct Liar {
    kind: Attack,
    rng: Rng,
    /// Speaks on all links, or is what the nodes of forked links are copied from.
    puppet: Puppet,
    /// Links that have a node of their own.
    forked: BTreeMap<LinkId, Puppet>,
    /// Links on which old words are said again.
    replayed: BTreeMap<LinkId, ReplicaId>,
    peers: BTreeMap<LinkId, ReplicaId>,
    said: Vec<Vec<u8>>,
    heard: Vec<(ReplicaId, Vec<u8>)>,
    recorded_bytes: usize,
    ticks: u64,
}

impl Liar {
    /// Tells whether an attack is one of these.
    pub(super) fn plays(kind: Attack) -> bool {
        matches!(
            kind,
            Attack::BadHash
                | Attack::BadSignature
                | Attack::Hollow
                | Attack::Forks
                | Attack::FutureClock
                | Attack::Sybil
                | Attack::Replay
                | Attack::HugeCommits
        )
    }

    /// Starts the node; none if the engine refuses.
    pub(super) fn new(
        kind: Attack,
        seed: &Hash,
        key: &KeyPair,
        now: Now,
        space: SpaceId,
    ) -> Option<Self> {
        let now = told(kind, now);
        let mut puppet = Puppet::new(&sha256("kdelta/sim/liar", &[seed]), key, now, space)?;
        let mut rng = Rng::new(sha256("kdelta/sim/liar/rng", &[seed]));
        match kind {
            Attack::Sybil => sybils(&mut puppet, &mut rng, now, space),
            Attack::Forks => {
                for _ in 0..2 {
                    puppet.write(now, "shared", 1, 16);
                }
            }
            _ => {}
        }
        Some(Self {
            kind,
            rng,
            puppet,
            forked: BTreeMap::new(),
            replayed: BTreeMap::new(),
            peers: BTreeMap::new(),
            said: Vec::new(),
            heard: Vec::new(),
            recorded_bytes: 0,
            ticks: 0,
        })
    }

    pub(super) fn connected(
        &mut self,
        now: Now,
        link: LinkId,
        peer: ReplicaId,
        outgoing: bool,
    ) -> Vec<Action> {
        let now = told(self.kind, now);
        if self.kind == Attack::Replay && self.ticks >= RECORD_TICKS {
            self.replayed.insert(link, peer);
            return self.say_again(link, peer);
        }
        self.peers.insert(link, peer);
        let input = Input::Connected { link, peer, outgoing };
        let wishes = if self.kind == Attack::Forks {
            let Some(mut own) = self.puppet.copy(&self.rng.bytes(), now) else { return Vec::new() };
            let mut wishes = own.write(now, "fork", 1, 16);
            wishes.extend(own.handle(now, input));
            self.forked.insert(link, own);
            wishes
        } else {
            self.puppet.handle(now, input)
        };
        self.actions(wishes)
    }

    pub(super) fn received(&mut self, now: Now, link: LinkId, bytes: &[u8]) -> Vec<Action> {
        let now = told(self.kind, now);
        let Some(peer) = self.peers.get(&link) else { return Vec::new() };
        if self.kind == Attack::Replay && self.recorded_bytes < RECORD_BYTES_MAX {
            self.recorded_bytes += bytes.len();
            self.heard.push((*peer, bytes.to_vec()));
        }
        let input = Input::Received { link, bytes: bytes.to_vec() };
        let puppet = self.forked.get_mut(&link).unwrap_or(&mut self.puppet);
        let wishes = puppet.handle(now, input);
        self.actions(wishes)
    }

    pub(super) fn closed(&mut self, now: Now, link: LinkId) {
        let now = told(self.kind, now);
        self.replayed.remove(&link);
        if self.peers.remove(&link).is_none() || self.forked.remove(&link).is_some() {
            return;
        }
        // A node whose link is gone has nothing to say to anybody at once.
        self.puppet.handle(now, Input::Closed { link, reason: "gone".to_owned() });
    }

    pub(super) fn tick(&mut self, now: Now) -> Vec<Action> {
        let now = told(self.kind, now);
        self.ticks += 1;
        let mut wishes = Vec::new();
        for puppet in self.forked.values_mut() {
            wishes.extend(puppet.handle(now, Input::Tick));
            wishes.extend(puppet.write(now, "fork", 1, 16));
        }
        if self.kind != Attack::Forks {
            wishes.extend(self.puppet.handle(now, Input::Tick));
            wishes.extend(match self.kind {
                Attack::HugeCommits if self.ticks <= HUGE_COMMITS => {
                    self.puppet.write(now, "huge", 2, HUGE_BYTES)
                }
                Attack::HugeCommits | Attack::Sybil => Vec::new(),
                _ => self.puppet.write(now, "lie", 1, 64),
            });
        }
        let mut actions = self.actions(wishes);
        if self.kind == Attack::Replay && self.ticks == RECORD_TICKS {
            actions.extend(self.peers.keys().map(|link| Action::Close { link: *link }));
        }
        actions
    }

    /// Makes of what the node wants what is done.
    fn actions(&mut self, wishes: Vec<Wish>) -> Vec<Action> {
        let mut actions = Vec::new();
        for (link, bytes) in wishes {
            let Some(bytes) = bytes else {
                actions.push(Action::Close { link });
                continue;
            };
            if self.kind == Attack::Replay && self.recorded_bytes < RECORD_BYTES_MAX {
                self.recorded_bytes += bytes.len();
                self.said.push(bytes.clone());
            }
            actions.push(Action::Send { link, bytes: self.tamper(bytes) });
        }
        actions
    }

    /// Flips a bit of the commits, or of what vouches for them, in a frame that has some; or leaves
    /// out what they say.
    fn tamper(&mut self, frame: Vec<u8>) -> Vec<u8> {
        if !matches!(self.kind, Attack::BadHash | Attack::BadSignature | Attack::Hollow) {
            return frame;
        }
        let mut decoder = Decoder::default();
        decoder.push(&frame);
        let Ok(Some(mut message)) = decoder.next() else { return frame };
        let (Message::Chunk { bytes, .. } | Message::Push { bytes, .. }) = &mut message else {
            return frame;
        };
        if self.kind == Attack::Hollow {
            let Some(emptied) = hollow(bytes) else { return frame };
            *bytes = emptied;
            return encode(&message);
        }
        let (len, tail) = (bytes.len(), SIGNATURE_TAIL);
        let Some(body) = len.checked_sub(tail + CHUNK_HEAD).filter(|body| *body > 0) else {
            return frame;
        };
        let at = if self.kind == Attack::BadHash {
            CHUNK_HEAD + below(&mut self.rng, body)
        } else {
            len - tail + below(&mut self.rng, tail - 1)
        };
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << below(&mut self.rng, 8);
        }
        encode(&message)
    }

    /// Says on a new link what was said on old ones, or what somebody else said there.
    fn say_again(&mut self, link: LinkId, peer: ReplicaId) -> Vec<Action> {
        let own = self.rng.below(2) == 0;
        let words: Vec<Vec<u8>> = if own {
            self.said.clone()
        } else {
            let others = self.heard.iter().filter(|(who, _)| *who != peer);
            others.map(|(_, bytes)| bytes.clone()).collect()
        };
        words.into_iter().map(|bytes| Action::Send { link, bytes }).collect()
    }
}

/// Fills a store with logs of one commit each, every one under a key of its own.
fn sybils(puppet: &mut Puppet, rng: &mut Rng, now: Now, space: SpaceId) {
    for batch in 0..SYBIL_BATCHES {
        let (mut commits, mut vouchers) = (Vec::new(), Vec::new());
        for n in 0..SYBIL_BATCH {
            let mut author = Author::new(&KeyPair::from_seed(rng.bytes()), space, 1);
            let key = format!("sybil-{}", (batch + n) % 16);
            let hlc = Hlc::from_wall(now.wall);
            let put = Put { hlc, deps: Vec::new(), key: &key, bytes: 8, grant: None };
            commits.extend(author.write(rng, put));
            vouchers.push(author.voucher());
        }
        puppet.take(now, &chunk(space, &commits, &vouchers));
    }
}

/// The time as this liar's node is told it.
fn told(kind: Attack, now: Now) -> Now {
    if kind == Attack::FutureClock {
        return Now { wall: WallTime(now.wall.0 + AHEAD_MS), ..now };
    }
    now
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap_or(0)
}

/// How far ahead the clock of the future is, in milliseconds: a year, where ten minutes are taken.
const AHEAD_MS: u64 = 365 * 24 * 60 * 60 * 1000;
/// How many sybil logs there are: more than a hello lists, so that they are found by ranges.
const SYBIL_BATCHES: u64 = 10;
const SYBIL_BATCH: u64 = 100;
/// How many of the largest commits are written, and the bytes of each of their two values.
const HUGE_COMMITS: u64 = 2;
const HUGE_BYTES: usize = (8 << 20) - 512;
/// How long words are recorded, in ticks, and how many bytes of them at most.
const RECORD_TICKS: u64 = 3;
const RECORD_BYTES_MAX: usize = 1 << 20;
/// What stands before dictionary and commits in a chunk, in bytes.
const CHUNK_HEAD: usize = 1 + 32 + 8;
/// A signature and an empty proof end a chunk, in bytes.
const SIGNATURE_TAIL: usize = 64 + 1;
