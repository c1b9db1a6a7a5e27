//! Nothing leaves a replica before its own disk has it.
//!
//! What others hold of a replica and its power cut undoes would be written anew under the same
//! number. It takes luck to see that happen; that a commit came too early is seen at once.

use kdelta_engine::causal::Tip;

use super::{Broken, facts};
use crate::world::World;

impl World {
    /// Checks that a commit which came to a seat is durable where a user wrote it.
    pub(super) fn check_early(&mut self, at: usize, tip: &Tip) {
        let waiting = |(_, seat): &(usize, &crate::world::Seat)| seat.waits_for(tip);
        if let Some((by, _)) = self.seats.iter().enumerate().find(waiting) {
            let seen = format!("{} came to {at}, and {by} may lose it", facts::short(&tip.id));
            self.facts.broken = Some(Broken::new("what leaves is durable", seen));
        }
    }
}
