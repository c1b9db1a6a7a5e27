//! Replicas that meet over QUIC, as people run them: real processes on loopback.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]

mod common;

use common::{Home, Node, until};
use serde_json::json;

/// Two stores that have met by a ticket; the first one is served.
fn met(home: &Home) -> Node {
    home.ok("a", &["put", "origin", "a"]);
    let node = home.serve("a", &[]);
    let ticket = home.ok("a", &["ticket"]);
    let result = home.json("b", &["sync", &ticket]);
    assert_eq!(result["in_sync"], true, "{result}");
    assert_eq!(home.ok("b", &["get", "origin"]), "a");
    node
}

#[test]
fn a_ticket_brings_two_stores_together() {
    let home = Home::new();
    let node = met(&home);
    let ids: Vec<_> = ["a", "b"].map(|name| home.space(name)["id"].clone()).into();
    assert_eq!(ids[0], ids[1], "one space");
    assert_eq!(home.hashes("a"), home.hashes("b"));
    // The second time neither has anything to tell.
    let again = home.json("b", &["sync"]);
    assert_eq!((&again["sent_events"], &again["received_events"]), (&json!(0), &json!(0)));
    assert_eq!(again["peer"], node.replica());
    node.stop();
    assert_eq!(home.fails("b", 6, &["sync"])["code"], "unavailable");
}

#[test]
fn the_log_tells_of_each_session_on_each_connection() {
    let home = Home::new();
    home.ok("a", &["put", "origin", "a"]);
    let set = [("KDELTA_LOG", "kdelta=debug"), ("KDELTA_LOG_FORMAT", "json")];
    let node = home.serve_with("a", &[], &set);
    let ticket = home.ok("a", &["ticket"]);
    home.json("b", &["sync", &ticket]);
    node.stop();
    let log = std::fs::read_to_string(home.path("a.log")).expect("a log");
    let lines = log.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let lines: Vec<serde_json::Value> = lines.collect();
    let ended = lines.iter().find(|line| line["fields"]["message"] == "in sync").expect(&log);
    let [link, session] = &ended["spans"].as_array().expect("spans")[..] else { panic!("{ended}") };
    let b = home.json("b", &["id", "show"]);
    assert_eq!((&link["name"], &link["peer"]), (&json!("link"), &b["replica"]));
    assert_eq!((&session["name"], &session["space"]), (&json!("session"), &home.space("a")["id"]));
    assert_eq!(session["in_sync"], true);
    assert!(session["sent_bytes"].as_u64() > Some(0), "{ended}");
}

#[test]
fn nodes_push_what_is_written_both_ways() {
    let home = Home::new();
    home.ok("a", &["put", "origin", "a"]);
    let a = home.serve("a", &[]);
    let ticket = home.ok("a", &["ticket"]);
    let b = home.serve("b", &["--join", &ticket]);
    until("b has what was there before", || home.run("b", &["get", "origin"]).status.success());
    home.ok("a", &["put", "from/a", "1"]);
    home.ok("b", &["put", "from/b", "2"]);
    until("b sees a's write", || home.run("b", &["get", "from/a"]).stdout == b"1\n");
    until("a sees b's write", || home.run("a", &["get", "from/b"]).stdout == b"2\n");
    home.ok("b", &["put", "from/a", "\"changed\""]);
    home.ok("a", &["delete", "from/b"]);
    until("an update travels", || home.run("a", &["get", "from/a"]).stdout == b"changed\n");
    until("a delete travels", || home.run("b", &["get", "from/b"]).status.code() == Some(3));
    until("both say that they are in sync", || {
        ["a", "b"].iter().all(|name| {
            let peers = home.json(name, &["peers"]);
            let peer = &peers["peers"][0];
            peer["in_sync"] == true && peer["connected"] == true && peer["since"].is_string()
        })
    });
    assert_eq!(home.hashes("a"), home.hashes("b"));
    a.stop();
    b.stop();
}

