//! Owned spaces between real processes: what was not granted is neither read nor counted, by
//! whatever way it comes, and what was taken back stays taken back.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use common::{Home, copy_dir, files_of, until};
use serde_json::{Value, json};

fn id(home: &Home, name: &str) -> String {
    home.json(name, &["id", "show"])["replica"].as_str().unwrap().to_owned()
}

/// A command about the space `team`.
fn team<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &["--space", "team"]].concat()
}

/// Both hashes of the space `team`.
fn hashes(home: &Home, name: &str) -> (Value, Value) {
    let space = home.json(name, &["space", "info", "team"]);
    assert!(space["state_hash"].is_string() && space["value_hash"].is_string(), "{space}");
    (space["state_hash"].clone(), space["value_hash"].clone())
}

/// Grants `to` something and returns the grant's id.
fn grant(home: &Home, by: &str, to: &str, can: &str) -> String {
    let replica = id(home, to);
    let granted = home.json(by, &team(&["grant", "create", "--to", &replica, "--can", can]));
    granted["id"].as_str().unwrap().to_owned()
}

/// Has `joiner` join the space of `host`, under a ticket of that one's node.
fn join(home: &Home, host: &str, joiner: &str) {
    let node = home.serve(host, &[]);
    let ticket = home.ok(host, &team(&["ticket"]));
    home.ok(joiner, &["sync", &ticket, "--as", "team"]);
    node.stop();
}

/// Syncs two stores that know each other.
fn sync(home: &Home, host: &str, caller: &str) {
    let node = home.serve(host, &[]);
    home.ok(caller, &["sync", &node.address()]);
    node.stop();
}

fn holds(home: &Home, name: &str, text: &str) -> bool {
    let held = |bytes: &Vec<u8>| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    files_of(&home.path(name)).values().any(held)
}

#[test]
fn a_stranger_gets_nothing_and_changes_nothing() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team", "--owned"]);
    home.ok("a", &team(&["put", "k", "the secret of the team"]));
    assert!(holds(&home, "a", "the secret of the team"), "what is looked for can be found");
    let node = home.serve("a", &[]);
    // Without a ticket it is told nothing of the space; with one, what it lacks.
    let refused = home.fails("b", 4, &["sync", &node.address()]);
    assert!(!refused.to_string().contains("grant"), "{refused}");
    let ticket = home.ok("a", &team(&["ticket"]));
    let refused = home.fails("b", 5, &["sync", &ticket, "--as", "team"]);
    assert_eq!(refused["code"], "forbidden", "{refused}");
    assert!(!holds(&home, "b", "the secret of the team"));
    // Nor does it get anything by being called.
    let stranger = home.serve("b", &[]);
    home.fails("a", 5, &["sync", &stranger.address()]);
    assert!(!holds(&home, "b", "the secret of the team"));
    stranger.stop();
    let space = home.json("a", &["space", "info", "team"]);
    let refused = home.fails("b", 3, &["get", "k", "--space", space["id"].as_str().unwrap()]);
    assert_eq!(refused["code"], "not_found", "{refused}");
    node.stop();
    assert_eq!(home.ok("a", &team(&["get", "k"])), "the secret of the team");
}

#[test]
fn a_grant_opens_the_space_while_both_run() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team", "--owned"]);
    home.ok("a", &team(&["put", "k", "first"]));
    let grant_id = grant(&home, "a", "b", "read");
    join(&home, "a", "b");
    assert_eq!(home.ok("b", &team(&["get", "k"])), "first");
    assert_eq!(home.fails("b", 5, &team(&["put", "k", "mine"]))["code"], "forbidden");
    assert_eq!(home.ok("b", &team(&["get", "k"])), "first");
    let (a, b) = (home.serve("a", &[]), home.serve("b", &[]));
    home.ok("b", &["sync", &a.address()]);
    home.ok("a", &team(&["put", "k", "second"]));
    until("a reader hears of it", || home.ok("b", &team(&["get", "k"])) == "second");
    grant(&home, "a", "b", "read,write");
    until("a new grant holds", || home.run("b", &team(&["put", "k", "third"])).status.success());
    until("a writer is heard", || home.ok("a", &team(&["get", "k"])) == "third");
    assert_eq!(hashes(&home, "a"), hashes(&home, "b"));
    // What is left of its rights is the first grant, to read; then nothing.
    let list = home.json("a", &team(&["grant", "list"]));
    let other = list["grants"]
        .as_array()
        .unwrap()
        .iter()
        .find(|grant| grant["to"] == b.replica() && grant["id"] != grant_id.as_str());
    let other = other.unwrap()["id"].as_str().unwrap().to_owned();
    home.ok("a", &team(&["grant", "revoke", &other, "--yes"]));
    until("the writer hears that it is none", || {
        home.run("b", &team(&["put", "k", "fourth"])).status.code() == Some(5)
    });
    home.ok("a", &team(&["put", "k", "fifth"]));
    until("it still reads", || home.ok("b", &team(&["get", "k"])) == "fifth");
    home.ok("a", &team(&["grant", "revoke", &grant_id, "--yes"]));
    home.ok("a", &team(&["put", "k", "for members only"]));
    let refused = home.fails("b", 5, &["sync", &a.address()]);
    assert_eq!(refused["code"], "forbidden", "{refused}");
    assert!(!holds(&home, "b", "for members only"));
    b.stop();
    a.stop();
}

