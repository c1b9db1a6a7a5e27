//! `kdelta demo`: three real nodes on loopback show what the store does, and check it.
//!
//! Every step goes through the same routes as any command. The stores are temporary and gone at
//! the end. It fails, with the step's name, if anything comes out otherwise than it says.

use axum::http::Method;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::client::{self, Api as _, Call, LocalApi};
use super::context::Context;
use super::data::short;
use super::failure::{Exit, Failure};
use super::local::{Node, NodeOptions, OpenError, Opened, StoreOptions};

/// How often a sync is repeated while writes are still on their way.
const SYNC_ATTEMPTS: usize = 20;
/// Memory budget of each of the three stores.
const MEMORY_BYTES: u64 = 64 << 20;

/// One replica of the demo.
struct Actor {
    name: &'static str,
    store: StoreOptions,
    api: LocalApi,
    // Held so that the node goes on; it is not asked.
    _failed: Option<BoxFuture<'static, Failure>>,
}

/// `demo`
pub(crate) async fn run(context: &mut Context<'_>) -> Result<Exit, Failure> {
    let home = tempfile::Builder::new()
        .prefix("kdelta-demo-")
        .tempdir()
        .map_err(|error| Failure::other(format!("cannot make a directory: {error}")))?;
    let mut actors = Vec::new();
    for name in ["ada", "bob", "eve"] {
        let (data_dir, memory_bytes) = (home.path().join(name), MEMORY_BYTES);
        let store = StoreOptions { data_dir, memory_bytes, passphrase: None };
        actors.push(online(context, name, store).await?);
    }
    let outcome = play(context, &mut actors).await;
    for actor in &actors {
        let closed = actor.api.close().await;
        if outcome.is_ok() {
            closed?;
        }
    }
    outcome
}

async fn play(context: &mut Context<'_>, actors: &mut [Actor]) -> Result<Exit, Failure> {
    let [ada, bob, eve] = actors else {
        return Err(Failure::other("the demo has three replicas"));
    };
    meet(context, ada, bob).await?;
    let tag = edit_apart(context, ada, bob).await?;
    merge(context, ada, bob).await?;
    look_back(context, ada, &tag).await?;
    agree(context, ada, bob, eve).await?;
    say(context, "\nThat was the demo. Your own store begins with: kdelta put greeting hello")?;
    Ok(Exit::Ok)
}

async fn meet(context: &mut Context<'_>, ada: &Actor, bob: &Actor) -> Result<(), Failure> {
    say(context, "1. Two replicas meet. Ada writes, hands Bob a ticket, and Bob syncs with it.")?;
    put(context, ada, "title", json!("Trip to the sea")).await?;
    op(context, ada, "packing", json!({"op": "set_add", "elements": ["tent", "map"]})).await?;
    op(context, ada, "seats", json!({"op": "counter_add", "by": 4})).await?;
    join(context, ada, bob).await?;
    expect(context, bob, "title", &json!("Trip to the sea")).await
}

/// Bob goes offline; both edit the same keys.
async fn edit_apart(
    context: &mut Context<'_>,
    ada: &mut Actor,
    bob: &mut Actor,
) -> Result<String, Failure> {
    say(context, "\n2. Bob's node stops. Both go on editing the same keys, apart.")?;
    bob.api.close().await?;
    bob.api = LocalApi::new(opened(context, &bob.store).await?);
    bob._failed = None;
    let tag = "before-the-merge".to_owned();
    put(context, ada, "title", json!("Trip to the mountains")).await?;
    put(context, bob, "title", json!("Trip to the lake")).await?;
    op(context, ada, "packing", json!({"op": "set_remove", "elements": ["map"]})).await?;
    op(context, bob, "packing", json!({"op": "set_add", "elements": ["map", "torch"]})).await?;
    op(context, ada, "seats", json!({"op": "counter_add", "by": 2})).await?;
    op(context, bob, "seats", json!({"op": "counter_add", "by": -1})).await?;
    let call = Call::new(Method::PUT, format!("/v1/spaces/default/tags/{tag}"));
    request(ada, call).await?;
    step(context, ada, &format!("kdelta tag {tag}"))?;
    Ok(tag)
}

