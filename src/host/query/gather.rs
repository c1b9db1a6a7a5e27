//! Takes rows in, and gives the page of them out that was asked for.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::group::{Groups, missing_last};
use super::path::Row;
use super::{By, HELD_BYTES_MAX, PAGE_BYTES, Query, Sort, Wrong};

/// Most bytes of a cursor.
const CURSOR_BYTES_MAX: usize = 16 << 10;

/// A query asks for more than is held for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The rows or groups have more than [`HELD_BYTES_MAX`].
    Held,
    /// What the last row of a page is sorted by is too long to go on after.
    Cursor,
}

/// What a query answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Rows or groups.
    pub rows: Vec<Value>,
    /// Whether they are groups.
    pub groups: bool,
    /// Where the next page goes on, if there is one.
    pub next: Option<String>,
}

/// Where a page ended: what its last row is sorted by, and what decides between equals.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    /// What the query was sorted by.
    by: Vec<String>,
    /// Each of length 1, or 0 for what is missing.
    values: Vec<Vec<Value>>,
    tie: String,
}

impl Cursor {
    /// Reads a cursor of a query that is sorted so.
    pub(super) fn read(text: &str, sort: &[Sort]) -> Result<Self, Wrong> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        let cursor = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let of_this = |cursor: &Self| {
            cursor.by.iter().eq(sort.iter().map(|sort| &sort.text))
                && cursor.values.len() == sort.len()
        };
        cursor.filter(of_this).ok_or_else(|| {
            Wrong::new("after takes what the same query, sorted the same, answered as next")
        })
    }

    pub(super) fn tie(&self) -> &str {
        &self.tie
    }
}

/// A row or group of the answer, ordered as asked for.
#[derive(Debug)]
struct Ranked {
    /// What it is sorted by, and whether downwards.
    by: Vec<(Option<Value>, bool)>,
    tie: String,
    out: Value,
    bytes: usize,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.by.iter().zip(&other.by);
        let mut orders = pairs.map(|((a, down), (b, _))| {
            let order = missing_last(a, b);
            if *down && a.is_some() && b.is_some() { order.reverse() } else { order }
        });
        let by = orders.find(|order| order.is_ne());
        by.unwrap_or(Ordering::Equal).then_with(|| self.tie.cmp(&other.tie))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

/// Takes the rows of a query.
#[derive(Debug)]
pub struct Gather<'a> {
    query: &'a Query,
    /// The first rows by the order that is asked for, one more than the answer has.
    first: BTreeSet<Ranked>,
    bytes: usize,
    /// The page ended before it had as many rows as it may.
    early: bool,
    after: Option<Ranked>,
    groups: Groups,
}

impl<'a> Gather<'a> {
    /// Begins.
    #[must_use]
    pub fn new(query: &'a Query) -> Self {
        let after = query.after.clone().map(|cursor| {
            let values = cursor.values.into_iter().map(|value| value.into_iter().next());
            let by = values.zip(query.sort.iter().map(|sort| sort.descending)).collect();
            Ranked { by, tie: cursor.tie, out: Value::Null, bytes: 0 }
        });
        let (first, groups) = (BTreeSet::new(), Groups::default());
        Self { query, first, bytes: 0, early: false, after, groups }
    }

