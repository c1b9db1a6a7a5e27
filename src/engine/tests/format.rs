//! Pins the formats: what version 1 wrote is what this version writes, and reads, byte for byte.
//!
//! The fixtures were made once and never change. `KDELTA_WRITE_FIXTURES=1 cargo test --test format`
//! writes those that do not exist yet; it does not touch the others.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure here is a failed test"
)]

use std::path::PathBuf;

use kdelta_engine::base::{
    CommitId, Dot, GrantId, Hlc, Key, LogId, Reader, Rng, SpaceId, WallTime, Writer, hex,
};
use kdelta_engine::crdt::{Action, Delta, Supersedes};
use kdelta_engine::event::tree::{self, Tree};
use kdelta_engine::event::{
    Act, Actions, Attestation, Audience, Commit, Dep, Dictionary, Draft, Grant, Header, KeyPair,
    Kind, Meta, Owned, Prefixes, Tag, Voucher, compact, root_grant,
};

const BASE_MS: u64 = 1_750_000_000_000;

/// A small history of two logs in one space, with everything that the format has.
struct History {
    key: KeyPair,
    commits: Vec<(&'static str, Commit)>,
}

impl History {
    fn new() -> Self {
        let mut rng = Rng::new([1; 32]);
        let key = KeyPair::from_seed([2; 32]);
        let log = LogId { replica: key.id(), incarnation: 0x0123_4567_89ab_cdef };
        let hlc = |seq| Hlc((BASE_MS + seq * 1000) << 16 | seq);
        let genesis = Draft::genesis(log, hlc(1)).seal(&mut rng).unwrap();
        let mut commits = vec![("genesis", genesis.clone())];
        let other = LogId { replica: KeyPair::from_seed([3; 32]).id(), incarnation: 7 };
        let mut next = |name, kind, events: Vec<(&str, Delta)>, meta: Option<Meta>| {
            let last = commits.last().unwrap().1.tip();
            let seq = last.seq + 1;
            let events = events.into_iter().map(|(key, delta)| (Key::new(key).unwrap(), delta));
            let dep = Dep { log: other, seq, id: CommitId([0xdd; 32]) };
            let deps = if kind == Kind::Tag { vec![] } else { vec![dep] };
            let (space, hlc, events) = (genesis.space(), hlc(seq), events.collect());
            let first = Draft::genesis(log, hlc);
            let draft = Draft { space, seq, prev: last.id, deps, kind, events, meta, ..first };
            commits.push((name, draft.seal(&mut rng).unwrap()));
        };
        let delta = |action, payload: &[u8], supersedes| Delta {
            action,
            supersedes,
            payload: payload.into(),
        };
        let put = delta(Action::RegisterPut, b"\"bread\"", Supersedes::NOTHING);
        next("data-one", Kind::Data, vec![("cart/1", put)], None);
        let pred = |log, seq, index| Dot { log, seq, index };
        let mut preds = vec![pred(log, 2, 0), pred(other, 1, 300)];
        preds.sort();
        let mut cut = vec![(log, 3), (other, 2)];
        cut.sort();
        let count = 700i64.to_le_bytes();
        let events = vec![
            ("cart/1", delta(Action::BytesPut, b"\x00\x01", Supersedes::Dots(preds))),
            ("n", delta(Action::CounterAdd, &count, Supersedes::NOTHING)),
            ("s", delta(Action::SetAdd, b"1", Supersedes::NOTHING)),
            ("s", delta(Action::SetRemove, b"1", Supersedes::Dots(vec![pred(log, 3, 2)]))),
            ("m", delta(Action::MapPut, b"\x01a[]", Supersedes::NOTHING)),
            ("m", delta(Action::MapDelete, b"a", Supersedes::Dots(vec![pred(log, 3, 4)]))),
            ("n", delta(Action::Delete, b"", Supersedes::Cut(cut))),
        ];
        let meta = Meta {
            note: Some(b"{\"by\":\"anna\"}"[..].into()),
            tag: Some(Tag::Create { name: "v1".to_owned(), at: None }),
            request_id: Some(b"request-1".to_vec()),
        };
        next("data-many", Kind::Data, events, Some(meta));
        next("ack", Kind::Ack, vec![], None);
        let at = Some(vec![Dep { log, seq: 1, id: CommitId([0xee; 32]) }]);
        let tag = Some(Tag::Create { name: "päivä".to_owned(), at });
        next("tag", Kind::Tag, vec![], Some(Meta { tag, ..Meta::default() }));
        let mut erased = commits[2].1.clone();
        erased.erase_event(3);
        erased.erase_meta();
        commits.push(("data-erased", erased));
        Self { key, commits }
    }

