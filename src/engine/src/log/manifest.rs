//! The manifest and the clean mark: what the log knows of itself outside the segments (FORMAT 7.5).
//!
//! The manifest lists all segments in order, each with what is needed to read and check it. Every
//! edit writes the whole list anew as the next generation, alternately into two files, each
//! replaced atomically and chained to the one before by its hash: a damaged newest one costs one
//! edit, which recovery makes again from the segments. The clean mark covers the last byte of the
//! log after an orderly end.

use super::disk::{Disk, DiskError, DiskErrorKind, FileId, FileKind};
use super::segment::{HEADER_BYTES, Predecessor, SegmentId, VERSION};
use crate::base::{CodecError, Hash, Reader, WallTime, Writer as _, sha256};
use crate::limits;

const MANIFEST_MAGIC: &[u8; 8] = b"KDMAN\0\r\n";
const MARK_MAGIC: &[u8; 8] = b"KDMRK\0\r\n";
const ENTRY_BYTES_MIN: usize = 77;
/// Flags beside the state of an entry.
const FORMER: u8 = 4;
const DAMAGED: u8 = 8;
const UNREAD: u8 = 16;

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is being written; `end` bytes were durable when this was noted.
    Begun,
    /// It ends with a seal record.
    Sealed,
    /// It ends at `end` without one: a tail was torn off, or its disk failed.
    Cut,
}

/// One segment in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Who it is.
    pub(super) id: SegmentId,
    /// What became of it.
    pub(super) state: State,
    /// Where it ends, in bytes.
    pub(super) end: u32,
    /// Records of callers in it.
    pub(super) records: u64,
    /// SHA-256 of the file up to its end; zero if begun, or if it did not read as it was written.
    pub(super) sha: Hash,
    /// The hash of the first file in this place, if this is another: what the next header names.
    pub(super) former: Option<Hash>,
    /// Damage was found in it when it was closed.
    pub(super) damaged: bool,
    /// Part of it could not be read when it was closed: it is judged anew at each opening until it
    /// can be, and may turn out to end anywhere from its end to here.
    pub(super) unread: Option<u32>,
}

/// The list of segments, in order of their places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Manifest {
    /// Number of edits so far.
    pub(super) generation: u64,
    /// Hash of the file of the generation before.
    pub(super) previous: Hash,
    /// Hash of the file of this generation; zero if there is none yet.
    pub(super) own: Hash,
    /// The segments; only the last may be [`State::Begun`].
    pub(super) entries: Vec<Entry>,
}

/// How far the log was durable at the last orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The segment that was being written, or the last one.
    pub(super) id: SegmentId,
    /// Its end, in bytes.
    pub(super) end: u32,
    /// The newest generation of the manifest.
    pub(super) generation: u64,
}

/// Why a file of this module cannot be used.
#[derive(Debug)]
pub(super) enum LoadError {
    /// It is damaged.
    Damaged,
    /// It is intact but belongs to another store.
    OtherStore,
    /// It is intact but of a later major version.
    Version(u16),
    /// It cannot be read.
    Disk(DiskError),
}

impl From<CodecError> for LoadError {
    fn from(_: CodecError) -> Self {
        Self::Damaged
    }
}

impl Entry {
    /// Returns what the header of the next segment says of this one, repaired or not.
    pub(super) fn as_predecessor(&self) -> Predecessor {
        let sha = self.former.unwrap_or(self.sha);
        Predecessor { place: self.id.place, end: self.kept(), sha }
    }

    /// Tells whether the file was not there up to this end when that was noted, or not at all:
    /// nobody has seen what may follow, should it come back.
    pub(super) fn is_unseen(&self) -> bool {
        let known = self.id != SegmentId::unknown(self.id.place);
        self.damaged && known && self.unread.is_none() && self.sha == Hash::default()
    }

    /// Returns where what the file must keep ends.
    pub(super) fn kept(&self) -> u32 {
        self.unread.unwrap_or(self.end)
    }
}

