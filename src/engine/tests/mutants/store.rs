//! What a store promises: through faults, reopenings, and what others hand over.

use std::sync::Arc;

use kdelta_engine::base::{Instant, Key, LogId, Now, SpaceId, WallTime};
use kdelta_engine::crdt::{Json, Op, Value, View};
use kdelta_engine::event::KeyPair;
use kdelta_engine::log::{CrashMode, MemoryDisk};
use kdelta_engine::store::{
    InsertError, Inserted, KeyOp, Options, Run, Serving, Store, Write, WriteError, Written,
};

type Shared = Arc<MemoryDisk>;
pub(crate) type Replica = Store<Shared>;

pub(crate) fn now(ms: u64) -> Now {
    Now { mono: Instant(ms * 1_000_000), wall: WallTime(1_700_000_000_000 + ms) }
}

pub(crate) fn open(disk: &Shared, seed: u8) -> Replica {
    let options = Options { memory_bytes: 1 << 20, segment_bytes: 16 << 10, place: None };
    let key = KeyPair::from_seed([seed; 32]);
    Store::open(Arc::clone(disk), key, [seed; 32], now(0), options).unwrap().0
}

/// Replicas of one space that hold its beginning; the first one made it.
fn replicas<const N: usize>() -> (SpaceId, [Replica; N]) {
    let mut seed = 0;
    let mut stores = [(); N].map(|()| {
        seed += 1;
        open(&Shared::default(), seed)
    });
    let (first, others) = stores.split_first_mut().unwrap();
    let space = first.create_space(now(1), "default").unwrap();
    for other in others {
        other.join_space(space, "default").unwrap();
        pass(first, other);
    }
    (space, stores)
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap()
}

pub(crate) fn space_of(store: &Replica) -> SpaceId {
    store.space_named("default").unwrap()
}

fn try_write(store: &mut Replica, ms: u64, ops: Vec<(&str, Op)>) -> Result<Written, WriteError> {
    let op = |(key, op)| KeyOp { key: Key::new(key).unwrap(), op, retype: false, expect: None };
    let (space, ops) = (space_of(store), ops.into_iter().map(op).collect());
    store.write(now(ms), Write { space, ops, ..Write::default() })
}

fn write(store: &mut Replica, ms: u64, ops: Vec<(&str, Op)>) -> Written {
    try_write(store, ms, ops).unwrap()
}

pub(crate) fn try_put(
    store: &mut Replica,
    ms: u64,
    key: &str,
    value: &str,
) -> Result<Written, WriteError> {
    try_write(store, ms, vec![(key, Op::Put(json(value)))])
}

pub(crate) fn put(store: &mut Replica, ms: u64, key: &str, value: &str) -> Written {
    write(store, ms, vec![(key, Op::Put(json(value)))])
}

pub(crate) fn view(store: &mut Replica, key: &str) -> Option<View> {
    let space = space_of(store);
    store.get(&space, &Key::new(key).unwrap(), None).unwrap()
}

pub(crate) fn shows(store: &mut Replica, key: &str, value: &str) -> bool {
    view(store, key).is_some_and(|view| view.value == Value::Json(json(value)))
}

/// Writes until the segment is full and sealed: all that was written lies in sidecars then.
fn seal(store: &mut Replica, ms: u64) {
    let growing = |store: &Replica| {
        store.stats().into_iter().any(|(name, value)| name == "segment_bytes" && value > 0)
    };
    let filler = format!("\"{}\"", "x".repeat(500));
    put(store, ms, "filler", &filler);
    while growing(store) {
        put(store, ms, "filler", &filler);
        store.sync().unwrap();
    }
}

/// The chunks of what a store holds of some logs.
fn chunks(store: &mut Replica, wanted: impl Fn(&LogId) -> bool) -> Vec<Vec<u8>> {
    let space = space_of(store);
    let tips = store.frontier(&space).unwrap().into_iter().filter(|tip| wanted(&tip.log));
    let mut serving = Serving::new(tips.map(|tip| Run { log: tip.log, after: 0, upto: tip.seq }));
    let mut chunks = Vec::new();
    while let Some(chunk) = store.next_chunk(&space, &mut serving, 1 << 16).unwrap() {
        chunks.push(chunk.bytes);
    }
    chunks
}

