//! The commands of the simulator, as `kdelta-sim` and `kdelta sim` have them.
//!
//! A [`Command`] is carried out line by line: what it prints goes to a [`Front`] as soon as it is
//! known, and depends on the command and on this build alone. Nothing here reads a clock; whoever
//! wants to know how fast it went measures between the calls of [`Front::played`].

mod lines;
mod revision;
mod words;

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, io};

use kdelta_engine::base::{mark, mutant};

use crate::check::Broken;
use crate::coverage::{self, marks, mutants};
use crate::running::quietly;
use crate::scenario::{NODES_MAX, Scenario, ScenarioError};
use crate::trace::{Keep, html, json, text};
use crate::{Outcome, crashes, run, run_traced, shrink, spread};

pub use words::{USAGE, parse, seeds};

/// A command with what holds for every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub verb: Verb,
    /// Whether to print JSON, one object a line.
    pub json: bool,
    /// The planted bug that acts in this process from now on.
    pub mutant: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Plays scenarios.
    Run(Batch),
    /// Plays one scenario again: its last entries, or the past of its failure.
    Replay {
        /// Which scenario.
        what: Source,
        /// Where its trace is written as a page.
        html: Option<PathBuf>,
        /// Where its trace is written as JSON Lines.
        trace: Option<PathBuf>,
    },
    /// Cuts a failing scenario down to what it takes to fail.
    Shrink {
        /// Which scenario.
        what: Source,
        /// Where the text of what is left is written.
        out: Option<PathBuf>,
    },
    /// Prints a scenario.
    Show(Source),
    /// Cuts the power at every change of the disk: in the named crash scenarios, or in all.
    Crashes(Vec<String>),
    /// Says how new commits spread.
    Spread(spread::Setting),
    /// Names the rare paths that a batch misses.
    Coverage(coverage::Batch),
    /// Names the planted bugs that a batch finds, and those that it does not.
    Mutants(coverage::Batch),
    /// Names the crash scenarios, the planted bugs and the marks of rare paths.
    List,
}

/// Which scenarios a run plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The seeds. With a file and without seeds, the one that the file names.
    pub seeds: Option<Range<u64>>,
    /// How many replicas begin, in place of what the seed draws.
    pub nodes: Option<usize>,
    /// The steps, in place of what the seed draws.
    pub file: Option<PathBuf>,
}

/// Where one scenario comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is drawn.
    Seed {
        /// From this seed.
        seed: u64,
        /// With so many replicas at the start, in place of what the seed draws.
        nodes: Option<usize>,
    },
    /// It is read from a file.
    File(PathBuf),
}

/// Whoever shows what a command prints.
pub trait Front {
    /// Takes whole lines of data, and hands them on before it returns.
    ///
    /// # Errors
    /// Nobody reads any more.
    fn print(&mut self, lines: &str) -> io::Result<()>;

    /// Is told after each scenario how far the command is.
    fn played(&mut self, _sums: &Sums) {}

    /// Tells whether to end before the next scenario.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// How far a batch is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many seeds there are in all.
    pub seeds: u64,
    /// How many were played.
    pub played: u64,
    /// Those that failed.
    pub failed: Vec<u64>,
    /// The events of all that were played.
    pub events: u64,
    /// The time that passed in all their worlds, in milliseconds.
    pub virtual_ms: u64,
    /// The digests of all, folded in their order.
    pub digest: u128,
}

