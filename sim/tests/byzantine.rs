//! A hostile peer among honest nodes: what each attack may cost, and what it must not change.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic; clippy.toml grants that to test functions, not to their helpers"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kdelta_engine::base::{
    CommitId, Hash, Instant, Key, LogId, Now, ReplicaId, Rng, SpaceId, WallTime, hex, sha256,
};
use kdelta_engine::causal::Tip;
use kdelta_engine::crdt::{Json, Op};
use kdelta_engine::event::KeyPair;
use kdelta_engine::limits::CHUNK_WHOLE_BYTES_MAX;
use kdelta_engine::log::{Disk, FileKind, MemoryDisk};
use kdelta_engine::node::{Config, Input, LinkId, Node, Output, Report};
use kdelta_engine::store::{KeyOp, Options, Run, Serving, Store, Write, verify};
use kdelta_engine::sync::Code;
use kdelta_sim::byzantine::{Action, Attack, Byzantine};

type TestNode = Node<Arc<MemoryDisk>>;

/// About how many bytes each honest node may use.
const MEMORY_BYTES: usize = 4 << 20;

/// Honest nodes and a hostile peer, the last of all ends, and what is on its way.
struct World {
    now_ms: u64,
    nodes: Vec<TestNode>,
    disks: Vec<Arc<MemoryDisk>>,
    wakes: Vec<Option<Instant>>,
    enemy: Byzantine,
    space: SpaceId,
    /// Both ends of each link; the dialler first. The enemy is [`ENEMY`].
    links: BTreeMap<LinkId, [usize; 2]>,
    next_link: u64,
    mail: VecDeque<(LinkId, usize, Option<Vec<u8>>)>,
    /// Which honest node closed which link, to whom, and why.
    closes: Vec<(usize, usize, Code, String)>,
    reports: Vec<(usize, Report)>,
    from_enemy: u64,
    to_enemy: u64,
    outbox_max: usize,
    spool_max: u64,
    waiting_max: usize,
    /// A digest of all that the enemy did.
    trace: Hash,
    writes: u64,
}

const ENEMY: usize = usize::MAX;

impl World {
    fn new(attack: Attack, count: usize) -> Self {
        let enemy = Byzantine::new(sha256("test", &[attack.name().as_bytes()]), attack);
        let mut world = Self {
            now_ms: 1_700_000_000_000,
            nodes: Vec::new(),
            disks: Vec::new(),
            wakes: Vec::new(),
            enemy,
            space: SpaceId::default(),
            links: BTreeMap::new(),
            next_link: 1,
            mail: VecDeque::new(),
            closes: Vec::new(),
            reports: Vec::new(),
            from_enemy: 0,
            to_enemy: 0,
            outbox_max: 0,
            spool_max: 0,
            waiting_max: 0,
            trace: [0; 32],
            writes: 0,
        };
        for _ in 0..count {
            world.start();
        }
        let (now, space) = (world.now(), world.space);
        world.enemy.join(now, space);
        world
    }

    /// Starts one more honest node, in the space of the first.
    fn start(&mut self) -> usize {
        let n = self.nodes.len();
        let disk = Arc::new(MemoryDisk::new());
        let options = Options { memory_bytes: MEMORY_BYTES, segment_bytes: 1 << 20, place: None };
        let seed = u8::try_from(n + 1).unwrap();
        let key = KeyPair::from_seed([seed; 32]);
        let now = self.now();
        let (mut store, _) = Store::open(Arc::clone(&disk), key, [seed; 32], now, options).unwrap();
        if n == 0 {
            self.space = store.create_space(now, "default").unwrap();
        } else {
            store.join_space(self.space, "default").unwrap();
            let genesis = self.genesis();
            store.insert_chunk(now, &genesis).unwrap();
            store.sync().unwrap();
        }
        let config = Config { open: true, ..Config::default() };
        self.nodes.push(Node::new(store, config, Rng::new([seed; 32]), now));
        self.disks.push(disk);
        self.wakes.push(None);
        self.drain(n);
        n
    }

