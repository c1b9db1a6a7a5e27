//! Facts about what ops make of a state, and what readers see.

use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::spec::{Wish, World, fold, json, log, steps};
use crate::base::{CommitId, Dot, Hlc, LogId, Reader, ReplicaId};
use crate::crdt::{Action, Applied, Delta, Op, OpError, Stamp, State, Supersedes, Type, Value};
use crate::limits::{FIELD_BYTES_MAX, PREDS_MAX, VALUE_BYTES_MAX};

fn stamp(log: LogId, seq: u64) -> Stamp {
    let dot = Dot { log, seq, index: 0 };
    Stamp { hlc: Hlc(seq << 16), dot, commit: CommitId([u8::try_from(seq % 251).unwrap(); 32]) }
}

fn numbered(n: u32) -> LogId {
    let mut replica = [0; 32];
    replica[..4].copy_from_slice(&n.to_be_bytes());
    LogId { replica: ReplicaId(replica), incarnation: 0 }
}

/// Writes each op as a commit of its own.
fn wrote(ops: &[Op]) -> State {
    let mut state = State::new();
    for (op, seq) in ops.iter().zip(1..) {
        write(&mut state, op, seq);
    }
    state
}

fn write(state: &mut State, op: &Op, seq: u64) {
    for (delta, index) in state.deltas(op, false).unwrap().iter().zip(0..) {
        let mut stamp = stamp(log(0), seq);
        stamp.dot.index = index;
        assert_eq!(state.apply(&stamp, delta), Applied::Done);
    }
}

fn put(text: &str) -> Op {
    Op::Put(json(text))
}

fn dots(delta: &Delta) -> &[Dot] {
    match &delta.supersedes {
        Supersedes::Dots(dots) => dots,
        Supersedes::Cut(_) => panic!("a cut"),
    }
}

/// Without these the laws would be true of little.
#[test]
fn the_histories_of_the_laws_reach_what_they_are_for() {
    let marks: [Cell<u32>; 6] = Default::default();
    TestRunner::deterministic()
        .run(&steps(20), |steps| {
            let world = World::run(&steps);
            for replica in &world.replicas {
                let history = world.history(&replica.known);
                let mut folded = State::new();
                let asks = |(stamp, delta): &(Stamp, &Delta)| {
                    folded.apply(stamp, delta) == Applied::Refold
                };
                let mark = |n: usize, hit: bool| marks[n].set(marks[n].get() + u32::from(hit));
                mark(0, history.iter().any(asks));
                let Some(view) = replica.state.view() else { continue };
                mark(1, view.type_conflict);
                mark(2, view.conflicts.iter().any(|conflict| conflict.field.is_some()));
                mark(3, matches!(view.value, Value::Overflow(_)));
                mark(4, view.ty == Type::Register && !view.conflicts.is_empty());
                mark(5, matches!(&view.value, Value::Set(elements) if elements.len() > 1));
            }
            Ok(())
        })
        .unwrap();
    assert!(marks.iter().all(|mark| mark.get() > 5), "{marks:?}");
}

proptest! {
    #[test]
    fn an_op_does_what_its_author_asked_for(
        steps in steps(12), op in super::spec::op(), retype: bool,
    ) {
        let mut world = World::run(&steps);
        let before = world.replicas[0].state.view();
        let asked = world.replicas[0].state.deltas(&op, retype);
        world.write(0, &[Wish::Op(op.clone(), retype)]);
        let after = world.replicas[0].state.view();
        if asked.is_err() {
            prop_assert_eq!(before, after);
            return Ok(());
        }
        let after_value = after.as_ref().map(|view| view.value.clone());
        match op {
            Op::Put(json) => prop_assert_eq!(after_value, Some(Value::Json(json))),
            Op::PutBytes(bytes) => prop_assert_eq!(after_value, Some(Value::Bytes(bytes))),
            Op::Delete => prop_assert_eq!(after_value, None),
            Op::CounterAdd(by) => {
                let old = match before.map(|view| view.value) {
                    Some(Value::Counter(old)) => i128::from(old),
                    Some(Value::Overflow(old)) => old,
                    _ => 0,
                };
                let sum = old + i128::from(by);
                let expected = i64::try_from(sum).map_or(Value::Overflow(sum), Value::Counter);
                prop_assert_eq!(after_value, Some(expected));
            }
            Op::SetAdd(elements) => {
                let Some(Value::Set(all)) = after_value else { panic!("{after_value:?}") };
                prop_assert!(elements.iter().all(|element| all.contains(element)));
            }
            Op::SetRemove(elements) => {
                if let Some(Value::Set(all)) = after_value {
                    prop_assert!(!elements.iter().any(|element| all.contains(element)));
                }
            }
            Op::MapPut { field, value } => {
                let Some(Value::Map(all)) = after_value else { panic!("{after_value:?}") };
                prop_assert_eq!(all.get(&field), Some(&value));
                let conflicts = after.as_ref().map(|view| view.conflicts.clone()).unwrap();
                prop_assert!(!conflicts.iter().any(|c| c.field.as_ref() == Some(&field)));
            }
            Op::MapDelete { field } => {
                if let Some(Value::Map(all)) = after_value {
                    prop_assert!(!all.contains_key(&field));
                }
            }
        }
        prop_assert!(!retype || after.is_none_or(|view| !view.type_conflict));
    }
}