    /// The log's commits in order: the last of all is an erased copy of the third.
    fn log(&self) -> &[(&'static str, Commit)] {
        &self.commits[..5]
    }

    fn dictionary(&self) -> Dictionary {
        let mut dictionary = Dictionary::default();
        let space = self.commits[0].1.space();
        for log in self.commits.iter().flat_map(|(_, commit)| compact::logs(commit)) {
            let own = log.replica == self.key.id();
            let (seq, id) = if own { (0, CommitId::ZERO) } else { (2, CommitId([0xdd; 32])) };
            dictionary.intern(space, log, seq, id);
        }
        dictionary
    }

    fn voucher(&self, prefix: u64) -> Voucher {
        let mut tree = Tree::default();
        self.log().iter().for_each(|(_, commit)| tree.append(&commit.id()));
        let space = self.commits[0].1.space();
        let tip = self.log().last().unwrap().1.tip();
        let ids = |index: u64| Some(self.log().get(usize::try_from(index).ok()?)?.1.id());
        let proof =
            if prefix == tip.seq { vec![] } else { tree.proof(prefix - 1, tip.seq, &ids).unwrap() };
        Voucher { attestation: Attestation::sign(&self.key, space, tip, tree.root()), proof }
    }
}

/// The first commits of an owned space.
fn owned_history() -> Vec<(&'static str, Commit)> {
    let mut rng = Rng::new([6; 32]);
    let [log, other] = [2, 3].map(|seed| {
        let replica = KeyPair::from_seed([seed; 32]).id();
        LogId { replica, incarnation: u64::from(seed) }
    });
    let hlc = |seq: u64| Hlc((BASE_MS + seq * 1000) << 16);
    let owned = Some(Owned { difficulty: 12, roots: vec![log.replica, other.replica] });
    let genesis = Draft { owned, ..Draft::genesis(log, hlc(1)) }.seal(&mut rng).unwrap();
    let root = Some(root_grant(&genesis.space(), 0));
    let mut commits = vec![("owned-genesis", genesis)];
    let mut next = |name, kind, draft: Draft| {
        let (space, last) = (commits[0].1.space(), commits.last().unwrap().1.tip());
        let draft = Draft { space, seq: last.seq + 1, prev: last.id, kind, grant: root, ..draft };
        commits.push((name, draft.seal(&mut rng).unwrap()));
        GrantId(commits.last().unwrap().1.id().0)
    };
    let grant = Grant {
        audience: Audience::Replica(other.replica),
        actions: Actions::READ.and(Actions::PUT).and(Actions::DELETE).and(Actions::DELEGATE),
        prefixes: Prefixes::new(["päivä", "cart/"].map(str::as_bytes)).unwrap(),
        expiry_ms: Some(BASE_MS + 86_400_000),
        depth: 2,
    };
    let bearer = Grant {
        audience: Audience::bearer(&[4; 32]),
        actions: Actions::READ,
        prefixes: Prefixes::all(),
        expiry_ms: None,
        depth: 0,
    };
    let meta = Some(Meta { note: Some(b"\"for bob\""[..].into()), ..Meta::default() });
    let act = |grant| Some(Act::Grant(grant));
    let first = Draft { meta, act: act(grant), ..Draft::genesis(log, hlc(2)) };
    let target = next("grant-replica", Kind::Grant, first);
    let deps = vec![Dep { log: other, seq: 1, id: CommitId([0xdd; 32]) }];
    let second = Draft { deps, act: act(bearer), ..Draft::genesis(log, hlc(3)) };
    next("grant-bearer", Kind::Grant, second);
    let (action, supersedes) = (Action::RegisterPut, Supersedes::NOTHING);
    let put = Delta { action, supersedes, payload: b"1"[..].into() };
    let events = vec![(Key::new("cart/1").unwrap(), put)];
    next("data-granted", Kind::Data, Draft { events, ..Draft::genesis(log, hlc(4)) });
    let revoke = Draft { act: Some(Act::Revoke(target)), ..Draft::genesis(log, hlc(5)) };
    next("revoke", Kind::Revoke, revoke);
    commits
}

/// Puts commits into a chunk and pins it: the dictionary with its length in front, then each commit
/// with its length in front. Reads it again.
fn pin_chunk(file: &str, commits: &[(&str, Commit)], mut dictionary: Dictionary) {
    let space = commits[0].1.space();
    let (mut chunk, mut entries) = (Vec::new(), Vec::new());
    dictionary.put_entries(0, &mut entries);
    chunk.put_bytes(&entries);
    for (_, commit) in commits {
        let mut bytes = Vec::new();
        compact::encode(commit, &dictionary, BASE_MS, &mut bytes).unwrap();
        let ix = dictionary.find(&space, &commit.log()).unwrap();
        dictionary.note(ix, commit.seq(), commit.id());
        chunk.put_bytes(&bytes);
    }
    pin(file, &chunk);

    let mut reader = Reader::new(&chunk);
    let mut dictionary = Dictionary::default();
    dictionary.read_entries(reader.bytes(chunk.len(), "entries").unwrap()).unwrap();
    for (name, commit) in commits {
        let bytes = reader.bytes(chunk.len(), "commit").unwrap();
        let read = compact::decode(bytes, &dictionary, BASE_MS, &|_, _| None).unwrap();
        assert_eq!(&read, commit, "{name}");
        let ix = dictionary.find(&space, &read.log()).unwrap();
        dictionary.note(ix, read.seq(), read.id());
    }
    reader.finish().unwrap();
}

/// Compares `bytes` with the fixture `name`.
fn pin(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name);
    if std::env::var_os("KDELTA_WRITE_FIXTURES").is_some() && !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
    let pinned = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(pinned == bytes, "{name} is not what version 1 wrote");
}

#[test]
fn headers_are_pinned() {
    for (name, commit) in History::new().commits.into_iter().chain(owned_history()) {
        let mut bytes = Vec::new();
        commit.header().encode(&mut bytes);
        assert_eq!(Header::decode(&bytes).unwrap().id(), commit.id());
        if name != "data-erased" {
            pin(&format!("{name}.header"), &bytes);
        }
    }
}

/// For those who write another implementation: each name and hash in hexadecimal, a line each.
#[test]
fn hashes_are_pinned() {
    let mut text = String::new();
    for (name, commit) in History::new().log() {
        text += &format!("{name} id {}\n{name} root {}\n", commit.id(), hex(&commit.header().root));
        for (index, event) in commit.events().iter().enumerate() {
            let mut skeleton = Vec::new();
            event.skeleton.encode(&mut skeleton);
            text += &format!("{name} skeleton {index} {}\n", hex(&skeleton));
            text += &format!("{name} content {index} {}\n", hex(&event.content.hash()));
            text += &format!("{name} leaf {index} {}\n", hex(&event.leaf_hash()));
        }
        if let Some(meta) = commit.meta() {
            text += &format!("{name} meta {}\n", hex(&meta.encode().unwrap()));
        }
    }
    let ids: Vec<_> =
        History::new().log().iter().map(|(_, commit)| tree::leaf(&commit.id())).collect();
    text += &format!("log root {}\n", hex(&tree::root(&ids)));
    pin("hashes.txt", text.as_bytes());
}

/// The same of an owned space: ids, the grants of its roots, and what stands for a secret.
#[test]
fn hashes_of_an_owned_space_are_pinned() {
    let commits = owned_history();
    let mut text = String::new();
    for (name, commit) in &commits {
        text += &format!("{name} id {}\n", commit.id());
    }
    for index in 0..2 {
        text += &format!("root {index} {}\n", root_grant(&commits[0].1.space(), index));
    }
    let Audience::Bearer(hash) = Audience::bearer(&[4; 32]) else { panic!("a bearer") };
    text += &format!("bearer {}\n", hex(&hash));
    pin("owned.txt", text.as_bytes());
}

#[test]
fn a_compact_chunk_is_pinned() {
    let history = History::new();
    pin_chunk("compact.chunk", &history.commits, history.dictionary());
}

#[test]
fn a_compact_chunk_of_an_owned_space_is_pinned() {
    let commits = owned_history();
    let mut dictionary = Dictionary::default();
    for log in commits.iter().flat_map(|(_, commit)| compact::logs(commit)) {
        dictionary.intern(commits[0].1.space(), log, 0, CommitId::ZERO);
    }
    pin_chunk("owned.chunk", &commits, dictionary);
}

#[test]
fn an_attestation_and_a_voucher_are_pinned() {
    let history = History::new();
    let space = history.commits[0].1.space();
    let mut bytes = Vec::new();
    history.voucher(5).attestation.encode(&mut bytes);
    pin("attestation.bin", &bytes);
    for (seq, (_, commit)) in (1..).zip(history.log()) {
        assert_eq!(history.voucher(seq).covers(&space, &commit.tip()), Ok(()));
    }
    let mut bytes = Vec::new();
    history.voucher(2).encode(&mut bytes);
    pin("voucher.bin", &bytes);
    let mut reader = Reader::new(&bytes);
    assert_eq!(Voucher::decode(&mut reader), Ok(history.voucher(2)));
    reader.finish().unwrap();
}

/// Stamps and ids survive the clock's whole range, not only the fixtures' years.
#[test]
fn a_stamp_far_from_the_base_comes_back() {
    let log = LogId { replica: KeyPair::from_seed([2; 32]).id(), incarnation: 1 };
    for hlc in [Hlc(0), Hlc(u64::MAX), Hlc::from_wall(WallTime(BASE_MS))] {
        let genesis = Draft::genesis(log, hlc).seal(&mut Rng::new([5; 32])).unwrap();
        let mut dictionary = Dictionary::default();
        dictionary.intern(SpaceId(genesis.id().0), log, 0, CommitId::ZERO);
        let mut bytes = Vec::new();
        compact::encode(&genesis, &dictionary, BASE_MS, &mut bytes).unwrap();
        let read = compact::decode(&bytes, &dictionary, BASE_MS, &|_, _| None);
        assert_eq!(read.as_ref(), Ok(&genesis));
    }
}
