//! Traces for OpenTelemetry: the spans of requests, links and their sessions go to a collector, by
//! OTLP over HTTP.
//!
//! `--otlp` switches it on; the rest is set by OpenTelemetry's own variables of the environment,
//! which its crates read. Nobody waits for a collector: spans wait in a queue with a bound, what
//! finds no room is dropped, and the end of the process waits for it [`FLUSH_PATIENCE`] at most.
//! Spans have what the diagnostics say of a request and a peer: no key, no value and no secret.
//! There is no TLS: a collector stands on this machine or in a network that is trusted.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use axum::http::uri::{PathAndQuery, Scheme};
use axum::http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use kdelta::host::http::host_of;
use opentelemetry::trace::{SpanKind, TracerProvider as _};
use opentelemetry::{KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;

use super::diagnostics::Told;
use super::failure::Failure;
use super::settings::Env;

/// How long the end of the process waits for what is queued to be taken.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
/// How long a collector may take to answer unless the environment says so.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is said of a collector that still does not take traces.
const SILENCE: Duration = Duration::from_secs(600);
/// Most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where a collector is unless somebody says so.
const COLLECTOR: &str = "http://localhost:4318";
/// Where below it traces are sent.
const ROUTE: &str = "v1/traces";
/// The one way in which traces are written here.
const PROTOCOL: &str = "http/protobuf";

/// What sends the traces of this process.
#[derive(Debug)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send traces; none if OpenTelemetry is switched off altogether.
    ///
    /// # Errors
    /// A usage failure if what was set makes no sense.
    pub(super) fn start(
        setting: &str,
        env: Env<'_>,
        runtime: &Handle,
    ) -> Result<Option<Self>, Failure> {
        if set(env, &["OTEL_SDK_DISABLED"])
            .is_some_and(|(_, text)| text.eq_ignore_ascii_case("true"))
        {
            return Ok(None);
        }
        let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        if let Some((name, protocol)) = set(env, &protocols).filter(|(_, asked)| asked != PROTOCOL)
        {
            return Err(Failure::usage(format!("{name}: {protocol:?} is not spoken"))
                .hint(format!("Write {PROTOCOL}, which collectors take on port 4318")));
        }
        let collector =
            Collector { runtime: runtime.clone(), patience: patience(env), said: Mutex::new(None) };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint(setting, env)?.to_string())
            .with_http_client(collector)
            .build()
            .map_err(|error| Failure::usage(format!("traces cannot be sent: {error}")))?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(env))
            .with_batch_exporter(Named(exporter))
            .build();
        Ok(Some(Self { provider }))
    }

    /// Returns what makes traces of the spans of this program.
    pub(super) fn layer(&self) -> Told {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("kdelta"))
            // A span is known by what it says; where in the sources it was made helps nobody.
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(Targets::new().with_target("kdelta", LevelFilter::INFO))
            .boxed()
    }

    /// Sends what is queued, within [`FLUSH_PATIENCE`], and ends it.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_PATIENCE) {
            tracing::debug!(%error, "the last traces were not taken");
        }
    }
}

/// The first of some variables that says something, with its name.
fn set<'a>(env: Env<'_>, names: &[&'a str]) -> Option<(&'a str, String)> {
    names.iter().find_map(|name| {
        let text = env(name)?.into_string().ok().filter(|text| !text.is_empty())?;
        Some((*name, text))
    })
}

/// Where traces are sent: what the setting names, or OpenTelemetry's variables, or the default.
fn endpoint(setting: &str, env: Env<'_>) -> Result<Uri, Failure> {
    let base = ["OTEL_EXPORTER_OTLP_ENDPOINT"];
    let (name, text, whole) = if setting != "on" {
        ("otlp", setting.to_owned(), false)
    } else if let Some((name, text)) = set(env, &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]) {
        (name, text, true)
    } else if let Some((name, text)) = set(env, &base) {
        (name, text, false)
    } else {
        ("otlp", COLLECTOR.to_owned(), false)
    };
    let wrong = |why: &str| {
        Failure::usage(format!("{name}: the URL of the collector {why}"))
            .hint(format!("Write http://HOST:PORT, such as {COLLECTOR}"))
    };
    let mut parts = text.parse::<Uri>().map_err(|_| wrong("cannot be read"))?.into_parts();
    if parts.scheme == Some(Scheme::HTTPS) {
        return Err(wrong("asks for TLS, which is not spoken here"));
    }
    let named = parts.authority.as_ref().is_some_and(|authority| !authority.host().is_empty());
    if parts.scheme != Some(Scheme::HTTP) || !named {
        return Err(wrong("does not begin with http://HOST"));
    }
    if parts.authority.as_ref().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("has a name before its host"));
    }
    if !whole {
        let path = parts.path_and_query.as_ref().map_or("", PathAndQuery::path);
        let path = format!("{}/{ROUTE}", path.trim_end_matches('/'));
        parts.path_and_query = Some(path.parse().map_err(|_| wrong("cannot be read"))?);
    }
    Uri::from_parts(parts).map_err(|_| wrong("cannot be read"))
}

fn patience(env: Env<'_>) -> Duration {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let ms = set(env, &names).and_then(|(_, text)| text.parse().ok());
    ms.map_or(ANSWER_PATIENCE, Duration::from_millis)
}

