//! What a run found: figures with all their rounds, by part, kept in `docs/performance/run.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::settings::Settings;
use crate::{Outcome, Res};

/// One thing that was measured of one of those who are compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What was done.
    pub(crate) what: String,
    /// Who did it.
    pub(crate) who: String,
    /// The unit of the rounds.
    pub(crate) unit: String,
    /// What each round gave, in order.
    pub(crate) rounds: Vec<f64>,
}

impl Figure {
    /// The middle of the rounds.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        match (sorted.get(low), sorted.get(high)) {
            (Some(low), Some(high)) => f64::midpoint(*low, *high),
            _ => f64::NAN,
        }
    }

    /// Half of what lies between the least and the greatest, as a part of the median.
    pub(crate) fn spread(&self) -> f64 {
        let least = self.rounds.iter().copied().fold(f64::MAX, f64::min);
        let greatest = self.rounds.iter().copied().fold(f64::MIN, f64::max);
        (greatest - least) / 2.0 / self.median()
    }
}

/// What one part found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Whether the counts were the small ones.
    pub(crate) quick: bool,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Counts and sizes, by name.
    pub(crate) settings: BTreeMap<String, String>,
    /// What was measured, in the order of the tables.
    pub(crate) figures: Vec<Figure>,
    #[serde(skip)]
    begun: Option<Instant>,
}

impl Part {
    pub(crate) fn begin(settings: &Settings) -> Res<Self> {
        Ok(Self {
            quick: settings.quick,
            machine: Machine::here(&settings.dir)?,
            seconds: 0.0,
            settings: BTreeMap::new(),
            figures: Vec::new(),
            begun: Some(Instant::now()),
        })
    }

    pub(crate) fn end(mut self) -> Self {
        self.seconds = self.begun.take().map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        for figure in &self.figures {
            println!(
                "{:<44} {:<26} {:>14.2} {} ±{:.0} %",
                figure.what,
                figure.who,
                figure.median(),
                figure.unit,
                figure.spread() * 100.0
            );
        }
        self
    }

    /// Notes a count or a size.
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.insert(name.to_owned(), value.to_string());
    }

    /// Adds a round to a figure.
    pub(crate) fn add(&mut self, what: &str, who: &str, unit: &str, round: f64) {
        let known = self.figures.iter_mut().find(|old| old.what == what && old.who == who);
        if let Some(figure) = known {
            figure.rounds.push(round);
            return;
        }
        let (what, who, unit) = (what.to_owned(), who.to_owned(), unit.to_owned());
        self.figures.push(Figure { what, who, unit, rounds: vec![round] });
    }

    /// The median of a figure.
    pub(crate) fn median(&self, what: &str, who: &str) -> Option<f64> {
        let found = self.figures.iter().find(|figure| figure.what == what && figure.who == who);
        found.map(Figure::median)
    }

    /// Everything that was done, in the order in which it was first measured.
    pub(crate) fn whats(&self) -> Vec<&str> {
        let mut whats = Vec::new();
        for figure in &self.figures {
            if !whats.contains(&figure.what.as_str()) {
                whats.push(figure.what.as_str());
            }
        }
        whats
    }
}

/// All parts, each from the last time it ran.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) parts: BTreeMap<String, Part>,
}

impl Run {
    /// Reads what was kept; nothing if nothing was.
    pub(crate) fn load() -> Res<Self> {
        match std::fs::read_to_string(path()) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn keep(&mut self, name: &str, part: Part) {
        self.parts.insert(name.to_owned(), part);
    }

    pub(crate) fn save(&self) -> Outcome {
        std::fs::create_dir_all(docs().join("performance"))?;
        Ok(std::fs::write(path(), serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// The median of a figure of a part.
    pub(crate) fn median(&self, part: &str, what: &str, who: &str) -> Option<f64> {
        self.parts.get(part)?.median(what, who)
    }
}

/// The folder of the documents.
pub(crate) fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn path() -> PathBuf {
    docs().join("performance/run.json")
}
