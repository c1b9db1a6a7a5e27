//! Examples for each target, made by the encoders of the engine and from its golden files.
//!
//! From them the committed corpus was made; the replay takes them in too, so that a format that
//! moves on is still met by examples of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use kdelta_engine::base::{Key, LogId, Reader, ReplicaId, Rng, SpaceId, WallTime, Writer, unhex};
use kdelta_engine::causal::{Clocks, VersionVector};
use kdelta_engine::event::tree::Tree;
use kdelta_engine::log::{FileId, FileKind, Log, LogOptions, MemoryDisk};
use kdelta_engine::node::Ticket;
use kdelta_engine::store::Local;

use super::disk::newest_sidecar;
use super::node::{Place, step};
use super::world::{self, held, now, store_id};
use super::{node, records, recover, sums};

/// An example: a name and the bytes.
pub type Seed = (String, Vec<u8>);

const GOLDEN: &str = include_str!("../../../src/engine/src/sync/tests/golden-1.txt");
const HASHES: &str = include_str!("../../../src/engine/tests/fixtures/v1/hashes.txt");
const CHUNK: &[u8] = include_bytes!("../../../src/engine/tests/fixtures/v1/compact.chunk");
const VOUCHER: &[u8] = include_bytes!("../../../src/engine/tests/fixtures/v1/voucher.bin");
const ATTESTATION: &[u8] = include_bytes!("../../../src/engine/tests/fixtures/v1/attestation.bin");
const OWNED_CHUNK: &[u8] = include_bytes!("../../../src/engine/tests/fixtures/v1/owned.chunk");
const HEADERS: [(&str, &[u8]); 9] = [
    ("genesis", include_bytes!("../../../src/engine/tests/fixtures/v1/genesis.header")),
    ("data-one", include_bytes!("../../../src/engine/tests/fixtures/v1/data-one.header")),
    ("data-many", include_bytes!("../../../src/engine/tests/fixtures/v1/data-many.header")),
    ("ack", include_bytes!("../../../src/engine/tests/fixtures/v1/ack.header")),
    ("tag", include_bytes!("../../../src/engine/tests/fixtures/v1/tag.header")),
    ("owned-genesis", include_bytes!("../../../src/engine/tests/fixtures/v1/owned-genesis.header")),
    ("grant-replica", include_bytes!("../../../src/engine/tests/fixtures/v1/grant-replica.header")),
    ("grant-bearer", include_bytes!("../../../src/engine/tests/fixtures/v1/grant-bearer.header")),
    ("revoke", include_bytes!("../../../src/engine/tests/fixtures/v1/revoke.header")),
];

/// The examples of a target.
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "bookkeeping" => bookkeeping(),
        "causal" => causal(),
        "chunk" => named([("news", held().news.clone()), ("stranger", held().stranger.clone())]),
        "compact" => compact(),
        "frame" => frames(),
        "header" => named(HEADERS.map(|(name, bytes)| (name, bytes.to_vec()))),
        "json" => json(),
        "leaf" => leaves(),
        "local" => local(),
        "names" => names(),
        "node" => nodes(),
        "proof" => proofs(),
        "query" => queries(),
        "records" => named([("held", log_of(&held().disk)), ("peer", log_of(&held().peer))]),
        "recover" => recovers(),
        "sidecar" => sidecars(),
        "state" => states(),
        "ticket" => tickets(),
        other => panic!("no examples of {other}"),
    }
}

fn named<'a>(seeds: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<Seed> {
    seeds.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// A file without the last bytes, which the target makes anew.
fn without(disk: &MemoryDisk, kind: FileKind, number: u64, sum: usize) -> Vec<u8> {
    let mut bytes = disk.content(FileId::new(kind, number)).unwrap_or_default();
    bytes.truncate(bytes.len().saturating_sub(sum));
    bytes
}

fn bookkeeping() -> Vec<Seed> {
    let of = |kind, number| without(&held().sealed, kind, number, 32);
    named([
        ("manifest-0", of(FileKind::Manifest, 0)),
        ("manifest-1", of(FileKind::Manifest, 1)),
        ("mark", of(FileKind::Mark, 0)),
        ("mark-of-one", without(&held().disk, FileKind::Mark, 0, 32)),
    ])
}

