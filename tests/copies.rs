//! A data directory that was copied, both copies used at once: each goes on under an incarnation of
//! its own, so nothing is counted twice and nothing is lost.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]

mod common;

use common::{Home, copy_dir, until};

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
