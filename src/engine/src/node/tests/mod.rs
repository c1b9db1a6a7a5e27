//! Nodes that talk to each other over queues in memory.

mod acks;
mod branches;
mod damage;
mod forks;
mod hostile;
mod nearby;
mod places;
mod rights;
mod short;
mod spread;
mod tickets;

use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::base::{CommitId, Key, WallTime};
use crate::crdt::{Json, Op, Value};
use crate::event::KeyPair;
use crate::log::MemoryDisk;
use crate::store::tests::pass;
use crate::store::{KeyOp, Options, Run, Serving, Write, WriteError};

type TestNode = Node<Arc<MemoryDisk>>;

/// Nodes, the connections between them, and what is on its way.
struct World {
    now_ms: u64,
    nodes: Vec<TestNode>,
    disks: Vec<Arc<MemoryDisk>>,
    /// Whose key each node has.
    keys: Vec<u8>,
    /// For each link and side: which node, at which link id, is at the far end.
    wires: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    mail: VecDeque<(usize, LinkId, Vec<u8>)>,
    /// After so many deliveries everything stops.
    mail_max: Option<usize>,
    reports: Vec<(usize, Report)>,
    /// Who wanted to connect to whom, and where.
    dials: Vec<(usize, ReplicaId, Vec<String>)>,
    next_link: u64,
}

impl World {
    fn new(count: u8) -> Self {
        let disks: Vec<_> = (0..count).map(|_| Arc::new(MemoryDisk::new())).collect();
        let mut world = Self {
            now_ms: 1_700_000_000_000,
            nodes: Vec::new(),
            disks,
            keys: (1..=count).collect(),
            wires: BTreeMap::new(),
            mail: VecDeque::new(),
            mail_max: None,
            reports: Vec::new(),
            dials: Vec::new(),
            next_link: 1,
        };
        for n in 0..count {
            let node = world.open(n);
            world.nodes.push(node);
        }
        world
    }

    /// Starts a copy of a node's disk as a node of its own, under the same key.
    fn twin(&mut self, of: usize) -> usize {
        let twin = self.nodes.len();
        self.disks.push(Arc::new(self.disks[of].snapshot()));
        self.keys.push(self.keys[of]);
        let node = self.open(u8::try_from(twin).unwrap());
        self.nodes.push(node);
        twin
    }

    fn open(&self, n: u8) -> TestNode {
        let options = Options { memory_bytes: 4 << 20, segment_bytes: 64 << 10, place: None };
        let disk = Arc::clone(&self.disks[usize::from(n)]);
        let key = KeyPair::from_seed([self.keys[usize::from(n)]; 32]);
        let seed = crate::base::sha256("test", &[&[n], &self.now_ms.to_le_bytes()]);
        let (store, _) = Store::open(disk, key, seed, self.now(), options).unwrap();
        let config = Config { open: true, ..Config::default() };
        Node::new(store, config, Rng::new([n + 100; 32]), self.now())
    }

    fn now(&self) -> Now {
        Now { mono: Instant(self.now_ms * 1_000_000), wall: WallTime(self.now_ms) }
    }

    fn input(&mut self, n: usize, input: Input) {
        let now = self.now();
        self.nodes[n].handle(now, input);
    }

    /// Makes the space `default` on the first node and joins it on the others, which have its
    /// genesis from the beginning.
    fn share(&mut self) -> SpaceId {
        let now = self.now();
        let (first, others) = self.nodes.split_first_mut().unwrap();
        let space = first.store().create_space(now, "default").unwrap();
        first.store().sync().unwrap();
        for other in others {
            other.store().join_space(space, "default").unwrap();
            pass(first.store(), other.store(), space);
            other.store().sync().unwrap();
        }
        self.run();
        space
    }

