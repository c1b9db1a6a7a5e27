//! What is done in a process of its own: what is killed, and what is measured by its memory.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::engines::{Kind, Mode};
use crate::work::{growth, put};
use crate::{Outcome, Res, data};

/// The first argument of such a process.
pub(crate) const FLAG: &str = "--child";

/// Loads a store with so many keys from `from` on, and ends as `end` says: `close`, or `die`, which
/// flushes and then stops without any order.
pub(crate) fn load(kind: Kind, dir: &Path, from: u64, count: u64, end: &str) -> Res<Loaded> {
    let output = Command::new(std::env::current_exe()?)
        .args([FLAG, "load", kind.name()])
        .arg(dir)
        .args([&from.to_string(), &count.to_string(), end])
        .stderr(if end == "die" { Stdio::null() } else { Stdio::inherit() })
        .output()?;
    if output.status.success() == (end == "die") {
        return Err(format!("the loading of {} did not {end}", kind.name()).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().ok_or("the process said nothing");
    Ok(Loaded { seconds: next()??, peak_mib: next()??, anonymous_mib: next()?? })
}

/// Loads a store with so many keys and closes it: kdelta with a commit for each, as that is what it
/// has to open; the others, which keep no history, in the batches that they load fastest.
pub(crate) fn bulk(kind: Kind, dir: &Path, count: u64) -> Outcome {
    if kind == Kind::Kdelta {
        load(kind, dir, 0, count, "close")?;
        return Ok(());
    }
    let engine = kind.open(dir, Mode::Buffered)?;
    for first in (0..count).step_by(1000) {
        put::several(engine.as_ref(), first..count.min(first + 1000))?;
    }
    engine.flush()?;
    engine.close()
}

/// What a process that loads or reads tells of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    pub(crate) seconds: f64,
    /// The greatest resident memory.
    pub(crate) peak_mib: f64,
    /// Resident memory that is no file, at the end.
    pub(crate) anonymous_mib: f64,
}

/// Asks a process of its own what [`growth`] asks of a store with so many events.
pub(crate) fn look(dir: &Path, events: u64, round: u64) -> Res<Vec<f64>> {
    let output = Command::new(std::env::current_exe()?)
        .args([FLAG, "look", Kind::Kdelta.name()])
        .arg(dir)
        .args([&events.to_string(), &round.to_string(), "close"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the process that looks at a store failed".into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// The process's own side.
pub(crate) fn run(args: &[String]) -> Outcome {
    let [task, kind, dir, from, count, end] = args else {
        return Err("a process of this program is started by it alone".into());
    };
    let (from, count): (u64, u64) = (from.parse()?, count.parse()?);
    if task == "look" {
        let seen = growth::look(Path::new(dir), from, count)?;
        println!("{}", seen.map(|value| value.to_string()).join(" "));
        return Ok(());
    }
    let engine = Kind::named(kind)?.open(Path::new(dir), Mode::Buffered)?;
    let begun = std::time::Instant::now();
    match task.as_str() {
        "load" => put::fill(engine.as_ref(), from..from + count)?,
        _ => return Err(format!("no task is called {task:?}").into()),
    }
    engine.flush()?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{seconds} {} {}", memory_mib("VmHWM:"), memory_mib("RssAnon:"));
    if end == "die" {
        std::process::abort();
    }
    // What is read back is what was written.
    let last = data::key(from + count - 1);
    if engine.get(&last)? != Some(from + count - 1) {
        return Err("the last key does not hold what was put".into());
    }
    engine.close()
}

pub(crate) fn memory_mib(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kib: f64 = line.trim().split(' ').next().unwrap_or_default().parse().unwrap_or(0.0);
    kib / 1024.0
}

/// Bytes of all files below a folder: those that were given blocks.
pub(crate) fn disk_bytes(dir: &Path) -> Res<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes +=
            if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
