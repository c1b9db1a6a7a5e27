//! What readers see of a state.
//!
//! The type of the live event with the greatest stamp is shown. Nothing that is live vanishes:
//! what is not shown is a conflict, until somebody who saw it supersedes it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::live::Event;
use super::{Json, Stamp, State, Type};
use crate::base::{EventId, Hash, Key, Sha256Stream, Writer};

/// What readers see of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The type that is shown.
    pub ty: Type,
    /// The value that is shown.
    pub value: Value,
    /// The live event of the shown type with the greatest stamp.
    pub version: EventId,
    /// The stamp of that event: its time and its author.
    pub stamp: Stamp,
    /// A digest of all live events; it changes with every event of the key that counts.
    pub context: Hash,
    /// Concurrent values that are not shown, the shown type first, greatest stamp first.
    pub conflicts: Vec<Conflict>,
    /// Whether events of several types are live.
    pub type_conflict: bool,
}

/// A value as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The value of a register, an element of a set, or the value of a field.
    Json(Json),
    /// Raw bytes.
    Bytes(Arc<[u8]>),
    /// The sum of a counter.
    Counter(i64),
    /// The exact sum of a counter that concurrent adds drove out of the range of an `i64`.
    Overflow(i128),
    /// The distinct elements of a set, ascending by canonical bytes.
    Set(Vec<Json>),
    /// The fields of a map.
    Map(BTreeMap<Arc<str>, Json>),
}

/// A live value that is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The type of the value; not the shown one in a type conflict.
    pub ty: Type,
    /// The value. A set, map or counter of another type is one conflict as a whole.
    pub value: Value,
    /// The event behind it; of several, the one with the greatest stamp.
    pub stamp: Stamp,
    /// The field that has several values, if the shown type is a map.
    pub field: Option<Arc<str>>,
}

/// What the live events of one type give.
struct Part {
    value: Value,
    stamp: Stamp,
    conflicts: Vec<Conflict>,
}

impl State {
    /// Returns what readers see; none if nothing is live.
    ///
    /// Cost: linear in the live events, and a hash over their ids; worth keeping for hot keys.
    pub fn view(&self) -> Option<View> {
        let shown = self.shown()?;
        let Part { value, stamp, mut conflicts } = self.part(shown)?;
        let others = TYPES.into_iter().filter(|ty| *ty != shown);
        let mixed = !self.tallies.is_empty() || self.live.only_type().is_none();
        let hidden: Vec<_> = others
            .filter(|_| mixed)
            .filter_map(|ty| self.part(ty).map(|part| (ty, part)))
            .collect();
        let type_conflict = !hidden.is_empty();
        sometimes!("crdt-types-conflict", type_conflict);
        for (ty, Part { value, stamp, conflicts: more }) in hidden {
            conflicts.push(Conflict { ty, value, stamp, field: None });
            // The values of a hidden map's fields are part of that map.
            conflicts.extend(more.into_iter().filter(|conflict| conflict.field.is_none()));
        }
        let (version, context) = (stamp.event_id(), self.context());
        Some(View { ty: shown, value, version, stamp, context, conflicts, type_conflict })
    }

    /// Returns a digest of all live events. Cost: a hash over their ids.
    ///
    /// A folded counter is named by the count, sum, least place and last add of each replica: how
    /// the logs of a replica are kept apart here, branches above all, makes no difference.
    pub fn context(&self) -> Hash {
        let mut ids: Vec<_> = self.live.iter().map(|event| event.stamp.event_id()).collect();
        ids.sort_unstable();
        let mut out = Hasher(Sha256Stream::new("kdelta/context"));
        out.put_len(ids.len());
        for id in ids {
            out.put_event(&id);
        }
        for of_replica in self.tallies.chunk_by(|a, b| a.log.replica == b.log.replica) {
            let sum: i128 = of_replica.iter().map(|tally| tally.sum).sum();
            let least = of_replica.iter().map(|tally| tally.first).min().unwrap_or_default();
            let last = of_replica.iter().max_by_key(|tally| tally.stamp());
            let Some(last) = last else { continue };
            out.put(last.log.replica.as_bytes());
            out.put_u64(of_replica.iter().map(|tally| tally.count).sum());
            out.put(&sum.to_le_bytes());
            out.put_u64(least.0);
            out.put(&least.1.to_le_bytes());
            out.put_event(&last.stamp().event_id());
        }
        out.0.finish()
    }

    fn part(&self, ty: Type) -> Option<Part> {
        match ty {
            Type::Counter => self.counter(),
            Type::Set => self.set(),
            Type::Map => self.map(),
            Type::Register | Type::Bytes => self.register(ty),
        }
    }

    fn register(&self, ty: Type) -> Option<Part> {
        let mut events: Vec<_> = self.live_of(ty).collect();
        events.sort_unstable_by_key(|event| Reverse(event.stamp));
        let (first, rest) = events.split_first()?;
        let conflicts = rest.iter().map(|event| conflict(event, None)).collect();
        Some(Part { value: Value::of(first), stamp: first.stamp, conflicts })
    }

    fn counter(&self) -> Option<Part> {
        let stamp = self.tallies.iter().map(|tally| tally.stamp()).max()?;
        Some(Part { value: Value::sum(self.sum()), stamp, conflicts: Vec::new() })
    }

