//! The store and the program itself: status, verify, repair, backup, settings and manuals.

use std::path::{Path, PathBuf};

use axum::http::Method;
use clap::CommandFactory as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{Backup, Cli, Repair, Restore, Verify};
use super::client::{Answer, Call};
use super::connect;
use super::console::counted;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::peer::{PEER_COLUMNS, Peer, peer_row};
use super::settings::Settings;
use super::space::{SPACE_COLUMNS, SpaceInfo, space_row};

#[derive(Debug, Deserialize)]
struct Status {
    replica: String,
    node_running: bool,
    spaces: Vec<SpaceInfo>,
    #[serde(default)]
    listen: Option<Value>,
    http: Option<String>,
    #[serde(default)]
    https: Option<bool>,
    peers: Vec<Peer>,
    disk_bytes: u64,
    memory_bytes: u64,
    recovered: Recovered,
}

#[derive(Debug, Deserialize)]
struct Recovered {
    clean: bool,
    replayed_events: u64,
    truncated_bytes: u64,
}

/// `status`
pub(crate) async fn status(context: &mut Context<'_>) -> Result<Exit, Failure> {
    let answer = context.call(Call::new(Method::GET, "/v1/status")).await?;
    if context.json {
        return context.print(&answer);
    }
    let status: Status = answer.read()?;
    let recovered = match &status.recovered {
        Recovered { clean: true, .. } => "in order".to_owned(),
        Recovered { replayed_events, truncated_bytes, .. } => {
            format!("not in order: {replayed_events} events replayed, {truncated_bytes} bytes cut")
        }
    };
    let mut pairs = vec![
        ("replica".to_owned(), status.replica),
        ("node".to_owned(), if status.node_running { "running" } else { "not running" }.to_owned()),
        ("data".to_owned(), of_data(&context.settings)),
        ("disk".to_owned(), size(status.disk_bytes)),
        ("memory".to_owned(), size(status.memory_bytes)),
        ("last close".to_owned(), recovered),
    ];
    if let Some(listen) = status.listen.map(listed).filter(|text| !text.is_empty()) {
        pairs.insert(2, ("listening".to_owned(), listen));
    }
    if let Some(http) = status.http {
        let scheme = if status.https == Some(true) { "https" } else { "http" };
        pairs.insert(3, ("http".to_owned(), format!("{scheme}://{http}")));
    }
    context.console.pairs(&pairs)?;
    let spaces: Vec<Vec<String>> = status.spaces.iter().map(space_row).collect();
    if !spaces.is_empty() {
        context.console.line("")?;
        context.console.table(&SPACE_COLUMNS, &spaces)?;
    }
    let peers: Vec<Vec<String>> = status.peers.iter().map(peer_row).collect();
    if !peers.is_empty() {
        context.console.line("")?;
        context.console.table(&PEER_COLUMNS, &peers)?;
    }
    Ok(Exit::Ok)
}

/// Says where the data are that a command works on.
fn of_data(settings: &Settings) -> String {
    match settings.url.value.as_str() {
        "" => settings.data_dir.value.display().to_string(),
        url => format!("behind {url}"),
    }
}

fn listed(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(all) => all.into_iter().map(listed).collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `stats`
pub(crate) async fn stats(context: &mut Context<'_>) -> Result<Exit, Failure> {
    let answer = context.call(Call::new(Method::GET, "/v1/stats")).await?;
    if context.json {
        return context.print(&answer);
    }
    let mut pairs = Vec::new();
    flatten(String::new(), &answer.read::<Value>()?, &mut pairs);
    context.console.pairs(&pairs)?;
    Ok(Exit::Ok)
}

fn flatten(name: String, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(format!("{name}{dot}{member}"), value, out);
            }
        }
        other => out.push((name, listed(other.clone()))),
    }
}

#[derive(Debug, Deserialize)]
struct Verified {
    ok: bool,
    segments: u64,
    commits: u64,
    events: u64,
    bytes: u64,
    #[serde(default)]
    problems: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    file: String,
    offset: Option<u64>,
    kind: String,
    #[serde(default)]
    affected: Vec<Value>,
}

