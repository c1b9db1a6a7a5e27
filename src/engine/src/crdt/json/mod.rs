//! JSON in one canonical form: equal values are equal bytes.
//!
//! RFC 8259 text without white space; members sorted by the UTF-8 bytes of their names (not by
//! UTF-16 units as in RFC 8785), duplicate names refused; strings escape only `"`, `\` and control
//! characters below U+0020, by the short forms or lower-case `\u00xx`; the text of numbers is left
//! as it is, so no digit is ever lost and `1.0` is not `1`. Unicode is not normalised.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::limits::{JSON_DEPTH_MAX, JSON_TEXT_BYTES_MAX, VALUE_BYTES_MAX};

use check::{compare_names, number_len, rest};

pub use check::is_canonical;

mod check;

/// A JSON value in canonical form. Cloning is cheap; the order is that of the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json(Arc<[u8]>);

/// Why text is not a JSON value that can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct JsonError {
    /// Where in the text, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub reason: JsonReason,
}

/// What is wrong with JSON text.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonReason {
    /// The text is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// Something else must stand here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A digit is missing in a number.
    #[error("malformed number")]
    Number,
    /// A character below U+0020 stands in a string.
    #[error("unescaped control character")]
    Control,
    /// A backslash is followed by something that JSON does not know.
    #[error("unknown escape")]
    Escape,
    /// A `\u` escape names one half of a surrogate pair without the other.
    #[error("lone surrogate")]
    Surrogate,
    /// An object names a member twice.
    #[error("duplicate member name")]
    Duplicate,
    /// Arrays and objects are nested deeper than [`JSON_DEPTH_MAX`].
    #[error("more than {JSON_DEPTH_MAX} levels of nesting")]
    Depth,
    /// The canonical form is larger than [`VALUE_BYTES_MAX`], or the text far larger.
    #[error("value of more than {VALUE_BYTES_MAX} bytes")]
    TooLarge,
}

