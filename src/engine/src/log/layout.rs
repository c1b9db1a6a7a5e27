//! Puts the files of a log in order, before any record is read and without any change.
//!
//! The manifest says what is closed; headers say what came after it, or what a lost manifest said:
//! each names its predecessor, with that one's end and hash. The clean mark and the manifest name
//! the segment that is being written, so its loss is noticed. Files that belong nowhere (unfinished
//! segments, replaced ones) are strays.

use std::collections::BTreeSet;

use super::disk::{Disk, DiskError, DiskErrorKind, FileId, FileKind};
use super::error::{Damage, DamageKind, OpenError};
use super::manifest::{self, Entry, LoadError, MARK_FILE, Manifest, Mark, State};
use super::segment::{HEADER_BYTES, Header, HeaderError, Predecessor, SegmentId};
use super::survey::{self, Known};
use crate::base::Hash;

/// The files of a log in order.
#[derive(Debug)]
pub(super) struct Layout {
    /// The newest manifest that is intact. Here all its entries are closed.
    pub(super) manifest: Manifest,
    pub(super) mark: Option<Mark>,
    /// Segments after the closed ones, to be surveyed, in order.
    pub(super) newest: Vec<Candidate>,
    /// Segment files that belong nowhere.
    pub(super) strays: Vec<FileId>,
    /// Faults of the manifest and the mark.
    pub(super) damage: Vec<Damage>,
    /// The manifest is to be written: segments were found that are lost or cannot be told yet, and
    /// have entries in it now; or a list could not be read, and may be newer than the one that
    /// serves. It is written over, lest the next opening reads there what this one did not know.
    pub(super) due: bool,
    /// Whether that is why.
    pub(super) unread: bool,
    /// Files that nothing names, and whose headers cannot be read.
    unnamed: Vec<FileId>,
    /// All segment files that exist.
    pub(super) files: BTreeSet<u64>,
    /// No segment has this number or a higher one.
    pub(super) number_next: u64,
}

/// A segment that the manifest does not say is closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) known: Known,
    pub(super) previous: Predecessor,
    /// What is wrong with its header, if something is.
    pub(super) header: Option<DamageKind>,
    /// Whether the manifest names it.
    pub(super) listed: bool,
}

impl Candidate {
    /// A closed segment that is judged anew.
    pub(super) fn closed<D: Disk>(disk: &D, entry: &Entry, store: &[u8; 16]) -> Self {
        let mut id = entry.id;
        let header = match read_header(disk, entry.id.file_id()) {
            Ok(Ok(header)) if header.store == *store && header.id == entry.id => None,
            Ok(Ok(header)) if header.store == *store && entry.id.may_be(&header.id) => {
                id = header.id;
                None
            }
            Ok(_) => Some(DamageKind::Header),
            Err(_) => Some(DamageKind::Unreadable),
        };
        let known = Known { id, seed: id.seed(store), ..Known::closed(entry, store) };
        Self { known, previous: Predecessor::default(), header, listed: true }
    }
}

/// What is done where neither list of segments can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// The log is not opened: of all that the lists say nothing is known, as where no file can be
    /// read.
    Refuses,
    /// That is told as any damage: nothing is changed, or who asks has the list in memory.
    IsDamage,
}

/// Tells whether manifest or mark are damaged on disk, or missing.
pub(super) fn lists_are_damaged<D: Disk>(disk: &D, store: &[u8; 16]) -> Result<bool, OpenError> {
    let mut damage = Vec::new();
    let mark = load_mark(disk, store, &mut damage)?;
    load_manifest(disk, store, mark.as_ref(), Unread::IsDamage, &mut damage)?;
    Ok(!damage.is_empty())
}