fn hand(
    from: &mut Replica,
    to: &mut Replica,
    wanted: impl Fn(&LogId) -> bool,
) -> Result<Vec<Inserted>, InsertError> {
    let chunks = chunks(from, wanted);
    chunks.iter().map(|chunk| to.insert_chunk(now(10_000), chunk)).collect()
}

pub(crate) fn pass(from: &mut Replica, to: &mut Replica) {
    hand(from, to, |_| true).unwrap();
}

/// Hands over what a store wrote itself, without what that builds upon.
fn pass_own(from: &mut Replica, to: &mut Replica) -> Result<Vec<Inserted>, InsertError> {
    let own = from.replica();
    hand(from, to, |log| log.replica == own)
}

pub(crate) fn no_number_names_two_commits_after_a_restore() -> bool {
    let (disk, mut peer) = (Shared::default(), open(&Shared::default(), 2));
    let mut store = open(&disk, 1);
    let space = store.create_space(now(1), "default").unwrap();
    peer.join_space(space, "default").unwrap();
    store.close().unwrap();
    let backup = Arc::new(disk.snapshot());
    put(&mut store, 2, "key", "1");
    pass(&mut store, &mut peer);
    let mut store = open(&backup, 1);
    pass(&mut peer, &mut store);
    put(&mut store, 3, "key", "2");
    store.frontier(&space).unwrap().len() == 2
}

pub(crate) fn stamps_go_on_after_a_reopening_though_the_clock_went_back() -> bool {
    let disk = Shared::default();
    let mut store = open(&disk, 1);
    store.create_space(now(1), "default").unwrap();
    let before = put(&mut store, 5_000, "key", "1").hlc;
    seal(&mut store, 5_000);
    store.close().unwrap();
    put(&mut open(&disk, 1), 0, "key", "2").hlc > before
}

pub(crate) fn what_comes_before_its_past_is_taken_after_it() -> bool {
    let (_, [mut a, mut b, mut c]) = replicas();
    put(&mut a, 2, "key", "1");
    pass(&mut a, &mut b);
    put(&mut b, 3, "key", "2");
    pass_own(&mut b, &mut c).unwrap();
    assert!(view(&mut c, "key").is_none());
    pass(&mut a, &mut c);
    shows(&mut c, "key", "2")
}

pub(crate) fn what_waits_is_bounded() -> bool {
    let (_, [mut a, mut b, mut c]) = replicas();
    put(&mut a, 2, "key", "1");
    pass(&mut a, &mut b);
    let large = format!("\"{}\"", "x".repeat(16 << 10));
    for ms in 0..40 {
        put(&mut b, 3 + ms, "large", &large);
    }
    matches!(pass_own(&mut b, &mut c), Err(InsertError::WaitingRoom))
}

pub(crate) fn what_comes_from_the_future_waits() -> bool {
    let (_, [mut a, mut b]) = replicas();
    put(&mut a, 3_600_000, "key", "1");
    pass(&mut a, &mut b);
    view(&mut b, "key").is_none()
}

pub(crate) fn a_changed_signature_is_refused() -> bool {
    let (_, [mut a, mut b]) = replicas();
    put(&mut a, 2, "key", "1");
    let mut chunk = chunks(&mut a, |_| true).pop().unwrap();
    // The last byte says that no proof follows; the signature stands before it.
    let at = chunk.len() - 10;
    chunk[at] ^= 1;
    b.insert_chunk(now(3), &chunk).is_err()
}

