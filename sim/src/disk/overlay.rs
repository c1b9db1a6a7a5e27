//! Bad bytes over good ones: what readers are shown instead of what the disk in memory holds.
//!
//! The disk in memory stays as it would be on a good medium, so a fault can be taken away. Writing
//! bytes anew takes away what is bad about them. After Tigerbeetle's simulated storage, which keeps
//! its faults beside its memory.

use std::collections::BTreeMap;
use std::ops::Range;

use kdelta_engine::log::FileId;

use super::ledger::{FaultId, HitId, Ledger, overlap};
use super::text::Times;

/// What is wrong with a piece.
#[derive(Debug, Clone)]
pub(super) enum Alter {
    /// These bits of its one byte are turned.
    Flip(u8),
    /// It reads as these bytes.
    Bytes(Vec<u8>),
    /// Reads fail.
    Unreadable(Times),
    /// Reads yield these bytes, which it once had.
    Stale(Vec<u8>, Times),
    /// Nothing any more; whoever reads it again sees good bytes.
    Spent,
}

#[derive(Debug, Clone)]
struct Piece {
    range: Range<u64>,
    /// The cache hides it until the power goes or the cache drops the file.
    hidden: bool,
    hit: HitId,
    alter: Alter,
}

/// A whole file that is another one, or none.
#[derive(Debug, Clone)]
struct Swap {
    content: Option<Vec<u8>>,
    hidden: bool,
    hit: HitId,
}

#[derive(Debug, Clone, Default)]
struct Layer {
    pieces: Vec<Piece>,
    swap: Option<Swap>,
}

/// The faults of all files.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    files: BTreeMap<FileId, Layer>,
}

impl Overlay {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn files(&self) -> Vec<FileId> {
        self.files.keys().copied().collect()
    }

    /// Lays one piece over a file, above those that are there.
    pub(super) fn add(
        &mut self,
        ledger: &mut Ledger,
        (id, hidden): (FaultId, bool),
        (file, range): (FileId, Range<u64>),
        alter: Alter,
    ) {
        let hit = ledger.strike(id, file, range.clone());
        let pieces = &mut self.files.entry(file).or_default().pieces;
        pieces.push(Piece { range, hidden, hit, alter });
    }

    /// Notes that a file is this one instead of itself, at once, or if it is hidden at the next
    /// loss of power.
    pub(super) fn swap(
        &mut self,
        ledger: &mut Ledger,
        (id, hidden): (FaultId, bool),
        (file, len): (FileId, u64),
        content: Option<Vec<u8>>,
    ) {
        self.remove(ledger, file);
        let hit = ledger.strike(id, file, 0..len.max(1));
        self.files.entry(file).or_default().swap = Some(Swap { content, hidden, hit });
    }

    /// Returns what a file is instead of itself, if readers see another one or none.
    pub(super) fn swapped(&self, ledger: &mut Ledger, file: FileId) -> Option<Option<&[u8]>> {
        let swap = self.files.get(&file)?.swap.as_ref().filter(|swap| !swap.hidden)?;
        ledger.read(swap.hit);
        Some(swap.content.as_deref())
    }

    /// Tells whether readers see no such file although there is one.
    pub(super) fn is_gone(&self, ledger: &mut Ledger, file: FileId) -> bool {
        let swap = self.files.get(&file).and_then(|layer| layer.swap.as_ref());
        let gone = swap.filter(|swap| !swap.hidden && swap.content.is_none());
        if let Some(swap) = gone {
            ledger.read(swap.hit);
        }
        gone.is_some()
    }

    /// Takes away what a file is instead of itself, and returns it.
    pub(super) fn take_swapped(
        &mut self,
        ledger: &mut Ledger,
        file: FileId,
    ) -> Option<Option<Vec<u8>>> {
        let swap = self.files.get(&file)?.swap.clone().filter(|swap| !swap.hidden)?;
        self.remove(ledger, file);
        Some(swap.content)
    }

