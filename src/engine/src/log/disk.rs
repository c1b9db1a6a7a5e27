//! The disk as the log sees it: named files, exact reads, positioned writes, and syncs that count.
//!
//! One small trait stands between the engine and every real or simulated disk. It promises little:
//! what was written may be lost, torn or reordered until [`Disk::sync`] returns. Only `replace` and
//! `rename` are durable when they return. It knows no directories and no open files; a host maps
//! [`FileId::path`] to paths under the store's directory.

use std::fmt;
use std::sync::Arc;

/// What a file is for; it decides where the file lies.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// One file of the log: truth.
    Segment,
    /// The list of all segments, in two alternating generations: truth.
    Manifest,
    /// The clean mark: how far the log was durable at the last orderly end.
    Mark,
    /// Local truth that is not history, in two alternating generations.
    Local,
    /// Derived index of one segment.
    Sidecar,
    /// Bytes that were cut or replaced, kept for people to look at.
    Quarantine,
    /// The parts of a large chunk that is on its way in: of no worth after a restart.
    Spool,
}

impl FileKind {
    /// All kinds, in order.
    pub const ALL: [Self; 7] = [
        Self::Segment,
        Self::Manifest,
        Self::Mark,
        Self::Local,
        Self::Sidecar,
        Self::Quarantine,
        Self::Spool,
    ];

    /// Returns the folder that files of this kind lie in, relative to the store.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Segment | Self::Manifest | Self::Mark | Self::Local => "log",
            Self::Sidecar => "index",
            Self::Quarantine => "quarantine",
            Self::Spool => "spool",
        }
    }
}

/// The name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// What it is for.
    pub kind: FileKind,
    /// Its number among its kind.
    pub number: u64,
}

impl FileId {
    /// Names a file.
    pub const fn new(kind: FileKind, number: u64) -> Self {
        Self { kind, number }
    }

    /// Returns the path relative to the store's directory, with `/` between its parts.
    pub fn path(self) -> String {
        let (folder, number) = (self.kind.folder(), self.number);
        match self.kind {
            FileKind::Segment => format!("{folder}/{number:016x}.seg"),
            FileKind::Manifest => format!("{folder}/manifest-{number:x}"),
            FileKind::Mark => format!("{folder}/mark-{number:x}"),
            FileKind::Local => format!("{folder}/local-{number:x}"),
            FileKind::Sidecar => format!("{folder}/{number:016x}.six"),
            FileKind::Quarantine => format!("{folder}/{number:016x}.bin"),
            FileKind::Spool => format!("{folder}/{number:016x}.part"),
        }
    }

    /// Returns the file that lies at `path`, if it is the path of one.
    pub fn from_path(path: &str) -> Option<Self> {
        let (_, name) = path.rsplit_once('/')?;
        let digits = name.split(['.', '-']).find(|part| u64::from_str_radix(part, 16).is_ok());
        let number = u64::from_str_radix(digits?, 16).ok()?;
        FileKind::ALL.map(|kind| Self { kind, number }).into_iter().find(|id| id.path() == path)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// What kind of trouble a disk has.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskErrorKind {
    /// There is no such file.
    NotFound,
    /// The file ends before the bytes that were asked for.
    PastEnd,
    /// No space, or a quota is used up. Goes away when space returns.
    Full,
    /// The disk takes no writes. Goes away when it is mounted for writing again.
    ReadOnly,
    /// Permission is missing.
    Denied,
    /// The system is short of something (open files, memory). Goes away by itself.
    Busy,
    /// The device failed.
    Io,
}

/// Why an operation of a disk failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DiskError {
    /// What kind of trouble.
    pub kind: DiskErrorKind,
    /// What happened to which file, for people.
    pub message: String,
}

