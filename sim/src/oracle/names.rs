//! The files that say which others there are: manifest, clean mark and local files. FORMAT
//! sections 7.5 and 9.

use kdelta_engine::base::{Hash, ReplicaId, SpaceId};
use kdelta_engine::log::FileKind;

use super::bytes::{Bytes, Wrong, crc32, sha};
use super::segment::Name;

/// The list of segments.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) store: [u8; 16],
    pub(super) generation: u64,
    pub(super) before: Hash,
    pub(super) entries: Vec<Entry>,
}

/// What the manifest says of one segment.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) state: State,
    pub(super) end: usize,
    pub(super) records: u64,
    pub(super) sha: Hash,
    /// What the next header calls it, if it was repaired.
    pub(super) former: Option<Hash>,
    pub(super) damaged: bool,
    /// Where it may end, if it could not be read whole when it was closed.
    pub(super) unread: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Begun,
    Sealed,
    Cut,
}

/// Returns the how-manieth list of segments, or local file, these bytes are, if they are good; of a
/// clean mark, the list that it was written beside.
pub(crate) fn generation(kind: FileKind, file: &[u8]) -> Option<u64> {
    match kind {
        FileKind::Manifest => Manifest::read(file).ok().map(|list| list.generation),
        FileKind::Local => Local::read(file).ok().map(|local| local.generation),
        FileKind::Mark => Mark::read(file).ok().map(|mark| mark.generation),
        _ => None,
    }
}

/// Returns up to where a list of segments, or a clean mark, says that a segment file was durable.
pub(crate) fn durable_by(kind: FileKind, file: &[u8], segment: u64) -> Option<u64> {
    let is_it = |[_, number, ..]: &Name| *number == segment;
    let end = match kind {
        FileKind::Manifest => {
            let list = Manifest::read(file).ok()?;
            list.entries.into_iter().find(|entry| is_it(&entry.name))?.end
        }
        FileKind::Mark => Mark::read(file).ok().filter(|mark| is_it(&mark.name))?.end,
        _ => return None,
    };
    Some(end as u64)
}

/// Tells whether a list of segments says that one has ended.
pub(crate) fn lists_the_end(list: &[u8], segment: u64) -> bool {
    let Ok(list) = Manifest::read(list) else { return false };
    let mut entries = list.entries.into_iter();
    entries.any(|Entry { name: [_, number, ..], state, .. }| {
        number == segment && state != State::Begun
    })
}

impl Manifest {
    pub(super) fn read(file: &[u8]) -> Result<Self, Wrong> {
        let (mut bytes, store) = hashed(file, b"KDMAN\0\r\n")?;
        let (generation, before) = (bytes.u64()?, bytes.array()?);
        let count = bytes.count(1 << 20)?;
        let mut entries: Vec<Entry> = Vec::new();
        for at in 0..count {
            let name = name(&mut bytes)?;
            let flags = bytes.u8()?;
            let (end, records, sha) = (bytes.u32()?, bytes.u64()?, bytes.array()?);
            let former = if flags & 4 > 0 { Some(bytes.array()?) } else { None };
            let state = match flags & 3 {
                0 if at + 1 == count => State::Begun,
                1 => State::Sealed,
                2 => State::Cut,
                _ => return Err("the state of a segment is unknown"),
            };
            let place = |name: &Name| name.first().copied();
            if flags > 31 || entries.last().is_some_and(|e| place(&e.name) >= place(&name)) {
                return Err("the manifest is not canonical");
            }
            let unread = if flags & 16 > 0 { Some(bytes.u32()? as usize) } else { None };
            let (end, damaged) = (end as usize, flags & 8 > 0);
            entries.push(Entry { name, state, end, records, sha, former, damaged, unread });
        }
        bytes.end()?;
        Ok(Self { store, generation, before, entries })
    }
}

/// The clean mark: the newest segment, and how far it was durable.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) store: [u8; 16],
    pub(super) name: Name,
    pub(super) end: usize,
    generation: u64,
}

impl Mark {
    pub(super) fn read(file: &[u8]) -> Result<Self, Wrong> {
        let (mut bytes, store) = hashed(file, b"KDMRK\0\r\n")?;
        let (name, end, generation) = (name(&mut bytes)?, bytes.u32()?, bytes.u64()?);
        bytes.end()?;
        Ok(Self { store, name, end: end as usize, generation })
    }
}

