//! A disk that refuses every change, and may hold one file in memory.
//!
//! Derived files that cannot be written (the disk is full or read-only), or should not be (the log
//! is damaged), live here for as long as the store is open. It also lets `verify` open a store
//! without changing it.

use std::sync::Arc;

use crate::log::{Disk, DiskError, DiskErrorKind, FileId, FileKind};

/// Reads from a disk, and from one file in memory before it.
#[derive(Debug, Clone)]
pub(crate) struct Overlay<D> {
    disk: D,
    file: Option<(FileId, Arc<Vec<u8>>)>,
}

impl<D: Disk> Overlay<D> {
    /// Reads from `disk` alone.
    pub(crate) fn new(disk: D) -> Self {
        Self { disk, file: None }
    }

    /// Reads `file` from memory.
    pub(crate) fn with(disk: D, file: FileId, bytes: Vec<u8>) -> Self {
        Self { disk, file: Some((file, Arc::new(bytes))) }
    }

    fn held(&self, file: FileId) -> Option<&[u8]> {
        self.file.as_ref().filter(|(held, _)| *held == file).map(|(_, bytes)| bytes.as_slice())
    }

    fn refuse<T>() -> Result<T, DiskError> {
        Err(DiskError::new(DiskErrorKind::ReadOnly, "this view of the disk takes no changes"))
    }
}

impl<D: Disk> Disk for Overlay<D> {
    fn files(&self, kind: FileKind) -> Result<Vec<FileId>, DiskError> {
        self.disk.files(kind)
    }

    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        self.held(file).map_or_else(|| self.disk.len(file), |bytes| Ok(bytes.len() as u64))
    }

    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let Some(bytes) = self.held(file) else { return self.disk.read(file, offset, buffer) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match bytes.get(start..start.saturating_add(buffer.len())) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(DiskError::new(DiskErrorKind::PastEnd, "beyond the end of the file")),
        }
    }

    fn write(&self, _: FileId, _: u64, _: &[u8]) -> Result<(), DiskError> {
        Self::refuse()
    }

    fn allocate(&self, _: FileId, _: u64) -> Result<(), DiskError> {
        Self::refuse()
    }

    fn truncate(&self, _: FileId, _: u64) -> Result<(), DiskError> {
        Self::refuse()
    }

    fn sync(&self, _: FileId) -> Result<(), DiskError> {
        Self::refuse()
    }

    fn replace(&self, _: FileId, _: &[u8]) -> Result<(), DiskError> {
        Self::refuse()
    }

    fn remove(&self, _: FileId) -> Result<(), DiskError> {
        Self::refuse()
    }

    fn rename(&self, _: FileId, _: FileId) -> Result<(), DiskError> {
        Self::refuse()
    }
}
