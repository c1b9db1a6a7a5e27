//! Chunks larger than a frame travel in parts.
//!
//! Only a chunk that is one large commit is ever cut. Parts of one chunk follow each other within
//! their kind (`Chunk` or `Push`) and space; other messages may come between.

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
    let count = chunk.len().div_ceil(CHUNK_BYTES_MAX);
    let pieces = chunk.chunks(CHUNK_BYTES_MAX).enumerate();
    pieces.map(|(at, piece)| (piece.to_vec(), at + 1 < count)).collect()
}

/// Puts the parts of one stream of chunks together again.
///
/// Memory: at most one chunk. A peer pays for what it makes us hold: all of it was sent.
#[derive(Debug, Default)]
pub struct Reassembly {
    held: Vec<u8>,
    open: bool,
}

impl Reassembly {
    /// Tells whether a chunk is begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Takes one part and returns the chunk that it completes.
    ///
    /// # Errors
    /// [`PartsError`]: the connection is of no use any more.
    pub fn part(&mut self, bytes: Vec<u8>, more: bool) -> Result<Option<Vec<u8>>, PartsError> {
        if self.held.len().saturating_add(bytes.len()) > CHUNK_WHOLE_BYTES_MAX {
            return Err(PartsError::TooLarge);
        }
        self.open = more;
        if self.held.is_empty() && !more {
            return Ok(Some(bytes));
        }
        self.held.extend_from_slice(&bytes);
        Ok((!more).then(|| std::mem::take(&mut self.held)))
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
            let mut done = Vec::new();
            for (bytes, more) in pieces {
                assert!(bytes.len() <= CHUNK_BYTES_MAX);
                done.extend(whole.part(bytes, more).expect("within the limit"));
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
            assert_eq!(whole.part(part.clone(), true), Ok(None));
        }
        assert_eq!(whole.part(part, true), Err(PartsError::TooLarge));
    }
}
