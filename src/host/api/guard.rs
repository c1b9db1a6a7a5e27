//! Who may come in by the open door: a name that is ours, a page that is ours, a good token.
//!
//! A browser lets any page send requests to this machine. So a request must name a host that can
//! only be this one: `localhost`, an address, or a name that was allowed; a page that re-binds its
//! own name to this machine names another. And one that comes from a page must come from a page of
//! this very host, or of an origin that was allowed, which may then read the answer too
//! (Fetch, "CORS protocol"). What a page loads without saying whose page it is, as a script or a
//! picture, the browser tells apart (Fetch Metadata) and keeps from the page (CORP). Whatever asks
//! for data must show a token, the owner's or that of a grant; who only asks for life need not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::uri::Authority;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse as _;

use super::backend::Api;
use super::caller::{Caller, no_token, wrong_token};
use super::observe;
use super::problem::{Kind, Problem};
use crate::engine::base::{Hash, sha256};
use crate::host::bearer::{Damaged, Token};
use crate::host::http::host_of;
use crate::host::replica::Replica;

/// Routes that tell only whether the node is alive and well.
const OPEN_ROUTES: [&str; 2] = ["/healthz", "/readyz"];
/// What a page of an allowed origin may send and read.
const HEADERS_TAKEN: &str = "authorization, content-type, idempotency-key, if-match, \
    if-none-match, last-event-id, prefer";
const HEADERS_SHOWN: &str = "etag, retry-after";
const METHODS: &str = "GET, PUT, POST, PATCH, DELETE";
/// What a browser is told with each answer: it is no script, style or picture for other pages.
const KEPT_APART: [(HeaderName, &str); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
/// Says where what sent a request comes from, seen from here.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// For how many seconds a browser need not ask again.
const PREFLIGHT_SECONDS: &str = "600";

/// What stands before the routes where others may come in.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Of the token, so that comparing it tells nothing about it.
    token: Option<Hash>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    /// Makes a guard that asks for the token, if there is one. `allowed` are further host names
    /// (`nas.local`) under which the node is reached, and origins (`https://app.example`) whose
    /// pages may ask.
    pub fn new(token: Option<&str>, allowed: &[String]) -> Self {
        let allowed = allowed.iter().map(|name| name.trim().to_ascii_lowercase());
        let allowed = allowed.filter(|name| !name.is_empty());
        let (origins, hosts) = allowed.partition(|name| name.contains("://"));
        Self { token: token.map(of_token), hosts, origins }
    }

    /// Puts the guard before all routes of a router.
    ///
    /// Whom it turns away is counted too.
    pub(super) fn protect(self, replica: Replica, router: Router) -> Router {
        router.layer(from_fn_with_state((Arc::new(self), replica), pass))
    }

    /// Returns the origin that may read the answer, if a request comes from a page elsewhere.
    fn place(&self, request: &Request<Body>) -> Result<Option<HeaderValue>, Problem> {
        let host = self.host(request)?;
        self.origin(request.headers(), &host)
    }

    /// Says who sent a request that comes from a good place. What the token of a grant is worth is
    /// not asked.
    fn admit(&self, request: &Request<Body>) -> Result<Caller, Problem> {
        let is_open = OPEN_ROUTES.contains(&request.uri().path());
        if is_open || is_preflight(request) {
            return Ok(Caller::Nobody);
        }
        match (shown(request.headers()), &self.token) {
            (Some(word), _) if Token::is_meant(word) => {
                let token =
                    word.parse().map_err(|error: Damaged| wrong_token(error.to_string()))?;
                Ok(Caller::Bearer(token))
            }
            (_, None) => Ok(Caller::Owner),
            (Some(word), Some(token)) if of_token(word) == *token => Ok(Caller::Owner),
            (Some(_), Some(_)) => Err(wrong_token("the token is not the right one")),
            (None, Some(_)) => Err(no_token()),
        }
    }

    /// Returns the host that a request names, if it can only be this one.
    fn host(&self, request: &Request<Body>) -> Result<Authority, Problem> {
        let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let named = named.and_then(|host| host.parse::<Authority>().ok());
        let Some(authority) = request.uri().authority().cloned().or(named) else {
            return Err(Problem::usage("the request names no host").hint("Send a header Host"));
        };
        let host = host_of(&authority);
        let is_local = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok();
        if is_local || self.hosts.contains(&host.to_ascii_lowercase()) {
            return Ok(authority);
        }
        Err(Problem::new(Kind::Forbidden, format!("the host {host:?} is not known here"))
            .hint(format!("If it is this one, start with --http-allow {host}")))
    }

    fn origin(
        &self,
        headers: &HeaderMap,
        host: &Authority,
    ) -> Result<Option<HeaderValue>, Problem> {
        let Some(given) = headers.get(header::ORIGIN) else {
            let site = headers.get(SEC_FETCH_SITE).map_or(&b"none"[..], HeaderValue::as_bytes);
            if matches!(site, b"none" | b"same-origin") {
                return Ok(None);
            }
            return Err(Problem::new(Kind::Forbidden, "pages of other origins may not load this")
                .hint("From a page, ask with fetch and in mode \"cors\""));
        };
        let origin = given.to_str().unwrap_or_default().to_ascii_lowercase();
        if self.origins.contains(&origin) {
            return Ok(Some(given.clone()));
        }
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if own.is_some_and(|own| own.eq_ignore_ascii_case(host.as_str())) {
            return Ok(None);
        }
        Err(Problem::new(Kind::Forbidden, format!("pages of {origin:?} may not ask here"))
            .hint(format!("If they shall, start with --http-allow {origin}")))
    }
}

