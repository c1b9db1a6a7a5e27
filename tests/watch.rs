//! Watching a live node: many at once, over WebSocket, and until it stops.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use common::{Home, Node};
use serde_json::Value;

/// Watches by server-sent events, once the node says that it listens.
fn listen(node: &Node, token: &str) -> BufReader<TcpStream> {
    let mut stream = node.connect();
    let request = format!(
        "GET /v1/spaces/default/watch HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    until(&mut reader, ": listening");
    reader
}

/// Reads lines up to one that begins so, and returns that.
fn until(reader: &mut BufReader<TcpStream>, start: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "it ended before {start:?}");
        if line.starts_with(start) {
            return line;
        }
    }
}

/// More than there are threads that may block.
const MANY: usize = 600;

#[test]
fn many_who_watch_hold_up_nobody() {
    let home = Home::new();
    home.ok("a", &["put", "k", "0"]);
    let (node, token) = home.serve_http();
    let mut watchers: Vec<_> = (0..MANY).map(|_| listen(&node, &token)).collect();
    home.ok("a", &["put", "k", "1"]);
    assert_eq!(home.ok("a", &["get", "k"]), "1");
    for watcher in &mut watchers {
        let line = until(watcher, "data: ");
        let change: Value = serde_json::from_str(line.trim_start_matches("data: ")).unwrap();
        assert_eq!((&change["key"], &change["value"]), (&"k".into(), &1.into()));
    }
    node.stop();
    for mut watcher in watchers {
        watcher.read_to_end(&mut Vec::new()).unwrap();
    }
}

/// Opens a WebSocket as a page in a browser does: the token is offered as a protocol.
fn socket(node: &Node, query: &str, token: &str) -> tungstenite::WebSocket<TcpStream> {
    let address = node.http();
    let target = format!("ws://{address}/v1/spaces/default/watch{query}");
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(target).unwrap();
    let offered = format!("kdelta.v1, bearer.{token}").parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", offered);
    let (socket, answer) = tungstenite::client(request, node.connect()).unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "kdelta.v1");
    socket
}

fn message(socket: &mut tungstenite::WebSocket<TcpStream>) -> Value {
    serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap()
}

#[test]
fn a_web_socket_tells_each_change_once_and_goes_on_after_a_cursor() {
    let home = Home::new();
    let (node, token) = home.serve_http();
    let mut first = socket(&node, "?prefix=k", &token);
    for (key, value) in [("k", "1"), ("other", "2"), ("k", "3")] {
        home.ok("a", &["put", key, value]);
    }
    let one = message(&mut first);
    assert_eq!((&one["key"], &one["value"]), (&"k".into(), &1.into()));
    assert_eq!(message(&mut first)["value"], 3);
    // What a listener says is not heard, and what is too long ends the watch.
    first.send("hello".into()).unwrap();
    home.ok("a", &["put", "k", "4"]);
    assert_eq!(message(&mut first)["value"], 4);
    let _ = first.send("x".repeat(5000).into());
    let end = loop {
        if let Err(end) = first.read() {
            break end;
        }
    };
    let waited = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    assert!(!matches!(&end, tungstenite::Error::Io(error) if waited(error)), "it goes on");
    let cursor = one["cursor"].as_str().unwrap();
    let mut second = socket(&node, &format!("?prefix=k&from={cursor}"), &token);
    assert_eq!(
        [message(&mut second)["value"].clone(), message(&mut second)["value"].clone()],
        [3, 4]
    );
    // A node that stops says so.
    let stopping = std::thread::spawn(move || node.stop());
    let end = loop {
        match second.read().unwrap() {
            tungstenite::Message::Close(frame) => break frame.unwrap(),
            other => assert!(other.is_ping(), "{other:?}"),
        }
    };
    assert_eq!((u16::from(end.code), end.reason.as_str()), (1001, "the node stops"));
    stopping.join().unwrap();
}

#[test]
fn a_web_socket_needs_a_token_and_a_page_of_this_host() {
    let home = Home::new();
    let (node, token) = home.serve_http();
    let refused = |protocols: &str, origin: Option<&str>| {
        let address = node.http();
        let target = format!("ws://{address}/v1/spaces/default/watch");
        let mut request =
            tungstenite::client::IntoClientRequest::into_client_request(target).unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        match tungstenite::client(request, node.connect()) {
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                answer.status().as_u16()
            }
            other => panic!("{other:?}"),
        }
    };
    let offered = format!("kdelta.v1, bearer.{token}");
    assert_eq!(refused("kdelta.v1", None), 401);
    assert_eq!(refused("kdelta.v1, bearer.wrong", None), 401);
    assert_eq!(refused(&offered, Some("https://evil.example")), 403);
    node.stop();
}
