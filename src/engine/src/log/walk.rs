//! Reads the records of one segment in order, and finds the next one after damage.
//!
//! The rule after damage: go on byte by byte to the next place where a record validates. Its
//! checksum knows its place, so nothing stale or copied does. A record never reaches over the end
//! of what is durable into what only memory has. Sectors that cannot be read are stepped over in
//! blocks of [`BLOCK`] bytes.

use super::disk::{Disk, DiskError, FileId};
use super::record::{HEAD_BYTES_MAX, Head, RecordKind, Seed};
use super::segment::{GROUP_BYTES, Group, HEADER_BYTES};

/// Bytes that are read at once.
const CHUNK: u32 = 256 << 10;
/// Bytes that are given up at once where a disk cannot read.
pub(super) const BLOCK: u32 = 512;

/// A cursor over one segment.
#[derive(Debug)]
pub(super) struct Walk<'a, D> {
    disk: &'a D,
    file: FileId,
    seed: Seed,
    /// Ends of the bytes on disk and of the bytes in memory that follow them.
    disk_end: u32,
    memory: &'a [u8],
    end: u32,
    buffer: Vec<u8>,
    buffer_at: u32,
    chunk: u32,
}

/// A record that validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: RecordKind,
    /// Where the body starts.
    pub(super) body_at: u32,
    pub(super) body_bytes: u32,
    /// The checksum of the record.
    pub(super) crc: u32,
}

impl Found {
    /// Where the record ends.
    pub(super) fn end(&self) -> u32 {
        self.body_at + self.body_bytes
    }
}

impl<'a, D: Disk> Walk<'a, D> {
    /// Starts on a file of which `end` bytes are on disk.
    pub(super) fn new(disk: &'a D, file: FileId, seed: Seed, end: u32) -> Self {
        Self {
            disk,
            file,
            seed,
            disk_end: end,
            memory: &[],
            end,
            buffer: Vec::new(),
            buffer_at: 0,
            chunk: CHUNK,
        }
    }

    /// Adds bytes that follow those on disk.
    pub(super) fn with_memory(mut self, memory: &'a [u8]) -> Self {
        self.end = self.disk_end.saturating_add(u32::try_from(memory.len()).unwrap_or(u32::MAX));
        self.memory = memory;
        self
    }

    /// Reads about this many bytes at once: for readers of single records.
    pub(super) fn with_chunk(mut self, chunk: u32) -> Self {
        self.chunk = chunk;
        self
    }

