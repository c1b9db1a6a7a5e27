//! A node that sends traces: what a collector sees of it, and what becomes of it without one.
//!
//! The collector is a listener in this test. It reads what it gets as the protobuf that
//! OpenTelemetry describes, with a reader of its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what is missing fails the test")]
#![allow(clippy::panic, reason = "helpers of tests: what goes wrong fails the test")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::{Home, Node, until};

/// A trace that a caller is in, as a header has it.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// One field of a message in protobuf.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads a message into its fields, in their order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }
    fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(length);
        *bytes = rest;
        taken
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Bytes(take(&mut bytes, 8)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                Field::Bytes(take(&mut bytes, length))
            }
            5 => Field::Bytes(take(&mut bytes, 4)),
            kind => panic!("a field of kind {kind}"),
        };
        found.push((tag >> 3, field));
    }
    found
}

/// The messages or texts under one number.
fn under(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let all = fields(bytes).into_iter().filter(|(found, _)| *found == number);
    all.filter_map(|(_, field)| match field {
        Field::Bytes(bytes) => Some(bytes),
        Field::Number(_) => None,
    })
    .collect()
}

fn number(bytes: &[u8], number: u64) -> u64 {
    let mut all = fields(bytes).into_iter();
    let found = all.find_map(|(found, field)| match field {
        Field::Number(value) if found == number => Some(value),
        _ => None,
    });
    found.unwrap_or_default()
}

fn text(bytes: &[u8], number: u64) -> String {
    under(bytes, number).first().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes with values that are text or a number, all as text.
fn attributes(all: Vec<&[u8]>) -> BTreeMap<String, String> {
    let read = |attribute: &[u8]| {
        let value = under(attribute, 2)[0];
        let value = match fields(value).first() {
            Some((_, Field::Number(number))) => number.to_string(),
            Some((1, Field::Bytes(text))) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        };
        (text(attribute, 1), value)
    };
    all.into_iter().map(read).collect()
}

/// A span that was sent.
#[derive(Debug)]
struct Span {
    of: BTreeMap<String, String>,
    name: String,
    kind: u64,
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, String>,
    events: Vec<String>,
    status: u64,
}

/// Reads one export of traces.
fn spans(export: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for resource_spans in under(export, 1) {
        let of = under(resource_spans, 1).into_iter().flat_map(|resource| under(resource, 1));
        let of = attributes(of.collect());
        let scopes = under(resource_spans, 2).into_iter();
        for span in scopes.flat_map(|scope| under(scope, 2)) {
            found.push(Span {
                of: of.clone(),
                name: text(span, 5),
                kind: number(span, 6),
                trace: hex(under(span, 1)[0]),
                id: hex(under(span, 2)[0]),
                parent: under(span, 4).first().map(|id| hex(id)).unwrap_or_default(),
                attributes: attributes(under(span, 9)),
                events: under(span, 11).into_iter().map(|event| text(event, 2)).collect(),
                status: under(span, 15).first().map_or(0, |status| number(status, 3)),
            });
        }
    }
    found
}

/// A collector on loopback; what it got is kept. One that is deaf takes connections and no more.
struct Collector {
    url: String,
    got: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    fn start(deaf: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&got);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if deaf {
                    keep.lock().unwrap().push(Vec::new());
                    held.push(stream);
                } else {
                    keep.lock().unwrap().push(take(stream));
                }
            }
        });
        Self { url, got }
    }

    fn spans(&self) -> Vec<Span> {
        self.got.lock().unwrap().iter().flat_map(|export| spans(export)).collect()
    }

    fn has(&self, wanted: impl Fn(&Span) -> bool) -> bool {
        self.spans().iter().any(wanted)
    }
}

/// Reads one request, checks where it goes, and answers that all is well.
fn take(stream: TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push(line);
    }
    assert_eq!(head[0], "post /v1/traces http/1.1");
    assert!(head.iter().any(|line| line == "content-type: application/x-protobuf"), "{head:?}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    body
}

/// A node on the store `a` that sends traces there, and soon.
fn serve(home: &Home, url: &str, more: &[(&str, &str)]) -> (Node, String) {
    let set = [("OTEL_BSP_SCHEDULE_DELAY", "50"), ("KDELTA_OTLP", url)];
    let words = ["--http", "127.0.0.1:0"];
    let node = home.serve_with("a", &words, &[&set[..], more].concat());
    let token = std::fs::read_to_string(home.path("a").join("token")).unwrap();
    (node, token.trim().to_owned())
}