fn log(number: u64) -> LogId {
    LogId { replica: ReplicaId([7; 32]), incarnation: number }
}

fn causal() -> Vec<Seed> {
    let mut clocks = Clocks::new();
    for seq in 1..=4 {
        for ix in 0..3 {
            let deps = if seq > 1 { vec![(log((ix + 1) % 3), seq - 1)] } else { Vec::new() };
            clocks.record(log(ix), seq, &deps).expect("all deps are there");
        }
    }
    let (mut coded, mut vector, mut tip) = (Vec::new(), Vec::new(), Vec::new());
    clocks.encode(&mut coded);
    VersionVector::from_iter([(log(0), 300), (log(2), 1)]).encode(&mut vector);
    let store = world::open(&Arc::new(held().disk.snapshot()), 1, world::ROOMY).unwrap().0;
    store.frontier(&held().space).unwrap()[0].encode(&mut tip);
    named([("clocks", coded), ("vector", vector), ("tip", tip)])
}

/// The golden chunks, one commit each.
fn compact() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, chunk) in [("golden", CHUNK), ("owned", OWNED_CHUNK)] {
        let mut reader = Reader::new(chunk);
        let entries = reader.bytes(chunk.len(), "entries").unwrap();
        for number in 0.. {
            if reader.remaining() == 0 {
                break;
            }
            let mut bytes = Vec::new();
            bytes.put_bytes(entries);
            bytes.put_varint(world::BEGIN_MS);
            bytes.put(reader.bytes(chunk.len(), "commit").unwrap());
            seeds.push((format!("{name}-{number}"), bytes));
        }
    }
    seeds
}

fn frames() -> Vec<Seed> {
    let mut all = Vec::new();
    let mut seeds = Vec::new();
    for (number, line) in (1..).zip(GOLDEN.lines()) {
        let (name, digits) = line.split_once(' ').unwrap();
        let bytes = unhex(digits).unwrap();
        all.extend_from_slice(&bytes);
        seeds.push((format!("{number:02}-{}", name.to_lowercase()), bytes));
    }
    seeds.push(("stream".to_owned(), all));
    // A frame of an optional type that nobody knows, and one that must be understood.
    seeds.extend(named([("skipped", vec![33, 3, 1, 2, 3, 22, 1, 9]), ("unknown", vec![36, 0])]));
    seeds
}

