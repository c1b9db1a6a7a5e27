//! Each message has one encoding, and nothing else reads as it.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use crate::base::{CommitId, LogId, ReplicaId, SpaceId, Writer, hex, unhex};
use crate::limits;
use crate::sync::*;

/// Few distinct logs: neighbours and repetitions are what we are after.
pub(super) fn log_id() -> impl Strategy<Value = LogId> {
    (0u8..4, 0u8..=255, 0u64..3).prop_map(|(a, b, incarnation)| {
        let mut replica = [a; 32];
        replica[1] = b;
        LogId { replica: ReplicaId(replica), incarnation }
    })
}

fn seq() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1u64..20, 1 => 1u64..limits::SEQ_MAX, 1 => Just(limits::SEQ_MAX)]
}

fn commit_id() -> impl Strategy<Value = CommitId> {
    (0u8..8).prop_map(|byte| CommitId([byte; 32]))
}

fn tips(max: usize) -> impl Strategy<Value = Vec<Tip>> {
    btree_map(log_id(), (seq(), commit_id()), 0..max)
        .prop_map(|map| map.into_iter().map(|(log, (seq, id))| Tip { log, seq, id }).collect())
}

fn any_space() -> impl Strategy<Value = SpaceId> + Clone {
    (0u8..2).prop_map(|byte| SpaceId([byte; 32]))
}

fn text() -> impl Strategy<Value = PeerText> {
    ".{0,300}".prop_map(|text| PeerText::new(&text))
}

fn missing() -> impl Strategy<Value = Vec<Missing>> {
    btree_map(log_id(), vec((2u64..5, 0u64..4), 1..4), 0..4).prop_map(|logs| {
        let mut list = Vec::new();
        for (log, gaps) in logs {
            let mut at = 0;
            for (gap, len) in gaps {
                let from = at + gap;
                at = from + len;
                list.push(Missing { log, from, to: at });
            }
        }
        list
    })
}

fn open(space: impl Strategy<Value = SpaceId>) -> impl Strategy<Value = Open> {
    let frontier = prop_oneof![
        tips(20).prop_map(|tips| (tips.len() as u64, Some(tips))),
        (limits::FRONTIER_WHOLE_LOGS_MAX as u64 + 1..).prop_map(|logs| (logs, None)),
    ];
    let closed = btree_map(log_id(), seq(), 0..4).prop_map(|logs| logs.into_iter().collect());
    (space, any::<[u8; 16]>(), any::<Option<[u8; 32]>>(), frontier, missing(), closed).prop_map(
        |(space, nonce, digest, (logs, frontier), missing, closed)| Open {
            space,
            nonce,
            digest: digest.filter(|_| missing.is_empty()),
            logs,
            frontier,
            missing,
            closed,
        },
    )
}

