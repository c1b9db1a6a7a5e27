//! What a session may cost.

use super::world::*;
use crate::base::{CommitId, Rng};
use crate::sync::*;

fn rng() -> Rng {
    Rng::new([1; 32])
}

/// Writes one more commit to each of the logs.
fn grow(store: &mut Store, logs: impl IntoIterator<Item = u64>) {
    for n in logs {
        let seq = store.upto(&log(n)) + 1;
        let mut id = [0xaa; 32];
        id[..8].copy_from_slice(&(n << 32 | seq).to_le_bytes());
        let tip = Tip { log: log(n), seq, id: CommitId(id) };
        let commit = Commit { tip, order: 1 << 40 | n, deps: vec![], bytes: COMMIT_BYTES };
        store.apply(commit);
    }
}

fn pair(logs: u64, commits: u64) -> (Store, Store) {
    let store = part_of(&history(&mut rng(), logs, commits), &mut rng(), 100);
    assert_eq!(store.logs.len() as u64, logs);
    (store.clone(), store)
}

fn run(a: Store, b: Store) -> World {
    let mut world = World::new(a, b);
    world.run().expect("honest");
    let [a, b] = &world.ends;
    assert!(a.in_sync() && b.in_sync(), "{:?} {:?}", a.outcome, b.outcome);
    assert_eq!(a.store.digest(), b.store.digest());
    world
}

/// Returns the round trips until the dialling side knew that both are in sync.
fn trips(world: &World) -> u32 {
    let counted = world.ends.iter().map(|end| end.session.stats().round_trips).max();
    let passed = world.initiator_half_trips.div_ceil(2);
    assert!(counted.is_some_and(|counted| counted <= passed), "{counted:?} of {passed}");
    passed
}

#[test]
fn equal_replicas_are_done_in_one_round_trip() {
    for logs in [0, 1, 256, 257, 2000] {
        let (a, b) = pair(logs, 2 * logs);
        let world = run(a, b);
        assert_eq!(world.half_trips, 2);
        let frontiers = if logs > 256 { 0 } else { logs * 2 * 74 };
        assert!(world.bytes_besides_commits() <= 200 + frontiers);
    }
}

#[test]
fn ten_new_commits_in_ten_logs_take_two_round_trips_and_3_kib() {
    for new in [1, 5, 10] {
        for swap in [false, true] {
            let (mut a, mut b) = pair(10, 10_000);
            grow(&mut a, 0..10);
            (0..10 - new).for_each(|n| grow(&mut b, [n]));
            let (a, b) = if swap { (b, a) } else { (a, b) };
            let world = run(a, b);
            let bytes = world.bytes_besides_commits();
            assert!(bytes <= 3 << 10, "{bytes} bytes");
            assert!(trips(&world) <= 2, "{} half trips", world.half_trips);
        }
    }
}

#[test]
fn three_of_a_thousand_logs_take_four_round_trips_and_32_kib() {
    for swap in [false, true] {
        for differ in [[0, 1, 2], [3, 500, 999], [77, 78, 600]] {
            let (mut a, b) = pair(1000, 3000);
            grow(&mut a, differ);
            let (a, b) = if swap { (b, a) } else { (a, b) };
            let world = run(a, b);
            assert!(trips(&world) <= 4, "{} half trips", world.half_trips);
            let bytes = world.bytes_besides_commits();
            assert!(bytes <= 32 << 10, "{bytes} bytes");
        }
    }
}

#[test]
fn a_fresh_replica_gets_a_thousand_logs_in_three_round_trips() {
    let (a, _) = pair(1000, 3000);
    for swap in [false, true] {
        let (a, b) =
            if swap { (Store::default(), a.clone()) } else { (a.clone(), Store::default()) };
        let world = run(a, b);
        assert!(trips(&world) <= 3, "{} half trips", world.half_trips);
        // The peer's entries once, and the requests for them.
        let bytes = world.bytes_besides_commits();
        assert!(bytes <= 1000 * (74 + 75) + 4096, "{bytes} bytes");
    }
}

#[test]
fn a_commit_larger_than_the_window_passes() {
    let (mut a, b) = pair(3, 10);
    for bytes in [18 << 20, 100, 3 << 20] {
        let seq = a.upto(&log(0)) + 1;
        let tip = Tip { log: log(0), seq, id: CommitId([9; 32]) };
        a.apply(Commit { tip, order: 1 << 40 | seq, deps: vec![], bytes: bytes - 100 });
    }
    run(a, b);
}
