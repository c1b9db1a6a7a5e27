//! Frames: (type varint, length varint, body), and their incremental decoder.
//!
//! A length is checked against the limit of its type before anything is kept for it, so a peer
//! makes us hold one frame and what the caller pushes at a time, no more. Frames of unknown
//! optional (odd) types are skipped without being kept.

use super::Message;
use super::wire::{
    COMMITS_HEAD_BYTES, body_bytes_max, is_known, kind_of, name_of, put_body, read_body,
};
use crate::base::{CodecError, Reader, Writer};
use crate::limits::{CHUNK_BYTES_MAX, CONTROL_FRAME_BYTES_MAX};

/// Why bytes are not a stream of frames. The stream is of no use any more; close the connection
/// with [`Code::PROTOCOL`](super::Code::PROTOCOL).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame type that must be understood and is not: the peer uses a newer protocol than was
    /// agreed on.
    #[error("unknown frame type {0}, which must be understood")]
    UnknownType(u64),
    /// A frame is longer than its type allows.
    #[error("a frame of type {kind} with {len} bytes, at most {max} are allowed")]
    TooLong {
        /// The frame type.
        kind: u64,
        /// What the frame says.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// The head of a frame is not canonical.
    #[error("the head of a frame is broken")]
    Head(#[source] CodecError),
    /// The body of a frame is not canonical.
    #[error("the body of a frame of type {kind} is broken")]
    Body {
        /// The frame type.
        kind: u64,
        /// What is wrong.
        #[source]
        source: CodecError,
    },
}

/// Returns the frame of a message.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.commit_bytes() + 64);
    encode_into(message, &mut out);
    out
}

/// Returns what the message is called whose frame these bytes begin with.
pub fn frame_name(bytes: &[u8]) -> &'static str {
    Reader::new(bytes).varint().map_or("broken", name_of)
}

/// Appends the frame of a message.
pub fn encode_into(message: &Message, out: &mut Vec<u8>) {
    let (kind, commit_bytes) = (kind_of(message), message.commit_bytes());
    let max = body_bytes_max(kind).unwrap_or_default();
    out.put_varint(kind);
    if commit_bytes > 0 {
        assert!(commit_bytes <= CHUNK_BYTES_MAX, "larger chunks are cut by `parts`");
        // Of known length, so written in place: the space, a flag byte, the commits.
        out.put_len(COMMITS_HEAD_BYTES + commit_bytes);
        put_body(out, message);
    } else {
        let mut body = Vec::new();
        put_body(&mut body, message);
        assert!(body.len() <= max, "lists of ours are kept below their limits");
        out.put_bytes(&body);
    }
}

/// Returns the length of a message's frame.
pub(super) fn frame_bytes(message: &Message) -> usize {
    let commit_bytes = message.commit_bytes();
    if commit_bytes == 0 {
        return encode(message).len();
    }
    let body = COMMITS_HEAD_BYTES + commit_bytes;
    let mut head = Vec::with_capacity(20);
    head.put_varint(kind_of(message));
    head.put_len(body);
    head.len() + body
}

/// Finds the messages in a stream of bytes that comes in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Where the first byte that is not consumed lies.
    at: usize,
    /// How many bytes of a skipped frame are still to come.
    skip: usize,
    /// Set once; the position in the stream is lost then.
    failed: Option<FrameError>,
}

impl Decoder {
    /// Takes the next bytes of the stream; then call [`Self::next`] until it returns none.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.at == self.bytes.len() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > CONTROL_FRAME_BYTES_MAX {
            // A connection that is idle after a large frame does not keep its memory.
            self.bytes = Vec::new();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns how many bytes are kept for a frame that is not complete.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Returns the next message, or none until more bytes are pushed.
    ///
    /// # Errors
    /// [`FrameError`], and the same from then on.
    #[expect(clippy::should_implement_trait, reason = "it fails, and goes on after none")]
    pub fn next(&mut self) -> Result<Option<Message>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.advance();
        if let Err(error) = result {
            *self = Self { failed: Some(error), ..Self::default() };
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Message>, FrameError> {
        loop {
            let skipped = self.skip.min(self.pending());
            self.skip -= skipped;
            self.at += skipped;
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(head) = head(rest)? else { return Ok(None) };
            if !is_known(head.kind) {
                sometimes!("sync-unknown-frame-skipped");
                self.at += head.bytes;
                self.skip = head.len;
                continue;
            }
            let Some(body) = rest.get(head.bytes..head.bytes + head.len) else {
                return Ok(None);
            };
            let message = read_body(head.kind, body)
                .map_err(|source| FrameError::Body { kind: head.kind, source })?;
            self.at += head.bytes + head.len;
            return Ok(Some(message));
        }
    }
}

struct Head {
    kind: u64,
    /// Length of the body.
    len: usize,
    /// Length of the head itself.
    bytes: usize,
}

/// Reads the head of a frame; none if it is not complete yet.
fn head(bytes: &[u8]) -> Result<Option<Head>, FrameError> {
    let mut reader = Reader::new(bytes);
    let kind = match reader.varint() {
        Ok(kind) => kind,
        Err(CodecError::Truncated) => return Ok(None),
        Err(error) => return Err(FrameError::Head(error)),
    };
    let max = body_bytes_max(kind).ok_or(FrameError::UnknownType(kind))?;
    let len = match reader.varint() {
        Ok(len) => len,
        Err(CodecError::Truncated) => return Ok(None),
        Err(error) => return Err(FrameError::Head(error)),
    };
    match usize::try_from(len) {
        Ok(fits) if fits <= max || mutant!("frame-limit-unread") => {
            Ok(Some(Head { kind, len: fits, bytes: bytes.len() - reader.remaining() }))
        }
        _ => Err(FrameError::TooLong { kind, len, max }),
    }
}
