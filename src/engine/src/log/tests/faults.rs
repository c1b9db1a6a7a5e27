//! A disk that fails, fills up or refuses while the log runs.

use super::*;

fn fail_sync(disk: &Shared, count: u64) {
    disk.faults(|faults| faults.syncs_to_fail = count);
}

fn kill(disk: &Shared, mode: CrashMode) -> (Log<Shared>, Recovery) {
    disk.crash(mode, &mut Rng::new([3; 32]));
    open(disk)
}

#[test]
fn a_failed_sync_moves_its_records_to_a_new_segment() {
    for durable_before in [0, 3] {
        let (disk, mut log) = fresh();
        append(&mut log, 0..durable_before);
        sync(&mut log).unwrap();
        let old = append(&mut log, durable_before..6);
        log.flush().unwrap();
        let open_group = append(&mut log, 6..7);
        fail_sync(&disk, 1);
        sync(&mut log).unwrap();
        assert!(log.durable() < log.written(), "nothing is durable by a failed sync");
        let moved = log.take_moved().unwrap();
        assert_eq!(moved.end.offset > 0, durable_before > 0);
        let from: Vec<_> = moved.records.iter().map(|(from, _)| *from).collect();
        assert_eq!(from, [old, open_group].concat());
        assert!(moved.records.iter().all(|(_, to)| to.segment == 2));
        assert_eq!(log.take_moved(), None);
        assert_eq!(numbers(&log), (up_to(7), vec![]));
        sync(&mut log).unwrap();
        assert!(log.durable() >= log.written());
        let (log, recovery) = kill(&disk, CrashMode::LoseAll);
        assert_eq!(numbers(&log), (up_to(7), vec![]), "{recovery:?}");
        assert_eq!(recovery.damage, vec![]);
        assert_eq!(verify(&disk, &options()).unwrap().problems, vec![]);
    }
}

#[test]
fn a_file_whose_sync_failed_is_never_synced_again() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..3);
    log.flush().unwrap();
    let first = log.sync_due().unwrap();
    fail_sync(&disk, 1);
    let result = disk.sync(first.file);
    log.synced(first, result).unwrap();
    let second = log.sync_due().unwrap();
    assert_ne!(first.file, second.file);
    // The first ticket's result comes once more, late: it is not believed.
    log.synced(first, Ok(())).unwrap();
    assert!(log.durable() < log.written());
}

#[test]
fn a_failed_write_moves_too() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    append(&mut log, 3..6);
    disk.faults(|faults| faults.writes_to_fail = 1);
    sync(&mut log).unwrap();
    assert_eq!(log.take_moved().unwrap().records.len(), 3);
    let (log, _) = kill(&disk, CrashMode::LoseAll);
    assert_eq!(numbers(&log), (up_to(6), vec![]));
}

#[test]
fn a_second_failure_makes_the_log_read_only_and_reads_go_on() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    append(&mut log, 3..6);
    disk.faults(|faults| faults.writes_to_fail = 2);
    assert!(matches!(log.flush(), Err(LogError::Failed { .. })));
    assert!(matches!(log.append(KIND, &body(6)), Err(LogError::Failed { .. })));
    assert!(log.trouble().is_some());
    assert_eq!(numbers(&log), (up_to(6), vec![]), "what is not durable is still in memory");
    assert_eq!(log.sync_due(), None);
    let (mut log, _) = kill(&disk, CrashMode::LoseAll);
    assert_eq!(numbers(&log), (up_to(3), vec![]));
    append(&mut log, 3..4);
}

#[test]
fn two_failures_with_a_success_between_are_each_survived() {
    let (disk, mut log) = fresh();
    for round in 0..3 {
        append(&mut log, round * 2..round * 2 + 2);
        fail_sync(&disk, 1);
        sync(&mut log).unwrap();
        sync(&mut log).unwrap();
        assert!(log.durable() >= log.written());
    }
    let (log, _) = kill(&disk, CrashMode::LoseAll);
    assert_eq!(numbers(&log), (up_to(6), vec![]));
}

