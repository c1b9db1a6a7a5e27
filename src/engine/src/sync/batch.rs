//! One side's turn in range reconciliation, while it is put together and while it comes in.

use super::message::{Message, RangeBody, RangeItem};
use super::wire::item_bytes_max;
use super::{SyncError, Tip};
use crate::base::{LogId, SpaceId};
use crate::limits;

/// A batch that is being written: ranges ascending, gaps filled by skips.
#[derive(Debug, Default)]
pub(super) struct Batch {
    items: Vec<RangeItem>,
    /// Where the last item ends; none beyond the end of all ranges.
    cursor: Option<LogId>,
    begun: bool,
    ranges: usize,
    entries: usize,
    questions: bool,
    left_out: u64,
}

impl Batch {
    /// Says something about the range from `from` to `upto`, or leaves it for another session if
    /// the batch is full. Tells whether it was said.
    pub(super) fn add(&mut self, from: LogId, upto: Option<LogId>, body: RangeBody) -> bool {
        let entries = match &body {
            RangeBody::Ask(tips) | RangeBody::Answer(tips) => tips.len(),
            RangeBody::Skip | RangeBody::Fingerprint { .. } => 0,
        };
        if self.ranges >= limits::RANGES_PER_BATCH_MAX
            || self.entries + entries > limits::RANGES_PER_BATCH_MAX
        {
            self.left_out += 1.max(entries as u64);
            return false;
        }
        self.ranges += 1;
        self.entries += entries;
        self.questions |= !matches!(body, RangeBody::Answer(_));
        let start = if self.begun { self.cursor } else { Some(LogId::default()) };
        assert!(start.is_some_and(|start| start <= from), "ranges ascend");
        if start != Some(from) {
            self.items.push(RangeItem { upto: Some(from), body: RangeBody::Skip });
        }
        self.items.push(RangeItem { upto, body });
        (self.cursor, self.begun) = (upto, true);
        true
    }

    /// Says that `tips`, all between `from` and `upto`, are what the other side lacks.
    pub(super) fn answer(&mut self, mut from: LogId, upto: Option<LogId>, tips: &[Tip]) {
        let mut pieces = tips.chunks(limits::RANGE_ENTRIES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            // A piece ends where the next one begins.
            let next = pieces.peek().and_then(|next| next.first()).map(|tip| tip.log);
            let end = if next.is_some() { next } else { upto };
            self.add(from, end, RangeBody::Answer(piece.to_vec()));
            if let Some(next) = next {
                from = next;
            }
        }
    }

    /// Tells whether the other side has to answer.
    pub(super) fn asks(&self) -> bool {
        self.questions
    }

    /// Returns how many entries (at least one a range) found no place.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Returns the batch as messages.
    pub(super) fn into_messages(self, space: SpaceId) -> Vec<Message> {
        let mut messages = Vec::new();
        let (mut items, mut bytes) = (Vec::new(), 0);
        for item in self.items {
            // A message does not end in a skip: that begins the next one.
            if bytes > limits::RANGES_BYTES_TARGET
                && items.last().is_some_and(|last: &RangeItem| last.body != RangeBody::Skip)
            {
                let items = std::mem::take(&mut items);
                messages.push(Message::Ranges { space, last: false, items });
                bytes = 0;
            }
            bytes += item_bytes_max(&item);
            items.push(item);
        }
        messages.push(Message::Ranges { space, last: true, items });
        messages
    }
}

/// A batch that is coming in.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Where the next item begins; none beyond the end of all ranges.
    cursor: Option<LogId>,
    ranges: usize,
    entries: usize,
    /// A question came in that has to be answered.
    pub(super) asked: bool,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { cursor: Some(LogId::default()), ranges: 0, entries: 0, asked: false }
    }
}

impl Incoming {
    /// Checks the next item and returns where its range begins.
    pub(super) fn item(&mut self, item: &RangeItem) -> Result<LogId, SyncError> {
        let from = self.cursor.ok_or(SyncError::OutOfRange)?;
        if item.upto.is_some_and(|upto| upto <= from) {
            return Err(SyncError::OutOfRange);
        }
        let tips: &[Tip] = match &item.body {
            RangeBody::Skip | RangeBody::Fingerprint { .. } => &[],
            RangeBody::Ask(tips) | RangeBody::Answer(tips) => tips,
        };
        let inside = |tip: &Tip| from <= tip.log && item.upto.is_none_or(|upto| tip.log < upto);
        if !tips.iter().all(inside) {
            return Err(SyncError::OutOfRange);
        }
        self.ranges += usize::from(item.body != RangeBody::Skip);
        self.entries += tips.len();
        if self.ranges.max(self.entries) > limits::RANGES_PER_BATCH_MAX {
            return Err(SyncError::TooMany("ranges in a batch"));
        }
        self.asked |= matches!(item.body, RangeBody::Fingerprint { .. } | RangeBody::Ask(_));
        self.cursor = item.upto;
        Ok(from)
    }
}