impl Manifest {
    /// Returns the entry of a place.
    pub(super) fn entry(&self, place: u64) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&place, |entry| entry.id.place).ok()?;
        self.entries.get(at)
    }

    /// Puts an entry in its place, over the one that is there.
    pub(super) fn put(&mut self, entry: Entry) {
        match self.entries.binary_search_by_key(&entry.id.place, |other| other.id.place) {
            Ok(at) => {
                if let Some(old) = self.entries.get_mut(at) {
                    *old = entry;
                }
            }
            Err(at) => self.entries.insert(at, entry),
        }
    }

    /// Takes back the last entry.
    pub(super) fn drop_last(&mut self) {
        self.entries.pop();
    }

    /// Returns what a new segment names as its predecessor.
    pub(super) fn last_as_predecessor(&self) -> Predecessor {
        self.entries.last().map_or_else(Predecessor::default, |last| {
            assert!(last.state != State::Begun, "a segment ends before the next begins");
            last.as_predecessor()
        })
    }

    /// Writes this content as the next generation, durably.
    pub(super) fn save<D: Disk>(&mut self, disk: &D, store: &[u8; 16]) -> Result<(), DiskError> {
        let mut next = self.clone();
        next.generation += 1;
        next.previous = self.own;
        let bytes = next.encode(store);
        disk.replace(slot(next.generation), &bytes)?;
        next.own = sha256("", &[&bytes]);
        *self = next;
        Ok(())
    }

    fn encode(&self, store: &[u8; 16]) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.entries.len() * 80);
        put_front(&mut out, MANIFEST_MAGIC, store);
        out.put_u64(self.generation);
        out.put(&self.previous);
        out.put_len(self.entries.len());
        for entry in &self.entries {
            put_id(&mut out, &entry.id);
            let state = match entry.state {
                State::Begun => 0,
                State::Sealed => 1,
                State::Cut => 2,
            };
            let former = if entry.former.is_some() { FORMER } else { 0 };
            let damaged = if entry.damaged { DAMAGED } else { 0 };
            let unread = if entry.unread.is_some() { UNREAD } else { 0 };
            out.put_u8(state | former | damaged | unread);
            out.put_u32(entry.end);
            out.put_u64(entry.records);
            out.put(&entry.sha);
            out.put(entry.former.as_ref().map_or(&[][..], |hash| hash));
            if let Some(upto) = entry.unread {
                out.put_u32(upto);
            }
        }
        put_hash(&mut out);
        out
    }

    fn decode(bytes: &[u8], store: &[u8; 16]) -> Result<Self, LoadError> {
        let mut r = front(bytes, MANIFEST_MAGIC, store)?;
        let (generation, previous) = (r.u64()?, r.hash()?);
        let count = r.count(limits::SEGMENTS_MAX, ENTRY_BYTES_MIN, "segments")?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for at in 0..count {
            let id = take_id(&mut r)?;
            let byte = r.u8()?;
            let state = match byte & 3 {
                0 if at + 1 == count => State::Begun,
                1 => State::Sealed,
                2 => State::Cut,
                _ => return Err(LoadError::Damaged),
            };
            let (end, records, sha) = (r.u32()?, r.u64()?, r.hash()?);
            if byte & !(3 | FORMER | DAMAGED | UNREAD) != 0 {
                return Err(LoadError::Damaged);
            }
            let former = if byte & FORMER > 0 { Some(r.hash()?) } else { None };
            let damaged = byte & DAMAGED > 0;
            let unread = if byte & UNREAD > 0 { Some(r.u32()?) } else { None };
            let follows = entries.last().map_or(0, |last| last.id.place) < id.place;
            // One is entered as begun once a sync of it succeeded, and is read from then on.
            let begun = end >= HEADER_BYTES && unread.is_none();
            let fits = state != State::Begun || begun;
            if !follows || !fits || unread.is_some_and(|upto| upto < end) {
                return Err(LoadError::Damaged);
            }
            entries.push(Entry { id, state, end, records, sha, former, damaged, unread });
        }
        r.finish()?;
        Ok(Self { generation, previous, own: sha256("", &[bytes]), entries })
    }
}

impl Mark {
    /// Writes the mark, durably.
    pub(super) fn save<D: Disk>(&self, disk: &D, store: &[u8; 16]) -> Result<(), DiskError> {
        let mut out = Vec::with_capacity(108);
        put_front(&mut out, MARK_MAGIC, store);
        put_id(&mut out, &self.id);
        out.put_u32(self.end);
        out.put_u64(self.generation);
        put_hash(&mut out);
        disk.replace(MARK_FILE, &out)
    }

    fn decode(bytes: &[u8], store: &[u8; 16]) -> Result<Self, LoadError> {
        let mut r = front(bytes, MARK_MAGIC, store)?;
        let mark = Self { id: take_id(&mut r)?, end: r.u32()?, generation: r.u64()? };
        r.finish()?;
        Ok(mark)
    }
}

/// The file of the clean mark.
pub(super) const MARK_FILE: FileId = FileId::new(FileKind::Mark, 0);

/// The file that holds a generation of the manifest.
pub(super) fn slot(generation: u64) -> FileId {
    FileId::new(FileKind::Manifest, generation & 1)
}

/// Reads the generation of the manifest in a slot; none if there is no such file.
pub(super) fn load_manifest<D: Disk>(
    disk: &D,
    file: FileId,
    store: &[u8; 16],
) -> Result<Option<Manifest>, LoadError> {
    let bytes_max = 128 + limits::SEGMENTS_MAX * 128;
    let Some(bytes) = whole(disk, file, bytes_max)? else { return Ok(None) };
    let manifest = Manifest::decode(&bytes, store)?;
    if slot(manifest.generation) != file || manifest.generation == 0 {
        return Err(LoadError::Damaged);
    }
    Ok(Some(manifest))
}

/// Reads the clean mark; none if there is none.
pub(super) fn load_mark<D: Disk>(disk: &D, store: &[u8; 16]) -> Result<Option<Mark>, LoadError> {
    whole(disk, MARK_FILE, 256)?.map(|bytes| Mark::decode(&bytes, store)).transpose()
}

