//! What the network says of where replicas are.

use super::*;
use crate::limits;

const PEER: ReplicaId = ReplicaId([9; 32]);

/// A node that keeps its peers connected.
fn keeper() -> World {
    let mut world = World::new(1);
    world.share();
    let config = Config { keep_connected: true, ..Config::default() };
    world.nodes[0].set_config(config);
    world
}

/// Admits the peer, which was at these addresses.
fn admit(world: &mut World, addresses: &[&str]) {
    let store = world.nodes[0].store();
    let space = store.space_named("default").unwrap();
    let edit = |local: &mut crate::store::Local| {
        let peer = local.peer_mut(PEER).unwrap();
        peer.addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        peer.admitted.push(space);
    };
    store.edit_local(edit).unwrap();
}

fn found(world: &mut World, peer: ReplicaId, addresses: &[&str]) {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    world.input(0, Input::Found { peer, addresses });
}

/// Lets time pass, and returns where the node dials its peer, time after time.
fn dials(world: &mut World, ms: u64) -> Vec<Vec<String>> {
    world.now_ms += ms;
    world.input(0, Input::Tick);
    let mut dials = Vec::new();
    loop {
        match world.nodes[0].poll() {
            Output::Wait(_) => return dials,
            Output::Dial { peer, addresses } => {
                assert_eq!(peer, PEER);
                dials.push(addresses);
            }
            Output::Sync(ticket) => {
                let result = Disk::sync(&world.disks[0], ticket.file);
                world.input(0, Input::Synced(ticket, result));
            }
            _ => {}
        }
    }
}

fn fail(world: &mut World) {
    world.input(0, Input::DialFailed { peer: PEER, reason: "no answer".into() });
}

#[test]
fn a_peer_is_tried_soon_where_the_network_says_it_is() {
    let mut world = keeper();
    admit(&mut world, &["old:1"]);
    assert_eq!(dials(&mut world, 0), [["old:1"]]);
    for _ in 0..8 {
        fail(&mut world);
        assert_eq!(dials(&mut world, 70_000), [["old:1"]]);
    }
    fail(&mut world);
    assert!(dials(&mut world, 3_000).is_empty(), "it waits for about a minute by now");
    found(&mut world, PEER, &["new:1", "old:1"]);
    assert_eq!(dials(&mut world, 2_000), [["new:1", "old:1"]]);
    // Of what is said meanwhile the next dial makes use, soon after this one.
    found(&mut world, PEER, &["newer:1"]);
    assert!(dials(&mut world, 0).is_empty(), "one at a time");
    fail(&mut world);
    assert_eq!(dials(&mut world, 2_000), [["newer:1", "old:1"]]);
    // What is said again is no news.
    fail(&mut world);
    fail(&mut world);
    fail(&mut world);
    found(&mut world, PEER, &["newer:1"]);
    assert!(dials(&mut world, 2_000).is_empty());
    // Whoever is gone is where it was.
    found(&mut world, PEER, &[]);
    assert_eq!(dials(&mut world, 70_000), [["old:1"]]);
}

#[test]
fn a_sync_waits_for_the_address_that_was_named_for_it() {
    let mut world = keeper();
    admit(&mut world, &["old:1"]);
    assert_eq!(dials(&mut world, 0), [["old:1"]]);
    let store = world.nodes[0].store();
    store.edit_local(|local| local.peer_mut(PEER).unwrap().addresses[0] = "new:1".into()).unwrap();
    let now = world.now();
    let job = world.nodes[0].sync_with(now, PEER);
    assert!(dials(&mut world, 0).is_empty(), "one at a time");
    fail(&mut world);
    // Not yet the end of the sync.
    assert_eq!(dials(&mut world, 0), [["new:1"]]);
    fail(&mut world);
    let done = world.nodes[0].poll();
    assert!(matches!(done, Output::JobDone { job: of, .. } if of == job), "{done:?}");
}

#[test]
fn a_stranger_is_known_and_never_dialled() {
    let mut world = keeper();
    found(&mut world, PEER, &["here:1"]);
    assert!(dials(&mut world, 70_000).is_empty());
    let nearby: Vec<_> = world.nodes[0].nearby().map(|(id, at)| (*id, at.to_vec())).collect();
    assert_eq!(nearby, [(PEER, vec!["here:1".to_owned()])]);
    // From when it is admitted there is a place to look for it.
    admit(&mut world, &[]);
    assert_eq!(dials(&mut world, 0), [["here:1"]]);
}

#[test]
fn what_the_network_says_is_bounded() {
    let mut world = keeper();
    let long = "x".repeat(limits::ADDRESS_BYTES_MAX + 1);
    let many: Vec<String> = (0..100).map(|n| format!("host:{n}")).collect();
    let many: Vec<&str> = [long.as_str()].into_iter().chain(many.iter().map(|a| &**a)).collect();
    for n in 0..=u16::MAX {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_le_bytes());
        found(&mut world, ReplicaId(id), &many[..if n < 3 { 101 } else { 2 }]);
    }
    let nearby: Vec<_> = world.nodes[0].nearby().collect();
    assert_eq!(nearby.len(), limits::NEARBY_MAX);
    assert_eq!(nearby[0].1.len(), limits::NEARBY_ADDRESSES_MAX);
    assert_eq!(nearby[0].1[0], "host:0");
    // A peer is heard of nevertheless.
    admit(&mut world, &["good:1"]);
    found(&mut world, PEER, &["here:1"]);
    assert_eq!(dials(&mut world, 0), [["here:1", "good:1"]]);
    // Whoever announces many places for it does not crowd out the one that is known.
    fail(&mut world);
    found(&mut world, PEER, &many);
    let dialled = dials(&mut world, 2_000).concat();
    let good = dialled.iter().position(|address| address == "good:1");
    assert!(good.is_some_and(|at| at < limits::PEER_ADDRESSES_MAX), "{dialled:?}");
}
