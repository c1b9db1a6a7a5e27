//! Opening a log: what a crash left is judged, cut or kept, and told.
//!
//! A torn tail lies above every known mark. Its bytes go to quarantine, and its segment ends where
//! the last good group does. What a killed process wrote but did not sync is written again and
//! synced before it counts, for the system's cache proves nothing. Damage below a mark is named and
//! stays as it is; the segment takes no more records. What cannot be read is neither: its segment
//! is closed as well. Both are judged anew at each opening. Each step can be cut short
//! by another crash and is then made again: the manifest first, the quarantined copy next, the cut
//! last.

use std::collections::VecDeque;

use super::active::{Active, Resumed};
use super::append::{Log, LogOptions};
use super::disk::{Disk, DiskError, FileId, FileKind};
use super::error::{Damage, DamageKind, OpenError};
use super::failover::Health;
use super::layout::{self, Candidate, Layout, Unread};
use super::manifest::{Entry, State};
use super::segment::HEADER_BYTES;
use super::survey::{self, Survey};
use super::{DiskErrorKind, Position};

/// What opening a log found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The last end was orderly and nothing was found wrong.
    pub clean: bool,
    /// Tails that were never durable and are cut.
    pub torn: Vec<Torn>,
    /// Bytes that were written and not known to be durable, and were made so, in bytes.
    pub rewritten_bytes: u64,
    /// Once durable bytes that are damaged. Sealed segments are not read: see
    /// [`verify`](fn@super::verify).
    pub damage: Vec<Damage>,
    /// Segment files that belonged nowhere: unfinished or replaced ones. They are put away.
    pub strays: Vec<FileId>,
    /// What the disk said when it refused a change that recovery wanted. The log is open for
    /// reading; the first append tries again.
    pub refused: Option<DiskError>,
}

/// A tail that was never durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// The place of the segment.
    pub segment: u64,
    /// The segment's file.
    pub file: FileId,
    /// Where the segment ends now.
    pub offset: u32,
    /// Bytes beyond, up to the last one that is not zero.
    pub bytes: u32,
}

impl Recovery {
    /// Returns the bytes of all torn tails.
    pub fn truncated_bytes(&self) -> u64 {
        self.torn.iter().map(|torn| u64::from(torn.bytes)).sum()
    }
}

/// A segment after the closed ones, with what it holds.
pub(super) struct Surveyed {
    pub(super) candidate: Candidate,
    pub(super) survey: Survey,
}

impl Surveyed {
    /// Surveys the segments after the closed ones; those that hold nothing become strays.
    pub(super) fn all<D: Disk>(disk: &D, layout: &mut Layout) -> Result<Vec<Self>, DiskError> {
        let mut found = Vec::new();
        for candidate in &layout.newest {
            let survey = survey::survey(disk, &candidate.known)?;
            let id = candidate.known.id;
            if survey.is_void() {
                layout.strays.push(id.file_id());
            } else {
                found.push(Self { candidate: *candidate, survey });
            }
        }
        Ok(found)
    }

    /// Lets one of which nothing counted, and that turns out to hold nothing, end where it begins:
    /// it is a stray that others name by now.
    fn drop_void(&mut self, entry: &Entry) {
        if entry.end == 0 && self.survey.is_void() && !self.is_unread() {
            self.candidate.header = None;
            self.survey.end = 0;
        }
    }

    /// Returns the damage of header and records.
    pub(super) fn damage(&self) -> impl Iterator<Item = Damage> {
        let id = self.candidate.known.id;
        let header = self.candidate.header.map(|kind| Damage {
            segment: id.place,
            file: id.file_id(),
            offset: 0,
            len: u64::from(HEADER_BYTES),
            kind,
        });
        header.into_iter().chain(self.survey.damage.iter().cloned())
    }

    /// Returns the torn tail, if there is one.
    pub(super) fn torn(&self) -> Option<Torn> {
        let id = self.candidate.known.id;
        let (end, to) = (self.survey.end, self.survey.torn_to);
        self.survey.is_torn().then(|| Torn {
            segment: id.place,
            file: id.file_id(),
            offset: end,
            bytes: to - end,
        })
    }

    /// Tells whether part of it could not be read.
    fn is_unread(&self) -> bool {
        self.survey.is_unread() || self.candidate.header == Some(DamageKind::Unreadable)
    }

    fn entry<D: Disk>(&self, disk: &D) -> Entry {
        let id = self.candidate.known.id;
        let end = self.survey.end;
        let sealed = self.survey.seal.is_some() && self.survey.damage.is_empty();
        let unread = self.is_unread().then_some(self.survey.unread_to);
        Entry {
            id,
            state: if sealed { State::Sealed } else { State::Cut },
            end,
            records: self.survey.records,
            sha: survey::hash_file(disk, id.file_id(), end).unwrap_or_default(),
            former: None,
            damaged: self.damage().any(|damage| damage.kind != DamageKind::Unreadable),
            unread,
        }
    }

