//! Draws a fault for a disk as it is.

use std::ops::Range;

use kdelta_engine::base::Rng;
use kdelta_engine::log::{CrashMode, DiskErrorKind, FileId, FileKind};

use super::SimDisk;
use super::fault::Fault;
use super::ledger::Row;
use super::text::{On, Op, Times};

/// Tells whether bytes may be made bad. Bytes that are not written yet are asked for as a range
/// that begins at the end of the file and ends at `u64::MAX`.
type Allowed<'a> = &'a mut dyn FnMut(FileId, Range<u64>) -> bool;

/// How many places are tried before a draw gives up.
const TRIES: usize = 8;

/// The largest count of operations that pass before a fault is due, but one.
const PASS: u64 = 6;

impl Fault {
    /// Draws a fault of one of the rows for a disk: the row first, then its parts. None if there is
    /// nothing for it to hit, or nothing that may be hit.
    pub fn draw(disk: &SimDisk, rng: &mut Rng, rows: &[Row], allowed: Allowed<'_>) -> Option<Self> {
        let row = one(rng, rows)?;
        let (pass, times) = (count(rng, PASS), Times::Count(1 + count(rng, 2)));
        Some(match row {
            Row::D1 => {
                use CrashMode::{GarbageTail, KeepAll, LoseAll, Prefix, ZeroTail};
                let mode = one(rng, &[LoseAll, KeepAll, Prefix, ZeroTail, GarbageTail])?;
                Self::Crash { mode, seed: rng.u64() }
            }
            Row::D2 => Self::Crash { mode: CrashMode::Torn(sector(rng)), seed: rng.u64() },
            Row::D3 => Self::Crash { mode: CrashMode::Sectors(sector(rng)), seed: rng.u64() },
            Row::D4 => Self::Crash { mode: CrashMode::EntryLost, seed: rng.u64() },
            Row::D5 => {
                let (on, error, old) = (on(rng), DiskErrorKind::Io, rng.below(2) == 0);
                Self::FailSync { on, pass, times, error, old }
            }
            Row::D6 if rng.below(2) == 0 => Self::Kill {},
            Row::D6 => Self::Evict { file: one(rng, &disk.memory().all_files())? },
            Row::D7 => full(disk, rng, (pass, times))?,
            Row::D8 => {
                let (file, range) = place(disk, rng, allowed)?;
                let times = if rng.below(2) == 0 { Times::Always } else { times };
                Self::Unreadable { file, range, times }
            }
            Row::D9 => rot(disk, rng, allowed)?,
            Row::D10 => {
                let written = growing(disk, rng, allowed)?;
                let (to, range) = place(disk, rng, allowed)?;
                Self::Misdirect { on: On::File(written), pass, to, offset: range.start }
            }
            Row::D11 => stale(disk, rng, times, allowed)?,
            Row::D12 => Self::LoseSync { on: On::File(growing(disk, rng, allowed)?), pass },
            Row::D13 => Self::ShortWrite { on: on(rng), pass, keep: rng.below(600) },
            Row::D14 => {
                use Op::{Allocate, Remove, Rename, Replace, Sync, Truncate, Write};
                let all = [Allocate, Remove, Rename, Replace, Sync, Truncate, Write];
                Self::LoseAnswer { op: one(rng, &all)?, on: On::Any, pass }
            }
            Row::D15 => Self::PowerOff { after: rng.below(12) },
            Row::D16 => Self::PowerOff { after: rng.below(60) },
            Row::D17 => {
                let op = one(rng, &[Op::Read, Op::Write, Op::Sync, Op::Replace, Op::Any])?;
                if rng.below(6) == 0 {
                    Self::Stuck { op, on: on(rng), pass }
                } else {
                    // From 1 ms to 30 s, as often short as long.
                    let us = (1000 << rng.below(15)) + rng.below(1000);
                    Self::Slow { op, on: on(rng), pass, times, us }
                }
            }
            Row::D18 => whole(disk, rng, allowed)?,
            Row::D19 if rng.below(3) == 0 => Self::ReadOnly {},
            Row::D19 => {
                let error = one(rng, &[DiskErrorKind::Denied, DiskErrorKind::Busy])?;
                Self::Refuse { op: one(rng, &Op::ALL)?, on: on(rng), pass, times, error }
            }
        })
    }
}

