//! Those whose sync is measured beside kdelta's: replicas of one process that meet over loopback.
//!
//! Each has one replica with everything, which others come to. Nobody is tuned. Promises: a sync is
//! over when the one who came has all entries with their contents, which [`Peer::check`] looks at
//! afterwards. Does not do: the push of news to those who stay, as only some have it.

#[cfg(feature = "automerge")]
mod automerge;
#[cfg(feature = "iroh")]
mod iroh;

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
#[cfg(any(feature = "automerge", feature = "iroh"))]
use tokio::runtime::Runtime;

use crate::settings::Settings;
use crate::{Outcome, Res};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    #[cfg(feature = "iroh")]
    IrohDocs,
    #[cfg(feature = "automerge")]
    Automerge,
}

/// How many events of whom are synced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) fresh: u64,
    /// Of each author, before the catch-up.
    pub(crate) each: u64,
}

impl Kind {
    /// Everyone who was built in.
    pub(crate) const ALL: &[Self] = &[
        #[cfg(feature = "iroh")]
        Self::IrohDocs,
        #[cfg(feature = "automerge")]
        Self::Automerge,
    ];

    /// The name in tables, which is that of the package too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "iroh")]
            Self::IrohDocs => "iroh-docs",
            #[cfg(feature = "automerge")]
            Self::Automerge => "automerge",
        }
    }

    /// Where its replicas are.
    pub(crate) fn durability(self) -> &'static str {
        match self {
            #[cfg(feature = "iroh")]
            Self::IrohDocs => "on disk, committed when half a second is over",
            #[cfg(feature = "automerge")]
            Self::Automerge => "in memory only",
        }
    }

    /// Whether several entries can be one commit, as they are for kdelta.
    pub(crate) fn has_commits(self) -> bool {
        match self {
            #[cfg(feature = "iroh")]
            Self::IrohDocs => false,
            #[cfg(feature = "automerge")]
            Self::Automerge => true,
        }
    }

    /// As many as leave a run bearable: fewer than those of kdelta.
    pub(crate) fn counts(self, settings: &Settings) -> Counts {
        let (fresh, each) = match self {
            #[cfg(feature = "iroh")]
            Self::IrohDocs => (settings.count(2_000, 10_000), settings.count(200, 1_000)),
            #[cfg(feature = "automerge")]
            Self::Automerge => (settings.count(10_000, 100_000), settings.count(1_000, 10_000)),
        };
        Counts { fresh, each }
    }

    /// The replica that has everything, with nothing in it, at `dir`.
    pub(crate) fn open(self, dir: &Path) -> Res<Box<dyn Peer>> {
        Ok(match self {
            #[cfg(feature = "iroh")]
            Self::IrohDocs => Box::new(iroh::IrohDocs::open(dir)?),
            #[cfg(feature = "automerge")]
            Self::Automerge => Box::new(automerge::Automerge::open()?),
        })
    }
}

/// A replica that has everything, and one that comes to it.
pub(crate) trait Peer {
    /// Puts the events of some numbers by an author, so many a commit.
    fn write(&mut self, author: u64, numbers: Range<u64>, batch: u64) -> Outcome;
    /// Lets an empty replica in `dir` take the place of the one that came before.
    fn empty(&mut self, dir: TempDir) -> Outcome;
    /// Connects, and takes so many entries with all that belongs to them.
    fn sync(&mut self, news: u64) -> Res<Taken>;
    /// Whether the one that came has so many entries, with what was put.
    fn check(&mut self, events: u64) -> Outcome;
    /// Ends in order.
    fn close(self: Box<Self>) -> Outcome;
}

/// What a sync took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) time: Duration,
    /// What went over the wire, of those who can tell.
    pub(crate) wire: Option<Wire>,
}

/// Messages of a sync, without what QUIC puts around them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) trips: u32,
}

/// Does some work of a peer, or gives up.
#[cfg(any(feature = "automerge", feature = "iroh"))]
fn bounded<T>(runtime: &Runtime, work: impl Future<Output = Res<T>>) -> Res<T> {
    runtime.block_on(async { tokio::time::timeout(LIMIT, work).await? })
}

/// What nothing that is measured comes near to.
#[cfg(any(feature = "automerge", feature = "iroh"))]
const LIMIT: Duration = Duration::from_secs(300);
