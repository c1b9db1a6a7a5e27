//! The log's disk on a directory of the file system.
//!
//! Promises what [`Disk`] asks for: a sync covers bytes, length and directory entry; a replacement
//! is whole and durable or not there; a failed sync is told to whoever syncs. No lock is held
//! while the device works, so one thread syncs while others read and write. Folders are made when
//! first needed: opening a store on a read-only medium changes nothing. Does not keep others out;
//! that is [`lock`](super::lock).
//!
//! Open files are kept, up to a bound. One with un-synced bytes is never closed: the system tells
//! a failed write-back only to files that were open (Rebello et al., ATC 2020).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::lock::is_read_only;
use super::locked;
use crate::engine::log::{Disk, DiskError, DiskErrorKind, FileId, FileKind};

/// The files of one store, under its data directory.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    table: Mutex<Table>,
    /// Held by who replaces or renames, so that nobody takes the file beside its place for his.
    moves: Mutex<()>,
}

impl FileDisk {
    /// Uses the files under `root`, which must be a directory by the first write. Touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), table: Mutex::default(), moves: Mutex::default() }
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.root.join(file.path())
    }

    fn folder(&self, kind: FileKind) -> PathBuf {
        self.root.join(kind.folder())
    }

    /// Returns an open file for reading; one that can be written too, where that is possible.
    fn reader(&self, file: FileId) -> io::Result<Arc<Open>> {
        let mut table = locked(&self.table);
        if let Some(open) = table.find(file) {
            return Ok(open);
        }
        let path = self.path(file);
        let found = table.open(|| match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if is_read_only(&error) => Ok((File::open(&path)?, false)),
            found => Ok((found?, true)),
        })?;
        Ok(table.keep(file, found))
    }

    /// Returns an open file for writing, creating it and its folder.
    fn writer(&self, file: FileId) -> io::Result<Arc<Open>> {
        let mut table = locked(&self.table);
        if let Some(open) = table.find(file).filter(|open| open.writable) {
            return Ok(open);
        }
        let path = self.path(file);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(FILE_MODE);
        let opened = match table.open(|| options.open(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                options.create(true);
                // Known as new before it is there: a sync too many does no harm, one too few does.
                table.unlisted.insert(file);
                match table.open(|| options.open(&path)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        self.make_folder(file.kind)?;
                        table.open(|| options.open(&path))
                    }
                    opened => opened,
                }
            }
            opened => opened,
        };
        Ok(table.keep(file, (opened?, true)))
    }

    fn make_folder(&self, kind: FileKind) -> io::Result<()> {
        match fs::DirBuilder::new().mode(FOLDER_MODE).create(self.folder(kind)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_folder(&self.root),
        }
    }

    /// Writes the new content beside the place of the file, durably, and returns where.
    fn write_beside(&self, file: FileId, bytes: &[u8]) -> io::Result<PathBuf> {
        let mut beside = OsString::from(self.path(file));
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let opened = match options.open(&beside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_folder(file.kind)?;
                options.open(&beside)
            }
            opened => opened,
        };
        let written = opened.and_then(|new| {
            new.write_all_at(bytes, 0)?;
            new.sync_all()
        });
        if let Err(error) = written {
            // The space it takes may be the space that is missing.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        Ok(beside)
    }

    fn sync_now(&self, file: FileId) -> io::Result<()> {
        let open = self.reader(file)?;
        // Before the sync: a write that comes during it is not covered, and marks the file again.
        let dirty = open.dirty.swap(false, Ordering::AcqRel);
        if let Err(error) = open.file.sync_data() {
            open.dirty.fetch_or(dirty, Ordering::AcqRel);
            return Err(error);
        }
        if locked(&self.table).unlisted.contains(&file) {
            sync_folder(&self.folder(file.kind))?;
            locked(&self.table).unlisted.remove(&file);
        }
        Ok(())
    }

    fn replace_now(&self, file: FileId, bytes: &[u8]) -> io::Result<()> {
        let _moves = locked(&self.moves);
        let beside = self.write_beside(file, bytes)?;
        {
            // Under the lock, so that nobody opens the old file and keeps it as the new one.
            let mut table = locked(&self.table);
            fs::rename(beside, self.path(file))?;
            table.forget(file);
        }
        sync_folder(&self.folder(file.kind))
    }

    fn rename_now(&self, from: FileId, to: FileId) -> io::Result<()> {
        let _moves = locked(&self.moves);
        // A name that outlives a power cut must not stand for bytes that do not.
        self.sync_now(from)?;
        let rename = || {
            let mut table = locked(&self.table);
            fs::rename(self.path(from), self.path(to))?;
            table.forget(from);
            table.forget(to);
            Ok(())
        };
        match rename() {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => {
                self.make_folder(to.kind)?;
                rename()?;
            }
            renamed => renamed?,
        }
        sync_folder(&self.folder(to.kind))?;
        if from.kind.folder() != to.kind.folder() {
            sync_folder(&self.folder(from.kind))?;
        }
        Ok(())
    }
}

