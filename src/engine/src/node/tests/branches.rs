//! What vouches for branches of forked logs: it is there whatever is taken, refused or lost of one.

use super::*;
use crate::base::LogId;
use crate::event::ForkProof;
use crate::log::{FileId, FileKind, Position};

impl World {
    /// Writes on one node while it is connected with another.
    fn told(&mut self, from: usize, to: usize, values: &[&str]) {
        let link = self.connect(from, to);
        for value in values {
            self.put(from, "told", value);
            self.run();
        }
        self.cut(link);
    }

    /// A space of five nodes, and a copy of the first.
    fn with_a_twin() -> (Self, SpaceId, LogId, usize) {
        let mut world = Self::new(5);
        let space = world.share();
        world.put(0, "first", "1");
        for other in 1..5 {
            let link = world.connect(0, other);
            world.cut(link);
        }
        let log = world.nodes[0].store().own_log().unwrap();
        let twin = world.twin(0);
        (world, space, log, twin)
    }

    /// Has a node know of a fork, of which it holds one side or none, without its peers' help.
    fn close(&mut self, n: usize, proof: &ForkProof) {
        let now = self.now();
        let closed = self.nodes[n].store().close_forked(now, std::slice::from_ref(proof));
        assert_eq!(closed.unwrap(), 1);
        self.run();
    }

    fn chunk(&mut self, n: usize, space: &SpaceId, logs: &[LogId]) -> Vec<u8> {
        let store = self.nodes[n].store();
        let version = store.version(space).unwrap();
        let runs = logs.iter().map(|log| Run { log: *log, after: 0, upto: version.get(log) });
        let mut serving = Serving::new(runs.collect::<Vec<_>>());
        store.next_chunk(space, &mut serving, 1 << 16).unwrap().unwrap().bytes
    }

    /// Where the commits lie that count on a node, of one log, its branches included.
    fn places(&mut self, n: usize, space: &SpaceId, log: &LogId) -> Vec<Position> {
        let store = self.nodes[n].store();
        let (from, upto) = (Position::default(), store.written());
        let (all, _) = store.arrived(space, from, upto, usize::MAX).unwrap();
        let of_log = all.into_iter().filter(|at| store.origin(space, &at.tip.log) == *log);
        of_log.map(|at| at.position).collect()
    }
}

/// Goal: where less of a branch is built upon than a peer sent, that part has its voucher, though
/// the rest waits and is gone after a restart.
#[test]
fn part_of_a_branch_is_handed_on_though_the_rest_waits() {
    let (mut world, space, log, twin) = World::with_a_twin();
    world.put(0, "own", "1");
    world.put(3, "needed", "1");
    world.told(twin, 1, &["1", "2"]);
    world.told(twin, 2, &["3", "4"]);
    let link = world.connect(3, 2);
    world.cut(link);
    // This builds upon all of the branch, and upon what node 4 will not get.
    world.put(2, "needed", "2");
    world.put(1, "told", "5");
    for other in [1, 0] {
        let link = world.connect(other, 2);
        world.cut(link);
    }
    let proof = world.nodes[2].store().fork_proof(&space, &log).unwrap();
    world.close(4, &proof);
    let logs = [1, 2].map(|n| world.nodes[n].store().own_log().unwrap());
    let bytes = world.chunk(2, &space, &logs);
    let now = world.now();
    let inserted = world.nodes[4].store().insert_chunk(now, &bytes).unwrap();
    assert_eq!((inserted.commits, inserted.waiting > 0), (3, true), "{inserted:?}");
    world.run();

    world.nodes[4] = world.open(4);
    let bytes = world.chunk(4, &space, &logs[..1]);
    let inserted = world.nodes[3].store().insert_chunk(now, &bytes);
    assert!(inserted.is_ok(), "{inserted:?}");
}

/// Goal: what vouches for a branch stands before it in the log, and a repair that takes a commit of
/// a branch along finds what vouches for that, which nobody else has any more.
#[test]
fn what_a_repair_takes_along_of_a_branch_is_vouched_for() {
    let (mut world, space, log, twin) = World::with_a_twin();
    world.told(twin, 1, &["1"]);
    world.put(0, "told", "2");
    world.told(0, 2, &["3", "4"]);
    world.put(2, "told", "5");
    world.run();
    // Node 1 alone builds upon the copy's side, and then takes the other.
    let side = world.nodes[2].store().fork_side(&space, &log, 3).unwrap();
    let proof = world.nodes[1].store().prove(side).unwrap();
    world.close(1, &proof);
    let of_two = world.nodes[2].store().own_log().unwrap();
    let bytes = world.chunk(2, &space, &[log, of_two]);
    let now = world.now();
    assert_eq!(world.nodes[1].store().insert_chunk(now, &bytes).unwrap().commits, 4);
    world.run();
    let vouchers = world.nodes[1].store().voucher_places();
    let places = world.places(1, &space, &log);
    assert_eq!(places.len(), 6, "{places:?}");
    assert!(vouchers[vouchers.len() - 2] < places[3], "{vouchers:?}, {places:?}");

    world.nodes[1].store().close().unwrap();
    let file = FileId::new(FileKind::Segment, places[1].segment);
    assert!(world.disks[1].flip_bit(file, (u64::from(places[1].offset) + 12) * 8));
    world.nodes[1] = world.open(1);
    world.nodes[1].store().begin_repair().unwrap();
    let link = world.connect(1, 2);
    assert_eq!(world.nodes[1].store().finish_repair().unwrap().missing, Vec::<String>::new());
    world.cut(link);
    // The copy is gone for good.
    for other in [2, 0, 3, 4, 2, 0, 3, 4] {
        let link = world.connect(other, 1);
        world.cut(link);
    }
    for other in [0, 2, 3, 4] {
        assert_eq!(world.hashes(other), world.hashes(1), "node {other}");
    }
}

