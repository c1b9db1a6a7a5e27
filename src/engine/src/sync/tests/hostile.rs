//! Whatever a peer sends costs bounded effort, and never panics.

use proptest::collection::vec;
use proptest::prelude::*;

use super::codec::message;
use super::world::*;
use crate::base::{CommitId, LogId, Rng};
use crate::sync::*;

fn store(seed: [u8; 32], logs: u64) -> Store {
    let mut rng = Rng::new(seed);
    let history = history(&mut rng, logs, logs * 2);
    part_of(&history, &mut rng, 70)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn any_messages_cost_bounded_steps(
        seed: [u8; 32], logs in prop_oneof![0u64..9, 257u64..400], initiator: bool,
        messages in vec(message(Just(SPACE)), 1..40), open_first: bool,
    ) {
        let store = store(seed, logs);
        let mut session = Session::new(SPACE, store.pinned(), [1; 16], initiator);
        let source = |log: &LogId, seq: u64| store.at(log, seq).map(|c| c.tip.id);
        let (opens, rest): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|m| open_first && matches!(m, Message::Open(_)));
        let mut serving = 0;
        for message in opens.into_iter().take(1).chain(rest) {
            let failed = session.handle(&source, message).is_err();
            prop_assert!(!failed || session.is_over());
            let mut steps = 0;
            while let Some(step) = session.poll() {
                steps += 1;
                match &step {
                    Step::Request(runs) => session.want(runs.clone()),
                    Step::Serve { .. } => serving += 1,
                    _ => {}
                }
                // One log each at most, and a few of its own.
                prop_assert!(steps <= 3 * logs + 100, "{steps} steps, last {step:?}");
            }
            if serving > 0 && !session.is_over() {
                session.chunk(vec![1], true);
                serving -= 1;
            }
            session.give_up();
        }
    }

    #[test]
    fn damaged_streams_fail_or_stall_and_never_mislead(
        seed: [u8; 32], logs in prop_oneof![1u64..9, 257u64..400],
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let mut rng = Rng::new(seed);
        let history = history(&mut rng, logs, logs * 3);
        let (a, b) = (part_of(&history, &mut rng, 60), part_of(&history, &mut rng, 60));
        let mut world = World::with_chunks(a, b, 2000);
        world.ends.iter_mut().for_each(End::drain);
        let mut damage = damage.into_iter();
        'turns: for turn in 0..200 {
            let (from, to) = (turn % 2, 1 - turn % 2);
            let mut bytes = Vec::from(std::mem::take(&mut world.ends[from].wire));
            if rng.below(2) == 0
                && !bytes.is_empty()
                && let Some((at, value, cut)) = damage.next()
            {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] ^= value }
            }
            let end = &mut world.ends[to];
            if end.receive(&bytes).is_err() {
                break 'turns;
            }
            while end.serve() {}
            end.sync();
            end.give_up();
        }
        prop_assert!(world.ends.iter().all(|end| end.steps < 20_000));
    }

    #[test]
    fn any_bytes_are_refused_or_read_without_panic(pieces in vec(vec(any::<u8>(), 0..64), 0..16)) {
        let mut decoder = Decoder::default();
        for piece in pieces {
            decoder.push(&piece);
            while let Ok(Some(_)) = decoder.next() {}
            prop_assert!(decoder.pending() <= 1024);
        }
    }
}

fn settled() -> Session {
    let mut session = Session::new(SPACE, Pinned::default(), [1; 16], true);
    let open = Open {
        space: SPACE,
        nonce: [2; 16],
        digest: None,
        logs: 0,
        frontier: Some(vec![]),
        missing: vec![],
        closed: vec![],
    };
    session.handle(&nothing, Message::Open(open)).expect("sound");
    session
}

fn nothing(_: &LogId, _: u64) -> Option<CommitId> {
    None
}

