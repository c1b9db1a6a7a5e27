//! What a store tells whoever keeps copies of what its keys show.
//!
//! Readers that must not wait for the store ask such a copy. The store says what became stale
//! while a commit is applied, before anybody can learn that it was; it never asks the copy for
//! anything, and works the same without one.

use std::fmt::Debug;
use std::sync::Arc;

use super::Store;
use crate::base::SpaceId;
use crate::log::Disk;

/// A copy of what keys show, kept outside of the store by whoever drives it.
///
/// It is filled only while its owner keeps the store from changing, from reads that report no
/// damage. Then a reader that finds the same [`published`](Self::published) ordinal before and
/// after it looked at several keys saw the whole of every commit, or nothing of it.
pub trait Mirror: Debug + Send + Sync {
    /// What that key shows may be another from now on.
    fn changed(&self, space: &SpaceId, key: &str);

    /// A commit is applied whole, and all keys that it touched were told of: the next apply
    /// ordinal begins.
    fn published(&self);

    /// What any key shows may be another from now on.
    fn cleared(&self);
}

impl<D: Disk + Clone> Store<D> {
    /// Tells `mirror` from now on what becomes stale. There is one at a time.
    pub fn set_mirror(&mut self, mirror: Arc<dyn Mirror>) {
        mirror.cleared();
        self.cache.mirror = Some(mirror);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use super::super::tests::{TestStore, key, now, open, put, text, write};
    use super::*;
    use crate::base::{Key, Rng};
    use crate::crdt::Op;
    use crate::log::MemoryDisk;
    use crate::store::KeyOp;

    /// Keeps what was read until the store says that it is stale.
    #[derive(Debug, Default)]
    struct Copies {
        shown: Mutex<BTreeMap<Key, Option<String>>>,
        published: AtomicU64,
    }

    impl Mirror for Copies {
        fn changed(&self, _: &SpaceId, key: &str) {
            self.shown.lock().unwrap().remove(key);
        }

        fn published(&self) {
            self.published.fetch_add(1, Ordering::Relaxed);
        }

        fn cleared(&self) {
            self.shown.lock().unwrap().clear();
        }
    }

    impl Copies {
        fn of(store: &mut TestStore) -> Arc<Self> {
            let copies = Arc::<Self>::default();
            store.set_mirror(Arc::<Self>::clone(&copies));
            copies
        }

        fn fill(&self, store: &mut TestStore, names: &[&str]) {
            for name in names {
                let shown = text(store, name);
                self.shown.lock().unwrap().insert(key(name), shown);
            }
        }

        fn check(&self, store: &mut TestStore) {
            let shown = self.shown.lock().unwrap().clone();
            for (key, copy) in shown {
                assert_eq!(text(store, key.as_str()), copy, "{key}");
            }
        }
    }

    #[test]
    fn no_copy_is_ever_stale() {
        let names = ["a", "b", "c", "d", "e"];
        let disk = Arc::new(MemoryDisk::new());
        let mut store = open(&disk, 1);
        store.create_space(now(1), "default").unwrap();
        let copies = Copies::of(&mut store);
        let mut rng = Rng::new([9; 32]);
        for ms in 2..2000 {
            copies.fill(&mut store, &names);
            let before = copies.published.load(Ordering::Relaxed);
            let mut some = |value: u64| {
                let name = names[usize::try_from(rng.u64() % 5).unwrap()];
                match value % 7 {
                    0 => KeyOp { op: Op::Delete, ..put(name, "0") },
                    _ => put(name, &value.to_string()),
                }
            };
            let mut ops = vec![some(ms | 1)];
            ops.extend((0..ms % 3).map(|more| some(ms * 10 + more)));
            let space = store.space_named("default").unwrap();
            let write = crate::store::Write { space, ops, ..Default::default() };
            let written = store.write(now(ms), write).is_ok();
            copies.check(&mut store);
            let commits = copies.published.load(Ordering::Relaxed) - before;
            assert_eq!(commits, u64::from(written), "one ordinal a commit");
            if ms % 400 == 0 {
                store.sync().unwrap();
                store.reload().unwrap();
                assert!(copies.shown.lock().unwrap().is_empty());
            }
        }
        assert!(!store.sealed.is_empty(), "segments were sealed on the way");
    }

    #[test]
    fn what_the_disk_took_back_leaves_the_copies() {
        let disk = Arc::new(MemoryDisk::new());
        let mut store = open(&disk, 1);
        store.create_space(now(1), "default").unwrap();
        let copies = Copies::of(&mut store);
        write(&mut store, 2, vec![put("a", "1"), put("b", "1")]);
        store.sync().unwrap();
        write(&mut store, 3, vec![put("a", "2"), put("b", "2")]);
        copies.fill(&mut store, &["a", "b"]);
        // What was reserved turns out to be a hint only, and the disk is full.
        let file = store.log.segments().last().unwrap().file;
        disk.chop(file, store.durable().offset as usize);
        let used = disk.all_files().into_iter().map(|f| disk.content(f).unwrap().len() as u64);
        let used = used.sum::<u64>();
        disk.faults(|faults| faults.space = Some(used + 10));
        assert!(store.flush().is_err());
        assert!(copies.shown.lock().unwrap().is_empty());
        for name in ["a", "b"] {
            assert_eq!(text(&mut store, name).as_deref(), Some("1"));
        }
    }
}
