//! The store on a disk in memory, one replica and two.

mod damage;
mod handover;
mod opening;
mod owned;
mod places;
mod refusals;
mod spaces;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::base::{CommitId, Instant, Now, WallTime};
use crate::crdt::{Json, Value, View};
use crate::log::{CrashMode, FileKind, MemoryDisk};

pub(crate) type TestStore = Store<Arc<MemoryDisk>>;

pub(super) fn now(ms: u64) -> Now {
    Now { mono: Instant(ms * 1_000_000), wall: WallTime(1_700_000_000_000 + ms) }
}

pub(super) fn open(disk: &Arc<MemoryDisk>, seed: u8) -> TestStore {
    open_in(disk, seed, None)
}

fn open_in(disk: &Arc<MemoryDisk>, seed: u8, place: Option<u64>) -> TestStore {
    let options = Options { memory_bytes: 1 << 20, segment_bytes: 16 << 10, place };
    let key = KeyPair::from_seed([seed; 32]);
    Store::open(Arc::clone(disk), key, [seed; 32], now(0), options).unwrap().0
}

pub(super) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

pub(super) fn put(name: &str, json: &str) -> KeyOp {
    let op = Op::Put(Json::parse(json.as_bytes()).unwrap());
    KeyOp { key: key(name), op, retype: false, expect: None }
}

pub(super) fn write(store: &mut TestStore, ms: u64, ops: Vec<KeyOp>) -> Written {
    let space = store.space_named("default").unwrap();
    store.write(now(ms), Write { space, ops, ..Write::default() }).unwrap()
}

