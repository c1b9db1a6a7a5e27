//! Stamps: what a replica writes is stamped after all that it showed before, through restarts and
//! whatever its clock does, and nothing counts there before its time has come.
//!
//! That stamps grow from commit to commit is the oracle's and each peer's affair; this looks at
//! what one replica knows of, and at its own clock.

use kdelta_engine::base::Hlc;
use kdelta_engine::limits::DRIFT_MS_MAX;

use super::Broken;
use crate::world::World;

impl World {
    /// Checks that something new which counts at a seat is not too far ahead of its clock, unless
    /// it was written there: the stamps of its own commits grow whatever its clock does. What was
    /// there, and could not be read for a while, is not new, though the clock went back meanwhile.
    pub(super) fn check_time(&mut self, at: usize, latest: Hlc, wrote: bool) {
        let wall = self.now(at).wall;
        self.facts.latest = latest.max(self.facts.latest);
        let Some(seat) = self.seats.get_mut(at) else { return };
        let before = std::mem::replace(&mut seat.shown, latest);
        if wrote {
            seat.wrote = latest.max(seat.wrote);
        }
        let ahead_ms = latest.wall().0.saturating_sub(wall.0);
        let is_new = latest > before && latest > seat.wrote;
        let again = latest <= seat.reached;
        seat.reached = latest.max(seat.reached);
        if is_new && ahead_ms > DRIFT_MS_MAX && !(again && self.some_bytes_went_bad()) {
            let seen = format!("seat {at} took what is stamped {ahead_ms} ms ahead of its clock");
            self.facts.broken = Some(Broken::new("nothing counts before its time", seen));
        }
    }

    /// Checks that what came before its time counts everywhere soon after that has come, and need
    /// not come again: long after all was mended, and where nothing takes its room.
    pub(super) fn check_due(&mut self, healed_ms: u64) -> Result<(), Broken> {
        let due_ms = self.latest_ms().saturating_sub(DRIFT_MS_MAX);
        let wall_ms = self.wall_ms();
        let roomy = self.options.memory_bytes >= ROOMY_BYTES;
        let peaceful = self.seats.iter().all(|seat| seat.enemy.is_none());
        let taken = !(due_ms + SOON_MS..due_ms + LATE_MS).contains(&wall_ms);
        if taken || due_ms < healed_ms + SETTLED_MS || !roomy || !peaceful {
            return Ok(());
        }
        let (space, awake) = (self.space, self.members());
        let latest = |at: usize| {
            let store = self.store(at)?;
            Some((store.latest(&space).ok()?, store.waiting_len()))
        };
        let all: Vec<(Hlc, usize)> = awake.into_iter().filter_map(latest).collect();
        if all.windows(2).all(|two| two.first().map(|one| one.0) == two.last().map(|one| one.0)) {
            return Ok(());
        }
        let seen = format!("{SOON_MS} ms after its time some lack it; latest, waiting: {all:?}");
        Err(Broken::new("what waits for its time counts then", seen))
    }

    /// Returns the time from which on nothing waits for its time any more that honest replicas
    /// wrote, in milliseconds since 1970; none if nothing waits at all. Where it was written it may
    /// be lost: who has it then tells nobody before.
    pub(super) fn awaited_ms(&mut self) -> Option<u64> {
        let due_ms = self.facts.latest.wall().0.saturating_sub(DRIFT_MS_MAX);
        let members = self.members();
        let mut waiting = members.into_iter().filter_map(|at| Some(self.store(at)?.waiting_len()));
        waiting.any(|commits| commits > 0).then_some(due_ms + SOON_MS)
    }

    /// Checks the stamp of what was just written at a seat. A stamp of something that the disk
    /// refused is free again.
    pub(crate) fn check_stamp(&mut self, at: usize, stamp: Hlc) {
        self.facts.latest = stamp.max(self.facts.latest);
        let Some(seat) = self.seats.get_mut(at) else { return };
        let shown = if seat.disk_faults { Hlc::default() } else { seat.shown };
        let told = seat.told;
        seat.shown = stamp;
        seat.wrote = stamp.max(seat.wrote);
        let damaged = seat.node.as_ref().is_some_and(|n| n.store_ref().damage().is_some());
        let hidden = damaged || !seat.disk.bad().is_empty();
        if stamp <= shown || stamp <= told && !hidden {
            let seen = format!("seat {at} writes at {stamp:?}, and knew {shown:?} and {told:?}");
            self.facts.broken = Some(Broken::new("stamps grow", seen));
        }
    }

    /// Checks that a store that was just opened goes on from the latest stamp that users were told
    /// of, unless bad bytes hide it.
    pub(crate) fn check_resumed(&mut self, at: usize) {
        let space = self.space;
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Some(store) = seat.node.as_ref().map(|node| node.store_ref()) else { return };
        let latest = store.latest(&space).unwrap_or_default();
        seat.shown = latest;
        seat.reached = latest.max(seat.reached);
        let hidden = store.damage().is_some() || !seat.disk.bad().is_empty();
        if latest < seat.told && store.has_space(&space) && !hidden {
            let seen = format!("seat {at} goes on from {latest:?}, and promised {:?}", seat.told);
            self.facts.broken.get_or_insert(Broken::new("stamps grow", seen));
        }
    }
}

/// How soon after its time a commit counts, in milliseconds: what waits is tried each five seconds.
const SOON_MS: u64 = 7_000;
/// Until when that is looked at.
const LATE_MS: u64 = 9_000;
/// How long after all was mended everybody has everything, be it that it waits.
const SETTLED_MS: u64 = 200_000;
/// With so much memory there is room for all that waits in a world without hostile peers.
const ROOMY_BYTES: usize = 2 << 20;
