//! Kill at every byte: files cut at every length, bits flipped in every byte.

use std::ops::Range;

use super::manifest::{Entry, Manifest, Mark, State};
use super::segment::SegmentId;
use super::*;
use crate::base::WallTime;

/// A log of a few KiB: two sealed segments and one that is written.
fn sample(orderly: bool) -> Shared {
    let (disk, mut log) = fresh();
    for round in 0..9 {
        append(&mut log, round * 3..round * 3 + 3);
        sync(&mut log).unwrap();
        if round == 2 || round == 5 {
            log.seal_active().unwrap();
        }
    }
    if orderly {
        log.close().unwrap();
    } else {
        log.idle_mark().unwrap();
        disk.crash(CrashMode::KeepAll, &mut Rng::new([0; 32]));
    }
    let bytes: usize = disk.all_files().iter().map(|f| disk.content(*f).unwrap().len()).sum();
    assert!(bytes < 8 << 10, "{bytes}");
    disk
}

const RECORDS: usize = 27;
/// What the manifest vouches for when the last end was not orderly.
const LISTED: usize = 21;

/// Opens and checks the law: of the first `least` records, what is missing is reported, and of the
/// rest a front part is there.
fn check(disk: &Shared, least: usize, what: &str) -> Verify {
    let changes = disk.changes();
    let verified = verify(disk, &options()).unwrap();
    assert_eq!(disk.changes(), changes, "{what}: verify changes nothing");
    let (log, recovery) = open(disk);
    let (found, damage) = numbers(&log);
    assert!(found.is_sorted_by(|a, b| a < b), "{what}: {found:?}");
    if found.len() < least {
        let reported = !recovery.damage.is_empty() || !damage.is_empty();
        assert!(reported, "{what}: {found:?} {recovery:?}");
        assert!(!verified.problems.is_empty(), "{what}: {recovery:?}");
    } else {
        assert_eq!(found, up_to(found.len()), "{what}");
    }
    // A second opening finds the same, and what was damaged is not forgotten.
    drop(log);
    let (log, again) = open(disk);
    assert_eq!(numbers(&log).0, found, "{what}");
    if recovery.damage.iter().any(|damage| damage.segment > 0) {
        assert!(again.damage.iter().any(|damage| damage.segment > 0), "{what}");
    }
    verified
}

