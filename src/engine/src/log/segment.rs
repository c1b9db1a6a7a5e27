//! The blocks that give a segment file its shape: header, group and seal (FORMAT 7.1, 7.3, 7.4).
//!
//! A segment says who it is and which segment came before, with that one's end and hash, so the
//! order and the ends of all segments can be told from the files alone. A group record closes what
//! was written together and says how far the file was durable by then: that mark tells a torn tail
//! from damage. A seal is the last record of a full segment.

use super::disk::{FileId, FileKind};
use super::record::{self, Seed};
use crate::base::{CodecError, Hash, Reader, WallTime, Writer as _};

/// Bytes of the header; the first record follows.
pub(super) const HEADER_BYTES: u32 = 128;
/// Bytes of a group record with its frame.
pub(super) const GROUP_BYTES: u32 = GROUP_BODY_BYTES + 8;
/// Bytes of a seal record with its frame.
pub(super) const SEAL_BYTES: u32 = SEAL_BODY_BYTES + 8;
/// The version of the format that this code writes; a reader refuses a higher major one.
pub(super) const VERSION: (u16, u16) = (1, 0);

const GROUP_BODY_BYTES: u32 = 20;
const SEAL_BODY_BYTES: u32 = 80;
const MAGIC: &[u8; 8] = b"KDSEG\0\r\n";

const _: () = assert!(GROUP_BYTES <= 40);

/// What stands before a segment in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Predecessor {
    /// Its place; 0 if there is none.
    pub(super) place: u64,
    /// Where it ended, in bytes.
    pub(super) end: u32,
    /// SHA-256 of the file up to there; zero if it could not be read.
    pub(super) sha: Hash,
}

/// Who a segment file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentId {
    /// Its place in the order of the log, from 1; positions name it.
    pub(super) place: u64,
    /// The number of its file; another than the place only after a repair.
    pub(super) file: u64,
    /// Random bits of this file's life.
    pub(super) salt: u64,
    /// The wall clock when it was begun.
    pub(super) base: WallTime,
}

impl SegmentId {
    /// One of which only the place is known; the rest is in its header.
    pub(super) fn unknown(place: u64) -> Self {
        Self { place, file: place, salt: 0, base: WallTime(0) }
    }

    /// Tells whether a header may say who this one is, of which only the place is known.
    pub(super) fn may_be(&self, found: &Self) -> bool {
        *self == Self::unknown(found.place) && found.file == self.file
    }

    pub(super) fn file_id(&self) -> FileId {
        FileId::new(FileKind::Segment, self.file)
    }

    /// Tells whether another file was in this place before.
    pub(super) fn repaired(&self) -> bool {
        self.file != self.place
    }

    pub(super) fn seed(&self, store: &[u8; 16]) -> Seed {
        Seed::new(store, self.file, self.salt)
    }
}

/// The first block of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The store it belongs to.
    pub(super) store: [u8; 16],
    /// Who it is.
    pub(super) id: SegmentId,
    /// What came before.
    pub(super) previous: Predecessor,
}

/// Why the first block of a file is not a header that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Damaged, or never written.
    Bad,
    /// Intact, but of a later major version of the format.
    Version(u16),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.put(MAGIC);
        out.put(&VERSION.0.to_le_bytes());
        out.put(&VERSION.1.to_le_bytes());
        out.put_u32(0); // flags
        out.put(&self.store);
        out.put_u64(self.id.file);
        out.put_u64(self.id.place);
        out.put_u64(self.id.salt);
        out.put_u64(self.id.base.0);
        out.put_u64(self.previous.place);
        out.put_u32(self.previous.end);
        out.put(&self.previous.sha);
        out.put(&[0; 16]); // reserved
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        assert!(out.len() == HEADER_BYTES as usize, "the header has a fixed size");
        out
    }

    /// Reads the header of the file with this number.
    pub(super) fn decode(file: u64, bytes: &[u8]) -> Result<Self, HeaderError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(HeaderError::Bad)?;
        let intact = bytes.len() == HEADER_BYTES as usize
            && body.starts_with(MAGIC)
            && crc32fast::hash(body) == u32::from_le_bytes(*crc);
        if !intact {
            return Err(HeaderError::Bad);
        }
        let header = Self::fields(body)?;
        if header.id.file == file { Ok(header) } else { Err(HeaderError::Bad) }
    }

    fn fields(body: &[u8]) -> Result<Self, HeaderError> {
        let bad = |_| HeaderError::Bad;
        let mut reader = Reader::new(body);
        reader.take(MAGIC.len()).map_err(bad)?;
        let major = u16::from_le_bytes(reader.array().map_err(bad)?);
        if major > VERSION.0 {
            return Err(HeaderError::Version(major));
        }
        reader.take(6).map_err(bad)?; // minor version, flags: for later readers
        let store = reader.array().map_err(bad)?;
        let file = reader.u64().map_err(bad)?;
        let id = SegmentId {
            file,
            place: reader.u64().map_err(bad)?,
            salt: reader.u64().map_err(bad)?,
            base: WallTime(reader.u64().map_err(bad)?),
        };
        let previous = Predecessor {
            place: reader.u64().map_err(bad)?,
            end: reader.u32().map_err(bad)?,
            sha: reader.hash().map_err(bad)?,
        };
        if id.place == 0 || previous.place >= id.place {
            return Err(HeaderError::Bad);
        }
        Ok(Self { store, id, previous })
    }
}

