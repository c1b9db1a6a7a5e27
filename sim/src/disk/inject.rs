//! What injecting a fault does, and taking it away.

use std::ops::Range;
use std::sync::Arc;

use kdelta_engine::base::{Rng, sha256};
use kdelta_engine::log::{CrashMode, Faults, FileId, MemoryDisk};

use super::State;
use super::arm::Armed;
use super::fault::Fault;
use super::ledger::{End, FaultId, Row};
use super::ops::is_off;
use super::overlay::Alter;
use super::text::Times;

/// How far beyond the end of a file a stale part of it may reach, in bytes: no scenario can ask for
/// more memory than that.
const STALE_BEYOND_END: u64 = 1 << 20;

impl State {
    pub(super) fn inject(&mut self, memory: &MemoryDisk, fault: Fault) -> FaultId {
        let power_off = matches!(fault, Fault::PowerOff { .. });
        let rows = if power_off { self.power_rows() } else { fault.rows() };
        let id = self.ledger.enter(fault.clone(), rows);
        if let Some(armed) = Armed::new(id, &fault) {
            self.armed.push(armed);
            return id;
        }
        let worked = match &fault {
            Fault::Space { .. } | Fault::ReadOnly {} | Fault::PowerOff { .. } => {
                self.switch(memory, id, &fault)
            }
            Fault::Evict { .. } | Fault::Kill {} | Fault::Crash { .. } => {
                self.lose_cache(memory, id, &fault)
            }
            Fault::Wipe {} => self.replace_all(memory, id, &MemoryDisk::new()),
            Fault::Save { slot } => {
                let image = memory.snapshot();
                image.crash(CrashMode::KeepAll, &mut rng(0));
                self.images.insert(*slot, Arc::new(image));
                self.ledger.told(id, fault.rows());
                true
            }
            Fault::Restore { slot } => match self.images.get(slot).cloned() {
                Some(image) => self.replace_all(memory, id, &image),
                None => false,
            },
            Fault::Cut { file, len } => self.cut(memory, id, *file, Some(*len)).is_some(),
            Fault::Gone { file } => self.cut(memory, id, *file, None).is_some(),
            media => self.rot(memory, id, media).is_some(),
        };
        if !worked {
            self.ledger.over(id);
        }
        id
    }