#[test]
fn a_replica_in_the_middle_forwards() {
    let home = Home::new();
    let b = home.serve("b", &[]);
    home.ok("b", &["put", "origin", "b"]);
    let tickets = [home.ok("b", &["ticket"]), home.ok("b", &["ticket"])];
    let a = home.serve("a", &["--join", &tickets[0]]);
    let c = home.serve("c", &["--join", &tickets[1]]);
    for name in ["a", "c"] {
        until("they have joined", || home.run(name, &["get", "origin"]).status.success());
    }
    home.ok("a", &["put", "note", "over b"]);
    until("c hears of a by b", || home.run("c", &["get", "note"]).stdout == b"over b\n");
    home.ok("c", &["counter", "add", "answers", "2"]);
    until("a hears of c by b", || home.run("a", &["get", "answers"]).stdout == b"2\n");
    for (name, other) in [("a", &c), ("c", &a)] {
        let peers = home.json(name, &["peers"]).to_string();
        assert!(!peers.contains(other.replica()), "{name} never met the other end");
    }
    until("all are equal", || {
        home.hashes("a") == home.hashes("b") && home.hashes("b") == home.hashes("c")
    });
    for node in [a, b, c] {
        node.stop();
    }
}

/// Two nodes know a third one, and go on together when it is gone.
fn goes_on_without_the_one_in_the_middle(home: &Home, options: &[&str], admit: bool) {
    let b = home.serve("b", options);
    home.ok("b", &["put", "origin", "b"]);
    let tickets = [home.ok("b", &["ticket"]), home.ok("b", &["ticket"])];
    let with = |ticket| [options, &["--join", ticket]].concat();
    let a = home.serve("a", &with(tickets[0].as_str()));
    let c = home.serve("c", &with(tickets[1].as_str()));
    for name in ["a", "c"] {
        until("they have joined", || home.run(name, &["get", "origin"]).status.success());
    }
    if admit {
        home.ok("a", &["peers", "add", c.replica()]);
        home.ok("c", &["peers", "add", a.replica()]);
    }
    until("both ends have met", || {
        let peers = home.json("a", &["peers"]);
        let met = |peer: &serde_json::Value| {
            peer["replica"] == c.replica() && peer["connected"] == true && peer["in_sync"] == true
        };
        peers["peers"].as_array().is_some_and(|peers| peers.iter().any(met))
    });
    b.stop();
    home.ok("a", &["put", "note", "without b"]);
    until("c hears of a", || home.run("c", &["get", "note"]).stdout == b"without b\n");
    a.stop();
    c.stop();
}

#[test]
fn nodes_that_are_open_meet_through_the_one_that_they_know() {
    goes_on_without_the_one_in_the_middle(&Home::new(), &["--open"], false);
}

#[test]
fn peers_are_told_where_those_are_that_they_admit() {
    goes_on_without_the_one_in_the_middle(&Home::new(), &[], true);
}

#[test]
fn both_sides_of_a_cut_keep_what_they_wrote() {
    let home = Home::new();
    let node = met(&home);
    home.ok("a", &["set", "add", "tags", "red", "green"]);
    home.ok("a", &["map", "put", "card", "name", "Ada"]);
    home.ok("a", &["put", "gone", "soon"]);
    home.ok("a", &["put", "kept", "0"]);
    home.json("b", &["sync"]);
    node.stop();
    for (name, by) in [("a", "5"), ("b", "-2")] {
        home.ok(name, &["put", "title", name]);
        home.ok(name, &["counter", "add", "hits", by]);
        home.ok(name, &["set", "add", "tags", name]);
        home.ok(name, &["map", "put", "card", name, by]);
        home.ok(name, &["map", "put", "card", "name", name]);
    }
    home.ok("a", &["set", "remove", "tags", "red"]);
    home.ok("b", &["set", "add", "tags", "red"]);
    home.ok("a", &["delete", "gone"]);
    home.ok("a", &["delete", "kept"]);
    home.ok("b", &["put", "kept", "1"]);
    let node = home.serve("a", &[]);
    assert_eq!(home.json("b", &["sync", &node.address()])["in_sync"], true);
    for name in ["a", "b"] {
        assert_eq!(home.ok(name, &["get", "hits"]), "3");
        assert_eq!(home.ok(name, &["get", "tags"]), r#"["a","b","green","red"]"#);
        assert_eq!(home.ok(name, &["get", "kept"]), "1");
        home.fails(name, 3, &["get", "gone"]);
        let card = home.json(name, &["get", "card"]);
        assert_eq!((&card["value"]["a"], &card["value"]["b"]), (&json!(5), &json!(-2)));
        assert_eq!(card["conflicts"][0]["field"], "name", "{card}");
    }
    let titles = ["a", "b"].map(|name| home.json(name, &["get", "title"]));
    assert_eq!(titles[0], titles[1]);
    let shown = [&titles[0]["value"], &titles[0]["conflicts"][0]["value"]];
    assert!(shown.contains(&&json!("a")) && shown.contains(&&json!("b")), "{}", titles[0]);
    assert_eq!(home.hashes("a"), home.hashes("b"));
    home.ok("b", &["put", "title", "settled"]);
    home.json("b", &["sync"]);
    assert_eq!(home.json("a", &["get", "title"])["conflicts"], json!([]));
    node.stop();
}

#[test]
fn a_name_and_either_kind_of_address_lead_to_a_peer() {
    let home = Home::new();
    met(&home).stop();
    let mut places = vec![("127.0.0.1:0", "localhost"), ("0.0.0.0:0", "127.0.0.1")];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        places.extend([("[::1]:0", "[::1]"), ("[::]:0", "[::1]"), ("[::]:0", "127.0.0.1")]);
    } else {
        eprintln!("SKIPPED: this machine has no IPv6");
    }
    for (listen, host) in places {
        let node = home.serve("a", &["--listen", listen]);
        home.ok("a", &["put", "listens", listen]);
        let port = node.address().rsplit(':').next().unwrap_or_default().to_owned();
        let target = format!("{}@{host}:{port}", node.replica());
        assert_eq!(home.json("b", &["sync", &target])["in_sync"], true, "{target}");
        assert_eq!(home.ok("b", &["get", "listens"]), listen);
        node.stop();
    }
}

