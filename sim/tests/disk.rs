//! Facts of the simulated disk: each row of its table, what the ledger says, and what it costs not.

#![expect(clippy::unwrap_used, reason = "a test may panic; helpers of tests are not known as such")]

#[path = "disk/random.rs"]
mod random;

use std::ops::Range;

use kdelta_engine::base::Rng;
use kdelta_engine::log::{CrashMode, Disk, DiskError, DiskErrorKind, FileId, FileKind, MemoryDisk};
use kdelta_sim::disk::{Delay, End, Fault, FaultId, Latency, Row, SimDisk, Times};

const FILE: FileId = FileId::new(FileKind::Segment, 1);
const OTHER: FileId = FileId::new(FileKind::Segment, 2);
const MARK: FileId = FileId::new(FileKind::Mark, 0);

fn rng(seed: u8) -> Rng {
    Rng::new([seed; 32])
}

fn fault(text: &str) -> Fault {
    text.parse().unwrap()
}

/// A disk with 2,000 durable bytes in one file.
fn written() -> SimDisk {
    let disk = SimDisk::new();
    disk.write(FILE, 0, &[7; 2000]).unwrap();
    disk.sync(FILE).unwrap();
    disk
}

fn read(disk: &SimDisk, file: FileId, range: Range<u64>) -> Result<Vec<u8>, DiskErrorKind> {
    let mut buffer = vec![0; usize::try_from(range.end - range.start).unwrap()];
    disk.read(file, range.start, &mut buffer).map_err(|error| error.kind)?;
    Ok(buffer)
}

fn kind(done: Result<(), DiskError>) -> Option<DiskErrorKind> {
    done.err().map(|error| error.kind)
}

fn end(disk: &SimDisk, id: FaultId) -> End {
    disk.ledger(|ledger| ledger.end(id)).unwrap()
}

fn met(disk: &SimDisk, row: Row) -> u64 {
    disk.counts().of(row).1
}

#[test]
fn the_text_of_a_fault_names_it_and_nothing_else_does() {
    let texts = [
        "flip file=log/0000000000000001.seg bit=17",
        "zero file=log/manifest-1 range=0..512",
        "garble file=index/0000000000000002.six range=3..4 seed=9",
        "revert file=log/local-0 range=0..18446744073709551615 slot=2",
        "unreadable file=log/mark-0 range=0..1 times=always",
        "stale file=log/mark-0 range=0..1 times=3",
        "misdirect on=segment pass=2 to=log/0000000000000001.seg offset=512",
        "lose-sync on=any pass=0",
        "short-write on=log/0000000000000001.seg pass=1 keep=7",
        "fail-sync on=any pass=0 times=2 error=io old=true",
        "refuse op=create on=sidecar pass=0 times=always error=busy",
        "lose-answer op=rename on=quarantine pass=4",
        "space bytes=0",
        "read-only",
        "slow op=any on=spool pass=0 times=1 us=30000000",
        "stuck op=sync on=any pass=0",
        "power-off after=12",
        "evict file=spool/0000000000000001.part",
        "kill",
        "crash mode=sectors:512 seed=1",
        "crash mode=keepall seed=18446744073709551615",
        "wipe",
        "save slot=0",
        "restore slot=4294967295",
    ];
    for text in texts {
        assert_eq!(fault(text).to_string(), text);
    }
    for text in [
        "",
        "rot",
        "wipe slot=1",
        "save",
        "save slot=01",
        "save slot=4294967296",
        "space bits=1",
        "flip bit=17 file=log/mark-0",
        "crash mode=sectors seed=1",
        "zero file=log/mark-0 range=1",
        "unreadable file=log/mark-0 range=0..1 times=-1",
    ] {
        assert!(text.parse::<Fault>().is_err(), "{text}");
    }
}

