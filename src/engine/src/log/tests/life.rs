//! An undisturbed life: append, sync, seal, close, open, repair.

use super::*;

#[test]
fn records_are_read_before_and_after_every_step() {
    let (disk, mut log) = fresh();
    let mut positions = append(&mut log, 0..5);
    assert_eq!(numbers(&log), (up_to(5), vec![]), "at once, from the open group");
    assert!(log.durable() < log.written());
    log.flush().unwrap();
    assert_eq!(numbers(&log).0, up_to(5));
    sync(&mut log).unwrap();
    assert!(log.durable() >= log.written());
    positions.extend(append(&mut log, 5..9));
    assert_eq!(numbers(&log).0, up_to(9), "from disk and memory");
    let info = log.seal_active().unwrap().unwrap();
    assert_eq!((info.number, info.sealed, info.records), (1, true, 9));
    assert!(log.durable() >= log.written());
    positions.extend(append(&mut log, 9..12));
    sync(&mut log).unwrap();
    assert!(positions.is_sorted());
    assert_eq!(numbers(&log).0, up_to(12));
    assert_eq!(log.scan(positions[7]).filter_map(Result::ok).count(), 5);
    log.close().unwrap();
    let (log, recovery) = open(&disk);
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(numbers(&log), (up_to(12), vec![]));
    assert_eq!(log.segments().len(), 2);
}

#[test]
fn a_group_costs_one_write_and_one_sync() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..1);
    sync(&mut log).unwrap();
    let (changes, syncs) = (disk.changes(), disk.syncs());
    append(&mut log, 1..4);
    sync(&mut log).unwrap();
    assert_eq!((disk.changes() - changes, disk.syncs() - syncs), (2, 1));
}

#[test]
fn opening_a_clean_log_changes_nothing_and_reads_no_sealed_segment() {
    let (disk, mut log) = fresh();
    for n in 0..4 {
        append(&mut log, n * 3..n * 3 + 3);
        log.seal_active().unwrap().unwrap();
    }
    append(&mut log, 12..13);
    log.close().unwrap();
    let changes = disk.changes();
    let sealed = log.segments()[..4].iter().map(|s| (s.file, 0..u64::MAX)).collect();
    disk.faults(|faults| faults.unreadable = sealed);
    let (mut log, recovery) = open(&disk);
    assert!(recovery.clean, "{recovery:?}");
    log.close().unwrap();
    assert_eq!(disk.changes(), changes, "closing an unchanged log writes nothing either");
}

#[test]
fn a_fresh_store_has_no_files_until_something_is_appended() {
    let (disk, mut log) = fresh();
    assert_eq!((log.written(), log.durable()), (Position::default(), Position::default()));
    log.flush().unwrap();
    assert_eq!(log.sync_due(), None);
    assert!(!log.idle_mark().unwrap());
    assert_eq!(log.seal_active().unwrap(), None);
    log.close().unwrap();
    assert!(disk.all_files().is_empty());
}

#[test]
fn an_idle_mark_is_written_once_and_holds_nothing_back() {
    let (_, mut log) = fresh();
    append(&mut log, 0..2);
    assert!(!log.idle_mark().unwrap(), "a group is open");
    log.flush().unwrap();
    assert!(!log.idle_mark().unwrap(), "it is not durable");
    sync(&mut log).unwrap();
    let written = log.written();
    assert!(log.idle_mark().unwrap());
    assert!(!log.idle_mark().unwrap());
    assert_eq!((log.written(), log.sync_due()), (written, None));
    assert!(log.durable() >= log.written());
    append(&mut log, 2..3);
    sync(&mut log).unwrap();
    assert!(log.durable() >= log.written());
    assert_eq!(numbers(&log), (up_to(3), vec![]));
}

#[test]
fn the_group_record_and_the_frames_stay_small() {
    let (_, mut log) = fresh();
    append(&mut log, 0..1);
    log.flush().unwrap();
    let group = log.active_bytes() - FIRST_OFFSET - u32::try_from(body(0).len()).unwrap() - 8;
    assert!(group <= 40, "{group}");
}

#[test]
fn a_sealed_file_is_as_long_as_it_says_and_hashes_to_what_the_list_says() {
    let (disk, mut log) = fresh();
    for round in 0..2 {
        append(&mut log, round * 4..round * 4 + 4);
        sync(&mut log).unwrap();
        if round == 1 {
            // Sealed by another process than the one that began it: the hash is read back.
            drop(log);
            log = open(&disk).0;
        }
        let info = log.seal_active().unwrap().unwrap();
        let content = disk.content(info.file).unwrap();
        assert_eq!(content.len(), info.bytes as usize);
        assert_eq!(crate::base::sha256("", &[&content]), info.sha);
        assert_eq!(log.segments().last(), Some(&info));
    }
    let verified = verify(&disk, &options()).unwrap();
    assert_eq!((verified.problems, verified.segments, verified.records), (vec![], 2, 8));
}

#[test]
fn segments_ask_to_be_sealed_at_their_size() {
    let disk = Shared::default();
    let options = LogOptions { segment_bytes_max: 600, ..options() };
    let mut log = Log::open(disk, &options).unwrap().0;
    append(&mut log, 0..1);
    assert!(!log.wants_seal());
    append(&mut log, 1..8);
    assert!(log.wants_seal());
}

