//! Spaces that come, go and come again.

use super::*;
use crate::log::CrashMode;

#[test]
fn a_space_whose_genesis_was_lost_with_the_power_never_was() {
    for more in [false, true] {
        let disk = Arc::new(MemoryDisk::new());
        let mut store = open(&disk, 1);
        if more {
            store.create_space(now(1), "first").unwrap();
            store.sync().unwrap();
        }
        let lost = store.create_space(now(2), "default").unwrap();
        disk.crash(CrashMode::LoseAll, &mut Rng::new([1; 32]));
        for _ in 0..2 {
            let store = open(&disk, 1);
            assert_eq!(store.space_named("default"), None);
            assert_eq!(store.space_named("first").is_some(), more);
        }
        let mut store = open(&disk, 1);
        let made = store.create_space(now(3), "default").unwrap();
        assert_ne!(made, lost);
        write(&mut store, 4, vec![put("k", "1")]);
        store.close().unwrap();
        let mut store = open(&disk, 1);
        assert_eq!(store.space_named("default"), Some(made));
        assert_eq!(text(&mut store, "k").as_deref(), Some("1"));
        assert_eq!(verify(&disk, true).unwrap().problems, []);
    }
}

#[test]
fn a_space_that_was_joined_and_is_empty_yet_stays() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk, 1);
    store.join_space(SpaceId([7; 32]), "default").unwrap();
    drop(store);
    assert_eq!(open(&disk, 1).space_named("default"), Some(SpaceId([7; 32])));
}

/// A disk that lost the space which was made there, and a peer that holds it.
fn lost_and_held() -> (Arc<MemoryDisk>, TestStore, SpaceId) {
    let (disk, other) = (Arc::new(MemoryDisk::new()), Arc::new(MemoryDisk::new()));
    let (mut store, mut peer) = (open(&disk, 1), open(&other, 2));
    let space = store.create_space(now(1), "default").unwrap();
    peer.join_space(space, "default").unwrap();
    pass(&mut store, &mut peer, space);
    peer.sync().unwrap();
    disk.crash(CrashMode::LoseAll, &mut Rng::new([1; 32]));
    (disk, peer, space)
}

#[test]
fn a_space_that_was_retired_can_be_joined_again() {
    // The disk lied, and its peer has what it lost.
    let (disk, mut peer, space) = lost_and_held();
    let mut store = open(&disk, 1);
    assert!(!store.has_space(&space));
    store.join_space(space, "again").unwrap();
    pass(&mut peer, &mut store, space);
    assert_eq!(store.state_hash(&space).unwrap(), peer.state_hash(&space).unwrap());
    store.close().unwrap();
    assert_eq!(open(&disk, 1).space_named("again"), Some(space));
}

#[test]
fn who_lost_the_genesis_of_a_space_and_joins_it_again_gives_its_number_to_nothing_else() {
    // A copy of the directory that was taken before anything in it was durable.
    let (disk, mut peer, space) = lost_and_held();
    open(&disk, 1).join_space(space, "default").unwrap();
    let mut store = open(&disk, 1);
    write(&mut store, 2, vec![put("k", "1")]);
    pass(&mut store, &mut peer, space);
    pass(&mut peer, &mut store, space);
    assert_eq!(text(&mut peer, "k").as_deref(), Some("1"));
    assert_eq!(store.state_hash(&space).unwrap(), peer.state_hash(&space).unwrap());
}

#[test]
fn above_its_quota_a_space_takes_no_data_whoever_wrote_it() {
    let [disk, other] = [(); 2].map(|()| Arc::new(MemoryDisk::new()));
    let (mut a, mut b) = (open(&disk, 1), open(&other, 2));
    let space = a.create_space(now(1), "default").unwrap();
    let long = format!("{:?}", "x".repeat(300));
    write(&mut a, 2, vec![put("k", &long)]);
    b.join_space(space, "default").unwrap();
    pass(&mut a, &mut b, space);
    let taken = a.usage(&space).unwrap();
    assert!((300..500).contains(&taken.bytes) && taken.quota.is_none(), "{taken:?}");
    assert_eq!(b.usage(&space).unwrap(), taken);
    let quota = taken.bytes + 200;
    b.set_quota(&space, Some(quota)).unwrap();
    write(&mut b, 3, vec![put("small", "1")]);
    let before = b.usage(&space).unwrap().bytes;
    let big = Write { space, ops: vec![put("big", &long)], ..Write::default() };
    let Err(WriteError::Quota(refused)) = b.write(now(4), big.clone()) else { panic!("taken") };
    assert!(refused.quota == quota && refused.needed > before + 300, "{refused:?}");
    assert_eq!((text(&mut b, "big"), b.usage(&space).unwrap().bytes), (None, before));
    write(&mut a, 5, vec![put("big", &long)]);
    let brought = |from: &mut TestStore, to: &mut TestStore| {
        let tip = from.frontier(&space).unwrap()[0];
        let mut serving = Serving::new([Run { log: tip.log, after: 0, upto: tip.seq }]);
        let chunk = from.next_chunk(&space, &mut serving, 1 << 16).unwrap().unwrap();
        to.insert_chunk(now(6), &chunk.bytes).map(|inserted| inserted.commits)
    };
    let refused = brought(&mut a, &mut b);
    assert!(matches!(refused, Err(InsertError::Quota(_))), "{refused:?}");
    b.close().unwrap();
    let mut b = open(&other, 2);
    assert_eq!(b.usage(&space).unwrap(), Usage { bytes: before, quota: Some(quota) });
    assert!(matches!(brought(&mut a, &mut b), Err(InsertError::Quota(_))));
    b.set_quota(&space, None).unwrap();
    assert_eq!(brought(&mut a, &mut b).unwrap(), 1);
    assert_eq!(text(&mut b, "big"), Some(long));
    b.write(now(7), big).unwrap();
}

#[test]
fn what_waits_for_room_in_one_space_keeps_no_other_waiting() {
    let (mut a, mut b) =
        (open(&Arc::new(MemoryDisk::new()), 1), open(&Arc::new(MemoryDisk::new()), 2));
    let spaces = ["full", "roomy"].map(|name| {
        let space = a.create_space(now(1), name).unwrap();
        b.join_space(space, name).unwrap();
        pass(&mut a, &mut b, space);
        // It waits for its time first.
        let ops = vec![put("k", "1")];
        a.write(now(3_600_000), Write { space, ops, ..Write::default() }).unwrap();
        pass(&mut a, &mut b, space);
        space
    });
    b.set_quota(&spaces[0], Some(0)).unwrap();
    let late = b.retry_waiting(now(3_600_000)).unwrap();
    assert_eq!((late.commits, late.waiting), (1, 1));
    assert_eq!(spaces.map(|space| b.counts(&space).unwrap().0), [1, 2]);
    b.set_quota(&spaces[0], None).unwrap();
    assert_eq!(b.retry_waiting(now(3_600_000)).unwrap().commits, 1);
}
