//! `kdelta-sim`: plays, replays and cuts down scenarios. Exit code 0: all promises held; 1: one was
//! broken, or something failed; 2: the arguments are wrong.

#[cfg(target_os = "linux")]
mod trap;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kdelta_sim::command::{self, CommandError, Front, Sums, USAGE};

/// The streams of the process. The clock is read between scenarios, for how fast they went.
struct Streams {
    began: Instant,
    sums: Sums,
}

impl Front for Streams {
    fn print(&mut self, lines: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(lines.as_bytes())?;
        out.flush()
    }

    fn played(&mut self, sums: &Sums) {
        self.sums.clone_from(sums);
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // Not among the commands: shows that the trap closes.
    #[cfg(target_os = "linux")]
    if let ["trap-test", what] = words.as_slice() {
        return match trap::provoke(what) {
            Some(got) => {
                say(&got);
                ExitCode::SUCCESS
            }
            None => ExitCode::from(2),
        };
    }
    let mut streams = Streams { began: Instant::now(), sums: Sums::default() };
    let done = command::parse(&words).and_then(|it| command::carry_out(&it, &mut streams));
    if streams.sums.played > 0 {
        say(&speed(&streams.sums, streams.began.elapsed()));
    }
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error @ CommandError::Usage(_)) => {
            say(&format!("{error}\n{}", USAGE.trim_end()));
            ExitCode::from(2)
        }
        Err(error @ (CommandError::Read(..) | CommandError::Scenario(..))) => {
            say(&error.to_string());
            ExitCode::from(2)
        }
        // Whoever read has seen enough.
        Err(CommandError::Front(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(1)
        }
    }
}

fn speed(sums: &Sums, took: Duration) -> String {
    let ms = took.as_millis().max(1);
    let (events, virtual_ms) = (u128::from(sums.events), u128::from(sums.virtual_ms));
    let (a_second, times) = (events * 1_000 / ms, virtual_ms / ms);
    format!("{ms} ms, {a_second} events a second, {times} times as fast as the world's clock")
}

fn say(text: &str) {
    // Nobody can be told that stderr is gone.
    let _ = writeln!(io::stderr(), "{text}");
}
