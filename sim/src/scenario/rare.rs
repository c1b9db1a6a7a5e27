//! Draws what is rare: classes of steps that take luck to come about, or cost much to play.
//!
//! Each class has draws of its own, so that a world in which it is not drawn is as it would be
//! without the class, and one in which it is has all else as before. Not only faults: also what
//! users and peers do in good faith and seldom. Trouble is not made longer where links break QUIC's
//! promises: what is repeated there is answered on and on.

use kdelta_engine::log::{CrashMode, FileId, FileKind};

use super::{
    Action, DiskFault, Options, Right, Scenario, Step, TicketKind, Topology, WorkOp, shapes,
};
use crate::byzantine::Attack;
use crate::disk::{Fault, Row, Times};
use crate::draw::{Draws, Source, Stream};

/// A rare class, and in one of how many scenarios it is.
type Class = (u64, fn(&mut Scenario, &mut Source));

const CLASSES: [Class; 18] = [
    (3, ties),
    (8, many_elements),
    (2, syncs),
    (2, rot_in_the_newest),
    (12, siege),
    (40, silence),
    (50, backlog),
    (50, crowd),
    (50, greed),
    (6, rot),
    (6, lost_files),
    (3, repairs),
    (2, strangers),
    (6, bad_indexes),
    (4, glitches),
    (12, early_repairs),
    (6, told),
    (16, annihilation),
];

/// Classes that came later: the numbers of those before, which name their draws, stay.
const LATER: [Class; 2] = [(6, owned), (20, hollow)];

/// The same, for classes that make trouble longer.
const SHAPES: [Class; 7] = [
    (8, shapes::swizzle),
    (12, shapes::bridge),
    (12, shapes::ring_or_star),
    (12, shapes::commuter),
    (12, shapes::ferry),
    (12, shapes::slow_reader),
    (50, shapes::weeks),
];

impl Scenario {
    /// Adds the rare classes that the seed draws.
    pub(super) fn add_rare(&mut self) {
        let draws = Draws::new(self.seed);
        let shapes = if self.options.link.mangle_ppm > 0 { &[][..] } else { &SHAPES };
        let later = (64..).zip(&LATER);
        for (number, (of, add)) in (0..).zip(CLASSES.iter().chain(shapes)).chain(later) {
            let mut source = draws.of(Stream::Rare, number);
            if source.below(*of) == 0 {
                add(self, &mut source);
            }
        }
        self.make_room();
        self.put_in_order();
    }

    /// Gives replicas enough memory for the largest commit to wait: of a log that may be forked it
    /// must, or it never counts.
    fn make_room(&mut self) {
        if self.may_fork() {
            let largest = self.steps.iter().map(bytes_of).max().unwrap_or(0);
            let memory_bytes = &mut self.options.memory_bytes;
            while *memory_bytes / 4 < largest + ROOM_BYTES {
                *memory_bytes *= 2;
            }
        }
    }

    /// Tells whether a log may be forked.
    fn may_fork(&self) -> bool {
        use Action::{Copy, Hostile, Restore};
        let forks = |s: &Step| matches!(s.action, Copy { .. } | Hostile { .. } | Restore { .. });
        self.steps.iter().any(forks)
    }

    pub(super) fn put(&mut self, at_ms: u64, action: Action) {
        self.steps.push(Step { at_ms, action });
    }

    pub(super) fn write(&mut self, at_ms: u64, seat: usize, op: WorkOp) {
        self.put(at_ms, Action::Write { seat, ops: vec![op] });
    }

    pub(super) fn moment(&self, source: &mut Source) -> u64 {
        source.below(self.options.trouble_ms)
    }
}

/// Returns about how many bytes a step writes in one commit.
fn bytes_of(step: &Step) -> usize {
    let Action::Write { ops, .. } = &step.action else { return 0 };
    let bytes = |op: &WorkOp| if let WorkOp::Bytes(_, bytes) = op { *bytes as usize } else { 0 };
    ops.iter().map(bytes).sum()
}

/// What a commit takes besides large values while it waits, in bytes.
const ROOM_BYTES: usize = 16 << 10;

pub(super) fn seat(options: &Options, source: &mut Source) -> usize {
    source.index(options.replicas)
}

pub(super) fn small(source: &mut Source, bound: u64) -> u32 {
    u32::try_from(source.below(bound)).unwrap_or(0)
}

