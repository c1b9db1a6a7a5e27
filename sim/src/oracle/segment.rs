//! One segment file: its header, its records, its groups and where it ends. FORMAT sections 7.1 to
//! 7.4 and the rules of 7.7 that concern one file.

use kdelta_engine::base::Hash;

use super::bytes::{Bytes, Wrong, crc32, sha};

/// The length of a header, in bytes.
pub(super) const HEADER: usize = 128;
/// The longest body of a record, in bytes.
const BODY: usize = 17 << 20;
/// Further beyond what is durable no crash reaches, in bytes.
const TORN: usize = 64 << 20;

/// What names one segment: place, file number, salt and wall clock when begun.
pub(super) type Name = [u64; 4];

/// The first 128 bytes.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) store: [u8; 16],
    pub(super) name: Name,
    /// The place of the one before, where it ended, and its hash.
    pub(super) before: (u64, u32, Hash),
}

impl Header {
    pub(super) fn read(file: &[u8]) -> Result<Self, Wrong> {
        let mut bytes = Bytes(file);
        let front = Bytes(file).take(HEADER - 4)?;
        if bytes.take(8)? != b"KDSEG\0\r\n" {
            return Err("the file does not begin as a segment");
        }
        let (major, _minor) = (bytes.u16()?, bytes.u16()?);
        let (flags, store) = (bytes.u32()?, bytes.array()?);
        let (number, place) = (bytes.u64()?, bytes.u64()?);
        let (salt, wall) = (bytes.u64()?, bytes.u64()?);
        let before = (bytes.u64()?, bytes.u32()?, bytes.array()?);
        let reserved = bytes.take(16)?;
        if bytes.u32()? != crc32(0, front) {
            return Err("the checksum of the header is wrong");
        }
        if major != 1 || flags != 0 || reserved.iter().any(|byte| *byte != 0) {
            return Err("the header is of another version");
        }
        if place == 0 || before.0 >= place {
            return Err("the header names no possible place");
        }
        Ok(Self { store, name: [place, number, salt, wall], before })
    }

    fn seed(&self) -> u32 {
        let [_, number, salt, _] = self.name;
        let seed = crc32(0, &self.store);
        crc32(crc32(seed, &number.to_le_bytes()), &salt.to_le_bytes())
    }
}

/// A record of a caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) offset: usize,
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
    crc: u32,
    end: usize,
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) header: Header,
    /// The records of all groups that are whole.
    pub(super) records: Vec<Record<'a>>,
    /// Where the last of them ends.
    pub(super) end: usize,
    /// Whether a seal is there.
    pub(super) sealed: bool,
    /// How many groups are whole.
    pub(super) groups: u32,
    /// Bytes below this were durable, by what the groups say.
    pub(super) mark: usize,
    /// What lies behind the end is not zero.
    pub(super) torn: bool,
}

/// Where in a file something is wrong, and what.
pub(super) type At = (usize, Wrong);

/// Reads a segment of which the bytes below `durable` are known to have been durable.
pub(super) fn read(file: &[u8], durable: usize) -> Result<Segment<'_>, At> {
    let header = Header::read(file).map_err(|wrong| (0, wrong))?;
    let seed = header.seed();
    let mut out = Segment {
        header,
        records: Vec::new(),
        end: HEADER,
        sealed: false,
        groups: 0,
        mark: 0,
        torn: false,
    };
    let (mut open, mut chain) = (Vec::new(), seed);
    let mut at = HEADER;
    while !out.sealed
        && let Some(record) = record(file, seed, at)
    {
        let fits = match record.kind {
            1 => out.group(&record, &mut open, &mut chain),
            2 => open.is_empty() && out.seal(file, &record),
            kind if kind >= 16 => {
                chain = crc32(chain, &record.crc.to_le_bytes());
                open.push(record);
                true
            }
            _ => false,
        };
        if !fits {
            break;
        }
        at = record.end;
    }
    let beyond = (at < file.len() && !out.sealed).then(|| mark_beyond(file, seed, at));
    let durable = durable.max(out.mark).max(beyond.unwrap_or(0));
    if at < durable {
        return Err((at, "bytes that were durable hold no record"));
    }
    let tail = file.get(out.end..).unwrap_or_default();
    let junk = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    out.torn = junk > 0;
    if out.sealed && !tail.is_empty() {
        return Err((out.end, "something follows the seal"));
    }
    if out.end + junk > durable.max(HEADER) + TORN {
        return Err((at, "no crash leaves such a long tail"));
    }
    Ok(out)
}