/// `verify`
pub(crate) async fn verify(context: &mut Context<'_>, args: Verify) -> Result<Exit, Failure> {
    let bar = context.console.progress(None, "verifying");
    let answer = if connect::has_node(&context.settings).await {
        context.call(Call::new(Method::POST, "/v1/verify").flag("deep", args.deep)).await
    } else {
        let path = context.settings.data_dir.value.clone();
        let host = context.host;
        let attempt = async |_| host.verify(&path, args.deep).await;
        connect::waiting(&context.settings, attempt).await.map(ok)
    };
    bar.finish_and_clear();
    let answer = answer?;
    let verified: Verified = answer.read()?;
    if context.json {
        context.print(&answer)?;
    } else {
        let Verified { segments, commits, events, .. } = verified;
        let counts = [
            counted(segments, "segment"),
            counted(commits, "commit"),
            counted(events, "event"),
            size(verified.bytes),
        ];
        let line = counts.join(", ");
        context.console.line(&line)?;
        let rows: Vec<Vec<String>> = verified.problems.iter().map(problem_row).collect();
        if !rows.is_empty() {
            context.console.table(&["file", "offset", "kind", "affected"], &rows)?;
        }
    }
    if verified.ok {
        return Ok(Exit::Ok);
    }
    let places = counted(verified.problems.len() as u64, "place");
    Err(Failure::new("integrity", Exit::Integrity, format!("damage was found in {places}"))
        .hint("Fetch what is lost from peers: kdelta repair"))
}

fn problem_row(problem: &Problem) -> Vec<String> {
    let offset = problem.offset.map(|offset| offset.to_string()).unwrap_or_default();
    let affected: Vec<String> = problem.affected.iter().take(4).cloned().map(listed).collect();
    let more = problem.affected.len().saturating_sub(4);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let affected = format!("{}{more}", affected.join(" "));
    vec![problem.file.clone(), offset, problem.kind.clone(), affected]
}

/// An answer from this process.
fn ok(value: Value) -> Answer {
    Answer { status: axum::http::StatusCode::OK, text: value.to_string() }
}

#[derive(Debug, Deserialize)]
struct Repaired {
    ok: bool,
    #[serde(default)]
    repaired: Vec<Value>,
    #[serde(default)]
    rebuilt: Vec<Value>,
    #[serde(default)]
    missing: Vec<Value>,
}

/// `repair`
pub(crate) async fn repair(context: &mut Context<'_>, args: Repair) -> Result<Exit, Failure> {
    if args.dry_run {
        return repair_plan(context).await;
    }
    let bar = context.console.progress(None, "repairing");
    let body = json!({"from": args.from}).to_string();
    let answer = context.call(Call::new(Method::POST, "/v1/repair").json(body)).await;
    bar.finish_and_clear();
    let answer = answer?;
    let repaired: Repaired = answer.read()?;
    if context.json {
        context.print(&answer)?;
    } else {
        let (fetched, rebuilt) = (repaired.repaired.len(), repaired.rebuilt.len());
        let line =
            [counted(fetched as u64, "damaged part"), counted(rebuilt as u64, "derived file")];
        let line = line.join(" replaced, ") + " rebuilt";
        context.console.line(&line)?;
        for missing in &repaired.missing {
            context.console.line(&format!("still missing: {}", listed(missing.clone())))?;
        }
    }
    if repaired.ok {
        return Ok(Exit::Ok);
    }
    Err(Failure::new("integrity", Exit::Integrity, "something is still missing")
        .hint("Name a peer that may hold it: kdelta repair --from ID@ADDR"))
}

/// `repair --dry-run`: like `verify` it opens no store, for that alone may recover something.
async fn repair_plan(context: &mut Context<'_>) -> Result<Exit, Failure> {
    #[derive(Deserialize)]
    struct Plan {
        would_replace: Vec<String>,
        would_rebuild: Vec<String>,
    }
    let answer = if connect::has_node(&context.settings).await {
        let call = Call::new(Method::POST, "/v1/repair").flag("dry_run", true);
        context.call(call.json("{}".to_owned())).await?
    } else {
        let path = context.settings.data_dir.value.clone();
        let host = context.host;
        let attempt = async |_| host.repair_plan(&path).await;
        ok(connect::waiting(&context.settings, attempt).await?)
    };
    if context.json {
        return context.print(&answer);
    }
    let plan: Plan = answer.read()?;
    for (what, files) in [("replace", &plan.would_replace), ("rebuild", &plan.would_rebuild)] {
        for file in files {
            context.console.line(&format!("would {what} {file}"))?;
        }
    }
    if plan.would_replace.is_empty() && plan.would_rebuild.is_empty() {
        context.console.line("would do nothing: no damage is found")?;
    }
    Ok(Exit::Ok)
}

