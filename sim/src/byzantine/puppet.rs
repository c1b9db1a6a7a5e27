//! A real node on a disk in memory, whose words pass through a liar's hands.
//!
//! What it holds and how it syncs is honest; what is made of its frames is not its business.

use std::sync::Arc;

use kdelta_engine::base::{Hash, Key, Now, Rng, SpaceId, sha256};
use kdelta_engine::crdt::Op;
use kdelta_engine::event::KeyPair;
use kdelta_engine::log::{Disk, MemoryDisk};
use kdelta_engine::node::{Config, Input, LinkId, Node, Output};
use kdelta_engine::store::{KeyOp, Options, Store, Write};

/// A node that is driven by hand.
#[derive(Debug)]
pub(super) struct Puppet {
    node: Node<Arc<MemoryDisk>>,
    disk: Arc<MemoryDisk>,
    key: KeyPair,
    space: SpaceId,
    written: u64,
}

/// What a puppet wants done on a link: bytes to be sent, or none to close it.
pub(super) type Wish = (LinkId, Option<Vec<u8>>);

impl Puppet {
    /// Starts one on an empty disk; none if the engine refuses.
    pub(super) fn new(seed: &Hash, key: &KeyPair, now: Now, space: SpaceId) -> Option<Self> {
        Self::start(Arc::new(MemoryDisk::new()), seed, key, now, space)
    }

    /// Starts another on a copy of the disk, under the same key, in the same life.
    pub(super) fn copy(&self, seed: &Hash, now: Now) -> Option<Self> {
        Self::start(Arc::new(self.disk.snapshot()), seed, &self.key, now, self.space)
    }

    fn start(
        disk: Arc<MemoryDisk>,
        seed: &Hash,
        key: &KeyPair,
        now: Now,
        space: SpaceId,
    ) -> Option<Self> {
        let options = Options { memory_bytes: 8 << 20, segment_bytes: 4 << 20, place: None };
        let opened = Store::open(Arc::clone(&disk), key.clone(), *seed, now, options);
        let (mut store, _) = opened.ok()?;
        if !store.has_space(&space) {
            store.join_space(space, "default").ok()?;
        }
        let config = Config { open: true, keep_connected: false, agent: "puppet".to_owned() };
        let rng = Rng::new(sha256("kdelta/sim/puppet", &[seed]));
        let node = Node::new(store, config, rng, now);
        Some(Self { node, disk, key: key.clone(), space, written: 0 })
    }

    /// Takes an input and returns what the node wants done.
    pub(super) fn handle(&mut self, now: Now, input: Input) -> Vec<Wish> {
        self.node.handle(now, input);
        self.drain(now)
    }

    /// Writes one commit of so many values of so many bytes, each under a key of its own.
    pub(super) fn write(&mut self, now: Now, prefix: &str, values: u64, bytes: usize) -> Vec<Wish> {
        let mut ops = Vec::new();
        for _ in 0..values {
            self.written += 1;
            let name = format!("{prefix}-{}", self.written);
            let Ok(key) = Key::new(&name) else { return Vec::new() };
            let op = Op::PutBytes(vec![b'b'; bytes].into());
            ops.push(KeyOp { key, op, retype: true, expect: None });
        }
        // A store that refuses writes nothing, and then there is nothing to tell.
        let _ = self.node.store().write(now, Write { space: self.space, ops, ..Write::default() });
        self.drain(now)
    }

    /// Takes forged commits into the store, to be synced like honest ones.
    pub(super) fn take(&mut self, now: Now, chunk: &[u8]) -> Vec<Wish> {
        let _ = self.node.store().insert_chunk(now, chunk);
        self.drain(now)
    }

    fn drain(&mut self, now: Now) -> Vec<Wish> {
        let mut wishes = Vec::new();
        loop {
            match self.node.poll() {
                Output::Wait(_) => return wishes,
                Output::Sync(ticket) => {
                    let result = Disk::sync(&self.disk, ticket.file);
                    self.node.handle(now, Input::Synced(ticket, result));
                }
                Output::Send { link, bytes } => wishes.push((link, Some(bytes))),
                Output::Close { link, .. } => wishes.push((link, None)),
                Output::Admit { .. }
                | Output::Dial { .. }
                | Output::SessionBegan { .. }
                | Output::SessionEnded { .. }
                | Output::JobDone { .. } => {}
            }
        }
    }
}
