//! The tree over a log's commit ids: grows, proves, and is saved in pieces.

use std::sync::OnceLock;

use super::{Edge, leaf, node};
use crate::base::{CodecError, CommitId, Hash, Reader, Writer, sha256};
use crate::limits;

/// Complete subtrees of 2^8 leaves and more are cached.
const BLOCK_LEVEL: u32 = 8;

/// The RFC 6962 tree over the commit ids of one log.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    edge: Edge,
    /// The complete subtrees of 256 leaves.
    blocks: Level,
    /// At `k` those of 2^(9+k) leaves. They follow from the blocks, and are not there before a
    /// proof is asked for: most trees are only loaded and saved.
    upper: OnceLock<Vec<Level>>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        (&self.edge, &self.blocks) == (&other.edge, &other.blocks)
    }
}

impl Eq for Tree {}

/// Roots of neighbouring subtrees of one size, up to the last complete one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Level {
    /// The index of the first that is cached.
    first: u64,
    roots: Vec<Hash>,
}

/// Why a tree cannot give a root or a proof.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The leaf or size asked for is not in this tree.
    #[error("the tree has {size} leaves, which is too few")]
    OutOfRange {
        /// How many leaves it has.
        size: u64,
    },
    /// The caller could not supply a commit id that is needed.
    #[error("the id of leaf {index} is not known")]
    MissingId {
        /// The index of the leaf: the commit's seq less one.
        index: u64,
    },
    /// The proof to start from is not one for that leaf and size.
    #[error("the proof to extend has the wrong length")]
    WrongLength,
}

/// The proof that the last leaf of a shorter tree lies in a longer one.
#[derive(Debug, Clone, Copy)]
pub struct PrefixProof<'a> {
    /// How many leaves the prefix has; the proof is for its last, at index `prefix - 1`.
    pub prefix: u64,
    /// How many leaves the whole tree has.
    pub size: u64,
    /// The siblings, from the leaf up.
    pub hashes: &'a [Hash],
}

/// Supplies commit ids by leaf index (the seq less one).
pub(super) type Ids<'a> = &'a dyn Fn(u64) -> Option<CommitId>;

impl Tree {
    /// Returns how many leaves there are.
    pub fn size(&self) -> u64 {
        self.edge.size
    }

    /// Adds the id of the log's next commit.
    pub fn append(&mut self, id: &CommitId) {
        let (blocks, mut upper) = (&mut self.blocks, self.upper.get_mut());
        self.edge.append(leaf(id), |level, index, root| {
            let level = match level.checked_sub(BLOCK_LEVEL) {
                None => return,
                Some(0) => &mut *blocks,
                Some(k) => {
                    let (Some(upper), k) = (upper.as_deref_mut(), k as usize) else { return };
                    if upper.len() < k {
                        upper.resize(k, Level::default());
                    }
                    let Some(level) = upper.get_mut(k - 1) else { return };
                    level
                }
            };
            if level.roots.is_empty() {
                level.first = index;
            }
            level.roots.push(*root);
        });
    }

    /// Returns the root over all leaves.
    pub fn root(&self) -> Hash {
        self.edge.root()
    }

    /// Returns the root over the first `size` leaves.
    ///
    /// # Errors
    /// [`TreeError::OutOfRange`], or [`TreeError::MissingId`] for ids at the right edge of `size`
    /// or in a part that is not cached.
    pub fn root_at(&self, size: u64, ids: Ids<'_>) -> Result<Hash, TreeError> {
        if size > self.size() {
            return Err(TreeError::OutOfRange { size: self.size() });
        }
        self.range(0, size, ids)
    }

