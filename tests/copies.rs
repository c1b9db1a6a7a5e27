//! A data directory that was copied, both copies used at once: each goes on under an incarnation of
//! its own, so nothing is counted twice and nothing is lost.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]

mod common;

use common::{Home, copy_dir, until};

#[test]
fn a_store_and_its_copy_sync_with_each_other() {
    let home = Home::new();
    home.ok("a", &["counter", "add", "hits", "1"]);
    copy_dir(&home.path("a"), &home.path("b"));
    home.ok("a", &["counter", "add", "hits", "10"]);
    home.ok("b", &["counter", "add", "hits", "100"]);
    let node = home.serve("a", &[]);
    let ticket = home.ok("a", &["ticket"]);
    assert_eq!(home.json("b", &["sync", &ticket])["in_sync"], true);
    for name in ["a", "b"] {
        assert_eq!(home.ok(name, &["get", "hits"]), "111", "{name}");
    }
    assert_eq!(home.hashes("a"), home.hashes("b"));
    // Its own ticket is of no use to it, and neither is its own address.
    assert_eq!(home.fails("a", 2, &["sync", &ticket])["code"], "usage");
    let itself = home.fails("a", 6, &["sync", &node.address()]);
    assert_eq!(itself["code"], "unavailable", "{itself}");
    node.stop();
}

#[test]
fn a_store_and_its_copy_that_both_write_end_equal_and_count_nothing_twice() {
    let home = Home::new();
    let third = home.serve("c", &[]);
    home.ok("c", &["put", "origin", "c"]);
    let ticket = home.ok("c", &["ticket"]);
    home.json("a", &["sync", &ticket]);
    home.ok("a", &["counter", "add", "hits", "1"]);
    home.ok("a", &["put", "title", "first"]);
    copy_dir(&home.path("a"), &home.path("b"));
    for (name, by) in [("a", "10"), ("b", "100")] {
        home.ok(name, &["counter", "add", "hits", by]);
        home.ok(name, &["put", "title", name]);
        home.ok(name, &["put", &format!("only/{name}"), name]);
    }
    // With the third, each in turn; the first one needs a second round.
    for name in ["a", "b", "a"] {
        assert_eq!(home.json(name, &["sync"])["in_sync"], true, "{name}");
    }
    let equal = |names: &[&str]| names.windows(2).all(|w| home.hashes(w[0]) == home.hashes(w[1]));
    assert!(equal(&["a", "b", "c"]), "all hold the same");
    for name in ["a", "b", "c"] {
        assert_eq!(home.ok(name, &["get", "hits"]), "111", "{name}");
        for other in ["a", "b"] {
            assert_eq!(home.ok(name, &["get", &format!("only/{other}")]), other, "{name}");
        }
        let title = home.json(name, &["get", "title"]);
        let values = [&title["value"], &title["conflicts"][0]["value"]];
        assert!(values.contains(&&"a".into()) && values.contains(&&"b".into()), "{title}");
    }
    // And at once, each a node of its own under the one key.
    let nodes = [home.serve("a", &[]), home.serve("b", &[])];
    assert_eq!(nodes[0].replica(), nodes[1].replica());
    for _ in 0..3 {
        for name in ["a", "b"] {
            home.ok(name, &["counter", "add", "hits", "1"]);
        }
    }
    home.ok("c", &["put", "title", "settled"]);
    until("all are equal", || equal(&["a", "b", "c"]));
    assert_eq!(home.ok("c", &["get", "hits"]), "117");
    assert_eq!(home.json("a", &["get", "title"])["conflicts"], serde_json::json!([]));
    for node in nodes {
        node.stop();
    }
    third.stop();
    for name in ["a", "b", "c"] {
        assert_eq!(home.json(name, &["verify", "--deep"])["ok"], true, "{name}");
    }
}