impl Disk for FileDisk {
    fn files(&self, kind: FileKind) -> Result<Vec<FileId>, DiskError> {
        let folder = self.folder(kind);
        let failed = |error: io::Error| explain("list", &folder.display(), &error);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let path = name.to_str().map(|name| format!("{}/{name}", kind.folder()));
            files.extend(path.and_then(|p| FileId::from_path(&p)).filter(|f| f.kind == kind));
        }
        files.sort_unstable();
        Ok(files)
    }

    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        // Opening asks how long each segment is, and reads few of them.
        let open = locked(&self.table).find(file);
        let len = || match open {
            Some(open) => Ok(open.file.metadata()?.len()),
            None => Ok(fs::metadata(self.path(file))?.len()),
        };
        len().map_err(|error| explain("measure", &file, &error))
    }

    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut read = || self.reader(file)?.file.read_exact_at(buffer, offset);
        read().map_err(|error| explain("read", &file, &error))
    }

    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let write = || self.writer(file)?.touched().write_all_at(bytes, offset);
        write().map_err(|error| explain("write", &file, &error))
    }

    fn allocate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let grow = || {
            let open = self.writer(file)?;
            let has = open.file.metadata()?.len();
            let more = len.saturating_sub(has);
            if more == 0 {
                return Ok(());
            }
            let reserve = || fallocate(open.touched(), FallocateFlags::empty(), has, more);
            match retry_on_intr(reserve) {
                // A file system that cannot reserve: grow at least.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => open.file.set_len(len),
                reserved => Ok(reserved?),
            }
        };
        grow().map_err(|error| explain("reserve space for", &file, &error))
    }

    fn truncate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let cut = || {
            if self.reader(file)?.file.metadata()?.len() <= len {
                return Ok(());
            }
            self.writer(file)?.touched().set_len(len)
        };
        cut().map_err(|error| explain("shorten", &file, &error))
    }

    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        self.sync_now(file).map_err(|error| explain("sync", &file, &error))
    }

    fn replace(&self, file: FileId, bytes: &[u8]) -> Result<(), DiskError> {
        self.replace_now(file, bytes).map_err(|error| explain("replace", &file, &error))
    }

    fn remove(&self, file: FileId) -> Result<(), DiskError> {
        let mut table = locked(&self.table);
        fs::remove_file(self.path(file)).map_err(|error| explain("remove", &file, &error))?;
        table.forget(file);
        Ok(())
    }

    fn rename(&self, from: FileId, to: FileId) -> Result<(), DiskError> {
        self.rename_now(from, to).map_err(|error| explain("rename", &from, &error))
    }
}

/// An open file.
#[derive(Debug)]
struct Open {
    file: File,
    writable: bool,
    /// Changed since the last sync through this very handle.
    dirty: AtomicBool,
}

