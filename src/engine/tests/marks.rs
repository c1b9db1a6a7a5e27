//! Marks count what happens, and nothing else.
//!
//! One test: the counters are the process's.

#![expect(clippy::unwrap_used, reason = "clippy.toml grants that to test functions alone")]

use std::sync::Arc;

use kdelta_engine::base::{Rng, mark};
use kdelta_engine::log::{CrashMode, Log, LogOptions, MemoryDisk, RecordKind};

fn hits(name: &str) -> u64 {
    mark::hits().into_iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn a_mark_counts_its_hits_until_they_are_set_back() {
    assert_eq!(mark::hits().len(), mark::ALL.len(), "those never hit are listed");
    assert!(mark::hits().iter().all(|(_, hits)| *hits == 0));
    let disk = Arc::new(MemoryDisk::new());
    let options = LogOptions::new([1; 16], Rng::new([2; 32]));
    let (mut log, _) = Log::open(Arc::clone(&disk), &options).unwrap();
    log.append(RecordKind(RecordKind::CALLER_MIN), b"record").unwrap();
    log.close().unwrap();
    drop(log);
    assert_eq!(hits("log-opened-clean"), 0, "the first opening found no mark");
    for openings in 1..4 {
        drop(Log::open(Arc::clone(&disk), &options).unwrap());
        assert_eq!(hits("log-opened-clean"), openings);
    }
    assert_eq!(hits("log-torn-tail"), 0);
    let (mut log, _) = Log::open(Arc::clone(&disk), &options).unwrap();
    log.append(RecordKind(RecordKind::CALLER_MIN), &[7; 3000]).unwrap();
    log.flush().unwrap();
    disk.crash(CrashMode::GarbageTail, &mut Rng::new([3; 32]));
    drop(Log::open(Arc::clone(&disk), &options).unwrap());
    assert_eq!((hits("log-torn-tail"), hits("log-tail-quarantined")), (1, 1));
    assert_eq!(hits("log-mark-outlived"), 1);
    mark::reset();
    assert!(mark::hits().iter().all(|(_, hits)| *hits == 0));
}
