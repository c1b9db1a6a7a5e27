//! Passphrases: from a file, or from the person at the terminal.
//!
//! They are never words of the command line nor of the environment, which other processes may
//! read, and never echoed. A prompt that is interrupted leaves the terminal as it was.

use std::io::Write as _;
use std::path::Path;

use kdelta::host::identity::Passphrase;
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use super::settings::Settings;

/// Finds the passphrase of a key that is locked; `what` says which, as a sentence.
pub(crate) async fn of_store(settings: &Settings, what: &str) -> Result<Passphrase, Failure> {
    match settings.passphrase_file.value.as_str() {
        "" if settings.attended => ask(&format!("{what}\nPassphrase: ")).await,
        "" => Err(wanting(what)),
        file => read(Path::new(file)),
    }
}

/// Finds a passphrase to lock a key with. `first` tells that the setting is free to name it: no
/// key that it would open is in play.
pub(crate) async fn fresh(
    settings: &Settings,
    file: Option<&Path>,
    first: bool,
) -> Result<Passphrase, Failure> {
    let set = settings.passphrase_file.value.as_str();
    match file {
        Some(file) => return read(file),
        None if first && !set.is_empty() => return read(Path::new(set)),
        None if !settings.attended => {
            return Err(Failure::usage("there is no passphrase to lock the key with")
                .hint("Name a file with one: --new-passphrase-file FILE"));
        }
        None => {}
    }
    let passphrase = ask("New passphrase: ").await?;
    if ask("Once more: ").await? != passphrase {
        return Err(Failure::usage("the two are not alike").hint("Nothing was done: try again"));
    }
    Ok(passphrase)
}

/// A key is locked and nothing opens it.
pub(crate) fn wanting(what: &str) -> Failure {
    Failure::new("unauthorised", Exit::Unauthorised, what)
        .hint("Name a file with the passphrase: --passphrase-file FILE or KDELTA_PASSPHRASE_FILE")
}

/// Reads the first line of a file.
pub(crate) fn read(file: &Path) -> Result<Passphrase, Failure> {
    Passphrase::read(file).map_err(|error| Failure::file("read the passphrase in", file, &error))
}

/// Asks the person at the terminal, who does not see what is typed.
async fn ask(question: &str) -> Result<Passphrase, Failure> {
    let failed = |error: rustix::io::Errno| Failure::system("cannot ask", &error.into());
    // Dropped also when the command is interrupted while it waits.
    let _quiet = Quiet::begin().map_err(failed)?;
    // Nobody can be told that stderr is gone, and then nobody answers.
    let _ = std::io::stderr().write_all(question.as_bytes());
    let line = tokio::task::spawn_blocking(|| {
        let mut line = Zeroizing::new([0; LINE_BYTES_MAX]);
        // A terminal gives at most a line at a time.
        let count = rustix::io::read(stdin(), &mut *line)?;
        Ok(Passphrase::new(line.get(..count).unwrap_or_default().trim_ascii_end()))
    });
    let line = line.await.map_err(|error| Failure::other(error.to_string()))?;
    line.map_err(failed)?
        .ok_or_else(|| Failure::new("unauthorised", Exit::Unauthorised, "no passphrase was given"))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> rustix::io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
        tcsetattr(stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: usize = 1026;