    fn connect(&mut self, a: usize, b: usize) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.wires.insert((a, link), (b, link));
        self.wires.insert((b, link), (a, link));
        let (id_a, id_b) = (self.nodes[a].store().replica(), self.nodes[b].store().replica());
        self.input(a, Input::Connected { link, peer: id_b, outgoing: true });
        self.input(b, Input::Connected { link, peer: id_a, outgoing: false });
        self.run();
        link
    }

    fn cut(&mut self, link: LinkId) {
        let ends: Vec<usize> =
            self.wires.keys().filter(|(_, l)| *l == link).map(|(n, _)| *n).collect();
        self.wires.retain(|(_, l), _| *l != link);
        for n in ends {
            self.input(n, Input::Closed { link, reason: "cut".into() });
        }
        self.run();
    }

    /// Lets everything happen that is on its way.
    fn run(&mut self) {
        for _ in 0..200_000 {
            let mut idle = true;
            for n in 0..self.nodes.len() {
                loop {
                    match self.nodes[n].poll() {
                        Output::Wait(_) => break,
                        Output::Sync(ticket) => {
                            let result = Disk::sync(&self.disks[n], ticket.file);
                            self.input(n, Input::Synced(ticket, result));
                        }
                        Output::Send { link, bytes } => {
                            if let Some((to, link)) = self.wires.get(&(n, link)) {
                                self.mail.push_back((*to, *link, bytes));
                            }
                        }
                        Output::JobDone { report, .. } => self.reports.push((n, report)),
                        Output::Dial { peer, addresses } => {
                            self.dials.push((n, peer, addresses));
                        }
                        _ => {}
                    }
                    idle = false;
                }
            }
            if self.mail_max == Some(0) {
                return;
            }
            if let Some((n, link, bytes)) = self.mail.pop_front() {
                self.mail_max = self.mail_max.map(|left| left - 1);
                self.input(n, Input::Received { link, bytes });
                idle = false;
            }
            if idle {
                return;
            }
        }
        panic!("the nodes never come to rest");
    }

    fn ops(&mut self, n: usize, ops: Vec<(&str, Op)>) -> CommitId {
        self.now_ms += 1;
        let now = self.now();
        let store = self.nodes[n].store();
        let space = store.space_named("default").unwrap();
        let ops = ops
            .into_iter()
            .map(|(key, op)| KeyOp { key: Key::new(key).unwrap(), op, retype: true, expect: None })
            .collect();
        let written = store.write(now, Write { space, ops, ..Write::default() }).unwrap();
        written.tip.id
    }

    fn put(&mut self, n: usize, key: &str, json: &str) -> CommitId {
        self.ops(n, vec![(key, Op::Put(Json::parse(json.as_bytes()).unwrap()))])
    }

    fn show(&mut self, n: usize, key: &str) -> Option<String> {
        let store = self.nodes[n].store();
        let space = store.space_named("default").unwrap();
        let view = store.get(&space, &Key::new(key).unwrap(), None).unwrap()?;
        Some(match view.value {
            Value::Json(json) => String::from_utf8(json.as_bytes().to_vec()).unwrap(),
            other => format!("{other:?}"),
        })
    }

    fn hashes(&mut self, n: usize) -> ([u8; 32], [u8; 32]) {
        let store = self.nodes[n].store();
        let space = store.space_named("default").unwrap();
        (store.state_hash(&space).unwrap().unwrap(), store.value_hash(&space).unwrap())
    }

    #[track_caller]
    fn assert_equal(&mut self) {
        let first = self.hashes(0);
        for n in 1..self.nodes.len() {
            assert_eq!(self.hashes(n), first, "node {n} differs from node 0");
        }
    }
}

#[test]
fn what_one_writes_the_other_reads() {
    let mut world = World::new(2);
    world.share();
    world.put(0, "a", "1");
    world.connect(0, 1);
    assert_eq!(world.show(1, "a").as_deref(), Some("1"));
    world.put(1, "b", "2");
    world.run();
    assert_eq!(world.show(0, "b").as_deref(), Some("2"), "pushed without being asked");
    world.put(0, "b", "3");
    world.ops(0, vec![("a", Op::Delete)]);
    world.run();
    assert_eq!(world.show(1, "b").as_deref(), Some("3"), "updates travel");
    assert_eq!(world.show(1, "a"), None, "deletes travel");
    world.assert_equal();
}

#[test]
fn both_sides_of_a_cut_merge() {
    let mut world = World::new(2);
    world.share();
    let link = world.connect(0, 1);
    let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
    for n in 0..2 {
        world.ops(n, vec![("count", Op::CounterAdd(1))]);
        world.run();
    }
    world.cut(link);
    for n in 0..2 {
        let own = format!("\"side {n}\"");
        world.put(n, "register", &own);
        for _ in 0..10 {
            world.ops(n, vec![("count", Op::CounterAdd(5))]);
        }
        world.ops(n, vec![("set", Op::SetAdd(vec![json(&own), json("\"both\"")]))]);
        world
            .ops(n, vec![("map", Op::MapPut { field: format!("f{n}").into(), value: json(&own) })]);
        world.run();
    }
    world.ops(1, vec![("set", Op::SetRemove(vec![json("\"both\"")]))]);
    world.run();
    world.connect(0, 1);
    world.assert_equal();
    assert!(world.show(0, "count").unwrap().contains("102"), "{:?}", world.show(0, "count"));
    let set = world.show(0, "set").unwrap();
    assert_eq!(world.show(1, "set"), Some(set));
    let space = world.nodes[0].store().space_named("default").unwrap();
    let key = Key::new("register").unwrap();
    let view = world.nodes[0].store().get(&space, &key, None).unwrap().unwrap();
    assert_eq!(view.conflicts.len(), 1, "the other value is kept and shown");
}