    /// A power-off in recovery is a row of its own.
    pub(super) fn power_rows(&self) -> &'static [Row] {
        if self.recovering { &[Row::D15] } else { &[Row::D16] }
    }

    /// Turns a switch of the disk in memory; the fault that held it before is over.
    fn switch(&mut self, memory: &MemoryDisk, id: FaultId, fault: &Fault) -> bool {
        let off = is_off(memory);
        let held = match fault {
            Fault::Space { bytes } => {
                memory.faults(|faults| faults.space = Some(*bytes));
                &mut self.switches.space
            }
            Fault::ReadOnly {} => {
                memory.faults(|faults| faults.read_only = true);
                &mut self.switches.read_only
            }
            Fault::PowerOff { after } if !off => {
                memory.faults(|faults| faults.power_off_in = Some(*after));
                &mut self.switches.power
            }
            _ => return false,
        };
        if let Some(before) = held.replace(id) {
            self.ledger.over(before);
        }
        true
    }

    /// Makes bytes bad. None if there are none.
    fn rot(&mut self, memory: &MemoryDisk, id: FaultId, fault: &Fault) -> Option<()> {
        let (file, range) = place(fault)?;
        self.settle_swap(memory, file);
        let size = memory.size(file).unwrap_or(0);
        let stale = matches!(fault, Fault::Stale { .. });
        let limit = if stale { size.saturating_add(STALE_BEYOND_END) } else { size };
        let range = range.start..range.end.min(limit);
        if range.start >= range.end {
            return None;
        }
        let len = usize::try_from(range.end - range.start).ok()?;
        let sized = |mut bytes: Vec<u8>| {
            bytes.resize(len, 0);
            bytes
        };
        let alter = match fault {
            Fault::Flip { bit, .. } => Alter::Flip(1 << (bit % 8)),
            Fault::Zero { .. } => Alter::Bytes(vec![0; len]),
            Fault::Garble { seed, .. } => {
                let mut rng = rng(*seed);
                Alter::Bytes((0..len).flat_map(|_| rng.bytes::<1>()).collect())
            }
            Fault::Revert { slot, .. } => {
                let image = self.images.get(slot)?;
                Alter::Bytes(sized(image.part(file, range.clone()).unwrap_or_default()))
            }
            Fault::Unreadable { times: Times::Count(0), .. }
            | Fault::Stale { times: Times::Count(0), .. } => return None,
            Fault::Unreadable { times, .. } => Alter::Unreadable(*times),
            Fault::Stale { times, .. } => {
                Alter::Stale(sized(memory.part(file, range.clone()).unwrap_or_default()), *times)
            }
            _ => return None,
        };
        self.overlay.add(&mut self.ledger, (id, false), (file, range), alter);
        Some(())
    }

    /// Leaves `len` bytes of a file, or no file. None if there are no more anyway.
    fn cut(
        &mut self,
        memory: &MemoryDisk,
        id: FaultId,
        file: FileId,
        len: Option<u64>,
    ) -> Option<()> {
        self.settle_swap(memory, file);
        let whole = memory.part(file, 0..u64::MAX)?;
        let size = whole.len() as u64;
        let left = match len {
            Some(len) if len >= size => return None,
            Some(len) => Some(whole.get(..usize::try_from(len).ok()?)?.to_vec()),
            None => None,
        };
        self.overlay.swap(&mut self.ledger, (id, false), (file, size), left);
        Some(())
    }

    /// Ends the process, or the power, or drops a file from the cache.
    fn lose_cache(&mut self, memory: &MemoryDisk, id: FaultId, fault: &Fault) -> bool {
        let stake = memory.at_stake();
        let mut met: Vec<Row> = Vec::new();
        match fault {
            Fault::Evict { file } => {
                let before = memory.part(*file, 0..u64::MAX);
                memory.evict(*file);
                let shown = self.overlay.show(*file);
                if shown || memory.part(*file, 0..u64::MAX) != before {
                    met.push(Row::D6);
                }
            }
            Fault::Kill {} => {
                if stake.changes > 0 || self.sync_failed {
                    met.push(Row::D6);
                }
                self.recovering = true;
            }
            Fault::Crash { mode, seed } => {
                // Nobody may have asked for anything since the power went.
                if is_off(memory)
                    && let Some(power) = self.switches.power
                    && self.ledger.end(power) == Some(End::Waiting)
                {
                    self.ledger.told(power, self.power_rows());
                }
                memory.crash(*mode, &mut rng(*seed));
                self.without_power(memory);
                let lost = |row: &&Row| match row {
                    Row::D4 => stake.entries > 0,
                    _ => stake.changes > 0,
                };
                met.extend(fault.rows().iter().filter(lost));
            }
            _ => return false,
        }
        self.ledger.told(id, &met);
        true
    }

    /// After the power went: what the cache hid is seen, and nothing hangs.
    fn without_power(&mut self, memory: &MemoryDisk) {
        for file in self.overlay.files() {
            self.overlay.show(file);
            match memory.size(file) {
                Some(len) => self.overlay.written(&mut self.ledger, file, &(len..u64::MAX)),
                None => self.overlay.remove(&mut self.ledger, file),
            }
        }
        if let Some(power) = self.switches.power.take() {
            self.ledger.over(power);
        }
        let ledger = &mut self.ledger;
        self.armed.retain(|armed| {
            let stuck = matches!(armed.fault, Fault::Stuck { .. });
            if stuck {
                ledger.over(armed.id);
            }
            !stuck
        });
        self.clock.waited.clear();
        (self.recovering, self.sync_failed) = (true, false);
    }

    /// Puts the files of an image in the place of all files.
    fn replace_all(&mut self, memory: &MemoryDisk, id: FaultId, image: &MemoryDisk) -> bool {
        for file in self.overlay.files() {
            self.overlay.remove(&mut self.ledger, file);
        }
        memory.take_over(image);
        (self.recovering, self.sync_failed) = (true, false);
        self.ledger.told(id, &[Row::D18]);
        true
    }

    pub(super) fn clear(&mut self, memory: &MemoryDisk, id: FaultId) {
        let ours = |held: &mut Option<FaultId>| held.take_if(|held| *held == id).is_some();
        if ours(&mut self.switches.space) {
            memory.faults(|faults| faults.space = None);
        }
        if ours(&mut self.switches.read_only) {
            memory.faults(|faults| faults.read_only = false);
        }
        if !is_off(memory) && ours(&mut self.switches.power) {
            memory.faults(|faults| faults.power_off_in = None);
        }
        self.armed.retain(|armed| armed.id != id);
        self.overlay.clear(&self.ledger, Some(id));
        self.ledger.over(id);
    }

    pub(super) fn heal(&mut self, memory: &MemoryDisk) {
        let off = is_off(memory);
        memory.faults(|faults| {
            *faults = Faults { power_off_in: off.then_some(0), ..Faults::default() };
        });
        let power = self.switches.power.filter(|_| off);
        self.switches = super::Switches { power, ..super::Switches::default() };
        self.armed.clear();
        self.overlay.clear(&self.ledger, None);
        for id in 0..self.ledger.entries().len() {
            if Some(FaultId(id)) != power {
                self.ledger.over(FaultId(id));
            }
        }
    }
}

/// The bytes that a fault of the medium names.
fn place(fault: &Fault) -> Option<(FileId, Range<u64>)> {
    match fault {
        Fault::Flip { file, bit } => Some((*file, bit / 8..bit / 8 + 1)),
        Fault::Zero { file, range }
        | Fault::Garble { file, range, .. }
        | Fault::Revert { file, range, .. }
        | Fault::Unreadable { file, range, .. }
        | Fault::Stale { file, range, .. } => Some((*file, range.clone())),
        _ => None,
    }
}

/// The choices of one fault.
pub(super) fn rng(seed: u64) -> Rng {
    Rng::new(sha256("kdelta/sim/disk", &[&seed.to_le_bytes()]))
}
