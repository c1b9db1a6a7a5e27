//! Canonical bytes of message bodies (PROTOCOL 3).
//!
//! What one build writes every build reads back to the same value, and no other bytes read as it.

use super::message::{Code, Message, Missing, Open, PeerText, Place, RangeBody, RangeItem, Run};
use super::{Hello, Tip};
use crate::base::{CodecError, LogId, Reader, ReplicaId, SpaceId, Writer};
use crate::limits;

/// Frame types. Even ones must be understood; odd ones may be skipped by who does not know them.
pub(super) mod kind {
    pub(crate) const HELLO: u64 = 0;
    pub(crate) const ADDRESSES: u64 = 1;
    pub(crate) const ADMIT: u64 = 2;
    pub(crate) const OPEN: u64 = 4;
    pub(crate) const RANGES: u64 = 6;
    pub(crate) const WANT: u64 = 8;
    pub(crate) const CHUNK: u64 = 10;
    pub(crate) const HAVE: u64 = 12;
    pub(crate) const PUSH: u64 = 14;
    pub(crate) const ACKED: u64 = 16;
    pub(crate) const ASK_ID: u64 = 18;
    pub(crate) const ID_AT: u64 = 20;
    pub(crate) const GRANT: u64 = 22;
    pub(crate) const REFUSE: u64 = 24;
    pub(crate) const CLOSE: u64 = 26;
    pub(crate) const ASK_PROOFS: u64 = 28;
    pub(crate) const PROOF: u64 = 30;
    pub(crate) const PRUNE: u64 = 32;
    pub(crate) const GRAFT: u64 = 34;
    /// The greatest even type of this version.
    pub(crate) const LAST: u64 = GRAFT;
}

/// What stands before the commits in a frame that carries some: the space and a flag byte.
pub(super) const COMMITS_HEAD_BYTES: usize = 32 + 1;

/// Tells whether frames of a type are understood; of those that are not, odd ones are skipped.
pub(super) fn is_known(frame_kind: u64) -> bool {
    frame_kind == kind::ADDRESSES || frame_kind.is_multiple_of(2) && frame_kind <= kind::LAST
}

/// Returns the longest body that a frame type may have, in bytes; none if it must be understood
/// and is not.
pub(super) fn body_bytes_max(frame_kind: u64) -> Option<usize> {
    match frame_kind {
        kind::CHUNK | kind::PUSH => Some(COMMITS_HEAD_BYTES + limits::CHUNK_BYTES_MAX),
        kind::OPEN
        | kind::RANGES
        | kind::WANT
        | kind::ACKED
        | kind::ASK_PROOFS
        | kind::PROOF
        | kind::GRAFT => Some(limits::CONTROL_FRAME_BYTES_MAX),
        kind::ADDRESSES => Some(limits::PLACES_BYTES_MAX),
        known if is_known(known) => Some(512),
        unknown if unknown % 2 == 1 => Some(limits::CONTROL_FRAME_BYTES_MAX),
        _ => None,
    }
}

/// Returns the frame type of a message.
pub(super) fn kind_of(message: &Message) -> u64 {
    match message {
        Message::Hello(_) => kind::HELLO,
        Message::Admit { .. } => kind::ADMIT,
        Message::Open(_) => kind::OPEN,
        Message::Ranges { .. } => kind::RANGES,
        Message::Want { .. } => kind::WANT,
        Message::Chunk { .. } => kind::CHUNK,
        Message::Have { .. } => kind::HAVE,
        Message::Push { .. } => kind::PUSH,
        Message::Acked { .. } => kind::ACKED,
        Message::AskId { .. } => kind::ASK_ID,
        Message::IdAt { .. } => kind::ID_AT,
        Message::Grant { .. } => kind::GRANT,
        Message::Refuse { .. } => kind::REFUSE,
        Message::Close { .. } => kind::CLOSE,
        Message::AskProofs { .. } => kind::ASK_PROOFS,
        Message::Proof { .. } => kind::PROOF,
        Message::Prune { .. } => kind::PRUNE,
        Message::Graft { .. } => kind::GRAFT,
        Message::Addresses { .. } => kind::ADDRESSES,
    }
}

