//! Commands that last: a node in the foreground, and a watch.

use std::time::Duration;

use axum::http::Method;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;

use super::args::{Serve, Watch};
use super::client;
use super::connect;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::inspect::in_stream;
use super::interrupted;
use super::local::{HttpOptions, Node, NodeOptions, OpenError};
use super::settings::{Origin, Settings};
use super::socket::Listening;

/// How long requests that are under way may take when a node stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// `serve`
pub(crate) async fn serve(context: &mut Context<'_>, args: Serve) -> Result<Exit, Failure> {
    let options = NodeOptions {
        listen: context.settings.listen.value.clone(),
        advertise: args.advertise,
        join: args.join,
        open: args.open,
        mdns: context.settings.mdns.value == "on",
        http: http(&context.settings),
    };
    let settings = context.settings.clone();
    let host = context.host;
    let mut signals = context.signals.clone();
    take_files();
    let starting = connect::waiting(&settings, async |store| {
        if connect::has_node(&settings).await {
            return Err(OpenError::Held);
        }
        host.serve(store, options.clone()).await
    });
    let node = tokio::select! {
        node = starting => node?,
        exit = interrupted(&mut signals) => return Err(Failure::quiet(exit)),
    };
    let Node { opened, replica, listen, http, failed } = node;
    let at = Ready {
        replica,
        listen,
        http: http.as_ref().map(|door| door.address.to_string()),
        https: http.as_ref().map(|door| door.encrypted),
    };
    let outcome = match Listening::start(&settings.data_dir.value, opened.router) {
        Ok(listening) => {
            let outcome = match ready(context, &at, &listening, options.open) {
                Ok(()) => tokio::select! {
                    _ = interrupted(&mut signals) => Ok(Exit::Ok),
                    failure = failed => Err(failure),
                },
                Err(failure) => Err(failure),
            };
            let closed = async {
                if let Some(door) = http {
                    door.close(DRAIN_PATIENCE).await;
                }
            };
            tokio::join!(listening.stop(DRAIN_PATIENCE), closed);
            outcome
        }
        Err(failure) => Err(failure),
    };
    let closed = (opened.close)().await;
    outcome.and_then(|exit| closed.map(|()| exit))
}

/// Takes as many open files as the system grants: each connection is one.
fn take_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Says how HTTP is to be answered, if at all.
fn http(settings: &Settings) -> Option<HttpOptions> {
    let address = &settings.http;
    (address.value != "off").then(|| HttpOptions {
        address: address.value.clone(),
        is_default: address.origin == Origin::Default,
        auth: settings.http_auth.value != "off",
        allowed: settings.http_allow.value.split(',').map(str::to_owned).collect(),
        certificate: (!settings.http_cert.value.is_empty()).then(|| {
            (settings.http_cert.value.clone().into(), settings.http_key.value.clone().into())
        }),
    })
}

/// Who a node is and where it is found.
struct Ready {
    replica: String,
    listen: Vec<String>,
    http: Option<String>,
    https: Option<bool>,
}

/// Tells that the node can be used now.
fn ready(
    context: &mut Context<'_>,
    at: &Ready,
    listening: &Listening,
    open: bool,
) -> Result<(), Failure> {
    let Ready { replica, listen, http, https } = at;
    if context.json {
        let ready = json!({
            "replica": replica,
            "listen": listen,
            "http": http,
            "https": https,
            "socket": listening.file.path().display().to_string(),
            "open": open,
        });
        context.console.line(&ready.to_string())?;
    } else {
        let open = if open { ", open to every peer" } else { "" };
        let addresses = listen.join(" ");
        let scheme = if *https == Some(true) { "https" } else { "http" };
        let http = http.as_ref().map(|at| format!(", answers {scheme}://{at}"));
        let http = http.unwrap_or_default();
        let line = format!("replica {replica} listens on {addresses}{http}{open}");
        context.console.line(&line)?;
    }
    context.console.flush()
}

/// `watch`
///
/// Without a node this process holds the store, so it answers on the local socket meanwhile:
/// other commands write through it, and their changes are seen.
pub(crate) async fn watch(context: &mut Context<'_>, args: Watch) -> Result<Exit, Failure> {
    let api = context.api().await?;
    let listening = match api.router() {
        Some(router) => Some(Listening::start(&context.settings.data_dir.value, router)?),
        None => None,
    };
    let call = context
        .in_space(Method::GET, "watch")
        .query_if("prefix", args.prefix.as_deref())
        .query_if("from", args.from.as_deref())
        .flag("all", args.all)
        .header("accept", "text/event-stream")?;
    let mut lines = client::lines(&*api, call).await?;
    let mut data = Vec::new();
    while let Some(line) = lines.next().await? {
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if let Some(part) = line.strip_prefix(b"data:") {
            // Several data lines are one message (HTML, server-sent events, 9.2.6).
            if !data.is_empty() {
                data.push(b'\n');
            }
            data.extend_from_slice(part.strip_prefix(b" ").unwrap_or(part));
        } else if line.is_empty() && !data.is_empty() {
            in_stream(&data)?;
            context.console.bytes(&data)?;
            context.console.bytes(b"\n")?;
            context.console.flush()?;
            data.clear();
        }
    }
    drop(listening);
    Err(Failure::unavailable("the node ended the watch")
        .hint("Go on where it ended: kdelta watch --from CURSOR, with the cursor of the last line"))
}
