//! The specification: all events, each commit with the set of all commits that its author had
//! seen. An event is live if it adds something and no event that came after it supersedes it.
//! Plain and slow on purpose. `World` makes histories: replicas that write, at times cut off.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use crate::base::{CommitId, Dot, Hlc, LogId, ReplicaId, Rng, sha256};
use crate::causal::VersionVector;
use crate::crdt::{
    Action, Applied, Delta, Json, Op, Payload, Stamp, State, Supersedes, Type, Value,
};

pub(super) const REPLICAS: usize = 3;

pub(super) fn log(replica: usize) -> LogId {
    let n = u8::try_from(replica).unwrap();
    LogId { replica: ReplicaId([n + 1; 32]), incarnation: u64::from(n) }
}

pub(super) fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap()
}

/// A commit, and what the specification needs to know of it.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) log: LogId,
    pub(super) seq: u64,
    pub(super) hlc: Hlc,
    pub(super) id: CommitId,
    /// All commits that come before it, by number in the world.
    pub(super) past: BTreeSet<usize>,
    pub(super) events: Vec<Delta>,
}

impl Commit {
    pub(super) fn stamp(&self, index: usize) -> Stamp {
        let dot = Dot { log: self.log, seq: self.seq, index: u16::try_from(index).unwrap() };
        Stamp { hlc: self.hlc, dot, commit: self.id }
    }

    pub(super) fn stamped(&self) -> impl Iterator<Item = (Stamp, &Delta)> {
        self.events.iter().enumerate().map(|(index, delta)| (self.stamp(index), delta))
    }
}

/// A causally closed set of commits and the state that they were folded to one by one.
#[derive(Debug, Clone, Default)]
pub(super) struct Replica {
    pub(super) known: BTreeSet<usize>,
    pub(super) state: State,
}

#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) commits: Vec<Commit>,
    pub(super) replicas: [Replica; REPLICAS],
}

/// What one replica does to the key of interest.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// What a user asks for.
    Op(Op, bool),
    /// What another implementation may send: any action, any payload, superseding the events of
    /// its past that the bits pick, or a cut that lags behind by the numbers.
    Raw(Action, Vec<u8>, u64),
    RawCut(Action, Vec<u8>, [u64; REPLICAS]),
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Write(usize, Vec<Wish>),
    /// The second replica learns all that the first one knows.
    Pull(usize, usize),
}

impl World {
    pub(super) fn run(steps: &[Step]) -> Self {
        let mut world = Self::default();
        for step in steps {
            match step {
                Step::Write(replica, wishes) => world.write(*replica, wishes),
                Step::Pull(from, to) => world.pull(*from, *to),
            }
        }
        world
    }

    /// One commit with an event for each delta of each wish; ops that are refused make none.
    pub(super) fn write(&mut self, replica: usize, wishes: &[Wish]) {
        let Replica { known, mut state } = self.replicas[replica].clone();
        let seq = self.vector(&known).get(&log(replica)) + 1;
        let latest = known.iter().map(|n| self.commits[*n].hlc.0).max().unwrap_or(0);
        let id = CommitId(sha256("test", &[&[u8::try_from(replica).unwrap()], &seq.to_le_bytes()]));
        // Clocks that differ: the first replica's runs ahead, the others tie now and then.
        let hlc = Hlc(latest + if replica == 0 { 3 } else { 1 });
        let events = Vec::new();
        let mut commit = Commit { log: log(replica), seq, hlc, id, past: known.clone(), events };
        for wish in wishes {
            for delta in self.deltas(wish, &state, &commit) {
                commit.events.push(delta);
                let last = commit.events.len() - 1;
                let stamp = commit.stamp(last);
                if state.apply(&stamp, &commit.events[last]) == Applied::Refold {
                    let mut history = self.history(&known);
                    history.extend(commit.stamped());
                    state = fold(&history).finish();
                }
            }
        }
        self.commits.push(commit);
        let mut known = known;
        known.insert(self.commits.len() - 1);
        self.replicas[replica] = Replica { known, state };
    }

