//! The parts that a put and a sync are made of: one commit sealed, written, read, checked; a state
//! folded; the hash of a state.
//!
//! `cargo bench --manifest-path benches/peers/Cargo.toml`. Promises nothing about whole operations:
//! those are what the program beside this measures.

#![expect(clippy::expect_used, reason = "a benchmark may panic")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kdelta::engine::base::{CommitId, Dot, Hlc, Key, LogId, ReplicaId, Rng, SpaceId};
use kdelta::engine::crdt::{Action, Applied, Delta, State, Supersedes};
use kdelta::engine::event::{Commit, Dictionary, Draft, Kind, compact};
use kdelta::engine::store::{KeyOp, Write};
use kdelta::host::replica::{Durability, Replica};

const SPACE: SpaceId = SpaceId([7; 32]);
const LOG: LogId = LogId { replica: ReplicaId([9; 32]), incarnation: 1 };
const BASE_MS: u64 = 1_700_000_000_000;

/// A commit of so many events of 16 and 100 bytes, each of which supersedes one of its own log.
fn draft(events: usize) -> Draft {
    let event = |number: usize| {
        let key = Key::new(&format!("key-{number:012}")).expect("a key");
        let dot = Dot { log: LOG, seq: 1, index: u16::try_from(number).unwrap_or(u16::MAX) };
        let supersedes = Supersedes::Dots(vec![dot]);
        let payload = [0x5a; 100].as_slice().into();
        (key, Delta { action: Action::BytesPut, supersedes, payload })
    };
    Draft {
        space: SPACE,
        log: LOG,
        seq: 3,
        prev: CommitId([5; 32]),
        hlc: Hlc(BASE_MS << 16),
        deps: Vec::new(),
        grant: None,
        kind: Kind::Data,
        owned: None,
        act: None,
        events: (0..events).map(event).collect(),
        meta: None,
    }
}

fn sealed(events: usize) -> Commit {
    draft(events).seal(&mut Rng::new([1; 32])).expect("a commit")
}

fn commits(criterion: &mut Criterion) {
    let mut dictionary = Dictionary::default();
    let (entry, _) = dictionary.intern(SPACE, LOG, 1, CommitId([4; 32]));
    dictionary.note(entry, 2, CommitId([5; 32]));
    for events in [1, 100] {
        let commit = sealed(events);
        let mut bytes = Vec::new();
        compact::encode(&commit, &dictionary, BASE_MS, &mut bytes).expect("all is interned");
        let name = |part: &str| format!("{part}, {events} event(s)");
        criterion.bench_function(&name("seal"), |bencher| {
            let mut rng = Rng::new([1; 32]);
            let seal = |draft: Draft| draft.seal(&mut rng).expect("a commit");
            bencher.iter_batched(|| draft(events), seal, BatchSize::SmallInput);
        });
        criterion.bench_function(&name("encode"), |bencher| {
            let mut out = Vec::with_capacity(bytes.len());
            bencher.iter(|| {
                out.clear();
                compact::encode(black_box(&commit), &dictionary, BASE_MS, &mut out)
            });
        });
        criterion.bench_function(&name("decode and check"), |bencher| {
            let none = |_: &LogId, _| None;
            bencher.iter(|| {
                compact::decode(black_box(&bytes), &dictionary, BASE_MS, &none).expect("a commit")
            });
        });
        criterion.bench_function(&name("read without hashes"), |bencher| {
            bencher
                .iter(|| compact::read(black_box(&bytes), &dictionary, BASE_MS).expect("a commit"));
        });
    }
}

fn leaves(criterion: &mut Criterion) {
    let commit = sealed(1);
    let event = commit.events().first().expect("one event");
    criterion.bench_function("leaf hash", |bencher| bencher.iter(|| black_box(event).leaf_hash()));
    criterion.bench_function("commit id", |bencher| {
        bencher.iter(|| black_box(commit.header()).id());
    });
}

fn folds(criterion: &mut Criterion) {
    let adds = |supersedes: fn(u64) -> Supersedes, action, payload: &'static [u8]| {
        (1..=1000_u64).map(move |seq| {
            let stamp = kdelta::engine::crdt::Stamp {
                hlc: Hlc((BASE_MS + seq) << 16),
                dot: Dot { log: LOG, seq, index: 0 },
                commit: CommitId([3; 32]),
            };
            (stamp, Delta { action, supersedes: supersedes(seq), payload: payload.into() })
        })
    };
    let last = |seq: u64| match seq {
        1 => Supersedes::NOTHING,
        _ => Supersedes::Dots(vec![Dot { log: LOG, seq: seq - 1, index: 0 }]),
    };
    let register: Vec<_> = adds(last, Action::RegisterPut, b"\"a value\"").collect();
    let counter: Vec<_> =
        adds(|_| Supersedes::NOTHING, Action::CounterAdd, &[1, 0, 0, 0, 0, 0, 0, 0]).collect();
    for (name, deltas) in [("register", register), ("counter", counter)] {
        criterion.bench_function(&format!("fold 1,000 events, {name}"), |bencher| {
            bencher.iter(|| {
                let mut state = State::default();
                for (stamp, delta) in black_box(&deltas) {
                    assert_eq!(state.apply(stamp, delta), Applied::Done, "nothing is folded");
                }
                state
            });
        });
    }
}

fn hashes(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let replica = Replica::open(dir.path()).expect("a replica");
    let space = replica.default_space().expect("a space");
    let op = |number: usize| {
        let key = Key::new(&format!("key-{number:012}")).expect("a key");
        let op = kdelta::engine::crdt::Op::PutBytes([0x5a; 100].as_slice().into());
        KeyOp { key, op, retype: false, expect: None }
    };
    let write = Write { space, ops: (0..1000).map(op).collect(), ..Write::default() };
    replica.write(write, Durability::Local).expect("a write");
    criterion.bench_function("state hash, 1 log", |bencher| {
        bencher.iter(|| replica.read(|store| store.state_hash(&space)).expect("a hash"));
    });
    criterion.bench_function("value hash, 1,000 keys", |bencher| {
        bencher.iter(|| replica.read(|store| store.value_hash(&space)).expect("a hash"));
    });
    replica.close().expect("an orderly end");
}

criterion_group!(parts, commits, leaves, folds, hashes);
criterion_main!(parts);
