//! What a node gets back from its peers after damage.

use super::*;
use crate::log::{FileId, FileKind, Position};

/// The record at a place rots, the store is opened again, and repaired while nobody helps.
fn repaired_without(world: &mut World, n: u8, place: Position) {
    let file = FileId::new(FileKind::Segment, place.segment);
    assert!(world.disks[usize::from(n)].flip_bit(file, (u64::from(place.offset) + 40) * 8));
    world.nodes[usize::from(n)] = world.open(n);
    let store = world.nodes[usize::from(n)].store();
    store.begin_repair().unwrap();
    assert_eq!(store.finish_repair().unwrap().missing, Vec::<String>::new());
}

#[test]
fn what_vouched_for_a_log_comes_again_after_it_was_lost() {
    let mut world = World::new(3);
    let space = world.share();
    world.put(0, "a", "1");
    let link = world.connect(0, 1);
    world.cut(link);
    world.put(1, "b", "2");
    world.run();
    let last = *world.nodes[1].store().voucher_places().last().unwrap();
    repaired_without(&mut world, 1, last);
    let store = world.nodes[1].store();
    assert_eq!(store.unvouched(&space).unwrap().len(), 1);
    assert_eq!(world.show(1, "a").as_deref(), Some("1"), "it counts as before");

    let link = world.connect(1, 2);
    assert_eq!(world.show(2, "a"), None, "and is handed on to nobody");
    world.cut(link);
    let link = world.connect(0, 1);
    assert_eq!(world.nodes[1].store().unvouched(&space).unwrap(), []);
    world.cut(link);
    world.nodes[1] = world.open(1);
    world.connect(1, 2);
    world.assert_equal();
}

#[test]
fn who_lost_what_vouched_for_its_side_of_a_fork_shows_it_if_an_index_remembers() {
    let mut world = World::new(3);
    world.share();
    world.put(0, "a", "1");
    let links = [world.connect(0, 1), world.connect(0, 2)];
    links.into_iter().for_each(|link| world.cut(link));
    let twin = world.twin(0);
    world.put(0, "b", "1");
    world.put(twin, "b", "2");
    let links = [world.connect(0, 1), world.connect(twin, 2)];
    links.into_iter().for_each(|link| world.cut(link));
    let store = world.nodes[1].store();
    let last = *store.voucher_places().last().unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    repaired_without(&mut world, 1, last);
    // The authors of both sides stay away.
    world.connect(1, 2);
    let space = world.nodes[1].store().space_named("default").unwrap();
    assert_eq!(world.nodes[1].store().closed_logs(&space).unwrap().len(), 1);
    assert_eq!(world.hashes(1), world.hashes(2));
}

/// Three replicas and a copy of the first; each side of the fork has somebody who builds upon it.
fn forked() -> World {
    let mut world = World::new(3);
    world.share();
    world.put(0, "a", "1");
    let links = [world.connect(0, 1), world.connect(0, 2)];
    links.into_iter().for_each(|link| world.cut(link));
    let twin = world.twin(0);
    for round in 0..2 {
        world.put(0, "b", &round.to_string());
        world.put(twin, "b", &(round + 7).to_string());
    }
    let links = [world.connect(0, 1), world.connect(twin, 2)];
    world.put(1, "c", "1");
    world.put(2, "c", "2");
    world.run();
    links.into_iter().for_each(|link| world.cut(link));
    all_meet_at(&mut world, 1, [2, 0, twin]);
    world
}

/// Each writes while all are connected with one of them.
fn all_meet_at(world: &mut World, hub: usize, others: [usize; 3]) {
    let links = others.map(|other| world.connect(other, hub));
    for n in 0..4 {
        world.put(n, "d", &n.to_string());
        world.run();
    }
    links.into_iter().for_each(|link| world.cut(link));
}

/// The same with a log that is forked from its first commit on.
fn forked_at_once() -> World {
    let mut world = World::new(3);
    world.share();
    let twin = world.twin(1);
    world.put(1, "b", "1");
    world.put(twin, "b", "2");
    let links = [world.connect(0, 1), world.connect(twin, 2)];
    world.put(0, "c", "1");
    world.put(2, "c", "2");
    world.run();
    links.into_iter().for_each(|link| world.cut(link));
    all_meet_at(&mut world, 0, [2, 1, twin]);
    world
}

/// Has each record rot on the disk of node `n` in turn, and repairs it from two others.
fn assert_repairs(world: &mut World, n: usize, others: [usize; 2]) {
    world.assert_equal();
    let whole = world.hashes(n);
    world.nodes[n].store().close().unwrap();
    let pristine = world.disks[n].snapshot();
    let places = world.nodes[n].store().record_places();
    assert!(places.len() > 12, "{places:?}");
    for place in places {
        world.disks[n] = Arc::new(pristine.snapshot());
        let file = FileId::new(FileKind::Segment, place.segment);
        assert!(world.disks[n].flip_bit(file, (u64::from(place.offset) + 12) * 8));
        world.nodes[n] = world.open(u8::try_from(n).unwrap());
        let mut missing = vec![String::new()];
        for _ in 0..3 {
            world.nodes[n].store().begin_repair().unwrap();
            let links = others.map(|other| world.connect(n, other));
            missing = world.nodes[n].store().finish_repair().unwrap().missing;
            world.run();
            links.into_iter().for_each(|link| world.cut(link));
            if missing.is_empty() {
                break;
            }
        }
        assert_eq!(missing, Vec::<String>::new(), "{place}");
        assert_eq!(world.hashes(n), whole, "{place}");
        world.nodes[n].store().close().unwrap();
        let found = crate::store::verify(&world.disks[n], true).unwrap();
        assert_eq!(found.problems, [], "{place}");
    }
}

#[test]
fn whatever_record_rots_beside_a_fork_a_repair_makes_all_whole() {
    assert_repairs(&mut forked(), 1, [0, 2]);
}

#[test]
fn whatever_record_rots_beside_a_log_that_is_forked_at_once_a_repair_makes_all_whole() {
    assert_repairs(&mut forked_at_once(), 0, [1, 2]);
}

#[test]
fn news_are_pushed_over_a_link_that_lasts_through_a_repair() {
    let mut world = World::new(2);
    world.share();
    let link = world.connect(0, 1);
    for n in 0..6 {
        world.put(0, "a", &n.to_string());
        world.run();
    }
    world.put(1, "b", "1");
    world.run();
    world.cut(link);
    world.nodes[1].store().close().unwrap();
    let place = world.nodes[1].store().record_places()[4];
    let file = FileId::new(FileKind::Segment, place.segment);
    assert!(world.disks[1].flip_bit(file, (u64::from(place.offset) + 12) * 8));
    world.nodes[1] = world.open(1);
    world.connect(0, 1);
    world.nodes[1].store().begin_repair().unwrap();
    let (now, peer) = (world.now(), world.nodes[0].store().replica());
    world.nodes[1].sync_with(now, peer);
    world.run();
    assert_eq!(world.nodes[1].store().finish_repair().unwrap().missing, Vec::<String>::new());
    for n in 2..5 {
        world.put(1, "b", &n.to_string());
        world.run();
        assert_eq!(world.show(0, "b"), Some(n.to_string()));
    }
}
