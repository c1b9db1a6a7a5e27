//! Names for points in a space's history.
//!
//! A tag travels in the meta leaf of a commit. Of all that was said of one name, what has the
//! greatest stamp holds: HLCs respect causality, so a later word always wins over an earlier one
//! that it had seen, and concurrent ones are decided alike everywhere.

use crate::base::{CommitId, Hlc, LogId, WallTime};
use crate::causal::Tip;
use crate::event::Tag;

/// What was last said of a tag's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// When it was said.
    pub hlc: Hlc,
    /// Who said it.
    pub log: LogId,
    /// The commit that says it.
    pub commit: CommitId,
    /// Its number in the log.
    pub seq: u64,
    /// The heads that the tag names, or none if the tag was deleted.
    pub target: Option<Vec<Tip>>,
}

impl TagState {
    /// Returns what a commit says of a tag.
    pub(crate) fn new(tip: Tip, hlc: Hlc, tag: &Tag) -> Self {
        let target = match tag {
            Tag::Delete { .. } => None,
            Tag::Create { at: None, .. } => Some(vec![tip]),
            Tag::Create { at: Some(heads), .. } => Some(heads.clone()),
        };
        Self { hlc, log: tip.log, commit: tip.id, seq: tip.seq, target }
    }

    /// Returns the wall-clock part of the stamp.
    pub fn time(&self) -> WallTime {
        self.hlc.wall()
    }

    /// Keeps the later of two words.
    pub(crate) fn later(a: Option<Self>, b: Self) -> Self {
        match a {
            Some(a) if (a.hlc, a.log.replica, a.commit) > (b.hlc, b.log.replica, b.commit) => a,
            _ => b,
        }
    }
}
