//! Values of a few bytes up to a commit: what reads must read again as it was written.

use std::str::FromStr;
use std::sync::Arc;

use kdelta_engine::base::{
    CommitId, EventId, Hash, Key, LogId, Reader, ReplicaId, SpaceId, hex, sha256, unhex,
};
use kdelta_engine::causal::{Clocks, Tip, VersionVector};
use kdelta_engine::crdt::{Action, Json, Payload, State, canonical, is_canonical};
use kdelta_engine::event::tree::{PrefixProof, Tree};
use kdelta_engine::event::{
    Attestation, Dictionary, ForkProof, ForkSide, Header, Meta, Skeleton, Voucher, compact,
};
use kdelta_engine::log::FileId;
use kdelta_engine::node::Ticket;
use kdelta_engine::store::sidecar::IdPrefix;

/// What `reader` took of `bytes`.
fn taken<'a>(bytes: &'a [u8], reader: &Reader<'_>) -> &'a [u8] {
    &bytes[..bytes.len() - reader.remaining()]
}

/// The canonical header of a commit (FORMAT 3.1).
pub fn header(bytes: &[u8]) {
    let Ok(header) = Header::decode(bytes) else { return };
    let mut again = Vec::new();
    header.encode(&mut again);
    assert_eq!(again, bytes, "a header has one form");
    assert_eq!(header.encoded_len(), bytes.len());
    assert_eq!(header.id().0, sha256("kdelta/commit/1", &[bytes]));
}

/// Skeletons, meta leaves and payloads (FORMAT 4).
pub fn leaf(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    if let Ok(skeleton) = Skeleton::decode(&mut reader) {
        let mut again = Vec::new();
        skeleton.encode(&mut again);
        assert_eq!(again, taken(bytes, &reader), "a skeleton has one form");
        assert_eq!(skeleton.encoded_len(), again.len());
    }
    if let Ok(meta) = Meta::decode(bytes) {
        assert_eq!(meta.encode().expect("what reads is within its limits"), bytes);
    }
    let payload: Arc<[u8]> = bytes.into();
    for action in (0..=u8::MAX).flat_map(|ty| [[ty, 1], [ty, 2]]) {
        if let Ok(action) = Action::from_bytes(action) {
            assert_eq!(Action::from_bytes(action.to_bytes()), Ok(action));
            let _ = Payload::read(action, &payload);
        }
    }
}

/// Attestations, vouchers, trees and proofs of forks (FORMAT 5).
pub fn proof(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    if let Ok(attestation) = Attestation::decode(&mut reader) {
        let mut again = Vec::new();
        attestation.encode(&mut again);
        assert_eq!(again, taken(bytes, &reader), "an attestation has one form");
        let _ = attestation.verify();
    }
    let mut reader = Reader::new(bytes);
    if let Ok(voucher) = Voucher::decode(&mut reader) {
        let mut again = Vec::new();
        voucher.encode(&mut again);
        assert_eq!(again, taken(bytes, &reader), "a voucher has one form");
        let attested = voucher.attestation.tip();
        let inner = Tip { seq: attested.seq / 2, ..attested };
        for tip in [attested, inner, Tip { seq: 0, ..attested }] {
            let _ = voucher.covers(&voucher.attestation.space, &tip);
        }
    }
    if let Ok(side) = ForkSide::decode(bytes) {
        let mut again = Vec::new();
        side.encode(&mut again);
        assert_eq!(again, bytes, "a side of a fork has one form");
    }
    if let Ok(proof) = ForkProof::decode(bytes) {
        let mut again = Vec::new();
        proof.encode(&mut again);
        assert_eq!(again, bytes, "a proof of a fork has one form");
        assert_eq!(ForkProof::place(bytes), Some((proof.space(), proof.log(), proof.seq())));
    }
    let _ = ForkProof::place(bytes);
    let mut reader = Reader::new(bytes);
    if let Ok(mut tree) = Tree::decode(&mut reader) {
        let (size, ids) = (tree.size(), |_: u64| None::<CommitId>);
        let _ = tree.root();
        for index in [0, size / 2, size.saturating_sub(1), size, u64::MAX] {
            let _ = tree.proof(index, size, &ids);
            let _ = tree.root_at(index, &ids);
            let known = PrefixProof { prefix: size / 2, size, hashes: &[] };
            let _ = tree.extend_proof(index, known, &ids);
        }
        tree.append(&CommitId([7; 32]));
        assert_eq!(tree.size(), size + 1);
        let mut again = Vec::new();
        tree.encode(0, &mut again);
        assert!(Tree::decode(&mut Reader::new(&again)).is_ok(), "a tree reads as written");
    }
}

/// Tips, version vectors and clocks.
pub fn causal(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    if let Ok(tip) = Tip::decode(&mut reader) {
        let mut again = Vec::new();
        tip.encode(&mut again);
        assert_eq!(again, taken(bytes, &reader), "a tip has one form");
    }
    let mut reader = Reader::new(bytes);
    if let Ok(vector) = VersionVector::decode(&mut reader) {
        let mut again = Vec::new();
        vector.encode(&mut again);
        assert_eq!(again, taken(bytes, &reader), "a vector has one form");
        assert!(vector.covers(&vector));
    }
    let mut reader = Reader::new(bytes);
    if let Ok(mut clocks) = Clocks::decode(&mut reader) {
        let mut again = Vec::new();
        clocks.encode(&mut again);
        assert_eq!(again, taken(bytes, &reader), "clocks have one form");
        let log = LogId::default();
        let tip = clocks.tip(&log);
        for seq in [0, 1, tip / 2, tip, tip.saturating_add(1), u64::MAX] {
            let _ = clocks.past(&log, seq);
            let _ = clocks.is_past((&log, seq), (&log, tip));
        }
        if tip < u64::MAX {
            let _ = clocks.record(log, tip + 1, &[]);
        }
        clocks.forget(&VersionVector::from_iter([(log, tip)]));
        let _ = clocks.bytes();
    }
}

