//! A place where a replica runs: its disk, its clocks, its node while it is awake, and the users
//! who wait for answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kdelta_engine::base::{Hlc, LogId, Now, ReplicaId, SpaceId};
use kdelta_engine::causal::Tip;
use kdelta_engine::event::KeyPair;
use kdelta_engine::limits::CHUNK_BYTES_MAX;
use kdelta_engine::log::{CrashMode, Disk, Position, SyncTicket};
use kdelta_engine::node::{Config, Input, Node};
use kdelta_engine::store::{OpenError, Options, Outcome, Receipt, Run, Serving, Store};

use super::asks::Ask;
use super::clock::Clock;
use super::guests::News;
use super::hostile::Enemy;
use super::links::address_of;
use super::media::Repair;
use super::{Event, NS_PER_MS, SeatDisk, SeatNode, World, strangers};
use crate::check::{Broken, facts};
use crate::disk::{FaultId, SimDisk};
use crate::draw::{Source, Stream};
use crate::scenario::{Topology, mode_name};
use crate::trace::{Short, What};

/// A place where a replica runs.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Whose key it has: that of the seat with this number.
    pub(crate) key: usize,
    pair: KeyPair,
    pub(crate) disk: SeatDisk,
    pub(crate) node: Option<SeatNode>,
    /// How often it was started: what was on its way to an earlier start is void.
    pub(crate) life: u32,
    pub(super) clock: Clock,
    /// When it is ticked next, in the world's time.
    pub(super) tick_ns: u64,
    pub(super) paused_until_ns: u64,
    /// What came while it hung, in order.
    pub(super) held: VecDeque<Event>,
    pub(super) disk_draws: Source,
    /// The users who wait.
    pub(super) requests: VecDeque<Request>,
    /// The syncs that users asked for.
    pub(super) asks: Vec<Ask>,
    /// The last backup, with its number.
    pub(super) backup: Option<(u64, SeatDisk)>,
    /// What the store's directory is, to the store: another one on another seat.
    place: u64,
    /// What comes when the disk's power is off: what is left, and for how long it is away.
    pub(super) failing: Option<(CrashMode, u64)>,
    /// What the disk may have kept the store from doing.
    pub(crate) disk_faults: bool,
    /// What was seen of each log, at this disk.
    pub(crate) seen: BTreeMap<LogId, u64>,
    /// How far the log went when it was looked at last.
    pub(crate) looked: Position,
    /// The latest stamp that was shown when it was looked at last, in this life.
    pub(crate) shown: Hlc,
    /// The latest stamp that was ever shown at this disk.
    pub(crate) reached: Hlc,
    /// The latest stamp of what was written at it, in all its lives.
    pub(crate) wrote: Hlc,
    /// The latest stamp of what users were told is durable, at this disk.
    pub(crate) told: Hlc,
    /// Whether the disk refused something since what is shown was held against it.
    pub(crate) refused: bool,
    /// When a user wrote last, and whether an idle mark is due for it.
    last_write_ns: u64,
    marking: bool,
    /// How often the powers of this disk failed: names its draws.
    falls: u64,
    /// How far it is with being made whole.
    pub(crate) repair: Repair,
    /// How many faults had made bytes of its disk bad when it was verified last, and was whole.
    pub(crate) verified: Option<usize>,
    /// Whether it ever said that something is damaged, when it was verified.
    pub(crate) owned_up: bool,
    /// What cannot be read until the store was opened.
    pub(super) glitches: Vec<FaultId>,
    /// Whether something could not be read when it was started that can be by now.
    pub(super) unread: bool,
    /// Whether its disk lied, and a power cut showed it.
    pub(super) lied: bool,
    /// How often a repair fell short.
    pub(super) tries: u32,
    /// Whether a stranger has something of the space.
    pub(super) inside: bool,
    /// The hostile peer that sits here in a replica's place.
    pub(crate) enemy: Option<Box<Enemy>>,
}

/// A user who waits until what was written is durable.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) tip: Tip,
    pub(super) stamp: Hlc,
    pub(super) receipt: Receipt,
}

