//! What a request asks for: space, key, query, conditions and body, each checked on the way in.
//!
//! A key is the raw rest of the path, percent-decoded once and never normalised, or `?key=` in its
//! place. A parameter that is given twice or has a wrong form is refused by name.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::problem::{Kind, Problem};
use crate::engine::base::{EventId, Hash, Key, unhex};
use crate::engine::limits;
use crate::engine::store::Expect;
use crate::host::replica::Durability;

/// Names a write, so that a repetition is recognised.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What a client would like but can do without.
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long peers are waited for unless the caller says, and at most.
const PEERS_PATIENCE: Duration = Duration::from_secs(5);
const PEERS_PATIENCE_MAX: Duration = Duration::from_secs(300);

/// Space, key and query of a request under `/v1/spaces/{space}/…`.
#[derive(Debug)]
pub(super) struct Ask {
    /// Local name or id of the space.
    pub(super) space: String,
    /// What follows the route in the path, or `?key=`.
    rest: Option<Vec<u8>>,
    /// The parameters, `key` apart.
    pub(super) query: Query,
}

impl<S: Sync> FromRequestParts<S> for Ask {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(parts.uri.path(), parts.uri.query())
    }
}

impl Ask {
    fn of(path: &str, query: Option<&str>) -> Result<Self, Problem> {
        // "", "v1", "spaces", space, route, rest
        let mut pieces = path.splitn(6, '/').skip(3);
        let space = text(decode(pieces.next().unwrap_or_default(), false)?, "a space's name")?;
        let rest = pieces.nth(1).map(|rest| decode(rest, false)).transpose()?;
        let mut query = Query::of(query)?;
        let named = query.text("key").map(String::into_bytes);
        if rest.is_some() && named.is_some() {
            return Err(Problem::usage("the key is given twice, in the path and as ?key="));
        }
        Ok(Self { space, rest: rest.or(named), query })
    }

    /// Returns the key, if there is one.
    pub(super) fn key_if_any(&self) -> Result<Option<Key>, Problem> {
        Ok(self.rest.as_deref().map(Key::from_bytes).transpose()?)
    }

    /// Returns the key.
    pub(super) fn key(&self) -> Result<Key, Problem> {
        self.key_if_any()?.ok_or_else(|| {
            Problem::usage("the key is missing").hint("Append it to the path, or give ?key=")
        })
    }

    /// Returns what follows the route in the path, as text.
    pub(super) fn name(&self, what: &str) -> Result<String, Problem> {
        text(self.rest.clone().unwrap_or_default(), what)
    }
}

/// The parameters of a request; those that a route does not know are ignored.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(parts.uri.query())
    }
}

impl Query {
    fn of(query: Option<&str>) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = text(decode(name, true)?, "a parameter's name")?;
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(Problem::usage(format!("the parameter {name:?} is given twice")));
            }
            pairs.push((name, text(decode(value, true)?, "a parameter")?));
        }
        Ok(Self(pairs))
    }

    /// Takes a parameter.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a parameter that is on or off; `?name` alone is on.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.text(name).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(Problem::usage(format!("{name} is true or false, not {other:?}"))),
        }
    }

    /// Takes a parameter that is a whole number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Problem::usage(format!("{name} is a whole number from 0 on, not {text:?}"))
        })
    }

    /// Takes the parameter that says at most how many; 0 means all.
    pub(super) fn limit(&mut self, default: usize) -> Result<usize, Problem> {
        Ok(match self.number("limit")? {
            None => default,
            Some(0) => usize::MAX,
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }
}

/// Undoes percent-encoding, once; in a query `+` stands for a space.
fn decode(text: &str, plus: bool) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let value = digit(bytes.next())
                    .zip(digit(bytes.next()))
                    .and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
                out.push(value.ok_or_else(|| {
                    Problem::usage(format!("{text:?} has a % without two hexadecimal digits"))
                        .hint("A literal % is written %25")
                })?);
            }
            b'+' if plus => out.push(b' '),
            byte => out.push(byte),
        }
    }
    Ok(out)
}