/// A dictionary, and a commit in compact form under it (FORMAT 6): `bytes` of dictionary entries,
/// a varint of base time, and the commit up to the end.
pub fn compact(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let mut dictionary = Dictionary::default();
    let Ok(entries) = reader.bytes(bytes.len(), "entries") else { return };
    let read = dictionary.read_entries(entries);
    let mut again = Vec::new();
    dictionary.put_entries(0, &mut again);
    assert!(read.is_err() || again == entries, "a dictionary has one form");
    let Ok(base_ms) = reader.varint() else { return };
    let body = &bytes[bytes.len() - reader.remaining()..];
    let id = |log: &LogId, seq: u64| {
        CommitId(sha256(
            "id",
            &[&log.replica.0, &log.incarnation.to_le_bytes(), &seq.to_le_bytes()],
        ))
    };
    let ids = |log: &LogId, seq| Some(id(log, seq));
    let loose = compact::read(body, &dictionary, base_ms);
    let Ok(commit) = compact::decode(body, &dictionary, base_ms, &ids) else { return };
    let loose = loose.expect("what can be hashed can be read");
    assert_eq!((loose.log, loose.seq, loose.hlc), (commit.log(), commit.seq(), commit.hlc()));
    assert_eq!(loose.events, commit.events());
    header(&{
        let mut header = Vec::new();
        commit.header().encode(&mut header);
        header
    });
    let mut again = Vec::new();
    compact::encode(&commit, &dictionary, base_ms, &mut again).expect("all its logs are named");
    let same = compact::decode(&again, &dictionary, base_ms, &ids);
    assert_eq!(same.as_ref().map(|same| same.id()), Ok(commit.id()));
    for event in commit.events() {
        let _ = (event.key(), event.payload(), event.delta());
    }
    let _ = loose.meta();
}

/// The state of a key, as sidecars keep it, with four logs to name.
pub fn state(bytes: &[u8]) {
    let name = |ix: u32| LogId { replica: ReplicaId([7; 32]), incarnation: ix.into() };
    let log = |ix| (ix < 4).then(|| name(ix));
    let mut reader = Reader::new(bytes);
    let Ok(state) = State::decode(&mut reader, &log) else { return };
    let mut again = Vec::new();
    state.encode(&mut again, &mut |log| u32::try_from(log.incarnation).unwrap());
    assert_eq!(again, taken(bytes, &reader), "a state has one form");
    let key = Key::new("k").unwrap();
    assert_eq!(state.view().is_none(), state.events().is_empty(), "what is live is shown");
    if let Some(view) = state.view() {
        let _ = (view.value_entry(&key), view.bytes());
    }
    let _ = (state.context(), state.bytes(), state.shown());
    let all = VersionVector::from_iter((0..4).map(|ix| (name(ix), u64::MAX)));
    let mut joined = state.clone();
    let _ = joined.join(&all, &state, &all);
    assert_eq!(joined.events(), state.events(), "a join with itself changes nothing");
    let _ = joined.finish();
}

/// JSON text as callers write it, and in the one form that is kept.
pub fn json(bytes: &[u8]) {
    let parsed = Json::parse(bytes);
    assert!(parsed.is_ok() || !is_canonical(bytes), "what is canonical can be read");
    let Ok(parsed) = parsed else { return };
    let kept = parsed.as_bytes();
    assert!(is_canonical(kept));
    assert_eq!(canonical(bytes).as_deref().ok(), Some(kept));
    assert_eq!(Json::parse(kept).as_ref(), Ok(&parsed), "the kept form is kept");
    assert_eq!(is_canonical(bytes), bytes == kept, "there is one form");
}

/// Ids, keys and paths, as people and file systems spell them.
pub fn names(bytes: &[u8]) {
    let key = Key::from_bytes(bytes);
    assert_eq!(key.is_ok(), Key::is_valid(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert_eq!(key.is_ok(), Key::new(text).is_ok());
    same::<ReplicaId>(text);
    same::<SpaceId>(text);
    same::<CommitId>(text);
    same::<LogId>(text);
    same::<EventId>(text);
    if let Some(bytes) = unhex(text) {
        assert_eq!(hex(&bytes), text.to_ascii_lowercase());
    }
    if let Some(file) = FileId::from_path(text) {
        assert_eq!(file.path(), text);
    }
    if let Some(prefix) = IdPrefix::from_hex(text) {
        let _ = prefix.matches(&CommitId([0xab; 32]));
    }
}

fn same<T: FromStr + std::fmt::Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse().is_ok_and(|again: T| again == value), "{text}");
    }
}

/// Tickets: with a checksum that fits, and as they are.
pub fn ticket(bytes: &[u8]) {
    let _ = Ticket::decode(bytes);
    let sum: Hash = sha256("kdelta/ticket/1", &[bytes]);
    let whole = [bytes, &sum[..4]].concat();
    if let Ok(ticket) = Ticket::decode(&whole) {
        assert_eq!(ticket.encode(), whole, "a ticket has one form");
    }
}