/// Why a command could not be carried out.
#[non_exhaustive]
#[derive(Debug)]
pub enum CommandError {
    /// The arguments are wrong.
    Usage(String),
    /// A file cannot be read.
    Read(PathBuf, io::Error),
    /// A file cannot be written.
    Write(PathBuf, io::Error),
    /// A file holds no scenario.
    Scenario(PathBuf, ScenarioError),
    /// Nobody takes what is printed.
    Front(io::Error),
    /// The front asked to end.
    Stopped,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(reason) => f.write_str(reason),
            Self::Read(file, error) => write!(f, "cannot read {}: {error}", file.display()),
            Self::Write(file, error) => write!(f, "cannot write {}: {error}", file.display()),
            Self::Scenario(file, error) => write!(f, "{}: {error}", file.display()),
            Self::Front(error) => write!(f, "cannot print: {error}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<fmt::Error> for CommandError {
    fn from(error: fmt::Error) -> Self {
        Self::Front(io::Error::other(error))
    }
}

/// Carries out a command. Returns whether everything held.
///
/// # Errors
/// [`CommandError`]; what was printed before is right.
pub fn carry_out(command: &Command, front: &mut dyn Front) -> Result<bool, CommandError> {
    if let Some(name) = &command.mutant {
        mutants::plant(Some(name))?;
    }
    let mut desk = Desk { front, json: command.json };
    match &command.verb {
        Verb::Run(batch) => desk.run(batch),
        Verb::Replay { what, html, trace } => {
            desk.replay(&what.scenario()?, html.as_deref(), trace.as_deref())
        }
        Verb::Shrink { what, out } => desk.shrink(&what.scenario()?, out.as_deref()),
        Verb::Show(what) => desk.show(&what.scenario()?),
        Verb::Crashes(names) => desk.crashes(names),
        Verb::Spread(setting) => desk.spread(setting),
        Verb::Coverage(batch) => marks::play(batch, desk.front),
        Verb::Mutants(batch) => mutants::play(batch, desk.front),
        Verb::List => desk.list(),
    }
}

/// Returns the marks of rare paths that no scenario took since they were reset; none if this build
/// counts no marks.
fn marks_missed() -> Option<Vec<&'static str>> {
    let hits = marks::hits();
    let missed = hits.iter().filter(|(_, count)| *count == 0).map(|(name, _)| *name);
    (!hits.is_empty()).then(|| missed.collect())
}

impl Source {
    /// Draws or reads the scenario.
    fn scenario(&self) -> Result<Scenario, CommandError> {
        match self {
            Self::Seed { seed, nodes } => draw(*seed, *nodes),
            Self::File(file) => read(file),
        }
    }
}

fn draw(seed: u64, nodes: Option<usize>) -> Result<Scenario, CommandError> {
    match nodes {
        Some(nodes) if !(1..=NODES_MAX).contains(&nodes) => {
            Err(CommandError::Usage(format!("a world begins with 1 to {NODES_MAX} replicas")))
        }
        nodes => Ok(Scenario::draw_sized(seed, nodes)),
    }
}

fn read(file: &Path) -> Result<Scenario, CommandError> {
    let text = fs::read_to_string(file).map_err(|e| CommandError::Read(file.to_owned(), e))?;
    Scenario::parse(&text).map_err(|error| CommandError::Scenario(file.to_owned(), error))
}

fn write(file: &Path, text: &str) -> Result<(), CommandError> {
    fs::write(file, text).map_err(|error| CommandError::Write(file.to_owned(), error))
}

/// Where commands are carried out.
struct Desk<'a> {
    front: &'a mut dyn Front,
    json: bool,
}

