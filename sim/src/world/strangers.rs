//! Strangers: replicas that do not share the space of a world from its beginning, and the tickets
//! that let them in.
//!
//! In a world with strangers no replica is open: its members admit one another and nobody else. A
//! user of a member issues a ticket and gives it to a stranger's, who takes it as soon as the disk
//! does. Who was never given a good ticket has nothing, a ticket lets in no more than it says, and
//! who has a good one ends equal with all, whoever falls on the way.

use std::collections::BTreeSet;

use kdelta_engine::base::{ReplicaId, SpaceId};
use kdelta_engine::node::Input;
use kdelta_engine::store::{LocalTicket, Store};

use super::links::address_of;
use super::{SeatDisk, World};
use crate::check::Broken;
use crate::draw::Stream;
use crate::scenario::TicketKind;
use crate::trace::What;

/// A ticket that was given to somebody.
#[derive(Debug)]
pub(super) struct Given {
    from: usize,
    secret: [u8; 32],
    /// How many it lets in.
    uses: usize,
    holders: BTreeSet<usize>,
}

impl World {
    /// Tells whether somebody is still a stranger.
    pub(super) fn is_outside(&self, at: usize) -> bool {
        let inside = self.seats.get(at).is_none_or(|seat| seat.inside);
        self.options.strangers.contains(&at) && !inside
    }

    /// Returns the seats whose replica runs and shares the space.
    pub(crate) fn members(&self) -> Vec<usize> {
        self.awake().into_iter().filter(|at| !self.is_outside(*at)).collect()
    }

    /// Has a member admit all others, who need not know its address.
    pub(super) fn admit_members(&mut self, at: usize) {
        let space = self.space;
        let seats = (0..self.seats.len()).filter(|other| *other != at);
        let seats = seats.filter(|other| !self.options.strangers.contains(other));
        let others = seats.filter_map(|other| self.seats.get(other).map(|seat| seat.replica()));
        let others: Vec<ReplicaId> = others.collect();
        let Some(store) = self.store(at) else { return };
        let new = |other: &ReplicaId| !store.local().admits(other, &space);
        let others: Vec<ReplicaId> = others.into_iter().filter(new).collect();
        if !others.is_empty() {
            // A disk that refuses this now is asked again at the next start.
            let _ = store.edit_local(|local| {
                for other in others {
                    if let Some(peer) = local.peer_mut(other) {
                        peer.admitted.push(space);
                    }
                }
            });
        }
    }

    /// A user gives a stranger a ticket. What the disk of its issuer does not take nobody gets.
    pub(super) fn give_ticket(&mut self, from: usize, to: usize, kind: TicketKind) {
        let strangers = &self.options.strangers;
        if !strangers.contains(&to) || strangers.contains(&from) {
            return;
        }
        if kind == TicketKind::Again {
            let mut good = self.tickets.iter_mut().rev();
            if let Some(ticket) = good.find(|ticket| ticket.from == from && ticket.uses > 0) {
                ticket.holders.insert(to);
            }
        } else if let Some(secret) = self.issue(from, kind) {
            let uses = usize::from(kind == TicketKind::Good);
            self.tickets.push(Given { from, secret, uses, holders: BTreeSet::from([to]) });
        }
        self.note(Some(from), What::Note { text: format!("gives {to} a ticket: {kind:?}").into() });
        self.take_tickets(to);
    }

    /// Issues a ticket for one use; none if it cannot.
    fn issue(&mut self, from: usize, kind: TicketKind) -> Option<[u8; 32]> {
        let number = 1 << 62 | self.tickets.len() as u64;
        let (now, space, secret) =
            (self.now(from), self.space, self.draws.of(Stream::Life, number).seed());
        let expires_ms = match kind {
            TicketKind::Expired => now.wall.0 - FAR_MS,
            _ => now.wall.0 + FAR_MS,
        };
        let seat = self.seats.get_mut(from)?;
        if seat.paused_until_ns > self.now_ns {
            return None;
        }
        let store = seat.node.as_mut()?.store();
        let issued = kind == TicketKind::Forged
            || store
                .edit_local(|local| {
                    local.tickets.push(LocalTicket { secret, space, expires_ms, uses_left: 1 });
                })
                .is_ok();
        self.drain(from);
        issued.then_some(secret)
    }

