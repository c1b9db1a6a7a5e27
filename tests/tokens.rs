//! A token of a grant at every route: it opens what the grant says, spelled in whatever way, and
//! nothing else.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use common::{Home, Node, feed, until};
use serde_json::{Value, json};

/// An owned space `team` with keys inside and outside of `in/`, on a node that answers HTTP.
fn team(home: &Home) -> Node {
    home.ok("a", &["space", "create", "team", "--owned"]);
    for key in ["in/1", "in/2", "out/1", "inner", "i"] {
        home.ok("a", &["put", key, &format!("the secret of {key}"), "--space", "team"]);
    }
    home.ok("a", &["put", "k", "open", "--space", "other"]);
    home.serve("a", &["--http", "127.0.0.1:0"])
}

/// Makes a token of the space `team`.
fn token(home: &Home, can: &str, more: &[&str]) -> String {
    let words = ["grant", "create", "--space", "team", "--bearer", "--can", can];
    let token = home.ok("a", &[&words[..], more].concat());
    assert!(token.starts_with("kg1"), "{token}");
    token
}

/// Asks a route; returns status and body.
fn ask(node: &Node, token: &str, line: &str, body: &str) -> (u16, String) {
    ask_with(node, &format!("Authorization: Bearer {token}\r\n"), line, body)
}

fn ask_with(node: &Node, head: &str, line: &str, body: &str) -> (u16, String) {
    let kind = if line.contains("/import") { "application/jsonl" } else { "application/json" };
    let text = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}Content-Type: {kind}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = node.connect();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    // What never ends, a watch that was let in, is as good as answered once its head is there.
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        answer.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if answer.contains("text/event-stream") {
            break;
        }
    }
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status.unwrap_or_else(|| panic!("{line}: {answer:?}")), body)
}

/// A command that asks the node at a URL.
fn far<'a>(url: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["--url", url], words].concat()
}

/// Every route of the description, as a request about `key`, or about keys that begin with it.
fn routes(key: &str) -> Vec<(String, String)> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/host/api/openapi.json"));
    let description: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let mut requests = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_ascii_uppercase();
            if !matches!(method.as_str(), "GET" | "PUT" | "POST" | "DELETE") {
                continue;
            }
            let mut target = path.replace("{space}", "team").replace("{key}", key);
            target = target.replace("{name}", "v1").replace("{replica}", &"ab".repeat(32));
            target = target.replace("{id}", &"ab".repeat(32));
            assert!(!target.contains('{'), "the test does not know {path}");
            let asks_prefix = ["/keys", "/export", "/watch"].iter().any(|end| path.ends_with(end));
            if method == "GET" && asks_prefix {
                target = format!("{target}?prefix={key}");
            } else if path.ends_with("/diff/{key}") {
                target.push_str("?from=1h");
            } else if ["/keys", "/ops", "/history", "/explain"]
                .iter()
                .any(|end| path.ends_with(end))
            {
                target = format!("{target}?key={key}");
            } else if path.ends_with("/diff") {
                target = format!("{target}?key={key}&from=1h");
            }
            let put = json!({"op": "put", "key": key, "value": 1});
            let body = match path.rsplit('/').next().unwrap() {
                "query" => json!({ "prefix": key }),
                "batch" => json!({"batch": [put], "tag": "v2"}),
                "import" => put,
                "spaces" => json!({"name": "mine"}),
                "grants" => json!({"space": "team", "to": "ab".repeat(32), "can": ["read"]}),
                "ops" | "{key}" if method == "POST" => json!({"op": "put", "value": 1}),
                _ => json!({}),
            };
            requests.push((format!("{method} {target}"), body.to_string()));
        }
    }
    assert!(requests.len() > 30, "{} routes", requests.len());
    requests
}

/// What tells only that the node lives, and what it can be asked.
const OPEN: [&str; 3] = ["GET /healthz", "GET /readyz", "GET /openapi.json"];

