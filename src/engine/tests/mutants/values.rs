//! Laws that need no store: states, frames, credit, one session.

use std::collections::VecDeque;

use kdelta_engine::base::{CommitId, Dot, Hlc, LogId, ReplicaId, SpaceId, Writer as _};
use kdelta_engine::causal::Tip;
use kdelta_engine::crdt::{Applied, Delta, Json, Op, Stamp, State};
use kdelta_engine::limits::{CREDIT_WINDOW_BYTES, FRONTIER_WHOLE_LOGS_MAX};
use kdelta_engine::sync::{Decoder, Message, Pinned, SendCredit, Session, Step};

fn log(n: u16) -> LogId {
    let mut replica = [0; 32];
    replica[..2].copy_from_slice(&n.to_be_bytes());
    LogId { replica: ReplicaId(replica), incarnation: 1 }
}

/// The first event of a log on a key that nobody wrote before.
fn event(n: u8, op: &Op) -> (Stamp, Delta) {
    let dot = Dot { log: log(n.into()), seq: 1, index: 0 };
    let stamp = Stamp { hlc: Hlc(77), dot, commit: CommitId([n; 32]) };
    (stamp, State::new().deltas(op, false).unwrap().remove(0))
}

fn folded(events: &[&(Stamp, Delta)]) -> State {
    let mut state = State::new();
    for (stamp, delta) in events {
        assert_eq!(state.apply(stamp, delta), Applied::Done);
    }
    state
}

pub(crate) fn an_event_counts_once() -> bool {
    let add = event(1, &Op::CounterAdd(5));
    folded(&[&add]) == folded(&[&add, &add])
}

pub(crate) fn the_order_of_arrival_makes_no_difference() -> bool {
    let put = |n, json: &str| event(n, &Op::Put(Json::parse(json.as_bytes()).unwrap()));
    let (a, b) = (put(1, "1"), put(2, "2"));
    folded(&[&a, &b]) == folded(&[&b, &a])
}

pub(crate) fn a_frame_that_is_too_long_is_refused_at_once() -> bool {
    let mut bytes = Vec::new();
    bytes.put_varint(10);
    bytes.put_varint(1 << 30);
    let mut decoder = Decoder::default();
    decoder.push(&bytes);
    decoder.next().is_err()
}

pub(crate) fn credit_ends() -> bool {
    let mut credit = SendCredit::default();
    credit.sent(usize::try_from(CREDIT_WINDOW_BYTES).unwrap());
    !credit.is_open()
}

pub(crate) fn ranges_that_differ_in_one_tip_are_told_apart() -> bool {
    let logs = u16::try_from(FRONTIER_WHOLE_LOGS_MAX).unwrap() + 50;
    let tip = |n| Tip { log: log(n), seq: 1, id: CommitId([7; 32]) };
    let behind: Vec<_> = (0..logs).map(tip).collect();
    let mut ahead = behind.clone();
    (ahead[99].seq, ahead[99].id) = (2, CommitId([8; 32]));
    let session = |frontier: &[_], nonce, initiator| {
        let pinned =
            Pinned { digest: Some([nonce; 32]), frontier: frontier.to_vec(), ..Pinned::default() };
        Session::new(SpaceId([1; 32]), pinned, [nonce; 16], initiator)
    };
    let mut sides = [session(&behind, 1, true), session(&ahead, 2, false)];
    let mut mail: VecDeque<(usize, Message)> = VecDeque::new();
    let holds = |_: &LogId, seq: u64| (seq == 1).then_some(CommitId([7; 32]));
    loop {
        for (n, side) in sides.iter_mut().enumerate() {
            while let Some(step) = side.poll() {
                match step {
                    Step::Send(message) => mail.push_back((1 - n, message)),
                    Step::Request(runs) => return n == 0 && runs.len() == 1,
                    _ => {}
                }
            }
        }
        let Some((to, message)) = mail.pop_front() else { return false };
        sides[to].handle(&holds, message).unwrap();
    }
}
