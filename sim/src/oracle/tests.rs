//! The decoder on the engine's golden files, and on bytes that are not canonical.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kdelta_engine::base::{hex, sha256};

use super::act::Act;
use super::bytes::Bytes;
use super::commit::{Commit, Content, tree};
use super::compact::Dictionary;
use super::vouch::Voucher;

/// What the stamps of the fixtures are relative to.
const BASE_MS: u64 = 1_750_000_000_000;
const NAMES: [&str; 6] = ["genesis", "data-one", "data-many", "ack", "tag", "data-erased"];
/// Those of an owned space.
const OWNED: [&str; 5] =
    ["owned-genesis", "grant-replica", "grant-bearer", "data-granted", "revoke"];

fn fixture(name: &str) -> Vec<u8> {
    let folder = "../src/engine/tests/fixtures/v1";
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(name)).unwrap()
}

/// Each line of a list of hashes: what it is about, and the hexadecimal that it pins.
fn pinned(list: &str) -> BTreeMap<String, String> {
    let text = String::from_utf8(fixture(list)).unwrap();
    let pair = |line: &str| line.rsplit_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn commits() -> Vec<(&'static str, Commit)> {
    commits_of("compact.chunk", NAMES)
}

fn commits_of<const N: usize>(
    chunk: &str,
    names: [&'static str; N],
) -> Vec<(&'static str, Commit)> {
    let chunk = fixture(chunk);
    let mut bytes = Bytes(&chunk);
    let mut dictionary = Dictionary::default();
    dictionary.read(bytes.bytes(chunk.len()).unwrap()).unwrap();
    let read = names.map(|name| {
        let commit = dictionary.commit(bytes.bytes(chunk.len()).unwrap(), BASE_MS).unwrap();
        dictionary.note(&commit);
        (name, commit)
    });
    bytes.end().unwrap();
    read.to_vec()
}

#[test]
fn the_golden_chunk_decodes_to_the_ids_that_are_pinned() {
    let pinned = pinned("hashes.txt");
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
    assert_eq!(pinned("hashes.txt")["log root"], hex(&tree(&leaves)));
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
fn the_golden_chunk_of_an_owned_space_decodes_to_the_ids_that_are_pinned() {
    let pinned = pinned("owned.txt");
    let commits = commits_of("owned.chunk", OWNED);
    for (name, commit) in &commits {
        assert_eq!(pinned[&format!("{name} id")], hex(&commit.id.0), "{name}");
        assert_eq!(fixture(&format!("{name}.header")), commit.header(), "{name}");
    }
    let [(_, genesis), (_, grant), (_, bearer), (_, data), (_, revoke)] = &commits[..] else {
        panic!("five commits");
    };
    let (difficulty, roots) = genesis.genesis.as_ref().unwrap().owned.clone().unwrap();
    assert_eq!((difficulty, roots.len(), roots[0]), (12, 2, genesis.log.replica));
    for (index, root) in [0_u8, 1].iter().zip(["root 0", "root 1"]) {
        let id = sha256("kdelta/root/1", &[&genesis.space.0, &[*index]]);
        assert_eq!(pinned[root], hex(&id), "{root}");
        assert!(*index > 0 || grant.grant == Some(id));
    }
    let Some(Act::Grant(grant_act)) = &grant.act else { panic!("a grant") };
    assert_eq!((grant_act.bearer, grant_act.audience), (false, roots[1].0));
    assert_eq!(grant_act.prefixes, [b"cart/"[..].into(), "päivä".as_bytes().into()]);
    assert_eq!((grant_act.actions, grant_act.depth), (1 + 2 + 4 + 16, 2));
    let Some(Act::Grant(bearer_act)) = &bearer.act else { panic!("a grant") };
    let secret = sha256("kdelta/bearer/1", &[&[4; 32]]);
    assert_eq!((bearer_act.bearer, bearer_act.audience), (true, secret));
    assert_eq!((bearer_act.expiry, &bearer_act.prefixes[..]), (None, &[b""[..].into()][..]));
    assert_eq!(pinned["bearer"], hex(&secret));
    assert_eq!(data.grant, grant.grant);
    assert_eq!(revoke.act, Some(Act::Revoke(grant.id.0)));
}

#[test]
fn no_changed_byte_of_a_commit_gives_the_same_commit() {
    unchanged("compact.chunk", &NAMES);
    unchanged("owned.chunk", &OWNED);
}

fn unchanged(chunk: &str, names: &[&str]) {
    let chunk = fixture(chunk);
    let mut bytes = Bytes(&chunk);
    let mut dictionary = Dictionary::default();
    dictionary.read(bytes.bytes(chunk.len()).unwrap()).unwrap();
    for name in names {
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
