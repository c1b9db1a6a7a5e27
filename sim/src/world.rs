//! Replicas, their disks and clocks, and the links between them, in virtual time.
//!
//! Everything that happens is an entry of one queue, ordered by time and then by the order in which
//! it was put there. Delays are drawn from the seed. A link delivers in order, and is gone at both
//! ends when either is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use kdelta_engine::base::{
    CommitId, Hash, Instant, Key, Now, Rng, Sha256Stream, SpaceId, WallTime, sha256,
};
use kdelta_engine::crdt::{Json, Op};
use kdelta_engine::event::KeyPair;
use kdelta_engine::log::{CrashMode, Disk, MemoryDisk, Position, SyncTicket};
use kdelta_engine::node::{Config, Input, LinkId, Node, Output};
use kdelta_engine::store::{KeyOp, Options, Store, Write};

use crate::check::{Broken, broken};
use crate::plan::{Step, What};

type SimNode = Node<Arc<MemoryDisk>>;

/// All that there is in a run.
#[derive(Debug)]
pub struct World {
    rng: Rng,
    now_ns: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Box<Event>)>>,
    replicas: Vec<Replica>,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    space: SpaceId,
    acknowledged: Vec<CommitId>,
    events: u64,
    trace: Sha256Stream,
}

#[derive(Debug)]
struct Replica {
    node: SimNode,
    disk: Arc<MemoryDisk>,
    key: u8,
    /// How often it was started: what was on its way to an earlier start is void.
    life: u32,
    skew_ms: i64,
    /// When it is ticked next.
    tick_ns: u64,
    /// Writes that are not durable yet.
    unacknowledged: Vec<(Position, CommitId)>,
}

#[derive(Debug)]
struct Link {
    ends: [usize; 2],
    /// When the last message that is on its way arrives, each way.
    busy_ns: [u64; 2],
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Deliver { link: LinkId, to: usize, bytes: Vec<u8> },
    Closed { link: LinkId },
    Synced { replica: usize, life: u32, ticket: TicketSlot },
    Tick { replica: usize, life: u32 },
}

/// A ticket in the queue: never compared, as no two entries have one order.
#[derive(Debug)]
struct TicketSlot(SyncTicket);

impl PartialEq for TicketSlot {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for TicketSlot {}
impl PartialOrd for TicketSlot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for TicketSlot {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl World {
    /// Makes a world of some replicas that share a space and are not connected.
    pub fn new(seed: u64, count: usize) -> Self {
        let mut world = Self {
            rng: Rng::new(sha256("kdelta/sim/world", &[&seed.to_le_bytes()])),
            now_ns: 0,
            order: 0,
            queue: BinaryHeap::new(),
            replicas: Vec::new(),
            links: BTreeMap::new(),
            next_link: 1,
            space: SpaceId::default(),
            acknowledged: Vec::new(),
            events: 0,
            trace: Sha256Stream::new("kdelta/sim/trace"),
        };
        for key in 0..u8::try_from(count).unwrap_or(u8::MAX) {
            world.start(key, Arc::new(MemoryDisk::new()));
        }
        let now = world.now(0);
        if let Some(first) = world.replicas.first_mut()
            && let Ok(space) = first.node.store().create_space(now, "default")
        {
            world.space = space;
        }
        for replica in 1..world.replicas.len() {
            let space = world.space;
            if let Some(other) = world.replicas.get_mut(replica) {
                let _ = other.node.store().join_space(space, "default");
            }
        }
        for replica in 0..world.replicas.len() {
            world.drain(replica);
        }
        world
    }

