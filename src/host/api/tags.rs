//! Tags: names for points in a space's history.

use axum::http::HeaderMap;
use serde::Serialize;

use super::backend::{Api, Backend};
use super::keys::request_id;
use super::problem::{Kind, Problem};
use super::request::{self, Ask};
use super::shapes::{Committed, Tagged};
use super::{Answer, json, written};
use crate::engine::base::SpaceId;
use crate::engine::event::Tag;
use crate::engine::store::{TagState, Write};
use crate::host::replica::Durability;

/// How many tags are read under one hold of the store's lock.
const SLICE_TAGS: usize = 256;

#[derive(Debug, Serialize)]
struct Tags {
    tags: Vec<Tagged>,
    next: Option<String>,
}

/// A tag that was just made.
#[derive(Debug, Serialize)]
struct Made {
    #[serde(flatten)]
    tag: Tagged,
    commit: String,
    durable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
}

/// A tag that was just deleted.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    deleted: bool,
    #[serde(flatten)]
    commit: Committed,
}

/// `GET /v1/spaces/{space}/tags`
pub(super) async fn list(api: Api, mut ask: Ask) -> Answer {
    let limit = ask.query.limit(usize::MAX)?;
    let after = ask.query.text("after");
    let name = ask.space;
    let tags = api
        .run(move |backend| {
            let space = backend.space(&name, "")?;
            let mut found = live(backend, &space, after, limit.saturating_add(1))?;
            let more = found.len() > limit;
            found.truncate(limit);
            let next = found.last().map(|(name, _)| name.clone()).filter(|_| more);
            let tags = found.iter().map(|(name, tag)| Tagged::of(name, tag)).collect();
            Ok(Tags { tags, next })
        })
        .await?;
    json(&tags)
}

/// Returns the live tags by name, read in slices.
pub(super) fn live(
    backend: &Backend,
    space: &SpaceId,
    mut after: Option<String>,
    limit: usize,
) -> Result<Vec<(String, TagState)>, Problem> {
    let mut all = Vec::new();
    while all.len() < limit {
        let count = SLICE_TAGS.min(limit - all.len());
        let found = backend.read(|store| store.tags(space, after.as_deref(), count))?;
        let full = found.len() == count;
        after = found.last().map(|(name, _)| name.clone());
        all.extend(found);
        if !full {
            break;
        }
    }
    Ok(all)
}

/// `PUT /v1/spaces/{space}/tags/{name}[?at=POINT]`
pub(super) async fn create(api: Api, headers: HeaderMap, mut ask: Ask) -> Answer {
    let (name, at) = (ask.name("a tag's name")?, ask.query.text("at"));
    let durability = request::durability(&headers)?;
    let request_id = request_id(&headers, None)?;
    let space = ask.space;
    let made = api
        .run(move |backend| make(backend, &space, name, at.as_deref(), request_id, durability))
        .await?;
    written(&made, durability, made.peers)
}

fn make(
    backend: &Backend,
    space: &str,
    name: String,
    at: Option<&str>,
    request_id: Option<Vec<u8>>,
    durability: Durability,
) -> Result<Made, Problem> {
    let space = backend.space_to_write(space)?;
    if at.is_some() {
        backend.check_read("")?;
    }
    let heads = match backend.resolve_any(&space, at)? {
        None => None,
        Some(version) => Some(backend.read(|store| store.heads_of(&space, &version))?),
    };
    if heads.as_ref().is_some_and(Vec::is_empty) {
        return Err(Problem::new(Kind::NotFound, "nothing was written here before that point"));
    }
    let tag = Some(Tag::Create { name: name.clone(), at: heads.clone() });
    let write = Write { space, tag, request_id, ..Write::default() };
    let committed = backend.write(write, durability)?;
    let tip = committed.written.tip;
    let heads = heads.unwrap_or_else(|| vec![tip]);
    Ok(Made {
        tag: Tagged::new(&name, &heads, &tip, committed.written.hlc),
        commit: tip.id.to_string(),
        durable: committed.durable,
        peers: committed.peers,
        repeated: committed.written.repeated,
    })
}

/// `DELETE /v1/spaces/{space}/tags/{name}`
pub(super) async fn delete(api: Api, headers: HeaderMap, mut ask: Ask) -> Answer {
    let name = ask.name("a tag's name")?;
    let dry_run = ask.query.flag("dry_run")?;
    let durability = request::durability(&headers)?;
    let request_id = request_id(&headers, None)?;
    let (space, of) = (ask.space, name.clone());
    let committed = api
        .run(move |backend| {
            let space = backend.space(&space, "")?;
            let known = backend.read(|store| store.tag(&space, &of))?;
            let repeats = request_id.is_some();
            if !repeats && known.is_none_or(|tag| tag.target.is_none()) {
                return Err(no_tag(&of));
            }
            if dry_run {
                return Ok(None);
            }
            let tag = Some(Tag::Delete { name: of });
            let write = Write { space, tag, request_id, ..Write::default() };
            backend.write(write, durability).map(Some)
        })
        .await?;
    let Some(committed) = committed else {
        return json(&serde_json::json!({"dry_run": true, "name": name}));
    };
    let commit = Committed::new(&committed);
    written(&Deleted { name, deleted: true, commit }, durability, committed.peers)
}

fn no_tag(name: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("no tag {name:?} here"))
        .hint("List the tags: kdelta tag list")
        .with("tag", name)
}
