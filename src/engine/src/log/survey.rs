//! Reads one segment from end to end and tells what it is: whole, torn or damaged.
//!
//! Nothing is changed. Bytes below the greatest known mark were durable, so a fault there is damage
//! and is never cut; above it, a fault is a torn tail. A fault that the disk reports while reading
//! is neither. Marks come from the caller (manifest, clean mark, next segment's header) and from
//! every group that validates, also beyond the fault. Sources: `etcd` (sectors), SurrealKV (marks),
//! Alagappan et al., FAST 2018 (crash against corruption).

use std::ops::Range;

use super::Damage;
use super::disk::{Disk, DiskError, FileId};
use super::error::DamageKind;
use super::layout;
use super::manifest::Entry;
use super::record::{self, RecordKind, Seed};
use super::segment::{Group, HEADER_BYTES, Seal, SegmentId};
use super::walk::{BLOCK, Found, Walk};
use crate::base::{Hash, Sha256Stream};
use crate::limits;

/// What a segment file holds.
#[derive(Debug)]
pub(super) struct Survey {
    /// Where the good and the once durable bytes end.
    pub(super) end: u32,
    /// The seal, if the file ends with one.
    pub(super) seal: Option<Seal>,
    /// Records of callers that validate.
    pub(super) records: u64,
    /// The bodies of the records of [`RecordKind::NAMES`], with where they start.
    pub(super) names: Vec<(u32, Vec<u8>)>,
    /// Groups that validate.
    pub(super) groups: u32,
    /// The chain of checksums up to the end.
    pub(super) chain: u32,
    /// Bytes below this are known to have been durable.
    pub(super) mark: u32,
    /// Beyond the end, up to here, lies what cannot be judged, since some of it cannot be read.
    pub(super) unread_to: u32,
    /// The greatest mark that a group of this file holds.
    pub(super) group_mark: u32,
    /// Faults below the mark.
    pub(super) damage: Vec<Damage>,
    /// Where the last byte beyond `end` that is not zero ends; `end` if there is none.
    pub(super) torn_to: u32,
}

impl Survey {
    /// Tells whether nothing in the file was ever written whole or durable.
    pub(super) fn is_void(&self) -> bool {
        self.groups == 0 && self.mark == 0 && self.seal.is_none() && !self.is_unread()
    }

    /// Tells whether part of the records could not be read.
    pub(super) fn is_unread(&self) -> bool {
        self.damage.iter().any(|damage| damage.kind == DamageKind::Unreadable)
    }

    /// Tells whether bytes beyond the end have to be cut.
    pub(super) fn is_torn(&self) -> bool {
        self.torn_to > self.end
    }
}

/// What is known of a segment before it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) id: SegmentId,
    pub(super) seed: Seed,
    /// Bytes below this were durable.
    pub(super) mark: u32,
    /// The segment ends here, whatever follows.
    pub(super) end: Option<u32>,
    /// Nothing beyond this is looked at.
    pub(super) upto: u32,
}

impl Known {
    /// What the manifest says of a segment that is closed.
    pub(super) fn closed(entry: &Entry, store: &[u8; 16]) -> Self {
        let (id, mark) = (entry.id, entry.end);
        // What could not be read may be torn, and what was not there may be longer.
        let unseen = entry.is_unseen();
        let end = (entry.unread.is_none() && !unseen).then_some(mark);
        let upto = if unseen { u32::MAX } else { entry.kept() };
        Self { id, seed: id.seed(store), mark, end, upto }
    }
}

/// Surveys a segment.
///
/// # Errors
/// Only if the length of the file cannot be told, for another reason than that it is missing.
pub(super) fn survey<D: Disk>(disk: &D, known: &Known) -> Result<Survey, DiskError> {
    let file = known.id.file_id();
    let len = match disk.len(file) {
        Err(error) if error.kind == super::DiskErrorKind::NotFound => 0,
        other => other?,
    };
    let len = u32::try_from(len).unwrap_or(u32::MAX).min(known.upto);
    let readable = known.end.map_or(len, |end| end.min(len));
    let walk = Walk::new(disk, file, known.seed, readable);
    let start = HEADER_BYTES;
    let mut surveyor = Surveyor {
        walk,
        place: known.id.place,
        file,
        mark: known.mark.max(known.end.unwrap_or(0)),
        looked_ahead: false,
        at: start,
        accepted: start,
        open: Open { start, count: 0, chain: known.seed.chain(), broken: false },
        closed_chain: known.seed.chain(),
        out: Survey {
            end: 0,
            seal: None,
            records: 0,
            names: Vec::new(),
            groups: 0,
            chain: 0,
            mark: 0,
            unread_to: 0,
            group_mark: 0,
            damage: Vec::new(),
            torn_to: 0,
        },
    };
    surveyor.run();
    Ok(surveyor.finish(len, known.end))
}

