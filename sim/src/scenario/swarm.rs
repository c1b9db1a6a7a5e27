//! Draws a scenario from a seed.
//!
//! Each class of fault is in half of all scenarios, with a strength of its own (swarm testing:
//! Groce et al., ISSTA 2012), and sizes are small, so that rare paths are common. One scenario in
//! ten is calm and writes much; one in ten has replicas that stay away for days.

use kdelta_engine::log::CrashMode;

use super::{Action, DiskFault, LinkOptions, Options, Scenario, Step, Topology, WorkOp};
use crate::byzantine::Attack;
use crate::disk::Row;
use crate::draw::{Draws, Source, Stream};

/// What can go wrong in a scenario.
#[derive(Debug, Clone, Copy)]
enum Class {
    Crash,
    Stop,
    Copy,
    Restore,
    Disk,
    Full,
    Part,
    Way,
    Reset,
    Pause,
    Clock,
    Media,
    Slow,
    Hostile,
}

const CLASSES: [Class; 14] = [
    Class::Crash,
    Class::Stop,
    Class::Copy,
    Class::Restore,
    Class::Disk,
    Class::Full,
    Class::Part,
    Class::Way,
    Class::Reset,
    Class::Pause,
    Class::Clock,
    Class::Media,
    Class::Slow,
    Class::Hostile,
];

impl Scenario {
    /// Draws the scenario of a seed.
    pub fn draw(seed: u64) -> Self {
        Self::draw_sized(seed, None)
    }

    /// Draws the scenario of a seed, with so many replicas at the start if a number is given: at
    /// most [`NODES_MAX`](super::NODES_MAX).
    pub fn draw_sized(seed: u64, nodes: Option<usize>) -> Self {
        let mut scenario = Self::draw_common(seed, nodes);
        scenario.add_rare();
        scenario
    }

    /// Draws what a scenario has of the common classes: the rare ones are for stores rather than
    /// for apps.
    pub(crate) fn draw_common(seed: u64, nodes: Option<usize>) -> Self {
        let draws = Draws::new(seed);
        let mut swarm = draws.of(Stream::Swarm, 0);
        let (calm, sleepy) = (swarm.below(10) == 0, swarm.below(10) == 1);
        let mut options = options(&mut swarm, calm);
        options.replicas = nodes.unwrap_or(options.replicas);
        let on: Vec<Class> = CLASSES.into_iter().filter(|_| swarm.below(2) == 0 && !calm).collect();
        let writes = if calm { 200 + swarm.below(600) } else { 10 + swarm.skewed(200) };
        options.trouble_ms = 1_000 + writes * swarm.skewed(200);
        let mut steps = work(&draws, &options, writes);
        let mut fault = draws.of(Stream::Fault, 0);
        for class in on {
            for _ in 0..swarm.skewed(8) {
                let at_ms = fault.below(options.trouble_ms);
                let more = steps.iter().filter(|step| takes_a_seat(&step.action));
                let next_seat = options.replicas + more.count();
                let actions = one(class, &mut fault, &options, next_seat, sleepy);
                steps.extend(actions.into_iter().map(|(after_ms, action)| {
                    let at_ms = at_ms + after_ms;
                    Step { at_ms, action }
                }));
            }
        }
        let mut scenario = Self { seed, options, steps };
        scenario.put_in_order();
        scenario
    }

    /// Puts steps in order of time: so are seats taken.
    pub(super) fn put_in_order(&mut self) {
        self.steps.sort_by_key(|step| step.at_ms);
        let mut next_seat = self.options.replicas;
        for step in &mut self.steps {
            if let Action::Copy { to, .. } | Action::Hostile { to, .. } = &mut step.action {
                *to = next_seat;
                next_seat += 1;
            }
        }
    }
}

fn takes_a_seat(action: &Action) -> bool {
    matches!(action, Action::Copy { .. } | Action::Hostile { .. })
}