fn items() -> impl Strategy<Value = Vec<RangeItem>> {
    let body = prop_oneof![
        Just(RangeBody::Skip),
        (1u64.., any::<[u8; 16]>()).prop_map(|(count, sum)| RangeBody::Fingerprint { count, sum }),
        Just(RangeBody::Fingerprint { count: 0, sum: [0; 16] }),
        tips(4).prop_map(RangeBody::Ask),
        tips(4).prop_filter("not empty", |t| !t.is_empty()).prop_map(RangeBody::Answer),
    ];
    (btree_map(log_id(), body.clone(), 0..8), proptest::option::of(body)).prop_map(
        |(bounded, end)| {
            let bounded = bounded.into_iter().map(|(log, body)| (Some(log), body));
            let mut items: Vec<RangeItem> = Vec::new();
            for (upto, body) in bounded.chain(end.map(|body| (None, body))) {
                let skip = |item: &RangeItem| item.body == RangeBody::Skip;
                if body == RangeBody::Skip && items.last().is_some_and(skip) {
                    items.pop();
                }
                items.push(RangeItem { upto, body });
            }
            while items.last().is_some_and(|item| item.body == RangeBody::Skip) {
                items.pop();
            }
            items
        },
    )
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    btree_map(log_id(), vec((0u64..4, 1u64..9, commit_id()), 1..3), 0..6).prop_map(|logs| {
        let mut runs = Vec::new();
        for (log, spans) in logs {
            let mut at = 0;
            for (gap, len, id) in spans {
                let after = at + gap;
                at = after + len;
                runs.push(Run { after, upto: Tip { log, seq: at, id } });
            }
        }
        runs
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    (1u16.., 0u16..9, any::<u64>(), any::<[u8; 16]>(), text()).prop_map(
        |(version_min, more, features, process, agent)| {
            let version_max = version_min.saturating_add(more);
            Hello { version_min, version_max, features, process, agent }
        },
    )
}

fn places() -> impl Strategy<Value = Vec<Place>> {
    let addresses = vec("[a-z0-9.:\\[\\]]{1,20}", 1..4);
    let place = |(replica, addresses)| Place { replica: ReplicaId(replica), addresses };
    btree_map(any::<[u8; 32]>(), addresses, 0..4)
        .prop_map(move |places| places.into_iter().map(place).collect())
}

pub(super) fn message(
    space: impl Strategy<Value = SpaceId> + Clone + 'static,
) -> impl Strategy<Value = Message> {
    let space = move || space.clone();
    let bytes = || vec(any::<u8>(), 1..300);
    let reason = || (any::<u16>().prop_map(Code), text());
    prop_oneof![
        hello().prop_map(Message::Hello),
        (space(), any::<[u8; 32]>()).prop_map(|(space, proof)| Message::Admit { space, proof }),
        open(space()).prop_map(Message::Open),
        (space(), any::<bool>(), items()).prop_map(|(space, last, items)| Message::Ranges {
            space,
            last,
            items
        }),
        (space(), any::<bool>(), runs()).prop_map(|(space, last, runs)| Message::Want {
            space,
            last,
            runs
        }),
        (space(), 0u8..3, bytes()).prop_map(|(space, flags, bytes)| Message::Chunk {
            space,
            last_of_want: flags == 1,
            more: flags == 2,
            bytes
        }),
        space().prop_map(|space| Message::Chunk {
            space,
            last_of_want: true,
            more: false,
            bytes: Vec::new()
        }),
        (space(), any::<bool>()).prop_map(|(space, all)| Message::Have { space, all }),
        (space(), any::<bool>(), bytes()).prop_map(|(space, more, bytes)| Message::Push {
            space,
            more,
            bytes
        }),
        (space(), tips(9)).prop_map(|(space, tips)| Message::Acked { space, tips }),
        (space(), log_id(), seq(), commit_id()).prop_map(|(space, log, seq, id)| Message::AskId {
            space,
            log,
            seq,
            id
        }),
        (space(), log_id(), seq(), proptest::option::of(commit_id()))
            .prop_map(|(space, log, seq, id)| Message::IdAt { space, log, seq, id }),
        (space(), btree_set(log_id(), 1..4)).prop_map(|(space, logs)| Message::AskProofs {
            space,
            logs: logs.into_iter().collect()
        }),
        (space(), any::<bool>(), bytes()).prop_map(|(space, last, bytes)| Message::Proof {
            space,
            last,
            bytes
        }),
        space().prop_map(|space| Message::Prune { space }),
        (space(), runs().prop_filter("not empty", |runs| !runs.is_empty()))
            .prop_map(|(space, runs)| Message::Graft { space, runs }),
        places().prop_map(|places| Message::Addresses { places }),
        (1u64..).prop_map(|bytes| Message::Grant { bytes }),
        (space(), reason()).prop_map(|(space, (code, text))| Message::Refuse { space, code, text }),
        reason().prop_map(|(code, text)| Message::Close { code, text }),
    ]
}

fn decode_all(bytes: &[u8]) -> Result<Vec<Message>, FrameError> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    let mut messages = Vec::new();
    while let Some(message) = decoder.next()? {
        messages.push(message);
    }
    Ok(messages)
}

proptest! {
    #[test]
    fn messages_survive_a_stream_cut_anywhere(
        messages in vec(message(any_space()), 1..6), cuts in vec(1usize..200, 0..40),
    ) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| encode_into(message, &mut bytes));
        let total: usize = messages.iter().map(frame::frame_bytes).sum();
        prop_assert_eq!(bytes.len(), total);
        let (mut decoder, mut read) = (Decoder::default(), Vec::new());
        let mut rest = bytes.as_slice();
        let mut cuts = cuts.into_iter();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts.next().unwrap_or(usize::MAX).min(rest.len()));
            rest = after;
            decoder.push(piece);
            while let Some(message) = decoder.next().expect("canonical") {
                read.push(message);
            }
        }
        prop_assert_eq!(read, messages);
        prop_assert_eq!(decoder.pending(), 0);
    }

    #[test]
    fn flipped_or_cut_bytes_are_refused_or_another_message(
        message in message(any_space()),
        at: prop::sample::Index,
        bit in 0u8..8,
        cut: prop::sample::Index,
    ) {
        let bytes = encode(&message);
        let mut flipped = bytes.clone();
        let len = flipped.len();
        flipped[at.index(len)] ^= 1 << bit;
        if let Ok(read) = decode_all(&flipped) {
            prop_assert_ne!(read, vec![message]);
        }
        prop_assert_eq!(decode_all(&bytes[..cut.index(len)]), Ok(vec![]));
    }

    #[test]
    fn what_reads_as_a_message_is_what_is_written(kind in 0u64..19, body: Vec<u8>) {
        let mut bytes = Vec::new();
        bytes.put_varint(if kind == 18 { 1 } else { kind * 2 });
        bytes.put_bytes(&body);
        if let Ok(messages) = decode_all(&bytes) {
            let again: Vec<u8> = messages.iter().flat_map(encode).collect();
            prop_assert_eq!(again, bytes);
        }
    }
}

