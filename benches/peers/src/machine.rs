//! Where a run happens, and the versions of everyone in it.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Res;

/// The machine, as the operating system tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// Kind of the file system that the stores lie on.
    pub(crate) file_system: String,
    /// How many threads wanted a core when the part began.
    pub(crate) load: f64,
    /// The commit of kdelta.
    pub(crate) commit: String,
    pub(crate) rustc: String,
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn here(dir: &Path) -> Res<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory.split(' ').next().unwrap_or_default().parse().unwrap_or(0);
        let load = read("/proc/loadavg");
        Ok(Self {
            cpu: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory_kib.div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&dir.canonicalize()?, &read("/proc/self/mounts")),
            load: load.split(' ').next().unwrap_or_default().parse().unwrap_or(0.0),
            commit: said("git", &["rev-parse", "--short=10", "HEAD"]),
            rustc: said("rustc", &["--version"]),
            date: said("date", &["-u", "+%Y-%m-%d"]),
        })
    }
}

/// The kind of the file system that is mounted deepest above `dir`.
fn file_system(dir: &Path, mounts: &str) -> String {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && dir.starts_with(fields[1]));
    above.max_by_key(|fields| fields[1].len()).map_or_else(String::new, |it| it[2].to_owned())
}

/// What a program prints; "unknown" where it is not there.
pub(crate) fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let text = text.and_then(|text| String::from_utf8(text).ok());
    text.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The version of a package, from the lock file that this was built with.
pub(crate) fn version(package: &str) -> String {
    let head = format!("name = \"{package}\"\nversion = \"");
    let lock = include_str!("../Cargo.lock");
    let versions = lock
        .match_indices(&head)
        .filter_map(|(at, _)| lock.get(at + head.len()..)?.split('"').next());
    versions.collect::<Vec<_>>().join(", ")
}
