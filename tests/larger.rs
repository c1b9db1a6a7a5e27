//! A log much larger than the memory that is given: the process keeps to it, and answers right.
//!
//! `KDELTA_TEST_KEYS` changes the number of keys, of about 550 bytes each.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use common::{Dice, Home, count};

const MEMORY: &str = "128MiB";
const PEAK_MIB_MAX: u64 = 192;
const BATCH: u64 = 16;

/// The value of the `i`th key: no two are alike, and none can be compressed to nothing.
fn value(i: u64) -> String {
    let mut dice = Dice(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = format!("{i}:");
    while text.len() < 530 + usize::try_from(i % 40).unwrap() {
        text.push_str(&format!("{:016x}", dice.below(u64::MAX)));
    }
    text
}

/// Keys come in another order than that of their names.
fn key(i: u64, keys: u64) -> String {
    format!("key-{:09}", i.wrapping_mul(7_919) % keys)
}

fn write_input(path: &Path, keys: u64) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    for first in (0..keys).step_by(usize::try_from(BATCH).unwrap()) {
        let op = |i| {
            let (key, value) = (key(i, keys), value(i));
            format!(r#"{{"op":"put","key":"{key}","value":"{value}"}}"#)
        };
        let ops: Vec<String> = (first..keys.min(first + BATCH)).map(op).collect();
        writeln!(out, r#"{{"batch":[{}]}}"#, ops.join(",")).unwrap();
    }
    out.flush().unwrap();
}

/// The most memory that a process had, in MiB, as far as it can be seen while it runs.
fn peak_mib(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().split(' ').next()?.parse().ok()?;
    Some(kib / 1024)
}

fn log_bytes(store: &Path) -> u64 {
    let files = std::fs::read_dir(store.join("log")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
#[ignore = "writes 2.3 GiB and takes minutes"]
fn a_log_larger_than_memory_is_written_and_read_within_it() {
    let home = Home::new();
    let keys = count("KDELTA_TEST_KEYS", 2_000_000);
    let input = home.path("input.jsonl");
    write_input(&input, keys);
    let mut import = home.command("a");
    import.args(["--memory", MEMORY, "import"]).arg(&input).stdout(Stdio::null());
    let mut child = import.spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_mib(&child).unwrap_or_default());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success(), "it is imported");
    let log = log_bytes(&home.path("a"));
    eprintln!("{keys} keys, {log} bytes of log; the import had {peak} MiB");
    assert!(peak > 0 && peak <= PEAK_MIB_MAX, "the import had {peak} MiB");
    assert!(log > keys * 530, "it is all in the log: {log} bytes");

    let node = home.serve("a", &["--memory", MEMORY]);
    let mut dice = Dice(count("KDELTA_TEST_SEED", 7));
    for _ in 0..2_000.min(keys) {
        let i = dice.below(keys);
        assert_eq!(home.ok("a", &["get", &key(i, keys)]), value(i), "{i}");
    }
    let counted = home.json("a", &["query", "--count"]);
    assert_eq!(counted["groups"][0]["count"], keys, "each key is read once");
    let peak = peak_mib(&node.child).unwrap();
    eprintln!("serving had {peak} MiB");
    assert!(peak <= PEAK_MIB_MAX, "serving had {peak} MiB");
    node.stop();
}
