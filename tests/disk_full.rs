//! Disks that are full or cannot be written: no command answers success for what was not stored.
//!
//! Needs the right to mount a small file system; says so and passes where that is not given.

#![allow(
    clippy::expect_used,
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

#[test]
fn a_read_only_disk_is_read_and_not_written() {
    let home = Home::new();
    let Some(mount) = Mount::new(home.path("disk")) else { return };
    home.ok("disk/store", &["put", "k", "1"]);
    assert!(mount.call("mount", &["-o", "remount,ro"]), "it was mounted by us");
    assert_eq!(home.ok("disk/store", &["get", "k"]), "1");
    home.fails("disk/store", 9, &["put", "k", "2"]);
    assert_eq!(home.ok("disk/store", &["get", "k"]), "1");
    assert!(mount.call("mount", &["-o", "remount,rw"]));
    home.ok("disk/store", &["put", "k", "3"]);
    assert_eq!(home.ok("disk/store", &["get", "k"]), "3");
}
