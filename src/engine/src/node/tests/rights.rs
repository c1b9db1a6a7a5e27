//! Who may read is told by what is synced.

use super::*;
use crate::event::{Actions, Audience, Grant, Owned, Prefixes};
use crate::sync::Code;

/// A space that the first node owns, and that nobody else has yet.
fn owned(n: u8) -> (World, SpaceId) {
    let mut world = World::new(n);
    let (now, store) = (world.now(), world.nodes[0].store());
    let owned = Owned { difficulty: 0, roots: vec![store.replica()] };
    let space = store.create_owned_space(now, "default", owned).unwrap();
    let all: Vec<_> = world.nodes.iter_mut().map(|node| node.store().replica()).collect();
    for (n, node) in world.nodes.iter_mut().enumerate() {
        let store = node.store();
        if n > 0 {
            store.join_space(space, "default").unwrap();
        }
        let admit = |local: &mut crate::store::Local| {
            for peer in all.iter().filter(|peer| **peer != all[n]) {
                local.peer_mut(*peer).unwrap().admitted.push(space);
            }
        };
        store.edit_local(admit).unwrap();
    }
    (world, space)
}

fn let_read(world: &mut World, space: SpaceId, n: usize) {
    let (now, audience) = (world.now(), Audience::Replica(world.nodes[n].store().replica()));
    let (actions, prefixes) = (Actions::READ, Prefixes::all());
    let grant = Grant { audience, actions, prefixes, expiry_ms: None, depth: 0 };
    world.nodes[0].store().grant(now, &space, grant, None).unwrap();
    world.run();
}

/// Has one node sync with another over a link that ends with it.
fn sync(world: &mut World, a: usize, b: usize) -> Report {
    let link = world.connect(a, b);
    let (now, peer) = (world.now(), world.nodes[b].store().replica());
    world.nodes[a].sync_with(now, peer);
    world.run();
    world.cut(link);
    world.reports.pop().unwrap().1
}

#[test]
fn that_a_peer_may_read_may_be_known_to_it_alone() {
    for caller in [1, 2] {
        let (mut world, space) = owned(3);
        let_read(&mut world, space, 1);
        assert!(sync(&mut world, 1, 0).in_sync);
        let_read(&mut world, space, 2);
        assert!(sync(&mut world, 2, 0).in_sync);
        let report = sync(&mut world, caller, 3 - caller);
        assert!(report.in_sync, "{report:?}");
        assert_eq!(world.hashes(1), world.hashes(2));
        assert_eq!(world.hashes(1), world.hashes(0));
    }
}

#[test]
fn a_helper_may_be_granted_to_read_at_the_end_of_what_it_brings() {
    let (mut world, space) = owned(3);
    let_read(&mut world, space, 2);
    for n in 0..4 {
        world.ops(0, vec![(&format!("{n}"), Op::PutBytes(vec![n; 200 << 10].into()))]);
    }
    let_read(&mut world, space, 1);
    assert!(sync(&mut world, 1, 0).in_sync);
    let report = sync(&mut world, 2, 1);
    assert!(report.in_sync, "{report:?}");
    assert_eq!(world.hashes(2), world.hashes(0));
}

#[test]
fn who_may_read_nothing_is_told_of_nothing_whoever_calls() {
    for (caller, called) in [(0, 1), (1, 0)] {
        let (mut world, space) = owned(2);
        world.put(0, "secret", "1");
        world.run();
        let report = sync(&mut world, caller, called);
        let refused = match &report.problem {
            Some(Problem::NotGranted) => true,
            Some(Problem::Refused(code, _)) => *code == Code::NOT_GRANTED,
            _ => false,
        };
        assert!(refused, "{report:?}");
        assert_eq!(world.nodes[1].store().counts(&space).unwrap(), (0, 0));
        assert_eq!(report.sent_events, 0);
    }
}

#[test]
fn who_comes_to_an_open_node_brings_nothing_without_a_right_to_read() {
    let (mut world, space) = owned(3);
    let_read(&mut world, space, 1);
    assert!(sync(&mut world, 1, 0).in_sync);
    let_read(&mut world, space, 2);
    assert!(sync(&mut world, 2, 0).in_sync);
    world.nodes[1].store().edit_local(|local| local.peers.clear()).unwrap();
    let report = sync(&mut world, 2, 1);
    assert!(
        matches!(&report.problem, Some(Problem::Refused(code, _)) if *code == Code::NOT_GRANTED)
    );
    assert_eq!(world.nodes[1].store().counts(&space).unwrap().0, 2, "nothing came");
}

#[test]
fn whoever_may_read_no_more_is_not_listened_to() {
    let (mut world, space) = owned(2);
    let_read(&mut world, space, 1);
    assert!(sync(&mut world, 1, 0).in_sync);
    let (now, store) = (world.now(), world.nodes[0].store());
    let grants = store.grants(&space).unwrap();
    let given = grants.iter().find(|granted| granted.parent.is_some()).unwrap().id;
    store.revoke(now, &space, given, None).unwrap();
    world.run();
    for (caller, called) in [(0, 1), (1, 0)] {
        let report = sync(&mut world, caller, called);
        assert!(!report.in_sync, "{report:?}");
    }
    let [before, after] = [1, 0].map(|n| world.nodes[n].store().counts(&space).unwrap().0);
    assert_eq!((before, after), (2, 3), "nobody told it of the revocation");
}