fn queries() -> Vec<Seed> {
    named([
        ("compare", br#"a >= 1.50 and not (b = 'x''y' or "c"[1].d != null)"#.to_vec()),
        (
            "texts",
            br#"b contains "x" or b prefix 'x' or b matches '^x.*$' or @key in ["a"]"#.to_vec(),
        ),
        ("exists", b"exists @value[3] OR @time < '2027'".to_vec()),
        ("sorted", br#"{"where":["exists a"],"sort":["a:desc","b"],"select":["c[1].d"]}"#.to_vec()),
        (
            "grouped",
            br#"{"group_by":["a"],"count":true,"sum":["a"],"avg":["a"],"min":["b"],"max":["c"],
                "sort":["max(c):desc","count"]}"#
                .to_vec(),
        ),
    ])
}

fn json() -> Vec<Seed> {
    let deep = [vec![b'['; 128], vec![b']'; 128]].concat();
    named([
        ("number", b" -12.50e+3 ".to_vec()),
        ("object", br#"{"b":[1,{"c":null}],"a":"\u00e9\ud83d\ude00\n\/","":true}"#.to_vec()),
        ("twice", br#"{"a":1,"\u0061":2}"#.to_vec()),
        ("half", br#""\ud83d""#.to_vec()),
        ("deep", deep),
    ])
}

/// The values that the list of golden hashes spells out.
fn leaves() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for line in HASHES.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [name, "skeleton", index, digits] = words[..] {
            seeds.push((format!("{name}-{index}"), unhex(digits).unwrap()));
        } else if let [name, "meta", digits] = words[..] {
            seeds.push((format!("{name}-meta"), unhex(digits).unwrap()));
        }
    }
    seeds.extend(named([
        ("counter", 7_i64.to_le_bytes().to_vec()),
        ("field", b"\x01a[1]".to_vec()),
        ("element", b"{\"a\":1}".to_vec()),
    ]));
    seeds
}

fn local() -> Vec<Seed> {
    let disk = MemoryDisk::new();
    let mut full = Local::load(&held().disk).unwrap().unwrap();
    full.past_incarnations = vec![1, 2];
    full.lost_segments = vec![3];
    full.place = Some(4);
    if let Some(peer) = full.peer_mut(ReplicaId([5; 32])) {
        peer.addresses = vec!["example.org:7440".to_owned()];
        peer.admitted = vec![held().space];
        peer.secrets = vec![(held().space, [6; 32])];
    }
    let (secret, space) = ([7; 32], held().space);
    full.tickets.push(kdelta_engine::store::LocalTicket {
        secret,
        space,
        expires_ms: world::BEGIN_MS,
        uses_left: 3,
    });
    full.save(&disk).unwrap();
    let number = disk.all_files()[0].number;
    named([
        ("held", without(&held().disk, FileKind::Local, 0, 4)),
        ("full", without(&disk, FileKind::Local, number, 4)),
    ])
}

fn names() -> Vec<Seed> {
    named([
        ("id", held().space.to_string().into_bytes()),
        ("log", log(0xfeed).to_string().into_bytes()),
        ("event", format!("{}.12", held().space).into_bytes()),
        ("segment", b"log/000000000000000a.seg".to_vec()),
        ("local", b"log/local-1".to_vec()),
        ("key", "päivä/1".as_bytes().to_vec()),
    ])
}

/// What a peer says to the node from its hello to the end of a session, both ways of dialling;
/// and the rest that can happen.
fn nodes() -> Vec<Seed> {
    let mut mixed = Vec::new();
    for (kind, bytes) in [
        (step::WRITE, &[1][..]),
        (step::CONNECT, &[1]),
        (step::PUSH, &held().stranger),
        (step::CRASH, &[1]),
        (step::TIME, &[0x40, 0]),
    ] {
        node::put(&mut mixed, kind, bytes);
    }
    let mut proof = held().space.0.to_vec();
    proof.put_u8(0);
    proof.put(&held().fork);
    let (dialled, answered) = (talk(0x80), talk(0));
    let hello = first_steps(&answered, 2);
    let mut forked = hello.clone();
    node::put(&mut forked, step::PUSH, &held().stranger);
    node::put(&mut forked, step::FRAME, &[&[30], &proof[..]].concat());
    named([("dialled", dialled), ("answered", answered), ("mixed", mixed), ("forked", forked)])
}

fn first_steps(bytes: &[u8], count: usize) -> Vec<u8> {
    let mut reader = Reader::new(bytes);
    for _ in 0..count {
        reader.u8().unwrap();
        reader.bytes(bytes.len(), "step").unwrap();
    }
    bytes[..bytes.len() - reader.remaining()].to_vec()
}

/// The node and replica 2 in conversation; what comes to the node is written down.
fn talk(dialled: u8) -> Vec<u8> {
    let mut one = Place::new(held().disk.snapshot(), 1);
    let mut two = Place::new(held().peer.snapshot(), 2);
    let mut steps = Vec::new();
    node::put(&mut steps, step::CONNECT, &[dialled]);
    one.step(step::CONNECT, &[dialled]);
    // The peer's number is 2 less 2 there, and the node's is 1, which nobody checks here.
    two.step(step::CONNECT, &[!dialled & 0x80 | 3]);
    let (mut to_one, mut to_two): (VecDeque<_>, VecDeque<_>) = Default::default();
    for _ in 0..1000 {
        to_two.extend(one.sent.drain(..));
        to_one.extend(two.sent.drain(..));
        if let Some(bytes) = to_one.pop_front() {
            node::put(&mut steps, step::BYTES, &bytes);
            one.step(step::BYTES, &bytes);
        } else if let Some(bytes) = to_two.pop_front() {
            two.step(step::BYTES, &bytes);
        } else {
            break;
        }
    }
    steps
}

fn proofs() -> Vec<Seed> {
    let mut tree = Tree::default();
    for seq in (0..=u8::MAX).cycle().take(700) {
        tree.append(&kdelta_engine::base::CommitId([seq; 32]));
    }
    let mut coded = Vec::new();
    tree.encode(0, &mut coded);
    let mut side = Vec::new();
    let fork = kdelta_engine::event::ForkProof::decode(&held().fork).unwrap();
    fork.sides()[0].encode(&mut side);
    named([
        ("attestation", ATTESTATION.to_vec()),
        ("voucher", VOUCHER.to_vec()),
        ("fork", held().fork.clone()),
        ("side", side),
        ("tree", coded),
    ])
}

/// The records of a log, as the target reads them.
fn log_of(disk: &MemoryDisk) -> Vec<u8> {
    let store = Local::load(disk).unwrap().unwrap().store;
    let options = LogOptions::new(store, Rng::new([1; 32]));
    let (log, _) = Log::open(Arc::new(disk.snapshot()), &options).unwrap();
    let mut out = Vec::new();
    for (number, item) in log.scan(Default::default()).enumerate() {
        let (_, record) = item.unwrap();
        records::put(&mut out, record.kind.0, &record.body);
        if number % 5 == 4 {
            records::put(&mut out, records::GROUP, &[]);
        }
    }
    out
}

fn recovers() -> Vec<Seed> {
    let part = |kind, number, sum| without(&held().disk, kind, number, sum);
    let mut segment = part(FileKind::Segment, 1, 0);
    // What is reserved and not written is left out.
    let end = segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    segment.truncate(end);
    let whole = |flags: u8, manifests: bool, segment: &[u8]| {
        let sum = if flags & recover::HASHES == 0 { 0 } else { 32 };
        let mut bytes = vec![flags];
        for (kind, number) in
            [(FileKind::Manifest, 0), (FileKind::Manifest, 1), (FileKind::Mark, 0)]
        {
            let content = part(kind, number, sum);
            bytes.put_bytes(if manifests { &content } else { &[] });
        }
        bytes.put(segment);
        bytes
    };
    let mut holed = segment.clone();
    holed[1000..1100].fill(0);
    let both = recover::HASHES | recover::SUMS;
    named([
        ("whole", whole(0, true, &segment)),
        ("summed", whole(both, true, &segment)),
        ("alone", whole(recover::SUMS, false, &segment)),
        ("torn", whole(0, false, &segment[..segment.len() - 300])),
        ("cut", whole(both, true, &segment[..segment.len() / 2])),
        ("holed", whole(0, true, &holed)),
        ("nothing", vec![0, 0, 0, 0]),
    ])
}

fn sidecars() -> Vec<Seed> {
    let disk = &held().sealed;
    let file = newest_sidecar(disk);
    let mut bytes = Vec::new();
    for piece in sums::pieces(&store_id(), file.number, &disk.content(file).unwrap()) {
        bytes.extend(u16::try_from(piece.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&piece);
    }
    named([("newest", bytes)])
}

/// The states of all keys, with their logs numbered as the target numbers them.
fn states() -> Vec<Seed> {
    let mut store = world::open(&Arc::new(held().disk.snapshot()), 1, world::ROOMY).unwrap().0;
    let logs: Vec<_> = store.frontier(&held().space).unwrap().iter().map(|tip| tip.log).collect();
    let mut seeds = Vec::new();
    for name in ["title", "raw", "hits", "tags", "card"] {
        let state = store.state_at(&held().space, &Key::new(name).unwrap(), None).unwrap();
        let mut bytes = Vec::new();
        state.encode(&mut bytes, &mut |log| {
            u32::try_from(logs.iter().position(|known| known == log).unwrap()).unwrap()
        });
        seeds.push((name.to_owned(), bytes));
    }
    seeds
}

fn tickets() -> Vec<Seed> {
    let ticket = Ticket {
        replica: world::key(1).id(),
        space: SpaceId([2; 32]),
        secret: [3; 32],
        expires: WallTime(now(0).wall.0),
        addresses: vec!["example.org:7440".to_owned(), "[::1]:7440".to_owned()],
    };
    let mut bytes = ticket.encode();
    bytes.truncate(bytes.len() - 4);
    named([("two-addresses", bytes)])
}