fn full(disk: &SimDisk, rng: &mut Rng, (pass, times): (u32, Times)) -> Option<Fault> {
    let error = DiskErrorKind::Full;
    Some(match rng.below(3) {
        0 => {
            let files = disk.memory().all_files();
            let used: u64 = files.iter().filter_map(|file| disk.memory().size(*file)).sum();
            Fault::Space { bytes: used + rng.below(1 << 14) }
        }
        1 => Fault::FailSync { on: on(rng), pass, times, error, old: rng.below(2) == 0 },
        _ => {
            let op = one(rng, &[Op::Create, Op::Write, Op::Allocate, Op::Replace, Op::Rename])?;
            Fault::Refuse { op, on: on(rng), pass, times, error }
        }
    })
}

fn rot(disk: &SimDisk, rng: &mut Rng, allowed: Allowed<'_>) -> Option<Fault> {
    let (file, range) = place(disk, rng, allowed)?;
    let slots = disk.slots();
    Some(match rng.below(4) {
        0 => Fault::Zero { file, range },
        1 => Fault::Garble { file, range, seed: rng.u64() },
        2 if !slots.is_empty() => Fault::Revert { file, range, slot: one(rng, &slots)? },
        _ => {
            let byte = range.start + rng.below(range.end - range.start);
            Fault::Flip { file, bit: byte * 8 + rng.below(8) }
        }
    })
}

/// Something that changes later: where the file grows, or what is replaced as a whole.
fn stale(disk: &SimDisk, rng: &mut Rng, times: Times, allowed: Allowed<'_>) -> Option<Fault> {
    let file = growing(disk, rng, allowed)?;
    let used = used(disk, file);
    let start = used.saturating_sub(rng.below(512));
    let range = start..used + 1 + rng.below(4096);
    Some(Fault::Stale { file, range, times })
}

/// The whole disk: an image saved, an old one put back, or nothing left.
fn whole(disk: &SimDisk, rng: &mut Rng, allowed: Allowed<'_>) -> Option<Fault> {
    let slots = disk.slots();
    if slots.is_empty() || rng.below(3) == 0 {
        return Some(Fault::Save { slot: count(rng, 3) });
    }
    let files = disk.memory().all_files();
    let spared = files.into_iter().find(|file| {
        let size = disk.memory().size(*file).unwrap_or(0);
        !allowed(*file, 0..size)
    });
    match spared {
        Some(_) => None,
        None if rng.below(4) == 0 => Some(Fault::Wipe {}),
        None => Some(Fault::Restore { slot: one(rng, &slots)? }),
    }
}

/// Draws bytes that may be made bad: up to a sector, where something was written.
fn place(disk: &SimDisk, rng: &mut Rng, allowed: Allowed<'_>) -> Option<(FileId, Range<u64>)> {
    let files = disk.memory().all_files();
    for _ in 0..TRIES {
        let file = one(rng, &files)?;
        let used = used(disk, file);
        if used == 0 {
            continue;
        }
        let size = u64::from(sector(rng));
        let start = rng.below(used) / size * size;
        let range = start..(start + size).min(used);
        if allowed(file, range.clone()) {
            return Some((file, range));
        }
    }
    None
}

/// Draws a file that is likely to be written again, and whose coming bytes may be lost.
fn growing(disk: &SimDisk, rng: &mut Rng, allowed: Allowed<'_>) -> Option<FileId> {
    let mut files = disk.memory().all_files();
    let newest = files.iter().filter(|file| file.kind == FileKind::Segment).max().copied();
    files.retain(|file| Some(*file) == newest || file.kind != FileKind::Segment);
    let file = match newest {
        Some(newest) if rng.below(2) == 0 => newest,
        _ => one(rng, &files)?,
    };
    allowed(file, used(disk, file)..u64::MAX).then_some(file)
}

/// Where the last byte of a file lies that is not zero: behind it the space is only reserved.
fn used(disk: &SimDisk, file: FileId) -> u64 {
    let content = disk.bytes_at(file, 0..u64::MAX).unwrap_or_default();
    content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

fn on(rng: &mut Rng) -> On {
    match rng.below(4) {
        0 | 1 => On::Any,
        2 => On::Kind(FileKind::Segment),
        _ => one(rng, &FileKind::ALL).map_or(On::Any, On::Kind),
    }
}

fn sector(rng: &mut Rng) -> u32 {
    one(rng, &[1, 512, 512, 4096]).unwrap_or(512)
}

fn count(rng: &mut Rng, below: u64) -> u32 {
    u32::try_from(rng.below(below)).unwrap_or(0)
}

fn one<T: Copy>(rng: &mut Rng, all: &[T]) -> Option<T> {
    if all.is_empty() {
        return None;
    }
    all.get(usize::try_from(rng.below(all.len() as u64)).unwrap_or(0)).copied()
}