fn text(bytes: Vec<u8>, what: &str) -> Result<String, Problem> {
    String::from_utf8(bytes).map_err(|_| Problem::usage(format!("{what} must be UTF-8")))
}

/// Reads a condition: `none`, an event id, or the context of a key.
pub(super) fn expectation(text: &str) -> Result<Expect, Problem> {
    if text == "none" {
        return Ok(Expect::Absent);
    }
    if let Ok(id) = text.parse::<EventId>() {
        return Ok(Expect::Event(id));
    }
    unhex(text).and_then(|bytes| Hash::try_from(bytes).ok()).map(Expect::Context).ok_or_else(|| {
        Problem::usage(format!("{text:?} is neither none, nor an event id, nor a context"))
            .hint("Take \"version\" or \"context\" of what get answered")
    })
}

/// What an `If-Match` or `If-None-Match` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// One certain condition.
    Expect(Expect),
    /// The key holds something, whatever it is.
    Exists,
}

/// Returns the condition that the headers of a write set.
pub(super) fn condition(headers: &HeaderMap) -> Result<Option<Match>, Problem> {
    let absent = match header_text(headers, &header::IF_NONE_MATCH)? {
        None => None,
        Some("*") => Some(Match::Expect(Expect::Absent)),
        Some(_) => return Err(Problem::usage("a write takes If-None-Match: * only")),
    };
    let present = match header_text(headers, &header::IF_MATCH)? {
        None => None,
        Some("*") => Some(Match::Exists),
        Some(tag) => {
            let context = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let context = context.ok_or_else(|| {
                Problem::usage(format!("If-Match: {tag} is not one ETag in quotation marks"))
            })?;
            Some(Match::Expect(expectation(context)?))
        }
    };
    match (absent, present) {
        (Some(_), Some(_)) => Err(Problem::usage("If-Match and If-None-Match exclude each other")),
        (absent, present) => Ok(absent.or(present)),
    }
}

/// Tells whether `If-None-Match` of a read names what the client has already.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let Ok(Some(known)) = header_text(headers, &header::IF_NONE_MATCH) else { return false };
    known
        .split(',')
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

/// Returns the request id that the headers give.
pub(super) fn request_id(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
    match headers.get(&IDEMPOTENCY_KEY) {
        None => Ok(None),
        Some(id) => checked_request_id(id.as_bytes()).map(Some),
    }
}

/// Checks a request id.
pub(super) fn checked_request_id(id: &[u8]) -> Result<Vec<u8>, Problem> {
    if id.is_empty() || id.len() > limits::REQUEST_ID_BYTES_MAX {
        let most = limits::REQUEST_ID_BYTES_MAX;
        return Err(Problem::usage(format!("a request id has 1 to {most} bytes")));
    }
    Ok(id.to_vec())
}

/// Returns the durability that `Prefer` asks for (RFC 7240), and with `wait` for how many seconds
/// peers are waited for; other preferences are ignored, as they may be.
pub(super) fn durability(headers: &HeaderMap) -> Result<Durability, Problem> {
    let (mut durability, mut wait) = (Durability::Local, PEERS_PATIENCE);
    for value in headers.get_all(&PREFER) {
        let value = value.to_str().map_err(|_| Problem::usage("the header Prefer is not text"))?;
        for preference in value.split([',', ';']).map(str::trim) {
            let Some((name, level)) = preference.split_once('=') else { continue };
            let level = level.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "durability" => durability = level_of(level)?,
                "wait" => {
                    let seconds = level.parse().map_err(|_| {
                        Problem::usage(format!("wait is a number of seconds, not {level:?}"))
                    })?;
                    wait = Duration::from_secs(seconds).min(PEERS_PATIENCE_MAX);
                }
                _ => {}
            }
        }
    }
    Ok(match durability {
        Durability::Peers(count, _) => Durability::Peers(count, wait),
        other => other,
    })
}

