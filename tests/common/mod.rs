//! Real processes of the binary, in a home of their own.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Patience for what comes by itself; nothing waits this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory in which stores and sockets lie; gone at the end.
#[derive(Debug)]
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("kd-").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("run")).expect("a directory");
        Self { dir }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The binary, to work on the store `name`; `KDELTA_TEST_BIN` names another build of it.
    pub(crate) fn command(&self, name: &str) -> Command {
        let built = std::env::var_os("KDELTA_TEST_BIN");
        let mut command = Command::new(built.unwrap_or(env!("CARGO_BIN_EXE_kdelta").into()));
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("KDELTA_DATA_DIR", self.path(name))
            .env("KDELTA_WAIT", "30s")
            .env("KDELTA_HTTP", "off")
            .env("KDELTA_MDNS", "off")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, name: &str, words: &[&str]) -> Output {
        self.command(name).args(words).output().expect("the binary runs")
    }

    /// Runs a command that must do well, and returns what it prints.
    pub(crate) fn ok(&self, name: &str, words: &[&str]) -> String {
        let output = self.run(name, words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {words:?}: {}: {said}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
    }

    /// Runs a command with `--json` and returns the object that it prints.
    pub(crate) fn json(&self, name: &str, words: &[&str]) -> Value {
        let text = self.ok(name, &[words, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
    }

    /// Runs a command that must end with `status`; returns the error object.
    pub(crate) fn fails(&self, name: &str, status: i32, words: &[&str]) -> Value {
        let output = self.run(name, &[words, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{name}: {words:?}: {said}");
        let last = said.lines().last().unwrap_or_default();
        let object: Value = serde_json::from_str(last).unwrap_or_default();
        object["error"].clone()
    }

    /// Writes a few times to the store `name`, and has a bit of it rot in the middle.
    pub(crate) fn damage(&self, name: &str) {
        for at in 0..8 {
            self.ok(name, &["put", "k", &at.to_string()]);
        }
        let segment = self.path(name).join("log/0000000000000001.seg");
        let mut bytes = std::fs::read(&segment).expect("a segment");
        bytes[300] ^= 1;
        std::fs::write(&segment, bytes).expect("it is ours");
    }

    /// What `status` says of the space `default`.
    pub(crate) fn space(&self, name: &str) -> Value {
        let status = self.json(name, &["status"]);
        let spaces = status["spaces"].as_array().expect("spaces");
        let default = spaces.iter().find(|space| space["name"] == "default");
        default.unwrap_or_else(|| panic!("no default: {status}")).clone()
    }

    /// Both hashes of the space `default`: what counts, and what is shown.
    pub(crate) fn hashes(&self, name: &str) -> (String, String) {
        let space = self.space(name);
        let hash = |hash: &str| space[hash].as_str().unwrap_or_default().to_owned();
        let (state, value) = (hash("state_hash"), hash("value_hash"));
        assert!(!state.is_empty() && !value.is_empty(), "{space}");
        (state, value)
    }

    /// Starts a node on the store `name` and waits until it can be used.
    pub(crate) fn serve(&self, name: &str, words: &[&str]) -> Node {
        self.serve_with(name, words, &[])
    }

    /// The same with settings in the environment.
    pub(crate) fn serve_with(&self, name: &str, words: &[&str], set: &[(&str, &str)]) -> Node {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).expect("a file");
        let child = self
            .command(name)
            .args(["serve", "--json"])
            .env("KDELTA_LISTEN", "127.0.0.1:0")
            .args(words)
            .envs(set.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let mut node = Node { child, ready: Value::Null };
        let mut line = String::new();
        let stdout = node.child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("UTF-8");
        let log = std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
        node.ready = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the node did not start: {error}: {line}{log}"));
        node
    }

    /// Starts a node on the store `a` that answers HTTP; returns the owner's token too.
    pub(crate) fn serve_http(&self) -> (Node, String) {
        let node = self.serve("a", &["--http", "127.0.0.1:0"]);
        let token = std::fs::read_to_string(self.path("a").join("token")).expect("a token");
        (node, token.trim().to_owned())
    }
}

/// A node; killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) child: Child,
    /// What it said when it could be used.
    pub(crate) ready: Value,
}

impl Node {
    /// Returns where it answers HTTP.
    pub(crate) fn http(&self) -> &str {
        self.ready["http"].as_str().expect("an address")
    }

    /// Connects to where it answers HTTP.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// Its id and where it listens, as `ID@ADDR`.
    pub(crate) fn address(&self) -> String {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        format!("{}@{}", text(&self.ready["replica"]), text(&self.ready["listen"][0]))
    }

    pub(crate) fn replica(&self) -> &str {
        self.ready["replica"].as_str().expect("an id")
    }

    /// Stops it in order; it must exit with 0.
    pub(crate) fn stop(mut self) {
        signal(&self.child, "TERM");
        let status = wait(&mut self.child);
        assert_eq!(status.code(), Some(0), "a node that drained");
    }

    /// Kills it at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is ours");
        wait(&mut self.child);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of our own.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// Waits for a process to end, within [`PATIENCE`].
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("process {} did not end", child.id());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks until the answer holds, within [`PATIENCE`].
pub(crate) fn until(fact: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it never came that {fact}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command with `input` on its stdin.
pub(crate) fn feed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// Copies a store with all its files, as `cp -r` does.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// All files of a store, with their bytes, by name; but for the lock, which names its last holder.
pub(crate) fn files_of(folder: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else if path.ends_with("lock") {
            continue;
        } else if let Ok(bytes) = std::fs::read(&path) {
            files.insert(path, bytes);
        }
    }
    files
}

/// A small generator of numbers that are the same in each run (xorshift).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A number from the environment, for longer runs by hand.
pub(crate) fn count(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A file of the fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
