//! What a log promises, one fault at a time.

use std::sync::Arc;

use kdelta_engine::base::Rng;
use kdelta_engine::log::{
    CrashMode, Disk as _, Log, LogOptions, MemoryDisk, Position, RecordKind, Recovery, verify,
};

type Shared = Arc<MemoryDisk>;

const KIND: RecordKind = RecordKind(RecordKind::CALLER_MIN + 1);

fn options() -> LogOptions {
    LogOptions { preallocate_bytes: 1024, ..LogOptions::new([5; 16], Rng::new([1; 32])) }
}

fn open(disk: &Shared) -> (Log<Shared>, Recovery) {
    Log::open(Arc::clone(disk), &options()).unwrap()
}

/// A new log that holds these records, each in a group of its own and durable.
fn with(records: &[&[u8]]) -> (Shared, Log<Shared>) {
    let disk = Shared::default();
    let (mut log, _) = open(&disk);
    records.iter().for_each(|record| add(&mut log, record));
    (disk, log)
}

fn add(log: &mut Log<Shared>, record: &[u8]) {
    log.append(KIND, record).unwrap();
    sync(log);
}

fn sync(log: &mut Log<Shared>) {
    log.flush().unwrap();
    while let Some(ticket) = log.sync_due() {
        let result = log.disk().sync(ticket.file);
        log.synced(ticket, result).unwrap();
    }
}

fn crash(disk: &Shared, mode: CrashMode) -> (Log<Shared>, Recovery) {
    disk.crash(mode, &mut Rng::new([3; 32]));
    open(disk)
}

fn records(log: &Log<Shared>) -> Vec<Vec<u8>> {
    let found = log.scan(Position::default()).filter_map(Result::ok);
    found.map(|(_, record)| record.body).collect()
}

pub(crate) fn what_is_called_durable_survives() -> bool {
    let (disk, mut log) = with(&[b"first"]);
    log.append(KIND, b"second").unwrap();
    log.flush().unwrap();
    let durable = log.durable() >= log.written();
    let (log, _) = crash(&disk, CrashMode::LoseAll);
    !durable || records(&log).len() == 2
}

pub(crate) fn the_loss_of_a_new_segment_is_noticed() -> bool {
    let (disk, log) = with(&[b"first"]);
    disk.remove(log.segments()[0].file).unwrap();
    let (_, recovery) = open(&disk);
    !recovery.damage.is_empty()
}

pub(crate) fn records_survive_a_failed_sync() -> bool {
    let (disk, mut log) = with(&[b"first"]);
    disk.faults(|faults| faults.syncs_to_fail = 1);
    add(&mut log, b"second");
    let (log, _) = crash(&disk, CrashMode::LoseAll);
    records(&log).len() == 2
}

pub(crate) fn records_survive_a_failed_write() -> bool {
    let (disk, mut log) = with(&[b"first"]);
    disk.faults(|faults| faults.writes_to_fail = 1);
    add(&mut log, b"second");
    let (log, _) = crash(&disk, CrashMode::LoseAll);
    records(&log).len() == 2
}

pub(crate) fn rot_costs_what_it_hit_and_no_more() -> bool {
    let (disk, log) = with(&[b"first", b"second", b"third"]);
    let (position, _) = log.scan(Position::default()).next().unwrap().unwrap();
    assert!(disk.flip_bit(log.segments()[0].file, u64::from(position.offset + 9) * 8));
    drop(log);
    let (log, recovery) = open(&disk);
    recovery.damage.len() == 1 && records(&log) == [&b"second"[..], b"third"]
}

pub(crate) fn a_torn_tail_is_no_damage_later() -> bool {
    let (disk, mut log) = with(&[b"first"]);
    log.append(KIND, &[7; 3000]).unwrap();
    log.flush().unwrap();
    let (mut log, recovery) = crash(&disk, CrashMode::GarbageTail);
    assert!(recovery.damage.is_empty());
    add(&mut log, b"second");
    add(&mut log, b"third");
    let (log, recovery) = crash(&disk, CrashMode::LoseAll);
    recovery.damage.is_empty() && records(&log).len() == 3
}

pub(crate) fn a_record_elsewhere_is_no_record() -> bool {
    let (disk, mut log) = with(&[]);
    let at = [&b"one"[..], b"two", b"end"].map(|record| log.append(KIND, record).unwrap());
    sync(&mut log);
    let file = log.segments()[0].file;
    let bytes = disk.content(file).unwrap();
    let [first, second, third] = at.map(|position| position.offset as usize);
    assert_eq!(second - first, third - second);
    disk.plant(file, second, &bytes[first..second]);
    log.read(at[1]).is_err()
}

pub(crate) fn what_cannot_be_read_now_is_there_later() -> bool {
    let (disk, log) = with(&[b"first", b"second"]);
    let file = log.segments()[0].file;
    // That the second one is durable nothing says yet but that it is there.
    let (position, _) = log.scan(Position::default()).nth(1).unwrap().unwrap();
    let at = u64::from(position.offset);
    drop(log);
    disk.faults(|faults| faults.unreadable = vec![(file, at..at + 10)]);
    add(&mut open(&disk).0, b"third");
    disk.faults(|faults| faults.unreadable.clear());
    let (log, _) = open(&disk);
    records(&log).len() == 3
}

pub(crate) fn rot_in_the_newest_segment_is_found() -> bool {
    let (disk, mut log) = with(&[b"first"]);
    log.close().unwrap();
    assert!(disk.flip_bit(log.segments()[0].file, 140 * 8));
    !verify(&disk, &options()).unwrap().problems.is_empty()
}
