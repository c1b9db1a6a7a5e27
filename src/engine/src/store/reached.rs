//! What a revocation may have changed: the commits that came before it, under what it takes back.
//!
//! Which they were when it came is nowhere written down. Those named here are at least these: all
//! under the grants that it reaches, by itself or by other revocations that it decides about, that
//! these had not in their past. Whoever told what keys showed before tells them anew.

use std::ops::Range;

use super::authority::At;
use super::tables::{LogTable, SpaceTable};
use super::{Arrived, ReadError, Store};
use crate::base::{Key, LogId, SpaceId};
use crate::log::{Disk, Position};

/// A part of the commits that a revocation reaches.
#[derive(Debug, Default)]
pub struct Reached {
    /// The keys of each, one after the other; none of a commit that came later.
    pub keys: Vec<Vec<Key>>,
    /// How many commits there are in all.
    pub count: u64,
}

impl<D: Disk + Clone> Store<D> {
    /// Returns the keys of the commits that a revocation reaches, from the `skip`th on, until about
    /// `keys_max` are there. Their order stays: others may come in between, none goes.
    ///
    /// Costs a look at each log, and a read for each commit.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn reached(
        &self,
        space: &SpaceId,
        by: &Arrived,
        skip: u64,
        keys_max: usize,
    ) -> Result<Reached, ReadError> {
        let space_ix = self.space_index(space)?;
        let ranges = self.table(space_ix)?.reached((by.tip.log, by.tip.seq));
        let count = ranges.iter().map(|(_, seqs)| seqs.end - seqs.start).sum();
        let (mut reached, mut spent) = (Reached { keys: Vec::new(), count }, 0);
        let mut skip = skip;
        for (log, seqs) in ranges {
            let skipped = skip.min(seqs.end - seqs.start);
            skip -= skipped;
            for seq in seqs.start + skipped..seqs.end {
                if spent >= keys_max {
                    return Ok(reached);
                }
                let keys = match self.keys_before(space_ix, (log, seq), by.position) {
                    Ok(keys) => keys,
                    Err(error) => self.pass_over(error).map(|()| Vec::new())?,
                };
                spent += 1 + keys.len();
                reached.keys.push(keys);
            }
        }
        Ok(reached)
    }

    /// Returns the keys of a commit, if its record lies before `end`.
    fn keys_before(
        &self,
        space_ix: usize,
        (log, seq): At,
        end: Position,
    ) -> Result<Vec<Key>, ReadError> {
        let place = self.commit_place(space_ix, &log, seq)?;
        let Some(place) = place.filter(|place| place.at() < end) else { return Ok(Vec::new()) };
        let commit = self.read_commit(place.segment, place.offset)?;
        let mut keys: Vec<Key> = commit.events.iter().filter_map(|event| event.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

impl SpaceTable {
    /// Returns what a revocation reaches, by inner name: parts of logs, by name.
    fn reached(&self, by: At) -> Vec<(LogId, Range<u64>)> {
        let Some(ownership) = &self.ownership else { return Vec::new() };
        let taken_back = ownership.authority.reach(by);
        let mut ranges: Vec<(LogId, Range<u64>)> = Vec::new();
        for log in self.logs() {
            for (grant, seqs) in sound_parts(log) {
                let chain = ownership.authority.chain(&grant);
                let judges = chain.filter_map(|above| taken_back.get(&above)).flatten();
                // Of a log everybody has a prefix in their past.
                let first = judges
                    .filter_map(|judge| first_of(&seqs, |seq| !self.knows((log.log, seq), *judge)));
                if let Some(first) = first.min() {
                    ranges.push((log.log, first..seqs.end));
                }
            }
        }
        ranges.sort_unstable_by_key(|(log, seqs)| (*log, seqs.start));
        ranges
    }
}

/// Returns the parts of a log that were written under a grant each, with the rights that they
/// needed.
fn sound_parts(log: &LogTable) -> impl Iterator<Item = (crate::base::GrantId, Range<u64>)> {
    let ends = log.acted.iter().skip(1).map(|next| next.first).chain([log.seq + 1]);
    let parts = log.acted.iter().zip(ends).filter(|(acted, _)| acted.sound);
    parts.filter_map(|(acted, end)| Some((acted.grant?, acted.first..end)))
}

/// Returns the first number of which `holds` is true, given that it is of all after it.
fn first_of(seqs: &Range<u64>, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (seqs.start, seqs.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    (low < seqs.end).then_some(low)
}