#[test]
fn every_row_can_be_drawn_and_every_drawn_fault_can_be_written_down() {
    let disk = written();
    disk.replace(MARK, b"mark").unwrap();
    disk.inject(fault("save slot=0"));
    for (number, row) in Row::ALL.into_iter().enumerate() {
        for seed in 0..60 {
            let mut rng = rng(seed);
            let drawn = Fault::draw(&disk, &mut rng, &[row], &mut |_, _| true).unwrap();
            assert_eq!(drawn.to_string().parse(), Ok(drawn.clone()));
            let recovering = matches!(row, Row::D15);
            assert!(drawn.rows().contains(&row) || recovering, "{row:?} {number}: {drawn}");
        }
    }
    assert_eq!(Fault::draw(&disk, &mut rng(0), &[], &mut |_, _| true), None);
}

#[test]
fn what_is_not_allowed_is_not_drawn() {
    let disk = written();
    disk.write(OTHER, 0, &[1; 3000]).unwrap();
    disk.inject(fault("save slot=0"));
    let media = [Row::D8, Row::D9, Row::D10, Row::D11, Row::D12];
    for seed in 0..100 {
        let none = Fault::draw(&disk, &mut rng(seed), &media, &mut |_, _| false);
        assert_eq!(none, None);
        let mut asked = Vec::new();
        let drawn = Fault::draw(&disk, &mut rng(seed), &[Row::D9], &mut |file, range| {
            asked.push((file, range));
            file == OTHER
        });
        let Some(drawn) = drawn else { continue };
        assert!(drawn.to_string().contains(&OTHER.path()), "{drawn}");
        assert!(asked.iter().any(|(file, _)| *file == OTHER));
    }
}

#[test]
fn a_crash_counts_its_rows_only_if_there_was_something_to_lose() {
    let disk = written();
    disk.crash(CrashMode::Sectors(512), &mut rng(1));
    assert_eq!((met(&disk, Row::D1), met(&disk, Row::D3)), (0, 0));
    disk.write(FILE, 2000, &[8; 4000]).unwrap();
    disk.write(OTHER, 0, b"new").unwrap();
    disk.crash(CrashMode::Sectors(512), &mut rng(1));
    for row in [Row::D1, Row::D2, Row::D3, Row::D4] {
        assert_eq!(disk.counts().of(row), (2, 1), "{row:?}");
    }
    assert!(disk.bytes_at(FILE, 0..2000).unwrap() == [7; 2000], "what was synced survives");
    disk.write(FILE, 0, b"x").unwrap();
    disk.crash(CrashMode::Torn(1), &mut rng(1));
    assert_eq!(disk.counts().of(Row::D2), (3, 2));
    disk.write(MARK, 0, b"x").unwrap();
    let id = disk.crash(CrashMode::EntryLost, &mut rng(1));
    assert_eq!(disk.len(MARK).unwrap_err().kind, DiskErrorKind::NotFound);
    assert_eq!((met(&disk, Row::D4), end(&disk, id)), (2, End::Told));
}

#[test]
fn a_failed_sync_leaves_new_bytes_in_the_cache_or_old_ones_and_none_on_the_medium() {
    for old in [false, true] {
        let disk = written();
        let text = format!("fail-sync on=segment pass=1 times=1 error=io old={old}");
        let id = disk.inject(fault(&text));
        disk.write(FILE, 0, b"1").unwrap();
        disk.sync(FILE).unwrap();
        disk.write(FILE, 1, b"2").unwrap();
        assert_eq!(end(&disk, id), End::Waiting);
        assert_eq!(kind(disk.sync(FILE)), Some(DiskErrorKind::Io));
        let seen = if old { [b'1', 7] } else { *b"12" };
        assert_eq!(read(&disk, FILE, 0..2).unwrap(), seen);
        disk.sync(FILE).unwrap();
        assert_eq!((end(&disk, id), met(&disk, Row::D5)), (End::Told, 1));
        disk.inject(fault("kill"));
        assert_eq!(read(&disk, FILE, 0..2).unwrap(), seen, "the cache outlives the process");
        assert_eq!(met(&disk, Row::D6), 1);
        disk.inject(Fault::Evict { file: FILE });
        assert_eq!(read(&disk, FILE, 0..2).unwrap(), [b'1', 7]);
        assert_eq!(met(&disk, Row::D6), if old { 1 } else { 2 });
    }
}

