//! Where a script plays: the replica under test on a watched disk, and perhaps a peer.
//!
//! Each step drives the engine as a host would and then tells the model what was written, what is
//! durable, and what the peer got to see. The peer's disk never fails.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use kdelta_engine::base::{CommitId, Instant, Key, LogId, Now, Rng, SpaceId, WallTime, sha256};
use kdelta_engine::event::{KeyPair, Tag};
use kdelta_engine::log::{CrashMode, Disk, MemoryDisk};
use kdelta_engine::node::{Config, Input, LinkId, Node, Output};
use kdelta_engine::store::{KeyOp, Local, Opened, Options, Store, Write};

use super::model::{Act, Entry, Model, Place};
use super::probe::Probe;
use super::tickets::Issued;

/// Why a script could not go on.
#[derive(Debug)]
pub(crate) struct Halt(pub(crate) String);

impl Halt {
    pub(crate) fn because(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

pub(crate) type Done = Result<(), Halt>;

/// Commits of each log of each space that a side has seen.
type Held = BTreeMap<SpaceId, BTreeMap<LogId, u64>>;

/// The peer.
pub(crate) struct Peer {
    pub(crate) node: Node<Arc<MemoryDisk>>,
    pub(crate) disk: Arc<MemoryDisk>,
    held: Held,
}

/// What a watcher of the disk may look at.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) model: Model,
    /// The peer's disk and the seed of its key.
    pub(crate) peer: Option<(Arc<MemoryDisk>, u8)>,
    /// How stores are set up here.
    pub(crate) segment_bytes: u32,
    /// Nobody is admitted without a ticket.
    pub(crate) closed: bool,
    /// The ticket that was issued last.
    pub(crate) issued: Option<Issued>,
}

/// The stage of one script.
pub(crate) struct Stage {
    pub(crate) probe: Probe,
    pub(crate) shared: Rc<RefCell<Shared>>,
    node: Option<Node<Probe>>,
    pub(crate) peer: Option<Peer>,
    held: Held,
    space: SpaceId,
    ms: u64,
    lives: u64,
    link: u64,
}

/// Opens a store as all stores here are opened, and puts a node around it.
///
/// # Errors
/// Why it could not be opened, in words.
pub(crate) fn open<D: Disk + Clone>(
    disk: D,
    key: u8,
    life: u64,
    now: Now,
    segment_bytes: u32,
) -> Result<(Node<D>, Opened), Halt> {
    let options = Options { memory_bytes: 4 << 20, segment_bytes, place: None };
    let seed = sha256("kdelta/sim/crashes/open", &[&[key], &life.to_le_bytes()]);
    let pair = KeyPair::from_seed([key; 32]);
    let (store, opened) = Store::open(disk, pair, seed, now, options).map_err(Halt::because)?;
    let config = Config { open: true, ..shut() };
    Ok((Node::new(store, config, Rng::new(seed), now), opened))
}

/// How a node behaves that admits nobody by itself.
pub(crate) fn shut() -> Config {
    Config { agent: "crashes".to_owned(), ..Config::default() }
}

/// The clocks so many milliseconds after the beginning.
pub(crate) fn clocks(ms: u64) -> Now {
    Now { mono: Instant(ms * 1_000_000), wall: WallTime(BEGIN_MS + ms) }
}

/// Does what one node asks for until it waits, its messages reaching the other at once; calls
/// `told` after each sync and each message. Tells whether anything happened.
pub(crate) fn drain<A: Disk + Clone, B: Disk + Clone>(
    from: &mut Node<A>,
    disk: &A,
    to: &mut Node<B>,
    now: Now,
    told: &mut dyn FnMut(&Store<A>, &Store<B>),
) -> bool {
    let mut any = false;
    loop {
        match from.poll() {
            Output::Wait(_) => return any,
            Output::Sync(ticket) => {
                let result = Disk::sync(disk, ticket.file);
                from.handle(now, Input::Synced(ticket, result));
            }
            Output::Send { link, bytes } => to.handle(now, Input::Received { link, bytes }),
            Output::Close { link, text, .. } => {
                to.handle(now, Input::Closed { link, reason: text });
            }
            _ => continue,
        }
        any = true;
        told(from.store_ref(), to.store_ref());
    }
}

impl Stage {
    /// Sets up a stage; nothing is open yet.
    pub(crate) fn new(probe: Probe, shared: Rc<RefCell<Shared>>) -> Self {
        Self {
            probe,
            shared,
            node: None,
            peer: None,
            held: Held::new(),
            space: SpaceId::default(),
            ms: 0,
            lives: 0,
            link: 0,
        }
    }

