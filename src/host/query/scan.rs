//! Reads texts of the grammar from left to right.

use std::fmt;

use serde_json::Value;

use super::EXPRESSION_BYTES_MAX;

/// What is wrong with a query, in words that end without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong(String);

impl Wrong {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Says in which member of the request it is.
    pub(super) fn within(self, member: &str, text: &str) -> Self {
        let shown: String = text.chars().take(80).collect();
        Self(format!("{member} {shown:?}: {}", self.0))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// A place in a text.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    /// Begins a text.
    ///
    /// # Errors
    /// It is longer than [`EXPRESSION_BYTES_MAX`].
    pub(super) fn new(text: &'a str) -> Result<Self, Wrong> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(Wrong::new(format!("it has more than {EXPRESSION_BYTES_MAX} bytes")));
        }
        Ok(Self { text, at: 0 })
    }

    /// Returns what is left.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Passes over spaces, and returns the next character.
    pub(super) fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    /// Passes over `mark` if it is next.
    pub(super) fn eat(&mut self, mark: &str) -> bool {
        self.peek();
        let found = self.rest().starts_with(mark);
        self.at += if found { mark.len() } else { 0 };
        found
    }

    /// Returns the word that is next, without passing over it.
    pub(super) fn next_word(&mut self) -> &'a str {
        self.peek();
        let rest = self.rest();
        let end = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Passes over `word` if it is next, in whatever case.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let next = self.next_word();
        let found = next.eq_ignore_ascii_case(word);
        self.at += if found { next.len() } else { 0 };
        found
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// Reads a JSON value, or text between single quotes in which `''` is one quote.
    pub(super) fn literal(&mut self) -> Result<Value, Wrong> {
        let rest = match self.peek() {
            Some('\'') => return self.quoted().map(Value::String),
            // What does not say itself where it ends, ends with its last character.
            Some('"' | '[' | '{') | None => self.rest(),
            Some(_) => {
                let of_scalar = |c: char| is_of_word(c) || matches!(c, '+' | '.');
                let end = self.rest().find(|c| !of_scalar(c)).unwrap_or(self.rest().len());
                self.rest().get(..end).unwrap_or_default()
            }
        };
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) if !error.is_eof() => {
                // Where it is comes from here, and not from serde_json's count of lines.
                let what = error.to_string();
                let what = what.split(" at line ").next().unwrap_or_default().to_owned();
                return Err(self.expected(&format!("a JSON value ({what})")));
            }
            _ => return Err(self.expected("a JSON value")),
        };
        self.at += values.byte_offset();
        Ok(value)
    }

    fn quoted(&mut self) -> Result<String, Wrong> {
        let begin = self.at;
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c != '\'' {
                out.push(c);
            } else if chars.next_if(|(_, c)| *c == '\'').is_some() {
                out.push('\'');
            } else {
                self.at += at + 1;
                return Ok(out);
            }
        }
        Err(Wrong::new(format!("the quote at byte {begin} does not end")))
    }

    /// Says what should stand here.
    pub(super) fn expected(&mut self, what: &str) -> Wrong {
        let found = match self.peek() {
            None => "it ends".to_owned(),
            Some(_) => {
                let word: String = self.rest().chars().take(12).collect();
                format!("found {word:?}")
            }
        };
        Wrong::new(format!("byte {}: expected {what}, {found}", self.at))
    }

    /// The text must end here.
    pub(super) fn end(&mut self, what: &str) -> Result<(), Wrong> {
        if self.peek().is_none() { Ok(()) } else { Err(self.expected(what)) }
    }
}

/// Tells whether names may hold a character without quotes.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}
