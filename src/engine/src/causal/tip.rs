//! The name of a commit by its place and its hash.

use crate::base::{CodecError, CommitId, LogId, Reader, Writer};
use crate::limits;

/// A commit, named by its log, its seq there and its id; often the last one known of that log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tip {
    /// The log that the commit is in.
    pub log: LogId,
    /// Its number in that log, from 1.
    pub seq: u64,
    /// The hash of its header.
    pub id: CommitId,
}

impl Tip {
    /// Fewest bytes that the canonical form takes.
    pub const BYTES_MIN: usize = 40 + 1 + 32;

    /// Appends the canonical form: log, seq, id.
    pub fn encode(&self, out: &mut impl Writer) {
        out.put_log(&self.log);
        out.put_varint(self.seq);
        out.put(&self.id.0);
    }

    /// Takes the canonical form.
    ///
    /// # Errors
    /// [`CodecError`], also for a seq that no commit can have.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let tip = Self { log: reader.log()?, seq: reader.varint()?, id: reader.commit_id()? };
        check_seq(tip.seq)?;
        Ok(tip)
    }
}

/// Checks that a commit can have this seq.
pub(crate) fn check_seq(seq: u64) -> Result<(), CodecError> {
    match seq {
        0 => Err(CodecError::NotCanonical("seqs start at 1")),
        1..=limits::SEQ_MAX => Ok(()),
        _ => Err(CodecError::TooLarge("seq")),
    }
}