#[test]
fn a_narrow_token_steps_out_of_its_prefix_on_no_route() {
    let home = Home::new();
    let node = team(&home);
    let narrow = token(&home, "read,write", &["--prefix", "in/"]);
    let (status, body) = ask(&node, &narrow, "GET /v1/spaces/team/keys/in/1", "");
    assert_eq!((status, body.contains("the secret of in/1")), (200, true), "{body}");
    for outside in ["out/1", "inner", "i", "in"] {
        for (line, body) in routes(outside) {
            if OPEN.contains(&line.as_str()) {
                continue;
            }
            let (status, said) = ask(&node, &narrow, &line, &body);
            assert_eq!(status, 403, "{line} {body}: {said}");
            assert!(!said.contains("the secret of"), "{line}: {said}");
        }
    }
    assert_eq!(home.ok("a", &["get", "out/1", "--space", "team"]), "the secret of out/1");
    let tags = home.json("a", &["tag", "list", "--space", "team"]);
    assert_eq!(tags["tags"], json!([]), "{tags}");
    let listed = home.json("a", &["list", "--space", "team"]);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 5, "{listed}");
}

#[test]
fn no_spelling_of_a_key_leads_out_of_a_prefix() {
    let home = Home::new();
    let node = team(&home);
    let narrow = token(&home, "read,write", &["--prefix", "in/"]);
    let keys = "/v1/spaces/team/keys";
    for spelled in [
        "/out/1",
        "/out%2F1",
        "/%6Fut/1",
        "/o%75t%2f1",
        "?key=out/1",
        "?key=out%2F1",
        "/?key=out/1",
        "/in",
        "/in%00/",
        "//in/1",
        "/%2Fin/1",
        "/./in/1",
        "/IN/1",
        "/in%252F1",
        "/inner",
        "/ in/1",
        "/%20in/1",
        "?prefix=",
        "",
        "/",
        "?prefix=i",
        "?prefix=in",
        "?prefix=out/",
        "?prefix=%00",
        "?prefix=in&prefix=in/",
        "?key=in/1&key=out/1",
        "/in/1?key=out/1",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let target = format!("{method} {keys}{}", spelled.replace(' ', "%20"));
            let (status, said) = ask(&node, &narrow, &target, "1");
            assert!(matches!(status, 400 | 403 | 404 | 405), "{target}: {status} {said}");
            assert!(!said.contains("the secret of"), "{target}: {said}");
        }
    }
    // Nor does a condition, which would tell whether there is such a key, nor a point.
    let narrow_head = format!("Authorization: Bearer {narrow}\r\nIf-Match: *\r\n");
    for outside in ["out/1", "out/none"] {
        let target = format!("PUT {keys}/{outside}");
        assert_eq!(ask_with(&node, &narrow_head, &target, "1").0, 403, "{target}");
    }
    let tag = "PUT /v1/spaces/team/tags/v1?at=00000000";
    assert_eq!(ask(&node, &narrow, tag, "").0, 403);
    // Dots and dashes are letters like others: this is a key of its own, inside.
    let inside = format!("PUT {keys}/in/../out/1");
    assert_eq!(ask(&node, &narrow, &inside, "1").0, 200);
    assert_eq!(home.ok("a", &["get", "in/../out/1", "--space", "team"]), "1");
    assert_eq!(home.ok("a", &["get", "out/1", "--space", "team"]), "the secret of out/1");
    let page = ask(&node, &narrow, &format!("GET {keys}?prefix=in/&after=a&values=1"), "");
    assert_eq!(page.0, 200);
    assert!(!page.1.contains("out/1\"") || page.1.contains("in/../out/1"), "{}", page.1);
    let mixed = json!({"batch": [
        {"op": "put", "key": "in/3", "value": 1}, {"op": "put", "key": "out/3", "value": 1},
    ]});
    let batch = ask(&node, &narrow, "POST /v1/spaces/team/batch", &mixed.to_string());
    assert_eq!(batch.0, 403, "{}", batch.1);
    assert_eq!(home.fails("a", 3, &["get", "in/3", "--space", "team"])["code"], "not_found");
    let lines = "{\"op\":\"put\",\"key\":\"in/4\",\"value\":1}\n\
                 {\"op\":\"put\",\"key\":\"out/4\",\"value\":1}\n";
    let import = ask(&node, &narrow, "POST /v1/spaces/team/import", lines);
    assert!(import.1.contains("\"line\":2") && import.1.contains("does not cover"), "{}", import.1);
    assert_eq!(home.ok("a", &["get", "in/4", "--space", "team"]), "1");
    assert_eq!(home.fails("a", 3, &["get", "out/4", "--space", "team"])["code"], "not_found");
}

