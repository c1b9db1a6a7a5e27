//! The canonical byte codec: each value has exactly one encoding, and anything else is refused.
//!
//! Integers are little-endian of a fixed width, or LEB128 varints in shortest form. Lengths are
//! checked against what is left of the input before anything is allocated.

use super::{CommitId, Hash, Hlc, LogId, ReplicaId};

/// Why bytes are not the canonical form of anything.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The input ends before the value does.
    #[error("the bytes end too early")]
    Truncated,
    /// A varint is longer than it need be, or above 64 bits.
    #[error("a number is not in its shortest form")]
    Varint,
    /// Bytes are left over.
    #[error("bytes follow the end")]
    Trailing,
    /// A tag, flag or version that this format does not know.
    #[error("unknown {0}")]
    Unknown(&'static str),
    /// A count or length is above its limit.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// A list is not strictly ascending, or a field contradicts another.
    #[error("not canonical: {0}")]
    NotCanonical(&'static str),
}

/// Appends canonical values to a byte vector.
pub trait Writer {
    /// Appends raw bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Appends four bytes.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// Appends eight bytes.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a varint of 1 to 10 bytes.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            #[expect(clippy::cast_possible_truncation, reason = "the low seven bits are meant")]
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 0x80 after the loop")]
        self.put_u8(value as u8);
    }

    /// Appends a length as a varint.
    fn put_len(&mut self, len: usize) {
        self.put_varint(len as u64);
    }

    /// Appends bytes with their length in front.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_len(bytes.len());
        self.put(bytes);
    }

    /// Appends a log id: 32 bytes of replica, 8 of incarnation.
    fn put_log(&mut self, log: &LogId) {
        self.put(&log.replica.0);
        self.put_u64(log.incarnation);
    }
}

impl Writer for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Reads canonical values from the front of a byte slice. Never panics, whatever the bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns how many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`CodecError::Trailing`] if something is.
    pub fn finish(self) -> Result<(), CodecError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing) }
    }

    /// Takes `len` raw bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let (front, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(front)
    }

    /// Takes `N` raw bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (front, rest) = self.rest.split_first_chunk().ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(*front)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(|[byte]| byte)
    }

    /// Takes four bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes eight bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a varint in shortest form.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] or [`CodecError::Varint`].
    pub fn varint(&mut self) -> Result<u64, CodecError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 || shift > 0 && byte == 0 {
                return Err(CodecError::Varint);
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(CodecError::Varint)
    }

    /// Takes a count of things that are at least `size_min` bytes each, at most `max` of them.
    ///
    /// What it returns fits into the rest of the input, so it is safe to allocate for.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] names `what` if the count is above `max`.
    pub fn count(
        &mut self,
        max: usize,
        size_min: usize,
        what: &'static str,
    ) -> Result<usize, CodecError> {
        let count = usize::try_from(self.varint()?).map_err(|_| CodecError::TooLarge(what))?;
        if count > max {
            return Err(CodecError::TooLarge(what));
        }
        if count.saturating_mul(size_min) > self.remaining() {
            return Err(CodecError::Truncated);
        }
        Ok(count)
    }

    /// Takes bytes with their length in front, at most `max` of them.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] names `what`.
    pub fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
        let len = self.count(max, 1, what)?;
        self.take(len)
    }

    /// Takes a hash.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn hash(&mut self) -> Result<Hash, CodecError> {
        self.array()
    }

    /// Takes a commit id.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn commit_id(&mut self) -> Result<CommitId, CodecError> {
        self.array().map(CommitId)
    }

    /// Takes a log id.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn log(&mut self) -> Result<LogId, CodecError> {
        Ok(LogId { replica: ReplicaId(self.array()?), incarnation: self.u64()? })
    }

    /// Takes a stamp of eight bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn hlc(&mut self) -> Result<Hlc, CodecError> {
        self.u64().map(Hlc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_has_one_encoding(value: u64) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_that_read_as_a_varint_are_what_is_written(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let mut again = Vec::new();
                again.put_varint(value);
                prop_assert_eq!(again.as_slice(), &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }

    #[test]
    fn longer_forms_of_a_number_are_refused() {
        for bytes in [&[0x80, 0x00][..], &[0x85, 0x80, 0x00], &[0xff; 10], &[0x80; 11]] {
            assert_eq!(Reader::new(bytes).varint(), Err(CodecError::Varint), "{bytes:?}");
        }
        assert_eq!(Reader::new(&[0x80]).varint(), Err(CodecError::Truncated));
    }

    #[test]
    fn a_length_is_checked_before_it_is_believed() {
        let mut bytes = Vec::new();
        bytes.put_varint(u64::MAX);
        assert_eq!(Reader::new(&bytes).bytes(1 << 20, "x"), Err(CodecError::TooLarge("x")));
        let mut bytes = Vec::new();
        bytes.put_varint(1000);
        assert_eq!(Reader::new(&bytes).count(4096, 2, "x"), Err(CodecError::Truncated));
    }
}