/// Several seats write to one key in one millisecond.
fn ties(scenario: &mut Scenario, source: &mut Source) {
    for _ in 0..source.skewed(8) {
        let (at_ms, key) = (scenario.moment(source), small(source, 3));
        let fields = source.below(3) == 0;
        let field = u8::try_from(source.below(3)).unwrap_or(0);
        let first = seat(&scenario.options, source);
        for n in 0..=source.below(scenario.options.replicas as u64) {
            let seat = (first + usize::try_from(n).unwrap_or(0)) % scenario.options.replicas;
            let value = small(source, 1 << 20);
            let put = WorkOp::Put(key, value);
            let op = if fields { WorkOp::Field(key, field, value) } else { put };
            scenario.write(at_ms, seat, op);
        }
    }
}

/// A set gets many elements, and loses some.
fn many_elements(scenario: &mut Scenario, source: &mut Source) {
    let key = small(source, 3);
    for _ in 0..25 + source.below(60) {
        let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
        let element = u8::try_from(source.below(250)).unwrap_or(0);
        let gone = source.below(12) == 0;
        let op = if gone { WorkOp::Remove(key, element) } else { WorkOp::Add(key, element) };
        scenario.write(at_ms, seat, op);
    }
}

/// Users ask for a sync, and are told whether they are in sync.
fn syncs(scenario: &mut Scenario, source: &mut Source) {
    for _ in 0..source.skewed(12) {
        let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
        let with = (seat + 1 + source.index(scenario.options.replicas - 1))
            % scenario.options.replicas.max(1);
        scenario.put(at_ms, Action::Sync { seat, with });
    }
}

/// The newest segment rots, late, so that it is the newest still when it is verified.
fn rot_in_the_newest(scenario: &mut Scenario, source: &mut Source) {
    if scenario.may_fork() {
        return;
    }
    let seat = seat(&scenario.options, source);
    let at_ms = scenario.options.trouble_ms - 1;
    let number = source.below(1 << 32);
    scenario.put(at_ms, Action::Disk { seat, fault: DiskFault::Newest(number) });
}

/// Bytes rot all over, also in what is derived from the log; what rotted is read soon.
fn rot(scenario: &mut Scenario, source: &mut Source) {
    if scenario.may_fork() {
        return;
    }
    for _ in 0..8 {
        let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
        let fault = DiskFault::Drawn(Row::D9, source.below(1 << 32));
        scenario.put(at_ms, Action::Disk { seat, fault });
        scenario.write(at_ms + 1, seat, WorkOp::Add(small(source, 40), 1));
    }
}

/// Hostile peers lay siege to a replica with little memory, for longer than usual.
fn siege(scenario: &mut Scenario, source: &mut Source) {
    if scenario.options.link.mangle_ppm > 0 {
        return;
    }
    scenario.options.memory_bytes = 256 << 10;
    let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
    let ms = 10_000 + source.below(10_000);
    scenario.options.trouble_ms = scenario.options.trouble_ms.max(at_ms + ms);
    for (attack, in_all) in [(Attack::Branches, 1), (Attack::WithheldDeps, 1)] {
        if source.below(4) >= in_all {
            let seats = vec![seat];
            scenario.put(at_ms, Action::Hostile { to: 0, attack, ms, seats });
        }
    }
}

/// A peer says nothing more for so long that it is given up.
fn silence(scenario: &mut Scenario, source: &mut Source) {
    if scenario.options.link.mangle_ppm > 0 {
        return;
    }
    let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
    // Five minutes, and what is lost then is noticed when digests are compared, each minute.
    let ms = 400_000;
    scenario.options.trouble_ms = scenario.options.trouble_ms.max(at_ms + ms);
    let (attack, seats) = (Attack::Silent, vec![seat]);
    scenario.put(at_ms, Action::Hostile { to: 0, attack, ms, seats });
}

/// Somebody is away while more is written than may be on its way at once, and somebody else asks
/// for all of it again and again.
fn backlog(scenario: &mut Scenario, source: &mut Source) {
    if scenario.options.link.bytes_per_s > 0 || scenario.options.link.mangle_ppm > 0 {
        return;
    }
    let options = &scenario.options;
    let (away, by) = (seat(options, source), seat(options, source));
    scenario.put(0, Action::Stop { seat: away, away_ms: 5_000 });
    for n in 0..24 + source.below(10) {
        let bytes = 200_000 + small(source, 10_000);
        scenario.write(100 + n * 10, by, WorkOp::Bytes(90 + small(source, 4), bytes));
    }
    let (attack, seats) = (Attack::RequestFlood, vec![by]);
    scenario.put(1_000, Action::Hostile { to: 0, attack, ms: 9_000, seats });
    scenario.options.trouble_ms = scenario.options.trouble_ms.max(12_000);
}

