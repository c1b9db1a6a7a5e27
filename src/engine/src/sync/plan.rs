//! What to ask a peer for, once it is known in which logs the two sides differ.

use std::collections::BTreeMap;

use super::Tip;
use super::message::{Missing, Run};
use super::reconcile::find;
use super::session::{Pinned, Source};
use crate::base::{CommitId, LogId};

/// What follows from the differences.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What the peer has and we lack; ascending, without overlap.
    pub(super) runs: Vec<Run>,
    /// Logs of which we know that the two sides' chains part.
    pub(super) diverged: Vec<Diverged>,
}

/// A log whose chains part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Diverged {
    pub(super) ours: Tip,
    pub(super) theirs: Tip,
    /// It is on this side to search for the fork point: only the side with the longer log can see
    /// it; between equally long ones the dialling side begins.
    pub(super) search: bool,
}

/// Compares `own` with what the peer was found to have otherwise (`theirs`, by log), of which it
/// has lost `peer_missing`. One look-up in `source` for each log in which the peer is behind.
pub(super) fn plan(
    own: &Pinned,
    theirs: &BTreeMap<LogId, Tip>,
    peer_missing: &[Missing],
    source: &dyn Source,
    initiator: bool,
) -> Plan {
    let mut plan = Plan::default();
    for theirs in theirs.values() {
        let holes = holes(peer_missing, &theirs.log);
        let Some(ours) = find(&own.frontier, &theirs.log) else {
            plan.runs.extend(next_run(0, theirs, holes));
            continue;
        };
        let apart = if ours.seq == theirs.seq {
            ours.id != theirs.id
        } else {
            // A commit that cannot be read now says nothing.
            ours.seq > theirs.seq
                && source.id_at(&theirs.log, theirs.seq).is_some_and(|id| id != theirs.id)
        };
        if apart {
            let search = ours.seq > theirs.seq || initiator;
            plan.diverged.push(Diverged { ours: *ours, theirs: *theirs, search });
        } else if ours.seq < theirs.seq && !mutant!("gap-not-asked-for") {
            plan.runs.extend(next_run(ours.seq, theirs, holes));
        }
    }
    for lost in &own.missing {
        // A log that was not found to differ ends in the same commit at the peer.
        let tip = theirs.get(&lost.log).or_else(|| find(&own.frontier, &lost.log));
        let to = tip.map_or(0, |tip| tip.seq).min(lost.to);
        for (from, to) in without(lost.from, to, holes(peer_missing, &lost.log)) {
            let id = tip.filter(|tip| tip.seq == to).map_or(CommitId::ZERO, |tip| tip.id);
            plan.runs.push(Run { after: from - 1, upto: Tip { log: lost.log, seq: to, id } });
        }
    }
    plan.runs.sort_unstable_by_key(|run| (run.upto.log, run.after));
    plan
}

/// Returns what the peer can send of a log from `after` on without a hole.
fn next_run(after: u64, theirs: &Tip, holes: &[Missing]) -> Option<Run> {
    let from = after.checked_add(1)?;
    let (_, to) =
        without(from, theirs.seq, holes).first().copied().filter(|(at, _)| *at == from)?;
    let id = if to == theirs.seq { theirs.id } else { CommitId::ZERO };
    Some(Run { after, upto: Tip { log: theirs.log, seq: to, id } })
}

/// Returns the part of a sorted list that is about `log`.
fn holes<'a>(missing: &'a [Missing], log: &LogId) -> &'a [Missing] {
    let start = missing.partition_point(|hole| hole.log < *log);
    let end = missing.partition_point(|hole| hole.log <= *log);
    missing.get(start..end).unwrap_or_default()
}

/// Returns the ranges that are left of `from..=to` without the holes.
fn without(mut from: u64, to: u64, holes: &[Missing]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for hole in holes {
        if hole.to < from {
            continue;
        }
        if from > to || hole.from > to {
            break;
        }
        if hole.from > from {
            left.push((from, hole.from - 1));
        }
        let Some(next) = hole.to.checked_add(1) else { return left };
        from = next;
    }
    if from <= to {
        left.push((from, to));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(from: u64, to: u64) -> Missing {
        Missing { log: LogId::default(), from, to }
    }

    #[test]
    fn holes_are_left_out() {
        let holes = [hole(3, 4), hole(7, 7), hole(9, u64::MAX)];
        assert_eq!(without(1, 20, &holes), [(1, 2), (5, 6), (8, 8)]);
        assert_eq!(without(4, 6, &holes), [(5, 6)]);
        assert_eq!(without(3, 3, &holes), []);
        assert_eq!(without(1, u64::MAX, &[]), [(1, u64::MAX)]);
        assert_eq!(without(5, 4, &holes), []);
        for from in 1..12 {
            for to in 0..12 {
                let naive =
                    (from..=to).filter(|at| !holes.iter().any(|h| (h.from..=h.to).contains(at)));
                let left = without(from, to, &holes);
                assert!(naive.eq(left.iter().flat_map(|(a, b)| *a..=*b)), "{from} {to}");
            }
        }
    }

    #[test]
    fn only_what_follows_without_a_hole_is_asked_for() {
        let theirs = Tip { log: LogId::default(), seq: 10, id: CommitId([9; 32]) };
        let run = |after, seq, id| Some(Run { after, upto: Tip { seq, id, ..theirs } });
        assert_eq!(next_run(2, &theirs, &[]), run(2, 10, theirs.id));
        assert_eq!(next_run(2, &theirs, &[hole(5, 6)]), run(2, 4, CommitId::ZERO));
        assert_eq!(next_run(2, &theirs, &[hole(3, 6)]), None);
        assert_eq!(next_run(u64::MAX, &theirs, &[]), None);
    }
}