    /// Returns the clocks, one millisecond later than before.
    pub(crate) fn now(&mut self) -> Now {
        self.ms += 1;
        clocks(self.ms)
    }

    /// Returns the node of the replica under test.
    pub(crate) fn node(&mut self) -> Result<&mut Node<Probe>, Halt> {
        self.node.as_mut().ok_or_else(|| Halt("the replica is not open".to_owned()))
    }

    pub(crate) fn store(&mut self) -> Result<&mut Store<Probe>, Halt> {
        Ok(self.node()?.store())
    }

    /// Opens the replica under test; what it holds then is durable.
    pub(crate) fn open(&mut self) -> Done {
        self.lives += 1;
        let (now, segment_bytes) = (self.now(), self.shared.borrow().segment_bytes);
        let (mut node, _) = open(self.probe.clone(), SUBJECT_KEY, self.lives, now, segment_bytes)?;
        if self.shared.borrow().closed {
            node.set_config(shut());
        }
        self.node = Some(node);
        self.settle(true)
    }

    /// Ends the replica in order.
    pub(crate) fn close(&mut self) -> Done {
        self.store()?.close().map_err(Halt::because)?;
        self.note();
        self.node = None;
        Ok(())
    }

    /// Cuts the power under the replica under test.
    pub(crate) fn cut_power(&mut self, mode: CrashMode, seed: u8) {
        self.node = None;
        self.probe.disk().crash(mode, &mut Rng::new([seed; 32]));
    }

    /// Puts an old state of the disk back: what came later is known to the peer at most.
    pub(crate) fn set_back(&mut self, old: MemoryDisk) -> Done {
        self.node = None;
        let (now, segment_bytes) = (self.now(), self.shared.borrow().segment_bytes);
        let (look, _) = open(Arc::new(old.snapshot()), SUBJECT_KEY, 0, now, segment_bytes)?;
        settle(look.store_ref(), &mut self.shared.borrow_mut().model);
        self.probe.set_disk(old);
        Ok(())
    }

    /// Brings the model in line with what the replica holds after something was lost or taken back.
    pub(crate) fn settle(&mut self, is_durable: bool) -> Done {
        let shared = Rc::clone(&self.shared);
        let store = self.store()?;
        let mut shared = shared.borrow_mut();
        settle(store, &mut shared.model);
        let mut all = Held::new();
        for space in &store.local().spaces {
            for tip in store.frontier(&space.id).map_err(Halt::because)? {
                all.entry(space.id).or_default().insert(tip.log, tip.seq);
                if is_durable {
                    shared.model.durable_upto(space.id, tip.log, tip.seq);
                }
            }
        }
        drop(shared);
        self.held = all;
        Ok(())
    }

    /// Makes a space; writes go there until another is made or joined.
    pub(crate) fn create(&mut self, name: &str) -> Done {
        let now = self.now();
        let store = self.store()?;
        let space = store.create_space(now, name).map_err(Halt::because)?;
        let stamp = Some(store.written());
        let log = store.frontier(&space).map_err(Halt::because)?.first().map(|tip| tip.log);
        let log = log.ok_or_else(|| Halt("the genesis is not there".to_owned()))?;
        let hlc = store.last_hlc(&space).map_err(Halt::because)?;
        let entry = Entry { hlc, stamp, ..founding(space) };
        self.shared.borrow_mut().model.wrote((space, log, 1), entry);
        self.held.entry(space).or_default().insert(log, 1);
        self.space = space;
        Ok(())
    }

