//! Other replicas: peers, tickets, sync, and the spaces shared with them.

use axum::http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::args::{Peers, PeersAction, Sync, Ticket};
use super::client::Call;
use super::connect;
use super::console::{counted, yes_or_no};
use super::context::Context;
use super::data::short;
use super::failure::{Exit, Failure};
use super::value::span_ms;

#[derive(Debug, Deserialize)]
struct PeerList {
    peers: Vec<Peer>,
    nearby: Vec<Near>,
}

/// A replica that the local network tells of and that is no peer.
#[derive(Debug, Deserialize)]
struct Near {
    replica: String,
    address: String,
}

/// A peer, as `status` and `peers` show it.
#[derive(Debug, Deserialize)]
pub(crate) struct Peer {
    replica: String,
    address: Option<String>,
    connected: bool,
    in_sync: Option<bool>,
    since: Option<String>,
    rtt_ms: Option<f64>,
}

/// The columns of [`peer_row`].
pub(crate) const PEER_COLUMNS: [&str; 6] =
    ["peer", "address", "connected", "in sync", "since", "rtt"];

/// One line of a table of peers.
pub(crate) fn peer_row(peer: &Peer) -> Vec<String> {
    let yes = |known: bool| yes_or_no(known).to_owned();
    vec![
        short(&peer.replica).to_owned(),
        peer.address.clone().unwrap_or_default(),
        yes(peer.connected),
        peer.in_sync.map(yes).unwrap_or_default(),
        peer.since.clone().unwrap_or_default(),
        peer.rtt_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default(),
    ]
}

/// `peers [list | add | remove]`
pub(crate) async fn peers(context: &mut Context<'_>, args: Peers) -> Result<Exit, Failure> {
    match args.action.unwrap_or(PeersAction::List) {
        PeersAction::List => {
            let answer = context.call(Call::new(Method::GET, "/v1/peers")).await?;
            if context.json {
                return context.print(&answer);
            }
            let list: PeerList = answer.read()?;
            let rows: Vec<Vec<String>> = list.peers.iter().map(peer_row).collect();
            context.console.table(&PEER_COLUMNS, &rows)?;
            if !list.nearby.is_empty() {
                context.console.line("")?;
                let near = list.nearby.iter();
                let rows: Vec<Vec<String>> =
                    near.map(|near| vec![near.replica.clone(), near.address.clone()]).collect();
                context.console.table(&["nearby, not admitted", "address"], &rows)?;
            }
            Ok(Exit::Ok)
        }
        PeersAction::Add { peer } => {
            let (replica, address) = match peer.split_once('@') {
                Some((replica, address)) => (replica, Some(address)),
                None => (peer.as_str(), None),
            };
            let replica = checked_replica(replica)?;
            let mut body = json!({"replica": replica, "space": context.settings.space.value});
            if let (Some(address), Some(body)) = (address, body.as_object_mut()) {
                body.insert("address".to_owned(), json!(address));
            }
            let call = Call::new(Method::POST, "/v1/peers").json(body.to_string());
            said(context, call, &format!("admitted {}", short(&replica))).await
        }
        PeersAction::Remove { peer, dry_run } => {
            let replica = checked_replica(&peer)?;
            let call = Call::new(Method::DELETE, format!("/v1/peers/{replica}"));
            if dry_run {
                return would_remove(context, call.flag("dry_run", true)).await;
            }
            let question = format!("remove {} and end its spaces' tickets", short(&replica));
            context.console.confirm(&question, context.yes)?;
            said(context, call, &format!("removed {}", short(&replica))).await
        }
    }
}

/// Says what a removal of a peer would do.
async fn would_remove(context: &mut Context<'_>, call: Call) -> Result<Exit, Failure> {
    #[derive(Deserialize)]
    struct Would {
        replica: String,
        known: bool,
        spaces: Vec<Value>,
        tickets: u64,
    }
    let answer = context.call(call).await?;
    if context.json {
        return context.print(&answer);
    }
    let would: Would = answer.read()?;
    let peer = short(&would.replica);
    context.console.line(&match would.known {
        true => format!(
            "would remove {peer} from {} and end {}",
            counted(would.spaces.len() as u64, "space"),
            counted(would.tickets, "ticket")
        ),
        false => format!("would do nothing: {peer} is no peer"),
    })?;
    Ok(Exit::Ok)
}

/// Sends `call` and prints its JSON, or `text` for people.
async fn said(context: &mut Context<'_>, call: Call, text: &str) -> Result<Exit, Failure> {
    let answer = context.call(call).await?;
    if context.json {
        return context.print(&answer);
    }
    context.console.line(text)?;
    Ok(Exit::Ok)
}

