//! The rare steps, which block: sealing a segment, closing the log, replacing a damaged segment.

use super::Position;
use super::active::Active;
use super::append::Log;
use super::disk::{Disk, DiskError};
use super::error::LogError;
use super::layout;
use super::manifest::{Entry, Mark, State};
use super::read::SegmentInfo;
use super::record::{self, RecordKind};
use super::recovery::quarantined;
use super::segment::{GROUP_BYTES, Predecessor, SEAL_BYTES, Seal, SegmentId};
use super::survey::hash_sound;
use crate::base::Sha256Stream;
use crate::limits;

impl<D: Disk> Log<D> {
    /// Ends the active segment: seals it, syncs it and enters it in the manifest.
    ///
    /// The next append begins a new one. Returns none if there was nothing to seal, or if the disk
    /// failed under way and the log goes on in a new segment. Blocks for two syncs, and reads the
    /// segment once if it was begun before the log was opened.
    ///
    /// # Errors
    /// [`LogError::SyncUnderWay`], or as [`Self::flush`].
    pub fn seal_active(&mut self) -> Result<Option<SegmentInfo>, LogError> {
        if self.syncing {
            return Err(LogError::SyncUnderWay);
        }
        self.flush()?;
        let Some(active) = self.active.as_mut().filter(|active| active.records > 0) else {
            return Ok(None);
        };
        let (place, file) = (active.id.place, active.id.file_id());
        active.hash_flushed(&self.disk);
        let sealed = active.push_seal();
        if sealed {
            self.write_out()?;
        }
        // Best effort: zeros behind the seal do no harm.
        let Some(active) = self.active.as_ref().filter(|a| a.id.place == place) else {
            return Ok(None);
        };
        let end = active.end();
        let _ = self.disk.truncate(file, u64::from(end));
        if let Err(error) = self.disk.sync(file) {
            self.fail_over("sealing", error)?;
            return Ok(None);
        }
        self.health.mended();
        let Some(active) = self.active.take() else { return Ok(None) };
        let state = if sealed { State::Sealed } else { State::Cut };
        let sha = active.sha.clone().map_or([0; 32], Sha256Stream::finish);
        let entry = active.entry(state, end, active.records, sha);
        self.manifest.put(entry);
        // If it fails now it is tried again before the next segment begins.
        let _ = self.save_manifest();
        sometimes!("log-segment-sealed", sealed);
        Ok(self.segments().into_iter().rfind(|segment| segment.number == place))
    }

    /// Ends orderly: flushes, syncs, trims what is reserved, and writes the clean mark. Blocks.
    ///
    /// The log can be used on; the mark stays true. Writes nothing if nothing changed.
    ///
    /// # Errors
    /// [`LogError::SyncUnderWay`], or as [`Self::flush`].
    pub fn close(&mut self) -> Result<(), LogError> {
        if self.syncing {
            return Err(LogError::SyncUnderWay);
        }
        self.flush()?;
        self.sync_now()?;
        if self.idle_mark()? {
            self.sync_now()?;
        }
        if self.manifest_due {
            self.save_manifest().map_err(LogError::manifest)?;
        }
        let generation = self.manifest.generation;
        let last = self.manifest.entries.last().map(|entry| (entry.id, entry.end));
        let active = self.active.as_ref().map(|active| (active.id, active.end()));
        let Some((id, end)) = active.or(last) else { return Ok(()) };
        let mark = Mark { id, end, generation };
        if self.mark.is_none_or(|old| (old.id, old.end) != (id, end)) {
            mark.save(&self.disk, &self.store).map_err(LogError::manifest)?;
            self.mark = Some(mark);
        }
        Ok(())
    }

    /// Writes the list of segments and the clean mark anew if they are damaged on disk: what is in
    /// memory is whole. The mark follows when the log is closed.
    ///
    /// # Errors
    /// [`LogError::Manifest`], or what refused; the next edit tries again.
    pub fn renew_lists(&mut self) -> Result<(), LogError> {
        if layout::lists_are_damaged(&self.disk, &self.store).unwrap_or(true) {
            sometimes!("log-lists-renewed");
            // Twice, so that either file is a new one.
            for _ in 0..2 {
                self.save_manifest().map_err(LogError::manifest)?;
            }
            self.mark = None;
        }
        Ok(())
    }

    /// Trims and syncs the active segment. If the disk fails, once more in a new one.
    fn sync_now(&mut self) -> Result<(), LogError> {
        while let Some(active) = &mut self.active {
            let (file, end) = (active.id.file_id(), active.end());
            if active.durable == end && active.allocated == end {
                break;
            }
            // Best effort: what is reserved does no harm.
            if self.disk.truncate(file, u64::from(end)).is_ok() {
                active.allocated = end;
            }
            match self.disk.sync(file) {
                Ok(()) => {
                    active.durable_to(end);
                    let listed = active.listed;
                    self.health.mended();
                    if !listed {
                        self.list_active();
                    }
                    break;
                }
                Err(error) => self.fail_over("closing", error)?,
            }
        }
        Ok(())
    }

