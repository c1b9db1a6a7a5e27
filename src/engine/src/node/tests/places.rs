//! What peers say of where replicas are.

use super::*;
use crate::limits;
use crate::sync::{Place, encode};

/// Nodes that can be reached, and keep their peers connected.
fn keepers(count: u8, open: bool) -> World {
    let mut world = World::new(count);
    world.share();
    for n in 0..usize::from(count) {
        let config = Config { open, keep_connected: true, ..Config::default() };
        world.nodes[n].set_config(config);
        world.input(n, Input::Here { addresses: vec![address(n)] });
    }
    world
}

fn address(n: usize) -> String {
    format!("node{n}:7440")
}

fn id(world: &World, n: usize) -> ReplicaId {
    world.nodes[n].store_ref().replica()
}

/// Has a node admit another one to a space, and nothing known of where that is.
fn admit(world: &mut World, n: usize, peer: ReplicaId, space: SpaceId) {
    let edit = |local: &mut crate::store::Local| {
        local.peer_mut(peer).unwrap().admitted.push(space);
    };
    world.nodes[n].store().edit_local(edit).unwrap();
}

fn later(world: &mut World, ms: u64) {
    world.now_ms += ms;
    for n in 0..world.nodes.len() {
        world.input(n, Input::Tick);
    }
    world.run();
}

fn place(n: u16, addresses: &[&str]) -> Place {
    let mut replica = [0x77; 32];
    replica[..2].copy_from_slice(&n.to_be_bytes());
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    Place { replica: ReplicaId(replica), addresses }
}

/// Has a node hear from a peer where replicas are.
fn say(world: &mut World, to: usize, link: LinkId, mut places: Vec<Place>) {
    places.sort_by_key(|place| place.replica);
    let bytes = encode(&Message::Addresses { places });
    world.input(to, Input::Received { link, bytes });
    world.run();
}

fn remembered(world: &World, n: usize, peer: ReplicaId) -> Vec<String> {
    world.nodes[n].store_ref().local().peer(&peer).unwrap().addresses.clone()
}

#[test]
fn who_meets_one_member_of_an_open_space_finds_the_others() {
    let mut world = keepers(3, true);
    let first = world.connect(1, 0);
    let second = world.connect(2, 0);
    let one = id(&world, 1);
    assert_eq!(world.dials, [(2, one, vec![address(1)])], "who came last knows of who is there");
    // The others hear of it when they compare notes.
    later(&mut world, 60_000);
    let two = id(&world, 2);
    assert_eq!(world.dials[1..], [(1, two, vec![address(2)])]);
    // They meet, and the one that brought them together goes.
    world.connect(2, 1);
    world.cut(first);
    world.cut(second);
    world.put(1, "news", "1");
    world.run();
    assert_eq!(world.show(2, "news").as_deref(), Some("1"));
}

#[test]
fn peers_that_admit_one_another_find_each_other_through_a_third() {
    let mut world = keepers(4, false);
    let space = world.nodes[0].store().space_named("default").unwrap();
    let ids: Vec<ReplicaId> = (0..4).map(|n| id(&world, n)).collect();
    // Node 3 is admitted by node 0 alone.
    for (n, peer) in [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (2, 0), (2, 1), (3, 0)] {
        admit(&mut world, n, ids[peer], space);
    }
    world.connect(1, 0);
    world.connect(3, 0);
    world.connect(2, 0);
    assert_eq!(world.dials, [(2, ids[1], vec![address(1)])]);
    later(&mut world, 60_000);
    assert_eq!(world.dials[1..], [(1, ids[2], vec![address(2)])], "a stranger is nobody's peer");
}

#[test]
fn nobody_is_told_of_who_shares_no_space_with_him() {
    let mut world = World::new(3);
    let now = world.now();
    for (n, name) in [(1, "one"), (2, "two")] {
        let space = world.nodes[0].store().create_space(now, name).unwrap();
        world.nodes[n].store().join_space(space, name).unwrap();
    }
    world.run();
    for n in 0..3 {
        let config = Config { open: true, keep_connected: true, ..Config::default() };
        world.nodes[n].set_config(config);
        world.input(n, Input::Here { addresses: vec![address(n)] });
    }
    world.connect(1, 0);
    world.connect(2, 0);
    later(&mut world, 60_000);
    assert_eq!(world.dials, []);
    let two = id(&world, 2);
    assert!(!world.nodes[1].is_said_at(&two, &address(2)));
    assert!(world.nodes[0].is_said_at(&two, &address(2)));
}

