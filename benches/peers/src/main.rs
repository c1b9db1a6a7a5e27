//! Kdelta beside its peers and beside the limits of the machine: the same work, in one run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- [PART…] [--quick] [--dir DIR]
//! [--etcd FILE] [--ten-million] [--hundred-million] [--write]` with `all` or some of `put get open
//! history import sync growth space limits simulator`. Prints a line a figure; `--write` renders
//! the tables and plots of `docs/PERFORMANCE.md` from it. Promises: everyone does the same with the
//! same data and the same durability, round after round in alternating order; each figure has a
//! fresh directory, which goes away. Does not do: tuning, beyond one size of cache for all; power
//! cuts.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::print_stderr, reason = "and what stands in its way")]
#![expect(clippy::indexing_slicing, reason = "a benchmark may panic, and indexes what it made")]

mod bars;
mod child;
mod data;
mod engines;
mod figures;
mod machine;
mod raw;
mod render;
mod settings;
mod svg;
#[cfg_attr(
    not(all(feature = "automerge", feature = "iroh")),
    allow(dead_code, unreachable_code, unused_variables, reason = "for those who were left out")
)]
mod syncs;
mod work;

use std::error::Error;
use std::process::ExitCode;

use figures::Run;
use settings::{Part, Settings};

/// What went wrong, as text for whoever runs this.
pub(crate) type Problem = Box<dyn Error + Send + Sync>;
/// A value, or what went wrong.
pub(crate) type Res<T> = Result<T, Problem>;
/// Nothing, or what went wrong.
pub(crate) type Outcome = Res<()>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((first, rest)) if first == child::FLAG => child::run(rest),
        _ => Settings::read(&args).and_then(|settings| run(&settings)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Outcome {
    let mut run = if settings.write { Run::load()? } else { Run::default() };
    for part in &settings.parts {
        println!("== {}", part.name());
        let mut figures = figures::Part::begin(settings)?;
        match part {
            Part::Put => work::put::run(settings, &mut figures)?,
            Part::Get => work::get::run(settings, &mut figures)?,
            Part::Open => work::open::run(settings, &mut figures)?,
            Part::History => work::history::run(settings, &mut figures)?,
            Part::Import => work::import::run(settings, &mut figures)?,
            Part::Sync => work::sync::run(settings, &mut figures)?,
            Part::Growth => work::growth::run(settings, &mut figures)?,
            Part::Space => work::space::run(settings, &mut figures)?,
            Part::Limits => work::limits::run(settings, &mut figures)?,
            Part::Simulator => work::simulator::run(settings, &mut figures)?,
        }
        run.keep(part.name(), figures.end());
        if settings.write {
            // After each part: what a long run has found is not lost with a later part.
            run.save()?;
            render::write(&run)?;
        }
    }
    for line in bars::lines(&run) {
        println!("{}", line.join(" | "));
    }
    Ok(())
}
