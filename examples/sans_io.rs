//! Two nodes of the engine, driven by hand: no runtime, no socket, no file, no clock.
//!
//! Whoever embeds the engine does what this loop does: hands in what happened, carries out what
//! comes back, and says what time it is. Here disks are in memory and the network is two queues.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "an example prints, and has two sides"
)]

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;

use kdelta::engine::base::{Instant, Key, Now, Rng, WallTime};
use kdelta::engine::crdt::{Json, Op, Value};
use kdelta::engine::event::KeyPair;
use kdelta::engine::log::{Disk as _, MemoryDisk};
use kdelta::engine::node::{Config, Input, LinkId, Node, Output};
use kdelta::engine::store::{KeyOp, Options, Store, Write};

/// A node, its disk, and what is on its way to it.
struct Side {
    node: Node<Arc<MemoryDisk>>,
    disk: Arc<MemoryDisk>,
    inbox: VecDeque<Vec<u8>>,
}

/// The one connection.
const LINK: LinkId = LinkId(1);

/// Time is what we say it is.
fn at(ms: u64) -> Now {
    Now { mono: Instant(ms * 1_000_000), wall: WallTime(1_700_000_000_000 + ms) }
}

fn side(seed: u8) -> Result<Side, Box<dyn Error>> {
    let disk = Arc::new(MemoryDisk::new());
    let options = Options { memory_bytes: 16 << 20, segment_bytes: 8 << 20, place: None };
    let key = KeyPair::from_seed([seed; 32]);
    let (store, _) = Store::open(Arc::clone(&disk), key, [seed; 32], at(0), options)?;
    let config = Config { open: true, agent: "example".into(), ..Config::default() };
    let node = Node::new(store, config, Rng::new([seed; 32]), at(0));
    Ok(Side { node, disk, inbox: VecDeque::new() })
}

impl Side {
    fn write(&mut self, ms: u64, key: &str, op: Op) -> Result<(), Box<dyn Error>> {
        let space = self.node.store().space_named("notes").ok_or("the space is here")?;
        let ops = vec![KeyOp { key: Key::new(key)?, op, retype: false, expect: None }];
        self.node.store().write(at(ms), Write { space, ops, ..Write::default() })?;
        Ok(())
    }

    fn shows(&mut self, key: &str) -> Result<Value, Box<dyn Error>> {
        let space = self.node.store().space_named("notes").ok_or("the space is here")?;
        let view = self.node.store().get(&space, &Key::new(key)?, None)?;
        Ok(view.ok_or("the key is live")?.value)
    }

    /// Carries out what the node asks for; returns the bytes that it sends.
    fn work(&mut self, now: Now) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        loop {
            match self.node.poll() {
                Output::Wait(_) => return sent,
                // Nothing that speaks of a write is sent before this was answered.
                Output::Sync(ticket) => {
                    let result = self.disk.sync(ticket.file);
                    self.node.handle(now, Input::Synced(ticket, result));
                }
                Output::Send { bytes, .. } => sent.push(bytes),
                _ => {}
            }
        }
    }
}

/// Lets both sides talk until neither has anything to say; returns how many messages that took.
fn converse(sides: &mut [Side; 2], now: Now) -> usize {
    let mut messages = 0;
    loop {
        let [ada, bob] = sides;
        bob.inbox.extend(ada.work(now));
        ada.inbox.extend(bob.work(now));
        if ada.inbox.is_empty() && bob.inbox.is_empty() {
            return messages;
        }
        for side in sides.iter_mut() {
            if let Some(bytes) = side.inbox.pop_front() {
                side.node.handle(now, Input::Received { link: LINK, bytes });
                messages += 1;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut sides = [side(1)?, side(2)?];
    let [ada, bob] = &mut sides;
    let space = ada.node.store().create_space(at(1), "notes")?;
    bob.node.store().join_space(space, "notes")?;
    ada.write(2, "seats", Op::CounterAdd(4))?;
    // A connection stands, and the two sync.
    let peers = [ada, bob].map(|side| side.node.store().replica());
    for (at_ada, side) in [(true, 0), (false, 1)] {
        let peer = if at_ada { peers[1] } else { peers[0] };
        let connected = Input::Connected { link: LINK, peer, outgoing: at_ada };
        sides[side].node.handle(at(10), connected);
    }
    let first = converse(&mut sides, at(11));
    // Each writes before it hears of the other.
    let [ada, bob] = &mut sides;
    let title = |text: &str| Json::parse(text.as_bytes()).map(Op::Put);
    ada.write(20, "seats", Op::CounterAdd(2))?;
    ada.write(20, "title", title("\"mountains\"")?)?;
    bob.write(21, "seats", Op::CounterAdd(-1))?;
    bob.write(21, "title", title("\"lake\"")?)?;
    for side in &mut sides {
        side.node.handle(at(22), Input::Tick);
    }
    let second = converse(&mut sides, at(23));
    let [ada, bob] = &mut sides;
    assert_eq!(ada.shows("seats")?, Value::Counter(5), "counters sum up");
    assert_eq!(ada.shows("title")?, bob.shows("title")?, "both show the same");
    let hashes = [ada, bob].map(|side| side.node.store().state_hash(&space));
    let [of_ada, of_bob] = hashes;
    assert!(of_ada?.is_some_and(|hash| of_bob.is_ok_and(|other| other == Some(hash))));
    println!("{first} messages to meet, {second} to hear of two writes each; both hold the same");
    Ok(())
}