    /// What the space began with: without it nobody writes there.
    fn genesis(&mut self) -> Vec<u8> {
        let (space, store) = (self.space, self.nodes[0].store());
        store.sync().unwrap();
        let founds = |tip: &Tip| store.id_at(&space, &tip.log, 1) == Some(CommitId(space.0));
        let log = store.frontier(&space).unwrap().into_iter().find(founds).unwrap().log;
        let mut serving = Serving::new([Run { log, after: 0, upto: 1 }]);
        store.next_chunk(&space, &mut serving, 1).unwrap().unwrap().bytes
    }

    fn now(&self) -> Now {
        Now { mono: Instant(self.now_ms * 1_000_000), wall: WallTime(self.now_ms) }
    }

    fn replica(&self, end: usize) -> ReplicaId {
        if end == ENEMY { self.enemy.replica() } else { self.nodes[end].store_ref().replica() }
    }

    fn input(&mut self, n: usize, input: Input) {
        let now = self.now();
        self.nodes[n].handle(now, input);
        self.drain(n);
    }

    fn connect(&mut self, from: usize, to: usize) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, [from, to]);
        for (end, peer, outgoing) in [(from, to, true), (to, from, false)] {
            let peer = self.replica(peer);
            if end == ENEMY {
                let actions = self.enemy.connected(link, peer, outgoing);
                self.act(actions);
            } else {
                self.input(end, Input::Connected { link, peer, outgoing });
            }
        }
        self.run();
        link
    }

    /// Tells whether two ends are connected.
    fn linked(&self, a: usize, b: usize) -> bool {
        let ends = BTreeSet::from([a, b]);
        self.links.values().any(|link| BTreeSet::from(*link) == ends)
    }

    fn drain(&mut self, n: usize) {
        self.outbox_max = self.outbox_max.max(self.nodes[n].outbox_len());
        loop {
            match self.nodes[n].poll() {
                Output::Wait(at) => {
                    self.wakes[n] = at;
                    return;
                }
                Output::Sync(ticket) => {
                    let result = Disk::sync(&self.disks[n], ticket.file);
                    let now = self.now();
                    self.nodes[n].handle(now, Input::Synced(ticket, result));
                }
                Output::Send { link, bytes } => self.post(n, link, Some(bytes)),
                Output::Close { link, code, text } => {
                    if let Some(ends) = self.links.get(&link) {
                        let peer = ends[usize::from(ends[0] == n)];
                        self.closes.push((n, peer, code, text));
                    }
                    self.post(n, link, None);
                }
                Output::JobDone { report, .. } => self.reports.push((n, report)),
                _ => {}
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { link, bytes } => {
                    self.note(link, &bytes);
                    self.post(ENEMY, link, Some(bytes));
                }
                Action::Close { link } => {
                    self.note(link, b"close");
                    self.post(ENEMY, link, None);
                }
            }
        }
    }

    fn note(&mut self, link: LinkId, bytes: &[u8]) {
        self.trace = sha256("trace", &[&self.trace, &link.0.to_le_bytes(), bytes]);
    }

    fn post(&mut self, from: usize, link: LinkId, bytes: Option<Vec<u8>>) {
        let Some(ends) = self.links.get(&link) else { return };
        let to = ends[usize::from(ends[0] == from)];
        let len = bytes.as_ref().map_or(0, Vec::len) as u64;
        self.from_enemy += if from == ENEMY { len } else { 0 };
        self.to_enemy += if to == ENEMY { len } else { 0 };
        self.mail.push_back((link, to, bytes));
    }

    /// Lets everything happen that is on its way.
    fn run(&mut self) {
        for _ in 0..400_000 {
            let Some((link, to, bytes)) = self.mail.pop_front() else { return };
            if !self.links.contains_key(&link) {
                continue;
            }
            match (bytes, to) {
                (Some(bytes), ENEMY) => {
                    let actions = self.enemy.received(link, &bytes);
                    self.act(actions);
                }
                (Some(bytes), n) => {
                    self.input(n, Input::Received { link, bytes });
                    self.measure(n);
                }
                (None, _) => {
                    let [a, b] = self.links.remove(&link).unwrap();
                    for end in [a, b] {
                        if end == ENEMY {
                            self.enemy.closed(link);
                        } else {
                            self.input(end, Input::Closed { link, reason: "gone".into() });
                        }
                    }
                }
            }
        }
        panic!("the nodes never come to rest");
    }

    fn measure(&mut self, n: usize) {
        let disk = &self.disks[n];
        let spools = Disk::files(disk, FileKind::Spool).unwrap();
        let bytes: u64 = spools.iter().map(|file| Disk::len(disk, *file).unwrap()).sum();
        self.spool_max = self.spool_max.max(bytes);
        let waiting = self.nodes[n].store_ref().waiting_len();
        self.waiting_max = self.waiting_max.max(waiting);
    }

    /// Lets time pass: a second of it at once, in which the enemy acts if it may.
    fn pass(&mut self, seconds: u64, enemy: bool) {
        for _ in 0..seconds {
            self.now_ms += 1000;
            let now = self.now();
            for n in 0..self.nodes.len() {
                if self.wakes[n].is_some_and(|at| at <= now.mono) {
                    self.input(n, Input::Tick);
                    let next = self.wakes[n];
                    assert!(next.is_none_or(|at| at > now.mono), "node {n} never sleeps again");
                }
            }
            if enemy {
                let actions = self.enemy.tick(now);
                self.act(actions);
            }
            self.run();
        }
    }

    fn put(&mut self, n: usize) {
        self.now_ms += 1;
        self.writes += 1;
        let (now, space) = (self.now(), self.space);
        let json = Json::parse(self.writes.to_string().as_bytes()).unwrap();
        let key = |name: String| Key::new(&name).unwrap();
        let op = |key, op| KeyOp { key, op, retype: true, expect: None };
        let ops = vec![
            op(key(format!("key-{}", self.writes % 7)), Op::Put(json)),
            op(key("count".into()), Op::CounterAdd(1)),
        ];
        self.nodes[n].store().write(now, Write { space, ops, ..Write::default() }).unwrap();
        self.drain(n);
        self.run();
    }

    /// What a node holds: the two hashes, and all keys with their values as text.
    fn state(&mut self, n: usize) -> (String, String, Vec<String>) {
        let space = self.space;
        let store = self.nodes[n].store();
        let state = store.state_hash(&space).unwrap().unwrap();
        let value = store.value_hash(&space).unwrap();
        let page = store.list(&space, "", None, 100_000, None).unwrap();
        let keys = page.keys.iter();
        let keys = keys.map(|(key, view)| format!("{key} {:?} {:?}", view.value, view.version));
        (hex(&state), hex(&value), keys.collect())
    }

    fn disk_bytes(&self, n: usize) -> u64 {
        let files = self.disks[n].all_files();
        files.iter().map(|file| Disk::len(&self.disks[n], *file).unwrap()).sum()
    }
}

