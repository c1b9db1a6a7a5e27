//! A node over HTTP, asked by the command line and by raw bytes on a socket.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use common::{Home, Node, signal, wait};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;

/// Sends a request and returns status, head and body of the answer.
fn ask(node: &Node, request: &[u8]) -> (u16, String, String) {
    let mut stream = node.connect();
    stream.write_all(request).unwrap();
    answer(&mut stream)
}

fn answer(stream: &mut TcpStream) -> (u16, String, String) {
    let mut bytes = Vec::new();
    // A server that closes on what it refuses to read may reset the connection.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {text:?}")), head.to_owned(), body.to_owned())
}

/// A request with those lines in its head, on a connection that ends with the answer.
fn request(line: &str, head: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    head.iter().for_each(|more| text.push_str(&format!("{more}\r\n")));
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

#[test]
fn the_command_line_prints_the_same_over_http() {
    let home = Home::new();
    let (node, _) = home.serve_http();
    let url = format!("http://{}", node.http());
    let token = home.path("a").join("token").to_str().unwrap().to_owned();
    let far = |words: &[&str]| {
        home.run("elsewhere", &[words, &["--url", &url, "--token-file", &token]].concat())
    };
    for words in [
        &["put", "user/1", r#"{"name":"Ada"}"#][..],
        &["counter", "add", "visits", "5"],
        &["set", "add", "tags", "red", "green"],
        &["tag", "v1"],
        &["put", "user/1", "\"ä\"", "--retype"],
    ] {
        let output = far(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    for words in [
        &["get", "user/1"][..],
        &["get", "user/1", "--at", "tag:v1", "--json"],
        &["list", "--values", "--limit", "0", "--json"],
        &["query", "--where", "@value contains 'red'", "--json"],
        &["query", "--sum", "@value", "--count"],
        &["history", "--json"],
        &["explain", "tags"],
        &["export", "--history"],
        &["get", "never", "--json"],
        &["put", "visits", "x"],
        &["get", "user/1", "--at", "tag:none"],
        &["space", "list", "--json"],
        &["verify", "--json"],
    ] {
        let (near, far) = (home.run("a", words), far(words));
        assert_eq!(near.status, far.status, "{words:?}");
        assert_eq!(near.stdout, far.stdout, "{words:?}");
        assert_eq!(near.stderr, far.stderr, "{words:?}");
    }
    // The token of the data directory is taken without being named.
    assert_eq!(home.ok("a", &["get", "visits", "--url", &url]), "5");
    assert_eq!(home.json("a", &["status", "--url", &url])["http"], node.http());
    assert!(!home.path("elsewhere").exists(), "nothing was opened there");
    node.stop();
    assert_eq!(home.fails("a", 6, &["get", "visits", "--url", &url])["code"], "unavailable");
    assert_eq!(home.json("a", &["status"])["http"], Value::Null);
}

#[test]
fn whoever_has_no_token_or_comes_from_elsewhere_gets_and_changes_nothing() {
    let home = Home::new();
    let (node, token) = home.serve_http();
    let (own, key) = (format!("Host: {}", node.http()), format!("Authorization: Bearer {token}"));
    let json = "Content-Type: application/json";
    let put = "PUT /v1/spaces/default/keys/k";
    let with = |head: &[&str]| ask(&node, &request(put, head, "1"));
    let (status, head, body) = with(&[&own, json]);
    assert_eq!(status, 401);
    assert!(head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{head}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&problem["code"], &problem["exit"]), (&"unauthorised".into(), &5.into()));
    assert_eq!(with(&[&own, json, "Authorization: Bearer 00"]).0, 401);
    assert_eq!(with(&["Host: evil.example", json, &key]).0, 403);
    assert_eq!(with(&[&own, json, &key, "Origin: https://evil.example"]).0, 403);
    assert_eq!(with(&[&own, &key, "Content-Type: text/plain"]).0, 415);
    assert_eq!(with(&[&own, &key]).0, 415);
    assert_eq!(ask(&node, &request("GET /healthz", &[&own], "")).0, 200);
    let backup = r#"{"path":"/nowhere/x"}"#;
    assert_eq!(ask(&node, &request("POST /v1/backup", &[&own, json, &key], backup)).0, 404);
    home.fails("a", 3, &["get", "k"]);
    assert_eq!(with(&[&own, json, &key]).0, 200);
    assert_eq!(home.ok("a", &["get", "k"]), "1");
    let url = format!("http://{}", node.http());
    assert_eq!(home.fails("b", 5, &["get", "k", "--url", &url])["code"], "unauthorised");
    node.stop();
}

#[test]
fn without_a_token_only_this_machine_is_answered() {
    let home = Home::new();
    let node = home.serve("a", &["--http", "127.0.0.1:0", "--http-auth", "off"]);
    let own = format!("Host: {}", node.http());
    assert_eq!(ask(&node, &request("GET /v1/id", &[&own], "")).0, 200);
    assert_eq!(ask(&node, &request("GET /v1/id", &["Host: evil.example"], "")).0, 403);
    node.stop();
    let open = ["serve", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0", "--http-auth", "off"];
    let refused = home.fails("a", 2, &open);
    assert_eq!(refused["code"], "usage", "{refused}");
    home.ok("a", &["put", "k", "still works"]);
}

#[test]
fn a_page_that_is_allowed_may_ask() {
    let home = Home::new();
    let app = "https://app.example";
    let node = home.serve("a", &["--http", "127.0.0.1:0", "--http-allow", app]);
    let (own, from) = (format!("Host: {}", node.http()), format!("Origin: {app}"));
    let asked = "Access-Control-Request-Method: PUT";
    let (status, head, _) = ask(&node, &request("OPTIONS /v1/id", &[&own, &from, asked], ""));
    assert_eq!(status, 204);
    let head = head.to_ascii_lowercase();
    assert!(head.contains(&format!("access-control-allow-origin: {app}")), "{head}");
    assert!(head.contains("authorization") && head.contains("vary: origin"), "{head}");
    let (status, head, _) = ask(&node, &request("GET /v1/id", &[&own, &from], ""));
    assert_eq!(status, 401, "a page needs the token as anybody does: {head}");
    node.stop();
}

#[test]
fn malformed_requests_are_refused_and_others_served() {
    let home = Home::new();
    let (node, token) = home.serve_http();
    let (own, key) = (format!("Host: {}", node.http()), format!("Authorization: Bearer {token}"));
    let json = "Content-Type: application/json";
    let head = [own.as_str(), &key, json];
    let keys = "/v1/spaces/default/keys";
    let long = format!("X-Long: {}", "x".repeat(300 << 10));
    for (what, sent) in [
        ("noise", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n".to_vec()),
        ("no path", b"GET\r\n\r\n".to_vec()),
        ("a long head", request("GET /v1/id", &[&own, &key, &long], "")),
        ("a long key", request(&format!("PUT {keys}/{}", "k".repeat(1025)), &head, "1")),
        ("half a percent", request(&format!("PUT {keys}/%f"), &head, "1")),
        ("a key that is no text", request(&format!("PUT {keys}/%ff%fe"), &head, "1")),
        ("a key twice", request(&format!("PUT {keys}/a?key=b"), &head, "1")),
        ("half a value", request(&format!("PUT {keys}/k"), &head, "{\"a\":")),
        ("a member twice", request(&format!("PUT {keys}/k"), &head, "{\"a\":1,\"a\":2}")),
        ("a value that is no text", request(&format!("PUT {keys}/k"), &head, "\"\u{0}\"")),
        ("an unknown op", request("POST /v1/spaces/default/ops/k", &head, "{\"op\":\"x\"}")),
        ("an unknown member", request("POST /v1/sync", &head, "{\"peers\":1,\"x\":2}")),
        ("no such route", request("GET /v2/", &head, "")),
        ("no such method", request("PATCH /v1/id", &head, "")),
    ] {
        let (status, _, body) = ask(&node, &sent);
        assert!((400..500).contains(&status), "{what}: {status} {body}");
    }
    let claimed = [&head[..], &["Content-Length: 9999999999"]].concat();
    let head_only = format!("PUT {keys}/k HTTP/1.1\r\n{}\r\n\r\n", claimed.join("\r\n"));
    let mut huge = node.connect();
    huge.write_all(head_only.as_bytes()).unwrap();
    // More than a value may have; the node stops listening long before the end.
    let piece = vec![b' '; 1 << 20];
    let sent = (0..32).take_while(|_| huge.write_all(&piece).is_ok()).count();
    assert!(sent >= 8, "what was sent within the limit was taken: {sent} MiB");
    home.fails("a", 3, &["get", "k"]);
    // Who says nothing is in nobody's way. As many files as one may have.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let idle: Vec<TcpStream> = (0..1000).map(|_| node.connect()).collect();
    assert_eq!(ask(&node, &request(&format!("PUT {keys}/k"), &head, "1")).0, 200);
    drop(idle);
    assert_eq!(home.ok("a", &["get", "k"]), "1");
    node.stop();
}

#[test]
fn what_was_begun_is_finished_when_a_node_stops() {
    let home = Home::new();
    let (mut node, token) = home.serve_http();
    let mut stream = node.connect();
    let head = format!(
        "PUT /v1/spaces/default/keys/k HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        node.http()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut begun = [0; 25];
    // The node asks for the rest: the request is under way.
    stream.read_exact(&mut begun).unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 100 Continue"), "{begun:?}");
    signal(&node.child, "TERM");
    common::until("it takes no more connections", || TcpStream::connect(node.http()).is_err());
    stream.write_all(b"true").unwrap();
    assert_eq!(answer(&mut stream).0, 200);
    assert_eq!(wait(&mut node.child).code(), Some(0));
    assert_eq!(home.ok("a", &["get", "k"]), "true");
}

#[test]
fn a_write_is_answered_when_peers_hold_it() {
    let home = Home::new();
    let node = home.serve("a", &["--http", "127.0.0.1:0", "--http-auth", "off"]);
    let ticket = home.ok("a", &["ticket"]);
    let peer = home.serve("b", &["--join", &ticket]);
    common::until("they are in sync", || {
        home.json("a", &["status"])["peers"][0]["in_sync"] == Value::Bool(true)
    });
    let own = format!("Host: {}", node.http());
    let json = "Content-Type: application/json";
    let put = |prefer: &str, value: &str| {
        let head = [own.as_str(), json, prefer];
        let (status, _, body) = ask(&node, &request("PUT /v1/spaces/default/keys/k", &head, value));
        (status, serde_json::from_str::<Value>(&body).unwrap_or_default())
    };
    let (status, wrote) = put("Prefer: durability=peers=1; wait=60", "1");
    assert_eq!((status, &wrote["peers"], &wrote["durable"]), (200, &1.into(), &true.into()));
    assert_eq!(home.json("a", &["put", "k", "2", "--durability", "peers=1"])["peers"], 1);
    let (status, wrote) = put("Prefer: durability=peers=2; wait=0", "3");
    assert_eq!((status, &wrote["durable"]), (202, &true.into()), "one peer is not two: {wrote}");
    assert!(wrote["peers"].as_u64().unwrap() < 2, "{wrote}");
    let mut import = home.command("a");
    import.args(["import", "-", "--durability", "peers=1", "--json"]);
    let lines = (0..50).map(|n| format!("{{\"op\":\"put\",\"key\":\"i/{n}\",\"value\":{n}}}\n"));
    let output = common::feed(import, lines.collect::<String>().as_bytes());
    let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &counts["peers"]), (Some(0), &1.into()), "{counts}");
    let (status, wrote) = put("Prefer: durability=local", "4");
    assert_eq!((status, wrote.get("peers")), (200, None), "nobody asked");
    // What was acknowledged by the peer is there when both are killed.
    home.ok("a", &["put", "k", "5", "--durability", "peers=1"]);
    peer.kill();
    assert_eq!(home.ok("b", &["get", "k"]), "5");
    node.stop();
    // Without a node there is nobody to ask: it is written, and that is told.
    let alone = home.run("a", &["put", "k", "6", "--durability", "peers=1"]);
    assert_eq!(alone.status.code(), Some(8), "{alone:?}");
    let mut alone = home.command("a");
    alone.args(["import", "-", "--durability", "peers=1"]);
    let line = b"{\"op\":\"put\",\"key\":\"late\",\"value\":1}\n";
    assert_eq!(common::feed(alone, line).status.code(), Some(8), "nobody was reached");
    assert_eq!(home.ok("a", &["get", "k"]), "6");
}