#[test]
fn what_a_revoked_writer_wrote_is_inert_in_whatever_order_it_comes() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team", "--owned"]);
    home.ok("a", &team(&["put", "k", "the owner's"]));
    let revoked = grant(&home, "a", "b", "read,write");
    for reader in ["c", "d"] {
        grant(&home, "a", reader, "read");
    }
    for member in ["b", "c", "d"] {
        join(&home, "a", member);
    }
    home.ok("b", &team(&["put", "kept", "seen by the owner"]));
    sync(&home, "a", "b");
    // Offline it writes on, while its grant is taken back.
    home.ok("b", &team(&["put", "k", "too late"]));
    home.ok("b", &team(&["put", "new", "too late"]));
    home.ok("a", &team(&["grant", "revoke", &revoked, "--yes"]));
    // One reader hears the writer first, the other one the revocation.
    let admit = |to: &str, who: &str| {
        home.ok(to, &team(&["peers", "add", &id(&home, who)]));
    };
    for reader in ["c", "d"] {
        admit("b", reader);
        admit(reader, "b");
    }
    sync(&home, "b", "c");
    assert_eq!(home.ok("c", &team(&["get", "k"])), "too late", "nothing is known of it yet");
    sync(&home, "a", "c");
    sync(&home, "a", "d");
    let node = home.serve("c", &[]);
    admit("d", "c");
    admit("c", "d");
    home.ok("d", &["sync", &node.address()]);
    node.stop();
    sync(&home, "a", "c");
    for member in ["a", "c", "d"] {
        assert_eq!(home.ok(member, &team(&["get", "k"])), "the owner's", "{member}");
        assert_eq!(home.ok(member, &team(&["get", "kept"])), "seen by the owner", "{member}");
        assert_eq!(home.fails(member, 3, &team(&["get", "new"]))["code"], "not_found");
        assert_eq!(hashes(&home, member), hashes(&home, "a"), "{member}");
    }
}

#[test]
fn a_copy_and_a_restored_backup_of_a_writer_lose_nothing() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team", "--owned"]);
    grant(&home, "a", "b", "read,write");
    join(&home, "a", "b");
    home.ok("b", &team(&["put", "k1", "before"]));
    let backup = home.path("b.backup").to_str().unwrap().to_owned();
    home.ok("b", &["backup", &backup]);
    copy_dir(&home.path("b"), &home.path("copied"));
    home.ok("b", &team(&["put", "k2", "by the first"]));
    sync(&home, "a", "b");
    home.ok("copied", &team(&["put", "k3", "by the copy"]));
    home.ok("restored", &["restore", &backup, "--same-identity"]);
    home.ok("restored", &team(&["put", "k4", "by the restored"]));
    for store in ["copied", "restored", "b", "copied", "restored", "b"] {
        sync(&home, "a", store);
    }
    for store in ["a", "b", "copied", "restored"] {
        for (key, value) in [("k1", "before"), ("k2", "by the first"), ("k3", "by the copy")] {
            assert_eq!(home.ok(store, &team(&["get", key])), value, "{store} {key}");
        }
        assert_eq!(home.ok(store, &team(&["get", "k4"])), "by the restored", "{store}");
        assert_eq!(hashes(&home, store), hashes(&home, "a"), "{store}");
    }
    // Under a key of its own it is somebody else, who was granted nothing, and is told so.
    home.ok("other", &["restore", &backup]);
    assert_eq!(home.ok("other", &team(&["get", "k1"])), "before");
    assert_eq!(home.fails("other", 5, &team(&["put", "k1", "x"]))["code"], "forbidden");
}

#[test]
fn a_new_key_is_granted_what_the_earlier_one_could_pass_on() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team", "--owned"]);
    home.ok("a", &team(&["put", "k", "first"]));
    grant(&home, "a", "b", "read,write");
    join(&home, "a", "b");
    let taken = home.json("a", &["id", "new", "--yes"]);
    assert_eq!(taken["rights"], json!([{"space": "team", "passed_on": true}]), "{taken}");
    home.ok("a", &team(&["put", "k", "second"]));
    let granted = grant(&home, "a", "c", "read,write");
    join(&home, "a", "c");
    assert_eq!(home.ok("c", &team(&["get", "k"])), "second");
    home.ok("a", &team(&["grant", "revoke", &granted, "--yes"]));
    let taken = home.json("b", &["id", "new", "--yes"]);
    assert_eq!(taken["rights"], json!([{"space": "team", "passed_on": false}]), "{taken}");
    assert_eq!(home.fails("b", 5, &team(&["put", "k", "x"]))["code"], "forbidden");
    assert_eq!(home.ok("b", &team(&["get", "k"])), "first");
}

