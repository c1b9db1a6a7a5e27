//! The bytes of a state, for derived files.
//!
//! Canonical: equal states are equal bytes, given the same table of logs. Logs are small numbers
//! from that table, since whole ids would be most of the bytes; the caller keeps it beside them.
//!
//! ```text
//! count, then each event:  type u8 · log, seq, index varints · hlc u64 · commit id · payload
//! count, then each tally:  log, count varints · sum i128 · first seq, index · seqs to the last,
//!                          last index varints · hlc u64 · commit id
//! ```

use super::live::{Event, Live};
use super::tally::{Place, Tally};
use super::{Action, Stamp, State, Type, payload};
use crate::base::{CodecError, Dot, LogId, Reader, Writer};
use crate::limits::VALUE_BYTES_MAX;

/// A counter's count stays below this, so that its sum stays an `i128`.
const COUNT_MAX: u64 = 1 << 62;

impl State {
    /// Appends the bytes; `ix` gives each log its number. One register is its value and about 50
    /// bytes; an exact state is written as it would be after [`finish`](State::finish).
    pub fn encode(&self, out: &mut impl Writer, ix: &mut dyn FnMut(&LogId) -> u32) {
        out.put_len(self.live.len());
        for event in self.live.iter() {
            let Stamp { hlc, dot, commit } = event.stamp;
            out.put_u8(event.ty.to_byte());
            out.put_varint(ix(&dot.log).into());
            out.put_varint(dot.seq);
            out.put_varint(dot.index.into());
            out.put_u64(hlc.0);
            out.put(commit.as_bytes());
            out.put_bytes(&event.payload);
        }
        out.put_len(self.tallies.len());
        for tally in &self.tallies {
            out.put_varint(ix(&tally.log).into());
            out.put_varint(tally.count);
            out.put(&tally.sum.to_le_bytes());
            out.put_varint(tally.first.0);
            out.put_varint(tally.first.1.into());
            out.put_varint(tally.last.0 - tally.first.0);
            out.put_varint(tally.last.1.into());
            out.put_u64(tally.hlc.0);
            out.put(tally.commit.as_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `log` is the inverse of its `ix`.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are no state, or name a log that the table lacks.
    pub fn decode(
        reader: &mut Reader<'_>,
        log: &dyn Fn(u32) -> Option<LogId>,
    ) -> Result<Self, CodecError> {
        let mut live = Live::new();
        let mut last: Option<Dot> = None;
        for _ in 0..reader.count(usize::MAX, 45, "live events")? {
            let event = event(reader, log)?;
            if last.is_some_and(|last| last >= event.stamp.dot) {
                return Err(CodecError::NotCanonical("order of live events"));
            }
            last = Some(event.stamp.dot);
            live.insert(event);
        }
        if mutant!("conflicts-lost-on-disk") && live.only_type() == Some(Type::Register) {
            let newest = live.iter().map(|event| event.stamp).max();
            live.retain(|event| Some(event.stamp) == newest);
        }
        let mut tallies: Vec<Tally> = Vec::new();
        for _ in 0..reader.count(usize::MAX, 62, "tallies")? {
            let tally = tally(reader, log)?;
            if tallies.last().is_some_and(|last| last.log >= tally.log) {
                return Err(CodecError::NotCanonical("order of tallies"));
            }
            tallies.push(tally);
        }
        Ok(Self { live, tallies, exact: false })
    }
}

fn event(reader: &mut Reader<'_>, log: &dyn Fn(u32) -> Option<LogId>) -> Result<Event, CodecError> {
    let ty = Type::from_byte(reader.u8()?)?;
    let (log, (seq, index)) = (named(reader, log)?, place(reader)?);
    let stamp =
        Stamp { hlc: reader.hlc()?, dot: Dot { log, seq, index }, commit: reader.commit_id()? };
    let payload = reader.bytes(VALUE_BYTES_MAX, "payload")?;
    let action = match ty {
        Type::Register => Action::RegisterPut,
        Type::Bytes => Action::BytesPut,
        Type::Set => Action::SetAdd,
        Type::Map => Action::MapPut,
        Type::Counter => return Err(CodecError::NotCanonical("a counter among the events")),
    };
    if !payload::is_well_formed(action, payload) {
        return Err(CodecError::NotCanonical("payload"));
    }
    Ok(Event { stamp, ty, payload: payload.into() })
}

fn tally(reader: &mut Reader<'_>, log: &dyn Fn(u32) -> Option<LogId>) -> Result<Tally, CodecError> {
    let bad = CodecError::NotCanonical("tally");
    let (log, count) = (named(reader, log)?, reader.varint()?);
    let sum = i128::from_le_bytes(reader.array()?);
    let first = place(reader)?;
    let (further, index) = place(reader)?;
    let last = (first.0.checked_add(further).ok_or(bad)?, index);
    let (hlc, commit) = (reader.hlc()?, reader.commit_id()?);
    let sum_max = u128::from(count) << 63;
    let ordered = if count == 1 { first == last } else { first < last };
    if count == 0 || count > COUNT_MAX || !ordered || sum.unsigned_abs() > sum_max {
        return Err(bad);
    }
    Ok(Tally { log, first, last, count, sum, hlc, commit, singles: Vec::new() })
}

fn named(reader: &mut Reader<'_>, log: &dyn Fn(u32) -> Option<LogId>) -> Result<LogId, CodecError> {
    let index = u32::try_from(reader.varint()?).ok();
    index.and_then(log).ok_or(CodecError::NotCanonical("unknown log"))
}

fn place(reader: &mut Reader<'_>) -> Result<Place, CodecError> {
    let seq = reader.varint()?;
    let index = u16::try_from(reader.varint()?);
    Ok((seq, index.map_err(|_| CodecError::NotCanonical("index"))?))
}