#[test]
fn a_token_lets_do_what_it_says_and_no_more() {
    let home = Home::new();
    let node = team(&home);
    let (reader, writer) = (token(&home, "read", &[]), token(&home, "put", &[]));
    let key = "/v1/spaces/team/keys/in/1";
    let changes = [
        format!("PUT {key}"),
        format!("DELETE {key}"),
        "POST /v1/spaces/team/ops/n".to_owned(),
        "PUT /v1/spaces/team/tags/v1".to_owned(),
        "POST /v1/spaces/team/batch".to_owned(),
    ];
    for line in &changes {
        let put = json!({"op": "put", "key": "k", "value": 1}).to_string();
        let body = match line {
            line if line.contains("/ops/") => r#"{"op":"counter_add","by":1}"#,
            line if line.contains("/batch") => &put,
            _ => "1",
        };
        assert_eq!(ask(&node, &reader, line, body).0, 403, "{line}");
    }
    assert_eq!(ask(&node, &reader, &format!("GET {key}"), "").0, 200);
    assert_eq!(ask(&node, &reader, "GET /v1/spaces/team/history", "").0, 200);
    assert_eq!(ask(&node, &reader, "GET /v1/spaces/team/watch", "").0, 200);
    assert_eq!(ask(&node, &writer, &format!("GET {key}"), "").0, 403);
    assert_eq!(ask(&node, &writer, &format!("DELETE {key}"), "").0, 403);
    assert_eq!(ask(&node, &writer, &format!("PUT {key}"), "2").0, 200);
    assert_eq!(ask(&node, &writer, &format!("PUT {key}?if_version=none"), "2").0, 403);
    assert_eq!(home.ok("a", &["get", "in/1", "--space", "team"]), "2");
    // Other spaces, and what is the owner's, whatever the token.
    let whole = token(&home, "read,write", &[]);
    for line in [
        "GET /v1/spaces/other/keys/k",
        "GET /v1/spaces/default/keys",
        "GET /v1/status",
        "GET /v1/spaces/none/keys",
        "GET /metrics",
        "GET /v1/id",
        "POST /v1/sync",
        "POST /v1/tickets",
        "POST /v1/spaces",
    ] {
        assert_eq!(ask(&node, &whole, line, "{}").0, 403, "{line}");
    }
    let spaces = ask(&node, &whole, "GET /v1/spaces", "");
    let spaces: Value = serde_json::from_str(&spaces.1).unwrap();
    assert_eq!(spaces["spaces"].as_array().unwrap().len(), 1, "{spaces}");
}