    /// Shows a reader what is wrong with the good bytes in `buffer`. False if the read fails.
    pub(super) fn read(
        &mut self,
        ledger: &mut Ledger,
        file: FileId,
        offset: u64,
        buffer: &mut [u8],
    ) -> bool {
        let Some(layer) = self.files.get_mut(&file) else { return true };
        let whole = offset..offset + buffer.len() as u64;
        let mut again = false;
        for piece in layer.pieces.iter_mut().filter(|piece| !piece.hidden) {
            let Some(both) = overlap(&piece.range, &whole) else { continue };
            let Some(seen) = buffer.get_mut(inside(&both, whole.start)) else { continue };
            let within = inside(&both, piece.range.start);
            match &mut piece.alter {
                Alter::Flip(mask) => {
                    seen.iter_mut().for_each(|byte| *byte ^= *mask);
                    ledger.read(piece.hit);
                }
                Alter::Bytes(bytes) => {
                    if show(bytes, within, seen) {
                        ledger.read(piece.hit);
                    }
                }
                Alter::Stale(bytes, times) => {
                    if show(bytes, within, seen) {
                        ledger.read(piece.hit);
                        times.take();
                        if times.is_over() {
                            piece.alter = Alter::Spent;
                        }
                    }
                }
                Alter::Unreadable(times) => {
                    ledger.read(piece.hit);
                    times.take();
                    if times.is_over() {
                        piece.alter = Alter::Spent;
                    }
                    return false;
                }
                Alter::Spent => again = true,
            }
        }
        if again {
            self.carve(ledger, file, &whole, |alter| matches!(alter, Alter::Spent));
        }
        true
    }

    /// Notes that bytes were written anew, or cut off. What was stale about them stays.
    pub(super) fn written(&mut self, ledger: &mut Ledger, file: FileId, range: &Range<u64>) {
        self.carve(ledger, file, range, |alter| !matches!(alter, Alter::Stale(..)));
    }

    fn carve(
        &mut self,
        ledger: &mut Ledger,
        file: FileId,
        range: &Range<u64>,
        which: impl Fn(&Alter) -> bool,
    ) {
        let Some(layer) = self.files.get_mut(&file) else { return };
        let mut left = Vec::with_capacity(layer.pieces.len());
        for piece in layer.pieces.drain(..) {
            if overlap(&piece.range, range).is_none() || !which(&piece.alter) {
                left.push(piece);
                continue;
            }
            let Range { start, end } = piece.range;
            let rests = [start..range.start.min(end), range.end.max(start)..end];
            let rests = rests.into_iter().filter(|rest| rest.start < rest.end);
            let before = left.len();
            let hit = piece.hit;
            left.extend(rests.map(|rest| piece.part(rest)));
            ledger.pieces(hit, left.len() - before);
        }
        layer.pieces = left;
        if layer.pieces.is_empty() && layer.swap.is_none() {
            self.files.remove(&file);
        }
    }

    /// Notes that a file is gone, or is written anew as a whole.
    pub(super) fn remove(&mut self, ledger: &mut Ledger, file: FileId) {
        let Some(layer) = self.files.remove(&file) else { return };
        for hit in layer.hits() {
            ledger.pieces(hit, 0);
        }
    }

    /// Notes that a file has another name.
    pub(super) fn rename(&mut self, ledger: &mut Ledger, from: FileId, to: FileId) {
        self.remove(ledger, to);
        let Some(layer) = self.files.remove(&from) else { return };
        for hit in layer.hits() {
            ledger.moved(hit, to);
        }
        self.files.insert(to, layer);
    }

    /// Shows what the cache hid of a file. False if that was nothing.
    pub(super) fn show(&mut self, file: FileId) -> bool {
        let Some(layer) = self.files.get_mut(&file) else { return false };
        let pieces = layer.pieces.iter_mut().map(|piece| &mut piece.hidden);
        let all = pieces.chain(layer.swap.iter_mut().map(|swap| &mut swap.hidden));
        all.map(std::mem::take).fold(false, |any, hidden| any | hidden)
    }

