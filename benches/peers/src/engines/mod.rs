//! Everyone who is measured, behind one trait: the same calls, the same durability.
//!
//! No engine is tuned beyond the size of its cache, which is [`CACHE_BYTES`] for all. A store is
//! opened for one way of writing, as some can only be told then.

mod fjall;
mod kdelta;
mod lmdb;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sqlite;
mod surrealkv;

use std::path::Path;

pub(crate) use self::kdelta::Kdelta;
use crate::{Outcome, Res};

/// A key: 16 letters and digits.
pub(crate) type Key = [u8; 16];
/// What is put under a key, or that it goes.
pub(crate) type Op<'a> = (&'a [u8], Option<&'a [u8]>);

/// The cache, or the whole memory budget, that everyone gets.
pub(crate) const CACHE_BYTES: usize = 256 << 20;

/// When a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// After `fdatasync` or what the engine has in its place.
    Durable,
    /// Before.
    Buffered,
}

/// A store that is open.
pub(crate) trait Engine: Send + Sync {
    /// Puts one value, as a transaction of its own.
    fn put(&self, key: &[u8], value: &[u8]) -> Outcome {
        self.batch(&[(key, Some(value))])
    }
    /// Does all in one transaction.
    fn batch(&self, ops: &[Op<'_>]) -> Outcome;
    /// Reads a value, in a transaction of its own; returns its first eight bytes.
    fn get(&self, key: &[u8]) -> Res<Option<u64>>;
    /// Counts the bytes of the values from one key to before another.
    fn range(&self, from: &[u8], to: &[u8]) -> Res<usize>;
    /// Makes everything durable.
    fn flush(&self) -> Outcome;
    /// Ends in order.
    fn close(self: Box<Self>) -> Outcome;
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kdelta,
    Surrealkv,
    #[cfg(feature = "rocksdb")]
    Rocksdb,
    Fjall,
    Redb,
    Sqlite,
    Lmdb,
}

impl Kind {
    /// Everyone, kdelta first.
    pub(crate) const ALL: &[Self] = &[
        Self::Kdelta,
        Self::Surrealkv,
        #[cfg(feature = "rocksdb")]
        Self::Rocksdb,
        Self::Fjall,
        Self::Redb,
        Self::Sqlite,
        Self::Lmdb,
    ];

    /// The name in tables and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kdelta => "kdelta",
            Self::Surrealkv => "surrealkv",
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => "rocksdb",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::Sqlite => "sqlite",
            Self::Lmdb => "lmdb",
        }
    }

    /// The package whose version counts, and what the two ways of writing are.
    pub(crate) fn settings(self) -> (Option<&'static str>, &'static str, &'static str) {
        match self {
            Self::Kdelta => (Some("kdelta"), "`Durability::Local`", "`Durability::Buffered`"),
            Self::Surrealkv => (Some("surrealkv"), "`Durability::Immediate`", "`Eventual`"),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => (None, "`sync = true`", "`sync = false`"),
            Self::Fjall => (Some("fjall"), "`persist(SyncData)` after each", "nothing after it"),
            Self::Redb => (Some("redb"), "`Durability::Immediate`", "`Durability::None`"),
            Self::Sqlite => {
                (Some("rusqlite"), "WAL, `synchronous = FULL`", "WAL, `synchronous = NORMAL`")
            }
            Self::Lmdb => (Some("heed"), "no flags", "`NO_SYNC`"),
        }
    }

    /// Finds one by its name.
    pub(crate) fn named(name: &str) -> Res<Self> {
        let found = Self::ALL.iter().copied().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("no engine is called {name:?}").into())
    }

    /// Opens the store in `dir`, or makes one there.
    pub(crate) fn open(self, dir: &Path, mode: Mode) -> Res<Box<dyn Engine>> {
        Ok(match self {
            Self::Kdelta => Box::new(Kdelta::open(dir, mode)?),
            Self::Surrealkv => Box::new(surrealkv::Surrealkv::open(dir, mode)?),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Box::new(rocksdb::Rocksdb::open(dir, mode)?),
            Self::Fjall => Box::new(fjall::Fjall::open(dir, mode)?),
            Self::Redb => Box::new(redb::Redb::open(dir, mode)?),
            Self::Sqlite => Box::new(sqlite::Sqlite::open(dir, mode)?),
            Self::Lmdb => Box::new(lmdb::Lmdb::open(dir, mode)?),
        })
    }
}

/// The first eight bytes of a value, which say what it should be.
fn first(value: &[u8]) -> Res<u64> {
    let bytes = value.first_chunk::<8>().ok_or("a value is shorter than what was written")?;
    Ok(u64::from_le_bytes(*bytes))
}
