//! What people and scripts see: data on stdout, everything else on stderr.
//!
//! Control characters in data are spelled out on a terminal, so that a value cannot draw on it.
//! Colour and progress appear on a terminal only. A reader of stdout that goes away ends the
//! command quietly.

use std::io::{Read, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::failure::Failure;

/// The three streams of the process, and which are terminals.
pub(crate) struct Console {
    /// Where `-` reads.
    pub(crate) stdin: Box<dyn Read + Send>,
    /// Data.
    pub(crate) stdout: Box<dyn Write + Send>,
    /// Notes and errors.
    pub(crate) stderr: Box<dyn Write + Send>,
    /// stdin is a terminal: a person is there to be asked.
    pub(crate) stdin_terminal: bool,
    /// stdout is a terminal.
    pub(crate) stdout_terminal: bool,
    /// stderr is a terminal.
    pub(crate) stderr_terminal: bool,
    /// Colour is wanted where there is a terminal.
    pub(crate) colour: bool,
}

impl Console {
    /// Prints one line of data.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        let shown = self.shown(text);
        self.stdout
            .write_all(shown.as_bytes())
            .and_then(|()| self.stdout.write_all(b"\n"))
            .map_err(|error| Failure::stdout(&error))
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(|error| Failure::stdout(&error))
    }

    /// Hands on what was printed so far.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(|error| Failure::stdout(&error))
    }

    /// Prints rows under a heading, in columns.
    pub(crate) fn table(&mut self, heading: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(heading.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| spelled(cell)));
        }
        for line in table.lines() {
            self.line(line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
        }
        Ok(())
    }

    /// Prints pairs, one a line.
    pub(crate) fn pairs(&mut self, pairs: &[(String, String)]) -> Result<(), Failure> {
        let widest = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in pairs {
            self.line(format!("{name:widest$}  {value}").trim_end())?;
        }
        Ok(())
    }

    /// Tells people something that is no data.
    pub(crate) fn note(&mut self, text: &str) {
        // Nobody can be told that stderr is gone.
        let _ = writeln!(self.stderr, "note: {}", spelled(text));
    }

    /// Asks before something is done that cannot be undone; nothing is asked with `yes`.
    ///
    /// # Errors
    /// A usage failure where nobody is there to answer, and a quiet end after a no.
    pub(crate) fn confirm(&mut self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        let hint = "Say so with --yes, or look first with --dry-run";
        if !(self.stdin_terminal && self.stderr_terminal) {
            return Err(Failure::usage(format!("{question}: that asks for a yes")).hint(hint));
        }
        // Nobody can be told that stderr is gone, and then nobody answers.
        let _ = write!(self.stderr, "{}? [y/N] ", spelled(question));
        let _ = self.stderr.flush();
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while answer.len() < 16 && matches!(self.stdin.read(&mut byte), Ok(1)) {
            match byte {
                [b'\n'] => break,
                [other] => answer.push(other.to_ascii_lowercase()),
            }
        }
        match answer.trim_ascii() {
            b"y" | b"yes" => Ok(()),
            _ => Err(Failure::other("nothing was done").hint(hint)),
        }
    }

    /// Tells how the command failed.
    pub(crate) fn failure(&mut self, failure: &Failure, json: bool) {
        if failure.quiet {
            return;
        }
        let line = if json {
            failure.json()
        } else if self.stderr_terminal && self.colour {
            let line = spelled(&failure.line());
            line.replacen("error:", "\u{1b}[1;31merror:\u{1b}[0m", 1)
        } else {
            spelled(&failure.line())
        };
        let _ = writeln!(self.stderr, "{line}");
    }

    /// Shows progress over `length` bytes, or without an end.
    pub(crate) fn progress(&self, length: Option<u64>, what: &'static str) -> ProgressBar {
        if !self.stderr_terminal {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr_with_hz(10));
        let template = match length {
            Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{spinner} {msg} {elapsed}",
        };
        // A template that does not parse leaves the plain bar.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    fn shown(&self, text: &str) -> String {
        if self.stdout_terminal { spelled(text) } else { text.to_owned() }
    }
}

/// The text with control characters spelled out, newlines and tabs excepted.
pub(crate) fn spelled(text: &str) -> String {
    let draws = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(draws) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if draws(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// `yes`, `no`.
pub(crate) fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// `1 event`, `2 events`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks where `answer` is typed; returns the outcome and whether anything was asked.
    fn asked(answer: &'static str, terminal: bool, yes: bool) -> (bool, bool) {
        let shared = crate::cli::fake::Shared::default();
        let mut console = Console {
            stdin: Box::new(answer.as_bytes()),
            stdout: Box::new(std::io::sink()),
            stderr: Box::new(shared.clone()),
            stdin_terminal: terminal,
            stdout_terminal: false,
            stderr_terminal: terminal,
            colour: false,
        };
        let outcome = console.confirm("forget it", yes).is_ok();
        (outcome, !shared.text().is_empty())
    }

    #[test]
    fn only_a_yes_at_a_terminal_or_on_the_command_line_is_one() {
        assert_eq!(asked("", false, true), (true, false));
        assert_eq!(asked("y\n", false, false), (false, false));
        for (answer, done) in [("y\n", true), ("YES\n", true), ("n\n", false), ("", false)] {
            assert_eq!(asked(answer, true, false), (done, true), "{answer:?}");
        }
    }

    #[test]
    fn a_value_cannot_draw_on_the_terminal() {
        assert_eq!(spelled("a\u{1b}[2Jb\nc\td"), "a\\u{1b}[2Jb\nc\td");
        assert_eq!(spelled("plain ä"), "plain ä");
    }
}