impl Layout {
    /// Reads manifest, mark, the list of files, and the headers of those that are not closed.
    pub(super) fn load<D: Disk>(
        disk: &D,
        store: &[u8; 16],
        lists: Unread,
    ) -> Result<Self, OpenError> {
        let mut damage = Vec::new();
        let mark = load_mark(disk, store, &mut damage)?;
        let manifest = load_manifest(disk, store, mark.as_ref(), lists, &mut damage)?;
        let unread = |d: &Damage| d.file != MARK_FILE && d.kind == DamageKind::Unreadable;
        let unread = damage.iter().any(unread);
        let files: BTreeSet<u64> =
            disk.files(FileKind::Segment)?.into_iter().map(|file| file.number).collect();
        let mut layout = Self {
            number_next: 1,
            manifest,
            mark,
            newest: Vec::new(),
            strays: Vec::new(),
            damage,
            due: unread,
            unread,
            unnamed: Vec::new(),
            files,
        };
        layout.find_newest(disk, store)?;
        layout.drop_void(disk)?;
        layout.chain();
        layout.find_lost();
        layout.find_unnamed(disk)?;
        let entries = layout.manifest.entries.iter().map(|entry| entry.id.place.max(entry.id.file));
        let marked = layout.mark.map(|mark| mark.id.place.max(mark.id.file));
        let all = entries.chain(marked).chain(layout.files.iter().copied());
        layout.number_next = all.max().unwrap_or(0).saturating_add(1);
        Ok(layout)
    }

    fn find_newest<D: Disk>(&mut self, disk: &D, store: &[u8; 16]) -> Result<(), OpenError> {
        let begun = self.manifest.entries.pop_if(|entry| entry.state == State::Begun);
        let closed: BTreeSet<u64> = self.manifest.entries.iter().map(|e| e.id.file).collect();
        let missing = begun.filter(|entry| !self.files.contains(&entry.id.file));
        if let Some(entry) = missing {
            let marked = self.mark.filter(|mark| mark.id == entry.id).map_or(0, |mark| mark.end);
            let end = entry.end.max(marked);
            self.manifest.put(Entry { state: State::Cut, end, damaged: true, ..entry });
            self.due = true;
        }
        // The next opening finds the lost one in the list, and must see the others as this one.
        let last = self.manifest.entries.last().map_or(0, |entry| entry.id.place);
        for number in self.files.difference(&closed).copied().collect::<Vec<_>>() {
            let file = FileId::new(FileKind::Segment, number);
            let listed = begun.filter(|entry| entry.id.file == number);
            let marked = self.mark.filter(|mark| mark.id.file == number);
            let named = listed.map(|entry| entry.id).or(marked.map(|mark| mark.id));
            let mark = listed.map_or(0, |entry| entry.end).max(marked.map_or(0, |mark| mark.end));
            let (id, previous, header) = match read_header(disk, file) {
                Ok(Ok(header)) if header.store != *store => {
                    return Err(OpenError::OtherStore { file });
                }
                Ok(Ok(header)) if named.is_none_or(|id| id == header.id) => {
                    (header.id, header.previous, None)
                }
                Ok(Err(HeaderError::Version(major))) => {
                    return Err(OpenError::Version { file, major });
                }
                fault => {
                    let unreadable = fault.err();
                    let Some(id) = named else {
                        let puts_off = unreadable.is_some() && number > last;
                        let list = if puts_off { &mut self.unnamed } else { &mut self.strays };
                        list.push(file);
                        continue;
                    };
                    sometimes!("log-header-damaged");
                    let kind = match unreadable {
                        Some(_) => DamageKind::Unreadable,
                        None => DamageKind::Header,
                    };
                    (id, self.manifest.last_as_predecessor(), Some(kind))
                }
            };
            if id.place <= last {
                self.strays.push(file);
                continue;
            }
            let known = Known { id, seed: id.seed(store), mark, end: None, upto: u32::MAX };
            let listed = listed.is_some();
            self.newest.push(Candidate { known, previous, header, listed });
        }
        self.newest.sort_by_key(|candidate| (candidate.known.id.place, candidate.known.id.file));
        let mut places = BTreeSet::new();
        let (kept, strays) =
            self.newest.iter().partition(|candidate| places.insert(candidate.known.id.place));
        self.newest = kept;
        let strays: Vec<Candidate> = strays;
        self.strays.extend(strays.iter().map(|candidate| candidate.known.id.file_id()));
        Ok(())
    }