/// Returns what messages of a frame type are called.
pub(super) fn name_of(kind: u64) -> &'static str {
    match kind {
        kind::HELLO => "Hello",
        kind::ADMIT => "Admit",
        kind::OPEN => "Open",
        kind::RANGES => "Ranges",
        kind::WANT => "Want",
        kind::CHUNK => "Chunk",
        kind::HAVE => "Have",
        kind::PUSH => "Push",
        kind::ACKED => "Acked",
        kind::ASK_ID => "AskId",
        kind::ID_AT => "IdAt",
        kind::GRANT => "Grant",
        kind::REFUSE => "Refuse",
        kind::CLOSE => "Close",
        kind::ASK_PROOFS => "AskProofs",
        kind::PROOF => "Proof",
        kind::PRUNE => "Prune",
        kind::GRAFT => "Graft",
        kind::ADDRESSES => "Addresses",
        _ => "unknown",
    }
}

/// Appends the body of a message.
pub(super) fn put_body(out: &mut Vec<u8>, message: &Message) {
    if let Some(space) = message.space() {
        out.put(space.as_bytes());
    }
    match message {
        Message::Hello(hello) => put_hello(out, hello),
        Message::Admit { proof, .. } => out.put(proof),
        Message::Open(open) => put_open(out, open),
        Message::Ranges { last, items, .. } => {
            out.put_u8((*last).into());
            out.put_len(items.len());
            items.iter().for_each(|item| put_item(out, item));
        }
        Message::Want { last, runs, .. } => {
            out.put_u8((*last).into());
            put_runs(out, runs);
        }
        Message::Prune { .. } => {}
        Message::Graft { runs, .. } => put_runs(out, runs),
        Message::Addresses { places } => {
            out.put_len(places.len());
            places.iter().for_each(|place| put_place(out, place));
        }
        Message::Chunk { last_of_want, more, bytes, .. } => {
            out.put_u8(u8::from(*last_of_want) | u8::from(*more) << 1);
            out.put(bytes);
        }
        Message::Have { all, .. } => out.put_u8((*all).into()),
        Message::Push { more, bytes, .. } => {
            out.put_u8(u8::from(*more) << 1);
            out.put(bytes);
        }
        Message::Acked { tips, .. } => put_tips(out, tips),
        Message::AskId { log, seq, id, .. } => {
            Tip { log: *log, seq: *seq, id: *id }.encode(out);
        }
        Message::IdAt { log, seq, id, .. } => {
            out.put_log(log);
            out.put_varint(*seq);
            out.put_u8(id.is_some().into());
            if let Some(id) = id {
                out.put(id.as_bytes());
            }
        }
        Message::AskProofs { logs, .. } => {
            out.put_len(logs.len());
            logs.iter().for_each(|log| out.put_log(log));
        }
        Message::Proof { last, bytes, .. } => {
            out.put_u8((*last).into());
            out.put(bytes);
        }
        Message::Grant { bytes } => out.put_varint(*bytes),
        Message::Refuse { code, text, .. } | Message::Close { code, text } => {
            out.put_varint(code.0.into());
            out.put_bytes(text.as_str().as_bytes());
        }
    }
}

