//! The frame around every record of a segment (FORMAT 7.2).
//!
//! `crc32 (4) | check (2) | kind (1) | length of the body (varint, 1 to 4) | body`. The CRC covers
//! kind, length and body; it starts from the segment's seed and the record's offset, so bytes of
//! another store, segment, life of a file or place never validate. The check is 16 bits over kind
//! and length alone: it keeps a damaged length from being believed, and lets a reader look for the
//! next record byte by byte without checksumming megabytes at each.

use crc32fast::Hasher;

use crate::base::{Reader, Writer as _};
use crate::limits;

/// What a record is. Kinds below [`RecordKind::CALLER_MIN`] belong to the log itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind(pub u8);

impl RecordKind {
    /// The lowest kind that a caller may use.
    pub const CALLER_MIN: u8 = 0x10;
    /// Names what later records of the same segment speak of: where those are moved, all names
    /// that their segment holds are written before them.
    pub const NAMES: Self = Self(0x10);
    /// Closes a group of records.
    pub(super) const GROUP: Self = Self(1);
    /// Closes a segment.
    pub(super) const SEAL: Self = Self(2);

    /// Tells whether records of this kind are handed to callers.
    pub fn is_callers(self) -> bool {
        self.0 >= Self::CALLER_MIN
    }
}

/// Where the checksums of a segment start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seed(u32);

impl Seed {
    /// Derives the seed of a segment file.
    pub(super) fn new(store: &[u8; 16], file: u64, salt: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(store);
        hasher.update(&file.to_le_bytes());
        hasher.update(&salt.to_le_bytes());
        Self(hasher.finalize())
    }

    /// The value that the chain of record checksums starts from.
    pub(super) fn chain(self) -> u32 {
        self.0
    }

    fn head(self, offset: u32, kind_and_len: &[u8]) -> Hasher {
        let (seed, offset) =
            if mutant!("checksum-without-place") { (0, 0) } else { (self.0, offset) };
        let mut hasher = Hasher::new_with_initial(seed);
        hasher.update(&offset.to_le_bytes());
        hasher.update(kind_and_len);
        hasher
    }
}

/// Longest frame around a body, in bytes.
pub(super) const HEAD_BYTES_MAX: u32 = 11;
/// Bytes in front of the kind.
const CHECKS: usize = 6;

/// The front of a record whose check holds; whether the body does is not known yet.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// The kind.
    pub(super) kind: RecordKind,
    /// Bytes before the body.
    pub(super) head_bytes: u32,
    /// Bytes of the body.
    pub(super) body_bytes: u32,
    /// The checksum that the record claims.
    pub(super) crc: u32,
    hasher: Hasher,
}

impl Head {
    /// Reads the front of the record at `offset`. `bytes` start there and may end anywhere.
    ///
    /// None if the check fails, the kind is unknown or the length is above the limit.
    pub(super) fn read(seed: Seed, offset: u32, bytes: &[u8]) -> Option<Self> {
        let kind = RecordKind(*bytes.get(CHECKS)?);
        let known = [RecordKind::GROUP, RecordKind::SEAL].contains(&kind) || kind.is_callers();
        if !known {
            return None;
        }
        let mut reader = Reader::new(bytes);
        let crc = reader.u32().ok()?;
        let check: [u8; 2] = reader.array().ok()?;
        reader.u8().ok()?;
        let body_bytes = u32::try_from(reader.varint().ok()?).ok()?;
        if body_bytes as usize > limits::RECORD_BYTES_MAX {
            return None;
        }
        let head_bytes = bytes.len() - reader.remaining();
        let hasher = seed.head(offset, bytes.get(CHECKS..head_bytes)?);
        if fold(hasher.clone().finalize()) != check {
            return None;
        }
        let head_bytes = u32::try_from(head_bytes).ok()?;
        Some(Self { kind, head_bytes, body_bytes, crc, hasher })
    }

    /// Returns the bytes of the whole record.
    pub(super) fn total(&self) -> u32 {
        self.head_bytes + self.body_bytes
    }