/// Three honest nodes in a row, all attacked, who write meanwhile; the enemy comes back whenever it
/// was closed, honest nodes do when they part.
fn attacked(attack: Attack, rounds: usize) -> World {
    let mut world = World::new(attack, 3);
    for n in 0..3 {
        world.put(n);
    }
    for round in 0..rounds {
        for (a, b) in [(0, 1), (1, 2)] {
            if !world.linked(a, b) {
                world.connect(a, b);
            }
        }
        for (a, b) in [(ENEMY, 0), (1, ENEMY), (ENEMY, 2)] {
            if !world.linked(a, b) {
                world.connect(a, b);
            }
        }
        world.put(round % 3);
        world.pass(2, true);
    }
    world
}

/// Lets the honest nodes talk to each other, the enemy still there but at rest.
fn heal(world: &mut World) {
    for (a, b) in [(0, 1), (1, 2)] {
        if !world.linked(a, b) {
            world.connect(a, b);
        }
    }
    world.pass(200, false);
    let (now, peer) = (world.now(), world.replica(1));
    world.reports.clear();
    world.nodes[0].sync_with(now, peer);
    world.drain(0);
    world.run();
}

/// What holds under every attack. Returns the world for what holds under this one.
fn holds(attack: Attack) -> World {
    let mut world = attacked(attack, ROUNDS);
    heal(&mut world);
    let first = world.state(0);
    let count = format!("count Counter({})", 3 + ROUNDS);
    assert!(first.2.iter().any(|line| line.starts_with(&count)), "{attack}: {:?}", first.2);
    for n in 1..3 {
        assert_eq!(world.state(n), first, "{attack}: node {n} differs from node 0");
    }
    // A request by an honest node is still answered.
    let (_, report) = world.reports.pop().unwrap();
    assert!(report.in_sync, "{attack}: {report:?}");
    stored_is_sound(&mut world, attack);
    // Whoever comes fresh checks everything anew, and ends with the same.
    let fresh = world.start();
    world.connect(fresh, 2);
    world.pass(130, false);
    assert_eq!(world.state(fresh), first, "{attack}: a fresh replica differs");
    bounded(&world, attack);
    world
}