    /// Joins the space of the peer, under a name.
    pub(crate) fn join(&mut self, name: &str) -> Done {
        let space = match &mut self.peer {
            Some(peer) => peer.node.store().space_named("default"),
            None => None,
        };
        let space = space.ok_or_else(|| Halt("the peer has no space".to_owned()))?;
        self.store()?.join_space(space, name).map_err(Halt::because)?;
        self.shared.borrow_mut().model.spaces.insert(space, name.to_owned());
        self.space = space;
        Ok(())
    }

    /// Writes into the space that was made or joined last, and leaves it in the open group.
    pub(crate) fn write(&mut self, acts: &[(&str, Act)]) -> Done {
        self.write_tagged(acts, None)
    }

    /// Writes, and gives a tag to the commit, or with `false` takes it away.
    pub(crate) fn write_tagged(&mut self, acts: &[(&str, Act)], tag: Option<(&str, bool)>) -> Done {
        let (now, space) = (self.now(), self.space);
        let write = asked(space, acts, tag)?;
        let node = self.node.as_mut().ok_or_else(|| Halt("the replica is not open".to_owned()))?;
        let (place, mut entry) = wrote(node.store(), &mut self.held, now, write, acts, tag)?;
        entry.stamp = Some(node.store_ref().written());
        self.shared.borrow_mut().model.wrote(place, entry);
        Ok(())
    }

    /// Writes and waits for the disk.
    pub(crate) fn put(&mut self, acts: &[(&str, Act)]) -> Done {
        self.write(acts)?;
        self.sync()
    }

    /// Waits for the disk.
    pub(crate) fn sync(&mut self) -> Done {
        let synced = self.store()?.sync();
        self.note();
        synced.map_err(Halt::because)
    }

    /// Hands the open group to the disk without waiting for it.
    pub(crate) fn flush(&mut self) -> Done {
        self.store()?.flush().map_err(Halt::because)
    }

    /// Marks what is durable, as a host does when nothing else is to be done.
    pub(crate) fn idle(&mut self) -> Done {
        self.store()?.idle_mark().map_err(Halt::because).map(drop)
    }

    /// Changes whom the replica admits.
    pub(crate) fn edit(&mut self, edit: impl Fn(&mut Local)) -> Done {
        let mut after = self.store()?.local().clone();
        edit(&mut after);
        let shared = Rc::clone(&self.shared);
        if shared.borrow().model.local.is_empty() {
            let before = self.store()?.local().clone();
            shared.borrow_mut().model.local(&before, true);
        }
        shared.borrow_mut().model.local(&after, false);
        self.store()?.edit_local(edit).map_err(Halt::because)?;
        shared.borrow_mut().model.local(&after, true);
        Ok(())
    }

    /// Takes note of what the replica says is durable.
    pub(crate) fn note(&mut self) {
        if let Some(node) = &self.node {
            note(node.store_ref(), &mut self.shared.borrow_mut().model);
        }
    }

    /// Starts a peer on a disk. It shares the key of the replica under test if `key` is that one's.
    pub(crate) fn start_peer(&mut self, disk: MemoryDisk, key: u8) -> Done {
        let disk = Arc::new(disk);
        let (now, segment_bytes) = (self.now(), self.shared.borrow().segment_bytes);
        let (mut node, _) = open(Arc::clone(&disk), key, 1000 + self.lives, now, segment_bytes)?;
        if self.shared.borrow().closed {
            node.set_config(shut());
        }
        self.shared.borrow_mut().peer = Some((Arc::clone(&disk), key));
        self.peer = Some(Peer { node, disk, held: Held::new() });
        Ok(())
    }

