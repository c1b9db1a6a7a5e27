//! What nodes promise each other, over queues in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use kdelta_engine::base::{Hash, Instant, Key, Now, Rng, Sha256Stream, SpaceId, WallTime};
use kdelta_engine::crdt::Op;
use kdelta_engine::event::KeyPair;
use kdelta_engine::log::{Disk as _, MemoryDisk};
use kdelta_engine::node::{Config, Input, LinkId, Node, Output, Report};
use kdelta_engine::store::{KeyOp, Options, Store, Write};

use crate::store::{json, now};

/// Nodes of one space; a link joins two of them and has the same name on both sides.
struct World {
    nodes: Vec<Node<Arc<MemoryDisk>>>,
    disks: Vec<Arc<MemoryDisk>>,
    links: Vec<(usize, usize)>,
    mail: VecDeque<(usize, LinkId, Vec<u8>)>,
    /// The disks do not get to syncing.
    is_busy: bool,
    reports: Vec<Report>,
    dialled: u32,
    said: Sha256Stream,
    space: SpaceId,
}

impl World {
    fn new(count: u8) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            disks: Vec::new(),
            links: Vec::new(),
            mail: VecDeque::new(),
            is_busy: false,
            reports: Vec::new(),
            dialled: 0,
            said: Sha256Stream::new("said"),
            space: SpaceId::default(),
        };
        for n in 0..count {
            let disk = Arc::new(MemoryDisk::new());
            let options = Options { memory_bytes: 1 << 20, segment_bytes: 64 << 10, place: None };
            let key = KeyPair::from_seed([n + 1; 32]);
            let (mut store, _) =
                Store::open(Arc::clone(&disk), key, [n; 32], now(0), options).unwrap();
            match n {
                0 => world.space = store.create_space(now(0), "default").unwrap(),
                _ => store.join_space(world.space, "default").unwrap(),
            }
            let config = Config { open: true, keep_connected: true, agent: String::new() };
            world.nodes.push(Node::new(store, config, Rng::new([n; 32]), now(0)));
            world.disks.push(disk);
        }
        world.run();
        world
    }

    fn input(&mut self, n: usize, input: Input) {
        self.nodes[n].handle(now(1), input);
    }

    fn connect(&mut self, a: usize, b: usize) -> LinkId {
        let link = LinkId(self.links.len() as u64);
        self.links.push((a, b));
        let [of_a, of_b] = [a, b].map(|n| self.nodes[n].store_ref().replica());
        self.input(a, Input::Connected { link, peer: of_b, outgoing: true });
        self.input(b, Input::Connected { link, peer: of_a, outgoing: false });
        self.run();
        link
    }

    fn cut(&mut self, link: LinkId) {
        let (a, b) = self.links[usize::try_from(link.0).unwrap()];
        for n in [a, b] {
            self.input(n, Input::Closed { link, reason: String::new() });
        }
        self.run();
    }

    fn run(&mut self) {
        loop {
            for n in 0..self.nodes.len() {
                self.drain(n);
            }
            let Some((to, link, bytes)) = self.mail.pop_front() else { return };
            self.input(to, Input::Received { link, bytes });
        }
    }

    fn drain(&mut self, n: usize) {
        loop {
            match self.nodes[n].poll() {
                Output::Wait(_) => return,
                Output::Sync(_) if self.is_busy => {}
                Output::Sync(ticket) => {
                    let result = self.disks[n].sync(ticket.file);
                    self.input(n, Input::Synced(ticket, result));
                }
                Output::Send { link, bytes } => {
                    self.said.update(&bytes);
                    let (a, b) = self.links[usize::try_from(link.0).unwrap()];
                    self.mail.push_back((a + b - n, link, bytes));
                }
                Output::JobDone { report, .. } => self.reports.push(report),
                Output::Dial { .. } => self.dialled += 1,
                _ => {}
            }
        }
    }

    fn put(&mut self, n: usize, at: Now, key: &str) {
        let op = Op::Put(json("1"));
        let ops = vec![KeyOp { key: Key::new(key).unwrap(), op, retype: false, expect: None }];
        let write = Write { space: self.space, ops, ..Write::default() };
        self.nodes[n].store().write(at, write).unwrap();
        self.run();
    }

    fn shows(&mut self, n: usize, key: &str) -> bool {
        let space = self.space;
        self.nodes[n].store().get(&space, &Key::new(key).unwrap(), None).unwrap().is_some()
    }
}

pub(crate) fn nothing_leaves_before_it_is_durable() -> bool {
    let mut world = World::new(2);
    world.connect(0, 1);
    world.is_busy = true;
    world.put(0, now(2), "key");
    !world.shows(1, "key")
}

