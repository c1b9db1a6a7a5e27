//! What peers send: frames, messages and chunks of commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use kdelta_engine::base::{Reader, SpaceId, Writer};
use kdelta_engine::causal::Tip;
use kdelta_engine::event::tree::Tree;
use kdelta_engine::event::{Attestation, Commit, Dictionary, Voucher, compact};
use kdelta_engine::limits::FRAME_BYTES_MAX;
use kdelta_engine::store::verify;
use kdelta_engine::sync::{Decoder, FrameError, Message, encode};

use super::world::{self, held, key, look, now, same};

/// A stream of frames: the same messages come out however it is cut, each in one form.
pub fn frame(bytes: &[u8]) {
    let whole = messages(&[bytes]);
    for message in &whole.0 {
        let again = messages(&[&encode(message)]);
        assert_eq!(again, (vec![message.clone()], None), "a message has one form");
    }
    let step = bytes.first().map_or(1, |first| usize::from(*first) % 7 + 1);
    let pieces: Vec<&[u8]> = bytes.chunks(step).collect();
    assert_eq!(messages(&pieces), whole, "where a stream is cut tells nothing");
}

fn messages(pieces: &[&[u8]]) -> (Vec<Message>, Option<FrameError>) {
    let (mut decoder, mut found) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(decoder.pending() <= FRAME_BYTES_MAX + 20, "one frame at most is kept");
    }
    (found, None)
}

/// A chunk of commits, as it is, and with vouchers by the keys of the commits' authors.
pub fn chunk(bytes: &[u8]) {
    take(bytes);
    if let Some(vouched) = vouched(bytes) {
        take(&vouched);
    }
}

fn take(bytes: &[u8]) {
    let disk = Arc::new(held().disk.snapshot());
    let mut store = world::open(&disk, 1, world::ROOMY).unwrap().0;
    let before = store.version(&held().space).unwrap();
    let _ = store.insert_chunk(now(2000), bytes);
    let _ = store.retry_waiting(now(1 << 40));
    store.sync().expect("a sound disk");
    assert!(store.version(&held().space).unwrap().covers(&before), "nothing is lost");
    let said = look(&mut store);
    drop(store);
    let found = verify(&disk, true).unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let mut again = world::open(&disk, 1, world::ROOMY).unwrap().0;
    same(&look(&mut again), &said);
}

/// The chunk up to its commits, and vouchers that a known author of all of a log's commits could
/// give. None if it is no chunk up to there.
pub fn vouched(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut r = Reader::new(bytes);
    r.u8().ok()?;
    let space = SpaceId(r.hash().ok()?);
    let base_ms = r.u64().ok()?;
    let mut dictionary = Dictionary::default();
    dictionary.read_entries(r.bytes(bytes.len(), "dictionary").ok()?).ok()?;
    let mut logs: BTreeMap<_, (Tree, Tip)> = BTreeMap::new();
    for _ in 0..r.count(bytes.len(), 1, "commits").ok()? {
        let body = r.bytes(bytes.len(), "commit").ok()?;
        let commit: Commit = compact::decode(body, &dictionary, base_ms, &|_, _| None).ok()?;
        dictionary.note(dictionary.find(&space, &commit.log())?, commit.seq(), commit.id());
        let (tree, tip) = logs.entry(commit.log()).or_insert((Tree::default(), commit.tip()));
        if tree.size() + 1 == commit.seq() {
            tree.append(&commit.id());
            *tip = commit.tip();
        }
    }
    let mut out = bytes[..bytes.len() - r.remaining()].to_vec();
    let keys: Vec<_> = (1..=4).map(key).collect();
    let named = logs.values().filter_map(|(tree, tip)| {
        let key = keys.iter().find(|key| key.id() == tip.log.replica)?;
        Some(Attestation::sign(key, space, *tip, tree.root()))
    });
    let named: Vec<_> = named.collect();
    out.put_len(named.len());
    for attestation in named {
        Voucher { attestation, proof: Vec::new() }.encode(&mut out);
    }
    Some(out)
}