/// Reads the body of a frame of a known type.
pub(super) fn read_body(frame_kind: u64, body: &[u8]) -> Result<Message, CodecError> {
    let mut reader = Reader::new(body);
    let r = &mut reader;
    let message = match frame_kind {
        kind::HELLO => Message::Hello(read_hello(r)?),
        kind::ADMIT => Message::Admit { space: space(r)?, proof: r.hash()? },
        kind::OPEN => Message::Open(read_open(r)?),
        kind::RANGES => Message::Ranges { space: space(r)?, last: flag(r)?, items: read_items(r)? },
        kind::WANT => Message::Want { space: space(r)?, last: flag(r)?, runs: read_runs(r)? },
        kind::CHUNK => read_chunk(r)?,
        kind::HAVE => Message::Have { space: space(r)?, all: flag(r)? },
        kind::PUSH => read_push(r)?,
        kind::ACKED => {
            let space = space(r)?;
            let tips = read_tips(r, limits::ACKED_TIPS_MAX, "acknowledged tips")?;
            Message::Acked { space, tips }
        }
        kind::ASK_ID => {
            let (space, tip) = (space(r)?, Tip::decode(r)?);
            Message::AskId { space, log: tip.log, seq: tip.seq, id: tip.id }
        }
        kind::ID_AT => read_id_at(r)?,
        kind::GRANT => Message::Grant { bytes: not_zero(r.varint()?, "grant of zero")? },
        kind::REFUSE => Message::Refuse { space: space(r)?, code: code(r)?, text: text(r)? },
        kind::CLOSE => Message::Close { code: code(r)?, text: text(r)? },
        kind::ASK_PROOFS => read_ask_proofs(r)?,
        kind::PROOF => read_proof(r)?,
        kind::PRUNE => Message::Prune { space: space(r)? },
        kind::GRAFT => read_graft(r)?,
        kind::ADDRESSES => Message::Addresses { places: read_places(r)? },
        _ => return Err(CodecError::Unknown("frame type")),
    };
    reader.finish()?;
    Ok(message)
}

fn put_hello(out: &mut Vec<u8>, hello: &Hello) {
    out.put_varint(hello.version_min.into());
    out.put_varint(hello.version_max.into());
    out.put_varint(hello.features);
    out.put(&hello.process);
    out.put_bytes(hello.agent.as_str().as_bytes());
}

fn read_hello(r: &mut Reader<'_>) -> Result<Hello, CodecError> {
    let (version_min, version_max) = (short(r, "version")?, short(r, "version")?);
    if version_min == 0 || version_min > version_max {
        return Err(CodecError::NotCanonical("version range"));
    }
    let (features, process) = (r.varint()?, r.array()?);
    Ok(Hello { version_min, version_max, features, process, agent: text(r)? })
}

fn put_open(out: &mut Vec<u8>, open: &Open) {
    out.put(&open.nonce);
    out.put_u8(open.digest.is_some().into());
    if let Some(digest) = &open.digest {
        out.put(digest);
    }
    out.put_varint(open.logs);
    for tip in open.frontier.iter().flatten() {
        tip.encode(out);
    }
    out.put_len(open.missing.len());
    for missing in &open.missing {
        out.put_log(&missing.log);
        out.put_varint(missing.from);
        out.put_varint(missing.to);
    }
    if !open.closed.is_empty() {
        out.put_len(open.closed.len());
        for (log, seq) in &open.closed {
            out.put_log(log);
            out.put_varint(*seq);
        }
    }
}

fn read_open(r: &mut Reader<'_>) -> Result<Open, CodecError> {
    let (space, nonce) = (space(r)?, r.array()?);
    let digest = if flag(r)? { Some(r.hash()?) } else { None };
    // The same bytes are the count of the list, where there is one, and a number otherwise.
    let logs = r.clone().varint()?;
    let frontier = if logs <= limits::FRONTIER_WHOLE_LOGS_MAX as u64 {
        Some(read_tips(r, limits::FRONTIER_WHOLE_LOGS_MAX, "tips")?)
    } else {
        r.varint()?;
        None
    };
    let missing = read_missing(r)?;
    if digest.is_some() && !missing.is_empty() {
        return Err(CodecError::NotCanonical("digest in spite of missing commits"));
    }
    // Most spaces have no forked log, and then nothing says so.
    let closed = if r.remaining() == 0 { Vec::new() } else { read_closed(r)? };
    Ok(Open { space, nonce, digest, logs, frontier, missing, closed })
}

