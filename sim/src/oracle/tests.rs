//! The decoder on the engine's golden files, and on bytes that are not canonical.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kdelta_engine::base::hex;

use super::bytes::Bytes;
use super::commit::{Commit, Content, tree};
use super::compact::Dictionary;
use super::vouch::Voucher;

/// What the stamps of the fixtures are relative to.
const BASE_MS: u64 = 1_750_000_000_000;
const NAMES: [&str; 6] = ["genesis", "data-one", "data-many", "ack", "tag", "data-erased"];

fn fixture(name: &str) -> Vec<u8> {
    let folder = "../src/engine/tests/fixtures/v1";
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(name)).unwrap()
}

/// Each line of `hashes.txt`: what it is about, and the hexadecimal that it pins.
fn pinned() -> BTreeMap<String, String> {
    let text = String::from_utf8(fixture("hashes.txt")).unwrap();
    let pair = |line: &str| line.rsplit_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn commits() -> Vec<(&'static str, Commit)> {
    let chunk = fixture("compact.chunk");
    let mut bytes = Bytes(&chunk);
    let mut dictionary = Dictionary::default();
    dictionary.read(bytes.bytes(chunk.len()).unwrap()).unwrap();
    let read = NAMES.map(|name| {
        let commit = dictionary.commit(bytes.bytes(chunk.len()).unwrap(), BASE_MS).unwrap();
        dictionary.note(&commit);
        (name, commit)
    });
    bytes.end().unwrap();
    read.to_vec()
}

#[test]
fn the_golden_chunk_decodes_to_the_ids_that_are_pinned() {
    let pinned = pinned();
    for (name, commit) in commits() {
        // What was erased changes no hash.
        let of = if name == "data-erased" { "data-many" } else { name };
        assert_eq!(pinned[&format!("{of} id")], hex(&commit.id.0), "{name}");
        assert_eq!(pinned[&format!("{of} root")], hex(&commit.root), "{name}");
        assert_eq!(fixture(&format!("{of}.header")), commit.header(), "{name}");
        for (index, event) in commit.events.iter().enumerate() {
            let skeleton = hex(&event.skeleton());
            assert_eq!(pinned[&format!("{of} skeleton {index}")], skeleton, "{name}");
        }
        if let Some(Content::Full { payload, .. }) = &commit.meta {
            assert_eq!(pinned[&format!("{name} meta")], hex(payload));
        }
        let erased = commit.events.iter().filter(|e| matches!(e.content, Content::Erased(_)));
        assert_eq!(erased.count(), usize::from(name == "data-erased"), "{name}");
    }
}

#[test]
fn the_golden_voucher_covers_its_prefix_and_no_other() {
    let all: Vec<Commit> = commits().into_iter().map(|(_, commit)| commit).collect();
    let bytes = fixture("voucher.bin");
    let mut bytes = Bytes(&bytes);
    let voucher = Voucher::read(&mut bytes).unwrap();
    bytes.end().unwrap();
    let leaves: Vec<_> = all[..5].iter().map(|c| super::bytes::sha(&[&[0], &c.id.0])).collect();
    assert_eq!(pinned()["log root"], hex(&tree(&leaves)));
    assert_eq!(voucher.root, tree(&leaves));
    assert!(voucher.signed());
    let space = all[0].space;
    for commit in &all[..5] {
        let covers = voucher.covers(&space, &commit.tip());
        assert_eq!(covers.is_ok(), commit.seq == 2, "seq {}", commit.seq);
    }
    let forged = Voucher { signature: [1; 64], ..voucher };
    assert!(!forged.signed());
}

#[test]
fn no_changed_byte_of_a_commit_gives_the_same_commit() {
    let chunk = fixture("compact.chunk");
    let mut bytes = Bytes(&chunk);
    let mut dictionary = Dictionary::default();
    dictionary.read(bytes.bytes(chunk.len()).unwrap()).unwrap();
    for name in NAMES {
        let good = bytes.bytes(chunk.len()).unwrap();
        let commit = dictionary.commit(good, BASE_MS).unwrap();
        for at in 0..good.len() {
            for change in [1, 0x80, 0xff] {
                let mut bad = good.to_vec();
                bad[at] ^= change;
                if let Ok(other) = dictionary.commit(&bad, BASE_MS) {
                    assert_ne!(other, commit, "{name}, byte {at}");
                }
            }
            assert!(dictionary.commit(&good[..at], BASE_MS) != Ok(commit.clone()), "{name}, {at}");
        }
        dictionary.note(&commit);
    }
}
