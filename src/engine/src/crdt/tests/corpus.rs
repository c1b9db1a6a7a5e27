//! Bugs that other systems had, each as one fact about this one.
//!
//! Replicas 0, 1 and 2 write and pull; `merged` joins two of them by state, both ways round, and by
//! delivering commits, and insists on one outcome.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::{Replica, Wish, World, check, fold, json, log};
use crate::base::{CommitId, Dot, Hlc};
use crate::causal::{Clocks, RecordError};
use crate::crdt::{Applied, Delta, Op, Stamp, State, Supersedes, Type, Value};

fn put(text: &str) -> Op {
    Op::Put(json(text))
}

fn add(text: &str) -> Op {
    Op::SetAdd(vec![json(text)])
}

fn remove(text: &str) -> Op {
    Op::SetRemove(vec![json(text)])
}

fn field(name: &str, text: &str) -> Op {
    Op::MapPut { field: name.into(), value: json(text) }
}

fn no_field(name: &str) -> Op {
    Op::MapDelete { field: name.into() }
}

fn set(texts: &[&str]) -> Option<Value> {
    Some(Value::Set(texts.iter().map(|text| json(text)).collect()))
}

fn map(fields: &[(&str, &str)]) -> Option<Value> {
    let fields = fields.iter().map(|(name, text)| ((*name).into(), json(text)));
    Some(Value::Map(fields.collect::<BTreeMap<_, _>>()))
}

fn register(text: &str) -> Option<Value> {
    Some(Value::Json(json(text)))
}

/// One commit of one op, which must not be refused.
fn write(world: &mut World, replica: usize, op: Op) {
    world.write(replica, &[Wish::Op(op, false)]);
    let commit = world.commits.last().unwrap();
    assert!(!commit.events.is_empty(), "an op of the scenario was refused");
}

fn value(state: &State) -> Option<Value> {
    state.view().map(|view| view.value)
}

/// Joins two replicas by their states, as a copy.
fn join(world: &World, a: &Replica, b: &Replica) -> Replica {
    let (mut state, known) = (a.state.clone(), a.known.union(&b.known).copied().collect());
    let (mine, theirs) = (world.vector(&a.known), world.vector(&b.known));
    if state.join(&mine, &b.state, &theirs) == Applied::Refold {
        state = fold(&world.history(&known)).finish();
    }
    check(world, &known, &state);
    Replica { known, state }
}

fn merged(world: &World, a: usize, b: usize) -> Option<Value> {
    let (first, second) = (&world.replicas[a], &world.replicas[b]);
    let joined = join(world, first, second);
    assert_eq!(joined.state, join(world, second, first).state);
    let mut delivered = world.clone();
    delivered.pull(a, b);
    assert_eq!(joined.state, delivered.replicas[b].state);
    value(&joined.state)
}

/// riak_dt 78: the merge compared clocks, which a remove does not raise, and kept the old side.
#[test]
fn a_removed_element_does_not_survive_a_merge_with_an_older_copy() {
    let mut world = World::default();
    write(&mut world, 0, add("\"foo\""));
    write(&mut world, 0, add("\"bar\""));
    write(&mut world, 1, add("\"baz\""));
    world.pull(0, 1);
    write(&mut world, 0, remove("\"bar\""));
    assert_eq!(merged(&world, 0, 1), set(&["\"baz\"", "\"foo\""]));
}

/// riak_dt 82: what was on both sides of a merge counted as present, under whatever dots.
#[test]
fn an_element_on_both_sides_is_gone_if_each_side_saw_the_other_ones_removal() {
    let mut world = World::default();
    write(&mut world, 0, add("1"));
    write(&mut world, 1, add("1"));
    world.pull(0, 2);
    write(&mut world, 0, remove("1"));
    world.pull(1, 0);
    write(&mut world, 1, remove("1"));
    let first = join(&world, &world.replicas[0], &world.replicas[2]);
    assert_eq!(value(&first.state), set(&["1"]), "the add of replica 1 is still there");
    assert_eq!(value(&world.replicas[2].state), set(&["1"]), "and the one of replica 0");
    assert_eq!(value(&join(&world, &world.replicas[1], &first).state), None);
}

/// riak_dt 92: a removed field came back with its old content when it had not been added again.
#[test]
fn a_removed_field_stays_away_beside_a_concurrent_write_to_another() {
    let mut world = World::default();
    write(&mut world, 0, field("f", "\"X\""));
    world.pull(0, 1);
    write(&mut world, 1, field("g", "\"Y\""));
    write(&mut world, 0, no_field("f"));
    assert_eq!(merged(&world, 0, 1), map(&[("g", "\"Y\"")]));
}