/// What two write reaches the other through somebody alone who leaves out what it says.
fn hollow(scenario: &mut Scenario, source: &mut Source) {
    let replicas = scenario.options.replicas;
    if scenario.options.link.mangle_ppm > 0 || replicas < 2 {
        return;
    }
    let (at_ms, ms) = (scenario.moment(source), 4_000 + source.below(6_000));
    let from = source.index(replicas);
    let to = (from + 1 + source.index(replicas - 1)) % replicas;
    scenario.put(at_ms, Action::Clog { from, to, ms });
    scenario.put(at_ms, Action::Clog { from: to, to: from, ms });
    let (attack, seats) = (Attack::Hollow, vec![from.min(to), from.max(to)]);
    scenario.put(at_ms, Action::Hostile { to: 0, attack, ms, seats });
    for seat in [from, to] {
        scenario.write(at_ms + 500 + source.below(1_000), seat, WorkOp::Count(small(source, 3), 1));
    }
    scenario.options.trouble_ms = scenario.options.trouble_ms.max(at_ms + ms);
}

/// Somebody writes in more logs than an opening lists, so that ranges of them are compared; some
/// write while others are away.
fn crowd(scenario: &mut Scenario, source: &mut Source) {
    if scenario.options.link.mangle_ppm > 0 {
        return;
    }
    let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
    let (attack, seats) = (Attack::Crowd, vec![seat]);
    scenario.put(at_ms, Action::Hostile { to: 0, attack, ms: 7_000, seats });
    for n in 0..scenario.options.replicas {
        let at_ms = at_ms + 9_000 + source.below(3_000);
        scenario.put(at_ms, Action::Stop { seat: n, away_ms: 500 + source.below(3_000) });
        let other = (n + 1) % scenario.options.replicas;
        scenario.write(at_ms + 100, other, WorkOp::Count(small(source, 3), 1));
    }
    scenario.options.trouble_ms = scenario.options.trouble_ms.max(at_ms + 13_000);
}

/// Somebody asks for more than one may.
fn greed(scenario: &mut Scenario, source: &mut Source) {
    let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
    let (attack, seats) = (Attack::Greedy, vec![seat]);
    scenario.put(at_ms, Action::Hostile { to: 0, attack, ms: 2_500, seats });
}

/// Replicas are stopped, and miss files when they come back, or the ends of them.
fn lost_files(scenario: &mut Scenario, source: &mut Source) {
    for _ in 0..source.skewed(3) {
        let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
        let fault = DiskFault::Lost(source.below(1 << 32), source.skewed(3_000));
        scenario.put(at_ms, Action::Disk { seat, fault });
    }
}

/// An operator does not wait until the trouble is over, and repairs what may be damaged at once.
fn repairs(scenario: &mut Scenario, source: &mut Source) {
    let bad = scenario.steps.iter().filter_map(|step| match step.action {
        Action::Disk { seat, fault: DiskFault::Drawn(..) | DiskFault::Newest(_) } => {
            Some((step.at_ms, seat))
        }
        Action::Disk { seat, fault: DiskFault::Lost(_, ms) } => Some((step.at_ms + ms, seat)),
        _ => None,
    });
    for (at_ms, seat) in bad.collect::<Vec<_>>() {
        scenario.put(at_ms + source.skewed(2_000), Action::Repair { seat });
    }
}

/// Who comes back after a while is served while more is written, by somebody who cannot read the
/// indexes of what the other one has already for some reads: what vouches for a part of a log is
/// made from those.
fn bad_indexes(scenario: &mut Scenario, source: &mut Source) {
    let replicas = scenario.options.replicas;
    let by = source.index(replicas);
    let away = (by + 1 + source.index(replicas - 1)) % replicas;
    let (gone_ms, away_ms) = (2_000 + source.below(1_000), 1_000 + source.below(2_000));
    let back_ms = gone_ms + away_ms;
    let options = &mut scenario.options;
    options.segment_bytes = options.segment_bytes.min(8192);
    let [least, usual] = options.link.delay_us;
    options.link.delay_us = [least.max(5_000), usual.max(20_000)];
    scenario.put(gone_ms, Action::Stop { seat: away, away_ms });
    // What vouches for less than all needs old ids only where the log has just outgrown a power of
    // two since: 64 commits, on most links.
    let early = (0..6 + source.below(20)).map(|n| 50 + n * 40);
    let late = (0..90).map(|n| back_ms - 50 + n * 4);
    for (at_ms, key) in early.chain(late).zip(100..) {
        // Of a new key each: what was written before is asked for by nobody else.
        scenario.write(at_ms, by, WorkOp::Bytes(key, 200 + small(source, 1_000)));
    }
    for number in 1..4 {
        let file = FileId::new(FileKind::Sidecar, number);
        let times = Times::Count(1 + small(source, 40));
        let fault = Fault::Unreadable { file, range: 0..1 << 20, times };
        let at_ms = back_ms - source.below(400);
        scenario.put(at_ms, Action::Disk { seat: by, fault: DiskFault::Media(fault) });
    }
    scenario.options.trouble_ms = scenario.options.trouble_ms.max(back_ms + 4_000);
}

