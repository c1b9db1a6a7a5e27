//! Replicas, their disks and clocks, and the links between them, in virtual time.
//!
//! Everything that happens is an entry of one queue, ordered by time and then by the order in which
//! it was put there. A world plays the steps of a [`Scenario`] as a host would: it answers users
//! when what they wrote is durable, dials whom a node wants to reach, marks an idle log, restarts
//! what fell. It watches what must hold at all times while it does ([`crate::check`]). It has no
//! threads and reads no clock: a run is a function of its scenario and of this build.

mod act;
mod asks;
mod clock;
pub(crate) mod guests;
mod hostile;
mod links;
mod media;
mod rights;
mod seat;
mod strangers;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use kdelta_engine::base::{Now, SpaceId};
use kdelta_engine::log::{FileId, SyncTicket};
use kdelta_engine::node::{Input, LinkId, Node, Output};
use kdelta_engine::store::Store;
use kdelta_engine::sync::Code;

use crate::check::Broken;
use crate::check::facts::Facts;
use crate::disk::SimDisk;
use crate::draw::Draws;
use crate::scenario::{Options, Scenario, Step};
use crate::spread::{Followed, commits_in};
use crate::trace::{Keep, Trace, What};

use guests::{Guests, News};
use links::{Barrier, Links};
pub(crate) use media::Repair;
pub(crate) use seat::Seat;
use strangers::Given;

/// The disk of a seat.
pub type SeatDisk = Arc<SimDisk>;
type SeatNode = Node<SeatDisk>;

/// All that there is in a run.
#[derive(Debug)]
pub struct World {
    pub(crate) draws: Draws,
    pub(crate) options: Options,
    now_ns: u64,
    queue: Queue,
    pub(crate) seats: Vec<Seat>,
    links: Links,
    barriers: Vec<Barrier>,
    pub(crate) space: SpaceId,
    pub(crate) facts: Facts,
    trace: Trace,
    /// Numbers for messages, syncs and backups, so that their two ends can be told to belong.
    numbers: u64,
    /// What disks were asked for that are gone.
    disk_ops: u64,
    /// Whether everything is mended and nothing goes wrong any more.
    healed: bool,
    /// Whether links break QUIC's promises before all is mended: honest peers may blame each other.
    mangles: bool,
    /// What is sent, while somebody listens.
    heard: Option<Heard>,
    /// How commits spread, while somebody follows that.
    pub(crate) followed: Option<Followed>,
    guests: Guests,
    tickets: Vec<Given>,
}

/// What is still to happen.
#[derive(Debug, Default)]
struct Queue {
    order: u64,
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<Option<Event>>,
    free: Vec<usize>,
}

#[derive(Debug)]
enum Event {
    Step(Box<Step>),
    Deliver { link: LinkId, side: usize, message: Message, bytes: Vec<u8> },
    Closed { link: LinkId, side: usize },
    Dialed { from: usize, life: u32, peer: [u8; 32], to: Option<usize> },
    Synced { seat: usize, life: u32, sync: u64, ticket: SyncTicket },
    Tick { seat: usize, life: u32 },
    Mark { seat: usize, life: u32 },
    Wake { seat: usize, life: u32 },
    Start { seat: usize, life: u32 },
    Relief { seat: usize },
    Verify { seat: usize },
    Enemy { seat: usize },
    Resume { seat: usize },
    Lifted { what: What },
}

/// What was sent since somebody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Heard {
    /// Messages that open sessions, and with that compare digests.
    pub(crate) openings: u64,
    /// Messages of other kinds.
    pub(crate) others: u64,
    /// Messages that have commits, ask for some, or take them.
    pub(crate) commits: u64,
    /// How many connections there are.
    pub(crate) links: u64,
}

impl Heard {
    /// Counts a message of a kind.
    fn count(&mut self, kind: &str) {
        let commits = matches!(kind, "Want" | "Chunk" | "Push" | "Proof" | "Graft");
        self.openings += u64::from(kind == "Open");
        self.others += u64::from(kind != "Open");
        self.commits += u64::from(commits);
    }
}