fn options(swarm: &mut Source, calm: bool) -> Options {
    let topologies = [Topology::Mesh, Topology::Ring, Topology::Line, Topology::Star];
    let mut ppm = |max: u64| -> u32 {
        let on = swarm.below(2) == 0 && !calm;
        let drawn = swarm.skewed(max);
        if on { u32::try_from(drawn).unwrap_or(0) } else { 0 }
    };
    let (late_ppm, loss_ppm) = (ppm(20_000), ppm(300_000));
    let (reset_ppm, mangle_ppm) = (ppm(10_000), ppm(50_000));
    let least_us = swarm.skewed(20_000);
    let link = LinkOptions {
        delay_us: [least_us, least_us + swarm.skewed(100_000)],
        late_ppm,
        loss_ppm,
        reset_ppm,
        bytes_per_s: if swarm.below(4) == 0 { 20_000 + swarm.skewed(10_000_000) } else { 0 },
        mangle_ppm: if swarm.below(5) == 0 { mangle_ppm } else { 0 },
    };
    Options {
        replicas: 2 + swarm.index(5),
        absent: Vec::new(),
        strangers: Vec::new(),
        topology: topologies.get(swarm.index(4)).copied().unwrap_or(Topology::Mesh),
        told: false,
        annihilation: false,
        owned: false,
        segment_bytes: 4096 << swarm.below(5),
        memory_bytes: (256 << 10) << swarm.below(6),
        places: swarm.below(2) == 0,
        sync_us: [50, 50 + swarm.skewed(20_000)],
        link,
        trouble_ms: 0,
    }
}

/// Draws what users ask for: many writes to few keys, by several users, some in one commit.
fn work(draws: &Draws, options: &Options, writes: u64) -> Vec<Step> {
    let mut swarm = draws.of(Stream::Swarm, 1);
    let keys = swarm.skewed(40);
    let (batches, large) = (swarm.below(2) == 0, swarm.below(4) == 0);
    let mut weights: Vec<u64> = (0..9).map(|_| swarm.below(8)).collect();
    weights.push(1);
    (0..writes)
        .map(|n| {
            let mut draw = draws.of(Stream::Work, n);
            // Users come in bursts at one place.
            let seat = draws.of(Stream::Work, (1 << 32) + n / 4).index(options.replicas + 1);
            let ops = if batches && draw.below(4) == 0 { 2 + draw.below(5) } else { 1 };
            let ops = (0..ops).map(|_| op(&mut draw, &weights, keys, large)).collect();
            let at_ms = draw.below(options.trouble_ms);
            Step { at_ms, action: Action::Write { seat, ops } }
        })
        .collect()
}

fn op(draw: &mut Source, weights: &[u64], keys: u64, large: bool) -> WorkOp {
    // A few keys get most of the writes.
    let key = u32::try_from(draw.skewed(keys) - 1).unwrap_or(0);
    let element = u8::try_from(draw.below(6)).unwrap_or(0);
    let value = u32::try_from(draw.below(1 << 20)).unwrap_or(0);
    let mut pick = draw.below(weights.iter().sum());
    let kind = weights.iter().position(|weight| {
        let here = pick < *weight;
        pick = pick.saturating_sub(*weight);
        here
    });
    let kinds = ['c', 'r', 'b', 's', 'm'];
    let other = kinds.get(draw.index(5)).copied().unwrap_or('r');
    match kind {
        Some(0) => WorkOp::Put(key, value),
        Some(1) => WorkOp::Add(key, element),
        Some(2) => WorkOp::Remove(key, element),
        Some(3) => WorkOp::Field(key, element, value),
        Some(4) => WorkOp::Unfield(key, element),
        Some(5) => WorkOp::Delete(other, key),
        Some(6) => WorkOp::Retype(other, key, value),
        Some(7) => {
            let max = if large { 200_000 } else { 600 };
            WorkOp::Bytes(key, u32::try_from(draw.skewed(max)).unwrap_or(1))
        }
        _ => WorkOp::Count(key, i64::try_from(draw.below(100)).unwrap_or(0) - 30),
    }
}

