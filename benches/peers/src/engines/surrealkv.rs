//! SurrealKV: commits are asynchronous, so that each waits in a runtime of its own here.

use std::path::Path;

use surrealkv::{Durability, LSMIterator as _, Mode as Access, Tree, TreeBuilder};
use tokio::runtime::{Builder, Runtime};

use super::{CACHE_BYTES, Engine, Mode, Op, first};
use crate::{Outcome, Res};

pub(super) struct Surrealkv {
    tree: Tree,
    runtime: Runtime,
    durability: Durability,
}

impl Surrealkv {
    pub(super) fn open(dir: &Path, mode: Mode) -> Res<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let cache = u64::try_from(CACHE_BYTES)?;
        let tree = {
            let _entered = runtime.enter();
            let builder = TreeBuilder::new().with_path(dir.to_path_buf());
            builder.with_block_cache_capacity(cache).build()?
        };
        let durability = match mode {
            Mode::Durable => Durability::Immediate,
            Mode::Buffered => Durability::Eventual,
        };
        Ok(Self { tree, runtime, durability })
    }
}

impl Engine for Surrealkv {
    fn batch(&self, ops: &[Op<'_>]) -> Outcome {
        let mut transaction = self.tree.begin_with_mode(Access::WriteOnly)?;
        transaction.set_durability(self.durability);
        for (key, value) in ops {
            match value {
                Some(value) => transaction.set(*key, *value)?,
                None => transaction.delete(*key)?,
            }
        }
        Ok(self.runtime.block_on(transaction.commit())?)
    }

    fn get(&self, key: &[u8]) -> Res<Option<u64>> {
        let transaction = self.tree.begin_with_mode(Access::ReadOnly)?;
        transaction.get(key)?.map(|value| first(&value)).transpose()
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Res<usize> {
        let transaction = self.tree.begin_with_mode(Access::ReadOnly)?;
        let mut rows = transaction.range(from, to)?;
        let mut bytes = 0;
        rows.seek_first()?;
        while rows.valid() {
            bytes += rows.value()?.len();
            rows.next()?;
        }
        Ok(bytes)
    }

    fn flush(&self) -> Outcome {
        Ok(self.tree.flush_wal(true)?)
    }

    fn close(self: Box<Self>) -> Outcome {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}
