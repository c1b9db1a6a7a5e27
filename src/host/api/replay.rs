//! What a history does when it is written again, line after line, by one author.
//!
//! An import is linear: each op supersedes all that came before. Where commits were concurrent,
//! that is not what they did: a linear delete takes away what the real one had not seen, and an op
//! of another type is refused. The keys that concurrent commits touched are therefore replayed
//! here beside the real ones, with the engine's own states. What would be refused is left out,
//! what must replace another type says so, and what comes out differently is settled at the end.
//! Costs memory for those keys only; a space with one log has none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::backend::Backend;
use super::export::{OpShape, commits_of, delete_of, op_of};
use super::problem::Problem;
use crate::engine::base::{CommitId, Dot, EventId, Hlc, Key, LogId, SpaceId, sha256};
use crate::engine::causal::VersionVector;
use crate::engine::crdt::{Action, Applied, Delta, Op, Payload, Stamp, State, Type};
use crate::engine::store::{Arrived, Point};

/// Most keys whose type is remembered; of others every op says that it may replace another type.
const TYPES_MAX: usize = 1 << 20;

/// A history that is written again.
pub(super) struct Replay {
    space: SpaceId,
    /// The whole history.
    version: VersionVector,
    /// What was written again so far.
    seen: VersionVector,
    /// The commit at hand was written by somebody who had seen all before it.
    sequential: bool,
    /// The keys that concurrent commits touched, as they come out.
    apart: BTreeMap<Key, State>,
    /// The types of the other keys, by a part of the key's hash.
    types: BTreeMap<u64, Type>,
    /// How many events were replayed.
    count: u64,
}

impl Replay {
    /// Starts before the first commit of a history.
    pub(super) fn new(space: SpaceId, version: VersionVector) -> Self {
        Self {
            space,
            version,
            seen: VersionVector::new(),
            sequential: true,
            apart: BTreeMap::new(),
            types: BTreeMap::new(),
            count: 0,
        }
    }

    /// Takes up the next commit.
    pub(super) fn begin(&mut self, backend: &Backend, arrived: &Arrived) -> Result<(), Problem> {
        if self.version.len() <= 1 {
            return Ok(());
        }
        let point = Point::Event(EventId { commit: arrived.tip.id, index: 0 });
        let past = backend.read(|store| store.resolve(&self.space, &point))?;
        self.sequential = past.covers(&self.seen);
        Ok(())
    }

    /// Ends the commit.
    pub(super) fn end(&mut self, arrived: &Arrived) {
        self.seen.advance(arrived.tip.log, arrived.tip.seq);
    }

    /// Returns the op that stands for an event, if one can.
    pub(super) fn op(
        &mut self,
        backend: &Backend,
        key: &Key,
        delta: &Delta,
    ) -> Result<Option<OpShape>, Problem> {
        let Some(mut op) = op_of(key, delta.action, &delta.payload) else { return Ok(None) };
        if !self.sequential && !self.apart.contains_key(key) {
            let before = backend
                .read(|store| store.state_known(&self.space, key, &self.seen, &self.version))?;
            self.apart.insert(key.clone(), before);
        }
        if let Some(state) = self.apart.get_mut(key) {
            let Some(request) = request(delta.action, &delta.payload) else { return Ok(None) };
            let wanted = delta.action.value_type();
            op.retype = state.shown().is_some_and(|is| wanted.is_some_and(|wanted| is != wanted));
            let Ok(deltas) = state.deltas(&request, op.retype) else { return Ok(None) };
            for delta in &deltas {
                self.count += 1;
                if state.apply(&stamp(self.count), delta) == Applied::Refold {
                    // Settled at the end.
                    *state = State::new();
                }
            }
            return Ok(Some(op));
        }
        op.retype = self.retypes(key, delta.action);
        Ok(Some(op))
    }

    /// Tells whether an op replaces another type, and remembers its own.
    fn retypes(&mut self, key: &Key, action: Action) -> bool {
        let hash = sha256("", &[key.as_bytes()]);
        let hash = hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let Some(ty) = action.value_type() else {
            self.types.remove(&hash);
            return false;
        };
        let room = self.types.len() < TYPES_MAX;
        match self.types.entry(hash) {
            Entry::Occupied(mut is) => is.insert(ty) != ty,
            Entry::Vacant(none) if room => {
                none.insert(ty);
                false
            }
            Entry::Vacant(_) => true,
        }
    }

    /// Returns the commits that make what came out differently as it really is.
    pub(super) fn settle(&self, backend: &Backend) -> Result<Vec<Vec<OpShape>>, Problem> {
        let mut commits = Vec::new();
        for (key, state) in &self.apart {
            let real = backend.read(|store| store.get(&self.space, key, Some(&self.version)))?;
            let replayed = state.view();
            let shown = |view: &Option<_>| {
                view.as_ref().map(|view: &crate::engine::crdt::View| (view.ty, view.value.clone()))
            };
            if shown(&real) == shown(&replayed) {
                continue;
            }
            let mut ops: Vec<OpShape> = replayed.iter().map(|_| delete_of(key)).collect();
            let mut again = match &real {
                Some(view) => commits_of(key, view)?.into_iter(),
                None => Vec::new().into_iter(),
            };
            ops.extend(again.next().unwrap_or_default());
            commits.push(ops);
            commits.extend(again);
        }
        Ok(commits)
    }
}

/// Returns what an author asked for when an event came about.
fn request(action: Action, payload: &Arc<[u8]>) -> Option<Op> {
    Some(match (action, Payload::read(action, payload)?) {
        (Action::SetAdd, Payload::Json(element)) => Op::SetAdd(vec![element]),
        (Action::SetRemove, Payload::Json(element)) => Op::SetRemove(vec![element]),
        (_, Payload::Json(value)) => Op::Put(value),
        (_, Payload::Nothing) => Op::Delete,
        (_, Payload::Bytes(bytes)) => Op::PutBytes(bytes),
        (_, Payload::Add(by)) => Op::CounterAdd(by),
        (_, Payload::Field(field, value)) => Op::MapPut { field, value },
        (_, Payload::FieldName(field)) => Op::MapDelete { field },
    })
}

/// Returns a stamp of the author who writes it all again, later than all real ones.
fn stamp(count: u64) -> Stamp {
    let hlc = Hlc((1 << 63) + count);
    Stamp { hlc, dot: Dot { log: LogId::default(), seq: count, index: 0 }, commit: CommitId::ZERO }
}
