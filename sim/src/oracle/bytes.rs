//! Reads and writes the notation of FORMAT section 1, and computes CRC-32.
//!
//! Every reader here refuses what is not the one encoding of a value. It takes memory only for
//! bytes that are there.

use std::sync::Arc;

use kdelta_engine::base::{CommitId, Hash, LogId, ReplicaId, sha256};

/// What is wrong with bytes, in a few words.
pub(super) type Wrong = &'static str;

/// Bytes that are read from the front.
#[derive(Debug, Clone)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let (front, rest) = self.0.split_at_checked(len).ok_or("the bytes end too early")?;
        self.0 = rest;
        Ok(front)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        self.take(N)?.try_into().map_err(|_| "the bytes end too early")
    }

    pub(super) fn u8(&mut self) -> Result<u8, Wrong> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Wrong> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Wrong> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Wrong> {
        self.array().map(u64::from_le_bytes)
    }

    /// LEB128 in shortest form.
    pub(super) fn varint(&mut self) -> Result<u64, Wrong> {
        let mut value: u128 = 0;
        for place in 0..10_u32 {
            let byte = self.u8()?;
            value |= u128::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                if byte == 0 && place > 0 {
                    return Err("a varint is not in its shortest form");
                }
                return u64::try_from(value).map_err(|_| "a varint has more than 64 bits");
            }
        }
        Err("a varint has more than 64 bits")
    }

    /// A count of at most `most`, of things of at least one byte each.
    pub(super) fn count(&mut self, most: usize) -> Result<usize, Wrong> {
        let count = usize::try_from(self.varint()?).map_err(|_| "a count is above its limit")?;
        if count > most {
            return Err("a count is above its limit");
        }
        if count > self.left() { Err("the bytes end too early") } else { Ok(count) }
    }

    pub(super) fn bytes(&mut self, most: usize) -> Result<&'a [u8], Wrong> {
        let len = self.count(most)?;
        self.take(len)
    }

    pub(super) fn id(&mut self) -> Result<CommitId, Wrong> {
        self.array().map(CommitId)
    }

    pub(super) fn log(&mut self) -> Result<LogId, Wrong> {
        Ok(LogId { replica: ReplicaId(self.array()?), incarnation: self.u64()? })
    }

    /// The number that `zigzag(x, base)` stands for.
    pub(super) fn zigzag(&mut self, base: u64) -> Result<u64, Wrong> {
        let coded = self.varint()?;
        let half = coded >> 1;
        Ok(base.wrapping_add(if coded & 1 == 0 { half } else { !half }))
    }

    pub(super) fn end(self) -> Result<(), Wrong> {
        if self.0.is_empty() { Ok(()) } else { Err("bytes are left over") }
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

pub(super) fn put_len(out: &mut Vec<u8>, len: usize) {
    put_varint(out, u64::try_from(len).unwrap_or(u64::MAX));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(super) fn put_log(out: &mut Vec<u8>, log: &LogId) {
    out.extend_from_slice(&log.replica.0);
    out.extend_from_slice(&log.incarnation.to_le_bytes());
}

pub(super) fn shared(bytes: &[u8]) -> Arc<[u8]> {
    bytes.into()
}

/// SHA-256 without a domain.
pub(super) fn sha(parts: &[&[u8]]) -> Hash {
    sha256("", parts)
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0_usize;
    let mut index = 0_u32;
    while at < 256 {
        let (mut value, mut bit) = (index, 0);
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "the loop ends with the table")]
        {
            table[at] = value;
        }
        at += 1;
        index += 1;
    }
    table
}

/// CRC-32 (IEEE), going on from `seed`; a fresh one starts from 0.
pub(super) fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = crc.to_le_bytes();
        let entry = CRC_TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
        entry ^ (crc >> 8)
    };
    !bytes.iter().fold(!seed, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one_and_goes_on() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }

    #[test]
    fn numbers_come_back_and_longer_forms_do_not() {
        for value in [0, 1, 127, 128, 300, u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Bytes(&out).varint(), Ok(value));
        }
        assert!(Bytes(&[0x80, 0]).varint().is_err());
        assert!(Bytes(&[0xff; 11]).varint().is_err());
        assert_eq!(Bytes(&[3]).zigzag(7), Ok(5));
        assert_eq!(Bytes(&[4]).zigzag(u64::MAX), Ok(1));
    }
}