    fn deltas(&self, wish: &Wish, state: &State, commit: &Commit) -> Vec<Delta> {
        let raw = |action: &Action, payload: &[u8], supersedes| {
            vec![Delta { action: *action, supersedes, payload: payload.into() }]
        };
        match wish {
            Wish::Op(op, retype) => state.deltas(op, *retype).unwrap_or_default(),
            Wish::Raw(action, payload, bits) => {
                let mut past = self.history(&commit.past);
                past.extend(commit.stamped());
                let picked = past.iter().enumerate().filter(|(n, _)| bits >> (n % 64) & 1 == 1);
                let mut dots: Vec<_> = picked.map(|(_, (stamp, _))| stamp.dot).collect();
                dots.sort_unstable();
                raw(action, payload, Supersedes::Dots(dots))
            }
            Wish::RawCut(action, payload, lags) => {
                let mut seen = self.vector(&commit.past);
                seen.advance(commit.log, commit.seq);
                let lag = |n: usize| (log(n), seen.get(&log(n)).saturating_sub(lags[n]));
                let cut = (0..REPLICAS).map(lag).filter(|(_, seq)| *seq > 0);
                raw(action, payload, Supersedes::Cut(cut.collect()))
            }
        }
    }

    pub(super) fn pull(&mut self, from: usize, to: usize) {
        let missing: Vec<usize> =
            self.replicas[from].known.difference(&self.replicas[to].known).copied().collect();
        for commit in missing {
            let mut replica = std::mem::take(&mut self.replicas[to]);
            self.deliver(&mut replica, commit);
            self.replicas[to] = replica;
        }
    }

    /// Applies one commit whose past is known; folds the history anew when told to.
    pub(super) fn deliver(&self, replica: &mut Replica, commit: usize) {
        assert!(replica.known.is_superset(&self.commits[commit].past), "not causal");
        replica.known.insert(commit);
        for (stamp, delta) in self.commits[commit].stamped() {
            let before = replica.state.clone();
            if replica.state.apply(&stamp, delta) == Applied::Refold {
                assert_eq!(replica.state, before, "a state that asks for a fold is unchanged");
                replica.state = fold(&self.history(&replica.known)).finish();
                break;
            }
        }
    }

    /// All events of some commits, in the order of their stamps, which extends causality.
    pub(super) fn history(&self, known: &BTreeSet<usize>) -> Vec<(Stamp, &Delta)> {
        let mut all: Vec<_> = known.iter().flat_map(|n| self.commits[*n].stamped()).collect();
        all.sort_by_key(|(stamp, _)| *stamp);
        all
    }

    pub(super) fn vector(&self, known: &BTreeSet<usize>) -> VersionVector {
        known.iter().map(|n| (self.commits[*n].log, self.commits[*n].seq)).collect()
    }

    /// The past of a commit, itself included.
    pub(super) fn closure(&self, commit: usize) -> BTreeSet<usize> {
        let mut closed = self.commits[commit].past.clone();
        closed.insert(commit);
        closed
    }

    /// The live events, by definition.
    pub(super) fn live(&self, known: &BTreeSet<usize>) -> Vec<(Stamp, &Delta)> {
        let place = |n: usize| {
            let commit = &self.commits[n];
            (0..commit.events.len()).map(move |index| (n, index))
        };
        let all: Vec<(usize, usize)> = known.iter().flat_map(|n| place(*n)).collect();
        let superseded = |(n, index): (usize, usize)| {
            let dot = self.commits[n].stamp(index).dot;
            all.iter().any(|(m, after)| {
                let commit = &self.commits[*m];
                let follows = commit.past.contains(&n) || n == *m && index < *after;
                let own = commit.stamp(*after).dot;
                follows && commit.events[*after].supersedes.covers(&dot, &own)
            })
        };
        let adds = |(n, index): (usize, usize)| {
            let Delta { action, payload, .. } = &self.commits[n].events[index];
            action.adds() && Payload::read(*action, payload).is_some()
        };
        let live = all.iter().filter(|place| adds(**place) && !superseded(**place));
        live.map(|(n, at)| (self.commits[*n].stamp(*at), &self.commits[*n].events[*at])).collect()
    }

    /// Picks commits of `known` in a random order in which each comes after its past.
    pub(super) fn causal_order(&self, known: &BTreeSet<usize>, seed: u64) -> Vec<usize> {
        let mut rng = Rng::new(sha256("test", &[&seed.to_le_bytes()]));
        let (mut open, mut done, mut order) = (known.clone(), BTreeSet::new(), Vec::new());
        while !open.is_empty() {
            let ready = open.iter().filter(|n| self.commits[**n].past.is_subset(&done));
            let ready: Vec<usize> = ready.copied().collect();
            let next = ready[usize::try_from(rng.below(ready.len() as u64)).unwrap()];
            open.remove(&next);
            done.insert(next);
            order.push(next);
        }
        order
    }
}

