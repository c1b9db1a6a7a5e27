//! Pieces: the checksummed extents that a sidecar consists of (FORMAT 8.1).
//!
//! A piece is its bytes and then their CRC32, which starts from the store, the segment and the
//! piece's place. So neither a changed byte nor a piece that belongs elsewhere is ever taken for
//! the one that was asked for.

use crate::base::{CodecError, Writer};
use crate::limits;
use crate::log::{Disk, DiskErrorKind, FileId};

use super::SidecarError;

/// How many bytes of checksum follow a piece.
pub(super) const CHECKSUM_BYTES: usize = 4;

/// Where a piece lies: its first byte, and its length without the checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// Makes the checksums of one sidecar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checksum(u32);

impl Checksum {
    pub(super) fn new(store: &[u8; 16], segment: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(store);
        hasher.update(&segment.to_le_bytes());
        Self(hasher.finalize())
    }

    pub(super) fn of(self, offset: u64, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(&offset.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// The file being made. Its front may be drained while it grows.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) checksum: Checksum,
    drained: u64,
    bytes: Vec<u8>,
}

impl Output {
    pub(super) fn new(checksum: Checksum) -> Self {
        Self { checksum, drained: 0, bytes: Vec::new() }
    }

    pub(super) fn position(&self) -> u64 {
        self.drained + self.bytes.len() as u64
    }

    /// Appends a piece and says where it lies.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> Extent {
        let extent = Extent { offset: self.position(), len: len32(bytes.len()) };
        self.bytes.put(bytes);
        self.bytes.put_u32(self.checksum.of(extent.offset, bytes));
        extent
    }

    pub(super) fn drain(&mut self) -> Vec<u8> {
        self.drained = self.position();
        std::mem::take(&mut self.bytes)
    }
}

/// The file being read.
#[derive(Debug)]
pub(super) struct Source<D> {
    pub(super) disk: D,
    pub(super) file: FileId,
    pub(super) len: u64,
    pub(super) segment: u64,
    pub(super) checksum: Checksum,
}

impl<D: Disk> Source<D> {
    /// Reads a piece and checks it. Costs one read of the disk and one allocation.
    pub(super) fn piece(&self, extent: Extent) -> Result<Vec<u8>, SidecarError> {
        let len = extent.len as usize;
        let end = extent.offset.checked_add(u64::from(extent.len) + CHECKSUM_BYTES as u64);
        if len > limits::SIDECAR_PIECE_BYTES_MAX || end.is_none_or(|end| end > self.len) {
            return Err(self.damaged(extent.offset, "a piece lies outside the file"));
        }
        let mut bytes = vec![0; len + CHECKSUM_BYTES];
        self.disk.read(self.file, extent.offset, &mut bytes).map_err(|error| match error.kind {
            DiskErrorKind::PastEnd => self.damaged(extent.offset, "the file was cut short"),
            _ => SidecarError::from_disk(self.segment, error),
        })?;
        let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(self.damaged(extent.offset, "a piece without checksum"));
        };
        if self.checksum.of(extent.offset, body) != u32::from_le_bytes(*checksum) {
            return Err(self.damaged(extent.offset, "the checksum does not match"));
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    pub(super) fn damaged(&self, offset: u64, what: &'static str) -> SidecarError {
        SidecarError::Damaged { segment: self.segment, offset, what }
    }

    /// Bytes whose checksum holds but that mean nothing: the file was made wrongly.
    pub(super) fn malformed(&self, offset: u64) -> impl Fn(CodecError) -> SidecarError + use<D> {
        let segment = self.segment;
        move |_| SidecarError::Damaged { segment, offset, what: "a piece that means nothing" }
    }
}

/// Returns a length that is known to be one of a piece.
pub(super) fn len32(len: usize) -> u32 {
    assert!(len <= limits::SIDECAR_PIECE_BYTES_MAX, "a piece of {len} bytes is above the limit");
    #[expect(clippy::cast_possible_truncation, reason = "the limit is below 2^32")]
    let len = len as u32;
    len
}