fn whole<D: Disk>(disk: &D, file: FileId, max: usize) -> Result<Option<Vec<u8>>, LoadError> {
    let len = match disk.len(file) {
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(None),
        other => other.map_err(LoadError::Disk)?,
    };
    let len = usize::try_from(len).ok().filter(|len| *len <= max).ok_or(LoadError::Damaged)?;
    let mut bytes = vec![0; len];
    disk.read(file, 0, &mut bytes).map_err(LoadError::Disk)?;
    Ok(Some(bytes))
}

fn put_front(out: &mut Vec<u8>, magic: &[u8; 8], store: &[u8; 16]) {
    out.put(magic);
    out.put(&VERSION.0.to_le_bytes());
    out.put(&VERSION.1.to_le_bytes());
    out.put(store);
}

fn put_id(out: &mut Vec<u8>, id: &SegmentId) {
    for value in [id.place, id.file, id.salt, id.base.0] {
        out.put_u64(value);
    }
}

fn put_hash(out: &mut Vec<u8>) {
    let hash = sha256("", &[out]);
    out.put(&hash);
}

/// Checks the hash at the end and the front; what follows the front is left to read.
fn front<'a>(bytes: &'a [u8], magic: &[u8; 8], store: &[u8; 16]) -> Result<Reader<'a>, LoadError> {
    let (body, hash) = bytes.split_last_chunk::<32>().ok_or(LoadError::Damaged)?;
    if !body.starts_with(magic) || sha256("", &[body]) != *hash {
        return Err(LoadError::Damaged);
    }
    let mut r = Reader::new(body);
    r.take(magic.len())?;
    let major = u16::from_le_bytes(r.array()?);
    if major > VERSION.0 {
        return Err(LoadError::Version(major));
    }
    r.take(2)?; // minor version: for later readers
    if r.array()? != *store { Err(LoadError::OtherStore) } else { Ok(r) }
}

fn take_id(r: &mut Reader<'_>) -> Result<SegmentId, CodecError> {
    Ok(SegmentId { place: r.u64()?, file: r.u64()?, salt: r.u64()?, base: WallTime(r.u64()?) })
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDisk;
    use super::*;

    const STORE: [u8; 16] = [3; 16];

    fn entry(place: u64, state: State) -> Entry {
        let id = SegmentId { place, file: place + 7, salt: 5, base: WallTime(8) };
        let former = (place == 2).then_some([8; 32]);
        let (damaged, unread) = (place == 1, (place == 2).then_some(1700));
        Entry { id, state, end: 900, records: 4, sha: [6; 32], former, damaged, unread }
    }

    fn sample() -> Manifest {
        let entries = vec![entry(1, State::Sealed), entry(2, State::Cut), entry(9, State::Begun)];
        Manifest { entries, ..Manifest::default() }
    }

    #[test]
    fn each_edit_goes_to_the_other_file_and_names_the_one_before() {
        let disk = MemoryDisk::new();
        let mut manifest = sample();
        manifest.save(&disk, &STORE).unwrap();
        let first = load_manifest(&disk, slot(1), &STORE).unwrap().unwrap();
        assert_eq!(first.entries, sample().entries);
        manifest.entries.pop();
        manifest.save(&disk, &STORE).unwrap();
        let second = load_manifest(&disk, slot(2), &STORE).unwrap().unwrap();
        assert_eq!((second.generation, second.previous, second.entries.len()), (2, first.own, 2));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let mark = Mark { id: entry(4, State::Begun).id, end: 5, generation: 6 };
        let disk = MemoryDisk::new();
        mark.save(&disk, &STORE).unwrap();
        assert_eq!(load_mark(&disk, &STORE).unwrap(), Some(mark));
        let bytes = whole(&disk, MARK_FILE, 256).unwrap().unwrap();
        for (good, of_mark) in [(bytes, true), (sample().encode(&STORE), false)] {
            let damaged = |bytes: &[u8]| {
                if of_mark {
                    Mark::decode(bytes, &STORE).is_err()
                } else {
                    Manifest::decode(bytes, &STORE).is_err()
                }
            };
            assert!(!damaged(&good));
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(damaged(&bad), "bit {bit}");
            }
            for len in 0..good.len() {
                assert!(damaged(&good[..len]), "cut to {len}");
            }
        }
    }

    #[test]
    fn a_begun_segment_has_a_durable_header() {
        for (end, whole) in [(0, false), (HEADER_BYTES - 1, false), (HEADER_BYTES, true)] {
            let entries = vec![Entry { end, ..entry(9, State::Begun) }];
            let bytes = Manifest { entries, ..Manifest::default() }.encode(&STORE);
            assert_eq!(Manifest::decode(&bytes, &STORE).is_ok(), whole, "{end}");
        }
    }

    #[test]
    fn another_store_is_told_apart_from_damage() {
        let bytes = sample().encode(&STORE);
        let found = Manifest::decode(&bytes, &[4; 16]);
        assert!(matches!(found, Err(LoadError::OtherStore)), "{found:?}");
    }
}
