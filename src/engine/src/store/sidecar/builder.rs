//! Makes a sidecar in one pass over sorted keys and commits.

use crate::base::{CommitId, Hash, Hlc, Writer};
use crate::limits;

use super::Lineage;
use super::block::{BlockBuilder, common_prefix};
use super::commits::{BY_ID, ROWS, RUNS};
use super::entry::{put_extent, put_value};
use super::filter::{self, KeyHash};
use super::footer::Footer;
use super::piece::{Checksum, Extent, Output};

/// A data block is closed once it has this many bytes: one read of a few microseconds.
const BLOCK_BYTES: usize = 8 << 10;
/// The same for an index node. The root is kept in memory, so it may be larger.
const NODE_BYTES: usize = 16 << 10;

const _: () = assert!(NODE_BYTES / (limits::SIDECAR_KEY_BYTES_MAX + 32) >= 8);

/// Collects what a sidecar is to hold and writes its bytes.
///
/// Keys come in strictly ascending order of their bytes, commits in strictly ascending order of
/// (index, seq); the two may interleave. In memory it keeps the bytes made so far unless they are
/// drained, 44 bytes per commit and 8 per key.
#[derive(Debug)]
pub struct Builder {
    store: [u8; 16],
    segment: u64,
    seal: Hash,
    out: Output,
    block: BlockBuilder,
    /// The key that separates the block being made from the one before.
    separator: Vec<u8>,
    /// The index nodes being made, lowest level first.
    nodes: Vec<BlockBuilder>,
    hashes: Vec<KeyHash>,
    value: Vec<u8>,
    rows: Vec<u8>,
    runs: Vec<Run>,
    ids: Vec<(u64, u32)>,
    blobs: Vec<(u8, Extent)>,
    hlc_min: Hlc,
    hlc_max: Hlc,
    lineage: Lineage,
}

/// Commits of one log whose seqs follow each other.
#[derive(Debug)]
struct Run {
    ix: u32,
    first: u64,
    count: u32,
    row: u32,
}

impl Builder {
    /// Starts the sidecar of segment `segment` of the store, whose sealed bytes hash to `seal`.
    pub fn new(store: [u8; 16], segment: u64, seal: Hash) -> Self {
        Self {
            store,
            segment,
            seal,
            out: Output::new(Checksum::new(&store, segment)),
            block: BlockBuilder::default(),
            separator: Vec::new(),
            nodes: Vec::new(),
            hashes: Vec::new(),
            value: Vec::new(),
            rows: Vec::new(),
            runs: Vec::new(),
            ids: Vec::new(),
            blobs: Vec::new(),
            hlc_min: Hlc(u64::MAX),
            hlc_max: Hlc(0),
            lineage: Lineage::default(),
        }
    }

    /// Adds a key: its folded state at the segment's end, if recorded, and the offsets of the
    /// records that touched it, strictly ascending.
    ///
    /// A state above [`limits::SIDECAR_STATE_BYTES_MAX`] is left out, as if none had been given.
    ///
    /// # Panics
    /// If keys or offsets do not ascend, or the key is above [`limits::SIDECAR_KEY_BYTES_MAX`].
    pub fn key(&mut self, key: &[u8], state: Option<&[u8]>, offsets: &[u32]) {
        let last = self.block.last();
        assert!(self.hashes.is_empty() || last < key, "keys of a sidecar ascend strictly");
        assert!(key.len() <= limits::SIDECAR_KEY_BYTES_MAX, "a key of {} bytes", key.len());
        if self.block.is_empty() && !self.hashes.is_empty() {
            // The shortest key that is above the last block and not above this key.
            let separator = key.get(..=common_prefix(last, key)).unwrap_or(key);
            self.separator.clear();
            self.separator.put(separator);
        }
        let state = state.filter(|state| state.len() <= limits::SIDECAR_STATE_BYTES_MAX);
        self.value.clear();
        put_value(&mut self.value, &mut self.out, state, offsets);
        self.block.push(key, &self.value);
        self.hashes.push(KeyHash::new(key));
        if self.block.len() >= BLOCK_BYTES {
            self.finish_block();
        }
    }

    /// Adds a commit: the one numbered `seq` of the log with index `ix`, recorded at `offset`.
    ///
    /// # Panics
    /// If the pairs (`ix`, `seq`) do not ascend, or `seq` is the greatest number there is.
    pub fn commit(&mut self, ix: u32, seq: u64, offset: u32, id: &CommitId) {
        #[expect(clippy::cast_possible_truncation, reason = "asserted in the next line")]
        let row = self.ids.len() as u32;
        assert!(self.ids.len() < u32::MAX as usize, "too many commits for one segment");
        assert!(seq < u64::MAX, "a log has fewer than 2^63 commits");
        match self.runs.last_mut() {
            Some(run) if run.ix == ix && run.first + u64::from(run.count) == seq => run.count += 1,
            last => {
                let end = last.map(|run| (run.ix, run.first + u64::from(run.count)));
                assert!(end.is_none_or(|end| end < (ix, seq)), "commits of a sidecar ascend");
                self.runs.push(Run { ix, first: seq, count: 1, row });
            }
        }
        self.rows.put_u32(offset);
        self.rows.put(id.as_bytes());
        let front = id.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
        self.ids.push((u64::from_be_bytes(front), row));
    }

    /// Widens the range of stamps by that of one commit.
    pub fn observe(&mut self, stamp: Hlc) {
        self.hlc_min = self.hlc_min.min(stamp);
        self.hlc_max = self.hlc_max.max(stamp);
    }

