//! Disks that are full or cannot be written: no command answers success for what was not stored.
//!
//! Needs the right to mount a small file system; says so and passes where that is not given.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests: what goes wrong fails the test"
)]
#![expect(clippy::print_stderr, reason = "what was not tested is said, or nobody would know")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Home, feed};

/// A file system of 24 MiB; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).ok()?;
        let mount = Self(path);
        if mount.call("mount", &["-t", "tmpfs", "-o", "size=24m", "kdelta-test"]) {
            return Some(mount);
        }
        eprintln!("SKIPPED: this user may not mount a small file system");
        std::mem::forget(mount);
        None
    }

    fn call(&self, program: &str, words: &[&str]) -> bool {
        let status = Command::new(program).args(words).arg(&self.0).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.call("umount", &["-l"]);
    }
}

/// Writes half a mebibyte; tells whether that was acknowledged.
fn put(home: &Home, number: usize) -> bool {
    let mut command = home.command("disk/store");
    command.args(["put", &format!("big/{number}"), "-", "--raw", "--json"]);
    let output = feed(command, &vec![u8::try_from(number % 251).unwrap_or(0); 512 << 10]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    match output.status.code() {
        Some(0) => true,
        Some(9) => {
            assert!(said.contains("\"code\":\"limit\""), "{said}");
            false
        }
        other => panic!("put {number} exited {other:?}: {said}"),
    }
}

fn holds(home: &Home, number: usize) -> bool {
    let output = home.run("disk/store", &["get", &format!("big/{number}"), "--raw"]);
    let whole = vec![u8::try_from(number % 251).unwrap_or(0); 512 << 10];
    output.status.success() && output.stdout == whole
}

/// Fills the disk, reads, makes room, and goes on; with or without a node.
fn fill(with_node: bool) {
    let home = Home::new();
    let Some(mount) = Mount::new(home.path("disk")) else { return };
    let ballast = mount.path().join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20]).expect("room for it");
    let node = with_node.then(|| home.serve("disk/store", &[]));
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for number in 0..40 {
        if refused == 3 {
            break;
        }
        if put(&home, number) { acknowledged.push(number) } else { refused += 1 }
    }
    assert!(refused == 3 && acknowledged.len() > 3, "{} fit", acknowledged.len());
    for number in &acknowledged {
        assert!(holds(&home, *number), "big/{number} was acknowledged");
    }
    std::fs::remove_file(&ballast).expect("it is there");
    assert!(put(&home, 100), "there is room again");
    acknowledged.push(100);
    if let Some(node) = node {
        node.kill();
    }
    for number in &acknowledged {
        assert!(holds(&home, *number), "big/{number} was acknowledged");
    }
    assert!(put(&home, 101));
    drop(mount);
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    fill(false);
}

#[test]
fn a_node_on_a_full_disk_refuses_and_goes_on_when_there_is_room() {
    fill(true);
}

/// What each writing command is asked, and whether what it asks for is there.
fn commands(home: &Home) -> Vec<(Vec<String>, Option<String>)> {
    let lines = home.path("lines");
    let op = |key: &str| format!("{{\"op\":\"put\",\"key\":\"{key}\",\"value\":1}}\n");
    std::fs::write(&lines, op("in/batch")).expect("a file");
    let more = home.path("more");
    std::fs::write(&more, op("in/import")).expect("a file");
    let (lines, more) = (lines.display().to_string(), more.display().to_string());
    let backup = home.path("disk/backup").display().to_string();
    let other = "ab".repeat(32);
    let all: [(&[&str], Option<&str>); 13] = [
        (&["put", "small", "1"], Some("get small")),
        (&["counter", "add", "count"], Some("get count")),
        (&["set", "add", "set", "x"], Some("get set")),
        (&["map", "put", "map", "f", "1"], Some("get map")),
        (&["batch", &lines], Some("get in/batch")),
        (&["import", &more], Some("get in/import")),
        (&["tag", "v1"], Some("list --at tag:v1")),
        (&["peers", "add", &other], None),
        (&["space", "create", "team"], Some("list --space team")),
        (&["put", "k", "1", "--space", "another"], Some("get k --space another")),
        (&["delete", "gone"], None),
        (&["put", "big/k", "1", "--request-id", "r1"], Some("get big/k")),
        (&["backup", &backup], None),
    ];
    all.into_iter()
        .map(|(words, shows)| {
            (words.iter().map(|w| (*w).to_owned()).collect(), shows.map(str::to_owned))
        })
        .collect()
}

/// No command answers success for what is not there after a kill, none fails for another reason
/// than the limit, and all go on once there is room.
fn each_command(with_node: bool) {
    let home = Home::new();
    let Some(mount) = Mount::new(home.path("disk")) else { return };
    home.ok("disk/store", &["put", "gone", "0"]);
    home.ok("disk/store", &["put", "kept", "0"]);
    let node = with_node.then(|| home.serve("disk/store", &[]));
    let ballast = mount.path().join("ballast");
    // The last page too: whatever is still reserved in the segment may be used.
    let _ = std::fs::write(&ballast, vec![1; 32 << 20]);
    let mut stored = Vec::new();
    for (words, shows) in commands(&home) {
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--json"]).collect();
        let output = home.run("disk/store", &words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{words:?}: {said}");
        match output.status.code() {
            Some(0) => stored.extend(shows),
            Some(9) => assert!(said.contains("\"exit\":9"), "{words:?}: {said}"),
            other => panic!("{words:?} exited {other:?}: {said}"),
        }
        assert_eq!(home.ok("disk/store", &["get", "kept"]), "0", "reads go on after {words:?}");
    }
    if let Some(node) = node {
        node.kill();
    }
    for question in &stored {
        home.ok("disk/store", &question.split(' ').collect::<Vec<_>>());
    }
    std::fs::remove_file(&ballast).expect("it is there");
    let node = with_node.then(|| home.serve("disk/store", &[]));
    for (words, shows) in commands(&home) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = home.run("disk/store", &words);
        // What was done before is there already: a space, a deleted key.
        let repeated = matches!(words[0], "space" | "delete") && !output.status.success();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || repeated, "{words:?}: there is room again: {said}");
        if let Some(question) = shows {
            home.ok("disk/store", &question.split(' ').collect::<Vec<_>>());
        }
    }
    if with_node {
        home.ok("disk/store", &["ticket"]);
    }
    drop(node);
    assert_eq!(home.json("disk/store", &["verify"])["ok"], true);
}

#[test]
fn every_writing_command_on_a_full_disk_stores_or_says_that_it_did_not() {
    each_command(false);
}

#[test]
fn every_writing_command_of_a_node_on_a_full_disk_stores_or_says_that_it_did_not() {
    each_command(true);
}

#[test]
fn a_read_only_disk_is_read_and_not_written() {
    let home = Home::new();
    let Some(mount) = Mount::new(home.path("disk")) else { return };
    home.ok("disk/store", &["put", "k", "1"]);
    home.ok("disk/store", &["put", "gone", "1"]);
    assert!(mount.call("mount", &["-o", "remount,ro"]), "it was mounted by us");
    assert_eq!(home.ok("disk/store", &["get", "k"]), "1");
    for (words, _) in commands(&home) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        home.fails("disk/store", 9, &words);
        assert_eq!(home.ok("disk/store", &["get", "k"]), "1", "reads go on after {words:?}");
    }
    assert!(mount.call("mount", &["-o", "remount,rw"]));
    home.ok("disk/store", &["put", "k", "3"]);
    assert_eq!(home.ok("disk/store", &["get", "k"]), "3");
}
