//! `kdelta grant`: who may do what in an owned space.

use std::io::Read as _;

use axum::http::Method;
use kdelta::engine::base::hex;
use kdelta::engine::event::Audience;
use kdelta::host::bearer::{Damaged, Token};
use serde::Deserialize;
use serde_json::{Map, json};
use zeroize::Zeroizing;

use super::args::Grant;
use super::client::{self, Answer, Call};
use super::context::Context;
use super::data::short;
use super::failure::{Exit, Failure};
use super::remote::RemoteApi;

/// A grant, as the API shows it.
#[derive(Deserialize)]
struct Shown {
    id: String,
    space: String,
    by: Option<String>,
    to: Option<String>,
    bearer: Option<String>,
    can: Vec<String>,
    prefixes: Vec<String>,
    expires: Option<String>,
    depth: u64,
    revoked: Option<String>,
    token: Option<String>,
}

/// `grant create | list | inspect | import | revoke`
pub(crate) async fn grant(context: &mut Context<'_>, args: Grant) -> Result<Exit, Failure> {
    let space = context.settings.space.value.clone();
    match args {
        Grant::Create { to, bearer, can, prefix, expires, depth } => {
            let mut body = Map::from_iter([
                ("space".to_owned(), json!(space)),
                ("bearer".to_owned(), json!(bearer)),
                ("can".to_owned(), json!(can)),
            ]);
            body.extend(to.map(|to| ("to".to_owned(), json!(to))));
            if !prefix.is_empty() {
                body.insert("prefixes".to_owned(), json!(prefix));
            }
            body.extend(expires.map(|when| ("expires".to_owned(), json!(when))));
            body.extend(depth.map(|depth| ("depth".to_owned(), json!(depth))));
            let call = Call::new(Method::POST, "/v1/grants").json(json!(body).to_string());
            let answer = context.call(call).await?;
            one(context, &answer, "granted")
        }
        Grant::Inspect { what } => inspect(context, what, space).await,
        Grant::Import { token } => import(context, token).await,
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
            let route = format!("/v1/grants/{}", client::encode(&id, |_| false));
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
    let to = shown.to.as_deref().map(short).unwrap_or("whoever bears its token");
    let told = format!("{what} {} to {to}: {}", short(&shown.id), shown.can.join(","));
    match shown.token {
        // The one thing that is data here, for a file or a pipe.
        Some(token) => {
            context.console.note(&told);
            context.console.line(&token)?;
        }
        None => context.console.line(&told)?,
    }
    Ok(Exit::Ok)
}

async fn inspect(context: &mut Context<'_>, what: String, space: String) -> Result<Exit, Failure> {
    let word = word(context, what)?;
    let token = if Token::is_meant(&word) { Some(read(&word)?) } else { None };
    let (id, space) = match &token {
        Some(token) => (token.grant.to_string(), token.space.to_string()),
        None => (word.to_string(), space),
    };
    let route = format!("/v1/grants/{}", client::encode(&id, |_| false));
    let answer = context.call(Call::new(Method::GET, route).query("space", space)).await?;
    let shown: Shown = answer.read()?;
    let meant = token.map(|token| token.audience());
    if let Some(Audience::Bearer(hash)) = meant
        && shown.bearer.as_deref() != Some(hex(&hash).as_str())
    {
        return Err(Failure::new(
            "unauthorised",
            Exit::Unauthorised,
            "the token is not the grant's",
        )
        .hint("Its secret is another: copy the token again"));
    }
    if context.json {
        return context.print(&answer);
    }
    let keys: Vec<String> = shown.prefixes.iter().map(|prefix| format!("{prefix}*")).collect();
    let name = |id: Option<String>, none: &str| id.unwrap_or_else(|| none.to_owned());
    let pairs = [
        ("grant", shown.id),
        ("space", shown.space),
        ("by", name(shown.by, "the genesis of the space")),
        ("to", name(shown.to, "whoever bears its token")),
        ("can", shown.can.join(",")),
        ("keys", keys.join(" ")),
        ("until", shown.expires.unwrap_or_else(|| "it is revoked".to_owned())),
        ("passed on", format!("{} more times", shown.depth)),
        ("revoked", shown.revoked.map_or("no".to_owned(), |by| format!("by {by}"))),
    ];
    context.console.pairs(&pairs.map(|(name, value)| (name.to_owned(), value)))?;
    Ok(Exit::Ok)
}

async fn import(context: &mut Context<'_>, token: String) -> Result<Exit, Failure> {
    let settings = context.settings.clone();
    if settings.url.value.is_empty() {
        return Err(Failure::usage("for which node the token is, is not said")
            .hint("kdelta --url https://HOST:PORT grant import TOKEN"));
    }
    let word = word(context, token)?;
    let token = read(&word)?;
    let node = RemoteApi::bearing(&settings, Some(&word))?;
    let route = format!("/v1/grants/{}", token.grant);
    let call = Call::new(Method::GET, route).query("space", token.space.to_string());
    let answer = client::call(&node, call).await?;
    RemoteApi::keep(&settings, &word)?;
    one(context, &answer, &format!("for {}, kept", settings.url.value))
}

/// Returns a word of the command line; `-` stands for one that is read.
fn word(context: &mut Context<'_>, given: String) -> Result<Zeroizing<String>, Failure> {
    if given != "-" {
        return Ok(Zeroizing::new(given));
    }
    let mut text = Zeroizing::new(String::new());
    let read = (&mut context.console.stdin).take(WORD_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("no token can be read: {error}")))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn read(word: &str) -> Result<Token, Failure> {
    word.parse().map_err(|error: Damaged| {
        Failure::usage(error.to_string())
            .hint("It begins with kg1: kdelta grant create --bearer prints one")
    })
}

fn row(shown: &Shown) -> Vec<String> {
    let Shown { id, to, can, prefixes, expires, depth, revoked, .. } = shown;
    let keys: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}*")).collect();
    let until = match (revoked, expires) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(when)) => when.clone(),
        (None, None) => String::new(),
    };
    vec![
        short(id).to_owned(),
        to.as_deref().map(short).unwrap_or("a bearer").to_owned(),
        can.join(","),
        keys.join(" "),
        until,
        depth.to_string(),
    ]
}

const COLUMNS: [&str; 6] = ["grant", "to", "can", "keys", "until", "passed on"];
/// Most bytes that are read where a token is expected.
const WORD_BYTES_MAX: u64 = 4096;
