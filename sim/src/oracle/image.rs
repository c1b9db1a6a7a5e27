//! Reads the durable image of a store as FORMAT says, and nothing else.
//!
//! It promises that every checksum, hash and chain in segments, manifest, mark and local files was
//! recomputed, and that what it gives is what a store may hold after whatever crash. Damage is
//! never stepped over: the first that is met is the answer. Sidecars, quarantine and spool hold no
//! truth and are not read. Signatures are checked on request, as they cost more than all else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kdelta_engine::base::{CommitId, LogId, ReplicaId, SpaceId};
use kdelta_engine::log::{FileId, FileKind};

use super::bytes::{Bytes, Wrong, sha};
use super::commit::{Commit, Tip};
use super::compact::{Dictionary, Known};
use super::names::{Entry, Local, Manifest, Mark, State};
use super::segment::{self, Header, Name, Segment};
use super::vouch::{Fork, Voucher};

/// What is wrong with an image, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: FileId,
    /// Where in it, in bytes.
    pub offset: usize,
    /// What is wrong.
    pub wrong: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.file, self.offset, self.wrong)
    }
}

/// All that a store holds.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// What it knows that is not history; none if it is new.
    pub local: Option<Local>,
    /// The histories of the spaces that have commits.
    pub spaces: BTreeMap<SpaceId, History>,
    /// How many segments there are.
    pub segments: usize,
    /// Where the last whole group ends: place of its segment, and offset.
    pub end: (u64, usize),
    /// Whether that is behind a seal.
    pub sealed: bool,
    /// Whether the newest segment ends in something torn.
    pub torn: bool,
    /// What the dictionaries of the segments so far knew.
    before: Known,
    /// The commits whose number another one had before, each with its place in the files.
    doubled: Vec<(SpaceId, LogId, u64, FileId, usize)>,
}

/// The commits of one space, and what vouches for them.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Each commit once, in the order in which they lie in the log: none before its past.
    pub commits: Vec<Arc<Commit>>,
    /// What vouches for the prefix of a log that ends in the commit.
    pub vouchers: Vec<(Tip, Voucher)>,
    /// The proofs of forks.
    pub forks: Vec<Fork>,
    by_id: BTreeMap<CommitId, usize>,
    by_seq: BTreeMap<(LogId, u64), CommitId>,
}

/// Reads an image: the whole content of each file of a store.
///
/// Costs a pass over all bytes, and some hashes a commit.
///
/// # Errors
/// The first [`Fault`] that no crash explains.
pub fn read_image(files: &BTreeMap<FileId, Vec<u8>>) -> Result<Image, Fault> {
    let store = |store: [u8; 16], known: Option<[u8; 16]>| known.is_none_or(|known| known == store);
    let locals = pair(files, FileKind::Local, Local::read)?;
    let local = locals.into_iter().map(|(_, local)| local).max_by_key(|local| local.generation);
    let known = local.as_ref().map(|local| local.store);
    let manifest = manifest(files)?;
    let mark = files.get(&MARK).map(|file| Mark::read(file));
    let mark = mark.transpose().map_err(|wrong| fault(MARK, 0, wrong))?;
    let of_manifest = manifest.as_ref().is_none_or(|manifest| store(manifest.store, known));
    if !of_manifest || mark.as_ref().is_some_and(|mark| !store(mark.store, known)) {
        return Err(fault(MARK, 0, "manifest, mark and local file are of different stores"));
    }
    let mut image = Image { local, ..Image::default() };
    let mut reader = Reader { files, mark, known, before: None };
    for entry in manifest.iter().flat_map(|manifest| &manifest.entries) {
        if reader.passes_over(entry)? {
            continue;
        }
        let (file, segment) = reader.entered(entry)?;
        image.take(file, &segment)?;
    }
    if let Some((file, segment)) = reader.beyond()? {
        image.take(file, &segment)?;
    }
    if let Some(mark) = &reader.mark
        && reader.before.is_none_or(|last| mark.name.first() > Some(&last.0))
    {
        return Err(fault(MARK, 0, "the segment that the mark names is missing"));
    }
    match image.unproved() {
        Some((file, offset)) => Err(fault(file, offset, "two commits have one number, unproved")),
        None => Ok(image),
    }
}

const MARK: FileId = FileId::new(FileKind::Mark, 0);

