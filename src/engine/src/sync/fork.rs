//! Finds the first seq at which two replicas hold different commits of one log.
//!
//! Equal ids mean equal pasts (the log is a hash chain), so a binary search needs log2 n questions.
//! Each question carries the asker's id and each answer the answerer's: both sides narrow the same
//! bounds and both end with the fork point. One search at a time in each direction.

use std::collections::VecDeque;

use super::SyncError;
use crate::base::{CommitId, LogId};
use crate::limits::{FORK_QUESTIONS_MAX, FORK_SEARCHES_MAX};

/// The bounds of a search: commits at `same` (0: before the first) are equal, at `apart` not.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    log: LogId,
    same: u64,
    apart: u64,
}

impl Bounds {
    fn middle(&self) -> u64 {
        self.same + (self.apart - self.same) / 2
    }

    fn found(&self) -> bool {
        self.same + 1 == self.apart
    }

    /// Takes in that the commits at `seq` are equal or not.
    fn narrow(&mut self, seq: u64, equal: bool) -> Result<(), SyncError> {
        if equal && seq < self.apart {
            self.same = self.same.max(seq);
        } else if !equal && seq > self.same {
            self.apart = self.apart.min(seq);
        } else {
            return Err(SyncError::Contradiction(self.log));
        }
        Ok(())
    }
}

/// A question to send: log and seq.
pub(super) type Question = (LogId, u64);
/// A fork point: both sides' commits of the log differ from this seq on, and not before.
pub(super) type ForkPoint = (LogId, u64);

/// The searches of one session.
#[derive(Debug, Default)]
pub(super) struct ForkSearch {
    queue: VecDeque<Bounds>,
    /// The current search of ours, and the seq that was asked for.
    asking: Option<(Bounds, u64)>,
    begun: usize,
    answering: Option<Bounds>,
    answered: usize,
}

impl ForkSearch {
    /// Puts a search on the list; `apart` is a seq at which the commits were seen to differ.
    /// Does nothing once the session has begun enough of them.
    pub(super) fn begin(&mut self, log: LogId, apart: u64) {
        if self.begun < FORK_SEARCHES_MAX {
            self.begun += 1;
            self.queue.push_back(Bounds { log, same: 0, apart });
        }
    }

    /// Tells whether none of our searches is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.asking.is_none()
    }

    /// Returns the next question, if none is open. The first question of a search is about the seq
    /// that is known to differ, so that the other side knows the bound too.
    pub(super) fn next(&mut self) -> Option<Question> {
        if self.asking.is_some() {
            return None;
        }
        let bounds = self.queue.pop_front()?;
        self.asking = Some((bounds, bounds.apart));
        Some((bounds.log, bounds.apart))
    }

    /// Ends the current search without a result.
    pub(super) fn abandon(&mut self) {
        self.asking = None;
    }

    /// Takes the answer to our question: `ours` and `theirs` are the two ids at that seq.
    ///
    /// Where either side does not hold the commit, the search ends without a result. Returns the
    /// next question of the same search, or the fork point.
    pub(super) fn answer(
        &mut self,
        log: LogId,
        seq: u64,
        ours: Option<CommitId>,
        theirs: Option<CommitId>,
    ) -> Result<(Option<Question>, Option<ForkPoint>), SyncError> {
        let asked = self.asking.take().filter(|(bounds, at)| bounds.log == log && *at == seq);
        let Some((mut bounds, _)) = asked else {
            return Err(SyncError::Unsolicited("IdAt"));
        };
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            return Ok((None, None));
        };
        bounds.narrow(seq, ours == theirs)?;
        if bounds.found() {
            return Ok((None, Some((log, bounds.apart))));
        }
        let next = bounds.middle();
        self.asking = Some((bounds, next));
        Ok((Some((log, next)), None))
    }

    /// Follows a search of the peer's, who asked about `seq`; `ours` is what this side answers.
    ///
    /// Returns the fork point once the bounds meet.
    pub(super) fn asked(
        &mut self,
        log: LogId,
        seq: u64,
        theirs: CommitId,
        ours: Option<CommitId>,
    ) -> Result<Option<ForkPoint>, SyncError> {
        self.answered += 1;
        if self.answered > FORK_SEARCHES_MAX * FORK_QUESTIONS_MAX {
            return Err(SyncError::TooMany("questions about forks"));
        }
        let Some(ours) = ours else {
            self.answering = None;
            return Ok(None);
        };
        let mut bounds = match self.answering.take().filter(|bounds| bounds.log == log) {
            Some(bounds) => bounds,
            // The first question of a search names a seq that differs.
            None if ours == theirs => return Err(SyncError::Contradiction(log)),
            None => Bounds { log, same: 0, apart: seq },
        };
        bounds.narrow(seq, ours == theirs)?;
        if bounds.found() {
            return Ok(Some((log, bounds.apart)));
        }
        self.answering = Some(bounds);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two chains that are equal below `fork`.
    fn id(side: u8, seq: u64, fork: u64) -> CommitId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seq.to_le_bytes());
        bytes[8] = if seq < fork { 0 } else { side };
        CommitId(bytes)
    }

    proptest! {
        #[test]
        fn both_sides_find_the_fork_in_log2_questions(
            (fork, apart) in (1u64..=u64::MAX).prop_flat_map(|apart| (1..=apart, Just(apart)))
        ) {
            let log = LogId::default();
            let (mut asker, mut answerer) = (ForkSearch::default(), ForkSearch::default());
            asker.begin(log, apart);
            let mut question = asker.next();
            let (mut questions, mut found) = (0, None);
            let mut told = None;
            while let Some((log, seq)) = question {
                questions += 1;
                let (ours, theirs) = (id(1, seq, fork), id(2, seq, fork));
                prop_assert!(told.is_none());
                told = answerer.asked(log, seq, ours, Some(theirs)).expect("honest");
                (question, found) = asker.answer(log, seq, Some(ours), Some(theirs)).expect("honest");
            }
            prop_assert_eq!(found, Some((log, fork)));
            prop_assert_eq!(told, found);
            prop_assert!(questions <= 1 + apart.ilog2() + 1, "{questions} for {apart}");
            prop_assert!(asker.is_idle());
        }
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_refused() {
        let mut search = ForkSearch::default();
        let answer = search.answer(LogId::default(), 1, None, None);
        assert_eq!(answer, Err(SyncError::Unsolicited("IdAt")));
        search.begin(LogId::default(), 5);
        assert_eq!(search.next(), Some((LogId::default(), 5)));
        let same = Some(CommitId::ZERO);
        let answer = search.answer(LogId::default(), 5, same, same);
        assert_eq!(answer, Err(SyncError::Contradiction(LogId::default())));
    }
}
