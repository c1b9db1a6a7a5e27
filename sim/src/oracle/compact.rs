//! The compact form of commits, and the dictionary that it needs: FORMAT section 6.

use std::collections::BTreeMap;

use kdelta_engine::base::{CommitId, Dot, LogId, SpaceId};

use super::act::{Act, Genesis};
use super::bytes::{Bytes, Wrong, shared};
use super::commit::{Action, Commit, Content, Event, Kind, Supersedes, Tip};

/// What the indexes of one segment or chunk stand for.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    entries: BTreeMap<u64, Entry>,
    before: Known,
}

/// The ids of commits, by space, log and seq.
pub(super) type Known = BTreeMap<(SpaceId, LogId), BTreeMap<u64, CommitId>>;

#[derive(Debug)]
struct Entry {
    space: SpaceId,
    log: LogId,
    base: u64,
    base_id: CommitId,
    known: BTreeMap<u64, CommitId>,
}

impl Dictionary {
    /// That of a segment after others: a commit that was moved leaves out ids that those knew.
    pub(super) fn after(before: Known) -> Self {
        Self { before, ..Self::default() }
    }

    /// What it knows, and those before it did.
    pub(super) fn known(self) -> Known {
        let mut known = self.before;
        for entry in self.entries.into_values() {
            known.entry((entry.space, entry.log)).or_default().extend(entry.known);
        }
        known
    }

    fn id(&self, entry: &Entry, seq: u64) -> Option<CommitId> {
        let before = || self.before.get(&(entry.space, entry.log))?.get(&seq);
        entry.known.get(&seq).or_else(before).copied()
    }