#[test]
fn an_op_of_another_type_is_refused_until_told_to_retype() {
    let state = wrote(&[Op::CounterAdd(5)]);
    let error = state.deltas(&put("1"), false).unwrap_err();
    assert_eq!(error, OpError::TypeMismatch { is: Type::Counter, wanted: Type::Register });
    assert_eq!(error.to_string(), "the key is a counter, not a register");
    let deltas = state.deltas(&put("1"), true).unwrap();
    assert_eq!(deltas[0].supersedes, Supersedes::Cut(vec![(log(0), 1)]));
}

#[test]
fn retyping_to_the_shown_type_removes_the_others_only() {
    let mut state = State::new();
    let raw = |action, payload: &[u8]| Delta {
        action,
        supersedes: Supersedes::NOTHING,
        payload: payload.into(),
    };
    let _ = state.apply(&stamp(log(1), 1), &raw(Action::RegisterPut, b"0"));
    let _ = state.apply(&stamp(log(0), 2), &raw(Action::SetAdd, b"1"));
    let _ = state.apply(&stamp(log(0), 3), &raw(Action::SetAdd, b"2"));
    let mut resolved = state.clone();
    for (delta, index) in
        resolved.deltas(&Op::SetAdd(vec![json("1"), json("3")]), true).unwrap().iter().zip(0..)
    {
        let mut stamp = stamp(log(0), 4);
        stamp.dot.index = index;
        assert_eq!(resolved.apply(&stamp, delta), Applied::Done);
    }
    let view = resolved.view().unwrap();
    assert_eq!(view.value, Value::Set(vec![json("1"), json("2"), json("3")]));
    assert!(!view.type_conflict);
    // A folded counter has no dots to list, and a cut would take the set with it.
    let _ = state.apply(&stamp(log(1), 2), &raw(Action::CounterAdd, &[0; 8]));
    assert_eq!(state.deltas(&Op::SetAdd(vec![json("1")]), true), Err(OpError::RetypeTooBroad));
}

#[test]
fn a_key_that_holds_nothing_cannot_be_deleted() {
    assert_eq!(State::new().deltas(&Op::Delete, false), Err(OpError::NotFound));
    let mut state = wrote(&[put("1"), Op::Delete]);
    assert_eq!(state.view(), None);
    assert_eq!(state.deltas(&Op::Delete, true), Err(OpError::NotFound));
    write(&mut state, &Op::CounterAdd(1), 3);
    assert_eq!(state.view().unwrap().value, Value::Counter(1), "a deleted key has no type");
}

#[test]
fn equal_values_and_present_elements_make_new_events() {
    let state = wrote(&[put("1"), put("1")]);
    assert_eq!(state.view().unwrap().stamp.dot.seq, 2);
    let state = wrote(&[Op::SetAdd(vec![json("1")])]);
    let again = state.deltas(&Op::SetAdd(vec![json("1")]), false).unwrap();
    assert_eq!(dots(&again[0]).len(), 1);
    let absent = state.deltas(&Op::SetRemove(vec![json("2")]), false).unwrap();
    assert_eq!((absent.len(), dots(&absent[0])), (1, &[][..]));
}

#[test]
fn an_op_makes_one_event_for_each_distinct_element() {
    let three = Op::SetAdd(vec![json("2"), json("1"), json("2")]);
    let deltas = State::new().deltas(&three, false).unwrap();
    let payloads: Vec<&[u8]> = deltas.iter().map(|delta| &*delta.payload).collect();
    assert_eq!(payloads, [b"2", b"1"]);
    assert_eq!(State::new().deltas(&Op::SetAdd(vec![]), false), Err(OpError::NoElements));
}

#[test]
fn in_a_batch_a_later_event_names_the_earlier_ones() {
    let mut world = World::default();
    world.write(0, &[Wish::Op(put("1"), false), Wish::Op(put("2"), false)]);
    let events = &world.commits[0].events;
    assert_eq!(dots(&events[1]), [Dot { log: log(0), seq: 1, index: 0 }]);
    world.write(
        0,
        &[
            Wish::Op(Op::CounterAdd(1), true),
            Wish::Op(Op::Delete, false),
            Wish::Op(Op::CounterAdd(2), false),
        ],
    );
    assert_eq!(world.commits[1].events[1].supersedes, Supersedes::Cut(vec![(log(0), 2)]));
    assert_eq!(world.replicas[0].state.view().unwrap().value, Value::Counter(2));
}