#[test]
fn strangers_without_a_common_space_are_sent_to_tickets() {
    let home = Home::new();
    for name in ["a", "b"] {
        home.ok(name, &["put", "k", name]);
    }
    let node = home.serve("a", &[]);
    let error = home.fails("b", 4, &["sync", &node.address()]);
    let hint = error["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("kdelta ticket"), "{error}");
    let error = home.fails("b", 6, &["ticket"]);
    assert!(error["hint"].as_str().unwrap_or_default().contains("kdelta serve"), "{error}");
    // A default space that is in use is not given up for another's.
    let ticket = home.ok("a", &["ticket"]);
    let error = home.fails("b", 4, &["sync", &ticket]);
    assert!(error["hint"].as_str().unwrap_or_default().contains("--as"), "{error}");
    home.ok("b", &["sync", &ticket, "--as", "theirs"]);
    assert_eq!(home.ok("b", &["get", "k", "--space", "theirs"]), "a");
    assert_eq!(home.ok("b", &["get", "k"]), "b");
    node.stop();
}

#[test]
fn a_removed_peer_is_admitted_no_more() {
    let home = Home::new();
    let node = met(&home);
    let b = home.json("b", &["id", "show"])["replica"].as_str().expect("an id").to_owned();
    assert!(home.ok("a", &["peers", "--json"]).contains(&b));
    home.ok("a", &["peers", "remove", &b, "--yes"]);
    assert!(!home.ok("a", &["peers", "--json"]).contains(&b));
    home.ok("a", &["put", "secret", "1"]);
    let output = home.run("b", &["sync", "--json"]);
    assert!(!output.status.success());
    home.fails("b", 3, &["get", "secret"]);
    home.ok("a", &["peers", "add", &b]);
    home.json("b", &["sync"]);
    assert_eq!(home.ok("b", &["get", "secret"]), "1");
    node.stop();
}

#[test]
fn a_ticket_that_is_taken_while_the_two_are_connected_is_of_use_at_once() {
    let home = Home::new();
    home.ok("a", &["put", "origin", "a"]);
    let a = home.serve("a", &[]);
    let ticket = home.ok("a", &["ticket"]);
    let b = home.serve("b", &["--join", &ticket]);
    until("they have met", || home.run("b", &["get", "origin"]).status.success());
    home.ok("a", &["peers", "remove", b.replica(), "--yes"]);
    until("b calls again", || home.json("b", &["peers"])["peers"][0]["connected"] == true);
    home.ok("a", &["put", "more", "1"]);
    let ticket = home.ok("a", &["ticket"]);
    assert_eq!(home.json("b", &["sync", &ticket])["in_sync"], true);
    assert_eq!(home.ok("b", &["get", "more"]), "1");
    a.stop();
    b.stop();
}

#[test]
fn a_ticket_that_is_used_up_or_over_admits_nobody() {
    let home = Home::new();
    let node = met(&home);
    let once = home.ok("a", &["ticket", "--uses", "1"]);
    home.json("c", &["sync", &once]);
    assert!(!home.run("d", &["sync", &once]).status.success());
    let short = home.ok("a", &["ticket", "--expires", "1ms"]);
    assert!(!home.run("e", &["sync", &short]).status.success());
    assert!(!home.run("e", &["sync", "kd1nonsense"]).status.success());
    // Who came in by it stays in.
    home.json("c", &["sync"]);
    node.stop();
}