#[test]
fn an_evicted_file_keeps_what_waits_for_a_sync() {
    let disk = written();
    disk.inject(fault("fail-sync on=any pass=0 times=1 error=io old=false"));
    disk.write(FILE, 0, b"lost").unwrap();
    disk.sync(FILE).unwrap_err();
    disk.write(FILE, 2, b"kept").unwrap();
    disk.inject(Fault::Evict { file: FILE });
    assert_eq!(read(&disk, FILE, 0..6).unwrap(), b"\x07\x07kept");
}

#[test]
fn a_disk_can_be_full_for_writes_syncs_new_files_and_renames() {
    let disk = written();
    let full = Some(DiskErrorKind::Full);
    let space = disk.inject(fault("space bytes=2003"));
    assert_eq!(kind(disk.write(FILE, 2000, b"12345")), full);
    assert_eq!(read(&disk, FILE, 2000..2003).unwrap(), b"123", "what fits is written");
    disk.clear(space);
    disk.write(FILE, 2000, b"12345").unwrap();
    disk.inject(fault("fail-sync on=any pass=0 times=1 error=full old=false"));
    assert_eq!(kind(disk.sync(FILE)), full);
    disk.inject(fault("refuse op=create on=any pass=0 times=2 error=full"));
    disk.write(FILE, 0, b"an old file").unwrap();
    assert_eq!(kind(disk.write(OTHER, 0, b"a new one")), full);
    assert_eq!(kind(disk.replace(MARK, b"a new one")), full);
    assert_eq!(disk.files(FileKind::Mark).unwrap(), []);
    disk.inject(fault("refuse op=rename on=any pass=0 times=1 error=full"));
    assert_eq!(kind(disk.rename(FILE, OTHER)), full);
    disk.rename(FILE, OTHER).unwrap();
    assert_eq!(disk.counts().of(Row::D7), (4, 5));
    disk.ledger(|ledger| assert_eq!(ledger.end(space), Some(End::Told)));
}

#[test]
fn a_sector_is_unreadable_for_some_reads_or_until_it_is_written() {
    let disk = written();
    let id =
        disk.inject(Fault::Unreadable { file: FILE, range: 512..1024, times: Times::Count(2) });
    assert!(read(&disk, FILE, 0..512).is_ok(), "the rest is served");
    assert_eq!(end(&disk, id), End::Latent);
    for _ in 0..2 {
        assert_eq!(read(&disk, FILE, 0..2000), Err(DiskErrorKind::Io));
    }
    assert_eq!(end(&disk, id), End::Open);
    assert_eq!(read(&disk, FILE, 0..2000).unwrap(), [7; 2000]);
    assert_eq!(end(&disk, id), End::Repaired, "read again, and good");

    let id = disk.inject(Fault::Unreadable { file: FILE, range: 512..1024, times: Times::Always });
    for _ in 0..9 {
        assert_eq!(read(&disk, FILE, 1000..1001), Err(DiskErrorKind::Io));
    }
    disk.write(FILE, 512, &[1; 400]).unwrap();
    assert_eq!((end(&disk, id), read(&disk, FILE, 512..912)), (End::Open, Ok(vec![1; 400])));
    assert_eq!(read(&disk, FILE, 912..913), Err(DiskErrorKind::Io));
    disk.write(FILE, 912, &[1; 200]).unwrap();
    assert_eq!((end(&disk, id), read(&disk, FILE, 0..2000).is_ok()), (End::Repaired, true));
    assert_eq!(disk.counts().of(Row::D8), (2, 2));
}

