//! What cannot be read when a log is opened: it is told, cut nowhere, and counts as soon as it can
//! be read again.

use std::ops::Range;

use super::*;

const NEWEST: FileId = FileId::new(FileKind::Segment, 2);

/// A sealed segment and one that grows: durable groups, a mark in between, and what a killed
/// process left: whole groups that were never synced.
fn sample(unsynced: usize) -> (Shared, usize) {
    let (disk, mut log) = fresh();
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    log.seal_active().unwrap();
    let mut count = 3;
    for round in 0..6 {
        append(&mut log, count..count + 3);
        sync(&mut log).unwrap();
        count += 3;
        if round == 2 {
            log.idle_mark().unwrap();
        }
    }
    for _ in 0..unsynced {
        append(&mut log, count..count + 3);
        log.flush().unwrap();
        count += 3;
    }
    disk.crash(CrashMode::KeepAll, &mut Rng::new([0; 32]));
    (disk, count)
}

/// Places of the newest segment that a disk may fail to read: each sector, and pairs of them.
fn places(disk: &Shared) -> Vec<Vec<Range<u64>>> {
    let used = disk.content(NEWEST).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let one: Vec<_> = (0..=used).step_by(64).map(|at| at..at + 64).collect();
    let mut all: Vec<_> = one.iter().map(|range| vec![range.clone()]).collect();
    for pair in one.windows(4) {
        all.push(vec![pair[0].clone(), pair[3].clone()]);
    }
    all.push(Some(0..used + 1).into_iter().collect());
    all
}

fn spoil(disk: &Shared, ranges: impl IntoIterator<Item = Range<u64>>) {
    let ranges = ranges.into_iter().map(|range| (NEWEST, range));
    disk.faults(|faults| faults.unreadable = ranges.collect());
}

fn heal(disk: &Shared) {
    disk.faults(|faults| faults.unreadable.clear());
}

/// Writes two more, and opens the log once all can be read again: nothing is damaged then.
fn healed_after(mut log: Log<Shared>, disk: &Shared, count: usize) -> Log<Shared> {
    append(&mut log, count..count + 2);
    sync(&mut log).unwrap();
    drop(log);
    heal(disk);
    let (log, recovery) = open(disk);
    assert_eq!(recovery.damage, []);
    log
}

#[test]
fn what_could_not_be_read_counts_again_when_it_can() {
    for unsynced in [0, 2] {
        let (pristine, count) = sample(unsynced);
        for ranges in places(&pristine) {
            for (times, write) in [(1, false), (1, true), (3, true)] {
                let disk = Shared::new(pristine.snapshot());
                spoil(&disk, ranges.clone());
                let what = format!("{unsynced} {ranges:?} {times} {write}");
                let mut written = count;
                for _ in 0..times {
                    let (mut log, recovery) = open(&disk);
                    assert!(!recovery.damage.is_empty(), "{what}: it is told");
                    assert_eq!(recovery.torn, [], "{what}");
                    let unread = |d: &Damage| d.kind == DamageKind::Unreadable;
                    assert!(recovery.damage.iter().all(unread), "{what}: {recovery:?}");
                    if write {
                        append(&mut log, written..written + 2);
                        sync(&mut log).unwrap();
                        written += 2;
                    }
                }
                disk.crash(CrashMode::LoseAll, &mut Rng::new([0; 32]));
                assert!(!verify(&disk, &options()).unwrap().problems.is_empty(), "{what}");
                heal(&disk);
                assert_eq!(verify(&disk, &options()).unwrap().problems, [], "{what}");
                for _ in 0..2 {
                    let (log, recovery) = open(&disk);
                    assert_eq!(recovery.damage, [], "{what}");
                    assert_eq!(numbers(&log), (up_to(written), vec![]), "{what}");
                    assert_eq!(verify(&disk, &options()).unwrap().problems, [], "{what}");
                }
            }
        }
    }
}

#[test]
fn a_log_that_is_open_counts_it_again_when_it_is_asked_to_look() {
    let (pristine, count) = sample(0);
    for ranges in places(&pristine) {
        let disk = Shared::new(pristine.snapshot());
        spoil(&disk, ranges.clone());
        let (mut log, _) = open(&disk);
        append(&mut log, count..count + 2);
        sync(&mut log).unwrap();
        assert!(!log.look_again().is_empty());
        heal(&disk);
        assert_eq!(log.look_again(), []);
        assert_eq!(numbers(&log), (up_to(count + 2), vec![]), "{ranges:?}");
        drop(log);
        assert_eq!(open(&disk).1.damage, []);
    }
}