pub(crate) fn both_branches_of_a_fork_count() -> bool {
    let disk = Shared::default();
    let mut store = open(&disk, 1);
    let space = store.create_space(now(1), "default").unwrap();
    store.close().unwrap();
    let mut twin = open(&Arc::new(disk.snapshot()), 1);
    let Written { tip, .. } = write(&mut store, 2, vec![("count", Op::CounterAdd(5))]);
    write(&mut twin, 2, vec![("count", Op::CounterAdd(7))]);
    let side = store.fork_side(&space, &tip.log, tip.seq).unwrap();
    let proof = twin.prove(side).unwrap();
    for one in [&mut store, &mut twin] {
        one.close_forked(now(3), std::slice::from_ref(&proof)).unwrap();
    }
    let mut third = open(&Shared::default(), 3);
    third.join_space(space, "default").unwrap();
    hand(&mut store, &mut third, |log| *log == tip.log).unwrap();
    third.close_forked(now(4), &[proof]).unwrap();
    pass(&mut store, &mut third);
    pass(&mut twin, &mut third);
    view(&mut third, "count").unwrap().value == Value::Counter(12)
}

pub(crate) fn a_store_opens_after_a_crash() -> bool {
    let disk = Shared::default();
    let mut store = open(&disk, 1);
    store.create_space(now(1), "default").unwrap();
    store.sync().unwrap();
    drop(store);
    disk.crash(CrashMode::LoseAll, &mut kdelta_engine::base::Rng::new([3; 32]));
    open(&disk, 1).space_named("default").is_some()
}

pub(crate) fn what_the_disk_refused_is_not_shown() -> bool {
    let disk = Shared::default();
    let mut store = open(&disk, 1);
    store.create_space(now(1), "default").unwrap();
    put(&mut store, 2, "key", "1");
    store.sync().unwrap();
    put(&mut store, 3, "key", "2");
    disk.faults(|faults| faults.read_only = true);
    assert!(store.flush().is_err());
    shows(&mut store, "key", "1")
}

pub(crate) fn conflicts_outlive_a_reopening() -> bool {
    let (disk, mut other) = (Shared::default(), open(&Shared::default(), 2));
    let mut store = open(&disk, 1);
    let space = store.create_space(now(1), "default").unwrap();
    other.join_space(space, "default").unwrap();
    pass(&mut store, &mut other);
    put(&mut store, 2, "key", "1");
    put(&mut other, 2, "key", "2");
    pass(&mut other, &mut store);
    seal(&mut store, 3);
    store.close().unwrap();
    view(&mut open(&disk, 1), "key").unwrap().conflicts.len() == 1
}

pub(crate) fn what_was_removed_stays_away() -> bool {
    let disk = Shared::default();
    let mut store = open(&disk, 1);
    store.create_space(now(1), "default").unwrap();
    let element = |text| vec![json(text)];
    write(&mut store, 2, vec![("set", Op::SetAdd(element("1")))]);
    write(&mut store, 2, vec![("set", Op::SetAdd(element("2")))]);
    seal(&mut store, 3);
    write(&mut store, 4, vec![("set", Op::SetRemove(element("1")))]);
    seal(&mut store, 5);
    store.close().unwrap();
    let view = view(&mut open(&disk, 1), "set");
    view.unwrap().value == Value::Set(element("2"))
}

pub(crate) fn a_batch_is_shown_whole() -> bool {
    let (_, [mut store]) = replicas();
    for value in ["1", "2"] {
        let put = || Op::Put(json(value));
        write(&mut store, 2, vec![("a", put()), ("b", put())]);
    }
    shows(&mut store, "a", "2") && shows(&mut store, "b", "2")
}

pub(crate) fn all_of_a_sealed_segment_is_handed_on() -> bool {
    let (space, [mut a, mut b]) = replicas();
    put(&mut a, 2, "key", "1");
    seal(&mut a, 3);
    pass(&mut a, &mut b);
    a.frontier(&space).unwrap() == b.frontier(&space).unwrap()
}

pub(crate) fn what_was_moved_is_handed_on() -> bool {
    let disk = Shared::default();
    let (mut store, mut other) = (open(&disk, 1), open(&Shared::default(), 2));
    let space = store.create_space(now(0), "default").unwrap();
    other.join_space(space, "default").unwrap();
    put(&mut store, 0, "key", "1");
    disk.faults(|faults| faults.syncs_to_fail = 1);
    store.sync().unwrap();
    pass(&mut store, &mut other);
    shows(&mut other, "key", "1")
}
