//! Processes that die at the wrong moment: what was acknowledged is there, and nobody waits for
//! the dead.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Dice, Home, count, signal, wait};
use serde_json::json;

/// How often a node is killed; `KDELTA_TEST_KILLS` sets another count.
const ROUNDS: u64 = 25;
/// How many write at the same time.
const WRITERS: u64 = 3;

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let home = Home::new();
    let mut acknowledged = BTreeMap::new();
    let mut dice = Dice(count("KDELTA_TEST_SEED", 0x9e37_79b9_7f4a_7c15));
    for round in 0..count("KDELTA_TEST_KILLS", ROUNDS) {
        let node = home.serve("a", &[]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (home, stop) = (&home, &stop);
                    scope.spawn(move || {
                        let mut done = Vec::new();
                        for number in 0.. {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            let key = format!("w{writer}/{number}");
                            let value = format!("{round:04}.{number}");
                            let words = ["put", &key, &value, "--string", "--wait", "0s"];
                            if home.run("a", &words).status.success() {
                                done.push((key, value));
                            }
                        }
                        done
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(20 + dice.below(80)));
            node.kill();
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                acknowledged.extend(writer.join().expect("a writer"));
            }
        });
        let text = home.ok("a", &["list", "--values", "--limit", "0", "--json"]);
        let mut held = BTreeMap::new();
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            held.insert(row["key"].to_string(), row["value"].to_string());
        }
        for (key, value) in &acknowledged {
            let found = held.get(&json!(key).to_string());
            // A later write that was never acknowledged may be in, too.
            let later =
                found.is_some_and(|found| found.as_str() > json!(value).to_string().as_str());
            let same = found == Some(&json!(value).to_string());
            assert!(same || later, "round {round}: {key} is {found:?}, not {value}");
        }
    }
    assert!(acknowledged.len() > 5, "the writers wrote {}", acknowledged.len());
    assert_eq!(home.json("a", &["verify", "--deep"])["ok"], true);
}

#[test]
fn ten_first_commands_make_one_identity_and_lose_nothing() {
    let home = Home::new();
    let commands: Vec<_> = (0..10)
        .map(|at| {
            let key = format!("key/{at}");
            home.command("a").args(["put", &key, "x"]).stdout(Stdio::null()).spawn()
        })
        .collect();
    for command in commands {
        assert!(wait(&mut command.expect("it runs")).success());
    }
    let keys = home.json("a", &["list"]);
    let authors = home.json("a", &["history"]);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(10));
    let authors = authors["commits"].as_array().expect("commits").iter();
    let authors: std::collections::BTreeSet<_> =
        authors.map(|commit| commit["author"].to_string()).collect();
    assert_eq!(authors.len(), 1);
}

#[test]
fn a_dead_process_stops_nobody() {
    let home = Home::new();
    home.ok("a", &["put", "k", "1"]);
    home.serve("a", &[]).kill();
    // Its socket lies there still, and its lock file.
    assert_eq!(home.ok("a", &["get", "k", "--wait", "2s"]), "1");
    home.serve("a", &[]).kill();
    let node = home.serve("a", &["--wait", "2s"]);
    assert_eq!(home.ok("a", &["get", "k"]), "1");
    node.stop();
}

#[test]
fn a_store_that_is_held_is_waited_for_and_then_given_up() {
    let home = Home::new();
    home.ok("a", &["put", "k", "1"]);
    let node = home.serve("a", &[]);
    let error = home.fails("a", 6, &["serve", "--listen", "127.0.0.1:0", "--wait", "100ms"]);
    assert_eq!(error["code"], "unavailable", "{error}");
    node.stop();
}

#[test]
fn signals_end_a_command_with_their_own_status() {
    let home = Home::new();
    home.ok("a", &["put", "k", "1"]);
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let mut watch = home
            .command("a")
            .args(["watch"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(watch.stdout.take().expect("piped"));
        let mut line = String::new();
        // A watch begins with what comes after it: writes until one is seen.
        let seen = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (home, flag) = (&home, &seen);
            scope.spawn(move || {
                while !flag.load(Ordering::Relaxed) {
                    home.run("a", &["counter", "add", "n"]);
                }
            });
            lines.read_line(&mut line).expect("UTF-8");
            seen.store(true, Ordering::Relaxed);
        });
        assert!(line.contains("\"key\":\"n\""), "{line}");
        signal(&watch, name);
        assert_eq!(wait(&mut watch).code(), Some(status));
    }
    // A node that drained was told to end, and did.
    let mut node = home.serve("a", &[]);
    signal(&node.child, "INT");
    assert_eq!(wait(&mut node.child).code(), Some(0));
}

#[test]
fn a_reader_that_leaves_ends_a_long_list_quietly() {
    let home = Home::new();
    let ops: String = (0..3000)
        .map(|at| format!("{{\"op\":\"put\",\"key\":\"key/{at}\",\"value\":\"{at:0>200}\"}}\n"))
        .collect();
    let mut command = home.command("a");
    command.args(["batch", "-"]);
    assert!(common::feed(command, ops.as_bytes()).status.success());
    for words in [&["list", "--values", "--limit", "0", "--json"][..], &["export"]] {
        let mut child = home
            .command("a")
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut first = [0; 64];
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut first).expect("some output");
        drop(stdout);
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
        assert_eq!((wait(&mut child).code(), said.as_str()), (Some(0), ""), "{words:?}");
    }
}