impl DiskError {
    /// Makes an error.
    pub fn new(kind: DiskErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Tells whether the disk refused without touching anything, and may accept the same later.
    pub fn is_refusal(&self) -> bool {
        use DiskErrorKind::{Busy, Denied, Full, ReadOnly};
        matches!(self.kind, Full | ReadOnly | Denied | Busy)
    }
}

/// A disk. All methods take `&self`: a host syncs one file while another thread writes.
pub trait Disk {
    /// Returns the files of one kind, in ascending order.
    ///
    /// # Errors
    /// Any [`DiskError`]; a missing folder is no error but an empty list.
    fn files(&self, kind: FileKind) -> Result<Vec<FileId>, DiskError>;

    /// Returns the length of a file, in bytes.
    ///
    /// # Errors
    /// [`DiskErrorKind::NotFound`] or another.
    fn len(&self, file: FileId) -> Result<u64, DiskError>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`DiskErrorKind::PastEnd`] if the file is too short, [`DiskErrorKind::NotFound`], or
    /// another. What is in the buffer then is unspecified.
    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `bytes` at `offset`; creates the file, fills a gap with zeros.
    ///
    /// # Errors
    /// Any [`DiskError`]; a front part of the bytes may have been written then.
    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Grows the file to `len` with zeros and reserves the space; creates it. Never shrinks it.
    ///
    /// A disk that cannot reserve may do nothing, or only grow.
    ///
    /// # Errors
    /// [`DiskErrorKind::Full`] or another.
    fn allocate(&self, file: FileId, len: u64) -> Result<(), DiskError>;

    /// Shortens the file to `len` bytes; does nothing if it is not longer.
    ///
    /// # Errors
    /// Any [`DiskError`].
    fn truncate(&self, file: FileId, len: u64) -> Result<(), DiskError>;

    /// Makes the file's bytes, its length and its directory entry survive a power cut.
    ///
    /// # Errors
    /// Any [`DiskError`]. Nothing is known about un-synced bytes then, and a second try proves
    /// nothing: the system may have marked them clean (Rebello et al., ATC 2020).
    fn sync(&self, file: FileId) -> Result<(), DiskError>;

    /// Replaces the whole content, atomically and durably on return; creates the file.
    ///
    /// # Errors
    /// Any [`DiskError`]; the old content is still there then, or already the new one.
    fn replace(&self, file: FileId, bytes: &[u8]) -> Result<(), DiskError>;

    /// Removes a file. Until the disk comes round to it a power cut may bring it back.
    ///
    /// # Errors
    /// Any [`DiskError`].
    fn remove(&self, file: FileId) -> Result<(), DiskError>;

    /// Renames a file over whatever has the new name, durably on return.
    ///
    /// # Errors
    /// Any [`DiskError`].
    fn rename(&self, from: FileId, to: FileId) -> Result<(), DiskError>;
}

impl<T: Disk + ?Sized> Disk for Arc<T> {
    fn files(&self, kind: FileKind) -> Result<Vec<FileId>, DiskError> {
        (**self).files(kind)
    }
    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        (**self).len(file)
    }
    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        (**self).read(file, offset, buffer)
    }
    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        (**self).write(file, offset, bytes)
    }
    fn allocate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        (**self).allocate(file, len)
    }
    fn truncate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        (**self).truncate(file, len)
    }
    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        (**self).sync(file)
    }
    fn replace(&self, file: FileId, bytes: &[u8]) -> Result<(), DiskError> {
        (**self).replace(file, bytes)
    }
    fn remove(&self, file: FileId) -> Result<(), DiskError> {
        (**self).remove(file)
    }
    fn rename(&self, from: FileId, to: FileId) -> Result<(), DiskError> {
        (**self).rename(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_file_and_nothing_else_does() {
        for kind in FileKind::ALL {
            for number in [0, 1, 0xab, 0xfeed_face_cafe, u64::MAX] {
                let file = FileId::new(kind, number);
                assert_eq!(FileId::from_path(&file.path()), Some(file), "{file}");
            }
        }
        for path in
            ["", "log/", "log/1.seg", "log/000000000000000A.seg", "log/manifest-01", "x/mark-0"]
        {
            assert_eq!(FileId::from_path(path), None, "{path}");
        }
    }
}
