//! Small stores, the same in each run, that targets damage, feed and look at.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use kdelta_engine::base::{Instant, Key, LogId, Now, SpaceId, WallTime};
use kdelta_engine::crdt::{Json, Op};
use kdelta_engine::event::{ForkProof, ForkSide, KeyPair, Tag};
use kdelta_engine::log::{FileId, FileKind, MemoryDisk, Recovery};
use kdelta_engine::store::{KeyOp, OpenError, Options, Run, Serving, Store, Write};

/// A store in memory.
pub type MemoryStore = Store<Arc<MemoryDisk>>;

/// When everything happens, in milliseconds since 1970.
pub const BEGIN_MS: u64 = 1_750_000_000_000;

/// A moment so many milliseconds after the beginning.
pub fn now(ms: u64) -> Now {
    Now { mono: Instant(ms * 1_000_000), wall: WallTime(BEGIN_MS + ms) }
}

/// The key of a replica, by number.
pub fn key(number: u8) -> KeyPair {
    KeyPair::from_seed([number; 32])
}

/// Opens the store of replica `number`.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    disk: &Arc<MemoryDisk>,
    number: u8,
    segment_bytes: u32,
) -> Result<(MemoryStore, Recovery), OpenError> {
    let options = Options { memory_bytes: 1 << 20, segment_bytes, place: None };
    let opened = Store::open(Arc::clone(disk), key(number), [number; 32], now(1000), options);
    opened.map(|(store, opened)| (store, opened.recovery))
}

/// Segments that a small store does not fill.
pub const ROOMY: u32 = 1 << 20;
/// Segments that a small store fills several of.
pub const TIGHT: u32 = 800;

/// What replica 1 holds: keys of all types, conflicts, a tag, and commits of replica 2.
#[derive(Debug)]
pub struct Held {
    /// The space.
    pub space: SpaceId,
    /// Its disk, all in one segment, closed in order.
    pub disk: MemoryDisk,
    /// The same in several sealed segments with sidecars.
    pub sealed: MemoryDisk,
    /// The disk of replica 2, which wrote more since.
    pub peer: MemoryDisk,
    /// The chunk that brings what replica 2 wrote since.
    pub news: Vec<u8>,
    /// All commits of replica 3, of which nobody else holds any.
    pub stranger: Vec<u8>,
    /// The proof that replica 3 was copied after that, and both copies wrote.
    pub fork: Vec<u8>,
}

/// The stores, made once.
pub fn held() -> &'static Held {
    static HELD: OnceLock<Held> = OnceLock::new();
    HELD.get_or_init(|| {
        let (disks, space, _) = made(ROOMY);
        let (tight, same, [news, stranger, fork]) = made(TIGHT);
        assert_eq!(space, same, "the stores hold the same");
        let [disk, sealed, peer] = [&disks[0], &tight[0], &disks[1]].map(|disk| disk.snapshot());
        Held { space, disk, sealed, peer, news, stranger, fork }
    })
}

fn made(segment_bytes: u32) -> ([Arc<MemoryDisk>; 3], SpaceId, [Vec<u8>; 3]) {
    let disks = [1, 2, 3].map(|_| Arc::new(MemoryDisk::new()));
    let mut one = open(&disks[0], 1, segment_bytes).unwrap().0;
    let mut two = open(&disks[1], 2, ROOMY).unwrap().0;
    let mut three = open(&disks[2], 3, ROOMY).unwrap().0;
    let space = one.create_space(now(1), "default").unwrap();
    two.join_space(space, "default").unwrap();
    three.join_space(space, "default").unwrap();
    write_all(&mut one, space, 10, "one");
    bring(&mut one, &mut two, space);
    write_all(&mut two, space, 40, "two");
    write(
        &mut one,
        60,
        Write { space, ops: vec![key_op("title", json("one"))], ..Write::default() },
    );
    bring(&mut two, &mut one, space);
    let tag = Some(Tag::Create { name: "v1".to_owned(), at: None });
    let note = Some(b"{\"by\":\"anna\"}"[..].into());
    let request_id = Some(b"request-1".to_vec());
    let ops = vec![key_op("title", json("settled")), key_op("gone", Op::Delete)];
    write(&mut one, 70, Write { space, ops, note, tag, request_id });
    bring(&mut one, &mut three, space);
    one.close().unwrap();
    let before = own_tip(&two, space).1;
    write_all(&mut two, space, 80, "news");
    write_all(&mut three, space, 80, "three");
    let (news, stranger) = (own_chunk(&mut two, space, before), own_chunk(&mut three, space, 0));
    two.close().unwrap();
    three.close().unwrap();
    let [a, b] = ["a", "b"].map(|by| side(&disks[2], space, by));
    let mut fork = Vec::new();
    ForkProof::new(a, b).unwrap().encode(&mut fork);
    (disks, space, [news, stranger, fork])
}

/// What a copy of replica 3 writes next.
fn side(disk: &MemoryDisk, space: SpaceId, by: &str) -> ForkSide {
    let mut copy = open(&Arc::new(disk.snapshot()), 3, ROOMY).unwrap().0;
    write(&mut copy, 90, Write { space, ops: vec![key_op("title", json(by))], ..Write::default() });
    copy.sync().unwrap();
    let (log, seq) = own_tip(&copy, space);
    copy.fork_side(&space, &log, seq).unwrap()
}

