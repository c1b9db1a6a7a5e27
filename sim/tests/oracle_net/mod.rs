//! Real nodes on disks in memory that hand each other their messages at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kdelta_engine::base::{Instant, Key, Now, Rng, SpaceId, WallTime, sha256};
use kdelta_engine::crdt::{Json, Op};
use kdelta_engine::event::{KeyPair, Tag};
use kdelta_engine::log::{CrashMode, Disk, FileId, MemoryDisk};
use kdelta_engine::node::{Config, Input, LinkId, Node, Output};
use kdelta_engine::store::{KeyOp, Opened, Options, Store, Write};
use kdelta_sim::oracle::read_image;

type TestStore = Store<Arc<MemoryDisk>>;

/// The whole content of every file of a disk.
pub(crate) fn files(disk: &MemoryDisk) -> BTreeMap<FileId, Vec<u8>> {
    let all = disk.all_files().into_iter();
    all.filter_map(|file| Some((file, disk.content(file)?))).collect()
}

/// Some nodes, and who is connected with whom.
pub(crate) struct Net {
    pub(crate) nodes: Vec<Node<Arc<MemoryDisk>>>,
    pub(crate) disks: Vec<Arc<MemoryDisk>>,
    pub(crate) space: SpaceId,
    keys: Vec<u8>,
    now_ms: u64,
    links: BTreeMap<LinkId, [usize; 2]>,
    next: u64,
    mail: VecDeque<(usize, Input)>,
}

impl Net {
    pub(crate) fn new(count: u8) -> Self {
        let mut net = Self {
            nodes: Vec::new(),
            disks: Vec::new(),
            space: SpaceId::default(),
            keys: Vec::new(),
            now_ms: 1_700_000_000_000,
            links: BTreeMap::new(),
            next: 1,
            mail: VecDeque::new(),
        };
        for key in 1..=count {
            net.start(key, Arc::new(MemoryDisk::new()));
        }
        let now = net.now();
        net.space = net.nodes[0].store().create_space(now, "default").unwrap();
        for node in &mut net.nodes[1..] {
            node.store().join_space(net.space, "default").unwrap();
        }
        net
    }

    fn now(&self) -> Now {
        Now { mono: Instant(self.now_ms * 1_000_000), wall: WallTime(self.now_ms) }
    }

    fn start(&mut self, key: u8, disk: Arc<MemoryDisk>) {
        self.keys.push(key);
        let (store, _) = self.open(self.nodes.len(), &disk);
        self.disks.push(disk);
        let node = self.around(store);
        self.nodes.push(node);
    }

    /// Opens the store on a disk under the key of a node.
    pub(crate) fn open(&self, n: usize, disk: &Arc<MemoryDisk>) -> (TestStore, Opened) {
        let options = Options { memory_bytes: 1 << 20, segment_bytes: 8 << 10, place: None };
        let key = KeyPair::from_seed([self.keys[n]; 32]);
        let seed =
            sha256("oracle/open", &[&[u8::try_from(n).unwrap()], &self.now_ms.to_le_bytes()]);
        Store::open(Arc::clone(disk), key, seed, self.now(), options).unwrap()
    }

    fn around(&self, store: TestStore) -> Node<Arc<MemoryDisk>> {
        let config = Config { open: true, ..Config::default() };
        let seed = sha256("oracle/node", &[&self.next.to_le_bytes(), &self.now_ms.to_le_bytes()]);
        Node::new(store, config, Rng::new(seed), self.now())
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        if a == b || self.links.values().any(|ends| ends.contains(&a) && ends.contains(&b)) {
            return;
        }
        let link = LinkId(self.next);
        self.next += 1;
        self.links.insert(link, [a, b]);
        for (end, far, outgoing) in [(a, b, true), (b, a, false)] {
            let peer = self.nodes[far].store().replica();
            self.mail.push_back((end, Input::Connected { link, peer, outgoing }));
        }
        self.run();
    }

    /// Breaks off all connections of a node.
    pub(crate) fn cut(&mut self, n: usize) {
        let of_it: Vec<LinkId> =
            self.links.iter().filter(|(_, ends)| ends.contains(&n)).map(|(id, _)| *id).collect();
        of_it.into_iter().for_each(|link| self.close(link));
        self.run();
    }

    fn close(&mut self, link: LinkId) {
        for end in self.links.remove(&link).into_iter().flatten() {
            self.mail.push_back((end, Input::Closed { link, reason: "cut".to_owned() }));
        }
    }

    /// The power of a node fails; what its disk holds then is read.
    pub(crate) fn crash(&mut self, n: usize, mode: CrashMode, rng: &mut Rng) {
        self.cut(n);
        self.disks[n].crash(mode, rng);
        if let Err(fault) = read_image(&files(&self.disks[n])) {
            panic!("after {mode:?}: {fault}");
        }
    }

