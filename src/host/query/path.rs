//! Fields: where in a row a value stands.

use serde_json::Value;

use super::scan::{Scan, Wrong};

/// A key with what it shows.
#[derive(Debug, Clone)]
pub struct Row {
    about: [Value; 5],
    pub(super) value: Value,
}

impl Row {
    /// Makes a row of a key, its type, the version, time and author of what it shows, and that.
    #[must_use]
    pub fn new(about: [String; 5], value: Value) -> Self {
        Self { about: about.map(Value::String), value }
    }

    pub(super) fn key(&self) -> &str {
        self.about(0).as_str().unwrap_or_default()
    }

    /// Returns what `ABOUT` names at a place.
    pub(super) fn about(&self, at: usize) -> &Value {
        self.about.get(at).unwrap_or(&Value::Null)
    }
}

/// What a row tells besides its value.
const ABOUT: [&str; 5] = ["key", "type", "version", "time", "author"];

/// A field of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    text: String,
    root: Root,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Value,
    /// One of `ABOUT`.
    About(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
}

impl Path {
    /// Reads a text that is one field.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut scan = Scan::new(text)?;
        let path = Self::scan(&mut scan)?;
        scan.end("the end of the field")?;
        Ok(path)
    }

    /// Reads a field at the beginning of what is left.
    pub(super) fn scan(scan: &mut Scan<'_>) -> Result<Self, Wrong> {
        scan.peek();
        let begin = scan.rest();
        let (root, mut steps) = if scan.eat("@") {
            (root(scan)?, Vec::new())
        } else {
            (Root::Value, vec![Step::Member(member(scan)?)])
        };
        // No spaces within a field: `a .b` is not one.
        loop {
            match scan.rest().chars().next().filter(|_| root == Root::Value) {
                Some('.') => {
                    scan.skip(1);
                    steps.push(Step::Member(member(scan)?));
                }
                Some('[') => {
                    scan.skip(1);
                    steps.push(Step::Element(element(scan)?));
                }
                _ => break,
            }
        }
        let length = begin.len() - scan.rest().len();
        let text = begin.get(..length).unwrap_or_default().to_owned();
        Ok(Self { text, root, steps })
    }

    /// Returns it as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns what stands there in a row.
    pub(super) fn of<'a>(&self, row: &'a Row) -> Option<&'a Value> {
        let root = match self.root {
            Root::Value => &row.value,
            Root::About(at) => row.about(at),
        };
        self.steps.iter().try_fold(root, |value, step| match step {
            Step::Member(name) => value.as_object()?.get(name),
            Step::Element(at) => value.as_array()?.get(*at),
        })
    }
}

fn root(scan: &mut Scan<'_>) -> Result<Root, Wrong> {
    let name = scan.next_word();
    let root = if name == "value" {
        Some(Root::Value)
    } else {
        ABOUT.iter().position(|known| *known == name).map(Root::About)
    };
    let root = root.ok_or_else(|| scan.expected("value, key, type, version, time or author"))?;
    scan.skip(name.len());
    Ok(root)
}

/// Reads a name: a word, or any text in double quotes.
fn member(scan: &mut Scan<'_>) -> Result<String, Wrong> {
    if scan.rest().starts_with('"') {
        return match scan.literal()? {
            Value::String(name) => Ok(name),
            _ => Err(scan.expected("a name")),
        };
    }
    let name = scan.next_word();
    if name.is_empty() || !scan.rest().starts_with(name) {
        return Err(scan.expected("the name of a field"));
    }
    scan.skip(name.len());
    Ok(name.to_owned())
}

fn element(scan: &mut Scan<'_>) -> Result<usize, Wrong> {
    let digits = scan.next_word();
    let at = digits.parse().map_err(|_| scan.expected("the number of an element"))?;
    scan.skip(digits.len());
    if scan.eat("]") { Ok(at) } else { Err(scan.expected("]")) }
}
