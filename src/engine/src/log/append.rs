//! Writing: append, flush, sync.
//!
//! Records gather in the open group, a flush hands the group to the disk with one write, and the
//! host syncs it outside any lock. Nothing here waits for a sync but the entry of a new segment in
//! the manifest. When to do what is not decided here.

use std::collections::VecDeque;

use super::active::Active;
use super::disk::{Disk, DiskError, FileId};
use super::error::{LogError, OpenError};
use super::failover::Health;
use super::manifest::{Manifest, Mark, State};
use super::record::{self, RecordKind};
use super::segment::{GROUP_BYTES, SEAL_BYTES, SegmentId};
use super::{FIRST_OFFSET, Position, Recovery};
use crate::base::{Rng, WallTime};
use crate::limits;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The store that the files belong to. Files of another are refused.
    pub store: [u8; 16],
    /// A segment that reached this many bytes should be sealed; see [`Log::wants_seal`].
    pub segment_bytes_max: u32,
    /// How much is reserved for a new segment at first, in bytes; it doubles from there.
    pub preallocate_bytes: u32,
    /// The wall clock at opening; see [`Log::set_wall`].
    pub wall: WallTime,
    /// The source of salts.
    pub rng: Rng,
}

impl LogOptions {
    /// The defaults: segments of 8 MiB, 1 MiB reserved at first.
    pub fn new(store: [u8; 16], rng: Rng) -> Self {
        let (segment_bytes_max, preallocate_bytes) = (8 << 20, 1 << 20);
        Self { store, segment_bytes_max, preallocate_bytes, wall: WallTime(0), rng }
    }
}

/// A file to be synced by the host, outside any lock: `disk.sync(ticket.file)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncTicket {
    /// The file.
    pub file: FileId,
    /// What is durable once the sync succeeded.
    pub upto: Position,
}

/// Records that were written anew because their segment's disk failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where the old segment ends now; zero offset if nothing of it is left.
    pub end: Position,
    /// Old and new position of each record, in order.
    pub records: Vec<(Position, Position)>,
}

/// An append-only log of records.
#[derive(Debug)]
pub struct Log<D> {
    pub(super) disk: D,
    pub(super) store: [u8; 16],
    pub(super) segment_bytes_max: u32,
    pub(super) preallocate_bytes: u32,
    pub(super) wall: WallTime,
    pub(super) rng: Rng,
    pub(super) manifest: Manifest,
    /// Whether the manifest on disk lacks an edit.
    pub(super) manifest_due: bool,
    pub(super) active: Option<Active>,
    /// The number of the next segment.
    pub(super) number_next: u64,
    pub(super) health: Health,
    pub(super) syncing: bool,
    pub(super) moved: VecDeque<Moved>,
    /// Where the log ended when the last group was taken back that was, and why, until somebody
    /// asks.
    pub(super) refused: Option<(Position, DiskError)>,
    /// The clean mark on disk.
    pub(super) mark: Option<Mark>,
}

impl<D: Disk> Log<D> {
    /// Opens the log of a store, or a new one if there is none. Recovers what a crash left.
    ///
    /// Reads the manifest and the newest segment; the cost does not depend on the history. Writes
    /// only if the last end was not orderly; a disk that refuses that is opened for reading.
    ///
    /// # Errors
    /// [`OpenError`]; no file was changed then. Damage is no error: see [`Recovery::damage`].
    pub fn open(disk: D, options: &LogOptions) -> Result<(Self, Recovery), OpenError> {
        super::recovery::open(disk, options)
    }

    /// Writes again what a failing disk did not take, if that is due; so does each change first.
    ///
    /// # Errors
    /// [`LogError::Stalled`] or [`LogError::Failed`].
    pub fn retry(&mut self) -> Result<(), LogError> {
        self.ready()
    }

