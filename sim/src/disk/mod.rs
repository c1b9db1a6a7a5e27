//! The disk of the simulator: a disk in memory, with faults that are injected one by one.
//!
//! [`SimDisk`] adds to [`MemoryDisk`], which knows what is durable and what is pending, an overlay
//! of bad bytes, operations that wait for their failure, delays, and a [`Ledger`] of what became of
//! each fault. Faults are plain data ([`Fault`]); whoever injects an equal list at equal moments
//! gets an equal disk. It draws nothing by itself, keeps no time, and knows nothing of other disks:
//! a caller that must not hit the last good copy says so when a fault is drawn ([`Fault::draw`]),
//! or spares what is still hidden before it cuts the power ([`SimDisk::hidden`]).
//!
//! | row | fault | here |
//! |---|---|---|
//! | D1 | un-synced writes lost | `crash`, all modes |
//! | D2 | torn writes | `crash` with `sectors:N`, `torn:N` |
//! | D3 | un-synced writes reordered | `crash` with `sectors:N` |
//! | D4 | directory entries lost or back again | `crash` with `entrylost`, others by chance |
//! | D5 | failed sync | `fail-sync`, with `old=` for what readers see after it |
//! | D6 | cache and medium differ | `kill` (the cache stays), `evict` (it does not) |
//! | D7 | disk full | `space`, `refuse error=full`, `fail-sync error=full` |
//! | D8 | read errors | `unreadable`, `refuse op=read error=io` |
//! | D9 | rot, files cut short or gone | `flip`, `zero`, `garble`, `revert`, `cut`, `gone` |
//! | D10 | misdirected write | `misdirect` |
//! | D11 | stale read | `stale` |
//! | D12 | lost write: the sync lied | `lose-sync` |
//! | D13 | short write | `short-write` |
//! | D14 | the answer to a change is lost | `lose-answer` |
//! | D15, D16 | power off after n changes, in recovery and after it | `power-off` |
//! | D17 | slow and stuck operations | `slow`, `stuck` |
//! | D18 | wiped, an old image, a copy | `wipe`, `save`, `restore`, [`SimDisk::copy`] |
//! | D19 | read-only, denied, too many files | `read-only`, `refuse error=denied`, `error=busy` |
//!
//! Not expressible over [`Disk`](kdelta_engine::log::Disk): a rename or replacement that is torn
//! (D14: it promises both to be atomic; a replacement that is lost whole is `lose-sync`); a
//! misdirected read, a short read or an interrupted call (D11, D13: reads are exact, the host
//! loops); an entry lost although the sync was true (D4: the sync covers it); bad memory (D20: out
//! of the model); two processes on one store (D21: the host's lock); file times (D22: there are
//! none).

mod arm;
mod delay;
mod draw;
mod fault;
mod inject;
mod ledger;
mod ops;
mod overlay;
mod text;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kdelta_engine::base::Rng;
use kdelta_engine::log::{CrashMode, FileId, MemoryDisk};

pub use delay::{Delay, Latency};
pub use fault::Fault;
pub use ledger::{Counts, End, Entry, FaultId, Hit, Ledger, Row};
pub use text::{On, Op, ParseFaultError, Times};

use arm::Armed;
use delay::Clock;
use overlay::Overlay;

/// A disk with faults. Share it by `Arc` to keep a hold on it while a store uses it.
#[derive(Debug, Default)]
pub struct SimDisk {
    memory: MemoryDisk,
    /// Whether there is anything to look up: while not, the disk in memory is asked at once.
    busy: AtomicBool,
    /// How many operations it was asked for.
    asked: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    overlay: Overlay,
    ledger: Ledger,
    clock: Clock,
    armed: Vec<Armed>,
    switches: Switches,
    /// Saved images, by number.
    images: BTreeMap<u32, Arc<MemoryDisk>>,
    /// From a restart until the world says that the store is open.
    recovering: bool,
    /// Whether the cache holds what a failed sync did not write.
    sync_failed: bool,
}

/// The faults behind the switches of the disk in memory.
#[derive(Debug, Clone, Copy, Default)]
struct Switches {
    space: Option<FaultId>,
    read_only: Option<FaultId>,
    power: Option<FaultId>,
}

