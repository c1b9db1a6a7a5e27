//! Whatever two replicas hold and however their messages interleave, both end with the same.

use proptest::prelude::*;

use super::world::*;
use crate::base::{CommitId, LogId, Rng};
use crate::sync::*;

/// Small ones, those about the border of whole frontiers, and large ones.
fn log_count() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 1u64..20, 2 => 250u64..330, 1 => 300u64..2000]
}

fn percent() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0u64), 1u64..100, 98u64..=100, Just(100)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn two_replicas_end_in_sync_with_equal_sets(
        seed: [u8; 32], logs in log_count(), more in 0u64..1500, parts in (percent(), percent()),
        chunk_bytes in prop_oneof![Just(1usize), 300usize..100_000],
    ) {
        let mut rng = Rng::new(seed);
        let history = history(&mut rng, logs, logs + more);
        let (a, b) = (part_of(&history, &mut rng, parts.0), part_of(&history, &mut rng, parts.1));
        let union: usize = history.iter()
            .filter(|c| [&a, &b].iter().any(|s| s.holds(&c.tip.log, c.tip.seq)))
            .count();
        let mut world = World::with_chunks(a, b, chunk_bytes);
        world.run_shuffled(&mut rng).expect("honest");
        let [a, b] = &world.ends;
        prop_assert!(a.in_sync() && b.in_sync(), "{:?} {:?}", a.outcome, b.outcome);
        prop_assert!(a.store.logs == b.store.logs);
        prop_assert_eq!(a.store.logs.values().map(Vec::len).sum::<usize>(), union);
        // Neither credit nor a part was left behind.
        prop_assert!(a.wire.is_empty() && b.wire.is_empty());
        let (sent, received) = (a.session.stats(), b.session.stats());
        prop_assert_eq!(sent.bytes_sent, received.bytes_received);
        prop_assert_eq!(sent.commit_bytes_received, received.commit_bytes_sent);
    }

    #[test]
    fn a_fork_is_found_by_both_and_harms_no_other_log(
        seed: [u8; 32], logs in prop_oneof![1u64..20, 300u64..600],
        (fork, a_len, b_len) in (
            1u64..50,
            prop_oneof![Just(3u64), 0u64..50],
            prop_oneof![Just(3u64), 0u64..50],
        ),
    ) {
        let mut rng = Rng::new(seed);
        let history = history(&mut rng, logs, logs * 2);
        let (mut a, mut b) = (part_of(&history, &mut rng, 60), part_of(&history, &mut rng, 60));
        let forked = log(1_000_000);
        fork_log(&mut a, 1, forked, fork, fork + a_len);
        fork_log(&mut b, 2, forked, fork, fork + b_len);
        let tips = [&a, &b].map(|s| s.at(&forked, s.upto(&forked)).expect("held").tip);
        let mut world = World::new(a, b);
        world.run_shuffled(&mut rng).expect("honest");
        let [asked_by_a, asked_by_b] = world.ends.each_ref().map(|end| end.questions);
        prop_assert_eq!(if a_len >= b_len { asked_by_b } else { asked_by_a }, 0);
        for (n, end) in world.ends.iter().enumerate() {
            let (ours, theirs) = (tips[n], tips[1 - n]);
            prop_assert_eq!(&end.outcome[..2], &[
                Step::Diverged { log: forked, ours, theirs },
                Step::ForkFound { log: forked, seq: fork },
            ]);
            let Some(Step::Ended(short)) = end.outcome.last() else { panic!("{:?}", end.outcome) };
            prop_assert_eq!(short, &Shortfall {
                diverged: vec![forked], peer_short: true, ..Shortfall::default()
            });
        }
        let [mut a, mut b] = world.ends.map(|end| end.store.logs);
        prop_assert!(a.remove(&forked) != b.remove(&forked));
        prop_assert!(a == b);
    }

    #[test]
    fn lost_commits_come_back_if_the_peer_holds_them(
        seed: [u8; 32], logs in prop_oneof![1u64..20, 257u64..400], loss in 1u64..40,
    ) {
        let mut rng = Rng::new(seed);
        let history = history(&mut rng, logs, logs * 4);
        let whole = [part_of(&history, &mut rng, 90), part_of(&history, &mut rng, 90)];
        let [a, b] = &whole;
        // Nothing is lost twice, and no tips.
        let mut damaged = whole.clone();
        for commit in &history {
            let Tip { log, seq, .. } = commit.tip;
            let side = usize::from(rng.below(2) == 1);
            let both = a.holds(&log, seq + 1) && b.holds(&log, seq + 1);
            if both && rng.below(100) < loss {
                let place = usize::try_from(seq).expect("small") - 1;
                damaged[side].logs.get_mut(&log).expect("held")[place] = None;
            }
        }
        let [a, b] = damaged;
        let mut world = World::new(a, b);
        world.run_shuffled(&mut rng).expect("honest");
        // What follows a hole of the peer's waits for a second session, once that is filled.
        if !world.ends.iter().all(End::in_sync) {
            let [a, b] = world.ends.map(|end| end.store);
            world = World::new(a, b);
            world.run_shuffled(&mut rng).expect("honest");
        }
        let [a, b] = &world.ends;
        prop_assert!(a.in_sync() && b.in_sync(), "{:?} {:?}", a.outcome, b.outcome);
        prop_assert!(a.store.logs == b.store.logs);
        prop_assert!(a.store.pinned().missing.is_empty());
    }
}