#[test]
fn a_full_disk_refuses_an_append_and_goes_on_when_space_returns() {
    for space in (0..3000).step_by(7) {
        let (disk, mut log) = fresh();
        disk.faults(|faults| faults.space = Some(space));
        let mut stored = 0;
        let refused = loop {
            let before = (log.written(), log.active_bytes());
            match log.append(KIND, &body(stored)) {
                Ok(_) => stored += 1,
                Err(error) => {
                    assert_eq!((log.written(), log.active_bytes()), before, "unchanged");
                    break error;
                }
            }
            sync(&mut log).unwrap();
        };
        assert!(matches!(refused, LogError::Full(_)), "{refused:?}");
        assert_eq!(numbers(&log), (up_to(stored), vec![]));
        assert!(log.durable() >= log.written());
        let crashed = Shared::new(disk.snapshot());
        let (reader, _) = kill(&crashed, CrashMode::LoseAll);
        assert_eq!(numbers(&reader), (up_to(stored), vec![]), "opened on the full disk");
        disk.faults(|faults| faults.space = None);
        append(&mut log, stored..stored + 2);
        sync(&mut log).unwrap();
        let (log, _) = kill(&disk, CrashMode::LoseAll);
        assert_eq!(numbers(&log), (up_to(stored + 2), vec![]));
    }
}

/// A disk that reserves nothing meets its end when the group is written.
#[test]
fn a_group_that_does_not_fit_is_taken_back_whole() {
    for cut_also_fails in [false, true] {
        let (disk, mut log) = fresh();
        append(&mut log, 0..2);
        sync(&mut log).unwrap();
        append(&mut log, 2..8);
        let reserved = log.active_bytes();
        assert!(reserved > 0);
        let file = log.segments()[0].file;
        // The reservation is lost: as if it had been a hint only.
        disk.chop(file, 300);
        let used: usize = disk.all_files().iter().map(|f| disk.content(*f).unwrap().len()).sum();
        disk.faults(|faults| faults.space = Some(used as u64 + 100));
        if cut_also_fails {
            // Then the file is left alone, and there is no space for another.
            disk.faults(|faults| faults.space = Some(0));
        }
        assert!(matches!(log.flush(), Err(LogError::Full(_))));
        assert_eq!(numbers(&log).0, up_to(2), "taken back");
        disk.faults(|faults| faults.space = None);
        append(&mut log, 2..5);
        sync(&mut log).unwrap();
        let (log, _) = kill(&disk, CrashMode::LoseAll);
        assert_eq!(numbers(&log), (up_to(5), vec![]));
    }
}

#[test]
fn a_group_is_gone_from_where_it_was_though_what_was_before_it_moves() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..2);
    sync(&mut log).unwrap();
    append(&mut log, 2..3);
    log.flush().unwrap();
    let kept = log.written();
    append(&mut log, 3..8);
    let lost = log.written();
    disk.chop(log.segments()[0].file, 300);
    let used: usize = disk.all_files().iter().map(|f| disk.content(*f).unwrap().len()).sum();
    disk.faults(|faults| (faults.space, faults.cuts_to_fail) = (Some(used as u64 + 100), 1));
    assert!(matches!(log.flush(), Err(LogError::Full(_))));
    disk.faults(|faults| faults.space = None);
    log.retry().unwrap();
    assert!(log.written().segment > kept.segment, "what is kept moved");
    let (end, _) = log.take_refused().unwrap();
    assert_eq!((end, lost > end), (kept, true));
    assert_eq!(numbers(&log), (up_to(3), vec![]));
}

#[test]
fn a_group_is_reported_gone_though_the_file_cannot_be_cut_either() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..2);
    sync(&mut log).unwrap();
    append(&mut log, 2..4);
    disk.faults(|faults| faults.read_only = true);
    assert!(matches!(log.flush(), Err(LogError::ReadOnly(_))), "its records are not kept");
    assert_eq!(numbers(&log), (up_to(2), vec![]));
    assert!(matches!(log.append(KIND, &body(2)), Err(LogError::Stalled(_))));
    disk.faults(|faults| faults.read_only = false);
    append(&mut log, 2..4);
    sync(&mut log).unwrap();
    let (log, _) = kill(&disk, CrashMode::LoseAll);
    assert_eq!(numbers(&log), (up_to(4), vec![]));
}

