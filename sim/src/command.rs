//! The commands of the simulator, as `kdelta-sim` and `kdelta sim` have them.
//!
//! Everything that a command prints goes to `out`; a run depends on its arguments and on nothing
//! else. Results are 0 (all held), 1 (a promise was broken, or bugs were not found) or 2 (the
//! arguments are wrong).

use std::fmt::{self, Write};
use std::fs;
use std::ops::Range;

use crate::scenario::Scenario;
use crate::trace::{Keep, html, json, text};
use crate::{Outcome, crashes, run, run_traced, shrink};

/// What the commands are.
pub const USAGE: &str = "\
usage: sim run [--seeds A..B]      play the scenarios of seeds, B left out (0..100)
       sim replay SEED|FILE [--html FILE] [--json FILE]
                                   play one again: its last entries, and why it fails
       sim shrink SEED|FILE [--out FILE]
                                   cut a failing scenario down to what it takes to fail
       sim show SEED               print the scenario of a seed
       sim crashes [NAME...]       cut the power at every change of the disk, scenario by scenario
       sim list                    name the crash scenarios
";

/// Carries out a command; returns the exit code.
///
/// # Errors
/// Only those of `out`.
pub fn main(arguments: &[&str], out: &mut impl Write) -> Result<u8, fmt::Error> {
    let reason = match arguments {
        ["run"] => return batch(0..100, out),
        ["run", "--seeds", range] => match seeds(range) {
            Some(range) => return batch(range, out),
            None => format!("`{range}` is no range of seeds: write it as 0..100"),
        },
        ["replay", what, options @ ..] => match scenario(what) {
            Ok(scenario) => return replay(&scenario, options, out),
            Err(error) => error,
        },
        ["shrink", what, options @ ..] => match scenario(what) {
            Ok(scenario) => return cut_down(&scenario, options, out),
            Err(error) => error,
        },
        ["show", seed] => match seed.parse() {
            Ok(seed) => {
                write!(out, "{}", Scenario::draw(seed))?;
                return Ok(0);
            }
            Err(_) => format!("`{seed}` is no seed: a seed is a number"),
        },
        ["list"] => {
            crashes::names().iter().try_for_each(|name| writeln!(out, "{name}"))?;
            return Ok(0);
        }
        ["crashes", names @ ..] => return cut_power(names, out),
        _ => "no such command".to_owned(),
    };
    write!(out, "{reason}\n{USAGE}")?;
    Ok(2)
}

/// Plays seeds, prints what fails, and sums up.
fn batch(seeds: Range<u64>, out: &mut impl Write) -> Result<u8, fmt::Error> {
    let (mut failed, mut events, mut virtual_ms) = (Vec::new(), 0, 0);
    let count = seeds.end.saturating_sub(seeds.start);
    let mut all = 0u128;
    for seed in seeds {
        let outcome = run(&Scenario::draw(seed));
        events += outcome.events;
        virtual_ms += outcome.virtual_ms;
        all = all.rotate_left(1) ^ outcome.digest.0;
        if let Some(broken) = outcome.broken {
            writeln!(out, "seed {seed}: {broken}")?;
            failed.push(seed);
        }
    }
    let hours = virtual_ms / 3_600_000;
    writeln!(out, "{count} seeds, {events} events, {hours} hours in the world, digest {all:032x}")?;
    if failed.is_empty() {
        writeln!(out, "all promises held")?;
        return Ok(0);
    }
    writeln!(out, "{} failed; `sim shrink SEED` cuts one down", failed.len())?;
    Ok(1)
}

fn replay(scenario: &Scenario, options: &[&str], out: &mut impl Write) -> Result<u8, fmt::Error> {
    let (outcome, trace) = run_traced(scenario, Keep::All);
    let entries = trace.entries();
    let failing = outcome.broken.is_some().then(|| entries.len().saturating_sub(1));
    for pair in options.chunks(2) {
        let mut page = String::new();
        let file = match pair {
            ["--html", file] => {
                let title = format!("kdelta: seed {}", scenario.seed);
                html::write_html(entries, &title, failing, &mut page)?;
                file
            }
            ["--json", file] => {
                json::write_json_lines(entries, trace.first_kept(), &mut page)?;
                file
            }
            _ => {
                write!(out, "`{}` is not known\n{USAGE}", pair.join(" "))?;
                return Ok(2);
            }
        };
        if let Err(error) = fs::write(file, page) {
            writeln!(out, "{file}: {error}")?;
            return Ok(2);
        }
    }
    match failing {
        Some(failing) => out.write_str(&text::explain(entries, failing, EXPLAINED))?,
        None => {
            let last = entries.len().saturating_sub(EXPLAINED);
            text::write_text(entries.get(last..).unwrap_or_default(), out)?;
        }
    }
    sum_up(&outcome, out)
}

