//! Peers that do not keep to the rules, one rule at a time.

use super::*;
use crate::base::{Hlc, LogId, Writer};
use crate::causal::Tip;
use crate::crdt::{Action, Delta, Supersedes};
use crate::event::tree::Tree;
use crate::event::{Attestation, Commit, Dictionary, Draft, Kind, Voucher, compact};
use crate::sync::Code;

#[test]
fn a_link_without_a_hello_is_closed_and_lets_the_node_sleep() {
    let mut world = World::new(1);
    world.share();
    let peer = KeyPair::from_seed([9; 32]).id();
    let link = LinkId(1);
    world.input(0, Input::Connected { link, peer, outgoing: false });
    world.run();
    world.now_ms += 61_000;
    world.input(0, Input::Tick);
    let mut closed = None;
    let wake = loop {
        match world.nodes[0].poll() {
            Output::Close { code, .. } => closed = Some(code),
            Output::Wait(at) => break at,
            _ => {}
        }
    };
    assert_eq!(closed, Some(Code::TIMEOUT));
    assert!(wake.is_none_or(|at| at > world.now().mono), "{wake:?}");
}

/// A chunk of one commit, the first of its log, and what vouches for it.
fn chunk_of(key: &KeyPair, commit: &Commit) -> Vec<u8> {
    let (space, ms) = (commit.space(), commit.hlc().wall().0);
    let mut dictionary = Dictionary::default();
    for log in compact::logs(commit) {
        dictionary.intern(space, log, 0, CommitId::ZERO);
    }
    let (mut names, mut body) = (Vec::new(), Vec::new());
    dictionary.put_entries(0, &mut names);
    compact::encode(commit, &dictionary, ms, &mut body).unwrap();
    let mut tree = Tree::default();
    tree.append(&commit.id());
    let attestation = Attestation::sign(key, space, commit.tip(), tree.root());
    let mut out = vec![1];
    out.put(&space.0);
    out.put_u64(ms);
    out.put_bytes(&names);
    out.put_len(1);
    out.put_bytes(&body);
    out.put_len(1);
    Voucher { attestation, proof: Vec::new() }.encode(&mut out);
    out
}

/// A commit that is the first of its log, and follows `deps`.
fn first(key: &KeyPair, space: SpaceId, incarnation: u64, hlc: Hlc, deps: Vec<Tip>) -> Commit {
    let log = LogId { replica: key.id(), incarnation };
    let delta = Delta {
        action: Action::BytesPut,
        supersedes: Supersedes::NOTHING,
        payload: [1][..].into(),
    };
    let events = vec![(Key::new("forged").unwrap(), delta)];
    let draft = Draft { space, kind: Kind::Data, deps, events, ..Draft::genesis(log, hlc) };
    draft.seal(&mut Rng::new(crate::base::sha256("test", &[&incarnation.to_le_bytes()]))).unwrap()
}

#[test]
fn an_invalid_commit_that_waited_is_not_blamed_on_who_brings_its_dep() {
    let mut world = World::new(2);
    let space = world.share();
    world.put(0, "a", "1");
    world.connect(0, 1);
    let key = KeyPair::from_seed([9; 32]);
    let hlc = Hlc::from_wall(world.now().wall);
    let dep = first(&key, space, 1, hlc, vec![]);
    // Stamped like its dep, and so not after it: that shows only once the dep is here.
    let invalid = first(&key, space, 2, hlc, vec![dep.tip()]);
    let now = world.now();
    let waits = world.nodes[0].store().insert_chunk(now, &chunk_of(&key, &invalid)).unwrap();
    assert_eq!((waits.commits, waits.waiting), (0, 1));
    let taken = world.nodes[1].store().insert_chunk(now, &chunk_of(&key, &dep)).unwrap();
    assert_eq!((taken.commits, taken.waiting), (1, 0));
    world.run();
    assert_eq!(world.nodes[0].peers().len(), 1, "the honest peer is not sent away");
    assert_eq!(world.nodes[0].store().waiting_len(), 0, "what is not valid waits no more");
    world.put(1, "b", "2");
    world.run();
    world.assert_equal();
}

#[test]
fn what_waits_leaves_nothing_in_the_log_and_is_vouched_for_when_it_is_taken() {
    let mut world = World::new(2);
    let space = world.share();
    let key = KeyPair::from_seed([9; 32]);
    let hlc = Hlc::from_wall(world.now().wall);
    let dep = first(&key, space, 1, hlc, vec![]);
    let later = Hlc::from_wall(WallTime(world.now_ms + 1));
    let (now, written) = (world.now(), world.nodes[0].store().written());
    for incarnation in 2..50 {
        let waits = first(&key, space, incarnation, later, vec![dep.tip()]);
        let chunk = chunk_of(&key, &waits);
        for _ in 0..2 {
            assert_eq!(world.nodes[0].store().insert_chunk(now, &chunk).unwrap().commits, 0);
        }
    }
    assert_eq!(world.nodes[0].store().written(), written);
    let taken = world.nodes[0].store().insert_chunk(now, &chunk_of(&key, &dep)).unwrap();
    assert_eq!((taken.commits, taken.waiting), (49, 0));
    world.run();
    // Each log is handed on, with what vouches for it, also after a reopening.
    world.reopen(0);
    world.connect(0, 1);
    world.assert_equal();
    assert_eq!(world.nodes[1].store().version(&space).unwrap().iter().count(), 50);
}