fn name(bytes: &mut Bytes<'_>) -> Result<Name, Wrong> {
    let (place, number) = (bytes.u64()?, bytes.u64()?);
    Ok([place, number, bytes.u64()?, bytes.u64()?])
}

/// What follows magic, version and store, once the hash at the end was checked.
fn hashed<'a>(file: &'a [u8], magic: &[u8; 8]) -> Result<(Bytes<'a>, [u8; 16]), Wrong> {
    let (body, hash) = file.split_last_chunk::<32>().ok_or("the file is too short")?;
    if sha(&[body]) != *hash {
        return Err("the hash at the end is wrong");
    }
    let mut bytes = Bytes(body);
    if bytes.take(8)? != magic || bytes.u16()? != 1 {
        return Err("the file is of another kind or version");
    }
    bytes.u16()?;
    let store = bytes.array()?;
    Ok((bytes, store))
}

/// What a store knows that is not history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Counts the edits.
    pub generation: u64,
    /// The store.
    pub store: [u8; 16],
    /// Which life it is in.
    pub incarnation: u64,
    /// Earlier lives, oldest first.
    pub earlier: Vec<u64>,
    /// Damaged segments on account of which the life began.
    pub lost: Vec<u64>,
    /// What the directory was.
    pub place: Option<u64>,
    /// Id, name and flags of each space.
    pub spaces: Vec<(SpaceId, String, u8)>,
    /// Each peer, and the spaces that it is admitted to.
    pub peers: Vec<(ReplicaId, Vec<SpaceId>)>,
    /// The space of each ticket, and how often it can be used.
    pub tickets: Vec<(SpaceId, u32)>,
}

impl Local {
    pub(super) fn read(file: &[u8]) -> Result<Self, Wrong> {
        let (body, crc) = file.split_last_chunk::<4>().ok_or("the file is too short")?;
        if crc32(0, body) != u32::from_le_bytes(*crc) {
            return Err("the checksum at the end is wrong");
        }
        let mut bytes = Bytes(body);
        if bytes.take(8)? != b"KDLOCAL\n" || !(1..=2).contains(&bytes.u8()?) {
            return Err("the file is of another kind or version");
        }
        let (generation, store) = (bytes.u64()?, bytes.array()?);
        let incarnation = bytes.u64()?;
        let earlier = list(&mut bytes, |bytes| bytes.u64())?;
        let lost = list(&mut bytes, |bytes| bytes.u64())?;
        let (known, place) = (bytes.u8()?, bytes.u64()?);
        let place = (known > 0).then_some(place);
        let space = |bytes: &mut Bytes<'_>| bytes.array().map(SpaceId);
        let spaces = list(&mut bytes, |bytes| {
            let (space, name, flags) = (space(bytes)?, text(bytes)?, bytes.u8()?);
            if flags & 32 > 0 {
                bytes.u64()?;
            }
            Ok((space, name, flags))
        })?;
        let peers = list(&mut bytes, |bytes| {
            let replica = ReplicaId(bytes.array()?);
            list(bytes, text)?;
            let admitted = list(bytes, space)?;
            list(bytes, |bytes| bytes.take(64).map(drop))?;
            Ok((replica, admitted))
        })?;
        let tickets = list(&mut bytes, |bytes| {
            bytes.take(32)?;
            let (space, _expiry) = (space(bytes)?, bytes.u64()?);
            Ok((space, bytes.u32()?))
        })?;
        bytes.end()?;
        let (spaces, peers) = (spaces, peers);
        Ok(Self { generation, store, incarnation, earlier, lost, place, spaces, peers, tickets })
    }
}

fn list<T>(
    bytes: &mut Bytes<'_>,
    mut each: impl FnMut(&mut Bytes<'_>) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    let count = bytes.count(1 << 20)?;
    (0..count).map(|_| each(bytes)).collect()
}

fn text(bytes: &mut Bytes<'_>) -> Result<String, Wrong> {
    let text = std::str::from_utf8(bytes.bytes(1 << 12)?);
    text.map(str::to_owned).map_err(|_| "a text is not UTF-8")
}
