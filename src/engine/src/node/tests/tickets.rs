//! Tickets: what is shown to whom, and when.

use super::*;
use crate::store::LocalTicket;

/// Two nodes that are open to nobody; the first has a space, and has issued a ticket for it.
fn strangers(secret: [u8; 32]) -> (World, SpaceId) {
    let mut world = World::new(2);
    for node in &mut world.nodes {
        node.set_config(Config::default());
    }
    let now = world.now();
    let space = world.nodes[0].store().create_space(now, "default").unwrap();
    world.put(0, "a", "1");
    let ticket = LocalTicket { secret, space, expires_ms: u64::MAX, uses_left: 1 };
    world.nodes[0].store().edit_local(|local| local.tickets.push(ticket)).unwrap();
    (world, space)
}

/// Has the second node keep a secret of the first one's, as who joins does.
fn keep(world: &mut World, space: SpaceId, secret: [u8; 32]) {
    let issuer = world.nodes[0].store().replica();
    let store = world.nodes[1].store();
    if !store.has_space(&space) {
        store.join_space(space, "default").unwrap();
    }
    let keep = |local: &mut crate::store::Local| {
        let peer = local.peer_mut(issuer).unwrap();
        if !peer.admitted.contains(&space) {
            peer.admitted.push(space);
        }
        peer.secrets.push((space, secret));
    };
    store.edit_local(keep).unwrap();
}

#[test]
fn a_ticket_that_is_refused_does_not_end_the_session_of_a_good_one() {
    let (mut world, space) = strangers([1; 32]);
    keep(&mut world, space, [2; 32]);
    keep(&mut world, space, [1; 32]);
    world.connect(1, 0);
    assert_eq!(world.show(1, "a").as_deref(), Some("1"));
    assert!(world.nodes.iter().all(|node| node.peers()[0].in_sync));
    world.assert_equal();
}

#[test]
fn who_shows_a_ticket_that_admits_nobody_is_told_so() {
    let (mut world, space) = strangers([1; 32]);
    keep(&mut world, space, [2; 32]);
    world.connect(1, 0);
    let (now, issuer) = (world.now(), world.nodes[0].store().replica());
    world.nodes[1].sync_with(now, issuer);
    world.run();
    let (_, report) = world.reports.pop().unwrap();
    assert_eq!(report.problem, Some(Problem::NothingInCommon));
    assert_eq!(world.show(1, "a"), None);
}

#[test]
fn a_ticket_that_is_taken_while_the_peer_is_connected_is_shown_at_once() {
    for steps in [None, Some(0), Some(1), Some(2), Some(3), Some(4)] {
        let (mut world, space) = strangers([1; 32]);
        keep(&mut world, space, [2; 32]);
        // At rest, or while what the bad one opens is on its way.
        world.mail_max = steps;
        world.connect(1, 0);
        assert_eq!(world.show(1, "a"), None);
        world.mail_max = None;
        keep(&mut world, space, [1; 32]);
        let (now, issuer) = (world.now(), world.nodes[0].store().replica());
        world.nodes[1].show_tickets(now, issuer);
        world.nodes[1].sync_with(now, issuer);
        world.run();
        assert_eq!(world.show(1, "a").as_deref(), Some("1"), "after {steps:?} messages");
        assert!(world.reports.pop().unwrap().1.in_sync);
        world.put(0, "a", "2");
        world.run();
        assert_eq!(world.show(1, "a").as_deref(), Some("2"));
    }
}
