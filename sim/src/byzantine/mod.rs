//! A hostile peer: speaks the real protocol to honest nodes and lies in one way.
//!
//! It is a function of its seed and of what it is told: the world owns time, links and randomness,
//! and gives it the events of its links in order. Some [`Attack`]s drive a real node and tamper
//! with its words; others speak by a script and forge what they send. It keeps little: nothing it
//! does costs more than what it sends. What honest nodes promise against each attack is in
//! `docs/SIMULATION.md`. It never breaks the transport: keys are proved before it is heard.

mod attack;
mod forge;
mod liar;
mod puppet;
mod script;
mod trespass;
mod words;

use std::collections::BTreeMap;

use kdelta_engine::base::{Hash, Instant, Now, ReplicaId, Rng, SpaceId, WallTime, sha256};
use kdelta_engine::event::KeyPair;
use kdelta_engine::node::LinkId;
use kdelta_engine::sync::Decoder;

pub use attack::{Attack, UnknownAttack};

use liar::Liar;
use script::Script;
pub use trespass::Pass;
pub(crate) use trespass::TRESPASSED;

/// What the hostile peer does with a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sends bytes, after those it sent before.
    Send {
        /// The link.
        link: LinkId,
        /// The bytes: a frame, a part of one, several, or none that are any.
        bytes: Vec<u8>,
    },
    /// Closes a link once all before it is sent. It then forgets the link.
    Close {
        /// The link.
        link: LinkId,
    },
}

/// A hostile peer with a key pair of its own.
#[derive(Debug)]
pub struct Byzantine {
    seed: Hash,
    kind: Attack,
    key: KeyPair,
    now: Now,
    lines: BTreeMap<LinkId, Line>,
    role: Role,
}

/// One link, as the hostile peer sees it.
#[derive(Debug)]
struct Line {
    peer: ReplicaId,
    outgoing: bool,
    decoder: Decoder,
    /// The peer said hello.
    greeted: bool,
    /// The session was opened from here, and not yet from there.
    opened: bool,
}

#[derive(Debug)]
enum Role {
    Liar(Box<Liar>),
    Script(Box<Script>),
    /// A liar whose node could not be started: says nothing.
    None,
}

impl Byzantine {
    /// Makes a hostile peer that takes part in no space yet.
    pub fn new(seed: Hash, kind: Attack) -> Self {
        let key = KeyPair::from_seed(sha256("kdelta/sim/byzantine/key", &[&seed]));
        let rng = Rng::new(sha256("kdelta/sim/byzantine", &[&seed]));
        let role = if Liar::plays(kind) {
            Role::None
        } else {
            Role::Script(Box::new(Script::new(kind, rng, key.clone())))
        };
        let now = Now { mono: Instant(0), wall: WallTime(0) };
        Self { seed, kind, key, now, lines: BTreeMap::new(), role }
    }

    /// Tells it the time and the space that it attacks. Call it once, before any link.
    pub fn join(&mut self, now: Now, space: SpaceId) {
        self.now = now;
        match &mut self.role {
            Role::Script(script) => script.join(now, space),
            Role::Liar(_) | Role::None => {
                let liar = Liar::new(self.kind, &self.seed, &self.key, now, space);
                self.role = liar.map_or(Role::None, |liar| Role::Liar(Box::new(liar)));
            }
        }
    }

    /// Tells it what it was granted in an owned space.
    pub fn granted(&mut self, pass: Pass) {
        if let Role::Script(script) = &mut self.role {
            script.granted(pass);
        }
    }

    /// Returns the key under which it connects and signs.
    pub fn replica(&self) -> ReplicaId {
        self.key.id()
    }

    /// Returns how it attacks.
    pub fn attack(&self) -> Attack {
        self.kind
    }

    /// Learns that a link stands; `outgoing` if it was dialled from here.
    pub fn connected(&mut self, link: LinkId, peer: ReplicaId, outgoing: bool) -> Vec<Action> {
        let decoder = Decoder::default();
        let line = Line { peer, outgoing, decoder, greeted: false, opened: false };
        self.lines.insert(link, line);
        let actions = match &mut self.role {
            Role::Liar(liar) => liar.connected(self.now, link, peer, outgoing),
            Role::Script(script) => script.connected(link),
            Role::None => Vec::new(),
        };
        self.done(actions)
    }

    /// Takes the next bytes of a link.
    pub fn received(&mut self, link: LinkId, bytes: &[u8]) -> Vec<Action> {
        let Some(line) = self.lines.get_mut(&link) else { return Vec::new() };
        let actions = match &mut self.role {
            Role::Liar(liar) => liar.received(self.now, link, bytes),
            Role::Script(script) => script.received(link, line, bytes),
            Role::None => Vec::new(),
        };
        self.done(actions)
    }

    /// Learns that a link is gone.
    pub fn closed(&mut self, link: LinkId) {
        if self.lines.remove(&link).is_some()
            && let Role::Liar(liar) = &mut self.role
        {
            liar.closed(self.now, link);
        }
    }

    /// Learns that time passed. Most attacks act here, a bounded amount at each call: call it once
    /// or so in a second of the world.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        self.now = now;
        let actions = match &mut self.role {
            Role::Liar(liar) => liar.tick(now),
            Role::Script(script) => script.tick(now, &self.lines),
            Role::None => Vec::new(),
        };
        self.done(actions)
    }

    /// Forgets the links that it closes.
    fn done(&mut self, actions: Vec<Action>) -> Vec<Action> {
        for action in &actions {
            if let Action::Close { link } = action {
                self.closed(*link);
            }
        }
        actions
    }
}