    /// Says where the sidecar stands among the others.
    pub fn lineage(&mut self, lineage: Lineage) {
        self.lineage = lineage;
    }

    /// Adds a named section of the caller's own, at most [`limits::SIDECAR_PIECE_BYTES_MAX`] bytes.
    ///
    /// # Panics
    /// If it is larger, or there is one of this tag.
    pub fn blob(&mut self, tag: u8, bytes: &[u8]) {
        assert!(self.blobs.iter().all(|(other, _)| *other != tag), "a second blob of tag {tag}");
        let extent = self.out.piece(bytes);
        self.blobs.push((tag, extent));
    }

    /// Takes the bytes of the file that are made so far, so that they need not stay in memory.
    ///
    /// They follow what was drained before; [`finish`](Self::finish) then returns only the rest.
    pub fn drain(&mut self) -> Vec<u8> {
        self.out.drain()
    }

    /// Completes the file and returns its bytes (those that were not drained).
    pub fn finish(mut self) -> Vec<u8> {
        let (root, depth) = self.finish_keys();
        let filter = filter::build(&self.hashes, filter::seed(&self.store, self.segment));
        let filter = self.out.piece(&filter);
        let rows = ROWS.write(&mut self.out, &self.rows);
        let mut run_rows = Vec::with_capacity(self.runs.len() * RUNS.width);
        for run in &self.runs {
            run_rows.put_u32(run.ix);
            run_rows.put_u64(run.first);
            run_rows.put_u32(run.row);
            run_rows.put_u32(run.count);
        }
        let runs_at = RUNS.write(&mut self.out, &run_rows);
        let runs_fence = RUNS.write_fence(&mut self.out, &run_rows);
        let by_id_rows = self.sorted_ids();
        let by_id = BY_ID.write(&mut self.out, &by_id_rows);
        let by_id_fence = BY_ID.write_fence(&mut self.out, &by_id_rows);
        let blobs = self.finish_blobs();
        let footer = Footer {
            store: self.store,
            segment: self.segment,
            seal: self.seal,
            keys: count32(self.hashes.len()),
            commits: count32(self.ids.len()),
            runs: count32(self.runs.len()),
            depth,
            root,
            filter,
            rows,
            runs_at,
            runs_fence,
            by_id,
            by_id_fence,
            blobs,
            hlc_min: self.hlc_min.0,
            hlc_max: self.hlc_max.0,
            lineage: self.lineage,
        };
        self.out.piece(&footer.encode());
        self.out.drain()
    }

    fn finish_block(&mut self) {
        let extent = self.block.finish(|bytes| self.out.piece(bytes));
        let separator = std::mem::take(&mut self.separator);
        self.push_node(0, &separator, extent);
        self.separator = separator;
    }

    /// Adds a child to the index, closing full nodes upwards.
    fn push_node(&mut self, level: usize, separator: &[u8], child: Extent) {
        let mut value = Vec::with_capacity(16);
        put_extent(&mut value, child);
        if self.nodes.len() == level {
            self.nodes.push(BlockBuilder::default());
        }
        let Some(node) = self.nodes.get_mut(level) else { return };
        let full = node.len() >= NODE_BYTES;
        let closed = full.then(|| {
            let first = node.first().to_vec();
            (first, node.finish(|bytes| self.out.piece(bytes)))
        });
        node.push(separator, &value);
        if let Some((first, extent)) = closed {
            self.push_node(level + 1, &first, extent);
        }
    }

    /// Closes all that is open and returns the root of the index and its number of levels.
    fn finish_keys(&mut self) -> (Extent, u32) {
        if !self.block.is_empty() {
            self.finish_block();
        }
        let mut level = 0;
        while let Some(node) = self.nodes.get_mut(level) {
            let first = node.first().to_vec();
            let extent = node.finish(|bytes| self.out.piece(bytes));
            level += 1;
            if level == self.nodes.len() {
                let depth = count32(level);
                assert!(depth <= limits::SIDECAR_DEPTH_MAX, "an index of {depth} levels");
                return (extent, depth);
            }
            self.push_node(level, &first, extent);
        }
        (Extent::default(), 0)
    }

    /// Returns the rows of the table that is sorted by commit id.
    fn sorted_ids(&mut self) -> Vec<u8> {
        let id = |row: u32| self.rows.chunks_exact(ROWS.width).nth(row as usize);
        // Eight bytes decide nearly always; the whole ids and then the numbers do otherwise.
        self.ids.sort_unstable_by(|(front, row), (other_front, other_row)| {
            let whole = || id(*row).map(|r| r.get(4..)).cmp(&id(*other_row).map(|r| r.get(4..)));
            front.cmp(other_front).then_with(whole).then(row.cmp(other_row))
        });
        let mut rows = Vec::with_capacity(self.ids.len() * BY_ID.width);
        for (front, row) in &self.ids {
            // The upper half, so that the bytes are the id's first four.
            rows.put(front.to_be_bytes().get(..4).unwrap_or_default());
            rows.put_u32(*row);
        }
        rows
    }

    fn finish_blobs(&mut self) -> Extent {
        let mut directory = Vec::new();
        for (tag, extent) in &self.blobs {
            directory.put_u8(*tag);
            put_extent(&mut directory, *extent);
        }
        self.out.piece(&directory)
    }
}

fn count32(count: usize) -> u32 {
    assert!(u32::try_from(count).is_ok(), "a segment has fewer than 2^32 things");
    #[expect(clippy::cast_possible_truncation, reason = "just asserted")]
    let count = count as u32;
    count
}
