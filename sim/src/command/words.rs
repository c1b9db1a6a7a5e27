//! The words of `kdelta-sim`. `kdelta sim` has a grammar of its own, and help.

use std::ops::Range;
use std::str::FromStr;

use super::{Batch, Command, CommandError, Source, Verb};
use crate::coverage::{self, marks, mutants};
use crate::scenario::SEATS_MAX;
use crate::spread::Setting;

/// What the words are.
pub const USAGE: &str = "\
usage: kdelta-sim run [--seed N | --seeds A..B] [--nodes N] [--scenario FILE]
                                   play the scenarios of seeds, B left out (0..100)
       kdelta-sim replay SEED|FILE [--nodes N] [--html FILE] [--trace FILE]
                                   play one again: its last entries, and why it fails
       kdelta-sim shrink SEED|FILE [--nodes N] [--out FILE]
                                   cut a failing scenario down to what it takes to fail
       kdelta-sim show SEED [--nodes N]
                                   print the scenario of a seed
       kdelta-sim crashes [NAME...]
                                   cut the power at every change of the disk, scenario by scenario
       kdelta-sim spread [--seed N] [--nodes N] [--loss PPM] [--commits N]
                                   how new commits spread among many replicas: copies and hops
       kdelta-sim coverage [--seeds A..B] [--every N]
                                   the rare paths that a batch misses (feature `marks`)
       kdelta-sim mutants [NAME...] [--seeds A..B] [--every N] [--brief]
                                   the planted bugs that it finds (feature `mutants`); the power
                                   is cut at each Nth change of the disk, 0: at none; brief: where
                                   each was found before comes first
       kdelta-sim list             name crash scenarios, planted bugs and rare paths
       everywhere: --json          one object a line
                   --mutant NAME   with a planted bug (feature `mutants`)
";

/// Reads words.
///
/// # Errors
/// [`CommandError::Usage`].
pub fn parse(words: &[&str]) -> Result<Command, CommandError> {
    let mut given = Given::default();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--") else {
            given.plain.push(word);
            continue;
        };
        match name {
            "json" => given.json = true,
            "brief" => given.brief = true,
            _ => match words.next() {
                Some(value) => given.options.push((name, value)),
                None => return usage(format!("`{word}` needs a value")),
            },
        }
    }
    let json = given.json;
    let mutant = given.take("mutant").map(str::to_owned);
    let verb = given.verb()?;
    match given.options.first() {
        _ if given.brief => usage("`--brief` is not known here"),
        Some((name, _)) => usage(format!("`--{name}` is not known here")),
        None => Ok(Command { verb, json, mutant }),
    }
}

#[derive(Default)]
struct Given<'a> {
    plain: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
    json: bool,
    brief: bool,
}

impl<'a> Given<'a> {
    fn verb(&mut self) -> Result<Verb, CommandError> {
        match *self.plain {
            ["run"] => self.batch().map(Verb::Run),
            ["replay", what] => {
                let what = self.source(what)?;
                let [html, trace] = ["html", "trace"].map(|name| self.take(name).map(Into::into));
                Ok(Verb::Replay { what, html, trace })
            }
            ["shrink", what] => {
                let what = self.source(what)?;
                Ok(Verb::Shrink { what, out: self.take("out").map(Into::into) })
            }
            ["show", what] => self.source(what).map(Verb::Show),
            ["crashes", ref names @ ..] => {
                Ok(Verb::Crashes(names.iter().map(|name| (*name).to_owned()).collect()))
            }
            ["spread"] => self.spread().map(Verb::Spread),
            ["coverage"] => self.plays(&marks::PLAIN, &[]).map(Verb::Coverage),
            ["mutants", ref names @ ..] => {
                let names = names.to_vec();
                self.plays(&mutants::PLAIN, &names).map(Verb::Mutants)
            }
            ["list"] => Ok(Verb::List),
            [] => usage("a command is missing"),
            [first, ..] => usage(format!("`{first}` is no command, or has too many words")),
        }
    }

    fn batch(&mut self) -> Result<Batch, CommandError> {
        let seeds = match (self.take("seed"), self.take("seeds")) {
            (Some(_), Some(_)) => return usage("`--seed` or `--seeds`, not both"),
            (Some(seed), None) => {
                let seed: u64 = number(seed)?;
                Some(seed..seed.saturating_add(1))
            }
            (None, Some(range)) => Some(seeds(range)?),
            (None, None) => None,
        };
        let nodes = self.nodes()?;
        Ok(Batch { seeds, nodes, file: self.take("scenario").map(Into::into) })
    }

    fn spread(&mut self) -> Result<Setting, CommandError> {
        let plain = Setting::HUNDRED;
        let setting = Setting {
            seed: self.take("seed").map_or(Ok(plain.seed), number)?,
            replicas: self.nodes()?.unwrap_or(plain.replicas),
            loss_ppm: self.take("loss").map_or(Ok(plain.loss_ppm), number)?,
            commits: self.take("commits").map_or(Ok(plain.commits), number)?,
        };
        match (2..=SEATS_MAX).contains(&setting.replicas) {
            true => Ok(setting),
            false => usage(format!("commits spread among 2 to {SEATS_MAX} replicas")),
        }
    }

    fn plays(
        &mut self,
        plain: &coverage::Batch,
        names: &[&str],
    ) -> Result<coverage::Batch, CommandError> {
        Ok(coverage::Batch {
            seeds: self.take("seeds").map_or(Ok(plain.seeds.clone()), seeds)?,
            every: self.take("every").map_or(Ok(plain.every), number)?,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            brief: std::mem::take(&mut self.brief),
        })
    }

    fn source(&mut self, what: &str) -> Result<Source, CommandError> {
        Ok(match (what.parse(), self.nodes()?) {
            (Ok(seed), nodes) => Source::Seed { seed, nodes },
            (Err(_), None) => Source::File(what.into()),
            (Err(_), Some(_)) => return usage("`--nodes` goes with a seed"),
        })
    }

    fn nodes(&mut self) -> Result<Option<usize>, CommandError> {
        self.take("nodes").map(number).transpose()
    }

    /// Takes an option out, so that what is left is not known.
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.options.iter().position(|(known, _)| *known == name)?;
        Some(self.options.remove(at).1)
    }
}

/// Reads `A..B`.
///
/// # Errors
/// [`CommandError::Usage`].
pub fn seeds(range: &str) -> Result<Range<u64>, CommandError> {
    let ends = range.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    match ends {
        Some(seeds) if seeds.start < seeds.end => Ok(seeds),
        Some(_) => usage(format!("there is no seed in `{range}`: B is left out")),
        None => usage(format!("`{range}` is no range of seeds: write it as 0..100")),
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, CommandError> {
    word.parse().or_else(|_| usage(format!("`{word}` is no number that fits here")))
}

fn usage<T>(reason: impl Into<String>) -> Result<T, CommandError> {
    Err(CommandError::Usage(reason.into()))
}