impl<'a> Segment<'a> {
    fn group(&mut self, at: &Record<'a>, open: &mut Vec<Record<'a>>, chain: &mut u32) -> bool {
        let mut body = Bytes(at.body);
        let field = [body.u32(), body.u32(), body.u32(), body.u32(), body.u32()];
        let [Ok(end), Ok(start), Ok(mark), Ok(count), Ok(said)] = field else { return false };
        let begins = open.first().map_or(at.offset, |first| first.offset);
        let fits = body.left() == 0
            && end as usize == at.end
            && start as usize == begins
            && mark <= start
            && count as usize == open.len()
            && said == *chain;
        if fits {
            self.records.append(open);
            self.end = at.end;
            self.groups += 1;
            self.mark = self.mark.max(mark as usize);
        }
        fits
    }

    fn seal(&mut self, file: &[u8], at: &Record<'_>) -> bool {
        let mut body = Bytes(at.body);
        let (start, groups, records) = (body.u32(), body.u32(), body.u64());
        let (before, own) = (body.array(), body.array());
        let front = file.get(..at.offset).unwrap_or_default();
        self.sealed = body.left() == 0
            && start.is_ok_and(|start| start as usize == at.offset)
            && groups == Ok(self.groups)
            && records == Ok(self.records.len() as u64)
            && before == Ok(self.header.before.2)
            && own == Ok(sha(&[front]));
        if self.sealed {
            self.end = at.end;
        }
        self.sealed
    }
}

/// The record at an offset, if one validates there.
fn record(file: &[u8], seed: u32, offset: usize) -> Option<Record<'_>> {
    let front = file.get(offset..)?;
    let mut bytes = Bytes(front);
    let (crc, check) = (bytes.u32().ok()?, bytes.u16().ok()?);
    let kind = bytes.u8().ok().filter(|kind| *kind != 0)?;
    let len = bytes.count(BODY).ok()?;
    let head = front.len() - bytes.left();
    let seed = crc32(seed, &u32::try_from(offset).ok()?.to_le_bytes());
    let ahead = crc32(seed, front.get(6..head)?);
    let [a, b, c, d] = ahead.to_le_bytes();
    let expected = match u16::from_le_bytes([a ^ c, b ^ d]) {
        0 => 0x0101,
        other => other,
    };
    if check != expected {
        return None;
    }
    let body = bytes.take(len).ok()?;
    let end = offset + head + len;
    (crc == crc32(ahead, body)).then_some(Record { offset, kind, body, crc, end })
}

/// The greatest mark of all groups that validate from an offset on.
fn mark_beyond(file: &[u8], seed: u32, from: usize) -> usize {
    let mut mark = 0;
    for at in from..file.len() {
        if file.get(at + 6) == Some(&1)
            && let Some(found) = record(file, seed, at)
        {
            let mut body = Bytes(found.body);
            if let (Ok(end), Ok(_), Ok(said)) = (body.u32(), body.u32(), body.u32()) {
                mark = mark.max(if end as usize == found.end { said as usize } else { 0 });
            }
        }
    }
    mark
}

/// Where things lie in a segment that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Its place in the log.
    pub(crate) place: u64,
    /// Whether it ends in a seal.
    pub(crate) sealed: bool,
    /// Bytes below this were durable, by what it says itself.
    pub(crate) mark: u64,
    /// The records that name logs.
    pub(crate) names: Vec<std::ops::Range<u64>>,
}

/// Reads where things lie in a segment; none if it is no good one.
pub(crate) fn outline(file: &[u8]) -> Option<Outline> {
    let found = read(file, 0).ok()?;
    let [place, ..] = found.header.name;
    let names = found.records.iter().filter(|record| record.kind == 0x10);
    let names = names.map(|record| record.offset as u64..record.end as u64).collect();
    Some(Outline { place, sealed: found.sealed, mark: found.mark as u64, names })
}
