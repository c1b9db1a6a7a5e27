//! What must hold, whatever happens.

mod again;
mod early;
pub(crate) mod facts;
mod glance;
mod lost;
mod rest;
mod stamps;
pub(crate) mod wire;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kdelta_engine::base::Key;

use crate::byzantine::TRESPASSED;
use crate::draw::Stream;
use crate::world::{Repair, World};

use rest::Rest;

/// A promise that was broken, and where it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which promise, in a few words.
    pub invariant: &'static str,
    /// What was seen.
    pub seen: String,
}

impl Broken {
    /// Names a broken promise.
    pub fn new(invariant: &'static str, seen: impl Into<String>) -> Self {
        Self { invariant, seen: seen.into() }
    }

    /// Does something. Where it stops at an assertion, of the engine's or of an app's, that is a
    /// promise that was broken, and what was done so far can be looked at.
    ///
    /// # Errors
    /// What the assertion says.
    pub(crate) fn caught<T>(act: impl FnOnce() -> T) -> Result<T, Self> {
        catch_unwind(AssertUnwindSafe(act)).map_err(|cause| {
            let said = cause.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| cause.downcast_ref::<&str>().copied());
            Self::new(STOPPED, said.unwrap_or("it stopped"))
        })
    }
}

/// What is broken where something stops at an assertion.
pub(crate) const STOPPED: &str = "nothing stops at an assertion";

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.seen)
    }
}

impl World {
    /// Checks a store that was just opened: it is not called damaged where no disk ever was, or it
    /// was found whole and nothing came since; it holds what its users were told is durable; and a
    /// second opening of the same disk finds the same.
    pub(crate) fn check_start(&mut self, at: usize) {
        let space = self.space;
        let told = self.facts.told.get(&at).cloned().unwrap_or_default();
        let whole = !self.some_bytes_went_bad() || self.is_still_whole(at);
        let Some(seat) = self.seats.get_mut(at) else { return };
        seat.seen.clear();
        // Where all of it must be there, that is held against its disk once it is durable.
        seat.refused |= whole;
        let (life, seat_bad) = (seat.life, seat.disk.bad());
        let Some(store) = seat.node.as_mut().map(|node| node.store()) else { return };
        if !store.has_space(&space) {
            return;
        }
        if let Some(damage) = store.damage().filter(|_| whole) {
            let seen = format!("seat {at}, on a disk with nothing bad: {damage}");
            self.facts.broken = Some(Broken::new("what is whole is not called damaged", seen));
            return;
        }
        // What bad bytes hide is missed until they are repaired, and then looked for.
        let hidden = store.damage().is_some() || !seat_bad.is_empty();
        for tip in told.iter().filter(|_| !hidden) {
            if !facts::holds(store, &space, tip) {
                let seen = format!(
                    "seat {at} lost {} of {} at {}; it holds {:?} of {} promised, damage {:?}",
                    facts::short(&tip.id),
                    tip.log,
                    tip.seq,
                    store.version(&space).map(|v| v.get(&tip.log)),
                    told.len(),
                    store.damage()
                );
                self.facts.broken = Some(Broken::new("acknowledged is durable", seen));
                return;
            }
        }
        // What a failing disk did not take is there in memory, and not for a second opening.
        if life % OPENINGS_A_SECOND != 0 || seat.disk_faults {
            return;
        }
        let first = facts::show(store, &space);
        let image = again::image_of(&seat.disk);
        let now = seat_now();
        let again = seat.open(image, &self.options, [1; 32], now);
        let second = match again {
            Ok(mut store) => facts::show(&mut store, &space),
            Err(error) => {
                let seen = format!("seat {at} opens once, and then not: {error}");
                self.facts.broken = Some(Broken::new("recovery can be repeated", seen));
                return;
            }
        };
        if first != second {
            let seen = format!("seat {at} opens to different states");
            self.facts.broken = Some(Broken::new("recovery can be repeated", seen));
        }
    }

    /// Mends everything, waits until all is at rest, and checks what must hold then.
    ///
    /// # Errors
    /// [`Broken`], the first that is found.
    pub fn end(&mut self) -> Result<(), Broken> {
        self.heal();
        if self.options.annihilation {
            return self.end_bereft();
        }
        let mut rest = Rest::default();
        let healed_ms = self.wall_ms();
        let (mut ahead_ms, mut past_ms) = (0, 0);
        loop {
            // What was stamped far in the future is taken when its time has come. A replica that
            // is damaged tells only once it is whole.
            let latest_ms = self.latest_ms().max(self.awaited_ms().unwrap_or(0));
            ahead_ms = latest_ms.saturating_sub(healed_ms).max(ahead_ms);
            if past_ms + HEAL_STEP_MS > HEAL_MS_MAX + ahead_ms {
                break;
            }
            past_ms += HEAL_STEP_MS;
            self.run_for(HEAL_STEP_MS)?;
            // One may have begun anew on an empty disk, and be known to nobody.
            self.join_copies();
            self.check_due(healed_ms)?;
            if self.is_at_rest(&mut rest) {
                self.check_values()?;
                self.check_end()?;
                self.check_silence()?;
                self.check_news()?;
                self.check_disks()?;
                return self.check_last_openings();
            }
        }
        // A name of its own, so that a scenario that is cut down goes on to break this.
        let repaired = |seat: &crate::world::Seat| seat.repair == Repair::Whole;
        let repaired =
            self.members().into_iter().all(|at| self.seats.get(at).is_some_and(repaired));
        let promise = if repaired { UNEQUAL } else { UNREPAIRED };
        Err(Broken::new(promise, self.why_not(HEAL_MS_MAX)))
    }

