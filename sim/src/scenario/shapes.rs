//! Rare classes that are shapes in place and time: who can hear whom, and when who is there.
//!
//! They are made of the steps that there are: partings, clogs, pauses and stops. Here is only how
//! they are put together. Trouble lasts as long as they do.

use super::rare::{seat, small};
use super::{Action, Scenario, WorkOp};
use crate::draw::Source;

/// Links are clogged one after the other, and cleared in another order (FoundationDB's swizzle).
pub(super) fn swizzle(scenario: &mut Scenario, source: &mut Source) {
    let replicas = scenario.options.replicas;
    let start_ms = scenario.moment(source);
    let mut links: Vec<(usize, usize)> = (0..replicas)
        .flat_map(|from| (0..replicas).map(move |to| (from, to)))
        .filter(|(from, to)| from != to && source.below(2) == 0)
        .collect();
    source.shuffle(&mut links);
    let clogged = links.len() as u64;
    let mut cleared: Vec<u64> = (0..clogged).collect();
    source.shuffle(&mut cleared);
    let gap_ms = 100 + source.skewed(2_000);
    for ((at, (from, to)), out) in (0..).zip(links).zip(cleared) {
        let ms = (clogged - at + out) * gap_ms;
        scenario.put(start_ms + at * gap_ms, Action::Clog { from, to, ms });
    }
    scenario.lasts(start_ms + 2 * clogged * gap_ms);
}

/// Two halves hear each other only through one who hears both.
pub(super) fn bridge(scenario: &mut Scenario, source: &mut Source) {
    let (start_ms, ms) = (scenario.moment(source), 1_000 + source.skewed(20_000));
    let middle = seat(&scenario.options, source);
    let sides: Vec<bool> = (0..scenario.options.replicas).map(|_| source.below(2) == 0).collect();
    let apart = |a: usize, b: usize| a != middle && b != middle && sides.get(a) != sides.get(b);
    scenario.cut(start_ms, ms, apart);
}

/// Those alone hear each other who are neighbours in a ring, or only one hears the others.
pub(super) fn ring_or_star(scenario: &mut Scenario, source: &mut Source) {
    let (start_ms, ms) = (scenario.moment(source), 1_000 + source.skewed(20_000));
    let (star, middle) = (source.below(2) == 0, seat(&scenario.options, source));
    let replicas = scenario.options.replicas;
    let apart = |a: usize, b: usize| {
        let neighbours = (a + 1) % replicas == b || (b + 1) % replicas == a;
        if star { a != middle && b != middle } else { !neighbours }
    };
    scenario.cut(start_ms, ms, apart);
}

/// One goes to and fro between two halves that never hear each other: at home, on the way, at work.
pub(super) fn commuter(scenario: &mut Scenario, source: &mut Source) {
    let replicas = scenario.options.replicas;
    let (one, mut at_ms) = (seat(&scenario.options, source), scenario.moment(source));
    let halves: Vec<u8> = (0..replicas + 3).map(|_| u8::from(source.below(2) == 0)).collect();
    for day in 0..2 + source.below(4) {
        let home = u8::from(day % 2 == 0);
        for (with, ms) in [(home, 1_000 + source.skewed(8_000)), (2, source.skewed(4_000))] {
            let mut sides = halves.clone();
            if let Some(side) = sides.get_mut(one) {
                *side = with;
            }
            scenario.put(at_ms, Action::Part { sides, ms });
            for _ in 0..source.below(3) {
                let seat = source.index(replicas);
                scenario.write(at_ms + source.below(ms), seat, WorkOp::Add(small(source, 3), 1));
            }
            at_ms += ms;
        }
    }
    scenario.lasts(at_ms);
}

/// No two ever hear each other but one pair at a time, and the pairs change: what is written goes
/// from hand to hand.
pub(super) fn ferry(scenario: &mut Scenario, source: &mut Source) {
    let replicas = scenario.options.replicas;
    let mut at_ms = scenario.moment(source);
    for _ in 0..3 + source.below(6) {
        let (a, ms) = (source.index(replicas), 1_000 + source.skewed(5_000));
        let b = (a + 1 + source.index(replicas - 1)) % replicas;
        let alone = |seat: usize| u8::try_from(1 + seat % 20).unwrap_or(0);
        let side = |seat: usize| if seat == a || seat == b { 25 } else { alone(seat) };
        scenario.put(at_ms, Action::Part { sides: (0..replicas + 3).map(side).collect(), ms });
        scenario.write(at_ms + ms / 2, a, WorkOp::Count(small(source, 3), 1));
        at_ms += ms;
    }
    scenario.lasts(at_ms);
}

/// Somebody reads a little now and then, while others write much.
pub(super) fn slow_reader(scenario: &mut Scenario, source: &mut Source) {
    let (start_ms, slow) = (scenario.moment(source), seat(&scenario.options, source));
    let (of_ms, reads_ms) = (200 + source.skewed(1_500), 1 + source.skewed(60));
    let turns = 5 + source.below(20);
    for turn in 0..turns {
        let at_ms = start_ms + turn * of_ms;
        scenario.put(at_ms, Action::Pause { seat: slow, ms: of_ms.saturating_sub(reads_ms) });
        let by =
            (slow + 1 + source.index(scenario.options.replicas - 1)) % scenario.options.replicas;
        let bytes = 1_000 + small(source, 30_000);
        scenario.write(at_ms, by, WorkOp::Bytes(small(source, 4), bytes));
    }
    scenario.lasts(start_ms + turns * of_ms);
}

