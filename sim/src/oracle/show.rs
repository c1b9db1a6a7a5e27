//! What readers see of the live events of a key: CRDT sections 2, 3, 4 and 8.

use std::collections::{BTreeMap, BTreeSet};

use kdelta_engine::base::{EventId, Hash, ReplicaId, hex, sha256};

use super::bytes::{put_bytes, put_len};
use super::commit::Action;
use super::fold::Written;
use super::meta;

/// What decides between concurrent events: the greater one is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The commit's time.
    pub hlc: u64,
    /// The author.
    pub replica: ReplicaId,
    /// The event.
    pub id: EventId,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ty {
    /// JSON.
    Register,
    /// Raw bytes.
    Bytes,
    /// A sum.
    Counter,
    /// Elements.
    Set,
    /// Fields.
    Map,
}

impl Ty {
    const ALL: [Self; 5] = [Self::Register, Self::Bytes, Self::Counter, Self::Set, Self::Map];

    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Register => 1,
            Self::Bytes => 2,
            Self::Counter => 3,
            Self::Set => 4,
            Self::Map => 5,
        }
    }

    fn of(action: Action) -> Option<Self> {
        match action {
            Action::Put => Some(Self::Register),
            Action::PutBytes => Some(Self::Bytes),
            Action::CounterAdd => Some(Self::Counter),
            Action::SetAdd | Action::SetRemove => Some(Self::Set),
            Action::MapPut | Action::MapDelete => Some(Self::Map),
            Action::Delete => None,
        }
    }
}

/// A value as readers see it; JSON and bytes as they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Of a register, of bytes, or of a field.
    One(Vec<u8>),
    /// Of a counter.
    Sum(i128),
    /// Of a set, ascending.
    Set(BTreeSet<Vec<u8>>),
    /// Of a map.
    Map(BTreeMap<String, Vec<u8>>),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => hex(bytes),
        };
        match self {
            Self::One(bytes) => f.write_str(&text(bytes)),
            Self::Sum(sum) => write!(f, "{sum}"),
            Self::Set(all) => f.debug_set().entries(all.iter().map(|bytes| text(bytes))).finish(),
            Self::Map(all) => {
                f.debug_map().entries(all.iter().map(|(name, value)| (name, text(value)))).finish()
            }
        }
    }
}

impl Value {
    /// The bytes that stand for it in the digest of an entry.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::One(bytes) => put_bytes(out, bytes),
            Self::Sum(sum) => out.extend_from_slice(&sum.to_le_bytes()),
            Self::Set(all) => {
                put_len(out, all.len());
                all.iter().for_each(|element| put_bytes(out, element));
            }
            Self::Map(all) => {
                put_len(out, all.len());
                for (name, value) in all {
                    put_bytes(out, name.as_bytes());
                    put_bytes(out, value);
                }
            }
        }
    }
}

/// A live value that is not shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The event behind it; of several, the one with the greatest stamp.
    pub event: EventId,
    /// Its type.
    pub ty: Ty,
    /// The value.
    pub value: Value,
    /// The field of a shown map that has several values.
    pub field: Option<String>,
}

/// What readers see of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The type.
    pub ty: Ty,
    /// The value.
    pub value: Value,
    /// The live event of that type with the greatest stamp.
    pub version: EventId,
    /// The digest of all live events.
    pub context: Hash,
    /// What is live and not shown, in no particular order.
    pub conflicts: BTreeSet<Conflict>,
    /// Whether events of several types are live.
    pub type_conflict: bool,
}

impl Shown {
    /// Returns what live events show; none if there are none.
    pub(super) fn of(mut live: Vec<&Written>) -> Option<Self> {
        live.sort_by_key(|event| std::cmp::Reverse(event.stamp));
        let ty = Ty::of(live.first()?.action)?;
        let (value, mut conflicts) = part(&live, ty)?;
        let hidden: Vec<Ty> = Ty::ALL.into_iter().filter(|hidden| *hidden != ty).collect();
        let mut type_conflict = false;
        for hidden in hidden {
            let Some((value, more)) = part(&live, hidden) else { continue };
            type_conflict = true;
            let newest = live.iter().find(|event| Ty::of(event.action) == Some(hidden))?;
            let event = newest.stamp.id;
            conflicts.insert(Conflict { event, ty: hidden, value, field: None });
            conflicts.extend(more.into_iter().filter(|conflict| conflict.field.is_none()));
        }
        let (version, context) = (live.first()?.stamp.id, context(&live));
        Some(Self { ty, value, version, context, conflicts, type_conflict })
    }
}

/// What the live events of one type show, and what they hide. Events come greatest stamp first.
fn part(live: &[&Written], ty: Ty) -> Option<(Value, BTreeSet<Conflict>)> {
    let of_it: Vec<&&Written> = live.iter().filter(|e| Ty::of(e.action) == Some(ty)).collect();
    let first = of_it.first()?;
    let mut conflicts = BTreeSet::new();
    let value = match ty {
        Ty::Register | Ty::Bytes => {
            let one = |event: &Written| Value::One(event.payload.to_vec());
            conflicts.extend(of_it.iter().skip(1).map(|event| Conflict {
                event: event.stamp.id,
                ty,
                value: one(event),
                field: None,
            }));
            one(first)
        }
        Ty::Counter => Value::Sum(of_it.iter().map(|event| added(event)).sum()),
        Ty::Set => Value::Set(of_it.iter().map(|event| event.payload.to_vec()).collect()),
        Ty::Map => {
            let mut fields = BTreeMap::new();
            for event in of_it {
                let (name, value) = meta::field(&event.payload)?;
                if fields.contains_key(name) {
                    let value = Value::One(value.to_vec());
                    let (event, field) = (event.stamp.id, Some(name.to_owned()));
                    conflicts.insert(Conflict { event, ty, value, field });
                } else {
                    fields.insert(name.to_owned(), value.to_vec());
                }
            }
            Value::Map(fields)
        }
    };
    Some((value, conflicts))
}

fn added(event: &Written) -> i128 {
    <[u8; 8]>::try_from(&*event.payload).map_or(0, |by| i64::from_le_bytes(by).into())
}

/// The digest of live events: their names, and for a counter what each replica added.
fn context(live: &[&Written]) -> Hash {
    let mut out = Vec::new();
    let put_id = |out: &mut Vec<u8>, id: EventId| {
        out.extend_from_slice(&id.commit.0);
        out.extend_from_slice(&id.index.to_le_bytes());
    };
    let (adds, others): (Vec<_>, Vec<_>) =
        live.iter().copied().partition(|event: &&Written| event.action == Action::CounterAdd);
    let ids: BTreeSet<EventId> = others.iter().map(|event: &&Written| event.stamp.id).collect();
    put_len(&mut out, ids.len());
    ids.into_iter().for_each(|id| put_id(&mut out, id));
    let replicas: BTreeSet<ReplicaId> = adds.iter().map(|add| add.stamp.replica).collect();
    for replica in replicas {
        let own: Vec<&&Written> = adds.iter().filter(|add| add.stamp.replica == replica).collect();
        let least = own.iter().map(|add| (add.dot.seq, add.dot.index)).min().unwrap_or_default();
        let sum: i128 = own.iter().map(|add| added(add)).sum();
        out.extend_from_slice(&replica.0);
        out.extend_from_slice(&(own.len() as u64).to_le_bytes());
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&least.0.to_le_bytes());
        out.extend_from_slice(&least.1.to_le_bytes());
        if let Some(last) = own.iter().map(|add| add.stamp).max() {
            put_id(&mut out, last.id);
        }
    }
    sha256("kdelta/context", &[&out])
}