/// Draws one fault of a class, as steps with their delay after its moment.
fn one(
    class: Class,
    fault: &mut Source,
    options: &Options,
    next_seat: usize,
    sleepy: bool,
) -> Vec<(u64, Action)> {
    let seat = fault.index(options.replicas + 1);
    let other = fault.index(options.replicas + 1);
    let ms = fault.skewed(10_000);
    let away_ms = if sleepy { fault.skewed(3 * 24 * 3_600_000) } else { ms };
    let modes = CrashMode::ALL;
    let mode = modes.get(fault.index(modes.len())).copied().unwrap_or(CrashMode::LoseAll);
    let action = match class {
        Class::Crash if fault.below(2) == 0 => {
            let fault = DiskFault::PowerOff(fault.skewed(40), mode, away_ms);
            Action::Disk { seat, fault }
        }
        Class::Crash => Action::Crash { seat, mode, away_ms },
        Class::Stop => Action::Stop { seat, away_ms },
        Class::Copy if next_seat >= options.replicas + 3 => Action::Reset { a: seat, b: other },
        Class::Copy => Action::Copy { seat, to: next_seat },
        Class::Restore if fault.below(4) == 0 => Action::Wipe { seat },
        Class::Restore => {
            return vec![
                (0, Action::Save { seat }),
                (fault.skewed(options.trouble_ms), Action::Restore { seat }),
            ];
        }
        Class::Disk | Class::Full | Class::Media | Class::Slow => {
            Action::Disk { seat, fault: disk(class, fault, ms) }
        }
        Class::Part => Action::Part { sides: sides(fault, options.replicas + 3), ms },
        Class::Way if fault.below(2) == 0 => Action::Clog { from: seat, to: other, ms },
        Class::Way => Action::OneWay { from: seat, to: other, ms },
        Class::Reset => Action::Reset { a: seat, b: other },
        Class::Pause => Action::Pause { seat, ms },
        Class::Clock if fault.below(2) == 0 => {
            Action::Drift { seat, ppm: i32::try_from(fault.below(1_000)).unwrap_or(0) - 500 }
        }
        Class::Hostile if next_seat >= options.replicas + 3 => Action::Reset { a: seat, b: other },
        Class::Hostile => hostile(fault, options, next_seat, ms),
        Class::Clock => {
            let reach = if fault.below(4) == 0 { 7_200_000 } else { 120_000 };
            let ms = i64::try_from(fault.below(2 * reach)).unwrap_or(0);
            Action::Jump { seat, ms: ms - i64::try_from(reach).unwrap_or(0) }
        }
    };
    vec![(0, action)]
}

/// Draws what happens to a disk.
fn disk(class: Class, fault: &mut Source, ms: u64) -> DiskFault {
    match class {
        Class::Full if fault.below(3) > 0 => DiskFault::Full(fault.skewed(40_000), ms),
        Class::Full => DiskFault::ReadOnly(ms),
        Class::Media => {
            let rows = [Row::D8, Row::D9, Row::D9, Row::D10, Row::D11, Row::D12, Row::D14];
            let row = rows.get(fault.index(rows.len())).copied().unwrap_or(Row::D9);
            DiskFault::Drawn(row, fault.below(1 << 32))
        }
        Class::Slow => DiskFault::Drawn(Row::D17, fault.below(1 << 32)),
        _ => {
            let (pass, fail) = (fault.skewed(20), fault.skewed(3));
            let syncs = fault.below(2) == 0;
            if syncs { DiskFault::SyncsFail(pass, fail) } else { DiskFault::WritesFail(pass, fail) }
        }
    }
}

/// Draws a hostile peer and whom it attacks. Masses that are valid are left to scenarios that are
/// written by hand: they cost more to play than a hundred other seeds. Where links are narrow, no
/// other masses are drawn either: they would take longer to pass on than everything else.
fn hostile(fault: &mut Source, options: &Options, to: usize, ms: u64) -> Action {
    use Attack::{Crowd, Endless, Greedy, Hollow, HugeCommits, Sybil, Trespass};
    let narrow = options.link.bytes_per_s > 0;
    let fits = |attack: &Attack| match attack {
        HugeCommits | Sybil => false,
        // These are rare.
        Crowd | Greedy | Hollow => false,
        // It is for spaces that somebody owns.
        Trespass => false,
        Endless => !narrow,
        _ => true,
    };
    let attacks: Vec<Attack> = Attack::ALL.into_iter().filter(fits).collect();
    let attack = attacks.get(fault.index(attacks.len())).copied().unwrap_or(Attack::Silent);
    let mut seats: Vec<usize> =
        (0..1 + fault.below(3)).map(|_| fault.index(options.replicas)).collect();
    seats.sort_unstable();
    seats.dedup();
    Action::Hostile { to, attack, ms: 1_000 + ms, seats }
}

/// Draws who is parted from whom: any sides, two sides, or one alone.
fn sides(fault: &mut Source, seats: usize) -> Vec<u8> {
    let shape = fault.below(4);
    let alone = fault.index(seats);
    (0..seats)
        .map(|seat| match shape {
            0 => u8::try_from(fault.below(seats as u64)).unwrap_or(0),
            1 => u8::from(seat == alone),
            // Everybody alone but for a pair: a ferry.
            2 if seat == alone || seat == (alone + 1) % seats => 25,
            2 => u8::try_from(seat % 25).unwrap_or(0),
            _ => u8::try_from(fault.below(2)).unwrap_or(0),
        })
        .collect()
}
