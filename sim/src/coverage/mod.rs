//! Whether a batch tries enough: which rare paths it took, and which planted bugs it finds.
//!
//! A batch is seeds, commits that spread among many replicas, and crash scenarios. [`marks`] plays
//! it once and asks that every rare path of the engine was taken; [`mutants`] plays it for each
//! planted bug until something breaks. Each has a list of what the simulator cannot do, with the
//! reason and with the test that does it in its place; an entry that is no longer true fails the
//! command as well, so that the lists shrink.
//!
//! It needs the features of the same names. It measures no lines and no branches, and a mark that
//! was hit says that a path was taken, not that what it did was looked at: that is what the
//! planted bugs are for.

mod found;
pub mod marks;
pub mod mutants;

use std::fmt;
use std::ops::Range;

use crate::check::Broken;
use crate::command::{CommandError, Front};
use crate::crashes::{self, Limits};
use crate::spread::{self, Setting};
use crate::trace::Keep;
use crate::{Scenario, World, run};

/// Something that a batch cannot reach, and what does it in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The name of a mark or of a mutant.
    pub name: &'static str,
    /// Why the batch cannot.
    pub why: &'static str,
    /// The function that tests it instead.
    pub test: &'static str,
}

/// What is played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The seeds.
    pub seeds: Range<u64>,
    /// Of so many boundaries of each crash scenario the power is cut at one; 0: at none.
    pub every: u64,
    /// What is asked for by name; all if nothing is.
    pub names: Vec<String>,
    /// Each planted bug is looked for first where it was found before, and what is listed as not
    /// found with the first seeds alone.
    pub brief: bool,
}

impl Batch {
    /// Returns what is played, in order: some seeds, then how commits spread and the crashes, which
    /// are dear, then the other seeds.
    fn plays(&self) -> Vec<Play> {
        let first = self.first_seeds().end;
        let cuts = if self.every == 0 { Vec::new() } else { crashes::names() };
        let cuts = cuts.into_iter().map(|name| Play::Cuts(name, self.every));
        let seeds = |range: Range<u64>| range.map(Play::Seed);
        let spread = [Play::Spread].into_iter();
        seeds(self.first_seeds())
            .chain(spread)
            .chain(cuts)
            .chain(seeds(first..self.seeds.end))
            .collect()
    }

    fn first_seeds(&self) -> Range<u64> {
        let Range { start, end } = self.seeds;
        start..start.saturating_add(SEEDS_FIRST).min(end)
    }
}

/// One thing that is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Play {
    /// The scenario of a seed.
    Seed(u64),
    /// How commits spread among some replicas.
    Spread,
    /// A crash scenario, cut at one of so many boundaries.
    Cuts(&'static str, u64),
}

impl fmt::Display for Play {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::Spread => f.write_str("spread"),
            Self::Cuts(name, _) => write!(f, "crashes {name}"),
        }
    }
}

impl Play {
    /// Plays it; returns what broke. An engine that stops at an assertion of its own is broken.
    fn broken(self) -> Option<String> {
        let played = Broken::caught(|| match self {
            Self::Seed(seed) => of_a_seed(seed),
            Self::Spread => {
                let figures = spread::measure(&Setting::SMALL);
                let broken = figures.and_then(|figures| figures.check()).err();
                broken.map(|broken| broken.to_string())
            }
            Self::Cuts(name, every) => {
                let limits = Limits { every, depth: DEPTH, ..Limits::default() };
                let reports = crashes::run(Some(&[name]), &limits);
                let failure = reports.into_iter().flat_map(|report| report.failures).next();
                failure.map(|failure| failure.broken)
            }
        });
        played.unwrap_or_else(|broken| Some(broken.to_string()))
    }
}

/// Plays a seed, and some of them twice.
fn of_a_seed(seed: u64) -> Option<String> {
    let scenario = Scenario::draw(seed);
    let outcome = run(&scenario);
    if outcome.broken.is_none() && seed.is_multiple_of(SEEDS_A_SECOND_TIME) {
        // A world that stands meanwhile makes the second one lie at other addresses.
        let mut standing = World::new(&scenario, Keep::Digest);
        let founded = standing.found();
        if founded.is_ok() && run(&scenario) != outcome {
            return Some("a seed gives the same run twice: the digests differ".to_owned());
        }
    }
    outcome.broken.map(|broken| broken.to_string())
}

/// Prints a line.
fn say(front: &mut dyn Front, line: String) -> Result<(), CommandError> {
    front.print(&(line + "\n")).map_err(CommandError::Front)
}

/// Ends here if the front asks for it.
fn go_on(front: &dyn Front) -> Result<(), CommandError> {
    if front.is_stopped() { Err(CommandError::Stopped) } else { Ok(()) }
}

fn needs(lacks: &str, feature: &str) -> String {
    format!("this build {lacks}; build it with --features kdelta-sim/{feature}")
}

/// Of so many boundaries of a crash scenario the power is cut at one if nothing is said.
const EVERY: u64 = 7;
/// How many seeds are played before the crash scenarios.
const SEEDS_FIRST: u64 = 24;
/// Of so many seeds one is played twice.
const SEEDS_A_SECOND_TIME: u64 = 8;
/// How many crashes may follow one another.
const DEPTH: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Batch = Batch { seeds: 0..60, every: 9, names: Vec::new(), brief: false };

    #[test]
    fn a_batch_plays_each_seed_and_each_crash_scenario_once() {
        let plays = PLAIN.plays();
        assert_eq!(plays.len(), 60 + 1 + crashes::names().len());
        for seed in 0..60 {
            assert!(plays.contains(&Play::Seed(seed)));
        }
        assert_eq!(plays.last(), Some(&Play::Seed(59)));
    }

    #[test]
    fn what_holds_is_not_broken() {
        assert_eq!(Play::Seed(8).broken(), None);
        assert_eq!(Play::Cuts("first-open", 5).broken(), None);
    }
}