    /// Carries out one step.
    ///
    /// # Errors
    /// [`Broken`] if a promise does not hold.
    pub fn play(&mut self, step: &Step) -> Result<(), Broken> {
        let at = |replica: &usize| replica % self.replicas.len();
        match step {
            Step::Write { replica, what } => self.write(at(replica), *what),
            Step::Connect(a, b) => {
                let (a, b) = (at(a), at(b));
                self.connect(a, b);
            }
            Step::Cut(a, b) => {
                let ends = BTreeSet::from([at(a), at(b)]);
                let cut = self.links.iter().find(|(_, link)| BTreeSet::from(link.ends) == ends);
                if let Some(link) = cut.map(|(id, _)| *id) {
                    self.close(link);
                }
            }
            Step::Crash { replica, mode } => self.crash(at(replica), *mode),
            Step::Copy(replica) => self.copy(at(replica)),
            Step::Wait(ms) => return self.run_for(*ms),
            Step::Jump(replica, ms) => {
                let replica = at(replica);
                if let Some(replica) = self.replicas.get_mut(replica) {
                    replica.skew_ms = (replica.skew_ms + ms).clamp(-SKEW_MS_MAX, SKEW_MS_MAX);
                }
            }
        }
        self.run_for(1)
    }

    /// Connects everybody with everybody and lets time pass until nothing is under way.
    ///
    /// # Errors
    /// [`Broken`] if they do not come to rest.
    pub fn heal(&mut self) -> Result<(), Broken> {
        for replica in &mut self.replicas {
            replica.skew_ms = 0;
        }
        for a in 0..self.replicas.len() {
            for b in a + 1..self.replicas.len() {
                self.connect(a, b);
            }
        }
        // Digests are compared anew each minute, so that what was missed is found.
        self.run_for(HEAL_MS)
    }

    /// Returns how many replicas there are.
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Tells whether there is no replica.
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// Returns the space that all share.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// Returns the commits of which a replica told its user that they are durable.
    pub fn acknowledged(&self) -> &[CommitId] {
        &self.acknowledged
    }

    /// Returns how many messages, disk operations and requests there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns how long the world has lived, in milliseconds.
    pub fn elapsed_ms(&self) -> u64 {
        self.now_ns / NS_PER_MS
    }

    /// Returns a digest of everything that happened.
    pub fn digest(&self) -> Hash {
        self.trace.clone().finish()
    }

    /// Returns the store of a replica.
    ///
    /// # Errors
    /// [`Broken`] if there is no such replica.
    pub fn store(&mut self, replica: usize) -> Result<&mut Store<Arc<MemoryDisk>>, Broken> {
        match self.replicas.get_mut(replica) {
            Some(replica) => Ok(replica.node.store()),
            None => broken("the plan names replicas that are there", replica.to_string()),
        }
    }

    fn now(&self, replica: usize) -> Now {
        let skew = self.replicas.get(replica).map_or(0, |replica| replica.skew_ms);
        let wall = (BEGIN_MS + self.now_ns / NS_PER_MS).saturating_add_signed(skew);
        Now { mono: Instant(self.now_ns), wall: WallTime(wall) }
    }

    fn start(&mut self, key: u8, disk: Arc<MemoryDisk>) {
        if let Some(replica) = self.opened(key, disk, 0) {
            self.replicas.push(replica);
        }
    }

    /// Opens the store on a disk. One that cannot be opened stays away.
    fn opened(&mut self, key: u8, disk: Arc<MemoryDisk>, life: u32) -> Option<Replica> {
        let options = Options { memory_bytes: 4 << 20, segment_bytes: 16 << 10, place: None };
        let now = self.now(usize::MAX);
        let pair = KeyPair::from_seed([key + 1; 32]);
        let (store, _) =
            Store::open(Arc::clone(&disk), pair, self.rng.bytes(), now, options).ok()?;
        let config = Config { open: true, agent: "sim".to_owned(), ..Config::default() };
        let node = Node::new(store, config, Rng::new(self.rng.bytes()), now);
        Some(Replica {
            node,
            disk,
            key,
            life,
            skew_ms: 0,
            tick_ns: u64::MAX,
            unacknowledged: Vec::new(),
        })
    }

