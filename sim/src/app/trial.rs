//! Plays an app on many seeds, and tells what broke.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use super::App;
use super::stage::Stage;
use super::story::story;
use crate::check::Broken;
use crate::command::as_test;
use crate::disk::Row;
use crate::scenario::{Action, DiskFault, LinkOptions, NODES_MAX, Scenario, Step, Topology};
use crate::shrink::{Shrunk, shrink_by};
use crate::trace::{Keep, Trace, text};
use crate::{Outcome, play};

/// Plays an app.
#[derive(Debug, Clone)]
pub struct Sim<A> {
    seeds: Range<u64>,
    replicas: Option<usize>,
    topology: Option<Topology>,
    faults: Faults,
    app: PhantomData<fn() -> A>,
}

/// Which kinds of faults there may be. Each is in half of all scenarios, but for what is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Replicas are parted from others, connections break, messages come late.
    pub network: bool,
    /// Replicas crash, stop or hang, and come back.
    pub crashes: bool,
    /// Syncs and writes fail, disks are full or read-only for a time, or slow.
    pub disks: bool,
    /// Clocks jump and drift.
    pub clocks: bool,
    /// A replica's disk is copied, and the copy runs beside the original, under the same key.
    pub copies: bool,
    /// A replica is set back to an older copy of its disk, or begins with an empty one, or its disk
    /// rots or lies, and is repaired from others. What only that disk held may be lost, durable or
    /// not: a check that does not allow for that will fail.
    pub lost_disks: bool,
    /// Whoever holds the key of a replica of its own takes part and lies: it forges, floods, and
    /// keeps back. It may write to any key of a space that is open to it, as any member may.
    pub hostile: bool,
}

impl Faults {
    /// All kinds.
    pub const ALL: Self = Self {
        network: true,
        crashes: true,
        disks: true,
        clocks: true,
        copies: true,
        lost_disks: true,
        hostile: true,
    };
    /// None: a calm world.
    pub const NONE: Self = Self {
        network: false,
        crashes: false,
        disks: false,
        clocks: false,
        copies: false,
        lost_disks: false,
        hostile: false,
    };

    fn allow(&self, action: &Action) -> bool {
        match action {
            Action::Write { .. } | Action::Act { .. } | Action::Sync { .. } => true,
            Action::Crash { .. } | Action::Stop { .. } | Action::Pause { .. } => self.crashes,
            Action::Disk { fault: DiskFault::PowerOff(..), .. } => self.crashes,
            Action::Part { .. } | Action::OneWay { .. } => self.network,
            Action::Clog { .. } | Action::Reset { .. } => self.network,
            Action::Jump { .. } | Action::Drift { .. } => self.clocks,
            Action::Copy { .. } => self.copies,
            Action::Hostile { .. } => self.hostile,
            Action::Disk { fault: DiskFault::Drawn(Row::D14 | Row::D17, _), .. } => self.disks,
            // What lies on one disk alone may be lost for good by these.
            Action::Disk { fault: DiskFault::Drawn(..) | DiskFault::Media(_), .. } => {
                self.lost_disks
            }
            Action::Save { .. } | Action::Restore { .. } | Action::Wipe { .. } => self.lost_disks,
            _ => self.disks,
        }
    }
}

impl Default for Faults {
    /// All but [`lost_disks`](Self::lost_disks) and [`hostile`](Self::hostile): not every app can
    /// hold what it promises against those.
    fn default() -> Self {
        Self { lost_disks: false, hostile: false, ..Self::ALL }
    }
}

/// What came of seeds in which every promise held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many seeds were played.
    pub seeds: u64,
    /// How many messages, disk operations and requests there were.
    pub events: u64,
    /// How long that took in the worlds, in milliseconds.
    pub virtual_ms: u64,
    /// A digest of everything that happened.
    pub digest: u128,
}

/// A promise that was broken, and the least that it takes. Printed it tells the story, and how to
/// play it again; its `Debug` form is the same, so that a test may just return it.
#[derive(Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The promise, and what was seen in the end.
    pub broken: Broken,
    /// What is left of the scenario: it breaks the same promise.
    pub scenario: Scenario,
    /// How many runs it took to cut it down.
    pub runs: usize,
    /// What users, apps and faults did before it showed, one line each.
    pub story: String,
    /// The last entries of all that came before it, messages and disk included.
    pub past: String,
    /// A test that plays it again.
    pub test: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, broken, scenario, runs, story, test, .. } = self;
        let replicas = scenario.options.replicas - scenario.options.absent.len();
        let steps = scenario.steps.len();
        writeln!(f, "seed {seed} breaks a promise: {broken}")?;
        writeln!(f, "cut down in {runs} runs to {replicas} replicas and {steps} steps:\n")?;
        writeln!(f, "{story}\nas a test:\n\n{test}")
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