impl Desk<'_> {
    fn print(&mut self, lines: &str) -> Result<(), CommandError> {
        self.front.print(lines).map_err(CommandError::Front)
    }

    fn run(&mut self, batch: &Batch) -> Result<bool, CommandError> {
        let read = batch.file.as_deref().map(read).transpose()?;
        let seeds = match (&batch.seeds, &read) {
            (Some(seeds), _) => seeds.clone(),
            (None, Some(scenario)) => scenario.seed..scenario.seed.saturating_add(1),
            (None, None) => SEEDS,
        };
        if read.is_some() && batch.nodes.is_some() {
            let reason = "a scenario in a file says itself how many replicas there are";
            return Err(CommandError::Usage(reason.to_owned()));
        }
        marks::reset();
        let seeds_all = seeds.end.saturating_sub(seeds.start);
        let mut sums = Sums { seeds: seeds_all, ..Sums::default() };
        for seed in seeds {
            if self.front.is_stopped() {
                return Err(CommandError::Stopped);
            }
            let scenario = match &read {
                Some(scenario) => Scenario { seed, ..scenario.clone() },
                None => draw(seed, batch.nodes)?,
            };
            let outcome = run(&scenario);
            sums.add(seed, &outcome);
            self.front.played(&sums);
            if self.json {
                self.print(&lines::played(&scenario, &outcome)?)?;
            } else if let Some(broken) = &outcome.broken {
                self.print(&format!("seed {seed}: {broken}\n"))?;
                if sums.failed.len() <= PASTS {
                    self.print(&past(&scenario))?;
                }
            }
        }
        self.sum_up_all(&sums)?;
        Ok(sums.failed.is_empty())
    }

    fn sum_up_all(&mut self, sums: &Sums) -> Result<(), CommandError> {
        let missed = marks_missed();
        if self.json {
            return self.print(&lines::sums(sums, missed.as_deref())?);
        }
        let Sums { played, failed, events, virtual_ms, digest, .. } = sums;
        let hours = virtual_ms / 3_600_000;
        let mut said = format!(
            "{played} seeds, {events} events, {hours} hours in the world, digest {digest:032x}\n"
        );
        if let Some(missed) = missed.filter(|missed| !missed.is_empty()) {
            writeln!(said, "{} rare paths not taken: {}", missed.len(), missed.join(", "))?;
        }
        match failed.len() {
            0 => said.push_str("all promises held\n"),
            some => {
                let commit = revision::checked_out();
                let commit = commit.map_or_else(String::new, |id| format!(" at commit {id}"));
                writeln!(said, "{some} failed{commit}; `sim shrink SEED` cuts one down")?;
            }
        }
        self.print(&said)
    }

    fn replay(
        &mut self,
        scenario: &Scenario,
        page: Option<&Path>,
        trace_file: Option<&Path>,
    ) -> Result<bool, CommandError> {
        let (outcome, trace) = run_traced(scenario, Keep::All);
        let entries = trace.entries();
        let failing = outcome.broken.is_some().then(|| entries.len().saturating_sub(1));
        if let Some(file) = page {
            let (title, mut text) = (format!("kdelta: seed {}", scenario.seed), String::new());
            html::write_html(entries, &title, failing, &mut text)?;
            write(file, &text)?;
        }
        if let Some(file) = trace_file {
            let mut text = String::new();
            json::write_json_lines(entries, trace.first_kept(), &mut text)?;
            write(file, &text)?;
        }
        if self.json {
            self.print(&lines::played(scenario, &outcome)?)?;
            return Ok(outcome.broken.is_none());
        }
        let said = match failing {
            Some(failing) => text::explain(entries, failing, EXPLAINED),
            None => {
                let last = entries.len().saturating_sub(EXPLAINED);
                let mut said = String::new();
                text::write_text(entries.get(last..).unwrap_or_default(), &mut said)?;
                said
            }
        };
        self.print(&said)?;
        self.sum_up(&outcome)
    }

    fn shrink(&mut self, scenario: &Scenario, out: Option<&Path>) -> Result<bool, CommandError> {
        let Some(shrunk) = quietly(|| shrink(scenario, RUNS_MAX)) else {
            let said = match self.json {
                true => lines::played(scenario, &run(scenario))?,
                false => "the scenario does not fail\n".to_owned(),
            };
            return self.print(&said).map(|()| true);
        };
        let text = shrunk.scenario.to_string();
        if let Some(file) = out {
            write(file, &text)?;
        }
        if self.json {
            self.print(&lines::played(&shrunk.scenario, &shrunk.outcome)?)?;
            return Ok(false);
        }
        let mut said = format!("# cut down in {} runs; as a test:\n\n", shrunk.runs);
        said.push_str(&as_test(&text, "assert_eq!(run(&scenario.unwrap()).broken, None);"));
        said.push('\n');
        self.print(&said)?;
        self.sum_up(&shrunk.outcome)
    }

    fn sum_up(&mut self, outcome: &Outcome) -> Result<bool, CommandError> {
        let Outcome { digest, events, virtual_ms, broken } = outcome;
        let verdict = match broken {
            None => "all promises held".to_owned(),
            Some(broken) => format!("broken: {broken}"),
        };
        let digest = digest.0;
        self.print(&format!(
            "{events} events, {virtual_ms} ms in the world, digest {digest:032x}\n{verdict}\n"
        ))?;
        Ok(broken.is_none())
    }

    fn show(&mut self, scenario: &Scenario) -> Result<bool, CommandError> {
        let said = match self.json {
            true => lines::scenario(scenario)?,
            false => scenario.to_string(),
        };
        self.print(&said).map(|()| true)
    }

    fn crashes(&mut self, names: &[String]) -> Result<bool, CommandError> {
        let known = crashes::names();
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            let reason = format!("no crash scenario is called `{unknown}`");
            return Err(CommandError::Usage(reason));
        }
        let wanted = |name: &&str| names.is_empty() || names.iter().any(|one| one == name);
        let mut reports = Vec::new();
        for name in known.into_iter().filter(wanted) {
            if self.front.is_stopped() {
                return Err(CommandError::Stopped);
            }
            let limits = crashes::Limits::default();
            for report in crashes::run(Some(&[name]), &limits) {
                if self.json {
                    self.print(&lines::crashes(&report)?)?;
                } else {
                    let mut said = String::new();
                    crashes::report_one(&report, &mut said)?;
                    self.print(&said)?;
                }
                reports.push(report);
            }
        }
        if !self.json {
            let mut said = String::new();
            crashes::report_sums(&reports, &mut said)?;
            self.print(&said)?;
        }
        Ok(reports.iter().all(|report| report.failures.is_empty()))
    }

    fn spread(&mut self, setting: &spread::Setting) -> Result<bool, CommandError> {
        let measured = spread::measure(setting);
        let broken = match &measured {
            Ok(figures) => figures.check().err(),
            Err(broken) => Some(broken.clone()),
        };
        if self.json {
            self.print(&lines::spread(setting, measured.as_ref().ok(), broken.as_ref())?)?;
            return Ok(broken.is_none());
        }
        if let Ok(figures) = &measured {
            self.print(&format!("{figures}\n"))?;
        }
        if let Some(Broken { invariant, seen }) = &broken {
            self.print(&format!("broken: {invariant}: {seen}\n"))?;
        }
        Ok(broken.is_none())
    }

    fn list(&mut self) -> Result<bool, CommandError> {
        let crashes = crashes::names().into_iter();
        let crashes = crashes.map(|name| ("crash", name, "power cuts at every change"));
        let mutants = mutant::ALL.iter().map(|mutant| ("mutant", mutant.name, mutant.what));
        let marks = mark::ALL.iter().map(|mark| ("mark", mark.name, mark.what));
        let mut said = String::new();
        for (kind, name, what) in crashes.chain(mutants).chain(marks) {
            match self.json {
                true => said.push_str(&lines::listed(kind, name, what)?),
                false => writeln!(said, "{kind:<7} {name:<32} {what}")?,
            }
        }
        self.print(&said).map(|()| true)
    }
}