/// Writes a log that is the same on all sides below `fork`.
fn fork_log(store: &mut Store, side: u8, log: LogId, fork: u64, len: u64) {
    for seq in 1..=len {
        let mut id = [if seq < fork { 0 } else { side }; 32];
        id[..8].copy_from_slice(&seq.to_le_bytes());
        let tip = Tip { log, seq, id: CommitId(id) };
        store.apply(Commit { tip, order: 1 << 40 | seq, deps: vec![], bytes: 1 });
    }
}

#[test]
fn lost_commits_of_a_forked_log_are_not_asked_for() {
    let (mut a, mut b) = (Store::default(), Store::default());
    fork_log(&mut a, 1, log(1), 5, 10);
    fork_log(&mut b, 2, log(1), 5, 10);
    a.logs.get_mut(&log(1)).expect("written")[0] = None;
    let mut world = World::new(a, b);
    world.run().expect("honest");
    for (end, missing) in world.ends.iter().zip([1, 0]) {
        let short =
            Shortfall { diverged: vec![log(1)], missing, peer_short: true, ..Shortfall::default() };
        assert_eq!(end.outcome[1], Step::ForkFound { log: log(1), seq: 5 });
        assert_eq!(end.outcome[2], Step::Ended(short));
    }
}

#[test]
fn a_session_lasts_until_all_requests_are_answered() {
    let (a, b) = pair(30, 300, 50);
    let all = b.clone();
    let mut world = World::with_chunks(a, b, 1);
    let [a, b] = &mut world.ends;
    let pass = |from: &mut End, to: &mut End| {
        to.receive(&Vec::from(std::mem::take(&mut from.wire))).expect("honest");
    };
    [&mut *a, &mut *b].into_iter().for_each(End::drain);
    pass(b, a);
    pass(a, b);
    // Another peer is faster than this one.
    for commit in all.logs.values().flatten().flatten() {
        a.store.apply(commit.clone());
    }
    a.sync();
    pass(a, b);
    pass(b, a);
    assert!(!a.session.is_over() && !b.session.is_over());
    while b.serve() {
        assert!(!a.session.is_over() && a.session.requests_open() == 1);
        pass(b, a);
        pass(a, b);
    }
    assert!(world.ends.iter().all(End::in_sync));
}

fn pair(logs: u64, commits: u64, percent: u64) -> (Store, Store) {
    let mut rng = Rng::new([3; 32]);
    let history = history(&mut rng, logs, commits);
    (part_of(&history, &mut rng, percent), part_of(&history, &mut rng, 100))
}