pub(super) fn text(store: &mut TestStore, name: &str) -> Option<String> {
    let space = store.space_named("default").unwrap();
    let view = store.get(&space, &key(name), None).unwrap()?;
    match view.value {
        Value::Json(json) => Some(String::from_utf8(json.as_bytes().to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

impl TestStore {
    /// Every commit whose record lies in the log, whether it counts or not.
    pub(crate) fn all_commits(&self) -> Vec<crate::event::Commit> {
        let (mut all, mut names) = (Vec::new(), Vec::new());
        for segment in self.log.segments() {
            self.each_commit(segment.number, &mut names, |commit| all.push(commit.clone()))
                .unwrap();
        }
        all
    }

    /// Where all records lie.
    pub(crate) fn record_places(&self) -> Vec<Position> {
        let from = Position { segment: 0, offset: 0 };
        self.log.scan(from).flatten().map(|(position, _)| position).collect()
    }

    /// Where the records lie that vouch for logs.
    pub(crate) fn voucher_places(&self) -> Vec<Position> {
        let from = Position { segment: 0, offset: 0 };
        let records = self.log.scan(from).flatten();
        let vouchers = records.filter(|(_, record)| record.kind == apply::kinds::VOUCHER);
        vouchers.map(|(position, _)| position).collect()
    }

    /// The ids of the commits that count.
    pub(crate) fn counted_ids(&self, space: &SpaceId) -> BTreeSet<CommitId> {
        let space_ix = self.space_index(space).unwrap();
        let held = self.held(space).unwrap().into_iter();
        held.flat_map(|(log, seqs)| seqs.map(move |seq| (log, seq)))
            .map(|(log, seq)| self.commit_id(space_ix, &log, seq).unwrap())
            .collect()
    }
}

#[test]
fn what_was_written_is_read_again_after_a_reopening() {
    let disk = Arc::new(MemoryDisk::new());
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    let mut hashes = Vec::new();
    for round in 0..5u64 {
        let mut store = open(&disk, 1);
        if round == 0 {
            store.create_space(now(1), "default").unwrap();
        }
        let space = store.space_named("default").unwrap();
        if let Some(hash) = hashes.last() {
            assert_eq!(
                *hash,
                (store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap())
            );
        }
        for (name, value) in &model {
            assert_eq!(text(&mut store, name).as_ref(), Some(value), "{name}");
        }
        for i in 0..300u64 {
            let (name, value) =
                (format!("key-{}", (i * 7 + round) % 50), (round * 1000 + i).to_string());
            write(&mut store, round * 1000 + i, vec![put(&name, &value)]);
            model.insert(name, value);
        }
        store.flush().unwrap();
        hashes.push((store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap()));
        assert!(round == 0 || !store.sealed.is_empty(), "segments were sealed on the way");
        store.close().unwrap();
    }
}

#[test]
fn a_commit_that_takes_a_folded_counter_apart_by_two_events_is_shown_whole() {
    let [mut a, mut b, mut c] = [1, 2, 3].map(|seed| open(&Arc::new(MemoryDisk::new()), seed));
    let space = a.create_space(now(1), "default").unwrap();
    for other in [&mut b, &mut c] {
        other.join_space(space, "default").unwrap();
        pass(&mut a, other, space);
    }
    let op = |op| KeyOp { key: key("k"), op, retype: true, expect: None };
    write(&mut b, 10, vec![op(Op::CounterAdd(5))]);
    pass(&mut b, &mut a, space);
    write(&mut b, 11, vec![op(Op::CounterAdd(7))]);
    pass(&mut b, &mut c, space);
    c.sync().unwrap();
    c.seal().unwrap();
    // It knows of the first add only.
    let put = |json: &str| op(Op::Put(Json::parse(json.as_bytes()).unwrap()));
    write(&mut a, 12, vec![put("1"), put("2")]);
    pass(&mut a, &mut c, space);
    let shown = c.get(&space, &key("k"), None).unwrap().unwrap();
    assert!(shown.conflicts.iter().any(|other| other.value == Value::Counter(7)), "{shown:?}");
    c.cache.clear();
    assert_eq!(c.get(&space, &key("k"), None).unwrap(), Some(shown));
}

#[test]
fn a_commit_that_is_larger_than_the_cache_is_shown_whole() {
    let mut store = open(&Arc::new(MemoryDisk::new()), 1);
    let space = store.create_space(now(1), "default").unwrap();
    let op = |name: &str, op| KeyOp { key: key(name), op, retype: false, expect: None };
    let field = |name: &str| {
        let value = Json::parse(b"1").unwrap();
        op("map", Op::MapPut { field: name.into(), value })
    };
    let large = |name: &str| op(name, Op::PutBytes(vec![7; 300 << 10].into()));
    let fields = |store: &mut TestStore| match store.get(&space, &key("map"), None) {
        Ok(Some(View { value: Value::Map(fields), .. })) => fields.into_keys().collect(),
        other => panic!("{other:?}"),
    };
    for (ms, first, second, shown) in [(2, "a", "b", "ab"), (3, "c", "d", "abcd")] {
        write(&mut store, ms, vec![field(first), large("x"), large("y"), field(second)]);
        let now: Vec<Arc<str>> = fields(&mut store);
        assert_eq!(now.concat(), shown);
        // The second one touches a row that the index of a segment knows.
        store.seal().unwrap();
        assert_eq!(fields(&mut store).concat(), shown);
    }
}

#[test]
fn a_directory_that_is_copied_before_its_first_write_is_a_copy_too() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open_in(&disk, 1, Some(1));
    store.join_space(SpaceId([9; 32]), "default").unwrap();
    let twin = Arc::new(disk.snapshot());
    let mut twin = open_in(&twin, 1, Some(2));
    assert_ne!(store.own_log().unwrap(), twin.own_log().unwrap());
}

#[test]
fn what_a_failed_sync_moved_is_read_in_its_new_place() {
    for fails in [1, 3] {
        let disk = Arc::new(MemoryDisk::new());
        let mut store = open(&disk, 1);
        let space = store.create_space(now(1), "default").unwrap();
        write(&mut store, 10, vec![put("a", "1")]);
        store.sync().unwrap();
        // The names that these commits use are in what is durable already, and in another segment.
        disk.faults(|faults| faults.syncs_to_fail = 1);
        for i in 0..fails {
            write(&mut store, 90_000 + i, vec![put("a", &format!("2{i}")), put("b", "3")]);
        }
        store.sync().unwrap();
        let hashes = (store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap());
        assert_eq!(text(&mut store, "b").as_deref(), Some("3"));
        assert_eq!(store.history(&space, &key("a"), 9).unwrap().len() as u64, fails + 1);
        write(&mut store, 91_000, vec![put("c", "4")]);
        store.sync().unwrap();
        drop(store);
        if fails == 1 {
            disk.crash(CrashMode::LoseAll, &mut Rng::new([0; 32]));
        }
        let mut store = open(&disk, 1);
        assert_eq!(store.damage(), None);
        assert_eq!(text(&mut store, "c").as_deref(), Some("4"));
        assert_eq!(text(&mut store, "b").as_deref(), Some("3"));
        assert_ne!((store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap()), hashes);
        assert_eq!(store.history(&space, &key("a"), 9).unwrap().len() as u64, fails + 1);
    }
}

#[test]
fn whichever_sync_fails_nothing_is_lost_and_nothing_is_damaged() {
    for passed in 0..60 {
        let disk = Arc::new(MemoryDisk::new());
        let mut store = open(&disk, 1);
        let space = store.create_space(now(1), "default").unwrap();
        store.sync().unwrap();
        disk.faults(|faults| (faults.syncs_to_pass, faults.syncs_to_fail) = (passed, 1));
        let text = format!("\"{}\"", "x".repeat(700));
        for i in 0..40 {
            // The places of segments, and so their seals, lie among the syncs.
            write(&mut store, i, vec![put(&format!("key-{}", i % 7), &text)]);
            store.sync().unwrap();
        }
        assert_eq!(store.counts(&space).unwrap(), (41, 40), "sync {passed} failed");
        let hashes = (store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap());
        drop(store);
        disk.crash(CrashMode::LoseAll, &mut Rng::new([0; 32]));
        let mut store = open(&disk, 1);
        assert_eq!(store.damage(), None, "sync {passed} failed");
        let again = (store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap());
        assert_eq!(again, hashes, "sync {passed} failed");
    }
}

#[test]
fn a_flipped_bit_in_a_derived_file_never_changes_an_answer() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk, 1);
    store.create_space(now(1), "default").unwrap();
    for i in 0..400u64 {
        let ops = vec![put(&format!("key-{:02}", i % 60), &i.to_string())];
        write(&mut store, i, ops);
        store.sync().unwrap();
    }
    let space = store.space_named("default").unwrap();
    let values: Vec<_> = (0..60).map(|i| text(&mut store, &format!("key-{i:02}"))).collect();
    let hashes = (store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap());
    store.close().unwrap();
    let pristine = disk.snapshot();
    let mut rng = Rng::new([3; 32]);
    for round in 0..200 {
        let disk = Arc::new(pristine.snapshot());
        let files = disk.files(FileKind::Sidecar).unwrap();
        assert!(!files.is_empty(), "there is something to damage");
        let file = files[round % files.len()];
        let bits = disk.len(file).unwrap() * 8;
        assert!(disk.flip_bit(file, rng.below(bits)), "the bit is in the file");
        let found = verify(&disk, false).unwrap();
        assert_eq!(found.problems.len(), 1, "round {round}: {:?}", found.problems);
        assert_eq!(found.problems[0].kind, "derived");
        let mut store = open(&disk, 1);
        for (i, value) in values.iter().enumerate() {
            assert_eq!(&text(&mut store, &format!("key-{i:02}")), value, "round {round}");
        }
        store.begin_repair().unwrap();
        store.finish_repair().unwrap();
        let again = (store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap());
        assert_eq!(again, hashes, "round {round}");
        store.close().unwrap();
        assert_eq!(verify(&disk, true).unwrap().problems, [], "round {round}");
    }
}

#[test]
fn a_power_cut_leaves_sidecars_whole_or_not_at_all() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk, 1);
    store.create_space(now(1), "default").unwrap();
    for i in 0..400u64 {
        write(&mut store, i, vec![put(&format!("key-{:02}", i % 60), &i.to_string())]);
        store.sync().unwrap();
    }
    assert!(!disk.files(FileKind::Sidecar).unwrap().is_empty(), "segments were sealed");
    for mode in [CrashMode::Sectors(4096), CrashMode::Sectors(512), CrashMode::ZeroTail] {
        for seed in 0..10 {
            let disk = Arc::new(disk.snapshot());
            disk.crash(mode, &mut Rng::new([seed; 32]));
            assert_eq!(verify(&disk, true).unwrap().problems, [], "{mode:?} {seed}");
        }
    }
}

