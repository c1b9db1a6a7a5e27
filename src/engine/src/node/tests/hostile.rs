//! Peers that do not keep to the rules, one rule at a time.

use super::*;
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
