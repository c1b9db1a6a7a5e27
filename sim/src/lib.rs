//! A deterministic simulator of the engine that ships: replicas on one thread, in virtual time.
//!
//! A run is a function of its seed and of this build: the seed draws a plan of writes, meetings,
//! cuts, crashes, copies and clocks that are wrong ([`plan`]); the world carries it out with real
//! nodes on disks in memory ([`world`]); what must hold is checked while it runs and when all have
//! met at the end ([`check`]). The same seed gives the same digest of all that happened.
//!
//! Links deliver in order and break off; disks lose what was not synced. Links that lose, repeat or
//! reorder, and disks that rot, are not here.

pub mod check;
pub mod plan;
pub mod world;

pub use check::Broken;
pub use plan::{Plan, Step};
pub use world::World;

use kdelta_engine::base::hex;

/// What came of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// A digest of everything that happened, in hexadecimal.
    pub digest: String,
    /// How many messages, disk operations and requests there were.
    pub events: u64,
    /// How long it took in the world, in milliseconds.
    pub virtual_ms: u64,
    /// What did not hold, if anything did not.
    pub broken: Option<Broken>,
}

/// Plays the plan of a seed.
pub fn run(seed: u64) -> Outcome {
    let plan = Plan::draw(seed);
    let mut world = World::new(seed, plan.replicas);
    let mut broken = None;
    for step in &plan.steps {
        broken = world.play(step).err();
        if broken.is_some() {
            break;
        }
    }
    let broken = broken.or_else(|| check::at_the_end(&mut world).err());
    let (events, virtual_ms) = (world.events(), world.elapsed_ms());
    Outcome { seed, digest: hex(&world.digest()), events, virtual_ms, broken }
}
