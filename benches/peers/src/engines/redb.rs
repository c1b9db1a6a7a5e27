//! Redb.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase as _, TableDefinition};

use super::{CACHE_BYTES, Engine, Mode, Op, first};
use crate::{Outcome, Res};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");

pub(super) struct Redb {
    database: Database,
    durability: Durability,
}

impl Redb {
    pub(super) fn open(dir: &Path, mode: Mode) -> Res<Self> {
        let mut builder = Database::builder();
        let database = builder.set_cache_size(CACHE_BYTES).create(dir.join("redb"))?;
        let durability = match mode {
            Mode::Durable => Durability::Immediate,
            Mode::Buffered => Durability::None,
        };
        Ok(Self { database, durability })
    }
}

impl Engine for Redb {
    fn batch(&self, ops: &[Op<'_>]) -> Outcome {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in ops {
                match value {
                    Some(value) => drop(table.insert(*key, *value)?),
                    None => drop(table.remove(*key)?),
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &[u8]) -> Res<Option<u64>> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        table.get(key)?.map(|value| first(value.value())).transpose()
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Res<usize> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut bytes = 0;
        for row in table.range(from..to)? {
            bytes += row?.1.value().len();
        }
        Ok(bytes)
    }

    fn flush(&self) -> Outcome {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction.commit()?)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.flush()
    }
}
