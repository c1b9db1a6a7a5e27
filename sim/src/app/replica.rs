//! How an app reads and writes its replica.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use kdelta_engine::base::{CommitId, Key, Now, ReplicaId, SpaceId};
use kdelta_engine::crdt::{Json, Op, Value, View};
use kdelta_engine::store::{KeyOp, Store, Write};

use super::{Failed, VALID};
use crate::check::Broken;
use crate::draw::Source;
use crate::world::SeatDisk;
use crate::world::guests::Deed;

/// Reads a replica.
#[derive(Debug)]
pub struct Reader<'a> {
    pub(super) store: &'a mut Store<SeatDisk>,
    pub(super) space: SpaceId,
    pub(super) now: Now,
    pub(super) seat: usize,
    pub(super) replicas: usize,
}

impl Reader<'_> {
    /// Returns the seat of the replica.
    pub fn seat(&self) -> usize {
        self.seat
    }

    /// Returns how many replicas there were at the start.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// Returns the replica's public key. A copy has that of the original.
    pub fn id(&self) -> ReplicaId {
        self.store.replica()
    }

    /// Returns what the clocks of the replica show. They may be wrong.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Returns what a key shows; none if nothing is live.
    ///
    /// # Errors
    /// The key is none, or what holds it cannot be read.
    pub fn get(&mut self, key: &str) -> Result<Option<View>, Failed> {
        let key = key_named(key)?;
        Ok(self.store.get(&self.space, &key, None)?)
    }

    /// Returns the sum of a counter; 0 if nothing is live.
    ///
    /// # Errors
    /// As [`get`](Self::get); the key shows another type.
    pub fn counter(&mut self, key: &str) -> Result<i128, Failed> {
        match self.get(key)?.map(|view| view.value) {
            None => Ok(0),
            Some(Value::Counter(sum)) => Ok(sum.into()),
            Some(Value::Overflow(sum)) => Ok(sum),
            Some(_) => Err(other_type(key, "counter")),
        }
    }

    /// Returns the elements of a set, in order; none if nothing is live.
    ///
    /// # Errors
    /// As [`get`](Self::get); the key shows another type.
    pub fn set(&mut self, key: &str) -> Result<Vec<Json>, Failed> {
        match self.get(key)?.map(|view| view.value) {
            None => Ok(Vec::new()),
            Some(Value::Set(elements)) => Ok(elements),
            Some(_) => Err(other_type(key, "set")),
        }
    }

    /// Returns the value of a register; none if nothing is live.
    ///
    /// # Errors
    /// As [`get`](Self::get); the key shows another type.
    pub fn register(&mut self, key: &str) -> Result<Option<Json>, Failed> {
        match self.get(key)?.map(|view| view.value) {
            None => Ok(None),
            Some(Value::Json(json)) => Ok(Some(json)),
            Some(_) => Err(other_type(key, "register")),
        }
    }

    /// Returns the live keys that begin with `prefix`, in order, and what they show.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn list(&mut self, prefix: &str) -> Result<Vec<(Key, View)>, Failed> {
        Ok(self.store.list(&self.space, prefix, None, usize::MAX, None)?.keys)
    }
}

/// Reads and writes a replica, for an app.
#[derive(Debug)]
pub struct Replica<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) draws: &'a mut Source,
    pub(super) deeds: Vec<Deed>,
    /// What the app wrote itself: it is not told of it as of a change.
    pub(super) own: &'a mut BTreeSet<CommitId>,
}

impl<'a> Deref for Replica<'a> {
    type Target = Reader<'a>;

    fn deref(&self) -> &Self::Target {
        &self.reader
    }
}

impl DerefMut for Replica<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.reader
    }
}

impl Replica<'_> {
    /// Writes all of this, or nothing, in one commit. It shows at once; [`Event::Durable`] tells
    /// when it is durable, and no peer hears of it before.
    ///
    /// [`Event::Durable`]: super::Event::Durable
    ///
    /// # Errors
    /// Nothing was written, and why.
    pub fn write<'k>(
        &mut self,
        ops: impl IntoIterator<Item = (&'k str, Op)>,
    ) -> Result<CommitId, Failed> {
        let mut keyed = Vec::new();
        for (name, op) in ops {
            let key = key_named(name)?;
            keyed.push(KeyOp { key, op, retype: false, expect: None });
        }
        let (key, op) = described(&keyed);
        let write = Write { space: self.reader.space, ops: keyed, ..Write::default() };
        match self.reader.store.write(self.reader.now, write) {
            Ok(written) => {
                let (receipt, id) = (self.reader.store.receipt(), written.tip.id);
                self.own.insert(id);
                self.deeds.push(Deed::Wrote { op, key, written, receipt });
                Ok(id)
            }
            Err(error) => {
                self.deeds.push(Deed::Refused { op, key, reason: error.to_string() });
                Err(error.into())
            }
        }
    }

    /// Returns the randomness of this moment. What the user does depends on the number of the
    /// step alone, so that it stays the same when other steps are left out.
    pub fn draws(&mut self) -> &mut Source {
        self.draws
    }

    /// Has the app woken after so many milliseconds, unless its replica stops or falls before.
    pub fn wake_in(&mut self, ms: u64) {
        self.deeds.push(Deed::Wake { after_ms: ms });
    }

    /// Puts a line into the story of the run.
    pub fn note(&mut self, text: impl Into<String>) {
        self.deeds.push(Deed::Said(text.into()));
    }
}

fn key_named(name: &str) -> Result<Key, Failed> {
    Key::new(name).map_err(|error| Broken::new(VALID, format!("{name:?}: {error}")).into())
}

fn other_type(key: &str, wanted: &str) -> Failed {
    Broken::new(VALID, format!("{key} is no {wanted}")).into()
}

/// Names the key and the op of a story's line; of several ops, all in the op.
fn described(ops: &[KeyOp]) -> (String, String) {
    match ops {
        [one] => (one.key.to_string(), spelled(&one.op)),
        some => {
            let all = some.iter().map(|one| format!("{}: {}", one.key, spelled(&one.op)));
            ("together".to_owned(), all.collect::<Vec<_>>().join("; "))
        }
    }
}

fn spelled(op: &Op) -> String {
    let several = |elements: &[Json]| {
        let elements: Vec<&str> = elements.iter().map(Json::as_str).collect();
        elements.join(" ")
    };
    match op {
        Op::Put(json) => format!("put {json}"),
        Op::PutBytes(bytes) => format!("put {} bytes", bytes.len()),
        Op::Delete => "delete".to_owned(),
        Op::CounterAdd(by) => format!("count {by:+}"),
        Op::SetAdd(elements) => format!("add {}", several(elements)),
        Op::SetRemove(elements) => format!("remove {}", several(elements)),
        Op::MapPut { field, value } => format!("put {field} = {value}"),
        Op::MapDelete { field } => format!("delete {field}"),
    }
}