#[test]
fn rot_is_seen_by_readers_and_goes_when_it_is_healed() {
    let disk = written();
    disk.inject(fault("save slot=0"));
    disk.write(FILE, 0, &[9; 2000]).unwrap();
    disk.sync(FILE).unwrap();
    let texts = [
        ("flip file=log/0000000000000001.seg bit=801", 100, vec![9 ^ 2]),
        ("zero file=log/0000000000000001.seg range=200..202", 200, vec![0, 0]),
        ("revert file=log/0000000000000001.seg range=300..302 slot=0", 300, vec![7, 7]),
    ];
    for (text, at, seen) in &texts {
        disk.inject(fault(text));
        assert_eq!(&read(&disk, FILE, *at..at + seen.len() as u64).unwrap(), seen, "{text}");
    }
    disk.inject(fault("garble file=log/0000000000000001.seg range=400..464 seed=1"));
    assert_ne!(read(&disk, FILE, 400..464).unwrap(), [9; 64]);
    assert_eq!(read(&disk, FILE, 464..2000).unwrap(), [9; 1536]);
    assert_eq!(disk.bytes_at(FILE, 0..9999).unwrap(), [9; 2000], "the good bytes are below");
    assert_eq!(disk.bad().len(), 4);
    disk.crash(CrashMode::LoseAll, &mut rng(0));
    assert_eq!(read(&disk, FILE, 100..101).unwrap(), [11], "rot outlives the power");
    disk.heal();
    assert_eq!(disk.ledger(|ledger| ledger.unsettled().count()), 4, "it was read all the same");
    assert_eq!((read(&disk, FILE, 0..2000).unwrap(), disk.bad()), (vec![9; 2000], vec![]));
    assert_eq!(disk.ledger(|ledger| ledger.unsettled().count()), 0);
    assert_eq!(disk.counts().of(Row::D9), (4, 4));
}

#[test]
fn the_world_settles_what_was_read_by_file_and_range() {
    let disk = written();
    let ids = [100, 600, 1100].map(|at| disk.inject(Fault::Flip { file: FILE, bit: at * 8 }));
    disk.tell_time(55);
    read(&disk, FILE, 0..1000).unwrap();
    let open: Vec<_> = disk.ledger(|ledger| ledger.unsettled().cloned().collect());
    let places: Vec<_> = open.iter().map(|hit| (hit.file, hit.range.clone(), hit.read)).collect();
    assert_eq!(places, [(FILE, 100..101, Some(55)), (FILE, 600..601, Some(55))]);
    assert_eq!(disk.ledger(|ledger| ledger.reported(OTHER, &(0..2000))), 0);
    assert_eq!(disk.ledger(|ledger| ledger.reported(FILE, &(101..600))), 0);
    assert_eq!(disk.ledger(|ledger| ledger.reported(FILE, &(0..512))), 1);
    assert_eq!(disk.ledger(|ledger| ledger.repaired(FILE, &(0..2000))), 1, "only what was read");
    assert_eq!(ids.map(|id| end(&disk, id)), [End::Reported, End::Repaired, End::Latent]);
}

#[test]
fn a_hit_is_repaired_or_masked_when_its_bytes_are_cut_gone_or_in_quarantine() {
    let ways: [&dyn Fn(&SimDisk); 6] = [
        &|disk| disk.truncate(FILE, 100).unwrap(),
        &|disk| disk.remove(FILE).unwrap(),
        &|disk| disk.replace(FILE, b"anew").unwrap(),
        &|disk| disk.rename(FILE, FileId::new(FileKind::Quarantine, 1)).unwrap(),
        &|disk| disk.write(FILE, 90, &[1; 500]).unwrap(),
        &|disk| {
            disk.inject(Fault::Wipe {});
        },
    ];
    for (number, way) in ways.iter().enumerate() {
        for (reads, left) in [(true, End::Repaired), (false, End::Masked)] {
            let disk = written();
            let id = disk.inject(Fault::Zero { file: FILE, range: 100..612 });
            let part = Fault::Zero { file: FILE, range: 580..600 };
            let other = disk.inject(part);
            if reads {
                read(&disk, FILE, 0..2000).unwrap();
                assert_eq!(end(&disk, id), End::Open);
            }
            way(&disk);
            if number == 4 {
                let rest = disk.bad();
                assert_eq!(rest, [(FILE, 590..612), (FILE, 590..600)], "the rest is bad");
                disk.write(FILE, 590, &[1; 100]).unwrap();
            }
            assert_eq!(end(&disk, id), left, "way {number}");
            if !reads {
                assert_eq!(end(&disk, other), End::Masked);
            }
        }
    }
}

