//! How new commits spread among many replicas.

use kdelta_sim::spread::{Setting, measure};
use kdelta_sim::{Scenario, run};

/// Goal: all are reached, each by about one copy of a commit and over few hops.
///
/// Method: sixty replicas that know a few others each, one message in twenty lost; count what
/// arrives. The batch of CI plays a hundred.
#[test]
fn new_commits_reach_everybody_about_once_and_over_few_hops() {
    let figures = measure(&Setting { replicas: 60, commits: 30, ..Setting::HUNDRED }).unwrap();
    assert_eq!(figures.check(), Ok(()));
    assert_eq!(figures.reached, 30 * 59, "{figures}");
    assert!(figures.copies >= figures.reached, "nobody is reached by nothing: {figures}");
    assert!(figures.stats.grafts > 0 && figures.stats.prunes > 0, "{figures}");
    assert!(figures.last_ms < 10_000, "{figures}");
}

#[test]
fn without_a_loss_commits_come_about_once_too() {
    let figures = measure(&Setting { loss_ppm: 0, ..Setting::SMALL }).unwrap();
    assert_eq!(figures.check(), Ok(()));
}

/// What was split for longer than connections live finds together again: whom a replica knew from
/// the beginning it dials as long as it runs, and compares digests with.
#[test]
fn a_web_that_was_split_joins_again() {
    let scenario = Scenario::parse(
        "\
kdelta-sim 1
seed 5
replicas 12
topology web
loss-ppm 50000
trouble-ms 150000
at 2000 write 0 put 1 1
at 9000 part aaaaaabbbbbb 120000
at 60000 write 1 put 2 2
at 61000 write 10 put 3 3
at 110000 write 5 put 1 5
at 111000 write 7 put 1 7
",
    );
    assert_eq!(run(&scenario.unwrap()).broken, None);
}
