//! One page to look at a trace with: it holds its data, style and script, and loads nothing.
//!
//! A space-time diagram (Lamport 1978): a lane for each replica, time downwards, one row an entry,
//! beside the entry's line of text. It opens on the causal past of what failed, and can show all
//! entries, or the causal past of any. The page's own policy forbids it every connection.
//!
//! Rows are not to scale: time stands beside them. What comes from keys and texts is only ever
//! data: it is escaped in the page, and its script makes no markup of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use super::cone::Parents;
use super::json::{list, string};
use super::text::{Messages, plain, seconds};
use super::{Entry, Short, What};

/// Writes the page. `failing` is the index of the entry to explain, if there is one.
///
/// Of more than [`PAGE_ENTRIES_MAX`] entries, it holds the causal past of `failing`, what happened
/// to replicas as a whole and to the world, and of all others the last; it says how many are left
/// out.
///
/// Cost: near-linear; about 150 bytes an entry.
///
/// # Errors
/// Those of `out`.
pub fn write_html(
    entries: &[Entry],
    title: &str,
    failing: Option<usize>,
    out: &mut impl Write,
) -> fmt::Result {
    let failing = failing.filter(|index| *index < entries.len());
    let parents = Parents::of(entries);
    let past = failing.map_or_else(Vec::new, |index| parents.past(index));
    let shown = choose(entries, &past, PAGE_ENTRIES_MAX);
    let title = plain(title, TITLE_CHARS_MAX);
    write!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>")?;
    write_escaped(out, &title)?;
    write!(out, "</title>\n{HEAD}<style>\n{STYLE}</style>\n</head>\n<body>\n{BODY}")?;
    out.write_str("<script type=\"application/json\" id=\"data\">")?;
    let page = Page { entries, parents, shown, past: past.len(), failing };
    page.write_data(out, &title)?;
    write!(out, "</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

/// Picks what the page holds, in order.
fn choose(entries: &[Entry], past: &[usize], most: usize) -> Vec<usize> {
    if entries.len() <= most {
        return (0..entries.len()).collect();
    }
    let frame = |index: &usize| entries.get(*index).is_some_and(|entry| frames(&entry.what));
    let latest = (0..entries.len()).rev();
    // What is picked first is what may be left out last.
    let order = past.iter().copied().rev().chain(latest.clone().filter(frame)).chain(latest);
    let mut picked = BTreeSet::new();
    for index in order {
        if picked.len() == most {
            break;
        }
        picked.insert(index);
    }
    picked.into_iter().collect()
}

/// Whether an entry is needed to draw what lies around others: lanes and bands.
const fn frames(what: &What) -> bool {
    matches!(
        what,
        What::CutBegan { .. }
            | What::CutEnded { .. }
            | What::PartitionBegan { .. }
            | What::PartitionEnded
            | What::Crashed { .. }
            | What::Restarted
            | What::WentAway
            | What::CameBack
            | What::Copied { .. }
            | What::Restored { .. }
            | What::HealBegan
            | What::Broken { .. }
    )
}

/// What the page is about.
#[derive(Debug)]
struct Page<'a> {
    entries: &'a [Entry],
    parents: Parents,
    /// The entries that the page holds.
    shown: Vec<usize>,
    /// How many entries the causal past of the failing one has, held or not.
    past: usize,
    failing: Option<usize>,
}

impl Page<'_> {
    fn row(&self, index: usize) -> Option<usize> {
        self.shown.binary_search(&index).ok()
    }

    /// Writes the data: see the head of the script for the form.
    fn write_data(&self, out: &mut impl Write, title: &str) -> fmt::Result {
        out.write_str("{\"title\":")?;
        string(out, title)?;
        let failing = cell(self.failing.and_then(|index| self.row(index)));
        let (total, past) = (self.entries.len(), self.past);
        write!(out, ",\"total\":{total},\"past\":{past},\"failing\":{failing}")?;
        let targets = Targets::of(self.entries, &self.shown);
        out.write_str(",\"messages\":")?;
        let kinds: Vec<&str> = targets.kinds.iter().copied().collect();
        list(out, &kinds, |out, kind| string(out, &plain(kind, TITLE_CHARS_MAX)))?;
        out.write_str(",\"entries\":")?;
        let messages = Messages::of(self.entries);
        list(out, &self.shown, |out, index| {
            let Some(entry) = self.entries.get(*index) else { return Ok(()) };
            let lane = cell(entry.replica);
            write!(out, "\n[\"{}\",{lane},\"{}\",", entry.what.name(), seconds(entry.at_ns))?;
            string(out, &messages.describe(&entry.what))?;
            out.write_char(',')?;
            let parents = self.parents.get(*index).iter();
            let before: Vec<usize> = parents.filter_map(|parent| self.row(*parent)).collect();
            list(out, &before, |out, parent| write!(out, "{parent}"))?;
            targets.write(out, &entry.what)?;
            out.write_char(']')
        })?;
        out.write_str("}\n")
    }
}

