//! Who is known to hold what.

use super::*;

#[test]
fn a_peer_holds_a_commit_once_it_is_durable_there() {
    let mut world = World::new(3);
    let space = world.share();
    world.connect(0, 1);
    world.connect(0, 2);
    let holders = |world: &mut World, id: CommitId| {
        let frontier = world.nodes[0].store().frontier(&space).unwrap();
        let tip = frontier.into_iter().find(|tip| tip.id == id).unwrap();
        world.nodes[0].holders(&space, &tip)
    };
    let id = world.put(0, "a", "1");
    assert_eq!(holders(&mut world, id), 0);
    world.run();
    assert_eq!(holders(&mut world, id), 2, "pushed, and acknowledged by both");
    let id = world.put(0, "b", "2");
    world.mail_max = Some(0);
    world.run();
    assert!(!world.mail.is_empty(), "it is on its way");
    while let Some((n, link, bytes)) = world.mail.pop_front() {
        world.input(n, Input::Received { link, bytes });
    }
    let ticket = match world.nodes[1].poll() {
        Output::Sync(ticket) => ticket,
        other => panic!("what came is to be synced: {other:?}"),
    };
    assert!(matches!(world.nodes[1].poll(), Output::Wait(_)), "and nothing is said before");
    assert_eq!(holders(&mut world, id), 0);
    let result = Disk::sync(&world.disks[1], ticket.file);
    world.input(1, Input::Synced(ticket, result));
    world.mail_max = None;
    world.run();
    assert_eq!(holders(&mut world, id), 2);
    // Whoever was away has it once a session is through.
    world.put(1, "c", "3");
    let link = *world.wires.keys().map(|(_, link)| link).min().unwrap();
    world.cut(link);
    let id = world.put(0, "d", "4");
    world.run();
    assert_eq!(holders(&mut world, id), 1);
    world.connect(0, 1);
    assert_eq!(holders(&mut world, id), 2);
    world.connect(0, 1);
    assert_eq!(holders(&mut world, id), 2, "a second connection is no second peer");
}