    /// Puts a new segment, sealed and durable, in the place of a damaged one.
    ///
    /// `records` are all that the place shall hold, in order. Returns where each lies now; the file
    /// changes, the place does not. The old file goes to quarantine. Blocks.
    ///
    /// # Errors
    /// [`LogError::NoSegment`] if the place is not closed; seal the active segment first.
    /// [`LogError::TooLarge`], [`LogError::SegmentFull`], [`LogError::Full`],
    /// [`LogError::ReadOnly`] or [`LogError::Repair`]: the log is unchanged.
    pub fn replace_segment(
        &mut self,
        place: u64,
        records: impl IntoIterator<Item = (RecordKind, Vec<u8>)>,
    ) -> Result<Vec<Position>, LogError> {
        let at = self.manifest.entries.iter().position(|entry| entry.id.place == place);
        let old = at.and_then(|at| self.manifest.entries.get(at)).copied();
        let old = old.filter(|entry| entry.state != State::Begun);
        let old = old.ok_or(LogError::NoSegment(place))?;
        let before = at.and_then(|at| self.manifest.entries.get(at.checked_sub(1)?));
        let previous = before.map_or_else(Predecessor::default, Entry::as_predecessor);
        let id = SegmentId { place, base: old.id.base, ..self.next_id() };
        let mut positions = Vec::new();
        let entry = match self.build(id, previous, records, &mut positions) {
            Ok(entry) => entry,
            Err(error) => {
                // Best effort: an unfinished file is swept up when the log is opened.
                let _ = self.disk.remove(id.file_id());
                return Err(error);
            }
        };
        sometimes!("log-segment-replaced");
        let former = old.former.or(Some(old.sha));
        self.manifest.put(Entry { former, ..entry });
        if let Err(error) = self.save_manifest() {
            // The disk may have the new list all the same, so both files stay until it is opened.
            self.manifest.put(old);
            return Err(repair(error));
        }
        // Twice, so that either generation alone knows the new file. Once is enough to go on.
        let _ = self.save_manifest();
        // Best effort: a file that the manifest does not name is put away when the log is opened.
        let _ = self.disk.rename(old.id.file_id(), quarantined(old.id.file_id(), 0));
        Ok(positions)
    }

    /// Writes a whole segment file and syncs it.
    fn build(
        &self,
        id: SegmentId,
        previous: Predecessor,
        records: impl IntoIterator<Item = (RecordKind, Vec<u8>)>,
        positions: &mut Vec<Position>,
    ) -> Result<Entry, LogError> {
        const GROUP_TARGET: usize = 1 << 20;
        let mut new = Active::begin(self.store, id, previous);
        let write = |new: &mut Active| -> Result<(), LogError> {
            let at = u64::from(new.flushed);
            self.disk.write(id.file_id(), at, new.unflushed()).map_err(repair)?;
            new.flushed_all();
            // The file counts only once it is whole and synced, so nothing is kept to move.
            new.durable_to(new.end());
            Ok(())
        };
        for (kind, body) in records {
            assert!(kind.is_callers(), "{kind:?} belongs to the log");
            if body.len() > limits::RECORD_BYTES_MAX {
                return Err(LogError::TooLarge { len: body.len() });
            }
            let framed = record::framed(body.len());
            if new.end() as usize + framed + (GROUP_BYTES + SEAL_BYTES) as usize
                > limits::SEGMENT_BYTES_MAX
            {
                return Err(LogError::SegmentFull);
            }
            let offset = new.append(kind, &body);
            positions.push(new.position(offset));
            if new.unflushed().len() >= GROUP_TARGET {
                new.close_group();
                write(&mut new)?;
            }
        }
        new.close_group();
        write(&mut new)?;
        new.push_seal();
        write(&mut new)?;
        self.disk.sync(id.file_id()).map_err(repair)?;
        let sha = new.sha.clone().map_or([0; 32], Sha256Stream::finish);
        Ok(new.entry(State::Sealed, new.end(), new.records, sha))
    }
}

impl Active {
    /// Makes sure that the hash of the flushed bytes is known, if they read as they were written.
    fn hash_flushed<D: Disk>(&mut self, disk: &D) {
        if self.sha.is_none()
            && let Some(mut stream) = hash_sound(disk, self.id, self.seed, self.durable)
        {
            stream.update(&self.tail);
            self.sha = Some(stream);
        }
    }

    /// Appends the seal record, unless the hash is not known.
    fn push_seal(&mut self) -> bool {
        assert!(self.flushed == self.end(), "a seal follows a closed group");
        let Some(sha) = self.sha.clone() else { return false };
        let at = self.end();
        let seal = Seal {
            bytes: at,
            groups: self.groups,
            records: self.records,
            previous: self.previous.sha,
            sha: sha.finish(),
        };
        record::write(&mut self.tail, self.seed, at, RecordKind::SEAL, &seal.encode());
        true
    }
}

fn repair(error: DiskError) -> LogError {
    if error.is_refusal() { LogError::refused(error) } else { LogError::Repair(error) }
}
