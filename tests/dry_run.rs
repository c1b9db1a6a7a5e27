//! `--dry-run` says what would be done, and leaves every file as it is; what cannot be undone asks
//! for a yes.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use common::{Home, files_of};
use serde_json::json;

#[test]
fn a_dry_run_changes_no_file() {
    let home = Home::new();
    home.ok("a", &["put", "k", "1"]);
    home.ok("a", &["tag", "v1"]);
    let other = "ab".repeat(32);
    home.ok("a", &["peers", "add", &other]);
    let backup = home.path("backup");
    home.ok("a", &["backup", backup.to_str().unwrap()]);
    let before = files_of(&home.path("a"));
    assert!(before.len() > 5);
    let would = home.json("a", &["delete", "k", "--dry-run"]);
    assert_eq!((&would["dry_run"], &would["key"]), (&json!(true), &json!("k")));
    home.fails("a", 3, &["delete", "never", "--dry-run"]);
    assert_eq!(home.json("a", &["tag", "delete", "v1", "--dry-run"])["name"], "v1");
    let would = home.json("a", &["peers", "remove", &other, "--dry-run"]);
    assert_eq!((&would["known"], would["spaces"].as_array().unwrap().len()), (&json!(true), 1));
    let would = home.json("a", &["repair", "--dry-run"]);
    assert_eq!((&would["ok"], &would["would_replace"]), (&json!(true), &json!([])));
    let would = home.json("new", &["restore", backup.to_str().unwrap(), "--dry-run"]);
    assert_eq!(would["spaces"], json!(["default"]));
    assert!(!home.path("new").exists(), "nothing is made");
    home.fails("a", 1, &["restore", backup.to_str().unwrap(), "--dry-run"]);
    assert!(files_of(&home.path("a")) == before, "no file has changed");
}

#[test]
fn a_dry_run_of_a_repair_names_the_files_and_touches_none() {
    let home = Home::new();
    home.damage("a");
    let before = files_of(&home.path("a"));
    let would = home.json("a", &["repair", "--dry-run"]);
    assert_eq!(would["would_replace"], json!(["log/0000000000000001.seg"]));
    assert_eq!(would["affected"], json!(["space:default"]));
    assert!(files_of(&home.path("a")) == before, "no file has changed");
    let node = home.serve("a", &[]);
    assert_eq!(home.json("a", &["repair", "--dry-run"])["ok"], false);
    node.stop();
}

#[test]
fn what_cannot_be_undone_asks_for_a_yes() {
    let home = Home::new();
    let other = "ab".repeat(32);
    home.ok("a", &["peers", "add", &other]);
    let error = home.fails("a", 2, &["peers", "remove", &other]);
    assert!(error["hint"].as_str().unwrap().contains("--yes"), "{error}");
    assert!(home.ok("a", &["peers", "--json"]).contains(&other));
    home.ok("a", &["peers", "remove", &other, "--yes"]);
    assert!(!home.ok("a", &["peers", "--json"]).contains(&other));
    // Where nothing is lost for good, a yes is taken and not needed.
    home.ok("a", &["put", "k", "1"]);
    home.ok("a", &["delete", "k", "--yes"]);
}
