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
    CommitId, Dot, Hlc, Key, LogId, Reader, Rng, SpaceId, WallTime, Writer, hex,
};
use kdelta_engine::crdt::{Action, Delta, Supersedes};
use kdelta_engine::event::tree::{self, Tree};
use kdelta_engine::event::{
    Attestation, Commit, Dep, Dictionary, Draft, Header, KeyPair, Kind, Meta, Tag, Voucher, compact,
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
            let draft = Draft { space, log, seq, prev: last.id, hlc, deps, kind, events, meta };
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
    for (name, commit) in History::new().commits {
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

/// The dictionary with its length in front, then each commit with its length in front.
#[test]
fn a_compact_chunk_is_pinned() {
    let history = History::new();
    let mut dictionary = history.dictionary();
    let space = history.commits[0].1.space();
    let (mut chunk, mut entries) = (Vec::new(), Vec::new());
    dictionary.put_entries(0, &mut entries);
    chunk.put_bytes(&entries);
    for (_, commit) in &history.commits {
        let mut bytes = Vec::new();
        compact::encode(commit, &dictionary, BASE_MS, &mut bytes).unwrap();
        let ix = dictionary.find(&space, &commit.log()).unwrap();
        dictionary.note(ix, commit.seq(), commit.id());
        chunk.put_bytes(&bytes);
    }
    pin("compact.chunk", &chunk);

    let mut reader = Reader::new(&chunk);
    let mut dictionary = Dictionary::default();
    dictionary.read_entries(reader.bytes(chunk.len(), "entries").unwrap()).unwrap();
    for (name, commit) in &history.commits {
        let bytes = reader.bytes(chunk.len(), "commit").unwrap();
        let read = compact::decode(bytes, &dictionary, BASE_MS, &|_, _| None).unwrap();
        assert_eq!(&read, commit, "{name}");
        let ix = dictionary.find(&space, &read.log()).unwrap();
        dictionary.note(ix, read.seq(), read.id());
    }
    reader.finish().unwrap();
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
