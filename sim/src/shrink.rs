//! Cuts a failing scenario down to what it takes to fail.
//!
//! What counts as the same failure is the name of the broken promise. Steps are left out in runs of
//! halving length (delta debugging: Zeller and Hildebrandt, IEEE TSE 2002), seats one by one, and
//! conditions of links and disks are set to their defaults, as long as anything still helps. Draws
//! are keyed, so that what stays behaves as before.

use crate::check::{UNEQUAL, UNREPAIRED};
use crate::scenario::{Action, Options, Scenario, Step};
use crate::{Outcome, run};

/// A scenario that fails, cut down.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The scenario.
    pub scenario: Scenario,
    /// What comes of it.
    pub outcome: Outcome,
    /// How many runs it took.
    pub runs: usize,
}

/// Cuts a scenario down with at most `runs_max` runs; none if it does not fail.
pub fn shrink(scenario: &Scenario, runs_max: usize) -> Option<Shrunk> {
    shrink_by(&run, scenario, runs_max)
}

/// Cuts a scenario down that is played in a way of its own.
pub(crate) fn shrink_by(
    play: &dyn Fn(&Scenario) -> Outcome,
    scenario: &Scenario,
    runs_max: usize,
) -> Option<Shrunk> {
    let outcome = play(scenario);
    let invariant = outcome.broken.as_ref()?.invariant;
    let best = Shrunk { scenario: scenario.clone(), outcome, runs: 1 };
    let mut search = Search { play, best, invariant, runs_max };
    search.cut_after_the_end();
    loop {
        let before = search.best.scenario.clone();
        search.drop_steps();
        search.drop_seats();
        search.set_defaults();
        search.shorten();
        if search.best.scenario == before || search.best.runs >= runs_max {
            return Some(search.best);
        }
    }
}

struct Search<'a> {
    play: &'a dyn Fn(&Scenario) -> Outcome,
    best: Shrunk,
    invariant: &'static str,
    runs_max: usize,
}

impl Search<'_> {
    /// Keeps a scenario if it fails in the same way.
    fn attempt(&mut self, scenario: Scenario) -> bool {
        if self.best.runs >= self.runs_max || scenario == self.best.scenario {
            return false;
        }
        self.best.runs += 1;
        let outcome = (self.play)(&scenario);
        let same = outcome.broken.as_ref().is_some_and(|b| b.invariant == self.invariant);
        if same {
            self.best = Shrunk { scenario, outcome, runs: self.best.runs };
        }
        same
    }

    fn with(&self, change: impl FnOnce(&mut Scenario)) -> Scenario {
        let mut scenario = self.best.scenario.clone();
        change(&mut scenario);
        scenario
    }

    /// What was still to come when it failed did not matter.
    fn cut_after_the_end(&mut self) {
        let end_ms = self.best.outcome.virtual_ms;
        self.attempt(self.with(|s| s.steps.retain(|step| step.at_ms <= end_ms)));
    }

    fn drop_steps(&mut self) {
        let mut len = self.best.scenario.steps.len().next_power_of_two();
        while len > 0 {
            let mut from = 0;
            while from < self.best.scenario.steps.len() {
                let upto = (from + len).min(self.best.scenario.steps.len());
                let without = self.with(|s| drop(s.steps.drain(from..upto)));
                if !self.attempt(without) {
                    from = upto;
                }
            }
            len /= 2;
        }
    }

    fn drop_seats(&mut self) {
        // Nobody is repaired who is alone, and copies of one replica do not talk with each other:
        // that would be another failure of the same name.
        let alone = self.invariant != UNREPAIRED && self.invariant != UNEQUAL;
        let least = if alone { 1 } else { 2 };
        for seat in (0..self.best.scenario.options.replicas).rev() {
            let Options { replicas, absent, .. } = &self.best.scenario.options;
            if absent.contains(&seat) || replicas - absent.len() <= least {
                continue;
            }
            let without = self.with(|s| {
                s.options.absent.push(seat);
                s.steps.retain(|step| !step.action.seats().contains(&seat));
            });
            self.attempt(without);
        }
    }

    fn set_defaults(&mut self) {
        let plain = Options::default();
        let changes: [&dyn Fn(&mut Options); 9] = [
            &|o| o.link.late_ppm = 0,
            &|o| o.link.loss_ppm = 0,
            &|o| o.link.reset_ppm = 0,
            &|o| o.link.mangle_ppm = 0,
            &|o| o.link.bytes_per_s = 0,
            &|o| o.link.delay_us = plain.link.delay_us,
            &|o| o.sync_us = plain.sync_us,
            &|o| o.segment_bytes = plain.segment_bytes,
            &|o| o.memory_bytes = plain.memory_bytes,
        ];
        for change in changes {
            self.attempt(self.with(|s| change(&mut s.options)));
        }
    }

    /// Makes writes of one op, and ends the trouble with its last step.
    fn shorten(&mut self) {
        for at in 0..self.best.scenario.steps.len() {
            let one = self.with(|s| {
                if let Some(Step { action: Action::Write { ops, .. }, .. }) = s.steps.get_mut(at) {
                    ops.truncate(1);
                }
            });
            self.attempt(one);
        }
        let last_ms = self.best.scenario.steps.last().map_or(0, |step| step.at_ms);
        self.attempt(self.with(|s| s.options.trouble_ms = last_ms + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Broken;
    use crate::trace::Digest;

    /// Cuts a scenario of five replicas down that always breaks this; returns who is left.
    fn left(invariant: &'static str) -> usize {
        let broken = |_: &Scenario| Outcome {
            digest: Digest(0),
            events: 0,
            virtual_ms: 0,
            broken: Some(Broken::new(invariant, "always")),
        };
        let scenario = Scenario::draw_sized(7, Some(5));
        let options = shrink_by(&broken, &scenario, 500).unwrap().scenario.options;
        options.replicas - options.absent.len()
    }

    #[test]
    fn who_needs_others_is_not_left_alone() {
        assert_eq!((left(UNREPAIRED), left(UNEQUAL), left("a store opens")), (2, 2, 1));
    }
}
