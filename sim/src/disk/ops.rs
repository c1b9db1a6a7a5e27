//! The operations of the disk: asked of the disk in memory, unless a fault has a say.

use std::ops::Range;
use std::sync::atomic::Ordering;

use kdelta_engine::log::{Disk, DiskError, DiskErrorKind, FileId, FileKind, MemoryDisk};

use super::arm::Sort;
use super::fault::Fault;
use super::ledger::FaultId;
use super::overlay::Alter;
use super::text::Op;
use super::{SimDisk, State};

/// Tells whether the power is off.
pub(super) fn is_off(memory: &MemoryDisk) -> bool {
    let mut off = false;
    memory.faults(|faults| off = faults.power_off_in == Some(0));
    off
}

fn fail<T>(kind: DiskErrorKind, file: FileId, what: &str) -> Result<T, DiskError> {
    Err(DiskError::new(kind, format!("{file}: {what}")))
}

impl State {
    /// Tells whether a fault has turned the power off.
    fn off(&self, memory: &MemoryDisk) -> bool {
        self.switches.power.is_some() && is_off(memory)
    }

    /// Stands before every operation: it takes its time, and may be refused.
    fn begin(&mut self, memory: &MemoryDisk, op: Op, file: FileId) -> Result<(), DiskError> {
        if self.off(memory) {
            // It is refused by the disk in memory, and hits nothing else.
            return Ok(());
        }
        if op != Op::Sync || !self.clock.waited.remove(&file) {
            let delay = self.delay(op, file);
            self.clock.spent.add(delay);
        }
        if self.armed.is_empty() {
            return Ok(());
        }
        let creates =
            matches!(op, Op::Write | Op::Allocate | Op::Replace) && memory.size(file).is_none();
        for op in creates.then_some(Op::Create).into_iter().chain([op]) {
            if let Some((id, fault)) = self.due(Sort::Refuse, op, file) {
                self.ledger.told(id, fault.rows());
                let Fault::Refuse { error, .. } = fault else { continue };
                return fail(error, file, "the disk refuses");
            }
        }
        Ok(())
    }

    /// Stands after every operation: notes which switch failed it, or loses the answer.
    fn end<T>(
        &mut self,
        memory: &MemoryDisk,
        (op, file): (Op, FileId),
        done: Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let by = match &done {
            Ok(_) if matches!(op, Op::Read | Op::List) => None,
            Ok(_) => match self.due(Sort::LoseAnswer, op, file) {
                Some((id, fault)) => {
                    self.ledger.told(id, fault.rows());
                    return fail(DiskErrorKind::Io, file, "the answer is lost");
                }
                None => None,
            },
            Err(error) => match error.kind {
                DiskErrorKind::Full => self.switches.space,
                DiskErrorKind::ReadOnly => self.switches.read_only,
                DiskErrorKind::Io => self.switches.power.filter(|_| is_off(memory)),
                _ => None,
            },
        };
        if let Some(id) = by {
            let fault = self.ledger.entries().get(id.0).map(|entry| &entry.fault);
            let rows = match fault {
                Some(Fault::PowerOff { .. }) => self.power_rows(),
                Some(fault) => fault.rows(),
                None => &[],
            };
            self.ledger.told(id, rows);
        }
        done
    }

    /// A file that is another one altogether is so for good once it is changed.
    pub(super) fn settle_swap(&mut self, memory: &MemoryDisk, file: FileId) {
        if let Some(content) = self.overlay.take_swapped(&mut self.ledger, file) {
            memory.set(file, content.as_deref());
        }
    }

    /// Begins a change.
    fn change(&mut self, memory: &MemoryDisk, op: Op, file: FileId) -> Result<(), DiskError> {
        self.begin(memory, op, file)?;
        self.settle_swap(memory, file);
        Ok(())
    }

    fn files(&mut self, memory: &MemoryDisk, kind: FileKind) -> Result<Vec<FileId>, DiskError> {
        let folder = FileId::new(kind, 0);
        self.begin(memory, Op::List, folder)?;
        let done = memory.files(kind).map(|mut files| {
            files.retain(|file| !self.overlay.is_gone(&mut self.ledger, *file));
            files
        });
        self.end(memory, (Op::List, folder), done)
    }

    fn len(&mut self, memory: &MemoryDisk, file: FileId) -> Result<u64, DiskError> {
        self.begin(memory, Op::List, file)?;
        let mut done = memory.len(file);
        if done.is_ok() {
            done = match self.overlay.swapped(&mut self.ledger, file) {
                Some(Some(content)) => Ok(content.len() as u64),
                Some(None) => fail(DiskErrorKind::NotFound, file, "no such file"),
                None => done,
            };
        }
        self.end(memory, (Op::List, file), done)
    }

