//! Peers that do not keep to the rules, one rule at a time.

use super::*;
use crate::base::{Hlc, LogId, Writer};
use crate::causal::Tip;
use crate::crdt::{Action, Delta, Supersedes};
use crate::event::tree::Tree;
use crate::event::{
    Attestation, Commit, Dictionary, Draft, ForkProof, ForkSide, Kind, Voucher, compact,
};
use crate::store::InsertError;
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

/// One side of a fork: the first commit of a log, and what vouches for it.
fn side(key: &KeyPair, commit: &Commit) -> ForkSide {
    let mut tree = Tree::default();
    tree.append(&commit.id());
    let attestation = Attestation::sign(key, commit.space(), commit.tip(), tree.root());
    let voucher = Voucher { attestation, proof: Vec::new() };
    ForkSide::new(commit.header().clone(), voucher).unwrap()
}

#[test]
fn what_an_invalid_commit_builds_upon_does_not_come_to_count_by_it() {
    let mut world = World::new(1);
    let space = world.share();
    let key = KeyPair::from_seed([9; 32]);
    let (hlc, later) =
        (Hlc::from_wall(world.now().wall), Hlc::from_wall(WallTime(world.now_ms + 1)));
    let branch = first(&key, space, 1, hlc, vec![]);
    let other = sized(&key, space, 1, hlc, vec![], 2);
    let proof = ForkProof::new(side(&key, &branch), side(&key, &other)).unwrap();
    let now = world.now();
    world.nodes[0].store().close_forked(now, &[proof]).unwrap();
    let before = world.hashes(0);
    let store = world.nodes[0].store();
    assert_eq!(store.insert_chunk(now, &chunk_of(&key, &branch)).unwrap().commits, 0);
    // Stamped like its dep, and so not after it.
    let invalid = first(&key, space, 2, hlc, vec![branch.tip()]);
    let refused = store.insert_chunk(now, &chunk_of(&key, &invalid)).unwrap_err();
    assert!(matches!(refused, InsertError::Invalid { .. }), "{refused}");
    assert_eq!(store.inner_name(&space, &branch.tip()), None);
    assert_eq!(world.hashes(0), before);
    // It counts once, though the log holds it twice by then, when it is built upon as one may.
    let valid = first(&key, space, 3, later, vec![branch.tip()]);
    let chunk = chunk_of_all(&key, &[branch.clone(), valid]);
    assert_eq!(world.nodes[0].store().insert_chunk(now, &chunk).unwrap().commits, 2);
    let after = world.hashes(0);
    assert_ne!(after, before);
    world.run();
    world.reopen(0);
    assert!(world.nodes[0].store().inner_name(&space, &branch.tip()).is_some());
    assert_eq!(world.hashes(0), after);
}