    /// Returns the siblings of the leaf at `index` in the tree of the first `size` leaves, from
    /// the leaf up.
    ///
    /// # Errors
    /// [`TreeError::OutOfRange`], or [`TreeError::MissingId`] for ids near the leaf, at the right
    /// edge of `size`, or in a part that is not cached.
    pub fn proof(&self, index: u64, size: u64, ids: Ids<'_>) -> Result<Vec<Hash>, TreeError> {
        if index >= size || size > self.size() {
            return Err(TreeError::OutOfRange { size: self.size() });
        }
        let mut siblings = Vec::new();
        for step in path(index, 0, size) {
            siblings.push(self.range(step.sibling.0, step.sibling.1, ids)?);
        }
        siblings.reverse();
        Ok(siblings)
    }

    /// Returns the proof of the leaf at `index` in a tree that is longer than this one.
    ///
    /// `known` is the proof of a leaf at or after `index`, of which this tree holds all leaves up
    /// to there. So a relay that holds part of a log vouches for any shorter part.
    ///
    /// # Errors
    /// As [`Tree::proof`], and [`TreeError::WrongLength`].
    pub fn extend_proof(
        &self,
        index: u64,
        known: PrefixProof<'_>,
        ids: Ids<'_>,
    ) -> Result<Vec<Hash>, TreeError> {
        let PrefixProof { prefix, size, hashes } = known;
        if index >= prefix || prefix > self.size() || prefix > size {
            return Err(TreeError::OutOfRange { size: self.size() });
        }
        let known_path = path(prefix - 1, 0, size);
        if known_path.len() != hashes.len() {
            return Err(TreeError::WrongLength);
        }
        let own_path = path(index, 0, size);
        let shared = own_path.iter().zip(&known_path).take_while(|(a, b)| a == b).count();
        // `hashes` runs from the leaf up, paths run from the root down.
        let upper = hashes.get(hashes.len() - shared..).unwrap_or_default();
        let mut proof = Vec::with_capacity(own_path.len());
        // Below the fork in the ways all is in the own tree, but for the sibling at the fork: that
        // is the subtree with the known leaf, rebuilt from its proof.
        for (depth, step) in own_path.iter().enumerate().skip(shared).rev() {
            proof.push(if depth == shared {
                let below = known_path.get(shared + 1..).unwrap_or_default();
                let last = self.range(prefix - 1, prefix, ids)?;
                below.iter().rev().zip(hashes).fold(last, |hash, (step, sibling)| {
                    if step.goes_right { node(sibling, &hash) } else { node(&hash, sibling) }
                })
            } else {
                self.range(step.sibling.0, step.sibling.1, ids)?
            });
        }
        proof.extend_from_slice(upper);
        Ok(proof)
    }

    /// Appends size, right edge and the cached blocks of 256 leaves from block `from` on.
    ///
    /// Each save can so leave out what an earlier one holds; see [`Tree::prepend`].
    pub fn encode(&self, from: u64, out: &mut impl Writer) {
        out.put_varint(self.size());
        for peak in &self.edge.peaks {
            out.put(peak);
        }
        let (first, roots) = self.blocks(from);
        out.put_varint(first);
        for root in roots {
            out.put(root);
        }
    }

