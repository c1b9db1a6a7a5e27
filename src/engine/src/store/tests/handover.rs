//! A store that goes on under another key.

use super::*;

/// A store with a commit of its own that nobody else holds.
fn written(disk: &Arc<MemoryDisk>) -> SpaceId {
    let mut store = open(disk, 1);
    let space = store.create_space(now(1), "default").unwrap();
    write(&mut store, 2, vec![put("k", "1")]);
    store.close().unwrap();
    space
}

#[test]
fn what_was_written_under_an_earlier_key_is_handed_on() {
    for handed in [false, true] {
        let disk = Arc::new(MemoryDisk::new());
        let space = written(&disk);
        if handed {
            let mut store = open(&disk, 1);
            store.hand_over().unwrap();
            store.close().unwrap();
        }
        let mut store = open(&disk, 2);
        write(&mut store, 3, vec![put("k", "2")]);
        let mut other = open(&Arc::new(MemoryDisk::new()), 3);
        other.join_space(space, "default").unwrap();
        if !handed {
            let runs = store.frontier(&space).unwrap();
            let runs = runs.iter().map(|tip| Run { log: tip.log, after: 0, upto: tip.seq });
            let refused = store.next_chunk(&space, &mut Serving::new(runs), 1 << 16);
            assert!(matches!(refused, Err(ReadError::Unvouched)), "{refused:?}");
            continue;
        }
        pass(&mut store, &mut other, space);
        assert_eq!(text(&mut other, "k").as_deref(), Some("2"));
        assert_eq!(other.state_hash(&space).unwrap(), store.state_hash(&space).unwrap());
        // And the earlier key again, which may have been elsewhere meanwhile.
        store.hand_over().unwrap();
        store.close().unwrap();
        let mut store = open(&disk, 1);
        let again = write(&mut store, 4, vec![put("k", "3")]);
        assert_eq!(again.tip.seq, 1, "a log of its own");
        pass(&mut store, &mut other, space);
        assert_eq!(text(&mut other, "k").as_deref(), Some("3"));
        assert_eq!(verify(&disk, true).unwrap().problems, []);
    }
}

#[test]
fn a_hand_over_that_was_not_needed_changes_nothing_that_shows() {
    let disk = Arc::new(MemoryDisk::new());
    let space = written(&disk);
    let mut store = open(&disk, 1);
    let before = store.state_hash(&space).unwrap();
    for _ in 0..3 {
        store.hand_over().unwrap();
    }
    assert_eq!(store.state_hash(&space).unwrap(), before, "it adds no commit");
    let next = write(&mut store, 5, vec![put("k", "2")]);
    assert_eq!((next.tip.seq, next.tip.log.replica), (1, store.replica()));
    let mut other = open(&Arc::new(MemoryDisk::new()), 2);
    other.join_space(space, "default").unwrap();
    pass(&mut store, &mut other, space);
    assert_eq!(text(&mut other, "k").as_deref(), Some("2"));
    // A store in which nothing was written yet has nothing to hand over.
    open(&Arc::new(MemoryDisk::new()), 3).hand_over().unwrap();
}