/// Says whose traces these are: what the environment says beats what is known here.
fn resource(env: Env<'_>) -> Resource {
    let known = Resource::builder_empty()
        .with_service_name("kdelta")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match set(env, &["OTEL_SERVICE_NAME"]) {
        Some((_, name)) => known.with_service_name(name).build(),
        None => known.build(),
    }
}

/// Gives spans the names that OpenTelemetry's semantic conventions have for them.
#[derive(Debug)]
struct Named(opentelemetry_otlp::SpanExporter);

impl SpanExporter for Named {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().filter(|span| span.name == "request").for_each(name);
        self.0.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// A request is served, and is named by method and route.
fn name(span: &mut SpanData) {
    let mut words = Vec::new();
    for (known, convention) in [("method", "http.request.method"), ("route", "http.route")] {
        let found = span.attributes.iter_mut().find(|attribute| attribute.key.as_str() == known);
        let Some(attribute) = found else { continue };
        // The convention has a word of its own for a method that is none.
        if attribute.value.as_str() == "other" {
            attribute.value = Value::from("_OTHER");
        }
        words.push(attribute.value.as_str().into_owned());
        attribute.key = convention.into();
    }
    span.span_kind = SpanKind::Server;
    span.name = words.join(" ").into();
}

/// The collector that traces are sent to, over a connection for each batch of them.
#[derive(Debug)]
struct Collector {
    runtime: Handle,
    patience: Duration,
    /// When it was last said that it takes no traces; none while it does.
    said: Mutex<Option<Instant>>,
}

#[async_trait]
impl HttpClient for Collector {
    /// Asked from a thread that has no runtime.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (host, patience) = (request.uri().authority().cloned(), self.patience);
        let asked = async move { tokio::time::timeout(patience, ask(request)).await };
        let answer = match self.runtime.spawn(asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(format!("no answer within {} ms", patience.as_millis()).into()),
            Err(error) => Err(error.into()),
        };
        let host = host.as_ref().map_or("", |host| host.as_str());
        match &answer {
            Ok(answer) if answer.status().is_success() => self.takes(host),
            Ok(answer) => self.refuses(host, &format!("it answered {}", answer.status())),
            Err(error) => self.refuses(host, &error.to_string()),
        }
        answer
    }
}

impl Collector {
    fn takes(&self, host: &str) {
        let said = self.said.lock().ok().and_then(|mut said| said.take());
        if said.is_some() {
            tracing::info!(host, "the collector takes traces again");
        }
    }

    /// Says so at once and then seldom: what is tried again and again fails again and again.
    fn refuses(&self, host: &str, reason: &str) {
        let Ok(mut said) = self.said.lock() else { return };
        if said.is_none_or(|said| said.elapsed() >= SILENCE) {
            *said = Some(Instant::now());
            tracing::warn!(host, reason, "the collector takes no traces: they are dropped");
        }
    }
}

/// Sends a request and waits for the whole answer.
async fn ask(mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let authority = request.uri().authority().cloned().ok_or("no host")?;
    let path = request.uri().path_and_query().cloned().ok_or("no path")?;
    *request.uri_mut() = Uri::from(path);
    let host = HeaderValue::from_str(authority.as_str())?;
    request.headers_mut().insert(header::HOST, host);
    let address = (host_of(&authority), authority.port_u16().unwrap_or(80));
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let asked = async {
        let answer = sender.send_request(request.map(Body::from)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    let mut asked = std::pin::pin!(asked);
    // The connection goes with the request, also when patience ends.
    tokio::select! {
        answer = &mut asked => answer,
        ended = connection => match ended {
            // What came last may not have been taken from it yet.
            Ok(()) => asked.await,
            Err(error) => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use super::*;

    fn with<T>(set: &[(&str, &str)], run: impl FnOnce(Env<'_>) -> T) -> T {
        let set: BTreeMap<_, OsString> =
            set.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        run(&|name| set.get(name).cloned())
    }

    #[test]
    fn the_collector_is_where_the_setting_or_the_environment_says() {
        let at = |setting: &str, set: &[(&str, &str)]| {
            with(set, |env| endpoint(setting, env)).map(|uri| uri.to_string())
        };
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:4318/otlp/");
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://w:1/x");
        for (setting, set, expected) in [
            ("on", &[][..], "http://localhost:4318/v1/traces"),
            ("on", &[base], "http://b:4318/otlp/v1/traces"),
            ("on", &[base, whole], "http://w:1/x"),
            ("http://[::1]:9", &[base, whole], "http://[::1]:9/v1/traces"),
        ] {
            assert_eq!(at(setting, set).unwrap(), expected);
        }
        for wrong in ["https://h:4318", "h:4318", "http://", "http://me:secret@h", "http://a b"] {
            let failure = at(wrong, &[]).unwrap_err();
            assert_eq!(failure.exit, 2, "{wrong}");
            assert!(!failure.line().contains("secret"), "{}", failure.line());
        }
    }

    #[test]
    fn what_is_not_spoken_is_refused_and_what_is_off_is_off() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let started = |set: &[(&str, &str)]| {
            with(set, |env| Traces::start("on", env, runtime.handle()))
                .map(|traces| traces.is_some())
        };
        let failure = started(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert_eq!(failure.exit, 2);
        assert!(failure.line().contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{}", failure.line());
        assert!(!started(&[("OTEL_SDK_DISABLED", "TRUE")]).unwrap());
        assert!(started(&[("OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOL)]).unwrap());
    }
}
