//! Any bytes as what a crash, or anything else, left of a log.

use std::sync::Arc;

use kdelta_engine::base::Reader;
use kdelta_engine::crdt::{Json, Op};
use kdelta_engine::log::{FileId, FileKind, MemoryDisk};
use kdelta_engine::store::{Write, verify};

use super::disk::replace;
use super::sums;
use super::world::{self, bare, held, key_op, look, now, same, store_id};

/// The hashes of manifests and mark are left out and made anew.
pub const HASHES: u8 = 1;
/// The checksums of the segment are made anew.
pub const SUMS: u8 = 2;

/// Flags; then manifest-0, manifest-1 and the clean mark, each with its length as varint and not
/// there if that is 0; then the segment, which is the newest one. The store is opened twice and
/// must say the same, and take a commit that the third opening finds.
pub fn recover(bytes: &[u8]) {
    let disk = bare();
    if plant(&disk, bytes).is_none() {
        return;
    }
    let opened = world::open(&disk, 1, world::ROOMY);
    let (mut store, recovery) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let again = world::open(&disk, 1, world::ROOMY).map(drop);
            assert_eq!(again.expect_err("it was refused").to_string(), error.to_string());
            return;
        }
    };
    let said = look(&mut store);
    drop(store);
    let (mut store, again) = world::open(&disk, 1, world::ROOMY).expect("it was opened before");
    same(&look(&mut store), &said);
    assert!(again.torn.is_empty(), "after {recovery:?} the tail is torn again: {again:?}");
    let _ = verify(&disk, true);
    let ops = vec![key_op("new", Op::Put(Json::parse(b"1").unwrap()))];
    let write = Write { space: held().space, ops, ..Write::default() };
    let Ok(written) = store.write(now(5000), write) else { return };
    store.sync().expect("a sound disk");
    drop(store);
    let (store, _) = world::open(&disk, 1, world::ROOMY).expect("it was opened before");
    let tip = written.tip;
    assert_eq!(store.id_at(&held().space, &tip.log, tip.seq), Some(tip.id), "a write stays");
}

fn plant(disk: &Arc<MemoryDisk>, bytes: &[u8]) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let flags = reader.u8().ok()?;
    for file in [
        FileId::new(FileKind::Manifest, 0),
        FileId::new(FileKind::Manifest, 1),
        FileId::new(FileKind::Mark, 0),
    ] {
        let content = reader.bytes(bytes.len(), "file").ok()?;
        if flags & HASHES != 0 && !content.is_empty() {
            replace(disk, file, &sums::with_sha(content));
        } else if !content.is_empty() {
            replace(disk, file, content);
        }
    }
    let mut segment = reader.take(reader.remaining()).ok()?.to_vec();
    if flags & SUMS != 0 {
        sums::segment(&mut segment, &store_id(), 1);
    }
    replace(disk, FileId::new(FileKind::Segment, 1), &segment);
    Some(())
}