/// Somebody is away for weeks and writes alone; the others close their lids too, and look in on
/// each other now and then.
pub(super) fn weeks(scenario: &mut Scenario, source: &mut Source) {
    let replicas = scenario.options.replicas;
    let (away, mut at_ms) = (seat(&scenario.options, source), scenario.options.trouble_ms);
    for _ in 0..2 + source.below(3) {
        let gone_ms = DAY_MS * (2 + source.below(12));
        for seat in (0..replicas).filter(|seat| *seat != away) {
            let away_ms = gone_ms - source.below(20_000);
            scenario.put(at_ms + source.below(100), Action::Stop { seat, away_ms });
        }
        // Alone on the road: a few minutes, and then it sleeps too.
        for n in 0..10 + source.below(40) {
            scenario.write(at_ms + n * 100, away, WorkOp::Put(small(source, 6), small(source, 99)));
        }
        scenario.put(at_ms + 10_000, Action::Stop { seat: away, away_ms: gone_ms + 60_000 });
        at_ms += gone_ms;
        for n in 0..source.below(20) {
            let by = (away + 1 + source.index(replicas - 1)) % replicas;
            scenario.write(at_ms + n * 100, by, WorkOp::Add(small(source, 6), 1));
        }
        at_ms += 40_000;
    }
    scenario.lasts(at_ms + 60_000);
}

impl Scenario {
    /// Cuts both ways between those who are apart, copies and guests that come later aside.
    fn cut(&mut self, at_ms: u64, ms: u64, apart: impl Fn(usize, usize) -> bool) {
        let replicas = self.options.replicas;
        for from in 0..replicas {
            for to in (0..replicas).filter(|to| *to != from && apart(from, *to)) {
                self.put(at_ms, Action::OneWay { from, to, ms });
            }
        }
        self.lasts(at_ms + ms);
    }

    /// Has trouble last that long at least.
    fn lasts(&mut self, until_ms: u64) {
        self.options.trouble_ms = self.options.trouble_ms.max(until_ms);
    }
}

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Draws, Stream};
    use crate::scenario::Step;

    /// Returns what a shape adds to a world of five.
    fn added(seed: u64, shape: fn(&mut Scenario, &mut Source)) -> Scenario {
        let mut scenario = Scenario::draw_common(seed, Some(5));
        scenario.steps.clear();
        shape(&mut scenario, &mut Draws::new(seed).of(Stream::Rare, 0));
        scenario
    }

    /// Returns who hears whom while the partings of a moment last.
    fn pairs(sides: &[u8]) -> Vec<(usize, usize)> {
        let all = (0..5).flat_map(|a| (a + 1..5).map(move |b| (a, b)));
        all.filter(|(a, b)| sides[*a] == sides[*b]).collect()
    }

    #[test]
    fn a_ferry_has_one_pair_at_a_time_and_a_commuter_joins_halves_that_never_meet() {
        for seed in 0..50 {
            for step in added(seed, ferry).steps {
                if let Action::Part { sides, .. } = step.action {
                    assert_eq!(pairs(&sides).len(), 1, "{seed}: {sides:?}");
                }
            }
            let mut heard: Vec<Vec<(usize, usize)>> = Vec::new();
            for step in added(seed, commuter).steps {
                if let Action::Part { sides, .. } = step.action {
                    heard.push(pairs(&sides));
                }
            }
            // On the way nobody is heard but the halves among themselves, and that never changes.
            let [home, way, work, ..] = &heard[..] else { panic!("{seed}: {heard:?}") };
            assert!(way.iter().all(|pair| home.contains(pair) && work.contains(pair)), "{seed}");
            let moves = |with: &[(usize, usize)]| {
                with.iter().filter(|pair| !way.contains(pair)).copied().collect::<Vec<_>>()
            };
            assert!(moves(home).iter().all(|pair| !moves(work).contains(pair)), "{seed}");
        }
    }

    #[test]
    fn two_halves_hear_each_other_through_the_bridge_alone() {
        for seed in 0..50 {
            let scenario = added(seed, bridge);
            let cut = |from: usize, to: usize| {
                let ends = |step: &Step| match step.action {
                    Action::OneWay { from, to, .. } => Some((from, to)),
                    _ => None,
                };
                scenario.steps.iter().any(|step| ends(step) == Some((from, to)))
            };
            let uncut: Vec<usize> =
                (0..5).filter(|a| (0..5).all(|b| !cut(*a, b) && !cut(b, *a))).collect();
            assert!(!uncut.is_empty(), "{seed}: one hears all");
            for (a, b) in pairs(&[0; 5]) {
                assert_eq!(cut(a, b), cut(b, a), "{seed}: both ways");
            }
        }
    }

    #[test]
    fn a_swizzle_clears_each_link_that_it_clogs_after_the_last_is_clogged() {
        for seed in 0..50 {
            let scenario = added(seed, swizzle);
            let last = scenario.steps.iter().map(|step| step.at_ms).max().unwrap_or(0);
            for step in &scenario.steps {
                let Action::Clog { ms, .. } = step.action else { panic!("{step:?}") };
                assert!(step.at_ms + ms > last && step.at_ms + ms <= scenario.options.trouble_ms);
            }
        }
    }
}
