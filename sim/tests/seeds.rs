//! Seeds that are played with every run of the tests.

#[test]
fn what_is_promised_holds_in_every_seed() {
    for seed in 0..60 {
        let outcome = kdelta_sim::run(seed);
        assert_eq!(outcome.broken, None, "seed {seed}");
        assert!(outcome.events > 20, "seed {seed}: something happened");
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in [1, 7, 23] {
        assert_eq!(kdelta_sim::run(seed), kdelta_sim::run(seed));
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(kdelta_sim::run(1).digest, kdelta_sim::run(2).digest);
}
