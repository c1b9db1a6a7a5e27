//! An opening of a store whose index is rotten.

use super::*;
use crate::log::FileId;

/// So far from the end lies a bit of the footer, which names all else.
const FOOTER_BITS: u64 = 800;

/// Flips one bit.
fn rot(disk: &MemoryDisk, file: FileId, at: u64) {
    assert!(disk.flip_bit(file, at), "{} is that long", file.path());
}

fn hashes(store: &mut TestStore, space: SpaceId) -> (Option<Hash>, Hash) {
    let ask = |store: &mut TestStore| Ok((store.state_hash(&space)?, store.value_hash(&space)?));
    store.ask(ask).unwrap()
}

#[test]
fn what_an_index_does_not_answer_is_not_taken_for_lost() {
    let (disk, space, whole) = beside_a_fork();
    let sidecars = disk.files(FileKind::Sidecar).unwrap();
    // What is replayed first may build upon what lies far before.
    let (rotten, later) = sidecars.split_first().unwrap();
    let bits = disk.len(*rotten).unwrap() * 8;
    let parts = (0..bits).step_by(usize::try_from(bits / 7).unwrap());
    for at in parts.chain([bits - FOOTER_BITS]) {
        for missing in later.iter().skip(1) {
            let disk = Arc::new(disk.snapshot());
            rot(&disk, *rotten, at);
            disk.remove(*missing).unwrap();
            let mut store = open(&disk, 1);
            assert_eq!(store.damage(), None, "bit {at}, and without {}", missing.path());
            assert_eq!(hashes(&mut store, space), whole, "bit {at}");
        }
    }
}
