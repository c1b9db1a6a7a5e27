//! Grants in owned spaces: who may do what there, and what was taken back.

use axum::body::Body;
use axum::extract::{Path, State};
use serde_json::{Value, json as value};

use super::backend::{Api, Backend, DEFAULT_SPACE};
use super::node::Given;
use super::problem::{Kind, Problem};
use super::request::Ask;
use super::{Answer, json, point};
use crate::engine::base::{GrantId, ReplicaId, SpaceId, WallTime};
use crate::engine::event::{Actions, Audience, Grant, Owned, Prefixes};
use crate::engine::store::Granted;

/// Words for several actions at once.
const TOGETHER: [(&str, Actions); 2] =
    [("write", Actions::PUT.and(Actions::DELETE)), ("admin", Actions::ALL)];

/// `GET /v1/grants?space=`
pub(super) async fn list(State(api): State<Api>, mut ask: Ask) -> Answer {
    let space = ask.query.text("space").unwrap_or_else(|| DEFAULT_SPACE.to_owned());
    let grants = api
        .run(move |backend| {
            let space = owned(backend, &space)?;
            let grants = backend.read(|store| store.grants(&space))?;
            Ok(grants.iter().map(shape).collect::<Vec<Value>>())
        })
        .await?;
    json(&value!({ "grants": grants }))
}

/// `POST /v1/grants` `{"space","to","can","prefixes","expires","depth"}`
pub(super) async fn create(State(api): State<Api>, body: Body) -> Answer {
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let space = members.text("space")?.unwrap_or_else(|| DEFAULT_SPACE.to_owned());
    let to = members.text("to")?.ok_or_else(|| missing("to"))?;
    let can = members.texts("can")?.ok_or_else(|| missing("can"))?;
    let prefixes = members.texts("prefixes")?.unwrap_or_else(|| vec![String::new()]);
    let (expires, depth) = (members.text("expires")?, members.number("depth")?);
    members.nothing_left("the request", "space, to, can, prefixes, expires, depth")?;
    let actions = actions(&can)?;
    let expires = expires.map(|text| point::to_come(&text, super::backend::now())).transpose()?;
    let passes_on = u64::from(actions.contains(Actions::DELEGATE));
    let depth = u8::try_from(depth.unwrap_or(passes_on));
    let prefixes = prefixes.into_iter().map(String::into_bytes);
    let grant = Grant {
        audience: Audience::Replica(replica(&to)?),
        actions,
        prefixes: Prefixes::new(prefixes).map_err(|error| Problem::usage(error.to_string()))?,
        expiry_ms: expires.map(|end| end.0),
        depth: depth.map_err(|_| Problem::usage("a grant is passed on at most 8 times"))?,
    };
    let granted = api
        .run(move |backend| {
            let space = owned(backend, &space)?;
            let id = GrantId(backend.grant(&space, grant)?.tip.id.0);
            find(backend, &space, id)
        })
        .await?;
    json(&shape(&granted))
}

/// `DELETE /v1/grants/{id}?space=`
pub(super) async fn revoke(State(api): State<Api>, Path(id): Path<String>, mut ask: Ask) -> Answer {
    let space = ask.query.text("space").unwrap_or_else(|| DEFAULT_SPACE.to_owned());
    let dry_run = ask.query.flag("dry_run")?;
    let granted = api
        .run(move |backend| {
            let space = owned(backend, &space)?;
            let granted = named(backend, &space, &id)?;
            if dry_run {
                return Ok(granted);
            }
            backend.revoke(&space, granted.id)?;
            find(backend, &space, granted.id)
        })
        .await?;
    json(&shape(&granted))
}

