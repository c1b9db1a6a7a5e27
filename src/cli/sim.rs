//! `kdelta sim`: the simulator from the command line.
//!
//! The simulator works on a thread of its own and hands over each line when it is known. What is
//! on stdout depends on the arguments and on this build; how fast it went is told on stderr.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand, ValueHint};
use tokio::sync::mpsc;

use kdelta::sim::command::{self, Batch, CommandError, Front, Source, Sums, Verb};

use super::context::Context;
use super::failure::{Exit, Failure};

/// What stands under the help of `sim`.
pub(crate) const EXAMPLES: &str = "\
The same seed gives the same run, on every machine. Exit code 1: a promise was broken.

Examples:
  kdelta sim run --seeds 0..1000
  kdelta sim replay 34 --html past.html";

/// What to do in the simulated world.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Plays the scenarios of seeds, and names those that break a promise
    #[command(after_help = "Examples:\n  kdelta sim run --seeds 0..1000\n  \
        kdelta sim run --seed 34 --nodes 5 --json\n  kdelta sim run --scenario failing.txt")]
    Run(Run),
    /// Plays one scenario again: its last entries, or the past of its failure
    #[command(after_help = "Examples:\n  kdelta sim replay 34\n  \
        kdelta sim replay failing.txt --html past.html")]
    Replay(Replay),
    /// Cuts a failing scenario down to what it takes to fail
    #[command(after_help = "Example:\n  kdelta sim shrink 34 --out failing.txt")]
    Shrink(Shrink),
    /// Prints the scenario of a seed
    #[command(after_help = "Example:\n  kdelta sim show 34 > scenario.txt")]
    Show(One),
    /// Cuts the power at every change of the disk, in scripted scenarios
    #[command(after_help = "Example:\n  kdelta sim crashes")]
    Crashes {
        /// The scenarios; without one, all
        names: Vec<String>,
    },
    /// Names the crash scenarios, the planted bugs and the marks of rare paths
    #[command(visible_alias = "ls", after_help = "Example:\n  kdelta sim list")]
    List,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The one seed to play
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub(crate) seed: Option<u64>,
    /// The seeds to play, B left out [default: 0..100]
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub(crate) seeds: Option<Range<u64>>,
    /// How many replicas begin; without it, what the seed draws
    #[arg(long, value_name = "N", conflicts_with = "scenario", value_parser = nodes)]
    pub(crate) nodes: Option<usize>,
    /// Plays the steps in this file, under its own seed or those that are given
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) scenario: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) planted: Planted,
}

#[derive(Debug, Args)]
pub(crate) struct Planted {
    /// Plants a bug first, to see it found; for builds with --features kdelta-sim/mutants
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// A seed, or a file with a scenario
    #[arg(value_name = "SEED|FILE", value_hint = ValueHint::FilePath)]
    pub(crate) what: String,
    /// How many replicas begin; without it, what the seed draws
    #[arg(long, value_name = "N", value_parser = nodes)]
    pub(crate) nodes: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) one: One,
    /// Writes what happened as a page
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
    /// Writes what happened as JSON Lines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) trace: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) planted: Planted,
}

#[derive(Debug, Args)]
pub(crate) struct Shrink {
    #[command(flatten)]
    pub(crate) one: One,
    /// Writes what is left of the scenario
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) planted: Planted,
}

fn seeds(range: &str) -> Result<Range<u64>, CommandError> {
    command::seeds(range)
}

fn nodes(word: &str) -> Result<usize, String> {
    let max = kdelta::sim::scenario::NODES_MAX;
    let fits = word.parse().ok().filter(|nodes| (1..=max).contains(nodes));
    fits.ok_or_else(|| format!("a world begins with 1 to {max} replicas"))
}

