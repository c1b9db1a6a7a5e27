//! Crashes at every boundary between two changes of a disk, in scripted scenarios.
//!
//! A script drives a real replica, and where it matters a peer, on a disk that tells of each change
//! before it is made ([`Touch`]). There the disk is copied and crashed in each way that
//! [`CrashMode`] knows; each result is recovered and judged at once: it opens without a hand; what
//! was acknowledged or seen by a peer is there; nothing is there that was not written, and values
//! are the plain fold of what is there; a second opening, and cuts at changes of the recovery,
//! end in the same; it takes writes again and gives no number twice; and meeting the peer again
//! both end equal. A failure names what [`replay`] needs. The same call gives the same answer.
//!
//! The idea is that of ALICE (Pillai et al., OSDI 2014), done in memory. It does not search: the
//! scripts are fixed, and of the states that a mode allows one is drawn.

mod content;
mod judge;
mod meeting;
mod model;
mod probe;
mod scenarios;
mod stage;
mod tickets;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use kdelta_engine::base::{Rng, sha256};
use kdelta_engine::log::{CrashMode, MemoryDisk};

pub use probe::Touch;

use judge::{Judge, calm};
use probe::Probe;
use scenarios::{Kind, SCENARIOS, Scenario};
use stage::{Shared, Stage};

/// How much is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most boundaries of a scenario at which the power is cut.
    pub boundaries: u64,
    /// Of so many boundaries one is tried; 1: all. At least 1.
    pub every: u64,
    /// How many crashes may follow one another, each in the recovery of the one before: 1 to 3. The
    /// second is tried at some changes of the recovery, the third at one.
    pub depth: u32,
    /// Draws the states that modes leave to chance.
    pub seed: u64,
    /// What is wrong on purpose.
    pub flaw: Option<Flaw>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { boundaries: 2_000, every: 1, depth: 3, seed: 0, flaw: None }
    }
}

/// Something that breaks a promise, to show that it would be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Of so many syncs the disk does nothing for the last, and says that it did.
    SyncsLie(u64),
    /// Writes count as durable at once, before any sync.
    AckBeforeSync,
}

/// What came of one scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioReport {
    /// Its name.
    pub name: &'static str,
    /// Boundaries at which the power was cut.
    pub boundaries: u64,
    /// Boundaries that the script has in all.
    pub boundaries_all: u64,
    /// Disks that were judged: one for each boundary and mode.
    pub states: u64,
    /// Disks that differ from all others of their boundary.
    pub distinct: u64,
    /// Crashes in the middle of a recovery.
    pub nested: u64,
    /// How often a store was opened and found whole.
    pub recoveries: u64,
    /// How often what was recovered met the peer again.
    pub meetings: u64,
    /// What did not hold; at most 20 are kept.
    pub failures: Vec<Failure>,
}

/// A promise that was broken, and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The scenario.
    pub scenario: &'static str,
    /// The number of the change before which the power was cut, from 0 on.
    pub boundary: u64,
    /// That change.
    pub touch: Touch,
    /// How it was cut; none if the script itself could not go on.
    pub mode: Option<CrashMode>,
    /// What drew the state.
    pub seed: u64,
    /// What did not hold, and what was seen.
    pub broken: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, boundary, touch, mode, seed, broken } = self;
        write!(f, "{scenario}: boundary {boundary} ({touch}), ")?;
        match mode {
            Some(mode) => write!(f, "{mode:?}, seed {seed}: {broken}"),
            None => write!(f, "the script: {broken}"),
        }
    }
}

/// Returns the names of all scenarios.
pub fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|scenario| scenario.name).collect()
}

/// Plays scenarios, all or those that are named, and judges every crash.
///
/// Costs some milliseconds for each boundary.
pub fn run(names: Option<&[&str]>, limits: &Limits) -> Vec<ScenarioReport> {
    let wanted = |scenario: &&Scenario| names.is_none_or(|names| names.contains(&scenario.name));
    SCENARIOS.iter().filter(wanted).map(|scenario| play(scenario, limits, None)).collect()
}

/// Judges one crash again: what broke there, if anything did. None too if there is no such place.
pub fn replay(
    name: &str,
    boundary: u64,
    mode: CrashMode,
    seed: u64,
    limits: &Limits,
) -> Option<Failure> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name)?;
    let report = play(scenario, limits, Some((boundary, mode, seed)));
    report.failures.into_iter().find(|failure| failure.mode.is_some())
}

/// Writes what came of a run: each scenario with its failures, then the sums.
///
/// # Errors
/// What `out` says.
pub fn report(reports: &[ScenarioReport], out: &mut impl fmt::Write) -> fmt::Result {
    reports.iter().try_for_each(|report| report_one(report, out))?;
    report_sums(reports, out)
}

/// Writes what came of one scenario: a line, and one for each failure.
///
/// # Errors
/// What `out` says.
pub fn report_one(report: &ScenarioReport, out: &mut impl fmt::Write) -> fmt::Result {
    let ScenarioReport { name, boundaries, states, distinct, nested, .. } = report;
    let (recoveries, failed) = (report.recoveries, report.failures.len());
    writeln!(
        out,
        "{name:<22} boundaries {boundaries:>5} states {states:>6} distinct {distinct:>6} \
         nested {nested:>6} recoveries {recoveries:>6} meetings {:>5} failures {failed}",
        report.meetings
    )?;
    report.failures.iter().try_for_each(|failure| writeln!(out, "BROKEN {failure}"))
}