fn fault(file: FileId, offset: usize, wrong: Wrong) -> Fault {
    Fault { file, offset, wrong }
}

/// Reads the two files that are written in turn.
fn pair<T>(
    files: &BTreeMap<FileId, Vec<u8>>,
    kind: FileKind,
    read: impl Fn(&[u8]) -> Result<T, Wrong>,
) -> Result<Vec<(FileId, T)>, Fault> {
    let both = [FileId::new(kind, 0), FileId::new(kind, 1)];
    let there = both.into_iter().filter_map(|file| Some((file, files.get(&file)?)));
    let read = there.map(|(file, bytes)| match read(bytes) {
        Ok(read) => Ok((file, read)),
        Err(wrong) => Err(fault(file, 0, wrong)),
    });
    read.collect()
}

fn manifest(files: &BTreeMap<FileId, Vec<u8>>) -> Result<Option<Manifest>, Fault> {
    let mut both = pair(files, FileKind::Manifest, Manifest::read)?;
    both.sort_by_key(|(_, manifest)| manifest.generation);
    if let Some((file, _)) = both.iter().find(|(file, m)| m.generation % 2 != file.number) {
        return Err(fault(*file, 0, "the generation belongs into the other file"));
    }
    if let [(file, older), (newer, newest)] = both.as_slice() {
        let hash = files.get(file).map(|bytes| sha(&[bytes]));
        if newest.generation != older.generation + 1 || hash != Some(newest.before) {
            return Err(fault(*newer, 0, "the generation before is not the one that is named"));
        }
    }
    Ok(both.pop().map(|(_, newest)| newest))
}

/// Reads segments in order, each against what others say of it.
struct Reader<'a> {
    files: &'a BTreeMap<FileId, Vec<u8>>,
    mark: Option<Mark>,
    known: Option<[u8; 16]>,
    /// Place, end and hash of the segment before, as a header names it, if it is closed. One that
    /// was repaired ends elsewhere than the file that is named.
    before: Option<(u64, Option<u32>, Option<[u8; 32]>)>,
}

impl<'a> Reader<'a> {
    /// Tells whether a place is empty: its header could not be read, and then nothing was in it.
    fn passes_over(&mut self, entry: &Entry) -> Result<bool, Fault> {
        let [place, number, ..] = entry.name;
        if entry.state == State::Begun || entry.end > 0 || entry.unread.is_some() {
            return Ok(false);
        }
        let id = FileId::new(FileKind::Segment, number);
        if self.files.get(&id).is_none_or(|file| !file.is_empty()) {
            return Err(fault(id, 0, "a place that is empty has no file, or one with something"));
        }
        self.before = Some((place, None, Some(entry.former.unwrap_or(entry.sha))));
        Ok(true)
    }

    /// Reads a segment that the manifest names.
    fn entered(&mut self, entry: &Entry) -> Result<(FileId, Segment<'a>), Fault> {
        let [place, number, ..] = entry.name;
        let id = FileId::new(FileKind::Segment, number);
        let missing = fault(id, 0, "the segment is missing");
        let file: &'a [u8] = self.files.get(&id).ok_or(missing)?;
        if entry.damaged {
            return Err(fault(id, 0, "damage was found before"));
        }
        let closed = entry.state != State::Begun;
        let upto = entry.unread.map_or(entry.end, |upto| upto.min(file.len()));
        let cut = if closed { file.get(..upto) } else { Some(file) };
        let short = fault(id, file.len(), "the segment is shorter than it was");
        let bytes = cut.ok_or(short)?;
        let durable = entry.end.max(self.marked(&entry.name));
        let segment = self.segment(id, bytes, durable)?;
        if segment.header.name != entry.name {
            return Err(fault(id, 0, "the header names another segment"));
        }
        if !self.follows(&segment.header) {
            return Err(fault(id, 64, "the header names another segment before"));
        }
        // Of one that could not be read when it was closed nothing more is known.
        if closed && entry.unread.is_none() {
            let fits = segment.end == entry.end
                && segment.sealed == (entry.state == State::Sealed)
                && (!segment.sealed || file.len() == entry.end)
                && segment.records.len() as u64 == entry.records
                && (sha(&[bytes]) == entry.sha || (!segment.sealed && entry.sha == [0; 32]));
            if !fits {
                return Err(fault(id, segment.end, "the manifest says otherwise of the segment"));
            }
        }
        let end = u32::try_from(entry.end).unwrap_or(u32::MAX);
        let end = (entry.former.is_none() && entry.unread.is_none()).then_some(end);
        self.before = Some((place, end, closed.then_some(entry.former.unwrap_or(entry.sha))));
        Ok((id, segment))
    }

