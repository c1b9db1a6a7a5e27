//! System calls that fail, one at a time: no command answers success for what was not stored, none
//! loses what another one stored, and each later command goes on.

use std::process::Output;

use serde_json::Value;

use crate::common::Home;
use crate::ledger::Ledger;
use crate::strace::Strace;

/// No thread of a command makes as many calls of one kind.
const CALLS_MAX: usize = 40;

/// Which calls fail, and how: the disk refuses, or fails where the log is not concerned.
const FAULTS: [(&str, &str); 5] = [
    ("fsync", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("ftruncate", "EIO"),
    ("fallocate", "ENOSPC"),
    ("rename", "EIO"),
];

/// The disk fails under the log, which goes on in another segment.
const FAILURES: [(&str, &str); 2] = [("fdatasync", "EIO"), ("pwrite64", "EIO")];

/// Whether a command did well; one that did not must say why: it met a limit, or the device failed.
pub(crate) fn done(output: &Output, failed: bool, what: &str) -> bool {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{what}: {said}");
    if output.status.success() {
        return true;
    }
    let last = said.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
    let object: Value = serde_json::from_str(last).unwrap_or_default();
    let exit = output.status.code();
    assert!(exit == Some(9) || failed && exit == Some(1), "{what}: {exit:?}: {said}");
    assert_eq!(object["error"]["exit"].as_i64(), exit.map(i64::from), "{what}: {said}");
    false
}

/// Makes the first put on a new store meet each fault at each of its calls.
fn first_writes(faults: &[(&str, &str)]) {
    let Some(strace) = Strace::find() else { return };
    for (call, error) in faults {
        for at in 1..=CALLS_MAX {
            let home = Home::new();
            let mut ledger = Ledger::default();
            let what = format!("the first put, {call} {at} fails with {error}");
            let how = format!("error={error}:when={at}");
            let words = ["put", "k", "1", "--string", "--json"];
            let (output, failed) = strace.inject(&home, "s", (call, &how), &words);
            ledger.note(&["k"], "1", done(&output, *error == "EIO", &what));
            ledger.check(&home, "s", &what);
            ledger.put(&home, "s", "next", "2");
            ledger.check(&home, "s", &what);
            if failed == 0 {
                break;
            }
            assert!(at < CALLS_MAX, "{what}: it never ran through");
        }
    }
}

/// Makes a batch on one store meet each fault at each of its calls; `filler` bytes a value.
fn batches(faults: &[(&str, &str)], filler: usize) {
    let Some(strace) = Strace::find() else { return };
    let home = Home::new();
    let mut ledger = Ledger::default();
    ledger.put(&home, "s", "kept", "0");
    for (call, error) in faults {
        for at in 1..=CALLS_MAX {
            let what = format!("a batch, {call} {at} fails with {error}");
            let value = format!("{call}:{error}:{at}:{}", "x".repeat(filler));
            let keys = ["a", "b", "c"];
            let op = |key: &str| format!(r#"{{"op":"put","key":"{key}","value":"{value}"}}"#);
            std::fs::write(home.path("lines"), keys.map(op).join("\n")).expect("a file");
            let how = format!("error={error}:when={at}");
            let (output, failed) =
                strace.inject(&home, "s", (call, &how), &["batch", "lines", "--json"]);
            ledger.note(&keys, &value, done(&output, *error == "EIO", &what));
            ledger.check(&home, "s", &what);
            ledger.put(&home, "s", "next", &what);
            if failed == 0 {
                ledger.check(&home, "s", &what);
                break;
            }
            assert!(at < CALLS_MAX, "{what}: it never ran through");
        }
    }
}

/// Makes every call of a kind fail, from the first on: the device is gone for good.
fn for_good(faults: &[(&str, &str)]) {
    let Some(strace) = Strace::find() else { return };
    let home = Home::new();
    let mut ledger = Ledger::default();
    ledger.put(&home, "s", "kept", "0");
    for (call, error) in faults {
        let what = format!("each {call} fails with {error}");
        let how = format!("error={error}");
        let words = ["put", "k", &what, "--string", "--json"];
        let (output, failed) = strace.inject(&home, "s", (call, &how), &words);
        assert!(failed > 0, "{what}: none was made");
        ledger.note(&["k"], &what, done(&output, *error == "EIO", &what));
        let (read, _) = strace.inject(&home, "s", (call, &how), &["get", "kept"]);
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "0", "{what}");
        ledger.check(&home, "s", &what);
        ledger.put(&home, "s", "next", &what);
    }
    ledger.check(&home, "s", "at the end");
}

#[test]
fn the_first_write_stores_or_says_that_it_did_not() {
    first_writes(&FAULTS);
}

#[test]
fn a_later_write_stores_or_says_that_it_did_not() {
    batches(&FAULTS, 0);
}

/// It is long enough for the segment to be sealed at the end.
#[test]
fn a_write_that_seals_a_segment_stores_or_says_that_it_did_not() {
    batches(&FAULTS, 100_000);
}

#[test]
fn a_disk_that_refuses_for_good_takes_nothing_and_loses_nothing() {
    for_good(&FAULTS);
}

#[test]
fn a_first_write_whose_log_fails_stores_or_says_that_it_did_not() {
    first_writes(&FAILURES);
}

#[test]
fn a_later_write_whose_log_fails_stores_or_says_that_it_did_not() {
    batches(&FAILURES, 0);
}

#[test]
fn a_write_that_seals_a_segment_that_fails_stores_or_says_that_it_did_not() {
    batches(&FAILURES, 100_000);
}

#[test]
fn a_log_that_fails_for_good_takes_nothing_and_loses_nothing() {
    for_good(&FAILURES);
}