/// Which message arrives, from where, and whether it did before.
#[derive(Debug, Clone, Copy)]
struct Message {
    number: u64,
    from: usize,
    again: bool,
}

impl Queue {
    fn put(&mut self, at_ns: u64, event: Event) {
        self.order += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(event);
        }
        self.heap.push(Reverse((at_ns, self.order, slot)));
    }

    fn pop_until(&mut self, end_ns: u64) -> Option<(u64, Event)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > end_ns {
            return None;
        }
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, self.slots.get_mut(slot)?.take()?))
    }
}

impl World {
    /// Sets a scenario up. Nobody is there before [`found`](Self::found).
    pub fn new(scenario: &Scenario, keep: Keep) -> Self {
        let mut world = Self {
            draws: Draws::new(scenario.seed),
            options: scenario.options.clone(),
            now_ns: 0,
            queue: Queue::default(),
            seats: Vec::new(),
            links: Links::default(),
            barriers: Vec::new(),
            space: SpaceId::default(),
            facts: Facts::default(),
            trace: Trace::new(keep),
            numbers: 0,
            disk_ops: 0,
            healed: false,
            heard: None,
            followed: None,
            mangles: scenario.options.link.mangle_ppm > 0,
            guests: Guests::default(),
            tickets: Vec::new(),
        };
        for step in &scenario.steps {
            world.queue.put(step.at_ms * NS_PER_MS, Event::Step(Box::new(step.clone())));
        }
        world
    }

    /// Lets that much time pass.
    ///
    /// # Errors
    /// [`Broken`] if a promise does not hold.
    pub fn run_for(&mut self, ms: u64) -> Result<(), Broken> {
        let end_ns = self.now_ns + ms * NS_PER_MS;
        let events = self.trace.count();
        self.serve();
        while let Some((at_ns, event)) = self.queue.pop_until(end_ns) {
            self.now_ns = at_ns;
            self.happen(event);
            self.serve();
            if let Some(broken) = self.facts.broken.take() {
                return Err(broken);
            }
            if self.trace.count() - events > EVENTS_MAX {
                return Err(Broken::new("the world comes to rest", "events without end"));
            }
        }
        self.now_ns = end_ns;
        Ok(())
    }

    /// Returns the trace of everything that happened.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Returns how long the world has lived, in milliseconds.
    pub fn elapsed_ms(&self) -> u64 {
        self.now_ns / NS_PER_MS
    }

    /// Returns how many operations the disks were asked for, reads included.
    pub fn disk_ops(&self) -> u64 {
        self.disk_ops + self.seats.iter().map(|seat| seat.disk.asked()).sum::<u64>()
    }