    /// Drops segments that were begun and hold nothing: what they say of others was not settled.
    fn drop_void<D: Disk>(&mut self, disk: &D) -> Result<(), OpenError> {
        if self.newest.len() < 2 {
            return Ok(());
        }
        for candidate in std::mem::take(&mut self.newest) {
            if survey::survey(disk, &candidate.known)?.is_void() {
                self.strays.push(candidate.known.id.file_id());
            } else {
                self.newest.push(candidate);
            }
        }
        Ok(())
    }

    /// Lets each header say where the one before ends, and drops those that no later one names.
    fn chain(&mut self) {
        let mut kept: Vec<Candidate> = Vec::new();
        let mut next: Option<Predecessor> = None;
        for mut candidate in std::mem::take(&mut self.newest).into_iter().rev() {
            let place = candidate.known.id.place;
            match next {
                // A repaired segment ends with its own seal, elsewhere than the first one did.
                Some(named) if named.place == place => {
                    candidate.known.end =
                        Some(named.end).filter(|_| !candidate.known.id.repaired());
                }
                Some(named) if named.place < place && !candidate.listed => {
                    self.strays.push(candidate.known.id.file_id());
                    continue;
                }
                _ => {}
            }
            next = candidate.header.is_none().then_some(candidate.previous);
            kept.push(candidate);
        }
        kept.reverse();
        self.newest = kept;
    }

    /// Enters segments that are named somewhere but not there.
    fn find_lost(&mut self) {
        let mut lost = Vec::new();
        for candidate in &self.newest {
            let named = candidate.previous;
            lost.push((SegmentId::unknown(named.place), named.end, named.sha));
        }
        lost.extend(self.mark.map(|mark| (mark.id, mark.end, Hash::default())));
        for (id, end, sha) in lost {
            let known = id.place == 0
                || self.manifest.entry(id.place).is_some()
                || self.newest.iter().any(|candidate| candidate.known.id.place == id.place);
            if !known {
                sometimes!("log-segment-lost");
                self.due = true;
                self.manifest.put(Entry {
                    id,
                    state: State::Cut,
                    end,
                    records: 0,
                    sha,
                    former: None,
                    damaged: true,
                    unread: None,
                });
            }
        }
    }

    /// Enters files of which nobody can tell yet what they are. They keep their places, lest they
    /// turn out to be whole when what came after them is listed already.
    fn find_unnamed<D: Disk>(&mut self, disk: &D) -> Result<(), OpenError> {
        for file in std::mem::take(&mut self.unnamed) {
            let named = self.manifest.entry(file.number).copied();
            if self.newest.iter().any(|candidate| candidate.known.id.place == file.number) {
                self.strays.push(file);
                continue;
            }
            let upto = match named {
                Some(entry) => entry.end,
                None => {
                    let len = u32::try_from(disk.len(file)?).unwrap_or(u32::MAX);
                    survey::last_used(disk, file, 0, len)
                }
            };
            let entry = named.unwrap_or_else(|| Entry {
                id: SegmentId::unknown(file.number),
                state: State::Cut,
                end: 0,
                records: 0,
                sha: [0; 32],
                former: None,
                damaged: false,
                unread: None,
            });
            self.due = true;
            self.manifest.put(Entry { unread: Some(upto), ..entry });
        }
        Ok(())
    }
}