fn flip_bits(bits: impl Fn(u64) -> Range<u64>) {
    for orderly in [true, false] {
        let disk = sample(orderly);
        for file in disk.all_files() {
            let content = disk.content(file).unwrap();
            for (at, byte) in (0..).zip(&content) {
                for bit in bits(at) {
                    let disk = Shared::new(disk.snapshot());
                    assert!(disk.flip_bit(file, at * 8 + bit));
                    let what = format!("bit {bit} of byte {at} of {file}, orderly: {orderly}");
                    let verified = check(&disk, RECORDS, &what);
                    let told = !verified.problems.is_empty() || !verified.torn.is_empty();
                    assert!(told, "{what}: not found");
                    // Only of what was never in use may a bit pass for a torn tail.
                    if orderly || *byte != 0 && file.kind != FileKind::Segment {
                        assert!(!verified.problems.is_empty(), "{what}: taken for torn");
                    }
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_any_byte_is_found_and_nothing_goes_missing_in_silence() {
    flip_bits(|at| {
        let bit = (at * 5 + 3) % 8;
        bit..bit + 1
    });
}

#[test]
#[ignore = "long: every bit of every file"]
fn every_flipped_bit_is_found_and_nothing_goes_missing_in_silence() {
    flip_bits(|_| 0..8);
}

#[test]
fn a_file_cut_at_any_length_is_noticed() {
    for orderly in [true, false] {
        let disk = sample(orderly);
        for file in disk.all_files() {
            for len in 0..disk.content(file).unwrap().len() {
                let disk = Shared::new(disk.snapshot());
                disk.chop(file, len);
                // A mark that is cut off with what it covers vouches for nothing any more.
                let newest = file == FileId::new(FileKind::Segment, 3);
                let least = if newest && !orderly { LISTED } else { RECORDS };
                check(&disk, least, &format!("{file} cut to {len}, orderly: {orderly}"));
            }
        }
    }
}

#[test]
fn a_missing_file_is_noticed() {
    for orderly in [true, false] {
        let disk = sample(orderly);
        for file in disk.all_files() {
            let disk = Shared::new(disk.snapshot());
            disk.remove(file).unwrap();
            check(&disk, RECORDS, &format!("without {file}, orderly: {orderly}"));
            // It stays noticed, after more was written and all was closed.
            let (mut log, first) = open(&disk);
            log.append(KIND, &body(RECORDS)).unwrap();
            log.close().unwrap();
            if file.kind == FileKind::Segment {
                assert!(!open(&disk).1.damage.is_empty(), "{file} {first:?}");
            }
        }
    }
}

#[test]
fn a_log_whose_manifests_are_gone_is_put_in_order_from_its_segments() {
    let disk = sample(true);
    for slot in 0..2 {
        disk.remove(FileId::new(FileKind::Manifest, slot)).unwrap();
    }
    let verified = verify(&disk, &options()).unwrap();
    assert_eq!(verified.problems.len(), 1, "{verified:?}");
    let (log, recovery) = open(&disk);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(numbers(&log), (up_to(RECORDS), vec![]));
    drop(log);
    let (mut log, recovery) = open(&disk);
    assert_eq!(recovery.damage.len(), 1, "one slot and the mark's generation are still behind");
    append(&mut log, RECORDS..RECORDS + 1);
    log.seal_active().unwrap();
    log.close().unwrap();
    assert_eq!(verify(&disk, &options()).unwrap().problems, vec![]);
    assert!(open(&disk).1.clean);
}

#[test]
fn stale_bytes_of_an_earlier_life_never_validate() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..9);
    sync(&mut log).unwrap();
    let stale = disk.content(log.segments()[0].file).unwrap();
    // The same numbers in another life of the store: another salt.
    let again = Shared::default();
    let other = LogOptions { rng: Rng::new([2; 32]), ..options() };
    let mut log = Log::open(again.clone(), &other).unwrap().0;
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    log.close().unwrap();
    let file = log.segments()[0].file;
    let len = disk_len(&again, file);
    again.plant(file, len, &stale[len..]);
    let (log, recovery) = open(&again);
    assert_eq!(numbers(&log), (up_to(3), vec![]));
    assert_eq!(recovery.torn.len(), 1);
    let kept = FileId::new(FileKind::Quarantine, 1 << 32 | len as u64);
    assert!(stale[len..].starts_with(&again.content(kept).unwrap()), "kept for people");
}

fn disk_len(disk: &Shared, file: FileId) -> usize {
    disk.content(file).unwrap().len()
}

#[test]
fn damage_in_one_record_costs_one_record() {
    let disk = sample(false);
    let log = open(&disk).0;
    let positions: Vec<_> = log.scan(Position::default()).map(|item| item.unwrap().0).collect();
    for (number, position) in positions.iter().enumerate() {
        let disk = Shared::new(disk.snapshot());
        let file = log.segments()[usize::try_from(position.segment - 1).unwrap()].file;
        disk.flip_bit(file, u64::from(position.offset + 9) * 8);
        let (found, damage) = numbers(&open(&disk).0);
        let expected: Vec<_> = (0..RECORDS).filter(|n| *n != number).collect();
        assert_eq!(found, expected);
        assert_eq!(damage.len(), 1);
        let len = log.read(*position).unwrap().next.offset - position.offset;
        assert_eq!((damage[0].offset, damage[0].len), (position.offset.into(), len.into()));
    }
}

#[test]
fn random_bytes_in_place_of_any_file_never_panic() {
    let disk = sample(true);
    let mut rng = Rng::new([8; 32]);
    for file in disk.all_files() {
        for _ in 0..20 {
            let disk = Shared::new(disk.snapshot());
            let garbage: [u8; 600] = rng.bytes();
            let len = usize::try_from(rng.below(600)).unwrap();
            disk.plant(file, 0, &garbage[..len]);
            check(&disk, RECORDS, &format!("garbage in {file}"));
        }
    }
}

#[test]
fn a_bad_tail_larger_than_all_that_can_be_under_way_is_no_torn_tail() {
    let (disk, mut log) = fresh();
    append(&mut log, 0..3);
    sync(&mut log).unwrap();
    let file = log.segments()[0].file;
    let at = disk_len(&disk, file);
    drop(log);
    for (len, torn) in [(1 << 20, true), (crate::limits::UNDURABLE_BYTES_MAX + 1, false)] {
        let disk = Shared::new(disk.snapshot());
        disk.plant(file, at, &vec![0xee; len]);
        let (log, recovery) = open(&disk);
        assert_eq!(log.scan(Position::default()).take(3).filter(Result::is_ok).count(), 3);
        assert_eq!((!recovery.torn.is_empty(), recovery.damage.is_empty()), (torn, torn));
        assert_eq!(disk_len(&disk, file) > at + len / 2, !torn, "never cut");
    }
}

/// A disk that counts how many bytes are asked of it.
#[derive(Debug)]
struct Counting(Shared, std::cell::Cell<u64>);

impl Disk for Counting {
    fn files(&self, kind: FileKind) -> Result<Vec<FileId>, DiskError> {
        self.0.files(kind)
    }
    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        self.0.len(file)
    }
    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.1.set(self.1.get() + buffer.len() as u64);
        self.0.read(file, offset, buffer)
    }
    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.write(file, offset, bytes)
    }
    fn allocate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        self.0.allocate(file, len)
    }
    fn truncate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        self.0.truncate(file, len)
    }
    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        self.0.sync(file)
    }
    fn replace(&self, file: FileId, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.replace(file, bytes)
    }
    fn remove(&self, file: FileId) -> Result<(), DiskError> {
        self.0.remove(file)
    }
    fn rename(&self, from: FileId, to: FileId) -> Result<(), DiskError> {
        self.0.rename(from, to)
    }
}

