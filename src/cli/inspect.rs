//! Looking around: history, diff, explain, list and tags.

use axum::http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Diff, Explain, History, List, Tag, TagAction, TagCreate};
use super::client::{self, encode};
use super::console::counted;
use super::context::{Context, checked};
use super::data::{DEGRADED, View, bare, clipped, quoted, short};
use super::failure::{Exit, Failure};
use super::graph::{self, Point};

#[derive(Debug, Deserialize)]
struct Events {
    events: Vec<Event>,
    #[serde(default)]
    degraded: bool,
}

/// One event of a key's history.
#[derive(Debug, Deserialize)]
struct Event {
    version: String,
    #[serde(default)]
    parents: Vec<String>,
    time: String,
    author: String,
    op: String,
    field: Option<String>,
    by: Option<Box<RawValue>>,
    element: Option<Box<RawValue>>,
    value: Option<Box<RawValue>>,
    inert: Option<Why>,
    /// The same, where all are inert.
    why: Option<Why>,
}

/// Why something does not count.
#[derive(Debug, Deserialize)]
struct Why {
    text: String,
}

impl Why {
    /// Says it with ids as tables show them.
    fn words(&self) -> String {
        let is_id = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let word = |word| Some(word).filter(is_id).map_or(word, short);
        self.text.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Marks in words what does not count.
fn marked(what: String, inert: Option<&Why>) -> String {
    match inert {
        Some(why) => format!("{what} (inert: {})", why.words()).trim_start().to_owned(),
        None => what,
    }
}

impl Event {
    fn what(&self) -> String {
        let value = self.value.as_ref().or(self.by.as_ref()).or(self.element.as_ref());
        let value = value.map(|value| clipped(value.get())).unwrap_or_default();
        match &self.field {
            Some(field) if value.is_empty() => clipped(field),
            Some(field) => format!("{} = {value}", clipped(field)),
            None => value,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Commits {
    commits: Vec<Commit>,
    #[serde(default)]
    degraded: bool,
}

/// One commit of a space's history.
#[derive(Debug, Deserialize)]
struct Commit {
    commit: String,
    #[serde(default)]
    parents: Vec<String>,
    time: String,
    author: String,
    kind: String,
    events: u64,
    #[serde(default)]
    keys: Vec<String>,
    tag: Option<String>,
    note: Option<Box<RawValue>>,
    act: Option<Act>,
    inert: Option<Why>,
}

/// What a grant or a revocation says.
#[derive(Debug, Deserialize)]
struct Act {
    to: Option<String>,
    #[serde(default)]
    can: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    revokes: Option<String>,
}

impl Act {
    fn what(&self) -> String {
        if let Some(target) = &self.revokes {
            return format!("revoke {}", short(target));
        }
        let to = self.to.as_deref().map(short).unwrap_or("whoever bears it");
        let keys: Vec<String> = self.prefixes.iter().map(|p| clipped(&format!("{p}*"))).collect();
        format!("grant to {to}: {} {}", self.can.join(","), keys.join(" "))
    }
}

impl Commit {
    fn what(&self) -> String {
        let mut what = match self.kind.as_str() {
            "data" => self.keys.iter().map(|key| clipped(key)).collect::<Vec<_>>().join(" "),
            kind => self.act.as_ref().map_or_else(|| kind.to_owned(), Act::what),
        };
        if let Some(tag) = &self.tag {
            what.push_str(&format!(" (tag {})", clipped(tag)));
        }
        if let Some(note) = &self.note {
            what.push_str(&format!(" # {}", clipped(&bare(note))));
        }
        marked(what.trim_start().to_owned(), self.inert.as_ref())
    }
}

/// `history [KEY]`
pub(crate) async fn history(context: &mut Context<'_>, args: History) -> Result<Exit, Failure> {
    let call = match &args.key {
        Some(key) => context.on_key(Method::GET, "history", key)?,
        None => context.in_space(Method::GET, "history"),
    };
    let call = call.query("limit", args.limit.to_string());
    let call = call.flag("all", args.all).flag("degraded", args.degraded);
    let answer = context.call(call).await?;
    if context.json {
        return context.print(&answer);
    }
    if args.key.is_some() {
        let Events { events, degraded } = answer.read()?;
        note_if(context, degraded);
        let points = events.iter().map(|e| Point { id: &e.version, parents: &e.parents });
        let rows = events.iter().map(|event| {
            let version = short(&event.version).to_owned();
            let author = short(&event.author).to_owned();
            let what = marked(event.what(), event.inert.as_ref());
            vec![version, event.time.clone(), author, event.op.clone(), what]
        });
        let heading = ["version", "time", "author", "op", "value"];
        return show(context, args.graph, &heading, points.collect(), rows.collect());
    }
    let Commits { commits, degraded } = answer.read()?;
    note_if(context, degraded);
    let points = commits.iter().map(|c| Point { id: &c.commit, parents: &c.parents });
    let rows = commits.iter().map(|commit| {
        let id = short(&commit.commit).to_owned();
        let author = short(&commit.author).to_owned();
        vec![id, commit.time.clone(), author, commit.events.to_string(), commit.what()]
    });
    let heading = ["commit", "time", "author", "events", "what"];
    show(context, args.graph, &heading, points.collect(), rows.collect())
}

fn note_if(context: &mut Context<'_>, degraded: bool) {
    if degraded {
        context.console.note(DEGRADED);
    }
}

fn show(
    context: &mut Context<'_>,
    graph: bool,
    heading: &[&str],
    points: Vec<Point<'_>>,
    rows: Vec<Vec<String>>,
) -> Result<Exit, Failure> {
    if !graph {
        context.console.table(heading, &rows)?;
        return Ok(Exit::Ok);
    }
    for (lines, row) in graph::draw(&points).into_iter().zip(rows) {
        if let Some((mark, before)) = lines.split_last() {
            for line in before {
                context.console.line(line)?;
            }
            context.console.line(format!("{mark}  {}", row.join("  ")).trim_end())?;
        }
    }
    Ok(Exit::Ok)
}

#[derive(Debug, Deserialize)]
struct Difference {
    from: Option<View>,
    to: Option<View>,
}

/// `diff KEY FROM [TO]`
pub(crate) async fn diff(context: &mut Context<'_>, args: Diff) -> Result<Exit, Failure> {
    let call = context
        .on_key(Method::GET, "diff", &args.key)?
        .query("from", &args.from)
        .query_if("to", args.to.as_deref());
    let answer = context.call(call).await?;
    if context.json {
        return context.print(&answer);
    }
    let difference: Difference = answer.read()?;
    for line in changed_lines(difference.from.as_ref(), difference.to.as_ref()) {
        context.console.line(&line)?;
    }
    Ok(Exit::Ok)
}

/// `- old` and `+ new` lines: by field for objects and maps, by element for sets, else whole.
fn changed_lines(from: Option<&View>, to: Option<&View>) -> Vec<String> {
    let parts = |view: Option<&View>| view.map(parts).unwrap_or_default();
    let (from, to) = (parts(from), parts(to));
    let removed = from.iter().filter(|part| !to.contains(part)).map(|part| (part, '-'));
    let added = to.iter().filter(|part| !from.contains(part)).map(|part| (part, '+'));
    let mut all: Vec<_> = removed.chain(added).collect();
    all.sort_by(|((a, ..), a_sign), ((b, ..), b_sign)| a.cmp(b).then(b_sign.cmp(a_sign)));
    all.into_iter()
        .map(|((name, text), sign)| match name {
            Some(name) => format!("{sign} {name}: {text}"),
            None => format!("{sign} {text}"),
        })
        .collect()
}

/// What a view consists of: (name, text) for members, (none, text) for elements and the rest.
fn parts(view: &View) -> Vec<(Option<String>, String)> {
    let text = view.value.get();
    if view.kind == "set" {
        let elements: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap_or_default();
        return elements.iter().map(|element| (None, element.get().to_owned())).collect();
    }
    type Members = std::collections::BTreeMap<String, Box<RawValue>>;
    match serde_json::from_str::<Members>(text) {
        Ok(members) if view.kind != "bytes" && !members.is_empty() => {
            members.into_iter().map(|(name, value)| (Some(name), value.get().to_owned())).collect()
        }
        _ => vec![(None, text.to_owned())],
    }
}

#[derive(Debug, Deserialize)]
struct Explanation {
    #[serde(rename = "type")]
    kind: Option<String>,
    value: Option<Box<RawValue>>,
    rule: String,
    live: Vec<Live>,
    #[serde(default)]
    inert: Vec<Event>,
    #[serde(default)]
    inert_more: bool,
    #[serde(default)]
    forks: Vec<Forked>,
}

/// A forked log that wrote to a key.
#[derive(Debug, Deserialize)]
struct Forked {
    log: String,
    seq: u64,
    branches: Vec<IgnoredAny>,
}

/// A live event and its part in the value.
#[derive(Debug, Deserialize)]
struct Live {
    version: String,
    time: String,
    author: String,
    op: String,
    field: Option<String>,
    value: Option<Box<RawValue>>,
    wins: bool,
    grant: Option<String>,
}

/// `explain KEY`
pub(crate) async fn explain(context: &mut Context<'_>, args: Explain) -> Result<Exit, Failure> {
    let answer = context.call(context.on_key(Method::GET, "explain", &args.key)?).await?;
    if context.json {
        return context.print(&answer);
    }
    let told: Explanation = answer.read()?;
    let mut pairs = vec![("key".to_owned(), args.key)];
    if let Some(kind) = told.kind {
        let value = told.value.as_ref().map_or("null", |value| value.get());
        pairs.extend([("type".to_owned(), kind), ("value".to_owned(), clipped(value))]);
    }
    pairs.push(("rule".to_owned(), told.rule));
    context.console.pairs(&pairs)?;
    if !told.live.is_empty() {
        context.console.line("")?;
        let owned = told.live.iter().any(|live| live.grant.is_some());
        let rows: Vec<Vec<String>> = told.live.iter().map(|live| live.row(owned)).collect();
        let heading = ["", "version", "time", "author", "op", "field", "value", "grant"];
        let shown = heading.len() - usize::from(!owned);
        context.console.table(heading.get(..shown).unwrap_or(&heading), &rows)?;
    }
    for fork in &told.forks {
        let Forked { log, seq, branches } = fork;
        context.console.line("")?;
        context.console.line(&format!(
            "The log {} was forked from number {seq} on, by a copy of its replica or one that lies: \
             of what it wrote from there on only what others built upon counts ({}).",
            short(log),
            counted(branches.len() as u64, "end"),
        ))?;
    }
    if told.inert.is_empty() {
        return Ok(Exit::Ok);
    }
    context.console.line("")?;
    let rows: Vec<Vec<String>> = told.inert.iter().map(inert_row).collect();
    context.console.table(&["inert", "time", "author", "op", "value", "why"], &rows)?;
    if told.inert_more {
        context.console.note("There are more: kdelta history KEY --all");
    }
    Ok(Exit::Ok)
}

impl Live {
    fn row(&self, owned: bool) -> Vec<String> {
        let value = self.value.as_ref().map(|value| clipped(value.get())).unwrap_or_default();
        let mut row = vec![
            if self.wins { "*" } else { "" }.to_owned(),
            short(&self.version).to_owned(),
            self.time.clone(),
            short(&self.author).to_owned(),
            self.op.clone(),
            self.field.as_deref().map(clipped).unwrap_or_default(),
            value,
        ];
        if owned {
            row.push(self.grant.as_deref().map(short).unwrap_or_default().to_owned());
        }
        row
    }
}

fn inert_row(event: &Event) -> Vec<String> {
    vec![
        short(&event.version).to_owned(),
        event.time.clone(),
        short(&event.author).to_owned(),
        event.op.clone(),
        event.what(),
        event.why.as_ref().map(Why::words).unwrap_or_default(),
    ]
}

/// One key of a list.
#[derive(Debug, Deserialize)]
struct Listed {
    key: String,
    value: Option<Box<RawValue>>,
}

/// `list [PREFIX]`
pub(crate) async fn list(context: &mut Context<'_>, args: List) -> Result<Exit, Failure> {
    let limit = match (args.limit, context.json) {
        (Some(limit), _) => limit,
        (None, true) => 1000,
        (None, false) => 0,
    };
    let call = context
        .in_space(Method::GET, "keys")
        .query_if("prefix", args.prefix.as_deref())
        .query_if("after", args.after.as_deref())
        .query_if("at", args.at.as_deref())
        .query("limit", limit.to_string())
        .flag("values", args.values)
        .flag("degraded", args.degraded);
    if limit > 0 {
        #[derive(Deserialize)]
        struct Page {
            keys: Vec<Listed>,
        }
        let answer = context.call(call).await?;
        if context.json {
            return context.print(&answer);
        }
        for listed in answer.read::<Page>()?.keys {
            print_listed(context, &listed)?;
        }
        return Ok(Exit::Ok);
    }
    let api = context.api().await?;
    let mut lines = client::lines(&*api, call).await?;
    while let Some(line) = lines.next().await? {
        in_stream(&line)?;
        if context.json {
            context.console.bytes(&line)?;
            context.console.bytes(b"\n")?;
        } else {
            let listed = serde_json::from_slice(&line)
                .map_err(|error| Failure::other(format!("a line cannot be read: {error}")))?;
            print_listed(context, &listed)?;
        }
    }
    Ok(Exit::Ok)
}

fn print_listed(context: &mut Context<'_>, listed: &Listed) -> Result<(), Failure> {
    match &listed.value {
        Some(value) => context.console.line(&format!("{}\t{}", listed.key, value.get())),
        None => context.console.line(&listed.key),
    }
}

/// Fails if `line` is the error that ends a stream of lines.
pub(crate) fn in_stream(line: &[u8]) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Last {
        error: serde_json::Map<String, serde_json::Value>,
    }
    if line.starts_with(b"{\"error\":")
        && let Ok(last) = serde_json::from_slice::<Last>(line)
    {
        return Err(Failure::from_problem(500, last.error));
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Tags {
    tags: Vec<Tagged>,
}

#[derive(Debug, Deserialize)]
struct Tagged {
    name: String,
    version: String,
    time: String,
    author: String,
}

/// `tag [create] NAME`, `tag list`, `tag delete NAME`
pub(crate) async fn tag(context: &mut Context<'_>, args: Tag) -> Result<Exit, Failure> {
    let action = args.action.unwrap_or(match args.create.name {
        None => TagAction::List,
        Some(_) => TagAction::Create(args.create),
    });
    match action {
        TagAction::Create(TagCreate { name: Some(name), at }) => {
            create_tag(context, &name, at.as_deref()).await
        }
        TagAction::Create(_) => {
            Err(Failure::usage("the tag has no name").hint("Write: kdelta tag create NAME"))
        }
        TagAction::List => {
            let answer = context.call(context.in_space(Method::GET, "tags")).await?;
            if context.json {
                return context.print(&answer);
            }
            let tags = answer.read::<Tags>()?.tags;
            let rows: Vec<Vec<String>> = tags
                .into_iter()
                .map(|tag| {
                    let version = short(&tag.version).to_owned();
                    vec![tag.name, version, tag.time, short(&tag.author).to_owned()]
                })
                .collect();
            context.console.table(&["tag", "version", "time", "author"], &rows)?;
            Ok(Exit::Ok)
        }
        TagAction::Delete { name, dry_run } => delete_tag(context, &name, dry_run).await,
    }
}

async fn create_tag(
    context: &mut Context<'_>,
    name: &str,
    at: Option<&str>,
) -> Result<Exit, Failure> {
    let name = checked_tag(name)?;
    let route = format!("tags/{}", encode(name, |_| false));
    let call = context.in_space(Method::PUT, &route).query_if("at", at);
    let call = super::data::durably(context, call)?;
    let answer = context.call(call).await?;
    if context.json {
        return context.print(&answer);
    }
    let tagged: Tagged = answer.read()?;
    context.console.line(&format!("{} {}", tagged.name, tagged.version))?;
    Ok(Exit::Ok)
}

async fn delete_tag(context: &mut Context<'_>, name: &str, dry_run: bool) -> Result<Exit, Failure> {
    let name = checked_tag(name)?;
    if dry_run {
        let answer = context.call(context.in_space(Method::GET, "tags")).await?;
        if !answer.read::<Tags>()?.tags.iter().any(|tag| tag.name == name) {
            let message = format!("no tag {} in this space", quoted(name));
            return Err(Failure::new("not_found", Exit::NotFound, message)
                .hint("List the tags: kdelta tag list"));
        }
        let would = json!({"dry_run": true, "name": name}).to_string();
        let text = format!("would delete tag {name}");
        context.console.line(if context.json { &would } else { &text })?;
        return Ok(Exit::Ok);
    }
    let route = format!("tags/{}", encode(name, |_| false));
    let answer = context.call(context.in_space(Method::DELETE, &route)).await?;
    if context.json {
        return context.print(&answer);
    }
    context.console.line(&format!("deleted tag {name}"))?;
    Ok(Exit::Ok)
}

fn checked_tag(name: &str) -> Result<&str, Failure> {
    if name.len() > kdelta::engine::limits::TAG_BYTES_MAX {
        let most = kdelta::engine::limits::TAG_BYTES_MAX;
        return Err(Failure::usage(format!("a tag's name has at most {most} bytes")));
    }
    checked(name).map_err(|_| Failure::usage("a tag's name is text that is not empty"))
}
