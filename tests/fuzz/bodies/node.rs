//! A real node that is told anything by anybody.

use std::sync::Arc;

use kdelta_engine::base::{Reader, Rng, Writer};
use kdelta_engine::crdt::{Json, Op};
use kdelta_engine::log::{CrashMode, Disk as _, MemoryDisk};
use kdelta_engine::node::{Config, Input, LinkId, Node, Output};
use kdelta_engine::store::{Write, verify};
use kdelta_engine::sync::{Decoder, Message, encode, parts};

use super::wire::vouched;
use super::world::{self, held, key, key_op, look, now, same};

/// What happens to the node; the first byte of a step. The others are free.
pub mod step {
    /// Bytes come in on the newest link.
    pub const BYTES: u8 = 0;
    /// A frame comes in: its kind is the first byte, its length is right.
    pub const FRAME: u8 = 1;
    /// A peer connects: who, and whether this side dialled.
    pub const CONNECT: u8 = 2;
    /// The newest link closes.
    pub const CLOSE: u8 = 3;
    /// So many milliseconds pass (two bytes).
    pub const TIME: u8 = 4;
    /// The node's user writes.
    pub const WRITE: u8 = 5;
    /// The power goes, and the node starts again.
    pub const CRASH: u8 = 6;
    /// A chunk is pushed, with vouchers by its authors.
    pub const PUSH: u8 = 7;
}

/// One node and what surrounds it.
pub struct Place {
    node: Node<Arc<MemoryDisk>>,
    disk: Arc<MemoryDisk>,
    at_ms: u64,
    links: u64,
    /// What the node sends.
    pub sent: Vec<Vec<u8>>,
}

impl Place {
    /// Starts replica `number` on its disk.
    pub fn new(disk: MemoryDisk, number: u8) -> Self {
        let disk = Arc::new(disk);
        let node = start(&disk, number, 1000);
        Self { node, disk, at_ms: 1000, links: 0, sent: Vec::new() }
    }

    /// Carries out one step.
    pub fn step(&mut self, kind: u8, bytes: &[u8]) {
        let link = LinkId(self.links);
        let first = bytes.first().copied().unwrap_or_default();
        match kind {
            step::BYTES => self.input(Input::Received { link, bytes: bytes.to_vec() }),
            step::FRAME => {
                let mut frame = Vec::new();
                frame.put_varint(first.into());
                frame.put_bytes(bytes.get(1..).unwrap_or_default());
                self.input(Input::Received { link, bytes: frame });
            }
            step::CONNECT => {
                self.links += 1;
                let (link, peer) = (LinkId(self.links), key(first % 4 + 2).id());
                self.input(Input::Connected { link, peer, outgoing: first & 0x80 != 0 });
            }
            step::CLOSE => self.input(Input::Closed { link, reason: "closed".to_owned() }),
            step::TIME => {
                self.at_ms += bytes.iter().take(2).fold(0, |ms, byte| ms << 8 | u64::from(*byte));
                self.input(Input::Tick);
            }
            step::WRITE => {
                let op = Op::Put(Json::parse(first.to_string().as_bytes()).unwrap());
                let write =
                    Write { space: held().space, ops: vec![key_op("own", op)], ..Write::default() };
                self.node.store().write(now(self.at_ms), write).expect("a sound disk");
                self.rest();
            }
            step::CRASH => {
                self.disk.crash(CrashMode::LoseAll, &mut Rng::new([first; 32]));
                self.node = start(&self.disk, 1, self.at_ms);
                self.rest();
            }
            step::PUSH => {
                let Some(chunk) = vouched(bytes) else { return };
                for (bytes, more) in parts(chunk) {
                    let message = Message::Push { space: held().space, more, bytes };
                    self.input(Input::Received { link, bytes: encode(&message) });
                }
            }
            _ => {}
        }
    }

    fn input(&mut self, input: Input) {
        self.node.handle(now(self.at_ms), input);
        self.rest();
    }

    /// Does what the node asks for until it waits.
    fn rest(&mut self) {
        for _ in 0..100_000 {
            match self.node.poll() {
                Output::Wait(_) => return,
                Output::Sync(ticket) => {
                    let result = self.disk.sync(ticket.file);
                    self.node.handle(now(self.at_ms), Input::Synced(ticket, result));
                }
                Output::Send { bytes, .. } => {
                    let mut decoder = Decoder::default();
                    decoder.push(&bytes);
                    assert!(matches!(decoder.next(), Ok(Some(_))), "it sends whole frames");
                    self.sent.push(bytes);
                }
                _ => {}
            }
        }
        panic!("the node never comes to rest");
    }
}

fn start(disk: &Arc<MemoryDisk>, number: u8, at_ms: u64) -> Node<Arc<MemoryDisk>> {
    let (store, _) = world::open(disk, number, world::ROOMY).expect("a sound disk");
    let config = Config { open: true, ..Config::default() };
    Node::new(store, config, Rng::new([number; 32]), now(at_ms))
}

/// Steps: a kind, a length as varint, bytes. At the end the node still holds what it held, and its
/// disk says the same as the node did.
pub fn node(bytes: &[u8]) {
    let mut place = Place::new(held().disk.snapshot(), 1);
    let before = place.node.store().version(&held().space).unwrap();
    let mut reader = Reader::new(bytes);
    while let Ok(kind) = reader.u8() {
        let Ok(bytes) = reader.bytes(bytes.len(), "step") else { break };
        place.step(kind, bytes);
        place.sent.clear();
    }
    let Place { node, disk, .. } = place;
    assert_eq!(node.outbox_len(), 0, "all that is durable left");
    let mut store = node.into_store();
    assert!(store.version(&held().space).unwrap().covers(&before), "nothing is lost");
    let said = look(&mut store);
    store.close().expect("a sound disk");
    drop(store);
    let found = verify(&disk, true).unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let mut again = world::open(&disk, 1, world::ROOMY).unwrap().0;
    same(&look(&mut again), &said);
}

/// One step, as [`node`] reads it.
pub fn put(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.put_u8(kind);
    out.put_bytes(bytes);
}