#[test]
fn a_repaired_segment_takes_the_damaged_ones_place() {
    let (disk, mut log) = fresh();
    for n in 0..3 {
        append(&mut log, n * 3..n * 3 + 3);
        log.seal_active().unwrap();
    }
    append(&mut log, 9..11);
    sync(&mut log).unwrap();
    let old = log.segments()[1].file;
    disk.flip_bit(old, 8 * 140);
    assert_eq!(numbers(&log).1.len(), 1);
    let records: Vec<_> = (3..6).map(|n| (KIND, body(n))).collect();
    let positions = log.replace_segment(2, records).unwrap();
    assert!(positions.iter().all(|at| at.segment == 2));
    assert_eq!(numbers(&log), (up_to(11), vec![]));
    assert_ne!(log.segments()[1].file, old);
    assert!(disk.content(old).is_none(), "the old file is in quarantine");
    append(&mut log, 11..12);
    log.close().unwrap();
    let (log, recovery) = open(&disk);
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(numbers(&log), (up_to(12), vec![]));
    assert_eq!(verify(&disk, &options()).unwrap().problems, vec![]);
    // Each generation of the manifest alone knows the new file.
    for slot in 0..2 {
        let disk = Shared::new(disk.snapshot());
        disk.remove(FileId::new(FileKind::Manifest, slot)).unwrap();
        assert_eq!(numbers(&open(&disk).0).0, up_to(12), "without slot {slot}");
    }
    let refused = open(&disk).0.replace_segment(4, Vec::new());
    assert!(matches!(refused, Err(LogError::NoSegment(4))), "it is being written");
}

#[test]
fn files_of_another_store_are_refused() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..2);
    log.flush().unwrap();
    let other = LogOptions { store: [1; 16], ..options() };
    assert!(matches!(Log::open(disk.clone(), &other), Err(OpenError::OtherStore { .. })));
    log.close().unwrap();
    assert!(matches!(Log::open(disk.clone(), &other), Err(OpenError::OtherStore { .. })));
    assert!(matches!(verify(&disk, &other), Err(OpenError::OtherStore { .. })));
}

#[test]
fn a_position_that_is_no_record_is_not_found() {
    let (_, mut log) = fresh();
    let at = append(&mut log, 0..1)[0];
    log.flush().unwrap();
    let group = log.read(at).unwrap().next;
    for position in [
        Position::default(),
        group,
        log.written(),
        Position { segment: 7, offset: 128 },
        Position { segment: 1, offset: u32::MAX },
    ] {
        assert!(matches!(log.read(position), Err(ReadError::NotFound(_))), "{position}");
    }
    let inside = Position { offset: at.offset + 1, ..at };
    assert!(matches!(log.read(inside), Err(ReadError::Damaged { .. })));
}

#[test]
fn the_wall_clock_of_a_segment_is_kept() {
    let (disk, mut log) = fresh();
    log.set_wall(crate::base::WallTime(77));
    append(&mut log, 0..1);
    log.close().unwrap();
    let log = open(&disk).0;
    assert_eq!(log.base_wall(1), Some(crate::base::WallTime(77)));
}

#[test]
fn a_record_above_the_limit_and_a_group_above_it_are_refused() {
    let (_, mut log) = fresh();
    let large = vec![0; crate::limits::RECORD_BYTES_MAX + 1];
    assert!(matches!(log.append(KIND, &large), Err(LogError::TooLarge { .. })));
    log.append(KIND, &large[1..]).unwrap();
    assert!(matches!(log.append(KIND, &large[1..]), Err(LogError::GroupFull)));
    log.flush().unwrap();
    log.append(KIND, &large[1..]).unwrap();
    log.flush().unwrap();
    log.append(KIND, &large[1..]).unwrap();
    log.flush().unwrap();
    assert!(matches!(log.append(KIND, &large[1..]), Err(LogError::SyncBehind)));
    sync(&mut log).unwrap();
    log.append(KIND, &large[1..]).unwrap();
}

#[test]
fn a_sync_vouches_for_no_more_than_its_ticket_says() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..2);
    log.flush().unwrap();
    let ticket = log.sync_due().unwrap();
    assert_eq!(log.sync_due(), None, "one at a time");
    assert!(matches!(log.seal_active(), Err(LogError::SyncUnderWay)));
    assert!(matches!(log.close(), Err(LogError::SyncUnderWay)));
    disk.sync(ticket.file).unwrap();
    append(&mut log, 2..4);
    log.flush().unwrap();
    log.synced(ticket, Ok(())).unwrap();
    assert_eq!(log.durable(), ticket.upto);
    assert!(log.durable() < log.written());
    sync(&mut log).unwrap();
    assert!(log.durable() >= log.written());
}

#[test]
fn a_manifest_that_cannot_be_written_is_written_before_the_next_segment() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..2);
    sync(&mut log).unwrap();
    // The seal takes one sync; the manifest's fails.
    disk.faults(|faults| (faults.syncs_to_pass, faults.syncs_to_fail) = (1, 2));
    assert!(log.seal_active().unwrap().is_some());
    assert!(matches!(log.append(KIND, &body(2)), Err(LogError::Manifest(_))));
    assert_eq!(numbers(&log), (up_to(2), vec![]));
    append(&mut log, 2..4);
    sync(&mut log).unwrap();
    disk.crash(CrashMode::LoseAll, &mut Rng::new([0; 32]));
    let (log, recovery) = open(&disk);
    assert_eq!(recovery.damage, vec![]);
    assert_eq!(numbers(&log), (up_to(4), vec![]));
}