/// riak_dt 93: whether a field was added again after its removal changed what a merge kept of it.
#[test]
fn what_a_removal_had_seen_is_gone_whether_or_not_the_field_is_written_again() {
    for again in [false, true] {
        let mut world = World::default();
        write(&mut world, 0, field("f", "\"X\""));
        world.pull(0, 1);
        write(&mut world, 1, field("f", "\"Y\""));
        write(&mut world, 0, no_field("f"));
        if again {
            write(&mut world, 0, field("f", "\"Z\""));
        }
        world.pull(1, 0);
        let mut values: BTreeSet<_> = ["\"Y\""].into_iter().collect();
        values.extend(again.then_some("\"Z\""));
        let live = world.replicas[0].state.events();
        assert!(live.iter().map(|event| &event.value).all(|value| match value {
            Value::Json(json) => values.contains(json.as_str()),
            _ => false,
        }));
        assert_eq!(live.len(), values.len());
        assert!(merged(&world, 0, 1).is_some());
    }
}

/// riak_dt 98: a counter was one cumulative number per actor, so a reset could not tell what it
/// had seen; two concurrent resets took the same adds off twice.
#[test]
fn two_concurrent_resets_of_a_counter_take_off_what_they_saw_once() {
    let mut world = World::default();
    write(&mut world, 0, Op::CounterAdd(5));
    world.pull(0, 1);
    write(&mut world, 0, Op::CounterAdd(2));
    write(&mut world, 0, Op::Delete);
    write(&mut world, 1, Op::CounterAdd(10));
    write(&mut world, 1, Op::Delete);
    write(&mut world, 1, Op::CounterAdd(1));
    assert_eq!(merged(&world, 0, 1), Some(Value::Counter(1)));
}

/// riak_dt 98: an add that the reset had not seen vanished with it.
#[test]
fn an_add_concurrent_to_a_reset_counts() {
    let mut world = World::default();
    write(&mut world, 0, Op::CounterAdd(5));
    world.pull(0, 1);
    write(&mut world, 0, Op::CounterAdd(2));
    write(&mut world, 1, Op::Delete);
    assert_eq!(merged(&world, 0, 1), Some(Value::Counter(2)));
}

/// riak_dt 99 and 113: a remove that waited for its adds was dropped when the entry went away.
#[test]
fn a_removal_that_came_before_the_add_by_another_way_still_holds() {
    let mut world = World::default();
    write(&mut world, 1, field("b", "1"));
    world.pull(1, 2);
    write(&mut world, 2, no_field("b"));
    // Replica 0 hears of the removal first, then of the add from its author, then removes, too.
    world.pull(2, 0);
    write(&mut world, 0, no_field("b"));
    assert_eq!(merged(&world, 0, 1), None);
    assert_eq!(merged(&world, 1, 2), None);
}

/// riak 580: a clock that went back made a write lose to the one it had replaced.
#[test]
fn a_later_write_wins_whatever_its_clock_said() {
    let stamp = |replica, hlc| Stamp {
        hlc: Hlc(hlc),
        dot: Dot { log: log(replica), seq: 1, index: 0 },
        commit: CommitId([u8::try_from(replica).unwrap(); 32]),
    };
    let mut state = State::new();
    let first = state.deltas(&put("1"), false).unwrap().remove(0);
    assert_eq!(state.apply(&stamp(0, 9_000_000), &first), Applied::Done);
    let second = state.deltas(&put("2"), false).unwrap().remove(0);
    assert_eq!(state.apply(&stamp(1, 5), &second), Applied::Done);
    assert_eq!(value(&state), register("2"));
    assert_eq!(state.view().unwrap().conflicts, []);
}

/// rust-crdt 10: a register without a causal context lost a value or brought an old one back.
#[test]
fn a_register_keeps_concurrent_values_until_somebody_saw_both() {
    let mut world = World::default();
    write(&mut world, 0, put("0"));
    world.pull(0, 1);
    world.pull(0, 2);
    write(&mut world, 0, put("1"));
    write(&mut world, 1, put("2"));
    world.pull(0, 1);
    let view = world.replicas[1].state.view().unwrap();
    assert_eq!((view.value, view.conflicts.len()), (Value::Json(json("1")), 1));
    write(&mut world, 1, put("3"));
    // Replica 2 still shows the first value, replica 0 its own; neither comes back.
    assert_eq!(merged(&world, 1, 2), register("3"));
    assert_eq!(merged(&world, 1, 0), register("3"));
}

/// rust-crdt 35: a merge raised its own clock field by field and judged later fields by it.
#[test]
fn a_merge_judges_every_field_by_the_clocks_from_before_it() {
    let mut world = World::default();
    write(&mut world, 0, field("a", "1"));
    write(&mut world, 0, field("z", "1"));
    world.pull(0, 1);
    write(&mut world, 1, field("a", "2"));
    write(&mut world, 1, field("z", "2"));
    write(&mut world, 0, field("m", "1"));
    write(&mut world, 0, no_field("z"));
    assert_eq!(merged(&world, 0, 1), map(&[("a", "2"), ("m", "1"), ("z", "2")]));
}

/// akka 22188: deltas taken out of order left holes that acted as removals.
#[test]
fn a_commit_with_a_hole_before_it_is_not_taken() {
    let mut clocks = Clocks::new();
    clocks.record(log(0), 1, &[]).unwrap();
    let gap = RecordError::Gap { log: log(0), seq: 3, tip: 1 };
    assert_eq!(clocks.record(log(0), 3, &[]), Err(gap));
    // So a state never claims to know what it lacks, and a join removes nothing of it.
    let mut world = World::default();
    write(&mut world, 0, add("1"));
    world.pull(0, 1);
    write(&mut world, 0, add("2"));
    write(&mut world, 0, add("3"));
    assert_eq!(merged(&world, 0, 1), set(&["1", "2", "3"]));
}

