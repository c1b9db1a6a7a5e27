//! A host for tests: canned answers, and a record of what was asked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::console::Console;
use super::local::{Host, Node, NodeOptions, OpenError, Opened, StoreOptions};

/// Answers by method and path with query; anything else is a 404 that names the request.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    answers: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// How often the store is still held when it is opened.
    pub(crate) held: Arc<Mutex<u32>>,
    /// How often a store was closed.
    pub(crate) closed: Arc<Mutex<u32>>,
}

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) exit: u8,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Bytes that a test can look at while they are written.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// What was written so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Fake {
    /// Answers `request` (`GET /v1/…`) with `status` and `body`.
    pub(crate) fn on(self, request: &str, status: u16, body: &str) -> Self {
        self.answers.lock().unwrap().insert(request.to_owned(), (status, body.to_owned()));
        self
    }

    /// What was asked since the last call: method, target, telling headers and body.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Whether anything was asked since the last look.
    pub(crate) fn was_asked(&self) -> bool {
        !self.asked.lock().unwrap().is_empty()
    }

    /// Runs a command line of words without spaces; its data directory is `dir`.
    pub(crate) fn run(&self, dir: &Path, line: &str) -> Outcome {
        self.run_with(dir, &line.split_whitespace().collect::<Vec<_>>(), b"", Box::new(Vec::new()))
    }

    /// Runs a command; with `stdin`, and `stdout` in place of a recorder unless it is a `Vec`.
    pub(crate) fn run_with(
        &self,
        dir: &Path,
        words: &[&str],
        stdin: &[u8],
        stdout: Box<dyn Write + Send>,
    ) -> Outcome {
        let (out, err) = (Shared::default(), Shared::default());
        let recorder = out.clone();
        let console = Console {
            stdin: Box::new(Cursor::new(stdin.to_vec())),
            stdout: Box::new(Tee(recorder, stdout)),
            stderr: Box::new(err.clone()),
            stdin_terminal: false,
            stdout_terminal: false,
            stderr_terminal: false,
            colour: false,
        };
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let dir = dir.as_os_str().to_owned();
        let env = move |name: &str| (name == "KDELTA_DATA_DIR").then(|| dir.clone());
        let exit = super::run(words, console, self, &env, false);
        Outcome { exit, stdout: out.text(), stderr: err.text() }
    }

    /// The router of the canned answers.
    pub(crate) fn router(&self) -> Router {
        let fake = self.clone();
        Router::new().fallback(move |request: Request| {
            let fake = fake.clone();
            async move { fake.answer(request).await }
        })
    }

    async fn answer(&self, request: Request) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let name = format!("{} {}", parts.method, parts.uri);
        let mut asked = name.clone();
        for header in ["content-type", "idempotency-key", "if-match", "prefer", "accept"] {
            if let Some(value) = parts.headers.get(header) {
                asked.push_str(&format!(" {header}={}", value.to_str().unwrap()));
            }
        }
        if !body.is_empty() {
            asked.push_str(&format!(" {}", String::from_utf8_lossy(&body)));
        }
        self.asked.lock().unwrap().push(asked);
        let known = self.answers.lock().unwrap().get(&name).cloned();
        let (status, body) = known.unwrap_or_else(|| {
            let problem = json!({"code": "not_found", "detail": format!("nothing at {name}")});
            (404, problem.to_string())
        });
        // Status 0 stands for an answer that never ends.
        let (status, body) = match status {
            0 => (
                200,
                Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>()),
            ),
            status => (status, Body::from(body)),
        };
        Response::builder().status(StatusCode::from_u16(status).unwrap()).body(body).unwrap()
    }

    fn opened(&self) -> Result<Opened, OpenError> {
        let mut held = self.held.lock().unwrap();
        if *held > 0 {
            *held -= 1;
            return Err(OpenError::Held);
        }
        let closed = Arc::clone(&self.closed);
        let close = Box::new(move || {
            Box::pin(async move {
                *closed.lock().unwrap() += 1;
                Ok(())
            }) as BoxFuture<'static, _>
        });
        Ok(Opened { router: self.router(), close })
    }
}

impl Host for Fake {
    fn open(&self, _: StoreOptions) -> BoxFuture<'_, Result<Opened, OpenError>> {
        Box::pin(async { self.opened() })
    }

    fn serve(&self, _: StoreOptions, node: NodeOptions) -> BoxFuture<'_, Result<Node, OpenError>> {
        Box::pin(async move {
            Ok(Node {
                opened: self.opened()?,
                replica: "ab".repeat(32),
                listen: vec![node.listen],
                http: None,
                failed: Box::pin(std::future::pending()),
            })
        })
    }

    fn verify(&self, _: &Path, deep: bool) -> BoxFuture<'_, Result<Value, OpenError>> {
        Box::pin(async move {
            self.opened()?;
            let problem = json!({"file": "log/0000000000000001.seg", "offset": 4096,
                "kind": "checksum", "affected": ["user/1", "user/2"]});
            let problems = if deep { vec![problem] } else { vec![] };
            Ok(json!({"ok": !deep, "segments": 1, "commits": 2, "events": 3, "bytes": 4096,
                "recovered": {"clean": true, "replayed_events": 0, "truncated_bytes": 0},
                "problems": problems}))
        })
    }

    fn repair_plan(&self, _: &Path) -> BoxFuture<'_, Result<Value, OpenError>> {
        Box::pin(async { Ok(json!({"would_replace": [], "would_rebuild": []})) })
    }

    fn restore(
        &self,
        _: StoreOptions,
        _: &Path,
        _: bool,
        _: bool,
    ) -> BoxFuture<'_, Result<Value, OpenError>> {
        Box::pin(async { Ok(json!({"replica": "cd".repeat(32)})) })
    }
}

/// Writes to both.
struct Tee(Shared, Box<dyn Write + Send>);

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.write_all(bytes)?;
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.1.flush()
    }
}