/// The log of a store's own and its last seq.
fn own_tip(store: &MemoryStore, space: SpaceId) -> (LogId, u64) {
    let mut tips = store.frontier(&space).unwrap().into_iter();
    let own = tips.find(|tip| tip.log.replica == store.replica());
    own.map(|tip| (tip.log, tip.seq)).unwrap()
}

/// The chunk with the own commits of a store after a seq.
fn own_chunk(store: &mut MemoryStore, space: SpaceId, after: u64) -> Vec<u8> {
    store.sync().unwrap();
    let (log, upto) = own_tip(store, space);
    let mut serving = Serving::new([Run { log, after, upto }]);
    store.next_chunk(&space, &mut serving, 1 << 20).unwrap().unwrap().bytes
}

fn word(text: &str) -> Json {
    Json::parse(format!("\"{text}\"").as_bytes()).unwrap()
}

fn json(text: &str) -> Op {
    Op::Put(word(text))
}

/// Writes one op of each kind, in a commit each.
fn write_all(store: &mut MemoryStore, space: SpaceId, from_ms: u64, by: &str) {
    let seven = || Json::parse(b"7").unwrap();
    let all = vec![
        ("title", json(by)),
        ("raw", Op::PutBytes(by.as_bytes().into())),
        ("hits", Op::CounterAdd(7)),
        ("tags", Op::SetAdd(vec![word(by), seven()])),
        ("tags", Op::SetRemove(vec![seven()])),
        ("card", Op::MapPut { field: "name".into(), value: word(by) }),
        ("card", Op::MapDelete { field: "none".into() }),
        ("gone", json(by)),
    ];
    for (ms, (name, op)) in (from_ms..).zip(all) {
        write(store, ms, Write { space, ops: vec![key_op(name, op)], ..Write::default() });
    }
}

fn write(store: &mut MemoryStore, ms: u64, write: Write) {
    store.write(now(ms), write).unwrap();
}

/// One op on one key, whatever that holds.
pub fn key_op(name: &str, op: Op) -> KeyOp {
    KeyOp { key: Key::new(name).unwrap(), op, retype: true, expect: None }
}

/// Brings all that one store holds to another.
fn bring(from: &mut MemoryStore, to: &mut MemoryStore, space: SpaceId) {
    from.sync().unwrap();
    let runs = from.frontier(&space).unwrap().into_iter();
    let mut serving = Serving::new(runs.map(|tip| Run { log: tip.log, after: 0, upto: tip.seq }));
    while let Some(chunk) = from.next_chunk(&space, &mut serving, 1 << 20).unwrap() {
        to.insert_chunk(now(500), &chunk.bytes).unwrap();
    }
    to.sync().unwrap();
}

/// A disk with the local file of replica 1, which says whose store it is, and nothing else.
pub fn bare() -> Arc<MemoryDisk> {
    let disk = MemoryDisk::new();
    for number in 0..2 {
        let file = FileId::new(FileKind::Local, number);
        if let Some(bytes) = held().disk.content(file) {
            disk.plant(file, 0, &bytes);
        }
    }
    Arc::new(disk)
}

/// The id by which the files of replica 1 name their store.
pub fn store_id() -> [u8; 16] {
    let local = kdelta_engine::store::Local::load(&held().disk).unwrap().unwrap();
    local.store
}

/// Everything that can be read of a store, in words: two stores that hold the same say the same.
pub fn look(store: &mut MemoryStore) -> String {
    let mut said = String::new();
    for space in store.local().spaces.iter().map(|space| space.id).collect::<Vec<_>>() {
        let out = &mut said;
        writeln!(out, "{space}: {:?}", store.frontier(&space)).unwrap();
        writeln!(out, "{:?} {:?}", store.state_hash(&space), store.closed_logs(&space)).unwrap();
        writeln!(out, "{:?}", store.value_hash(&space)).unwrap();
        let (page, degraded) = store.with_degraded(|store| store.list(&space, "", None, 64, None));
        writeln!(out, "{degraded} {page:?}").unwrap();
        for name in ["title", "raw", "hits", "tags", "card", "gone", "none"] {
            let key = Key::new(name).unwrap();
            writeln!(out, "{:?}", store.get(&space, &key, None)).unwrap();
            writeln!(out, "{:?}", store.history(&space, &key, 64)).unwrap();
        }
        for tip in store.frontier(&space).unwrap_or_default() {
            writeln!(out, "{:?}", store.check_commit(&space, &tip.log, tip.seq)).unwrap();
        }
        writeln!(out, "{:?}", store.tags(&space, None, 16)).unwrap();
    }
    said
}

/// Asserts that a store says what it said before; names the first line that differs.
#[track_caller]
pub fn same(now: &str, before: &str) {
    let differs = now.lines().zip(before.lines()).find(|(now, before)| now != before);
    if let Some((now, before)) = differs {
        panic!("a store says {now:.400}\nand said {before:.400}");
    }
    assert_eq!(now.len(), before.len(), "a store says more or less than before");
}
