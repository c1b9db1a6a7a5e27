//! The footer of a sidecar: what it belongs to, and where its sections lie (FORMAT 8.6).

use crate::base::{CodecError, Hash, Reader, Writer};

use super::Lineage;
use super::piece::Extent;

/// Bytes of a footer without its checksum.
pub(super) const FOOTER_BYTES: usize = 252;

const MAGIC: &[u8; 8] = b"KDSIX\0\r\n";
const VERSION: u32 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) store: [u8; 16],
    pub(super) segment: u64,
    /// SHA-256 of the sealed segment that the file was built from.
    pub(super) seal: Hash,
    pub(super) keys: u32,
    pub(super) commits: u32,
    pub(super) runs: u32,
    /// Levels of index nodes above the data blocks; zero without keys.
    pub(super) depth: u32,
    pub(super) root: Extent,
    pub(super) filter: Extent,
    pub(super) rows: u64,
    pub(super) runs_at: u64,
    pub(super) runs_fence: Extent,
    pub(super) by_id: u64,
    pub(super) by_id_fence: Extent,
    pub(super) blobs: Extent,
    /// Stamps of the commits; the least is above the greatest if there is none.
    pub(super) hlc_min: u64,
    pub(super) hlc_max: u64,
    pub(super) lineage: Lineage,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_BYTES);
        bytes.put(MAGIC);
        bytes.put_u32(VERSION);
        bytes.put_u32(0);
        bytes.put(&self.store);
        bytes.put_u64(self.segment);
        bytes.put(&self.seal);
        for count in [self.keys, self.commits, self.runs, self.depth] {
            bytes.put_u32(count);
        }
        put(&mut bytes, self.root);
        put(&mut bytes, self.filter);
        bytes.put_u64(self.rows);
        bytes.put_u64(self.runs_at);
        put(&mut bytes, self.runs_fence);
        bytes.put_u64(self.by_id);
        put(&mut bytes, self.by_id_fence);
        put(&mut bytes, self.blobs);
        bytes.put_u64(self.hlc_min);
        bytes.put_u64(self.hlc_max);
        bytes.put(&self.lineage.own);
        bytes.put(&self.lineage.upon);
        assert_eq!(bytes.len(), FOOTER_BYTES, "the footer has a fixed size");
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(CodecError::Unknown("file"));
        }
        if reader.u32()? != VERSION || reader.u32()? != 0 {
            return Err(CodecError::Unknown("sidecar version"));
        }
        let footer = Self {
            store: reader.array()?,
            segment: reader.u64()?,
            seal: reader.hash()?,
            keys: reader.u32()?,
            commits: reader.u32()?,
            runs: reader.u32()?,
            depth: reader.u32()?,
            root: take(&mut reader)?,
            filter: take(&mut reader)?,
            rows: reader.u64()?,
            runs_at: reader.u64()?,
            runs_fence: take(&mut reader)?,
            by_id: reader.u64()?,
            by_id_fence: take(&mut reader)?,
            blobs: take(&mut reader)?,
            hlc_min: reader.u64()?,
            hlc_max: reader.u64()?,
            lineage: Lineage { own: reader.hash()?, upon: reader.hash()? },
        };
        reader.finish()?;
        Ok(footer)
    }
}

fn put(bytes: &mut Vec<u8>, extent: Extent) {
    bytes.put_u64(extent.offset);
    bytes.put_u32(extent.len);
}

fn take(reader: &mut Reader<'_>) -> Result<Extent, CodecError> {
    Ok(Extent { offset: reader.u64()?, len: reader.u32()? })
}