/// The record that closes what was written together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// Where this record ends.
    pub(super) end: u32,
    /// Where the group's first record starts, or this one if the group is empty.
    pub(super) start: u32,
    /// Bytes of this file below this were durable when the group was written.
    pub(super) mark: u32,
    /// Records in the group, this one not counted.
    pub(super) count: u32,
    /// Checksum over the checksums of all records of the segment up to here, groups left out.
    pub(super) chain: u32,
}

impl Group {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(GROUP_BODY_BYTES as usize);
        for value in [self.end, self.start, self.mark, self.count, self.chain] {
            out.put_u32(value);
        }
        out
    }

    /// Reads the group record that ends at `end`.
    pub(super) fn decode(body: &[u8], end: u32) -> Option<Self> {
        let mut r = Reader::new(body);
        let group = Self {
            end: r.u32().ok()?,
            start: r.u32().ok()?,
            mark: r.u32().ok()?,
            count: r.u32().ok()?,
            chain: r.u32().ok()?,
        };
        r.finish().ok()?;
        let own = end.checked_sub(GROUP_BYTES)?;
        let sane = group.end == end && group.start <= own && group.mark <= group.start;
        sane.then_some(group)
    }
}

/// The last record of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    /// Where this record starts: the bytes that the hash covers.
    pub(super) bytes: u32,
    /// Groups in the segment, the empty ones included.
    pub(super) groups: u32,
    /// Records of callers in the segment.
    pub(super) records: u64,
    /// SHA-256 of the previous segment, as in the header.
    pub(super) previous: Hash,
    /// SHA-256 of this file up to this record.
    pub(super) sha: Hash,
}

impl Seal {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEAL_BODY_BYTES as usize);
        out.put_u32(self.bytes);
        out.put_u32(self.groups);
        out.put_u64(self.records);
        out.put(&self.previous);
        out.put(&self.sha);
        out
    }

    /// Reads the seal record that starts at `start`.
    pub(super) fn decode(body: &[u8], start: u32) -> Option<Self> {
        let fields = |body| -> Result<Self, CodecError> {
            let mut r = Reader::new(body);
            let seal = Self {
                bytes: r.u32()?,
                groups: r.u32()?,
                records: r.u64()?,
                previous: r.hash()?,
                sha: r.hash()?,
            };
            r.finish()?;
            Ok(seal)
        };
        fields(body).ok().filter(|seal| seal.bytes == start)
    }
}

/// Appends a group record that starts at `offset`.
pub(super) fn write_group(out: &mut Vec<u8>, seed: Seed, offset: u32, group: &Group) {
    record::write(out, seed, offset, record::RecordKind::GROUP, &group.encode());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            store: [9; 16],
            id: SegmentId { place: 3, file: 5, salt: 77, base: WallTime(1_700_000_000_000) },
            previous: Predecessor { place: 2, end: 4096, sha: [4; 32] },
        }
    }

    #[test]
    fn a_header_reads_as_written_and_any_flipped_bit_is_found() {
        let mut bytes = header().encode();
        assert_eq!(Header::decode(5, &bytes), Ok(header()));
        assert_eq!(Header::decode(6, &bytes), Err(HeaderError::Bad), "the file is another");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(5, &bytes), Err(HeaderError::Bad), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_later_major_version_is_told_apart_from_damage() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..124]);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(5, &bytes), Err(HeaderError::Version(2)));
    }

    #[test]
    fn the_sizes_are_what_the_constants_say() {
        let group = Group { end: 328, start: 200, mark: 128, count: 2, chain: 5 };
        assert_eq!(group.encode().len(), GROUP_BODY_BYTES as usize);
        assert_eq!(Group::decode(&group.encode(), 328), Some(group));
        assert_eq!(Group::decode(&group.encode(), 329), None);
        let seal = Seal { bytes: 500, groups: 3, records: 9, previous: [1; 32], sha: [2; 32] };
        assert_eq!(Seal::decode(&seal.encode(), 500), Some(seal));
        assert_eq!(Seal::decode(&seal.encode(), 501), None);
        assert_eq!(record::framed(GROUP_BODY_BYTES as usize), GROUP_BYTES as usize);
        assert_eq!(record::framed(SEAL_BODY_BYTES as usize), SEAL_BYTES as usize);
    }
}
