//! Tells what a damaged stretch was, as far as its frame still says so.

use super::disk::Disk;
use super::error::Damage;
use super::record::{HEAD_BYTES_MAX, Head};
use super::{Log, RecordKind};

impl<D: Disk> Log<D> {
    /// Returns the kind of the one record that a damaged stretch was.
    ///
    /// None if that cannot be told: the front of the record is damaged too, or more than one
    /// record may be. The front has a checksum of its own, and its length must lead to the end of
    /// the stretch, so the body may be anything and the kind still certain. Costs one small read.
    pub fn rotted_kind(&self, damage: &Damage) -> Option<RecordKind> {
        let offset = u32::try_from(damage.offset).ok()?;
        let mut walk = self.walk(damage.segment)?.with_chunk(HEAD_BYTES_MAX);
        let seed = walk.seed();
        let front = walk.bytes(offset, HEAD_BYTES_MAX).ok()?;
        let head = Head::read(seed, offset, front)?;
        (u64::from(head.total()) == damage.len).then_some(head.kind)
    }
}