/// A place cannot be read while a store is opened, and can at the next opening: what came again
/// meanwhile is in the log twice.
fn glitches(scenario: &mut Scenario, source: &mut Source) {
    for _ in 0..source.skewed(4) {
        let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
        let fault = DiskFault::Glitch(source.below(1 << 32));
        scenario.put(at_ms, Action::Disk { seat, fault });
        let mode = CrashMode::ALL.get(source.index(CrashMode::ALL.len())).copied();
        let mode = mode.unwrap_or(CrashMode::LoseAll);
        scenario.put(at_ms + 1, Action::Crash { seat, mode, away_ms: source.skewed(500) });
        let again_ms = at_ms + 1_000 + source.skewed(8_000);
        scenario.put(again_ms, Action::Stop { seat, away_ms: source.skewed(500) });
        let trouble_ms = &mut scenario.options.trouble_ms;
        *trouble_ms = (*trouble_ms).max(again_ms + 1_000);
    }
}

/// A damaged replica is repaired while only one peer is there, which was away when that was written
/// which is lost now; the others have it, and come back later.
fn early_repairs(scenario: &mut Scenario, source: &mut Source) {
    let replicas = scenario.options.replicas;
    if replicas < 3 {
        return;
    }
    (scenario.options.topology, scenario.options.segment_bytes) = (Topology::Mesh, 4096);
    let (start_ms, ill) = (scenario.moment(source), source.index(replicas));
    let late = (ill + 1 + source.index(replicas - 1)) % replicas;
    scenario.put(start_ms, Action::Stop { seat: late, away_ms: 3_000 });
    for n in 0..10 + source.below(20) {
        let bytes = 200 + small(source, 1_000);
        scenario.write(start_ms + 50 + n * 40, ill, WorkOp::Bytes(small(source, 9), bytes));
    }
    for n in 0..4 {
        let fault = DiskFault::Lost(source.below(1 << 32), 200);
        scenario.put(start_ms + 2_500 + n, Action::Disk { seat: ill, fault });
    }
    for seat in (0..replicas).filter(|seat| *seat != ill && *seat != late) {
        scenario.put(start_ms + 2_800, Action::Stop { seat, away_ms: 8_000 });
    }
    let at_ms = start_ms + 4_000 + source.below(2_000);
    scenario.put(at_ms, Action::Repair { seat: ill });
    scenario.options.trouble_ms = scenario.options.trouble_ms.max(start_ms + 12_000);
}

/// Replicas tell their peers where they are, and those tell others.
fn told(scenario: &mut Scenario, _: &mut Source) {
    scenario.options.told = true;
}

/// Media go bad wherever they like, also the last good copy of something: it is enough that nobody
/// is told lies. Nobody comes in by a ticket, for what was used up may be forgotten.
fn annihilation(scenario: &mut Scenario, source: &mut Source) {
    if !scenario.options.strangers.is_empty() {
        return;
    }
    scenario.options.annihilation = true;
    let rows = [Row::D8, Row::D9, Row::D9, Row::D10, Row::D12];
    for _ in 0..4 + source.below(24) {
        let (at_ms, seat) = (scenario.moment(source), seat(&scenario.options, source));
        let row = rows.get(source.index(rows.len())).copied().unwrap_or(Row::D9);
        if source.below(2) == 0 {
            let fault = DiskFault::Drawn(row, source.below(1 << 32));
            scenario.put(at_ms, Action::Disk { seat, fault });
            scenario.put(at_ms + 1 + source.skewed(500), Action::Stop { seat, away_ms: 100 });
        } else {
            // What was just acknowledged, and nobody else has yet.
            let fault = DiskFault::Lost(source.below(1 << 32), source.skewed(3_000));
            scenario.write(at_ms, seat, WorkOp::Put(small(source, 9), small(source, 99)));
            scenario.put(at_ms + 5 + source.skewed(60), Action::Disk { seat, fault });
        }
    }
}