    /// Reads the segment that follows those of the manifest, if it holds anything whole.
    fn beyond(&mut self) -> Result<Option<(FileId, Segment<'a>)>, Fault> {
        let last = self.before.map_or(0, |before| before.0);
        let mut found = None;
        for (id, file) in self.files.iter().filter(|(id, _)| id.kind == FileKind::Segment) {
            let Ok(header) = Header::read(file) else { continue };
            let [place, number, ..] = header.name;
            let later = place > last && number == id.number && self.ours(&header);
            // A last segment that is not closed has none after it.
            if later && self.follows(&header) {
                found = Some((*id, file, header));
            }
        }
        let Some((id, file, header)) = found else { return Ok(None) };
        let segment = self.segment(id, file, self.marked(&header.name))?;
        if segment.groups == 0 {
            return Ok(None);
        }
        let [place, ..] = header.name;
        self.before = Some((place, None, None));
        Ok(Some((id, segment)))
    }

    fn segment(&self, id: FileId, file: &'a [u8], durable: usize) -> Result<Segment<'a>, Fault> {
        let read = segment::read(file, durable);
        let segment = read.map_err(|(offset, wrong)| fault(id, offset, wrong))?;
        if !self.ours(&segment.header) {
            return Err(fault(id, 16, "the segment is of another store"));
        }
        Ok(segment)
    }

    fn ours(&self, header: &Header) -> bool {
        self.known.is_none_or(|known| known == header.store)
    }

    /// How far the clean mark says that a segment was durable.
    fn marked(&self, name: &Name) -> usize {
        self.mark.as_ref().filter(|mark| mark.name == *name).map_or(0, |mark| mark.end)
    }

    /// Tells whether a header names the segment before as it is.
    fn follows(&self, header: &Header) -> bool {
        let (place, end, hash) = header.before;
        match self.before {
            None => place == 0,
            Some((_, _, None)) => false,
            Some((last, at, Some(was))) => {
                let ends = at.is_none_or(|at| at == end);
                place == last && ends && (hash == was || hash == [0; 32])
            }
        }
    }
}

impl Image {
    /// Takes the records of a segment.
    fn take(&mut self, file: FileId, segment: &Segment<'_>) -> Result<(), Fault> {
        let [place, _, _, wall] = segment.header.name;
        self.segments += 1;
        self.end = (place, segment.end);
        self.sealed = segment.sealed;
        self.torn = segment.torn;
        let mut dictionary = Dictionary::after(std::mem::take(&mut self.before));
        for record in &segment.records {
            let doubled = self.record(&mut dictionary, wall, record.kind, record.body);
            let doubled = doubled.map_err(|wrong| fault(file, record.offset, wrong))?;
            let doubled = doubled.map(|(space, log, seq)| (space, log, seq, file, record.offset));
            self.doubled.extend(doubled);
        }
        self.before = dictionary.known();
        Ok(())
    }

    /// Takes a record; of a commit whose number another one has, returns that.
    fn record(
        &mut self,
        dictionary: &mut Dictionary,
        wall: u64,
        kind: u8,
        body: &[u8],
    ) -> Result<Option<(SpaceId, LogId, u64)>, Wrong> {
        match kind {
            0x10 => dictionary.read(body)?,
            0x11 => {
                let commit = dictionary.commit(body, wall)?;
                dictionary.note(&commit);
                let place = (commit.space, commit.log, commit.seq);
                let first = self.spaces.entry(commit.space).or_default().take(commit)?;
                return Ok((!first).then_some(place));
            }
            0x12 => {
                let mut bytes = Bytes(body);
                let (space, log) = dictionary.log(bytes.varint()?)?;
                let tip = Tip { log, seq: bytes.varint()?, id: bytes.id()? };
                let voucher = Voucher::read(&mut bytes)?;
                bytes.end()?;
                voucher.covers(&space, &tip)?;
                self.spaces.entry(space).or_default().vouchers.push((tip, voucher));
            }
            0x13 => {
                let fork = Fork::read(body)?;
                self.spaces.entry(fork.space).or_default().forks.push(fork);
            }
            _ => return Err("the kind of a record is unknown"),
        }
        Ok(None)
    }