/// What lies on the disks passes its checks, and all judge forks alike.
fn stored_is_sound(world: &mut World, attack: Attack) {
    let space = world.space;
    let mut verdicts = Vec::new();
    for n in 0..3 {
        let store = world.nodes[n].store();
        for tip in store.frontier(&space).unwrap() {
            for seq in 1..=tip.seq {
                store.check_commit(&space, &tip.log, seq).unwrap();
            }
        }
        let closed = store.closed_logs(&space).unwrap();
        let tips = |(log, _): &(LogId, u64)| store.branch_tips(&space, log).unwrap();
        let branches: Vec<Vec<Tip>> = closed.iter().map(tips).collect();
        verdicts.push((closed, branches));
        assert_eq!(verify(&Arc::clone(&world.disks[n]), true).unwrap().problems, []);
    }
    let same = verdicts.iter().all(|verdict| *verdict == verdicts[0]);
    assert!(same, "{attack}: verdicts on forks: {verdicts:?}");
}

/// Quantities that stand for memory and disk.
fn bounded(world: &World, attack: Attack) {
    // A waiting commit takes half a kilobyte and its leaves out of a quarter of the memory.
    assert!(world.waiting_max <= MEMORY_BYTES / 4 / 512, "{attack}: {}", world.waiting_max);
    // One chunk of the largest size for each link and stream.
    let spools = 4 * 2 * CHUNK_WHOLE_BYTES_MAX as u64;
    assert!(world.spool_max <= spools, "{attack}: {} spooled", world.spool_max);
    assert!(world.outbox_max <= 64, "{attack}: {} outputs", world.outbox_max);
    for n in 0..3 {
        let (bytes, sent) = (world.disk_bytes(n), world.from_enemy);
        // It sends a large commit once, and the others get it from whoever took it: each has it in
        // its log, and folded in a sidecar.
        let places = if attack == Attack::HugeCommits { 2 } else { 1 };
        assert!(bytes <= places * sent + (4 << 20), "{attack}: {bytes} on disk, {sent} were sent");
    }
    // Honest nodes never part over it.
    let parted = world.closes.iter().find(|(_, peer, _, _)| *peer != ENEMY);
    assert_eq!(parted, None, "{attack}");
}

impl World {
    /// The codes with which honest nodes sent the enemy away.
    fn codes(&self) -> BTreeSet<Code> {
        self.closes.iter().map(|(_, _, code, _)| *code).collect()
    }

    /// How many commits each log of the enemy's has on a node.
    fn of_enemy(&mut self, n: usize) -> Vec<u64> {
        let (space, enemy) = (self.space, self.enemy.replica());
        let frontier = self.nodes[n].store().frontier(&space).unwrap();
        frontier.iter().filter(|tip| tip.log.replica == enemy).map(|tip| tip.seq).collect()
    }

    fn closed_logs(&mut self) -> usize {
        let space = self.space;
        self.nodes[0].store().closed_logs(&space).unwrap().len()
    }
}

/// How often the honest nodes write under an attack, and the enemy acts twice.
const ROUNDS: usize = 24;

#[test]
fn what_fails_its_checks_is_stored_nowhere_and_ends_the_connection() {
    let attacks = [Attack::BadHash, Attack::BadSignature, Attack::Hollow, Attack::Impersonate];
    for attack in attacks {
        let mut world = holds(attack);
        assert_eq!(world.codes(), BTreeSet::from([Code::PROTOCOL]), "{attack}");
        for n in 0..3 {
            assert_eq!(world.of_enemy(n), [0_u64; 0], "{attack}");
        }
    }
}