#[test]
fn a_relay_passes_on_what_it_got() {
    let mut world = World::new(3);
    world.share();
    world.put(0, "early", "1");
    world.connect(0, 1);
    world.connect(1, 2);
    world.put(0, "late", "2");
    world.put(2, "back", "3");
    world.run();
    assert_eq!(world.show(2, "early").as_deref(), Some("1"));
    assert_eq!(world.show(2, "late").as_deref(), Some("2"));
    assert_eq!(world.show(0, "back").as_deref(), Some("3"));
    world.assert_equal();
}

#[test]
fn what_is_taken_of_a_log_is_handed_on_though_the_rest_waits() {
    let mut world = World::new(4);
    let space = world.share();
    world.put(0, "first", "1");
    world.put(1, "needed", "2");
    for other in [3, 0] {
        // Node 3 must not learn of what node 0 wrote.
        let link = world.connect(1, other);
        world.cut(link);
    }
    assert_eq!(world.show(0, "needed").as_deref(), Some("2"));
    world.put(0, "needed", "3");
    world.run();

    // Of node 0's log node 2 gets all, but can take all but the last: that builds upon what
    // node 1 wrote.
    let log = world.nodes[0].store().own_log().unwrap();
    let written = world.nodes[0].store().version(&space).unwrap().get(&log);
    let mut serving = Serving::new([Run { log, after: 0, upto: written }]);
    let chunk = world.nodes[0].store().next_chunk(&space, &mut serving, 1 << 16).unwrap().unwrap();
    let now = world.now();
    let inserted = world.nodes[2].store().insert_chunk(now, &chunk.bytes).unwrap();
    assert_eq!((inserted.commits, inserted.waiting), (1, 1));
    world.run();

    // What waited is gone after a restart. Nobody ever meets node 0 again.
    world.nodes[2] = world.open(2);
    let upto = written - 1;
    let mut serving = Serving::new([Run { log, after: 0, upto }]);
    world.nodes[2].store().next_chunk(&space, &mut serving, 1 << 16).unwrap().unwrap();
    world.connect(2, 3);
    assert_eq!(world.show(3, "first").as_deref(), Some("1"));
    assert_eq!(world.show(2, "needed").as_deref(), Some("2"));
    assert_eq!(world.hashes(3), world.hashes(2));
}

#[test]
fn who_asks_for_a_sync_is_told_of_all_that_was_written_before() {
    for steps in 0..12 {
        let mut world = World::new(2);
        world.share();
        world.put(0, "early", "1");
        // Somewhere in the first session.
        world.mail_max = Some(steps);
        world.connect(0, 1);
        world.put(0, "late", "2");
        let (now, peer) = (world.now(), world.nodes[1].store().replica());
        world.nodes[0].sync_with(now, peer);
        while world.reports.is_empty() {
            world.mail_max = Some(1);
            world.run();
        }
        assert!(world.reports[0].1.in_sync, "{:?}", world.reports);
        assert_eq!(world.show(1, "late").as_deref(), Some("2"), "after {steps} messages");
    }
}

#[test]
fn a_long_history_reaches_a_fresh_replica() {
    let mut world = World::new(2);
    world.share();
    for i in 0..3000u32 {
        world.put(0, &format!("key-{}", i % 100), &i.to_string());
        if i % 50 == 0 {
            world.run();
        }
    }
    world.run();
    world.connect(0, 1);
    world.assert_equal();
    let peer = world.nodes[1].store().replica();
    let now = world.now();
    world.nodes[0].sync_with(now, peer);
    world.run();
    let (_, report) = world.reports.pop().unwrap();
    assert!(report.in_sync, "{report:?}");
    assert_eq!(report.sent_events, 3000);
}

