//! What payloads are made of: the meta leaf of FORMAT section 4.3, and the field of a map.

use super::bytes::{Bytes, Wrong};
use super::commit::{Content, Tip};
use super::json::is_canonical;

/// What a commit says of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    /// The name stands for the commit.
    Here(String),
    /// The name stands for those heads.
    At(String, Vec<Tip>),
    /// The name stands for nothing any more.
    Gone(String),
}

/// The tag in a meta leaf; none if it has none, is erased or breaks a rule.
pub(super) fn tag(content: &Content) -> Option<Tag> {
    let Content::Full { payload, .. } = content else { return None };
    read(payload).ok().flatten()
}

fn read(payload: &[u8]) -> Result<Option<Tag>, Wrong> {
    let mut bytes = Bytes(payload);
    let parts = bytes.u8()?;
    if payload.len() > 65_536 || parts == 0 || parts > 7 {
        return Err("the parts of a meta leaf are unknown");
    }
    if parts & 1 > 0 && !is_canonical(bytes.bytes(65_536)?) {
        return Err("a note is not canonical");
    }
    let tag = if parts & 2 > 0 { Some(said(&mut bytes)?) } else { None };
    if parts & 4 > 0 && bytes.bytes(128)?.is_empty() {
        return Err("a request id is empty");
    }
    bytes.end()?;
    Ok(tag)
}

fn said(bytes: &mut Bytes<'_>) -> Result<Tag, Wrong> {
    let (verb, name) = (bytes.u8()?, bytes.bytes(256)?);
    let name = std::str::from_utf8(name).map_err(|_| "a tag is not UTF-8")?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("a tag has no name");
    }
    let name = name.to_owned();
    match verb {
        0 => Ok(Tag::Here(name)),
        1 => {
            let mut heads: Vec<Tip> = Vec::new();
            for _ in 0..bytes.count(512)? {
                let tip = Tip { log: bytes.log()?, seq: bytes.varint()?, id: bytes.id()? };
                let ascends = heads.last().is_none_or(|last| last.log < tip.log);
                if tip.seq == 0 || tip.seq > u64::MAX >> 1 || !ascends {
                    return Err("the heads of a tag are not canonical");
                }
                heads.push(tip);
            }
            Ok(Tag::At(name, heads))
        }
        2 => Ok(Tag::Gone(name)),
        _ => Err("what is said of a tag is unknown"),
    }
}

/// Name and value in the payload of a map's put; the value is not checked.
pub(super) fn field(payload: &[u8]) -> Option<(&str, &[u8])> {
    let mut bytes = Bytes(payload);
    let name = std::str::from_utf8(bytes.bytes(1024).ok()?).ok()?;
    Some((name, bytes.rest()))
}