#[test]
fn a_misdirected_write_spoils_two_places_once_the_cache_is_gone() {
    for evict in [false, true] {
        let disk = written();
        disk.write(OTHER, 0, &[5; 600]).unwrap();
        disk.sync(OTHER).unwrap();
        let text = "misdirect on=log/0000000000000001.seg pass=1 to=log/0000000000000002.seg \
                    offset=512";
        let id = disk.inject(fault(text));
        disk.write(FILE, 0, &[1; 100]).unwrap();
        disk.write(FILE, 1900, &[2; 200]).unwrap();
        disk.sync(FILE).unwrap();
        assert_eq!(read(&disk, FILE, 1900..2100).unwrap(), [2; 200], "the cache has it");
        let hidden = disk.hidden();
        assert_eq!(hidden, [(id, FILE, 1900..2100), (id, OTHER, 512..600)]);
        if evict {
            disk.inject(Fault::Evict { file: FILE });
            disk.inject(Fault::Evict { file: OTHER });
        } else {
            disk.crash(CrashMode::LoseAll, &mut rng(0));
        }
        let mut old = vec![7; 100];
        old.resize(200, 0);
        assert_eq!(read(&disk, FILE, 1900..2100).unwrap(), old);
        assert_eq!(read(&disk, OTHER, 511..600).unwrap()[..2], [5, 2]);
        assert_eq!(read(&disk, FILE, 0..100).unwrap(), [1; 100]);
        assert_eq!(disk.counts().of(Row::D10), (1, 2));
    }
}

#[test]
fn what_is_hidden_can_be_spared_before_the_power_goes() {
    let disk = written();
    disk.inject(fault("lose-sync on=any pass=0"));
    disk.write(FILE, 0, b"the last good copy").unwrap();
    disk.sync(FILE).unwrap();
    for (id, file, range) in disk.hidden() {
        assert_eq!((file, range), (FILE, 0..18));
        disk.clear(id);
    }
    disk.crash(CrashMode::LoseAll, &mut rng(0));
    assert_eq!(read(&disk, FILE, 0..18).unwrap(), b"the last good copy");
}

#[test]
fn a_stale_read_yields_what_was_there_before_and_then_no_more() {
    let disk = written();
    let range = 1990..2010;
    let id = disk.inject(Fault::Stale { file: FILE, range: range.clone(), times: Times::Count(1) });
    assert_eq!(read(&disk, FILE, 1990..2000).unwrap(), [7; 10]);
    assert_eq!(end(&disk, id), End::Latent, "nothing is stale that was not written anew");
    disk.write(FILE, 1990, &[8; 20]).unwrap();
    disk.sync(FILE).unwrap();
    let stale = [[7; 10], [0; 10]].concat();
    assert_eq!(read(&disk, FILE, range.clone()).unwrap(), stale);
    assert_eq!(end(&disk, id), End::Open);
    assert_eq!(read(&disk, FILE, range).unwrap(), [8; 20]);
    assert_eq!((end(&disk, id), met(&disk, Row::D11)), (End::Repaired, 1));
}

#[test]
fn a_sync_that_lied_is_undone_by_the_power_and_later_ones_are_not() {
    let disk = written();
    let id = disk.inject(fault("lose-sync on=segment pass=0"));
    disk.write(FILE, 1999, b"ab").unwrap();
    disk.sync(FILE).unwrap();
    disk.write(FILE, 2001, b"cd").unwrap();
    disk.sync(FILE).unwrap();
    assert_eq!(read(&disk, FILE, 1999..2003).unwrap(), b"abcd");
    disk.crash(CrashMode::KeepAll, &mut rng(0));
    assert_eq!(read(&disk, FILE, 1999..2003).unwrap(), b"\x07\0cd");
    assert_eq!((end(&disk, id), met(&disk, Row::D12)), (End::Open, 1));

    disk.replace(MARK, b"one").unwrap();
    disk.inject(fault("lose-sync on=any pass=0"));
    disk.replace(MARK, b"longer").unwrap();
    disk.inject(fault("lose-sync on=any pass=0"));
    disk.replace(FileId::new(FileKind::Mark, 1), b"new").unwrap();
    assert_eq!(read(&disk, MARK, 0..6).unwrap(), b"longer");
    disk.crash(CrashMode::LoseAll, &mut rng(0));
    assert_eq!((disk.len(MARK), read(&disk, MARK, 0..3)), (Ok(3), Ok(b"one".to_vec())));
    assert_eq!(read(&disk, MARK, 0..4), Err(DiskErrorKind::PastEnd));
    assert_eq!(disk.files(FileKind::Mark).unwrap(), [MARK]);
    disk.write(MARK, 3, b"!").unwrap();
    disk.heal();
    assert_eq!(read(&disk, MARK, 0..4).unwrap(), b"one!", "what was changed since stays so");
    assert_eq!(read(&disk, FileId::new(FileKind::Mark, 1), 0..3).unwrap(), b"new");
}

