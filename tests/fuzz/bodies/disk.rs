//! The small files beside the log: manifest and clean mark, the local file, sidecars.

use std::ops::Bound;
use std::sync::Arc;

use kdelta_engine::base::Rng;
use kdelta_engine::log::{FileId, FileKind, Log, LogOptions, MemoryDisk};
use kdelta_engine::store::sidecar::{IdPrefix, Sidecar, SidecarError};
use kdelta_engine::store::{Local, verify};

use super::sums;
use super::world::{self, held, look, store_id};

/// Puts a file in the place of another.
pub fn replace(disk: &MemoryDisk, file: FileId, bytes: &[u8]) {
    disk.chop(file, 0);
    disk.plant(file, 0, bytes);
}

/// A manifest or a clean mark without the hash at its end: alone, and beside segments.
pub fn bookkeeping(bytes: &[u8]) {
    let whole = sums::with_sha(bytes);
    for disk in [MemoryDisk::new(), held().disk.snapshot(), held().sealed.snapshot()] {
        let file = match bytes.get(..8) {
            Some(b"KDMRK\0\r\n") => FileId::new(FileKind::Mark, 0),
            _ => {
                FileId::new(FileKind::Manifest, bytes.get(28).map_or(0, |byte| u64::from(byte & 1)))
            }
        };
        replace(&disk, file, &whole);
        let disk = Arc::new(disk);
        let options = LogOptions::new(store_id(), Rng::new([1; 32]));
        let Ok((log, _)) = Log::open(Arc::clone(&disk), &options) else { continue };
        let segments = log.segments();
        let records = log.scan(Default::default()).filter(Result::is_ok).count();
        drop(log);
        let (log, _) = Log::open(Arc::clone(&disk), &options).expect("it was opened before");
        assert_eq!(log.segments(), segments, "a second opening finds the same");
        assert_eq!(log.scan(Default::default()).filter(Result::is_ok).count(), records);
        let _ = kdelta_engine::log::verify(&disk, &options);
    }
}

/// A local file without the checksum at its end.
pub fn local(bytes: &[u8]) {
    let disk = MemoryDisk::new();
    replace(&disk, FileId::new(FileKind::Local, 0), &sums::with_crc(bytes));
    let _ = Local::verify(&disk);
    let Ok(Some(mut local)) = Local::load(&disk) else { return };
    let (generation, copy) = (local.generation, format!("{local:?}"));
    local.save(&disk).expect("a sound disk");
    let mut again = Local::load(&disk).expect("what was saved").expect("a file");
    assert!(again.generation > generation);
    assert_eq!(Local::verify(&disk).len(), 0, "both files are written");
    again.generation = generation;
    assert_eq!(format!("{again:?}"), copy, "a local file reads as written");
    let disk = Arc::new(disk);
    if let Ok((mut store, _)) = world::open(&disk, 1, world::ROOMY) {
        let _ = look(&mut store);
    }
    let _ = verify(&disk, true);
}

/// The newest sidecar of the store in several segments, and the number of its segment.
pub fn newest_sidecar(disk: &MemoryDisk) -> FileId {
    let files = disk.all_files().into_iter().filter(|file| file.kind == FileKind::Sidecar);
    files.max().expect("the store has sealed segments")
}

/// The pieces of a sidecar: of each its length as two bytes, then the bytes.
pub fn sidecar(bytes: &[u8]) {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while let Some(([low, high], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (piece, after) = after.split_at(len);
        pieces.push(piece);
        rest = after;
    }
    let disk = held().sealed.snapshot();
    let file = newest_sidecar(&disk);
    replace(&disk, file, &sums::sidecar(&store_id(), file.number, &pieces));
    let disk = Arc::new(disk);
    if let Ok(sidecar) = Sidecar::open(Arc::clone(&disk), file, store_id(), file.number, None) {
        let _ = ask(&sidecar);
    }
    if let Ok((mut store, _)) = world::open(&disk, 1, world::ROOMY) {
        let _ = look(&mut store);
    }
    let _ = verify(&disk, true);
}

fn ask(sidecar: &Sidecar<Arc<MemoryDisk>>) -> Result<(), SidecarError> {
    let _ = sidecar.check();
    for item in sidecar.range(Bound::Unbounded).take(256) {
        let (key, entry) = item?;
        let (_, _) = (sidecar.may_contain(&key), sidecar.lookup(&key));
        let (_, _) = (sidecar.state(&entry), sidecar.offsets(&entry));
    }
    for tag in 0..=4 {
        let _ = sidecar.blob(tag);
    }
    for commit in sidecar.commits(0, 0).take(256) {
        commit?;
    }
    let mut search = sidecar.search();
    for seq in [0, 1, 2, 7, u64::MAX] {
        let (_, _) = (sidecar.commit(1, seq), search.find(0, seq));
    }
    for digits in ["", "0", "ab", "00000000"] {
        let prefix = IdPrefix::from_hex(digits).expect("hexadecimal digits");
        let _ = sidecar.find_ids(&prefix, 64);
    }
    Ok(())
}