async fn merge(context: &mut Context<'_>, ada: &Actor, bob: &mut Actor) -> Result<(), Failure> {
    say(context, "\n3. Bob comes back and syncs. Nothing is lost, and both see the same.")?;
    bob.api.close().await?;
    *bob = online(context, bob.name, bob.store.clone()).await?;
    join(context, ada, bob).await?;
    expect(context, bob, "seats", &json!(5)).await?;
    say(context, "     The counter is the sum of all adds.")?;
    expect(context, bob, "packing", &json!(["map", "tent", "torch"])).await?;
    say(context, "     Bob added the map again while Ada removed it: the add wins.")?;
    let (first, second) = (get(ada, "title").await?, get(bob, "title").await?);
    check("both replicas show the same title", first == second)?;
    let others = second.get("conflicts").and_then(Value::as_array).map_or(0, Vec::len);
    check("the other title is kept as a conflict", others == 1)?;
    step(context, bob, "kdelta get title --conflicts")?;
    say(context, &format!("     {}", shown(&second)))?;
    for other in second.get("conflicts").and_then(Value::as_array).into_iter().flatten() {
        say(context, &format!("     also: {}", shown(other)))?;
    }
    put(context, bob, "title", json!("Trip to a mountain lake")).await?;
    let settled = get(bob, "title").await?;
    check("a later write settles the conflict", settled.get("conflicts") == Some(&json!([])))
}

async fn look_back(context: &mut Context<'_>, ada: &Actor, tag: &str) -> Result<(), Failure> {
    say(context, "\n4. The past stays. Ada looks at the point that she tagged.")?;
    let call = key_call(Method::GET, "keys", "title").query("at", format!("tag:{tag}"));
    let then = request(ada, call).await?;
    step(context, ada, &format!("kdelta get title --at tag:{tag}"))?;
    say(context, &format!("     {}", shown(&then)))?;
    check("the tagged title is Ada's", then.get("value") == Some(&json!("Trip to the mountains")))
}

async fn agree(
    context: &mut Context<'_>,
    ada: &Actor,
    bob: &Actor,
    eve: &Actor,
) -> Result<(), Failure> {
    say(context, "\n5. Eve joins late, gets the whole history, and all three compare hashes.")?;
    join(context, ada, bob).await?;
    join(context, ada, eve).await?;
    join(context, ada, bob).await?;
    let history = request(eve, key_call(Method::GET, "history", "title").query("limit", "0"));
    let history = history.await?;
    let events = history.get("events").and_then(Value::as_array).map_or(0, Vec::len);
    step(context, eve, "kdelta history title")?;
    say(context, &format!("     {events} events, by two authors"))?;
    check("Eve holds the history of the title", events == 4)?;
    let mut hashes = Vec::new();
    for actor in [ada, bob, eve] {
        let status = request(actor, Call::new(Method::GET, "/v1/status")).await?;
        let spaces = status.get("spaces").and_then(Value::as_array).cloned().unwrap_or_default();
        let default = spaces.into_iter().find(|space| space.get("name") == Some(&json!("default")));
        let hash = default.and_then(|space| space.get("state_hash")?.as_str().map(str::to_owned));
        let hash = hash.unwrap_or_default();
        say(context, &format!("     {}: state {}", actor.name, short(&hash)))?;
        hashes.push(hash);
    }
    let equal = hashes.iter().all(|hash| !hash.is_empty() && Some(hash) == hashes.first());
    check("all three hold the same state", equal)
}

