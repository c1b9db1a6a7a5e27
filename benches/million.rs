//! A million events: how fast they are written, how long the store takes to open, what a key's
//! history costs, and how much memory all of it takes.
//!
//! `cargo bench --bench million [-- EVENTS [MEMORY_MIB]]`. Prints one line a figure; quote ratios
//! of one run, as machines differ. `-- larger [KEYS [MEMORY_MIB]]` writes about half a kibibyte a
//! key, far more than the memory that it is given, and checks a sample of it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kdelta::engine::base::Key;
use kdelta::engine::crdt::{Op, Value};
use kdelta::engine::store::{KeyOp, Write};
use kdelta::host::replica::{Durability, OpenOptions, Replica};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let first = args.next();
    if first.as_deref() == Some("--write-and-die") {
        let dir = args.next().ok_or("a directory")?;
        let count = args.next().ok_or("a count")?.parse()?;
        let replica = open(Path::new(&dir), 512)?;
        fill(&replica, count, count, "after")?;
        std::process::abort();
    }
    if first.as_deref() == Some("larger") {
        let keys = args.next().map_or(Ok(2_000_000), |text| text.parse())?;
        let memory_mib = args.next().map_or(Ok(128), |text| text.parse())?;
        let dir = tempfile::tempdir()?;
        return larger(dir.path(), keys, memory_mib);
    }
    if let Some(part @ ("--open" | "--history")) = first.as_deref() {
        let dir = args.next().ok_or("a directory")?;
        let memory_mib = args.next().ok_or("a memory")?.parse()?;
        let begun = Instant::now();
        let replica = open(Path::new(&dir), memory_mib)?;
        if part == "--history" {
            return history_read(&replica);
        }
        println!("open {:<6}  {:>10.1} ms", args.next().unwrap_or_default(), ms(begun.elapsed()));
        return Ok(replica.close()?);
    }
    let events: u64 = first.map_or(Ok(1_000_000), |text| text.parse())?;
    let memory_mib: usize = args.next().map_or(Ok(512), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    run(dir.path(), events, memory_mib)
}

fn run(dir: &Path, events: u64, memory_mib: usize) -> Outcome {
    let replica = open(dir, memory_mib)?;
    let begun = Instant::now();
    fill(&replica, events, events, "key")?;
    let taken = begun.elapsed();
    println!("write        {:>10.0} events/s", events as f64 / taken.as_secs_f64());
    history(&replica)?;
    println!("peak memory  {:>10.1} MiB", peak_mib());
    let begun = Instant::now();
    replica.close()?;
    println!("close        {:>10.1} ms", ms(begun.elapsed()));
    // In processes of their own: none of our caches has anything, the page cache has all, and
    // nobody has the memory to tidy up that writing left.
    let memory = memory_mib.to_string();
    for _ in 0..3 {
        assert!(part("--open", dir, &[&memory, "clean"])?, "it is opened");
    }
    assert!(part("--history", dir, &[&memory])?, "the history is read");
    let replica = open(dir, memory_mib)?;
    reads(&replica, events)?;
    replica.close()?;
    assert!(!part("--write-and-die", dir, &["40000"])?, "the writer dies on purpose");
    assert!(part("--open", dir, &[&memory, "killed"])?, "it is opened");
    println!("peak memory  {:>10.1} MiB", peak_mib());
    Ok(())
}

/// Runs a part of this in a process of its own; tells whether that ended well.
fn part(part: &str, dir: &Path, args: &[&str]) -> std::io::Result<bool> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part).arg(dir).args(args);
    if part == "--write-and-die" {
        command.stderr(Stdio::null());
    }
    Ok(command.status()?.success())
}

