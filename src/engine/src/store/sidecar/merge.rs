//! Merges the keys of several sidecars and of the tail that has none yet.
//!
//! One ascending pass in which each key comes once, with what every source says of it. It reads
//! no further than it is asked, and holds one block per source.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use crate::log::Disk;

use super::{Entry, KeyIter, SidecarError};

/// A key, and what the sources say of it.
#[derive(Debug)]
pub struct Merged<T> {
    /// The composite key.
    pub key: Vec<u8>,
    /// What the tail says, which is newer than every sidecar.
    pub tail: Option<T>,
    /// What the sidecars say, each with the place of its walk in the list given, ascending: so
    /// newest first if the walks were listed so.
    pub entries: Vec<(usize, Entry)>,
}

/// Yields the keys of all sources, ascending and each once. After an error it ends.
#[derive(Debug)]
pub struct Merge<'a, D, T, I: Iterator<Item = (Vec<u8>, T)>> {
    tail: Peekable<I>,
    walks: Vec<KeyIter<'a, D>>,
    heads: BinaryHeap<Head>,
    begun: bool,
    failed: bool,
}

/// The next key of a walk. The greatest in a heap is the least key, of the first walk.
#[derive(Debug)]
struct Head {
    key: Vec<u8>,
    walk: usize,
    entry: Entry,
}

impl<'a, D: Disk, T, I: Iterator<Item = (Vec<u8>, T)>> Merge<'a, D, T, I> {
    /// Merges `walks`, newest segment first, and `tail`, whose keys ascend strictly and begin
    /// where those of the walks do.
    pub fn new(tail: I, walks: Vec<KeyIter<'a, D>>) -> Self {
        let heads = BinaryHeap::with_capacity(walks.len());
        Self { tail: tail.peekable(), walks, heads, begun: false, failed: false }
    }

    fn advance(&mut self) -> Result<Option<Merged<T>>, SidecarError> {
        if !self.begun {
            self.begun = true;
            for walk in 0..self.walks.len() {
                self.pull(walk)?;
            }
        }
        let least = self.heads.peek().map(|head| head.key.as_slice());
        let tail = self.tail.next_if(|(key, _)| least.is_none_or(|least| key.as_slice() <= least));
        let mut merged = match (tail, least) {
            (Some((key, value)), _) => Merged { key, tail: Some(value), entries: Vec::new() },
            (None, Some(least)) => Merged { key: least.to_vec(), tail: None, entries: Vec::new() },
            (None, None) => return Ok(None),
        };
        while self.heads.peek().is_some_and(|head| head.key == merged.key) {
            let Some(head) = self.heads.pop() else { break };
            merged.entries.push((head.walk, head.entry));
            self.pull(head.walk)?;
        }
        Ok(Some(merged))
    }

    /// Fetches the next key of a walk.
    fn pull(&mut self, walk: usize) -> Result<(), SidecarError> {
        if let Some(next) = self.walks.get_mut(walk).and_then(Iterator::next) {
            let (key, entry) = next?;
            self.heads.push(Head { key, walk, entry });
        }
        Ok(())
    }
}

impl<D: Disk, T, I: Iterator<Item = (Vec<u8>, T)>> Iterator for Merge<'_, D, T, I> {
    type Item = Result<Merged<T>, SidecarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        // To go on would pass over keys, or show them without what a source says.
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.key, other.walk).cmp(&(&self.key, self.walk))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}