    /// Takes the entries of one record.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let mut bytes = Bytes(bytes);
        let (mut last, mut space) = (None, None);
        while bytes.left() > 0 {
            let (index, flags) = (bytes.varint()?, bytes.u8()?);
            if index >= 524_288 || last.is_some_and(|last| last >= index) || flags > 3 {
                return Err("an entry of the dictionary is out of order");
            }
            last = Some(index);
            if flags & 1 > 0 {
                let next = SpaceId(bytes.array()?);
                if space.replace(next) == Some(next) {
                    return Err("a space is named twice in a row");
                }
            }
            let space = space.ok_or("an entry of the dictionary names no space")?;
            let log = bytes.log()?;
            let (base, base_id) =
                if flags & 2 > 0 { (bytes.varint()?, bytes.id()?) } else { (0, CommitId::ZERO) };
            if flags & 2 > 0 && (base == 0 || base > u64::MAX >> 1) {
                return Err("a base is out of range");
            }
            let other = self.entries.values().any(|e| (e.space, e.log) == (space, log));
            match self.entries.get(&index) {
                Some(e) if (e.space, e.log, e.base, e.base_id) == (space, log, base, base_id) => {}
                None if !other => {
                    let known = if base > 0 { vec![(base, base_id)] } else { vec![] };
                    let known = known.into_iter().collect();
                    self.entries.insert(index, Entry { space, log, base, base_id, known });
                }
                _ => return Err("an index stands for two logs, or a log has two"),
            }
        }
        Ok(())
    }

    fn entry(&self, index: u64) -> Result<&Entry, Wrong> {
        self.entries.get(&index).ok_or("an index is not in the dictionary")
    }

    fn of(&self, space: &SpaceId, index: u64) -> Result<&Entry, Wrong> {
        let entry = self.entry(index)?;
        if entry.space == *space { Ok(entry) } else { Err("an index is of another space") }
    }

    /// The space and log that an index stands for.
    pub(super) fn log(&self, index: u64) -> Result<(SpaceId, LogId), Wrong> {
        self.entry(index).map(|entry| (entry.space, entry.log))
    }

    /// Takes note of a commit; of two under one seq the first is known.
    pub(super) fn note(&mut self, commit: &Commit) {
        let at = self.entries.values_mut().find(|e| (e.space, e.log) == (commit.space, commit.log));
        if let Some(entry) = at {
            entry.known.entry(commit.seq).or_insert(commit.id);
        }
    }

    /// Reads a commit whose stamp is relative to `base_ms`.
    pub(super) fn commit(&self, bytes: &[u8], base_ms: u64) -> Result<Commit, Wrong> {
        let mut bytes = Bytes(bytes);
        let head = bytes.u8()?;
        let bit = |n: u8| head >> n & 1 == 1;
        let more = if bit(7) { bytes.u8()? } else { 0 };
        if bit(7) && (more == 0 || more > 3) {
            return Err("the second byte of a commit is not canonical");
        }
        let kind = Kind::of(head & 7).ok_or("the kind of a commit is unknown")?;
        let own = self.entry(bytes.varint()?)?;
        let space = own.space;
        let seq = bytes.zigzag(own.base)?;
        let ms = bytes.zigzag(base_ms)?;
        let counter = bytes.varint()?;
        if ms >= 1 << 48 || counter >= 1 << 16 {
            return Err("a stamp is out of range");
        }
        let prev = match (more >> 1 & 1, seq) {
            (0, 0 | 1) => CommitId::ZERO,
            (0, _) => self.id(own, seq - 1).ok_or("the commit before is not known")?,
            (_, 0 | 1) => return Err("the first commit of a log has none before it"),
            _ => bytes.id()?,
        };
        let grant = if more & 1 > 0 { Some(bytes.array()?) } else { None };
        let deps = if bit(5) { self.deps(&space, &mut bytes)? } else { Vec::new() };
        let genesis = match kind {
            Kind::Genesis => Some(Genesis::read(&mut bytes)?),
            _ => None,
        };
        let act = if kind.acts() { Some(Act::read(kind.byte(), &mut bytes)?) } else { None };
        let count = count(kind, bit(4), &mut bytes)?;
        let size = if bit(6) { Some(bytes.varint()?) } else { None };
        let mut events = Vec::new();
        for at in 0..count {
            let last = at + 1 == count && !bit(3);
            events.push(self.event(&space, &mut bytes, last)?);
        }
        let meta = if bit(3) { Some(meta(&mut bytes)?) } else { None };
        bytes.end()?;
        let contents = events.iter().map(|event| &event.content).chain(&meta);
        if bit(6) != contents.into_iter().any(|content| matches!(content, Content::Erased(_))) {
            return Err("a size stands where none should, or is missing");
        }
        let (id, root) = (CommitId::ZERO, [0; 32]);
        let (log, hlc, size_of) = (own.log, ms << 16 | counter, 0);
        Commit {
            id,
            space,
            log,
            seq,
            prev,
            hlc,
            deps,
            grant,
            kind,
            genesis,
            act,
            events,
            meta,
            size: size_of,
            root,
        }
        .complete(size)
    }

    fn deps(&self, space: &SpaceId, bytes: &mut Bytes<'_>) -> Result<Vec<Tip>, Wrong> {
        let count = bytes.count(256)?;
        if count == 0 {
            return Err("an empty list of deps is not canonical");
        }
        let mut deps = Vec::new();
        for _ in 0..count {
            let coded = bytes.varint()?;
            let entry = self.of(space, coded >> 1)?;
            let seq = bytes.zigzag(entry.base)?;
            let id = match coded & 1 {
                1 => bytes.id()?,
                _ => self.id(entry, seq).ok_or("the id of a dep is not known")?,
            };
            deps.push(Tip { log: entry.log, seq, id });
        }
        Ok(deps)
    }

    fn event(&self, space: &SpaceId, bytes: &mut Bytes<'_>, last: bool) -> Result<Event, Wrong> {
        let lead = bytes.u8()?;
        let action = Action::of(lead & 15, (lead >> 4 & 1) + 1).ok_or("an action is unknown")?;
        let place = |bytes: &mut Bytes<'_>| {
            let entry = self.of(space, bytes.varint()?)?;
            Ok((entry.log, bytes.zigzag(entry.base)?))
        };
        let dot = |bytes: &mut Bytes<'_>| {
            let (log, seq) = place(bytes)?;
            let index = u16::try_from(bytes.varint()?).map_err(|_| "an index is out of range")?;
            Ok(Dot { log, seq, index })
        };
        let supersedes = match lead >> 5 & 3 {
            0 => Supersedes::Dots(Vec::new()),
            1 => Supersedes::Dots(vec![dot(bytes)?]),
            2 => match bytes.count(1024)? {
                0 | 1 => return Err("a short list of dots is not canonical"),
                count => {
                    let dots: Result<_, Wrong> = (0..count).map(|_| dot(bytes)).collect();
                    Supersedes::Dots(dots?)
                }
            },
            _ => {
                let count = bytes.count(65_536)?;
                let cut: Result<_, Wrong> = (0..count).map(|_| place(bytes)).collect();
                Supersedes::Cut(cut?)
            }
        };
        let content = if lead >> 7 == 1 {
            Content::Erased(bytes.array()?)
        } else {
            let salt = bytes.array()?;
            let key = shared(bytes.bytes(16_777_216)?);
            let payload = if last { bytes.rest() } else { bytes.bytes(16_777_216)? };
            Content::Full { salt, key, payload: shared(payload) }
        };
        Ok(Event { action, supersedes, content })
    }
}

/// The number of events that follow.
fn count(kind: Kind, one: bool, bytes: &mut Bytes<'_>) -> Result<usize, Wrong> {
    match (kind, one) {
        (Kind::Data, true) => Ok(1),
        (Kind::Data, false) => match bytes.count(4096)? {
            1 => Err("the count of events is not canonical"),
            count => Ok(count),
        },
        (_, true) => Err("a commit that has no events has one"),
        _ => Ok(0),
    }
}

fn meta(bytes: &mut Bytes<'_>) -> Result<Content, Wrong> {
    match bytes.u8()? {
        0 => {
            let salt = bytes.array()?;
            Ok(Content::Full { salt, key: shared(&[]), payload: shared(bytes.rest()) })
        }
        1 => Ok(Content::Erased(bytes.array()?)),
        _ => Err("the meta leaf is of an unknown form"),
    }
}
