//! Hot reads beside a plain concurrent map with the same keys and values, in the same run.
//!
//! `cargo bench --bench reads [-- KEYS]`. Prints nanoseconds a read for each, with one thread and
//! with two, over all keys at random and over the hottest thousand; quote ratios of one run. The
//! map is 64 hash tables, each behind a lock that readers share; a hit clones an `Arc`, as a read
//! of the replica does. The replica also remembers which keys were used, and drops what is written.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::indexing_slicing, reason = "a benchmark may panic, and indexes what it made")]

use std::collections::HashMap;
use std::error::Error;
use std::hash::BuildHasher as _;
use std::hint::black_box;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use kdelta::engine::base::{Key, SpaceId};
use kdelta::engine::crdt::{Op, View};
use kdelta::engine::store::{KeyOp, Write};
use kdelta::host::replica::{Durability, OpenOptions, Replica};

type Outcome = Result<(), Box<dyn Error>>;

/// The plain map: as fast as a sharded table gets without knowing anything of its keys.
struct Plain {
    hasher: hashbrown::DefaultHashBuilder,
    shards: Vec<RwLock<HashMap<Key, Arc<View>, hashbrown::DefaultHashBuilder>>>,
}

impl Plain {
    fn new() -> Self {
        let shards = std::iter::repeat_with(Default::default).take(64).collect();
        Self { hasher: Default::default(), shards }
    }

    fn shard(&self, key: &Key) -> &RwLock<HashMap<Key, Arc<View>, hashbrown::DefaultHashBuilder>> {
        let at = usize::try_from(self.hasher.hash_one(key) >> 40).unwrap_or_default();
        &self.shards[at % 64]
    }

    fn get(&self, key: &Key) -> Option<Arc<View>> {
        self.shard(key).read().ok()?.get(key).map(Arc::clone)
    }
}

fn main() -> Outcome {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let count: usize = args.next().map_or(Ok(100_000), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let options = OpenOptions { memory_bytes: 4 << 30, ..OpenOptions::default() };
    let replica = Replica::open_with(dir.path(), &options)?;
    let space = replica.default_space()?;
    let keys: Vec<Key> =
        (0..count).map(|n| Key::new(&format!("key-{n:012}"))).collect::<Result<_, _>>()?;
    for batch in keys.chunks(500) {
        put(&replica, space, batch)?;
    }
    let plain = Plain::new();
    for key in &keys {
        let view = replica.view(&space, key)?.ok_or("a key that was written")?;
        plain.shard(key).write().map_err(|_| "a lock")?.insert(key.clone(), view);
    }
    for (name, range) in [("all keys", count), ("hot keys", 1000.min(count))] {
        for threads in [1, 2] {
            let order = order(range);
            let map = measure(threads, &order, &keys, |key| plain.get(key).is_some());
            let view = |key: &Key| replica.view(&space, key).is_ok_and(|view| view.is_some());
            let view = measure(threads, &order, &keys, view);
            let get = |key: &Key| replica.get(key.as_str()).is_ok_and(|view| view.is_some());
            let get = measure(threads, &order, &keys, get);
            println!(
                "{name}, {threads} threads: map {map:>6.1} ns, view {view:>6.1} ns \
                 ({:.2}x), get {get:>6.1} ns ({:.2}x)",
                view / map,
                get / map
            );
        }
    }
    println!("several keys: {:.1} ns a key of 8", several(&replica, space, &keys)?);
    replica.close()?;
    Ok(())
}

fn put(replica: &Replica, space: SpaceId, keys: &[Key]) -> Outcome {
    let op = |key: &Key| {
        let op = Op::PutBytes([b'v'; 100].as_slice().into());
        KeyOp { key: key.clone(), op, retype: false, expect: None }
    };
    let write = Write { space, ops: keys.iter().map(op).collect(), ..Write::default() };
    replica.write(write, Durability::Buffered)?;
    Ok(())
}

/// A million places below `range`, at random.
fn order(range: usize) -> Vec<usize> {
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 16).unwrap_or_default() % range
    };
    (0..1_000_000).map(|_| next()).collect()
}

/// Returns the nanoseconds that a read takes in each of so many threads: the best of five rounds.
fn measure(
    threads: usize,
    order: &[usize],
    keys: &[Key],
    read: impl Fn(&Key) -> bool + Sync,
) -> f64 {
    let round = || {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (read, order) = (&read, &order[thread * 1000..]);
                scope.spawn(move || {
                    for at in order {
                        assert!(black_box(read(&keys[*at])), "every key is there");
                    }
                });
            }
        });
        begun.elapsed().as_secs_f64() * 1e9 / order.len() as f64
    };
    (0..5).map(|_| round()).fold(f64::MAX, f64::min)
}

fn several(replica: &Replica, space: SpaceId, keys: &[Key]) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    let mut read = 0;
    for some in keys.chunks_exact(8) {
        read += black_box(replica.views(&space, some)?).len();
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / read.max(1) as f64)
}
