//! A real history, imported, synced and read back: everything equals a plain fold of its lines.
//!
//! `KDELTA_TEST_HISTORY` names another one, as JSON lines of tagged batches of puts and deletes;
//! `KDELTA_TEST_SEED` draws other points of it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic; clippy.toml grants that to test functions, not to their helpers"
)]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::{Dice, Home, count, feed, fixture};
use serde_json::{Value, json};

/// The live values by key.
type Live = BTreeMap<String, Value>;

fn source() -> PathBuf {
    let named = std::env::var_os("KDELTA_TEST_HISTORY");
    named.map_or_else(|| fixture("ripgrep-head.jsonl"), PathBuf::from)
}

fn lines() -> Vec<Value> {
    let text = std::fs::read_to_string(source()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The executable specification: the last op on a key decides.
fn fold(lines: &[Value]) -> Live {
    let mut live = Live::new();
    for op in lines.iter().flat_map(|line| line["batch"].as_array().unwrap()) {
        let key = op["key"].as_str().unwrap().to_owned();
        if op["op"] == "put" {
            live.insert(key, op["value"].clone());
        } else {
            live.remove(&key);
        }
    }
    live
}

fn live(home: &Home, store: &str, point: &[&str]) -> Live {
    let words = [&["list", "--values", "--limit", "0", "--json"], point].concat();
    let text = home.ok(store, &words);
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].clone())).collect()
}

fn import(home: &Home, store: &str) -> Value {
    home.json(store, &["import", source().to_str().unwrap()])
}

#[test]
fn an_imported_history_equals_the_fold_of_its_lines_on_both_replicas() {
    let home = Home::new();
    let lines = lines();
    let ops: usize = lines.iter().map(|line| line["batch"].as_array().unwrap().len()).sum();
    let counts = import(&home, "a");
    assert_eq!((&counts["commits"], &counts["events"]), (&json!(lines.len()), &json!(ops)));
    assert_eq!((&counts["tags"], &counts["rejected"]), (&json!(lines.len()), &json!(0)));
    let node = home.serve("a", &[]);
    let ticket = home.ok("a", &["ticket"]);
    let result = home.json("b", &["sync", &ticket]);
    assert_eq!(result["in_sync"], true, "{result}");
    node.stop();
    assert_eq!(home.hashes("a"), home.hashes("b"));
    for store in ["a", "b"] {
        assert_eq!(live(&home, store, &[]), fold(&lines), "{store}");
    }
    let mut dice = Dice(count("KDELTA_TEST_SEED", 7));
    for _ in 0..20 {
        let at = usize::try_from(dice.below(lines.len() as u64)).unwrap();
        let tag = format!("tag:{}", lines[at]["tag"].as_str().unwrap());
        let then = live(&home, "b", &["--at", &tag]);
        assert_eq!(then, fold(&lines[..=at]), "at line {}", at + 1);
    }
}

#[test]
fn an_import_run_again_skips_what_is_in() {
    let home = Home::new();
    import(&home, "a");
    let before = home.hashes("a");
    let again = import(&home, "a");
    assert_eq!((&again["commits"], &again["skipped"]), (&json!(0), &json!(lines().len())));
    assert_eq!(home.hashes("a"), before);
    // One that broke off goes on where it was.
    let text = std::fs::read_to_string(source()).unwrap();
    let half: String = text.lines().take(70).flat_map(|line| [line, "\n"]).collect();
    let mut command = home.command("c");
    command.args(["import", "-"]);
    let broken = feed(command, format!("{half}nonsense\n").as_bytes());
    assert_eq!(broken.status.code(), Some(8));
    let said = String::from_utf8(broken.stderr).unwrap();
    assert!(said.contains("line 71"), "{said}");
    let rest = import(&home, "c");
    assert_eq!((&rest["skipped"], &rest["commits"]), (&json!(70), &json!(lines().len() - 70)));
    assert_eq!(live(&home, "c", &[]), fold(&lines()));
}

#[test]
fn an_export_gives_an_equal_store() {
    let home = Home::new();
    import(&home, "a");
    home.ok("a", &["counter", "add", "hits", "7"]);
    home.ok("a", &["set", "add", "tags", "red", "1"]);
    home.ok("a", &["map", "put", "card", "name", "Ada"]);
    let file = home.path("live.jsonl.zst");
    let file = file.to_str().unwrap();
    home.ok("a", &["export", file]);
    home.ok("plain", &["import", file]);
    assert_eq!(live(&home, "plain", &[]), live(&home, "a", &[]));
    // Over a pipe.
    let text = home.ok("a", &["export"]);
    let mut command = home.command("piped");
    command.args(["import", "-"]);
    assert!(feed(command, text.as_bytes()).status.success());
    assert_eq!(live(&home, "piped", &[]), live(&home, "a", &[]));
}

#[test]
fn an_export_with_history_gives_an_equal_past() {
    let home = Home::new();
    import(&home, "a");
    home.ok("a", &["counter", "add", "hits", "7"]);
    home.ok("a", &["delete", "README.md"]);
    let file = home.path("all.jsonl");
    let file = file.to_str().unwrap();
    home.ok("a", &["export", file, "--history"]);
    home.ok("b", &["import", file]);
    assert_eq!(live(&home, "b", &[]), live(&home, "a", &[]));
    let past = |store: &str| {
        let history = home.json(store, &["history", "--limit", "0"]);
        let commits = history["commits"].as_array().unwrap().clone();
        let data = commits.into_iter().filter(|commit| commit["kind"] == "data");
        let shape = |commit: Value| [commit["events"].clone(), commit["note"].clone()];
        data.map(shape).collect::<Vec<_>>()
    };
    assert_eq!(past("a").len(), lines().len() + 2);
    assert_eq!(past("a"), past("b"));
    let key = |store: &str| {
        let history = home.json(store, &["history", "README.md", "--limit", "0"]);
        let events = history["events"].as_array().unwrap().clone();
        events.iter().map(|e| [e["op"].clone(), e["value"].clone()]).collect::<Vec<_>>()
    };
    assert!(key("a").len() > 2);
    assert_eq!(key("a"), key("b"));
    let names = |store: &str| -> Vec<Value> {
        let tags = home.json(store, &["tag", "list"]);
        tags["tags"].as_array().unwrap().iter().map(|tag| tag["name"].clone()).collect()
    };
    assert_eq!(names("a"), names("b"));
    let tag = format!("tag:{}", lines()[99]["tag"].as_str().unwrap());
    assert_eq!(live(&home, "b", &["--at", &tag]), fold(&lines()[..100]));
}
