//! Groups of rows, and what they sum to.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::gather::Full;
use super::number::Sum;
use super::order::order;
use super::path::{Path, Row};
use super::{HELD_BYTES_MAX, Request, Wrong, all};

/// How rows are grouped, and what is wanted of each group.
#[derive(Debug)]
pub(super) struct Grouping {
    by: Vec<Path>,
    wanted: Vec<(Verb, Path)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Sum,
    Avg,
    Min,
    Max,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

impl Grouping {
    /// Reads what a request wants of groups; none if it wants rows.
    pub(super) fn new(request: &Request) -> Result<Option<Self>, Wrong> {
        let by = all("group_by", &request.group_by, Path::parse)?;
        let mut wanted = Vec::new();
        for (verb, texts) in [
            (Verb::Sum, &request.sum),
            (Verb::Avg, &request.avg),
            (Verb::Min, &request.min),
            (Verb::Max, &request.max),
        ] {
            let paths = all(verb.name(), texts, Path::parse)?;
            wanted.extend(paths.into_iter().map(|path| (verb, path)));
        }
        let is_wanted = request.count || !by.is_empty() || !wanted.is_empty();
        Ok(is_wanted.then_some(Self { by, wanted }))
    }

    /// Names the columns of an answer: what is grouped by, the count, and what else is wanted.
    pub(super) fn columns(&self) -> Vec<String> {
        let by = self.by.iter().map(|path| path.text().to_owned());
        let wanted = self.wanted.iter().map(|(verb, path)| of(*verb, path));
        by.chain(["count".to_owned()]).chain(wanted).collect()
    }

    /// Names the columns that rows are grouped by.
    pub(super) fn shared(&self) -> impl Iterator<Item = &str> {
        self.by.iter().map(Path::text)
    }

    /// Returns the place of a column.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns().iter().position(|column| column == name)
    }
}

fn of(verb: Verb, path: &Path) -> String {
    format!("{}({})", verb.name(), path.text())
}

/// The values that the rows of a group share; ordered as values are, what is missing last.
#[derive(Debug, Clone)]
struct Shared(Vec<Option<Value>>);

impl Ord for Shared {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        pairs.map(|(a, b)| missing_last(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Shared {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Shared {}

/// Orders values of which any may be missing.
pub(super) fn missing_last(a: &Option<Value>, b: &Option<Value>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => order(a, b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

/// The groups of a query as far as its rows were seen.
#[derive(Debug, Default)]
pub(super) struct Groups {
    all: BTreeMap<Shared, Group>,
    bytes: usize,
}

#[derive(Debug)]
struct Group {
    count: u64,
    wanted: Vec<Gathered>,
}

/// What was gathered for one thing that is wanted of a group.
#[derive(Debug)]
enum Gathered {
    /// A sum, of so many numbers.
    Numbers(Sum, u64),
    /// The least or the greatest value.
    Extreme(Option<Value>),
}

impl Groups {
    /// Takes a row into its group.
    pub(super) fn take(&mut self, grouping: &Grouping, row: &Row) -> Result<(), Full> {
        let shared = Shared(grouping.by.iter().map(|path| path.of(row).cloned()).collect());
        if !self.all.contains_key(&shared) {
            self.bytes += super::gather::size(&shared.0) + 64 * (1 + grouping.wanted.len());
        }
        let group = self.all.entry(shared).or_insert_with(|| Group {
            count: 0,
            wanted: grouping.wanted.iter().map(|(verb, _)| Gathered::new(*verb)).collect(),
        });
        group.count += 1;
        for (gathered, (verb, path)) in group.wanted.iter_mut().zip(&grouping.wanted) {
            if let Some(value) = path.of(row) {
                self.bytes += gathered.take(*verb, value);
            }
        }
        if self.bytes > HELD_BYTES_MAX { Err(Full::Held) } else { Ok(()) }
    }

    /// Returns each group: the values of its columns, and its JSON.
    pub(super) fn finish(
        self,
        grouping: &Grouping,
    ) -> impl Iterator<Item = (Vec<Option<Value>>, Value)> {
        let mut all = self.all;
        // Sums of nothing are an answer too.
        if all.is_empty() && grouping.by.is_empty() {
            let wanted = grouping.wanted.iter().map(|(verb, _)| Gathered::new(*verb)).collect();
            all.insert(Shared(Vec::new()), Group { count: 0, wanted });
        }
        all.into_iter().map(|(shared, group)| {
            let json = render(grouping, &shared, &group);
            let mut columns = shared.0;
            columns.push(Some(group.count.into()));
            columns.extend(group.wanted.iter().zip(&grouping.wanted).map(
                |(gathered, (verb, _))| Some(gathered.json(*verb)).filter(|value| !value.is_null()),
            ));
            (columns, json)
        })
    }
}

fn render(grouping: &Grouping, shared: &Shared, group: &Group) -> Value {
    let by = grouping.by.iter().zip(&shared.0);
    let by = by.filter_map(|(path, value)| Some((path.text().to_owned(), value.clone()?)));
    let mut out = Map::new();
    out.insert("group".to_owned(), Value::Object(by.collect()));
    out.insert("count".to_owned(), group.count.into());
    for (gathered, (verb, path)) in group.wanted.iter().zip(&grouping.wanted) {
        let of_verb = out.entry(verb.name()).or_insert_with(|| json!({}));
        if let Some(of_verb) = of_verb.as_object_mut() {
            of_verb.insert(path.text().to_owned(), gathered.json(*verb));
        }
    }
    Value::Object(out)
}

impl Gathered {
    fn new(verb: Verb) -> Self {
        match verb {
            Verb::Sum | Verb::Avg => Self::Numbers(Sum::Whole(0), 0),
            Verb::Min | Verb::Max => Self::Extreme(None),
        }
    }

    /// Takes a value; returns how many bytes more are held.
    fn take(&mut self, verb: Verb, value: &Value) -> usize {
        match (self, value) {
            (Self::Numbers(sum, count), Value::Number(number)) => {
                sum.add(number);
                *count += 1;
                0
            }
            (Self::Numbers(..), _) | (Self::Extreme(_), Value::Null) => 0,
            (Self::Extreme(held), value) => {
                let wanted = if verb == Verb::Min { Ordering::Less } else { Ordering::Greater };
                if held.as_ref().is_some_and(|held| order(value, held) != wanted) {
                    return 0;
                }
                let before = super::gather::size(std::slice::from_ref(held));
                *held = Some(value.clone());
                super::gather::size(std::slice::from_ref(held)).saturating_sub(before)
            }
        }
    }

    fn json(&self, verb: Verb) -> Value {
        match self {
            Self::Numbers(_, 0) => Value::Null,
            Self::Numbers(sum, count) if verb == Verb::Avg => sum.mean(*count),
            Self::Numbers(sum, _) => sum.json(),
            Self::Extreme(held) => held.clone().unwrap_or_default(),
        }
    }
}