fn checked_replica(text: &str) -> Result<String, Failure> {
    let id: Result<kdelta::engine::base::ReplicaId, _> = text.parse();
    id.map(|id| id.to_string()).map_err(|_| {
        Failure::usage(format!("{text:?} is no replica id"))
            .hint("It has 64 hexadecimal digits; the peer prints it with: kdelta id show")
    })
}

/// `ticket`
pub(crate) async fn ticket(context: &mut Context<'_>, args: Ticket) -> Result<Exit, Failure> {
    #[derive(Deserialize)]
    struct Made {
        ticket: String,
    }
    let expires_ms =
        span_ms(&args.expires).map_err(|reason| Failure::usage(format!("--expires: {reason}")))?;
    if !connect::has_node(&context.settings).await {
        let path = context.settings.data_dir.value.display();
        return Err(Failure::unavailable(format!(
            "no node runs on {path}, so nobody could be met"
        ))
        .hint("Start one in another terminal: kdelta serve"));
    }
    let mut body = json!({"space": context.settings.space.value, "expires_ms": expires_ms});
    if let (Some(uses), Some(body)) = (args.uses, body.as_object_mut()) {
        body.insert("uses".to_owned(), json!(uses));
    }
    let call = Call::new(Method::POST, "/v1/tickets").json(body.to_string());
    let answer = context.call(call).await?;
    if context.json {
        return context.print(&answer);
    }
    let made: Made = answer.read()?;
    context.console.line(&made.ticket)?;
    Ok(Exit::Ok)
}

#[derive(Debug, Deserialize)]
struct SyncResult {
    peers: Vec<Box<RawValue>>,
}

/// `sync [TICKET|ID@ADDR|ID]`
pub(crate) async fn sync(context: &mut Context<'_>, args: Sync) -> Result<Exit, Failure> {
    let mut body = Map::new();
    // A ticket names its space itself.
    let ticket = args.peer.as_deref().is_some_and(|peer| peer.starts_with("kd1"));
    if !ticket && args.name.is_some() {
        return Err(Failure::usage("--as names the space of a ticket, and there is no ticket")
            .hint("Write: kdelta sync TICKET --as NAME"));
    }
    if let Some(peer) = &args.peer {
        body.insert("peer".to_owned(), json!(peer));
    }
    if let Some(name) = &args.name {
        body.insert("as".to_owned(), json!(name));
    }
    let bar = context.console.progress(None, "syncing");
    let call = Call::new(Method::POST, "/v1/sync").json(Value::Object(body).to_string());
    let answer = context.call(call).await;
    bar.finish_and_clear();
    let answer = answer?;
    let result: SyncResult = answer.read()?;
    let mut peers = Vec::new();
    for text in &result.peers {
        let peer: Map<String, Value> = serde_json::from_str(text.get()).unwrap_or_default();
        let line = if context.json { text.get().to_owned() } else { sync_line(&peer) };
        context.console.line(&line)?;
        peers.push(peer);
    }
    sync_exit(context, &peers)
}

fn sync_line(peer: &Map<String, Value>) -> String {
    let text = |name: &str| peer.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| peer.get(name).map(ToString::to_string).unwrap_or_default();
    let who = short(text("peer"));
    if let Some(Value::Object(error)) = peer.get("error") {
        let why = error.get("detail").and_then(Value::as_str).unwrap_or("failed");
        return format!("{who}  failed: {why}");
    }
    let state = match peer.get("in_sync") {
        Some(Value::Bool(true)) => "in sync",
        _ => "not yet in sync",
    };
    format!(
        "{who}  {state}: sent {} events, received {}, {} ms",
        number("sent_events"),
        number("received_events"),
        number("elapsed_ms"),
    )
}

/// 0 if all are in sync, 6 if none was reached, else 8; what a lone peer failed of says it better.
fn sync_exit(context: &mut Context<'_>, peers: &[Map<String, Value>]) -> Result<Exit, Failure> {
    let in_sync = |peer: &&Map<String, Value>| peer.get("in_sync") == Some(&Value::Bool(true));
    let failed = |peer: &&Map<String, Value>| peer.get("error").is_some_and(Value::is_object);
    if peers.is_empty() {
        return Err(Failure::unavailable("there is no peer to sync with")
            .hint("Give a ticket: kdelta sync TICKET, or admit a peer: kdelta peers add ID@ADDR"));
    }
    if peers.iter().filter(in_sync).count() == peers.len() {
        return Ok(Exit::Ok);
    }
    if let [peer] = peers
        && let Some(Value::Object(error)) = peer.get("error")
    {
        return Err(Failure::from_problem(503, error.clone()));
    }
    if peers.iter().filter(failed).count() == peers.len() {
        return Err(Failure::unavailable("no peer was reached")
            .hint("Check that their nodes run and their addresses are right: kdelta peers"));
    }
    if !context.json {
        context.console.note("some peers are not in sync yet; sync again");
    }
    Ok(Exit::Partly)
}