    /// Returns what a right clock on the wall shows, in milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> u64 {
        clock::Clock::default().now(self.now_ns).wall.0
    }

    /// Returns the seats whose replica runs.
    pub(crate) fn awake(&self) -> Vec<usize> {
        let seats = self.seats.iter().enumerate();
        seats.filter(|(_, seat)| seat.node.is_some()).map(|(at, _)| at).collect()
    }

    /// Returns the store of a replica that runs.
    pub(crate) fn store(&mut self, seat: usize) -> Option<&mut Store<SeatDisk>> {
        Some(self.seats.get_mut(seat)?.node.as_mut()?.store())
    }

    pub(crate) fn now(&self, seat: usize) -> Now {
        self.seats.get(seat).map_or_else(
            || clock::Clock::default().now(self.now_ns),
            |seat| seat.clock.now(self.now_ns),
        )
    }

    fn happen(&mut self, event: Event) {
        match self.waiter(&event) {
            Some(at) => self.hold(at, event),
            None => self.happen_now(event),
        }
    }

    /// Keeps what a replica that hangs cannot take yet: it comes in order once it goes on.
    fn hold(&mut self, at: usize, event: Event) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        if seat.held.is_empty() {
            self.queue.put(seat.paused_until_ns.max(self.now_ns), Event::Resume { seat: at });
        }
        seat.held.push_back(event);
    }

    /// A replica that hung goes on with what came meanwhile, unless it hangs again.
    fn resume(&mut self, at: usize) {
        loop {
            let now_ns = self.now_ns;
            let Some(seat) = self.seats.get_mut(at) else { return };
            if seat.paused_until_ns > now_ns && !seat.held.is_empty() {
                return self.queue.put(seat.paused_until_ns, Event::Resume { seat: at });
            }
            let Some(event) = seat.held.pop_front() else { return };
            self.happen_now(event);
        }
    }

    fn happen_now(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.act(step.action),
            Event::Deliver { link, side, message, bytes } => {
                let Message { number, from, again } = message;
                let Some(seat) = self.links.end(link, side) else {
                    return self.note(None, What::Lost { number, reason: "the connection ended" });
                };
                let arrived = if again {
                    What::Duplicated { number, from }
                } else {
                    What::Delivered { number, from }
                };
                self.note(Some(seat), arrived);
                let hostile = self.seats.get(from).is_some_and(|from| from.enemy.is_some());
                let follows = (hostile && !self.mangles).then(|| bytes.clone());
                let commits = self.followed.as_ref().and_then(|_| commits_in(&bytes));
                self.input(seat, Input::Received { link, bytes });
                if let Some(bytes) = follows {
                    self.check_frames(seat, link, side, &bytes);
                }
                self.look(seat);
                if let Some(commits) = commits {
                    self.follow_message(seat, from, commits);
                }
            }
            Event::Closed { link, side } => {
                if let Some((seat, peer)) = self.links.close_side(link, side) {
                    let reason = "the connection is gone".to_owned();
                    let text = "gone".into();
                    self.note(Some(seat), What::LinkDown { link: link.0, peer, reason: text });
                    self.input(seat, Input::Closed { link, reason });
                }
            }
            Event::Dialed { from, life, peer, to } => self.dialed(from, life, peer, to),
            Event::Synced { seat, life, sync, ticket } => self.synced(seat, life, sync, ticket),
            Event::Tick { seat, life } => {
                let of = self.seats.get_mut(seat).filter(|of| of.life == life);
                if let Some(of) = of {
                    of.tick_ns = u64::MAX;
                    self.input(seat, Input::Tick);
                    self.look(seat);
                }
            }
            Event::Mark { seat, life } => self.mark(seat, life),
            Event::Wake { seat, life } => {
                if self.seats.get(seat).is_some_and(|of| of.life == life) {
                    self.hear(seat, News::Woken);
                }
            }
            Event::Start { seat, life } => {
                if self.seats.get(seat).is_some_and(|of| of.life == life && of.node.is_none()) {
                    self.start(seat);
                }
            }
            Event::Relief { seat } => self.relieve(seat),
            Event::Verify { seat } => self.verify(seat),
            Event::Enemy { seat } => self.enemy_acts(seat),
            Event::Resume { seat } => self.resume(seat),
            Event::Lifted { what } => self.note(None, what),
        }
    }

    /// Returns the replica that an event is for and that hangs, or has not taken all that came
    /// while it did.
    fn waiter(&self, event: &Event) -> Option<usize> {
        let seat = match event {
            Event::Deliver { link, side, .. } | Event::Closed { link, side } => {
                self.links.end(*link, *side)?
            }
            Event::Synced { seat, .. }
            | Event::Tick { seat, .. }
            | Event::Mark { seat, .. }
            | Event::Wake { seat, .. } => *seat,
            Event::Dialed { from, .. } => *from,
            Event::Step(_)
            | Event::Start { .. }
            | Event::Relief { .. }
            | Event::Verify { .. }
            | Event::Enemy { .. }
            | Event::Resume { .. }
            | Event::Lifted { .. } => return None,
        };
        let of = self.seats.get(seat)?;
        (of.paused_until_ns > self.now_ns || !of.held.is_empty()).then_some(seat)
    }

    fn input(&mut self, at: usize, input: Input) {
        if self.seats.get(at).is_some_and(|seat| seat.enemy.is_some()) {
            return self.enemy_input(at, input);
        }
        let now = self.now(at);
        if let Some(node) = self.seats.get_mut(at).and_then(|seat| seat.node.as_mut()) {
            node.handle(now, input);
            self.drain(at);
        }
    }

    /// Does what a node asks for, until it waits or its power fails.
    fn drain(&mut self, at: usize) {
        loop {
            let Some(seat) = self.seats.get_mut(at) else { return };
            let Some(node) = seat.node.as_mut() else { return };
            let output = node.poll();
            if let Some((mode, away_ms)) = seat.power_failed() {
                return self.fall(at, mode, away_ms);
            }
            let life = seat.life;
            match output {
                Output::Wait(wake) => {
                    let wake_ns = wake.map(|wake| seat.clock.world_ns(wake).max(self.now_ns + 1));
                    if let Some(wake_ns) = wake_ns.filter(|wake_ns| *wake_ns < seat.tick_ns) {
                        seat.tick_ns = wake_ns;
                        self.queue.put(wake_ns, Event::Tick { seat: at, life });
                    }
                    self.hang(at);
                    return self.answer(at);
                }
                Output::Sync(ticket) => {
                    let [least, most] = self.options.sync_us;
                    let slow_us = sync_delay_us(&seat.disk, ticket.file);
                    let drawn_us = seat.disk_draws.between(least, most.max(least));
                    let delay_ns = (drawn_us + slow_us) * NS_PER_US;
                    self.numbers += 1;
                    let sync = self.numbers;
                    let event = Event::Synced { seat: at, life, sync, ticket };
                    self.queue.put(self.now_ns + delay_ns, event);
                    self.note(Some(at), What::SyncBegun { sync });
                }
                Output::Send { link, bytes } => self.post(link, at, bytes),
                Output::Close { link, code, text } => {
                    self.check_blame(at, link, code, &text);
                    self.close_after_all(link);
                }
                Output::Dial { peer, addresses } => self.dial(at, peer.0, &addresses),
                Output::JobDone { job, report } => {
                    self.job_done(at, job, &report);
                    self.sync_told(at, job, &report);
                }
                Output::Admit { .. }
                | Output::SessionBegan { .. }
                | Output::SessionEnded { .. } => {}
            }
        }
    }

    /// Counts what is sent from now on.
    pub(crate) fn listen(&mut self) {
        self.heard = Some(Heard::default());
    }

    /// Returns how many connections there are.
    pub(crate) fn link_count_of_all(&self) -> u64 {
        self.links.count() as u64
    }

    /// Returns what was sent since somebody listens.
    pub(crate) fn heard(&mut self) -> Heard {
        let links = self.link_count_of_all();
        Heard { links, ..self.heard.take().unwrap_or_default() }
    }

    /// What a replica asked its disk for took its time: it hangs until then.
    fn hang(&mut self, at: usize) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        let delay = seat.disk.take_delay();
        let us = if delay.stuck { delay.us.max(STUCK_US) } else { delay.us };
        if us > 0 && !self.healed {
            seat.paused_until_ns = seat.paused_until_ns.max(self.now_ns + us * NS_PER_US);
        }
    }

    /// Checks that no honest peer is sent away for what it said.
    fn check_blame(&mut self, at: usize, link: LinkId, code: Code, text: &str) {
        let Some(far) = self.links.far_end(link, at) else { return };
        let honest = self.seats.get(far).is_some_and(|seat| seat.enemy.is_none());
        if code == Code::PROTOCOL && honest && !self.mangles {
            let seen = format!("seat {at} sends seat {far} away: {text}");
            self.facts.broken = Some(Broken::new("honest peers blame no honest ones", seen));
        }
    }

    /// Takes note that something happened.
    pub(crate) fn note(&mut self, seat: Option<usize>, what: What) {
        self.trace.record(self.now_ns, seat, what);
    }
}

/// How much longer than usual the next sync of a file takes. What is stuck is stuck for a while.
fn sync_delay_us(disk: &SimDisk, file: FileId) -> u64 {
    let delay = disk.sync_delay(file);
    if delay.stuck { delay.us.max(STUCK_US) } else { delay.us }
}

pub(crate) const NS_PER_MS: u64 = 1_000_000;
const NS_PER_US: u64 = 1_000;
/// How long an operation hangs that does not return, in microseconds.
const STUCK_US: u64 = 30_000_000;
/// More events than that in one go is a world that never rests.
const EVENTS_MAX: u64 = 20_000_000;