fn read_closed(r: &mut Reader<'_>) -> Result<Vec<(LogId, u64)>, CodecError> {
    let count = r.count(limits::CLOSED_LISTED_MAX, 41, "closed logs")?;
    let mut list: Vec<(LogId, u64)> = Vec::with_capacity(count);
    for _ in 0..count {
        let closed = (r.log()?, seq(r)?);
        if list.last().is_some_and(|last| last.0 >= closed.0) {
            return Err(CodecError::NotCanonical("order of closed logs"));
        }
        list.push(closed);
    }
    if list.is_empty() {
        return Err(CodecError::NotCanonical("an empty list of closed logs is left out"));
    }
    Ok(list)
}

fn read_ask_proofs(r: &mut Reader<'_>) -> Result<Message, CodecError> {
    let space = space(r)?;
    let count = r.count(limits::CLOSED_LISTED_MAX, 40, "logs")?;
    let logs = (0..count).map(|_| r.log()).collect::<Result<Vec<_>, _>>()?;
    if logs.is_empty() || !logs.is_sorted_by(|a, b| a < b) {
        return Err(CodecError::NotCanonical("logs to prove"));
    }
    Ok(Message::AskProofs { space, logs })
}

fn read_proof(r: &mut Reader<'_>) -> Result<Message, CodecError> {
    let (space, last) = (space(r)?, flag(r)?);
    if r.remaining() > limits::FORK_PROOF_BYTES_MAX {
        return Err(CodecError::TooLarge("proof"));
    }
    let bytes = r.take(r.remaining())?.to_vec();
    if bytes.is_empty() && !last {
        return Err(CodecError::NotCanonical("proof without bytes"));
    }
    Ok(Message::Proof { space, last, bytes })
}

fn read_missing(r: &mut Reader<'_>) -> Result<Vec<Missing>, CodecError> {
    let count = r.count(limits::MISSING_RANGES_MAX, 42, "missing ranges")?;
    let mut list: Vec<Missing> = Vec::with_capacity(count);
    for _ in 0..count {
        let missing = Missing { log: r.log()?, from: seq(r)?, to: seq(r)? };
        // Ranges that touch would be one range.
        let apart = list.last().is_none_or(|last| {
            last.log < missing.log || (last.log == missing.log && last.to + 1 < missing.from)
        });
        if missing.from > missing.to || !apart {
            return Err(CodecError::NotCanonical("missing ranges"));
        }
        list.push(missing);
    }
    Ok(list)
}

const BODY_SKIP: u8 = 0;
const BODY_FINGERPRINT: u8 = 1;
const BODY_ASK: u8 = 2;
const BODY_ANSWER: u8 = 3;
const NO_END: u8 = 0x80;

/// Returns how many bytes an item takes at most.
pub(super) fn item_bytes_max(item: &RangeItem) -> usize {
    41 + match &item.body {
        RangeBody::Skip => 0,
        RangeBody::Fingerprint { .. } => 26,
        RangeBody::Ask(tips) | RangeBody::Answer(tips) => 2 + tips.len() * 82,
    }
}

fn put_item(out: &mut Vec<u8>, item: &RangeItem) {
    let body = match &item.body {
        RangeBody::Skip => BODY_SKIP,
        RangeBody::Fingerprint { .. } => BODY_FINGERPRINT,
        RangeBody::Ask(_) => BODY_ASK,
        RangeBody::Answer(_) => BODY_ANSWER,
    };
    match &item.upto {
        Some(upto) => {
            out.put_u8(body);
            out.put_log(upto);
        }
        None => out.put_u8(body | NO_END),
    }
    match &item.body {
        RangeBody::Skip => {}
        RangeBody::Fingerprint { count, sum } => {
            out.put_varint(*count);
            out.put(sum);
        }
        RangeBody::Ask(tips) | RangeBody::Answer(tips) => put_tips(out, tips),
    }
}