    /// Finds a commit whose number another one has, though no proof says that the log is forked
    /// there. Where a proof lies makes no difference: one side may not have been readable when the
    /// other was taken.
    fn unproved(&self) -> Option<(FileId, usize)> {
        let proved = |space: &SpaceId, log: &LogId, seq: u64| {
            let forks = self.spaces.get(space).into_iter().flat_map(|history| &history.forks);
            forks.into_iter().any(|fork| fork.log == *log && fork.seq <= seq)
        };
        let mut doubled = self.doubled.iter();
        let found = doubled.find(|(space, log, seq, ..)| !proved(space, log, *seq));
        found.map(|(.., file, offset)| (*file, *offset))
    }

    /// Checks every signature. Costs about 50 microseconds each.
    ///
    /// # Errors
    /// The space, and the last commit of the prefix that a signature does not stand for.
    pub fn check_signatures(&self) -> Result<(), (SpaceId, Tip)> {
        for (space, history) in &self.spaces {
            let of_forks = history.forks.iter().flat_map(|fork| &fork.vouchers);
            let all = history.vouchers.iter().map(|(_, voucher)| voucher).chain(of_forks);
            if let Some(voucher) = all.into_iter().find(|voucher| !voucher.signed()) {
                return Err((*space, voucher.tip));
            }
        }
        Ok(())
    }

    /// Returns the commits of others that nothing in the image vouches for. `own` is the replica
    /// whose store this is: its own need no voucher.
    pub fn unvouched(&self, own: &ReplicaId) -> Vec<(SpaceId, Tip)> {
        let mut all = Vec::new();
        for (space, history) in &self.spaces {
            let unvouched = history.unvouched(own);
            all.extend(unvouched.into_iter().map(|tip| (*space, tip)));
        }
        all
    }
}

impl History {
    /// Takes a commit, and checks what its past decides, the references of its events apart; tells
    /// whether no other one has its number.
    fn take(&mut self, commit: Commit) -> Result<bool, Wrong> {
        if self.by_id.contains_key(&commit.id) {
            return Ok(true);
        }
        let before = Tip { log: commit.log, seq: commit.seq.wrapping_sub(1), id: commit.prev };
        let before = (commit.seq > 1).then_some(&before);
        for tip in commit.deps.iter().chain(before) {
            let past = self.get(&tip.id).ok_or("a commit comes before its past")?;
            if past.tip() != *tip {
                return Err("a commit names another place than its past has");
            }
            if past.hlc >= commit.hlc {
                return Err("a stamp is not above those before it");
            }
        }
        let place = (commit.log, commit.seq);
        let first = *self.by_seq.entry(place).or_insert(commit.id) == commit.id;
        self.by_id.insert(commit.id, self.commits.len());
        self.commits.push(Arc::new(commit));
        Ok(first)
    }

    /// Returns a commit.
    pub fn get(&self, id: &CommitId) -> Option<&Arc<Commit>> {
        self.commits.get(*self.by_id.get(id)?)
    }

    fn unvouched(&self, own: &ReplicaId) -> Vec<Tip> {
        let mut vouched: BTreeMap<CommitId, ()> = BTreeMap::new();
        let mut ahead: BTreeMap<LogId, u64> = BTreeMap::new();
        let forks = self
            .forks
            .iter()
            .flat_map(|fork| fork.ids.map(|id| Tip { log: fork.log, seq: fork.seq, id }));
        for tip in self.vouchers.iter().map(|(tip, _)| *tip).chain(forks) {
            let mut id = tip.id;
            if !self.by_id.contains_key(&id) {
                // Its last commits were not written, or are no more: the chain cannot be walked.
                let seq = ahead.entry(tip.log).or_default();
                *seq = tip.seq.max(*seq);
            }
            while let Some(commit) = self.get(&id)
                && vouched.insert(id, ()).is_none()
            {
                id = commit.prev;
            }
        }
        let theirs = self.commits.iter().filter(|commit| commit.log.replica != *own);
        let tips = theirs.filter(|commit| {
            let ahead = ahead.get(&commit.log).copied().unwrap_or_default();
            !vouched.contains_key(&commit.id) && commit.seq >= ahead
        });
        tips.map(|commit| commit.tip()).collect()
    }
}