    /// Returns the hits of a file that the cache hides, with their faults.
    pub(super) fn hidden(&self, ledger: &Ledger) -> Vec<(FaultId, FileId, Range<u64>)> {
        let mut found = Vec::new();
        for (file, layer) in &self.files {
            let pieces = layer.pieces.iter().map(|piece| (piece.hidden, piece.hit, &piece.range));
            let swap = layer.swap.iter().map(|swap| (swap.hidden, swap.hit, &(0..u64::MAX)));
            for (_, hit, range) in pieces.chain(swap).filter(|(hidden, ..)| *hidden) {
                found.extend(ledger.fault_of(hit).map(|fault| (fault, *file, range.clone())));
            }
        }
        found
    }

    /// Returns where readers may not see the good bytes, now or once the cache is dropped.
    pub(super) fn bad(&self) -> Vec<(FileId, Range<u64>)> {
        let layers = self.files.iter();
        let bad = layers.flat_map(|(file, layer)| {
            let pieces = layer.pieces.iter().filter(|piece| !matches!(piece.alter, Alter::Spent));
            let swap = layer.swap.iter().map(|_| 0..u64::MAX);
            pieces.map(|piece| piece.range.clone()).chain(swap).map(|range| (*file, range))
        });
        bad.collect()
    }

    /// Takes away what a fault did, or what all did. What a reader has met leaves a mark, until it
    /// is read again.
    pub(super) fn clear(&mut self, ledger: &Ledger, fault: Option<FaultId>) {
        let ours = |hit: HitId| fault.is_none() || ledger.fault_of(hit) == fault;
        self.files.retain(|_, layer| {
            let swap = layer.swap.take_if(|swap| ours(swap.hit));
            layer.pieces.retain(|piece| !ours(piece.hit) || ledger.is_open(piece.hit));
            for piece in layer.pieces.iter_mut().filter(|piece| ours(piece.hit)) {
                piece.alter = Alter::Spent;
            }
            if let Some(Swap { hit, .. }) = swap.filter(|swap| ledger.is_open(swap.hit)) {
                let range = ledger.range_of(hit);
                let alter = Alter::Spent;
                layer.pieces.push(Piece { range, hidden: false, hit, alter });
            }
            !layer.pieces.is_empty() || layer.swap.is_some()
        });
    }
}

impl Layer {
    fn hits(&self) -> impl Iterator<Item = HitId> {
        let pieces = self.pieces.iter().map(|piece| piece.hit);
        pieces.chain(self.swap.iter().map(|swap| swap.hit))
    }
}

impl Piece {
    /// The part of it that lies in `range`.
    fn part(&self, range: Range<u64>) -> Self {
        let within = inside(&range, self.range.start);
        let cut = |bytes: &[u8]| bytes.get(within.clone()).unwrap_or_default().to_vec();
        let alter = match &self.alter {
            Alter::Bytes(bytes) => Alter::Bytes(cut(bytes)),
            Alter::Stale(bytes, times) => Alter::Stale(cut(bytes), *times),
            other => other.clone(),
        };
        Self { range, alter, ..*self }
    }
}

/// Where bytes of a file lie in a buffer that begins at `start`.
fn inside(range: &Range<u64>, start: u64) -> Range<usize> {
    let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
    at(range.start)..at(range.end)
}

/// Puts a part of `bytes` into `seen`. False if they were equal.
fn show(bytes: &[u8], within: Range<usize>, seen: &mut [u8]) -> bool {
    let Some(part) = bytes.get(within).filter(|part| part.len() == seen.len()) else {
        return false;
    };
    let differs = part != &*seen;
    seen.copy_from_slice(part);
    differs
}