/// Writes far more than fits into memory, and reads a sample before and after it is opened anew.
fn larger(dir: &Path, keys: u64, memory_mib: usize) -> Outcome {
    let replica = open(dir, memory_mib)?;
    let space = replica.space("default", true)?.ok_or("no space")?;
    let begun = Instant::now();
    for first in (0..keys).step_by(8) {
        let op = |i: u64| -> Result<KeyOp, Box<dyn Error>> {
            let key = Key::new(&format!("key-{:011}", i.wrapping_mul(7_919) % keys))?;
            Ok(KeyOp { key, op: Op::PutBytes(large(i)), retype: false, expect: None })
        };
        let ops = (first..keys.min(first + 8)).map(op).collect::<Result<_, _>>()?;
        replica.write(Write { space, ops, ..Write::default() }, Durability::Buffered)?;
    }
    replica.flush()?;
    println!("write        {:>10.0} events/s", keys as f64 / begun.elapsed().as_secs_f64());
    println!("peak memory  {:>10.1} MiB", peak_mib());
    sample(&replica, keys)?;
    println!("peak memory  {:>10.1} MiB", peak_mib());
    replica.close()?;
    let begun = Instant::now();
    let replica = open(dir, memory_mib)?;
    println!("open clean   {:>10.1} ms", ms(begun.elapsed()));
    sample(&replica, keys)?;
    println!("peak memory  {:>10.1} MiB", peak_mib());
    replica.close()?;
    Ok(())
}

fn large(i: u64) -> std::sync::Arc<[u8]> {
    let mut value = vec![b'v'; 480 + usize::try_from(i % 64).unwrap_or_default()];
    value.splice(..8, i.to_le_bytes());
    value.into()
}

/// Compares ten thousand keys with what was written.
fn sample(replica: &Replica, keys: u64) -> Outcome {
    let space = replica.space("default", true)?.ok_or("no space")?;
    let begun = Instant::now();
    let count = 10_000.min(keys);
    for i in (0..count).map(|n| n.wrapping_mul(104_729) % keys) {
        let key = Key::new(&format!("key-{:011}", i.wrapping_mul(7_919) % keys))?;
        let view = replica.view(&space, &key)?.ok_or("a key that was written")?;
        assert_eq!(view.value, Value::Bytes(large(i)), "{key}");
    }
    println!("get cold     {:>10.2} µs", ms(begun.elapsed()) * 1000.0 / count as f64);
    Ok(())
}

fn open(dir: &Path, memory_mib: usize) -> Result<Replica, Box<dyn Error>> {
    let (memory_bytes, wait) = (memory_mib << 20, Duration::from_secs(5));
    let options = OpenOptions { memory_bytes, wait, ..OpenOptions::default() };
    Ok(Replica::open_with(dir, &options)?)
}

fn fill(replica: &Replica, events: u64, keys: u64, prefix: &str) -> Outcome {
    let space = replica.space("default", true)?.ok_or("no space")?;
    for i in 0..events {
        let key = Key::new(&format!("{prefix}-{:011}", i.wrapping_mul(7_919) % keys))?;
        put(replica, space, key, i)?;
    }
    replica.flush()?;
    Ok(())
}

fn put(replica: &Replica, space: kdelta::engine::base::SpaceId, key: Key, i: u64) -> Outcome {
    let mut value = [b'v'; 100];
    value[..8].copy_from_slice(&i.to_le_bytes());
    let ops =
        vec![KeyOp { key, op: Op::PutBytes(value.as_slice().into()), retype: false, expect: None }];
    replica.write(Write { space, ops, ..Write::default() }, Durability::Buffered)?;
    Ok(())
}

fn history(replica: &Replica) -> Outcome {
    let space = replica.space("default", true)?.ok_or("no space")?;
    for i in 0..1000 {
        put(replica, space, Key::new("one-key")?, i)?;
    }
    replica.flush()?;
    Ok(())
}

fn history_read(replica: &Replica) -> Outcome {
    let space = replica.space("default", true)?.ok_or("no space")?;
    let key = Key::new("one-key")?;
    for _ in 0..3 {
        let begun = Instant::now();
        let events = replica.read(|store| store.history(&space, &key, usize::MAX))?;
        assert_eq!(events.len(), 1000);
        println!("history 1000 {:>10.2} ms", ms(begun.elapsed()));
    }
    Ok(())
}

fn reads(replica: &Replica, events: u64) -> Outcome {
    let space = replica.space("default", true)?.ok_or("no space")?;
    for name in ["cold", "warm"] {
        let begun = Instant::now();
        let count = 20_000.min(events);
        for i in 0..count {
            let key = Key::new(&format!("key-{:011}", i.wrapping_mul(104_729) % events))?;
            let view = replica.read(|store| store.get(&space, &key, None))?;
            assert!(view.is_some(), "{key} is there");
        }
        println!("get {name}     {:>10.2} µs", ms(begun.elapsed()) * 1000.0 / count as f64);
    }
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.trim().split(' ').next())
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_default();
    kib / 1024.0
}