#[test]
fn large_commits_travel_in_parts_and_leave_no_spool() {
    let mut world = World::new(2);
    world.share();
    // Left by a process that was killed in the middle.
    let left = crate::log::FileId::new(crate::log::FileKind::Spool, 7);
    world.disks[1].write(left, 0, b"part").unwrap();
    world.nodes[1] = world.open(1);
    assert!(world.disks[1].files(left.kind).unwrap().is_empty());
    let large = |byte: u8| Op::PutBytes(vec![byte; 3 << 20].into());
    world.ops(0, vec![("asked", large(1)), ("too", large(2))]);
    let link = world.connect(0, 1);
    world.assert_equal();
    world.ops(0, vec![("pushed", large(3))]);
    world.run();
    world.assert_equal();
    world.cut(link);
    assert!(world.disks[1].files(left.kind).unwrap().is_empty());
    // A link that breaks off between two parts leaves nothing either, and the next one brings all.
    world.ops(0, vec![("cut", large(4))]);
    let link = LinkId(world.next_link);
    world.mail_max = Some(6);
    world.connect(0, 1);
    world.mail_max = None;
    world.mail.clear();
    world.cut(link);
    assert!(world.disks[1].files(left.kind).unwrap().is_empty());
    world.connect(0, 1);
    world.assert_equal();
}

#[test]
fn a_replica_that_comes_back_goes_on_where_it_was() {
    let mut world = World::new(2);
    world.share();
    for round in 0..4 {
        let link = world.connect(0, 1);
        for i in 0..50 {
            world.put(round % 2, &format!("key-{i}"), &format!("{}", round * 100 + i));
        }
        world.run();
        world.cut(link);
        world.put(0, "mine", &round.to_string());
        world.put(1, "yours", &round.to_string());
        world.run();
        world.nodes.pop().unwrap().into_store().close().unwrap();
        let again = world.open(1);
        world.nodes.push(again);
    }
    world.connect(1, 0);
    world.assert_equal();
}