    /// Takes what [`Tree::encode`] wrote. The hashes are believed: these bytes are derived data,
    /// and a wrong one only makes proofs that do not verify.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let size = reader.varint()?;
        if size > limits::SEQ_MAX {
            return Err(CodecError::TooLarge("tree"));
        }
        let peaks = (0..size.count_ones()).map(|_| reader.hash()).collect::<Result<_, _>>()?;
        let first = reader.varint()?;
        let blocks = (size >> BLOCK_LEVEL)
            .checked_sub(first)
            .ok_or(CodecError::NotCanonical("cached blocks lie in the tree"))?;
        if blocks > reader.remaining() as u64 / 32 {
            return Err(CodecError::Truncated);
        }
        let roots = (0..blocks).map(|_| reader.hash()).collect::<Result<_, _>>()?;
        let blocks = Level { first, roots };
        Ok(Self { edge: Edge { size, peaks }, blocks, upper: OnceLock::new() })
    }

    /// Returns the index of the first cached block and all cached blocks from `from` on.
    pub fn blocks(&self, from: u64) -> (u64, &[Hash]) {
        let end = self.size() >> BLOCK_LEVEL;
        if self.blocks.roots.is_empty() {
            return (end, &[]);
        }
        let from = from.clamp(self.blocks.first, end);
        let skip = usize::try_from(from - self.blocks.first).unwrap_or(usize::MAX);
        (from, self.blocks.roots.get(skip..).unwrap_or_default())
    }

    /// Puts older blocks, as an earlier save held them, before the cached ones. Tells whether
    /// they fit there; if not, nothing changes.
    pub fn prepend(&mut self, first: u64, roots: &[Hash]) -> bool {
        let (cached, _) = self.blocks(0);
        if first.checked_add(roots.len() as u64) != Some(cached) {
            return false;
        }
        self.blocks = Level { first, roots: [roots, self.blocks(0).1].concat() };
        self.upper = OnceLock::new();
        true
    }

    /// Returns the root over the leaves `from..to`, where `from` is a start of RFC 6962's split.
    fn range(&self, from: u64, to: u64, ids: Ids<'_>) -> Result<Hash, TreeError> {
        let len = to - from;
        if len == 0 {
            return Ok(sha256("", &[]));
        }
        if len.is_power_of_two() {
            let level = len.trailing_zeros();
            return self.subtree(level, from >> level, ids);
        }
        let middle = from + split(len);
        Ok(node(&self.range(from, middle, ids)?, &self.range(middle, to, ids)?))
    }

    /// Returns the root of a complete subtree of 2^`level` leaves, the `index`-th of its size.
    fn subtree(&self, level: u32, index: u64, ids: Ids<'_>) -> Result<Hash, TreeError> {
        if let Some(root) = self.edge.peak(level, index).or_else(|| self.cached(level, index)) {
            return Ok(root);
        }
        if level == 0 {
            return ids(index).map(|id| leaf(&id)).ok_or(TreeError::MissingId { index });
        }
        let left = self.subtree(level - 1, index * 2, ids)?;
        Ok(node(&left, &self.subtree(level - 1, index * 2 + 1, ids)?))
    }

    fn cached(&self, level: u32, index: u64) -> Option<Hash> {
        let level = match level.checked_sub(BLOCK_LEVEL)? {
            0 => &self.blocks,
            k => self.upper.get_or_init(|| self.blocks.upper()).get(k as usize - 1)?,
        };
        let at = usize::try_from(index.checked_sub(level.first)?).ok()?;
        level.roots.get(at).copied()
    }
}

impl Level {
    /// Returns the levels that follow from this one, up to the last that has a root.
    fn upper(&self) -> Vec<Self> {
        let mut levels: Vec<Self> = Vec::new();
        loop {
            let level = levels.last().unwrap_or(self);
            // A pair begins at an even index.
            let skip = usize::from(level.first & 1 == 1);
            let (pairs, _) = level.roots.get(skip..).unwrap_or_default().as_chunks::<2>();
            if pairs.is_empty() {
                return levels;
            }
            let roots = pairs.iter().map(|[left, right]| node(left, right)).collect();
            let first = level.first.div_ceil(2);
            levels.push(Self { first, roots });
        }
    }
}

/// One step from the root down to a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Whether the way goes into the right half.
    goes_right: bool,
    /// The range of leaves in the other half.
    sibling: (u64, u64),
}

/// Returns the way from the root over the leaves `from..to` down to the leaf at `index`.
fn path(index: u64, mut from: u64, mut to: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        let goes_right = index >= middle;
        let sibling = if goes_right { (from, middle) } else { (middle, to) };
        steps.push(Step { goes_right, sibling });
        if goes_right { from = middle } else { to = middle }
    }
    steps
}

/// Returns the largest power of two below `len`, which is at least 2.
fn split(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}
