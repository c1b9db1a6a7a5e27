//! Clocks and the system's randomness are out of reach of a run of the binary.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy.toml grants that to test functions, not to their helpers"
)]

use std::process::{Command, Output};

fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kdelta-sim")).args(words).output().unwrap()
}

#[test]
fn a_run_that_reads_a_clock_or_a_random_number_is_ended_and_told_why() {
    let called =
        [("instant", "clock_gettime"), ("system-time", "clock_gettime"), ("hash-map", "getrandom")];
    for (what, function) in called {
        let output = run(&["trap-test", what]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(&format!("trap: a run called {function}:")), "{what}: {said}");
        assert_eq!(output.status.code(), None, "{what}: it aborts");
    }
    assert_eq!(run(&["trap-test", "nothing"]).status.code(), Some(0));
}

#[test]
fn a_run_of_the_engine_meets_no_trap_and_the_clock_works_between_runs() {
    for words in [&["run", "--seeds", "0..6"][..], &["replay", "3"], &["crashes", "first-open"]] {
        let output = run(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        assert_eq!(said.contains("events a second"), words[0] == "run", "{words:?}: {said}");
    }
}
