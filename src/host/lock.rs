//! One writer per data directory.
//!
//! The lock is an advisory lock of the operating system on the file `lock`, so it dies with the
//! process that holds it, however that ends, and a left-over file means nothing. Nothing is written
//! into it: on a busy disk that would wait for the file system's journal, at each opening. Network
//! file systems may not honour it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// A held lock; dropping it lets the next one in.
#[derive(Debug)]
pub struct Lock {
    /// None where the medium is read-only and holds no lock file.
    file: Option<File>,
    exclusive: bool,
}

/// Why the data directory is not locked.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works in the directory: talk to it, or end it, and try again.
    #[error("{} is in use{}", dir.display(), pid.map(|p| format!(" by process {p}")).unwrap_or_default())]
    Held {
        /// The data directory.
        dir: PathBuf,
        /// The process that holds the lock, where the system tells (Linux).
        pid: Option<u32>,
    },
    /// The directory cannot be written; [`Lock::acquire_shared`] is enough to read it.
    #[error("{} cannot be written", dir.display())]
    ReadOnly {
        /// The data directory.
        dir: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The operating system failed.
    #[error("cannot lock {}", dir.display())]
    Io {
        /// The data directory.
        dir: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of a writer, waiting up to `wait` for another holder to go.
    ///
    /// The directory must exist. Blocks the thread; tries every 20 ms.
    ///
    /// # Errors
    /// [`LockError::Held`] when time is up, [`LockError::ReadOnly`] if the directory cannot be
    /// written, [`LockError::Io`] otherwise.
    pub fn acquire(dir: &Path, wait: Duration) -> Result<Self, LockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path(dir))
            .map_err(|source| refused(dir, source))?;
        poll(dir, &file, wait, File::try_lock)?;
        Ok(Self { file: Some(file), exclusive: true })
    }

    /// Takes the lock of a reader: many readers, but no writer, at one time.
    ///
    /// Works on a read-only medium too; where that holds no lock file there is nothing to lock,
    /// as nobody can be writing.
    ///
    /// # Errors
    /// [`LockError::Held`] when a writer does not go in time, [`LockError::Io`] otherwise.
    pub fn acquire_shared(dir: &Path, wait: Duration) -> Result<Self, LockError> {
        let file = match File::open(path(dir)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_dir() => {
                match OpenOptions::new().create_new(true).read(true).write(true).open(path(dir)) {
                    Ok(file) => file,
                    Err(error) if is_read_only(&error) => {
                        return Ok(Self { file: None, exclusive: false });
                    }
                    // Somebody was faster.
                    Err(_) => File::open(path(dir)).map_err(|source| io_error(dir, source))?,
                }
            }
            Err(source) => return Err(io_error(dir, source)),
        };
        poll(dir, &file, wait, File::try_lock_shared)?;
        Ok(Self { file: Some(file), exclusive: false })
    }

    /// Lets the next one in before this is dropped.
    pub fn release(&self) {
        if let Some(file) = &self.file {
            // The file is closed with this value at the latest, and that lets go too.
            let _ = file.unlock();
        }
    }

    /// Tells whether this is the lock of a writer.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

fn poll(
    dir: &Path,
    file: &File,
    wait: Duration,
    attempt: fn(&File) -> Result<(), TryLockError>,
) -> Result<(), LockError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    loop {
        match attempt(file) {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(source)) => return Err(io_error(dir, source)),
            Err(TryLockError::WouldBlock) => {
                let left = wait.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    return Err(LockError::Held { dir: dir.to_owned(), pid: holder(file) });
                }
                thread::sleep(left.min(PAUSE));
            }
        }
    }
}

/// Finds the process that holds the lock of a file: of those that the kernel lists (proc_locks(5))
/// with the file's inode, the one that has this very file open. Other file systems have that inode
/// too, and some give the kernel another device than they give to us.
fn holder(file: &File) -> Option<u32> {
    let own = file.metadata().ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // An arrow leads whoever only waits.
    let held = locks.lines().filter(|line| !line.contains("->"));
    let mut holders = held.filter_map(|line| {
        let mut fields = line.split_whitespace().skip_while(|field| *field != "FLOCK").skip(3);
        let (pid, place) = (fields.next()?.parse().ok()?, fields.next()?);
        let inode: u64 = place.rsplit(':').next()?.parse().ok()?;
        (inode == own.ino()).then_some(pid)
    });
    let has_it_open = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut open = open.filter_map(|entry| fs::metadata(entry.path()).ok());
        open.any(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()))
    };
    holders.find(has_it_open)
}

fn path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

fn refused(dir: &Path, source: io::Error) -> LockError {
    if is_read_only(&source) {
        return LockError::ReadOnly { dir: dir.to_owned(), source };
    }
    io_error(dir, source)
}

fn io_error(dir: &Path, source: io::Error) -> LockError {
    LockError::Io { dir: dir.to_owned(), source }
}

/// Tells whether an error means that the place cannot be written, for whatever reason.
pub(super) fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(60);

    #[test]
    fn a_second_writer_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::acquire(dir.path(), SOON).unwrap();
        assert!(held.is_exclusive());
        match Lock::acquire(dir.path(), SOON) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(held);
        Lock::acquire(dir.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn readers_share_and_keep_writers_out() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::acquire_shared(dir.path(), SOON).unwrap();
        let second = Lock::acquire_shared(dir.path(), SOON).unwrap();
        assert!(matches!(Lock::acquire(dir.path(), SOON), Err(LockError::Held { .. })));
        drop((first, second));
        let _writer = Lock::acquire(dir.path(), SOON).unwrap();
        let reader = Lock::acquire_shared(dir.path(), SOON);
        assert!(matches!(reader, Err(LockError::Held { .. })));
    }

    #[test]
    fn who_waits_gets_the_lock_when_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::acquire(dir.path(), SOON).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::acquire(dir.path(), Duration::from_secs(60)));
            thread::sleep(SOON);
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        assert!(matches!(Lock::acquire(&gone, SOON), Err(LockError::Io { .. })));
        assert!(matches!(Lock::acquire_shared(&gone, SOON), Err(LockError::Io { .. })));
    }
}