impl Seat {
    fn new(key: usize, place: u64, disk: SeatDisk, draws: Source) -> Self {
        let [low, high] = [key % 256, key / 256].map(|n| u8::try_from(n).unwrap_or(0));
        let mut secret = [7; 32];
        (secret[0], secret[1]) = (low, high);
        Self {
            key,
            pair: KeyPair::from_seed(secret),
            disk,
            node: None,
            life: 0,
            clock: Clock::default(),
            tick_ns: u64::MAX,
            paused_until_ns: 0,
            held: VecDeque::new(),
            disk_draws: draws,
            requests: VecDeque::new(),
            asks: Vec::new(),
            backup: None,
            place,
            failing: None,
            disk_faults: false,
            seen: BTreeMap::new(),
            looked: Position::default(),
            shown: Hlc::default(),
            reached: Hlc::default(),
            wrote: Hlc::default(),
            told: Hlc::default(),
            refused: false,
            last_write_ns: 0,
            marking: false,
            falls: 0,
            repair: Repair::default(),
            verified: None,
            owned_up: false,
            glitches: Vec::new(),
            unread: false,
            lied: false,
            tries: 0,
            inside: false,
            enemy: None,
        }
    }

    /// Tells whether a user here still waits until that commit is durable.
    pub(crate) fn waits_for(&self, tip: &Tip) -> bool {
        let Some(store) = self.node.as_ref().map(|node| node.store_ref()) else { return false };
        let pending = |request: &Request| store.outcome(request.receipt) == Outcome::Pending;
        self.requests.iter().any(|request| request.tip == *tip && pending(request))
    }

    /// Tells whether nobody waits for an answer here, and nothing is to be mended.
    pub(crate) fn is_answered(&self) -> bool {
        self.requests.is_empty() && self.repair == Repair::Whole
    }

    /// Returns who runs here.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.enemy.as_ref().map_or_else(|| self.pair.id(), |enemy| enemy.peer.replica())
    }

    /// Tells whether the power just failed that was to fail, and what comes of it.
    pub(super) fn power_failed(&mut self) -> Option<(CrashMode, u64)> {
        let failing = self.failing?;
        let mut off = false;
        self.disk.memory().faults(|faults| off = faults.power_off_in == Some(0));
        if off {
            self.failing = None;
        }
        off.then_some(failing)
    }

    /// Takes the sync out of what came while it hung.
    fn take_held_sync(&mut self, at: usize) -> Option<(u64, SyncTicket)> {
        let found = self.held.iter().position(|event| is_sync(Some(event), at, self.life))?;
        match self.held.remove(found) {
            Some(Event::Synced { sync, ticket, .. }) => Some((sync, ticket)),
            _ => None,
        }
    }

    /// Opens the store on this seat's disk.
    pub(crate) fn open(
        &self,
        disk: SeatDisk,
        options: &crate::scenario::Options,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Store<SeatDisk>, OpenError> {
        let options = Options {
            memory_bytes: options.memory_bytes,
            segment_bytes: options.segment_bytes,
            place: options.places.then_some(self.place),
        };
        Store::open(disk, self.pair.clone(), seed, now, options).map(|(store, _)| store)
    }
}

impl World {
    /// Seats the first replicas, makes the space that they share, and has each know whom it is to
    /// know.
    ///
    /// # Errors
    /// [`Broken`] if a store cannot be made.
    pub fn found(&mut self) -> Result<(), Broken> {
        for seat in 0..self.options.replicas {
            self.seat(seat, Arc::new(SimDisk::new()));
            if self.options.absent.contains(&seat) {
                continue;
            }
            self.start(seat);
            if let Some(broken) = self.facts.broken.take() {
                return Err(broken);
            }
        }
        let Some(first) = self.awake().first().copied() else { return Ok(()) };
        let now = self.now(first);
        self.found_space(first)?;
        for seat in self.awake() {
            if self.is_outside(seat)
                && let Some(store) = self.store(seat)
            {
                let made = store.create_space(now, strangers::NAME);
                made.map_err(|error| Broken::new("a space is made", error.to_string()))?;
            }
            self.settle_in(seat);
            self.hand_over(first, seat);
            self.look(seat);
            self.input(seat, Input::Tick);
        }
        Ok(())
    }

    /// Who is there from the beginning has what the space began with: nobody writes without.
    fn hand_over(&mut self, first: usize, to: usize) {
        let (now, space) = (self.now(to), self.space);
        let Some(founder) = self.store(first) else { return };
        let frontier = founder.frontier(&space).unwrap_or_default();
        let runs = frontier.iter().map(|tip| Run { log: tip.log, after: 0, upto: tip.seq });
        let mut serving = Serving::new(runs);
        let chunk = founder.sync().ok().and_then(|()| {
            founder.next_chunk(&space, &mut serving, CHUNK_BYTES_MAX).ok().flatten()
        });
        let (Some(chunk), Some(store)) = (chunk, self.store(to)) else { return };
        // Whom that does not reach gets it as those do who come later.
        let _ = store.insert_chunk(now, &chunk.bytes).map(|_| store.sync());
    }

