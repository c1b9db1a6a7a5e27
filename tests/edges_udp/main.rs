//! Real nodes whose datagrams are lost, doubled, delayed, cut off and sent from other addresses:
//! when that ends, all hold the same and nothing is missing.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what goes wrong here fails the test"
)]

#[path = "../common/mod.rs"]
mod common;
mod relay;

use common::{Dice, Home, Node, count, until};
use relay::{Faults, Relay};

/// A poor mobile network.
const POOR: Faults = Faults {
    loss: 60,
    twice: 40,
    held_back: 80,
    delay_ms: 5,
    jitter_ms: 15,
    rate: 256 << 10,
    cut_there: false,
    cut_back: false,
};

/// Three stores of one space. `b` and `c` know `a` by the address of a relay alone.
fn behind_relays(home: &Home, seed: u64) -> ([Node; 3], [Relay; 2]) {
    home.ok("a", &["put", "origin", "a"]);
    let met = home.serve("a", &[]);
    for name in ["b", "c"] {
        let ticket = home.ok("a", &["ticket"]);
        assert_eq!(home.json(name, &["sync", &ticket])["in_sync"], true, "{name}");
    }
    // The address that the tickets named is nobody's from here on.
    met.stop();
    let a = home.serve("a", &[]);
    let far = a.ready["listen"][0].as_str().expect("text").parse().expect("an address");
    let relays = [Relay::new(far, seed), Relay::new(far, !seed)];
    let join = |name: &str, relay: &Relay| {
        home.ok(name, &["peers", "add", &format!("{}@{}", a.replica(), relay.address)]);
        home.serve(name, &[])
    };
    let (b, c) = (join("b", &relays[0]), join("c", &relays[1]));
    ([a, b, c], relays)
}

fn all_equal(home: &Home) -> bool {
    home.hashes("a") == home.hashes("b") && home.hashes("b") == home.hashes("c")
}

/// What a store writes: to keys of its own and to keys that all write.
fn write(home: &Home, name: &str, round: u64) {
    home.ok(name, &["put", &format!("only/{name}/{round}"), &round.to_string()]);
    home.ok(name, &["counter", "add", "hits", "1"]);
    home.ok(name, &["set", "add", "tags", name, &round.to_string()]);
}

/// `KDELTA_UDP_SEED` and `KDELTA_UDP_ROUNDS` change the run.
#[test]
fn nodes_behind_poor_links_end_equal_and_lose_nothing() {
    let (seed, rounds) = (count("KDELTA_UDP_SEED", 1), count("KDELTA_UDP_ROUNDS", 12));
    let home = Home::new();
    let (nodes, relays) = behind_relays(&home, seed);
    write(&home, "c", rounds);
    until("a write passes two sound relays", || all_equal(&home));
    assert!(relays.iter().all(|relay| relay.counts().passed > 0), "all goes over the relays");
    let mut dice = Dice(seed | 1);
    for round in 0..rounds {
        for relay in &relays {
            // One link in four is cut one way; a round lasts about as long as a few commands.
            let cut = dice.below(8);
            relay.set(Faults { cut_there: cut == 0, cut_back: cut == 1, ..POOR });
            if dice.below(4) == 0 {
                relay.rebind();
            }
        }
        for name in ["a", "b", "c"] {
            write(&home, name, round);
        }
    }
    // What the seed left out comes at the end: each fault is met in every run.
    for relay in &relays {
        let before = relay.counts();
        relay.rebind();
        for cut_there in [true, false] {
            relay.set(Faults { cut_there, cut_back: !cut_there, ..POOR });
            home.ok("a", &["put", "cut", &cut_there.to_string()]);
            home.ok("b", &["put", "cut", &cut_there.to_string()]);
            home.ok("c", &["put", "cut", &cut_there.to_string()]);
        }
        relay.set(POOR);
        until("datagrams are lost, doubled and held back", || {
            home.ok("a", &["counter", "add", "noise", "1"]);
            let now = relay.counts();
            now.lost > before.lost && now.twice > before.twice && now.held_back > before.held_back
        });
    }
    for relay in &relays {
        let counts = relay.counts();
        assert!(counts.cut > 0 && counts.rebinds > 0, "{counts:?}");
        relay.set(Faults::default());
    }
    until("all are equal", || all_equal(&home));
    for name in ["a", "b", "c"] {
        assert_eq!(home.ok(name, &["get", "hits"]), (3 * rounds + 1).to_string(), "{name}");
        for round in 0..rounds {
            for other in ["a", "b", "c"] {
                let key = format!("only/{other}/{round}");
                assert_eq!(home.ok(name, &["get", &key]), round.to_string(), "{name}: {key}");
            }
        }
    }
    for node in nodes {
        node.stop();
    }
    for name in ["a", "b", "c"] {
        assert_eq!(home.json(name, &["verify", "--deep"])["ok"], true, "{name}");
    }
}