#[test]
fn a_short_write_writes_a_front_part_and_says_so() {
    let disk = written();
    let id = disk.inject(fault("short-write on=any pass=1 keep=3"));
    disk.write(FILE, 0, b"whole").unwrap();
    assert_eq!(kind(disk.write(FILE, 100, b"short")), Some(DiskErrorKind::Io));
    assert_eq!(read(&disk, FILE, 100..105).unwrap(), b"sho\x07\x07");
    assert_eq!((end(&disk, id), disk.counts().of(Row::D13)), (End::Told, (1, 1)));
}

#[test]
fn a_change_whose_answer_is_lost_has_happened() {
    let disk = written();
    for (op, change) in [
        ("rename", &(|disk: &SimDisk| disk.rename(FILE, OTHER)) as &dyn Fn(&SimDisk) -> _),
        ("replace", &|disk| disk.replace(MARK, b"new")),
        ("sync", &|disk| {
            disk.write(OTHER, 0, b"synced").unwrap();
            disk.sync(OTHER)
        }),
    ] {
        disk.inject(fault(&format!("lose-answer op={op} on=any pass=0")));
        assert_eq!(kind(change(&disk)), Some(DiskErrorKind::Io), "{op}");
    }
    disk.crash(CrashMode::LoseAll, &mut rng(0));
    assert_eq!(disk.files(FileKind::Segment).unwrap(), [OTHER]);
    assert_eq!(read(&disk, OTHER, 0..6).unwrap(), b"synced");
    assert_eq!(read(&disk, MARK, 0..3).unwrap(), b"new");
    assert_eq!(disk.counts().of(Row::D14), (3, 3));
}

#[test]
fn the_power_goes_after_so_many_changes_in_recovery_and_after_it() {
    let disk = written();
    for (row, recovered) in [(Row::D16, true), (Row::D15, false)] {
        if recovered {
            disk.recovered();
        }
        let id = disk.inject(fault("power-off after=2"));
        disk.write(FILE, 0, b"1").unwrap();
        disk.write(FILE, 1, b"2").unwrap();
        assert_eq!(kind(disk.write(FILE, 2, b"3")), Some(DiskErrorKind::Io));
        assert!(disk.is_off());
        disk.heal();
        assert_eq!(read(&disk, FILE, 0..1), Err(DiskErrorKind::Io), "no heal turns it on");
        disk.crash(CrashMode::KeepAll, &mut rng(0));
        assert_eq!(read(&disk, FILE, 0..3).unwrap(), b"12\x07");
        assert_eq!((end(&disk, id), disk.counts().of(row).0), (End::Told, 1));
        assert!(met(&disk, row) >= 1, "{row:?}");
    }
    let id = disk.inject(fault("power-off after=2"));
    disk.crash(CrashMode::KeepAll, &mut rng(0));
    disk.write(FILE, 0, &[0; 9]).unwrap();
    disk.write(FILE, 0, &[0; 9]).unwrap();
    disk.write(FILE, 0, &[0; 9]).unwrap();
    assert_eq!(end(&disk, id), End::Masked, "another crash came first");
}

