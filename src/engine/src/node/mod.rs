//! Floor 7: the sans-IO engine of one replica.
//!
//! A [`Node`] owns the store and the conversations with peers. It is driven by
//! [`handle`](Node::handle): one input, after which [`poll`](Node::poll) is called until it returns
//! [`Output::Wait`]. Nothing leaves it for a peer before the disk holds what it speaks of. It opens
//! no socket, starts no thread and reads no clock.

mod dial;
mod forks;
mod io;
mod jobs;
mod link;
mod live;
mod outbox;
mod pace;
mod places;
mod spool;
mod spread;
mod talk;
#[cfg(test)]
mod tests;
mod ticket;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::{Instant, Now, ReplicaId, Rng, SpaceId, WallTime};
use crate::event::ForkProof;
use crate::log::{Disk, Position};
use crate::store::{Receipt, Store};
use crate::sync::{Code, Hello, Message};

pub use io::{Ended, Input, JobId, LinkId, Output, Problem, Report};
pub use spread::SpreadStats;
pub use ticket::{Ticket, TicketError};

use dial::Dialing;
use jobs::Job;
use link::Link;
use outbox::Outbox;
use places::Places;
use spread::Spreading;

/// How a node behaves towards peers.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Every peer may sync every space that it can name.
    pub open: bool,
    /// Known peers are dialled and kept connected.
    pub keep_connected: bool,
    /// Name and version of the program, for people.
    pub agent: String,
}

/// The engine of one replica.
#[derive(Debug)]
pub struct Node<D: Disk> {
    store: Store<D>,
    config: Config,
    rng: Rng,
    hello: Hello,
    now: Now,
    links: BTreeMap<LinkId, Link>,
    dialing: BTreeMap<ReplicaId, Dialing>,
    places: Places,
    jobs: BTreeMap<JobId, Job>,
    next_job: u64,
    outbox: Outbox,
    urgent: VecDeque<Output>,
    wake: Option<Instant>,
    /// How far live links and waiting deliveries were served.
    pumped: Position,
    retry_waiting: Option<Instant>,
    /// When it is asked again which grants ended long ago.
    seal: Instant,
    /// Sessions that may have something to say.
    urge: BTreeSet<(LinkId, SpaceId)>,
    /// A sync of the disk is under way: what comes meanwhile makes the next group.
    syncing: bool,
    /// Proofs of forks that came in and are not acted upon yet, and from which connection.
    proofs: Vec<(LinkId, ForkProof)>,
    /// The files in which large chunks wait for their last part.
    spools: BTreeMap<spool::Slot, u64>,
    next_spool: u64,
    /// Peers that this side's user called by name.
    invited: BTreeSet<ReplicaId>,
    /// As of when the node knows what the disk took back.
    settled: Receipt,
    spreading: Spreading,
}

impl<D: Disk + Clone> Node<D> {
    /// Puts a node around a store.
    pub fn new(store: Store<D>, config: Config, mut rng: Rng, now: Now) -> Self {
        let hello = Hello::new(rng.bytes(), &config.agent);
        let settled = store.receipt();
        let mut node = Self {
            store,
            config,
            rng,
            hello,
            now,
            links: BTreeMap::new(),
            dialing: BTreeMap::new(),
            places: Places::default(),
            jobs: BTreeMap::new(),
            next_job: 0,
            outbox: Outbox::default(),
            urgent: VecDeque::new(),
            wake: None,
            pumped: Position::default(),
            retry_waiting: None,
            seal: now.mono.plus(SEAL_EVERY),
            urge: BTreeSet::new(),
            syncing: false,
            proofs: Vec::new(),
            spools: BTreeMap::new(),
            next_spool: 0,
            invited: BTreeSet::new(),
            settled,
            spreading: Spreading::default(),
        };
        node.clear_spool();
        node
    }

    /// Returns the store: reads and writes are plain calls on it.
    pub fn store(&mut self) -> &mut Store<D> {
        &mut self.store
    }

    /// Gives the store back; conversations end without a word.
    pub fn into_store(self) -> Store<D> {
        self.store
    }