#[test]
fn a_damaged_sidecar_keeps_no_store_from_opening() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk, 1);
    store.create_space(now(1), "default").unwrap();
    for i in 0..600u64 {
        write(&mut store, i, vec![put(&format!("key-{:02}", i % 60), &i.to_string())]);
        store.sync().unwrap();
    }
    store.close().unwrap();
    let sidecars = disk.files(FileKind::Sidecar).unwrap();
    let [first, .., last] = sidecars[..] else { panic!("several were sealed") };
    disk.remove(last).unwrap();
    let bits = disk.len(first).unwrap() * 8;
    for bit in (0..bits).step_by(997) {
        // The last one is built upon what the first one says.
        let disk = Arc::new(disk.snapshot());
        disk.flip_bit(first, bit);
        let mut store = open(&disk, 1);
        assert_eq!(text(&mut store, "key-59").as_deref(), Some("599"), "bit {bit}");
    }
}

#[test]
fn a_damaged_sidecar_leaves_the_segments_that_are_sealed_later_whole() {
    let (disk, other) = (Arc::new(MemoryDisk::new()), Arc::new(MemoryDisk::new()));
    let (mut store, mut peer) = (open(&disk, 1), open(&other, 2));
    let space = peer.create_space(now(1), "default").unwrap();
    store.join_space(space, "default").unwrap();
    let keys = |peer: &mut TestStore, rounds: std::ops::Range<u64>| {
        for i in rounds {
            write(peer, 10 + i, vec![put(&format!("key-{:02}", i % 60), &i.to_string())]);
        }
        peer.sync().unwrap();
    };
    keys(&mut peer, 0..400);
    pass(&mut peer, &mut store, space);
    store.close().unwrap();
    drop(store);
    let first = disk.files(FileKind::Sidecar).unwrap()[0];
    keys(&mut peer, 400..800);
    let bits = disk.len(first).unwrap() * 8;
    for bit in (0..bits).step_by(4001) {
        let disk = Arc::new(disk.snapshot());
        assert!(disk.flip_bit(first, bit));
        // What comes from elsewhere is taken without a look at the keys, until a segment is full;
        // what needs the damaged part waits for the repair.
        let mut store = open(&disk, 1);
        for _ in 0..3 {
            let frontier = peer.frontier(&space).unwrap();
            let runs = frontier.iter().map(|tip| Run { log: tip.log, after: 0, upto: tip.seq });
            let mut serving = Serving::new(runs);
            while let Some(chunk) = peer.next_chunk(&space, &mut serving, 1 << 12).unwrap() {
                let _ = store.insert_chunk(now(10_000), &chunk.bytes);
                let _ = store.sync();
            }
        }
        store.close().unwrap();
        let mut store = open(&disk, 1);
        assert_eq!(store.damage(), None, "bit {bit}");
        store.begin_repair().unwrap();
        let repaired = store.finish_repair().unwrap();
        assert_eq!(repaired.missing, [""; 0], "bit {bit}");
        pass(&mut peer, &mut store, space);
        store.sync().unwrap();
        assert!(store.log.segments().len() > 2, "bit {bit}: one more is sealed");
        store.close().unwrap();
        let mut store = open(&disk, 1);
        assert_eq!(store.damage(), None, "bit {bit}");
        assert_eq!(text(&mut store, "key-19").as_deref(), Some("799"), "bit {bit}");
    }
}

