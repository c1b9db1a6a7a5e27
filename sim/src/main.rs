//! `kdelta-sim`: plays, replays and cuts down scenarios. With feature `mutants`, `--mutant NAME`
//! plants a bug first.

#![expect(clippy::print_stdout, reason = "a program prints")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = match words.as_slice() {
        #[cfg(feature = "mutants")]
        ["--mutant", name, rest @ ..] => {
            if let Err(error) = kdelta_engine::base::mutant::choose(Some(name)) {
                println!("{error}");
                return ExitCode::from(2);
            }
            rest
        }
        words => words,
    };
    let mut out = String::new();
    let code = kdelta_sim::command::main(words, &mut out);
    print!("{out}");
    ExitCode::from(code.unwrap_or(2))
}
