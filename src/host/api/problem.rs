//! How a request fails: one object for machines, one line for people (RFC 9457).
//!
//! `code` is what scripts match and `exit` what the command line ends with; both are part of the
//! interface. `title` says what kind of failure it is, `detail` what happened here, `hint` what to
//! do next. Nothing of a refused write is stored.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::engine::base::KeyError;
use crate::engine::crdt::OpError;
use crate::engine::event::DraftError;
use crate::engine::limits;
use crate::engine::log::{DiskError, DiskErrorKind, LogError};
use crate::engine::store::{ReadError, Reason, WriteError};

/// What the body of a failed request is.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request failed.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    hint: String,
    /// Further members of the object.
    more: Vec<(String, Value)>,
}

/// The kinds of failure: status, code, exit and title of each are in [`Kind::row`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request itself is wrong.
    Usage,
    /// The path leads nowhere.
    NoRoute,
    /// The path does not take this method.
    Method,
    /// The body is of a type that is not taken here.
    MediaType,
    /// The caller must show who they are.
    Unauthorised,
    /// The caller may not do this, whoever they are.
    Forbidden,
    /// What is asked for is not here.
    NotFound,
    /// It is in the way of something that is here.
    Conflict,
    /// The key has another type.
    TypeConflict,
    /// The counter has no room for this.
    Overflow,
    /// The key is not what the caller expected.
    Precondition,
    /// The value or request is above a limit.
    TooLarge,
    /// Disk or quota are used up.
    Full,
    /// The store takes no writes.
    ReadOnly,
    /// Too much waits already; try again.
    Busy,
    /// That part of the history is not here any more, or the cursor is not of this replica.
    Pruned,
    /// The answer depends on damaged bytes.
    Damaged,
    /// Nobody is there to do it.
    Unavailable,
    /// A stream of lines stopped at a bad one.
    Partial,
    /// Anything else.
    Other,
}

impl Kind {
    /// Returns status, code, exit and title.
    fn row(self) -> (StatusCode, &'static str, u8, &'static str) {
        match self {
            Self::Usage => (StatusCode::BAD_REQUEST, "usage", 2, "The request is wrong"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "usage", 2, "There is no such route"),
            Self::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "usage", 2, "The route has no such method")
            }
            Self::MediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "usage", 2, "The body has a wrong type")
            }
            Self::Unauthorised => {
                (StatusCode::UNAUTHORIZED, "unauthorised", 5, "The caller is not known")
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", 5, "The caller may not"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", 3, "Not found"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", 4, "Conflict"),
            Self::TypeConflict => {
                (StatusCode::CONFLICT, "type_mismatch", 4, "The key has another type")
            }
            Self::Overflow => (StatusCode::CONFLICT, "overflow", 4, "The counter has no room"),
            Self::Precondition => (
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                4,
                "The key is not what was expected",
            ),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "limit", 9, "A limit is exceeded"),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "limit", 9, "No space is left"),
            Self::ReadOnly => {
                (StatusCode::INSUFFICIENT_STORAGE, "limit", 9, "The store is read-only")
            }
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "limit", 9, "Too much is waiting"),
            Self::Pruned => (StatusCode::GONE, "gone", 10, "No longer here"),
            Self::Damaged => {
                (StatusCode::INTERNAL_SERVER_ERROR, "integrity", 7, "Damage was found")
            }
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", 6, "Nobody can be reached")
            }
            Self::Partial => (StatusCode::BAD_REQUEST, "partial", 8, "Only a part was done"),
            Self::Other => (StatusCode::INTERNAL_SERVER_ERROR, "other", 1, "It failed"),
        }
    }

    fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable)
    }
}

