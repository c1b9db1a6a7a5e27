//! The binary under `strace`: killed at a chosen call, or with chosen calls failing.
//!
//! `strace` counts calls per thread, and which thread does what differs between runs. So a kill
//! waits for the call by its place among those of all threads: each is held back for some
//! milliseconds before it takes effect, time enough to be told of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;

use crate::common::Home;

/// The calls by which a store changes files or makes changes durable.
pub(crate) const WRITING: &str =
    "pwrite64,write,ftruncate,fallocate,rename,linkat,unlink,mkdir,fsync,fdatasync";

/// How long each call is held back, in microseconds.
const HELD_US: u32 = 4000;

/// The tool, where it is installed and may trace.
#[derive(Debug, Clone)]
pub(crate) struct Strace(PathBuf);

impl Strace {
    pub(crate) fn find() -> Option<Self> {
        let path = crate::tool("strace")?;
        let mut tried = Command::new(&path);
        tried.args(["-D", "-f", "-qq", "-e", "trace=none", "true"]);
        let status = tried.stderr(Stdio::null()).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        crate::skipped("strace may not trace here");
        None
    }

    /// The binary on a store, as a child of ours, with its calls of `set` changed as `how` says.
    fn command(&self, home: &Home, store: &str, (set, how): (&str, &str)) -> Command {
        let plain = home.command(store);
        let mut command = Command::new(&self.0);
        command
            .args(["-D", "-f", "-qq", "-s", "0", "-e", &format!("trace={set}")])
            .args(["-e", "signal=none", "-e", &format!("inject={set}:{how}")])
            .arg(plain.get_program())
            .env_clear()
            .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(home.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command while calls of `set` fail as `how` says; also returns how many did.
    pub(crate) fn inject(
        &self,
        home: &Home,
        store: &str,
        (set, how): (&str, &str),
        words: &[&str],
    ) -> (Output, usize) {
        let output = self.command(home, store, (set, how)).args(words).output();
        let output = output.expect("strace runs");
        let failed = String::from_utf8_lossy(&output.stderr).matches("(INJECTED)").count();
        (output, failed)
    }

    /// Runs a command and kills it when it enters the writing call number `at`, from 1. Returns
    /// its status, and whether it was killed.
    pub(crate) fn kill_at(
        &self,
        home: &Home,
        store: &str,
        at: usize,
        words: &[&str],
    ) -> (ExitStatus, bool) {
        let mut held = self.hold(home, store, words);
        let killed = held.calls.iter().take(at).count() == at;
        if killed {
            // It may have ended by now: then its status says so.
            let _ = held.child.kill();
        }
        let status = held.child.wait().expect("it is ours");
        (status, killed && status.code().is_none())
    }

    /// Starts a command of which each writing call is held back, and told.
    pub(crate) fn hold(&self, home: &Home, store: &str, words: &[&str]) -> Held {
        let how = format!("delay_enter={HELD_US}");
        let mut command = self.command(home, store, (WRITING, &how));
        let mut child = command.args(words).spawn().expect("strace runs");
        let (sender, calls) = mpsc::channel();
        let mut said = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            let (mut words, mut buffer) = (Calls::default(), [0; 4096]);
            while let Ok(len @ 1..) = said.read(&mut buffer) {
                for _ in 0..words.count(&buffer[..len]) {
                    // Nobody may be counting any more; what is said is read all the same.
                    let _ = sender.send(());
                }
            }
        });
        Held { child, calls }
    }
}

/// A process whose writing calls are held back; killed when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) child: Child,
    /// One item for each writing call, when it is entered; ends with the process.
    pub(crate) calls: mpsc::Receiver<()>,
}

impl Held {
    /// The first line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("UTF-8");
        line
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts the beginnings of calls, `name(`, in what `strace` prints; it comes in pieces.
#[derive(Debug, Default)]
struct Calls(String);

impl Calls {
    fn count(&mut self, bytes: &[u8]) -> usize {
        let mut count = 0;
        for byte in bytes {
            match char::from(*byte) {
                c if c.is_ascii_alphanumeric() || c == '_' => self.0.push(c),
                c => {
                    count += usize::from(c == '(' && WRITING.split(',').any(|w| w == self.0));
                    self.0.clear();
                }
            }
        }
        count
    }
}
