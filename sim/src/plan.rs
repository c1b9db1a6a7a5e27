//! What happens in a run, drawn from its seed.

use kdelta_engine::base::{Rng, sha256};

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A replica writes.
    Write {
        /// Which replica.
        replica: usize,
        /// What is done to which key.
        what: What,
    },
    /// Two replicas are connected, if they are not.
    Connect(usize, usize),
    /// Their connection breaks off.
    Cut(usize, usize),
    /// A replica's power fails: its disk keeps what was synced, and of the rest what the mode says.
    Crash {
        /// Which replica.
        replica: usize,
        /// Which of [`kdelta_engine::log::CrashMode::ALL`].
        mode: usize,
    },
    /// A replica's disk is copied, and the copy runs beside it under the same key.
    Copy(usize),
    /// Time passes, in milliseconds.
    Wait(u64),
    /// A replica's wall clock jumps by that many milliseconds.
    Jump(usize, i64),
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Adds to one of a few counters.
    Count(u8, i64),
    /// Puts one of a few registers.
    Put(u8, u32),
    /// Adds an element to a set.
    Add(u8, u8),
    /// Removes an element from a set.
    Remove(u8, u8),
}

/// A run before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How many replicas there are at first.
    pub replicas: usize,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Draws the plan of a seed. Each kind of fault is on in half of all plans.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(sha256("kdelta/sim/plan", &[&seed.to_le_bytes()]));
        let replicas = 2 + pick(&mut rng, 4);
        let faults: [bool; 4] = std::array::from_fn(|_| rng.below(2) == 0);
        let steps = 20 + rng.below(180);
        let steps = (0..steps).map(|_| step(&mut rng, replicas, faults)).collect();
        Self { replicas, steps }
    }
}

fn step(rng: &mut Rng, replicas: usize, [cuts, crashes, copies, clocks]: [bool; 4]) -> Step {
    // A copy makes one more; who is not there is the one with the remainder.
    let replica = pick(rng, replicas + 2);
    let other = pick(rng, replicas + 2);
    match rng.below(40) {
        0..=3 => Step::Connect(replica, other),
        4 | 5 if cuts => Step::Cut(replica, other),
        6 if crashes => Step::Crash { replica, mode: pick(rng, 11) },
        7 if copies => Step::Copy(replica),
        8 if clocks => {
            Step::Jump(replica, i64::try_from(rng.below(240_000)).unwrap_or(0) - 120_000)
        }
        9..=14 => Step::Wait(1 + rng.below(400)),
        _ => Step::Write { replica, what: what(rng) },
    }
}

fn what(rng: &mut Rng) -> What {
    let (key, element) = (small(rng, 3), small(rng, 5));
    match rng.below(4) {
        0 => What::Count(key, i64::try_from(rng.below(100)).unwrap_or(0) - 30),
        1 => What::Put(key, u32::try_from(rng.below(1 << 20)).unwrap_or(0)),
        2 => What::Add(key, element),
        _ => What::Remove(key, element),
    }
}

fn small(rng: &mut Rng, below: u64) -> u8 {
    u8::try_from(rng.below(below)).unwrap_or(0)
}

fn pick(rng: &mut Rng, below: usize) -> usize {
    usize::try_from(rng.below(below as u64)).unwrap_or(0)
}
