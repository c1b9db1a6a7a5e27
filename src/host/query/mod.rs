//! Queries: which keys are wanted by what their values hold, in which order, and what they sum to.
//!
//! A [`Request`] is what callers write, a [`Query`] the same checked and compiled; [`Gather`] takes
//! the rows of a space one after the other, in the order of their keys, and holds no more of them
//! than the answer needs, up to [`HELD_BYTES_MAX`]. The grammar stands in `docs/QUERY.md`. It knows
//! JSON and nothing of stores: whoever has rows can ask it. There are no joins and no indexes: a
//! query reads every key under its prefix.

mod expr;
mod gather;
mod group;
mod number;
mod order;
mod path;
mod scan;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use expr::Expr;
pub use gather::{Full, Gather, Page};
use group::Grouping;
use path::Path;
pub use path::Row;
pub use scan::Wrong;

/// Most bytes of an expression or a path.
pub const EXPRESSION_BYTES_MAX: usize = 8 << 10;
/// Most expressions, and most fields of one kind, in a request.
pub const TERMS_MAX: usize = 16;
/// Most bytes of rows, groups and what they are sorted by that a query holds.
pub const HELD_BYTES_MAX: usize = 16 << 20;
/// A page in the order of keys ends early above so many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// How many rows a page has if nobody says otherwise.
const PAGE_ROWS: usize = 1000;

/// What a caller asks for; every member may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Expressions, all of which must hold.
    #[serde(rename = "where")]
    pub tests: Vec<String>,
    /// Fields to sort by, each with `:desc` or not; keys decide between equals.
    pub sort: Vec<String>,
    /// Most rows or groups; 0 means all; 1,000 if nothing is said.
    pub limit: Option<usize>,
    /// Goes on after the page that answered this as `next`.
    pub after: Option<String>,
    /// Fields to answer in place of the whole value.
    pub select: Vec<String>,
    /// Counts the rows.
    pub count: bool,
    /// Fields whose numbers are summed up.
    pub sum: Vec<String>,
    /// Fields whose numbers are averaged.
    pub avg: Vec<String>,
    /// Fields of which the least value is wanted.
    pub min: Vec<String>,
    /// Fields of which the greatest value is wanted.
    pub max: Vec<String>,
    /// Fields by whose values the rows are grouped.
    pub group_by: Vec<String>,
}

/// A request that makes sense.
#[derive(Debug)]
pub struct Query {
    prefix: String,
    tests: Vec<Expr>,
    sort: Vec<Sort>,
    limit: usize,
    after: Option<gather::Cursor>,
    select: Vec<Path>,
    grouping: Option<Grouping>,
}

/// One thing to sort by.
#[derive(Debug)]
struct Sort {
    text: String,
    by: By,
    descending: bool,
}

#[derive(Debug)]
enum By {
    Field(Path),
    /// A column of groups, by its place.
    Column(usize),
}

impl Query {
    /// Checks a request.
    ///
    /// # Errors
    /// What is wrong, and where in the text it is.
    pub fn new(request: Request) -> Result<Self, Wrong> {
        let tests = all("where", &request.tests, Expr::parse)?;
        let select = all("select", &request.select, Path::parse)?;
        let grouping = Grouping::new(&request)?;
        if grouping.is_some() && !select.is_empty() {
            return Err(Wrong::new("select is for rows, and this query answers groups"));
        }
        let mut sort = all("sort", &request.sort, |text| Sort::parse(text, grouping.as_ref()))?;
        if let Some(grouping) = grouping.as_ref().filter(|_| sort.is_empty()) {
            let column = |(at, name): (usize, &str)| Sort {
                text: name.to_owned(),
                by: By::Column(at),
                descending: false,
            };
            sort = grouping.shared().enumerate().map(column).collect();
        }
        let limit = match request.limit {
            None => PAGE_ROWS,
            Some(0) => usize::MAX,
            Some(limit) => limit,
        };
        let after = request.after.map(|text| gather::Cursor::read(&text, &sort)).transpose()?;
        Ok(Self { prefix: request.prefix, tests, sort, limit, after, select, grouping })
    }

    /// Returns what the keys of all rows begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the key after which the rows begin that can be in the answer.
    #[must_use]
    pub fn after_key(&self) -> Option<&str> {
        let after = self.after.as_ref().filter(|_| self.is_in_key_order())?;
        Some(after.tie())
    }

    /// Tells whether the whole answer is wanted, however long.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.limit == usize::MAX
    }

    /// Tells whether rows can be answered as they come, so that next to nothing is held.
    #[must_use]
    pub fn is_in_key_order(&self) -> bool {
        self.sort.is_empty() && self.grouping.is_none()
    }

    fn holds(&self, row: &Row) -> bool {
        self.tests.iter().all(|test| test.holds(row))
    }
}

impl Sort {
    fn parse(text: &str, grouping: Option<&Grouping>) -> Result<Self, Wrong> {
        let (field, descending) = match text.rsplit_once(':') {
            Some((field, "desc")) => (field, true),
            Some((field, "asc")) => (field, false),
            _ => (text, false),
        };
        let by = match grouping {
            None => By::Field(Path::parse(field)?),
            Some(grouping) => By::Column(grouping.column(field).ok_or_else(|| {
                let columns = grouping.columns().join(", ");
                Wrong::new(format!("groups are sorted by one of: {columns}"))
            })?),
        };
        Ok(Self { text: text.to_owned(), by, descending })
    }
}

/// Parses each of some texts, and says which member of the request a wrong one stands in.
fn all<T>(
    member: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    if texts.len() > TERMS_MAX {
        return Err(Wrong::new(format!("{member} has more than {TERMS_MAX} members")));
    }
    texts.iter().map(|text| parse(text).map_err(|wrong| wrong.within(member, text))).collect()
}
