//! A deterministic simulator of the engine that ships: replicas on one thread, in virtual time.
//!
//! A run is a function of its scenario and of this build. The seed draws a [`Scenario`]: writes,
//! parted networks, crashes, copies, disks that refuse and clocks that are wrong. The [`World`]
//! carries it out with real nodes on disks in memory; what must hold is checked while it runs and
//! when all have met at the end. The same scenario gives the same digest of all that happened.

pub mod byzantine;
pub mod check;
pub mod crashes;
pub mod disk;
pub mod draw;
pub mod oracle;
pub mod scenario;
pub mod shrink;
pub mod trace;
pub mod world;

pub use check::Broken;
pub use scenario::Scenario;
pub use shrink::shrink;
pub use world::World;

/// What came of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A digest of everything that happened.
    pub digest: u64,
    /// How many messages, disk operations and requests there were.
    pub events: u64,
    /// How long it took in the world, in milliseconds.
    pub virtual_ms: u64,
    /// What did not hold, if anything did not.
    pub broken: Option<Broken>,
}

/// Plays a scenario to its end.
pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = match World::new(scenario) {
        Ok(world) => world,
        Err(broken) => {
            return Outcome { digest: 0, events: 0, virtual_ms: 0, broken: Some(broken) };
        }
    };
    let played = world.run_for(scenario.options.trouble_ms).and_then(|()| world.end());
    let (digest, events, virtual_ms) = (world.digest(), world.events(), world.elapsed_ms());
    Outcome { digest, events, virtual_ms, broken: played.err() }
}
