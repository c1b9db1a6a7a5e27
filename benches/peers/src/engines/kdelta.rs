//! Kdelta, as an app embeds it.

use std::path::Path;
use std::time::Duration;

use kdelta::engine::base::{Key, SpaceId};
use kdelta::engine::crdt::{self, Value};
use kdelta::engine::store::{KeyOp, Write};
use kdelta::host::replica::{Durability, OpenOptions, Replica};

use super::{CACHE_BYTES, Engine, Mode, Op, first};
use crate::{Outcome, Res};

/// A replica and the space that is written to.
pub(crate) struct Kdelta {
    pub(crate) replica: Replica,
    pub(crate) space: SpaceId,
    durability: Durability,
}

impl Kdelta {
    pub(crate) fn open(dir: &Path, mode: Mode) -> Res<Self> {
        let wait = Duration::from_secs(5);
        let options = OpenOptions { memory_bytes: CACHE_BYTES, wait, ..OpenOptions::default() };
        let replica = Replica::open_with(dir, &options)?;
        let space = replica.default_space()?;
        let durability = match mode {
            Mode::Durable => Durability::Local,
            Mode::Buffered => Durability::Buffered,
        };
        Ok(Self { replica, space, durability })
    }
}

impl Engine for Kdelta {
    fn batch(&self, ops: &[Op<'_>]) -> Outcome {
        let op = |(key, value): &Op<'_>| -> Res<KeyOp> {
            let key = Key::new(std::str::from_utf8(key)?)?;
            let op = value.map_or(crdt::Op::Delete, |value| crdt::Op::PutBytes(value.into()));
            Ok(KeyOp { key, op, retype: false, expect: None })
        };
        let ops = ops.iter().map(op).collect::<Res<_>>()?;
        self.replica
            .write(Write { space: self.space, ops, ..Write::default() }, self.durability)?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Res<Option<u64>> {
        let view = self.replica.get(std::str::from_utf8(key)?)?;
        view.map(|view| match &view.value {
            Value::Bytes(bytes) => first(bytes),
            other => Err(format!("not what was written: {other:?}").into()),
        })
        .transpose()
    }

    fn range(&self, from: &[u8], _: &[u8]) -> Res<usize> {
        // What the others keep as a row for each version is the history of one key here.
        let key = Key::new(std::str::from_utf8(from)?)?;
        let events = self.replica.read(|store| store.history(&self.space, &key, usize::MAX))?;
        Ok(events.iter().filter_map(|event| event.payload.as_ref()).map(|bytes| bytes.len()).sum())
    }

    fn flush(&self) -> Outcome {
        Ok(self.replica.flush()?)
    }

    fn close(self: Box<Self>) -> Outcome {
        Ok(self.replica.close()?)
    }
}