/// Returns the token that a request shows.
fn shown(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION).and_then(|given| given.to_str().ok());
    let given = given.and_then(|given| given.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let given = given.map(|(_, word)| word.trim());
    given.or(headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(offered))
}

/// Returns the token among the protocols that are offered for a WebSocket: a page in a browser
/// cannot set `Authorization` there.
fn offered(protocols: &HeaderValue) -> Option<&str> {
    let mut names = protocols.to_str().ok()?.split(',').map(str::trim);
    names.find_map(|name| name.strip_prefix("bearer."))
}

fn of_token(token: &str) -> Hash {
    sha256("kdelta/token/1", &[token.as_bytes()])
}

/// Tells whether a browser asks what a page of another origin may do.
fn is_preflight(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && request.headers().contains_key(header::ORIGIN)
}

async fn pass(
    State((guard, replica)): State<(Arc<Guard>, Replica)>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let (origin, admitted) = match guard.place(&request) {
        Ok(origin) => (origin, guard.admit(&request)),
        Err(problem) => (None, Err(problem)),
    };
    let admitted = match admitted {
        Ok(Caller::Bearer(token)) => known(&replica, token).await,
        other => other,
    };
    let mut response = match admitted {
        Ok(_) if is_preflight(&request) && origin.is_some() => permission(),
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => {
            let response = problem.into_response();
            let (method, status) = (observe::method(request.method()), response.status().as_u16());
            replica.requests().answered(method, observe::NO_ROUTE, status, Duration::ZERO);
            tracing::debug!(method, status, "turned away");
            response
        }
    };
    let headers = response.headers_mut();
    for (name, value) in KEPT_APART {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let shown = HeaderValue::from_static(HEADERS_SHOWN);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
    }
    response
}

/// Returns the bearer of a token that says something here and now.
async fn known(replica: &Replica, token: Token) -> Result<Caller, Problem> {
    let caller = Caller::Bearer(token);
    let api = Api::new(replica.clone(), caller.clone());
    api.run(|backend| backend.rights()).await.map(|_| caller)
}

