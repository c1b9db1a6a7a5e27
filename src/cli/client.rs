//! One way to speak to a replica: HTTP requests, whoever answers them.
//!
//! Behind [`Api`] is either a node on its local socket or a router in this very process over a
//! store that the command opened. Commands cannot tell which, so both print the same.
//! A request is sent once. If the far end dies after it was sent, nobody knows whether it was
//! carried out, and the failure says so: nothing is sent again behind the user's back.

use std::path::Path;
use std::sync::Mutex;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tower::ServiceExt as _;

use super::failure::Failure;
use super::local::Opened;

/// Whoever answers requests.
pub(crate) trait Api: Send + Sync {
    /// Sends one request; the body of the answer may still be arriving.
    fn send(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Body>, Failure>>;

    /// Lets go of the far end; a store that was opened here is closed in order.
    fn close(&self) -> BoxFuture<'_, Result<(), Failure>>;

    /// Returns the router of a store that was opened here.
    fn router(&self) -> Option<axum::Router>;
}

/// A request being built.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    target: String,
    asked: bool,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    /// Starts a request to `path`, which is percent-encoded already.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        let headers = HeaderMap::new();
        Self { method, target: path.into(), asked: false, headers, body: Body::empty() }
    }

    /// Adds `name=value` to the query.
    #[must_use]
    pub(crate) fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.target.push(if self.asked { '&' } else { '?' });
        self.asked = true;
        self.target.push_str(name);
        self.target.push('=');
        self.target.push_str(&encode(value.as_ref(), |_| false));
        self
    }

    /// Adds `name=value` to the query if there is a value.
    #[must_use]
    pub(crate) fn query_if(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds `name=true` to the query if `set`.
    #[must_use]
    pub(crate) fn flag(self, name: &str, set: bool) -> Self {
        if set { self.query(name, "true") } else { self }
    }

    /// Adds a header.
    ///
    /// # Errors
    /// A usage failure if a header cannot carry `value`.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self, Failure> {
        let value = value
            .parse()
            .map_err(|_| Failure::usage(format!("{value:?} does not fit the header {name}")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sets a body of JSON text.
    #[must_use]
    pub(crate) fn json(self, text: impl Into<String>) -> Self {
        self.body("application/json", Body::from(text.into()))
    }

    /// Sets a body of `kind`.
    #[must_use]
    pub(crate) fn body(mut self, kind: &'static str, body: Body) -> Self {
        self.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        self.body = body;
        self
    }

    fn into_request(self) -> Result<Request<Body>, Failure> {
        let mut request = Request::builder().method(self.method).uri(self.target);
        if let Some(headers) = request.headers_mut() {
            *headers = self.headers;
            // HTTP/1.1 wants one; a socket has no name of its own.
            headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
        }
        request.body(self.body).map_err(|error| {
            Failure::usage(format!("the request cannot be spelled as HTTP: {error}"))
        })
    }
}

/// A whole answer that is no error.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 200, 201, 202…
    pub(crate) status: StatusCode,
    /// The JSON text.
    pub(crate) text: String,
}

impl Answer {
    /// Reads the JSON into `T`.
    ///
    /// # Errors
    /// A failure that names the version mismatch which is the likely cause.
    pub(crate) fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.text).map_err(|error| {
            Failure::other(format!("the node's answer cannot be read: {error}"))
                .hint("Check that node and command have one version: kdelta --version")
        })
    }
}

/// Sends `call` and waits for the whole answer.
///
/// # Errors
/// What the API answered, as a failure; or that nobody answered.
pub(crate) async fn call(api: &dyn Api, call: Call) -> Result<Answer, Failure> {
    let response = open(api, call).await?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| lost(&error))?.to_bytes();
    let text = String::from_utf8(body.into())
        .map_err(|_| Failure::other("the node's answer is not UTF-8"))?;
    Ok(Answer { status, text: text.trim_end().to_owned() })
}

/// Sends `call` and returns the lines of the answer as they come.
///
/// # Errors
/// As [`call`].
pub(crate) async fn lines(api: &dyn Api, call: Call) -> Result<Lines, Failure> {
    let body = open(api, call).await?.into_body();
    Ok(Lines { body, buffer: Vec::new(), start: 0, ended: false })
}

async fn open(api: &dyn Api, call: Call) -> Result<Response<Body>, Failure> {
    let response = api.send(call.into_request()?).await?;
    if response.status().is_client_error() || response.status().is_server_error() {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| lost(&error))?;
        return Err(Failure::from_answer(status, &body.to_bytes()));
    }
    Ok(response)
}