    /// The peer joins the space that was made last, or makes one if there is none.
    pub(crate) fn peer_joins(&mut self) -> Done {
        let (now, space) = (self.now(), self.space);
        let Some(peer) = &mut self.peer else { return Err(Halt("no peer".to_owned())) };
        let store = peer.node.store();
        if space != SpaceId::default() {
            return store.join_space(space, "default").map_err(Halt::because);
        }
        let space = store.create_space(now, "default").map_err(Halt::because)?;
        store.sync().map_err(Halt::because)?;
        let tips = store.frontier(&space).map_err(Halt::because)?;
        let hlc = store.last_hlc(&space).map_err(Halt::because)?;
        for tip in tips {
            let entry = Entry { hlc, ..founding(space) };
            self.shared.borrow_mut().model.wrote((space, tip.log, 1), entry);
            peer.held.entry(space).or_default().insert(tip.log, 1);
        }
        Ok(())
    }

    /// The peer writes and waits for its disk.
    pub(crate) fn peer_puts(&mut self, acts: &[(&str, Act)]) -> Done {
        let now = self.now();
        let Some(peer) = &mut self.peer else { return Err(Halt("no peer".to_owned())) };
        let space = peer.node.store().space_named("default").unwrap_or_default();
        let write = asked(space, acts, None)?;
        let wrote = wrote(peer.node.store(), &mut peer.held, now, write, acts, None)?;
        peer.node.store().sync().map_err(Halt::because)?;
        let is_twin = Some(peer.node.store_ref().replica())
            == self.node.as_ref().map(|node| node.store_ref().replica());
        let model = &mut self.shared.borrow_mut().model;
        if is_twin {
            model.twin.push(wrote.1);
        } else {
            model.wrote(wrote.0, wrote.1);
        }
        Ok(())
    }

    /// Connects both and lets everything happen that follows.
    pub(crate) fn connect(&mut self) -> Result<LinkId, Halt> {
        self.connect_as(true)
    }

    /// Connects both, dialled by the replica under test or by the peer.
    pub(crate) fn connect_as(&mut self, outgoing: bool) -> Result<LinkId, Halt> {
        self.link += 1;
        let (link, now) = (LinkId(self.link), self.now());
        let (node, peer) = match (&mut self.node, &mut self.peer) {
            (Some(node), Some(peer)) => (node, peer),
            _ => return Err(Halt("two are needed to connect".to_owned())),
        };
        let (id, far) = (node.store_ref().replica(), peer.node.store_ref().replica());
        node.handle(now, Input::Connected { link, peer: far, outgoing });
        peer.node.handle(now, Input::Connected { link, peer: id, outgoing: !outgoing });
        self.run()?;
        Ok(link)
    }

    /// Breaks the connection.
    pub(crate) fn disconnect(&mut self, link: LinkId) -> Done {
        let now = self.now();
        if let Some(node) = &mut self.node {
            node.handle(now, Input::Closed { link, reason: "cut".to_owned() });
        }
        if let Some(peer) = &mut self.peer {
            peer.node.handle(now, Input::Closed { link, reason: "cut".to_owned() });
        }
        self.run()
    }