    fn write(&mut self, at: usize, what: What) {
        let now = self.now(at);
        let json = |text: String| Json::parse(text.as_bytes()).ok();
        let (name, op) = match what {
            What::Count(key, by) => (format!("count-{key}"), Some(Op::CounterAdd(by))),
            What::Put(key, value) => {
                (format!("register-{key}"), json(value.to_string()).map(Op::Put))
            }
            What::Add(key, e) => {
                (format!("set-{key}"), json(e.to_string()).map(|e| Op::SetAdd(vec![e])))
            }
            What::Remove(key, e) => {
                (format!("set-{key}"), json(e.to_string()).map(|e| Op::SetRemove(vec![e])))
            }
        };
        let (Ok(key), Some(op)) = (Key::new(&name), op) else { return };
        let ops = vec![KeyOp { key, op, retype: false, expect: None }];
        let write = Write { space: self.space, ops, ..Write::default() };
        let Some(replica) = self.replicas.get_mut(at) else { return };
        if let Ok(written) = replica.node.store().write(now, write) {
            let stamp = replica.node.store_ref().written();
            replica.unacknowledged.push((stamp, written.tip.id));
            self.note("write", written.tip.id.as_bytes());
        }
        self.drain(at);
    }

    fn connect(&mut self, a: usize, b: usize) {
        let ends = BTreeSet::from([a, b]);
        let known = self.links.values().any(|link| BTreeSet::from(link.ends) == ends);
        if a == b || known {
            return;
        }
        let id = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(id, Link { ends: [a, b], busy_ns: [0; 2] });
        for (end, far, outgoing) in [(a, b, true), (b, a, false)] {
            let peer = self.replicas.get(far).map(|replica| replica.node.store_ref().replica());
            if let Some(peer) = peer {
                self.input(end, Input::Connected { link: id, peer, outgoing });
            }
        }
    }

    fn close(&mut self, link: LinkId) {
        let Some(Link { ends, .. }) = self.links.remove(&link) else { return };
        for end in ends {
            self.input(end, Input::Closed { link, reason: "cut".to_owned() });
        }
    }

    fn crash(&mut self, at: usize, mode: usize) {
        let of_it = self.links.iter().filter(|(_, link)| link.ends.contains(&at));
        let links: Vec<LinkId> = of_it.map(|(id, _)| *id).collect();
        for link in links {
            let Some(Link { ends, .. }) = self.links.remove(&link) else { continue };
            for end in ends.into_iter().filter(|end| *end != at) {
                self.input(end, Input::Closed { link, reason: "the peer crashed".to_owned() });
            }
        }
        let Some(replica) = self.replicas.get(at) else { return };
        let (key, life, disk) = (replica.key, replica.life + 1, Arc::clone(&replica.disk));
        let mode = CrashMode::ALL.get(mode).copied().unwrap_or(CrashMode::LoseAll);
        disk.crash(mode, &mut Rng::new(self.rng.bytes()));
        self.note("crash", &[key]);
        if let Some(again) = self.opened(key, disk, life)
            && let Some(replica) = self.replicas.get_mut(at)
        {
            *replica = again;
        }
        self.drain(at);
    }

    fn copy(&mut self, of: usize) {
        if self.replicas.len() >= REPLICAS_MAX {
            return;
        }
        let Some(replica) = self.replicas.get(of) else { return };
        let (key, disk) = (replica.key, Arc::new(replica.disk.snapshot()));
        // What a copy has is what a power cut would have left at that moment.
        disk.crash(CrashMode::LoseAll, &mut Rng::new(self.rng.bytes()));
        self.note("copy", &[key]);
        self.start(key, disk);
    }

