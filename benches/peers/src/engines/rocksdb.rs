//! RocksDB.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, Direction, IteratorMode, Options, WriteBatch};
use rocksdb::{ReadOptions, WriteOptions};

use super::{CACHE_BYTES, Engine, Mode, Op, first};
use crate::{Outcome, Res};

pub(super) struct Rocksdb {
    database: DB,
    mode: Mode,
}

impl Rocksdb {
    pub(super) fn open(dir: &Path, mode: Mode) -> Res<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES)?);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        Ok(Self { database: DB::open(&options, dir)?, mode })
    }

    fn writing(&self) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.set_sync(self.mode == Mode::Durable);
        options
    }
}

impl Engine for Rocksdb {
    fn put(&self, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.database.put_opt(key, value, &self.writing())?)
    }

    fn batch(&self, ops: &[Op<'_>]) -> Outcome {
        let mut batch = WriteBatch::default();
        for (key, value) in ops {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        Ok(self.database.write_opt(batch, &self.writing())?)
    }

    fn get(&self, key: &[u8]) -> Res<Option<u64>> {
        self.database.get_pinned(key)?.map(|value| first(&value)).transpose()
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Res<usize> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mut bytes = 0;
        for row in self.database.iterator_opt(IteratorMode::From(from, Direction::Forward), options)
        {
            bytes += row?.1.len();
        }
        Ok(bytes)
    }

    fn flush(&self) -> Outcome {
        Ok(self.database.flush_wal(true)?)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.flush()
    }
}
