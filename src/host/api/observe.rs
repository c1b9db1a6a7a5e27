//! What is told of requests: a span and a count for each, and whether the node is well.
//!
//! A request is known by its method and the route that it took. Neither its key nor its token is
//! written anywhere.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::{HeaderValue, Method, Request, Response, header};
use axum::middleware::Next;
use serde_json::json as value;
use tracing::Instrument as _;

use super::backend::Api;
use super::problem::{Kind, Problem};
use super::{Answer, json};
use crate::host::metrics::{OPEN_METRICS, Requests};

/// What a request is counted under that took no route.
pub(super) const NO_ROUTE: &str = "none";

/// Stands around each request.
pub(super) async fn observe(
    State(requests): State<Requests>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let method = method(request.method());
    let span = tracing::info_span!("request", method, route);
    #[cfg(feature = "otlp")]
    crate::host::trace::begin(&span, request.headers());
    let (began, running) = (Instant::now(), requests.begin());
    let response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    requests.answered(method, route, status, took);
    drop(running);
    #[cfg(feature = "otlp")]
    crate::host::trace::end(&span, status);
    span.in_scope(|| {
        let ms = took.as_secs_f64() * 1000.0;
        if response.status().is_server_error() {
            tracing::warn!(status, ms, "answered");
        } else {
            tracing::debug!(status, ms, "answered");
        }
    });
    response
}

/// Names the methods that there are routes for; all others are one.
pub(super) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// `GET /healthz`: the process answers.
pub(super) async fn health() -> Answer {
    json(&value!({"ok": true}))
}

/// `GET /readyz`: the store is open, and its disk takes writes.
pub(super) async fn ready(api: Api) -> Answer {
    match api.run(|backend| Ok(backend.replica().unready())).await? {
        None => json(&value!({"ready": true})),
        Some(why) => Err(Problem::new(Kind::Unavailable, format!("the node is not ready: {why}"))
            .hint("Reads may work; see to the disk, or start the node again")),
    }
}

/// `GET /metrics`
pub(super) async fn metrics(api: Api) -> Answer {
    let text = api
        .run(|backend| {
            let replica = backend.replica();
            let text = replica.requests().text(replica);
            text.map_err(|error| Problem::new(Kind::Other, format!("no metrics: {error}")))
        })
        .await?;
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static(OPEN_METRICS);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
