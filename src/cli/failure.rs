//! How a command ends when it does not succeed: one code, one exit status, one line.
//!
//! The same object comes out of the API as `application/problem+json` and leaves on stderr as
//! `error: WHAT. HINT`, or as JSON with `--json`. Codes and statuses are part of the interface:
//! scripts branch on them.

use std::borrow::Cow;
use std::io;

use rustix::io::Errno;
use serde_json::{Map, Value, json};

/// What the process tells its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, and nothing is amiss.
    Ok = 0,
    /// Anything that no other status names.
    Other = 1,
    /// The request itself is wrong.
    Usage = 2,
    /// The key, space, tag or point is not here.
    NotFound = 3,
    /// A precondition does not hold, or the key has another type.
    Conflict = 4,
    /// The caller may not do this.
    Unauthorised = 5,
    /// The node or peer cannot be reached.
    Unavailable = 6,
    /// Damage was found.
    Integrity = 7,
    /// Some of it is done, some is not.
    Partly = 8,
    /// A quota, or the disk, or the memory is used up.
    Limit = 9,
    /// That part of the history was given up by retention.
    Gone = 10,
    /// Interrupted by SIGINT.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

/// Why a command did not succeed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The word that scripts match.
    pub(crate) code: Cow<'static, str>,
    /// The exit status.
    pub(crate) exit: u8,
    /// What happened, without a full stop.
    pub(crate) message: String,
    /// What to do next; may be empty.
    pub(crate) hint: String,
    /// Whether the same request may succeed later.
    pub(crate) retryable: bool,
    /// Further members of the error object (`outcome`, `line`, partial counts).
    pub(crate) more: Box<Map<String, Value>>,
    /// Nothing is printed: the reader of stdout has gone, or all was said already.
    pub(crate) quiet: bool,
}

impl Failure {
    /// Makes a failure with `code`, `exit` and what happened.
    pub(crate) fn new(code: &'static str, exit: Exit, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            exit: exit as u8,
            message: message.into(),
            hint: String::new(),
            retryable: matches!(exit, Exit::Unavailable),
            more: Box::default(),
            quiet: false,
        }
    }

    /// The request is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", Exit::Usage, message)
    }

    /// Nobody answers.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new("unavailable", Exit::Unavailable, message)
    }

    /// Anything else.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new("other", Exit::Other, message)
    }

    /// Ends with `exit` and prints nothing more.
    pub(crate) fn quiet(exit: Exit) -> Self {
        Self { quiet: true, ..Self::new("quiet", exit, "") }
    }

    /// Says what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds a member to the error object.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// The operating system refused what every command needs.
    pub(crate) fn system(what: &str, error: &io::Error) -> Self {
        let (code, exit) =
            if is_limit(error) { ("limit", Exit::Limit) } else { ("other", Exit::Other) };
        Self::new(code, exit, format!("{what}: {error}"))
    }

    /// Reads or writes of a file failed.
    pub(crate) fn file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let message = format!("cannot {what} {}: {error}", path.display());
        match error.kind() {
            _ if is_limit(error) => Self::new("limit", Exit::Limit, message),
            io::ErrorKind::NotFound => Self::new("not_found", Exit::NotFound, message),
            io::ErrorKind::PermissionDenied => Self::new("forbidden", Exit::Unauthorised, message),
            _ => Self::other(message),
        }
    }

    /// Writing to stdout failed; a reader that has gone is no error.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::quiet(Exit::Ok);
        }
        Self::other(format!("cannot write to stdout: {error}"))
    }

    /// Reads an answer with an error status, as `application/problem+json` or whatever came.
    pub(crate) fn from_answer(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Map<String, Value>>(body) {
            Ok(problem) if problem.contains_key("code") => Self::from_problem(status, problem),
            _ => {
                let (code, exit) = by_status(status);
                let text = String::from_utf8_lossy(body);
                let text = text.trim().chars().take(200).collect::<String>();
                let said = if text.is_empty() { String::new() } else { format!(": {text}") };
                Self::new(code, exit, format!("the node answered {status}{said}"))
            }
        }
    }

    /// Reads an error object that came with `status`, or inside a stream.
    pub(crate) fn from_problem(status: u16, mut problem: Map<String, Value>) -> Self {
        let (_, exit) = by_status(status);
        let mut text = |names: &[&str]| {
            let mut found = names.iter().filter_map(|name| problem.remove(*name));
            let text = found.next().and_then(|value| value.as_str().map(str::to_owned));
            found.for_each(drop);
            text
        };
        let code = text(&["code"]).unwrap_or_default();
        let message = text(&["detail", "message", "title"]).unwrap_or_default();
        let hint = text(&["hint"]).unwrap_or_default();
        let given = problem.remove("exit").and_then(|value| value.as_u64());
        let retryable = problem.remove("retryable").and_then(|value| value.as_bool());
        for standard in ["type", "title", "status", "instance"] {
            problem.remove(standard);
        }
        Self {
            code: Cow::Owned(code),
            exit: given.and_then(|exit| u8::try_from(exit).ok()).unwrap_or(exit as u8),
            message: message.trim_end_matches('.').to_owned(),
            hint,
            retryable: retryable.unwrap_or(matches!(status, 429 | 503)),
            more: Box::new(problem),
            quiet: false,
        }
    }

    /// The line that people see, without the newline.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("error: {}", self.message);
        if !self.hint.is_empty() {
            if !line.ends_with(['.', '?', '!']) {
                line.push('.');
            }
            line.push(' ');
            line.push_str(&self.hint);
        }
        line.replace(['\n', '\r'], " ")
    }

    /// The line that scripts see, without the newline.
    pub(crate) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("code".into(), json!(self.code));
        object.insert("exit".into(), json!(self.exit));
        object.insert("message".into(), json!(self.message));
        object.insert("hint".into(), json!(self.hint));
        object.insert("retryable".into(), json!(self.retryable));
        for (name, value) in self.more.iter() {
            object.entry(name.clone()).or_insert_with(|| value.clone());
        }
        json!({ "error": object }).to_string()
    }
}