impl Json {
    /// Parses `text` and brings it to canonical form.
    ///
    /// # Errors
    /// [`JsonError`] names the first offence and its place.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        canonical(text).map(|bytes| Self(bytes.into()))
    }

    /// Takes bytes that are canonical already; none if they are not.
    pub fn from_canonical(bytes: Arc<[u8]>) -> Option<Self> {
        is_canonical(&bytes).then_some(Self(bytes))
    }

    /// Makes the JSON string whose content is `text`.
    ///
    /// # Errors
    /// [`JsonReason::TooLarge`].
    pub fn string(text: &str) -> Result<Self, JsonError> {
        let mut out = Vec::with_capacity(text.len() + 2);
        out.push(b'"');
        for c in text.chars() {
            push_escaped(&mut out, c);
        }
        out.push(b'"');
        if out.len() > VALUE_BYTES_MAX {
            return Err(JsonError { offset: VALUE_BYTES_MAX, reason: JsonReason::TooLarge });
        }
        Ok(Self(out.into()))
    }

    /// Takes bytes that were checked when their event became live.
    pub(super) fn checked(bytes: Arc<[u8]>) -> Self {
        Self(bytes)
    }

    /// Returns the canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the canonical bytes, shared.
    pub fn into_bytes(self) -> Arc<[u8]> {
        self.0
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns the canonical form of the JSON value in `text`.
///
/// Cost: linear, and a sort for each object whose members are out of order.
///
/// # Errors
/// [`JsonError`] names the first offence and its place.
pub fn canonical(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    let fail = |offset, reason| Err(JsonError { offset, reason });
    if text.len() > JSON_TEXT_BYTES_MAX {
        return fail(JSON_TEXT_BYTES_MAX, JsonReason::TooLarge);
    }
    if let Err(error) = std::str::from_utf8(text) {
        return fail(error.valid_up_to(), JsonReason::Utf8);
    }
    let mut parser = Parser { text, at: 0, out: Vec::with_capacity(text.len()) };
    parser.space();
    parser.value(0)?;
    parser.space();
    if parser.at < text.len() {
        return fail(parser.at, JsonReason::Expected("the end of the text"));
    }
    if parser.out.len() > VALUE_BYTES_MAX {
        return fail(text.len(), JsonReason::TooLarge);
    }
    Ok(parser.out)
}

/// Reads any JSON at the front of `text` and writes the canonical form to `out`.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

/// One member of an object: where its name begins in the text, and what was written of it.
#[derive(Clone, Copy)]
struct Member {
    source: usize,
    start: usize,
    name_end: usize,
    end: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fail<T>(&self, reason: JsonReason) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at, reason })
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes one byte and the white space after it, and writes it, if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
            self.out.push(byte);
            self.space();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{' | b'[') if depth == JSON_DEPTH_MAX => self.fail(JsonReason::Depth),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.fail(JsonReason::Expected("a value")),
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<(), JsonError> {
        if !rest(self.text, self.at).starts_with(word.as_bytes()) {
            return self.fail(JsonReason::Expected(word));
        }
        self.at += word.len();
        self.out.extend_from_slice(word.as_bytes());
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let text = rest(self.text, self.at);
        match number_len(text).and_then(|len| text.get(..len)) {
            None => self.fail(JsonReason::Number),
            Some(number) => {
                self.at += number.len();
                self.out.extend_from_slice(number);
                Ok(())
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.take(b'[');
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.fail(JsonReason::Expected("`,` or `]`"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.take(b'{');
        if self.take(b'}') {
            return Ok(());
        }
        let mut members = Vec::new();
        loop {
            members.push(self.member(depth)?);
            self.space();
            if self.take(b'}') {
                return self.sort(&mut members);
            }
            if !self.take(b',') {
                return self.fail(JsonReason::Expected("`,` or `}`"));
            }
        }
    }

    fn member(&mut self, depth: usize) -> Result<Member, JsonError> {
        let (source, start) = (self.at, self.out.len());
        if self.peek() != Some(b'"') {
            return self.fail(JsonReason::Expected("a member name"));
        }
        self.string()?;
        let name_end = self.out.len();
        self.space();
        if !self.take(b':') {
            return self.fail(JsonReason::Expected("`:`"));
        }
        self.value(depth)?;
        Ok(Member { source, start, name_end, end: self.out.len() })
    }

    /// Brings the members of the object that was just written into order.
    fn sort(&mut self, members: &mut [Member]) -> Result<(), JsonError> {
        let order = |a: &Member, b: &Member| {
            let name = |m: &Member| self.out.get(m.start + 1..m.name_end - 1).unwrap_or_default();
            compare_names(name(a), name(b))
        };
        if members.is_sorted_by(|a, b| order(a, b) == Ordering::Less) {
            return Ok(());
        }
        let from = members.first().map_or(0, |first| first.start);
        // Stable, so of two equal names the later one in the text is blamed.
        members.sort_by(order);
        if let Some(twice) = members.array_windows().find(|[a, b]| order(a, b) == Ordering::Equal) {
            return Err(JsonError { offset: twice[1].source, reason: JsonReason::Duplicate });
        }
        let mut sorted = Vec::with_capacity(self.out.len() - from);
        for member in members {
            if !sorted.is_empty() {
                sorted.push(b',');
            }
            sorted.extend_from_slice(self.out.get(member.start..member.end).unwrap_or_default());
        }
        sorted.push(b'}');
        self.out.truncate(from);
        self.out.append(&mut sorted);
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        self.out.push(b'"');
        loop {
            let text = rest(self.text, self.at);
            let run = text.iter().position(|c| matches!(c, b'"' | b'\\' | 0..0x20));
            let Some((plain, stop)) = run.and_then(|run| text.get(..run).zip(text.get(run))) else {
                self.at = self.text.len();
                return self.fail(JsonReason::Expected("`\"`"));
            };
            self.out.extend_from_slice(plain);
            self.at += plain.len();
            match stop {
                b'"' => {
                    self.at += 1;
                    self.out.push(b'"');
                    return Ok(());
                }
                b'\\' => {
                    let c = self.escape()?;
                    push_escaped(&mut self.out, c);
                }
                _ => return self.fail(JsonReason::Control),
            }
        }
    }

    /// Reads one escape, a surrogate pair being one.
    fn escape(&mut self) -> Result<char, JsonError> {
        let plain = match rest(self.text, self.at).get(1) {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.fail(JsonReason::Escape),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let unit = |text: &[u8]| {
            let digits = text.strip_prefix(b"\\u").and_then(|text| text.get(..4));
            digits?.iter().try_fold(0, |sum, c| Some(sum << 4 | char::from(*c).to_digit(16)?))
        };
        let text = rest(self.text, self.at);
        let Some(first) = unit(text) else { return self.fail(JsonReason::Escape) };
        let (code, len) = match (first, unit(rest(text, 6))) {
            (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                (0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00), 12)
            }
            _ => (first, 6),
        };
        let Some(c) = char::from_u32(code) else { return self.fail(JsonReason::Surrogate) };
        self.at += len;
        Ok(c)
    }
}

fn push_escaped(out: &mut Vec<u8>, c: char) {
    let short = match c {
        '"' => b'"',
        '\\' => b'\\',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\0'..' ' => {
            return out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
        }
        _ => return out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests;
