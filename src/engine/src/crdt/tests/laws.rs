//! The laws, over random histories.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::spec::{REPLICAS, Replica, World, check, fold, steps};
use crate::base::{Key, LogId, Reader};
use crate::crdt::{Applied, State};

fn world() -> impl Strategy<Value = World> {
    steps(20).prop_map(|steps| World::run(&steps))
}

/// The exact state of a causally closed set.
fn exact(world: &World, known: &BTreeSet<usize>) -> State {
    fold(&world.history(known))
}

/// Joins exactly; an exact state never asks for a fold.
fn joined(world: &World, a: &BTreeSet<usize>, b: &BTreeSet<usize>) -> State {
    let mut state = exact(world, a);
    let other = exact(world, b);
    let applied = state.join(&world.vector(a), &other, &world.vector(b));
    assert_eq!(applied, Applied::Done);
    state
}

proptest! {
    #[test]
    fn every_replica_shows_what_the_specification_shows(world in world()) {
        for replica in &world.replicas {
            check(&world, &replica.known, &replica.state);
        }
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(world in world(), seed: u64) {
        let all: BTreeSet<usize> = (0..world.commits.len()).collect();
        let mut replica = Replica::default();
        for commit in world.causal_order(&all, seed) {
            world.deliver(&mut replica, commit);
        }
        check(&world, &all, &replica.state);
    }

    #[test]
    fn an_event_that_is_live_changes_nothing_when_it_comes_again(world in world()) {
        for replica in &world.replicas {
            let mut state = replica.state.clone();
            for (stamp, delta) in world.live(&replica.known) {
                prop_assert_eq!(state.apply(&stamp, delta), Applied::Done);
            }
            prop_assert_eq!(&state, &replica.state);
        }
    }

    #[test]
    fn the_past_of_each_commit_has_one_state(world in world()) {
        for commit in 0..world.commits.len() {
            let known = world.closure(commit);
            check(&world, &known, &exact(&world, &known).finish());
        }
    }

    #[test]
    fn join_is_the_state_of_the_union(world in world()) {
        for (a, b) in pairs() {
            let (a, b) = (&world.replicas[a], &world.replicas[b]);
            let union = a.known.union(&b.known).copied().collect();
            prop_assert_eq!(joined(&world, &a.known, &b.known), exact(&world, &union));
            // A folded state either joins to the same or says that it cannot.
            let mut state = a.state.clone();
            let vectors = (world.vector(&a.known), world.vector(&b.known));
            match state.join(&vectors.0, &b.state, &vectors.1) {
                Applied::Done => check(&world, &union, &state),
                Applied::Refold => prop_assert_eq!(&state, &a.state),
            }
        }
    }

    #[test]
    fn join_is_commutative_associative_and_idempotent(world in world()) {
        let [a, b, c] = &world.replicas;
        let (a, b, c) = (&a.known, &b.known, &c.known);
        prop_assert_eq!(joined(&world, a, a), exact(&world, a));
        prop_assert_eq!(joined(&world, a, b), joined(&world, b, a));
        let vector = |sets: &[&BTreeSet<usize>]| {
            world.vector(&sets.iter().flat_map(|set| set.iter().copied()).collect())
        };
        let mut left = joined(&world, a, b);
        let third = exact(&world, c);
        prop_assert_eq!(left.join(&vector(&[a, b]), &third, &vector(&[c])), Applied::Done);
        let mut right = exact(&world, a);
        let others = joined(&world, b, c);
        prop_assert_eq!(right.join(&vector(&[a]), &others, &vector(&[b, c])), Applied::Done);
        prop_assert_eq!(left, right);
    }

    #[test]
    fn to_apply_a_commit_is_to_join_the_state_of_its_past_and_itself(world in world()) {
        for replica in &world.replicas {
            for commit in (0..world.commits.len()).filter(|n| !replica.known.contains(n)) {
                if world.commits[commit].past.is_subset(&replica.known) {
                    let mut applied = replica.clone();
                    world.deliver(&mut applied, commit);
                    let state = joined(&world, &replica.known, &world.closure(commit));
                    prop_assert_eq!(applied.state, state.finish());
                }
            }
        }
    }

    #[test]
    fn equal_digests_mean_equal_states(world in world()) {
        let key = Key::new("k").unwrap();
        for (a, b) in pairs() {
            let (a, b) = (&world.replicas[a].state, &world.replicas[b].state);
            prop_assert_eq!(a.context() == b.context(), a == b);
            let entry = |state: &State| state.view().map(|view| view.value_entry(&key));
            prop_assert_eq!(entry(a) == entry(b), a == b);
        }
    }

    #[test]
    fn bytes_round_trip_and_damage_is_refused_or_canonical(
        world in world(), place: prop::sample::Index, bit in 0..8u8,
    ) {
        let logs: Vec<LogId> = (0..REPLICAS).map(super::spec::log).collect();
        let log = |ix: u32| logs.get(usize::try_from(ix).unwrap()).copied();
        let encode = |state: &State| {
            let mut bytes = Vec::new();
            let at = |log: &LogId| logs.iter().position(|known| known == log).unwrap();
            state.encode(&mut bytes, &mut |log| u32::try_from(at(log)).unwrap());
            bytes
        };
        for replica in &world.replicas {
            let mut bytes = encode(&replica.state);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(State::decode(&mut reader, &log), Ok(replica.state.clone()));
            prop_assert_eq!(reader.finish(), Ok(()));
            prop_assert_eq!(&encode(&exact(&world, &replica.known)), &bytes);
            for len in 0..bytes.len() {
                prop_assert!(State::decode(&mut Reader::new(&bytes[..len]), &log).is_err());
            }
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut reader = Reader::new(&bytes);
            if let Ok(state) = State::decode(&mut reader, &log) {
                let used = bytes.len() - reader.remaining();
                prop_assert_eq!(&encode(&state), &bytes[..used]);
                let _ = state.view();
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let log = |ix: u32| (ix < 4).then(|| super::spec::log(usize::try_from(ix).unwrap()));
        if let Ok(state) = State::decode(&mut Reader::new(&bytes), &log) {
            let _ = (state.view(), state.events(), state.bytes());
        }
    }
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..REPLICAS).flat_map(|a| (0..REPLICAS).map(move |b| (a, b)))
}