    /// Puts an empty seat with a disk at the end of the row.
    pub(super) fn seat(&mut self, key: usize, disk: SeatDisk) -> usize {
        let at = self.seats.len();
        let draws = self.draws.of(Stream::Disk, at as u64);
        self.seats.push(Seat::new(key, at as u64, disk, draws));
        at
    }

    /// Has a replica join the space and know whom it is to know, unless it does.
    pub(super) fn settle_in(&mut self, at: usize) {
        let (space, peers) = (self.space, self.peers_of(at));
        if space == SpaceId::default() {
            return;
        }
        if self.options.strangers.contains(&at) {
            return self.take_tickets(at);
        }
        if !self.options.strangers.is_empty() {
            self.admit_members(at);
        }
        let Some(store) = self.store(at) else { return };
        if !store.has_space(&space) {
            let _ = store.join_space(space, "default");
        }
        let known = |replica: &ReplicaId, address: &String| {
            let mut peers = store.local().peers.iter();
            peers.any(|p| p.replica == *replica && p.addresses.contains(address))
        };
        let new: Vec<(ReplicaId, String)> =
            peers.into_iter().filter(|(replica, address)| !known(replica, address)).collect();
        if new.is_empty() {
            return;
        }
        // A disk that refuses this now is asked again at the next start, and in the end.
        let _ = store.edit_local(|local| {
            for (replica, address) in new {
                if let Some(peer) = local.peer_mut(replica) {
                    peer.addresses.push(address);
                    if !peer.admitted.contains(&space) {
                        peer.admitted.push(space);
                    }
                }
            }
        });
    }

    fn peers_of(&self, at: usize) -> Vec<(ReplicaId, String)> {
        let (own, count) = (self.seats.get(at).map(Seat::replica), self.seats.len());
        let replicas = self.options.replicas;
        // Where seats are left empty, their neighbours are neighbours: nobody is cut off by it.
        let there = |seat: &usize| !self.options.absent.contains(seat);
        let is_next = |other| (1..replicas).map(|n| (at + n) % replicas).find(there) == Some(other);
        let knows = |other: usize| match self.options.topology {
            // Who came as a copy is known to all, and knows all.
            _ if at.max(other) >= replicas => true,
            Topology::Mesh => true,
            Topology::Ring => is_next(other),
            Topology::Web => {
                let distance = (other + replicas - at) % replicas;
                is_next(other) || distance.is_power_of_two() && distance <= replicas / 2
            }
            Topology::Line => (at + 1..replicas).find(there) == Some(other),
            Topology::Star => (0..replicas).find(there) == Some(other),
        };
        let others = (0..count).filter(|other| *other != at && knows(*other));
        let others = others.filter_map(|other| Some((self.seats.get(other)?, address_of(other))));
        let others = others.filter(|(seat, _)| seat.enemy.is_none());
        let others = others.filter(|(seat, _)| !self.options.strangers.contains(&seat.key));
        let others = others.map(|(seat, address)| (seat.replica(), address));
        others.filter(|(replica, _)| Some(*replica) != own).collect()
    }

    /// Starts the replica of a seat. A store that cannot be opened is tried again later if its disk
    /// is at fault, and a broken promise if it is not.
    pub(super) fn start(&mut self, at: usize) {
        self.doubt_reads(at);
        let now = self.now(at);
        let Some(seat) = self.seats.get_mut(at) else { return };
        seat.life += 1;
        let entity = (at as u64) << 32 | u64::from(seat.life);
        let mut draws = self.draws.of(Stream::Life, entity);
        let (life, faults) = (seat.life, seat.disk_faults);
        let opened = seat.open(Arc::clone(&seat.disk), &self.options, draws.seed(), now);
        seat.unread = !seat.glitches.is_empty();
        seat.glitches.drain(..).for_each(|glitch| seat.disk.clear(glitch));
        match opened {
            Ok(store) => {
                let agent = "kdelta-sim".to_owned();
                let open = self.options.strangers.is_empty();
                let config = Config { open, keep_connected: true, agent };
                seat.disk.recovered();
                seat.node = Some(Node::new(store, config, draws.rng(), now));
                seat.tick_ns = u64::MAX;
                self.note(Some(at), What::Restarted);
                self.settle_in(at);
                if self.options.told {
                    self.input(at, Input::Here { addresses: vec![address_of(at)] });
                }
                // What cannot be read without power is not lost.
                if let Some((mode, ms)) = self.seats.get_mut(at).and_then(Seat::power_failed) {
                    return self.fall(at, mode, ms);
                }
                self.check_start(at);
                self.check_resumed(at);
                self.check_degraded(at);
                self.input(at, Input::Tick);
                self.repair_anew(at);
            }
            Err(error) if faults => {
                self.note(Some(at), What::Note { text: format!("does not start: {error}").into() });
                self.queue.put(self.now_ns + AGAIN_NS, Event::Start { seat: at, life });
            }
            Err(error) => {
                self.facts.broken =
                    Some(Broken::new("a store opens", format!("seat {at}: {error}")));
            }
        }
    }

