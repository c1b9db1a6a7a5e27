//! `query`: which keys hold what is asked for, and what they sum to.

use std::collections::BTreeMap;

use axum::http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::args::Query;
use super::client;
use super::context::Context;
use super::data::{DEGRADED, bare, clipped};
use super::failure::{Exit, Failure};
use super::inspect::in_stream;

/// Members of an object, as they were sent.
type Members = BTreeMap<String, Box<RawValue>>;

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    rows: Vec<Members>,
    #[serde(default)]
    groups: Vec<Members>,
    next: Option<String>,
    #[serde(default)]
    degraded: bool,
}

/// `query [PREFIX]`
pub(crate) async fn query(context: &mut Context<'_>, args: Query) -> Result<Exit, Failure> {
    let limit = match (args.limit, context.json) {
        (Some(limit), _) => limit,
        (None, true) => 1000,
        (None, false) => 0,
    };
    let call = context.in_space(Method::POST, "query").json(body(&args, limit).to_string());
    if limit > 0 {
        let answer = context.call(call).await?;
        if context.json {
            return context.print(&answer);
        }
        let page: Page = answer.read()?;
        show(context, &args, page.rows.into_iter().chain(page.groups).collect())?;
        if page.degraded {
            context.console.note(DEGRADED);
        }
        if let Some(next) = page.next {
            context.console.note(&format!("more follow: --after {next}"));
        }
        return Ok(Exit::Ok);
    }
    let api = context.api().await?;
    let mut lines = client::lines(&*api, call).await?;
    let mut rows = Vec::new();
    while let Some(line) = lines.next().await? {
        in_stream(&line)?;
        if context.json {
            context.console.bytes(&line)?;
            context.console.bytes(b"\n")?;
            continue;
        }
        let row = serde_json::from_slice(&line)
            .map_err(|error| Failure::other(format!("a line cannot be read: {error}")))?;
        // Columns are as wide as their widest cell; whole values have no columns.
        if in_columns(&args) { rows.push(row) } else { show(context, &args, vec![row])? }
    }
    show(context, &args, rows)?;
    Ok(Exit::Ok)
}

/// Writes the request.
fn body(args: &Query, limit: u64) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        let empty = match &value {
            Value::Array(all) => all.is_empty(),
            other => matches!(other, Value::Null | Value::Bool(false)),
        };
        if !empty {
            body.insert(name.to_owned(), value);
        }
    };
    put("prefix", json!(args.prefix));
    put("where", json!(args.tests));
    put("sort", json!(args.sort));
    put("limit", json!(limit));
    put("after", json!(args.after));
    put("select", json!(args.select));
    put("count", json!(args.count));
    put("sum", json!(args.sum));
    put("avg", json!(args.avg));
    put("min", json!(args.min));
    put("max", json!(args.max));
    put("group_by", json!(args.group_by));
    put("at", json!(args.at));
    put("degraded", json!(args.degraded));
    Value::Object(body)
}

fn has_groups(args: &Query) -> bool {
    args.count
        || [&args.sum, &args.avg, &args.min, &args.max, &args.group_by]
            .iter()
            .any(|f| !f.is_empty())
}

fn in_columns(args: &Query) -> bool {
    has_groups(args) || !args.select.is_empty()
}

/// Prints rows as `list --values` does, or what was asked for of them in columns; what is one value
/// stands alone.
fn show(context: &mut Context<'_>, args: &Query, rows: Vec<Members>) -> Result<(), Failure> {
    if !in_columns(args) {
        return rows.iter().try_for_each(|row| {
            let value = row.get("value").map(|value| value.get()).unwrap_or_default();
            let key = row.get("key").map(|key| bare(key)).unwrap_or_default();
            context.console.line(&format!("{key}\t{value}"))
        });
    }
    let columns = columns(args);
    match (columns.as_slice(), rows.as_slice()) {
        (_, []) => Ok(()),
        ([column], [row]) if args.group_by.is_empty() => context.console.line(&column.of(row)),
        _ => {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let of_row = |row| columns.iter().map(|column| clipped(&column.of(row))).collect();
            let rows: Vec<Vec<String>> = rows.iter().map(of_row).collect();
            context.console.table(&names, &rows)
        }
    }
}

/// A column: its heading, and the members under which it stands.
struct Column {
    name: String,
    member: &'static str,
    within: Option<String>,
}

impl Column {
    fn of(&self, row: &Members) -> String {
        let Some(value) = row.get(self.member) else { return String::new() };
        let Some(name) = &self.within else { return bare(value) };
        let members: Members = serde_json::from_str(value.get()).unwrap_or_default();
        members.get(name).map(|value| bare(value)).unwrap_or_default()
    }
}

fn columns(args: &Query) -> Vec<Column> {
    let plain = |name: &'static str| Column { name: name.to_owned(), member: name, within: None };
    let within = |member: &'static str, name: &String| Column {
        name: name.clone(),
        member,
        within: Some(name.clone()),
    };
    if !has_groups(args) {
        let fields = args.select.iter().map(|name| within("fields", name));
        return [plain("key")].into_iter().chain(fields).collect();
    }
    let mut columns: Vec<Column> = args.group_by.iter().map(|name| within("group", name)).collect();
    // Whoever asked for one number alone wants no other beside it.
    if args.count || !args.group_by.is_empty() {
        columns.push(plain("count"));
    }
    let sums = [("sum", &args.sum), ("avg", &args.avg), ("min", &args.min), ("max", &args.max)];
    for (verb, names) in sums {
        columns.extend(names.iter().map(|name| {
            let heading = format!("{verb}({name})");
            Column { name: heading, ..within(verb, name) }
        }));
    }
    columns
}
