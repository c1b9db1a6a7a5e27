//! Entries as JSON Lines, for programs.
//!
//! One object a line: `n` (number of the entry), `at_ns`, `replica` (null: none), `what` (the kind,
//! as [`What::name`]), and the fields of the kind under their names in [`What`]. The kind of a
//! message is `message`. Hashes and commit ids are hexadecimal strings; all other numbers are JSON
//! numbers with all their digits, and may exceed 2^53. Characters that mean something in HTML are
//! escaped, so a line may stand inside a page.

use std::fmt::{self, Write};

use super::{Entry, What};

/// Writes a line for each entry; `first` is the number of the first of them
/// ([`Trace::first_kept`](super::Trace::first_kept)).
///
/// # Errors
/// Those of `out`.
pub fn write_json_lines(entries: &[Entry], first: u64, out: &mut impl Write) -> fmt::Result {
    for (number, entry) in (first..).zip(entries) {
        write!(out, "{{\"n\":{number},\"at_ns\":{},\"replica\":", entry.at_ns)?;
        match entry.replica {
            Some(lane) => write!(out, "{lane}")?,
            None => out.write_str("null")?,
        }
        write!(out, ",\"what\":\"{}\"", entry.what.name())?;
        write_fields(&entry.what, out)?;
        out.write_str("}\n")?;
    }
    Ok(())
}

fn write_fields(what: &What, out: &mut impl Write) -> fmt::Result {
    match what {
        What::Requested { op, key, commit } => {
            texts(out, &[("op", op), ("key", key)])?;
            match commit {
                Some(commit) => write!(out, ",\"commit\":\"{commit}\""),
                None => Ok(()),
            }
        }
        What::Refused { op, key, reason } => {
            texts(out, &[("op", op), ("key", key), ("reason", reason)])
        }
        What::Acknowledged { commit } => write!(out, ",\"commit\":\"{commit}\""),
        What::Sent { number, to, kind, bytes, content } => {
            write!(out, ",\"number\":{number},\"to\":{to}")?;
            texts(out, &[("message", kind)])?;
            write!(out, ",\"bytes\":{bytes},\"content\":\"{content:016x}\"")
        }
        What::Delivered { number, from } | What::Duplicated { number, from } => {
            write!(out, ",\"number\":{number},\"from\":{from}")
        }
        What::Lost { number, reason } => {
            write!(out, ",\"number\":{number}")?;
            texts(out, &[("reason", reason)])
        }
        What::LinkUp { link, peer } => write!(out, ",\"link\":{link},\"peer\":{peer}"),
        What::LinkDown { link, peer, reason } => {
            write!(out, ",\"link\":{link},\"peer\":{peer}")?;
            texts(out, &[("reason", reason)])
        }
        What::CutBegan { from, to } | What::CutEnded { from, to } => {
            write!(out, ",\"from\":{from},\"to\":{to}")
        }
        What::PartitionBegan { groups } => {
            out.write_str(",\"groups\":")?;
            list(out, groups, |out, group| list(out, group, |out, lane| write!(out, "{lane}")))
        }
        What::SyncBegun { sync } | What::SyncDone { sync } | What::SyncFailed { sync } => {
            write!(out, ",\"sync\":{sync}")
        }
        What::FaultInjected { fault } | What::FaultHit { fault } => texts(out, &[("fault", fault)]),
        What::Crashed { mode } => texts(out, &[("mode", mode)]),
        What::BackedUp { backup } | What::Restored { backup } => {
            write!(out, ",\"backup\":{backup}")
        }
        What::Copied { to } => write!(out, ",\"to\":{to}"),
        What::ClockJumped { ms } => write!(out, ",\"ms\":{ms}"),
        What::ClockDrifts { ppm } => write!(out, ",\"ppm\":{ppm}"),
        What::Broken { name, seen } => texts(out, &[("name", name), ("seen", seen)]),
        What::Note { text } => texts(out, &[("text", text)]),
        What::PartitionEnded
        | What::Restarted
        | What::WentAway
        | What::CameBack
        | What::HealBegan => Ok(()),
    }
}

fn texts(out: &mut impl Write, fields: &[(&str, &str)]) -> fmt::Result {
    for (name, text) in fields {
        write!(out, ",\"{name}\":")?;
        string(out, text)?;
    }
    Ok(())
}

/// Writes a JSON array.
pub(crate) fn list<T, W: Write>(
    out: &mut W,
    items: &[T],
    mut one: impl FnMut(&mut W, &T) -> fmt::Result,
) -> fmt::Result {
    out.write_char('[')?;
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.write_char(',')?;
        }
        one(out, item)?;
    }
    out.write_char(']')
}

/// Writes a JSON string that is inert inside a page's script element too.
pub(crate) fn string(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '<' | '>' | '&' | '\'' | '\u{2028}' | '\u{2029}' | '\u{7f}' => {
                write!(out, "\\u{:04x}", u32::from(c))?;
            }
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}