    /// Lets everything happen that is on its way.
    pub(crate) fn run(&mut self) -> Done {
        let now = self.now();
        let shared = Rc::clone(&self.shared);
        let (node, peer) = match (&mut self.node, &mut self.peer) {
            (Some(node), Some(peer)) => (node, peer),
            _ => return Ok(()),
        };
        for _ in 0..ROUNDS_MAX {
            let there = drain(node, &self.probe, &mut peer.node, now, &mut |own, far| {
                told(own, far, &mut shared.borrow_mut().model);
            });
            let back = drain(&mut peer.node, &peer.disk, node, now, &mut |far, own| {
                told(own, far, &mut shared.borrow_mut().model);
            });
            if !there && !back {
                union(&mut self.held, &mut peer.held);
                return Ok(());
            }
        }
        Err(Halt("the two never come to rest".to_owned()))
    }
}

/// What was written, by name, and what is known of it.
fn wrote<D: Disk + Clone>(
    store: &mut Store<D>,
    held: &mut Held,
    now: Now,
    write: Write,
    acts: &[(&str, Act)],
    tag: Option<(&str, bool)>,
) -> Result<(Place, Entry), Halt> {
    let space = write.space;
    let written = store.write(now, write).map_err(Halt::because)?;
    let past = held.entry(space).or_default();
    let entry = Entry {
        id: written.tip.id,
        hlc: written.hlc,
        past: past.clone(),
        acts: acts.iter().map(|(key, act)| ((*key).to_owned(), act.clone())).collect(),
        tag: tag.map(|(name, stands)| (name.to_owned(), stands)),
        stamp: None,
        acked: false,
    };
    past.insert(written.tip.log, written.tip.seq);
    Ok(((space, written.tip.log, written.tip.seq), entry))
}

/// A space's first commit; its stamp is still to be filled in.
fn founding(space: SpaceId) -> Entry {
    let (id, past) = (CommitId(space.0), BTreeMap::new());
    let (hlc, acts) = (kdelta_engine::base::Hlc::default(), Vec::new());
    Entry { id, hlc, past, acts, tag: None, stamp: None, acked: false }
}

fn asked(space: SpaceId, acts: &[(&str, Act)], tag: Option<(&str, bool)>) -> Result<Write, Halt> {
    let mut ops = Vec::new();
    for (key, act) in acts {
        let key = Key::new(key).map_err(Halt::because)?;
        let op = act.op().ok_or_else(|| Halt("no such op".to_owned()))?;
        ops.push(KeyOp { key, op, retype: false, expect: None });
    }
    let tag = tag.map(|(name, stands)| {
        let name = name.to_owned();
        if stands { Tag::Create { name, at: None } } else { Tag::Delete { name } }
    });
    Ok(Write { space, ops, tag, ..Write::default() })
}

/// Forgets what the replica wrote and does not hold any more.
fn settle<D: Disk + Clone>(store: &Store<D>, model: &mut Model) {
    model.settle(|(space, log, seq): &Place, id: &CommitId| {
        store.id_at(space, log, *seq).is_some_and(|found| found == *id)
    });
}

/// Takes note of what the store says is durable.
fn note<D: Disk + Clone>(store: &Store<D>, model: &mut Model) {
    let durable = store.durable();
    model.durable(durable);
    if durable < store.written() {
        return;
    }
    for space in store.local().spaces.iter().filter(|space| !space.retired) {
        let frontier = store.frontier(&space.id).unwrap_or_default();
        if !frontier.is_empty() {
            model.spaces.insert(space.id, space.name.clone());
        }
        for tip in frontier {
            model.durable_upto(space.id, tip.log, tip.seq);
        }
    }
}

/// Takes note of what is durable here, and of what the peer got to see of our logs.
fn told<A: Disk + Clone, B: Disk + Clone>(own: &Store<A>, far: &Store<B>, model: &mut Model) {
    note(own, model);
    let replica = own.replica();
    if replica == far.replica() {
        return;
    }
    for space in &far.local().spaces {
        for tip in far.frontier(&space.id).unwrap_or_default() {
            if tip.log.replica != replica {
                continue;
            }
            let of_log = (space.id, tip.log, 0)..=(space.id, tip.log, u64::MAX);
            let known = model.seen.range(of_log).next_back().map_or(0, |((_, _, seq), _)| *seq);
            for seq in known + 1..=tip.seq {
                if let Some(id) = far.id_at(&space.id, &tip.log, seq) {
                    model.seen.insert((space.id, tip.log, seq), id);
                }
            }
        }
    }
}

/// Both sides have seen what either had.
fn union(a: &mut Held, b: &mut Held) {
    for (space, logs) in std::mem::take(a) {
        let of_space = b.entry(space).or_default();
        for (log, seq) in logs {
            let last = of_space.entry(log).or_default();
            *last = (*last).max(seq);
        }
    }
    a.clone_from(b);
}

/// The seed of the key of the replica under test.
pub(crate) const SUBJECT_KEY: u8 = 1;
/// The seed of the peer's key.
pub(crate) const PEER_KEY: u8 = 2;
/// When a script begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// After so many turns two that still talk never end.
const ROUNDS_MAX: usize = 10_000;
