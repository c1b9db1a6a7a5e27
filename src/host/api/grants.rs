//! Grants in owned spaces: who may do what there, and what was taken back.

use axum::body::Body;
use axum::extract::Path;
use serde_json::{Map, Value, json as value};

use super::backend::{Api, Backend, DEFAULT_SPACE};
use super::node::Given;
use super::problem::{Kind, Problem};
use super::request::Ask;
use super::{Answer, json, point};
use crate::engine::base::{GrantId, ReplicaId, SpaceId, WallTime, hex};
use crate::engine::event::{Actions, Audience, Grant, Owned, Prefixes};
use crate::engine::store::Granted;
use crate::host::bearer::Token;

/// Words for several actions at once.
const TOGETHER: [(&str, Actions); 2] =
    [("write", Actions::PUT.and(Actions::DELETE)), ("admin", Actions::ALL)];

/// What a token can let do.
const OF_BEARERS: Actions = Actions::READ.and(Actions::PUT).and(Actions::DELETE);

/// `GET /v1/grants?space=`: all of them; to a bearer, its own.
pub(super) async fn list(api: Api, mut ask: Ask) -> Answer {
    let space = ask.query.text("space").unwrap_or_else(|| DEFAULT_SPACE.to_owned());
    let grants = api
        .run(move |backend| {
            let space = owned(backend, &space)?;
            let all = backend.read(|store| store.grants(&space))?;
            let only = backend.rights()?.map(|rights| rights.grant);
            let seen = all.iter().filter(|granted| only.is_none_or(|only| only == granted.id));
            Ok(seen.map(|granted| shape(&space, granted, &all)).collect::<Vec<Value>>())
        })
        .await?;
    json(&value!({ "grants": grants }))
}

/// `GET /v1/grants/{id}?space=`
pub(super) async fn inspect(api: Api, Path(id): Path<String>, mut ask: Ask) -> Answer {
    let space = ask.query.text("space").unwrap_or_else(|| DEFAULT_SPACE.to_owned());
    let found = api
        .run(move |backend| {
            let space = owned(backend, &space)?;
            if backend.rights()?.is_some_and(|rights| !rights.grant.to_string().starts_with(&id)) {
                return Err(Problem::new(Kind::Forbidden, "the token shows its own grant only"));
            }
            let all = backend.read(|store| store.grants(&space))?;
            Ok(shape(&space, named(&all, &id)?, &all))
        })
        .await?;
    json(&found)
}

/// What is asked to be granted.
struct Asked {
    space: String,
    /// A replica; none: whoever bears a token.
    to: Option<ReplicaId>,
    actions: Actions,
    prefixes: Prefixes,
    expiry_ms: Option<u64>,
    depth: u8,
}

impl Asked {
    fn read(given: &Given) -> Result<Self, Problem> {
        let mut members = given.members()?;
        let space = members.text("space")?.unwrap_or_else(|| DEFAULT_SPACE.to_owned());
        let (to, bearer) = (members.text("to")?, members.flag("bearer")?);
        let can = members.texts("can")?.ok_or_else(|| missing("can"))?;
        let prefixes = members.texts("prefixes")?.unwrap_or_else(|| vec![String::new()]);
        let (expires, depth) = (members.text("expires")?, members.number("depth")?);
        members.nothing_left("the request", "space, to, bearer, can, prefixes, expires, depth")?;
        let to = match (to, bearer) {
            (Some(to), false) => Some(replica(&to)?),
            (None, true) => None,
            (Some(_), true) => {
                return Err(Problem::usage("a grant is for a replica or for a bearer, not both"));
            }
            (None, false) => return Err(missing("to")),
        };
        let actions = actions(&can)?;
        if to.is_none() && !OF_BEARERS.contains(actions) {
            return Err(Problem::usage("a token lets read, put and delete, and no more")
                .hint("What acts on others' rights or on history is a replica's: --to"));
        }
        let expires = expires.map(|text| point::to_come(&text, super::backend::now()));
        let passes_on = u64::from(actions.contains(Actions::DELEGATE));
        let depth = u8::try_from(depth.unwrap_or(passes_on));
        let prefixes = Prefixes::new(prefixes.into_iter().map(String::into_bytes));
        Ok(Self {
            space,
            to,
            actions,
            prefixes: prefixes.map_err(|error| Problem::usage(error.to_string()))?,
            expiry_ms: expires.transpose()?.map(|end| end.0),
            depth: depth.map_err(|_| Problem::usage("a grant is passed on at most 8 times"))?,
        })
    }

    fn grant(&self, audience: Audience) -> Grant {
        let Self { actions, expiry_ms, depth, .. } = *self;
        Grant { audience, actions, prefixes: self.prefixes.clone(), expiry_ms, depth }
    }
}