/// The lines of an answer, without their newlines.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Lines {
    /// Returns the next line, or nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut searched = self.start;
        loop {
            let rest = self.buffer.get(searched..).unwrap_or_default();
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let end = searched + length;
                let line = self.buffer.get(self.start..end).unwrap_or_default().to_vec();
                self.start = end + 1;
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if self.ended {
                let line = self.buffer.split_off(self.start.min(searched));
                self.buffer.clear();
                self.start = 0;
                return Ok((!line.is_empty()).then_some(line));
            }
            if self.start > 0 {
                self.buffer.drain(..self.start);
                searched -= self.start;
                self.start = 0;
            }
            match self.piece().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => self.ended = true,
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(lost(&error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// The far end vanished with an answer outstanding.
fn lost(error: &dyn std::fmt::Display) -> Failure {
    Failure::unavailable(format!("the node went away before its answer was complete ({error})"))
        .with("outcome", "unknown")
        .hint("Whether the request was carried out is unknown: look, then repeat it if needed")
}

/// A node on its local socket.
#[derive(Debug)]
pub(crate) struct SocketApi {
    path: std::path::PathBuf,
    /// The connection by which the node was found; it carries the first request.
    found: Mutex<Option<UnixStream>>,
}

impl SocketApi {
    /// Returns the node that listens at `path`, if one does.
    pub(crate) async fn find(path: &Path) -> Option<Self> {
        let found = UnixStream::connect(path).await.ok()?;
        Some(Self { path: path.to_owned(), found: Mutex::new(Some(found)) })
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let found = self.found.lock().ok().and_then(|mut found| found.take());
        let stream = match found {
            Some(stream) => stream,
            None => UnixStream::connect(&self.path).await.map_err(|error| gone(&error))?,
        };
        exchange(stream, request).await
    }
}

/// The far end went away before anything was sent.
fn gone(error: &dyn std::fmt::Display) -> Failure {
    Failure::unavailable(format!("the node stopped answering ({error})"))
        .hint("Nothing was sent: run the command again")
}

/// Sends one request over a connection of its own.
pub(super) async fn exchange<S>(
    stream: S,
    request: Request<Body>,
) -> Result<Response<Body>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = connection.await.map_err(|error| gone(&error))?;
    // Ends with the connection, which ends with the sender or the body of the answer.
    tokio::spawn(connection);
    match sender.send_request(request).await {
        Ok(response) => Ok(response.map(Body::new)),
        Err(error) if error.is_canceled() => Err(gone(&error)),
        Err(error) => Err(lost(&error)),
    }
}

impl Api for SocketApi {
    fn send(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Body>, Failure>> {
        Box::pin(self.exchange(request))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn router(&self) -> Option<axum::Router> {
        None
    }
}

/// A router in this process.
pub(crate) struct LocalApi {
    router: axum::Router,
    close: Mutex<Option<super::local::Close>>,
}

impl LocalApi {
    /// Speaks to what was opened.
    pub(crate) fn new(opened: Opened) -> Self {
        Self { router: opened.router, close: Mutex::new(Some(opened.close)) }
    }
}

impl Api for LocalApi {
    fn send(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Body>, Failure>> {
        let answer = self.router.clone().oneshot(request);
        Box::pin(async {
            match answer.await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Failure>> {
        let close = self.close.lock().ok().and_then(|mut close| close.take());
        Box::pin(async {
            match close {
                Some(close) => close().await,
                None => Ok(()),
            }
        })
    }

    fn router(&self) -> Option<axum::Router> {
        Some(self.router.clone())
    }
}

/// Percent-encodes `text` for a path or a query, except what `keep` says and what never needs it.
pub(crate) fn encode(text: &str, keep: impl Fn(usize) -> bool) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep(at) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Percent-encodes a key as the rest of a path. A `/` stays where it plainly divides two parts.
pub(crate) fn encode_key(key: &str) -> String {
    let bytes = key.as_bytes();
    let divides = |at: usize| {
        let apart = |at: Option<usize>| {
            at.and_then(|at| bytes.get(at)).is_some_and(|byte| !b"/.".contains(byte))
        };
        bytes.get(at) == Some(&b'/') && apart(at.checked_sub(1)) && apart(at.checked_add(1))
    };
    encode(key, divides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_path() {
        assert_eq!(encode_key("user/1/name"), "user/1/name");
        assert_eq!(encode_key("/a//b/"), "%2Fa%2F%2Fb%2F");
        assert_eq!(encode_key("a/../b"), "a%2F..%2Fb");
        assert_eq!(encode_key("ä b?c#d%"), "%C3%A4%20b%3Fc%23d%25");
    }

    #[test]
    fn a_query_is_encoded_whole() {
        let call = Call::new(Method::GET, "/v1/x").query("at", "2026-01-01T00:00:00+01:00");
        assert_eq!(call.target, "/v1/x?at=2026-01-01T00%3A00%3A00%2B01%3A00");
        assert_eq!(
            call.flag("a", true).flag("b", false).target.split_once('&').unwrap().1,
            "a=true"
        );
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_pieces_end() {
        for size in 1..12 {
            let text = b"one\n\ntwo\nlast";
            let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
                text.chunks(size).map(|piece| Ok(piece.to_vec())).collect();
            let body = Body::from_stream(futures_util::stream::iter(pieces));
            let mut lines = Lines { body, buffer: Vec::new(), start: 0, ended: false };
            let mut seen = Vec::new();
            while let Some(line) = lines.next().await.unwrap() {
                seen.push(String::from_utf8(line).unwrap());
            }
            assert_eq!(seen, ["one", "", "two", "last"], "pieces of {size}");
        }
    }
}