fn read_items(r: &mut Reader<'_>) -> Result<Vec<RangeItem>, CodecError> {
    // The shortest item says nothing of the rest.
    let count = r.count(limits::CONTROL_FRAME_BYTES_MAX, 1, "ranges")?;
    let mut items: Vec<RangeItem> = Vec::new();
    for _ in 0..count {
        let previous = items.last();
        let item = read_item(r)?;
        let after_skip = previous.is_some_and(|last| last.body == RangeBody::Skip);
        let ascends = match (previous.map(|last| last.upto), item.upto) {
            (None, _) | (Some(Some(_)), None) => true,
            (Some(Some(last)), Some(upto)) => last < upto,
            (Some(None), _) => false,
        };
        if !ascends || (after_skip && item.body == RangeBody::Skip) {
            return Err(CodecError::NotCanonical("order of ranges"));
        }
        items.push(item);
    }
    if items.last().is_some_and(|last| last.body == RangeBody::Skip) {
        return Err(CodecError::NotCanonical("skip at the end"));
    }
    Ok(items)
}

fn read_item(r: &mut Reader<'_>) -> Result<RangeItem, CodecError> {
    let tag = r.u8()?;
    let upto = if tag & NO_END == 0 { Some(r.log()?) } else { None };
    let body = match tag & !NO_END {
        BODY_SKIP => RangeBody::Skip,
        BODY_FINGERPRINT => {
            let (count, sum) = (r.varint()?, r.array()?);
            if count == 0 && sum != [0; 16] {
                return Err(CodecError::NotCanonical("sum of nothing"));
            }
            RangeBody::Fingerprint { count, sum }
        }
        BODY_ASK => RangeBody::Ask(read_tips(r, limits::RANGE_ENTRIES_MAX, "range entries")?),
        BODY_ANSWER => {
            let tips = read_tips(r, limits::RANGE_ENTRIES_MAX, "range entries")?;
            if tips.is_empty() {
                return Err(CodecError::NotCanonical("empty answer"));
            }
            RangeBody::Answer(tips)
        }
        _ => return Err(CodecError::Unknown("range body")),
    };
    Ok(RangeItem { upto, body })
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    out.put_len(runs.len());
    for run in runs {
        out.put_varint(run.after);
        run.upto.encode(out);
    }
}

fn read_runs(r: &mut Reader<'_>) -> Result<Vec<Run>, CodecError> {
    let count = r.count(limits::RUNS_PER_MESSAGE_MAX, 74, "runs")?;
    let mut runs: Vec<Run> = Vec::with_capacity(count);
    for _ in 0..count {
        let run = Run { after: r.varint()?, upto: Tip::decode(r)? };
        if run.after >= run.upto.seq || runs.last().is_some_and(|last| !follows(last, &run)) {
            return Err(CodecError::NotCanonical("runs"));
        }
        runs.push(run);
    }
    Ok(runs)
}

fn read_graft(r: &mut Reader<'_>) -> Result<Message, CodecError> {
    let (space, runs) = (space(r)?, read_runs(r)?);
    if runs.is_empty() {
        return Err(CodecError::NotCanonical("graft of nothing"));
    }
    Ok(Message::Graft { space, runs })
}

/// Returns how many bytes a place takes in a message.
pub(crate) fn place_bytes(place: &Place) -> usize {
    let mut out = Vec::new();
    put_place(&mut out, place);
    out.len()
}

fn put_place(out: &mut Vec<u8>, place: &Place) {
    out.put(place.replica.as_bytes());
    out.put_len(place.addresses.len());
    place.addresses.iter().for_each(|address| out.put_bytes(address.as_bytes()));
}

fn read_places(r: &mut Reader<'_>) -> Result<Vec<Place>, CodecError> {
    let count = r.count(limits::PLACES_MAX, 35, "places")?;
    let mut places: Vec<Place> = Vec::with_capacity(count);
    for _ in 0..count {
        let replica = ReplicaId(r.hash()?);
        let mut addresses = Vec::new();
        for _ in 0..r.count(limits::TOLD_ADDRESSES_MAX, 2, "addresses")? {
            let text = std::str::from_utf8(r.bytes(limits::ADDRESS_BYTES_MAX, "address")?);
            let text = text.map_err(|_| CodecError::NotCanonical("address"))?;
            if text.is_empty() || text.chars().any(char::is_control) {
                return Err(CodecError::NotCanonical("address"));
            }
            addresses.push(text.to_owned());
        }
        if addresses.is_empty() || places.last().is_some_and(|last| last.replica >= replica) {
            return Err(CodecError::NotCanonical("places"));
        }
        places.push(Place { replica, addresses });
    }
    Ok(places)
}