impl<A: App> Default for Sim<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: App> Sim<A> {
    /// Plays 100 seeds, unless told otherwise.
    pub fn new() -> Self {
        let (replicas, topology, faults) = (None, None, Faults::default());
        Self { seeds: 0..100, replicas, topology, faults, app: PhantomData }
    }

    /// Plays these seeds.
    #[must_use]
    pub fn seeds(self, seeds: Range<u64>) -> Self {
        Self { seeds, ..self }
    }

    /// Begins with so many replicas, at most [`NODES_MAX`], in place of what the seed draws.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas: Some(replicas.clamp(1, NODES_MAX)), ..self }
    }

    /// Has replicas know each other's addresses so, in place of what the seed draws.
    #[must_use]
    pub fn topology(self, topology: Topology) -> Self {
        Self { topology: Some(topology), ..self }
    }

    /// Lets only these faults happen.
    #[must_use]
    pub fn faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// Plays all seeds, up to the first that breaks a promise. That one is cut down.
    ///
    /// A test may return the result: `Sim::<MyApp>::new().run().map(drop)`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run(&self) -> Result<Passed, Box<Failure>> {
        let mut passed = Passed::default();
        for seed in self.seeds.clone() {
            let outcome = self.replay(&self.scenario(seed))?;
            passed.seeds += 1;
            passed.events += outcome.events;
            passed.virtual_ms += outcome.virtual_ms;
            passed.digest = passed.digest.rotate_left(1) ^ outcome.digest.0;
        }
        Ok(passed)
    }

    /// Plays one scenario; if it breaks a promise it is cut down.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn replay(&self, scenario: &Scenario) -> Result<Outcome, Box<Failure>> {
        let play = |scenario: &Scenario| self.trace(scenario, Keep::Digest).0;
        let outcome = play(scenario);
        if outcome.broken.is_none() {
            return Ok(outcome);
        }
        match shrink_by(&play, scenario, RUNS_MAX) {
            Some(shrunk) => Err(Box::new(self.failure(scenario.seed, shrunk))),
            None => Ok(outcome),
        }
    }

    /// Returns the scenario of a seed: what goes wrong, and when users act.
    pub fn scenario(&self, seed: u64) -> Scenario {
        let Scenario { seed, mut options, steps } = Scenario::draw_common(seed, self.replicas);
        options.topology = self.topology.unwrap_or(options.topology);
        if !self.faults.network {
            let LinkOptions { delay_us, bytes_per_s, .. } = options.link;
            let (late_ppm, loss_ppm, reset_ppm, mangle_ppm) = (0, 0, 0, 0);
            options.link =
                LinkOptions { delay_us, late_ppm, loss_ppm, reset_ppm, bytes_per_s, mangle_ppm };
        }
        let steps = steps.into_iter().filter(|step| self.faults.allow(&step.action));
        let steps = (0..).zip(steps).map(|(number, Step { at_ms, action })| match action {
            Action::Write { seat, .. } => Step { at_ms, action: Action::Act { seat, number } },
            action => Step { at_ms, action },
        });
        Scenario { seed, options, steps: steps.collect() }
    }

    /// Plays one scenario as it is, and returns its trace too: to look at what [`Failure::past`]
    /// leaves out, or to make a page of it ([`trace::html`](crate::trace::html)).
    pub fn trace(&self, scenario: &Scenario, keep: Keep) -> (Outcome, Trace) {
        play(scenario, keep, Some(Box::new(Stage::<A>::new())))
    }

    fn failure(&self, seed: u64, shrunk: Shrunk) -> Failure {
        let Shrunk { scenario, outcome, runs } = shrunk;
        let (_, trace) = self.trace(&scenario, Keep::All);
        let entries = trace.entries();
        // A `String` takes all that is written to it.
        let story = story(entries).unwrap_or_default();
        let past = text::explain(entries, entries.len().saturating_sub(1), PAST);
        let name = std::any::type_name::<A>();
        let name = name.rsplit("::").next().unwrap_or(name);
        let again = format!("Sim::<{name}>::new().replay(&scenario.unwrap()).unwrap();");
        let test = as_test(&scenario.to_string(), &again);
        let unseen = || Broken::new("a run can be repeated", "it holds when it is played again");
        let broken = outcome.broken.unwrap_or_else(unseen);
        Failure { seed, broken, scenario, runs, story, past, test }
    }
}

/// So many entries of a failure's past are kept.
const PAST: usize = 60;
/// Most runs to cut one scenario down.
const RUNS_MAX: usize = 2_000;