    /// Returns the store, to be read only.
    pub fn store_ref(&self) -> &Store<D> {
        &self.store
    }

    /// Changes how the node behaves towards peers from now on.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Takes one input. Then call [`poll`](Self::poll) until it returns [`Output::Wait`].
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        if mutant!("timeouts-on-wall-clock") {
            self.now.mono = Instant(now.wall.0.saturating_mul(1_000_000));
        }
        match input {
            Input::Connected { link, peer, outgoing } => self.connected(link, peer, outgoing),
            Input::Received { link, bytes } => self.received(link, &bytes),
            Input::Closed { link, reason } => self.closed(link, &reason),
            Input::DialFailed { peer, reason } => self.dial_failed(peer, &reason),
            Input::Found { peer, addresses } => self.found(peer, addresses),
            Input::Here { addresses } => self.here(addresses),
            Input::Synced(ticket, result) => {
                // What the log could not make durable stays in the outbox; writers learn of it
                // from the store.
                self.syncing = false;
                let _ = self.store.synced(ticket, result);
            }
            Input::Tick => self.tick(),
        }
        self.close_forked();
        self.drain_urged();
    }

    /// Returns what is to be done next.
    pub fn poll(&mut self) -> Output {
        loop {
            if let Some(output) = self.urgent.pop_front() {
                return output;
            }
            // One group for all that came together: nothing is written before the queue is empty.
            if !self.syncing {
                // What the disk does not take is heeded below; writers learn of it from the store.
                let _ = self.store.flush();
                if let Some(ticket) = self.store.sync_due() {
                    self.syncing = true;
                    return Output::Sync(ticket);
                }
            }
            self.heed_refusals();
            if let Some(output) = self.outbox.pop(self.store.durable()) {
                return output;
            }
            if self.pumped < self.store.written() && !self.links.is_empty() {
                self.pumped = self.store.written();
                self.pump_all();
                continue;
            }
            return Output::Wait(self.wake);
        }
    }

    /// Returns the peers that are connected: who, since they said hello, and whether in sync.
    pub fn peers(&self) -> Vec<PeerState> {
        let links = self.links.values().filter(|link| link.agreed.is_some());
        links
            .map(|link| PeerState {
                peer: link.peer,
                link: link.id,
                in_sync: link.is_in_sync(),
                since: link.since(),
                spaces: link.talks.keys().copied().collect(),
            })
            .collect()
    }

    /// Where the disk took a group back, lets go of everything that speaks of it.
    ///
    /// What was said of it is still in the outbox, and what peers sent of it is gone: every
    /// conversation ends and is begun anew.
    fn heed_refusals(&mut self) {
        let settled = std::mem::replace(&mut self.settled, self.store.receipt());
        let Some((kept, reason)) = self.store.refused_since(settled) else { return };
        sometimes!("node-group-taken-back");
        let problem = Problem::Broken(format!("the disk took a group back: {reason}"));
        self.outbox.take_back(kept, &problem);
        self.pumped = self.pumped.min(kept);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.close(link, Code::TROUBLE, "the disk refused a write");
        }
    }

    /// Returns how many outputs wait for the disk.
    pub fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    /// Ends the conversations with a peer that is not known any more.
    pub fn part_with(&mut self, peer: ReplicaId) {
        self.invited.remove(&peer);
        let of_peer = self.links.values().filter(|link| link.peer == peer);
        let links: Vec<LinkId> = of_peer.map(|link| link.id).collect();
        for link in links {
            self.close(link, Code::NOT_ADMITTED, "admitted no more");
        }
    }

    /// Says goodbye to all peers.
    pub fn shut_down(&mut self) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.close(link, Code::DONE, "shutting down");
        }
    }

    /// Hands a message over for a link; it leaves once all that was written so far is durable.
    fn send(&mut self, link: LinkId, message: &Message) {
        let bytes = crate::sync::encode(message);
        if let Some(link) = self.links.get_mut(&link) {
            link.credit_out.sent(message.commit_bytes());
        }
        self.outbox.push(self.store.written(), Output::Send { link, bytes });
    }

    fn close(&mut self, id: LinkId, code: Code, text: &str) {
        let text = crate::sync::PeerText::new(text);
        self.send(id, &Message::Close { code, text: text.clone() });
        self.outbox.push(
            self.store.written(),
            Output::Close { link: id, code, text: text.as_str().to_owned() },
        );
        self.forget(id, Problem::Broken(text.as_str().to_owned()));
    }

    /// Asks for a tick at `at` or before.
    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn tick(&mut self) {
        self.wake = None;
        if self.retry_waiting.is_some_and(|at| at <= self.now.mono) {
            sometimes!("node-waiting-tried-again");
            self.retry_waiting = None;
            if self.store.retry_waiting(self.now).is_ok_and(|taken| taken.commits > 0) {
                self.meet_again();
            }
        }
        self.watch_waiting();
        self.seal_ended();
        self.tick_links();
        self.tick_spreading();
        self.tick_dialing();
    }

    /// Compares frontiers with those to whom nothing is pushed yet, since no session with them
    /// ended in sync: one that waits for the time of a commit cannot.
    fn meet_again(&mut self) {
        let mut short = Vec::new();
        for link in self.links.values() {
            let talks = link.talks.iter().filter(|(_, talk)| talk.live.is_none());
            short.extend(talks.map(|(space, _)| (link.id, *space)));
        }
        for (link, space) in short {
            self.open_session(link, space);
        }
    }

    /// Takes back, once in a while, what this replica gave to others and what ended long ago.
    fn seal_ended(&mut self) {
        if !self.store.has_owned_spaces() {
            return;
        }
        if self.seal <= self.now.mono {
            self.seal = self.now.mono.plus(SEAL_EVERY);
            // What the disk does not take is tried again the next time.
            let _ = self.store.seal_ended(self.now);
        }
        self.wake_at(self.seal);
    }

    /// Commits that wait for their time are tried again later.
    fn watch_waiting(&mut self) {
        if self.store.waiting_len() > 0 && self.retry_waiting.is_none() {
            let at = self.now.mono.plus(WAITING_RETRY);
            self.retry_waiting = Some(at);
        }
        if let Some(at) = self.retry_waiting {
            self.wake_at(at);
        }
    }

    /// Tells whether a peer is sent what is in a space: it is admitted to it and, where somebody
    /// owns it, may read all of it as far as is known here.
    fn serves(&self, peer: &ReplicaId, space: &SpaceId) -> bool {
        self.is_let_in(peer, space) && self.store.may_read(space, peer, self.now.wall)
    }

    /// Tells whether a peer may bring what is in a space. That it may read may be among what it
    /// brings, so whom the user let in is listened to; whoever may read no more is not.
    fn hears(&self, peer: &ReplicaId, space: &SpaceId) -> bool {
        let named = self.invited.contains(peer) || self.store.local().admits(peer, space);
        let may_come = || !self.store.is_shut_out(space, peer, self.now.wall);
        self.serves(peer, space) || named && self.store.has_space(space) && may_come()
    }

    /// Tells whether a peer may know that a space is here, whatever it may read of it.
    fn is_let_in(&self, peer: &ReplicaId, space: &SpaceId) -> bool {
        let invited = self.config.open || self.invited.contains(peer);
        self.store.has_space(space) && (invited || self.store.local().admits(peer, space))
    }
}

/// What is known of a connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// The peer.
    pub peer: ReplicaId,
    /// The connection.
    pub link: LinkId,
    /// Whether the last session of each space ended in sync and nothing went wrong since.
    pub in_sync: bool,
    /// Since when that is as it is; at first, since the connection stands.
    pub since: WallTime,
    /// The spaces that are talked about.
    pub spaces: Vec<SpaceId>,
}

/// How often a node looks for grants that ended long ago. It begins after as long: what peers kept
/// of their holders while it was away has that time to come, or would be cut off.
const SEAL_EVERY: std::time::Duration = std::time::Duration::from_secs(3600);
/// How long commits wait before they are tried again.
const WAITING_RETRY: std::time::Duration = std::time::Duration::from_secs(5);
