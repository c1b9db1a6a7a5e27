//! The total order that breaks ties between concurrent events.

use std::cmp::Ordering;

use crate::base::{CommitId, Dot, EventId, Hlc};

/// Where an event stands: its time, its short name and its commit's hash.
///
/// Ordered by (HLC, replica, commit id, index). A commit's HLC is greater than those of its past,
/// so the order extends causality; it decides only what a reader sees first, never what counts.
/// The incarnation is left out: branches of a forked log have names that hold here only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The commit's time.
    pub hlc: Hlc,
    /// The event's short name.
    pub dot: Dot,
    /// The commit's hash.
    pub commit: CommitId,
}

impl Stamp {
    /// Returns the event's full name.
    pub fn event_id(&self) -> EventId {
        EventId { commit: self.commit, index: self.dot.index }
    }
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |s: &Self| (s.hlc, s.dot.log.replica, s.commit, s.dot.index, s.dot);
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
