//! Groups that the disk does not take.

use super::*;
use crate::log::LogError;

/// A store with something durable, and a group of `bytes` that the disk does not take any more.
fn refusing(bytes: u64) -> (Arc<MemoryDisk>, TestStore, Receipt) {
    let disk = Arc::new(MemoryDisk::new());
    // The bars are those of the log: a group is full before its segment is.
    let options = Options { memory_bytes: 64 << 20, segment_bytes: 1 << 30, place: None };
    let key = KeyPair::from_seed([1; 32]);
    let mut store = Store::open(Arc::clone(&disk), key, [1; 32], now(0), options).unwrap().0;
    store.create_space(now(1), "default").unwrap();
    write(&mut store, 2, vec![put("kept", "1")]);
    store.sync().unwrap();
    let value = format!("\"{}\"", "x".repeat(4 << 20));
    let mut at = 3;
    while bytes > (at - 3) << 22 {
        write(&mut store, at, vec![put(&format!("gone-{at}"), &value)]);
        at += 1;
    }
    let receipt = store.receipt();
    disk.faults(|faults| faults.read_only = true);
    (disk, store, receipt)
}

/// Nothing of the group is shown, whoever wrote it is told, also when its place is used again.
fn taken_back(disk: &Arc<MemoryDisk>, mut store: TestStore, receipt: Receipt) {
    assert!(matches!(store.outcome(receipt), Outcome::TakenBack(_)));
    assert_eq!(text(&mut store, "gone-3"), None);
    disk.faults(|faults| faults.read_only = false);
    let value = format!("\"{}\"", "y".repeat(5 << 20));
    for at in 0..8 {
        write(&mut store, 90 + at, vec![put("kept", &value)]);
        store.sync().unwrap();
    }
    assert!(matches!(store.outcome(receipt), Outcome::TakenBack(_)));
    assert_eq!(store.outcome(store.receipt()), Outcome::Durable);
    store.close().unwrap();
    let mut store = open(disk, 1);
    assert_eq!(store.damage(), None);
    assert_eq!(text(&mut store, "gone-3"), None);
    assert_eq!(text(&mut store, "kept"), Some(value));
}

#[test]
fn a_full_group_that_the_disk_refuses_is_taken_back_whole() {
    let (disk, mut store, receipt) = refusing(28 << 20);
    let space = store.space_named("default").unwrap();
    let ops = vec![put("last", &format!("\"{}\"", "x".repeat(6 << 20)))];
    let refused = store.write(now(50), Write { space, ops, ..Write::default() });
    assert!(matches!(refused, Err(WriteError::Log(LogError::ReadOnly(_)))), "{refused:?}");
    taken_back(&disk, store, receipt);
}

#[test]
fn a_group_that_the_disk_refuses_at_a_seal_is_taken_back() {
    let (disk, mut store, receipt) = refusing(4 << 20);
    assert!(store.seal().is_err());
    taken_back(&disk, store, receipt);
}

#[test]
fn a_full_group_whose_disk_fails_is_written_elsewhere() {
    let (disk, mut store, _) = refusing(28 << 20);
    disk.faults(|faults| (faults.read_only, faults.writes_to_fail) = (false, 1));
    let value = format!("\"{}\"", "x".repeat(6 << 20));
    write(&mut store, 900_000, vec![put("last", &value)]);
    store.sync().unwrap();
    store.close().unwrap();
    let mut store = open(&disk, 1);
    assert_eq!(store.damage(), None);
    assert_eq!(text(&mut store, "last"), Some(value));
    assert!(text(&mut store, "gone-3").is_some());
}

#[test]
fn a_sync_does_not_answer_for_one_that_is_under_way() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk, 1);
    store.create_space(now(1), "default").unwrap();
    store.flush().unwrap();
    let ticket = store.sync_due().unwrap();
    assert!(matches!(store.sync(), Err(WriteError::Log(LogError::SyncUnderWay))));
    store.synced(ticket, Disk::sync(&disk, ticket.file)).unwrap();
    store.sync().unwrap();
}
