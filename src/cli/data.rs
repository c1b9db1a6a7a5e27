//! Reading and writing one key.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Counter, Delete, Get, Map, Put, Set, Write};
use super::client::{Answer, Call};
use super::console::spelled;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::value::{self, Input, Reading};

/// What `get` answers, as far as people see it.
#[derive(Debug, Deserialize)]
pub(crate) struct View {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) value: Box<RawValue>,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) conflicts: Vec<Conflict>,
    #[serde(default)]
    pub(crate) degraded: bool,
}

/// A concurrent value.
#[derive(Debug, Deserialize)]
pub(crate) struct Conflict {
    pub(crate) value: Box<RawValue>,
    pub(crate) version: String,
    pub(crate) time: String,
    pub(crate) author: String,
    pub(crate) field: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Written {
    version: String,
}

/// `put KEY VALUE`
pub(crate) async fn put(context: &mut Context<'_>, args: Put) -> Result<Exit, Failure> {
    let reading = reading(args.string, args.raw);
    let input = value::input(&args.value, reading, &mut *context.console.stdin)?;
    let call = context.on_key(Method::PUT, "keys", &args.key)?.flag("retype", args.retype);
    let call = conditions(call, &args.write)?;
    let call = match input {
        Input::Json(text) => call.json(text),
        Input::Bytes(bytes) => call.body("application/octet-stream", Body::from(bytes)),
    };
    send(context, call).await
}

/// What is said of a read that met a loss, and made do.
pub(crate) const DEGRADED: &str = "events are missing; this is the best intact state";

/// `get KEY`
pub(crate) async fn get(context: &mut Context<'_>, args: Get) -> Result<Exit, Failure> {
    let call = context
        .on_key(Method::GET, "keys", &args.key)?
        .query_if("at", args.at.as_deref())
        .flag("degraded", args.degraded);
    let answer = context.call(call).await?;
    if context.json {
        return context.print(&answer);
    }
    let view: View = answer.read()?;
    if args.raw {
        context.console.bytes(&stored(&view)?)?;
    } else {
        context.console.line(&bare(&view.value))?;
    }
    if view.degraded {
        context.console.note(DEGRADED);
    }
    if args.conflicts {
        let rows: Vec<Vec<String>> = view.conflicts.iter().map(row).collect();
        if !rows.is_empty() {
            context.console.line("")?;
            context.console.table(&["also", "field", "version", "time", "author"], &rows)?;
        }
    } else if !view.conflicts.is_empty() && context.console.stderr_terminal {
        let count = view.conflicts.len();
        context.console.note(&format!("{count} concurrent values; see --conflicts"));
    }
    Ok(Exit::Ok)
}

fn row(conflict: &Conflict) -> Vec<String> {
    vec![
        clipped(conflict.value.get()),
        conflict.field.clone().unwrap_or_default(),
        short(&conflict.version).to_owned(),
        conflict.time.clone(),
        short(&conflict.author).to_owned(),
    ]
}

/// `delete KEY`
pub(crate) async fn delete(context: &mut Context<'_>, args: Delete) -> Result<Exit, Failure> {
    if args.dry_run {
        let answer = context.call(context.on_key(Method::GET, "keys", &args.key)?).await?;
        let view: View = answer.read()?;
        if context.json {
            let version = &view.version;
            let would = json!({"dry_run": true, "key": args.key, "version": version});
            context.console.line(&would.to_string())?;
        } else {
            let values = view.conflicts.len() + 1;
            context.console.line(&format!("would delete {} ({values} live)", args.key))?;
        }
        return Ok(Exit::Ok);
    }
    let call = context.on_key(Method::DELETE, "keys", &args.key)?;
    let call = conditions(call, &args.write)?;
    send(context, call).await
}

/// `counter add KEY [N]`
pub(crate) async fn counter(context: &mut Context<'_>, args: Counter) -> Result<Exit, Failure> {
    let Counter::Add { key, by, retype, write } = args;
    op(context, &key, &write, retype, &[("op", quoted("counter_add")), ("by", by.to_string())])
        .await
}

/// `set add KEY ELEM...` and `set remove KEY ELEM...`
pub(crate) async fn set(context: &mut Context<'_>, args: Set) -> Result<Exit, Failure> {
    let (name, args) = match args {
        Set::Add(args) => ("set_add", args),
        Set::Remove(args) => ("set_remove", args),
    };
    let reading = reading(args.string, false);
    let elements = args
        .elements
        .iter()
        .map(|element| value::json(element, reading, None))
        .collect::<Result<Vec<String>, Failure>>()?;
    let members = [("op", quoted(name)), ("elements", format!("[{}]", elements.join(",")))];
    op(context, &args.key, &args.write, args.retype, &members).await
}

/// `map put KEY FIELD VALUE` and `map delete KEY FIELD`
pub(crate) async fn map(context: &mut Context<'_>, args: Map) -> Result<Exit, Failure> {
    match args {
        Map::Put { key, field, value, string, retype, write } => {
            let stdin = &mut *context.console.stdin;
            let value = value::json(&value, reading(string, false), Some(stdin))?;
            let members = [("op", quoted("map_put")), ("field", quoted(&field)), ("value", value)];
            op(context, &key, &write, retype, &members).await
        }
        Map::Delete { key, field, retype, write } => {
            let members = [("op", quoted("map_delete")), ("field", quoted(&field))];
            op(context, &key, &write, retype, &members).await
        }
    }
}

/// Sends a typed op. Values travel as the text that was given, so that no digit changes.
async fn op(
    context: &mut Context<'_>,
    key: &str,
    write: &Write,
    retype: bool,
    members: &[(&str, String)],
) -> Result<Exit, Failure> {
    let mut all: Vec<String> =
        members.iter().map(|(name, text)| format!("{}:{text}", quoted(name))).collect();
    let named = [("if_version", &write.if_version), ("request_id", &write.request_id)];
    for (name, value) in named {
        all.extend(value.as_ref().map(|value| format!("{}:{}", quoted(name), quoted(value))));
    }
    all.extend(retype.then(|| "\"retype\":true".to_owned()));
    let call = context.on_key(Method::POST, "ops", key)?;
    let call = call.json(format!("{{{}}}", all.join(",")));
    send(context, call).await
}

fn conditions(call: Call, write: &Write) -> Result<Call, Failure> {
    let call = call.query_if("if_version", write.if_version.as_deref());
    match &write.request_id {
        Some(id) => call.header("idempotency-key", id),
        None => Ok(call),
    }
}

/// Sends a write and prints the version that it made.
async fn send(context: &mut Context<'_>, call: Call) -> Result<Exit, Failure> {
    let call = durably(context, call)?;
    let answer = context.call(call).await?;
    if context.json {
        context.print(&answer)?;
    } else {
        let written: Written = answer.read()?;
        context.console.line(&written.version)?;
    }
    Ok(reached(context, &answer))
}

/// Asks for the durability of the settings.
pub(crate) fn durably(context: &Context<'_>, call: Call) -> Result<Call, Failure> {
    match context.settings.durability.value.as_str() {
        "local" => Ok(call),
        other => call.header("prefer", &format!("durability={other}")),
    }
}

/// Tells when a write reached fewer peers than it should.
pub(crate) fn reached(context: &mut Context<'_>, answer: &Answer) -> Exit {
    if answer.status != StatusCode::ACCEPTED {
        return Exit::Ok;
    }
    let wanted = context.settings.durability.value.clone();
    context.console.note(&format!("written here, but {wanted} was not reached in time"));
    Exit::Partly
}

fn reading(string: bool, raw: bool) -> Reading {
    match (string, raw) {
        (_, true) => Reading::Raw,
        (true, false) => Reading::Text,
        (false, false) => Reading::Guess,
    }
}

/// The JSON string of `text`.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value as people see it: text bare, everything else as it is.
pub(crate) fn bare(value: &RawValue) -> String {
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

/// The stored bytes of a view.
fn stored(view: &View) -> Result<Vec<u8>, Failure> {
    #[derive(Deserialize)]
    struct Bytes {
        base64: String,
    }
    if view.kind != "bytes" {
        return Ok(bare(&view.value).into_bytes());
    }
    let bytes = serde_json::from_str::<Bytes>(view.value.get()).ok();
    bytes
        .and_then(|bytes| data_encoding::BASE64.decode(bytes.base64.as_bytes()).ok())
        .ok_or_else(|| Failure::other("the node's answer holds bytes that are not base64"))
}

/// The first digits of an id, enough to name it by.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A value in a cell of a table.
pub(crate) fn clipped(text: &str) -> String {
    const WIDEST: usize = 72;
    let text = spelled(text).replace(['\n', '\t'], " ");
    if text.chars().count() <= WIDEST {
        return text;
    }
    text.chars().take(WIDEST - 1).chain(['…']).collect()
}