/// Tells whether the system refused for want of something: space, open files, memory.
pub(crate) fn is_limit(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | OutOfMemory)
        || matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// What a status means when the body does not say it.
fn by_status(status: u16) -> (&'static str, Exit) {
    match status {
        400 | 405 | 406 | 415 | 422 => ("usage", Exit::Usage),
        401 => ("unauthorised", Exit::Unauthorised),
        403 => ("forbidden", Exit::Unauthorised),
        404 => ("not_found", Exit::NotFound),
        409 => ("conflict", Exit::Conflict),
        410 => ("gone", Exit::Gone),
        412 => ("precondition_failed", Exit::Conflict),
        413 | 429 | 507 => ("limit", Exit::Limit),
        502..=504 => ("unavailable", Exit::Unavailable),
        _ => ("other", Exit::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_becomes_one_line_and_one_object() {
        let body = br#"{"type":"about:blank","title":"Not Found","status":404,"code":"not_found",
            "detail":"no key \"x\" in space \"default\"","hint":"List keys: kdelta list"}"#;
        let failure = Failure::from_answer(404, body);
        assert_eq!(
            failure.line(),
            "error: no key \"x\" in space \"default\". List keys: kdelta list"
        );
        insta::assert_snapshot!(failure.json(), @r#"{"error":{"code":"not_found","exit":3,"message":"no key \"x\" in space \"default\"","hint":"List keys: kdelta list","retryable":false}}"#);
    }

    #[test]
    fn further_members_stay() {
        let body = br#"{"code":"partial","exit":8,"detail":"line 3: no key","line":3}"#;
        let failure = Failure::from_answer(400, body);
        assert_eq!((failure.exit, failure.more.get("line")), (8, Some(&json!(3))));
    }

    #[test]
    fn an_answer_without_an_object_is_read_by_its_status() {
        let failure = Failure::from_answer(507, b"disk full\n");
        assert_eq!(failure.exit, Exit::Limit as u8);
        assert_eq!(failure.line(), "error: the node answered 507: disk full");
    }
}
