//! `kill -9` at each call by which a command changes files: what was acknowledged is there, the
//! rest is whole or absent, and the store opens and goes on without a hand.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::Home;
use crate::ledger::Ledger;
use crate::strace::Strace;

/// No command makes as many writing calls.
const CALLS_MAX: usize = 150;

#[test]
fn the_first_write_may_be_killed_at_each_of_its_calls() {
    let Some(strace) = Strace::find() else { return };
    for at in 1..=CALLS_MAX {
        let home = Home::new();
        let mut ledger = Ledger::default();
        let what = format!("the first put, killed at call {at}");
        let (status, killed) = strace.kill_at(&home, "s", at, &["put", "k", "1", "--string"]);
        assert!(killed || status.success(), "{what}: {status}");
        ledger.note(&["k"], "1", status.success());
        ledger.check(&home, "s", &what);
        ledger.put(&home, "s", "next", "2");
        ledger.check(&home, "s", &what);
        if !killed {
            assert!(at > 30, "it made only {at} calls");
            return;
        }
    }
    panic!("it never ran through");
}

/// Kills one command at each of its calls, on one store, until it runs through.
fn sweep(words: &dyn Fn(&str) -> Vec<String>, keys: &[&str], filler: usize) {
    let Some(strace) = Strace::find() else { return };
    let home = Home::new();
    let mut ledger = Ledger::default();
    ledger.put(&home, "s", "kept", "0");
    for at in 1..=CALLS_MAX {
        let value = format!("{at}:{}", "x".repeat(filler));
        let words = words(&value);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let what = format!("{} {}, killed at call {at}", words[0], words[1]);
        let lines = words.contains(&"lines").then(|| {
            let op = |key: &&str| format!(r#"{{"op":"put","key":"{key}","value":"{value}"}}"#);
            keys.iter().map(op).collect::<Vec<_>>().join("\n")
        });
        std::fs::write(home.path("lines"), lines.unwrap_or_default()).expect("a file");
        let (status, killed) = strace.kill_at(&home, "s", at, &words);
        assert!(killed || status.success(), "{what}: {status}");
        ledger.note(keys, &value, status.success());
        ledger.check(&home, "s", &what);
        ledger.put(&home, "s", "next", &format!("after {at}"));
        if !killed {
            ledger.check(&home, "s", &what);
            assert!(at > 8, "it made only {at} calls");
            return;
        }
    }
    panic!("it never ran through");
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_later_write_may_be_killed_at_each_of_its_calls() {
    sweep(&|value| owned(&["put", "k", value, "--string"]), &["k"], 0);
}

#[test]
fn a_batch_may_be_killed_at_each_of_its_calls() {
    sweep(&|_| owned(&["batch", "lines"]), &["a", "b", "c"], 0);
}

/// It is long enough for the segment to be sealed at the end.
#[test]
fn a_batch_that_seals_a_segment_may_be_killed_at_each_of_its_calls() {
    sweep(&|_| owned(&["batch", "lines"]), &["a", "b", "c"], 100_000);
}

#[test]
fn a_node_may_be_killed_at_any_call_under_its_writers() {
    let Some(strace) = Strace::find() else { return };
    let home = Home::new();
    let mut ledger = Ledger::default();
    for round in 0..12 {
        let mut node = strace.hold(&home, "s", &["serve", "--listen", "127.0.0.1:0", "--json"]);
        assert!(node.line().contains("replica"), "it did not start");
        // What it did before it was ready was another test's.
        while node.calls.try_recv().is_ok() {}
        let dead = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let (home, dead) = (&home, &dead);
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    scope.spawn(move || {
                        let mut written = Vec::new();
                        for number in 0.. {
                            if dead.load(Ordering::Relaxed) {
                                break;
                            }
                            let key = format!("{writer}/{}", number % 3);
                            let value = format!("{round}:{writer}:{number}");
                            let words = ["put", &key, &value, "--string", "--wait", "0s"];
                            let done = home.run("s", &words).status.success();
                            written.push((key, value, done));
                        }
                        written
                    })
                })
                .collect();
            let _ = node.calls.iter().take(1 + 2 * round).count();
            node.child.kill().expect("it is ours");
            node.child.wait().expect("it is ours");
            dead.store(true, Ordering::Relaxed);
            writers.into_iter().flat_map(|w| w.join().expect("a writer")).collect::<Vec<_>>()
        });
        for (key, value, done) in written {
            ledger.note(&[&key], &value, done);
        }
        ledger.check(&home, "s", &format!("round {round}"));
        ledger.put(&home, "s", "next", &format!("after {round}"));
    }
    assert!(ledger.acknowledged() > 24, "the writers wrote {}", ledger.acknowledged());
}
