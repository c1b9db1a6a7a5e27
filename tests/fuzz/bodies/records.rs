//! Records that validate and say anything: what a store makes of a log with true checksums.

use std::sync::Arc;

use kdelta_engine::base::{Reader, Rng, Writer};
use kdelta_engine::log::{Disk as _, Log, LogOptions, MemoryDisk, RecordKind};
use kdelta_engine::store::verify;

use super::world::{self, bare, look, now, same, store_id};

/// A kind that is not a record here: what came before it is synced as one group.
pub const GROUP: u8 = 1;

/// Records: a kind, a length as varint, a body. They are appended by the real log, whose segment
/// a store then replays, twice.
pub fn records(bytes: &[u8]) {
    let disk = bare();
    append(&disk, bytes);
    let Ok((mut store, _)) = world::open(&disk, 1, world::ROOMY) else { return };
    let said = look(&mut store);
    drop(store);
    let _ = verify(&disk, true);
    let (mut store, _) = world::open(&disk, 1, world::ROOMY).expect("it was opened before");
    same(&look(&mut store), &said);
}

fn append(disk: &Arc<MemoryDisk>, bytes: &[u8]) {
    let mut options = LogOptions::new(store_id(), Rng::new([1; 32]));
    options.wall = now(1000).wall;
    let (mut log, _) = Log::open(Arc::clone(disk), &options).expect("a new log");
    let mut reader = Reader::new(bytes);
    while let Ok(kind) = reader.u8() {
        let Ok(body) = reader.bytes(bytes.len(), "body") else { break };
        if kind < RecordKind::CALLER_MIN {
            sync(&mut log);
        } else {
            log.append(RecordKind(kind), body).expect("a sound disk");
        }
    }
    sync(&mut log);
    log.close().expect("a sound disk");
}

fn sync(log: &mut Log<Arc<MemoryDisk>>) {
    log.flush().expect("a sound disk");
    if let Some(ticket) = log.sync_due() {
        let result = log.disk().sync(ticket.file);
        log.synced(ticket, result).expect("a sound disk");
    }
}

/// One record, as [`records`] reads it.
pub fn put(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.put_u8(kind);
    out.put_bytes(body);
}
