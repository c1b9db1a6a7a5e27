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
    chunk_of_all(key, std::slice::from_ref(commit))
}

/// A chunk of commits that are each the first of their log, and what vouches for them.
fn chunk_of_all(key: &KeyPair, commits: &[Commit]) -> Vec<u8> {
    let (space, ms) = (commits[0].space(), commits[0].hlc().wall().0);
    let mut dictionary = Dictionary::default();
    for log in commits.iter().flat_map(compact::logs) {
        dictionary.intern(space, log, 0, CommitId::ZERO);
    }
    let mut names = Vec::new();
    dictionary.put_entries(0, &mut names);
    let mut out = vec![1];
    out.put(&space.0);
    out.put_u64(ms);
    out.put_bytes(&names);
    out.put_len(commits.len());
    for commit in commits {
        let mut body = Vec::new();
        compact::encode(commit, &dictionary, ms, &mut body).unwrap();
        out.put_bytes(&body);
    }
    out.put_len(commits.len());
    for commit in commits {
        let mut tree = Tree::default();
        tree.append(&commit.id());
        let attestation = Attestation::sign(key, space, commit.tip(), tree.root());
        Voucher { attestation, proof: Vec::new() }.encode(&mut out);
    }
    out
}

/// A commit that is the first of its log, and follows `deps`.
fn first(key: &KeyPair, space: SpaceId, incarnation: u64, hlc: Hlc, deps: Vec<Tip>) -> Commit {
    sized(key, space, incarnation, hlc, deps, 1)
}

/// The same, with a value of so many bytes.
fn sized(
    key: &KeyPair,
    space: SpaceId,
    incarnation: u64,
    hlc: Hlc,
    deps: Vec<Tip>,
    bytes: usize,
) -> Commit {
    let log = LogId { replica: key.id(), incarnation };
    let payload = vec![1; bytes].into();
    let delta = Delta { action: Action::BytesPut, supersedes: Supersedes::NOTHING, payload };
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

#[test]
fn what_was_taken_of_a_chunk_is_told_though_the_rest_found_no_room() {
    let mut world = World::new(2);
    let space = world.share();
    let (key, now) = (KeyPair::from_seed([9; 32]), world.now());
    let hlc = Hlc::from_wall(now.wall);
    let wanted = first(&key, space, 1, hlc, vec![]);
    let missing = first(&key, space, 2, hlc, vec![]);
    world.nodes[1].store().insert_chunk(now, &chunk_of(&key, &wanted)).unwrap();
    world.run();
    // Node 0 knows what it lacks, and nothing comes of what it asks node 1 for.
    world.mail_max = Some(0);
    let link = world.connect(0, 1);
    let asks = |node: &mut TestNode| {
        let session = node.talk(link, &space).and_then(|talk| talk.session.as_ref());
        session.is_some_and(|session| session.requests_open() > 0)
    };
    while !asks(&mut world.nodes[0]) {
        world.mail_max = Some(1);
        world.run();
    }
    world.mail.clear();
    let later = Hlc::from_wall(WallTime(world.now_ms + 1));
    let waits = (3..7).map(|n| sized(&key, space, n, later, vec![missing.tip()], 400 << 10));
    let commits: Vec<Commit> = std::iter::once(wanted).chain(waits).collect();
    assert_eq!(world.nodes[0].deliver(link, space, &chunk_of_all(&key, &commits)), None);
    assert_eq!(world.nodes[0].store().version(&space).unwrap().iter().count(), 2);
    world.input(0, Input::Tick);
    world.run();
    assert!(world.mail.iter().any(|(to, ..)| *to == 1), "node 1 learns that nothing is lacking");
}