#[test]
fn a_commit_that_both_lost_is_named_and_everything_else_is_exchanged() {
    let (mut a, mut b) = pair(5, 200, 99);
    let lost: LogId = *a.logs.keys().find(|log| a.upto(log) > 3).expect("long enough");
    a.logs.get_mut(&lost).expect("held")[1] = None;
    b.logs.get_mut(&lost).expect("held")[1] = None;
    let mut world = World::new(a, b);
    world.run().expect("honest");
    for end in &world.ends {
        let short = Shortfall { missing: 1, peer_short: true, ..Shortfall::default() };
        assert_eq!(end.outcome, [Step::Ended(short)]);
    }
    let [a, b] = &world.ends;
    assert!(a.store.logs == b.store.logs);
}

#[test]
fn runs_that_come_from_another_peer_count_as_well() {
    let (a, b) = pair(30, 300, 50);
    let all = b.clone();
    let mut world = World::new(a, b);
    world.ends[0].drop_runs = true;
    world.run().expect("honest");
    let end = &mut world.ends[0];
    assert!(!end.dropped.is_empty() && !end.session.is_over());
    // The other peer delivers.
    for commit in all.logs.values().flatten().flatten() {
        end.store.apply(commit.clone());
    }
    end.dropped.clear();
    let store = &end.store;
    end.session.durable(&|log| store.upto(log));
    end.drain();
    world.run().expect("honest");
    assert!(world.ends.iter().all(End::in_sync));
}

#[test]
fn a_peer_that_serves_too_little_leaves_a_named_shortfall() {
    let (a, mut b) = pair(30, 300, 50);
    let pinned = b.pinned();
    // It promises what it cannot read.
    let tips = b.logs.values_mut().filter_map(|log| log.last_mut());
    tips.for_each(|tip| *tip = None);
    let mut world = World::new(a, Store::default());
    world.ends[1].session = Session::new(SPACE, pinned, [2; 16], false);
    world.ends[1].store = b;
    world.run().expect("honest");
    let Some(Step::Ended(short)) = world.ends[0].outcome.last() else { panic!("not short") };
    assert!(short.lacking > 0 && !short.peer_short);
    assert!(matches!(world.ends[1].outcome.last(), Some(Step::Ended(_))));
}

#[test]
fn more_differences_than_a_session_takes_are_left_for_the_next() {
    let limit = crate::limits::SESSION_LOGS_MAX as u64;
    let mut store = Store::default();
    for n in 0..limit + 1000 {
        let tip = Tip { log: log(n), seq: 1, id: CommitId([7; 32]) };
        store.logs.insert(tip.log, vec![Some(Commit { tip, order: n, deps: vec![], bytes: 1 })]);
    }
    let mut world = World::with_chunks(store.clone(), Store::default(), 1 << 20);
    world.run().expect("honest");
    let Some(Step::Ended(short)) = world.ends[0].outcome.last() else { panic!("not short") };
    assert_eq!(short, &Shortfall { left_out: 1000, ..Shortfall::default() });
    let short = Shortfall { peer_short: true, ..Shortfall::default() };
    assert_eq!(world.ends[1].outcome, [Step::Ended(short)]);
    let [a, b] = world.ends.map(|end| end.store);
    assert_eq!(b.logs.len() as u64, limit);
    let mut world = World::with_chunks(a, b, 1 << 20);
    world.run().expect("honest");
    assert!(world.ends.iter().all(End::in_sync));
}

#[test]
fn a_refusal_ends_the_session_on_both_sides() {
    let (a, b) = pair(5, 50, 50);
    let mut world = World::new(a, b);
    world.ends[1].session.refuse(Code::BUSY, "later");
    let error = world.run().expect_err("refused");
    assert_eq!(error, "the peer refused (busy): later");
    assert!(world.over());
    let (code, text) = (Code::BUSY, PeerText::new("later"));
    let broken_off = Step::Failed(SyncError::BrokenOff { code, text });
    assert_eq!(world.ends[1].outcome, [broken_off]);
}