/// A store, closed, of a log whose fork it learnt of when what became a branch lay in several
/// segments; with its two hashes.
fn beside_a_fork() -> (Arc<MemoryDisk>, SpaceId, (Option<Hash>, Hash)) {
    let (disk, other) = (Arc::new(MemoryDisk::new()), Arc::new(MemoryDisk::new()));
    let (mut hub, mut author) = (open(&disk, 1), open(&other, 2));
    let space = author.create_space(now(1), "default").unwrap();
    hub.join_space(space, "default").unwrap();
    write(&mut author, 2, vec![put("base", "0")]);
    author.close().unwrap();
    pass(&mut author, &mut hub, space);
    for i in 0..500 {
        write(&mut hub, 2, vec![put("between", &i.to_string())]);
        hub.sync().unwrap();
    }
    let mut twin = open(&Arc::new(other.snapshot()), 2);
    let fork = write(&mut twin, 3, vec![put("twin", "1")]).tip;
    for i in 0..600 {
        write(&mut author, 10 + i, vec![put(&format!("key-{:02}", i % 60), &i.to_string())]);
        pass(&mut author, &mut hub, space);
        hub.sync().unwrap();
    }
    // What the hub holds of the log becomes a branch, and lies in several segments.
    let side = twin.fork_side(&space, &fork.log, fork.seq).unwrap();
    let proof = hub.prove(side).unwrap();
    assert_eq!(hub.close_forked(now(5_000), &[proof]).unwrap(), 1);
    for i in 0..200 {
        write(&mut hub, 6_000 + i, vec![put("own", &i.to_string())]);
        hub.sync().unwrap();
    }
    let hashes = (hub.state_hash(&space).unwrap(), hub.value_hash(&space).unwrap());
    hub.close().unwrap();
    (disk, space, hashes)
}

