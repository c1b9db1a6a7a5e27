//! One store, two ways in: a command prints the same with and without a node. And the table of
//! exit statuses.

mod common;

use common::Home;

/// Replaces what differs between any two stores: ids, times, and sizes of files and memory.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        out.push_str(if run.len() >= 16 { "ID" } else { &run });
        run.clear();
        out.push(c);
    }
    let mut words = Vec::new();
    for word in out.split_inclusive(['"', ',']) {
        let time = word.len() == 25 && word.ends_with("Z\"") && word.contains('T');
        words.push(if time { "TIME\"" } else { word });
    }
    words.concat()
}

const COMMANDS: &[&[&str]] = &[
    &["put", "k", "{\"b\":1.0,\"a\":[]}"],
    &["put", "k", "2", "--if-version", "none"],
    &["put", "text", "hello", "--request-id", "r1"],
    &["put", "text", "hello", "--request-id", "r1"],
    &["get", "k"],
    &["get", "missing"],
    &["counter", "add", "n", "-3"],
    &["counter", "add", "text"],
    &["counter", "add", "text", "--retype"],
    &["set", "add", "tags", "red", "1"],
    &["set", "remove", "tags", "red"],
    &["map", "put", "card", "name", "Ada"],
    &["map", "delete", "card", "name"],
    &["tag", "v1"],
    &["put", "k", "later"],
    &["get", "k", "--at", "tag:v1"],
    &["get", "k", "--at", "tag:none"],
    &["tag", "list"],
    &["history", "k"],
    &["history"],
    &["diff", "k", "tag:v1"],
    &["explain", "k"],
    &["list", "--values"],
    &["list", "--limit", "1"],
    &["list", "--limit", "0"],
    &["query", "--where", "@type != 'register'", "--sort", "@key:desc"],
    &["query", "--where", "name = 'Ada'", "--select", "name"],
    &["query", "--group-by", "@type", "--max", "@value", "--at", "tag:v1"],
    &["query", "--limit", "0", "--sort", "@type"],
    &["query", "--where", "name ="],
    &["delete", "k"],
    &["delete", "k"],
    &["export"],
    &["space", "create", "team"],
    &["space", "create", "team"],
    &["space", "list"],
    &["space", "info"],
    &["list", "--space", "nowhere"],
    &["peers"],
    &["tag", "delete", "v1"],
];

#[test]
fn a_command_prints_the_same_with_and_without_a_node() {
    let home = Home::new();
    let node = home.serve("noded", &[]);
    for words in COMMANDS {
        let outputs = ["alone", "noded"].map(|store| {
            let output = home.run(store, &[words, &["--json"][..]].concat());
            let text = |bytes: &[u8]| masked(&String::from_utf8_lossy(bytes));
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        });
        let [alone, noded] = outputs;
        assert_eq!(alone, noded, "{words:?}");
    }
    node.stop();
}

#[test]
fn each_kind_of_failure_has_its_exit_status() {
    let home = Home::new();
    home.ok("a", &["put", "k", "text"]);
    for (status, code, words) in [
        (2, "usage", &["gte", "k"][..]),
        (2, "usage", &["put", "k", "{\"a\":1,\"a\":2}"]),
        (2, "usage", &["get", "k", "--at", "nonsense"]),
        (3, "not_found", &["get", "missing"]),
        (3, "not_found", &["get", "k", "--at", "tag:none"]),
        (3, "not_found", &["list", "--space", "nowhere"]),
        (4, "type_mismatch", &["counter", "add", "k"]),
        (4, "precondition_failed", &["put", "k", "again", "--if-version", "none"]),
        (6, "unavailable", &["ticket"]),
        (6, "unavailable", &["sync"]),
    ] {
        let error = home.fails("a", status, words);
        assert_eq!(error["code"], code, "{words:?}: {error}");
        assert_eq!(error["exit"], status, "{words:?}: {error}");
        assert!(error["message"].as_str().is_some_and(|said| !said.is_empty()), "{error}");
    }
}