/// Rows that other rows name.
#[derive(Debug, Default)]
struct Targets {
    kinds: BTreeSet<&'static str>,
    sent: BTreeMap<u64, usize>,
    begun: BTreeMap<u64, usize>,
    backups: BTreeMap<u64, usize>,
    acknowledged: BTreeSet<Short>,
}

impl Targets {
    fn of(entries: &[Entry], shown: &[usize]) -> Self {
        let mut found = Self::default();
        // Whether a write was acknowledged is said even if the acknowledgement is not shown.
        for entry in entries {
            if let What::Acknowledged { commit } = entry.what {
                found.acknowledged.insert(commit);
            }
        }
        for (row, index) in shown.iter().enumerate() {
            let Some(entry) = entries.get(*index) else { continue };
            match entry.what {
                What::Sent { number, kind, .. } => {
                    found.kinds.insert(kind);
                    found.sent.insert(number, row);
                }
                What::SyncBegun { sync } => drop(found.begun.insert(sync, row)),
                What::BackedUp { backup } => drop(found.backups.insert(backup, row)),
                _ => {}
            }
        }
        found
    }

    /// Writes the two cells that only some kinds have.
    fn write(&self, out: &mut impl Write, what: &What) -> fmt::Result {
        match what {
            What::Requested { commit, .. } => {
                let known = commit.is_some_and(|commit| self.acknowledged.contains(&commit));
                write!(out, ",{},{}", u8::from(commit.is_some()), u8::from(known))
            }
            What::Sent { to, kind, .. } => {
                write!(out, ",{to},{}", self.kinds.iter().take_while(|other| *other < kind).count())
            }
            What::Delivered { number, from } | What::Duplicated { number, from } => {
                write!(out, ",{from},{}", cell(self.sent.get(number).copied()))
            }
            What::Lost { number, .. } => {
                write!(out, ",-1,{}", cell(self.sent.get(number).copied()))
            }
            What::LinkUp { peer, .. } | What::LinkDown { peer, .. } => write!(out, ",{peer},-1"),
            What::CutBegan { from, to } | What::CutEnded { from, to } => {
                write!(out, ",{from},{to}")
            }
            What::SyncDone { sync } | What::SyncFailed { sync } => {
                write!(out, ",-1,{}", cell(self.begun.get(sync).copied()))
            }
            What::Copied { to } => write!(out, ",{to},-1"),
            What::Restored { backup } => {
                write!(out, ",-1,{}", cell(self.backups.get(backup).copied()))
            }
            What::PartitionBegan { groups } => {
                out.write_char(',')?;
                list(out, groups, |out, group| list(out, group, |out, lane| write!(out, "{lane}")))
            }
            _ => Ok(()),
        }
    }
}

/// Returns a number as the page has it: -1 for none.
fn cell(number: Option<usize>) -> String {
    number.map_or_else(|| "-1".to_owned(), |number| number.to_string())
}

/// Writes text as the content of an element.
fn write_escaped(out: &mut impl Write, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c {
            '&' => out.write_str("&amp;")?,
            '<' => out.write_str("&lt;")?,
            '>' => out.write_str("&gt;")?,
            '"' => out.write_str("&quot;")?,
            '\'' => out.write_str("&#39;")?,
            c => out.write_char(c)?,
        }
    }
    Ok(())
}

/// Most entries that a page holds: a browser takes more, a reader does not.
pub const PAGE_ENTRIES_MAX: usize = 20_000;
const TITLE_CHARS_MAX: usize = 200;

const HEAD: &str = "<meta name=\"viewport\" content=\"width=device-width\">
<meta name=\"color-scheme\" content=\"light dark\">
<meta http-equiv=\"Content-Security-Policy\" \
content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">
";
const BODY: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