#[test]
fn a_file_that_is_cut_short_and_rotten_is_searched_once() {
    let disk = Shared::default();
    let mut log = Log::open(disk.clone(), &LogOptions::new(STORE, Rng::new([1; 32]))).unwrap().0;
    let bytes = vec![0x55; 1 << 20];
    for _ in 0..8 {
        log.append(KIND, &bytes).unwrap();
        sync(&mut log).unwrap();
    }
    log.seal_active().unwrap();
    drop(log);
    let file = FileId::new(FileKind::Segment, 1);
    let kept = 600 << 10;
    disk.chop(file, kept);
    disk.flip_bit(file, 300 << 13);
    let counting = Counting(disk, std::cell::Cell::new(0));
    let log = Log::open(counting, &options()).unwrap().0;
    log.disk().1.set(0);
    let found: Vec<_> = log.scan(Position::default()).collect();
    assert!(found.iter().all(Result::is_err), "{found:?}");
    let read = log.disk().1.get();
    assert!(read < 4 * kept as u64, "{read} bytes were read of {kept}");
}

/// The newest segment is lost, and one list names it that knows nothing of those before.
#[test]
fn each_opening_says_the_same_of_a_segment_that_is_named_and_lost() {
    for named_by_mark in [false, true] {
        let (disk, mut log) = fresh();
        append(&mut log, 0..3);
        sync(&mut log).unwrap();
        drop(log);
        for slot in 0..2 {
            let _ = disk.remove(FileId::new(FileKind::Manifest, slot));
        }
        let id = SegmentId { place: 5, file: 5, salt: 9, base: WallTime(0) };
        if named_by_mark {
            Mark { id, end: 300, generation: 1 }.save(&disk, &STORE).unwrap();
        } else {
            let (state, end, records) = (State::Begun, 300, 2);
            let (sha, former, damaged, unread) = ([0; 32], None, false, None);
            let entry = Entry { id, state, end, records, sha, former, damaged, unread };
            let mut list = Manifest { entries: vec![entry], ..Manifest::default() };
            list.save(&disk, &STORE).unwrap();
        }
        let said = [0; 3].map(|_| {
            let (log, recovery) = open(&disk);
            assert!(!recovery.damage.is_empty(), "by the mark: {named_by_mark}");
            numbers(&log)
        });
        assert_eq!(said[0], said[1], "by the mark: {named_by_mark}");
        assert_eq!(said[1], said[2], "by the mark: {named_by_mark}");
        // What the mark names comes after all that is there; of a list it would have been in it.
        assert_eq!(said[0].0.len(), if named_by_mark { 3 } else { 0 });
        let mut log = open(&disk).0;
        append(&mut log, 3..5);
        sync(&mut log).unwrap();
        drop(log);
        assert!(numbers(&open(&disk).0).0.ends_with(&[3, 4]), "by the mark: {named_by_mark}");
    }
}

#[test]
fn rot_that_was_noted_and_reads_well_again_counts() {
    let pristine = sample(true);
    let newest = FileId::new(FileKind::Segment, 3);
    for at in (0..pristine.content(newest).unwrap().len() as u64).step_by(16) {
        let disk = Shared::new(pristine.snapshot());
        disk.flip_bit(newest, at * 8);
        let (mut log, recovery) = open(&disk);
        assert!(!recovery.damage.is_empty(), "{at}");
        append(&mut log, RECORDS..RECORDS + 2);
        sync(&mut log).unwrap();
        drop(log);
        disk.flip_bit(newest, at * 8);
        let (log, recovery) = open(&disk);
        assert_eq!(recovery.damage, [], "{at}");
        assert_eq!(numbers(&log), (up_to(RECORDS + 2), vec![]), "{at}");
        assert_eq!(verify(&disk, &options()).unwrap().problems, [], "{at}");
    }
}

