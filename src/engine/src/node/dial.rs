//! Whom to connect to, and when to try again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Node, Output, Problem};
use crate::base::{Instant, ReplicaId};
use crate::limits;
use crate::log::Disk;

/// A peer that is being dialled, or will be.
#[derive(Debug, Clone)]
pub(crate) struct Dialing {
    pub(crate) under_way: bool,
    failures: u32,
    next: Instant,
    /// Where it is dialled, or was the last time.
    at: Vec<String>,
    /// It is to be dialled elsewhere as well, if this is in vain.
    again: bool,
}

impl Dialing {
    fn new(failures: u32, next: Instant) -> Self {
        Self { under_way: false, failures, next, at: Vec::new(), again: false }
    }
}

impl<D: Disk + Clone> Node<D> {
    /// Dials a peer now; where that is under way, and an address of it became known meanwhile, once
    /// more after that.
    pub(super) fn dial(&mut self, peer: ReplicaId) {
        let mut addresses: Vec<String> = Vec::new();
        for address in self.places.of(&peer) {
            if addresses.len() < limits::NEARBY_ADDRESSES_MAX && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let known = self.store.local().peer(&peer);
        for address in known.iter().flat_map(|known| &known.addresses) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let next = self.now.mono;
        let dialing = self.dialing.entry(peer).or_insert(Dialing::new(0, next));
        if dialing.under_way {
            dialing.again |= addresses.iter().any(|address| !dialing.at.contains(address));
            return;
        }
        dialing.under_way = true;
        dialing.at.clone_from(&addresses);
        if addresses.is_empty() {
            self.dial_failed(peer, "no address of it is known");
        } else {
            self.urgent.push_back(Output::Dial { peer, addresses });
        }
    }

    pub(super) fn dial_failed(&mut self, peer: ReplicaId, reason: &str) {
        let jitter = self.rng.below(1000);
        let next = self.now.mono;
        let dialing = self.dialing.entry(peer).or_insert(Dialing::new(0, next));
        dialing.under_way = false;
        if std::mem::take(&mut dialing.again) {
            return self.dial(peer);
        }
        dialing.failures += 1;
        sometimes!("node-dial-failed-again", dialing.failures > 1);
        let delay = backoff(dialing.failures).saturating_add(Duration::from_millis(jitter));
        dialing.next = self.now.mono.plus(delay);
        let next = dialing.next;
        self.fail_jobs_to(peer, &Problem::Unreachable(reason.to_owned()));
        if !self.store.local().is_admitted(&peer) {
            // A stranger that is not there: of those there may be any number.
            self.places.forget_told(&peer);
            self.dialing.remove(&peer);
            return;
        }
        if self.config.keep_connected {
            self.wake_at(next);
        }
    }

    pub(super) fn dialing_done(&mut self, peer: ReplicaId) {
        if mutant!("dialling-never-done") {
            return;
        }
        let before = self.dialing.remove(&peer);
        sometimes!("node-reached-after-failures", before.is_some_and(|it| it.failures > 1));
    }

    /// Takes note that a peer is gone. Of strangers that will not be dialled nothing is kept: there
    /// may be any number.
    pub(super) fn redial_later(&mut self, peer: ReplicaId) {
        let told = self.config.open && self.places.has(&peer);
        if !told && !self.store.local().is_admitted(&peer) {
            return;
        }
        let next = self.now.mono.plus(backoff(1));
        self.dialing.entry(peer).or_insert(Dialing::new(1, next));
        if self.config.keep_connected {
            self.wake_at(next);
        }
    }

    /// Has a peer tried soon, however often it was in vain before: there is news of it.
    pub(super) fn try_soon(&mut self, peer: &ReplicaId) {
        if let Some(dialing) = self.dialing.get_mut(peer) {
            // Whoever cries wolf makes a node dial each second, no more.
            dialing.failures = 0;
            dialing.next = dialing.next.min(self.now.mono.plus(backoff(1)));
        }
    }

    /// Dials the known peers whose time has come.
    pub(super) fn tick_dialing(&mut self) {
        if !self.config.keep_connected {
            return;
        }
        let known = self.store.local().peers.iter();
        let known = known.filter(|peer| {
            let is_placed = !peer.addresses.is_empty() || self.places.has(&peer.replica);
            is_placed && !peer.admitted.is_empty()
        });
        let peers: Vec<ReplicaId> = known.map(|peer| peer.replica).collect();
        for peer in peers {
            self.dial_if_due(peer);
        }
        if self.config.open {
            self.dial_strangers();
        }
    }

    /// Where all are admitted, meets some of those that peers tell of: the net holds though who
    /// brought it together goes.
    fn dial_strangers(&mut self) {
        let strangers: BTreeSet<ReplicaId> = self.told_strangers().collect();
        let local = self.store.local();
        self.dialing.retain(|peer, dialing| {
            dialing.under_way || strangers.contains(peer) || local.is_admitted(peer)
        });
        for stranger in strangers {
            let under_way = self.dialing.values().filter(|dialing| dialing.under_way).count();
            if self.links.len() + under_way >= limits::OPEN_LINKS {
                return;
            }
            self.dial_if_due(stranger);
        }
    }

    fn dial_if_due(&mut self, peer: ReplicaId) {
        if self.links.values().any(|link| link.peer == peer) {
            return;
        }
        match self.dialing.get(&peer) {
            Some(dialing) if dialing.under_way => {}
            Some(dialing) if dialing.next > self.now.mono => {
                let next = dialing.next;
                self.wake_at(next);
            }
            _ => self.dial(peer),
        }
    }
}

/// Returns how long to wait after so many failures: 1 s, doubling to a minute.
fn backoff(failures: u32) -> Duration {
    let seconds = 1u64 << failures.saturating_sub(1).min(6);
    Duration::from_secs(seconds.min(60))
}