    /// A replica falls: what its disk had not synced is left as the mode says.
    pub(super) fn fall(&mut self, at: usize, mode: CrashMode, away_ms: u64) {
        if self.seats.get(at).is_none_or(|seat| seat.node.is_none()) {
            return;
        }
        self.doubt(at);
        let Some(seat) = self.seats.get_mut(at) else { return };
        seat.node = None;
        seat.failing = None;
        seat.requests.clear();
        seat.asks.clear();
        seat.falls += 1;
        let mut draws = self.draws.of(Stream::Crash, (at as u64) << 32 | seat.falls);
        seat.disk.crash(mode, &mut draws.rng());
        self.spare_torn(at);
        self.note(Some(at), What::Crashed { mode: mode_name(mode).into() });
        // A killed process says goodbye by its system, a dead machine by its silence.
        let notice_ms = if mode == CrashMode::KeepAll { 1 } else { super::links::IDLE_MS };
        self.hang_up(at, notice_ms);
        self.come_back(at, away_ms);
    }

    /// A replica stops in order.
    pub(super) fn stop(&mut self, at: usize, away_ms: u64) {
        self.finish_sync(at);
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Some(node) = seat.node.as_mut() else { return };
        node.shut_down();
        self.drain(at);
        self.finish_sync(at);
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Some(mut node) = seat.node.take() else { return };
        seat.asks.clear();
        let closed = node.store().close();
        let faults = seat.disk_faults;
        let waiting: Vec<Request> = seat.requests.drain(..).collect();
        for request in waiting {
            if node.store_ref().outcome(request.receipt) == Outcome::Durable {
                self.acknowledge(at, request.tip, request.stamp);
            }
        }
        if let Err(error) = closed
            && !faults
        {
            let seen = format!("seat {at} does not close: {error}");
            self.facts.broken = Some(Broken::new("an error has a cause", seen));
        }
        self.note(Some(at), What::WentAway);
        self.hang_up(at, 1);
        if self.seats.get_mut(at).and_then(Seat::power_failed).is_some() {
            // The power failed while it was closing.
            self.doubt(at);
            if let Some(seat) = self.seats.get_mut(at) {
                seat.falls += 1;
                let mut draws = self.draws.of(Stream::Crash, (at as u64) << 32 | seat.falls);
                seat.disk.crash(CrashMode::LoseAll, &mut draws.rng());
            }
            self.spare_torn(at);
        }
        self.come_back(at, away_ms);
    }

    fn come_back(&mut self, at: usize, away_ms: u64) {
        let Some(life) = self.seats.get(at).map(|seat| seat.life) else { return };
        let at_ns = self.now_ns + away_ms.max(1) * NS_PER_MS;
        self.queue.put(at_ns, Event::Start { seat: at, life });
    }

    /// Waits for the sync that is under way, as a host does before it closes a store.
    pub(super) fn finish_sync(&mut self, at: usize) {
        let life = self.seats.get(at).map_or(0, |seat| seat.life);
        for _ in 0..SYNCS_MAX {
            let held = self.seats.get_mut(at).and_then(|seat| seat.take_held_sync(at));
            match held.or_else(|| self.queue.take_sync(at, life)) {
                Some((sync, ticket)) => self.synced(at, life, sync, ticket),
                None => return,
            }
        }
    }

