//! `kdelta space`: which spaces are here, made, joined, set and left.

use axum::http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::admin::size;
use super::args::Space;
use super::client::{Answer, Call, encode};
use super::console::{counted, yes_or_no};
use super::context::{Context, checked};
use super::data::short;
use super::failure::{Exit, Failure};

#[derive(Debug, Deserialize)]
struct Spaces {
    spaces: Vec<SpaceInfo>,
}

/// A space, as `space` and `status` show it.
#[derive(Debug, Deserialize)]
pub(crate) struct SpaceInfo {
    name: String,
    id: String,
    keys: Option<u64>,
    events: Option<u64>,
    owned: Option<bool>,
    bytes: Option<u64>,
    quota: Option<u64>,
    state_hash: Option<String>,
    value_hash: Option<String>,
    damaged: Option<String>,
}

/// The columns of [`space_row`].
pub(crate) const SPACE_COLUMNS: [&str; 6] = ["space", "id", "keys", "events", "state", "value"];

/// One line of a table of spaces.
pub(crate) fn space_row(space: &SpaceInfo) -> Vec<String> {
    let count = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let hash = |hash: &Option<String>| hash.as_deref().map_or("incomplete", short).to_owned();
    vec![
        space.name.clone(),
        short(&space.id).to_owned(),
        count(space.keys),
        count(space.events),
        hash(&space.state_hash),
        hash(&space.value_hash),
    ]
}

/// `space create | list | info | join | leave | set`
pub(crate) async fn space(context: &mut Context<'_>, args: Space) -> Result<Exit, Failure> {
    let call = request(context, &args)?;
    let answer = context.call(call).await?;
    if context.json {
        return context.print(&answer);
    }
    tell(context, &args, &answer)?;
    Ok(Exit::Ok)
}

/// Makes the request of a command.
fn request(context: &mut Context<'_>, args: &Space) -> Result<Call, Failure> {
    Ok(match args {
        Space::List => Call::new(Method::GET, "/v1/spaces"),
        Space::Create { name, owned, root, difficulty } => {
            let mut body = Map::from_iter([("name".to_owned(), json!(checked(name)?))]);
            if *owned {
                body.insert("owned".to_owned(), json!(true));
                if !root.is_empty() {
                    body.insert("roots".to_owned(), json!(root));
                }
                body.extend(difficulty.map(|bits| ("difficulty".to_owned(), json!(bits))));
            }
            Call::new(Method::POST, "/v1/spaces").json(Value::Object(body).to_string())
        }
        Space::Info { name } => {
            let name = name.as_deref().unwrap_or(&context.settings.space.value);
            Call::new(Method::GET, format!("/v1/spaces/{}", encode(name, |_| false)))
        }
        Space::Join { ticket, name } => {
            let mut body = Map::from_iter([("ticket".to_owned(), json!(ticket))]);
            body.extend(name.as_ref().map(|name| ("as".to_owned(), json!(name))));
            Call::new(Method::POST, "/v1/spaces/join").json(Value::Object(body).to_string())
        }
        Space::Set { name, settings } => {
            let settings: Map<String, Value> = settings.iter().cloned().collect();
            Call::new(Method::PATCH, format!("/v1/spaces/{}", encode(name, |_| false)))
                .json(Value::Object(settings).to_string())
        }
        Space::Leave { name, dry_run } => {
            if !dry_run {
                let question = format!("leave {name}: it is shown and synced here no more");
                context.console.confirm(&question, context.yes)?;
            }
            let call = Call::new(Method::DELETE, format!("/v1/spaces/{}", encode(name, |_| false)));
            call.flag("dry_run", *dry_run)
        }
    })
}

/// Prints an answer for people.
fn tell(context: &mut Context<'_>, args: &Space, answer: &Answer) -> Result<(), Failure> {
    match args {
        Space::List => {
            let spaces: Spaces = answer.read()?;
            let rows: Vec<Vec<String>> = spaces.spaces.iter().map(space_row).collect();
            context.console.table(&SPACE_COLUMNS, &rows)?;
        }
        Space::Info { .. } | Space::Set { .. } => {
            let space: SpaceInfo = answer.read()?;
            let count = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
            let hash = |hash: Option<String>| hash.unwrap_or_else(|| "incomplete".to_owned());
            let mut pairs = vec![
                ("name".to_owned(), space.name),
                ("id".to_owned(), space.id),
                ("keys".to_owned(), count(space.keys)),
                ("events".to_owned(), count(space.events)),
                ("owned".to_owned(), space.owned.map_or("not known yet", yes_or_no).to_owned()),
                ("bytes".to_owned(), space.bytes.map(size).unwrap_or_default()),
                ("quota".to_owned(), space.quota.map_or_else(|| "none".to_owned(), size)),
                ("state".to_owned(), hash(space.state_hash)),
                ("value".to_owned(), hash(space.value_hash)),
            ];
            pairs.extend(space.damaged.map(|why| ("damaged".to_owned(), why)));
            context.console.pairs(&pairs)?;
        }
        Space::Leave { dry_run, .. } => {
            #[derive(Deserialize)]
            struct Left {
                name: String,
                id: String,
                events: u64,
            }
            let Left { name, id, events } = answer.read()?;
            let what = if *dry_run { "would leave" } else { "left" };
            let events = counted(events, "event");
            let line =
                format!("{what} {name}: {events} stay on this disk; back by space join {id}");
            context.console.line(&line)?;
        }
        Space::Create { .. } | Space::Join { .. } => {
            #[derive(Deserialize)]
            struct Named {
                name: String,
                id: String,
            }
            let named: Named = answer.read()?;
            context.console.line(&format!("{} {}", named.name, named.id))?;
        }
    }
    Ok(())
}