/// A file that is not there at one opening, or only its front, may be put back by whoever took it
/// away: the lists tell no more of a segment that grows than that it was begun.
#[test]
fn a_segment_that_was_away_and_is_back_counts_to_its_last_record() {
    for orderly in [true, false] {
        let pristine = sample(orderly);
        for number in 1..=3 {
            let file = FileId::new(FileKind::Segment, number);
            let content = pristine.content(file).unwrap();
            let lengths = (0..content.len()).step_by(16).map(Some).chain([None]);
            for (left, listed) in lengths.flat_map(|left| [(left, true), (left, false)]) {
                let what = format!("{left:?} of {file}, orderly: {orderly}, listed: {listed}");
                let disk = Shared::new(pristine.snapshot());
                for slot in (0..2).filter(|_| !listed) {
                    disk.remove(FileId::new(FileKind::Manifest, slot)).unwrap();
                }
                match left {
                    Some(left) => disk.truncate(file, left as u64).unwrap(),
                    None => disk.remove(file).unwrap(),
                }
                let (mut log, recovery) = open(&disk);
                if recovery.damage.iter().all(|damage| damage.file != file) {
                    // It passes for a torn end, or nothing tells that it ever was.
                    continue;
                }
                append(&mut log, RECORDS..RECORDS + 2);
                sync(&mut log).unwrap();
                drop(log);
                disk.replace(file, &content).unwrap();
                for _ in 0..2 {
                    let (log, recovery) = open(&disk);
                    // That the lists are gone is another matter.
                    assert!(recovery.damage.iter().all(|damage| damage.segment == 0), "{what}");
                    assert_eq!(numbers(&log), (up_to(RECORDS + 2), vec![]), "{what}");
                    let problems = verify(&disk, &options()).unwrap().problems;
                    assert!(problems.iter().all(|damage| damage.segment == 0), "{what}");
                }
            }
        }
    }
}

/// Of a segment that was begun before the log was opened the hash is read from the disk, which may
/// not read then what it reads later.
#[test]
fn what_reads_badly_when_its_segment_ends_is_whole_when_it_reads_well_again() {
    let pristine = sample(true);
    let newest = FileId::new(FileKind::Segment, 3);
    for at in (0..pristine.content(newest).unwrap().len() as u64).step_by(7) {
        for moves in [false, true] {
            let what = format!("byte {at}, is moved: {moves}");
            let disk = Shared::new(pristine.snapshot());
            let mut log = open(&disk).0;
            append(&mut log, RECORDS..RECORDS + 2);
            disk.flip_bit(newest, at * 8);
            if moves {
                disk.faults(|faults| faults.syncs_to_fail = 1);
                sync(&mut log).unwrap();
                assert!(log.take_moved().is_some(), "{what}");
            } else {
                sync(&mut log).unwrap();
                log.seal_active().unwrap();
            }
            log.close().unwrap();
            drop(log);
            disk.flip_bit(newest, at * 8);
            assert_eq!(verify(&disk, &options()).unwrap().problems, [], "{what}");
            let (log, recovery) = open(&disk);
            assert_eq!(recovery.damage, [], "{what}");
            assert_eq!(numbers(&log), (up_to(RECORDS + 2), vec![]), "{what}");
        }
    }
}

/// FORMAT 7.7: what cannot be told, and from when on it can.
#[test]
fn rot_in_the_last_group_passes_for_a_torn_tail_until_a_mark_is_written() {
    for marked in [false, true] {
        let (disk, mut log) = fresh();
        append(&mut log, 0..3);
        sync(&mut log).unwrap();
        let rotted = append(&mut log, 3..6)[1];
        sync(&mut log).unwrap();
        if marked {
            assert!(log.idle_mark().unwrap());
        }
        disk.crash(CrashMode::KeepAll, &mut Rng::new([0; 32]));
        let file = FileId::new(FileKind::Segment, 1);
        disk.flip_bit(file, u64::from(rotted.offset + 9) * 8);
        let (log, recovery) = open(&disk);
        assert_eq!(
            (recovery.torn.len(), recovery.damage.len()),
            if marked { (0, 1) } else { (1, 0) }
        );
        let expected = if marked { vec![0, 1, 2, 3, 5] } else { vec![0, 1, 2] };
        assert_eq!(numbers(&log).0, expected, "marked: {marked}");
        let kept = disk.files(FileKind::Quarantine).unwrap();
        assert_eq!(kept.len(), usize::from(!marked), "what is cut is kept");
    }
}