impl Open {
    /// Marks the file as changed, before it is.
    fn touched(&self) -> &File {
        self.dirty.store(true, Ordering::Release);
        &self.file
    }
}

/// What is known of files, under one lock that is never held during a sync, read or write.
#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<FileId, (Arc<Open>, u64)>,
    /// Counts uses, so that the least recently used file is closed first.
    uses: u64,
    /// Files whose directory entry may not be durable.
    unlisted: BTreeSet<FileId>,
}

impl Table {
    fn find(&mut self, file: FileId) -> Option<Arc<Open>> {
        self.uses += 1;
        let (open, used) = self.open.get_mut(&file)?;
        *used = self.uses;
        Some(Arc::clone(open))
    }

    /// Opens a file; when the process has too many of them open, closes ours and tries again.
    fn open<T>(&mut self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if errno(&error).is_some_and(is_short_of_files) && self.shrink(0) => open(),
            opened => opened,
        }
    }

    fn keep(&mut self, file: FileId, (found, writable): (File, bool)) -> Arc<Open> {
        self.shrink(OPEN_FILES_MAX - 1);
        let open = Arc::new(Open { file: found, writable, dirty: AtomicBool::new(false) });
        self.open.insert(file, (Arc::clone(&open), self.uses));
        open
    }

    /// Closes files without un-synced bytes, the least recently used first, until at most `max`
    /// are left; tells whether any was closed.
    fn shrink(&mut self, max: usize) -> bool {
        let mut closed = false;
        while self.open.len() > max {
            let idle = self.open.iter().filter(|(_, (open, _))| {
                // Whoever holds it may be about to write.
                Arc::strong_count(open) == 1 && !open.dirty.load(Ordering::Acquire)
            });
            let Some(file) = idle.min_by_key(|(_, (_, used))| *used).map(|(file, _)| *file) else {
                break;
            };
            self.open.remove(&file);
            closed = true;
        }
        closed
    }

    fn forget(&mut self, file: FileId) {
        self.open.remove(&file);
        self.unlisted.remove(&file);
    }
}

/// Makes the entries of a folder durable; file systems that cannot have nothing to make durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if errno(&error) == Some(Errno::INVAL) => Ok(()),
        synced => synced,
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

fn is_short_of_files(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}

fn explain(what: &str, file: &dyn std::fmt::Display, error: &io::Error) -> DiskError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => DiskErrorKind::NotFound,
        io::ErrorKind::UnexpectedEof => DiskErrorKind::PastEnd,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero => {
            DiskErrorKind::Full
        }
        io::ErrorKind::FileTooLarge => DiskErrorKind::Full,
        io::ErrorKind::ReadOnlyFilesystem => DiskErrorKind::ReadOnly,
        io::ErrorKind::PermissionDenied => DiskErrorKind::Denied,
        io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => DiskErrorKind::Busy,
        _ if errno(error).is_some_and(is_short_of_files) => DiskErrorKind::Busy,
        _ => DiskErrorKind::Io,
    };
    DiskError::new(kind, format!("cannot {what} {file}: {error}"))
}

/// Most files that are kept open while they have nothing to sync: a quarter of the usual limit.
const OPEN_FILES_MAX: usize = 256;

