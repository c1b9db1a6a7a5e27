//! Bytes that a script says: openings that claim something, and what is no frame.

use kdelta_engine::base::{CommitId, Rng, SpaceId, Writer};
use kdelta_engine::causal::Tip;
use kdelta_engine::limits::{CHUNK_BYTES_MAX, CONTROL_FRAME_BYTES_MAX};
use kdelta_engine::sync::{Hello, Message, Open, encode};

use super::forge::nowhere;

/// Frame types and the longest body of each (PROTOCOL 2).
const FRAMES: [(u64, usize); 8] = [
    (0, 512),
    (2, 512),
    (4, CONTROL_FRAME_BYTES_MAX),
    (8, CONTROL_FRAME_BYTES_MAX),
    (PUSH, PUSH_MAX),
    (24, 512),
    (30, CONTROL_FRAME_BYTES_MAX),
    (OPTIONAL, CONTROL_FRAME_BYTES_MAX),
];
const PUSH: u64 = 14;
const PUSH_MAX: usize = 33 + CHUNK_BYTES_MAX;
/// An odd type: nobody knows it, and it is to be skipped.
const OPTIONAL: u64 = 33;

/// A hello of the version that everybody speaks.
pub(super) fn hello(rng: &mut Rng) -> Vec<u8> {
    encode(&Message::Hello(Hello::new(rng.bytes(), "script")))
}

/// A hello of versions that nobody speaks.
pub(super) fn strange_hello(rng: &mut Rng) -> Vec<u8> {
    let hello = Hello::new(rng.bytes(), "script");
    encode(&Message::Hello(Hello { version_min: 2, version_max: u16::MAX, ..hello }))
}

/// Opens a session and claims to hold these tips, and that all others differ.
pub(super) fn open(rng: &mut Rng, space: SpaceId, frontier: Vec<Tip>) -> Vec<u8> {
    let (nonce, digest, logs) = (rng.bytes(), Some(rng.bytes()), frontier.len() as u64);
    let (missing, closed) = (Vec::new(), Vec::new());
    encode(&Message::Open(Open {
        space,
        nonce,
        digest,
        logs,
        frontier: Some(frontier),
        missing,
        closed,
    }))
}

/// Everybody's tips, each a thousand commits further on, and some of logs that are nowhere.
pub(super) fn inflated(rng: &mut Rng, theirs: &[Tip]) -> Vec<Tip> {
    let further = |tip: &Tip, rng: &mut Rng| {
        let (seq, id) = (tip.seq + 1000, CommitId(rng.bytes()));
        Tip { seq, id, ..*tip }
    };
    let mut tips: Vec<Tip> = theirs.iter().take(200).map(|tip| further(tip, rng)).collect();
    tips.extend((0..50).map(|n| nowhere(rng, n + 1)));
    tips.sort_unstable_by_key(|tip| tip.log);
    tips
}

/// The head of a frame that is longer than its type allows, and a first piece of its body.
pub(super) fn oversize(rng: &mut Rng) -> Vec<u8> {
    let at = usize::try_from(rng.below(FRAMES.len() as u64)).unwrap_or(0);
    let (kind, max) = FRAMES.get(at).copied().unwrap_or((PUSH, PUSH_MAX));
    let mut bytes = Vec::new();
    bytes.put_varint(kind);
    let by = if rng.below(2) == 0 { 1 } else { rng.u64() >> 1 };
    bytes.put_varint(max as u64 + by);
    bytes.put(&[0; 1024]);
    bytes
}

/// A whole frame that is to be skipped, as long as one may be, and the head of the longest one.
pub(super) fn longest(space: SpaceId) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_varint(OPTIONAL);
    bytes.put_bytes(&vec![0; CONTROL_FRAME_BYTES_MAX]);
    bytes.put_varint(PUSH);
    bytes.put_varint(PUSH_MAX as u64);
    bytes.put(&space.0);
    bytes
}

/// Bytes that mean nothing.
pub(super) fn garbage(rng: &mut Rng) -> Vec<u8> {
    (0..1 + rng.below(64)).flat_map(|_| rng.bytes::<32>()).collect()
}