fn cut_down(scenario: &Scenario, options: &[&str], out: &mut impl Write) -> Result<u8, fmt::Error> {
    let Some(shrunk) = shrink(scenario, RUNS_MAX) else {
        writeln!(out, "the scenario does not fail")?;
        return Ok(0);
    };
    let text = shrunk.scenario.to_string();
    if let ["--out", file] = options
        && let Err(error) = fs::write(file, &text)
    {
        writeln!(out, "{file}: {error}")?;
        return Ok(2);
    }
    writeln!(out, "# cut down in {} runs; as a test:\n", shrunk.runs)?;
    writeln!(out, "#[test]\nfn a_name_that_states_the_fact() {{")?;
    writeln!(out, "    let scenario = Scenario::parse(\n        \"\\")?;
    text.lines().try_for_each(|line| writeln!(out, "{line}\\n\\"))?;
    writeln!(out, "\",\n    );\n    assert_eq!(run(&scenario.unwrap()).broken, None);\n}}\n")?;
    sum_up(&shrunk.outcome, out)
}

fn sum_up(outcome: &Outcome, out: &mut impl Write) -> Result<u8, fmt::Error> {
    let Outcome { digest, events, virtual_ms, broken } = outcome;
    writeln!(out, "{events} events, {virtual_ms} ms in the world, digest {:032x}", digest.0)?;
    match broken {
        None => writeln!(out, "all promises held").map(|()| 0),
        Some(broken) => writeln!(out, "broken: {broken}").map(|()| 1),
    }
}

fn cut_power(names: &[&str], out: &mut impl Write) -> Result<u8, fmt::Error> {
    if let Some(unknown) = names.iter().find(|name| !crashes::names().contains(name)) {
        write!(out, "no crash scenario is called `{unknown}`\n{USAGE}")?;
        return Ok(2);
    }
    let reports = crashes::run((!names.is_empty()).then_some(names), &crashes::Limits::default());
    crashes::report(&reports, out)?;
    Ok(u8::from(reports.iter().any(|report| !report.failures.is_empty())))
}

/// The scenario of a seed, or the one in a file.
fn scenario(what: &str) -> Result<Scenario, String> {
    if let Ok(seed) = what.parse() {
        return Ok(Scenario::draw(seed));
    }
    let text = fs::read_to_string(what).map_err(|error| format!("{what}: {error}"))?;
    Scenario::parse(&text).map_err(|error| format!("{what}: {error}"))
}

fn seeds(range: &str) -> Option<Range<u64>> {
    let (from, to) = range.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// How many entries of a failure's past are printed.
const EXPLAINED: usize = 40;
/// Most runs to cut one scenario down.
const RUNS_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn say(arguments: &[&str]) -> (u8, String) {
        let mut out = String::new();
        (main(arguments, &mut out).unwrap(), out)
    }

    #[test]
    fn what_is_wrong_is_said_and_ends_with_two() {
        for (arguments, said) in [
            (&["frob"][..], "no such command"),
            (&["run", "--seeds", "7"], "no range"),
            (&["replay", "/nowhere/at/all"], "/nowhere/at/all"),
            (&["show", "x"], "no seed"),
            (&["crashes", "frob"], "no crash scenario"),
            (&["replay", "1", "--frob"], "--frob"),
        ] {
            let (code, out) = say(arguments);
            assert!(code == 2 && out.contains(said) && out.contains("usage"), "{out}");
        }
    }

    #[test]
    fn a_seed_that_holds_is_shown_played_and_replayed() {
        let (code, shown) = say(&["show", "3"]);
        assert_eq!((code, Scenario::parse(&shown).unwrap()), (0, Scenario::draw(3)));
        let (code, out) = say(&["run", "--seeds", "3..4"]);
        assert!(code == 0 && out.contains("all promises held"), "{out}");
        let (code, out) = say(&["replay", "3"]);
        assert!(code == 0 && out.contains("all promises held"), "{out}");
        let (code, out) = say(&["shrink", "3"]);
        assert!(code == 0 && out.contains("does not fail"), "{out}");
    }
}
