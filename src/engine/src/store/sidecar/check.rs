//! Reads a whole sidecar and checks every byte of it.

use std::ops::Bound;

use crate::log::Disk;

use super::filter::KeyHash;
use super::{Sidecar, SidecarError};

impl<D: Disk> Sidecar<D> {
    /// Reads everything that any question may read, and checks that the parts fit each other.
    ///
    /// Costs one read of the whole file, in pieces, and no more memory than the largest piece.
    ///
    /// # Errors
    /// The first [`SidecarError`] met.
    pub fn check(&self) -> Result<(), SidecarError> {
        let source = &self.source;
        let mut keys = 0;
        let mut last = None;
        for item in self.range(Bound::Unbounded) {
            let (key, entry) = item?;
            self.state(&entry)?;
            self.offsets(&entry)?;
            if last.is_some_and(|last| last >= key) || !self.may_contain_hash(KeyHash::new(&key))? {
                return Err(source.damaged(entry.at, "a key that cannot be found"));
            }
            keys += 1;
            last = Some(key);
        }
        if keys != self.footer.keys {
            return Err(source.damaged(self.footer.root.offset, "another number of keys"));
        }
        source.piece(self.footer.filter)?;
        for table in [self.rows_table(), self.runs_table(), self.by_id_table()] {
            for page in 0..table.pages() {
                table.page(source, page)?;
            }
        }
        self.fence(self.footer.runs_fence, &self.runs_table())?;
        self.fence(self.footer.by_id_fence, &self.by_id_table())?;
        for (_, blob) in self.blobs()? {
            source.piece(blob)?;
        }
        Ok(())
    }
}