#[test]
fn a_space_that_is_left_is_synced_no_more_and_comes_back() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team"]);
    home.ok("a", &team(&["put", "k", "first"]));
    join(&home, "a", "b");
    let (a, b) = (home.serve("a", &[]), home.serve("b", &[]));
    home.ok("b", &["sync", &a.address()]);
    let would = home.json("b", &["space", "leave", "team", "--dry-run"]);
    assert_eq!((&would["left"], &would["events"]), (&json!(false), &json!(1)), "{would}");
    assert_eq!(home.fails("b", 2, &["space", "leave", "team"])["code"], "usage");
    let left = home.json("b", &["space", "leave", "team", "--yes"]);
    home.ok("a", &team(&["put", "k", "second"]));
    home.fails("b", 3, &["space", "info", "team"]);
    home.fails("b", 4, &["sync", &a.address()]);
    b.stop();
    assert!(!holds(&home, "b", "second"));
    home.ok("b", &["space", "join", left["id"].as_str().unwrap(), "--as", "ours"]);
    assert_eq!(home.ok("b", &["get", "k", "--space", "ours"]), "first");
    home.ok("b", &["peers", "add", &a.address(), "--space", "ours"]);
    home.ok("b", &["sync"]);
    assert_eq!(home.ok("b", &["get", "k", "--space", "ours"]), "second");
    a.stop();
}

#[test]
fn nothing_is_written_to_a_space_before_it_has_come() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team", "--owned"]);
    grant(&home, "a", "b", "read,write");
    let node = home.serve("a", &[]);
    let ticket = home.ok("a", &team(&["ticket"]));
    home.ok("b", &["space", "join", &ticket, "--as", "team"]);
    // It could not name a grant, and would never count.
    let refused = home.fails("b", 4, &team(&["put", "k", "early"]));
    assert!(refused["hint"].as_str().unwrap().contains("kdelta sync"), "{refused}");
    home.ok("b", &["sync", &node.address()]);
    home.ok("b", &team(&["put", "k", "in time"]));
    home.ok("b", &["sync", &node.address()]);
    assert_eq!(home.ok("a", &team(&["get", "k"])), "in time");
    node.stop();
}

#[test]
fn a_quota_is_kept_by_who_set_it_and_syncs_say_so() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team"]);
    join(&home, "a", "b");
    let set = home.json("b", &["space", "set", "team", "quota=4KiB"]);
    assert_eq!((&set["quota"], &set["owned"]), (&json!(4096), &json!(false)), "{set}");
    let big = "x".repeat(5_000);
    let refused = home.fails("b", 9, &team(&["put", "big", &big]));
    assert!(refused["message"].as_str().unwrap().contains("its quota is 4096"), "{refused}");
    home.ok("b", &team(&["put", "small", "1"]));
    home.ok("a", &team(&["put", "big", &big]));
    let node = home.serve("a", &[]);
    let short = home.fails("b", 8, &["sync", &node.address()]);
    assert!(short.to_string().contains("its quota is 4096"), "{short}");
    home.fails("b", 3, &team(&["get", "big"]));
    home.ok("b", &["space", "set", "team", "quota=none"]);
    home.ok("b", &["sync", &node.address()]);
    assert_eq!(home.ok("b", &team(&["get", "big"])), big);
    assert_eq!(home.ok("a", &team(&["get", "small"])), "1");
    node.stop();
    home.fails("b", 2, &["space", "set", "team", "quota=plenty"]);
}

#[test]
fn who_was_away_syncs_with_one_that_was_let_in_meanwhile() {
    let home = Home::new();
    home.ok("a", &["space", "create", "team", "--owned"]);
    grant(&home, "a", "b", "read,write");
    join(&home, "a", "b");
    home.ok("b", &team(&["put", "from-b", "1"]));
    grant(&home, "a", "c", "read,write");
    join(&home, "a", "c");
    home.ok("c", &team(&["put", "from-c", "2"]));
    // Of c only c can tell.
    let node = home.serve("c", &[]);
    let ticket = home.ok("c", &team(&["ticket"]));
    home.ok("b", &["sync", &ticket]);
    node.stop();
    assert_eq!(home.ok("b", &team(&["get", "from-c"])), "2");
    assert_eq!(home.ok("c", &team(&["get", "from-b"])), "1");
    assert_eq!(hashes(&home, "b"), hashes(&home, "c"));
}