#[test]
fn delays_are_told_and_those_of_a_sync_beforehand() {
    let disk = written();
    assert_eq!(disk.take_delay(), Delay::default());
    disk.set_latency(Latency { read: 1..=1, write: 10..=10, sync: 100..=199 }, 1);
    disk.write(FILE, 0, b"1").unwrap();
    read(&disk, FILE, 0..1).unwrap();
    assert_eq!(disk.take_delay(), Delay { us: 11, stuck: false });
    let before = disk.sync_delay(FILE);
    assert!((100..200).contains(&before.us));
    disk.sync(FILE).unwrap();
    assert_eq!(disk.take_delay().us, 0, "that time has passed");
    disk.sync(FILE).unwrap();
    assert!((100..200).contains(&disk.take_delay().us));
    let draws: Vec<_> = (0..50).map(|_| disk.sync_delay(FILE).us).collect();
    assert!(draws.iter().any(|us| *us != draws[0]), "they differ");

    disk.inject(fault("slow op=write on=any pass=1 times=2 us=30000000"));
    let times = [0; 4].map(|_| {
        disk.write(FILE, 0, b"1").unwrap();
        disk.take_delay().us
    });
    assert_eq!(times, [10, 30_000_010, 30_000_010, 10]);
    let stuck = disk.inject(fault("stuck op=sync on=segment pass=0"));
    assert!(disk.sync_delay(FILE).stuck && disk.sync_delay(FILE).stuck);
    disk.clear(stuck);
    assert!(!disk.sync_delay(FILE).stuck);
    disk.inject(fault("stuck op=any on=any pass=0"));
    read(&disk, FILE, 0..1).unwrap();
    assert!(disk.take_delay().stuck);
    disk.crash(CrashMode::KeepAll, &mut rng(0));
    read(&disk, FILE, 0..1).unwrap();
    assert_eq!(disk.take_delay(), Delay { us: 1, stuck: false }, "nothing hangs after a crash");
    assert_eq!(disk.counts().of(Row::D17), (3, 5));
}

#[test]
fn a_disk_can_be_wiped_put_back_copied_and_forked() {
    let disk = written();
    disk.inject(fault("save slot=3"));
    disk.write(FILE, 0, b"later").unwrap();
    let rot = disk.inject(Fault::Zero { file: FILE, range: 100..200 });
    let (copy, fork) = (disk.copy(), disk.fork());
    assert_eq!(disk.inject(fault("restore slot=3")), FaultId(2));
    assert_eq!((read(&disk, FILE, 0..200), end(&disk, rot)), (Ok(vec![7; 200]), End::Masked));
    disk.inject(fault("wipe"));
    assert_eq!(disk.files(FileKind::Segment).unwrap(), []);
    let nothing = disk.inject(fault("restore slot=4"));
    assert_eq!((end(&disk, nothing), disk.counts().of(Row::D18)), (End::Masked, (4, 3)));

    assert_eq!(read(&copy, FILE, 0..6).unwrap(), b"later\x07");
    assert_eq!((read(&copy, FILE, 100..102).unwrap(), copy.bad()), (vec![7, 7], vec![]));
    assert_eq!(read(&fork, FILE, 100..102).unwrap(), [0, 0]);
    assert_eq!(end(&fork, rot), End::Open, "it has the faults and a ledger of its own");
}

#[test]
fn a_disk_refuses_what_it_is_told_to_refuse_and_nothing_happens() {
    let disk = written();
    let id = disk.inject(fault("read-only"));
    for done in [disk.write(FILE, 0, b"x"), disk.remove(FILE), disk.replace(MARK, b"x")] {
        assert_eq!(kind(done), Some(DiskErrorKind::ReadOnly));
    }
    assert!(read(&disk, FILE, 0..2000).is_ok());
    disk.clear(id);
    disk.inject(fault("refuse op=any on=segment pass=1 times=2 error=denied"));
    disk.write(FILE, 0, b"x").unwrap();
    disk.replace(MARK, b"x").unwrap();
    assert_eq!(read(&disk, FILE, 0..1), Err(DiskErrorKind::Denied));
    assert_eq!(kind(disk.remove(FILE)), Some(DiskErrorKind::Denied));
    disk.inject(fault("refuse op=list on=segment pass=0 times=always error=busy"));
    for _ in 0..3 {
        assert_eq!(disk.files(FileKind::Segment).unwrap_err().kind, DiskErrorKind::Busy);
    }
    disk.heal();
    assert_eq!(disk.files(FileKind::Segment).unwrap(), [FILE]);
    assert_eq!(disk.counts().of(Row::D19), (3, 8));
}
