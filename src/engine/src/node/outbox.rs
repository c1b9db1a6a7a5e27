//! Holds back what the disk has not confirmed.
//!
//! An output is stamped with the end of the log at the moment when it was made, and leaves only
//! when the log is durable up to there. So nothing that a crash could undo is ever seen by a peer.
//! Order is kept. Deciding when to sync is not done here.

use std::collections::VecDeque;

use super::{Output, Problem};
use crate::log::Position;

/// Outputs in order, each with the position that must be durable first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    held: VecDeque<(Position, Output)>,
}

impl Outbox {
    /// Takes an output that speaks of everything up to `stamp`.
    pub(crate) fn push(&mut self, stamp: Position, output: Output) {
        self.held.push_back((stamp, output));
    }

    /// Returns the next output that may leave.
    pub(crate) fn pop(&mut self, durable: Position) -> Option<Output> {
        if self.held.front()?.0 > durable && !mutant!("sent-before-durable") {
            return None;
        }
        self.held.pop_front().map(|(_, output)| output)
    }

    /// Lets go of what speaks of the log beyond `kept`, which the disk did not take. Answers to
    /// requests stay, with what the request is told instead.
    pub(crate) fn take_back(&mut self, kept: Position, problem: &Problem) {
        let beyond = |stamp: &Position| *stamp > kept;
        self.held
            .retain(|(stamp, output)| !beyond(stamp) || !matches!(output, Output::Send { .. }));
        for (stamp, output) in self.held.iter_mut().filter(|(stamp, _)| beyond(stamp)) {
            *stamp = kept;
            if let Output::JobDone { report, .. } = output {
                report.in_sync = false;
                report.problem.get_or_insert_with(|| problem.clone());
            }
        }
    }

    /// Returns how many outputs are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JobId, LinkId, Report};
    use super::*;
    use crate::base::ReplicaId;
    use crate::sync::Stats;

    #[test]
    fn nothing_leaves_before_it_is_durable() {
        let at = |offset| Position { segment: 1, offset };
        let mut outbox = Outbox::default();
        outbox.push(at(10), Output::Wait(None));
        outbox.push(at(5), Output::Wait(None));
        assert!(outbox.pop(at(9)).is_none(), "the first is not durable, and order is kept");
        assert!(outbox.pop(at(10)).is_some());
        assert!(outbox.pop(at(10)).is_some());
        assert!(outbox.pop(at(10)).is_none());
    }

    #[test]
    fn what_was_taken_back_is_not_said_and_requests_are_answered_all_the_same() {
        let at = |offset| Position { segment: 1, offset };
        let send = |n| Output::Send { link: LinkId(n), bytes: Vec::new() };
        let report = Report {
            peer: ReplicaId::default(),
            spaces: Vec::new(),
            in_sync: true,
            stats: Stats::default(),
            received_events: 1,
            sent_events: 0,
            problem: None,
        };
        let done = |report: &Report| Output::JobDone { job: JobId(1), report: report.clone() };
        let mut outbox = Outbox::default();
        outbox.push(at(10), send(1));
        outbox.push(at(10), done(&report));
        outbox.push(at(20), send(2));
        outbox.push(at(20), done(&report));
        let problem = Problem::Broken("the disk is full".to_owned());
        outbox.take_back(at(10), &problem);
        let told = Report { in_sync: false, problem: Some(problem), ..report.clone() };
        for expected in [send(1), done(&report), done(&told)] {
            let output = outbox.pop(at(10)).unwrap();
            assert_eq!(format!("{output:?}"), format!("{expected:?}"));
        }
        assert_eq!(outbox.len(), 0);
    }
}
