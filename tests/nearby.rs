//! On the local network a peer that moved is found again, and a stranger is listed, no more.
//!
//! Each test runs once more in a network of its own, where nobody else is heard. Skips, visibly,
//! where none can be made.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what is missing fails the test")]
#![expect(clippy::print_stderr, reason = "what was not tested is said, or nobody would know")]

mod common;

use std::process::{Command, Stdio};

use common::{Home, Node, until};

const ALONE: &str = "KDELTA_TEST_ALONE";

/// Tells whether this process has a network of its own; if not, runs `test` in one.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.unwrap().success(), "a loopback interface");
        return true;
    }
    let user: &[&str] = &["--net"];
    let ways = [user, &["--user", "--map-root-user", "--net"]];
    let works = |way: &&[&str]| {
        let mut command = Command::new("unshare");
        command.args(*way).args(["ip", "link", "set", "lo", "up"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(way) = ways.into_iter().find(works) else {
        eprintln!("SKIPPED: no network of its own can be made (unshare, ip)");
        return false;
    };
    let again = Command::new("unshare")
        .args(way)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .status();
    assert!(again.unwrap().success(), "{test} in a network of its own");
    false
}

fn serve(home: &Home, name: &str) -> Node {
    home.serve_with(name, &[], &[("KDELTA_MDNS", "on")])
}

/// The ids of the replicas that are near and no peers.
fn strangers(home: &Home, name: &str) -> Vec<String> {
    let peers = home.json(name, &["peers"]);
    let near = peers["nearby"].as_array().unwrap().iter();
    near.map(|near| near["replica"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_peer_that_moved_is_found_again() {
    if !alone("a_peer_that_moved_is_found_again") {
        return;
    }
    let home = Home::new();
    let a = serve(&home, "a");
    let ticket = home.ok("a", &["ticket"]);
    assert_eq!(home.json("b", &["sync", &ticket])["in_sync"], true);
    let before = a.address();
    a.stop();
    home.ok("a", &["put", "written", "meanwhile"]);
    // B knows of an address where nobody is any more; it comes before A does.
    let b = serve(&home, "b");
    let a = serve(&home, "a");
    assert_ne!(a.address(), before, "another port");
    until("B has what A wrote", || home.run("b", &["get", "written"]).status.success());
    let peers = home.json("b", &["peers"]);
    let (_, address) =
        a.address().split_once('@').map(|(id, at)| (id.to_owned(), at.to_owned())).unwrap();
    until("the address is kept", || home.json("b", &["peers"])["peers"][0]["address"] == *address);
    assert_eq!(peers["peers"].as_array().unwrap().len(), 1, "{peers}");
    b.stop();
    a.stop();
}

#[test]
fn a_stranger_nearby_is_listed_and_no_more() {
    if !alone("a_stranger_nearby_is_listed_and_no_more") {
        return;
    }
    let home = Home::new();
    home.ok("b", &["put", "secret", "1"]);
    let (a, b) = (serve(&home, "a"), serve(&home, "b"));
    until("each hears of the other", || {
        strangers(&home, "a") == [b.replica()] && strangers(&home, "b") == [a.replica()]
    });
    let peers = home.json("a", &["peers"]);
    assert!(peers["peers"].as_array().unwrap().is_empty(), "{peers}");
    assert_eq!(home.ok("a", &["list"]), "");
    let table = home.ok("a", &["peers"]);
    assert!(table.contains("NOT ADMITTED") && table.contains(b.replica()), "{table}");
    // Whoever leaves in order is forgotten.
    b.stop();
    until("it is gone", || strangers(&home, "a").is_empty());
    // Nobody hears of a node that does not want it.
    let quiet = home.serve("c", &[]);
    let loud = serve(&home, "d");
    until("the other is heard of", || strangers(&home, "a") == [loud.replica()]);
    assert_eq!(home.json("c", &["peers"])["nearby"].as_array().unwrap().len(), 0);
    for node in [a, quiet, loud] {
        node.stop();
    }
}