#[test]
fn a_log_that_is_told_in_two_ways_is_closed_on_every_node() {
    // Who forks is not sent away; who builds upon a branch by what is not valid is.
    let sent_away = BTreeSet::from([Code::PROTOCOL]);
    for (attack, codes) in [(Attack::Forks, BTreeSet::new()), (Attack::Branches, sent_away)] {
        let mut world = holds(attack);
        assert!(world.closed_logs() > 0, "{attack}");
        assert_eq!(world.codes(), codes, "{attack}");
    }
}

#[test]
fn commits_whose_past_is_kept_back_wait_in_a_bounded_room() {
    let mut world = holds(Attack::WithheldDeps);
    assert!(world.waiting_max > 20);
    for n in 0..3 {
        assert_eq!(world.of_enemy(n), [0_u64; 0]);
    }
}

#[test]
fn a_commit_that_turns_out_invalid_parts_no_honest_nodes() {
    let mut world = holds(Attack::LateInvalid);
    assert!(world.of_enemy(0).len() > 20, "what the invalid ones waited for is valid");
    assert!(world.waiting_max > 0);
    assert_eq!(world.nodes[0].store().waiting_len(), 0);
}

#[test]
fn what_is_no_frame_ends_the_connection() {
    for attack in [Attack::Oversize, Attack::Endless, Attack::LateGarbage] {
        assert_eq!(holds(attack).codes(), BTreeSet::from([Code::PROTOCOL]), "{attack}");
    }
    assert!(holds(Attack::Garbage).codes().contains(&Code::PROTOCOL));
    assert_eq!(holds(Attack::UnknownVersion).codes(), BTreeSet::from([Code::VERSION]));
}

#[test]
fn who_says_too_little_is_waited_for_in_vain() {
    for attack in [Attack::Trickle, Attack::Truncated, Attack::Silent, Attack::InflatedFrontier] {
        assert_eq!(holds(attack).codes(), BTreeSet::new(), "{attack}");
    }
    assert_eq!(holds(Attack::Mute).codes(), BTreeSet::from([Code::TIMEOUT]));
}

#[test]
fn a_clock_that_is_ahead_is_waited_for() {
    let mut world = holds(Attack::FutureClock);
    for n in 0..3 {
        assert_eq!(world.of_enemy(n), [0_u64; 0], "a year ahead is not taken");
        assert!(world.nodes[n].store().waiting_len() > 0);
    }
    world.now_ms += 366 * 24 * 60 * 60 * 1000;
    world.pass(130, false);
    for n in 0..3 {
        assert_eq!(world.of_enemy(n), world.of_enemy(0), "nor is it ever refused");
        assert_eq!(world.of_enemy(n).len(), 1);
    }
}

#[test]
fn valid_masses_are_taken_at_no_more_than_their_own_size() {
    let mut world = holds(Attack::HugeCommits);
    assert_eq!(world.of_enemy(0), [2]);
    assert!(world.spool_max > 8 << 20, "they came in parts");
    let mut world = holds(Attack::Sybil);
    let space = world.space;
    let logs = world.nodes[0].store().frontier(&space).unwrap().len();
    assert_eq!(logs, 1003, "each log of the enemy's is as good as any");
}

#[test]
fn floods_and_old_words_change_nothing() {
    let flood = holds(Attack::RequestFlood);
    assert!(flood.to_enemy <= flood.from_enemy, "{} {}", flood.to_enemy, flood.from_enemy);
    for attack in [Attack::ProofFlood, Attack::Replay] {
        assert_eq!(holds(attack).codes(), BTreeSet::from([Code::PROTOCOL]), "{attack}");
    }
}

#[test]
fn an_attack_is_a_function_of_its_seed() {
    for attack in Attack::ALL {
        let (one, other) = (attacked(attack, 3), attacked(attack, 3));
        assert_eq!(one.trace, other.trace, "{attack}");
        assert_eq!(one.from_enemy > 0, attack != Attack::Mute, "{attack}");
    }
}

#[test]
fn an_attack_has_one_name() {
    for attack in Attack::ALL {
        assert_eq!(attack.to_string().parse(), Ok(attack));
    }
    let names: BTreeSet<&str> = Attack::ALL.iter().map(|attack| attack.name()).collect();
    assert_eq!(names.len(), Attack::ALL.len());
    assert!("nonsense".parse::<Attack>().is_err());
}