    pub(crate) fn restart(&mut self, n: usize) {
        let (store, _) = self.open(n, &Arc::clone(&self.disks[n]));
        self.nodes[n] = self.around(store);
    }

    /// Starts a copy of a node's disk beside it, under the same key.
    pub(crate) fn copy(&mut self, n: usize) {
        let disk = Arc::new(self.disks[n].snapshot());
        disk.crash(CrashMode::LoseAll, &mut Rng::new([1; 32]));
        self.start(self.keys[n], disk);
        self.run();
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        for n in 0..self.nodes.len() {
            self.mail.push_back((n, Input::Tick));
        }
        self.run();
    }

    /// Connects all with all, again and again: two copies under one key take each other's place in
    /// the eyes of a third.
    pub(crate) fn meet(&mut self) {
        for _ in 0..12 {
            for a in 0..self.nodes.len() {
                for b in 0..a {
                    self.connect(a, b);
                }
            }
            for _ in 0..14 {
                self.wait(5_000);
            }
        }
    }

    fn run(&mut self) {
        for n in 0..self.nodes.len() {
            self.poll(n);
        }
        while let Some((n, input)) = self.mail.pop_front() {
            let gone = match &input {
                Input::Received { link, .. } => !self.links.contains_key(link),
                _ => false,
            };
            if !gone {
                let now = self.now();
                self.nodes[n].handle(now, input);
                self.poll(n);
            }
        }
    }

    fn poll(&mut self, n: usize) {
        loop {
            match self.nodes[n].poll() {
                Output::Wait(_) => return,
                Output::Sync(ticket) => {
                    let result = Disk::sync(&self.disks[n], ticket.file);
                    let now = self.now();
                    self.nodes[n].handle(now, Input::Synced(ticket, result));
                }
                Output::Send { link, bytes } => {
                    if let Some([a, b]) = self.links.get(&link).copied() {
                        let to = if a == n { b } else { a };
                        self.mail.push_back((to, Input::Received { link, bytes }));
                    }
                }
                Output::Close { link, .. } => self.close(link),
                _ => {}
            }
        }
    }

    /// Writes something: ops of every type on few keys, so that much is concurrent. Some of it is
    /// not made durable yet.
    pub(crate) fn write(&mut self, n: usize, rng: &mut Rng) {
        self.now_ms += rng.below(3);
        let ops: Vec<KeyOp> = (0..1 + rng.below(4) * rng.below(2)).map(|_| op(rng)).collect();
        let note = (rng.below(6) == 0).then(|| b"{\"by\":1}"[..].into());
        let request_id = (rng.below(8) == 0).then(|| rng.bytes::<4>().to_vec());
        let tag = (rng.below(9) == 0).then(|| self.tag(n, rng));
        let write = Write { space: self.space, ops, note, tag, request_id };
        // Some are refused: a key of another type, nothing to delete, a sum too large.
        let now = self.now();
        let _ = self.nodes[n].store().write(now, write);
        if rng.below(3) > 0 {
            self.run();
        }
    }

    fn tag(&mut self, n: usize, rng: &mut Rng) -> Tag {
        let name = format!("tag-{}", rng.below(3));
        match rng.below(4) {
            0 => Tag::Delete { name },
            1 => {
                let heads = self.nodes[n].store().frontier(&self.space).ok();
                let at = heads.filter(|heads| !heads.is_empty());
                Tag::Create { name, at }
            }
            _ => Tag::Create { name, at: None },
        }
    }
}

fn op(rng: &mut Rng) -> KeyOp {
    let json = |text: String| Json::parse(text.as_bytes()).unwrap();
    let kind = rng.below(5);
    let small = rng.below(4);
    let field = format!("f{small}").into();
    let op = match (kind, rng.below(8)) {
        (_, 0) => Op::Delete,
        (0, _) => Op::Put(json(format!("\"{}\"", "r".repeat(1 << rng.below(9))))),
        (1, _) => Op::PutBytes(rng.bytes::<9>()[..].into()),
        (2, 1) => Op::CounterAdd(i64::MAX / 2),
        (2, _) => Op::CounterAdd(i64::try_from(rng.below(100)).unwrap() - 40),
        (3, 1..=4) => Op::SetAdd((0..=small).map(|n| json(n.to_string())).collect()),
        (3, _) => Op::SetRemove(vec![json(small.to_string())]),
        (_, 1..=5) => Op::MapPut { field, value: json(format!("[{}]", rng.below(9))) },
        _ => Op::MapDelete { field },
    };
    // Mostly each type has keys of its own.
    let home = if rng.below(12) == 0 { rng.below(5) } else { kind };
    let key = Key::new(&format!("key-{home}-{}", rng.below(2))).unwrap();
    KeyOp { key, op, retype: rng.below(10) == 0, expect: None }
}