/// Says what a page of an allowed origin may send.
fn permission() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let told: [(HeaderName, &'static str); 3] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS_TAKEN),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
    ];
    for (name, value) in told {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [(&str, &str); 2] = [("host", "localhost:7441"), ("authorization", "Bearer secret")];

    /// The status with which a request passes or not, and what allows a page to read the answer.
    fn ask(
        guard: &Guard,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, Option<String>) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let status = |problem: Problem| problem.into_response().status().as_u16();
        match guard.place(&request) {
            Ok(origin) => {
                let origin = origin.map(|origin| origin.to_str().unwrap().to_owned());
                (guard.admit(&request).map_or_else(status, |_| 200), origin)
            }
            Err(problem) => (status(problem), None),
        }
    }

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let kept = OWN.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        kept.chain(more).copied().collect()
    }

    fn guard(allowed: &[&str]) -> Guard {
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        Guard::new(Some("secret"), &allowed)
    }

    #[test]
    fn the_token_opens_every_route_and_nothing_else_does() {
        let guard = guard(&[]);
        let status = |headers: &[(&str, &str)]| ask(&guard, "GET", "/v1/status", headers).0;
        assert_eq!(status(&OWN), 200);
        assert_eq!(status(&with(&[("authorization", "bearer  secret")])), 200);
        for wrong in
            ["Bearer secre", "Bearer secret2", "Bearer", "Basic secret", "secret", "Bearer "]
        {
            assert_eq!(status(&with(&[("authorization", wrong)])), 401, "{wrong}");
        }
        assert_eq!(status(&[("host", "localhost")]), 401);
        let offered = |names| status(&[("host", "localhost"), ("sec-websocket-protocol", names)]);
        assert_eq!(offered("kdelta.v1, bearer.secret"), 200);
        assert_eq!(offered("kdelta.v1, bearer.other"), 401);
        assert_eq!(offered("kdelta.v1"), 401);
        assert_eq!(ask(&guard, "GET", "/healthz", &[("host", "localhost")]).0, 200);
        assert_eq!(ask(&guard, "GET", "/readyz", &[("host", "localhost")]).0, 200);
        assert_eq!(ask(&guard, "GET", "/metrics", &[("host", "localhost")]).0, 401);
        assert_eq!(ask(&guard, "GET", "/healthz/", &[("host", "localhost")]).0, 401);
        assert_eq!(ask(&Guard::new(None, &[]), "GET", "/v1/id", &[("host", "[::1]:1")]).0, 200);
    }

    #[test]
    fn only_names_of_this_host_are_answered() {
        let host =
            |guard: &Guard, host: &str| ask(guard, "GET", "/v1/id", &with(&[("host", host)])).0;
        for own in
            ["localhost", "LocalHost:80", "127.0.0.1:7441", "[::1]", "[fe80::1]:9", "10.0.0.1"]
        {
            assert_eq!(host(&guard(&[]), own), 200, "{own}");
        }
        for foreign in
            ["evil.example", "localhost.evil.example:7441", "127.0.0.1.nip.io", "nas.local"]
        {
            assert_eq!(host(&guard(&[]), foreign), 403, "{foreign}");
        }
        assert_eq!(host(&guard(&["NAS.local"]), "nas.local:7441"), 200);
        assert_eq!(ask(&guard(&[]), "GET", "/v1/id", &OWN[1..]).0, 400, "a host must be named");
        assert_eq!(ask(&guard(&[]), "GET", "http://evil.example/v1/id", &OWN).0, 403);
    }

    #[test]
    fn only_pages_that_are_allowed_may_ask() {
        let from = |guard: &Guard, origin: &str| {
            ask(guard, "PUT", "/v1/spaces/s/keys/k", &with(&[("origin", origin)]))
        };
        assert_eq!(from(&guard(&[]), "http://localhost:7441"), (200, None));
        for foreign in ["https://evil.example", "null", "http://localhost", "http://localhost:7442"]
        {
            assert_eq!(from(&guard(&[]), foreign).0, 403, "{foreign}");
        }
        let app = "https://app.example";
        assert_eq!(from(&guard(&[app]), app), (200, Some(app.to_owned())));
        assert_eq!(from(&guard(&[app]), "https://app.example:8443").0, 403);
    }

    #[test]
    fn what_other_pages_load_without_saying_so_is_refused() {
        let app = guard(&["https://app.example"]);
        let from = |site| ask(&app, "GET", "/v1/id", &with(&[("sec-fetch-site", site)])).0;
        assert_eq!(["none", "same-origin"].map(from), [200, 200]);
        assert_eq!(["cross-site", "same-site", "", "elsewhere"].map(from), [403; 4]);
        let named = [("sec-fetch-site", "cross-site"), ("origin", "https://app.example")];
        assert_eq!(ask(&app, "GET", "/v1/id", &with(&named)).0, 200);
    }

    #[test]
    fn a_page_that_may_ask_can_read_that_it_has_no_token() {
        let app = guard(&["https://app.example"]);
        let asked = [("host", "localhost"), ("origin", "https://app.example")];
        let (status, reader) = ask(&app, "GET", "/v1/id", &asked);
        assert_eq!((status, reader.as_deref()), (401, Some("https://app.example")));
    }

    #[test]
    fn a_browser_may_ask_beforehand_without_a_token() {
        let asked = [
            ("host", "localhost"),
            ("origin", "https://app.example"),
            ("access-control-request-method", "PUT"),
        ];
        assert_eq!(ask(&guard(&["https://app.example"]), "OPTIONS", "/v1/id", &asked).0, 200);
        assert_eq!(ask(&guard(&[]), "OPTIONS", "/v1/id", &asked).0, 403);
        assert_eq!(ask(&guard(&[]), "OPTIONS", "/v1/id", &asked[..1]).0, 401);
    }
}