#[test]
fn records_wait_in_memory_when_the_disk_fails_and_is_full() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..2);
    sync(&mut log).unwrap();
    append(&mut log, 2..4);
    fail_sync(&disk, 1);
    disk.faults(|faults| {
        faults.space = Some(0);
        faults.sync_error = Some(DiskErrorKind::Full);
    });
    assert!(matches!(sync(&mut log), Err(LogError::Stalled(_))));
    assert!(matches!(log.append(KIND, &body(4)), Err(LogError::Stalled(_))));
    assert_eq!(numbers(&log), (up_to(4), vec![]));
    disk.faults(|faults| faults.space = None);
    append(&mut log, 4..5);
    sync(&mut log).unwrap();
    assert_eq!(log.take_moved().unwrap().records.len(), 2);
    let (log, _) = kill(&disk, CrashMode::LoseAll);
    assert_eq!(numbers(&log), (up_to(5), vec![]));
}

#[test]
fn a_failed_seal_leaves_a_log_that_goes_on() {
    let (disk, log) = fresh();
    drop(log);
    for (fail_writes, pass) in [(true, 0), (true, 1), (false, 0), (false, 1), (false, 2)] {
        let disk = Shared::new(disk.snapshot());
        let mut log = open(&disk).0;
        append(&mut log, 0..3);
        sync(&mut log).unwrap();
        append(&mut log, 3..5);
        disk.faults(|faults| {
            if fail_writes {
                (faults.writes_to_pass, faults.writes_to_fail) = (pass, 1);
            } else {
                (faults.syncs_to_pass, faults.syncs_to_fail) = (pass, 1);
            }
        });
        log.seal_active().unwrap();
        append(&mut log, 5..7);
        sync(&mut log).unwrap();
        sync(&mut log).unwrap();
        assert_eq!(numbers(&log), (up_to(7), vec![]));
        let (log, recovery) = kill(&disk, CrashMode::LoseAll);
        assert_eq!(numbers(&log), (up_to(7), vec![]), "{fail_writes} {pass} {recovery:?}");
        assert_eq!(verify(&disk, &options()).unwrap().problems, vec![]);
    }
}

#[test]
fn a_log_with_a_torn_tail_opens_for_reading_on_a_disk_that_takes_no_writes() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    append(&mut log, 3..6);
    log.flush().unwrap();
    append(&mut log, 6..20);
    log.flush().unwrap();
    disk.crash(CrashMode::Torn(1), &mut Rng::new([9; 32]));
    disk.faults(|faults| faults.read_only = true);
    let (mut log, recovery) = open(&disk);
    assert_eq!(numbers(&log).0, up_to(6));
    assert_eq!(recovery.refused.as_ref().unwrap().kind, DiskErrorKind::ReadOnly);
    assert!(log.append(KIND, &body(6)).is_err());
    assert_eq!(numbers(&log).0, up_to(6));
    disk.faults(|faults| faults.read_only = false);
    append(&mut log, 6..8);
    sync(&mut log).unwrap();
    let (log, _) = kill(&disk, CrashMode::LoseAll);
    assert_eq!(numbers(&log), (up_to(8), vec![]));
}

#[test]
fn what_a_killed_process_did_not_sync_counts_only_once_it_is_durable() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    append(&mut log, 3..5);
    log.flush().unwrap();
    // A failed sync marked the pages clean, and the process was killed before it could move them.
    fail_sync(&disk, 1);
    let ticket = log.sync_due().unwrap();
    assert!(disk.sync(ticket.file).is_err());
    drop(log);
    let (log, recovery) = open(&disk);
    assert_eq!(numbers(&log).0, up_to(5));
    assert!(recovery.rewritten_bytes > 0);
    assert!(log.durable() >= log.written());
    let (log, _) = kill(&disk, CrashMode::LoseAll);
    assert_eq!(numbers(&log), (up_to(5), vec![]));
}