#[test]
fn a_counter_stays_in_range_and_may_come_back_into_it() {
    let state = wrote(&[Op::CounterAdd(i64::MAX)]);
    assert_eq!(state.deltas(&Op::CounterAdd(1), false), Err(OpError::Overflow));
    assert!(state.deltas(&Op::CounterAdd(-1), false).is_ok());
    // Two replicas that could not see each other went over.
    let mut state = state;
    let add = Delta {
        action: Action::CounterAdd,
        supersedes: Supersedes::NOTHING,
        payload: i64::MAX.to_le_bytes().into(),
    };
    assert_eq!(state.apply(&stamp(log(1), 1), &add), Applied::Done);
    assert_eq!(state.view().unwrap().value, Value::Overflow(i128::from(i64::MAX) * 2));
    assert_eq!(state.deltas(&Op::CounterAdd(1), false), Err(OpError::Overflow));
    assert!(state.deltas(&Op::CounterAdd(i64::MIN), false).is_ok());
}

#[test]
fn more_live_values_than_one_event_may_list_are_superseded_newest_first() {
    let mut state = State::new();
    let count = u32::try_from(PREDS_MAX).unwrap() + 6;
    let delta = State::new().deltas(&put("1"), false).unwrap().remove(0);
    for n in 1..=count {
        assert_eq!(state.apply(&stamp(numbered(n), n.into()), &delta), Applied::Done);
    }
    assert_eq!(state.view().unwrap().conflicts.len(), PREDS_MAX + 5);
    let put = state.deltas(&put("2"), false).unwrap().remove(0);
    assert_eq!(dots(&put).len(), PREDS_MAX);
    assert!(dots(&put).is_sorted());
    let delete = state.deltas(&Op::Delete, false).unwrap().remove(0);
    assert!(matches!(&delete.supersedes, Supersedes::Cut(cut) if cut.len() == PREDS_MAX + 6));
    assert_eq!(state.apply(&stamp(numbered(0), 9000), &put), Applied::Done);
    assert_eq!(state.view().unwrap().value, Value::Json(json("2")));
    assert_eq!(state.view().unwrap().conflicts.len(), 6);
    assert_eq!(state.apply(&stamp(numbered(0), 9001), &delete), Applied::Done);
    assert_eq!(state.view().unwrap().conflicts, [], "what the delete had not seen is left");
}

#[test]
fn sizes_are_checked_before_anything_is_made() {
    let field: Arc<str> = "f".repeat(FIELD_BYTES_MAX + 1).into();
    let error = OpError::FieldTooLong { len: FIELD_BYTES_MAX + 1 };
    let put = Op::MapPut { field: field.clone(), value: json("1") };
    assert_eq!(State::new().deltas(&put, false), Err(error.clone()));
    assert_eq!(State::new().deltas(&Op::MapDelete { field }, false), Err(error));
    let len = VALUE_BYTES_MAX + 1;
    let bytes = Op::PutBytes(vec![0; len].into());
    assert_eq!(State::new().deltas(&bytes, false), Err(OpError::ValueTooLarge { len }));
}

#[test]
fn an_erased_or_malformed_event_removes_and_adds_nothing() {
    let state = wrote(&[put("1")]);
    let delta = state.deltas(&put("2"), false).unwrap().remove(0);
    let mut erased = state.clone();
    let own = stamp(log(0), 2);
    assert_eq!(erased.supersede(&own.dot, &delta.supersedes), Applied::Done);
    assert!(erased.is_empty());
    let mut malformed = state;
    let bad = Delta { payload: b"{".as_slice().into(), ..delta };
    assert_eq!(malformed.apply(&own, &bad), Applied::Done);
    assert!(malformed.is_empty());
}

#[test]
fn a_state_is_small() {
    let state = wrote(&[put("\"0123456789\"")]);
    let mut bytes = Vec::new();
    state.encode(&mut bytes, &mut |_| 0);
    assert!(bytes.len() <= 12 + 52, "{} bytes", bytes.len());
    assert!(state.bytes() <= 12 + 240, "{} bytes", state.bytes());
    assert_eq!(size_of::<State>(), 56);
    // Any number of adds of one log is one tally.
    let adds: Vec<Op> = (0..1000).map(Op::CounterAdd).collect();
    let state = wrote(&adds);
    let mut bytes = Vec::new();
    state.encode(&mut bytes, &mut |_| 0);
    assert!(bytes.len() < 80, "{} bytes", bytes.len());
    let decoded = State::decode(&mut Reader::new(&bytes), &|_| Some(log(0)));
    assert_eq!(decoded, Ok(state));
    let unknown = State::decode(&mut Reader::new(&bytes), &|_| None);
    assert!(unknown.is_err());
}

#[test]
fn a_large_set_is_the_same_as_many_small_steps_of_it() {
    let mut world = World::default();
    for n in 0..40 {
        let elements = (n * 10..n * 10 + 10).map(|n| json(&n.to_string())).collect();
        world.write(0, &[Wish::Op(Op::SetAdd(elements), false)]);
    }
    let odd = (0..400).filter(|n| n % 2 == 1).map(|n| json(&n.to_string())).collect();
    world.write(0, &[Wish::Op(Op::SetRemove(odd), false)]);
    let replica = &world.replicas[0];
    assert_eq!(replica.state, fold(&world.history(&replica.known)).finish());
    let Some(Value::Set(elements)) = replica.state.view().map(|view| view.value) else { panic!() };
    assert_eq!(elements.len(), 200);
    assert!(elements.is_sorted());
}
