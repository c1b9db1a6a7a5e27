//! A writer whose grant is taken back while it is offline: what it wrote meanwhile does not count
//! anywhere, and both sides say so in the same words. Real processes on loopback.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use common::{Home, until};

/// Starts a watch that writes what it is told into a file.
fn watch(home: &Home, name: &str, file: &str, words: &[&str]) -> std::process::Child {
    let file = std::fs::File::create(home.path(file)).expect("a file");
    let mut command = home.command(name);
    let words = [&["watch", "--space", "team"], words].concat();
    command.args(words).stdout(file).spawn().expect("the binary runs")
}

fn told(home: &Home, file: &str) -> String {
    std::fs::read_to_string(home.path(file)).unwrap_or_default()
}

fn in_team<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &["--space", "team"]].concat()
}

/// Both sides tell the same, to people and to programs.
fn equal_words(home: &Home) {
    for words in [
        &["explain", "k"][..],
        &["explain", "only"],
        &["history", "k", "--all"],
        &["history", "k"],
        &["history", "--all"],
        &["history", "--all", "--graph"],
        &["history"],
    ] {
        let words = in_team(words);
        assert_eq!(home.ok("a", &words), home.ok("b", &words), "{words:?}");
        assert_eq!(home.json("a", &words), home.json("b", &words), "{words:?}");
    }
}

#[test]
fn both_sides_tell_what_was_written_under_a_grant_that_was_gone_and_why() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team", "--owned"]);
    let id = home.json("b", &["id", "show"])["replica"].as_str().expect("text").to_owned();
    let grant = |can: &str| {
        let words = in_team(&["grant", "create", "--to", &id, "--can", can]);
        home.json("a", &words)["id"].as_str().expect("text").to_owned()
    };
    // Who writes no more may read all the same, and so comes to know.
    grant("read");
    let write = grant("put");
    let a = home.serve("a", &[]);
    home.ok("b", &["sync", &home.ok("a", &in_team(&["ticket"])), "--as", "team"]);
    home.ok("b", &in_team(&["put", "k", "1"]));
    home.ok("b", &["sync"]);
    // Nobody tells it that its grant is gone, and its watch tells of what it writes.
    home.ok("a", &in_team(&["grant", "revoke", &write, "--yes"]));
    let mut before = watch(&home, "b", "before", &[]);
    until("the watch listens", || {
        home.ok("b", &in_team(&["put", "k", "2"]));
        told(&home, "before").contains("\"key\":\"k\"")
    });
    home.ok("b", &in_team(&["put", "only", "3"]));
    until("the watch tells the last", || told(&home, "before").contains("\"key\":\"only\""));
    common::signal(&before, "INT");
    common::wait(&mut before);
    let lines = told(&home, "before");
    let first: serde_json::Value =
        serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    let mut at_a = watch(&home, "a", "at-a", &["--all"]);
    until("the watch at the owner's listens", || {
        home.ok("a", &in_team(&["put", "ping", "1"]));
        told(&home, "at-a").contains("ping")
    });
    assert_eq!(home.json("b", &["sync"])["in_sync"], true);
    equal_words(&home);
    let explained = home.json("b", &in_team(&["explain", "k"]));
    assert_eq!(explained["value"], 1, "{explained}");
    assert_eq!(explained["inert"][0]["why"]["code"], "revoked", "{explained}");
    let words = home.ok("b", &in_team(&["explain", "only"]));
    assert!(words.contains(&format!("the grant {} was revoked by", &write[..12])), "{words}");
    let refused = home.fails("b", 3, &in_team(&["get", "only"]));
    assert_eq!(refused["code"], "not_found");
    // The owner never saw it count; the writer's watch goes on where it was and hears of it.
    until("the owner's watch tells it as inert", || {
        let lines = told(&home, "at-a");
        let inert = lines.lines().filter(|line| line.contains("\"inert\":{\"code\":\"revoked\""));
        inert.filter(|line| line.contains("\"key\":\"only\"")).count() == 1
    });
    let cursor = first["cursor"].as_str().expect("text");
    let mut after = watch(&home, "b", "after", &["--from", cursor]);
    until("the writer's watch tells what the keys show now", || {
        let lines = told(&home, "after");
        let revoked = |line: &&str| line.contains("\"op\":\"revoke\"");
        lines.lines().filter(revoked).any(|line| line.contains("\"key\":\"only\""))
    });
    let lines = told(&home, "after");
    let revoked = lines.lines().find(|line| line.contains("\"op\":\"revoke\"")).expect("a line");
    let change: serde_json::Value = serde_json::from_str(revoked).expect("JSON");
    assert_eq!((&change["key"], &change["current"]), (&"k".into(), &1.into()), "{change}");
    for child in [&mut at_a, &mut after] {
        common::signal(child, "INT");
        common::wait(child);
    }
    a.stop();
    // Whoever takes the history elsewhere takes what counts.
    let exported = home.ok("b", &in_team(&["export", "--history"]));
    assert!(!exported.contains("only"), "{exported}");
}