#[test]
fn what_somebody_emptied_on_the_way_is_refused_and_comes_whole_from_others() {
    let mut world = World::new(2);
    let space = world.share();
    let key = KeyPair::from_seed([9; 32]);
    let whole = first(&key, space, 1, Hlc::from_wall(world.now().wall), vec![]);
    let mut hollow = whole.clone();
    hollow.erase_event(0);
    assert_eq!(hollow.id(), whole.id());
    let now = world.now();
    let refused = world.nodes[0].store().insert_chunk(now, &chunk_of(&key, &hollow)).unwrap_err();
    assert!(matches!(refused, InsertError::Hollow { seq: 1, .. }), "{refused}");
    let taken = world.nodes[0].store().insert_chunk(now, &chunk_of(&key, &whole)).unwrap();
    assert_eq!(taken.commits, 1);
    let forged = Key::new("forged").unwrap();
    assert!(world.nodes[0].store().get(&space, &forged, None).unwrap().is_some());
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

/// The far end of a link to the only node of a world.
struct Far {
    world: World,
    link: LinkId,
    decoder: crate::sync::Decoder,
    /// What the node asked for.
    wanted: bool,
    ended: Option<Code>,
}

impl Far {
    /// Comes in and opens a session as one who holds `frontier`.
    fn new(mut world: World, frontier: Vec<Tip>) -> Self {
        let space = world.nodes[0].store().space_named("default").unwrap();
        let peer = KeyPair::from_seed([9; 32]).id();
        let (link, decoder) = (LinkId(1), crate::sync::Decoder::default());
        world.input(0, Input::Connected { link, peer, outgoing: false });
        let mut far = Self { world, link, decoder, wanted: false, ended: None };
        far.say(&Message::Hello(Hello::new([7; 16], "far")));
        far.say(&Message::Open(crate::sync::Open {
            space,
            nonce: [7; 16],
            digest: None,
            logs: frontier.len() as u64,
            frontier: Some(frontier),
            missing: Vec::new(),
            closed: Vec::new(),
        }));
        far
    }

    fn say(&mut self, message: &Message) {
        let input = Input::Received { link: self.link, bytes: crate::sync::encode(message) };
        self.world.input(0, input);
        self.hear();
    }

    fn hear(&mut self) {
        loop {
            match self.world.nodes[0].poll() {
                Output::Wait(_) => break,
                Output::Sync(ticket) => {
                    let result = Disk::sync(&self.world.disks[0], ticket.file);
                    self.world.input(0, Input::Synced(ticket, result));
                }
                Output::Send { bytes, .. } => self.decoder.push(&bytes),
                Output::Close { code, .. } => drop(self.ended.get_or_insert(code)),
                _ => {}
            }
            while let Some(message) = self.decoder.next().unwrap() {
                self.wanted |= matches!(message, Message::Want { .. });
                if let Message::Refuse { code, .. } = message {
                    self.ended.get_or_insert(code);
                }
            }
        }
    }

    /// Says something every so often for three hours; tells how the session ended, if it did.
    fn goes_on(mut self, every_s: u64, mut next: impl FnMut(u64) -> Message) -> Option<Code> {
        for n in 0..3 * 3600 / every_s {
            self.world.now_ms += every_s * 1000;
            self.world.input(0, Input::Tick);
            self.hear();
            if self.ended.is_some() {
                break;
            }
            self.say(&next(n));
        }
        self.ended
    }
}

/// A peer that says something now and then, and nothing that brings the session forward.
#[test]
fn a_session_that_does_not_come_forward_is_ended_whatever_is_said_in_it() {
    let key = KeyPair::from_seed([9; 32]);
    let with_a_want = || {
        let mut world = World::new(1);
        let space = world.share();
        let hlc = Hlc::from_wall(world.now().wall);
        let commit = first(&key, space, 1, hlc, vec![]);
        let missing = first(&key, space, 2, hlc, vec![]);
        let far = Far::new(world, vec![commit.tip(), missing.tip()]);
        assert!(far.wanted && far.ended.is_none());
        (far, space, chunk_of(&key, &commit))
    };
    // A commit that comes again and again.
    let (far, space, bytes) = with_a_want();
    let chunk = |bytes: Vec<u8>, more| Message::Chunk { space, last_of_want: false, more, bytes };
    assert_eq!(far.goes_on(119, |_| chunk(bytes.clone(), false)), Some(Code::TIMEOUT));
    // A large one that comes in small parts.
    let (far, ..) = with_a_want();
    assert_eq!(far.goes_on(119, |_| chunk(vec![1], true)), Some(Code::TIMEOUT));
    // One that comes in parts as they should be, again and again, and is nothing in the end.
    let (far, ..) = with_a_want();
    let part = vec![1; crate::limits::CHUNK_BYTES_MAX];
    let again = |n: u64| match n % 18 {
        17 => chunk(bytes.clone(), false),
        _ => chunk(part.clone(), true),
    };
    assert!(matches!(far.goes_on(250, again), Some(Code::TIMEOUT | Code::PROTOCOL)));
    // Requests, always the same ones.
    let mut world = World::new(1);
    world.share();
    world.put(0, "a", "1");
    let tip = world.nodes[0].store().frontier(&space).unwrap()[0];
    let runs = vec![crate::sync::Run { after: 0, upto: tip }];
    let want = Message::Want { space, last: true, runs };
    let far = Far::new(world, Vec::new());
    assert_eq!(far.goes_on(119, |_| want.clone()), Some(Code::TIMEOUT));
}

/// A link on which the window takes minutes: what comes and what goes comes forward.
#[test]
fn a_session_over_a_slow_link_ends_in_sync() {
    let mut world = World::new(2);
    world.share();
    let bytes = |n: u8, len: usize| Op::PutBytes(vec![n; len].into());
    for n in 0..30 {
        world.ops(0, vec![(&format!("{n}"), bytes(n, 200 << 10))]);
        world.ops(1, vec![(&format!("{n}"), bytes(n, 2 << 10))]);
    }
    world.ops(0, vec![("large", bytes(0, 3 << 20))]);
    world.ops(1, vec![("large", bytes(1, 3 << 20))]);
    // Past the hellos.
    world.mail_max = Some(2);
    world.connect(0, 1);
    let peer = world.nodes[1].store().replica();
    let now = world.now();
    world.nodes[0].sync_with(now, peer);
    while world.reports.is_empty() {
        world.now_ms += 9_000;
        for n in 0..2 {
            world.input(n, Input::Tick);
        }
        world.mail_max = Some(1);
        world.run();
        assert!(world.now_ms < 1_700_100_000_000, "it ends");
    }
    assert!(world.reports[0].1.in_sync, "{:?}", world.reports);
    assert_eq!(world.hashes(0), world.hashes(1));
}