fn level_of(level: &str) -> Result<Durability, Problem> {
    let count = level.strip_prefix("peers=").map(str::parse);
    match (level, count) {
        ("buffered", _) => Ok(Durability::Buffered),
        ("local", _) => Ok(Durability::Local),
        (_, Some(Ok(count @ 1..))) => Ok(Durability::Peers(count, PEERS_PATIENCE)),
        _ => {
            Err(Problem::usage(format!("durability is buffered, local or peers=N, not {level:?}")))
        }
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let value = headers.get(name).map(|value| value.to_str().map(str::trim));
    value.transpose().map_err(|_| Problem::usage(format!("the header {name} is not text")))
}

/// What the body of a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// One JSON value.
    Json,
    /// One JSON value a line.
    Lines,
    /// Bytes as they are.
    Bytes,
}

/// Returns what the body is, if it is one of `taken`.
pub(super) fn media(headers: &HeaderMap, taken: &[Media]) -> Result<Media, Problem> {
    let given = header_text(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let media = match essence.as_str() {
        "application/json" => Some(Media::Json),
        "application/jsonl"
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/json-lines"
        | "application/x-jsonlines" => Some(Media::Lines),
        "application/octet-stream" => Some(Media::Bytes),
        _ => None,
    };
    media.filter(|media| taken.contains(media)).ok_or_else(|| {
        let name = |media: &Media| match media {
            Media::Json => "application/json",
            Media::Lines => "application/jsonl",
            Media::Bytes => "application/octet-stream",
        };
        let taken: Vec<&str> = taken.iter().map(name).collect();
        let given = if given.is_empty() { "none" } else { given };
        Problem::new(Kind::MediaType, format!("the content type is {given}"))
            .hint(format!("Set the header Content-Type: {}", taken.join(" or ")))
    })
}

/// Reads a whole body of at most `most` bytes.
pub(super) async fn whole(body: Body, most: usize) -> Result<Bytes, Problem> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(most)),
        Err(error) => Err(Problem::usage(format!("the body ended early: {error}"))),
    }
}