    /// Takes a row, if what was asked for holds of it. False: no other row can matter.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(&mut self, row: &Row) -> Result<bool, Full> {
        if !self.query.holds(row) {
            return Ok(true);
        }
        if let Some(grouping) = &self.query.grouping {
            self.groups.take(grouping, row)?;
            return Ok(true);
        }
        let field = |sort: &Sort| match &sort.by {
            By::Field(path) => (path.of(row).cloned(), sort.descending),
            By::Column(_) => (None, false),
        };
        let by = self.query.sort.iter().map(field).collect();
        let before = |ranked: &Ranked| self.first.last().is_none_or(|last| ranked < last);
        let mut ranked = Ranked { by, tie: row.key().to_owned(), out: Value::Null, bytes: 0 };
        if self.first.len() > self.query.limit && !before(&ranked) {
            return Ok(true);
        }
        ranked.out = shown(self.query, row);
        self.keep(ranked)?;
        if !self.query.is_in_key_order() || self.query.is_unlimited() {
            return Ok(true);
        }
        let enough = self.first.len() > self.query.limit;
        self.early = !enough && self.bytes > PAGE_BYTES;
        Ok(!enough && !self.early)
    }

    /// Keeps a row if it is among the first so far.
    fn keep(&mut self, mut ranked: Ranked) -> Result<(), Full> {
        if self.after.as_ref().is_some_and(|after| ranked <= *after) {
            return Ok(());
        }
        let by: usize = ranked.by.iter().map(|(value, _)| size(std::slice::from_ref(value))).sum();
        ranked.bytes = 128 + by + ranked.tie.len() + size_of_json(&ranked.out);
        self.bytes += ranked.bytes;
        self.first.insert(ranked);
        while self.first.len() > self.query.limit.saturating_add(1) {
            self.bytes -= self.first.pop_last().map_or(0, |last| last.bytes);
        }
        if self.bytes > HELD_BYTES_MAX { Err(Full::Held) } else { Ok(()) }
    }

    /// Takes out the rows that were taken so far, if they are answered as they come.
    pub fn drain(&mut self) -> impl Iterator<Item = Value> {
        let ready = self.query.is_in_key_order() && self.query.is_unlimited();
        let first = if ready { std::mem::take(&mut self.first) } else { BTreeSet::new() };
        self.bytes = if ready { 0 } else { self.bytes };
        first.into_iter().map(|ranked| ranked.out)
    }

    /// Ends, and returns the answer.
    ///
    /// # Errors
    /// [`Full`].
    pub fn finish(mut self) -> Result<Page, Full> {
        let query = self.query;
        if let Some(grouping) = &query.grouping {
            for (columns, out) in std::mem::take(&mut self.groups).finish(grouping) {
                let by = query.sort.iter().map(|sort| match sort.by {
                    By::Column(at) => (columns.get(at).cloned().flatten(), sort.descending),
                    By::Field(_) => (None, false),
                });
                let by = by.collect();
                let tie = out.get("group").map(Value::to_string).unwrap_or_default();
                self.keep(Ranked { by, tie, out, bytes: 0 })?;
            }
        }
        let more = self.first.len() > query.limit;
        if more {
            self.first.pop_last();
        }
        let next = if more || self.early {
            self.first.last().map(|last| cursor(query, last))
        } else {
            None
        };
        let next = next.transpose()?;
        let rows = self.first.into_iter().map(|ranked| ranked.out).collect();
        Ok(Page { rows, groups: query.grouping.is_some(), next })
    }
}

fn cursor(query: &Query, last: &Ranked) -> Result<String, Full> {
    let cursor = Cursor {
        by: query.sort.iter().map(|sort| sort.text.clone()).collect(),
        values: last.by.iter().map(|(value, _)| value.iter().cloned().collect()).collect(),
        tie: last.tie.clone(),
    };
    let text = serde_json::to_vec(&cursor).map_err(|_| Full::Cursor)?;
    if text.len() > CURSOR_BYTES_MAX {
        Err(Full::Cursor)
    } else {
        Ok(BASE64URL_NOPAD.encode(&text))
    }
}

/// Returns what is answered of a row.
fn shown(query: &Query, row: &Row) -> Value {
    let mut out = Map::new();
    for (at, name) in ["key", "type", "version", "time"].into_iter().enumerate() {
        out.insert(name.to_owned(), row.about(at).clone());
    }
    if query.select.is_empty() {
        out.insert("value".to_owned(), row.value.clone());
    } else {
        let fields = query.select.iter();
        let fields =
            fields.filter_map(|path| Some((path.text().to_owned(), path.of(row)?.clone())));
        out.insert("fields".to_owned(), Value::Object(fields.collect()));
    }
    Value::Object(out)
}

/// Estimates the memory of values.
pub(super) fn size(values: &[Option<Value>]) -> usize {
    values.iter().flatten().map(size_of_json).sum()
}

fn size_of_json(value: &Value) -> usize {
    const EACH: usize = size_of::<Value>();
    EACH + match value {
        Value::Null | Value::Bool(_) => 0,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.len(),
        Value::Array(elements) => elements.iter().map(size_of_json).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| 2 * EACH + name.len() + size_of_json(value)).sum()
        }
    }
}