pub(crate) fn what_was_missed_comes_with_the_next_connection() -> bool {
    let mut world = World::new(2);
    let link = world.connect(0, 1);
    world.cut(link);
    world.put(0, now(2), "key");
    world.connect(0, 1);
    world.shows(1, "key")
}

pub(crate) fn news_pass_through_a_third_replica() -> bool {
    let mut world = World::new(3);
    world.connect(0, 1);
    world.connect(1, 2);
    world.put(0, now(2), "key");
    world.shows(2, "key")
}

pub(crate) fn news_reach_all_who_are_connected() -> bool {
    let mut world = World::new(3);
    world.connect(0, 1);
    world.connect(0, 2);
    world.put(0, now(2), "key");
    world.shows(1, "key") && world.shows(2, "key")
}

/// Node 0 writes, and what node 1 passes on of it comes to node 2 later than from node 0.
fn write_around(world: &mut World, key: &str) {
    let op = Op::Put(json("1"));
    let ops = vec![KeyOp { key: Key::new(key).unwrap(), op, retype: false, expect: None }];
    let write = Write { space: world.space, ops, ..Write::default() };
    world.nodes[0].store().write(now(2), write).unwrap();
    world.drain(0);
    let (to_2, to_1): (VecDeque<_>, VecDeque<_>) =
        std::mem::take(&mut world.mail).into_iter().partition(|(to, ..)| *to == 2);
    to_1.into_iter().for_each(|(to, link, bytes)| {
        world.input(to, Input::Received { link, bytes });
    });
    world.drain(1);
    let late = std::mem::replace(&mut world.mail, to_2);
    for (to, link, bytes) in std::mem::take(&mut world.mail).into_iter().chain(late) {
        world.input(to, Input::Received { link, bytes });
    }
    world.run();
}

/// A triangle in which the link between nodes 1 and 2 is one too many, and was found to be.
fn triangle() -> (World, LinkId) {
    let mut world = World::new(3);
    world.connect(0, 1);
    let link = world.connect(0, 2);
    world.connect(1, 2);
    write_around(&mut world, "first");
    (world, link)
}

pub(crate) fn what_came_twice_comes_once() -> bool {
    let (mut world, _) = triangle();
    let before = world.nodes[2].spreading();
    assert_eq!((before.pushes, before.duplicates, before.prunes), (2, 1, 1));
    write_around(&mut world, "second");
    world.nodes[2].spreading().duplicates == before.duplicates
}

pub(crate) fn who_is_pushed_nothing_is_told() -> bool {
    let (mut world, link) = triangle();
    world.cut(link);
    world.put(0, now(2), "second");
    assert!(world.shows(1, "second") && !world.shows(2, "second"));
    for ms in [200, 1_500, 3_000] {
        for n in 0..3 {
            let mono = Instant(now(1).mono.0 + ms * 1_000_000);
            world.nodes[n].handle(Now { mono, ..now(1) }, Input::Tick);
            world.run();
        }
    }
    world.shows(2, "second")
}

pub(crate) fn two_runs_say_the_same() -> bool {
    // Both worlds stand at once, so that they lie at different addresses.
    let worlds = [(); 2].map(|()| {
        let mut world = World::new(2);
        world.connect(0, 1);
        world
    });
    let [one, other]: [Hash; 2] = worlds.map(|world| world.said.finish());
    one == other
}

/// The wall clock goes back by an hour while the peer is away.
pub(crate) fn a_lost_peer_is_dialled_again() -> bool {
    let mut world = World::new(2);
    let (space, peer) = (world.space, world.nodes[1].store_ref().replica());
    let known = world.nodes[0].store().edit_local(|local| {
        let known = local.peer_mut(peer).unwrap();
        known.addresses.push("there".to_owned());
        known.admitted.push(space);
    });
    known.unwrap();
    world.input(0, Input::Tick);
    world.run();
    let before = world.dialled;
    assert_eq!(before, 1, "it is dialled at first");
    let link = world.connect(0, 1);
    world.cut(link);
    let (mono, wall) = (Instant(600_000_000_000), WallTime(now(0).wall.0 - 3_600_000));
    world.nodes[0].handle(Now { mono, wall }, Input::Tick);
    world.run();
    world.dialled > before
}

pub(crate) fn who_lacks_something_is_not_in_sync() -> bool {
    let mut world = World::new(2);
    let link = world.connect(0, 1);
    world.cut(link);
    // It waits at the other side, which takes it for a commit from the future.
    world.put(0, now(3_600_000), "key");
    let peer = world.nodes[0].store_ref().replica();
    world.connect(1, 0);
    world.nodes[1].sync_with(now(2), peer);
    world.run();
    assert!(!world.shows(1, "key"));
    matches!(&world.reports[..], [report] if !report.in_sync)
}