/// A body or line is over `most` bytes.
pub(super) fn too_large(most: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("the request has more than {most} bytes"))
        .hint("Split it; import takes any number of lines")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn ask(target: &str) -> Ask {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ask::of(path, Some(query)).unwrap()
    }

    fn key_of(target: &str) -> String {
        ask(target).key().unwrap().as_str().to_owned()
    }

    #[test]
    fn a_key_is_the_rest_of_the_path_decoded_once() {
        assert_eq!(key_of("/v1/spaces/s/keys/user/1"), "user/1");
        assert_eq!(key_of("/v1/spaces/s/keys/a/../b//c/"), "a/../b//c/");
        assert_eq!(key_of("/v1/spaces/s/keys/%2Fa%252F"), "/a%2F");
        assert_eq!(key_of("/v1/spaces/s/keys//a"), "/a");
        assert_eq!(key_of("/v1/spaces/s/keys/a+b"), "a+b");
        assert_eq!(key_of("/v1/spaces/s/keys/%C3%A4?at=5m"), "ä");
        assert_eq!(ask("/v1/spaces/a%20b/keys/k").space, "a b");
    }

    #[test]
    fn a_key_may_stand_in_the_query() {
        assert_eq!(key_of("/v1/spaces/s/keys?key=a%2Bb+c"), "a+b c");
        assert!(Ask::of("/v1/spaces/s/keys/a", Some("key=a")).is_err());
        assert!(ask("/v1/spaces/s/keys").key_if_any().unwrap().is_none());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(ask("/v1/spaces/s/keys/%FF").key().is_err());
        assert!(ask("/v1/spaces/s/keys/%00").key().is_err());
        assert!(ask("/v1/spaces/s/keys/").key().is_err());
        assert!(ask("/v1/spaces/s/keys").key().is_err());
        assert!(ask(&format!("/v1/spaces/s/keys/{}", "k".repeat(1025))).key().is_err());
        for bad in ["%", "%a", "%zz", "%+1"] {
            assert!(Ask::of(&format!("/v1/spaces/s/keys/{bad}"), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_taken_by_name() {
        let mut query = Query::of(Some("limit=5&values&at=5m&vlaues=1")).unwrap();
        assert_eq!(query.limit(7).unwrap(), 5);
        assert!(query.flag("values").unwrap());
        assert_eq!(query.text("at").as_deref(), Some("5m"));
        assert!(Query::of(Some("a=1&a=2")).is_err());
        assert_eq!(Query::of(Some("limit=0")).unwrap().limit(7).unwrap(), usize::MAX);
        assert!(Query::of(Some("limit=-1")).unwrap().limit(7).is_err());
        assert!(Query::of(Some("values=yes")).unwrap().flag("values").is_err());
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn conditions_come_from_headers() {
        let context = "ab".repeat(32);
        let quoted = format!("\"{context}\"");
        let is = |pairs: &[(&'static str, &str)]| condition(&headers(pairs));
        assert_eq!(is(&[]).unwrap(), None);
        assert_eq!(is(&[("if-none-match", "*")]).unwrap(), Some(Match::Expect(Expect::Absent)));
        let expected = Match::Expect(Expect::Context([0xab; 32]));
        assert_eq!(is(&[("if-match", &quoted)]).unwrap(), Some(expected));
        assert_eq!(is(&[("if-match", "*")]).unwrap(), Some(Match::Exists));
        assert!(is(&[("if-match", &context)]).is_err());
        assert!(is(&[("if-match", "*"), ("if-none-match", "*")]).is_err());
        assert!(is_known(&headers(&[("if-none-match", &format!("\"x\", W/{quoted}"))]), &quoted));
        assert!(!is_known(&headers(&[("if-none-match", "\"x\"")]), &quoted));
    }

    #[test]
    fn a_version_is_none_an_event_or_a_context() {
        assert_eq!(expectation("none").unwrap(), Expect::Absent);
        let id = format!("{}.0", "cd".repeat(32));
        assert_eq!(expectation(&id).unwrap(), Expect::Event(id.parse().unwrap()));
        assert!(expectation("abcdef12").is_err());
    }

    #[test]
    fn durability_is_read_among_other_preferences() {
        let of = |value: &str| durability(&headers(&[("prefer", value)]));
        assert!(matches!(of("respond-async, durability=buffered"), Ok(Durability::Buffered)));
        assert!(matches!(of("handling=strict"), Ok(Durability::Local)));
        for wrong in ["durability=soon", "durability=peers=0", "durability=peers=x", "wait=x"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        let peers = |count, seconds| Durability::Peers(count, Duration::from_secs(seconds));
        assert_eq!(of("durability=peers=2").unwrap(), peers(2, 5));
        assert_eq!(of("wait=1, durability=\"peers=3\"").unwrap(), peers(3, 1));
        assert_eq!(of("durability=peers=1; wait=99999").unwrap(), peers(1, 300));
    }

    #[test]
    fn bodies_are_of_a_type_that_is_taken() {
        let of = |value: &str| media(&headers(&[("content-type", value)]), &[Media::Json]);
        assert_eq!(of("Application/JSON; charset=utf-8").unwrap(), Media::Json);
        assert!(of("application/octet-stream").is_err());
        assert_eq!(media(&HeaderMap::new(), &[Media::Json]).unwrap_err().kind(), Kind::MediaType);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        assert_eq!(whole(Body::from("abc"), 3).await.unwrap(), "abc");
        assert_eq!(whole(Body::from("abcd"), 3).await.unwrap_err().kind(), Kind::TooLarge);
    }
}
