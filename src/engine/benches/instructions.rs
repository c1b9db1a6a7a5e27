//! Pieces of the engine's hot paths, to have their instructions counted.
//!
//! `instructions WORK TIMES` makes ready what every work needs, does one of them TIMES times, and
//! ends. It prints nothing and measures nothing: `benches/instructions` runs it twice under
//! callgrind and takes the difference, so that what is made ready does not count. Everything is
//! drawn from one seed and lies in memory, so that the counts of a build come out the same.
//!
//! `instructions` alone prints the names of the works.

#![expect(clippy::print_stdout, reason = "it prints the names of what it can do")]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use kdelta_engine::base::{Instant, Key, Now, SpaceId, WallTime};
use kdelta_engine::crdt::{Json, Op};
use kdelta_engine::event::KeyPair;
use kdelta_engine::log::MemoryDisk;
use kdelta_engine::store::{KeyOp, Options, Run, Serving, Store, Write};

type Res<T> = Result<T, Box<dyn Error>>;
type Disk = Arc<MemoryDisk>;

/// A work, by name.
type Work = (&'static str, fn(&mut Ready, usize) -> Res<()>);

const WORKS: [Work; 10] = [
    ("put-new", |ready, at| ready.put(&format!("new-{at}"))),
    ("put-again", |ready, at| ready.put(&format!("key-{}", at % 16))),
    ("put-batch-of-100", Ready::batch),
    ("counter-add", |ready, _| ready.one("counter", Op::CounterAdd(1))),
    ("get-warm", |ready, _| ready.get("key-7")),
    ("get-cold", |ready, at| ready.get(&format!("old-{}", at * 7919 % OLD_KEYS))),
    ("history-of-100", Ready::history),
    ("take-commit", Ready::take),
    ("open", Ready::open_again),
    ("state-hash", Ready::hash),
];

/// How many keys were put before anything is counted.
const OLD_KEYS: usize = 4_000;
/// How many events the one key has that is asked for its history.
const LONG_HISTORY: usize = 100;
/// How many commits there are to be taken from a peer.
const COMMITS: usize = 256;
/// So many writes are made durable at once.
const GROUP: usize = 16;

fn main() -> Res<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(name) = args.next() else {
        WORKS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let times: usize = args.next().ok_or("how often?")?.parse()?;
    let work = WORKS.iter().find(|(known, _)| *known == name).ok_or("no such work")?.1;
    let mut ready = Ready::new()?;
    (0..times).try_for_each(|at| work(&mut ready, at))
}

/// What all works find: a store with some history, and chunks of a peer that it does not have.
struct Ready {
    disk: Disk,
    store: Store<Disk>,
    space: SpaceId,
    chunks: Vec<Vec<u8>>,
    clock_ms: u64,
    writes: usize,
}

impl Ready {
    fn new() -> Res<Self> {
        let disk = Disk::default();
        let mut store = open(&disk, 1)?;
        let space = store.create_space(now(1), "default")?;
        let mut ready = Self { disk, store, space, chunks: Vec::new(), clock_ms: 1, writes: 0 };
        for at in 0..OLD_KEYS {
            ready.put(&format!("old-{at}"))?;
        }
        for at in 0..LONG_HISTORY {
            ready.one("long", Op::Put(value(at)?))?;
        }
        ready.store.sync()?;
        ready.chunks = ready.commits_of_a_peer()?;
        Ok(ready)
    }

    /// Has a peer write commits, each in a chunk of its own.
    fn commits_of_a_peer(&mut self) -> Res<Vec<Vec<u8>>> {
        let mut peer = open(&Disk::default(), 2)?;
        peer.join_space(self.space, "default")?;
        let tip = self.store.frontier(&self.space)?.first().copied().ok_or("a log")?;
        let mut serving = Serving::new([Run { log: tip.log, after: 0, upto: 1 }]);
        let genesis = self.store.next_chunk(&self.space, &mut serving, 1)?.ok_or("genesis")?;
        peer.insert_chunk(now(1_000_000), &genesis.bytes)?;
        let log = {
            let first = key_op("peer", Op::Put(value(0)?))?;
            write(&mut peer, self.space, 1_000_000, vec![first])?;
            peer.frontier(&self.space)?.into_iter().find(|other| other.log != tip.log)
        };
        let log = log.ok_or("the peer's log")?.log;
        for at in 1..COMMITS {
            let op = key_op(&format!("peer-{at}"), Op::Put(value(at)?))?;
            write(&mut peer, self.space, 1_000_000 + at as u64, vec![op])?;
        }
        peer.sync()?;
        let upto = COMMITS as u64;
        let mut serving = Serving::new([Run { log, after: 0, upto }]);
        let mut chunks = Vec::new();
        while let Some(chunk) = peer.next_chunk(&self.space, &mut serving, 1)? {
            chunks.push(chunk.bytes);
        }
        Ok(chunks)
    }

    fn put(&mut self, key: &str) -> Res<()> {
        let json = value(self.writes)?;
        self.one(key, Op::Put(json))
    }

    fn one(&mut self, key: &str, op: Op) -> Res<()> {
        self.write(vec![key_op(key, op)?])
    }

    fn batch(&mut self, at: usize) -> Res<()> {
        let op = |n| key_op(&format!("batch-{at}-{n}"), Op::Put(value(n)?));
        let ops = (0..100).map(op).collect::<Res<_>>()?;
        self.write(ops)
    }

    fn write(&mut self, ops: Vec<KeyOp>) -> Res<()> {
        self.clock_ms += 1;
        write(&mut self.store, self.space, self.clock_ms, ops)?;
        self.writes += 1;
        if self.writes.is_multiple_of(GROUP) {
            self.store.sync()?;
        }
        Ok(())
    }

    fn get(&mut self, key: &str) -> Res<()> {
        black_box(self.store.get(&self.space, &Key::new(key)?, None)?);
        Ok(())
    }

    fn history(&mut self, _: usize) -> Res<()> {
        let events = self.store.history(&self.space, &Key::new("long")?, LONG_HISTORY)?;
        if events.len() == LONG_HISTORY { Ok(()) } else { Err("all of it".into()) }
    }

    fn take(&mut self, at: usize) -> Res<()> {
        let chunk = self.chunks.get(at).ok_or("there are not so many")?;
        self.store.insert_chunk(now(2_000_000), chunk)?;
        Ok(())
    }

    fn open_again(&mut self, at: usize) -> Res<()> {
        if at == 0 {
            self.store.close()?;
        }
        black_box(open(&self.disk, 1)?);
        Ok(())
    }

    fn hash(&mut self, _: usize) -> Res<()> {
        black_box(self.store.state_hash(&self.space)?);
        Ok(())
    }
}

fn open(disk: &Disk, seed: u8) -> Res<Store<Disk>> {
    let options = Options { memory_bytes: 4 << 20, segment_bytes: 256 << 10, place: None };
    let key = KeyPair::from_seed([seed; 32]);
    Ok(Store::open(Arc::clone(disk), key, [seed; 32], now(0), options)?.0)
}

fn write(store: &mut Store<Disk>, space: SpaceId, ms: u64, ops: Vec<KeyOp>) -> Res<()> {
    store.write(now(ms), Write { space, ops, ..Write::default() })?;
    Ok(())
}

fn key_op(key: &str, op: Op) -> Res<KeyOp> {
    Ok(KeyOp { key: Key::new(key)?, op, retype: false, expect: None })
}

fn value(at: usize) -> Res<Json> {
    let text = format!("{{\"name\":\"{:096}\",\"number\":{at}}}", at * 7919);
    Ok(Json::parse(text.as_bytes())?)
}

fn now(ms: u64) -> Now {
    Now { mono: Instant(ms * 1_000_000), wall: WallTime(1_700_000_000_000 + ms) }
}
