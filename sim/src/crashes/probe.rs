//! A disk that tells somebody of each change just before it is made.
//!
//! Between two changes lies one boundary: what a power cut leaves depends on what was done before,
//! and is the same anywhere until the next change. It can also lie about syncs, to show that the
//! checks would notice. Reads are not told of.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use kdelta_engine::log::{Disk, DiskError, FileId, FileKind, MemoryDisk};

/// A change that was about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// What was about to be done: the name of a method of [`Disk`], or `end`.
    pub change: &'static str,
    /// To which file; none at the end.
    pub file: Option<FileId>,
}

impl Touch {
    /// Stands for the end of a script.
    pub(crate) const END: Self = Self { change: "end", file: None };
}

impl fmt::Display for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            Some(file) => write!(f, "{} of {file}", self.change),
            None => f.write_str(self.change),
        }
    }
}

/// Who is told.
pub(crate) type Watch = Box<dyn FnMut(&MemoryDisk, Touch)>;

/// The disk; clones are the same disk.
#[derive(Clone)]
pub(crate) struct Probe {
    inner: Rc<Inner>,
}

struct Inner {
    disk: RefCell<Arc<MemoryDisk>>,
    watch: RefCell<Option<Watch>>,
    /// Of so many syncs the last does nothing and says that it did; 0: none does.
    lies: u64,
    syncs: Cell<u64>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("lies", &self.inner.lies).finish_non_exhaustive()
    }
}

impl Probe {
    /// Puts the probe before `disk`. Of `lies` syncs the last is a lie; of 0 none is.
    pub(crate) fn new(disk: MemoryDisk, lies: u64, watch: Watch) -> Self {
        let (disk, watch) = (RefCell::new(Arc::new(disk)), RefCell::new(Some(watch)));
        Self { inner: Rc::new(Inner { disk, watch, lies, syncs: Cell::new(0) }) }
    }

    /// Returns the disk behind.
    pub(crate) fn disk(&self) -> Arc<MemoryDisk> {
        Arc::clone(&self.inner.disk.borrow())
    }

    /// Puts another disk in its place, as who copies an old state back does.
    pub(crate) fn set_disk(&self, disk: MemoryDisk) {
        *self.inner.disk.borrow_mut() = Arc::new(disk);
    }

    /// Tells somebody else from now on, or nobody.
    pub(crate) fn watch(&self, watch: Option<Watch>) {
        *self.inner.watch.borrow_mut() = watch;
    }

    /// Tells that `touch` is about to happen.
    pub(crate) fn tell(&self, touch: Touch) {
        // Taken out while it runs: what it looks at may use this disk.
        let watch = self.inner.watch.borrow_mut().take();
        if let Some(mut watch) = watch {
            watch(&self.disk(), touch);
            *self.inner.watch.borrow_mut() = Some(watch);
        }
    }

    fn before(&self, change: &'static str, file: FileId) -> Arc<MemoryDisk> {
        self.tell(Touch { change, file: Some(file) });
        self.disk()
    }
}

impl Disk for Probe {
    fn files(&self, kind: FileKind) -> Result<Vec<FileId>, DiskError> {
        self.disk().files(kind)
    }
    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        Disk::len(&self.disk(), file)
    }
    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk().read(file, offset, buffer)
    }
    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.before("write", file).write(file, offset, bytes)
    }
    fn allocate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        self.before("allocate", file).allocate(file, len)
    }
    fn truncate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        self.before("truncate", file).truncate(file, len)
    }
    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        let disk = self.before("sync", file);
        let count = self.inner.syncs.get() + 1;
        self.inner.syncs.set(count);
        if self.inner.lies > 0 && count.is_multiple_of(self.inner.lies) {
            return Ok(());
        }
        disk.sync(file)
    }
    fn replace(&self, file: FileId, bytes: &[u8]) -> Result<(), DiskError> {
        self.before("replace", file).replace(file, bytes)
    }
    fn remove(&self, file: FileId) -> Result<(), DiskError> {
        self.before("remove", file).remove(file)
    }
    fn rename(&self, from: FileId, to: FileId) -> Result<(), DiskError> {
        self.before("rename", from).rename(from, to)
    }
}
