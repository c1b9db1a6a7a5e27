//! The live events of one key, counters apart.
//!
//! A short sorted vector for the common key with one event; two ordered indexes, by dot and by
//! slot, for large sets and maps. Both behave the same; which one it is, nobody can see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Stamp, Type, payload};
use crate::base::{Dot, LogId, ReplicaId};

/// An event that no known event supersedes; its payload is well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) stamp: Stamp,
    pub(super) ty: Type,
    pub(super) payload: Arc<[u8]>,
}

impl Event {
    /// Returns which of the key's parts it speaks of: the element, the field, or the whole.
    pub(super) fn slot(&self) -> &[u8] {
        match self.ty {
            Type::Set => &self.payload,
            Type::Map => self.field().map_or(&[], |(name, _)| name.as_bytes()),
            Type::Register | Type::Bytes | Type::Counter => &[],
        }
    }

    /// Returns field name and value of a map's event.
    pub(super) fn field(&self) -> Option<(&str, &[u8])> {
        payload::split_field(&self.payload)
    }
}

/// Live events, ordered by dot.
#[derive(Debug, Clone)]
pub(super) enum Live {
    Few(Vec<Event>),
    Many(Box<Many>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Many {
    by_dot: BTreeMap<Dot, Event>,
    by_slot: BTreeSet<(Type, Arc<[u8]>, Dot)>,
}

/// Above this many events the vector gives way to the indexes.
const FEW_MAX: usize = 24;

impl Live {
    pub(super) const fn new() -> Self {
        Self::Few(Vec::new())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(events) => events.len(),
            Self::Many(many) => many.by_dot.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Walks all events, ascending by dot.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Event> + Clone {
        let (few, many) = match self {
            Self::Few(events) => (Some(events.iter()), None),
            Self::Many(many) => (None, Some(many.by_dot.values())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    pub(super) fn get(&self, dot: &Dot) -> Option<&Event> {
        match self {
            Self::Few(events) => place(events, dot).ok().and_then(|at| events.get(at)),
            Self::Many(many) => many.by_dot.get(dot),
        }
    }

    /// Returns the type of all events, if it is the same.
    pub(super) fn only_type(&self) -> Option<Type> {
        let (first, last) = match self {
            Self::Few(events) => {
                let types = || events.iter().map(|event| event.ty);
                (types().min()?, types().max()?)
            }
            Self::Many(many) => (many.by_slot.first()?.0, many.by_slot.last()?.0),
        };
        (first == last).then_some(first)
    }

    /// Returns the events of one part of the key, ascending by dot.
    pub(super) fn in_slot(&self, ty: Type, slot: &[u8]) -> Vec<&Event> {
        match self {
            Self::Few(events) => {
                events.iter().filter(|event| event.ty == ty && event.slot() == slot).collect()
            }
            Self::Many(many) => {
                let slot: Arc<[u8]> = slot.into();
                let range = (ty, Arc::clone(&slot), DOT_MIN)..=(ty, slot, DOT_MAX);
                let dots = many.by_slot.range(range).map(|(_, _, dot)| dot);
                dots.filter_map(|dot| many.by_dot.get(dot)).collect()
            }
        }
    }

    /// Adds an event, unless one with its dot is there.
    pub(super) fn insert(&mut self, event: Event) {
        match self {
            Self::Few(events) => {
                let Err(at) = place(events, &event.stamp.dot) else { return };
                if events.is_empty() {
                    // Most keys have one live event for ever; do not reserve room for four.
                    events.reserve_exact(1);
                }
                events.insert(at, event);
                if events.len() > FEW_MAX {
                    sometimes!("crdt-many-live-events");
                    let mut many = Box::<Many>::default();
                    std::mem::take(events).into_iter().for_each(|event| many.insert(event));
                    *self = Self::Many(many);
                }
            }
            Self::Many(many) => many.insert(event),
        }
    }

    pub(super) fn remove(&mut self, dot: &Dot) {
        match self {
            Self::Few(events) => {
                if let Ok(at) = place(events, dot) {
                    events.remove(at);
                }
            }
            Self::Many(many) => many.remove(dot),
        }
    }

    /// Keeps the events that `keep` approves of. Cost: linear.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Event) -> bool) {
        match self {
            Self::Few(events) => events.retain(keep),
            Self::Many(many) => {
                let gone = many.by_dot.values().filter(|event| !keep(event));
                let gone: Vec<Dot> = gone.map(|event| event.stamp.dot).collect();
                gone.iter().for_each(|dot| many.remove(dot));
            }
        }
    }

    /// Estimates the memory in use, in bytes, the enum itself apart.
    pub(super) fn bytes(&self) -> usize {
        let payloads: usize = self.iter().map(|event| event.payload.len() + 16).sum();
        payloads
            + match self {
                Self::Few(events) => events.capacity() * size_of::<Event>(),
                // Nodes of the two trees are two thirds full on average.
                Self::Many(many) => many.by_dot.len() * (size_of::<(Dot, Event)>() + 88) * 3 / 2,
            }
    }
}

impl PartialEq for Live {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Many {
    fn key(event: &Event) -> (Type, Arc<[u8]>, Dot) {
        let slot = match event.ty {
            Type::Set => Arc::clone(&event.payload),
            _ => event.slot().into(),
        };
        (event.ty, slot, event.stamp.dot)
    }

    fn insert(&mut self, event: Event) {
        if !self.by_dot.contains_key(&event.stamp.dot) {
            self.by_slot.insert(Self::key(&event));
            self.by_dot.insert(event.stamp.dot, event);
        }
    }

    fn remove(&mut self, dot: &Dot) {
        if let Some(event) = self.by_dot.remove(dot) {
            self.by_slot.remove(&Self::key(&event));
        }
    }
}

fn place(events: &[Event], dot: &Dot) -> Result<usize, usize> {
    events.binary_search_by(|event| event.stamp.dot.cmp(dot))
}

const DOT_MIN: Dot =
    Dot { log: LogId { replica: ReplicaId([0; 32]), incarnation: 0 }, seq: 0, index: 0 };
const DOT_MAX: Dot = Dot {
    log: LogId { replica: ReplicaId([u8::MAX; 32]), incarnation: u64::MAX },
    seq: u64::MAX,
    index: u16::MAX,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CommitId, Hlc};
    use proptest::prelude::*;

    fn event(n: u8, ty: Type, name: u8) -> Event {
        let log = LogId { replica: ReplicaId([n % 3; 32]), incarnation: 0 };
        let dot = Dot { log, seq: u64::from(n), index: 0 };
        let payload = match ty {
            Type::Map => vec![1, b'a' + name, b'1'],
            _ => vec![b'0' + name],
        };
        let stamp = Stamp { hlc: Hlc(0), dot, commit: CommitId([n; 32]) };
        Event { stamp, ty, payload: payload.into() }
    }

    proptest! {
        /// The specification is a plain map from dots to events.
        #[test]
        fn few_and_many_are_the_same_map(
            steps in prop::collection::vec((0u8..60, 0usize..3, 0u8..4, 0u8..5), 0..120),
        ) {
            let types = [Type::Register, Type::Set, Type::Map];
            let (mut live, mut spec) = (Live::new(), BTreeMap::new());
            for (n, ty, name, what) in steps {
                let event = event(n, types[ty], name);
                let dot = event.stamp.dot;
                if what == 0 {
                    live.remove(&dot);
                    spec.remove(&dot);
                } else if what == 1 && n % 8 == 0 {
                    live.retain(|event| !event.stamp.dot.seq.is_multiple_of(4));
                    spec.retain(|dot: &Dot, _| !dot.seq.is_multiple_of(4));
                } else {
                    spec.entry(dot).or_insert_with(|| event.clone());
                    live.insert(event);
                }
                prop_assert_eq!(live.get(&dot), spec.get(&dot));
            }
            prop_assert!(live.iter().eq(spec.values()));
            prop_assert_eq!(live.len(), spec.len());
            let found: BTreeSet<_> = spec.values().map(|event| event.ty).collect();
            let only = found.first().copied().filter(|_| found.len() == 1);
            prop_assert_eq!(live.only_type(), only);
            for (ty, name) in types.into_iter().flat_map(|ty| (0..4).map(move |name| (ty, name))) {
                let probe = event(0, ty, name);
                let expected = spec.values().filter(|e| e.ty == ty && e.slot() == probe.slot());
                prop_assert!(live.in_slot(ty, probe.slot()).into_iter().eq(expected));
            }
        }
    }
}