/// A frame with any head and `len` bytes of body.
fn frame(kind: u64, len: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_varint(kind);
    bytes.put_varint(len);
    bytes.put(body);
    bytes
}

#[test]
fn unknown_optional_frames_are_skipped_and_not_kept() {
    let grant = Message::Grant { bytes: 7 };
    let mut bytes = frame(1001, 100_000, &[9; 100_000]);
    bytes.extend(encode(&grant));
    let (mut decoder, mut read) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(1000) {
        decoder.push(piece);
        read.extend(decoder.next().expect("sound"));
        assert!(decoder.pending() <= 1000);
    }
    assert_eq!(read, [grant]);
}

#[test]
fn unknown_required_frames_and_lengths_above_the_limit_are_errors_at_once() {
    assert_eq!(decode_all(&frame(36, 0, &[])), Err(FrameError::UnknownType(36)));
    for (kind, len) in [(22, 513), (4, 1 << 20), (10, u64::MAX), (14, 1 << 21), (77, 1 << 30)] {
        match decode_all(&frame(kind, len, &[])) {
            Err(FrameError::TooLong { kind: k, len: l, .. }) => assert_eq!((k, l), (kind, len)),
            other => panic!("{other:?}"),
        }
    }
    // Once lost, the place in the stream stays lost.
    let mut decoder = Decoder::default();
    decoder.push(&frame(36, 0, &[]));
    assert!(decoder.next().is_err());
    decoder.push(&encode(&Message::Grant { bytes: 1 }));
    assert!(decoder.next().is_err());
    assert_eq!(decoder.pending(), 0);
}

#[test]
fn places_that_no_peer_of_ours_would_tell_are_refused() {
    let place = |n: u8, addresses: Vec<String>| Place { replica: ReplicaId([n; 32]), addresses };
    let good = || vec!["host:1".to_owned()];
    let read = |places: Vec<Place>| decode_all(&encode(&Message::Addresses { places }));
    assert!(read(vec![place(1, good()), place(2, vec!["x".repeat(280)])]).is_ok());
    for bad in [
        vec![place(2, good()), place(1, good())],
        vec![place(1, good()), place(1, good())],
        vec![place(1, vec![])],
        vec![place(1, vec![String::new()])],
        vec![place(1, vec!["x".repeat(281)])],
        vec![place(1, vec!["a\u{1b}[2J:1".into()])],
        vec![place(1, vec!["host:1".into(); limits::TOLD_ADDRESSES_MAX + 1])],
        (0..=limits::PLACES_MAX).map(|n| place(u8::try_from(n).unwrap(), good())).collect(),
    ] {
        assert!(matches!(read(bad.clone()), Err(FrameError::Body { kind: 1, .. })), "{bad:?}");
    }
}

#[test]
fn the_largest_messages_stay_within_their_frames() {
    let log = |n: u64| LogId { replica: ReplicaId([0xff; 32]), incarnation: n };
    let tip = |n| Tip { log: log(n), seq: limits::SEQ_MAX, id: CommitId([1; 32]) };
    let space = SpaceId([1; 32]);
    let count = |max: usize| 0..max as u64;
    let large = [
        Message::Open(Open {
            space,
            nonce: [0; 16],
            digest: None,
            logs: 256,
            frontier: Some(count(limits::FRONTIER_WHOLE_LOGS_MAX).map(tip).collect()),
            missing: count(limits::MISSING_RANGES_MAX)
                .map(|n| Missing { log: log(n), from: limits::SEQ_MAX, to: limits::SEQ_MAX })
                .collect(),
            closed: count(limits::CLOSED_LISTED_MAX).map(|n| (log(n), limits::SEQ_MAX)).collect(),
        }),
        Message::AskProofs { space, logs: count(limits::CLOSED_LISTED_MAX).map(log).collect() },
        Message::Proof { space, last: true, bytes: vec![7; limits::FORK_PROOF_BYTES_MAX] },
        Message::Want {
            space,
            last: true,
            runs: count(limits::RUNS_PER_MESSAGE_MAX)
                .map(|n| Run { after: limits::SEQ_MAX - 1, upto: tip(n) })
                .collect(),
        },
        Message::Graft {
            space,
            runs: count(limits::RUNS_PER_MESSAGE_MAX)
                .map(|n| Run { after: limits::SEQ_MAX - 1, upto: tip(n) })
                .collect(),
        },
        Message::Acked { space, tips: count(limits::ACKED_TIPS_MAX).map(tip).collect() },
        Message::Chunk {
            space,
            last_of_want: true,
            more: false,
            bytes: vec![7; limits::CHUNK_BYTES_MAX],
        },
        Message::Close { code: Code(u16::MAX), text: PeerText::new(&"x".repeat(999)) },
    ];
    for message in large {
        let bytes = encode(&message);
        assert!(bytes.len() <= limits::FRAME_BYTES_MAX);
        assert_eq!(decode_all(&bytes), Ok(vec![message]));
    }
}

