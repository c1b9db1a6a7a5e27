//! The disk of the host beside the disk in memory: the same calls give the same answers, errors and
//! contents, and what a real power cut leaves is what the one in memory may leave.

use std::path::Path;

use kdelta::engine::base::Rng;
use kdelta::engine::log::{CrashMode, Disk, DiskErrorKind, FileId, FileKind, MemoryDisk};
use kdelta::host::disk::FileDisk;

use crate::common::{Dice, Home, count};
use crate::mounts::{Ext4, Tmpfs};

/// Makes one random call on a disk; returns what it answers, in words.
fn call(disk: &dyn Disk, dice: &mut Dice, shrinks: bool) -> String {
    let kind = FileKind::ALL[usize::try_from(dice.below(7)).expect("small")];
    let file = FileId::new(kind, dice.below(2));
    let other = FileId::new(FileKind::ALL[usize::try_from(dice.below(7)).expect("small")], 1);
    // No zeros: those are what a hole reads as.
    let bytes: Vec<u8> =
        (0..=dice.below(6000)).map(|_| u8::try_from(1 + dice.below(255)).expect("small")).collect();
    let (at, len) = (dice.below(9000), dice.below(20_000));
    let mut buffer = vec![0; usize::try_from(dice.below(500)).expect("small")];
    let (name, done) = match dice.below(if shrinks { 16 } else { 14 }) {
        0..4 => ("write", disk.write(file, at, &bytes)),
        4..7 => ("sync", disk.sync(file)),
        7 => ("allocate", disk.allocate(file, len)),
        8 => ("replace", disk.replace(file, &bytes)),
        9 => ("remove", disk.remove(file)),
        10 => ("rename", disk.rename(file, other)),
        11 => ("read", disk.read(file, at, &mut buffer)),
        12 => return format!("len of {file}: {:?}", disk.len(file).map_err(|e| e.kind)),
        13 => return format!("files: {:?}", disk.files(kind).map_err(|e| e.kind)),
        _ => ("truncate", disk.truncate(file, at)),
    };
    let answer: Result<&[u8], DiskErrorKind> = match done {
        Ok(()) => Ok(&buffer),
        Err(error) => Err(error.kind),
    };
    format!("{name} {file}, {at}: {answer:?}")
}

/// All files of a disk with their contents.
fn contents(disk: &dyn Disk) -> Vec<(FileId, Vec<u8>)> {
    let files = FileKind::ALL.into_iter().flat_map(|kind| disk.files(kind).expect("a list"));
    files
        .map(|file| {
            let len = disk.len(file).expect("it is listed");
            let mut bytes = vec![0; usize::try_from(len).expect("small")];
            disk.read(file, 0, &mut bytes).expect("it is that long");
            (file, bytes)
        })
        .collect()
}

/// Makes the same calls on both; another process looks on from time to time.
fn compare(dir: &Path, seed: u64, steps: usize) {
    let (mut real, model) = (FileDisk::new(dir), MemoryDisk::new());
    let (mut dice, mut same) = (Dice(seed), Dice(seed));
    for step in 0..steps {
        let found = call(&real, &mut dice, true);
        assert_eq!(found, call(&model, &mut same, true), "seed {seed}, step {step}");
        if step % 16 == 15 {
            real = FileDisk::new(dir);
        }
        assert!(contents(&real) == contents(&model), "seed {seed}, step {step}: {found}");
    }
}

#[test]
fn real_files_answer_each_call_as_the_disk_in_memory_does() {
    let home = Home::new();
    let memory = Tmpfs::mount(home.path("tmpfs"), "24m");
    let ext4 = Ext4::mount(home.path("image"), home.path("ext4"));
    let seed = count("KDELTA_TEST_SEED", 0x9e37_79b9_7f4a_7c15);
    for (name, there) in [(".", true), ("tmpfs", memory.is_some()), ("ext4", ext4.is_some())] {
        for number in 0..if there { 4 } else { 0 } {
            let dir = home.path(name).join(format!("store-{number}"));
            std::fs::create_dir(&dir).expect("a directory");
            compare(&dir, seed + number, 200);
        }
    }
}

#[test]
fn a_power_cut_leaves_what_the_disk_in_memory_may_leave() {
    let home = Home::new();
    let Some(mut disk) = Ext4::mount(home.path("image"), home.path("disk")) else { return };
    let seed = count("KDELTA_TEST_SEED", 0x9e37_79b9_7f4a_7c15);
    for round in 0..count("KDELTA_TEST_CUTS", 20) {
        let dir = home.path("disk").join(format!("store-{round}"));
        std::fs::create_dir(&dir).expect("a directory");
        // The directory of a store lies in one that a host does not make.
        std::fs::File::open(home.path("disk")).and_then(|d| d.sync_all()).expect("it syncs");
        let (real, model) = (FileDisk::new(&dir), MemoryDisk::new());
        let (mut dice, mut same) = (Dice(seed + round), Dice(seed + round));
        for step in 0..10 + 4 * round {
            let found = call(&real, &mut dice, false);
            assert_eq!(found, call(&model, &mut same, false), "round {round}, step {step}");
        }
        disk.switch().cut();
        drop(real);
        disk.restart();
        judge(&contents(&FileDisk::new(&dir)), &model, &format!("round {round}"));
    }
}

/// Checks what a cut left: of each file what was durable, and else only what was written.
fn judge(left: &[(FileId, Vec<u8>)], model: &MemoryDisk, what: &str) {
    let after = |mode, seed| {
        let disk = model.snapshot();
        disk.crash(mode, &mut Rng::new([seed; 32]));
        disk
    };
    let most = after(CrashMode::KeepAll, 0);
    // A removed file may come back: what does so by chance was not durable.
    let least: Vec<_> = (0..32).map(|seed| after(CrashMode::LoseAll, seed)).collect();
    for file in most.all_files() {
        let found = left.iter().find(|(id, _)| *id == file).map(|(_, bytes)| bytes);
        let always: Option<Vec<_>> = least.iter().map(|disk| disk.content(file)).collect();
        let (Some(always), Some(written)) = (always, most.content(file)) else { continue };
        let durable = &always[0];
        let found = found.unwrap_or_else(|| panic!("{what}: {file} was durable and is gone"));
        assert!(found.len() >= durable.len(), "{what}: {file} has {} bytes", found.len());
        assert!(found.len() <= written.len(), "{what}: {file} has {} bytes", found.len());
        for (at, byte) in found.iter().enumerate() {
            let old = durable.get(at).copied().unwrap_or(0);
            if old == written[at] {
                assert_eq!(*byte, old, "{what}: {file} at {at} was durable");
            }
        }
    }
}