    /// Appends a record to the open group and returns where it starts. Reads see it at once.
    ///
    /// The first record of a segment creates its file and reserves space, so a full disk is met
    /// here, not when the group is flushed. Kinds start at [`RecordKind::CALLER_MIN`].
    ///
    /// # Errors
    /// [`LogError`]. The log is unchanged.
    pub fn append(&mut self, kind: RecordKind, body: &[u8]) -> Result<Position, LogError> {
        assert!(kind.is_callers(), "{kind:?} belongs to the log");
        if body.len() > limits::RECORD_BYTES_MAX {
            return Err(LogError::TooLarge { len: body.len() });
        }
        self.ready()?;
        let framed = record::framed(body.len());
        let (end, open, pending) = self.active.as_ref().map_or((FIRST_OFFSET, 0, 0), |active| {
            let open = if active.open_count > 0 { active.unflushed().len() } else { 0 };
            (active.end(), open, active.tail.len())
        });
        if open > 0 && open + framed > limits::GROUP_BYTES_MAX {
            return Err(LogError::GroupFull);
        }
        if pending > 0 && pending + framed > limits::UNDURABLE_BYTES_MAX {
            return Err(LogError::SyncBehind);
        }
        // The record, its group, one more mark and the seal always fit behind what is reserved.
        let needed = end as usize + framed + (2 * GROUP_BYTES + SEAL_BYTES) as usize;
        if needed > limits::SEGMENT_BYTES_MAX {
            return Err(LogError::SegmentFull);
        }
        let needed = u32::try_from(needed).map_err(|_| LogError::SegmentFull)?;
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.begin()?,
        };
        if let Err(error) = self.reserve(&mut active, needed) {
            if active.records > 0 {
                self.active = Some(active);
            } else {
                // Best effort: an empty file is swept up when the log is opened.
                let _ = self.disk.remove(active.id.file_id());
            }
            return Err(LogError::refused(error));
        }
        let at = active.append(kind, body);
        let position = active.position(at);
        self.active = Some(active);
        Ok(position)
    }

    /// Closes the open group: writes all its records with one write. Does nothing if it is empty.
    ///
    /// # Errors
    /// [`LogError::Full`] or [`LogError::ReadOnly`]: the disk took less than it had reserved, and
    /// the whole open group is taken back; [`Self::take_refused`] tells too. [`LogError::Stalled`]
    /// or [`LogError::Failed`]: the disk failed; the records stay readable in memory. If the disk
    /// failed and the records could be written to a new segment there is no error;
    /// [`Self::take_moved`] tells.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.ready()?;
        match &mut self.active {
            Some(active) if active.open_count > 0 => active.close_group(),
            _ => return Ok(()),
        }
        self.write_out()
    }

    /// Returns where the last record ends. Marks that the log writes for itself do not count.
    pub fn written(&self) -> Position {
        match &self.active {
            Some(active) => active.position(active.written),
            None => self.closed_end(),
        }
    }

    /// Returns the position below which everything survives a crash.
    ///
    /// All is durable exactly if this is not below [`Self::written`].
    pub fn durable(&self) -> Position {
        match &self.active {
            Some(active) if mutant!("ack-before-sync") => active.position(active.flushed),
            Some(active) if active.durable > 0 => active.position(active.durable),
            _ => self.closed_end(),
        }
    }

    /// Returns the file to sync, if flushed records wait for it. One ticket at a time.
    pub fn sync_due(&mut self) -> Option<SyncTicket> {
        let active = self.active.as_ref().filter(|_| self.health.is_good() && !self.syncing)?;
        if active.flushed == 0 || active.flushed_records_end() <= active.durable {
            return None;
        }
        let ticket =
            SyncTicket { file: active.id.file_id(), upto: active.position(active.flushed) };
        self.syncing = true;
        Some(ticket)
    }

    /// Takes the result of a sync that [`Self::sync_due`] asked for.
    ///
    /// The first success in a segment also enters the segment in the manifest, which is durable
    /// on return; that blocks, once per segment. After a failure the file is never synced again:
    /// its un-durable records are written to a new segment, see [`Self::take_moved`].
    ///
    /// # Errors
    /// [`LogError::Stalled`] or [`LogError::Failed`]. A ticket of a file that is no longer written
    /// to is ignored.
    pub fn synced(
        &mut self,
        ticket: SyncTicket,
        result: Result<(), DiskError>,
    ) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.id.file_id() != ticket.file || !self.syncing {
            return Ok(());
        }
        self.syncing = false;
        match result {
            Err(_) if mutant!("failed-sync-ignored") => {
                active.durable_to(ticket.upto.offset);
                Ok(())
            }
            Ok(()) => {
                active.durable_to(ticket.upto.offset);
                let listed = active.listed || mutant!("new-segment-not-listed");
                self.health.mended();
                // Before anybody is told: the loss of the whole file must be noticed, too.
                if !listed {
                    self.list_active();
                }
                Ok(())
            }
            Err(error) => self.fail_over("syncing", error),
        }
    }

    /// Writes a mark if the last group is durable and nothing in the log says so yet.
    ///
    /// The host calls this after 50 ms without work. The mark itself needs no sync. Returns whether
    /// one was written.
    ///
    /// # Errors
    /// As [`Self::flush`]. No record is concerned.
    pub fn idle_mark(&mut self) -> Result<bool, LogError> {
        if !self.health.is_good() {
            return Ok(false);
        }
        let Some(active) = &mut self.active else { return Ok(false) };
        let due = active.open_count == 0
            && active.durable >= active.written
            && active.flushed == active.end()
            && active.marked < active.written;
        if !due {
            return Ok(false);
        }
        active.close_group();
        let listed = active.listed;
        self.write_out()?;
        if !listed {
            self.list_active();
        }
        Ok(true)
    }

    /// Returns what was moved to a new segment since the last call, oldest first.
    pub fn take_moved(&mut self) -> Option<Moved> {
        self.moved.pop_front()
    }

    /// Returns where the log ended when a group was taken back, and why, if one was since the last
    /// call. What lies before that is kept, here or where it was moved to.
    pub fn take_refused(&mut self) -> Option<(Position, DiskError)> {
        self.refused.take()
    }

    /// Returns the bytes of the segment that is being written, the open group included.
    pub fn active_bytes(&self) -> u32 {
        self.active.as_ref().map_or(0, Active::end)
    }

    /// Tells whether the active segment reached its size and should be sealed.
    pub fn wants_seal(&self) -> bool {
        self.active_bytes() >= self.segment_bytes_max
    }

    /// Sets the wall clock that the header of the next segment will say.
    pub fn set_wall(&mut self, wall: WallTime) {
        self.wall = wall;
    }

    /// Returns the disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Returns the error that keeps the log from taking changes, if one does.
    pub fn trouble(&self) -> Option<&DiskError> {
        self.health.trouble()
    }

    /// Where the last closed segment ends.
    fn closed_end(&self) -> Position {
        let closed = self.manifest.entries.iter().rfind(|entry| entry.state != State::Begun);
        closed.map_or(Position::default(), |entry| Position {
            segment: entry.id.place,
            offset: entry.end,
        })
    }

    /// Begins a segment after the last one. Nothing is written but a manifest that is due.
    pub(super) fn begin(&mut self) -> Result<Active, LogError> {
        if self.manifest.entries.len() + 1 >= limits::SEGMENTS_MAX {
            return Err(LogError::SegmentsFull);
        }
        if self.manifest_due {
            self.save_manifest().map_err(LogError::manifest)?;
        }
        let id = self.next_id();
        Ok(Active::begin(self.store, id, self.manifest.last_as_predecessor()))
    }

    /// Draws the name of a new segment. No number is used twice while the log is open.
    pub(super) fn next_id(&mut self) -> SegmentId {
        let number = self.number_next;
        self.number_next += 1;
        SegmentId { place: number, file: number, salt: self.rng.u64(), base: self.wall }
    }

    pub(super) fn save_manifest(&mut self) -> Result<(), DiskError> {
        self.manifest_due = true;
        self.manifest.save(&self.disk, &self.store)?;
        self.manifest_due = false;
        Ok(())
    }

    /// Enters the active segment in the manifest. If that fails it is tried again when idle.
    pub(super) fn list_active(&mut self) {
        let Some(active) = &mut self.active else { return };
        let entry = active.entry(State::Begun, active.durable, active.records, [0; 32]);
        self.manifest.put(entry);
        let saved = self.save_manifest();
        sometimes!("log-manifest-not-written", saved.is_err());
        if saved.is_ok()
            && let Some(active) = &mut self.active
        {
            active.listed = true;
        }
    }

    /// Reserves space up to `needed`: doubling, or just enough if that is too much.
    fn reserve(&self, active: &mut Active, needed: u32) -> Result<(), DiskError> {
        if needed <= active.allocated {
            return Ok(());
        }
        let doubled = active.allocated.saturating_mul(2).max(self.preallocate_bytes);
        let wished = doubled.min(self.segment_bytes_max).max(needed);
        let file = active.id.file_id();
        for len in [wished, needed] {
            match self.disk.allocate(file, u64::from(len)) {
                Ok(()) => {
                    active.allocated = len;
                    return Ok(());
                }
                Err(error) if error.is_refusal() && len == needed => return Err(error),
                Err(error) if error.is_refusal() => {}
                // A failing hint is no failure yet; the write will tell.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Hands what is not flushed to the disk.
    pub(super) fn write_out(&mut self) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let (file, at) = (active.id.file_id(), u64::from(active.flushed));
        let Err(error) = self.disk.write(file, at, active.unflushed()) else {
            active.flushed_all();
            return Ok(());
        };
        if mutant!("short-write-counts") {
            active.flushed_all();
            return Ok(());
        }
        if !error.is_refusal() {
            return self.fail_over("writing", error);
        }
        let lost = active.open_count > 0;
        active.take_back();
        if lost {
            // Of this segment, also if what is kept of it moves to another one below.
            self.refused = Some((active.position(active.written), error.clone()));
        }
        if active.flushed == 0 {
            self.active = None;
            // Best effort: an unfinished file is swept up when the log is opened.
            let _ = self.disk.remove(file);
        } else {
            active.allocated = active.flushed;
            if let Err(worse) = self.disk.truncate(file, at) {
                // Remains of the group could come back after a crash: leave this file alone. The
                // group is gone whatever comes of that, and whoever flushed it must learn so.
                let _ = self.fail_over("truncating", worse);
            }
        }
        Err(LogError::refused(error))
    }
}
