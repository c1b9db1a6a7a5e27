//! An ascending walk over the keys of a sidecar.

use std::ops::Bound;
use std::sync::Arc;

use crate::log::Disk;

use super::block::{Block, Cursor};
use super::piece::Extent;
use super::{Entry, Sidecar, SidecarError};

/// Yields keys with their entries, ascending. After an error it ends.
///
/// It holds one data block and, below the root, one index node per level at a time.
#[derive(Debug)]
pub struct KeyIter<'a, D> {
    sidecar: &'a Sidecar<D>,
    from: Bound<Vec<u8>>,
    /// The nodes above the block, with the place of the next child in each.
    path: Vec<Node>,
    leaf: Option<Leaf>,
    begun: bool,
}

#[derive(Debug)]
struct Node {
    block: Arc<Block>,
    extent: Extent,
    next: usize,
}

#[derive(Debug)]
struct Leaf {
    block: Arc<Block>,
    extent: Extent,
    cursor: Cursor,
}

impl<'a, D: Disk> KeyIter<'a, D> {
    pub(super) fn new(sidecar: &'a Sidecar<D>, from: Bound<&[u8]>) -> Self {
        let from = from.map(<[u8]>::to_vec);
        Self { sidecar, from, path: Vec::new(), leaf: None, begun: false }
    }

    fn advance(&mut self) -> Result<Option<(Vec<u8>, Entry)>, SidecarError> {
        if !self.begun {
            self.begun = true;
            self.seek()?;
        }
        while let Some(leaf) = &mut self.leaf {
            let malformed = self.sidecar.source.malformed(leaf.extent.offset);
            match leaf.cursor.step(&leaf.block).map_err(malformed)? {
                Some(_) if before(leaf.cursor.key(), &self.from) => {}
                Some(value) => {
                    let entry = self.sidecar.entry(&leaf.block, value, leaf.extent)?;
                    let key = leaf.cursor.key().to_vec();
                    return Ok(Some((key, entry)));
                }
                None => {
                    self.leaf = None;
                    self.next_leaf()?;
                }
            }
        }
        Ok(None)
    }

    /// Goes down to the block where the first key must lie.
    fn seek(&mut self) -> Result<(), SidecarError> {
        let Some(root) = self.sidecar.root()? else { return Ok(()) };
        let from = match &self.from {
            Bound::Included(key) | Bound::Excluded(key) => key.clone(),
            Bound::Unbounded => Vec::new(),
        };
        let mut block = Arc::clone(root);
        let mut extent = self.sidecar.footer.root;
        for _ in 0..self.sidecar.footer.depth {
            let malformed = self.sidecar.source.malformed(extent.offset);
            // The first separator is empty, so there is one at most any key.
            let Some(floor) = block.floor(&from).map_err(malformed)? else {
                return Err(self.sidecar.source.damaged(extent.offset, "an index without begin"));
            };
            let child = self.sidecar.child(&block, floor.value, extent)?;
            self.path.push(Node { block, extent, next: floor.next });
            block = self.sidecar.block(child)?;
            extent = child;
        }
        let cursor = block.cursor(&from).map_err(self.sidecar.source.malformed(extent.offset))?;
        self.leaf = Some(Leaf { block, extent, cursor });
        Ok(())
    }

    /// Goes on to the next block, if there is one.
    fn next_leaf(&mut self) -> Result<(), SidecarError> {
        let depth = self.sidecar.footer.depth as usize;
        while let Some(node) = self.path.last_mut() {
            let malformed = self.sidecar.source.malformed(node.extent.offset);
            let Some((value, next)) = node.block.value_at(node.next).map_err(malformed)? else {
                self.path.pop();
                continue;
            };
            node.next = next;
            let extent = self.sidecar.child(&node.block, value, node.extent)?;
            let block = self.sidecar.block(extent)?;
            if self.path.len() == depth {
                self.leaf = Some(Leaf { block, extent, cursor: Cursor::default() });
                return Ok(());
            }
            self.path.push(Node { block, extent, next: 0 });
        }
        Ok(())
    }
}

impl<D: Disk> Iterator for KeyIter<'_, D> {
    type Item = Result<(Vec<u8>, Entry), SidecarError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if matches!(item, None | Some(Err(_))) {
            self.path.clear();
            self.leaf = None;
        }
        item
    }
}

/// Says whether `key` lies before the range that begins at `from`.
fn before(key: &[u8], from: &Bound<Vec<u8>>) -> bool {
    match from {
        Bound::Included(from) => key < from.as_slice(),
        Bound::Excluded(from) => key <= from.as_slice(),
        Bound::Unbounded => false,
    }
}