    fn active(&self, store: [u8; 16]) -> Active {
        let survey = &self.survey;
        let covered = survey.mark >= survey.end;
        let resumed = Resumed {
            end: survey.end,
            chain: survey.chain,
            records: survey.records,
            groups: survey.groups,
            marked: if covered { survey.end } else { survey.group_mark },
            names: survey.names.clone(),
            listed: self.candidate.listed,
        };
        Active::resume(store, self.candidate.known.id, self.candidate.previous, resumed)
    }
}

/// Opens a log; see [`Log::open`].
pub(super) fn open<D: Disk>(
    disk: D,
    options: &LogOptions,
) -> Result<(Log<D>, Recovery), OpenError> {
    let mut layout = Layout::load(&disk, &options.store, Unread::Refuses)?;
    let mut recovery =
        Recovery { damage: std::mem::take(&mut layout.damage), ..Recovery::default() };
    let surveyed = Surveyed::all(&disk, &mut layout)?;
    let mut log = Log {
        store: options.store,
        segment_bytes_max: options.segment_bytes_max,
        preallocate_bytes: options.preallocate_bytes,
        wall: options.wall,
        rng: options.rng.clone(),
        manifest: std::mem::take(&mut layout.manifest),
        manifest_due: layout.due,
        active: None,
        number_next: layout.number_next,
        health: Health::GOOD,
        syncing: false,
        moved: VecDeque::new(),
        refused: None,
        mark: layout.mark,
        disk,
    };
    log.judge_anew(&mut recovery);
    let count = surveyed.len();
    // One that is named somewhere and lost may stand behind those that are found.
    let lost = log.manifest.entries.last().map_or(0, |entry| entry.id.place);
    for (at, segment) in surveyed.iter().enumerate() {
        recovery.damage.extend(segment.damage());
        recovery.torn.extend(segment.torn());
        let last = at + 1 == count && segment.candidate.known.id.place > lost;
        log.settle(segment, last, &mut recovery)?;
    }
    log.finish_recovery(&layout.strays, &mut recovery);
    if layout.unread
        && log.manifest_due
        && let Some(error) = &recovery.refused
    {
        // Nothing is appended before the list is written.
        log.health = Health::Stalled(error.clone());
    }
    sometimes!("log-torn-tail", !recovery.torn.is_empty());
    recovery.strays = layout.strays;
    recovery.clean = recovery.torn.is_empty()
        && recovery.damage.is_empty()
        && recovery.strays.is_empty()
        && recovery.rewritten_bytes == 0
        && recovery.refused.is_none()
        && log.mark.map_or(Position::default(), |mark| Position {
            segment: mark.id.place,
            offset: mark.end,
        }) == log.written();
    sometimes!("log-opened-clean", recovery.clean && log.mark.is_some());
    sometimes!("log-mark-outlived", !recovery.clean && log.mark.is_some());
    Ok((log, recovery))
}

impl<D: Disk> Log<D> {
    /// Closes a segment that was not closed, or goes on with it.
    fn settle(
        &mut self,
        segment: &Surveyed,
        last: bool,
        recovery: &mut Recovery,
    ) -> Result<(), OpenError> {
        let (survey, id) = (&segment.survey, segment.candidate.known.id);
        let mut active = segment.active(self.store);
        let mut refused = if last && survey.mark < survey.end {
            let (mark, file) = (survey.mark, id.file_id());
            let mut tail = vec![0; (survey.end - mark) as usize];
            self.disk.read(file, u64::from(mark), &mut tail)?;
            sometimes!("log-tail-written-again");
            recovery.rewritten_bytes += tail.len() as u64;
            let written = self.disk.write(file, u64::from(mark), &tail);
            let synced = written.and_then(|()| self.disk.sync(file));
            if synced.is_err() {
                active.inherit(mark, tail);
            }
            synced.err()
        } else {
            None
        };
        let whole = last && survey.seal.is_none() && segment.damage().next().is_none();
        if !survey.damage.is_empty()
            && let Some(error) = refused.take()
        {
            // It is closed all the same, for what is damaged cannot be moved.
            recovery.refused.get_or_insert(error);
        }
        if let Some(error) = refused {
            // Reads are served from memory; the first append moves the tail.
            self.health = Health::Stalled(error.clone());
            recovery.refused = Some(error);
            self.active = Some(active);
        } else if whole && !survey.is_torn() {
            self.active = Some(active);
        } else {
            self.manifest.put(segment.entry(&self.disk));
            self.manifest_due = true;
        }
        // What the manifest on disk says of it stays true until an edit says more.
        if self.active.is_some() && segment.candidate.listed {
            let active = self.active.as_ref().map(|a| (a.durable, a.records));
            let (durable, records) = active.unwrap_or_default();
            self.manifest.put(Entry {
                id,
                state: State::Begun,
                end: durable,
                records,
                sha: [0; 32],
                former: None,
                damaged: false,
                unread: None,
            });
        }
        Ok(())
    }

