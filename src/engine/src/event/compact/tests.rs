use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::base::{CommitId, Dot, Hlc, Key, LogId, Rng, SpaceId, WallTime, Writer};
use crate::crdt::{Action, Delta, Supersedes};
use crate::event::arbitrary::{ACTIONS, log, random_bytes, some_commit_in_dictionary};
use crate::event::{Commit, Dep, Dictionary, Draft, Kind};
use crate::limits;

const BASE_MS: u64 = 1_750_000_000_000;

fn nobody(_: &LogId, _: u64) -> Option<CommitId> {
    None
}

fn encoded(commit: &Commit, dictionary: &Dictionary) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(commit, dictionary, BASE_MS, &mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_commit_comes_back_as_it_was((commit, dictionary) in some_commit_in_dictionary()) {
        let bytes = encoded(&commit, &dictionary);
        // Whatever the dictionary does not know is written out, so nobody need be asked.
        let again = decode(&bytes, &dictionary, BASE_MS, &nobody);
        prop_assert_eq!(again, Ok(commit.clone()));
        let loose = read(&bytes, &dictionary, BASE_MS).unwrap();
        prop_assert_eq!((loose.space, loose.log), (commit.space(), commit.log()));
        prop_assert_eq!((loose.seq, loose.hlc), (commit.seq(), commit.hlc()));
        prop_assert_eq!((loose.kind, loose.meta()), (commit.kind(), commit.meta()));
        prop_assert_eq!(loose.meta_content.as_ref(), commit.meta_content());
        prop_assert_eq!(&loose.events, commit.events());
        prop_assert_eq!(loose.grant, commit.header().grant);
        prop_assert_eq!(&loose.act, &commit.header().act);
        let deps: Vec<_> = commit.deps().iter().map(|dep| (dep.log, dep.seq)).collect();
        prop_assert_eq!(loose.deps, deps);
    }

    /// So no two forms stand for one commit: what decodes is what would be encoded.
    #[test]
    fn a_flipped_bit_is_refused_or_gives_another_commit(
        (commit, dictionary) in some_commit_in_dictionary(),
    ) {
        let bytes = encoded(&commit, &dictionary);
        // Salts, keys, payloads and ids are long and alike: each bit of the first bytes, then some.
        let bits = (0..bytes.len() * 8).filter(|bit| *bit < 80 * 8 || bit % 29 == 0);
        for bit in bits {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = decode(&bytes, &dictionary, BASE_MS, &nobody) {
                prop_assert_ne!(other.id(), commit.id(), "bit {}", bit);
                prop_assert_eq!(encoded(&other, &dictionary), bytes, "bit {}", bit);
            }
        }
    }

    #[test]
    fn a_cut_off_end_is_refused_or_gives_another_commit(
        (commit, dictionary) in some_commit_in_dictionary(),
    ) {
        let bytes = encoded(&commit, &dictionary);
        for len in 0..bytes.len() {
            if let Ok(other) = decode(&bytes[..len], &dictionary, BASE_MS, &nobody) {
                prop_assert_ne!(other.id(), commit.id());
            }
        }
        let mut longer = bytes;
        longer.push(0);
        if let Ok(other) = decode(&longer, &dictionary, BASE_MS, &nobody) {
            prop_assert_ne!(other.id(), commit.id());
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        bytes in random_bytes(300), (_, dictionary) in some_commit_in_dictionary(),
    ) {
        let found = |_: &LogId, _: u64| Some(CommitId([1; 32]));
        if let Ok(commit) = decode(&bytes, &dictionary, BASE_MS, &found) {
            prop_assert!(read(&bytes, &dictionary, BASE_MS).is_ok());
            prop_assert_eq!(commit.header().root.len(), 32);
        }
    }

    #[test]
    fn differences_are_a_bijection(value: u64, base: u64) {
        prop_assert_eq!(unzigzag(zigzag(value, base), base), value);
        prop_assert_eq!(zigzag(unzigzag(value, base), base), value);
    }
}

#[test]
fn small_differences_are_small_numbers() {
    let near = [zigzag(5, 5), zigzag(4, 5), zigzag(6, 5), zigzag(3, 5)];
    assert_eq!(near, [0, 1, 2, 3]);
}

#[test]
fn each_action_fits_into_five_bits() {
    for action in ACTIONS {
        assert!(action_bits(action) < 32);
        assert_eq!(action_from_bits(action_bits(action)), Ok(action));
    }
    let known = (0..32).filter(|bits| action_from_bits(*bits).is_ok()).count();
    assert_eq!(known, ACTIONS.len());
}

const SPACE: SpaceId = SpaceId([9; 32]);

fn put(key: &str, payload: &[u8], supersedes: Supersedes) -> (Key, Delta) {
    let action = Action::RegisterPut;
    (Key::new(key).unwrap(), Delta { action, supersedes, payload: payload.into() })
}

fn draft(seq: u64, prev: CommitId, events: Vec<(Key, Delta)>) -> Draft {
    let hlc = Hlc::from_wall(WallTime(BASE_MS + seq * 37));
    let log = log(0);
    Draft { space: SPACE, seq, prev, kind: Kind::Data, events, ..Draft::genesis(log, hlc) }
}

/// The bar is 64 bytes for the record, of which 9 are the frame, over a segment of 8 MiB.
#[test]
fn a_small_commit_costs_at_most_46_bytes() {
    let mut rng = Rng::new([3; 32]);
    let mut dictionary = Dictionary::default();
    let before = CommitId([4; 32]);
    for n in 0..2 {
        dictionary.intern(SPACE, log(n), 1_000_000, before);
    }
    let (mut total, mut most, mut prev) = (0, 0, before);
    let count = 8 << 20 >> 7;
    for seq in 1_000_001..1_000_001 + count {
        // Written within a day, each event supersedes another of the same segment, and each
        // commit has seen one of the other log.
        let pred = Dot { log: log(0), seq: seq - (seq % 1000) % (seq - 1_000_000), index: 0 };
        let pred = if pred.seq == seq { vec![] } else { vec![pred] };
        let mut draft = draft(seq, prev, vec![put("key", b"value", Supersedes::Dots(pred))]);
        draft.hlc = Hlc(((BASE_MS + (seq - 1_000_000) * 1300) << 16) | (seq % 3));
        draft.deps = vec![Dep { log: log(1), seq, id: CommitId([5; 32]) }];
        dictionary.note(1, seq, CommitId([5; 32]));
        let commit = draft.seal(&mut rng).unwrap();
        let overhead = encoded(&commit, &dictionary).len() - "key".len() - "value".len();
        dictionary.note(0, seq, commit.id());
        prev = commit.id();
        total += overhead as u64;
        most = most.max(overhead);
    }
    println!("mean {:.2}, most {most} bytes", total as f64 / count as f64);
    assert!(total <= 41 * count, "mean {}", total as f64 / count as f64);
    assert!(most <= 46, "most {most}");
}

#[test]
fn what_is_left_out_is_asked_for_or_named() {
    let mut rng = Rng::new([3; 32]);
    let first = draft(1, CommitId::ZERO, vec![put("a", b"1", Supersedes::NOTHING)]);
    let first = first.seal(&mut rng).unwrap();
    let second = draft(2, first.id(), vec![put("a", b"2", Supersedes::NOTHING)]);
    let second = second.seal(&mut rng).unwrap();
    let mut dictionary = Dictionary::default();
    dictionary.intern(SPACE, log(0), 0, CommitId::ZERO);
    let empty = dictionary.clone();
    dictionary.note(0, 1, first.id());
    let bytes = encoded(&second, &dictionary);
    let missing = DecodeError::MissingId { log: log(0), seq: 1 };
    assert_eq!(decode(&bytes, &empty, BASE_MS, &nobody), Err(missing));
    let ask = |asked: &LogId, seq: u64| (*asked == log(0) && seq == 1).then_some(first.id());
    assert_eq!(decode(&bytes, &empty, BASE_MS, &ask), Ok(second.clone()));
    assert_eq!(read(&bytes, &empty, BASE_MS).unwrap().seq, 2);
    // Written out where the dictionary does not know it, and then it is 32 bytes and a flag more.
    let whole = encoded(&second, &empty);
    assert_eq!(whole.len(), bytes.len() + 33);
    assert_eq!(decode(&whole, &empty, BASE_MS, &nobody), Ok(second.clone()));
    assert_eq!(decode(&whole, &dictionary, BASE_MS, &nobody), Ok(second.clone()));

    let nothing = Dictionary::default();
    let missing = DecodeError::MissingEntry { ix: 0 };
    assert_eq!(read(&bytes, &nothing, BASE_MS).unwrap_err(), missing);
    let mut out = vec![1, 2];
    let error = encode(&second, &nothing, BASE_MS, &mut out);
    assert_eq!(error, Err(EncodeError::NotInterned { log: log(0) }));
    assert_eq!(out, [1, 2]);
}

#[test]
fn a_log_of_another_space_is_refused() {
    let mut rng = Rng::new([3; 32]);
    let mut draft = draft(1, CommitId::ZERO, vec![put("a", b"1", Supersedes::NOTHING)]);
    draft.deps = vec![Dep { log: log(1), seq: 1, id: CommitId([5; 32]) }];
    let commit = draft.seal(&mut rng).unwrap();
    let dictionary = |space| {
        let mut dictionary = Dictionary::default();
        dictionary.intern(SPACE, log(0), 0, CommitId::ZERO);
        dictionary.intern(space, log(1), 0, CommitId::ZERO);
        dictionary
    };
    let bytes = encoded(&commit, &dictionary(SPACE));
    assert!(decode(&bytes, &dictionary(SPACE), BASE_MS, &nobody).is_ok());
    let error = decode(&bytes, &dictionary(SpaceId([8; 32])), BASE_MS, &nobody).unwrap_err();
    assert!(matches!(error, DecodeError::Codec(CodecError::NotCanonical(_))), "{error}");
}

#[test]
fn a_genesis_commit_founds_the_space_it_is_filed_under() {
    let mut rng = Rng::new([3; 32]);
    let genesis = Draft::genesis(log(0), Hlc(5)).seal(&mut rng).unwrap();
    let filed = |space| {
        let mut dictionary = Dictionary::default();
        dictionary.intern(space, log(0), 0, CommitId::ZERO);
        dictionary
    };
    let bytes = encoded(&genesis, &filed(genesis.space()));
    assert_eq!(decode(&bytes, &filed(genesis.space()), BASE_MS, &nobody), Ok(genesis.clone()));
    let other = decode(&bytes, &filed(SPACE), BASE_MS, &nobody);
    let error = DecodeError::OtherSpace { expected: SPACE, found: genesis.space() };
    assert_eq!(other, Err(error));
}

/// Compact dots are three bytes and 56 in memory: the budget stops them before they are made.
#[test]
fn a_record_full_of_dots_is_refused_early() {
    let mut dictionary = Dictionary::default();
    dictionary.intern(SPACE, log(0), 0, CommitId::ZERO);
    let mut bytes = vec![1, 0];
    bytes.put_varint(zigzag(1 << 40, 0));
    bytes.extend([0, 0]);
    bytes.put_varint(limits::COMMIT_EVENTS_MAX as u64);
    for _ in 0..limits::COMMIT_EVENTS_MAX {
        bytes.push(action_bits(ACTIONS[1]) | lead::DOTS << lead::FORM_SHIFT);
        bytes.put_varint(1000);
        for seq in 0..1000 {
            bytes.push(0);
            bytes.put_varint(zigzag(seq + 1, 0));
            bytes.push(0);
        }
        bytes.extend([0; 16 + 1 + 1]);
    }
    let error = read(&bytes, &dictionary, 0).unwrap_err();
    assert_eq!(error, DecodeError::Codec(CodecError::TooLarge("commit")));
}

#[test]
fn the_largest_commits_fit_into_a_record() {
    let mut rng = Rng::new([3; 32]);
    let mut dictionary = Dictionary::default();
    dictionary.intern(SPACE, log(0), 0, CommitId::ZERO);
    let count = limits::COMMIT_EVENTS_MAX;
    let payload: Arc<[u8]> = vec![b'1'; limits::COMMIT_BYTES_MAX / count - 22].into();
    let events = (0..count).map(|_| put("k", &payload, Supersedes::NOTHING)).collect();
    let commit = draft(1, CommitId::ZERO, events).seal(&mut rng).unwrap();
    assert_eq!(commit.header().size as usize, limits::COMMIT_BYTES_MAX);
    let bytes = encoded(&commit, &dictionary);
    assert!(bytes.len() <= limits::RECORD_BYTES_MAX);
    assert_eq!(decode(&bytes, &dictionary, BASE_MS, &nobody), Ok(commit));
}