#[test]
fn a_torn_tail_that_could_not_be_read_is_cut_when_it_can() {
    let (pristine, count) = sample(0);
    let used = pristine.content(NEWEST).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
    pristine.plant(NEWEST, used, &[0xee; 300]);
    for at in (used - 64..used + 236).step_by(16) {
        let disk = Shared::new(pristine.snapshot());
        spoil(&disk, Some(at as u64..at as u64 + 64));
        let (mut log, _) = open(&disk);
        append(&mut log, count..count + 2);
        sync(&mut log).unwrap();
        log.close().unwrap();
        heal(&disk);
        assert_eq!(verify(&disk, &options()).unwrap().problems, []);
        let (log, recovery) = open(&disk);
        assert_eq!(recovery.damage, [], "{at}");
        assert_eq!(numbers(&log), (up_to(count + 2), vec![]), "{at}");
        assert!(open(&disk).1.clean, "{at}");
    }
}

#[test]
fn what_follows_a_hole_is_cut_when_the_hole_turns_out_to_be_one() {
    let (pristine, count) = sample(2);
    let content = pristine.content(NEWEST).unwrap();
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // The last group but one was not written whole, and the last one was.
    let hole = used - 500..used - 400;
    pristine.plant(NEWEST, hole.start, &vec![0; hole.len()]);
    let least = numbers(&open(&Shared::new(pristine.snapshot())).0).0;
    assert!(least.len() >= count - 6 && least.len() < count, "{least:?}");
    for at in (hole.start - 40..hole.end + 40).step_by(8) {
        let disk = Shared::new(pristine.snapshot());
        spoil(&disk, Some(at as u64..at as u64 + 8));
        let (log, _) = open(&disk);
        let log = healed_after(log, &disk, count);
        let expected = [least.clone(), vec![count, count + 1]].concat();
        assert_eq!(numbers(&log), (expected, vec![]), "{at}");
    }
}

#[test]
fn what_a_disk_neither_reads_nor_writes_again_is_kept() {
    let (pristine, count) = sample(2);
    let durable = numbers(&open(&Shared::new(pristine.snapshot())).0).0.len();
    assert_eq!(durable, count);
    for at in (128..1000).step_by(64) {
        let disk = Shared::new(pristine.snapshot());
        spoil(&disk, Some(at..at + 64));
        disk.faults(|faults| faults.read_only = true);
        let (log, _) = open(&disk);
        disk.faults(|faults| faults.read_only = false);
        let log = healed_after(log, &disk, count);
        assert_eq!(numbers(&log), (up_to(count + 2), vec![]), "{at}");
    }
}

#[test]
fn rot_in_what_could_not_be_read_is_told_when_it_can() {
    let (pristine, _) = sample(0);
    for at in (128..512).step_by(16) {
        let disk = Shared::new(pristine.snapshot());
        disk.flip_bit(NEWEST, at * 8);
        spoil(&disk, Some(at / 512 * 512..at / 512 * 512 + 512));
        open(&disk);
        heal(&disk);
        for _ in 0..2 {
            assert!(!verify(&disk, &options()).unwrap().problems.is_empty(), "{at}");
            let damage = open(&disk).1.damage;
            assert!(!damage.is_empty(), "{at}");
        }
    }
}

/// A sealed segment, and one that no list names yet.
fn unlisted() -> (Shared, usize) {
    let (disk, mut log) = fresh();
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    log.seal_active().unwrap();
    append(&mut log, 3..6);
    log.flush().unwrap();
    append(&mut log, 6..9);
    log.flush().unwrap();
    disk.crash(CrashMode::KeepAll, &mut Rng::new([0; 32]));
    (disk, 9)
}