/// Makes a ticket at `host`, syncs `guest` with it, and repeats until both are in sync.
async fn join(context: &mut Context<'_>, host: &Actor, guest: &Actor) -> Result<(), Failure> {
    let body = json!({"space": "default", "expires_ms": 60_000}).to_string();
    let made = request(host, Call::new(Method::POST, "/v1/tickets").json(body)).await?;
    let ticket = made.get("ticket").and_then(Value::as_str).unwrap_or_default().to_owned();
    step(context, guest, "kdelta sync TICKET")?;
    for _ in 0..SYNC_ATTEMPTS {
        let call = Call::new(Method::POST, "/v1/sync").json(json!({"peer": ticket}).to_string());
        let result = request(guest, call).await?;
        let peers = result.get("peers").and_then(Value::as_array).cloned().unwrap_or_default();
        let in_sync = |peer: &Value| peer.get("in_sync") == Some(&json!(true));
        if !peers.is_empty() && peers.iter().all(in_sync) {
            return Ok(());
        }
    }
    check("the sync ends in sync", false)
}

async fn put(
    context: &mut Context<'_>,
    actor: &Actor,
    key: &str,
    value: Value,
) -> Result<(), Failure> {
    request(actor, key_call(Method::PUT, "keys", key).json(value.to_string())).await?;
    step(context, actor, &format!("kdelta put {key} {value}"))
}

async fn op(context: &mut Context<'_>, actor: &Actor, key: &str, op: Value) -> Result<(), Failure> {
    request(actor, key_call(Method::POST, "ops", key).json(op.to_string())).await?;
    let name = op.get("op").and_then(Value::as_str).unwrap_or_default().replace('_', " ");
    let by = op.get("by").map(ToString::to_string);
    let elements = op
        .get("elements")
        .and_then(Value::as_array)
        .map(|elements| elements.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
    let rest = by.or(elements).unwrap_or_default();
    step(context, actor, &format!("kdelta {name} {key} {rest}"))
}

async fn get(actor: &Actor, key: &str) -> Result<Value, Failure> {
    request(actor, key_call(Method::GET, "keys", key)).await
}

async fn expect(
    context: &mut Context<'_>,
    actor: &Actor,
    key: &str,
    value: &Value,
) -> Result<(), Failure> {
    let view = get(actor, key).await?;
    step(context, actor, &format!("kdelta get {key}"))?;
    say(context, &format!("     {}", shown(&view)))?;
    check(&format!("{} sees {key} as {value}", actor.name), view.get("value") == Some(value))
}

fn key_call(method: Method, route: &str, key: &str) -> Call {
    Call::new(method, format!("/v1/spaces/default/{route}/{key}"))
}

async fn request(actor: &Actor, call: Call) -> Result<Value, Failure> {
    client::call(&actor.api, call).await?.read()
}

async fn online(
    context: &Context<'_>,
    name: &'static str,
    store: StoreOptions,
) -> Result<Actor, Failure> {
    let options = NodeOptions { listen: "127.0.0.1:0".to_owned(), ..NodeOptions::default() };
    let node = context.host.serve(store.clone(), options).await.map_err(unheld)?;
    let Node { opened, failed, .. } = node;
    Ok(Actor { name, store, api: LocalApi::new(opened), _failed: Some(failed) })
}

async fn opened(context: &Context<'_>, store: &StoreOptions) -> Result<Opened, Failure> {
    context.host.open(store.clone()).await.map_err(unheld)
}

fn unheld(error: OpenError) -> Failure {
    match error {
        OpenError::Held => Failure::other("a store of the demo is held by somebody else"),
        OpenError::Locked(what) => Failure::other(what),
        OpenError::Failed(failure) => failure,
    }
}

fn shown(view: &Value) -> String {
    match view.get("value") {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn say(context: &mut Context<'_>, text: &str) -> Result<(), Failure> {
    context.console.line(text)?;
    context.console.flush()
}

fn step(context: &mut Context<'_>, actor: &Actor, command: &str) -> Result<(), Failure> {
    say(context, &format!("   {} $ {}", actor.name, command.trim_end()))
}

fn check(fact: &str, holds: bool) -> Result<(), Failure> {
    if holds {
        return Ok(());
    }
    Err(Failure::other(format!("the demo went wrong: it should be that {fact}")))
}