/// `POST /v1/grants` `{"space","to"|"bearer","can","prefixes","expires","depth"}`
pub(super) async fn create(api: Api, body: Body) -> Answer {
    let asked = Asked::read(&Given::of(body).await?)?;
    let made = api
        .run(move |backend| {
            let space = owned(backend, &asked.space)?;
            let Some(to) = asked.to else { return for_bearer(backend, space, &asked) };
            let written = backend.grant(&space, asked.grant(Audience::Replica(to)))?;
            shape_of(backend, &space, GrantId(written.tip.id.0))
        })
        .await?;
    json(&made)
}

/// Grants something to whoever has a secret, and tells the secret, this once.
fn for_bearer(backend: &Backend, space: SpaceId, asked: &Asked) -> Result<Value, Problem> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Problem::new(Kind::Other, format!("no secret can be drawn: {error}")))?;
    let written = backend.grant(&space, asked.grant(Audience::bearer(&secret)))?;
    let token = Token { space, grant: GrantId(written.tip.id.0), secret };
    let mut shape = shape_of(backend, &space, token.grant)?;
    if let Some(shape) = shape.as_object_mut() {
        shape.insert("token".to_owned(), token.word().into());
    }
    Ok(shape)
}

/// `DELETE /v1/grants/{id}?space=`
pub(super) async fn revoke(api: Api, Path(id): Path<String>, mut ask: Ask) -> Answer {
    let space = ask.query.text("space").unwrap_or_else(|| DEFAULT_SPACE.to_owned());
    let dry_run = ask.query.flag("dry_run")?;
    let revoked = api
        .run(move |backend| {
            let space = owned(backend, &space)?;
            let all = backend.read(|store| store.grants(&space))?;
            let granted = named(&all, &id)?;
            if dry_run {
                return Ok(shape(&space, granted, &all));
            }
            backend.revoke(&space, granted.id)?;
            shape_of(backend, &space, granted.id)
        })
        .await?;
    json(&revoked)
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
    let space = backend.space_to_name(name)?;
    if backend.read(|store| store.is_owned(&space))? {
        return Ok(space);
    }
    Err(Problem::new(Kind::Conflict, format!("nobody owns the space {name:?}"))
        .hint("Whoever is admitted may do everything there; kdelta space create NAME --owned"))
}

/// Shows a grant that is known.
fn shape_of(backend: &Backend, space: &SpaceId, id: GrantId) -> Result<Value, Problem> {
    let all = backend.read(|store| store.grants(space))?;
    let found = all.iter().find(|granted| granted.id == id);
    let found = found.ok_or_else(|| Problem::new(Kind::NotFound, format!("no grant {id} here")))?;
    Ok(shape(space, found, &all))
}

/// Finds a grant by the first digits of its id.
fn named<'a>(grants: &'a [Granted], digits: &str) -> Result<&'a Granted, Problem> {
    if digits.len() < DIGITS_MIN {
        return Err(Problem::usage(format!("a grant is named by {DIGITS_MIN} or more digits")));
    }
    let digits = digits.to_ascii_lowercase();
    let mut found = grants.iter().filter(|granted| granted.id.to_string().starts_with(&digits));
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
        let found = known().rfind(|(name, _)| *name == word);
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

/// Shows what a grant says.
pub(super) fn said(grant: &Grant) -> Map<String, Value> {
    let (to, bearer) = match &grant.audience {
        Audience::Replica(replica) => (Some(replica.to_string()), None),
        Audience::Bearer(hash) => (None, Some(hex(hash))),
        _ => (None, None),
    };
    let prefixes = grant.prefixes.iter();
    let prefixes: Vec<_> = prefixes.map(|prefix| String::from_utf8_lossy(prefix)).collect();
    let names = Actions::NAMES.iter().filter(|(action, _)| grant.actions.contains(*action));
    let names: Vec<&str> = names.map(|(_, name)| *name).collect();
    let expires = grant.expiry_ms.map(|ms| point::wall_text(WallTime(ms)));
    let members = [
        ("to", value!(to)),
        ("bearer", value!(bearer)),
        ("can", value!(names)),
        ("prefixes", value!(prefixes)),
        ("expires", value!(expires)),
        ("depth", value!(grant.depth)),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn shape(space: &SpaceId, granted: &Granted, all: &[Granted]) -> Value {
    let Granted { id, parent, grant, revoked } = granted;
    // Whoever holds the grant above gave this one.
    let above =
        all.iter().find(|other| Some(other.id) == *parent).map(|above| above.grant.audience);
    let by = match above {
        Some(Audience::Replica(replica)) => Some(replica.to_string()),
        _ => None,
    };
    let mut shape = value!({
        "id": id.to_string(),
        "space": space.to_string(),
        "parent": parent.map(|parent| parent.to_string()),
        "by": by,
    });
    if let Some(shape) = shape.as_object_mut() {
        shape.extend(said(grant));
        shape.insert("revoked".to_owned(), value!(revoked.map(|by| by.to_string())));
    }
    shape
}

/// Fewest digits that name a grant.
const DIGITS_MIN: usize = 8;