/// Somebody owns the space, and lets others write, who pass that on or not; what was given is taken
/// back, also by several of each other.
fn owned(scenario: &mut Scenario, source: &mut Source) {
    if !scenario.options.strangers.is_empty() {
        return;
    }
    scenario.options.owned = true;
    let replicas = scenario.options.replicas;
    let rights = Right::ALL.map(|(right, _)| right);
    for to in 1..replicas {
        let right = rights.get(source.index(rights.len())).copied().unwrap_or(Right::Write);
        scenario.put(source.below(50), Action::Grant { from: 0, to, right });
    }
    for _ in 0..source.skewed(16) {
        let (from, of) = (source.index(replicas), source.index(replicas));
        let at_ms = scenario.moment(source);
        let right = rights.get(source.index(rights.len())).copied().unwrap_or(Right::Write);
        let action = match source.below(3) {
            0 => Action::Grant { from, to: of, right },
            _ => Action::Revoke { from, of },
        };
        scenario.put(at_ms, action);
    }
    if source.below(2) == 0 {
        let mut seats = vec![0, source.index(replicas)];
        seats.dedup();
        let at_ms = scenario.moment(source);
        let (attack, ms) = (Attack::Trespass, 3_000 + source.below(6_000));
        scenario.put(at_ms, Action::Hostile { to: 0, attack, ms, seats });
        scenario.options.trouble_ms = scenario.options.trouble_ms.max(at_ms + ms);
    }
}

/// Some come in by tickets, and some have none that is good. Disks are not set back or copied here,
/// nor do they rot: what was used up may be used again then, in good faith.
fn strangers(scenario: &mut Scenario, source: &mut Source) {
    let sets_back = |step: &Step| match step.action {
        Action::Copy { .. } | Action::Restore { .. } | Action::Wipe { .. } => true,
        Action::Hostile { .. } => true,
        Action::Disk { fault: DiskFault::Drawn(row, _), .. } => row != Row::D17,
        Action::Disk { fault: DiskFault::Newest(_) | DiskFault::Lost(..), .. } => true,
        _ => false,
    };
    if scenario.steps.iter().any(sets_back) {
        return;
    }
    let members = scenario.options.replicas;
    let outside = members..members + 1 + source.index(2);
    scenario.options.replicas = outside.end;
    scenario.options.strangers = outside.clone().collect();
    for to in outside.clone() {
        for _ in 0..source.skewed(4) {
            use TicketKind::{Again, Expired, Forged, Good};
            let (from, at_ms) = (source.index(members), scenario.moment(source));
            let kind = [Good, Good, Again, Again, Expired, Forged];
            let kind = kind.get(source.index(kind.len())).copied().unwrap_or(Good);
            scenario.put(at_ms, Action::Ticket { from, to, kind });
            // The power fails where it is issued, used or taken.
            if source.below(2) == 0 {
                let seat = if source.below(2) == 0 { from } else { to };
                let mode = CrashMode::ALL.get(source.index(CrashMode::ALL.len())).copied();
                let mode = mode.unwrap_or(CrashMode::LoseAll);
                let fault = DiskFault::PowerOff(source.below(8), mode, source.skewed(3_000));
                let before_ms = at_ms.saturating_sub(source.below(2));
                scenario.put(before_ms, Action::Disk { seat, fault });
            }
            let at_ms = at_ms + source.skewed(2_000);
            scenario.write(at_ms, to, WorkOp::Count(small(source, 3), 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_class_takes_nothing_away_and_each_is_drawn() {
        let mut found = [false; 4];
        for seed in 0..300 {
            let (all, common) = (Scenario::draw(seed), Scenario::draw_common(seed, None));
            assert!(all.steps.len() >= common.steps.len());
            let kept = |step: &&Step| !step.action.is_fault();
            let writes = |s: &Scenario| s.steps.iter().filter(kept).cloned().collect::<Vec<_>>();
            let (more, before) = (writes(&all), writes(&common));
            assert!(before.iter().all(|step| more.contains(step)), "{seed}");
            for step in &all.steps {
                use Attack::{Crowd, Greedy};
                found[0] |= matches!(step.action, Action::Sync { .. });
                found[1] |= matches!(step.action, Action::Hostile { attack: Crowd, .. });
                found[2] |= matches!(step.action, Action::Hostile { attack: Greedy, .. });
                let rots = matches!(step.action, Action::Disk { fault: DiskFault::Newest(_), .. });
                found[3] |= rots;
            }
        }
        assert_eq!(found, [true; 4]);
    }
}
