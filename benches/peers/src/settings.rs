//! What is asked for on the command line.

use std::path::PathBuf;

use crate::Res;

/// A part of the run, which stands for itself: what is compared is measured within one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Limits,
    Put,
    Get,
    Open,
    History,
    Import,
    Space,
    Sync,
    Growth,
    Simulator,
}

impl Part {
    pub(crate) const ALL: [Self; 10] = [
        Self::Limits,
        Self::Put,
        Self::Get,
        Self::Open,
        Self::History,
        Self::Import,
        Self::Space,
        Self::Sync,
        Self::Growth,
        Self::Simulator,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Put => "put",
            Self::Get => "get",
            Self::Open => "open",
            Self::History => "history",
            Self::Import => "import",
            Self::Space => "space",
            Self::Sync => "sync",
            Self::Growth => "growth",
            Self::Simulator => "simulator",
        }
    }
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) parts: Vec<Part>,
    /// Smaller counts, marked as such.
    pub(crate) quick: bool,
    /// Where the stores lie.
    pub(crate) dir: PathBuf,
    /// Whether the document is written.
    pub(crate) write: bool,
    /// Whether ten million events are opened too.
    pub(crate) ten_million: bool,
    /// Whether a store grows to a hundred million events in the end: 30 GB, half an hour.
    pub(crate) hundred_million: bool,
    /// The real input.
    pub(crate) etcd: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn read(args: &[String]) -> Res<Self> {
        let mut settings = Self {
            parts: Vec::new(),
            quick: false,
            dir: std::env::temp_dir(),
            write: false,
            ten_million: false,
            hundred_million: false,
            etcd: None,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => settings.quick = true,
                "--write" => settings.write = true,
                "--ten-million" => settings.ten_million = true,
                "--hundred-million" => settings.hundred_million = true,
                "--dir" => settings.dir = args.next().ok_or("--dir needs a directory")?.into(),
                "--etcd" => settings.etcd = Some(args.next().ok_or("--etcd needs a file")?.into()),
                "all" => settings.parts.extend(Part::ALL),
                name => {
                    let part = Part::ALL.into_iter().find(|part| part.name() == name);
                    settings.parts.push(part.ok_or_else(|| {
                        let names = Part::ALL.map(Part::name).join(" ");
                        format!("no part is called {name:?}. There are: all {names}")
                    })?);
                }
            }
        }
        if settings.parts.is_empty() {
            settings.parts.extend(Part::ALL);
        }
        Ok(settings)
    }

    /// The one count for a quick run, the other for a whole one.
    pub(crate) fn count<T>(&self, quick: T, whole: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// How often everything is measured.
    pub(crate) fn rounds(&self) -> usize {
        5
    }

    /// A fresh directory, removed when it is dropped.
    pub(crate) fn fresh(&self) -> Res<tempfile::TempDir> {
        Ok(tempfile::Builder::new().prefix("kdelta-peers-").tempdir_in(&self.dir)?)
    }
}
