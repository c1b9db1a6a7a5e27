//! The simulator: how many messages, disk operations and requests it plays in a second on one core.

use kdelta::sim::scenario::Scenario;

use crate::figures::Part;
use crate::settings::Settings;
use crate::{Outcome, raw};

/// What is measured.
pub(crate) const WHAT: &str = "messages, disk operations and requests";

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    let seeds: u64 = settings.count(10, 100);
    part.set("seeds", seeds);
    let mut digests = Vec::new();
    for round in 0..settings.rounds() {
        let begun = raw::processor_seconds();
        let outcomes: Vec<_> =
            (0..seeds).map(|seed| kdelta::sim::run(&Scenario::draw(seed))).collect();
        let events: u64 = outcomes.iter().map(|outcome| outcome.events).sum();
        part.add(WHAT, "simulator", "1/s", events as f64 / (raw::processor_seconds() - begun));
        if outcomes.iter().any(|outcome| outcome.broken.is_some()) {
            return Err("a seed broke an invariant".into());
        }
        let found: Vec<_> = outcomes.iter().map(|outcome| outcome.digest).collect();
        if round > 0 && found != digests {
            return Err("a seed gave two traces".into());
        }
        digests = found;
    }
    Ok(())
}
