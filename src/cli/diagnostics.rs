//! What the process tells of itself besides its output: lines on stderr, and traces if a node is
//! asked to send them.
//!
//! Each has a filter of its own: that of the lines is `KDELTA_LOG`, and however quiet they are,
//! traces have every request and every link. What is sent, and how, stands in `otlp.rs`; a build
//! without the feature `otlp` refuses to be asked.

use std::io::IsTerminal as _;

use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::failure::Failure;
use super::settings::{Env, Origin, Settings};

#[cfg(feature = "otlp")]
pub(crate) use super::otlp::Traces;

/// A layer over the spans and events of this process.
pub(crate) type Told = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts them for the whole process; returns what sends traces, to be stopped at the end.
///
/// # Errors
/// A usage failure if the filter or what is said of traces makes no sense.
pub(crate) fn start(
    settings: &Settings,
    node: bool,
    env: Env<'_>,
    runtime: &Handle,
) -> Result<Option<Traces>, Failure> {
    let unset = settings.log.origin == Origin::Default;
    let filter = if node && unset { "info" } else { settings.log.value.as_str() };
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("KDELTA_LOG: {error}")).hint("Write a level or target=level,…")
    })?;
    let colour = std::io::stderr().is_terminal();
    let printed = tracing_subscriber::fmt::layer()
        .with_ansi(colour && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
        // A line that cannot be written, to a full disk or to nobody, is lost: to complain of that
        // on stderr would panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let mut told: Vec<Told> = vec![if settings.log_format.value == "json" {
        printed.json().with_filter(filter).boxed()
    } else {
        printed.with_filter(filter).boxed()
    }];
    let traces = match settings.otlp.value.as_str() {
        "off" => None,
        _ if !node => None,
        to => Traces::start(to, env, runtime)?,
    };
    told.extend(traces.as_ref().map(Traces::layer));
    // A second command in one process keeps the first one's diagnostics.
    let _ = tracing_subscriber::registry().with(told).try_init();
    Ok(traces)
}

/// A build without the feature `otlp` has none.
#[cfg(not(feature = "otlp"))]
#[derive(Debug)]
pub(crate) enum Traces {}

#[cfg(not(feature = "otlp"))]
impl Traces {
    fn start(_: &str, _: Env<'_>, _: &Handle) -> Result<Option<Self>, Failure> {
        Err(Failure::usage("this build of kdelta sends no traces to OpenTelemetry").hint(
            "Leave out --otlp and KDELTA_OTLP, or build with: cargo build --release --features otlp",
        ))
    }

    fn layer(&self) -> Told {
        match *self {}
    }

    /// Ends it.
    pub(crate) fn stop(&self) {
        match *self {}
    }
}