    /// The disk that it reads.
    pub(super) fn disk(&self) -> &'a D {
        self.disk
    }

    /// The file that it reads.
    pub(super) fn file(&self) -> FileId {
        self.file
    }

    /// Where the checksums of its records start from.
    pub(super) fn seed(&self) -> Seed {
        self.seed
    }

    /// Where the segment ends.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// Returns `len` bytes at `offset`, or fewer if the part on disk or in memory ends before.
    pub(super) fn bytes(&mut self, offset: u32, len: u32) -> Result<&[u8], DiskError> {
        if offset >= self.disk_end {
            let at = (offset - self.disk_end) as usize;
            let rest = self.memory.get(at..).unwrap_or_default();
            return Ok(rest.get(..len as usize).unwrap_or(rest));
        }
        let len = len.min(self.disk_end - offset);
        let buffered = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        let inside = offset >= self.buffer_at && offset + len <= self.buffer_at + buffered;
        if !inside {
            self.fill(offset, len)?;
        }
        let at = (offset - self.buffer_at) as usize;
        Ok(self.buffer.get(at..at + len as usize).unwrap_or_default())
    }

    fn fill(&mut self, offset: u32, len: u32) -> Result<(), DiskError> {
        let ahead = len.max(self.chunk.min(self.disk_end - offset));
        self.buffer_at = offset;
        self.buffer.resize(ahead as usize, 0);
        let whole = self.disk.read(self.file, u64::from(offset), &mut self.buffer);
        if whole.is_err() {
            // One bad sector ahead must not hide what is asked for.
            self.buffer.resize(len as usize, 0);
            let exact = self.disk.read(self.file, u64::from(offset), &mut self.buffer);
            if exact.is_err() {
                self.buffer.clear();
            }
            return exact;
        }
        Ok(())
    }

    /// Returns the record at `offset`, or none if no record validates there.
    pub(super) fn look(&mut self, offset: u32) -> Result<Option<Found>, DiskError> {
        let seed = self.seed;
        let front = self.bytes(offset, HEAD_BYTES_MAX)?;
        let Some(head) = Head::read(seed, offset, front) else { return Ok(None) };
        let Some(body_at) = offset.checked_add(head.head_bytes) else { return Ok(None) };
        let body = self.bytes(body_at, head.body_bytes)?;
        let found = Found { kind: head.kind, body_at, body_bytes: head.body_bytes, crc: head.crc };
        Ok(head.matches(body).then_some(found))
    }

    /// Returns the body of a record that [`Self::look`] found.
    pub(super) fn body(&mut self, found: &Found) -> Result<&[u8], DiskError> {
        self.bytes(found.body_at, found.body_bytes)
    }

    /// Returns the first place from `from` on where a record validates, or the end.
    pub(super) fn resync(&mut self, from: u32) -> u32 {
        self.first(from, |_| true)
    }

    /// Returns the end of the stretch from `from` on that cannot be read.
    pub(super) fn skip_unreadable(&mut self, from: u32) -> u32 {
        let mut at = from;
        loop {
            at = (at / BLOCK + 1).saturating_mul(BLOCK).min(self.end);
            if at >= self.end || self.bytes(at, 1).is_ok() {
                return at;
            }
        }
    }

    /// Returns the greatest mark of all groups that validate from `from` on.
    pub(super) fn mark_beyond(&mut self, from: u32) -> u32 {
        let mut mark = 0;
        let mut at = from;
        while at < self.end {
            at = self.first(at, |kind| kind == RecordKind::GROUP);
            if let Ok(Some(group)) = self.group(at) {
                mark = mark.max(group.mark);
            }
            at += 1;
        }
        mark
    }

    /// Returns the group record at `at`, if one validates there.
    pub(super) fn group(&mut self, at: u32) -> Result<Option<Group>, DiskError> {
        let Some(found) = self.look(at)?.filter(|found| found.kind == RecordKind::GROUP) else {
            return Ok(None);
        };
        let end = found.end();
        Ok(Group::decode(self.body(&found)?, end).filter(|group| group.end == at + GROUP_BYTES))
    }

    /// Returns where the file ends, if that is before the end that is due: beyond it nothing is
    /// looked for, and no read is asked for more than is there.
    fn present(&self) -> u32 {
        let len = self.disk.len(self.file).unwrap_or(u64::MAX);
        u32::try_from(len).unwrap_or(u32::MAX).min(self.disk_end)
    }

    /// Returns the first place from `from` on where a record of a wanted kind validates.
    fn first(&mut self, from: u32, wanted: impl Fn(RecordKind) -> bool) -> u32 {
        let mut at = from.max(HEADER_BYTES);
        let present = self.present();
        while at < self.end {
            if (present..self.disk_end).contains(&at) {
                at = self.disk_end;
                continue;
            }
            let (seed, mut chunk) = (self.seed, self.chunk);
            if at < present {
                chunk = chunk.min(present - at);
            }
            let bytes = match self.bytes(at, chunk) {
                Ok(bytes) => Ok(bytes),
                // One bad sector hides no more than its neighbourhood.
                Err(_) => self.bytes(at, HEAD_BYTES_MAX),
            };
            let Ok(bytes) = bytes else {
                at = self.skip_unreadable(at);
                continue;
            };
            let step = u32::try_from(bytes.len()).unwrap_or(u32::MAX).max(1);
            let candidate = (0..step).find(|skip| {
                let front = bytes.get(*skip as usize..).unwrap_or_default();
                // No record has a zero where its kind is: reserved space costs little.
                front.get(6).is_some_and(|kind| *kind != 0 && wanted(RecordKind(*kind)))
                    && Head::read(seed, at + skip, front).is_some()
            });
            match candidate {
                // A body that cannot be read belongs to a record that cannot.
                Some(skip) if matches!(self.look(at + skip), Ok(Some(_))) => return at + skip,
                Some(skip) => at += skip + 1,
                // The front of a record may reach over what was looked at.
                None if step > HEAD_BYTES_MAX => at += step - HEAD_BYTES_MAX,
                None => at += 1,
            }
        }
        self.end
    }
}
