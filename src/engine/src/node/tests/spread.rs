//! How new commits spread among nodes.

use super::*;
use crate::base::LogId;

impl World {
    /// Lets time pass.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for n in 0..self.nodes.len() {
            self.input(n, Input::Tick);
        }
        self.run();
    }

    fn holders(&mut self, n: usize, space: &SpaceId, id: CommitId) -> usize {
        let frontier = self.nodes[n].store().frontier(space).unwrap();
        let tip = frontier.into_iter().find(|tip| tip.id == id).unwrap();
        self.nodes[n].holders(space, &tip)
    }
}

#[test]
fn since_when_a_peer_is_in_sync_is_told() {
    let mut world = World::new(2);
    world.share();
    // What the other one wrote waits for its time, so that at first they are not in sync.
    world.now_ms += 3_600_000;
    world.put(1, "far", "1");
    world.run();
    world.now_ms -= 3_600_000;
    let link = world.connect(0, 1);
    let told = |world: &World| {
        let peers = world.nodes[0].peers();
        (peers[0].in_sync, peers[0].since.0)
    };
    let connected = world.now_ms;
    assert_eq!(told(&world), (false, connected));
    world.pass(61_000);
    assert_eq!(told(&world), (false, connected), "still not");
    world.pass(3_600_000);
    world.pass(61_000);
    let (in_sync, since) = told(&world);
    assert!(in_sync && since > connected);
    world.put(0, "more", "1");
    world.run();
    world.pass(61_000);
    assert_eq!(told(&world), (true, since), "and has been ever since");
    world.cut(link);
    world.now_ms += 1_000;
    world.connect(0, 1);
    assert_eq!(told(&world), (true, world.now_ms), "a new connection knows nothing of it");
}

#[test]
fn who_is_not_among_the_first_is_told_and_asks() {
    let mut world = World::new(9);
    world.share();
    for n in 1..9 {
        world.connect(0, n);
    }
    world.put(0, "first", "1");
    world.run();
    let have = |world: &mut World, key: &str| {
        (1..9).filter(|n| world.show(*n, key).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(have(&mut world, "first"), [1, 2, 3, 4, 5, 6]);
    world.pass(200);
    assert_eq!(have(&mut world, "first").len(), 6, "it may come another way");
    world.pass(1_100);
    assert_eq!(have(&mut world, "first").len(), 8);
    world.put(0, "second", "2");
    world.run();
    assert_eq!(have(&mut world, "second").len(), 8, "who asked once is pushed what is new");
    let grafts: Vec<u64> = world.nodes.iter().map(|node| node.spreading().grafts).collect();
    assert_eq!(grafts, [0, 0, 0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn an_author_learns_who_holds_what_came_another_way() {
    let mut world = World::new(3);
    let space = world.share();
    world.connect(0, 1);
    let link = world.connect(0, 2);
    world.connect(1, 2);
    world.nodes[0].pruned(link, space);
    world.nodes[2].pruned(link, space);
    let id = world.put(0, "a", "1");
    world.run();
    assert!(world.show(2, "a").is_some());
    assert_eq!(world.holders(0, &space, id), 1, "nobody has said more yet");
    world.pass(200);
    assert_eq!(world.holders(0, &space, id), 2);
    assert_eq!(world.nodes[2].spreading().grafts, 0);
}

#[test]
fn who_takes_nothing_is_pushed_nothing_and_asks_later() {
    let mut world = World::new(2);
    world.share();
    world.connect(0, 1);
    world.pass(200);
    world.mail_max = Some(0);
    for n in 0..3 {
        world.ops(0, vec![("large", Op::PutBytes(vec![n; 3 << 20].into()))]);
        world.run();
    }
    world.put(0, "small", "1");
    world.run();
    assert_eq!(world.nodes[0].spreading().stalls, 0, "it may take its time");
    world.now_ms += 6_000;
    world.put(0, "small", "2");
    world.run();
    assert_eq!(world.nodes[0].spreading().stalls, 1);
    let waiting = world.mail.len();
    for n in 0..100 {
        world.put(0, "small", &n.to_string());
        world.run();
    }
    world.pass(200);
    let said: Vec<&str> =
        world.mail.iter().skip(waiting).map(|(.., bytes)| crate::sync::frame_name(bytes)).collect();
    assert_eq!(said, ["Acked"], "all is named at once, and nothing pushed");
    world.mail_max = None;
    world.run();
    world.pass(1_100);
    assert_eq!(world.nodes[1].spreading().grafts, 1);
    world.assert_equal();
    assert_eq!(world.show(1, "small").as_deref(), Some("99"));
}

/// Goal: a peer that names what it does not have costs a question and a session, and no more.
#[test]
fn what_nobody_has_is_asked_for_once() {
    let mut world = World::new(2);
    let space = world.share();
    let link = world.connect(0, 1);
    let log = LogId { replica: ReplicaId([9; 32]), incarnation: 1 };
    let tip = crate::causal::Tip { log, seq: 7, id: CommitId([7; 32]) };
    world.nodes[1].heard(link, space, &[tip]);
    for _ in 0..20 {
        world.pass(1_100);
    }
    assert_eq!(world.nodes[1].spreading().grafts, 1);
    assert!(world.nodes[1].peers()[0].in_sync);
    // More logs than are waited for make a session at once, and no list that grows.
    let many: Vec<_> = (0..2_000)
        .map(|incarnation| crate::causal::Tip { log: LogId { incarnation, ..log }, ..tip })
        .collect();
    world.nodes[1].heard(link, space, &many);
    world.run();
    world.pass(1_100);
    assert_eq!(world.nodes[1].spreading().grafts, 2);
    world.put(0, "a", "1");
    world.run();
    world.assert_equal();
}