/// swift-distributed-actors 210: merging a peer's delta forgot one's own that was not sent yet.
#[test]
fn what_was_written_here_survives_merging_a_peer_that_does_not_know_it() {
    let mut world = World::default();
    write(&mut world, 0, add("1"));
    write(&mut world, 1, add("2"));
    world.pull(1, 0);
    write(&mut world, 0, add("3"));
    write(&mut world, 1, add("4"));
    world.pull(1, 0);
    world.pull(0, 2);
    assert_eq!(value(&world.replicas[2].state), set(&["1", "2", "3", "4"]));
}

/// antidote 129: of two operations of one actor, one was lost when clocks put them the other way.
#[test]
fn two_writes_of_one_replica_both_count_in_the_order_they_were_made() {
    let mut world = World::default();
    let by = |by| Wish::Op(Op::CounterAdd(by), false);
    world.write(1, &[by(1), by(2)]);
    write(&mut world, 1, Op::CounterAdd(4));
    assert_eq!(merged(&world, 1, 0), Some(Value::Counter(7)));
    let mut world = World::default();
    world.write(1, &[Wish::Op(put("1"), false), Wish::Op(put("2"), false)]);
    assert_eq!(merged(&world, 1, 0), register("2"), "one commit, one time, two indexes");
}

/// CRDT-Redis 2: an operation waited for ever for one that had already come by another way.
#[test]
fn a_dep_that_is_known_already_holds_nothing_back() {
    let mut clocks = Clocks::new();
    clocks.record(log(0), 1, &[]).unwrap();
    clocks.record(log(0), 2, &[]).unwrap();
    clocks.record(log(1), 1, &[(log(0), 2)]).unwrap();
    // Both name the same old commit, and one that is in its past.
    clocks.record(log(2), 1, &[(log(0), 1), (log(1), 1)]).unwrap();
    assert_eq!(clocks.known(&log(2), 1, &log(0)), Some(2));
    clocks.record(log(1), 2, &[(log(0), 1)]).unwrap();
    assert_eq!(clocks.known(&log(1), 2, &log(0)), Some(2));
}

/// TopGun 54: a removal was sent as a blind put of what was left, which wiped concurrent adds.
#[test]
fn a_removal_leaves_concurrent_adds_alone() {
    let mut world = World::default();
    world.write(0, &[Wish::Op(Op::SetAdd(vec![json("1"), json("2")]), false)]);
    world.pull(0, 1);
    write(&mut world, 1, add("3"));
    write(&mut world, 1, add("1"));
    write(&mut world, 0, remove("1"));
    assert_eq!(merged(&world, 0, 1), set(&["1", "2", "3"]), "the new add of 1 was not seen");
}

/// TopGun 54, for whole keys: a replacement takes what its author saw and shows the rest.
#[test]
fn replacing_a_key_by_another_type_leaves_concurrent_adds_visible() {
    let mut world = World::default();
    write(&mut world, 0, add("1"));
    world.pull(0, 1);
    write(&mut world, 1, add("2"));
    world.write(0, &[Wish::Op(put("true"), true)]);
    world.pull(0, 1);
    let view = world.replicas[1].state.view().unwrap();
    assert!(view.type_conflict);
    assert_eq!(view.value, Value::Json(json("true")));
    assert_eq!(
        (view.conflicts[0].ty, &view.conflicts[0].value),
        (Type::Set, &set(&["2"]).unwrap())
    );
}

/// y-crdt 607: merged delete sets lost an entry; one side kept a key that the other had deleted.
#[test]
fn a_field_deleted_after_a_merge_leaves_no_ghost() {
    let mut world = World::default();
    write(&mut world, 0, field("nested", "{\"a\":1}"));
    world.pull(0, 1);
    write(&mut world, 1, field("nested", "{\"a\":2}"));
    world.write(1, &[Wish::Op(field("new", "1"), false), Wish::Op(no_field("nested"), false)]);
    world.pull(1, 0);
    write(&mut world, 0, no_field("new"));
    assert_eq!(merged(&world, 0, 1), None);
    world.pull(0, 1);
    assert!(world.replicas[1].state.is_empty(), "a key without live events is no key");
}

/// riak_dt 78, for a listed dot that is not live: superseding twice is superseding once.
#[test]
fn removals_of_one_event_by_two_replicas_agree() {
    let mut world = World::default();
    write(&mut world, 0, add("1"));
    world.pull(0, 1);
    write(&mut world, 0, remove("1"));
    write(&mut world, 1, remove("1"));
    let dots = |n: usize| match &world.commits[n].events[0] {
        Delta { supersedes: Supersedes::Dots(dots), .. } => dots.clone(),
        _ => Vec::new(),
    };
    assert_eq!(dots(1), dots(2));
    assert_eq!(dots(1).len(), 1);
    assert_eq!(merged(&world, 0, 1), None);
}
