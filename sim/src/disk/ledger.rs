//! What became of every fault of a disk.
//!
//! A fault that hits bytes has one [`Hit`] for each place. The disk sees by itself when a hit is
//! read, overwritten or gone; that the store told of it, only the world can tell
//! ([`Ledger::reported`]). At the end of a run every hit that was read must be settled.

use std::ops::Range;

use kdelta_engine::log::FileId;

use super::fault::Fault;

/// A row of the table of disk faults; see the module [`super`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table is in the documentation of the module above")]
pub enum Row {
    D1,
    D2,
    D3,
    D4,
    D5,
    D6,
    D7,
    D8,
    D9,
    D10,
    D11,
    D12,
    D13,
    D14,
    D15,
    D16,
    D17,
    D18,
    D19,
}

impl Row {
    /// All rows, in order.
    pub const ALL: [Self; 19] = [
        Self::D1,
        Self::D2,
        Self::D3,
        Self::D4,
        Self::D5,
        Self::D6,
        Self::D7,
        Self::D8,
        Self::D9,
        Self::D10,
        Self::D11,
        Self::D12,
        Self::D13,
        Self::D14,
        Self::D15,
        Self::D16,
        Self::D17,
        Self::D18,
        Self::D19,
    ];
}

/// How often each row was injected, and how often somebody met it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts([(u64, u64); Row::ALL.len()]);

impl Counts {
    /// Returns how many faults of a row were injected, and how many of their effects were met: an
    /// operation failed or took longer, or bad bytes were read.
    pub fn of(&self, row: Row) -> (u64, u64) {
        self.0.get(row as usize).copied().unwrap_or_default()
    }

    /// Adds those of another disk.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (own.0 + other.0, own.1 + other.1);
        }
    }

    fn count(&mut self, rows: &[Row], injected: u64, met: u64) {
        for row in rows {
            if let Some(count) = self.0.get_mut(*row as usize) {
                *count = (count.0 + injected, count.1 + met);
            }
        }
    }
}

/// Names a fault of one disk, in order of injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultId(pub usize);

/// Names a hit of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HitId(usize);

/// How far a fault or a hit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// It was taken away, overwritten, or its file is gone, before anybody met it.
    Masked,
    /// It was met, and its bytes are good again, or its file is gone or in quarantine.
    Repaired,
    /// It was met, and the store told of it.
    Reported,
    /// Whoever called was told, by an error, a delay or a restart.
    Told,
    /// It has not taken effect.
    Waiting,
    /// Bytes are bad and nobody has read them.
    Latent,
    /// Bad bytes were read, and nobody has told or mended anything.
    Open,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The fault.
    pub fault: Fault,
    /// When it was injected, in the world's time.
    pub injected: u64,
    /// When it first took effect: bytes went bad, or an operation was hit.
    pub effect: Option<u64>,
    /// How far it has come, if it hit no bytes.
    end: End,
}

/// Bad bytes in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// By which fault.
    pub fault: FaultId,
    /// The file that has the bytes now.
    pub file: FileId,
    /// The bytes as they were hit; part of them may have been overwritten since.
    pub range: Range<u64>,
    /// When it was first read.
    pub read: Option<u64>,
    /// How far it has come.
    pub end: End,
    /// How many pieces of the overlay are left of it.
    pieces: usize,
}

/// All faults of a disk and what became of them.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The world's time.
    pub(super) now: u64,
    entries: Vec<Entry>,
    hits: Vec<Hit>,
    counts: Counts,
}

impl Ledger {
    /// Returns all faults, in order of injection: the position is the [`FaultId`].
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns all hits, in order.
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// Returns the counts by row.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns the hits that were read and are not settled.
    pub fn unsettled(&self) -> impl Iterator<Item = &Hit> {
        self.hits.iter().filter(|hit| hit.end == End::Open)
    }

    /// Returns how far a fault has come: that of its hits which has most left to do.
    pub fn end(&self, id: FaultId) -> Option<End> {
        let own = self.entries.get(id.0)?.end;
        let hits = self.hits.iter().filter(|hit| hit.fault == id).map(|hit| hit.end);
        Some(hits.max().unwrap_or(own))
    }

    /// Notes that the store told of damage there. Returns how many open hits that settles.
    pub fn reported(&mut self, file: FileId, range: &Range<u64>) -> usize {
        self.settle(file, range, End::Reported)
    }