/// Folds events into an exact state.
pub(super) fn fold(history: &[(Stamp, &Delta)]) -> State {
    let mut state = State::exact();
    for (stamp, delta) in history {
        assert_eq!(state.apply(stamp, delta), Applied::Done, "an exact state never asks");
    }
    state
}

/// What readers see, by definition: type, value, stamp, and the conflicts as (type, field, value,
/// stamp), the shown type first.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) ty: Type,
    pub(super) value: Value,
    pub(super) stamp: Stamp,
    pub(super) conflicts: Vec<(Type, Option<Arc<str>>, Value, Stamp)>,
}

pub(super) fn shown(live: &[(Stamp, &Delta)]) -> Option<Shown> {
    let mut by_type: BTreeMap<Type, Vec<(Stamp, Payload)>> = BTreeMap::new();
    for (stamp, delta) in live {
        let payload = Payload::read(delta.action, &delta.payload).unwrap();
        by_type.entry(delta.action.value_type().unwrap()).or_default().push((*stamp, payload));
    }
    for events in by_type.values_mut() {
        events.sort_by_key(|(stamp, _)| Reverse(*stamp));
    }
    let ty = *by_type.iter().max_by_key(|(_, events)| events[0].0)?.0;
    let own = by_type.remove(&ty).unwrap();
    let (value, mut conflicts) = part(ty, &own);
    for (ty, events) in &by_type {
        let (value, more) = part(*ty, events);
        conflicts.push((*ty, None, value, events[0].0));
        conflicts.extend(more.into_iter().filter(|(_, field, ..)| field.is_none()));
    }
    Some(Shown { ty, value, stamp: own[0].0, conflicts })
}

type Rest = Vec<(Type, Option<Arc<str>>, Value, Stamp)>;

fn part(ty: Type, events: &[(Stamp, Payload)]) -> (Value, Rest) {
    let plain = |payload: &Payload| match payload {
        Payload::Json(json) | Payload::Field(_, json) => Value::Json(json.clone()),
        Payload::Bytes(bytes) => Value::Bytes(bytes.clone()),
        _ => unreachable!(),
    };
    let mut rest = Vec::new();
    let value = match ty {
        Type::Register | Type::Bytes => {
            rest.extend(events[1..].iter().map(|(stamp, p)| (ty, None, plain(p), *stamp)));
            plain(&events[0].1)
        }
        Type::Counter => {
            let adds = events.iter().map(|(_, payload)| match payload {
                Payload::Add(by) => i128::from(*by),
                _ => unreachable!(),
            });
            let sum = adds.sum::<i128>();
            i64::try_from(sum).map_or(Value::Overflow(sum), Value::Counter)
        }
        Type::Set => {
            let elements = events.iter().map(|(_, payload)| match payload {
                Payload::Json(json) => json.clone(),
                _ => unreachable!(),
            });
            Value::Set(elements.collect::<BTreeSet<_>>().into_iter().collect())
        }
        Type::Map => {
            let mut fields = BTreeMap::new();
            for (stamp, payload) in events {
                let Payload::Field(name, json) = payload else { unreachable!() };
                if fields.contains_key(name) {
                    rest.push((ty, Some(name.clone()), plain(payload), *stamp));
                } else {
                    fields.insert(name.clone(), json.clone());
                }
            }
            rest.sort_by_key(|(_, field, _, stamp)| (field.clone(), Reverse(*stamp)));
            Value::Map(fields)
        }
    };
    (value, rest)
}

/// Asserts that a state is what the specification says of the same commits.
pub(super) fn check(world: &World, known: &BTreeSet<usize>, state: &State) {
    let live = world.live(known);
    let view = state.view();
    let seen = view.as_ref().map(|view| Shown {
        ty: view.ty,
        value: view.value.clone(),
        stamp: view.stamp,
        conflicts: view
            .conflicts
            .iter()
            .map(|c| (c.ty, c.field.clone(), c.value.clone(), c.stamp))
            .collect(),
    });
    assert_eq!(seen, shown(&live));
    assert_eq!(state.is_empty(), live.is_empty());
    let events: Vec<_> = state.events();
    assert_eq!(events.iter().map(|event| event.count).sum::<u64>(), live.len() as u64);
    let single = events.iter().filter(|event| event.ty != Type::Counter);
    let mut expected: Vec<Stamp> = live
        .iter()
        .filter(|(_, delta)| delta.action != Action::CounterAdd)
        .map(|(stamp, _)| *stamp)
        .collect();
    expected.sort_by_key(|stamp| Reverse(*stamp));
    assert!(single.map(|event| event.stamp).eq(expected));
    assert_eq!(state, &fold(&world.history(known)).finish());
}