/// Goal: where a peer brought a copy's commit in the place of one that was set aside, what follows
/// that in its segment, and leaves out its id, is not read as if it followed the copy's.
#[test]
fn what_follows_an_own_commit_is_not_read_as_if_it_followed_that_of_a_copy() {
    let (mut world, space, log, twin) = World::with_a_twin();
    let before = world.nodes[0].store().seq(0, &log);
    for value in ["1", "2", "3"] {
        world.put(0, "own", value);
    }
    world.run();
    let mut id_at = |seq| world.nodes[0].store().id_at(&space, &log, seq).unwrap();
    let written = [id_at(before + 1), id_at(before + 2), id_at(before + 3)];
    world.told(twin, 1, &["1"]);
    world.put(1, "told", "2");
    world.run();

    let place = world.places(0, &space, &log)[1];
    world.nodes[0].store().close().unwrap();
    let file = FileId::new(FileKind::Segment, place.segment);
    assert!(world.disks[0].flip_bit(file, (u64::from(place.offset) + 12) * 8));
    world.nodes[0] = world.open(0);
    let mut missing = vec![String::new()];
    for _ in 0..3 {
        world.nodes[0].store().begin_repair().unwrap();
        let link = world.connect(0, 1);
        missing = world.nodes[0].store().finish_repair().unwrap().missing;
        world.run();
        world.cut(link);
        if missing.is_empty() {
            break;
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    for id in written {
        let found = world.nodes[0].store().commits_with_prefix(0, &id.to_string()).unwrap();
        assert_eq!(found.len(), 1, "{id}");
    }
    for other in [1, 2, 3, 4, 1, 2, 3, 4] {
        let link = world.connect(other, 0);
        world.cut(link);
    }
    for other in [1, 2, 3, 4] {
        assert_eq!(world.hashes(other), world.hashes(0), "node {other}");
    }
}

/// Goal: a repair that does not end leaves both sides of a fork in the log, with nothing that says
/// so. What builds upon the side that a peer brought leaves out its id, and is read as it was
/// written, not as if it built upon the other side; the next repair makes all whole.
#[test]
fn what_a_repair_brought_is_read_as_it_was_written_though_it_did_not_end() {
    let (mut world, space, log, twin) = World::with_a_twin();
    world.nodes[0].store().seal().unwrap();
    world.put(0, "own", "1");
    world.run();
    world.told(twin, 1, &["1"]);
    world.put(1, "told", "2");
    world.run();
    let of_one = world.nodes[1].store().own_log().unwrap();
    let written = world.nodes[1].store().id_at(&space, &of_one, 1);
    assert!(written.is_some());

    let place = world.places(0, &space, &log)[1];
    world.nodes[0].store().close().unwrap();
    let file = FileId::new(FileKind::Segment, place.segment);
    assert!(world.disks[0].flip_bit(file, (u64::from(place.offset) + 12) * 8));
    world.nodes[0] = world.open(0);
    world.nodes[0].store().begin_repair().unwrap();
    let link = world.connect(0, 1);
    assert_eq!(world.nodes[0].store().id_at(&space, &of_one, 1), written, "it came");
    world.cut(link);
    world.nodes[0].store().end_repair().unwrap();
    let read = world.nodes[0].store().id_at(&space, &of_one, 1);
    assert!(read.is_none() || read == written, "given up: {read:?}");
    world.nodes[0].store().close().unwrap();
    world.nodes[0] = world.open(0);
    let read = world.nodes[0].store().id_at(&space, &of_one, 1);
    assert!(read.is_none() || read == written, "opened again: {read:?}");

    let mut missing = vec![String::new()];
    for _ in 0..3 {
        world.nodes[0].store().begin_repair().unwrap();
        let link = world.connect(0, 1);
        missing = world.nodes[0].store().finish_repair().unwrap().missing;
        world.cut(link);
        if missing.is_empty() {
            break;
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    let link = world.connect(0, 1);
    world.cut(link);
    assert_eq!(world.hashes(0), world.hashes(1));
    assert_eq!(world.show(1, "own").as_deref(), Some("1"));
    assert_eq!(world.show(0, "told").as_deref(), Some("2"));
}

/// A log of the first node and its copy, forked; of the one side there is much more than one chunk
/// brings and a waiting room holds.
fn large_branch() -> (World, usize) {
    let mut world = World::new(3);
    world.share();
    let links = [world.connect(0, 1), world.connect(0, 2)];
    links.into_iter().for_each(|link| world.cut(link));
    let twin = world.twin(0);
    world.put(twin, "other", "1");
    let large = format!("\"{}\"", "x".repeat(700_000));
    (0..20).for_each(|n| _ = world.put(0, &format!("large-{n}"), &large));
    world.run();
    (world, twin)
}

#[test]
fn a_branch_of_any_size_is_taken_in_parts() {
    let (mut world, twin) = large_branch();
    world.connect(0, twin);
    world.connect(0, 1);
    world.connect(0, 2);
    world.assert_equal();
}

#[test]
fn a_branch_of_any_size_is_taken_in_parts_though_its_holder_built_upon_all_of_it() {
    let (mut world, twin) = large_branch();
    let link = world.connect(0, 1);
    world.put(1, "small", "1");
    world.run();
    world.cut(link);
    // Its author stays away.
    world.connect(1, twin);
    world.connect(2, twin);
    let whole = world.hashes(1);
    assert_eq!([twin, 2].map(|n| world.hashes(n)), [whole; 2]);
    assert_eq!(world.show(2, "small").as_deref(), Some("1"));
}
