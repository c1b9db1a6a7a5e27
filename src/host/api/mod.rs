//! The HTTP API: one router for the node's socket and for commands that open the store themselves,
//! and the same behind a guard for those who come by the network.
//!
//! `docs/HTTP.md` lists the routes. Handlers are thin: they read the request, call the replica and
//! render JSON; grammar, JSON and failures have their files. Every failure is a problem object
//! (RFC 9457), also inside a stream that has begun: there it is the last line. A write is answered
//! at the durability that it asked for, and the answer says which it has.

mod backend;
mod bulk;
mod caller;
mod export;
mod follow;
mod grants;
mod guard;
mod histories;
mod keys;
mod node;
mod observe;
mod ops;
mod past;
mod point;
mod problem;
mod query;
mod repair;
mod replay;
mod request;
mod shapes;
mod stream;
mod tags;
#[cfg(test)]
mod tests;
mod watch;

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Router};
use serde::Serialize;

use caller::Caller;
pub use guard::Guard;
use problem::{Kind, Problem};

use super::replica::{Durability, Replica};

/// What a handler returns.
type Answer = Result<Response<Body>, Problem>;

/// Returns the router of all routes, for the owner: it checks no token.
pub fn router(replica: Replica) -> Router {
    finish(of_everybody().merge(of_files()), replica).layer(Extension(Caller::Owner))
}

/// Returns the router for those who come by the network: a guard stands before it, and no route
/// writes files where the node runs.
pub fn guarded(replica: Replica, guard: Guard) -> Router {
    guard.protect(replica.clone(), finish(of_everybody(), replica))
}

fn of_everybody() -> Router<Replica> {
    let of_owner = of_owner().route_layer(from_fn(caller::owners_only));
    Router::new().merge(of_keys()).merge(of_spaces()).merge(of_life()).merge(of_owner)
}

fn finish(routes: Router<Replica>, replica: Replica) -> Router {
    let requests = replica.requests().clone();
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        // Each handler bounds its body by what it is for.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(requests, observe::observe))
        .with_state(replica)
}

/// Routes of single keys; the key is the rest of the path, or `?key=`.
fn of_keys() -> Router<Replica> {
    let key = || get(keys::get).put(keys::put).delete(keys::delete);
    let list = get(keys::get_or_list).put(keys::put).delete(keys::delete);
    Router::new()
        .route("/v1/spaces/{space}/keys/{*key}", key())
        .route("/v1/spaces/{space}/keys/", key())
        .route("/v1/spaces/{space}/keys", list)
        .route("/v1/spaces/{space}/ops/{*key}", post(keys::op))
        .route("/v1/spaces/{space}/ops", post(keys::op))
        .route("/v1/spaces/{space}/history/{*key}", get(past::history))
        .route("/v1/spaces/{space}/history", get(past::history))
        .route("/v1/spaces/{space}/explain/{*key}", get(past::explain))
        .route("/v1/spaces/{space}/explain", get(past::explain))
        .route("/v1/spaces/{space}/diff/{*key}", get(past::diff))
        .route("/v1/spaces/{space}/diff", get(past::diff))
}

/// Routes of whole spaces.
fn of_spaces() -> Router<Replica> {
    Router::new()
        .route("/v1/spaces", get(node::spaces))
        .route("/v1/spaces/{space}", get(node::space))
        .route("/v1/spaces/{space}/batch", post(bulk::batch))
        .route("/v1/spaces/{space}/query", post(query::query))
        .route("/v1/spaces/{space}/import", post(bulk::import))
        .route("/v1/spaces/{space}/export", get(export::export))
        .route("/v1/spaces/{space}/tags", get(tags::list))
        .route("/v1/spaces/{space}/tags/{*name}", put(tags::create).delete(tags::delete))
        .route("/v1/spaces/{space}/watch", get(watch::watch))
        .route("/v1/grants", get(grants::list))
        .route("/v1/grants/{id}", get(grants::inspect))
}

/// Routes that tell whether the node is well, and what it can be asked.
fn of_life() -> Router<Replica> {
    Router::new()
        .route("/healthz", get(observe::health))
        .route("/readyz", get(observe::ready))
        .route("/openapi.json", get(description))
}

/// Routes of the replica and its node: its owner's, whatever a token says.
fn of_owner() -> Router<Replica> {
    Router::new()
        .route("/metrics", get(observe::metrics))
        .route("/v1/id", get(node::id))
        .route("/v1/status", get(node::status))
        .route("/v1/stats", get(node::stats))
        .route("/v1/peers", get(node::peers).post(node::add_peer).delete(node::remove_peer))
        .route("/v1/peers/{replica}", delete(node::remove_peer_named))
        .route("/v1/tickets", post(node::ticket))
        .route("/v1/spaces", post(node::create_space))
        .route("/v1/spaces/{space}", delete(node::leave).patch(node::set))
        .route("/v1/spaces/join", post(node::join))
        .route("/v1/grants", post(grants::create))
        .route("/v1/grants/{id}", delete(grants::revoke))
        .route("/v1/sync", post(node::sync))
        .route("/v1/verify", post(repair::verify))
        .route("/v1/repair", post(repair::repair))
}

/// Routes that write files where the node runs.
fn of_files() -> Router<Replica> {
    let routes = Router::new().route("/v1/backup", post(node::backup));
    routes.route_layer(from_fn(caller::owners_only))
}

/// `GET /openapi.json`: the description of this API, as it stands beside this file.
async fn description() -> Response<Body> {
    let mut response = Response::new(Body::from(include_str!("openapi.json")));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn no_route(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::NoRoute, format!("there is no route {method} {}", uri.path()))
        .hint("docs/HTTP.md lists the routes")
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::Method, format!("{} takes no {method}", uri.path()))
        .hint("docs/HTTP.md lists the routes")
}

/// Answers with JSON.
fn json(body: &impl Serialize) -> Answer {
    let mut response = Response::new(Body::from(render(body)?));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Answers a write: 202 if it reached fewer peers than were asked for.
fn written(body: &impl Serialize, asked: Durability, peers: Option<usize>) -> Answer {
    let mut response = json(body)?;
    if let Durability::Peers(count, _) = asked
        && peers.is_none_or(|reached| reached < usize::from(count))
    {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

/// Writes JSON text.
fn render(body: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(body)
        .map_err(|error| Problem::new(Kind::Other, format!("the answer has no JSON: {error}")))
}
