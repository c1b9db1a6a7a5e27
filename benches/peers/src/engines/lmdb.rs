//! LMDB. Its cache is the page cache: what it maps is all of its file.

use std::ops::Bound::{Excluded, Included};
use std::path::Path;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

use super::{Engine, Mode, Op, first};
use crate::{Outcome, Res};

pub(super) struct Lmdb {
    env: Env,
    database: Database<Bytes, Bytes>,
}

/// The largest file: the map cannot grow later.
const MAP_BYTES: usize = 8 << 30;

impl Lmdb {
    #[expect(unsafe_code, reason = "a memory map is only as sound as nobody else writes its file")]
    pub(super) fn open(dir: &Path, mode: Mode) -> Res<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        if mode == Mode::Buffered {
            // SAFETY: it takes a power cut to break the file then, and nobody opens it after one.
            unsafe { options.flags(EnvFlags::NO_SYNC) };
        }
        // SAFETY: the directory is the run's own, and one process at a time has it open.
        let env = unsafe { options.open(dir)? };
        let mut transaction = env.write_txn()?;
        let database = env.create_database(&mut transaction, None)?;
        transaction.commit()?;
        Ok(Self { env, database })
    }
}

impl Engine for Lmdb {
    fn batch(&self, ops: &[Op<'_>]) -> Outcome {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in ops {
            match value {
                Some(value) => self.database.put(&mut transaction, key, value)?,
                None => drop(self.database.delete(&mut transaction, key)?),
            }
        }
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &[u8]) -> Res<Option<u64>> {
        let transaction = self.env.read_txn()?;
        self.database.get(&transaction, key)?.map(first).transpose()
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Res<usize> {
        let transaction = self.env.read_txn()?;
        let mut bytes = 0;
        for row in self.database.range(&transaction, &(Included(from), Excluded(to)))? {
            bytes += row?.1.len();
        }
        Ok(bytes)
    }

    fn flush(&self) -> Outcome {
        Ok(self.env.force_sync()?)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.flush()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}
