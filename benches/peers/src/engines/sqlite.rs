//! SQLite with a write-ahead log. One connection behind a lock: several would only wait.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{CACHE_BYTES, Engine, Mode, Op, first};
use crate::{Outcome, Res};

pub(super) struct Sqlite {
    connection: Mutex<Connection>,
}

impl Sqlite {
    pub(super) fn open(dir: &Path, mode: Mode) -> Res<Self> {
        let connection = Connection::open(dir.join("sqlite"))?;
        connection.set_prepared_statement_cache_capacity(16);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Without a sync at each commit; the log is still synced before it is written back.
        let synchronous = if mode == Mode::Durable { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        let cache_kib = i64::try_from(CACHE_BYTES >> 10)?;
        connection.pragma_update(None, "cache_size", -cache_kib)?;
        connection.execute(
            "CREATE TABLE IF NOT EXISTS bench (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID",
            [],
        )?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Res<T> {
        Ok(work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))?)
    }
}

const PUT: &str = "INSERT OR REPLACE INTO bench (key, value) VALUES (?1, ?2)";
const GET: &str = "SELECT value FROM bench WHERE key = ?1";
const RANGE: &str = "SELECT value FROM bench WHERE key >= ?1 AND key < ?2 ORDER BY key";

impl Engine for Sqlite {
    fn put(&self, key: &[u8], value: &[u8]) -> Outcome {
        self.with(|db| db.prepare_cached(PUT)?.execute(params![key, value]))?;
        Ok(())
    }

    fn batch(&self, ops: &[Op<'_>]) -> Outcome {
        self.with(|db| {
            let transaction = db.unchecked_transaction()?;
            for (key, value) in ops {
                match value {
                    Some(value) => db.prepare_cached(PUT)?.execute(params![key, value])?,
                    None => db
                        .prepare_cached("DELETE FROM bench WHERE key = ?1")?
                        .execute(params![key])?,
                };
            }
            transaction.commit()
        })
    }

    fn get(&self, key: &[u8]) -> Res<Option<u64>> {
        let read = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_blob().map(first));
        match self.with(|db| db.prepare_cached(GET)?.query_row([key], read).optional())? {
            Some(value) => Ok(Some(value??)),
            None => Ok(None),
        }
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Res<usize> {
        self.with(|db| {
            let mut statement = db.prepare_cached(RANGE)?;
            let mut rows = statement.query([from, to])?;
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                bytes += row.get_ref(0)?.as_blob()?.len();
            }
            Ok(bytes)
        })
    }

    fn flush(&self) -> Outcome {
        self.with(|db| db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())))
    }

    fn close(self: Box<Self>) -> Outcome {
        self.flush()
    }
}
