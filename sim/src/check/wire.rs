//! What goes over a connection keeps to the bounds of the protocol, byte by byte and chunk by
//! chunk.
//!
//! A frame that says to be longer than any may be is the end of its connection, before any more of
//! it comes and whatever it is about. Who sends commits begins no chunk while as many bytes as the
//! window holds are not given back. Where frames begin and end is followed here, as PROTOCOL has
//! it, and not by the engine's decoder.

use kdelta_engine::base::Reader;
use kdelta_engine::limits::{CREDIT_WINDOW_BYTES, FRAME_BYTES_MAX};
use kdelta_engine::node::LinkId;
use kdelta_engine::sync::{Decoder, Message};

use super::Broken;
use crate::world::World;

/// What came of a stream of frames so far.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// What is there of the head of the next frame.
    head: Vec<u8>,
    /// How many bytes are still to come of the frame before.
    rest: u64,
    /// How long a frame said to be that is too long.
    too_long: Option<u64>,
    /// A head that is none was met: nobody knows where frames begin.
    lost: bool,
}

impl Frames {
    /// Follows the stream on.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost && self.too_long.is_none() {
            let skipped = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
            self.rest -= skipped as u64;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((first, others)) = bytes.split_first() else { return };
            (bytes, self.rest) = (others, 0);
            self.head.push(*first);
            let mut reader = Reader::new(&self.head);
            if let (Ok(_), Ok(len)) = (reader.varint(), reader.varint()) {
                self.head.clear();
                self.rest = len;
                self.too_long = (len > FRAME_BYTES_MAX as u64).then_some(len);
            }
            self.lost = self.head.len() > HEAD_BYTES_MAX;
        }
    }
}

/// What one side of a connection has sent of commits.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    bytes: u64,
    /// In the middle of a chunk: it may be sent to its end.
    within: bool,
}

impl Flight {
    /// Takes note of a frame that is sent; returns how much was on its way when a chunk was begun
    /// that had to wait.
    fn send(&mut self, message: &Message) -> Option<u64> {
        let more = match message {
            Message::Chunk { more, .. } | Message::Push { more, .. } => *more,
            _ => return None,
        };
        let begins = !std::mem::replace(&mut self.within, more);
        let before = self.bytes;
        self.bytes += message.commit_bytes() as u64;
        (begins && before >= CREDIT_WINDOW_BYTES).then_some(before)
    }
}

impl World {
    /// Checks that a connection is given up on which a frame says to be too long.
    /// Even a farewell waits for what is being synced.
    pub(crate) fn check_frames(&mut self, at: usize, link: LinkId, side: usize, bytes: &[u8]) {
        let node = self.seats.get(at).and_then(|seat| seat.node.as_ref());
        let all = node.is_some_and(|n| n.store_ref().durable() == n.store_ref().written());
        let Some(frames) = self.frames(link, side) else { return };
        frames.follow(bytes);
        if let Some(len) = frames.too_long
            && all
        {
            let seen = format!("seat {at} waits for the {len} bytes of a frame");
            self.facts.broken = Some(Broken::new("a peer costs a bounded amount", seen));
        }
    }

    /// Checks that a replica sends no commits without credit. A grant of this side's is credit for
    /// the other one.
    pub(crate) fn check_credit(&mut self, at: usize, link: LinkId, side: usize, bytes: &[u8]) {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        let Ok(Some(message)) = decoder.next() else { return };
        if let Message::Grant { bytes } = message {
            if let Some(other) = self.flight(link, 1 - side) {
                other.bytes = other.bytes.saturating_sub(bytes);
            }
            return;
        }
        let Some(flight) = self.flight(link, side) else { return };
        if let Some(before) = flight.send(&message) {
            let seen = format!("seat {at} has {before} bytes on their way, and sends on");
            self.facts.broken = Some(Broken::new("commits wait for credit", seen));
        }
    }
}

/// A head has two numbers.
const HEAD_BYTES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_too_long_is_met_wherever_the_stream_is_cut() {
        let mut stream = vec![2, 3, 9, 9, 9, 33, 0];
        let heads = [2, 0, 14, 0xff, 0xff, 0xff, 0x7f];
        stream.extend_from_slice(&heads);
        for cut in 1..stream.len() {
            let mut frames = Frames::default();
            let (first, second) = stream.split_at(cut);
            frames.follow(first);
            assert_eq!(frames.too_long, None, "{cut}");
            frames.follow(second);
            assert_eq!(frames.too_long, Some((1 << 28) - 1), "{cut}");
        }
    }

    #[test]
    fn what_is_no_head_ends_the_count() {
        let mut frames = Frames::default();
        frames.follow(&[0xff; 64]);
        assert!(frames.lost && frames.too_long.is_none());
    }
}
