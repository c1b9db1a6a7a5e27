//! A page of another origin, in a real browser, can neither read nor write a node of this machine.
//!
//! Skips, visibly, where no Chromium is installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong fails the test")]
#![expect(clippy::print_stderr, reason = "what was not tested is said, or nobody would know")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use common::{Home, Node, PATIENCE};

const PAGE: &str = include_str!("fixtures/hostile.html");
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Returns the name of a browser that runs here.
fn browser() -> Option<&'static str> {
    let runs = |name: &&str| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = BROWSERS.into_iter().find(runs);
    if found.is_none() {
        eprintln!("SKIPPED: no Chromium is installed");
    }
    found
}

/// A server of its own for the page, which makes it one of another origin than the node's.
struct Site {
    listener: TcpListener,
    port: String,
}

impl Site {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        Self { listener, port }
    }

    /// Serves the page that tries its best against a node; returns what it tells.
    ///
    /// All that is asked beside the page is passed on to the address `behind`.
    fn serve(self, node: &str, behind: &str) -> Receiver<String> {
        let (page, behind) = (PAGE.replace("ADDRESS", node), behind.to_owned());
        let (teller, told) = channel();
        thread::spawn(move || {
            for stream in self.listener.incoming() {
                let (page, behind, teller) = (page.clone(), behind.clone(), teller.clone());
                thread::spawn(move || answer(stream.unwrap(), &page, &behind, &teller));
            }
        });
        told
    }
}

fn answer(
    mut stream: TcpStream,
    page: &str,
    behind: &str,
    teller: &Sender<String>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(given) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            len = given.trim().parse().unwrap_or_default();
        }
        head.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    if head.starts_with("GET / ") {
        let fixed = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
        return write!(stream, "{fixed}Content-Length: {}\r\n\r\n{page}", page.len());
    }
    if head.starts_with("POST /told ") {
        let _ = teller.send(String::from_utf8_lossy(&body).into_owned());
        return write!(stream, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    }
    let mut node = TcpStream::connect(behind)?;
    node.set_read_timeout(Some(PATIENCE))?;
    node.write_all(head.replace("keep-alive", "close").as_bytes())?;
    node.write_all(&body)?;
    std::io::copy(&mut node, &mut stream).map(drop)
}

/// A browser with a page open; it ends with this.
struct Tab(Child);

impl Tab {
    fn open(browser: &str, home: &Home, url: &str, more: &[&str]) -> Self {
        let child = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", home.path("profile").display()))
            .args(more)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the page could do, by what it tried.
fn told(from: &Receiver<String>) -> BTreeMap<String, String> {
    let told = from.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the page did not finish"));
    let told: BTreeMap<String, String> = serde_json::from_str(&told).unwrap();
    assert_eq!(told.len(), 21, "it tried all: {told:?}");
    told
}

/// A node with a secret. Without a token the rules of browser and node are all that is between.
fn node(home: &Home, more: &[&str]) -> Node {
    home.ok("a", &["put", "secret", "4711"]);
    let words = ["--http", "127.0.0.1:0", "--http-auth", "off"];
    home.serve("a", &[&words[..], more].concat())
}

fn content(home: &Home) -> [String; 2] {
    [home.ok("a", &["list", "--values"]), home.ok("a", &["space", "list"])]
}

/// Opens the page on a host of that name and checks that it comes to nothing. `rebound` is whether
/// the browser takes page and node for one host.
fn comes_to_nothing(host: &str, rebound: bool, more: &[&str]) {
    let Some(browser) = browser() else { return };
    let home = Home::new();
    let node = node(&home, &[]);
    let before = content(&home);
    let site = Site::new();
    let own = format!("{host}:{}", site.port);
    let from = site.serve(if rebound { &own } else { node.http() }, node.http());
    let tab = Tab::open(browser, &home, &format!("http://{own}/"), more);
    for (attempt, outcome) in told(&from) {
        let by_node = rebound && outcome.contains("is not known here");
        assert!(outcome == "refused" || by_node, "{attempt}: {outcome}");
    }
    // What was accepted and is on its way is finished before the node ends.
    node.stop();
    drop(tab);
    assert_eq!(content(&home), before, "nothing was written");
}

#[test]
fn a_page_of_another_origin_reads_and_writes_nothing() {
    comes_to_nothing("127.0.0.1", false, &[]);
}

#[test]
fn a_page_whose_name_was_bound_to_this_machine_reads_and_writes_nothing() {
    let rule = "--host-resolver-rules=MAP evil.example 127.0.0.1";
    comes_to_nothing("evil.example", true, &[rule]);
}

#[test]
fn a_page_of_an_allowed_origin_reads_and_writes() {
    let Some(browser) = browser() else { return };
    let home = Home::new();
    let site = Site::new();
    let url = format!("http://127.0.0.1:{}", site.port);
    let node = node(&home, &["--http-allow", &url]);
    let from = site.serve(node.http(), node.http());
    let tab = Tab::open(browser, &home, &url, &[]);
    let told = told(&from);
    assert!(told["read"].starts_with("200: ") && told["read"].contains("4711"), "{told:?}");
    for attempt in ["list", "put", "delete", "op"] {
        assert!(told[attempt].starts_with("200: "), "{attempt}: {told:?}");
    }
    assert_eq!([&told["events"], &told["socket"]], ["opened", "opened"], "{told:?}");
    for unnamed in ["script", "style", "picture", "frame", "read unseen", "form as text"] {
        assert_eq!(told[unnamed], "refused", "{unnamed}");
    }
    node.stop();
    drop(tab);
    let keys = home.ok("a", &["list"]);
    assert_eq!(keys.lines().collect::<Vec<_>>(), ["op", "put"]);
}