    /// Has a stranger take the tickets that it was given, as far as its disk takes them.
    pub(super) fn take_tickets(&mut self, at: usize) {
        let space = self.space;
        let given = self.tickets.iter().filter(|ticket| ticket.holders.contains(&at));
        let given: Vec<(usize, [u8; 32])> =
            given.map(|ticket| (ticket.from, ticket.secret)).collect();
        if given.is_empty() {
            return;
        }
        let now = self.now(at);
        for (from, secret) in given {
            let Some(issuer) = self.seats.get(from).map(|seat| seat.replica()) else { continue };
            let Some(node) = self.seats.get_mut(at).and_then(|seat| seat.node.as_mut()) else {
                return;
            };
            let store = node.store();
            let peer = store.local().peers.iter().find(|peer| peer.replica == issuer);
            if peer.is_none_or(|peer| !peer.secrets.contains(&(space, secret))) {
                take(store, space, (issuer, address_of(from)), secret);
                node.show_tickets(now, issuer);
            }
        }
        self.input(at, Input::Tick);
    }

    /// Checks that a stranger which got something of the space may have it.
    pub(crate) fn check_admission(&mut self, at: usize) {
        if !self.is_outside(at) {
            return;
        }
        let Some(seat) = self.seats.get_mut(at) else { return };
        seat.inside = true;
        let lets_in = |ticket: &&Given| ticket.uses > 0 && ticket.holders.contains(&at);
        let all_of_it = self.tickets.iter().filter(lets_in);
        // Of those who have no other ticket no more than it lets in.
        let fits = |ticket: &Given| self.let_in_by(ticket, true) <= ticket.uses;
        if !all_of_it.into_iter().any(fits) {
            let seen = format!("seat {at} has no ticket for what it got");
            self.facts.broken = Some(Broken::new("who is not admitted has nothing", seen));
        }
    }

    /// Tells whether all are in whom a ticket lets in.
    pub(crate) fn all_are_in(&self) -> bool {
        self.tickets.iter().all(|ticket| {
            let awake = |at: &&usize| self.seats.get(**at).is_some_and(|seat| seat.node.is_some());
            let could = ticket.holders.iter().filter(awake).count();
            self.let_in_by(ticket, false) >= ticket.uses.min(could)
        })
    }

    /// Returns how many holders of a ticket are in; only those who have no other good one.
    fn let_in_by(&self, ticket: &Given, only: bool) -> usize {
        let other = |at: usize| {
            let mut others = self.tickets.iter().filter(|other| other.secret != ticket.secret);
            others.any(|other| other.uses > 0 && other.holders.contains(&at))
        };
        let inside = ticket.holders.iter().filter(|at| !self.is_outside(**at));
        inside.filter(|at| !only || !other(**at)).count()
    }
}

/// Joins the space of a ticket, in the place of an own one that nothing was written to.
fn take(
    store: &mut Store<SeatDisk>,
    space: SpaceId,
    (issuer, address): (ReplicaId, String),
    secret: [u8; 32],
) {
    // What the disk refuses is tried again at the next start.
    if !store.has_space(&space) {
        // Nobody wrote to its own one.
        let _ = store.retire_space(NAME);
        let _ = store.join_space(space, NAME);
    }
    if store.has_space(&space) {
        let _ = store.edit_local(|local| {
            let Some(peer) = local.peer_mut(issuer) else { return };
            if !peer.addresses.contains(&address) {
                peer.addresses.push(address);
            }
            if !peer.admitted.contains(&space) {
                peer.admitted.push(space);
            }
            peer.secrets.push((space, secret));
        });
    }
}

/// How a stranger calls its own space, and then the one that it joins.
pub(super) const NAME: &str = "default";
/// Further than any clock goes wrong, in milliseconds.
const FAR_MS: u64 = 100 * 24 * 3_600_000;