    /// Returns the latest stamp that anybody holds, in milliseconds since 1970.
    pub(super) fn latest_ms(&mut self) -> u64 {
        let (space, awake) = (self.space, self.members());
        let latest = awake.into_iter().filter_map(|at| self.store(at)?.latest(&space).ok());
        latest.map(|stamp| stamp.wall().0).max().unwrap_or(0)
    }

    /// Tells whether nobody waits for an answer.
    fn is_quiet(&self) -> bool {
        self.seats.iter().all(|seat| seat.is_answered())
    }

    /// Says what each seat holds so long after all was to be at rest, and what it lacks.
    fn why_not(&mut self, after_ms: u64) -> String {
        let space = self.space;
        let mut out = format!("after {} s", after_ms / 1000);
        if !self.all_are_in() {
            out.push_str("; somebody with a good ticket is not in");
        }
        for at in self.members() {
            if let Some(repair) = self.seats.get(at).map(|seat| &seat.repair)
                && *repair != Repair::Whole
            {
                out.push_str(&format!("; seat {at} is not repaired: {repair:?}"));
            }
            let Some(store) = self.store(at) else { continue };
            let hash = store.state_hash(&space).ok().flatten();
            let state = hash.map_or("nothing".to_owned(), |h| kdelta_engine::base::hex(&h[..4]));
            if let Some(damage) = store.damage() {
                out.push_str(&format!("; seat {at}: {damage}"));
            } else if let Some(segment) = store.loss(&space) {
                out.push_str(&format!("; seat {at}: segment {segment} lost commits"));
            }
            if let Err(error) = store.value_hash(&space) {
                out.push_str(&format!("; seat {at}: {error}"));
            }
            if store.unvouched(&space).is_ok_and(|ends| !ends.is_empty()) {
                out.push_str(&format!("; seat {at}: nothing vouches for a log"));
            }
            let (waiting, version) = (store.waiting_len(), store.version(&space));
            let version = version.map(|v| v.iter().map(|(_, seq)| seq).sum::<u64>());
            let sum = version.unwrap_or(0);
            out.push_str(&format!("; seat {at}: state {state}, {sum} commits, {waiting} wait"));
        }
        out
    }

    fn check_end(&mut self) -> Result<(), Broken> {
        let (space, owned) = (self.space, self.options.owned);
        let told: Vec<_> = self.facts.told.values().flatten().copied().collect();
        for at in self.members() {
            let Some(store) = self.store(at) else { continue };
            for tip in &told {
                if !facts::holds(store, &space, tip) {
                    let seen = format!("{} is not on seat {at}", facts::short(&tip.id));
                    return Err(Broken::new("acknowledged is durable", seen));
                }
            }
            // Whatever the oracle says of it: the key that is written without a right alone.
            let shown = Key::new(TRESPASSED).map(|key| store.get(&space, &key, None));
            if owned && !matches!(shown, Ok(Ok(None))) {
                let seen = format!("seat {at} shows {TRESPASSED}");
                return Err(Broken::new("without a right nothing counts", seen));
            }
        }
        self.check_oracle()
    }

    /// Holds one replica against the fold of what its own disk holds: all hold the same by now.
    fn check_oracle(&mut self) -> Result<(), Broken> {
        let awake = self.members();
        let Some(at) = awake.get(self.draws.of(Stream::Swarm, 2).index(awake.len())).copied()
        else {
            return Ok(());
        };
        self.compare(at)
    }
}

fn seat_now() -> kdelta_engine::base::Now {
    use kdelta_engine::base::{Instant, Now, WallTime};
    Now { mono: Instant(0), wall: WallTime(1_800_000_000_000) }
}

/// The promise that is broken where replicas differ in the end.
pub(crate) const UNEQUAL: &str = "all end equal";
/// The same where somebody is not repaired in time.
pub(crate) const UNREPAIRED: &str = "what is damaged is made whole";
/// At every so manieth start the disk is opened a second time.
const OPENINGS_A_SECOND: u32 = 2;
/// How long after everything was mended all must be equal, in milliseconds: a dial is tried anew
/// after at most 61 s, digests are compared each minute, what waits for its time is tried each 5 s.
const HEAL_MS_MAX: u64 = 600_000;
/// How often that is looked at, in milliseconds.
const HEAL_STEP_MS: u64 = 500;