    /// Returns the exact sum of a counter's live adds.
    pub(super) fn sum(&self) -> i128 {
        self.tallies.iter().fold(0, |sum: i128, tally| sum.saturating_add(tally.sum))
    }

    fn set(&self) -> Option<Part> {
        let stamp = self.live_of(Type::Set).map(|event| event.stamp).max()?;
        let elements = self.live_of(Type::Set).map(|event| &event.payload);
        let mut elements: Vec<_> = elements.collect();
        elements.sort_unstable();
        elements.dedup();
        let elements = elements.into_iter().map(|bytes| Json::checked(Arc::clone(bytes)));
        Some(Part { value: Value::Set(elements.collect()), stamp, conflicts: Vec::new() })
    }

    fn map(&self) -> Option<Part> {
        let stamp = self.live_of(Type::Map).map(|event| event.stamp).max()?;
        let mut events: Vec<_> = self.live_of(Type::Map).collect();
        events.sort_unstable_by_key(|event| (event.slot(), Reverse(event.stamp)));
        let (mut fields, mut conflicts) = (BTreeMap::new(), Vec::new());
        let mut last: Option<(Arc<str>, &[u8])> = None;
        for event in events {
            let (name, value) = event.field()?;
            match &last {
                Some((field, slot)) if *slot == event.slot() => {
                    conflicts.push(conflict(event, Some(Arc::clone(field))));
                }
                _ => {
                    let field: Arc<str> = name.into();
                    fields.insert(Arc::clone(&field), Json::checked(value.into()));
                    last = Some((field, event.slot()));
                }
            }
        }
        Some(Part { value: Value::Map(fields), stamp, conflicts })
    }

    fn live_of(&self, ty: Type) -> impl Iterator<Item = &Event> {
        self.live.iter().filter(move |event| event.ty == ty)
    }
}

impl View {
    /// Estimates the memory in use, in bytes; payloads are counted though states may share them.
    pub fn bytes(&self) -> usize {
        let conflicts = self.conflicts.iter().map(|c| size_of::<Conflict>() + c.value.bytes());
        size_of::<Self>() + self.value.bytes() + conflicts.sum::<usize>()
    }

    /// Returns the digest that stands for `key` in a space's value hash.
    ///
    /// It covers key, type, live events and value, so two replicas have equal digests exactly if
    /// they show the same.
    pub fn value_entry(&self, key: &Key) -> Hash {
        let mut out = Hasher(Sha256Stream::new("kdelta/value-entry"));
        out.put_bytes(key.as_bytes());
        out.put_u8(self.ty.to_byte());
        out.put(&self.context);
        self.value.encode(&mut out);
        out.0.finish()
    }
}

impl Value {
    /// Returns what a single live event says.
    pub(super) fn of(event: &Event) -> Self {
        match event.ty {
            Type::Bytes => Self::Bytes(Arc::clone(&event.payload)),
            Type::Map => {
                let value = event.field().map_or(&[][..], |(_, value)| value);
                Self::Json(Json::checked(value.into()))
            }
            Type::Register | Type::Set | Type::Counter => {
                Self::Json(Json::checked(Arc::clone(&event.payload)))
            }
        }
    }

    /// Estimates the memory in use, in bytes, the enum itself apart.
    fn bytes(&self) -> usize {
        const POINTER_BYTES: usize = 32;
        let json = |json: &Json| json.as_bytes().len() + POINTER_BYTES;
        match self {
            Self::Json(value) => json(value),
            Self::Bytes(bytes) => bytes.len() + POINTER_BYTES,
            Self::Counter(_) | Self::Overflow(_) => 0,
            Self::Set(elements) => elements.iter().map(json).sum(),
            Self::Map(fields) => fields
                .iter()
                .map(|(name, value)| name.len() + 2 * POINTER_BYTES + json(value))
                .sum(),
        }
    }

    /// Returns the value of a counter.
    pub(super) fn sum(sum: i128) -> Self {
        i64::try_from(sum).map_or(Self::Overflow(sum), Self::Counter)
    }

    /// Writes bytes that differ for different values of one type.
    fn encode(&self, out: &mut impl Writer) {
        match self {
            Self::Json(json) => out.put_bytes(json.as_bytes()),
            Self::Bytes(bytes) => out.put_bytes(bytes),
            Self::Counter(sum) => out.put(&i128::from(*sum).to_le_bytes()),
            Self::Overflow(sum) => out.put(&sum.to_le_bytes()),
            Self::Set(elements) => {
                out.put_len(elements.len());
                elements.iter().for_each(|element| out.put_bytes(element.as_bytes()));
            }
            Self::Map(fields) => {
                out.put_len(fields.len());
                for (name, value) in fields {
                    out.put_bytes(name.as_bytes());
                    out.put_bytes(value.as_bytes());
                }
            }
        }
    }
}

fn conflict(event: &Event, field: Option<Arc<str>>) -> Conflict {
    Conflict { ty: event.ty, value: Value::of(event), stamp: event.stamp, field }
}

/// Hashes what is written to it.
struct Hasher(Sha256Stream);

impl Writer for Hasher {
    fn put(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

impl Hasher {
    fn put_event(&mut self, id: &EventId) {
        self.put(id.commit.as_bytes());
        self.put(&id.index.to_le_bytes());
    }
}

const TYPES: [Type; 5] = [Type::Register, Type::Bytes, Type::Counter, Type::Set, Type::Map];