/// `backup FILE`
pub(crate) async fn backup(context: &mut Context<'_>, args: Backup) -> Result<Exit, Failure> {
    let path = absolute(&args.file)?;
    if path.exists() {
        let message = format!("{} exists already", path.display());
        return Err(Failure::new("conflict", Exit::Conflict, message)
            .hint("Choose another name, or remove it first"));
    }
    let Some(text) = path.to_str() else {
        return Err(Failure::usage("the path of a backup must be UTF-8"));
    };
    let bar = context.console.progress(None, "copying");
    let body = json!({"path": text}).to_string();
    let answer = context.call(Call::new(Method::POST, "/v1/backup").json(body)).await;
    bar.finish_and_clear();
    let answer = answer?;
    if context.json {
        return context.print(&answer);
    }
    #[derive(Deserialize)]
    struct Made {
        bytes: u64,
    }
    let made: Made = answer.read()?;
    context.console.line(&format!("{text}  {}", size(made.bytes)))?;
    Ok(Exit::Ok)
}

/// `restore FILE`
pub(crate) async fn restore(context: &mut Context<'_>, args: Restore) -> Result<Exit, Failure> {
    let path = absolute(&args.file)?;
    if let Err(error) = std::fs::metadata(&path) {
        return Err(Failure::file("read", &path, &error));
    }
    let bar = context.console.progress(None, "restoring");
    let host = context.host;
    let dry_run = args.dry_run;
    let attempt = async |store| host.restore(store, &path, args.same_identity, dry_run).await;
    let restored = connect::waiting(&context.settings, attempt).await;
    bar.finish_and_clear();
    let answer = ok(restored?);
    if context.json {
        return context.print(&answer);
    }
    let store = context.settings.data_dir.value.display().to_string();
    if dry_run {
        let bytes = answer.read::<Value>()?.get("bytes").and_then(Value::as_u64);
        let bytes = size(bytes.unwrap_or_default());
        context.console.line(&format!("would make {store} of {bytes}, which are whole"))?;
        return Ok(Exit::Ok);
    }
    let replica = answer.read::<Value>()?;
    let replica = replica.get("replica").and_then(Value::as_str).unwrap_or_default().to_owned();
    context.console.line(&format!("{store}  replica {replica}"))?;
    Ok(Exit::Ok)
}

pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::file("find", path, &error))
}

/// `config show`
pub(crate) fn config(context: &mut Context<'_>) -> Result<Exit, Failure> {
    let table = context.settings.table();
    if context.json {
        let settings: Vec<Value> = table
            .iter()
            .map(|(name, value, origin)| json!({"name": name, "value": value, "origin": origin}))
            .collect();
        context.console.line(&json!({ "settings": settings }).to_string())?;
        return Ok(Exit::Ok);
    }
    let rows: Vec<Vec<String>> = table
        .into_iter()
        .map(|(name, value, origin)| vec![name.to_owned(), listed(value), origin])
        .collect();
    context.console.table(&["setting", "value", "origin"], &rows)?;
    Ok(Exit::Ok)
}

/// `completions SHELL`
pub(crate) fn completions(
    context: &mut Context<'_>,
    shell: clap_complete::Shell,
) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kdelta", &mut script);
    context.console.bytes(&script)?;
    Ok(Exit::Ok)
}

/// `man`: one page for the program and all its commands.
pub(crate) fn man(context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut grammar = Cli::command();
    grammar.build();
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(grammar.clone()).render(&mut page);
    let rendered = rendered.and_then(|()| manual_of(&grammar, &mut page));
    rendered.map_err(|error| Failure::other(format!("cannot write the manual: {error}")))?;
    context.console.bytes(&page)?;
    Ok(Exit::Ok)
}

fn manual_of(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        if sub.has_subcommands() {
            manual_of(sub, page)?;
            continue;
        }
        let name = sub.get_bin_name().unwrap_or(sub.get_name()).to_owned();
        let hidden = sub.clone().mut_args(|arg| {
            let global = arg.is_global_set();
            arg.hide(global)
        });
        let man = clap_mangen::Man::new(hidden);
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        man.render_description_section(&mut part)?;
        man.render_options_section(&mut part)?;
        let part = String::from_utf8_lossy(&part).replace(".SH ", ".SS ");
        page.extend_from_slice(format!(".SH \"{}\"\n{part}", name.to_uppercase()).as_bytes());
    }
    Ok(())
}
