//! Large chunks on their way in wait on disk for their last part, not in memory.
//!
//! A commit may have 16 MiB, and any number of peers may send one at once; what is kept of each in
//! memory is one part. Spooled bytes are of no worth after a restart: nothing was acknowledged.

use super::{LinkId, Node};
use crate::base::SpaceId;
use crate::limits;
use crate::log::{Disk, DiskError, FileId, FileKind};
use crate::sync::Piece;

/// Which stream of chunks a part belongs to: asked for, or pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    Asked,
    Pushed,
}

/// Whose chunk is spooled.
pub(crate) type Slot = (LinkId, SpaceId, Stream);

impl<D: Disk + Clone> Node<D> {
    /// Takes a piece and returns the chunk that it completes.
    ///
    /// # Errors
    /// The disk's; the chunk is lost then, and can be asked for again.
    pub(super) fn spool(&mut self, slot: Slot, piece: Piece) -> Result<Option<Vec<u8>>, DiskError> {
        let (bytes, offset, last) = match piece {
            Piece::Whole(chunk) => return Ok(Some(chunk)),
            Piece::Part { bytes, offset, last } => (bytes, offset, last),
        };
        if offset == 0 {
            sometimes!("node-chunk-spooled");
            self.drop_spool(slot);
            self.spools.insert(slot, self.next_spool);
            self.next_spool += 1;
        }
        let Some(number) = self.spools.get(&slot).copied() else { return Ok(None) };
        let file = FileId::new(FileKind::Spool, number);
        let disk = self.store.disk().clone();
        let whole = disk.write(file, offset as u64, &bytes).and_then(|()| {
            if !last {
                return Ok(None);
            }
            assert!(offset + bytes.len() <= limits::CHUNK_WHOLE_BYTES_MAX, "parts are bounded");
            let mut chunk = vec![0; offset + bytes.len()];
            disk.read(file, 0, &mut chunk)?;
            Ok(Some(chunk))
        });
        if last || whole.is_err() {
            self.drop_spool(slot);
        }
        whole
    }

    /// Drops what is spooled of a link that is gone.
    pub(super) fn drop_spools(&mut self, link: LinkId) {
        let slots: Vec<Slot> = self.spools.keys().filter(|slot| slot.0 == link).copied().collect();
        slots.into_iter().for_each(|slot| self.drop_spool(slot));
    }

    /// Removes what an earlier process left.
    pub(super) fn clear_spool(&mut self) {
        let left = self.store.disk().files(FileKind::Spool).unwrap_or_default();
        for file in left {
            // What cannot be removed is in nobody's way: it is written over.
            let _ = self.store.disk().remove(file);
        }
    }

    fn drop_spool(&mut self, slot: Slot) {
        if let Some(number) = self.spools.remove(&slot) {
            let _ = self.store.disk().remove(FileId::new(FileKind::Spool, number));
        }
    }
}