    /// A disk's sync is done.
    pub(super) fn synced(&mut self, at: usize, life: u32, sync: u64, ticket: SyncTicket) {
        let Some(seat) = self.seats.get(at).filter(|seat| seat.life == life) else { return };
        if seat.node.is_none() {
            return;
        }
        let result = Disk::sync(&seat.disk, ticket.file);
        let done = result.is_ok();
        let what = if done { What::SyncDone { sync } } else { What::SyncFailed { sync } };
        self.note(Some(at), what);
        if let Some(seat) = self.seats.get_mut(at) {
            seat.refused |= !done;
        }
        self.input(at, Input::Synced(ticket, result));
        self.look(at);
        self.glance(at);
    }

    /// Takes note that a user wrote, and marks the log when it is idle as a host does.
    pub(super) fn mark_later(&mut self, at: usize) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        seat.last_write_ns = self.now_ns;
        if !std::mem::replace(&mut seat.marking, true) {
            let (life, at_ns) = (seat.life, self.now_ns + MARK_NS);
            self.queue.put(at_ns, Event::Mark { seat: at, life });
        }
    }

    pub(super) fn mark(&mut self, at: usize, life: u32) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        seat.marking = false;
        if seat.life != life {
            return;
        }
        if self.now_ns < seat.last_write_ns + MARK_NS || self.queue.has_sync(at, life) {
            return self.mark_again(at);
        }
        if let Some(node) = seat.node.as_mut() {
            // What the disk refuses now concerns no record.
            let _ = node.store().idle_mark();
            self.note(Some(at), What::Note { text: "marks an idle log".into() });
            self.drain(at);
        }
    }

    fn mark_again(&mut self, at: usize) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        seat.marking = true;
        let life = seat.life;
        self.queue.put(self.now_ns + MARK_NS / 2, Event::Mark { seat: at, life });
    }

    fn acknowledge(&mut self, at: usize, tip: Tip, stamp: Hlc) {
        if let Some(seat) = self.seats.get_mut(at) {
            seat.told = seat.told.max(stamp);
        }
        self.note(Some(at), What::Acknowledged { commit: Short::from(&tip.id) });
        self.facts.acknowledge(at, tip);
        self.hear(at, News::Answered { tip, durable: true });
    }

    /// Tells users what became of what they wrote, as far as that is known by now.
    pub(super) fn answer(&mut self, at: usize) {
        self.tell(at);
        if self.seats.get(at).is_some_and(|seat| seat.refused) {
            self.glance(at);
        }
    }

    fn tell(&mut self, at: usize) {
        loop {
            let Some(seat) = self.seats.get_mut(at) else { return };
            let Some(node) = seat.node.as_ref() else { return };
            let trouble = node.store_ref().trouble().is_some();
            let Some(request) = seat.requests.front() else { return };
            let outcome = node.store_ref().outcome(request.receipt);
            if outcome == Outcome::Pending && !trouble {
                return;
            }
            let (tip, durable) = (request.tip, outcome == Outcome::Durable);
            let stamp = request.stamp;
            seat.requests.pop_front();
            seat.refused |= !durable;
            if durable {
                self.acknowledge(at, tip, stamp);
            } else if seat.disk_faults {
                self.hear(at, News::Answered { tip, durable: false });
            } else {
                let seen = format!("seat {at} refuses {}", facts::short(&tip.id));
                self.facts.broken = Some(Broken::new("an error has a cause", seen));
            }
        }
    }
}

impl super::Queue {
    /// Takes the sync out of the queue that a seat waits for.
    fn take_sync(&mut self, at: usize, of: u32) -> Option<(u64, SyncTicket)> {
        let slot = self.slots.iter_mut().find(|slot| is_sync(slot.as_ref(), at, of))?;
        match slot.replace(Event::Relief { seat: usize::MAX }) {
            Some(Event::Synced { sync, ticket, .. }) => Some((sync, ticket)),
            _ => None,
        }
    }

    fn has_sync(&self, at: usize, of: u32) -> bool {
        self.slots.iter().any(|slot| is_sync(slot.as_ref(), at, of))
    }
}

fn is_sync(slot: Option<&Event>, at: usize, of: u32) -> bool {
    matches!(slot, Some(Event::Synced { seat, life, .. }) if *seat == at && *life == of)
}

/// When an idle log is marked, in nanoseconds after the last write.
const MARK_NS: u64 = 50 * NS_PER_MS;
/// After how long a store is opened again whose disk refused.
const AGAIN_NS: u64 = 1_000 * NS_PER_MS;
/// More syncs than that in a row are no end.
const SYNCS_MAX: usize = 1_000;