/// Returns the damage of a closed segment that its length alone shows, and what is too much.
pub(super) fn check_length<D: Disk>(disk: &D, entry: &Entry) -> (Option<Damage>, u64) {
    let file = entry.id.file_id();
    let end = u64::from(entry.end);
    let (offset, kind) = match disk.len(file) {
        Ok(len) if len >= end => {
            let kept = if entry.is_unseen() { len } else { u64::from(entry.kept()) };
            return (None, len.saturating_sub(kept));
        }
        Ok(len) => (len, DamageKind::Missing),
        Err(error) if error.kind == DiskErrorKind::NotFound => (0, DamageKind::Missing),
        Err(_) => (0, DamageKind::Unreadable),
    };
    let segment = entry.id.place;
    (Some(Damage { segment, file, offset, len: end - offset, kind }), 0)
}

/// Reads the header of a segment file; the outer error is the disk's.
pub(super) fn read_header<D: Disk>(
    disk: &D,
    file: FileId,
) -> Result<Result<Header, HeaderError>, DiskError> {
    let mut block = [0; HEADER_BYTES as usize];
    match disk.read(file, 0, &mut block) {
        Ok(()) => Ok(Header::decode(file.number, &block)),
        Err(error) if error.kind == DiskErrorKind::PastEnd => Ok(Err(HeaderError::Bad)),
        Err(error) => Err(error),
    }
}

fn bookkeeping(file: FileId) -> Damage {
    Damage { segment: 0, file, offset: 0, len: 0, kind: DamageKind::Bookkeeping }
}

fn load_mark<D: Disk>(
    disk: &D,
    store: &[u8; 16],
    damage: &mut Vec<Damage>,
) -> Result<Option<Mark>, OpenError> {
    match manifest::load_mark(disk, store) {
        Ok(mark) => Ok(mark),
        Err(error) => {
            damage.push(tolerate(error, MARK_FILE)?);
            Ok(None)
        }
    }
}

/// Damage and unreadable sectors of a bookkeeping file are reported; the rest refuses the store.
fn tolerate(error: LoadError, file: FileId) -> Result<Damage, OpenError> {
    match error {
        LoadError::Damaged => Ok(bookkeeping(file)),
        LoadError::Disk(_) => Ok(Damage { kind: DamageKind::Unreadable, ..bookkeeping(file) }),
        LoadError::OtherStore => Err(OpenError::OtherStore { file }),
        LoadError::Version(major) => Err(OpenError::Version { file, major }),
    }
}

fn load_manifest<D: Disk>(
    disk: &D,
    store: &[u8; 16],
    mark: Option<&Mark>,
    lists: Unread,
    damage: &mut Vec<Damage>,
) -> Result<Manifest, OpenError> {
    let mut found = Vec::new();
    let mut failed: Vec<Damage> = Vec::new();
    for file in [manifest::slot(0), manifest::slot(1)] {
        match manifest::load_manifest(disk, file, store) {
            Ok(Some(loaded)) => found.push(loaded),
            Ok(None) => {}
            Err(LoadError::Disk(error))
                if lists == Unread::Refuses
                    && failed.first().is_some_and(|d| d.kind == DamageKind::Unreadable) =>
            {
                let message = format!("neither list of segments can be read: {}", error.message);
                return Err(DiskError { message, ..error }.into());
            }
            Err(error) => failed.push(tolerate(error, file)?),
        }
    }
    found.sort_by_key(|manifest| manifest.generation);
    let newest = found.pop();
    let older = found.pop();
    let generation = newest.as_ref().map_or(0, |manifest| manifest.generation);
    let other = manifest::slot(generation + 1);
    let chained = match (&newest, &older) {
        (Some(newest), Some(older)) => {
            older.generation + 1 == newest.generation && newest.previous == older.own
        }
        // The other generation is damaged, which is reported already, or never existed.
        _ => !failed.is_empty() || generation <= 1,
    };
    let rolled_back = failed.is_empty() && mark.is_some_and(|m| m.generation > generation);
    sometimes!("log-older-manifest-serves", !failed.is_empty() && newest.is_some());
    damage.append(&mut failed);
    if !chained || rolled_back {
        damage.push(bookkeeping(other));
    }
    Ok(newest.unwrap_or_default())
}
