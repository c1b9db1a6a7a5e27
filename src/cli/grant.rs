//! `kdelta grant`: who may do what in an owned space.

use axum::http::Method;
use serde::Deserialize;
use serde_json::{Map, json};

use super::args::Grant;
use super::client::{Answer, Call};
use super::context::Context;
use super::data::short;
use super::failure::{Exit, Failure};

/// A grant, as the API shows it.
#[derive(Deserialize)]
struct Shown {
    id: String,
    to: Option<String>,
    can: Vec<String>,
    prefixes: Vec<String>,
    expires: Option<String>,
    depth: u64,
    revoked: Option<String>,
}

/// `grant create | list | revoke`
pub(crate) async fn grant(context: &mut Context<'_>, args: Grant) -> Result<Exit, Failure> {
    let space = context.settings.space.value.clone();
    match args {
        Grant::Create { to, can, prefix, expires, depth } => {
            let mut body = Map::from_iter([
                ("space".to_owned(), json!(space)),
                ("to".to_owned(), json!(to)),
                ("can".to_owned(), json!(can)),
            ]);
            if !prefix.is_empty() {
                body.insert("prefixes".to_owned(), json!(prefix));
            }
            body.extend(expires.map(|when| ("expires".to_owned(), json!(when))));
            body.extend(depth.map(|depth| ("depth".to_owned(), json!(depth))));
            let call = Call::new(Method::POST, "/v1/grants").json(json!(body).to_string());
            let answer = context.call(call).await?;
            one(context, &answer, "granted")
        }
        Grant::List => {
            let call = Call::new(Method::GET, "/v1/grants").query("space", &space);
            let answer = context.call(call).await?;
            if context.json {
                return context.print(&answer);
            }
            #[derive(Deserialize)]
            struct All {
                grants: Vec<Shown>,
            }
            let all: All = answer.read()?;
            let rows: Vec<Vec<String>> = all.grants.iter().map(row).collect();
            context.console.table(&COLUMNS, &rows)?;
            Ok(Exit::Ok)
        }
        Grant::Revoke { id, dry_run } => {
            let route = format!("/v1/grants/{}", super::client::encode(&id, |_| false));
            let call = Call::new(Method::DELETE, route).query("space", &space);
            if dry_run {
                let answer = context.call(call.flag("dry_run", true)).await?;
                return one(context, &answer, "would revoke");
            }
            let question =
                format!("revoke {}: what its holder wrote elsewhere is void", short(&id));
            context.console.confirm(&question, context.yes)?;
            let answer = context.call(call).await?;
            one(context, &answer, "revoked")
        }
    }
}

fn one(context: &mut Context<'_>, answer: &Answer, what: &str) -> Result<Exit, Failure> {
    if context.json {
        return context.print(answer);
    }
    let shown: Shown = answer.read()?;
    let to = shown.to.as_deref().map(short).unwrap_or("whoever bears it");
    context.console.line(&format!(
        "{what} {} to {to}: {}",
        short(&shown.id),
        shown.can.join(",")
    ))?;
    Ok(Exit::Ok)
}

fn row(shown: &Shown) -> Vec<String> {
    let Shown { id, to, can, prefixes, expires, depth, revoked } = shown;
    let keys: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}*")).collect();
    let until = match (revoked, expires) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(when)) => when.clone(),
        (None, None) => String::new(),
    };
    vec![
        short(id).to_owned(),
        to.as_deref().map(short).unwrap_or_default().to_owned(),
        can.join(","),
        keys.join(" "),
        until,
        depth.to_string(),
    ]
}

const COLUMNS: [&str; 6] = ["grant", "to", "can", "keys", "until", "passed on"];
