//! A deterministic simulator of the engine that ships: replicas on one thread, in virtual time.
//!
//! A run is a function of its scenario and of this build. The seed draws a [`Scenario`]: writes,
//! parted networks, crashes, copies, disks that refuse and clocks that are wrong. The [`World`]
//! carries it out with real nodes on disks in memory; what must hold is checked while it runs and
//! when all have met at the end. The same scenario gives the same digest of all that happened.
//!
//! [`app`] puts an app of yours at the seats, and finds out what breaks *its* promises.

#![forbid(unsafe_code)]

pub mod app;
pub mod byzantine;
pub mod check;
pub mod command;
pub mod coverage;
pub mod crashes;
pub mod disk;
pub mod draw;
pub mod oracle;
pub mod running;
pub mod scenario;
pub mod shrink;
pub mod spread;
pub mod trace;
pub mod world;

pub use check::Broken;
pub use scenario::Scenario;
pub use shrink::shrink;
pub use world::World;

use trace::{Digest, Keep, Trace, What};
use world::guests::Programs;

/// What came of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A digest of everything that happened.
    pub digest: Digest,
    /// How many messages, disk operations and requests there were.
    pub events: u64,
    /// How long it took in the world, in milliseconds.
    pub virtual_ms: u64,
    /// What did not hold, if anything did not.
    pub broken: Option<Broken>,
}

/// Plays a scenario to its end.
pub fn run(scenario: &Scenario) -> Outcome {
    run_traced(scenario, Keep::Digest).0
}

/// Plays a scenario to its end, and returns its trace too.
pub fn run_traced(scenario: &Scenario, keep: Keep) -> (Outcome, Trace) {
    play(scenario, keep, None)
}

/// Plays a scenario to its end, with programs of users at the seats if there are any.
fn play(scenario: &Scenario, keep: Keep, programs: Option<Box<dyn Programs>>) -> (Outcome, Trace) {
    let _running = running::begin();
    let mut world = World::new(scenario, keep);
    if let Some(programs) = programs {
        world.host(programs);
    }
    let played = Broken::caught(|| {
        world.found()?;
        world.run_for(scenario.options.trouble_ms)?;
        world.end()?;
        world.end_programs()
    });
    let broken = played.and_then(|played| played).err();
    if let Some(Broken { invariant, seen }) = &broken {
        let (name, seen) = ((*invariant).into(), seen.clone().into());
        world.note(None, What::Broken { name, seen });
    }
    let trace = world.trace().clone();
    let (digest, events) = (trace.digest(), trace.count() + world.disk_ops());
    (Outcome { digest, events, virtual_ms: world.elapsed_ms(), broken }, trace)
}