/// `sim`
pub(crate) async fn sim(context: &mut Context<'_>, args: Sim) -> Result<Exit, Failure> {
    let (verb, mutant) = asked(args)?;
    let command = command::Command { verb, json: context.json, mutant };
    let (sender, mut lines) = mpsc::channel(LINES_MAX);
    let began = Instant::now();
    let playing = tokio::task::spawn_blocking(move || {
        let mut wire = Wire { sender, sums: Sums::default() };
        let done = command::carry_out(&command, &mut wire);
        (done, wire.sums)
    });
    let bar = context.console.progress(None, "playing");
    while let Some(said) = lines.recv().await {
        match said {
            Said::Lines(text) => bar.suspend(|| {
                context.console.bytes(text.as_bytes())?;
                context.console.flush()
            })?,
            Said::Played { played, seeds } => {
                bar.set_message(format!("{played} of {seeds} seeds"));
            }
        }
    }
    bar.finish_and_clear();
    let (done, sums) = playing.await.map_err(|_| Failure::other("the simulator panicked"))?;
    if sums.played > 0 {
        let ms = began.elapsed().as_millis().max(1);
        let a_second = u128::from(sums.events) * 1_000 / ms;
        let times = u128::from(sums.virtual_ms) / ms;
        context.console.note(&format!(
            "{ms} ms, {a_second} events a second, {times} times as fast as the world's clock"
        ));
    }
    match done {
        Ok(true) => Ok(Exit::Ok),
        Ok(false) => Ok(Exit::Other),
        Err(error) => Err(failure(&error)),
    }
}

fn asked(args: Sim) -> Result<(Verb, Option<String>), Failure> {
    Ok(match args {
        Sim::Run(Run { seed, seeds, nodes, scenario, planted }) => {
            let seeds = seed.map(|seed| seed..seed.saturating_add(1)).or(seeds);
            (Verb::Run(Batch { seeds, nodes, file: scenario }), planted.mutant)
        }
        Sim::Replay(Replay { one, html, trace, planted }) => {
            (Verb::Replay { what: one.source()?, html, trace }, planted.mutant)
        }
        Sim::Shrink(Shrink { one, out, planted }) => {
            (Verb::Shrink { what: one.source()?, out }, planted.mutant)
        }
        Sim::Show(one) => (Verb::Show(one.source()?), None),
        Sim::Crashes { names } => (Verb::Crashes(names), None),
        Sim::List => (Verb::List, None),
    })
}

impl One {
    fn source(self) -> Result<Source, Failure> {
        match (self.what.parse(), self.nodes) {
            (Ok(seed), nodes) => Ok(Source::Seed { seed, nodes }),
            (Err(_), None) => Ok(Source::File(self.what.into())),
            (Err(_), Some(_)) => {
                let reason = "a scenario in a file says itself how many replicas there are";
                Err(Failure::usage(reason).hint("--nodes goes with a seed"))
            }
        }
    }
}

fn failure(error: &CommandError) -> Failure {
    let file = |what, path: &Path, error: &io::Error| Failure::file(what, path, error);
    match error {
        CommandError::Read(path, error) => file("read", path, error),
        CommandError::Write(path, error) => file("write", path, error),
        CommandError::Usage(_) | CommandError::Scenario(..) => {
            Failure::usage(error.to_string()).hint("See kdelta sim --help")
        }
        CommandError::Front(error) => Failure::stdout(error),
        _ => Failure::other(error.to_string()),
    }
}

/// What comes from the simulator's thread.
enum Said {
    Lines(String),
    Played { played: u64, seeds: u64 },
}

/// The simulator's end of the wire. When nobody is at the other end it stops.
struct Wire {
    sender: mpsc::Sender<Said>,
    sums: Sums,
}

impl Front for Wire {
    fn print(&mut self, lines: &str) -> io::Result<()> {
        let sent = self.sender.blocking_send(Said::Lines(lines.to_owned()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn played(&mut self, sums: &Sums) {
        self.sums.clone_from(sums);
        // Whoever is busy with earlier lines can do without this one.
        let (played, seeds) = (sums.played, sums.seeds);
        let _ = self.sender.try_send(Said::Played { played, seeds });
    }

    fn is_stopped(&self) -> bool {
        self.sender.is_closed()
    }
}

/// So many lines may wait for the reader of stdout.
const LINES_MAX: usize = 64;
