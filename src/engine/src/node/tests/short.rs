//! Syncs that end short of being in sync.

use super::*;

#[test]
fn a_sync_that_cannot_take_what_comes_ends_and_says_why() {
    let mut world = World::new(2);
    let space = world.share();
    world.put(0, "a", "1");
    world.nodes[1].store().set_quota(&space, Some(0)).unwrap();
    world.connect(0, 1);
    let peer = world.nodes[0].store().replica();
    for quota in [Some(0), None] {
        world.nodes[1].store().set_quota(&space, quota).unwrap();
        let now = world.now();
        world.nodes[1].sync_with(now, peer);
        world.run();
    }
    let [(1, short), (1, whole)] = &world.reports[..] else { panic!("{:?}", world.reports) };
    assert!(!short.in_sync && whole.in_sync, "{:?}", world.reports);
    let Some(Problem::Short(why)) = &short.problem else { panic!("{short:?}") };
    assert!(why.contains("its quota is 0"), "{why}");
    assert_eq!(world.show(1, "a").as_deref(), Some("1"));
}
