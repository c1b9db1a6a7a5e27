//! The command line: words in, one request or a few, data out.
//!
//! Every command speaks HTTP to a replica, whether a node in another process answers on its local
//! socket or this process opened the store itself. So both print the same, and what is printed
//! with `--json` is what the API answered. Nothing here knows how a store works.

mod admin;
mod args;
mod client;
mod connect;
mod console;
mod context;
mod data;
mod demo;
mod diagnostics;
mod failure;
mod grammar;
mod grant;
mod graph;
mod https;
mod id;
mod inspect;
mod local;
mod node;
#[cfg(feature = "otlp")]
mod otlp;
mod peer;
mod query;
mod remote;
mod secret;
mod settings;
mod sim;
mod socket;
mod space;
mod transfer;
mod value;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{BufWriter, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use args::{Cli, Command};
use console::Console;
use context::Context;
use failure::{Exit, Failure};
use grammar::Asked;
use settings::{Env, Settings};

pub(crate) use local::{Host, Local};

/// What `--version` says after the name.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (format 1, protocol 1)");

/// How long an interrupted command may take to close its store.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command that the process was started with.
pub(crate) fn main(host: &dyn Host) -> ExitCode {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let console = Console {
        stdin: Box::new(std::io::stdin()),
        stdout: Box::new(BufWriter::new(std::io::stdout())),
        stderr: Box::new(std::io::stderr()),
        stdin_terminal: std::io::stdin().is_terminal(),
        stdout_terminal: std::io::stdout().is_terminal(),
        stderr_terminal: std::io::stderr().is_terminal(),
        colour,
    };
    let words = std::env::args_os().skip(1).collect();
    ExitCode::from(run(words, console, host, &|name| std::env::var_os(name), true))
}

/// Runs the command that `words` ask for and returns the exit status.
///
/// With `process`, signals and diagnostics of the whole process are taken over.
fn run(
    words: Vec<OsString>,
    mut console: Console,
    host: &dyn Host,
    env: Env<'_>,
    process: bool,
) -> u8 {
    let json = grammar::wants_json(&words);
    let outcome = match grammar::parse(words, console.colour && console.stdout_terminal) {
        Ok(Asked::Text(text)) => console.bytes(text.as_bytes()).map(|()| Exit::Ok),
        Ok(Asked::Command(cli)) => start(*cli, &mut console, host, env, process),
        Err(failure) => Err(failure),
    };
    let outcome = outcome.and_then(|exit| console.flush().map(|()| exit));
    match outcome {
        Ok(exit) => exit as u8,
        Err(failure) => {
            // What was printed before the failure stays printed, if anybody still reads.
            let _ = console.flush();
            console.failure(&failure, json);
            failure.exit
        }
    }
}

fn start(
    cli: Cli,
    console: &mut Console,
    host: &dyn Host,
    env: Env<'_>,
    process: bool,
) -> Result<Exit, Failure> {
    let serve = match &cli.command {
        Command::Serve(serve) => Some(serve),
        _ => None,
    };
    let mut settings = Settings::find(&cli.globals, serve, env)?;
    settings.attended = console.stdin_terminal && console.stderr_terminal;
    if !settings.url.value.is_empty() && is_of_this_machine(&cli.command) {
        return Err(Failure::usage("this command works on a store of this machine")
            .hint("Leave out --url and KDELTA_URL, or run it where that node runs"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::system("cannot start threads", &error))?;
    let node = matches!(cli.command, Command::Serve(_));
    let traces = match process {
        true => diagnostics::start(&settings, node, env, runtime.handle())?,
        false => None,
    };
    let outcome = runtime.block_on(async {
        let signals = if process { signals()? } else { watch::channel(None).1 };
        let mut context = Context::new(host, settings, console, cli.globals.json, signals);
        context.yes = cli.globals.yes;
        let outcome = interruptible(&mut context, cli.command).await;
        let closed = tokio::time::timeout(CLOSE_PATIENCE, context.close()).await;
        let closed = closed.unwrap_or_else(|_| {
            Err(Failure::other("the store did not close in time; the next open recovers it"))
        });
        outcome.and_then(|exit| closed.map(|()| exit))
    });
    if let Some(traces) = traces {
        traces.stop();
    }
    // A thread may be stuck in a read of stdin; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

/// Tells whether a command acts on files that a node elsewhere does not have.
fn is_of_this_machine(command: &Command) -> bool {
    match command {
        Command::Serve(_) | Command::Restore(_) | Command::Backup(_) => true,
        Command::Id(action) => !matches!(action, args::Id::Show),
        _ => false,
    }
}

async fn interruptible(context: &mut Context<'_>, command: Command) -> Result<Exit, Failure> {
    if let Command::Serve(serve) = command {
        return node::serve(context, serve).await;
    }
    let mut signals = context.signals.clone();
    tokio::select! {
        outcome = dispatch(context, command) => outcome,
        exit = interrupted(&mut signals) => Err(Failure::quiet(exit)),
    }
}

async fn dispatch(context: &mut Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Put(args) => data::put(context, args).await,
        Command::Get(args) => data::get(context, args).await,
        Command::Delete(args) => data::delete(context, args).await,
        Command::Counter(args) => data::counter(context, args).await,
        Command::Set(args) => data::set(context, args).await,
        Command::Map(args) => data::map(context, args).await,
        Command::History(args) => inspect::history(context, args).await,
        Command::Diff(args) => inspect::diff(context, args).await,
        Command::Explain(args) => inspect::explain(context, args).await,
        Command::List(args) => inspect::list(context, args).await,
        Command::Query(args) => query::query(context, args).await,
        Command::Batch(args) => transfer::batch(context, args).await,
        Command::Import(args) => transfer::import(context, args).await,
        Command::Export(args) => transfer::export(context, args).await,
        Command::Tag(args) => inspect::tag(context, args).await,
        Command::Watch(args) => node::watch(context, args).await,
        Command::Serve(args) => node::serve(context, args).await,
        Command::Status => admin::status(context).await,
        Command::Stats => admin::stats(context).await,
        Command::Peers(args) => peer::peers(context, args).await,
        Command::Ticket(args) => peer::ticket(context, args).await,
        Command::Sync(args) => peer::sync(context, args).await,
        Command::Space(args) => space::space(context, args).await,
        Command::Grant(args) => grant::grant(context, args).await,
        Command::Verify(args) => admin::verify(context, args).await,
        Command::Repair(args) => admin::repair(context, args).await,
        Command::Backup(args) => admin::backup(context, args).await,
        Command::Restore(args) => admin::restore(context, args).await,
        Command::Id(args) => id::id(context, args).await,
        Command::Config(args::Config::Show) => admin::config(context),
        Command::Sim(args) => sim::sim(context, args).await,
        Command::Demo => demo::run(context).await,
        Command::Completions { shell } => admin::completions(context, shell),
        Command::Man => admin::man(context),
    }
}

/// The number of SIGXFSZ.
const XFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();

/// Takes over SIGINT and SIGTERM. The first ends the command in order, a second one at once.
fn signals() -> Result<watch::Receiver<Option<Exit>>, Failure> {
    let refused = |error| Failure::system("cannot listen for signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    // Above the limit of a file's size a write then fails as on a full disk: the process lives.
    let mut oversize = signal(SignalKind::from_raw(XFSZ)).map_err(refused)?;
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let exit = tokio::select! {
                _ = oversize.recv() => continue,
                _ = interrupt.recv() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Terminated,
            };
            if sender.send_replace(Some(exit)).is_some() {
                std::process::exit(exit as i32);
            }
        }
    });
    Ok(receiver)
}

/// Waits for a signal; for ever where none can come.
async fn interrupted(signals: &mut watch::Receiver<Option<Exit>>) -> Exit {
    match signals.wait_for(Option::is_some).await.map(|exit| *exit) {
        Ok(Some(exit)) => exit,
        _ => std::future::pending().await,
    }
}