#[test]
fn a_token_that_is_no_good_opens_nothing() {
    let home = Home::new();
    let node = team(&home);
    let good = token(&home, "read", &[]);
    let line = "GET /v1/spaces/team/keys/in/1";
    assert_eq!(ask(&node, &good, line, "").0, 200);
    // A letter stands for five bits: each is changed in turn.
    let letters = b"0123456789abcdefghijklmnopqrstuv";
    for at in 0..good.len() {
        let mut word = good.clone().into_bytes();
        let other = letters.iter().find(|letter| **letter != word[at]).unwrap();
        word[at] = *other;
        let word = String::from_utf8(word).unwrap();
        assert_eq!(ask(&node, &word, line, "").0, 401, "letter {at}");
    }
    for (line, body) in routes("in/1") {
        if OPEN.contains(&line.as_str()) {
            continue;
        }
        assert_eq!(ask_with(&node, "", &line, &body).0, 401, "{line}");
        assert_eq!(ask(&node, "kg1abc", &line, &body).0, 401, "{line}");
    }
    // What another store gave is nothing here.
    home.ok("b", &["space", "create", "team", "--owned"]);
    let foreign =
        home.ok("b", &["grant", "create", "--space", "team", "--bearer", "--can", "read"]);
    assert_eq!(ask(&node, &foreign, line, "").0, 401);
    let ended = token(&home, "read", &["--expires", "1ms"]);
    until("it ends", || ask(&node, &ended, line, "").0 == 401);
    assert!(ask(&node, &ended, line, "").1.contains("ended at"));
    let shown = home.json("a", &["grant", "inspect", &good]);
    home.ok("a", &["grant", "revoke", shown["id"].as_str().unwrap(), "--space", "team", "--yes"]);
    let (status, said) = ask(&node, &good, line, "");
    assert_eq!((status, said.contains("was revoked")), (401, true), "{said}");
    let log = std::fs::read_to_string(home.path("a.log")).unwrap();
    assert!(!log.contains(&good[3..]) && !log.contains(&ended[3..]), "{log}");
}

#[test]
fn a_revocation_ends_a_watch() {
    let home = Home::new();
    let node = team(&home);
    let reader = token(&home, "read", &[]);
    let head = format!(
        "GET /v1/spaces/team/watch HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {reader}\r\n\r\n"
    );
    let mut stream = node.connect();
    stream.write_all(head.as_bytes()).unwrap();
    let mut seen = String::new();
    let mut read_until = |what: &str| {
        let mut bytes = [0; 4096];
        while !seen.contains(what) {
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "it ended before {what:?}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        seen.clone()
    };
    read_until("listening");
    home.ok("a", &["put", "in/1", "seen", "--space", "team"]);
    read_until("\"seen\"");
    let id = home.json("a", &["grant", "inspect", &reader])["id"].as_str().unwrap().to_owned();
    home.ok("a", &["grant", "revoke", &id, "--space", "team", "--yes"]);
    home.ok("a", &["put", "in/1", "unseen", "--space", "team"]);
    let seen = read_until("was revoked");
    assert!(!seen.contains("unseen"), "{seen}");
}

#[test]
fn a_token_is_kept_for_its_node() {
    let home = Home::new();
    let node = team(&home);
    let url = format!("http://{}", node.http());
    let reader = token(&home, "read", &["--prefix", "in/"]);
    assert_eq!(
        home.fails("b", 5, &far(&url, &["get", "in/1", "--space", "team"]))["code"],
        "unauthorised"
    );
    let damaged = &reader[..reader.len() - 1];
    assert_eq!(home.fails("b", 2, &far(&url, &["grant", "import", damaged]))["code"], "usage");
    assert_eq!(home.fails("b", 2, &["grant", "import", &reader])["code"], "usage");
    let mut import = home.command("b");
    import.args(far(&url, &["grant", "import", "-"]));
    let output = feed(import, format!("{reader}\n").as_bytes());
    assert!(output.status.success(), "{output:?}");
    let kept = std::fs::read_dir(home.path("b").join("tokens")).unwrap().next().unwrap().unwrap();
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let got = home.ok("b", &far(&url, &["get", "in/1", "--space", "team"]));
    assert_eq!(got, "the secret of in/1");
    let refused = home.fails("b", 5, &far(&url, &["get", "out/1", "--space", "team"]));
    assert_eq!(refused["code"], "forbidden", "{refused}");
    let own = home.json("b", &far(&url, &["grant", "list", "--space", "team"]));
    assert_eq!(own["grants"].as_array().unwrap().len(), 1, "{own}");
    let shown = home.json("b", &far(&url, &["grant", "inspect", &reader]));
    assert_eq!((&shown["can"], &shown["prefixes"]), (&json!(["read"]), &json!(["in/"])), "{shown}");
}
