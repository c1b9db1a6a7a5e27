//! Expressions: what must hold of a row.
//!
//! Recursive descent over the grammar in `docs/QUERY.md`, with a bound on its depth. A test of a
//! field that a row does not have is false, whatever the test; so is one that compares values of
//! different kinds, except that those are unequal.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::order::{compare, equal};
use super::path::{Path, Row};
use super::scan::{Scan, Wrong};

/// How deep parentheses and negations may lie within one another.
const DEPTH_MAX: usize = 64;
/// Most bytes that a compiled pattern takes.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// What must hold.
#[derive(Debug)]
pub(super) enum Expr {
    /// One of these does.
    Any(Vec<Expr>),
    /// All of these do.
    All(Vec<Expr>),
    /// This does not.
    Not(Box<Expr>),
    /// The field is there.
    Exists(Path),
    /// The field is there, and passes.
    Field(Path, Test),
}

/// What is asked of a field.
#[derive(Debug)]
pub(super) enum Test {
    /// It compares so.
    Compare(Compare, Value),
    /// It is one of these.
    In(Vec<Value>),
    /// An array with this element, a text with this in it, or an object with this member.
    Contains(Value),
    /// A text that begins so.
    Prefix(String),
    /// A text in which the pattern is found.
    Matches(Regex),
}

/// The comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// `=` or `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// The signs of comparisons; of two that begin alike the longer one stands first.
const SIGNS: [(&str, Compare); 7] = [
    ("==", Compare::Equal),
    ("=", Compare::Equal),
    ("!=", Compare::Unequal),
    ("<=", Compare::AtMost),
    ("<", Compare::Less),
    (">=", Compare::AtLeast),
    (">", Compare::Greater),
];

impl Expr {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut scan = Scan::new(text)?;
        let expr = any(&mut scan, 0)?;
        scan.end("and, or, or the end")?;
        Ok(expr)
    }

    /// Tells whether it holds of a row.
    pub(super) fn holds(&self, row: &Row) -> bool {
        match self {
            Self::Any(all) => all.iter().any(|expr| expr.holds(row)),
            Self::All(all) => all.iter().all(|expr| expr.holds(row)),
            Self::Not(expr) => !expr.holds(row),
            Self::Exists(path) => path.of(row).is_some(),
            Self::Field(path, test) => path.of(row).is_some_and(|value| test.passes(value)),
        }
    }
}

impl Test {
    fn passes(&self, value: &Value) -> bool {
        match self {
            Self::Compare(Compare::Equal, other) => equal(value, other),
            Self::Compare(Compare::Unequal, other) => !equal(value, other),
            Self::Compare(how, other) => compare(value, other).is_some_and(|ordering| match how {
                Compare::Less => ordering == Ordering::Less,
                Compare::AtMost => ordering != Ordering::Greater,
                Compare::Greater => ordering == Ordering::Greater,
                _ => ordering != Ordering::Less,
            }),
            Self::In(values) => values.iter().any(|other| equal(value, other)),
            Self::Contains(part) => match (value, part) {
                (Value::Array(elements), _) => elements.iter().any(|other| equal(other, part)),
                (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
                (Value::Object(members), Value::String(name)) => members.contains_key(name),
                _ => false,
            },
            Self::Prefix(prefix) => value.as_str().is_some_and(|text| text.starts_with(prefix)),
            Self::Matches(pattern) => value.as_str().is_some_and(|text| pattern.is_match(text)),
        }
    }
}

fn any(scan: &mut Scan<'_>, depth: usize) -> Result<Expr, Wrong> {
    let mut parts = vec![all(scan, depth)?];
    while scan.eat_word("or") {
        parts.push(all(scan, depth)?);
    }
    Ok(single_or(parts, Expr::Any))
}

fn all(scan: &mut Scan<'_>, depth: usize) -> Result<Expr, Wrong> {
    let mut parts = vec![one(scan, depth)?];
    while scan.eat_word("and") {
        parts.push(one(scan, depth)?);
    }
    Ok(single_or(parts, Expr::All))
}

fn single_or(mut parts: Vec<Expr>, make: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => make(parts.into_iter().chain(last).collect()),
    }
}

fn one(scan: &mut Scan<'_>, depth: usize) -> Result<Expr, Wrong> {
    if depth == DEPTH_MAX {
        return Err(Wrong::new(format!("it nests deeper than {DEPTH_MAX}")));
    }
    if scan.eat_word("not") {
        return Ok(Expr::Not(Box::new(one(scan, depth + 1)?)));
    }
    if scan.eat_word("exists") {
        return Path::scan(scan).map(Expr::Exists);
    }
    if scan.eat("(") {
        let expr = any(scan, depth + 1)?;
        return if scan.eat(")") { Ok(expr) } else { Err(scan.expected("and, or, or )")) };
    }
    let path = Path::scan(scan)?;
    Ok(Expr::Field(path, test(scan)?))
}

fn test(scan: &mut Scan<'_>) -> Result<Test, Wrong> {
    if let Some((_, how)) = SIGNS.iter().find(|(sign, _)| scan.eat(sign)) {
        return Ok(Test::Compare(*how, scan.literal()?));
    }
    if scan.eat_word("in") {
        return match scan.literal()? {
            Value::Array(values) => Ok(Test::In(values)),
            _ => Err(Wrong::new("in takes an array, such as [1, 2]")),
        };
    }
    if scan.eat_word("contains") {
        return scan.literal().map(Test::Contains);
    }
    if scan.eat_word("prefix") {
        return text(scan, "prefix").map(Test::Prefix);
    }
    if scan.eat_word("matches") {
        return pattern(&text(scan, "matches")?).map(Test::Matches);
    }
    Err(scan.expected("=, !=, <, <=, >, >=, in, contains, prefix or matches"))
}

fn text(scan: &mut Scan<'_>, what: &str) -> Result<String, Wrong> {
    match scan.literal()? {
        Value::String(text) => Ok(text),
        _ => Err(Wrong::new(format!("{what} takes a text in quotes"))),
    }
}

fn pattern(text: &str) -> Result<Regex, Wrong> {
    let built = RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .nest_limit(u32::try_from(DEPTH_MAX).unwrap_or(u32::MAX))
        .build();
    built.map_err(|error| {
        // The last line says what, those before it draw where.
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Wrong::new(format!("the pattern {text:?} is wrong: {why}"))
    })
}