#[test]
fn an_unreadable_sector_is_not_torn_and_never_cut() {
    let (disk, mut log) = fresh();
    for n in 0..20 {
        append(&mut log, n..n + 1);
        sync(&mut log).unwrap();
    }
    let file = log.segments()[0].file;
    let (len, end) = (disk.content(file).unwrap().len() as u64, u64::from(log.written().offset));
    drop(log);
    for sector in 0..len.div_ceil(512) {
        let disk = Shared::new(disk.snapshot());
        let before = disk.content(file).unwrap();
        let range = sector * 512..(sector + 1) * 512;
        disk.faults(|faults| faults.unreadable = vec![(file, range)]);
        let (log, recovery) = open(&disk);
        let (found, _) = numbers(&log);
        let touched = sector * 512 < end;
        assert_eq!(recovery.damage.is_empty(), !touched, "sector {sector}");
        assert!(recovery.damage.iter().all(|d| d.kind == DamageKind::Unreadable));
        assert!(found.len() > 10 && found.is_sorted());
        // The disk recovers: everything is there again.
        disk.faults(|faults| faults.unreadable.clear());
        assert!(disk.content(file).unwrap().starts_with(before.trim_ascii_end_of_zeros()));
        assert_eq!(numbers(&open(&disk).0).0, up_to(20), "sector {sector}");
    }
}

/// An acknowledged group without a later mark, and a disk that does not sync when it is opened.
#[test]
fn what_an_earlier_process_acknowledged_survives_a_move() {
    for refused in [true, false] {
        let (disk, mut log) = fresh();
        append(&mut log, 0..2);
        sync(&mut log).unwrap();
        append(&mut log, 2..4);
        sync(&mut log).unwrap();
        drop(log);
        disk.faults(|faults| {
            faults.read_only = refused;
            faults.syncs_to_fail = u64::from(!refused);
        });
        // Power cuts at any change of what follows lose none of the four.
        for change in 0..20 {
            let disk = Shared::new(disk.snapshot());
            let mut log = open(&disk).0;
            assert!(log.durable() < log.written());
            disk.faults(|faults| {
                faults.read_only = false;
                faults.power_off_in = Some(change);
            });
            let _ = log.append(KIND, &body(4)).and_then(|_| sync(&mut log));
            let _ = sync(&mut log);
            let (log, _) = kill(&disk, CrashMode::LoseAll);
            assert!(numbers(&log).0.len() >= 4, "at change {change}");
        }
        let mut log = open(&disk).0;
        disk.faults(|faults| faults.read_only = false);
        append(&mut log, 4..5);
        assert_eq!(log.take_moved().unwrap().records.len(), 2);
        sync(&mut log).unwrap();
        let (log, _) = kill(&disk, CrashMode::LoseAll);
        assert_eq!(numbers(&log), (up_to(5), vec![]));
    }
}

/// Two histories of one segment life: the same offsets and salt, other bytes.
#[test]
fn a_record_of_another_history_breaks_the_chain_of_its_group() {
    let write = |first: u8| {
        let (disk, mut log) = fresh();
        let at = log.append(KIND, &[first; 40]).unwrap();
        log.append(KIND, &[2; 40]).unwrap();
        log.flush().unwrap();
        (disk, FileId::new(FileKind::Segment, 1), at.offset as usize)
    };
    let (disk, file, at) = write(0);
    let (other, ..) = write(1);
    let stale = other.content(file).unwrap()[at..at + 48].to_vec();
    disk.plant(file, at, &stale);
    let (log, recovery) = open(&disk);
    assert_eq!(log.scan(Position::default()).count(), 0, "{recovery:?}");
    assert_eq!(recovery.strays, vec![file], "nothing of it was ever durable");
}

trait TrimZeros {
    fn trim_ascii_end_of_zeros(&self) -> &[u8];
}

impl TrimZeros for Vec<u8> {
    fn trim_ascii_end_of_zeros(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        &self[..end]
    }
}
