//! What compact bytes say, before any id is looked up or hash computed.

use std::sync::Arc;

use super::read::DecodeError;
use super::{action_from_bits, head, lead, more, unzigzag};
use crate::base::{CodecError, CommitId, Dot, GrantId, Hlc, LogId, Reader, SpaceId};
use crate::crdt::Supersedes;
use crate::event::leaf::{CONTENT_BYTES_MIN, CUT_ENTRY_BYTES_MIN, DOT_BYTES_MIN, SALT_BYTES};
use crate::event::{Act, Content, Dictionary, Entry, Event, Genesis, Kind, Skeleton};
use crate::limits;

/// What the bytes say, with log ids in full.
pub(super) struct Body<'a> {
    pub(super) ix: u32,
    pub(super) entry: &'a Entry,
    pub(super) seq: u64,
    pub(super) hlc: Hlc,
    pub(super) kind: Kind,
    pub(super) prev: Option<CommitId>,
    pub(super) grant: Option<GrantId>,
    pub(super) deps: Vec<LooseDep>,
    pub(super) genesis: Option<Genesis>,
    pub(super) act: Option<Act>,
    pub(super) size: Option<u32>,
    pub(super) events: Vec<Event>,
    pub(super) meta: Option<Content>,
}

impl<'a> Body<'a> {
    /// Reads all of `bytes`, which are a commit; stamps are relative to `base_ms`.
    pub(super) fn read(
        bytes: &'a [u8],
        dictionary: &'a Dictionary,
        base_ms: u64,
    ) -> Result<Self, DecodeError> {
        if bytes.len() > limits::RECORD_BYTES_MAX {
            return Err(CodecError::TooLarge("record").into());
        }
        let mut reader = Reader::new(bytes);
        let head = reader.u8()?;
        let kind = Kind::from_byte(head & head::KIND)?;
        let rare = if head & head::MORE == 0 { 0 } else { reader.u8()? };
        if (head & head::MORE != 0) != (rare != 0) || rare > (more::GRANT | more::PREV) {
            return Err(CodecError::Unknown("flag of a commit").into());
        }
        let (ix, entry) = lookup(dictionary, reader.varint()?)?;
        let seq = unzigzag(reader.varint()?, entry.base_seq);
        let hlc = read_hlc(&mut reader, base_ms)?;
        let budget = limits::COMMIT_BYTES_MAX;
        let mut decoder = Decoder { reader, dictionary, space: entry.space, budget };
        let prev = if rare & more::PREV == 0 { None } else { Some(decoder.reader.commit_id()?) };
        let grant =
            if rare & more::GRANT == 0 { None } else { Some(GrantId(decoder.reader.hash()?)) };
        let deps = if head & head::DEPS == 0 { Vec::new() } else { decoder.deps()? };
        let reader = &mut decoder.reader;
        let (genesis, act) = kind.decode_rest(reader)?;
        let count = read_count(reader, kind, head & head::ONE_EVENT != 0)?;
        let size = if head & head::ERASED == 0 {
            None
        } else {
            let size = u32::try_from(reader.varint()?);
            Some(size.map_err(|_| CodecError::TooLarge("commit"))?)
        };
        let has_meta = head & head::META != 0;
        let mut events = Vec::with_capacity(count);
        for left in (0..count).rev() {
            events.push(decoder.event(left == 0 && !has_meta)?);
        }
        let meta = if has_meta { Some(decoder.meta()?) } else { None };
        decoder.reader.finish()?;
        let log_seq = (entry, seq);
        check_places(log_seq, prev, &events)?;
        Ok(Self { ix, entry, seq, hlc, kind, prev, grant, deps, genesis, act, size, events, meta })
    }
}

/// A dep whose id may be left out.
pub(super) struct LooseDep {
    pub(super) ix: u32,
    pub(super) log: LogId,
    pub(super) seq: u64,
    pub(super) id: Option<CommitId>,
}

struct Decoder<'a> {
    reader: Reader<'a>,
    dictionary: &'a Dictionary,
    space: SpaceId,
    /// How much the lists in all skeletons may still take, in canonical bytes: compact lists are
    /// a tenth of that, so the length of the input is no bound for memory.
    budget: usize,
}

impl<'a> Decoder<'a> {
    fn deps(&mut self) -> Result<Vec<LooseDep>, DecodeError> {
        let count = self.reader.count(limits::DEPS_MAX, 2, "deps")?;
        if count == 0 {
            return Err(CodecError::NotCanonical("no deps have no flag").into());
        }
        let mut deps = Vec::with_capacity(count);
        for _ in 0..count {
            let number = self.reader.varint()?;
            let (ix, entry) = self.lookup(number >> 1)?;
            let seq = unzigzag(self.reader.varint()?, entry.base_seq);
            let id = if number & 1 == 0 { None } else { Some(self.reader.commit_id()?) };
            deps.push(LooseDep { ix, log: entry.log, seq, id });
        }
        Ok(deps)
    }