/// Repeats messages until the session breaks off.
fn until_refused(mut session: Session, mut next: impl FnMut(usize) -> Message) -> SyncError {
    for turn in 0..1_000_000 {
        if let Err(error) = session.handle(&nothing, next(turn)) {
            let steps: Vec<Step> = std::iter::from_fn(|| session.poll()).collect();
            assert_eq!(steps.last(), Some(&Step::Failed(error.clone())));
            assert!(session.is_over());
            return error;
        }
    }
    panic!("for ever");
}

#[test]
fn what_is_repeated_without_end_is_cut_off() {
    let space = SPACE;
    let run = |n| Run { after: 0, upto: Tip { log: log(n), seq: 1, id: CommitId::ZERO } };
    let want = |_| Message::Want { space, last: true, runs: vec![run(1)] };
    assert_eq!(until_refused(settled(), want), SyncError::TooMany("requests for commits"));

    let mut logs: Vec<LogId> = (0..70_000).map(log).collect();
    logs.sort_unstable();
    let more = |n: usize| {
        let upto = Tip { log: logs[n], seq: 1, id: CommitId::ZERO };
        Message::Want { space, last: false, runs: vec![Run { after: 0, upto }] }
    };
    assert_eq!(until_refused(settled(), more), SyncError::TooMany("runs in a request"));

    let ask = |n| Message::AskId { space, log: log(1), seq: n as u64 + 1, id: CommitId::ZERO };
    assert_eq!(until_refused(settled(), ask), SyncError::TooMany("questions about forks"));

    let many = store([1; 32], 1500);
    assert!(many.logs.len() > 256);
    let ranging = || {
        let mut session = Session::new(SPACE, many.pinned(), [1; 16], true);
        let open = Open {
            space,
            nonce: [2; 16],
            digest: None,
            logs: 999,
            frontier: None,
            missing: vec![],
            closed: vec![],
        };
        session.handle(&nothing, Message::Open(open)).expect("sound");
        session
    };
    // The same question again and again.
    let all = RangeBody::Fingerprint { count: 999, sum: [1; 16] };
    let items = vec![RangeItem { upto: None, body: all }];
    let again = |_| Message::Ranges { space, last: true, items: items.clone() };
    let error = until_refused(ranging(), again);
    assert_eq!(error, SyncError::TooMany("batches of reconciliation"));
    // A batch that never ends.
    let piece = |n: usize| {
        let body = RangeBody::Fingerprint { count: 0, sum: [0; 16] };
        Message::Ranges { space, last: false, items: vec![RangeItem { upto: Some(logs[n]), body }] }
    };
    assert_eq!(until_refused(ranging(), piece), SyncError::TooMany("ranges in a batch"));
    // Ranges beyond the end.
    let end = |_| Message::Ranges {
        space,
        last: false,
        items: vec![RangeItem { upto: None, body: RangeBody::Ask(vec![]) }],
    };
    assert_eq!(until_refused(ranging(), end), SyncError::OutOfRange);
    // Ranges that go backwards from one message to the next.
    let back = |_| Message::Ranges {
        space,
        last: false,
        items: vec![RangeItem { upto: Some(logs[9]), body: RangeBody::Ask(vec![]) }],
    };
    assert_eq!(until_refused(ranging(), back), SyncError::OutOfRange);
}

#[test]
fn what_nobody_asked_for_is_refused() {
    let space = SPACE;
    let cases = [
        (
            Message::Chunk { space, last_of_want: true, more: false, bytes: vec![] },
            SyncError::Unsolicited("Chunk"),
        ),
        (Message::IdAt { space, log: log(1), seq: 1, id: None }, SyncError::Unsolicited("IdAt")),
        (
            Message::Have { space: crate::base::SpaceId([0; 32]), all: true },
            SyncError::WrongSpace(crate::base::SpaceId([0; 32])),
        ),
        (
            Message::Ranges { space, last: true, items: vec![] },
            SyncError::OutOfTurn { message: "Ranges", state: "frontiers have been compared" },
        ),
    ];
    for (message, error) in cases {
        assert_eq!(until_refused(settled(), |_| message.clone()), error);
    }
}