/// Reads who is to own a space that is made: this replica, unless others are named.
pub(super) fn owners(
    own: ReplicaId,
    roots: Option<Vec<String>>,
    difficulty: Option<u64>,
) -> Result<Owned, Problem> {
    let roots = roots.unwrap_or_default();
    let roots: Result<Vec<ReplicaId>, Problem> = roots.iter().map(|root| replica(root)).collect();
    let mut roots = roots?;
    if roots.is_empty() {
        roots.push(own);
    }
    let difficulty = u8::try_from(difficulty.unwrap_or(0));
    let difficulty = difficulty.map_err(|_| Problem::usage("difficulty is 0 to 40 bits"))?;
    Ok(Owned { difficulty, roots })
}

fn owned(backend: &Backend, name: &str) -> Result<SpaceId, Problem> {
    let space = backend.space(name)?;
    if backend.read(|store| store.is_owned(&space))? {
        return Ok(space);
    }
    Err(Problem::new(Kind::Conflict, format!("nobody owns the space {name:?}"))
        .hint("Whoever is admitted may do everything there; kdelta space create NAME --owned"))
}

fn find(backend: &Backend, space: &SpaceId, id: GrantId) -> Result<Granted, Problem> {
    let grants = backend.read(|store| store.grants(space))?;
    let found = grants.into_iter().find(|granted| granted.id == id);
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("no grant {id} here")))
}

/// Finds a grant by the first digits of its id.
fn named(backend: &Backend, space: &SpaceId, digits: &str) -> Result<Granted, Problem> {
    if digits.len() < DIGITS_MIN {
        return Err(Problem::usage(format!("a grant is named by {DIGITS_MIN} or more digits")));
    }
    let grants = backend.read(|store| store.grants(space))?;
    let mut found = grants.into_iter().filter(|g| g.id.to_string().starts_with(digits));
    match (found.next(), found.next()) {
        (Some(granted), None) => Ok(granted),
        (None, _) => Err(Problem::new(Kind::NotFound, format!("no grant {digits} here"))
            .hint("kdelta grant list")),
        (Some(_), Some(_)) => Err(Problem::usage("several grants begin with these digits")),
    }
}

fn actions(words: &[String]) -> Result<Actions, Problem> {
    let known = || Actions::NAMES.map(|(action, name)| (name, action)).into_iter().chain(TOGETHER);
    let mut all: Option<Actions> = None;
    for word in words.iter().flat_map(|words| words.split(',')).map(str::trim) {
        // The words for several come last, and hold over the single ones.
        let found = known().filter(|(name, _)| *name == word).last();
        let (_, action) = found.ok_or_else(|| {
            let names: Vec<&str> = known().map(|(name, _)| name).collect();
            Problem::usage(format!("nobody can {word:?}"))
                .hint(format!("There are {}", names.join(", ")))
        })?;
        all = Some(all.map_or(action, |all| all.and(action)));
    }
    all.ok_or_else(|| missing("can"))
}

fn replica(text: &str) -> Result<ReplicaId, Problem> {
    text.parse().map_err(|_| {
        Problem::usage(format!("{text:?} is no replica id"))
            .hint("It has 64 hexadecimal digits: kdelta id show, there")
    })
}

fn missing(name: &str) -> Problem {
    Problem::usage(format!("the field {name:?} is missing"))
}

fn shape(granted: &Granted) -> Value {
    let Granted { id, parent, grant, revoked } = granted;
    let to = match &grant.audience {
        Audience::Replica(replica) => Some(replica.to_string()),
        _ => None,
    };
    let prefixes = grant.prefixes.iter();
    let prefixes: Vec<_> = prefixes.map(|prefix| String::from_utf8_lossy(prefix)).collect();
    let names = Actions::NAMES.iter().filter(|(action, _)| grant.actions.contains(*action));
    value!({
        "id": id.to_string(),
        "parent": parent.map(|parent| parent.to_string()),
        "to": to,
        "can": names.map(|(_, name)| *name).collect::<Vec<_>>(),
        "prefixes": prefixes,
        "expires": grant.expiry_ms.map(|ms| point::wall_text(WallTime(ms))),
        "depth": grant.depth,
        "revoked": revoked.map(|by| by.to_string()),
    })
}

/// Fewest digits that name a grant.
const DIGITS_MIN: usize = 8;