    fn event(&mut self, last: bool) -> Result<Event, DecodeError> {
        let byte = self.reader.u8()?;
        let action = action_from_bits(byte & 0x1f)?;
        let form = byte >> lead::FORM_SHIFT & 0b11;
        let supersedes = match form {
            lead::NOTHING => Supersedes::NOTHING,
            lead::ONE_DOT => Supersedes::Dots(self.dots(1)?),
            lead::DOTS => {
                let count = self.reader.count(limits::PREDS_MAX, 3, "preds")?;
                if count < 2 {
                    return Err(CodecError::NotCanonical("a list has two dots").into());
                }
                Supersedes::Dots(self.dots(count)?)
            }
            _ => Supersedes::Cut(self.cut()?),
        };
        let content = if byte & lead::ERASED != 0 {
            Content::Erased(self.reader.hash()?)
        } else {
            let salt = self.reader.array()?;
            let key = self.reader.bytes(limits::COMMIT_BYTES_MAX, "key")?;
            let payload = if last {
                self.reader.take(self.reader.remaining())?
            } else {
                self.reader.bytes(limits::COMMIT_BYTES_MAX, "payload")?
            };
            Content::Present { salt, key: key.into(), payload: payload.into() }
        };
        Ok(Event { skeleton: Skeleton { action, supersedes }, content })
    }

    fn meta(&mut self) -> Result<Content, DecodeError> {
        match self.reader.u8()? {
            0 => {
                let salt = self.reader.array::<SALT_BYTES>()?;
                let payload = self.reader.take(self.reader.remaining())?.into();
                Ok(Content::Present { salt, key: Arc::new([]), payload })
            }
            1 => Ok(Content::Erased(self.reader.hash()?)),
            _ => Err(CodecError::Unknown("form of a meta leaf").into()),
        }
    }

    fn dots(&mut self, count: usize) -> Result<Vec<Dot>, DecodeError> {
        self.spend(count, DOT_BYTES_MIN)?;
        let mut dots = Vec::with_capacity(count);
        for _ in 0..count {
            let (log, seq) = self.place()?;
            let index = u16::try_from(self.reader.varint()?);
            dots.push(Dot { log, seq, index: index.map_err(|_| CodecError::TooLarge("index"))? });
        }
        Ok(dots)
    }

    fn cut(&mut self) -> Result<Vec<(LogId, u64)>, DecodeError> {
        let count = self.reader.count(limits::CUT_ENTRIES_MAX, 2, "cut")?;
        self.spend(count, CUT_ENTRY_BYTES_MIN)?;
        let mut cut = Vec::with_capacity(count);
        for _ in 0..count {
            cut.push(self.place()?);
        }
        Ok(cut)
    }

    fn place(&mut self) -> Result<(LogId, u64), DecodeError> {
        let ix = self.reader.varint()?;
        let (_, entry) = self.lookup(ix)?;
        Ok((entry.log, unzigzag(self.reader.varint()?, entry.base_seq)))
    }

    fn spend(&mut self, count: usize, bytes_each: usize) -> Result<(), CodecError> {
        let bytes = count.saturating_mul(bytes_each);
        self.budget = self.budget.checked_sub(bytes).ok_or(CodecError::TooLarge("commit"))?;
        Ok(())
    }

    /// Finds an entry and checks that it is in the commit's space.
    fn lookup(&self, ix: u64) -> Result<(u32, &'a Entry), DecodeError> {
        let (ix, entry) = lookup(self.dictionary, ix)?;
        if entry.space == self.space {
            Ok((ix, entry))
        } else {
            Err(CodecError::NotCanonical("a commit names logs of its own space").into())
        }
    }
}

fn lookup(dictionary: &Dictionary, ix: u64) -> Result<(u32, &Entry), DecodeError> {
    let missing = DecodeError::MissingEntry { ix };
    let Ok(ix) = u32::try_from(ix) else { return Err(missing) };
    dictionary.entry(ix).map(|entry| (ix, entry)).ok_or(missing)
}

fn read_hlc(reader: &mut Reader<'_>, base_ms: u64) -> Result<Hlc, CodecError> {
    let wall = unzigzag(reader.varint()?, base_ms);
    let counter = reader.varint()?;
    if wall >= 1 << 48 || counter > 0xffff {
        return Err(CodecError::TooLarge("stamp"));
    }
    Ok(Hlc(wall << 16 | counter))
}

fn read_count(reader: &mut Reader<'_>, kind: Kind, one: bool) -> Result<usize, CodecError> {
    match (kind, one) {
        (Kind::Data, true) => Ok(1),
        (Kind::Data, false) => {
            let count = reader.count(limits::COMMIT_EVENTS_MAX, CONTENT_BYTES_MIN, "events")?;
            if count < 2 {
                return Err(CodecError::NotCanonical("a count is above 1"));
            }
            Ok(count)
        }
        (_, true) => Err(CodecError::NotCanonical("only data has events")),
        (_, false) => Ok(0),
    }
}

/// Checks what a reader without hashes relies on: seqs, and that preds are ascending and earlier.
fn check_places(
    (entry, seq): (&Entry, u64),
    prev: Option<CommitId>,
    events: &[Event],
) -> Result<(), CodecError> {
    crate::causal::check_seq(seq)?;
    if prev.is_some() && seq == 1 {
        return Err(CodecError::NotCanonical("only a log's first commit has no prev"));
    }
    for (index, event) in (0..).zip(events) {
        event.skeleton.check(&Dot { log: entry.log, seq, index })?;
    }
    Ok(())
}