/// Tells whether `run` may stand after `last` in a request.
pub(super) fn follows(last: &Run, run: &Run) -> bool {
    last.log() < run.log() || (last.log() == run.log() && last.upto.seq <= run.after)
}

fn read_chunk(r: &mut Reader<'_>) -> Result<Message, CodecError> {
    let (space, flags) = (space(r)?, r.u8()?);
    let (last_of_want, more) = (flags & 1 != 0, flags & 2 != 0);
    let bytes = r.take(r.remaining())?.to_vec();
    let shape = bytes.is_empty() && !last_of_want || more && (last_of_want || bytes.is_empty());
    if flags > 3 || shape {
        return Err(CodecError::NotCanonical("chunk flags"));
    }
    Ok(Message::Chunk { space, last_of_want, more, bytes })
}

fn read_push(r: &mut Reader<'_>) -> Result<Message, CodecError> {
    let (space, flags) = (space(r)?, r.u8()?);
    let bytes = r.take(r.remaining())?.to_vec();
    if !matches!(flags, 0 | 2) || bytes.is_empty() {
        return Err(CodecError::NotCanonical("push flags"));
    }
    Ok(Message::Push { space, more: flags == 2, bytes })
}

fn read_id_at(r: &mut Reader<'_>) -> Result<Message, CodecError> {
    let (space, log) = (space(r)?, r.log()?);
    let seq = seq(r)?;
    let id = if flag(r)? { Some(r.commit_id()?) } else { None };
    Ok(Message::IdAt { space, log, seq, id })
}

fn put_tips(out: &mut Vec<u8>, tips: &[Tip]) {
    out.put_len(tips.len());
    tips.iter().for_each(|tip| tip.encode(out));
}

/// Reads a count and that many tips, strictly ascending by log.
fn read_tips(r: &mut Reader<'_>, max: usize, what: &'static str) -> Result<Vec<Tip>, CodecError> {
    let count = r.count(max, Tip::BYTES_MIN, what)?;
    let mut tips: Vec<Tip> = Vec::with_capacity(count);
    for _ in 0..count {
        let tip = Tip::decode(r)?;
        if tips.last().is_some_and(|last| last.log >= tip.log) {
            return Err(CodecError::NotCanonical("order of tips"));
        }
        tips.push(tip);
    }
    Ok(tips)
}

fn seq(r: &mut Reader<'_>) -> Result<u64, CodecError> {
    match not_zero(r.varint()?, "seq zero")? {
        seq if seq <= limits::SEQ_MAX => Ok(seq),
        _ => Err(CodecError::TooLarge("seq")),
    }
}

fn space(r: &mut Reader<'_>) -> Result<SpaceId, CodecError> {
    r.array().map(SpaceId)
}

fn flag(r: &mut Reader<'_>) -> Result<bool, CodecError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CodecError::NotCanonical("flag")),
    }
}

fn short(r: &mut Reader<'_>, what: &'static str) -> Result<u16, CodecError> {
    u16::try_from(r.varint()?).map_err(|_| CodecError::TooLarge(what))
}

fn code(r: &mut Reader<'_>) -> Result<Code, CodecError> {
    short(r, "code").map(Code)
}

fn text(r: &mut Reader<'_>) -> Result<PeerText, CodecError> {
    let bytes = r.bytes(limits::PEER_TEXT_BYTES_MAX, "text")?;
    let text = std::str::from_utf8(bytes).map_err(|_| CodecError::NotCanonical("text"))?;
    let clean = PeerText::new(text);
    if clean.as_str() == text { Ok(clean) } else { Err(CodecError::NotCanonical("text")) }
}

fn not_zero(value: u64, what: &'static str) -> Result<u64, CodecError> {
    if value == 0 { Err(CodecError::NotCanonical(what)) } else { Ok(value) }
}
