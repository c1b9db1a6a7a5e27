//! Laws of the whole floor: what a log promises, under every fault of the disk model.

mod crashes;
mod damage;
mod faults;
mod life;
mod random;
mod unread;

use std::sync::Arc;

use super::*;
use crate::base::Rng;

const STORE: [u8; 16] = [0x5a; 16];
const KIND: RecordKind = RecordKind(0x11);

type Shared = Arc<MemoryDisk>;

/// Small reservations, so that files stay short and are doubled now and then.
fn options() -> LogOptions {
    let preallocate_bytes = 1024;
    LogOptions { preallocate_bytes, ..LogOptions::new(STORE, Rng::new([1; 32])) }
}

fn open(disk: &Shared) -> (Log<Shared>, Recovery) {
    Log::open(disk.clone(), &options()).unwrap()
}

fn fresh() -> (Shared, Log<Shared>) {
    let disk = Shared::default();
    let (log, recovery) = open(&disk);
    assert!(recovery.clean);
    (disk, log)
}

/// The body of the `n`-th record: tells its number, and differs in length from its neighbours.
fn body(n: usize) -> Vec<u8> {
    let mut body = u32::try_from(n).unwrap().to_le_bytes().to_vec();
    body.resize(4 + n * 37 % 150, u8::try_from(n % 251).unwrap());
    body
}

fn append(log: &mut Log<Shared>, numbers: std::ops::Range<usize>) -> Vec<Position> {
    numbers.map(|n| log.append(KIND, &body(n)).unwrap()).collect()
}

/// Flushes and syncs as a host does.
fn sync(log: &mut Log<Shared>) -> Result<(), LogError> {
    log.flush()?;
    if let Some(ticket) = log.sync_due() {
        let result = log.disk().sync(ticket.file);
        log.synced(ticket, result)?;
    }
    Ok(())
}

/// What a scan yields: the numbers of the records, each checked to be what was appended.
fn numbers(log: &Log<Shared>) -> (Vec<usize>, Vec<Damage>) {
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    for item in log.scan(Position::default()) {
        match item {
            Ok((position, record)) => {
                let number = u32::from_le_bytes(record.body[..4].try_into().unwrap()) as usize;
                assert_eq!(record.body, body(number), "a record is never other than it was");
                assert_eq!(record.kind, KIND);
                assert_eq!(log.read(position).unwrap(), record);
                found.push(number);
            }
            Err(fault) => damage.push(fault),
        }
    }
    (found, damage)
}

fn up_to(count: usize) -> Vec<usize> {
    (0..count).collect()
}