    fn read(
        &mut self,
        memory: &MemoryDisk,
        (file, offset): (FileId, u64),
        buffer: &mut [u8],
    ) -> Result<(), DiskError> {
        self.begin(memory, Op::Read, file)?;
        let mut done = memory.read(file, offset, buffer);
        if self.overlay.is_empty() || self.off(memory) {
            return self.end(memory, (Op::Read, file), done);
        }
        if let Some(content) = self.overlay.swapped(&mut self.ledger, file) {
            let part = content.map(|content| {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                content.get(start..start.saturating_add(buffer.len()))
            });
            done = match part {
                Some(Some(part)) => {
                    buffer.copy_from_slice(part);
                    Ok(())
                }
                Some(None) => fail(DiskErrorKind::PastEnd, file, "the file ends before that"),
                None => fail(DiskErrorKind::NotFound, file, "no such file"),
            };
        } else if done.is_ok() && !self.overlay.read(&mut self.ledger, file, offset, buffer) {
            done = fail(DiskErrorKind::Io, file, "a sector cannot be read");
        }
        self.end(memory, (Op::Read, file), done)
    }

    fn write(
        &mut self,
        memory: &MemoryDisk,
        (file, offset): (FileId, u64),
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        self.change(memory, Op::Write, file)?;
        let off = self.off(memory);
        let whole = offset..offset.saturating_add(bytes.len() as u64);
        let short = if off { None } else { self.due(Sort::ShortWrite, Op::Write, file) };
        if let Some((id, fault @ Fault::ShortWrite { keep, .. })) = short {
            let kept = usize::try_from(keep).unwrap_or(usize::MAX).min(bytes.len());
            let done = memory.write(file, offset, bytes.get(..kept).unwrap_or_default());
            if done.is_err() {
                self.ledger.over(id);
                return self.end(memory, (Op::Write, file), done);
            }
            self.overlay.written(&mut self.ledger, file, &(offset..offset + kept as u64));
            self.ledger.told(id, fault.rows());
            return fail(DiskErrorKind::Io, file, "the write failed");
        }
        let misdirect = if off { None } else { self.due(Sort::Misdirect, Op::Write, file) };
        let before = misdirect.is_some().then(|| memory.durable_part(file, whole.clone()));
        let done = memory.write(file, offset, bytes);
        if done.is_ok() && !self.overlay.is_empty() {
            self.overlay.written(&mut self.ledger, file, &whole);
        }
        if let (Some((id, fault)), Some(before)) = (misdirect, before) {
            match &done {
                Ok(()) => self.misdirect(memory, (id, &fault), (file, whole), before, bytes),
                Err(_) => self.ledger.over(id),
            }
        }
        self.end(memory, (Op::Write, file), done)
    }

    /// Lays the two ends of a misdirected write under the cache.
    fn misdirect(
        &mut self,
        memory: &MemoryDisk,
        (id, fault): (FaultId, &Fault),
        (file, whole): (FileId, Range<u64>),
        before: Vec<u8>,
        bytes: &[u8],
    ) {
        let Fault::Misdirect { to, offset, .. } = fault else { return };
        if whole.start < whole.end {
            let alter = Alter::Bytes(before);
            self.overlay.add(&mut self.ledger, (id, true), (file, whole), alter);
        }
        let room = memory.size(*to).unwrap_or(0).saturating_sub(*offset);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        if fits > 0 {
            let landed = bytes.get(..fits).unwrap_or_default().to_vec();
            let range = *offset..*offset + fits as u64;
            self.overlay.add(&mut self.ledger, (id, true), (*to, range), Alter::Bytes(landed));
        }
    }

    fn allocate(&mut self, memory: &MemoryDisk, file: FileId, len: u64) -> Result<(), DiskError> {
        self.change(memory, Op::Allocate, file)?;
        let done = memory.allocate(file, len);
        self.end(memory, (Op::Allocate, file), done)
    }

    fn truncate(&mut self, memory: &MemoryDisk, file: FileId, len: u64) -> Result<(), DiskError> {
        self.change(memory, Op::Truncate, file)?;
        let done = memory.truncate(file, len);
        if done.is_ok() {
            self.overlay.written(&mut self.ledger, file, &(len..u64::MAX));
        }
        self.end(memory, (Op::Truncate, file), done)
    }

    /// Lets a sync or a replacement fail in the disk in memory, if a fault says so. Also returns
    /// whether readers are to see the old bytes then.
    fn fail_sync(
        &mut self,
        memory: &MemoryDisk,
        file: FileId,
        sync: impl FnOnce() -> Result<(), DiskError>,
    ) -> Option<(Result<(), DiskError>, bool)> {
        let (id, fault) = self.due(Sort::FailSync, Op::Sync, file)?;
        let Fault::FailSync { error, old, .. } = fault else { return None };
        memory.faults(|faults| {
            (faults.syncs_to_pass, faults.syncs_to_fail) = (0, 1);
            faults.sync_error = Some(error);
        });
        let done = sync();
        memory.faults(|faults| {
            faults.syncs_to_fail = 0;
            faults.sync_error = None;
        });
        self.ledger.told(id, fault.rows());
        Some((done, old))
    }

