//! Reads beside writers: whole batches only, one's own writes at once, and no stale answer.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what goes wrong fails the test"
)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kdelta::engine::base::{Key, SpaceId};
use kdelta::engine::crdt::{Json, Op, Value, View};
use kdelta::engine::store::{KeyOp, ReadError, Write};
use kdelta::host::replica::{Durability, Replica};

fn key(name: &str) -> Key {
    Key::new(name).expect("a key")
}

fn write(replica: &Replica, space: SpaceId, keys: &[Key], number: u64) {
    let value = Json::parse(number.to_string().as_bytes()).expect("JSON");
    let op = |key: &Key| {
        let op = Op::Put(value.clone());
        KeyOp { key: key.clone(), op, retype: false, expect: None }
    };
    let write = Write { space, ops: keys.iter().map(op).collect(), ..Write::default() };
    replica.write(write, Durability::Buffered).expect("a write");
}

fn number(view: Option<&View>) -> u64 {
    match view.map(|view| &view.value) {
        Some(Value::Json(json)) => std::str::from_utf8(json.as_bytes())
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("a number"),
        None => 0,
        other => panic!("{other:?}"),
    }
}

/// Writes batches that give all keys one number while `look` runs in two threads, again and again.
fn beside_a_writer(batches: u64, look: impl Fn(&Replica, SpaceId, &[Key]) + Sync) {
    let dir = tempfile::tempdir().expect("a directory");
    let replica = Replica::open(dir.path()).expect("a replica");
    let space = replica.default_space().expect("a space");
    let keys: Vec<Key> = (0..5).map(|n| key(&format!("batch/{n}"))).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    look(&replica, space, &keys);
                }
            });
        }
        for number in 1..=batches {
            write(&replica, space, &keys, number);
            if number % 8 == 0 {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let views = replica.views(&space, &keys).expect("a read");
    assert!(views.iter().all(|view| number(view.as_deref()) == batches));
    replica.close().expect("an end");
}

#[test]
fn several_keys_show_whole_batches_only() {
    beside_a_writer(4000, |replica, space, keys| {
        let views = replica.views(&space, keys).expect("a read");
        let numbers: Vec<u64> = views.iter().map(|view| number(view.as_deref())).collect();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
    });
}

#[test]
fn lists_show_whole_batches_only() {
    beside_a_writer(1500, |replica, space, _| {
        let page = replica.read(|store| store.list(&space, "batch/", None, 100, None));
        let keys = page.expect("a read").keys;
        let numbers: Vec<u64> = keys.iter().map(|(_, view)| number(Some(view))).collect();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
        assert!(numbers.is_empty() || numbers.len() == 5, "{numbers:?}");
    });
}

#[test]
fn pages_of_one_version_show_whole_batches_only() {
    beside_a_writer(600, |replica, space, _| {
        let version = replica.read(|store| store.version(&space)).expect("a version");
        let (mut after, mut numbers) = (None::<String>, Vec::new());
        loop {
            let page = replica
                .read(|store| store.list(&space, "batch/", after.as_deref(), 2, Some(&version)));
            let page = page.expect("a read");
            numbers.extend(page.keys.iter().map(|(_, view)| number(Some(view))));
            after = page.keys.last().map(|(key, _)| key.as_str().to_owned());
            if !page.more {
                break;
            }
        }
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
    });
}

#[test]
fn keys_that_are_read_one_after_the_other_never_go_back() {
    beside_a_writer(4000, |replica, space, keys| {
        let mut seen = 0;
        for key in keys.iter().chain(keys.iter().rev()) {
            let view = replica.view(&space, key).expect("a read");
            let now = number(view.as_deref());
            assert!(now >= seen, "{key} shows {now} after another showed {seen}");
            seen = now;
        }
    });
}

#[test]
fn a_write_that_returned_is_seen_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::open(dir.path()).unwrap();
    let space = replica.default_space().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let replica = &replica;
            scope.spawn(move || {
                let own = [key(&format!("own/{writer}"))];
                for round in 1..=1500 {
                    write(replica, space, &own, round);
                    for _ in 0..3 {
                        let view = replica.view(&space, &own[0]).unwrap();
                        assert_eq!(number(view.as_deref()), round);
                        let view = replica.get(own[0].as_str()).unwrap();
                        assert_eq!(number(view.as_deref()), round);
                    }
                }
            });
        }
    });
    replica.delete("own/0").unwrap();
    assert_eq!(replica.get("own/0").unwrap(), None);
    assert_eq!(replica.get_many(&["own/0", "own/1"]).unwrap().iter().flatten().count(), 1);
    replica.close().unwrap();
}

/// Changes a byte in the middle of the first segment, as rot does.
fn rot(dir: &Path) {
    let mut segments: Vec<_> = std::fs::read_dir(dir.join("log")).unwrap().flatten().collect();
    segments.retain(|file| file.path().extension().is_some_and(|ending| ending == "seg"));
    segments.sort_by_key(std::fs::DirEntry::path);
    let path = segments[0].path();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damage_that_is_found_is_an_error_however_hot_a_key_was() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::open(dir.path()).unwrap();
    let space = replica.default_space().unwrap();
    let keys: Vec<Key> = (0..200).map(|n| key(&format!("key/{n}"))).collect();
    for (at, key) in keys.iter().enumerate() {
        write(&replica, space, std::slice::from_ref(key), at as u64 + 1);
    }
    replica.flush().unwrap();
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(number(replica.view(&space, key).unwrap().as_deref()), at as u64 + 1);
    }
    replica.read(|store| store.close()).unwrap();
    rot(dir.path());
    replica.read(|store| store.begin_repair()).unwrap();
    assert!(replica.read(|store| store.damage().is_some()), "the rot was found");
    for key in &keys {
        let read = replica.view(&space, key);
        assert!(matches!(read, Err(ReadError::Damaged(_))), "{key}: {read:?}");
        assert!(replica.get(key.as_str()).is_err());
        assert!(replica.views(&space, std::slice::from_ref(key)).is_err());
    }
    // What is read in spite of the damage does not get into the table either.
    let intact = replica.read(|store| store.with_degraded(|s| s.get(&space, &keys[0], None)).0);
    assert!(intact.unwrap().is_some());
    assert!(replica.view(&space, &keys[0]).is_err());
    replica.close().unwrap();
}
