//! Chunks larger than a frame travel in parts.
//!
//! Only a chunk that is one large commit is ever cut. Parts of one chunk follow each other within
//! their kind (`Chunk` or `Push`) and space; other messages may come between. Where the parts wait
//! for the last one is the driver's business: many peers may send large commits at once.

use crate::limits::{CHUNK_BYTES_MAX, CHUNK_WHOLE_BYTES_MAX};

/// Why parts do not make a chunk.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// The chunk would be larger than [`CHUNK_WHOLE_BYTES_MAX`].
    #[error("a chunk has at most {max} bytes", max = CHUNK_WHOLE_BYTES_MAX)]
    TooLarge,
}

/// Cuts a chunk into pairs of (bytes, more follow). An empty chunk gives one empty part.
///
/// Cost: a chunk that needs no cut is moved, not copied.
pub fn parts(chunk: Vec<u8>) -> Vec<(Vec<u8>, bool)> {
    assert!(chunk.len() <= CHUNK_WHOLE_BYTES_MAX, "a chunk is at most CHUNK_WHOLE_BYTES_MAX");
    if chunk.len() <= CHUNK_BYTES_MAX {
        return vec![(chunk, false)];
    }
    sometimes!("sync-chunk-in-parts");
    let count = chunk.len().div_ceil(CHUNK_BYTES_MAX);
    let pieces = chunk.chunks(CHUNK_BYTES_MAX).enumerate();
    pieces.map(|(at, piece)| (piece.to_vec(), at + 1 < count)).collect()
}

/// What came in of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole(Vec<u8>),
    /// A part, to be put beside the others until the last has come.
    Part {
        /// The bytes.
        bytes: Vec<u8>,
        /// Where in the chunk they begin; 0 begins a new one.
        offset: usize,
        /// Whether the chunk is complete with it.
        last: bool,
    },
}

/// Tells where in its chunk each part of one stream belongs. Keeps none of them.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// How many bytes of an unfinished chunk came in.
    len: usize,
}

impl Reassembly {
    /// Tells whether a chunk is begun and not ended.
    pub fn is_open(&self) -> bool {
        self.len > 0
    }

    /// Takes one part.
    ///
    /// # Errors
    /// [`PartsError`]: the connection is of no use any more.
    pub fn part(&mut self, bytes: Vec<u8>, more: bool) -> Result<Piece, PartsError> {
        let (offset, end) = (self.len, self.len.saturating_add(bytes.len()));
        if end > CHUNK_WHOLE_BYTES_MAX {
            return Err(PartsError::TooLarge);
        }
        self.len = if more { end } else { 0 };
        Ok(match (offset, more) {
            (0, false) => Piece::Whole(bytes),
            _ => Piece::Part { bytes, offset, last: !more },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_survives_its_parts() {
        for len in [0, 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 3 * CHUNK_BYTES_MAX] {
            let chunk: Vec<u8> = (0..=250).cycle().take(len).collect();
            let mut whole = Reassembly::default();
            let pieces = parts(chunk.clone());
            assert_eq!(pieces.len(), len.div_ceil(CHUNK_BYTES_MAX).max(1));
            let (mut spool, mut done) = (Vec::new(), Vec::new());
            for (bytes, more) in pieces {
                assert!(bytes.len() <= CHUNK_BYTES_MAX);
                match whole.part(bytes, more).expect("within the limit") {
                    Piece::Whole(bytes) => done.push(bytes),
                    Piece::Part { bytes, offset, last } => {
                        assert_eq!(offset, spool.len());
                        spool.extend(bytes);
                        done.extend(last.then(|| std::mem::take(&mut spool)));
                    }
                }
            }
            assert_eq!(done, [chunk]);
            assert!(!whole.is_open());
        }
    }

    #[test]
    fn an_endless_chunk_is_refused() {
        let mut whole = Reassembly::default();
        let part = vec![0; CHUNK_BYTES_MAX];
        for _ in 0..CHUNK_WHOLE_BYTES_MAX / CHUNK_BYTES_MAX {
            assert!(matches!(whole.part(part.clone(), true), Ok(Piece::Part { .. })));
        }
        assert_eq!(whole.part(part, true), Err(PartsError::TooLarge));
    }
}