#[test]
fn a_header_that_cannot_be_read_keeps_no_log_from_opening() {
    let (pristine, count) = unlisted();
    for (ranges, lists) in [(0..64, true), (64..128, true), (0..64, false), (0..4096, true)] {
        for write in [false, true] {
            let disk = Shared::new(pristine.snapshot());
            if !lists {
                (0..2).for_each(|n| drop(disk.remove(FileId::new(FileKind::Manifest, n))));
            }
            spoil(&disk, Some(ranges.clone()));
            let what = format!("{ranges:?} {lists} {write}");
            assert!(!verify(&disk, &options()).unwrap().problems.is_empty(), "{what}");
            let mut written = count;
            for _ in 0..2 {
                let (mut log, recovery) = open(&disk);
                let unread = |d: &Damage| d.segment == 2 && d.kind == DamageKind::Unreadable;
                assert!(recovery.damage.iter().any(unread), "{what}: {recovery:?}");
                assert!(numbers(&log).0.starts_with(&[0, 1, 2]), "{what}");
                if write {
                    append(&mut log, written..written + 2);
                    sync(&mut log).unwrap();
                    written += 2;
                }
            }
            heal(&disk);
            let told = verify(&disk, &options()).unwrap().problems;
            assert!(!lists || told.is_empty(), "{what}: {told:?}");
            for _ in 0..2 {
                let (log, recovery) = open(&disk);
                assert!(recovery.damage.iter().all(|damage| damage.segment == 0), "{what}");
                assert_eq!(numbers(&log), (up_to(written), vec![]), "{what}");
            }
            let mut log = open(&disk).0;
            log.renew_lists().unwrap();
            log.close().unwrap();
            assert_eq!(verify(&disk, &options()).unwrap().problems, [], "{what}");
        }
    }
}

/// The list that cannot be read may say where a segment ends beyond which there are records: what
/// is written there since is not cut when it can be read again.
#[test]
fn what_is_written_while_a_list_cannot_be_read_is_kept_when_it_can() {
    let (pristine, mut log) = fresh();
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    append(&mut log, 3..6);
    pristine.faults(|faults| {
        (faults.syncs_to_fail, faults.writes_to_pass, faults.writes_to_fail) = (1, 1, 1);
    });
    sync(&mut log).unwrap_err();
    drop(log);
    pristine.crash(CrashMode::KeepAll, &mut Rng::new([0; 32]));
    for (list, refused) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let what = format!("list {list}, {refused} syncs refused");
        let disk = Shared::new(pristine.snapshot());
        disk.faults(|faults| {
            faults.unreadable = vec![(FileId::new(FileKind::Manifest, list), 0..64)];
            faults.syncs_to_fail = refused;
        });
        let (mut log, recovery) = open(&disk);
        assert!(!recovery.damage.is_empty(), "{what}");
        let before = numbers(&log).0;
        append(&mut log, 6..8);
        sync(&mut log).unwrap();
        sync(&mut log).unwrap();
        assert!(log.durable() >= log.written(), "{what}");
        drop(log);
        heal(&disk);
        let (log, recovery) = open(&disk);
        assert_eq!(numbers(&log), ([before, vec![6, 7]].concat(), vec![]), "{what}");
        assert_eq!(recovery.damage, [], "{what}");
    }
}

#[test]
fn a_log_without_lists_opens_though_none_of_its_headers_can_be_read() {
    let (pristine, count) = unlisted();
    let disk = Shared::new(pristine.snapshot());
    (0..2).for_each(|n| drop(disk.remove(FileId::new(FileKind::Manifest, n))));
    let first = FileId::new(FileKind::Segment, 1);
    for unread in [vec![first], vec![first, NEWEST]] {
        let disk = Shared::new(disk.snapshot());
        let ranges = unread.iter().map(|file| (*file, 0..64));
        disk.faults(|faults| faults.unreadable = ranges.collect());
        assert!(open(&disk).1.damage.len() >= unread.len());
        heal(&disk);
        let (log, recovery) = open(&disk);
        assert!(recovery.damage.iter().all(|damage| damage.segment == 0), "{recovery:?}");
        assert_eq!(numbers(&log), (up_to(count), vec![]), "{unread:?}");
    }
}

#[test]
fn what_turns_out_to_be_no_segment_once_its_header_is_read_goes_to_quarantine() {
    let (disk, count) = unlisted();
    let content = disk.content(NEWEST).unwrap();
    for bytes in [vec![0xee; 300], content[..128].to_vec()] {
        let disk = Shared::new(disk.snapshot());
        disk.chop(NEWEST, 0);
        disk.plant(NEWEST, 0, &bytes);
        spoil(&disk, Some(0..64));
        let (mut log, _) = open(&disk);
        append(&mut log, count..count + 2);
        sync(&mut log).unwrap();
        drop(log);
        heal(&disk);
        assert_eq!(verify(&disk, &options()).unwrap().problems, []);
        for _ in 0..2 {
            let (log, recovery) = open(&disk);
            assert_eq!(recovery.damage, []);
            assert_eq!(numbers(&log), (vec![0, 1, 2, count, count + 1], vec![]));
            assert_eq!(verify(&disk, &options()).unwrap().problems, []);
        }
        let kept = FileId::new(FileKind::Quarantine, 2 << 32);
        assert!(disk.content(kept).unwrap().starts_with(&bytes[..64]));
    }
}
