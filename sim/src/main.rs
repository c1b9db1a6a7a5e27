//! `kdelta-sim [--seeds A..B]`: plays seeds, one line a seed; fails if a promise was broken.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["--show", seed] = words.as_slice() {
        print!("{}", kdelta_sim::Scenario::draw(seed.parse().unwrap_or(0)));
        return ExitCode::SUCCESS;
    }
    if let ["--shrink", seed] = words.as_slice() {
        let scenario = kdelta_sim::Scenario::draw(seed.parse().unwrap_or(0));
        match kdelta_sim::shrink(&scenario, 2_000) {
            Some(shrunk) => {
                print!("{}# {} runs: {:?}\n", shrunk.scenario, shrunk.runs, shrunk.outcome.broken)
            }
            None => println!("does not fail"),
        }
        return ExitCode::SUCCESS;
    }
    if let ["--play", file] = words.as_slice() {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        match kdelta_sim::Scenario::parse(&text) {
            Ok(scenario) => println!("{:?}", kdelta_sim::run(&scenario)),
            Err(error) => println!("{error}"),
        }
        return ExitCode::SUCCESS;
    }
    let range = match words.as_slice() {
        [] => Some((0, 100)),
        ["--seeds", range] => range
            .split_once("..")
            .and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?))),
        _ => None,
    };
    let Some((from, to)) = range else {
        eprintln!("usage: kdelta-sim [--seeds A..B]   (B is left out)");
        return ExitCode::from(2);
    };
    let (mut failed, mut events) = (Vec::new(), 0);
    for seed in from..to {
        let outcome = kdelta_sim::run(&kdelta_sim::Scenario::draw(seed));
        events += outcome.events;
        let broken = outcome.broken.map_or(String::new(), |broken| format!(" BROKEN {broken}"));
        println!(
            "seed {seed} digest {:016x} events {} virtual_ms {}{broken}",
            outcome.digest, outcome.events, outcome.virtual_ms
        );
        if !broken.is_empty() {
            failed.push(seed);
        }
    }
    println!(
        "{} seeds, {events} events, {} failed: {failed:?}",
        to.saturating_sub(from),
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