/// Returns the last that led to the failure of a scenario, for a batch.
fn past(scenario: &Scenario) -> String {
    let (_, trace) = run_traced(scenario, Keep::All);
    let entries = trace.entries();
    text::explain(entries, entries.len().saturating_sub(1), EXPLAINED_IN_BATCH)
}

impl Sums {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.played += 1;
        self.events += outcome.events;
        self.virtual_ms += outcome.virtual_ms;
        self.digest = self.digest.rotate_left(1) ^ outcome.digest.0;
        self.failed.extend(outcome.broken.is_some().then_some(seed));
    }
}

/// Returns a test that plays a scenario again, as its last line says.
pub(crate) fn as_test(scenario: &str, again: &str) -> String {
    let mut test = "#[test]\nfn a_name_that_states_the_fact() {\n".to_owned();
    test.push_str("    let scenario = Scenario::parse(\n        \"\\\n");
    scenario.lines().for_each(|line| test.extend([line, "\\n\\\n"]));
    test.push_str("\",\n    );\n    ");
    test.extend([again, "\n}\n"]);
    test
}

/// The seeds of a run that names none.
const SEEDS: Range<u64> = 0..100;
/// How many entries of a failure's past are printed.
const EXPLAINED: usize = 40;
/// The same of a failure in a batch, and of how many of them.
const EXPLAINED_IN_BATCH: usize = 16;
const PASTS: usize = 5;
/// Most runs to cut one scenario down.
pub(crate) const RUNS_MAX: usize = 2_000;

#[cfg(test)]
mod tests;
