//! Users who ask for a sync, and hold their replica to what it says of it.
//!
//! "In sync" means that both sides durably hold what either held when the session began: what they
//! said of themselves in its opening. So from then on that is promised at both, as what a user
//! wrote there is once it is acknowledged.

use kdelta_engine::causal::Tip;
use kdelta_engine::node::{JobId, Report};

use super::World;
use crate::check::{Broken, facts};
use crate::trace::What;

/// A sync that a user asked for.
#[derive(Debug)]
pub(super) struct Ask {
    job: JobId,
    with: usize,
    /// In which of its lives the other one was asked.
    life: u32,
}

impl World {
    /// A user asks a seat to sync with another one.
    pub(super) fn ask_to_sync(&mut self, at: usize, with: usize) {
        let (now, life) = (self.now(at), self.seats.get(with).map_or(0, |seat| seat.life));
        if self.is_outside(at) || self.is_outside(with) {
            return;
        }
        let other = self.seats.get(with).filter(|seat| seat.enemy.is_none() && seat.node.is_some());
        let Some(peer) = other.map(|seat| seat.replica()) else { return };
        let Some(seat) = self.seats.get_mut(at) else { return };
        let hangs = seat.paused_until_ns > self.now_ns;
        let Some(node) = seat.node.as_mut().filter(|_| !hangs && at != with) else { return };
        let job = node.sync_with(now, peer);
        seat.asks.push(Ask { job, with, life });
        self.note(Some(at), What::Note { text: format!("is to sync with {with}").into() });
        self.drain(at);
    }

    /// A user is told what came of a sync.
    pub(super) fn sync_told(&mut self, at: usize, job: JobId, report: &Report) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Some(place) = seat.asks.iter().position(|ask| ask.job == job) else { return };
        let Ask { with, life, .. } = seat.asks.swap_remove(place);
        let text = if report.in_sync { "is in sync" } else { "is not in sync" };
        self.note(Some(at), What::Note { text: format!("{text} with {with}").into() });
        let same = self.seats.get(with).is_some_and(|seat| seat.life == life);
        // Of those who share a key any may have answered.
        let shared = self.shares_its_key(with);
        if !report.in_sync || shared {
            return;
        }
        let tips = self.openings_between(at, with);
        for side in [at, with] {
            if side == with && !same {
                continue;
            }
            self.hold_to_it(side, at, &tips);
        }
    }

    /// Tells whether a copy of a seat's disk runs, or ran, at another one.
    fn shares_its_key(&self, at: usize) -> bool {
        let Some(key) = self.seats.get(at).map(|seat| seat.key) else { return false };
        self.seats.iter().filter(|seat| seat.key == key).count() > 1
    }

    /// Checks that a seat holds what it is said to hold, and remembers that.
    fn hold_to_it(&mut self, side: usize, by: usize, tips: &[Tip]) {
        let space = self.space;
        let Some(seat) = self.seats.get_mut(side) else { return };
        // What bad bytes hide may be missed until it is repaired.
        let sick = !seat.disk.bad().is_empty();
        let Some(store) = seat.node.as_mut().map(|node| node.store()) else { return };
        if sick || store.damage().is_some() {
            return;
        }
        let forked: Vec<bool> = tips.iter().map(|tip| self.facts.forks(&tip.log.replica)).collect();
        for (tip, forked) in tips.iter().zip(forked) {
            if forked {
                continue;
            }
            if !facts::holds(store, &space, tip) {
                let id = facts::short(&tip.id);
                let seen = format!("seat {by} says so, and {side} lacks {id} at {}", tip.seq);
                self.facts.broken = Some(Broken::new("who is in sync has all", seen));
                return;
            }
            self.facts.acknowledge(side, *tip);
        }
    }
}
