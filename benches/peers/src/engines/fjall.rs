//! Fjall.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{CACHE_BYTES, Engine, Mode, Op, first};
use crate::{Outcome, Res};

pub(super) struct Fjall {
    database: Database,
    keyspace: Keyspace,
    mode: Mode,
}

impl Fjall {
    pub(super) fn open(dir: &Path, mode: Mode) -> Res<Self> {
        let database = Database::builder(dir).cache_size(u64::try_from(CACHE_BYTES)?).open()?;
        let keyspace = database.keyspace("bench", KeyspaceCreateOptions::default)?;
        Ok(Self { database, keyspace, mode })
    }

    fn settle(&self) -> Outcome {
        if self.mode == Mode::Durable {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Engine for Fjall {
    fn put(&self, key: &[u8], value: &[u8]) -> Outcome {
        self.keyspace.insert(key, value)?;
        self.settle()
    }

    fn batch(&self, ops: &[Op<'_>]) -> Outcome {
        let mut batch = self.database.batch();
        for (key, value) in ops {
            match value {
                Some(value) => batch.insert(&self.keyspace, *key, *value),
                None => batch.remove(&self.keyspace, *key),
            }
        }
        batch.commit()?;
        self.settle()
    }

    fn get(&self, key: &[u8]) -> Res<Option<u64>> {
        self.keyspace.get(key)?.map(|value| first(&value)).transpose()
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Res<usize> {
        let mut bytes = 0;
        for row in self.keyspace.range(from..to) {
            bytes += row.value()?.len();
        }
        Ok(bytes)
    }

    fn flush(&self) -> Outcome {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.flush()
    }
}
