//! Replicas that were set back or copied where nothing shows it: the same directory holds an older
//! state. Real processes on loopback.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use std::path::Path;

use common::{Home, until};

/// Makes `to` hold what `from` holds; the directory itself stays the one that it is.
fn replace_content(from: &Path, to: &Path) {
    if to.exists() {
        for entry in std::fs::read_dir(to).expect("a directory") {
            let path = entry.expect("an entry").path();
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.expect("it goes");
        }
    }
    copy(from, to);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}

#[test]
fn a_replica_that_was_set_back_and_wrote_on_loses_nothing() {
    let home = Home::new();
    home.ok("b", &["put", "origin", "b"]);
    let b = home.serve("b", &[]);
    for name in ["a", "c"] {
        home.ok(name, &["sync", &home.ok("b", &["ticket"])]);
    }
    home.ok("a", &["counter", "add", "count", "10"]);
    home.ok("a", &["sync"]);
    copy(&home.path("a"), &home.path("saved"));
    // Written, acknowledged, synced; then the directory is put back to what it was.
    home.ok("a", &["counter", "add", "count", "5"]);
    home.ok("a", &["put", "who", "before"]);
    home.ok("a", &["sync"]);
    replace_content(&home.path("saved"), &home.path("a"));
    home.ok("a", &["counter", "add", "count", "7"]);
    home.ok("a", &["put", "who", "after"]);
    // One command finds the fork, closes the log, and ends in sync.
    let result = home.json("a", &["sync"]);
    assert_eq!(result["in_sync"], true, "{result}");
    assert_eq!(home.hashes("a"), home.hashes("b"));
    for name in ["a", "b"] {
        assert_eq!(home.ok(name, &["get", "count"]), "22", "{name}");
        let view = home.json(name, &["get", "who"]);
        assert_eq!(view["conflicts"].as_array().map(Vec::len), Some(1), "{view}");
        let closed = &home.space(name)["closed"];
        assert_eq!(closed.as_array().map(Vec::len), Some(1), "{closed}");
        assert_eq!(closed[0]["branches"].as_array().map(Vec::len), Some(2), "{closed}");
    }
    // A replica that saw neither side gets both, and all go on.
    assert_eq!(home.json("c", &["sync"])["in_sync"], true);
    assert_eq!(home.ok("c", &["get", "count"]), "22");
    home.ok("a", &["counter", "add", "count", "1"]);
    home.ok("c", &["counter", "add", "count", "1"]);
    for name in ["a", "c", "a"] {
        home.ok(name, &["sync"]);
    }
    for name in ["a", "b", "c"] {
        assert_eq!(home.ok(name, &["get", "count"]), "24", "{name}");
        assert_eq!(home.hashes(name), home.hashes("b"), "{name}");
    }
    b.stop();
    for name in ["a", "b", "c"] {
        assert_eq!(home.json(name, &["verify", "--deep"])["ok"], true, "{name}");
    }
    // A backup holds the proof and the branches.
    home.ok("b", &["backup", "backup"]);
    home.ok("d", &["restore", "backup", "--yes"]);
    assert_eq!(home.hashes("d"), home.hashes("b"));
    let exported = home.ok("b", &["export", "--history"]);
    let mut import = home.command("e");
    import.args(["import", "-"]);
    assert!(common::feed(import, exported.as_bytes()).status.success());
    assert_eq!(home.ok("e", &["get", "count"]), "24");
}

#[test]
fn a_watch_hears_of_what_became_of_a_fork() {
    let home = Home::new();
    home.ok("b", &["put", "origin", "b"]);
    let b = home.serve("b", &[]);
    home.ok("a", &["sync", &home.ok("b", &["ticket"])]);
    copy(&home.path("a"), &home.path("saved"));
    home.ok("a", &["put", "key", "one"]);
    home.ok("a", &["sync"]);
    let watched = home.path("watched");
    let file = std::fs::File::create(&watched).expect("a file");
    let mut watch = home.command("b").arg("watch").stdout(file).spawn().expect("the binary runs");
    let lines = || std::fs::read_to_string(&watched).unwrap_or_default();
    until("the watch listens", || {
        home.ok("b", &["put", "ping", "1"]);
        lines().contains("ping")
    });
    replace_content(&home.path("saved"), &home.path("a"));
    home.ok("a", &["put", "key", "two"]);
    home.ok("a", &["sync"]);
    until("the watch tells of the fork", || lines().contains("\"op\":\"fork\""));
    let told = lines();
    let fork = told.lines().find(|line| line.contains("\"op\":\"fork\"")).expect("it is there");
    assert!(fork.contains("\"key\":\"key\"") && fork.contains("\"commit\":null"), "{fork}");
    let explained = home.json("b", &["explain", "key"]);
    let forks = explained["forks"].as_array().expect("the log that was forked");
    let known = &home.space("b")["closed"];
    assert_eq!((forks.len(), &explained["forks"]), (1, known), "{explained}");
    assert!(home.ok("b", &["explain", "key"]).contains("was forked from number"));
    assert!(home.json("b", &["explain", "origin"]).get("forks").is_none());
    // A cursor of such a change is one like any other.
    let change: serde_json::Value = serde_json::from_str(fork).expect("JSON");
    let cursor = change["cursor"].as_str().expect("text");
    let resumed = home.path("resumed");
    let mut again = home.command("b");
    let file = std::fs::File::create(&resumed).expect("a file");
    let again = again.args(["watch", "--from", cursor]).stdout(file);
    let mut again = again.spawn().expect("the binary runs");
    home.ok("b", &["put", "later", "1"]);
    until("the watch goes on from there", || {
        std::fs::read_to_string(&resumed).unwrap_or_default().contains("later")
    });
    for child in [&mut again, &mut watch] {
        common::signal(child, "INT");
        common::wait(child);
    }
    b.stop();
}