    /// Judges the closed segments anew that were damaged, or could not be read whole, when that was
    /// done last: each opening says as much of them as the first one did.
    ///
    /// What was counted of them was durable. What lies beyond, where something could not be read,
    /// is judged as it would have been if it could: nobody has seen any of it.
    fn judge_anew(&mut self, recovery: &mut Recovery) {
        let entries = self.manifest.entries.iter();
        let noted = entries.filter(|entry| entry.damaged || entry.unread.is_some());
        for entry in noted.copied().collect::<Vec<_>>() {
            let len = self.disk.len(entry.id.file_id());
            if len.is_err_and(|error| error.kind == DiskErrorKind::NotFound) {
                // Its length tells.
                continue;
            }
            let candidate = Candidate::closed(&self.disk, &entry, &self.store);
            let Ok(survey) = survey::survey(&self.disk, &candidate.known) else {
                recovery.damage.extend(layout::check_length(&self.disk, &entry).0);
                continue;
            };
            let mut segment = Surveyed { candidate, survey };
            segment.drop_void(&entry);
            recovery.damage.extend(segment.damage());
            if segment.is_unread() && !entry.is_unseen() {
                continue;
            }
            sometimes!("log-read-at-last", entry.unread.is_some());
            recovery.torn.extend(segment.torn());
            let mut judged = Entry { former: entry.former, ..segment.entry(&self.disk) };
            if (judged.sha, judged.end) != (entry.sha, entry.kept()) {
                judged.former = entry.former.or(Some(entry.sha));
            }
            if judged != entry {
                self.manifest.put(judged);
                self.manifest_due = true;
            }
        }
    }

    /// Judges again what was damaged or could not be read, as an opening does, and returns what is
    /// wrong with closed segments now. Reads those segments, and nothing of others.
    pub fn look_again(&mut self) -> Vec<Damage> {
        let mut recovery = Recovery::default();
        self.judge_anew(&mut recovery);
        self.finish_recovery(&[], &mut recovery);
        recovery.damage
    }

    /// Makes the changes that may wait: manifest, cuts, strays. A refusal is noted, no more.
    fn finish_recovery(&mut self, strays: &[FileId], recovery: &mut Recovery) {
        let saved = if self.manifest_due { self.save_manifest() } else { Ok(()) };
        let saved = saved.noted(&mut recovery.refused);
        let mut too_long = Vec::new();
        for entry in self.manifest.entries.iter().filter(|entry| entry.state != State::Begun) {
            let (damage, excess) = layout::check_length(&self.disk, entry);
            let known = recovery.damage.iter().any(|other| other.segment == entry.id.place);
            let noted = Damage {
                segment: entry.id.place,
                file: entry.id.file_id(),
                offset: 0,
                len: u64::from(entry.end),
                kind: DamageKind::Noted,
            };
            let damage = damage.or(entry.damaged.then_some(noted));
            recovery.damage.extend(damage.filter(|_| !known));
            if excess > 0 {
                too_long.push((entry.id.file_id(), entry.kept()));
            }
        }
        if !saved {
            return;
        }
        for (file, end) in too_long {
            cut(&self.disk, file, end).noted(&mut recovery.refused);
        }
        for file in strays {
            put_away(&self.disk, *file).noted(&mut recovery.refused);
        }
    }
}

trait Note {
    /// Tells whether all went well; keeps the first error.
    fn noted(self, refused: &mut Option<DiskError>) -> bool;
}

impl Note for Result<(), DiskError> {
    fn noted(self, refused: &mut Option<DiskError>) -> bool {
        match self {
            Ok(()) => true,
            Err(error) => {
                refused.get_or_insert(error);
                false
            }
        }
    }
}

/// The quarantined copy of what a segment file held from an offset on.
pub(super) fn quarantined(file: FileId, offset: u32) -> FileId {
    FileId::new(FileKind::Quarantine, file.number.wrapping_shl(32) | u64::from(offset))
}

/// Cuts a file at `end`; what lies beyond and is not zero is kept in quarantine.
fn cut<D: Disk>(disk: &D, file: FileId, end: u32) -> Result<(), DiskError> {
    let len = u32::try_from(disk.len(file)?).unwrap_or(u32::MAX);
    let to = survey::last_non_zero(disk, file, end, len);
    if to > end {
        sometimes!("log-tail-quarantined");
        let mut bytes = vec![0; (to - end) as usize];
        disk.read(file, u64::from(end), &mut bytes)?;
        disk.replace(quarantined(file, end), &bytes)?;
    }
    disk.truncate(file, u64::from(end))?;
    disk.sync(file)
}

/// Puts a stray file into quarantine, or removes it if it holds nothing but zeros.
fn put_away<D: Disk>(disk: &D, file: FileId) -> Result<(), DiskError> {
    let len = match disk.len(file) {
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(()),
        len => u32::try_from(len?).unwrap_or(u32::MAX),
    };
    sometimes!("log-stray-put-away");
    if survey::last_used(disk, file, 0, len) == 0 {
        disk.remove(file)
    } else {
        disk.rename(file, quarantined(file, 0))
    }
}