impl Problem {
    /// Makes a problem; `detail` is what happened, without a full stop.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), hint: String::new(), more: Vec::new() }
    }

    /// The request is wrong.
    pub(super) fn usage(detail: impl Into<String>) -> Self {
        Self::new(Kind::Usage, detail)
    }

    /// Says what to do next.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds a member to the object.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.retain(|(known, _)| known != name);
        self.more.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces the kind, and keeps what was said.
    #[must_use]
    pub(super) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Replaces what happened.
    #[must_use]
    pub(super) fn with_detail(mut self, detail: String) -> Self {
        self.detail = detail;
        self
    }

    /// Returns the kind.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns what happened.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the object.
    pub(super) fn object(&self) -> Value {
        let (status, code, exit, title) = self.kind.row();
        let mut object = json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "code": code,
            "exit": exit,
            "hint": self.hint,
            "retryable": self.kind.is_retryable(),
        });
        if let Some(object) = object.as_object_mut() {
            for (name, value) in &self.more {
                object.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        object
    }

    /// Returns the line that ends a stream which fails after it began.
    pub(super) fn line(&self) -> String {
        format!("{}\n", json!({ "error": self.object() }))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let (status, ..) = self.kind.row();
        let mut response = Response::new(Body::from(self.object().to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if self.kind == Kind::Unauthorised {
            let how = HeaderValue::from_static("Bearer realm=\"kdelta\"");
            headers.insert(header::WWW_AUTHENTICATE, how);
        }
        if self.kind.is_retryable() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        Self::usage(error.to_string()).hint("A key is 1 to 1024 bytes of UTF-8 without NUL")
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        match error {
            ReadError::UnknownSpace => {
                Self::new(Kind::NotFound, detail).hint("List the spaces: kdelta space list")
            }
            ReadError::UnknownEvent => Self::new(Kind::NotFound, detail)
                .hint("See the events of a key: kdelta history KEY"),
            ReadError::UnknownTag(_) => {
                Self::new(Kind::NotFound, detail).hint("List the tags: kdelta tag list")
            }
            ReadError::AmbiguousEvent(_) => Self::usage(detail).hint("Give more of its digits"),
            ReadError::Damaged(_) => Self::new(Kind::Damaged, detail)
                .hint("Fetch what is lost from peers: kdelta repair"),
            ReadError::Sidecar(_) => Self::new(Kind::Damaged, detail)
                .hint("Open the store again: derived files are rebuilt then"),
            ReadError::Disk(error) => Self::disk(&error, detail),
            _ => Self::new(Kind::Other, detail),
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::Op { key, error } => Self::op(&error, detail).with("key", key.as_str()),
            WriteError::Expectation { key, version } => Self::new(Kind::Precondition, detail)
                .hint("Read the key again and decide anew")
                .with("key", key.as_str())
                .with("version", version.map(|version| version.to_string())),
            WriteError::Unauthorised(Reason::Work { .. }) => Self::new(Kind::Forbidden, detail)
                .hint("kdelta id new --difficulty BITS draws an id that holds as much"),
            WriteError::Unauthorised(_) => Self::new(Kind::Forbidden, detail).hint(
                "kdelta grant list shows what this replica may do; who owns the space grants",
            ),
            WriteError::NotYetHere => {
                Self::new(Kind::Conflict, detail).hint("Sync it first: kdelta sync")
            }
            WriteError::Quota(_) => Self::new(Kind::Full, detail)
                .hint("kdelta space set NAME quota=SIZE raises it; a deletion frees nothing"),
            WriteError::Open => Self::new(Kind::Conflict, detail)
                .hint("Make one that is owned: kdelta space create NAME --owned"),
            WriteError::Empty => Self::usage(detail),
            WriteError::SpaceName(_) => Self::usage(detail),
            WriteError::Draft(error) => Self::draft(&error, detail),
            WriteError::Key(error) => error.into(),
            WriteError::TakenBack(_) => {
                Self::new(Kind::Full, detail).hint("See to the disk, then try again")
            }
            WriteError::NotDurable(_) | WriteError::Unrepaired(_) => {
                Self::new(Kind::ReadOnly, detail).hint("See to the disk, then open the store again")
            }
            WriteError::Closed => Self::new(Kind::Unavailable, detail).hint("Try again"),
            WriteError::Read(error) => error.into(),
            WriteError::Log(error) => error.into(),
            WriteError::Disk(error) => Self::disk(&error, detail),
            _ => Self::new(Kind::Other, detail),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        let detail = error.to_string();
        match error {
            LogError::TooLarge { .. } => Self::new(Kind::TooLarge, detail),
            LogError::GroupFull
            | LogError::SegmentFull
            | LogError::SyncBehind
            | LogError::SyncUnderWay => Self::new(Kind::Busy, detail).hint("Try again"),
            LogError::Full(_) => {
                Self::new(Kind::Full, detail).hint("Free some space, then try again")
            }
            LogError::ReadOnly(_) => Self::new(Kind::ReadOnly, detail)
                .hint("See to the disk; reading and syncing out go on"),
            LogError::Stalled(_) => {
                Self::new(Kind::Full, detail).hint("Free some space, then try again")
            }
            LogError::Failed { .. } => Self::new(Kind::ReadOnly, detail)
                .hint("See to the disk, then open the store again; reads go on"),
            _ => Self::new(Kind::Other, detail),
        }
    }
}

impl Problem {
    fn op(error: &OpError, detail: String) -> Self {
        match error {
            OpError::TypeMismatch { is, wanted } => Self::new(Kind::TypeConflict, detail)
                .hint("Ask to replace it: --retype, or \"retype\":true")
                .with("is", is.name())
                .with("wanted", wanted.name()),
            OpError::NotFound => {
                Self::new(Kind::NotFound, detail).hint("List the keys: kdelta list")
            }
            OpError::Overflow => Self::new(Kind::Overflow, detail).hint("Add less"),
            OpError::NoElements => Self::usage(detail).hint("Name at least one element"),
            OpError::FieldTooLong { .. } => Self::usage(detail).hint("Use a shorter name"),
            OpError::ValueTooLarge { .. } => {
                Self::new(Kind::TooLarge, detail).hint("Split it over several keys")
            }
            OpError::RetypeTooBroad => {
                Self::new(Kind::TypeConflict, detail).hint("Delete the key, then write it again")
            }
            OpError::TooManyLogs { .. } => {
                Self::new(Kind::TooLarge, detail).hint("Remove the parts one by one")
            }
            _ => Self::new(Kind::Other, detail),
        }
    }

    fn draft(error: &DraftError, detail: String) -> Self {
        match error {
            DraftError::TooManyEvents { .. } => Self::new(Kind::TooLarge, detail).hint(format!(
                "At most {} events go into one commit: use batch --chunk, or import",
                limits::COMMIT_EVENTS_MAX
            )),
            DraftError::TooLarge
            | DraftError::ValueTooLarge { .. }
            | DraftError::TooManyDeps { .. }
            | DraftError::TooManyPreds { .. } => Self::new(Kind::TooLarge, detail),
            DraftError::Meta(_) => Self::usage(detail).hint(format!(
                "A tag's name has 1 to {} bytes and no control characters; a request id has 1 to \
                 {} bytes; all together have at most {} KiB",
                limits::TAG_BYTES_MAX,
                limits::REQUEST_ID_BYTES_MAX,
                limits::META_BYTES_MAX >> 10,
            )),
            _ => Self::new(Kind::Other, detail),
        }
    }

    fn disk(error: &DiskError, detail: String) -> Self {
        match error.kind {
            DiskErrorKind::Full => {
                Self::new(Kind::Full, detail).hint("Free some space, then try again")
            }
            DiskErrorKind::ReadOnly => Self::new(Kind::ReadOnly, detail),
            DiskErrorKind::Busy => Self::new(Kind::Busy, detail).hint("Try again"),
            _ => Self::new(Kind::Other, detail).hint("See to the disk"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_it_to_machines_and_people() {
        let problem = Problem::new(Kind::NotFound, "no key \"x\"").hint("h").with("key", "x");
        assert_eq!(
            problem.object(),
            json!({"type": "about:blank", "title": "Not found", "status": 404,
                "detail": "no key \"x\"", "code": "not_found", "exit": 3, "hint": "h",
                "retryable": false, "key": "x"})
        );
    }

    #[test]
    fn further_members_replace_none_of_the_standard_ones() {
        let problem = Problem::usage("d").with("status", 7);
        assert_eq!(problem.object().get("status"), Some(&json!(400)));
    }

    #[test]
    fn what_may_go_better_later_says_when() {
        let response = Problem::new(Kind::Unavailable, "away").into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "1");
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), PROBLEM_JSON);
    }

    #[test]
    fn each_refusal_of_a_write_has_its_code() {
        let key = crate::engine::base::Key::new("k").unwrap();
        let code = |error: WriteError| Problem::from(error).object().get("code").cloned().unwrap();
        let op = |error| WriteError::Op { key: key.clone(), error };
        assert_eq!(code(op(OpError::NotFound)), "not_found");
        assert_eq!(code(op(OpError::Overflow)), "overflow");
        assert_eq!(code(WriteError::Empty), "usage");
        let expectation = WriteError::Expectation { key: key.clone(), version: None };
        assert_eq!(code(expectation), "precondition_failed");
    }
}