/// Ops of one type, or of all. Few elements, fields and values: collisions are what we are after.
fn ops_of(ty: Option<Type>) -> BoxedStrategy<Op> {
    let value = || (0..3u8).prop_map(|n| json(&n.to_string()));
    let field = || (0..2u8).prop_map(|n| Arc::<str>::from(["f", "g"][usize::from(n)]));
    let by = prop_oneof![8 => -5i64..5, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    match ty {
        Some(Type::Register) => value().prop_map(Op::Put).boxed(),
        Some(Type::Bytes) => {
            prop::collection::vec(0..3u8, 0..2).prop_map(|b| Op::PutBytes(b.into())).boxed()
        }
        Some(Type::Counter) => by.prop_map(Op::CounterAdd).boxed(),
        Some(Type::Set) => prop_oneof![
            3 => prop::collection::vec(value(), 1..3).prop_map(Op::SetAdd),
            1 => prop::collection::vec(value(), 1..3).prop_map(Op::SetRemove),
        ]
        .boxed(),
        Some(Type::Map) => prop_oneof![
            3 => (field(), value()).prop_map(|(field, value)| Op::MapPut { field, value }),
            1 => field().prop_map(|field| Op::MapDelete { field }),
        ]
        .boxed(),
        None => prop_oneof![
            1 => Just(Op::Delete),
            3 => ops_of(Some(Type::Register)),
            1 => ops_of(Some(Type::Bytes)),
            3 => ops_of(Some(Type::Counter)),
            3 => ops_of(Some(Type::Set)),
            3 => ops_of(Some(Type::Map)),
        ]
        .boxed(),
    }
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    ops_of(None)
}

fn wish(ty: Option<Type>) -> impl Strategy<Value = Wish> {
    let action = prop::sample::select(vec![
        (Action::Delete, &b""[..]),
        (Action::RegisterPut, b"1"),
        (Action::RegisterPut, b" 1"),
        (Action::BytesPut, b"\xff"),
        (Action::CounterAdd, b"\x02\0\0\0\0\0\0\0"),
        (Action::CounterAdd, b"\x02"),
        (Action::SetAdd, b"1"),
        (Action::SetAdd, b"{"),
        (Action::SetRemove, b"1"),
        (Action::MapPut, b"\x01f1"),
        (Action::MapPut, b"\x09f1"),
        (Action::MapDelete, b"f"),
    ]);
    let raw = (action.clone(), any::<u64>(), any::<u64>());
    let asked = match ty {
        // A history of one type, with a delete now and then.
        Some(_) => prop_oneof![12 => ops_of(ty), 1 => Just(Op::Delete)].boxed(),
        None => ops_of(None),
    };
    let often = if ty.is_some() { 24 } else { 8 };
    let retype = prop::bool::weighted(if ty.is_some() { 0.1 } else { 0.5 });
    prop_oneof![
        often => (asked, retype).prop_map(|(op, retype)| Wish::Op(op, retype)),
        1 => raw.prop_map(|((action, payload), a, b)| Wish::Raw(action, payload.to_vec(), a & b)),
        1 => (action, prop::array::uniform3(0u64..3))
            .prop_map(|((action, payload), lags)| Wish::RawCut(action, payload.to_vec(), lags)),
    ]
}

/// Histories of all types mixed, and of each type mostly alone, so that little is refused and
/// conflicts and folds grow.
pub(super) fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let themes = [
        None,
        None,
        Some(Type::Register),
        Some(Type::Counter),
        Some(Type::Counter),
        Some(Type::Set),
        Some(Type::Map),
    ];
    prop::sample::select(themes.to_vec()).prop_flat_map(move |ty| {
        let step = prop_oneof![
            3 => (0..REPLICAS, prop::collection::vec(wish(ty), 1..4))
                .prop_map(|(replica, wishes)| Step::Write(replica, wishes)),
            2 => (0..REPLICAS, 0..REPLICAS).prop_map(|(from, to)| Step::Pull(from, to)),
        ];
        prop::collection::vec(step, 0..max)
    })
}