#[test]
fn where_a_peer_says_it_is_outlasts_the_connection_and_the_process() {
    let mut world = keepers(2, false);
    let space = world.nodes[0].store().space_named("default").unwrap();
    let (own, peer) = (id(&world, 0), id(&world, 1));
    admit(&mut world, 0, peer, space);
    admit(&mut world, 1, own, space);
    let good: Vec<String> = (0..limits::PEER_ADDRESSES_MAX).map(|n| format!("good:{n}")).collect();
    let edit = |local: &mut crate::store::Local| {
        local.peer_mut(peer).unwrap().addresses.clone_from(&good);
    };
    world.nodes[0].store().edit_local(edit).unwrap();
    let link = world.connect(1, 0);
    // What proved good leads, and what is oldest gives way.
    let half = limits::PEER_ADDRESSES_MAX / 2;
    let said = [address(1)];
    let expected: Vec<String> =
        good[..half].iter().chain(&said).chain(&good[half..good.len() - 1]).cloned().collect();
    assert_eq!(remembered(&world, 0, peer), expected);
    // Whoever says something else all the time makes nobody write all the time.
    for n in 0..100 {
        let places = vec![Place { replica: peer, addresses: vec![format!("moved:{n}")] }];
        say(&mut world, 0, link, places);
    }
    assert!(world.nodes[0].is_said_at(&peer, "moved:99"));
    assert_eq!(remembered(&world, 0, peer), expected);
    world.cut(link);
    assert!(!world.nodes[0].is_said_at(&peer, "moved:99"), "it went with the connection");
    world.nodes[0] = world.open(0);
    assert_eq!(remembered(&world, 0, peer), expected);
}

#[test]
fn a_peer_is_told_when_its_peers_have_moved_and_not_before() {
    let mut world = keepers(2, true);
    let link = world.connect(1, 0);
    let peer = id(&world, 1);
    assert!(world.nodes[0].is_said_at(&peer, &address(1)));
    world.mail_max = Some(0);
    let here = |at: &str| Input::Here { addresses: vec![at.to_owned()] };
    world.input(1, here(&address(1)));
    world.run();
    assert!(world.mail.is_empty(), "nothing is said twice");
    world.input(1, here("elsewhere:1"));
    world.run();
    assert_eq!(world.mail.len(), 1);
    world.mail_max = None;
    world.run();
    assert!(world.nodes[0].is_said_at(&peer, "elsewhere:1"));
    assert!(!world.nodes[0].is_said_at(&peer, &address(1)));
    world.cut(link);
}

#[test]
fn who_may_sync_nothing_is_not_listened_to() {
    let mut world = keepers(2, false);
    let space = world.nodes[0].store().space_named("default").unwrap();
    let known = place(1, &["here:1"]);
    admit(&mut world, 0, known.replica, space);
    let link = world.connect(1, 0);
    let (peer, replica) = (id(&world, 1), known.replica);
    say(&mut world, 0, link, vec![known, Place { replica: peer, addresses: vec!["me:1".into()] }]);
    assert!(!world.nodes[0].is_said_at(&replica, "here:1"));
    assert!(!world.nodes[0].is_said_at(&peer, "me:1"));
    assert_eq!(world.dials, []);
}