    /// Tells whether `body` is what was written.
    pub(super) fn matches(&self, body: &[u8]) -> bool {
        let mut hasher = self.hasher.clone();
        hasher.update(body);
        body.len() == self.body_bytes as usize && hasher.finalize() == self.crc
    }
}

/// Returns the bytes that a record with a body of `body_bytes` takes.
pub(super) fn framed(body_bytes: usize) -> usize {
    let mut len_bytes = 1;
    while body_bytes >> (7 * len_bytes) > 0 {
        len_bytes += 1;
    }
    CHECKS + 1 + len_bytes + body_bytes
}

/// Appends the record that starts at `offset` of its segment, and returns its checksum.
pub(super) fn write(
    out: &mut Vec<u8>,
    seed: Seed,
    offset: u32,
    kind: RecordKind,
    body: &[u8],
) -> u32 {
    assert!(body.len() <= limits::RECORD_BYTES_MAX, "callers check the length of a record");
    let mut head = Vec::with_capacity(5);
    head.put_u8(kind.0);
    head.put_len(body.len());
    let mut hasher = seed.head(offset, &head);
    let check = fold(hasher.clone().finalize());
    hasher.update(body);
    let crc = hasher.finalize();
    out.put_u32(crc);
    out.put(&check);
    out.put(&head);
    out.put(body);
    crc
}

/// Adds a record's checksum to the chain of all checksums before it.
pub(super) fn extend_chain(chain: u32, crc: u32) -> u32 {
    let mut hasher = Hasher::new_with_initial(chain);
    hasher.update(&crc.to_le_bytes());
    hasher.finalize()
}

/// Sixteen bits of a checksum; never zero, so that a run of zeros is never a record.
fn fold(crc: u32) -> [u8; 2] {
    let [a, b, c, d] = crc.to_le_bytes();
    let folded = [a ^ c, b ^ d];
    if folded == [0; 2] { [1, 1] } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(seed: Seed, offset: u32, bytes: &[u8]) -> Option<(RecordKind, Vec<u8>)> {
        let head = Head::read(seed, offset, bytes)?;
        let body = bytes.get(head.head_bytes as usize..head.total() as usize)?;
        head.matches(body).then(|| (head.kind, body.to_vec()))
    }

    const SEED: Seed = Seed(0x1234_5678);

    proptest! {
        #[test]
        fn a_record_reads_as_it_was_written(body: Vec<u8>, offset: u32, kind in 0x10..=0xffu8) {
            let mut bytes = Vec::new();
            write(&mut bytes, SEED, offset, RecordKind(kind), &body);
            prop_assert_eq!(bytes.len(), framed(body.len()));
            prop_assert_eq!(read(SEED, offset, &bytes), Some((RecordKind(kind), body)));
        }

        #[test]
        fn a_record_is_valid_in_its_own_place_only(body: Vec<u8>, at: u32, other: u32, salt: u64) {
            let seed = Seed::new(&[7; 16], 3, 9);
            let mut bytes = Vec::new();
            write(&mut bytes, seed, at, RecordKind(0x10), &body);
            prop_assume!(at != other && salt != 9);
            prop_assert_eq!(read(seed, other, &bytes), None);
            prop_assert_eq!(read(Seed::new(&[7; 16], 3, salt), at, &bytes), None);
            prop_assert_eq!(read(Seed::new(&[7; 16], 4, 9), at, &bytes), None);
            prop_assert_eq!(read(Seed::new(&[8; 16], 3, 9), at, &bytes), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, offset: u32) {
            read(SEED, offset, &bytes);
        }
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let mut bytes = Vec::new();
        write(&mut bytes, SEED, 128, RecordKind(0x10), &[0xa5; 300]);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(SEED, 128, &bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_small_record_costs_eight_bytes_of_frame_and_a_large_one_eleven() {
        assert_eq!(framed(0), 8);
        assert_eq!(framed(127), 127 + 8);
        assert_eq!(framed(128), 128 + 9);
        assert_eq!(framed(limits::RECORD_BYTES_MAX) - limits::RECORD_BYTES_MAX, 11);
    }
}