#[test]
fn a_sidecar_that_is_built_anew_fits_those_that_know_of_a_fork() {
    let (disk, space, hashes) = beside_a_fork();
    let sidecars = disk.files(FileKind::Sidecar).unwrap();
    assert!(sidecars.len() > 3, "some end before the proof, and some after it");
    for missing in sidecars {
        let disk = Arc::new(disk.snapshot());
        disk.remove(missing).unwrap();
        for _ in 0..2 {
            let mut hub = open(&disk, 1);
            assert_eq!((hub.state_hash(&space).unwrap(), hub.value_hash(&space).unwrap()), hashes);
            let mut reader = open(&Arc::new(MemoryDisk::new()), 3);
            reader.join_space(space, "default").unwrap();
            pass(&mut hub, &mut reader, space);
            let read = reader.value_hash(&space).unwrap();
            assert_eq!(read, hashes.1, "without {}", missing.path());
        }
    }
}

#[test]
fn a_store_that_was_set_back_goes_on_under_a_new_incarnation() {
    let (disk, other) = (Arc::new(MemoryDisk::new()), Arc::new(MemoryDisk::new()));
    let mut store = open(&disk, 1);
    let space = store.create_space(now(1), "default").unwrap();
    write(&mut store, 2, vec![put("a", "1")]);
    store.close().unwrap();
    let backup = disk.snapshot();
    write(&mut store, 3, vec![put("a", "2")]);
    let mut peer = open(&other, 2);
    peer.join_space(space, "default").unwrap();
    pass(&mut store, &mut peer, space);
    // The disk of the first one is set back; its peer knows more of its log than it does.
    let mut store = open(&Arc::new(backup), 1);
    pass(&mut peer, &mut store, space);
    write(&mut store, 4, vec![put("a", "3")]);
    pass(&mut store, &mut peer, space);
    assert_eq!(text(&mut peer, "a").as_deref(), Some("3"));
    assert_eq!(peer.frontier(&space).unwrap().len(), 2, "no number names two commits");
    assert_eq!(store.state_hash(&space).unwrap(), peer.state_hash(&space).unwrap());
}

#[test]
fn stamps_stay_what_they_were_when_a_failed_sync_moves_their_records() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk, 1);
    let space = store.create_space(now(1), "default").unwrap();
    let written = write(&mut store, 2, vec![put("key", "1")]);
    // The clock goes on; nothing of the segment is durable yet.
    write(&mut store, 60_000, vec![put("other", "2")]);
    disk.faults(|faults| faults.syncs_to_fail = 1);
    store.sync().unwrap();
    for reopened in [false, true] {
        if reopened {
            disk.crash(CrashMode::LoseAll, &mut Rng::new([1; 32]));
            assert_eq!(verify(&disk, true).unwrap().problems, []);
            store = open(&disk, 1);
        }
        let event = store.history(&space, &key("key"), 1).unwrap().remove(0);
        assert_eq!((event.stamp.commit, event.stamp.hlc), (written.tip.id, written.hlc));
        store.check_commit(&space, &written.tip.log, written.tip.seq).unwrap();
    }
}

/// Hands everything that one store holds to another.
pub(crate) fn pass(from: &mut TestStore, to: &mut TestStore, space: SpaceId) {
    pass_at(10_000, from, to, space);
}

/// The same, at a time.
pub(super) fn pass_at(ms: u64, from: &mut TestStore, to: &mut TestStore, space: SpaceId) {
    let frontier = from.frontier(&space).unwrap();
    let runs = frontier.iter().map(|tip| Run { log: tip.log, after: 0, upto: tip.seq });
    let mut serving = Serving::new(runs);
    while let Some(chunk) = from.next_chunk(&space, &mut serving, 1 << 16).unwrap() {
        to.insert_chunk(now(ms), &chunk.bytes).unwrap();
    }
}
