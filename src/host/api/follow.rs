//! Follows a watch for as long as somebody listens, by server-sent events or WebSocket.
//!
//! Who only waits holds no thread: a thread is taken for each slice that is read, and nothing is
//! read before what was read last is on its way. A listener that does not read what it is sent is
//! let go by the server; one that comes back goes on after its last cursor. Where a node stops, a
//! watch ends, and is not cut off.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderValue, Response, header};
use futures_util::stream::unfold;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::watch::Receiver;

use super::backend::Api;
use super::problem::Problem;
use super::render;
use super::shapes::Change;
use super::watch::{Slice, Watch};
use crate::engine::log::Position;
use crate::host::http::Served;
use crate::host::metrics::Running;

/// After so long without a change both ends are made to see whether the line is dead.
const QUIET: Duration = Duration::from_secs(15);
/// Most bytes of a message that a listener may send; whatever it says is not heard.
const HEARD_BYTES_MAX: usize = 4 << 10;
/// What is spoken on a WebSocket.
const PROTOCOL: &str = "kdelta.v1";

/// A watch that goes forward.
pub(super) struct Follow {
    api: Api,
    /// None once it has failed.
    watch: Option<Watch>,
    durable: Receiver<Position>,
    served: Option<Served>,
    _counted: Running,
}

/// What there is to tell.
enum Told {
    Changes(Vec<Change>),
    /// Nothing, for a while.
    Quiet,
}

impl Follow {
    pub(super) fn new(api: Api, watch: Watch, served: Option<Served>) -> Self {
        let replica = api.replica();
        let (durable, counted) = (replica.durable_positions(), replica.requests().watching());
        Self { api, watch: Some(watch), durable, served, _counted: counted }
    }

    /// Waits for what is to be told next; none: it ends.
    async fn next(&mut self) -> Option<Result<Told, Problem>> {
        loop {
            let at = self.watch.as_ref()?.position();
            let moved = self.durable.wait_for(|durable| *durable > at);
            let upto = tokio::select! {
                () = stopping(&mut self.served) => return None,
                moved = tokio::time::timeout(QUIET, moved) => match moved {
                    Ok(moved) => *moved.ok()?,
                    Err(_) => return Some(Ok(Told::Quiet)),
                },
            };
            let watch = self.watch.take()?;
            match self.api.run(move |backend| watch.read(backend, upto)).await {
                Ok((watch, Slice { changes, .. })) => {
                    self.watch = Some(watch);
                    if !changes.is_empty() {
                        return Some(Ok(Told::Changes(changes)));
                    }
                }
                Err(problem) => return Some(Err(problem)),
            }
        }
    }

    /// Answers with server-sent events (HTML, section 9.2).
    pub(super) fn events(self) -> Response<Body> {
        // The caller learns at once that it listens.
        let listening = futures_util::stream::iter([Bytes::from_static(b": listening\n\n")]);
        let told = unfold(self, async |mut follow| {
            let text = match follow.next().await? {
                Ok(Told::Quiet) => Ok(": still here\n\n".to_owned()),
                Ok(Told::Changes(changes)) => changes.iter().map(event).collect(),
                Err(problem) => Err(problem),
            };
            let text = text.unwrap_or_else(|problem| {
                follow.watch = None;
                format!("event: error\ndata: {}\n", problem.line())
            });
            Some((Bytes::from(text), follow))
        });
        let pieces = listening.chain(told).map(Ok::<_, Infallible>);
        let mut response = Response::new(Body::from_stream(pieces));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Answers with a WebSocket (RFC 6455) on which each change is one message of text.
    pub(super) fn socket(self, upgrade: WebSocketUpgrade) -> Response<Body> {
        upgrade
            .protocols([PROTOCOL])
            .max_message_size(HEARD_BYTES_MAX)
            .on_upgrade(move |socket| self.speak(socket))
    }

    async fn speak(mut self, socket: WebSocket) {
        let (mut out, mut heard) = socket.split();
        // Pings are answered below; anything but the end of the line is of no concern.
        let gone = async move { while let Some(Ok(_)) = heard.next().await {} };
        let told = async {
            loop {
                let (messages, end) = match self.next().await {
                    Some(Ok(Told::Quiet)) => (vec![Message::Ping(Bytes::new())], false),
                    Some(Ok(Told::Changes(changes))) => {
                        match changes.iter().map(render).collect() {
                            Ok(texts) => (said(texts), false),
                            Err(problem) => (failed(&problem), true),
                        }
                    }
                    Some(Err(problem)) => (failed(&problem), true),
                    None => (vec![closing(close_code::AWAY, "the node stops")], true),
                };
                for message in messages {
                    if out.send(message).await.is_err() {
                        return;
                    }
                }
                if end {
                    return;
                }
            }
        };
        tokio::select! {
            () = gone => {}
            () = told => {}
        }
    }
}

/// Waits until the server stops; for ever where there is none.
async fn stopping(served: &mut Option<Served>) {
    match served {
        Some(served) => served.stopping().await,
        None => std::future::pending().await,
    }
}

fn event(change: &Change) -> Result<String, Problem> {
    Ok(format!("id: {}\ndata: {}\n\n", change.cursor, render(change)?))
}

fn said(texts: Vec<String>) -> Vec<Message> {
    texts.into_iter().map(|text| Message::Text(Utf8Bytes::from(text))).collect()
}

/// Says why it ends: the last message is an error as lines end with, then the line is closed.
fn failed(problem: &Problem) -> Vec<Message> {
    let line = problem.line().trim_end().to_owned();
    vec![Message::Text(Utf8Bytes::from(line)), closing(close_code::ERROR, "the watch failed")]
}

fn closing(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }))
}