/// Writes the sums of a run.
///
/// # Errors
/// What `out` says.
pub fn report_sums(reports: &[ScenarioReport], out: &mut impl fmt::Write) -> fmt::Result {
    let sum = |of: fn(&ScenarioReport) -> u64| reports.iter().map(of).sum::<u64>();
    writeln!(
        out,
        "{} scenarios, {} boundaries, {} states, {} nested, {} recoveries, {} meetings, {} failures",
        reports.len(),
        sum(|report| report.boundaries),
        sum(|report| report.states),
        sum(|report| report.nested),
        sum(|report| report.recoveries),
        sum(|report| report.meetings),
        sum(|report| report.failures.len() as u64),
    )
}

/// One place to be looked at: boundary, mode, seed.
type Only = (u64, CrashMode, u64);

fn play(scenario: &'static Scenario, limits: &Limits, only: Option<Only>) -> ScenarioReport {
    let _running = crate::running::begin();
    let shared = Rc::new(RefCell::new(Shared {
        segment_bytes: scenario.segment_bytes,
        closed: scenario.kind == Kind::Closed,
        ..Shared::default()
    }));
    shared.borrow_mut().model.careless = limits.flaw == Some(Flaw::AckBeforeSync);
    let cutter = Rc::new(RefCell::new(Cutter::new(scenario, limits, only)));
    let watch = {
        let (cutter, shared) = (Rc::clone(&cutter), Rc::clone(&shared));
        move |disk: &MemoryDisk, touch: Touch| {
            cutter.borrow_mut().boundary(disk, touch, &shared.borrow());
        }
    };
    let lies = match limits.flaw {
        Some(Flaw::SyncsLie(every)) => every,
        _ => 0,
    };
    let probe = Probe::new(MemoryDisk::new(), lies, Box::new(watch));
    let mut stage = Stage::new(probe.clone(), shared);
    let halted = (scenario.script)(&mut stage).err();
    probe.tell(Touch::END);
    drop(stage);
    probe.watch(None);
    let mut cutter = cutter.borrow_mut();
    if let Some(halt) = halted {
        cutter.broke(Touch::END, None, 0, halt.0);
    }
    cutter.report()
}

/// Cuts the power at boundaries, and keeps the count.
struct Cutter {
    scenario: &'static Scenario,
    limits: Limits,
    only: Option<Only>,
    judge: Judge,
    report: ScenarioReport,
}

impl Cutter {
    fn new(scenario: &'static Scenario, limits: &Limits, only: Option<Only>) -> Self {
        let report = ScenarioReport {
            name: scenario.name,
            boundaries: 0,
            boundaries_all: 0,
            states: 0,
            distinct: 0,
            nested: 0,
            recoveries: 0,
            meetings: 0,
            failures: Vec::new(),
        };
        let judge =
            Judge::new(scenario.kind, scenario.segment_bytes, limits.depth.saturating_sub(1));
        Self { scenario, limits: limits.clone(), only, judge, report }
    }

    /// Judges all that a power cut might leave just before a change.
    fn boundary(&mut self, disk: &MemoryDisk, touch: Touch, shared: &Shared) {
        let at = self.report.boundaries_all;
        self.report.boundaries_all += 1;
        let wanted = match self.only {
            Some((boundary, ..)) => boundary == at,
            None => {
                at.is_multiple_of(self.limits.every.max(1))
                    && self.report.boundaries < self.limits.boundaries
            }
        };
        if !wanted {
            return;
        }
        self.report.boundaries += 1;
        let mut seen = BTreeSet::new();
        for (index, mode) in CrashMode::ALL.into_iter().enumerate() {
            let seed = match self.only {
                Some((_, only, _)) if only != mode => continue,
                Some((.., seed)) => seed,
                None => self.draw(at, index),
            };
            let left = disk.snapshot();
            left.crash(
                mode,
                &mut Rng::new(sha256("kdelta/sim/crashes/cut", &[&seed.to_le_bytes()])),
            );
            calm(&left);
            self.report.states += 1;
            if !seen.insert(content::fingerprint(&left)) {
                continue;
            }
            self.report.distinct += 1;
            let facts = self.judge.facts(&left, 0);
            let judged = judge::check(self.scenario.kind, &facts, &shared.model);
            // Meetings are dear: one state of each boundary, another mode each time.
            let meets = self.only.is_some()
                || self.scenario.kind == Kind::Forked
                || seen.len() == 1
                || index as u64 == at % CrashMode::ALL.len() as u64;
            let judged = judged.and_then(|()| match &shared.peer {
                Some((peer, key)) if meets => {
                    self.report.meetings += 1;
                    let (kind, bytes) = (self.scenario.kind, self.scenario.segment_bytes);
                    meeting::check(kind, &left, (peer, *key), shared, bytes)
                        .map_err(|broken| format!("at the next meeting: {broken}"))
                }
                _ => Ok(()),
            });
            if let Err(broken) = judged {
                self.broke(touch, Some(mode), seed, broken);
            }
        }
    }

    fn draw(&self, boundary: u64, mode: usize) -> u64 {
        let parts = [self.limits.seed, boundary, mode as u64].map(u64::to_le_bytes);
        let name = self.scenario.name.as_bytes();
        Rng::new(sha256("kdelta/sim/crashes/seed", &[name, &parts.concat()])).u64()
    }

    fn broke(&mut self, touch: Touch, mode: Option<CrashMode>, seed: u64, broken: String) {
        let boundary = self.report.boundaries_all.saturating_sub(1);
        let scenario = self.scenario.name;
        if self.report.failures.len() < FAILURES_MAX {
            let failure = Failure { scenario, boundary, touch, mode, seed, broken };
            self.report.failures.push(failure);
        }
    }

    fn report(&mut self) -> ScenarioReport {
        let (nested, recoveries) = (self.judge.nested, self.judge.recoveries);
        ScenarioReport { nested, recoveries, ..self.report.clone() }
    }
}

/// Failures of one scenario that are kept.
const FAILURES_MAX: usize = 20;