struct Surveyor<'a, D> {
    walk: Walk<'a, D>,
    place: u64,
    file: FileId,
    mark: u32,
    looked_ahead: bool,
    at: u32,
    /// Where the last group or seal that was accepted ends.
    accepted: u32,
    open: Open,
    closed_chain: u32,
    out: Survey,
}

/// The group that is being read.
struct Open {
    start: u32,
    count: u32,
    chain: u32,
    /// A fault was met since the last accepted group: its count and chain cannot be checked.
    broken: bool,
}

impl<D: Disk> Surveyor<'_, D> {
    fn run(&mut self) {
        while self.at < self.walk.end() && self.out.seal.is_none() {
            let goes_on = match self.walk.look(self.at) {
                Err(_) if mutant!("read-error-is-the-end") => self.fault(),
                Err(_) => self.unreadable(),
                Ok(Some(found)) if self.accept(&found) => true,
                Ok(_) => self.fault(),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Takes a record that validates; false if it does not fit what came before.
    fn accept(&mut self, found: &Found) -> bool {
        let (start, end) = (self.at, found.end());
        match found.kind {
            RecordKind::GROUP => {
                let Ok(body) = self.walk.body(found) else { return false };
                let Some(group) = Group::decode(body, end) else { return false };
                let fits = group.start == self.open.start
                    && group.count == self.open.count
                    && group.chain == self.open.chain;
                if !fits && !self.open.broken {
                    return false;
                }
                self.out.group_mark = self.out.group_mark.max(group.mark);
                self.mark = self.mark.max(group.mark);
                self.out.groups += 1;
                self.close_group(end, group.chain);
            }
            RecordKind::SEAL => {
                let Ok(body) = self.walk.body(found) else { return false };
                let seal = Seal::decode(body, start);
                if seal.is_none() || (self.open.start != start && !self.open.broken) {
                    return false;
                }
                self.out.seal = seal;
                self.close_group(end, self.open.chain);
            }
            _ => {
                if found.kind == RecordKind::NAMES {
                    let Ok(body) = self.walk.body(found) else { return false };
                    self.out.names.push((start, body.to_vec()));
                }
                self.open.count += 1;
                self.open.chain = record::extend_chain(self.open.chain, found.crc);
            }
        }
        self.at = end;
        true
    }

    fn close_group(&mut self, end: u32, chain: u32) {
        self.out.records += u64::from(self.open.count);
        self.accepted = end;
        self.closed_chain = chain;
        self.open = Open { start: end, count: 0, chain, broken: false };
    }

    /// Judges a place where no fitting record validates. False if the segment ends before it.
    fn fault(&mut self) -> bool {
        self.look_ahead();
        if mutant!("cut-below-the-mark") {
            self.mark = 0;
        }
        if self.at >= self.mark {
            return false;
        }
        sometimes!("log-rot-below-the-mark");
        let to = self.walk.resync(self.at + 1).min(self.mark);
        self.damaged(self.at, to, DamageKind::Rotted);
        self.at = to;
        true
    }

    /// Judges a place that cannot be read: below the mark it is damage. Beyond, nobody has seen
    /// that it is torn, nor that what follows is not, so that all is left as it is. False then.
    fn unreadable(&mut self) -> bool {
        sometimes!("log-cannot-be-read");
        self.look_ahead();
        if self.at >= self.mark {
            let to = last_used(self.walk.disk(), self.file, self.at, self.walk.end());
            self.damaged(self.at, to, DamageKind::Unreadable);
            self.out.unread_to = to;
            return false;
        }
        let readable = self.walk.skip_unreadable(self.at);
        let to = self.walk.resync(readable).min(self.mark);
        self.damaged(self.at, to, DamageKind::Unreadable);
        self.at = to;
        true
    }

    /// Finds what is said further on of what was durable.
    fn look_ahead(&mut self) {
        if !self.looked_ahead {
            self.looked_ahead = true;
            self.mark = self.mark.max(self.walk.mark_beyond(self.at));
        }
    }

    fn damaged(&mut self, from: u32, to: u32, kind: DamageKind) {
        self.open.broken = true;
        let damage = Damage {
            segment: self.place,
            file: self.file,
            offset: u64::from(from),
            len: u64::from(to - from),
            kind,
        };
        push(&mut self.out.damage, damage);
    }

    fn finish(mut self, len: u32, fixed_end: Option<u32>) -> Survey {
        let (accepted, mark) = (self.accepted, self.mark);
        let mut end = fixed_end.unwrap_or(accepted.max(mark));
        let present = len.max(HEADER_BYTES.min(end));
        if end > present {
            sometimes!("log-file-cut-short");
            self.damaged(present, end, DamageKind::Missing);
        }
        if end > accepted {
            // Records below the mark count though no group closes them.
            self.out.records += u64::from(self.open.count);
        }
        let mut torn_to = last_non_zero(self.walk.disk(), self.file, end.min(len), len).max(end);
        if self.out.unread_to > 0 {
            torn_to = end;
        }
        if fixed_end.is_none() && mutant!("torn-tail-kept") {
            end = torn_to;
        }
        if fixed_end.is_none() && (torn_to - end) as usize > limits::UNDURABLE_BYTES_MAX {
            // More than can ever have been under way: no crash explains it, so it is not cut.
            self.damaged(end, torn_to, DamageKind::Rotted);
            end = torn_to;
        }
        self.out.end = end;
        self.out.names.retain(|(at, _)| *at < end);
        self.out.chain = self.closed_chain;
        self.out.mark = mark;
        self.out.unread_to = self.out.unread_to.max(end);
        self.out.torn_to = torn_to;
        self.out
    }
}

/// Where the last byte from `from` on that is not zero ends. What cannot be read counts as zero.
pub(super) fn last_non_zero<D: Disk>(disk: &D, file: FileId, from: u32, len: u32) -> u32 {
    last(disk, file, from..len, false)
}

/// The same, but that what cannot be read counts as used.
pub(super) fn last_used<D: Disk>(disk: &D, file: FileId, from: u32, len: u32) -> u32 {
    last(disk, file, from..len, true)
}

fn last<D: Disk>(disk: &D, file: FileId, within: Range<u32>, unread_counts: bool) -> u32 {
    const STEP: u32 = 64 << 10;
    let mut walk = Walk::new(disk, file, Seed::default(), within.end);
    let mut last = within.start;
    let mut at = within.start;
    while at < walk.end() {
        // One bad sector hides no more than its block.
        let step = if walk.bytes(at, STEP).is_ok() { STEP } else { BLOCK - at % BLOCK };
        match walk.bytes(at, step) {
            Ok(bytes) => {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                if let Some(found) = bytes.iter().rposition(|byte| *byte != 0) {
                    last = at + u32::try_from(found).unwrap_or(0) + 1;
                }
                at += len;
            }
            Err(_) => {
                let readable = walk.skip_unreadable(at);
                if unread_counts {
                    last = readable;
                }
                at = readable;
            }
        }
    }
    last
}

/// Adds damage to a list of bounded length: what is too much makes the last one longer.
pub(super) fn push(list: &mut Vec<Damage>, damage: Damage) {
    if list.len() < limits::DAMAGE_LISTED_MAX {
        list.push(damage);
    } else if let Some(last) = list.last_mut().filter(|last| last.file == damage.file) {
        last.len = (damage.offset + damage.len).saturating_sub(last.offset);
    }
}

/// Returns SHA-256 over the first `end` bytes of a file.
///
/// # Errors
/// Any error of the disk.
pub(super) fn hash_file<D: Disk>(disk: &D, file: FileId, end: u32) -> Result<Hash, DiskError> {
    Ok(hash_stream(disk, file, end)?.finish())
}

/// Returns the hash of the first `end` bytes of a segment, still open. None unless they read as
/// they were written: what reads badly now may be whole later, and its hash would be of nothing
/// that ever was.
pub(super) fn hash_sound<D: Disk>(
    disk: &D,
    id: SegmentId,
    seed: Seed,
    end: u32,
) -> Option<Sha256Stream> {
    let known = Known { id, seed, mark: end, end: Some(end), upto: end };
    let header = layout::read_header(disk, id.file_id()).ok()?.ok()?;
    let sound = header.id == id && survey(disk, &known).ok()?.damage.is_empty();
    if sound { hash_stream(disk, id.file_id(), end).ok() } else { None }
}

/// Returns the hash of the first `end` bytes of a file, still open.
///
/// # Errors
/// Any error of the disk.
pub(super) fn hash_stream<D: Disk>(
    disk: &D,
    file: FileId,
    end: u32,
) -> Result<Sha256Stream, DiskError> {
    let mut stream = Sha256Stream::new("");
    let mut buffer = vec![0; (end as usize).min(1 << 20)];
    let mut at: u32 = 0;
    while at < end {
        let len = (end - at).min(1 << 20);
        let part = buffer.get_mut(..len as usize).unwrap_or_default();
        disk.read(file, u64::from(at), part)?;
        stream.update(part);
        at += len;
    }
    Ok(stream)
}