/// Values and secrets of tickets are in the files: their owner alone reads them.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log::MemoryDisk;
    use proptest::prelude::*;

    fn segment(number: u64) -> FileId {
        FileId::new(FileKind::Segment, number)
    }

    fn disk() -> (tempfile::TempDir, FileDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(dir.path());
        (dir, disk)
    }

    fn content(disk: &impl Disk, file: FileId) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(disk.len(file).ok()?).unwrap()];
        disk.read(file, 0, &mut bytes).unwrap();
        Some(bytes)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(FileId, u64, Vec<u8>),
        Allocate(FileId, u64),
        Truncate(FileId, u64),
        Sync(FileId),
        Replace(FileId, Vec<u8>),
        Remove(FileId),
        Rename(FileId, FileId),
        Read(FileId, u64, usize),
    }

    fn file() -> impl Strategy<Value = FileId> {
        (0_usize..FileKind::ALL.len(), 0_u64..2).prop_map(|(k, n)| FileId::new(FileKind::ALL[k], n))
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = || prop::collection::vec(any::<u8>(), 1..20);
        prop_oneof![
            4 => (file(), 0_u64..30, bytes()).prop_map(|(f, at, b)| Step::Write(f, at, b)),
            1 => (file(), 0_u64..60).prop_map(|(f, len)| Step::Allocate(f, len)),
            1 => (file(), 0_u64..30).prop_map(|(f, len)| Step::Truncate(f, len)),
            1 => file().prop_map(Step::Sync),
            1 => (file(), bytes()).prop_map(|(f, b)| Step::Replace(f, b)),
            1 => file().prop_map(Step::Remove),
            1 => (file(), file()).prop_map(|(a, b)| Step::Rename(a, b)),
            2 => (file(), 0_u64..40, 1_usize..20).prop_map(|(f, at, n)| Step::Read(f, at, n)),
        ]
    }

    fn apply(disk: &impl Disk, step: &Step) -> Result<Vec<u8>, DiskErrorKind> {
        let mut buffer = Vec::new();
        let done = match step {
            Step::Write(file, at, bytes) => disk.write(*file, *at, bytes),
            Step::Allocate(file, len) => disk.allocate(*file, *len),
            Step::Truncate(file, len) => disk.truncate(*file, *len),
            Step::Sync(file) => disk.sync(*file),
            Step::Replace(file, bytes) => disk.replace(*file, bytes),
            Step::Remove(file) => disk.remove(*file),
            Step::Rename(from, to) => disk.rename(*from, *to),
            Step::Read(file, at, len) => {
                buffer.resize(*len, 0);
                disk.read(*file, *at, &mut buffer)
            }
        };
        done.map(|()| buffer).map_err(|error| error.kind)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The disk in memory is the specification.
        #[test]
        fn real_files_do_what_the_disk_in_memory_does(
            steps in prop::collection::vec(step(), 1..40),
        ) {
            let (dir, real) = disk();
            let model = MemoryDisk::new();
            for step in &steps {
                prop_assert_eq!(apply(&real, step), apply(&model, step), "{:?}", step);
            }
            // What was removed, renamed or replaced is not kept open.
            for file in locked(&real.table).open.keys() {
                prop_assert!(model.len(*file).is_ok(), "{} is open and gone", file);
            }
            // Another process sees the same as the one that wrote.
            for disk in [&real, &FileDisk::new(dir.path())] {
                for kind in FileKind::ALL {
                    let files = disk.files(kind).unwrap();
                    prop_assert_eq!(&files, &model.files(kind).unwrap());
                    for file in files {
                        prop_assert_eq!(content(disk, file), content(&model, file));
                    }
                }
            }
        }
    }

    #[test]
    fn reading_an_empty_directory_makes_nothing() {
        let (dir, disk) = disk();
        for kind in FileKind::ALL {
            assert_eq!(disk.files(kind), Ok(Vec::new()));
        }
        assert_eq!(disk.len(segment(1)).unwrap_err().kind, DiskErrorKind::NotFound);
        assert_eq!(disk.read(segment(1), 0, &mut []).unwrap_err().kind, DiskErrorKind::NotFound);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn other_names_in_the_folders_are_not_files_of_the_store() {
        let (dir, disk) = disk();
        disk.write(segment(1), 0, b"x").unwrap();
        for name in ["notes.txt", "manifest-0.new", "1.seg", "0000000000000002.six"] {
            fs::write(dir.path().join("log").join(name), b"").unwrap();
        }
        assert_eq!(disk.files(FileKind::Segment), Ok(vec![segment(1)]));
        assert_eq!(disk.files(FileKind::Manifest), Ok(vec![]));
    }

    #[test]
    fn few_files_are_open_and_none_with_unsynced_bytes_is_closed() {
        let (_dir, disk) = disk();
        disk.write(segment(0), 0, b"not synced").unwrap();
        for number in 1..400 {
            fs::write(disk.path(segment(number)), b"x").unwrap();
            assert_eq!(disk.len(segment(number)), Ok(1));
        }
        assert_eq!(locked(&disk.table).open.len(), 1, "a file is not opened to be measured");
        for number in 1..400 {
            disk.read(segment(number), 0, &mut [0]).unwrap();
        }
        let table = locked(&disk.table);
        assert_eq!(table.open.len(), OPEN_FILES_MAX);
        assert!(table.open.contains_key(&segment(0)));
        assert_eq!(table.unlisted, BTreeSet::from([segment(0)]));
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_while_others_write() {
        let (_dir, disk) = disk();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for at in 0..200 {
                    disk.write(segment(1), at * 100, &[7; 100]).unwrap();
                    let mut back = [0; 100];
                    disk.read(segment(1), at * 100, &mut back).unwrap();
                    assert_eq!(back, [7; 100]);
                }
            });
            while !writer.is_finished() {
                match disk.sync(segment(1)) {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.kind, DiskErrorKind::NotFound),
                }
            }
        });
        disk.sync(segment(1)).unwrap();
        let table = locked(&disk.table);
        assert!(!table.open[&segment(1)].0.dirty.load(Ordering::Acquire));
        assert!(table.unlisted.is_empty());
    }

    #[test]
    fn space_is_reserved_and_never_taken_back() {
        use std::os::unix::fs::MetadataExt as _;
        let (dir, disk) = disk();
        disk.write(segment(1), 0, b"abc").unwrap();
        disk.allocate(segment(1), 1 << 20).unwrap();
        disk.allocate(segment(1), 10).unwrap();
        let path = dir.path().join(segment(1).path());
        let data = fs::metadata(&path).unwrap();
        assert_eq!(data.len(), 1 << 20);
        assert!(data.blocks() * 512 >= 1 << 20, "a hole is no reservation");
    }

    #[test]
    fn errors_are_told_by_what_can_be_done() {
        let kind_of = |error: Errno| explain("write", &"x", &io::Error::from(error)).kind;
        assert_eq!(kind_of(Errno::NOSPC), DiskErrorKind::Full);
        assert_eq!(kind_of(Errno::DQUOT), DiskErrorKind::Full);
        assert_eq!(kind_of(Errno::ROFS), DiskErrorKind::ReadOnly);
        assert_eq!(kind_of(Errno::ACCESS), DiskErrorKind::Denied);
        assert_eq!(kind_of(Errno::PERM), DiskErrorKind::Denied);
        assert_eq!(kind_of(Errno::MFILE), DiskErrorKind::Busy);
        assert_eq!(kind_of(Errno::IO), DiskErrorKind::Io);
        assert_eq!(kind_of(Errno::NOENT), DiskErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_without_space_says_so() {
        let (dir, disk) = disk();
        fs::create_dir(dir.path().join("log")).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join(segment(1).path())).unwrap();
        assert_eq!(disk.write(segment(1), 0, b"x").unwrap_err().kind, DiskErrorKind::Full);
    }

    #[test]
    fn only_the_owner_may_read_what_is_stored() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(dir.path());
        let file = FileId { kind: FileKind::Local, number: 0 };
        disk.replace(file, b"secret").unwrap();
        disk.write(FileId { kind: FileKind::Segment, number: 1 }, 0, b"value").unwrap();
        for entry in fs::read_dir(dir.path().join("log")).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
        let mode = fs::metadata(dir.path().join("log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
