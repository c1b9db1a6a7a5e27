//! Entries as lines for people.
//!
//! Texts of an entry are shown without what could act on a terminal or turn the line around:
//! control and direction characters appear as `\u{…}`. Long ones are clipped; [`json`](super::json)
//! has them whole.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::{Entry, Short, What, cone};

/// Writes a line for each entry: time in seconds, lane, kind and details.
///
/// # Errors
/// Those of `out`.
pub fn write_text(entries: &[Entry], out: &mut impl Write) -> fmt::Result {
    write_lines(entries, &Messages::of(entries), 0..entries.len(), out)
}

/// Explains an entry: the last `most` entries of its causal past, itself the last of them, with how
/// many there are before.
///
/// A message that was lost does not come before anything; that it was is said where it was sent.
/// The partitions and cuts in force are not in the relation either, and are not shown.
pub fn explain(entries: &[Entry], index: usize, most: usize) -> String {
    let past = cone::causal_past(entries, index);
    let before = past.len().saturating_sub(most);
    let mut out = String::new();
    // A `String` takes all that is written to it.
    if before > 0 {
        let _ = writeln!(out, "… {before} more entries of the causal past before these");
    }
    let shown = past.get(before..).unwrap_or_default();
    let _ = write_lines(entries, &Messages::of(entries), shown.iter().copied(), &mut out);
    out
}

fn write_lines(
    entries: &[Entry],
    messages: &Messages,
    shown: impl Iterator<Item = usize> + Clone,
    out: &mut impl Write,
) -> fmt::Result {
    let shown = shown.filter_map(|index| entries.get(index));
    let time = shown.clone().map(|entry| seconds(entry.at_ns).len()).max().unwrap_or(0);
    let lane = shown.clone().map(|entry| lane(entry.replica).len()).max().unwrap_or(0);
    let kind = shown.clone().map(|entry| entry.what.name().len()).max().unwrap_or(0);
    for entry in shown {
        let mut line = format!(
            "{:>time$}  {:<lane$}  {:<kind$}  {}",
            seconds(entry.at_ns),
            self::lane(entry.replica),
            entry.what.name(),
            messages.describe(&entry.what),
        );
        line.truncate(line.trim_end().len());
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Returns a time in seconds with all its digits.
pub(super) fn seconds(at_ns: u64) -> String {
    format!("{}.{:09}", at_ns / 1_000_000_000, at_ns % 1_000_000_000)
}

/// Returns the name of a lane.
fn lane(replica: Option<usize>) -> String {
    replica.map_or_else(|| "-".to_owned(), |lane| format!("r{lane}"))
}

/// What is known of messages from entries other than their own.
#[derive(Debug)]
pub(super) struct Messages {
    kinds: BTreeMap<u64, &'static str>,
    lost: BTreeMap<u64, &'static str>,
}

impl Messages {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut found = Self { kinds: BTreeMap::new(), lost: BTreeMap::new() };
        for entry in entries {
            match entry.what {
                What::Sent { number, kind, .. } => drop(found.kinds.insert(number, kind)),
                What::Lost { number, reason } => drop(found.lost.insert(number, reason)),
                _ => {}
            }
        }
        found
    }

    /// Returns the details of an entry, without its kind.
    pub(super) fn describe(&self, what: &What) -> String {
        match what {
            What::Requested { op, key, commit } => {
                let commit = commit.map_or_else(String::new, |commit| format!(" → {commit}"));
                format!("{}: {}{commit}", plain(key, TEXT_CHARS_MAX), plain(op, TEXT_CHARS_MAX))
            }
            What::Refused { op, key, reason } => {
                let [op, key, reason] = [op, key, reason].map(|text| plain(text, TEXT_CHARS_MAX));
                format!("{key}: {op}: {reason}")
            }
            What::Acknowledged { commit } => commit_is_durable(*commit),
            What::Sent { number, to, kind, bytes, .. } => {
                let lost = self.lost.get(number);
                let lost = lost.map_or_else(String::new, |why| {
                    format!(" (lost: {})", plain(why, TEXT_CHARS_MAX))
                });
                let kind = plain(kind, TEXT_CHARS_MAX);
                format!("m{number} to r{to}: {kind}, {bytes} bytes{lost}")
            }
            What::Delivered { number, from } => {
                format!("m{number} from r{from}{}", self.kind(*number))
            }
            What::Duplicated { number, from } => {
                format!("m{number} from r{from}, again{}", self.kind(*number))
            }
            What::Lost { number, reason } => {
                format!("m{number}{}: {}", self.kind(*number), plain(reason, TEXT_CHARS_MAX))
            }
            What::LinkUp { link, peer } => format!("l{link} with r{peer}"),
            What::LinkDown { link, peer, reason } => {
                format!("l{link} with r{peer}: {}", plain(reason, TEXT_CHARS_MAX))
            }
            What::CutBegan { from, to } | What::CutEnded { from, to } => {
                format!("from r{from} to r{to}")
            }
            What::PartitionBegan { groups } => groups_text(groups),
            What::SyncBegun { sync } | What::SyncDone { sync } | What::SyncFailed { sync } => {
                format!("s{sync}")
            }
            What::FaultInjected { fault: text } | What::FaultHit { fault: text } => {
                plain(text, TEXT_CHARS_MAX)
            }
            What::Crashed { mode } => plain(mode, TEXT_CHARS_MAX),
            What::BackedUp { backup } | What::Restored { backup } => format!("b{backup}"),
            What::Copied { to } => format!("the copy runs as r{to}"),
            What::ClockJumped { ms } => format!("{ms:+} ms"),
            What::ClockDrifts { ppm } => format!("{ppm:+} ppm"),
            What::Broken { name, seen } => {
                format!("{}: {}", plain(name, TEXT_CHARS_MAX), plain(seen, SEEN_CHARS_MAX))
            }
            What::Note { text } => plain(text, SEEN_CHARS_MAX),
            What::PartitionEnded
            | What::Restarted
            | What::WentAway
            | What::CameBack
            | What::HealBegan => String::new(),
        }
    }

    fn kind(&self, number: u64) -> String {
        let kind = self.kinds.get(&number);
        kind.map_or_else(String::new, |kind| format!(": {}", plain(kind, TEXT_CHARS_MAX)))
    }
}

fn commit_is_durable(commit: Short) -> String {
    format!("{commit} is durable")
}

fn groups_text(groups: &[Vec<usize>]) -> String {
    let lanes = |group: &Vec<usize>| {
        let names: Vec<String> = group.iter().map(|lane| format!("r{lane}")).collect();
        names.join(" ")
    };
    groups.iter().map(lanes).collect::<Vec<_>>().join(" | ")
}

/// Returns a text on one line of at most `most` characters and an ellipsis.
pub(super) fn plain(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(4 * most));
    for (at, c) in text.chars().enumerate() {
        if at == most {
            out.push('…');
            break;
        }
        if c.is_control() || turns(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character changes the direction of text or breaks a line without being a control
/// character of Unicode.
const fn turns(c: char) -> bool {
    let marks = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}');
    marks || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// So much is shown of a key, an op or a reason.
const TEXT_CHARS_MAX: usize = 120;
/// So much is shown of what was seen in place of what must hold, and of a note.
const SEEN_CHARS_MAX: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_acts_on_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m\nb\u{202e}c", 99), "a\\u{1b}[31m\\u{a}b\\u{202e}c");
        assert_eq!(plain("äöü", 2), "äö…");
        assert_eq!(plain("äöü", 3), "äöü");
    }
}