/// Goal: a bit that rots in a log never changes an answer in silence, and a peer makes it whole.
///
/// Method: flip one bit of a store that was closed in order, at places all over its files; read
/// every key; repair with the peer that holds the same; compare.
#[test]
fn a_rotten_bit_is_told_and_repaired_from_a_peer() {
    let mut world = World::new(2);
    world.share();
    world.connect(0, 1);
    for i in 0..120u32 {
        world.put((i % 2) as usize, &format!("key-{}", i % 40), &i.to_string());
        world.ops(0, vec![("count", Op::CounterAdd(1))]);
        world.run();
    }
    let whole = world.hashes(0);
    let values: Vec<_> = (0..40).map(|i| world.show(0, &format!("key-{i}"))).collect();
    world.nodes.pop().unwrap().into_store().close().unwrap();
    let pristine = world.disks[1].snapshot();
    let mut rng = Rng::new([7; 32]);
    for round in 0..24 {
        world.disks[1] = Arc::new(pristine.snapshot());
        let segments = world.disks[1].files(crate::log::FileKind::Segment).unwrap();
        let file = segments[round % segments.len()];
        let bits = world.disks[1].len(file).unwrap() * 8;
        assert!(world.disks[1].flip_bit(file, rng.below(bits)), "the bit is in the file");
        let found = crate::store::verify(&world.disks[1], false).unwrap();
        assert!(!found.problems.is_empty(), "round {round}: the flip is found");
        let node = world.open(1);
        world.nodes.push(node);
        let store = world.nodes[1].store();
        let space = store.space_named("default").unwrap();
        for (i, value) in values.iter().enumerate() {
            let key = Key::new(&format!("key-{i}")).unwrap();
            match store.get(&space, &key, None) {
                Ok(view) => {
                    let shown = view.map(|view| match view.value {
                        Value::Json(json) => json.as_str().to_owned(),
                        other => panic!("{other:?}"),
                    });
                    assert_eq!(&shown, value, "round {round}, {key}");
                }
                Err(crate::store::ReadError::Damaged(_)) => {}
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        store.begin_repair().unwrap();
        world.connect(0, 1);
        let repaired = world.nodes[1].store().finish_repair().unwrap();
        assert!(repaired.missing.is_empty(), "round {round}: {repaired:?}");
        assert_eq!(world.hashes(1), whole, "round {round}");
        world.run();
        world.nodes.pop().unwrap().into_store().close().unwrap();
        let again = crate::store::verify(&world.disks[1], true).unwrap();
        assert_eq!(again.problems, [], "round {round}");
        let peers: Vec<LinkId> = world.wires.keys().map(|(_, link)| *link).collect();
        world.wires.clear();
        for link in peers {
            world.input(0, Input::Closed { link, reason: "cut".into() });
        }
    }
}

#[test]
fn one_loss_begins_one_new_life() {
    let mut world = World::new(1);
    world.share();
    for i in 0..20u32 {
        world.put(0, "key", &i.to_string());
    }
    world.nodes.pop().unwrap().into_store().close().unwrap();
    let segments = world.disks[0].files(crate::log::FileKind::Segment).unwrap();
    let bits = world.disks[0].len(segments[0]).unwrap() * 8;
    assert!(world.disks[0].flip_bit(segments[0], bits / 2), "the bit is in the file");
    let mut lives = Vec::new();
    for _ in 0..3 {
        // The seed of a store depends on the time here: no two openings draw the same.
        world.now_ms += 1;
        let node = world.open(0);
        world.nodes.push(node);
        // Another key: what the damaged one holds cannot be told, so that writing it is refused.
        let now = world.now();
        let store = world.nodes[0].store();
        let space = store.space_named("default").unwrap();
        let op = Op::CounterAdd(1);
        let ops = vec![KeyOp { key: Key::new("other").unwrap(), op, retype: false, expect: None }];
        let refused = store.write(now, Write { space, ops, ..Write::default() });
        assert!(matches!(refused, Err(WriteError::Read(_))), "{refused:?}");
        store.create_space(now, &format!("space-{}", lives.len())).unwrap();
        lives.push(store.local().incarnation);
        world.nodes.pop().unwrap().into_store().close().unwrap();
    }
    assert_eq!(lives[0], lives[1]);
    assert_eq!(lives[1], lives[2]);
    assert_eq!(
        Store::<Arc<MemoryDisk>>::open(
            Arc::clone(&world.disks[0]),
            KeyPair::from_seed([1; 32]),
            [0; 32],
            world.now(),
            Options { memory_bytes: 1 << 20, segment_bytes: 64 << 10, place: None },
        )
        .unwrap()
        .0
        .local()
        .past_incarnations
        .len(),
        1,
        "the life before is remembered"
    );
}

#[test]
fn what_the_disk_took_back_is_not_told_to_peers_later() {
    let mut world = World::new(2);
    let space = world.share();
    world.put(0, "a", "1");
    world.connect(0, 1);
    // While one group is synced the next one is on its way out already.
    world.put(0, "b", "1");
    let Output::Sync(ticket) = world.nodes[0].poll() else { panic!("a sync is due") };
    world.put(0, "c", "1");
    while !matches!(world.nodes[0].poll(), Output::Wait(_)) {}
    let held = world.nodes[0].outbox_len();
    assert!(held > 0, "the push waits for the disk");
    let result = Disk::sync(&world.disks[0], ticket.file);
    world.disks[0].faults(|faults| faults.read_only = true);
    world.input(0, Input::Synced(ticket, result));
    world.run();
    world.disks[0].faults(|faults| faults.read_only = false);
    world.put(0, "d", "1");
    world.run();
    world.connect(0, 1);
    for n in 0..2 {
        let shown = ["a", "b", "c", "d"].map(|key| world.show(n, key).is_some());
        assert_eq!(shown, [true, true, false, true], "on {n}");
        assert!(world.nodes[n].store().closed_logs(&space).unwrap().is_empty());
    }
}

#[test]
fn an_opening_that_comes_after_its_session_was_given_up_is_not_answered() {
    for sessions in [1, 3] {
        let mut world = World::new(2);
        let space = world.share();
        world.put(0, "a", "1");
        let link = world.connect(0, 1);
        for _ in 0..sessions {
            world.nodes[0].open_session(link, space);
            world.nodes[0].refuse(link, space, Code::TROUBLE, "the disk is full");
            world.nodes[0].drain(link, space);
        }
        // It comes to rest, and the next session is none the worse for it.
        world.run();
        world.put(1, "b", "2");
        world.nodes[0].open_session(link, space);
        world.run();
        assert!(world.nodes[0].peers()[0].in_sync);
        world.assert_equal();
    }
}

#[test]
fn an_opening_that_comes_twice_is_answered_once() {
    let mut world = World::new(2);
    let space = world.share();
    world.put(0, "a", "1");
    let link = world.connect(0, 1);
    world.mail_max = Some(0);
    world.nodes[0].open_session(link, space);
    world.run();
    let opening = world.mail.back().cloned().unwrap();
    world.mail.push_back(opening);
    world.mail_max = None;
    world.run();
    world.assert_equal();
}