    fn run_for(&mut self, ms: u64) -> Result<(), Broken> {
        let end = self.now_ns + ms * NS_PER_MS;
        let events = self.events;
        while let Some(Reverse((at, ..))) = self.queue.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, event))) = self.queue.pop() else { break };
            self.now_ns = at;
            self.happen(*event);
            if self.events - events > EVENTS_MAX {
                return broken("the world comes to rest", "events without end");
            }
        }
        self.now_ns = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { link, to, bytes } => {
                if self.links.contains_key(&link) {
                    self.note("deliver", &sha256("kdelta/sim/bytes", &[&bytes]));
                    self.input(to, Input::Received { link, bytes });
                }
            }
            Event::Closed { link } => self.close(link),
            Event::Synced { replica, life, ticket } => {
                let Some(of) = self.replicas.get(replica).filter(|of| of.life == life) else {
                    return;
                };
                let result = Disk::sync(&of.disk, ticket.0.file);
                self.note("sync", &[u8::from(result.is_ok())]);
                self.input(replica, Input::Synced(ticket.0, result));
            }
            Event::Tick { replica, life } => {
                let of = self.replicas.get_mut(replica).filter(|of| of.life == life);
                if let Some(of) = of {
                    of.tick_ns = u64::MAX;
                    self.input(replica, Input::Tick);
                }
            }
        }
    }

    fn input(&mut self, at: usize, input: Input) {
        let now = self.now(at);
        if let Some(replica) = self.replicas.get_mut(at) {
            replica.node.handle(now, input);
        }
        self.drain(at);
    }

    /// Does what a node asks for, until it waits.
    fn drain(&mut self, at: usize) {
        loop {
            let Some(replica) = self.replicas.get_mut(at) else { return };
            let life = replica.life;
            match replica.node.poll() {
                Output::Wait(wake) => {
                    let durable = replica.node.store_ref().durable();
                    let mut waiting = std::mem::take(&mut replica.unacknowledged);
                    waiting.retain(|(stamp, id)| {
                        let safe = *stamp <= durable;
                        self.acknowledged.extend(safe.then_some(*id));
                        !safe
                    });
                    replica.unacknowledged = waiting;
                    if let Some(wake) = wake {
                        let at_ns = wake.0.max(self.now_ns + 1);
                        if at_ns < replica.tick_ns {
                            replica.tick_ns = at_ns;
                            self.put(at_ns, Event::Tick { replica: at, life });
                        }
                    }
                    return;
                }
                Output::Sync(ticket) => {
                    let delay = 50_000 + self.rng.below(4 * NS_PER_MS);
                    let ticket = TicketSlot(ticket);
                    let event = Event::Synced { replica: at, life, ticket };
                    self.put(self.now_ns + delay, event);
                }
                Output::Send { link, bytes } => self.post(link, at, bytes),
                Output::Close { link, .. } => {
                    // What was sent before arrives first.
                    let busy = self
                        .links
                        .get(&link)
                        .map_or(0, |l| l.busy_ns.into_iter().max().unwrap_or(0));
                    self.put(busy.max(self.now_ns) + 1, Event::Closed { link });
                }
                Output::Admit { .. } | Output::Dial { .. } | Output::JobDone { .. } => {}
            }
        }
    }

    fn post(&mut self, link: LinkId, from: usize, bytes: Vec<u8>) {
        let delay = NS_PER_MS + self.rng.below(40 * NS_PER_MS);
        let now = self.now_ns;
        let Some(entry) = self.links.get_mut(&link) else { return };
        let [a, b] = entry.ends;
        let (side, to) = if from == a { (0, b) } else { (1, a) };
        let Some(busy) = entry.busy_ns.get_mut(side) else { return };
        *busy = (now + delay).max(*busy + 1);
        let at = *busy;
        self.put(at, Event::Deliver { link, to, bytes });
    }

    fn put(&mut self, at_ns: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((at_ns, self.order, Box::new(event))));
    }

    fn note(&mut self, what: &str, bytes: &[u8]) {
        self.events += 1;
        self.trace.update(&self.now_ns.to_le_bytes());
        self.trace.update(what.as_bytes());
        self.trace.update(bytes);
    }
}

const NS_PER_MS: u64 = 1_000_000;
/// When a world begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// How far a wall clock may be off: less than what makes commits wait.
const SKEW_MS_MAX: i64 = 240_000;
/// Most replicas of a run, copies among them.
const REPLICAS_MAX: usize = 9;
/// How long everybody is connected at the end.
const HEAL_MS: u64 = 200_000;
/// More events than that without a pause is a world that never rests.
const EVENTS_MAX: u64 = 2_000_000;
