//! When all is at rest: that it comes to that, what holds then, and that silence follows.

use kdelta_engine::base::Hash;
use kdelta_engine::log::Position;

use super::{Broken, facts};
use crate::world::World;

/// What each replica held when that was looked at last.
#[derive(Debug, Default)]
pub(super) struct Rest {
    marks: Vec<(usize, u32, Position)>,
    states: Vec<Option<Hash>>,
}

impl World {
    /// Tells whether all hold the same, and nobody waits for anything. What each holds is hashed
    /// again only if something was written since.
    pub(super) fn is_at_rest(&mut self, rest: &mut Rest) -> bool {
        if !self.is_quiet() {
            return false;
        }
        let space = self.space;
        let mut marks = Vec::new();
        for at in self.awake() {
            let life = self.seats.get(at).map_or(0, |seat| seat.life);
            marks.extend(self.store(at).map(|store| (at, life, store.written())));
        }
        if marks != rest.marks || rest.states.contains(&None) {
            let awake = self.awake().into_iter();
            let state = |at| self.store(at)?.state_hash(&space).ok()?;
            rest.states = awake.map(state).collect();
            rest.marks = marks;
        }
        rest.states.windows(2).all(|pair| pair.first() == pair.last())
    }

    /// Checks that those who hold the same show the same.
    pub(super) fn check_values(&mut self) -> Result<(), Broken> {
        let space = self.space;
        let mut first = None;
        for at in self.awake() {
            let Some(store) = self.store(at) else { continue };
            let shown = facts::show(store, &space);
            if *first.get_or_insert(shown) != shown {
                let seen = format!("seat {at} holds what the first one does and shows another");
                return Err(Broken::new("equal states show equal values", seen));
            }
        }
        Ok(())
    }

    /// Checks that no commits are sent or asked for once all are equal, and little but openings of
    /// sessions, which compare digests.
    pub(super) fn check_silence(&mut self) -> Result<(), Broken> {
        // What was on its way has arrived by then.
        self.run_for(PERIOD_MS)?;
        self.listen();
        self.run_for(2 * PERIOD_MS)?;
        let heard = self.heard();
        let links = heard.links.max(1);
        if heard.commits > 0 || heard.others > links * MESSAGES_A_LINK {
            let seen = format!("{heard:?}");
            return Err(Broken::new("silence follows", seen));
        }
        Ok(())
    }

    /// Checks that what was bad on disks and was read is good again or was told of.
    pub(super) fn check_disks(&mut self) -> Result<(), Broken> {
        for (at, seat) in self.seats.iter().enumerate() {
            let open = seat.disk.ledger(|ledger| {
                let open = ledger.unsettled();
                let open = open.map(|hit| {
                    let fault = ledger.entries().get(hit.fault.0);
                    format!(
                        "{} {:?} by {:?}",
                        hit.file,
                        hit.range,
                        fault.map(|f| f.fault.to_string())
                    )
                });
                open.collect::<Vec<String>>()
            });
            if let Some(open) = open.first() {
                let seen = format!("seat {at}: {open}");
                return Err(Broken::new("what was bad and read is told of or mended", seen));
            }
        }
        Ok(())
    }
}

/// How often digests are compared, in milliseconds.
const PERIOD_MS: u64 = 60_000;
/// Most messages on a link in the time that is listened, openings of sessions aside.
const MESSAGES_A_LINK: u64 = 12;