    fn sync(&mut self, memory: &MemoryDisk, file: FileId) -> Result<(), DiskError> {
        self.change(memory, Op::Sync, file)?;
        if self.off(memory) || memory.size(file).is_none() {
            let done = memory.sync(file);
            return self.end(memory, (Op::Sync, file), done);
        }
        if let Some((done, old)) = self.fail_sync(memory, file, || memory.sync(file)) {
            self.sync_failed = true;
            if old {
                memory.evict(file);
            }
            return done;
        }
        let lie = self.due(Sort::LoseSync, Op::Sync, file);
        let lost = lie.map(|(id, _)| {
            let parts = memory.unsynced(file).into_iter().filter(|part| part.start < part.end);
            let before = |part: Range<u64>| (part.clone(), memory.durable_part(file, part));
            (id, parts.map(before).collect::<Vec<_>>())
        });
        let done = memory.sync(file);
        if let Some((id, parts)) = lost {
            if parts.is_empty() || done.is_err() {
                self.ledger.over(id);
            }
            for (part, before) in parts.into_iter().filter(|_| done.is_ok()) {
                let alter = Alter::Bytes(before);
                self.overlay.add(&mut self.ledger, (id, true), (file, part), alter);
            }
        }
        self.end(memory, (Op::Sync, file), done)
    }

    fn replace(
        &mut self,
        memory: &MemoryDisk,
        file: FileId,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        self.change(memory, Op::Replace, file)?;
        let off = self.off(memory);
        if !off
            && let Some((done, _)) = self.fail_sync(memory, file, || memory.replace(file, bytes))
        {
            return done;
        }
        let lie = if off { None } else { self.due(Sort::LoseSync, Op::Sync, file) };
        let before = lie.map(|(id, _)| (id, memory.durable(file)));
        let done = memory.replace(file, bytes);
        if done.is_ok() {
            self.overlay.remove(&mut self.ledger, file);
        }
        if let Some((id, before)) = before {
            let lost = (file, bytes.len() as u64);
            match &done {
                Ok(()) => self.overlay.swap(&mut self.ledger, (id, true), lost, before),
                Err(_) => self.ledger.over(id),
            }
        }
        self.end(memory, (Op::Replace, file), done)
    }

    fn remove(&mut self, memory: &MemoryDisk, file: FileId) -> Result<(), DiskError> {
        self.change(memory, Op::Remove, file)?;
        let done = memory.remove(file);
        if done.is_ok() {
            self.overlay.remove(&mut self.ledger, file);
        }
        self.end(memory, (Op::Remove, file), done)
    }

    fn rename(&mut self, memory: &MemoryDisk, from: FileId, to: FileId) -> Result<(), DiskError> {
        self.change(memory, Op::Rename, from)?;
        let done = memory.rename(from, to);
        if done.is_ok() && from != to {
            self.overlay.rename(&mut self.ledger, from, to);
        }
        self.end(memory, (Op::Rename, from), done)
    }
}

/// Asks the disk in memory alone while there is no fault.
macro_rules! ask {
    ($disk:ident, $op:ident, ($($plain:expr),*), ($($given:expr),*)) => {{
        $disk.asked.fetch_add(1, Ordering::Relaxed);
        if $disk.is_quiet() {
            $disk.memory.$op($($plain),*)
        } else {
            $disk.with(|state, memory| state.$op(memory, $($given),*))
        }
    }};
}

impl Disk for SimDisk {
    fn files(&self, kind: FileKind) -> Result<Vec<FileId>, DiskError> {
        ask!(self, files, (kind), (kind))
    }
    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        ask!(self, len, (file), (file))
    }
    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        ask!(self, read, (file, offset, buffer), ((file, offset), buffer))
    }
    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        ask!(self, write, (file, offset, bytes), ((file, offset), bytes))
    }
    fn allocate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        ask!(self, allocate, (file, len), (file, len))
    }
    fn truncate(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        ask!(self, truncate, (file, len), (file, len))
    }
    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        ask!(self, sync, (file), (file))
    }
    fn replace(&self, file: FileId, bytes: &[u8]) -> Result<(), DiskError> {
        ask!(self, replace, (file, bytes), (file, bytes))
    }
    fn remove(&self, file: FileId) -> Result<(), DiskError> {
        ask!(self, remove, (file), (file))
    }
    fn rename(&self, from: FileId, to: FileId) -> Result<(), DiskError> {
        ask!(self, rename, (from, to), (from, to))
    }
}