#[test]
fn what_a_liar_invents_is_bounded_tried_and_forgotten() {
    let mut world = keepers(2, true);
    let link = world.connect(1, 0);
    world.dials.clear();
    let own = id(&world, 0);
    let everywhere: Vec<String> = (0..limits::TOLD_ADDRESSES_MAX).map(|n| n.to_string()).collect();
    let everywhere: Vec<&str> = everywhere.iter().map(|at| &**at).collect();
    for round in 0..10u16 {
        let invented = (0..63).map(|n| place(round * 63 + n, &everywhere));
        let places = invented.chain([Place { replica: own, addresses: vec!["no:1".into()] }]);
        say(&mut world, 0, link, places.collect());
        assert!(world.nodes[0].places.has(&place(round * 63, &[]).replica));
        assert!(!world.nodes[0].places.has(&own), "it knows best where it is");
    }
    assert_eq!(world.nodes[0].told_strangers().count(), 63, "the last word counts");
    assert_eq!(world.dials.len(), limits::OPEN_LINKS - 1, "beside the one that is connected");
    while let Some((n, peer, addresses)) = world.dials.pop() {
        assert!((n, addresses.len()) == (0, limits::TOLD_ADDRESSES_MAX));
        world.input(0, Input::DialFailed { peer, reason: "nobody".into() });
        later(&mut world, 1_000);
    }
    assert_eq!(world.nodes[0].told_strangers().count(), 0);
    assert!(world.nodes[0].dialing.is_empty(), "of who is not there nothing is kept");
}

#[test]
fn a_stranger_that_hangs_up_is_not_called_all_the_time() {
    let mut world = keepers(2, true);
    let teller = world.connect(1, 0);
    world.dials.clear();
    let stranger = place(1, &["there:1"]);
    say(&mut world, 0, teller, vec![stranger]);
    let mut calls = 0;
    for n in 0..100 {
        later(&mut world, 100);
        let called = std::mem::take(&mut world.dials);
        calls += called.len();
        for (_, peer, _) in called {
            let link = LinkId(1_000 + n);
            world.input(0, Input::Connected { link, peer, outgoing: true });
            world.input(0, Input::Closed { link, reason: "busy".into() });
        }
    }
    assert!((5..=10).contains(&calls), "in ten seconds {calls} times");
    // Once nobody tells of it any more nothing is kept.
    world.cut(teller);
    later(&mut world, 1_000);
    let known: Vec<_> = world.nodes[0].dialing.keys().collect();
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn strangers_that_come_and_go_leave_nothing() {
    let mut world = keepers(2, false);
    for _ in 0..3 {
        let link = world.connect(1, 0);
        world.cut(link);
    }
    assert!(world.nodes[0].dialing.is_empty());
}

/// Has a node hear from so many peers where they are, and tell one of them many times.
fn all_are_told_in_the_end(count: u16) {
    let mut world = keepers(2, true);
    let space = world.nodes[0].store().space_named("default").unwrap();
    world.connect(1, 0);
    let listener = id(&world, 1);
    for n in 0..count {
        let link = LinkId(1_000 + u64::from(n));
        let said = place(n, &["x".repeat(limits::ADDRESS_BYTES_MAX).as_str(), "y"]);
        let peer = said.replica;
        world.input(0, Input::Connected { link, peer, outgoing: false });
        let mut bytes = encode(&Message::Hello(Hello::new([3; 16], "test")));
        bytes.extend(encode(&Message::Addresses { places: vec![said] }));
        world.input(0, Input::Received { link, bytes });
        world.run();
        // As after a session: both hold the space.
        let talk = world.nodes[0].links.get_mut(&link).unwrap().talks.entry(space).or_default();
        talk.live = Some(Position::default());
    }
    let mut heard = BTreeSet::new();
    for _ in 0..60 {
        later(&mut world, 60_000);
        let told = &world.nodes[0].links.values().find(|link| link.peer == listener).unwrap().told;
        assert!(told.len() <= limits::PLACES_MAX && told.len() > 20, "{}", told.len());
        heard.extend(told.iter().map(|place| place.replica));
    }
    assert_eq!(heard.len(), usize::from(count) + 1, "its own is among them");
}

#[test]
fn of_more_peers_than_can_be_told_others_are_told_each_time() {
    all_are_told_in_the_end(2 * u16::try_from(limits::PLACES_MAX).unwrap());
}

#[test]
fn of_peers_with_long_addresses_others_are_told_each_time() {
    all_are_told_in_the_end(40);
}
