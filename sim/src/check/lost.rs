//! The end of a world in which bad media spared nothing: what is lost stays lost, and is told of.
//!
//! Nobody can be made whole here who lost what nobody else has, so it is not asked that all are
//! equal. That something is lost must have been told of by `verify` once: of a segment that is gone
//! nobody knows afterwards what was in it, and a repair ends when peers have given what they have.
//! What is promised all along holds nevertheless: nothing is invented, one place of a log is one
//! commit, equal states show equal values, and nothing stops at an assertion.

use super::{Broken, facts};
use crate::world::World;

impl World {
    /// Lets operators try for a while, and checks that each replica has what its users were told is
    /// durable, or said that it is damaged, or does not open.
    pub(super) fn end_bereft(&mut self) -> Result<(), Broken> {
        self.run_for(BEREFT_MS)?;
        let space = self.space;
        for at in self.members() {
            let told = self.facts.told.get(&at).cloned().unwrap_or_default();
            let owned_up = self.seats.get(at).is_some_and(|seat| seat.owned_up);
            let Some(store) = self.store(at) else { continue };
            let says_so = store.damage().is_some() || store.loss(&space).is_some();
            if owned_up || says_so || !store.has_space(&space) {
                continue;
            }
            let lost = told.iter().find(|tip| !facts::holds(store, &space, tip)).copied();
            if let Some(tip) = lost.filter(|tip| !self.facts.forks(&tip.log.replica)) {
                let seen = format!("seat {at} lacks {} and is whole", facts::short(&tip.id));
                return Err(Broken::new("what is lost is told of", seen));
            }
        }
        self.check_disks()
    }
}

/// How long operators try, in milliseconds.
const BEREFT_MS: u64 = 120_000;
