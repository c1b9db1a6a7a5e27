//! Reading, writing and listing keys.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::backend::{Api, Backend, Store};
use super::ops::{self, Line};
use super::problem::{Kind, Problem};
use super::request::{self, Ask, Media};
use super::shapes::{Got, Listed, Page, Wrote};
use super::stream::stream;
use super::{Answer, json, render, written};
use crate::engine::base::{Hash, Key, SpaceId, hex};
use crate::engine::causal::VersionVector;
use crate::engine::crdt::{Op, View};
use crate::engine::event::Tag;
use crate::engine::limits;
use crate::engine::store::{self, KeyOp, ReadError, Write, WriteError};

/// How many keys a page has if nobody says otherwise.
const PAGE_KEYS: usize = 1000;
/// A page ends early above this many bytes of JSON; the caller goes on after its last key.
const PAGE_BYTES: usize = 32 << 20;
/// How many keys are read under the first hold of the store's lock.
const SLICE_KEYS_FIRST: usize = 32;
/// Most keys that are read under one hold of the store's lock.
const SLICE_KEYS_MAX: usize = 512;
/// About how many bytes of values are read under one hold of the store's lock.
const SLICE_BYTES: usize = 4 << 20;

/// `GET /v1/spaces/{space}/keys/{key}`
pub(super) async fn get(api: Api, headers: HeaderMap, mut ask: Ask) -> Answer {
    let key = ask.key()?;
    let at = ask.query.text("at");
    let degraded = ask.query.flag("degraded")?;
    let (space, of) = (ask.space, key.clone());
    let (view, partial) = api
        .run(move |backend| {
            let backend = backend.degraded(degraded);
            let space = backend.space(&space, of.as_str())?;
            let at = backend.resolve_any(&space, at.as_deref())?;
            let view = backend.view(&space, &of, at.as_ref())?;
            Ok((view, backend.is_partial()))
        })
        .await?;
    let view = view.ok_or_else(|| no_key(&key))?;
    let etag = etag(&view);
    let mut response = if request::is_known(&headers, &etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        json(&Got::new(&key, &view).marked(partial))?
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// `GET /v1/spaces/{space}/keys`: a list, or one key if `?key=` is there.
pub(super) async fn get_or_list(api: Api, headers: HeaderMap, ask: Ask) -> Answer {
    if ask.key_if_any()?.is_some() { get(api, headers, ask).await } else { list(api, ask).await }
}

fn no_key(key: &Key) -> Problem {
    Problem::new(Kind::NotFound, format!("no key {:?} here", key.as_str()))
        .hint("List the keys: kdelta list")
        .with("key", key.as_str())
}

fn etag(view: &View) -> String {
    format!("\"{}\"", hex(&view.context))
}

/// `PUT /v1/spaces/{space}/keys/{key}`
pub(super) async fn put(api: Api, headers: HeaderMap, mut ask: Ask, body: Body) -> Answer {
    let key = ask.key()?;
    let retype = ask.query.flag("retype")?;
    let condition = condition(&headers, &mut ask)?;
    let op = match request::media(&headers, &[Media::Json, Media::Bytes])? {
        Media::Bytes => {
            let bytes = request::whole(body, limits::VALUE_BYTES_MAX).await?;
            Op::PutBytes(bytes.as_ref().into())
        }
        Media::Json | Media::Lines => {
            let text = request::whole(body, limits::JSON_TEXT_BYTES_MAX).await?;
            Op::Put(ops::canonical(&text, "the value")?)
        }
    };
    let ops = vec![KeyOp { key: key.clone(), op, retype, expect: None }];
    write_one(&api, &headers, ask.space, key, condition, Line { ops, ..Line::default() }).await
}

/// `DELETE /v1/spaces/{space}/keys/{key}`
pub(super) async fn delete(api: Api, headers: HeaderMap, mut ask: Ask) -> Answer {
    let key = ask.key()?;
    let condition = condition(&headers, &mut ask)?;
    if ask.query.flag("dry_run")? {
        return would_delete(&api, ask.space, key, condition).await;
    }
    let ops = vec![KeyOp { key: key.clone(), op: Op::Delete, retype: false, expect: None }];
    write_one(&api, &headers, ask.space, key, condition, Line { ops, ..Line::default() }).await
}

/// Says what a delete would remove.
async fn would_delete(
    api: &Api,
    space: String,
    key: Key,
    condition: Option<request::Match>,
) -> Answer {
    let of = key.clone();
    let view = api
        .run(move |backend| {
            let space = backend.space(&space, of.as_str())?;
            let expect = backend.expect(&space, &of, condition)?;
            let view = backend.read(|store| store.get(&space, &of, None))?;
            if expect.is_some_and(|expect| !expect.holds(view.as_ref())) {
                let version = view.map(|view| view.version);
                return Err(WriteError::Expectation { key: of, version }.into());
            }
            Ok(view)
        })
        .await?;
    let view = view.ok_or_else(|| no_key(&key))?;
    json(&serde_json::json!({
        "dry_run": true,
        "key": key.as_str(),
        "version": view.version.to_string(),
        "live": view.conflicts.len() + 1,
    }))
}

/// `POST /v1/spaces/{space}/ops/{key}`
pub(super) async fn op(api: Api, headers: HeaderMap, mut ask: Ask, body: Body) -> Answer {
    let key = ask.key()?;
    let condition = condition(&headers, &mut ask)?;
    request::media(&headers, &[Media::Json])?;
    let text = request::whole(body, limits::JSON_TEXT_BYTES_MAX).await?;
    let line = ops::op_on(&key, &text)?;
    if condition.is_some() && line.ops.iter().any(|op| op.expect.is_some()) {
        return Err(twice());
    }
    write_one(&api, &headers, ask.space, key, condition, line).await
}

/// Takes the condition of headers or query, whichever is there.
fn condition(headers: &HeaderMap, ask: &mut Ask) -> Result<Option<request::Match>, Problem> {
    let stated =
        ask.query.text("if_version").map(|text| request::expectation(&text)).transpose()?;
    match (request::condition(headers)?, stated.map(request::Match::Expect)) {
        (Some(_), Some(_)) => Err(twice()),
        (header, stated) => Ok(header.or(stated)),
    }
}

fn twice() -> Problem {
    Problem::usage("the condition is given twice").hint("Give either a header or if_version")
}

/// Writes a commit of one op.
async fn write_one(
    api: &Api,
    headers: &HeaderMap,
    space: String,
    key: Key,
    condition: Option<request::Match>,
    mut line: Line,
) -> Answer {
    let durability = request::durability(headers)?;
    let request_id = request_id(headers, line.request_id.take())?;
    let of = key.clone();
    let committed = api
        .run(move |backend| {
            let space = backend.space_to_write(&space)?;
            if let Some(expect) = backend.expect(&space, &of, condition)? {
                line.ops.iter_mut().for_each(|op| op.expect = Some(expect));
            }
            let problem = match backend.write(write_of(space, line, request_id), durability) {
                Ok(committed) => return Ok(committed),
                Err(problem) => problem,
            };
            Err(with_context(backend, &space, &of, problem))
        })
        .await?;
    written(&Wrote::new(&key, &committed), durability, committed.peers)
}

/// Tells a caller whose precondition failed what the key is now.
fn with_context(backend: &Backend, space: &SpaceId, key: &Key, problem: Problem) -> Problem {
    if problem.kind() != Kind::Precondition {
        return problem;
    }
    match backend.view(space, key, None) {
        Ok(Some(view)) => problem.with("context", hex(&view.context)),
        _ => problem,
    }
}

/// Returns the request id of header or body; both must agree.
pub(super) fn request_id(
    headers: &HeaderMap,
    in_body: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Problem> {
    match (request::request_id(headers)?, in_body) {
        (Some(a), Some(b)) if a != b => {
            Err(Problem::usage("Idempotency-Key and request_id are not the same"))
        }
        (header, body) => Ok(header.or(body)),
    }
}

/// Makes the write that a line asks for.
pub(super) fn write_of(space: SpaceId, line: Line, request_id: Option<Vec<u8>>) -> Write {
    let tag = line.tag.map(|name| Tag::Create { name, at: None });
    Write { space, ops: line.ops, note: line.note, tag, request_id }
}

/// Which keys a list names.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) prefix: String,
    pub(super) after: Option<String>,
}

async fn list(api: Api, mut ask: Ask) -> Answer {
    let query = &mut ask.query;
    let (at, values) = (query.text("at"), query.flag("values")?);
    let limit = query.limit(PAGE_KEYS)?;
    let range =
        Range { prefix: query.text("prefix").unwrap_or_default(), after: query.text("after") };
    let degraded = query.flag("degraded")?;
    let name = ask.space;
    if limit < usize::MAX {
        let page = api
            .run(move |backend| {
                let backend = backend.degraded(degraded);
                page(&backend, &name, range, at.as_deref(), values, limit)
            })
            .await?;
        return json(&page);
    }
    stream(&api, move |backend, out| {
        let backend = &backend.degraded(degraded);
        let space = backend.space(&name, &range.prefix)?;
        let pinned = Pinned::new(backend, space, at.as_deref())?;
        pinned.walk(backend, range, usize::MAX, |key, view| {
            out.line(&render(&Listed::new(key, view, values))?)?;
            Ok(true)
        })?;
        Ok(())
    })
    .await
}

/// Reads one page.
fn page(
    backend: &Backend,
    space: &str,
    range: Range,
    at: Option<&str>,
    values: bool,
    limit: usize,
) -> Result<Page, Problem> {
    let space = backend.space(space, &range.prefix)?;
    let pinned = Pinned::new(backend, space, at)?;
    let (mut keys, mut bytes, mut last) = (Vec::new(), 0, None);
    let more = pinned.walk(backend, range, limit, |key, view| {
        bytes += if values { value_bytes(view) } else { 0 };
        keys.push(Listed::new(key, view, values));
        last = Some(key.as_str().to_owned());
        Ok(bytes < PAGE_BYTES)
    })?;
    Ok(Page { keys, next: last.filter(|_| more), degraded: backend.is_partial() })
}

/// Estimates the JSON of a view, in bytes.
fn value_bytes(view: &View) -> usize {
    use crate::engine::crdt::Value;
    let size = |value: &Value| match value {
        Value::Json(json) => json.as_bytes().len(),
        Value::Bytes(bytes) => bytes.len() * 4 / 3,
        Value::Counter(_) | Value::Overflow(_) => 40,
        Value::Set(all) => all.iter().map(|element| element.as_bytes().len() + 1).sum(),
        Value::Map(all) => all.iter().map(|(name, v)| name.len() + v.as_bytes().len() + 4).sum(),
    };
    let conflicts: usize = view.conflicts.iter().map(|other| size(&other.value) + 200).sum();
    size(&view.value) + conflicts
}

/// One version of a space, read in slices between which others may write.
#[derive(Debug)]
pub(super) struct Pinned {
    space: SpaceId,
    version: VersionVector,
    /// The version is a point in the past, and not just what was there when the read began.
    past: bool,
}

impl Pinned {
    /// Pins a point, or what is there now.
    pub(super) fn new(
        backend: &Backend,
        space: SpaceId,
        at: Option<&str>,
    ) -> Result<Self, Problem> {
        let at = backend.resolve_any(&space, at)?;
        let past = at.is_some();
        let version = match at {
            Some(version) => version,
            None => backend.read(|store| store.version(&space))?,
        };
        Ok(Self { space, version, past })
    }

    /// Pins what is there now, and returns the digest of the commits that it is made of.
    pub(super) fn now(backend: &Backend, space: SpaceId) -> Result<(Self, Option<Hash>), Problem> {
        let (version, digest) =
            backend.read(|store| Ok((store.version(&space)?, store.state_hash(&space)?)))?;
        Ok((Self { space, version, past: false }, digest))
    }

    /// Calls `take` with at most `most` live keys in order, until it says that it has enough.
    ///
    /// Returns whether more keys follow.
    pub(super) fn walk(
        &self,
        backend: &Backend,
        mut range: Range,
        most: usize,
        mut take: impl FnMut(&Key, &View) -> Result<bool, Problem>,
    ) -> Result<bool, Problem> {
        let (mut left, mut count) = (most, SLICE_KEYS_FIRST);
        loop {
            let page = backend.read(|store| self.slice(store, &range, count.min(left)))?;
            let (length, mut bytes) = (page.keys.len(), 0);
            for (at, (key, view)) in page.keys.iter().enumerate() {
                bytes += value_bytes(view);
                if !take(key, view)? {
                    return Ok(page.more || at + 1 < length);
                }
            }
            left -= length;
            match page.keys.last() {
                Some((last, _)) if page.more && left > 0 => {
                    range.after = Some(last.as_str().to_owned());
                }
                _ => return Ok(page.more),
            }
            count = (count * SLICE_BYTES / bytes.max(1)).clamp(1, SLICE_KEYS_MAX);
        }
    }

    fn slice(
        &self,
        store: &mut Store,
        range: &Range,
        count: usize,
    ) -> Result<store::Page, ReadError> {
        // As long as nothing was written, the present is that version, and far cheaper to read.
        let now = !self.past && store.version(&self.space)? == self.version;
        let at = Some(&self.version).filter(|_| !now);
        let Range { prefix, after } = range;
        store.list(&self.space, prefix, after.as_deref(), count, at)
    }
}