impl SimDisk {
    /// Makes an empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the disk as it is now, faults, ledger and un-synced changes included: to go on from
    /// one moment in several ways.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            memory: self.memory.snapshot(),
            busy: AtomicBool::new(self.busy.load(Ordering::Relaxed)),
            asked: AtomicU64::default(),
            state: Mutex::new(self.lock().clone()),
        }
    }

    /// Returns a disk with the good bytes of this one and none of its faults: a copied store.
    #[must_use]
    pub fn copy(&self) -> Self {
        let disk = Self::new();
        disk.memory.take_over(&self.memory);
        disk
    }

    /// Returns the disk in memory, which has the good bytes. Changing it goes past the ledger.
    pub fn memory(&self) -> &MemoryDisk {
        &self.memory
    }

    /// Injects a fault, from now on or at once. Around one that [`Fault::restarts`] the store must
    /// be closed and opened. One that finds nothing to hit is in the ledger as masked.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.with(|state, memory| state.inject(memory, fault))
    }

    /// Takes a fault away: bytes that are bad by it are good again. What a reader has met stays
    /// open in the ledger; what was overwritten or lost with the power does not come back.
    pub fn clear(&self, id: FaultId) {
        self.with(|state, memory| state.clear(memory, id));
    }

    /// Takes all faults away, as for a time in which the store must get whole again. Only a power
    /// that is off stays off until the crash.
    pub fn heal(&self) {
        self.with(State::heal);
    }

    /// Cuts the power and turns it on again.
    pub fn crash(&self, mode: CrashMode, rng: &mut Rng) -> FaultId {
        self.inject(Fault::Crash { mode, seed: rng.u64() })
    }

    /// Tells the disk that the store was opened after a restart: what power-offs hit from now on is
    /// no recovery (row D16, not D15).
    pub fn recovered(&self) {
        self.lock().recovering = false;
    }

    /// Tells whether the power is off: nothing works until the crash.
    pub fn is_off(&self) -> bool {
        ops::is_off(&self.memory)
    }

    /// Returns the good bytes of a part of a file, cut off at its end; None without the file.
    pub fn bytes_at(&self, file: FileId, range: Range<u64>) -> Option<Vec<u8>> {
        self.memory.part(file, range)
    }

    /// Returns where readers may not see the good bytes, now or once the cache is dropped. A file
    /// that is another one altogether is bad up to `u64::MAX`.
    pub fn bad(&self) -> Vec<(FileId, Range<u64>)> {
        self.lock().overlay.bad()
    }

    /// Returns what went bad on the medium and is hidden by the cache, with the faults that did it.
    /// A caller with a budget looks at it before it cuts the power, and clears what must not be.
    pub fn hidden(&self) -> Vec<(FaultId, FileId, Range<u64>)> {
        let state = self.lock();
        state.overlay.hidden(&state.ledger)
    }

    /// Returns the numbers of the saved images.
    pub fn slots(&self) -> Vec<u32> {
        self.lock().images.keys().copied().collect()
    }

    /// Works with the ledger.
    pub fn ledger<R>(&self, work: impl FnOnce(&mut Ledger) -> R) -> R {
        work(&mut self.lock().ledger)
    }

    /// Returns how many operations it was asked for since it was made, reads included.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns the counts by row.
    pub fn counts(&self) -> Counts {
        self.lock().ledger.counts().clone()
    }

    /// Tells the disk the world's time, for the ledger.
    pub fn tell_time(&self, now: u64) {
        self.lock().ledger.now = now;
    }

    /// Sets how long operations take, and what the times are drawn from.
    pub fn set_latency(&self, latency: Latency, seed: u64) {
        self.with(|state, _| state.clock.set(latency, seed));
    }

    /// Returns how long the operations took since the last call, one after the other.
    pub fn take_delay(&self) -> Delay {
        if self.is_quiet() {
            return Delay::default();
        }
        self.with(|state, _| std::mem::take(&mut state.clock.spent))
    }

    /// Returns how long the next sync of a file will take, for a caller that lets that time pass
    /// before it syncs: the sync itself then takes none. A stuck one is asked for again after the
    /// fault was taken away.
    pub fn sync_delay(&self, file: FileId) -> Delay {
        if self.is_quiet() {
            return Delay::default();
        }
        self.with(|state, _| {
            let delay = state.delay(Op::Sync, file);
            if !delay.stuck {
                state.clock.waited.insert(file);
            }
            delay
        })
    }

    fn is_quiet(&self) -> bool {
        !self.busy.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the faults, and notes afterwards whether there are any left.
    fn with<R>(&self, work: impl FnOnce(&mut State, &MemoryDisk) -> R) -> R {
        let mut state = self.lock();
        let done = work(&mut state, &self.memory);
        self.busy.store(state.is_busy(), Ordering::Relaxed);
        done
    }
}

impl State {
    fn is_busy(&self) -> bool {
        let switches = [self.switches.space, self.switches.read_only, self.switches.power];
        !self.armed.is_empty()
            || !self.overlay.is_empty()
            || switches.iter().any(Option::is_some)
            || self.clock.latency != Latency::NONE
            || self.clock.spent != Delay::default()
            || !self.clock.waited.is_empty()
    }
}
