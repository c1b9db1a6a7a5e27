//! Answers that are lines of JSON, made while they are sent.
//!
//! Nothing of such an answer is held in memory but a few pieces on their way. What fails before
//! the first piece is an ordinary failure; what fails later is the last line,
//! `{"error":{…}}`, so that a cut-off answer is never taken for a whole one.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::Answer;
use super::backend::{Api, Backend};
use super::problem::{Kind, Problem};

/// Bytes that are gathered before they are sent.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that may be on their way.
const PIECES_MAX: usize = 4;

/// What a maker of lines writes to.
pub(super) struct Out {
    sender: mpsc::Sender<Result<Bytes, Problem>>,
    gathered: Vec<u8>,
}

impl Out {
    /// Sends one line.
    ///
    /// # Errors
    /// The caller has gone.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Problem> {
        self.gathered.extend_from_slice(text.as_bytes());
        self.gathered.push(b'\n');
        if self.gathered.len() < PIECE_BYTES { Ok(()) } else { self.send() }
    }

    /// Sends what was gathered.
    pub(super) fn send(&mut self) -> Result<(), Problem> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.gathered));
        self.sender.blocking_send(Ok(piece)).map_err(|_| gone())
    }

    /// Sends bytes as they are, at once.
    pub(super) fn raw(&mut self, text: &str) -> Result<(), Problem> {
        self.gathered.extend_from_slice(text.as_bytes());
        self.send()
    }

    /// Tells whether nobody reads any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

fn gone() -> Problem {
    Problem::new(Kind::Other, "the caller has gone")
}

/// Answers with the lines that `make` writes.
pub(super) async fn stream(
    api: &Api,
    make: impl FnOnce(&Backend, &mut Out) -> Result<(), Problem> + Send + 'static,
) -> Answer {
    stream_as(api, "application/jsonl", make).await
}

/// Answers with what `make` writes, of a media type.
pub(super) async fn stream_as(
    api: &Api,
    kind: &'static str,
    make: impl FnOnce(&Backend, &mut Out) -> Result<(), Problem> + Send + 'static,
) -> Answer {
    let (sender, mut receiver) = mpsc::channel(PIECES_MAX);
    let backend = api.backend();
    tokio::task::spawn_blocking(move || {
        let mut out = Out { sender, gathered: Vec::new() };
        let made = make(&backend, &mut out);
        if let Err(problem) = made.and_then(|()| out.send()) {
            // If the caller has gone there is nobody to tell.
            let _ = out.sender.blocking_send(Err(problem));
        }
    });
    let first = receiver.recv().await.transpose()?;
    let pieces = futures_util::stream::unfold((first, receiver), async |(first, mut receiver)| {
        let piece = match first {
            Some(piece) => Ok(piece),
            None => receiver.recv().await?,
        };
        Some((piece, (None, receiver)))
    });
    let pieces = pieces.map(move |piece: Result<Bytes, Problem>| {
        Ok::<_, Infallible>(piece.unwrap_or_else(|problem| Bytes::from(problem.line())))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
