//! Finds the entries in which two large frontiers differ (Meyer, "Range-Based Set Reconciliation",
//! 2022).
//!
//! A range whose fingerprints differ is answered by up to 16 smaller ranges, or by its entries once
//! there are few. A range is never answered by one fingerprint of the same range, so each answer
//! makes ranges smaller on the answering side, and the two sides take turns: it ends. Nothing is
//! decided here about which of two differing entries is ahead.

use std::ops::Range;

use super::Tip;
use super::batch::Batch;
use super::fingerprint::PrefixSums;
use super::message::{RangeBody, RangeItem};
use crate::base::{Hash, LogId};
use crate::limits::{RANGE_LEAF_LOGS_MAX, RANGE_SPLIT};

/// One side's sorted frontier, ready to be compared by ranges.
#[derive(Debug)]
pub(super) struct Reconciler {
    sums: PrefixSums,
}

impl Reconciler {
    /// Prepares `tips`, strictly ascending by log. One hash an entry.
    pub(super) fn new(salt: &Hash, tips: &[Tip]) -> Self {
        Self { sums: PrefixSums::new(salt, tips) }
    }

    /// Returns the first batch: the whole range, split.
    pub(super) fn first(&self, tips: &[Tip]) -> Batch {
        let mut batch = Batch::default();
        self.open(tips, 0..tips.len(), LogId::default(), None, &mut batch);
        batch
    }

    /// Answers one item of the peer's, which begins at `from`; what the peer has otherwise than
    /// `tips` is passed to `learn`.
    pub(super) fn answer(
        &self,
        tips: &[Tip],
        from: LogId,
        item: &RangeItem,
        batch: &mut Batch,
        learn: &mut dyn FnMut(Tip),
    ) {
        let span = span(tips, from, item.upto);
        let own = tips.get(span.clone()).unwrap_or_default();
        match &item.body {
            RangeBody::Skip => {}
            RangeBody::Fingerprint { count: 0, .. } => batch.answer(from, item.upto, own),
            theirs @ RangeBody::Fingerprint { .. } => {
                if self.sums.of(&span) != *theirs {
                    self.open(tips, span, from, item.upto, batch);
                }
            }
            RangeBody::Ask(theirs) => {
                learn_all(own, theirs, learn);
                batch.answer(from, item.upto, &lacking(own, theirs));
            }
            RangeBody::Answer(theirs) => learn_all(own, theirs, learn),
        }
    }

    /// Asks about a range: by its entries if there are few, else by the fingerprints of parts.
    fn open(
        &self,
        tips: &[Tip],
        span: Range<usize>,
        mut from: LogId,
        upto: Option<LogId>,
        batch: &mut Batch,
    ) {
        if span.len() <= RANGE_LEAF_LOGS_MAX {
            let own = tips.get(span).unwrap_or_default();
            batch.add(from, upto, RangeBody::Ask(own.to_vec()));
            return;
        }
        let mut start = span.start;
        for part in 1..=RANGE_SPLIT {
            let end = span.start + span.len() * part / RANGE_SPLIT;
            let bound = if part == RANGE_SPLIT { upto } else { tips.get(end).map(|tip| tip.log) };
            batch.add(from, bound, self.sums.of(&(start..end)));
            (start, from) = (end, bound.unwrap_or(from));
        }
    }
}

/// Returns the entries of `own` that `theirs` (of the same range, sorted) does not have equal.
pub(super) fn lacking(own: &[Tip], theirs: &[Tip]) -> Vec<Tip> {
    own.iter().filter(|tip| find(theirs, &tip.log) != Some(tip)).copied().collect()
}

/// Returns the entry of `log` in `tips`, which are sorted by log.
pub(super) fn find<'a>(tips: &'a [Tip], log: &LogId) -> Option<&'a Tip> {
    tips.binary_search_by_key(log, |tip| tip.log).ok().and_then(|at| tips.get(at))
}

fn learn_all(own: &[Tip], theirs: &[Tip], learn: &mut dyn FnMut(Tip)) {
    theirs.iter().filter(|tip| find(own, &tip.log) != Some(tip)).for_each(|tip| learn(*tip));
}

fn span(tips: &[Tip], from: LogId, upto: Option<LogId>) -> Range<usize> {
    let place = |bound: LogId| tips.partition_point(|tip| tip.log < bound);
    place(from)..upto.map_or(tips.len(), place)
}
