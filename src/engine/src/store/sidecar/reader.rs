//! Reads a sidecar: what it says of keys, and the caller's blobs.

use std::borrow::Cow;
use std::ops::{Bound, Range};
use std::sync::{Arc, OnceLock};

use crate::base::{CodecError, Hash, Hlc, Reader};
use crate::limits;
use crate::log::{Disk, FileId};

use super::block::Block;
use super::entry::{self, Entry, Part};
use super::filter::{self, Filter, KeyHash};
use super::footer::{FOOTER_BYTES, Footer};
use super::piece::{CHECKSUM_BYTES, Checksum, Extent, Source};
use super::{KeyIter, Lineage, SidecarError};

/// An open sidecar. It may be shared between threads.
///
/// Besides the footer it keeps in memory what was used once: the filter (10 bits a key), the root
/// of the key index (about 16 KiB) and two fences. To let go of these, drop it and open it again.
#[derive(Debug)]
pub struct Sidecar<D> {
    pub(super) source: Source<D>,
    pub(super) footer: Footer,
    root: OnceLock<Arc<Block>>,
    filter: OnceLock<Filter>,
    pub(super) runs_fence: OnceLock<Vec<u8>>,
    pub(super) by_id_fence: OnceLock<Vec<u8>>,
}

impl<D: Disk> Sidecar<D> {
    /// Opens the sidecar of `segment` in file `file`. Costs one read of 256 bytes.
    ///
    /// With `seal`, the SHA-256 of the sealed segment, it must have been built from those bytes.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn open(
        disk: D,
        file: FileId,
        store: [u8; 16],
        segment: u64,
        seal: Option<Hash>,
    ) -> Result<Self, SidecarError> {
        let len = disk.len(file).map_err(|error| SidecarError::from_disk(segment, error))?;
        let checksum = Checksum::new(&store, segment);
        let source = Source { disk, file, len, segment, checksum };
        let offset = len.checked_sub((FOOTER_BYTES + CHECKSUM_BYTES) as u64);
        let offset = offset.ok_or(source.damaged(0, "too short for a footer"))?;
        let bytes = source.piece(Extent { offset, len: super::piece::len32(FOOTER_BYTES) })?;
        let footer = Footer::decode(&bytes).map_err(source.malformed(offset))?;
        if footer.store != store || footer.segment != segment {
            return Err(source.damaged(offset, "it belongs to another segment"));
        }
        if seal.is_some_and(|seal| seal != footer.seal) {
            return Err(source.damaged(offset, "it was built from other bytes of the segment"));
        }
        if footer.depth > limits::SIDECAR_DEPTH_MAX {
            return Err(source.damaged(offset, "an index of too many levels"));
        }
        Ok(Self {
            source,
            footer,
            root: OnceLock::new(),
            filter: OnceLock::new(),
            runs_fence: OnceLock::new(),
            by_id_fence: OnceLock::new(),
        })
    }

    /// Says whether `key` may be here. False is certain; true is wrong for about 1.2 % of the
    /// absent keys. The first call reads the filter.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn may_contain(&self, key: &[u8]) -> Result<bool, SidecarError> {
        self.may_contain_hash(KeyHash::new(key))
    }

    /// The same as [`may_contain`](Self::may_contain) for a key that was hashed before.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn may_contain_hash(&self, hash: KeyHash) -> Result<bool, SidecarError> {
        let filter = load(&self.filter, || {
            let bytes = self.source.piece(self.footer.filter)?;
            let seed = filter::seed(&self.footer.store, self.footer.segment);
            Ok(Filter::new(bytes, seed))
        })?;
        Ok(filter.may_contain(hash))
    }

    /// Finds what is recorded of `key`. Costs one read of about 8 KiB; two or three if the keys
    /// are long and many. It does not ask the filter.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Entry>, SidecarError> {
        let Some(root) = self.root()? else { return Ok(None) };
        let mut node = Arc::clone(root);
        let mut at = self.footer.root;
        for _ in 0..self.footer.depth {
            let floor = node.floor(key).map_err(self.source.malformed(at.offset))?;
            let Some(floor) = floor else { return Ok(None) };
            let child = self.child(&node, floor.value, at)?;
            node = self.block(child)?;
            at = child;
        }
        match node.floor(key).map_err(self.source.malformed(at.offset))? {
            Some(floor) if floor.exact => self.entry(&node, floor.value, at).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the folded state of an entry of this sidecar, if it was recorded.
    ///
    /// Costs a read if it is larger than 2 KiB.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn state<'e>(&self, entry: &'e Entry) -> Result<Option<Cow<'e, [u8]>>, SidecarError> {
        self.part(entry, &entry.state)
    }

    /// Returns the offsets of the records of the segment that touched the key of an entry of this
    /// sidecar, ascending. Costs a read if they are many (over 512 bytes encoded).
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn offsets(&self, entry: &Entry) -> Result<Vec<u32>, SidecarError> {
        let Some(bytes) = self.part(entry, &entry.offsets)? else { return Ok(Vec::new()) };
        entry::decode_offsets(&bytes).map_err(self.source.malformed(entry.at))
    }

    /// Walks over the keys from `from` on, ascending.
    pub fn range(&self, from: Bound<&[u8]>) -> KeyIter<'_, D> {
        KeyIter::new(self, from)
    }

    /// Returns the caller's section of that tag, if there is one.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn blob(&self, tag: u8) -> Result<Option<Vec<u8>>, SidecarError> {
        let blobs = self.blobs()?;
        let found = blobs.into_iter().find(|(found, _)| *found == tag);
        found.map(|(_, extent)| self.source.piece(extent)).transpose()
    }

    /// Returns the segment that the sidecar belongs to.
    pub fn segment(&self) -> u64 {
        self.footer.segment
    }

    /// Returns the SHA-256 of the sealed segment that it was built from.
    pub fn seal(&self) -> Hash {
        self.footer.seal
    }

    /// Returns where it stands among the others.
    pub fn lineage(&self) -> Lineage {
        self.footer.lineage
    }

    /// Returns the size of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.source.len
    }

    /// Returns how many keys are recorded.
    pub fn key_count(&self) -> u32 {
        self.footer.keys
    }

    /// Returns how many commits are recorded.
    pub fn commit_count(&self) -> u32 {
        self.footer.commits
    }

    /// Returns the least and the greatest stamp observed.
    pub fn stamps(&self) -> Option<(Hlc, Hlc)> {
        let (min, max) = (self.footer.hlc_min, self.footer.hlc_max);
        (min <= max).then_some((Hlc(min), Hlc(max)))
    }

    /// Returns how much memory the filter takes once it is loaded, in bytes.
    pub fn filter_bytes(&self) -> usize {
        self.footer.filter.len as usize
    }

    /// Returns how much memory it takes now for what it keeps, in bytes.
    pub fn resident_bytes(&self) -> usize {
        self.root.get().map_or(0, |root| root.len())
            + self.filter.get().map_or(0, Filter::len)
            + self.runs_fence.get().map_or(0, Vec::len)
            + self.by_id_fence.get().map_or(0, Vec::len)
            + size_of::<Self>()
    }

    /// Returns where the caller's sections lie, by tag.
    pub(super) fn blobs(&self) -> Result<Vec<(u8, Extent)>, SidecarError> {
        let bytes = self.source.piece(self.footer.blobs)?;
        let parse = || -> Result<Vec<(u8, Extent)>, CodecError> {
            let mut reader = Reader::new(&bytes);
            let mut blobs = Vec::new();
            while reader.remaining() > 0 {
                blobs.push((reader.u8()?, entry::parse_extent(&mut reader)?));
            }
            Ok(blobs)
        };
        parse().map_err(self.source.malformed(self.footer.blobs.offset))
    }

    /// Returns the root of the key index; none without keys.
    pub(super) fn root(&self) -> Result<Option<&Arc<Block>>, SidecarError> {
        if self.footer.depth == 0 {
            return Ok(None);
        }
        load(&self.root, || self.block(self.footer.root)).map(Some)
    }

    pub(super) fn block(&self, extent: Extent) -> Result<Arc<Block>, SidecarError> {
        let bytes = self.source.piece(extent)?;
        Block::parse(bytes).map(Arc::new).map_err(self.source.malformed(extent.offset))
    }

    /// Returns where the child lies that an entry of an index node names.
    pub(super) fn child(
        &self,
        node: &Block,
        value: Range<usize>,
        at: Extent,
    ) -> Result<Extent, SidecarError> {
        let parse = || -> Result<Extent, CodecError> {
            let mut reader = Reader::new(node.bytes(value)?);
            let extent = entry::parse_extent(&mut reader)?;
            reader.finish()?;
            Ok(extent)
        };
        parse().map_err(self.source.malformed(at.offset))
    }

    pub(super) fn entry(
        &self,
        block: &Arc<Block>,
        value: Range<usize>,
        at: Extent,
    ) -> Result<Entry, SidecarError> {
        let entry = Entry::parse(Arc::clone(block), at.offset, value);
        entry.map_err(self.source.malformed(at.offset))
    }

    fn part<'e>(
        &self,
        entry: &'e Entry,
        part: &Part,
    ) -> Result<Option<Cow<'e, [u8]>>, SidecarError> {
        match part {
            Part::Absent => Ok(None),
            Part::Near(range) => {
                let bytes = entry.block.bytes(range.clone());
                let bytes = bytes.map_err(self.source.malformed(entry.at))?;
                Ok(Some(Cow::Borrowed(bytes)))
            }
            Part::Far(extent) => self.source.piece(*extent).map(|bytes| Some(Cow::Owned(bytes))),
        }
    }
}

/// Returns what a cell holds, filling it at the first use. A failure is not kept.
pub(super) fn load<T>(
    cell: &OnceLock<T>,
    read: impl FnOnce() -> Result<T, SidecarError>,
) -> Result<&T, SidecarError> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = read()?;
    Ok(cell.get_or_init(|| value))
}
