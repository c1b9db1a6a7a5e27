//! What a sidecar says of one key: the offsets of its records, and its folded state.
//!
//! Small parts lie in the entry, large ones in pieces of their own that are read on demand, so
//! that whoever asks for one part never reads the other (FORMAT 8.3).

use std::ops::Range;
use std::sync::Arc;

use crate::base::{CodecError, Reader, Writer};

use super::block::Block;
use super::piece::{Extent, Output};

/// States up to this many bytes lie in the entry: a get of an ordinary value is one read.
const STATE_NEAR_BYTES: usize = 2048;
/// The same for the encoded list of offsets.
const OFFSETS_NEAR_BYTES: usize = 512;

const ABSENT: u8 = 0;
const NEAR: u8 = 1;
const FAR: u8 = 2;

/// What a sidecar holds of one key. It keeps the block that it lies in (about 8 KiB) in memory.
///
/// Its parts are read by [`Sidecar::state`](super::Sidecar::state) and
/// [`Sidecar::offsets`](super::Sidecar::offsets) of the sidecar that it is from.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(super) block: Arc<Block>,
    /// Where the block lies in the file.
    pub(super) at: u64,
    pub(super) offsets: Part,
    pub(super) state: Part,
}

/// One part of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Absent,
    /// These bytes of the block.
    Near(Range<usize>),
    Far(Extent),
}

impl Entry {
    /// Says whether the folded state was recorded.
    pub fn has_state(&self) -> bool {
        self.state != Part::Absent
    }

    /// Returns the size of the folded state in bytes, without reading it.
    pub fn state_bytes(&self) -> Option<usize> {
        match &self.state {
            Part::Absent => None,
            Part::Near(range) => Some(range.len()),
            Part::Far(extent) => Some(extent.len as usize),
        }
    }

    /// Parses the value that lies at `value` of the block that begins at byte `at` of the file.
    pub(super) fn parse(
        block: Arc<Block>,
        at: u64,
        value: Range<usize>,
    ) -> Result<Self, CodecError> {
        let end = value.end;
        let mut reader = Reader::new(block.bytes(value)?);
        let offsets = parse_part(&mut reader, end)?;
        let state = parse_part(&mut reader, end)?;
        reader.finish()?;
        Ok(Self { block, at, offsets, state })
    }
}

fn parse_part(reader: &mut Reader<'_>, end: usize) -> Result<Part, CodecError> {
    match reader.u8()? {
        ABSENT => Ok(Part::Absent),
        NEAR => {
            let len = reader.bytes(STATE_NEAR_BYTES, "part of an entry")?.len();
            let stop = end - reader.remaining();
            Ok(Part::Near(stop - len..stop))
        }
        FAR => parse_extent(reader).map(Part::Far),
        _ => Err(CodecError::Unknown("part of an entry")),
    }
}

/// Appends the value of an entry to `value`, and its large parts to the file.
pub(super) fn put_value(
    value: &mut Vec<u8>,
    out: &mut Output,
    state: Option<&[u8]>,
    offsets: &[u32],
) {
    let encoded = encode_offsets(offsets);
    let offsets = (!offsets.is_empty()).then_some(encoded.as_slice());
    put_part(value, out, offsets, OFFSETS_NEAR_BYTES);
    put_part(value, out, state, STATE_NEAR_BYTES);
}

fn put_part(value: &mut Vec<u8>, out: &mut Output, part: Option<&[u8]>, near_bytes: usize) {
    match part {
        None => value.put_u8(ABSENT),
        Some(bytes) if bytes.len() <= near_bytes => {
            value.put_u8(NEAR);
            value.put_bytes(bytes);
        }
        Some(bytes) => {
            value.put_u8(FAR);
            put_extent(value, out.piece(bytes));
        }
    }
}

/// Appends where a piece lies; the value of an index entry is just this.
pub(super) fn put_extent(value: &mut Vec<u8>, extent: Extent) {
    value.put_varint(extent.offset);
    value.put_varint(u64::from(extent.len));
}

/// Takes where a piece lies. Whether it lies in the file is checked when it is read.
pub(super) fn parse_extent(reader: &mut Reader<'_>) -> Result<Extent, CodecError> {
    let offset = reader.varint()?;
    let len = u32::try_from(reader.varint()?).map_err(|_| CodecError::TooLarge("piece"))?;
    Ok(Extent { offset, len })
}

/// Offsets ascend, so the first is written whole and of the others what they add.
fn encode_offsets(offsets: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(offsets.len() * 2 + 4);
    let mut last = None;
    for offset in offsets {
        assert!(last < Some(*offset), "offsets of a key ascend strictly");
        bytes.put_varint(u64::from(offset - last.unwrap_or(0)));
        last = Some(*offset);
    }
    bytes
}

/// Returns the offsets that `bytes` encode. They ascend strictly.
pub(super) fn decode_offsets(bytes: &[u8]) -> Result<Vec<u32>, CodecError> {
    let mut reader = Reader::new(bytes);
    // At most what the bytes can hold, and most offsets take two of them.
    let mut offsets = Vec::with_capacity(bytes.len().div_ceil(2));
    let mut last: Option<u32> = None;
    while reader.remaining() > 0 {
        let step = u32::try_from(reader.varint()?).map_err(|_| CodecError::TooLarge("offset"))?;
        if step == 0 && last.is_some() {
            return Err(CodecError::NotCanonical("offsets"));
        }
        let offset = last.unwrap_or(0).checked_add(step).ok_or(CodecError::TooLarge("offset"))?;
        offsets.push(offset);
        last = Some(offset);
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn offsets_round_trip(offsets: std::collections::BTreeSet<u32>) {
            let offsets: Vec<u32> = offsets.into_iter().collect();
            prop_assert_eq!(decode_offsets(&encode_offsets(&offsets)), Ok(offsets));
        }

        #[test]
        fn any_bytes_that_read_as_offsets_are_what_is_written(bytes: Vec<u8>) {
            if let Ok(offsets) = decode_offsets(&bytes) {
                prop_assert_eq!(encode_offsets(&offsets), bytes);
            }
        }
    }
}