    /// Notes that the store has what was there from elsewhere. Returns how many open hits that
    /// settles.
    pub fn repaired(&mut self, file: FileId, range: &Range<u64>) -> usize {
        self.settle(file, range, End::Repaired)
    }

    fn settle(&mut self, file: FileId, range: &Range<u64>, end: End) -> usize {
        let there = |hit: &&mut Hit| {
            hit.end == End::Open && hit.file == file && overlap(&hit.range, range).is_some()
        };
        self.hits.iter_mut().filter(there).map(|hit| hit.end = end).count()
    }

    pub(super) fn enter(&mut self, fault: Fault, rows: &[Row]) -> FaultId {
        self.counts.count(rows, 1, 0);
        let (injected, effect, end) = (self.now, None, End::Waiting);
        self.entries.push(Entry { fault, injected, effect, end });
        FaultId(self.entries.len() - 1)
    }

    /// Notes that a fault hit an operation.
    pub(super) fn told(&mut self, id: FaultId, rows: &[Row]) {
        self.counts.count(rows, 0, 1);
        self.effect(id, End::Told);
    }

    fn effect(&mut self, id: FaultId, end: End) {
        if let Some(entry) = self.entries.get_mut(id.0) {
            entry.effect.get_or_insert(self.now);
            entry.end = end;
        }
    }

    /// Notes that a fault was taken away, or had nothing to hit.
    pub(super) fn over(&mut self, id: FaultId) {
        if let Some(entry) = self.entries.get_mut(id.0)
            && entry.end == End::Waiting
        {
            entry.end = End::Masked;
        }
        for hit in self.hits.iter_mut().filter(|hit| hit.fault == id && hit.end == End::Latent) {
            hit.end = End::Masked;
        }
    }

    /// Notes that bytes went bad: one piece.
    pub(super) fn strike(&mut self, fault: FaultId, file: FileId, range: Range<u64>) -> HitId {
        self.effect(fault, End::Latent);
        self.hits.push(Hit { fault, file, range, read: None, end: End::Latent, pieces: 1 });
        HitId(self.hits.len() - 1)
    }

    /// Notes that bad bytes were read.
    pub(super) fn read(&mut self, id: HitId) {
        let Some(hit) = self.hits.get_mut(id.0) else { return };
        if hit.read.is_none() {
            hit.read = Some(self.now);
            let rows = self.entries.get(hit.fault.0).map_or(&[][..], |entry| entry.fault.rows());
            self.counts.count(rows, 0, 1);
        }
        if hit.end == End::Latent {
            hit.end = End::Open;
        }
    }

    /// Notes that a piece of a hit fell into so many. Without pieces its bytes are good.
    pub(super) fn pieces(&mut self, id: HitId, of_one: usize) {
        let Some(hit) = self.hits.get_mut(id.0) else { return };
        hit.pieces = (hit.pieces + of_one).saturating_sub(1);
        if hit.pieces == 0 {
            good(hit);
        }
    }

    /// Notes that the file has another name.
    pub(super) fn moved(&mut self, id: HitId, to: FileId) {
        let Some(hit) = self.hits.get_mut(id.0) else { return };
        hit.file = to;
        if to.kind == kdelta_engine::log::FileKind::Quarantine {
            good(hit);
        }
    }

    pub(super) fn is_open(&self, id: HitId) -> bool {
        self.hits.get(id.0).is_some_and(|hit| hit.end == End::Open)
    }

    pub(super) fn range_of(&self, id: HitId) -> Range<u64> {
        self.hits.get(id.0).map_or(0..0, |hit| hit.range.clone())
    }

    pub(super) fn fault_of(&self, id: HitId) -> Option<FaultId> {
        self.hits.get(id.0).map(|hit| hit.fault)
    }
}

fn good(hit: &mut Hit) {
    hit.end = match hit.end {
        End::Latent => End::Masked,
        End::Open => End::Repaired,
        settled => settled,
    };
}

/// The bytes that two ranges share.
pub(super) fn overlap(a: &Range<u64>, b: &Range<u64>) -> Option<Range<u64>> {
    let both = a.start.max(b.start)..a.end.min(b.end);
    (both.start < both.end).then_some(both)
}
