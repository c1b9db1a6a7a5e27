//! A failure as a short story: what users did and what went wrong, without the talk of replicas.

use std::collections::BTreeSet;
use std::fmt;

use crate::trace::{Entry, What, cone, text};

/// Returns the lines of a failure's past that tell what users, apps and faults did, and the failure
/// itself as the last of them.
pub(super) fn story(entries: &[Entry]) -> Result<String, fmt::Error> {
    let last = entries.len().saturating_sub(1);
    let past = cone::causal_past(entries, last);
    let (mut told, mut away) = (Vec::new(), BTreeSet::new());
    for (at, entry) in entries.iter().enumerate() {
        // Who is parted from whom is outside of the causal past, and part of the story.
        let known = entry.replica.is_none() || past.binary_search(&at).is_ok();
        match entry.what {
            What::Crashed { .. } | What::WentAway => drop(away.insert(entry.replica)),
            // The first start of a replica goes without saying.
            What::Restarted if !away.remove(&entry.replica) => continue,
            _ => {}
        }
        if known && (at == last || tells(&entry.what)) {
            told.push(entry.clone());
        }
    }
    let left_out = told.len().saturating_sub(LINES_MAX);
    let mut out = String::new();
    if left_out > 0 {
        out.push_str(&format!("({left_out} lines before these)\n"));
    }
    text::write_text(told.get(left_out..).unwrap_or_default(), &mut out)?;
    Ok(out)
}

/// Tells whether an entry belongs into a story.
fn tells(what: &What) -> bool {
    matches!(
        what,
        What::Requested { .. }
            | What::Refused { .. }
            | What::Crashed { .. }
            | What::Restarted
            | What::WentAway
            | What::Copied { .. }
            | What::Restored { .. }
            | What::CutBegan { .. }
            | What::CutEnded { .. }
            | What::PartitionBegan { .. }
            | What::PartitionEnded
            | What::FaultInjected { .. }
            | What::ClockJumped { .. }
            | What::HealBegan
    ) || matches!(what, What::Note { text } if text.starts_with(SAID))
}

/// How what an app says is told from what the world notes.
pub(crate) const SAID: &str = "says: ";
/// A story has so many lines at most.
const LINES_MAX: usize = 60;
