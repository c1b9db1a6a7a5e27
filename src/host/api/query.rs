//! Queries over the keys of a space.
//!
//! `docs/QUERY.md` has the language, [`crate::host::query`] the work. A query reads one version of
//! the space, in slices between which others may write, and ends early if its caller goes.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::backend::{Api, Backend};
use super::keys::{Pinned, Range};
use super::point::time_text;
use super::problem::{Kind, Problem};
use super::request::{self, Ask, Media};
use super::shapes::{Shown, author};
use super::stream::{Out, stream, stream_as};
use super::{Answer, render};
use crate::engine::base::Key;
use crate::engine::crdt::View;
use crate::host::query::{Full, Gather, HELD_BYTES_MAX, Page, Query, Request, Row};

/// Most bytes of a query.
const QUERY_BYTES_MAX: usize = 256 << 10;
/// Queries that hold rows or groups, of which so many run at a time.
static HOLDING: Semaphore = Semaphore::const_new(4);
/// How long a query waits for those before it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of a query: what is asked, and of which version.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Asked(serde_json::Map<String, Json>);

/// What is asked of the store rather than of the rows.
#[derive(Debug, Default)]
struct Of {
    at: Option<String>,
    degraded: bool,
}

impl Asked {
    /// Splits what is asked of the store from what is asked of its rows.
    fn split(mut self) -> Result<(Of, Query), Problem> {
        let wrong = |error: serde_json::Error| Problem::usage(format!("the query: {error}"));
        let mut take = |name: &str| self.0.remove(name).unwrap_or_default();
        let (at, degraded) = (take("at"), take("degraded"));
        let at = serde_json::from_value(at).map_err(wrong)?;
        let degraded: Option<bool> = serde_json::from_value(degraded).map_err(wrong)?;
        let request: Request = serde_json::from_value(Json::Object(self.0)).map_err(wrong)?;
        let query = Query::new(request).map_err(|wrong| {
            Problem::usage(wrong.to_string()).hint("docs/QUERY.md has the grammar")
        })?;
        Ok((Of { at, degraded: degraded.unwrap_or_default() }, query))
    }
}

/// `POST /v1/spaces/{space}/query`
pub(super) async fn query(api: Api, headers: HeaderMap, ask: Ask, body: Body) -> Answer {
    request::media(&headers, &[Media::Json])?;
    let text = request::whole(body, QUERY_BYTES_MAX).await?;
    let asked: Asked = serde_json::from_slice(&text)
        .map_err(|error| Problem::usage(format!("the query is no JSON object: {error}")))?;
    let (of, query) = asked.split()?;
    let place = place(&query).await?;
    if query.is_unlimited() {
        return stream(&api, move |backend, out| {
            let _place = place;
            let backend = backend.degraded(of.degraded);
            let page = walk(&backend, &ask.space, &of, &query, out, |gather, out| {
                gather.drain().try_for_each(|row| out.line(&render(&row)?))
            })?;
            page.rows.iter().try_for_each(|row| out.line(&render(row)?))
        })
        .await;
    }
    // A stream of one piece: unlike a plain answer it knows when nobody waits for it any more.
    stream_as(&api, "application/json", move |backend, out| {
        let _place = place;
        let backend = backend.degraded(of.degraded);
        let page = walk(&backend, &ask.space, &of, &query, out, |_, _| Ok(()))?;
        out.raw(&render(&Answered::new(page, backend.is_partial()))?)
    })
    .await
}

/// Waits for a place, if what is asked must be held before it is answered.
async fn place(query: &Query) -> Result<Option<SemaphorePermit<'static>>, Problem> {
    if query.is_in_key_order() {
        return Ok(None);
    }
    match tokio::time::timeout(PATIENCE, HOLDING.acquire()).await {
        Ok(Ok(place)) => Ok(Some(place)),
        _ => Err(Problem::new(Kind::Busy, "too many queries that sort or sum up are under way")
            .hint("Ask again later")),
    }
}

/// Takes every row that may matter, and calls `after` each.
fn walk(
    backend: &Backend,
    space: &str,
    of: &Of,
    query: &Query,
    out: &mut Out,
    after: impl Fn(&mut Gather<'_>, &mut Out) -> Result<(), Problem>,
) -> Result<Page, Problem> {
    let space = backend.space(space, query.prefix())?;
    let pinned = Pinned::new(backend, space, of.at.as_deref())?;
    let range = Range {
        prefix: query.prefix().to_owned(),
        after: query.after_key().map(ToOwned::to_owned),
    };
    let mut gather = Gather::new(query);
    pinned.walk(backend, range, usize::MAX, |key, view| {
        let more = gather.take(&row(key, view)?).map_err(full)?;
        after(&mut gather, out)?;
        Ok(more && !out.is_gone())
    })?;
    gather.finish().map_err(full)
}

fn row(key: &Key, view: &View) -> Result<Row, Problem> {
    let text = render(&Shown(view.value.clone()))?;
    // What is stored nests no deeper than its own limit, which is a little above serde_json's.
    let mut reader = serde_json::Deserializer::from_str(&text);
    reader.disable_recursion_limit();
    let value = Json::deserialize(&mut reader).map_err(|error| {
        Problem::new(
            Kind::Other,
            format!("the value of {:?} cannot be read: {error}", key.as_str()),
        )
    })?;
    let about = [
        key.as_str().to_owned(),
        view.ty.name().to_owned(),
        view.version.to_string(),
        time_text(view.stamp.hlc),
        author(&view.stamp.dot.log),
    ];
    Ok(Row::new(about, value))
}

fn full(full: Full) -> Problem {
    match full {
        Full::Held => {
            let most = HELD_BYTES_MAX >> 20;
            Problem::new(Kind::TooLarge, format!("the query would hold more than {most} MiB"))
                .hint("Narrow it by a prefix, an expression or a limit, or leave out the sorting")
        }
        Full::Cursor => {
            Problem::new(Kind::TooLarge, "the rows are sorted by values too long for a cursor")
                .hint("Sort by something shorter, or ask for all with limit 0")
        }
    }
}

/// A page as it is answered.
#[derive(Debug, Serialize)]
struct Answered {
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<Json>>,
    next: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    degraded: bool,
}

impl Answered {
    fn new(page: Page, degraded: bool) -> Self {
        let Page { rows, groups, next } = page;
        let (rows, groups) = if groups { (None, Some(rows)) } else { (Some(rows), None) };
        Self { rows, groups, next, degraded }
    }
}
