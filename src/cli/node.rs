//! Commands that last: a node in the foreground, and a watch.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;

use super::args::{Serve, Watch};
use super::client;
use super::connect;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::inspect::in_stream;
use super::interrupted;
use super::local::{Node, NodeOptions, OpenError};
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
    };
    let store = connect::store_options(&context.settings);
    let settings = context.settings.clone();
    let host = context.host;
    let mut signals = context.signals.clone();
    let starting = connect::waiting(&settings, async || {
        if connect::find_node(&settings).await.is_some() {
            return Err(OpenError::Held);
        }
        host.serve(store.clone(), options.clone()).await
    });
    let node = tokio::select! {
        node = starting => node?,
        exit = interrupted(&mut signals) => return Err(Failure::quiet(exit)),
    };
    let Node { opened, replica, listen, failed } = node;
    let outcome = match Listening::start(&settings.data_dir.value, opened.router) {
        Ok(listening) => {
            let outcome = match ready(context, &replica, &listen, &listening, options.open) {
                Ok(()) => tokio::select! {
                    _ = interrupted(&mut signals) => Ok(Exit::Ok),
                    failure = failed => Err(failure),
                },
                Err(failure) => Err(failure),
            };
            listening.stop(DRAIN_PATIENCE).await;
            outcome
        }
        Err(failure) => Err(failure),
    };
    let closed = (opened.close)().await;
    outcome.and_then(|exit| closed.map(|()| exit))
}

/// Tells that the node can be used now.
fn ready(
    context: &mut Context<'_>,
    replica: &str,
    listen: &[String],
    listening: &Listening,
    open: bool,
) -> Result<(), Failure> {
    let socket = listening.path.display();
    if context.json {
        let ready = json!({
            "replica": replica,
            "listen": listen,
            "socket": socket.to_string(),
            "open": open,
        });
        context.console.line(&ready.to_string())?;
    } else {
        let open = if open { ", open to every peer" } else { "" };
        let addresses = listen.join(" ");
        context.console.line(&format!("replica {replica} listens on {addresses}{open}"))?;
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