#[test]
fn version_1_is_pinned_byte_for_byte() {
    let golden = include_str!("golden-1.txt");
    let written: String = samples()
        .iter()
        .map(|message| format!("{} {}\n", message.name(), hex(&encode(message))))
        .collect();
    assert_eq!(golden, written, "the bytes of version 1 must not change");
    for (line, message) in golden.lines().zip(samples()) {
        let (_, bytes) = line.split_once(' ').expect("name and bytes");
        assert_eq!(decode_all(&unhex(bytes).expect("hexadecimal")), Ok(vec![message]));
    }
}

/// One of each message, with every field used.
fn samples() -> Vec<Message> {
    let space = SpaceId([0x5a; 32]);
    let log = |n: u8| LogId { replica: ReplicaId([n; 32]), incarnation: 0x0102_0304 };
    let tip = |n: u8, seq| Tip { log: log(n), seq, id: CommitId([n | 0xc0; 32]) };
    let open = |digest, logs, frontier, missing| {
        let closed = Vec::new();
        Message::Open(Open { space, nonce: [0x11; 16], digest, logs, frontier, missing, closed })
    };
    let item = |upto: Option<u8>, body| RangeItem { upto: upto.map(log), body };
    vec![
        Message::Hello(Hello {
            version_min: 1,
            version_max: 300,
            features: 5,
            process: [0x22; 16],
            agent: PeerText::new("kdelta/0.1.0"),
        }),
        Message::Admit { space, proof: [0x33; 32] },
        open(Some([0xdd; 32]), 2, Some(vec![tip(1, 7), tip(2, 70_000)]), vec![]),
        open(None, 5000, None, vec![Missing { log: log(3), from: 2, to: 900 }]),
        Message::Ranges {
            space,
            last: false,
            items: vec![
                item(Some(1), RangeBody::Skip),
                item(Some(2), RangeBody::Fingerprint { count: 40, sum: [0xee; 16] }),
                item(Some(3), RangeBody::Ask(vec![tip(2, 9)])),
                item(None, RangeBody::Answer(vec![tip(4, 1), tip(5, 2)])),
            ],
        },
        Message::Want { space, last: true, runs: vec![Run { after: 0, upto: tip(6, 128) }] },
        Message::Chunk { space, last_of_want: false, more: true, bytes: b"commits".to_vec() },
        Message::Chunk { space, last_of_want: true, more: false, bytes: vec![] },
        Message::Have { space, all: true },
        Message::Push { space, more: false, bytes: b"pushed".to_vec() },
        Message::Acked { space, tips: vec![tip(7, 1)] },
        Message::AskId { space, log: log(8), seq: 44, id: CommitId([0x44; 32]) },
        Message::IdAt { space, log: log(8), seq: 44, id: None },
        Message::IdAt { space, log: log(8), seq: 45, id: Some(CommitId([0x45; 32])) },
        Message::Grant { bytes: 1 << 20 },
        Message::Refuse { space, code: Code::NOT_ADMITTED, text: PeerText::new("no") },
        Message::Close { code: Code::DONE, text: PeerText::new("") },
        Message::Open(Open {
            space,
            nonce: [0x11; 16],
            digest: None,
            logs: 0,
            frontier: Some(vec![]),
            missing: vec![],
            closed: vec![(log(9), 3), (log(10), 400)],
        }),
        Message::AskProofs { space, logs: vec![log(9), log(10)] },
        Message::Proof { space, last: true, bytes: b"proof".to_vec() },
        Message::Prune { space },
        Message::Graft { space, runs: vec![Run { after: 3, upto: tip(9, 130) }] },
        Message::Addresses {
            places: vec![
                Place { replica: ReplicaId([5; 32]), addresses: vec!["[::1]:7440".into()] },
                Place {
                    replica: ReplicaId([6; 32]),
                    addresses: vec!["example.org:7440".into(), "192.0.2.1:9".into()],
                },
            ],
        },
    ]
}
