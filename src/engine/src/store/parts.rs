//! Lets a large branch be taken in parts.
//!
//! What is suspect counts with what builds upon it, so that who takes a branch has to keep all that
//! comes of it before that: more than one chunk brings and the waiting room holds would never be
//! taken. So whoever holds such a branch when its log is closed builds upon parts of it as well, by
//! commits without events. They are stamped just after what they build upon, and name nothing else,
//! so that each is sent before the next part. Nothing comes to count by them that did not before.

use super::chunk::BRANCH_BYTES_MAX;
use super::{Store, WriteError};
use crate::base::{Hlc, LogId, Now};
use crate::causal::Tip;
use crate::log::Disk;

impl<D: Disk + Clone> Store<D> {
    /// Builds upon parts of what is held of a log from `seq` on, if there is much of it upon which
    /// nobody does; where the own log builds upon more of it already, under a new incarnation.
    pub(super) fn build_upon_parts(
        &mut self,
        now: Now,
        space_ix: usize,
        log: LogId,
        seq: u64,
    ) -> Result<(), WriteError> {
        let ends = self.part_ends(space_ix, &log, seq)?;
        let Some((first, _)) = ends.first() else { return Ok(()) };
        let own = LogId { replica: self.key.id(), incarnation: self.local.incarnation };
        let table = self.table(space_ix)?;
        let known = table.clocks.known(&own, table.seq(&own), &log);
        self.new_life |= known.is_some_and(|known| first.seq <= known);
        for end in ends {
            let own = self.own_log()?;
            match self.acknowledge_early(now, space_ix, own, end) {
                // Who has no rights here keeps nothing by building upon it.
                Err(WriteError::Unauthorised(_)) => return Ok(()),
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Returns where parts of what is held of a log from `seq` on end that are large enough, and
    /// upon which nobody builds yet; of this replica's own also its end.
    fn part_ends(
        &self,
        space_ix: usize,
        log: &LogId,
        seq: u64,
    ) -> Result<Vec<(Tip, Hlc)>, WriteError> {
        let table = self.table(space_ix)?;
        let Some(held) = table.log(log).filter(|held| seq <= held.seq) else {
            return Ok(Vec::new());
        };
        let places = table.segment_of(log, seq).zip(table.segment_of(log, held.seq));
        let within =
            |place: u64| places.is_some_and(|(first, last)| (first..=last).contains(&place));
        let segments = self.log.segments();
        let segments = segments.iter().filter(|segment| within(segment.number));
        // No more than that, so that most forks cost no look at what is held.
        if segments.map(|segment| u64::from(segment.bytes)).sum::<u64>() <= PART_BYTES {
            return Ok(Vec::new());
        }
        let mut built = table.clocks.learnt(log).into_iter().peekable();
        // What is built upon by others, and how many bytes there are up to there.
        let mut builders: Vec<(u64, LogId, u64)> = Vec::new();
        let (mut ends, mut bytes, mut from, mut last) = (Vec::new(), 0, 0, None);
        for at in seq..=held.seq {
            // What is damaged here is handed on by others.
            let Ok(commit) = self.whole_commit(space_ix, log, at) else { break };
            let size = u64::from(commit.header().size) + COMMIT_BYTES;
            if bytes > from && bytes + size - from > PART_BYTES {
                // Commits are sent in the order of their stamps: one that came later is no help.
                let helps = |(_, by, at): &(u64, LogId, u64)| {
                    self.commit_hlc(space_ix, by, *at).is_ok_and(|hlc| hlc < commit.hlc())
                };
                let built = builders.drain(..).rev().find(helps);
                from = built.map_or(from, |(bytes, _, _)| bytes);
                if bytes > from && bytes + size - from > PART_BYTES {
                    ends.extend(last);
                    from = bytes;
                }
            }
            bytes += size;
            last = Some((commit.tip(), commit.hlc()));
            while let Some((upto, by, by_seq)) = built.next_if(|(upto, _, _)| *upto <= at) {
                if upto == at {
                    builders.push((bytes, by, by_seq));
                }
            }
        }
        if !ends.is_empty() && log.replica == self.key.id() {
            // As the first commit of a new incarnation does.
            ends.extend(last);
        }
        Ok(ends)
    }
}

/// How much of a branch somebody builds upon at least: one chunk brings more of it.
const PART_BYTES: u64 = 4 << 20;
/// What a commit takes besides its leaves, about.
const COMMIT_BYTES: u64 = 256;

const _: () = assert!(PART_BYTES < BRANCH_BYTES_MAX as u64);