/// Asks a node over HTTP and returns the status.
fn ask(node: &Node, token: &str, line: &str, head: &str, body: &str) -> String {
    let mut stream = node.connect();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Type: application/json\r\n{head}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn requests_and_links_reach_the_collector_and_secrets_do_not() {
    let home = Home::new();
    let collector = Collector::start(false);
    let named = [
        ("OTEL_SERVICE_NAME", "stock"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=shop"),
        // However quiet the lines on stderr are.
        ("KDELTA_LOG", "error"),
    ];
    let (a, token) = serve(&home, &collector.url, &named);
    let parent = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n");
    let put = "PUT /v1/spaces/default/keys/hidden";
    assert_eq!(ask(&a, &token, put, &parent, "\"unseen\""), "200");
    let name = "PUT /v1/spaces/{space}/keys/{*key}";
    until("the request arrives", || collector.has(|span| span.name == name));
    let spans = collector.spans();
    let span = spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!((span.of["service.name"].as_str(), span.kind), ("stock", 2));
    assert_eq!(span.of["deployment.environment"], "shop");
    assert_eq!(span.of["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((span.trace.as_str(), span.parent.as_str(), span.status), (TRACE, CALLER, 0));
    let attributes: Vec<_> =
        span.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        attributes,
        [
            ("http.request.method", "PUT"),
            ("http.response.status_code", "200"),
            ("http.route", "/v1/spaces/{space}/keys/{*key}"),
        ]
    );

    let ticket = home.ok("a", &["ticket"]);
    assert_eq!(home.json("b", &["sync", &ticket])["in_sync"], true);
    let b = home.json("b", &["id", "show"])["replica"].as_str().unwrap().to_owned();
    let is_link = |span: &Span| span.name == "link" && span.attributes["peer"] == b;
    until("the link arrives", || collector.has(is_link));
    let spans = collector.spans();
    let link = spans.iter().find(|span| is_link(span)).unwrap();
    assert_eq!(link.events, ["the peer is admitted", "the peer is gone"]);
    assert!(link.parent.is_empty(), "{link:?}");
    let is_session = |span: &Span| span.name == "session" && span.parent == link.id;
    let session = spans.iter().find(|span| is_session(span)).unwrap();
    assert_eq!(session.attributes["in_sync"], "1", "{session:?}");

    a.stop();
    let all = collector.got.lock().unwrap().concat();
    for secret in [&token, &ticket, "hidden", "unseen"] {
        let found = all.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        assert!(!found, "{secret} was sent");
    }
}

#[test]
fn what_is_queued_when_a_node_stops_is_sent() {
    let home = Home::new();
    let collector = Collector::start(false);
    let (a, token) = serve(&home, &collector.url, &[("OTEL_BSP_SCHEDULE_DELAY", "3600000")]);
    let b = home.serve("b", &["--join", &home.ok("a", &["ticket"])]);
    assert_eq!(ask(&a, &token, "GET /v1/nowhere", "", ""), "404");
    until("they are in sync", || home.space("a")["state_hash"] == home.space("b")["state_hash"]);
    assert!(collector.spans().is_empty());
    a.stop();
    assert!(collector.has(|span| span.name == "GET none"), "{:?}", collector.spans());
    assert!(collector.has(|span| span.name == "link"), "{:?}", collector.spans());
    assert!(collector.has(|span| span.of["service.name"] == "kdelta"));
    b.stop();
}

#[test]
fn a_collector_that_refuses_is_named_once_and_hinders_nobody() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    // The patience of an attempt is longer than that of this test.
    let (a, token) = serve(&home, &gone, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")]);
    for round in 0..5 {
        let put = format!("PUT /v1/spaces/default/keys/{round}");
        assert_eq!(ask(&a, &token, &put, "", "1"), "200");
        let log = || std::fs::read_to_string(home.path("a.log")).unwrap();
        until("it is said", || log().contains("takes no traces"));
        assert_eq!(log().matches("takes no traces").count(), 1, "{}", log());
    }
    a.stop();
}

#[test]
fn a_collector_that_never_answers_hinders_nobody() {
    let home = Home::new();
    let collector = Collector::start(true);
    let small = [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
    ];
    let (a, token) = serve(&home, &collector.url, &small);
    for round in 0..20 {
        let put = format!("PUT /v1/spaces/default/keys/{round}");
        assert_eq!(ask(&a, &token, &put, "", "1"), "200");
    }
    until("it was asked", || !collector.got.lock().unwrap().is_empty());
    assert_eq!(home.json("b", &["sync", &home.ok("a", &["ticket"])])["in_sync"], true);
    a.stop();
}

#[test]
fn what_cannot_be_sent_to_is_refused_at_the_start() {
    let home = Home::new();
    for wrong in ["https://localhost:4318", "http://", "ftp://localhost"] {
        let error = home.fails("a", 2, &["serve", "--otlp", wrong]);
        assert_eq!(error["code"], "usage", "{wrong}: {error}");
    }
    assert!(!home.path("a").exists(), "nothing was made");
}
