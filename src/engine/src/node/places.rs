//! Where replicas may be reached: what the network and peers say of it, and what peers are told.
//!
//! All of it is hints. Who is somewhere is proven by the handshake, and nobody is admitted for
//! being told of. A hint lasts as long as whoever gave it: what a peer says goes with its
//! connection, but for what an admitted one says of itself, which is remembered. A peer is told of
//! those alone that are connected here and share a space with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{LinkId, Node};
use crate::base::{ReplicaId, SpaceId};
use crate::limits;
use crate::log::Disk;
use crate::sync::{Message, Place, place_bytes};

/// What is known of where replicas are, besides what the store remembers.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Where peers may reach this one.
    own: Vec<String>,
    /// As the network says, admitted or not.
    nearby: BTreeMap<ReplicaId, Vec<String>>,
    /// As peers that are connected say: of whom, and who says it.
    told: BTreeMap<(ReplicaId, ReplicaId), Vec<String>>,
}

impl Places {
    /// Returns what the network says.
    pub(super) fn nearby(&self) -> impl Iterator<Item = (&ReplicaId, &[String])> {
        self.nearby.iter().map(|(replica, addresses)| (replica, addresses.as_slice()))
    }

    /// Returns where a replica is said to be: by itself, by the network, and by others.
    pub(super) fn of<'a>(&'a self, replica: &ReplicaId) -> impl Iterator<Item = &'a String> {
        let (replica, all) = (*replica, (*replica, LEAST)..=(*replica, GREATEST));
        let others = self.told.range(all).filter(move |((_, by), _)| *by != replica);
        let said = self.told.get(&(replica, replica)).into_iter();
        let said = said.chain(self.nearby.get(&replica));
        said.chain(others.map(|(_, addresses)| addresses)).flatten()
    }

    /// Tells whether anybody says where a replica is.
    pub(super) fn has(&self, replica: &ReplicaId) -> bool {
        self.of(replica).next().is_some()
    }

    /// Returns the replicas that peers tell of.
    fn told(&self) -> BTreeSet<ReplicaId> {
        self.told.keys().map(|(replica, _)| *replica).collect()
    }

    /// Drops what a peer said.
    pub(super) fn forget_said_by(&mut self, peer: &ReplicaId) {
        self.told.retain(|(_, by), _| by != peer);
    }

    /// Drops what peers say of a replica.
    pub(super) fn forget_told(&mut self, replica: &ReplicaId) {
        self.told.retain(|(of, _), _| of != replica);
    }
}

impl<D: Disk + Clone> Node<D> {
    /// Returns where replicas are as the network says, admitted or not.
    pub fn nearby(&self) -> impl Iterator<Item = (&ReplicaId, &[String])> {
        self.places.nearby()
    }

    /// Tells whether the network or a peer says that a replica is at an address.
    pub fn is_said_at(&self, replica: &ReplicaId, address: &str) -> bool {
        self.places.of(replica).any(|said| said == address)
    }

    /// Takes note of where the network says that a replica is. One that is admitted is tried there
    /// soon, however often it was in vain before; of all others it is only known.
    pub(super) fn found(&mut self, peer: ReplicaId, mut addresses: Vec<String>) {
        addresses.retain(|address| address.len() <= limits::ADDRESS_BYTES_MAX);
        addresses.truncate(limits::NEARBY_ADDRESSES_MAX);
        let nearby = &mut self.places.nearby;
        if addresses.is_empty() {
            nearby.remove(&peer);
            return;
        }
        let there = nearby.get(&peer);
        if there == Some(&addresses)
            || there.is_none()
                && nearby.len() >= limits::NEARBY_MAX
                && !self.store.local().is_admitted(&peer)
        {
            return;
        }
        nearby.insert(peer, addresses);
        self.try_soon(&peer);
        self.tick_dialing();
    }

    /// Takes note of where peers may reach this replica, and tells them.
    pub(super) fn here(&mut self, mut addresses: Vec<String>) {
        addresses.retain(|address| {
            (1..=limits::ADDRESS_BYTES_MAX).contains(&address.len())
                && !address.chars().any(char::is_control)
        });
        addresses.truncate(limits::TOLD_ADDRESSES_MAX);
        if self.places.own == addresses {
            return;
        }
        self.places.own = addresses;
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.tell_places(link));
    }

    /// Tells a peer where this replica is, and where those are that the two share a space with;
    /// nothing if that is what it was told last.
    pub(super) fn tell_places(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let shared: BTreeSet<SpaceId> = link.synced_spaces().collect();
        if shared.is_empty() || self.places.own.is_empty() {
            return;
        }
        let own = Place { replica: self.store.replica(), addresses: self.places.own.clone() };
        let mut left = limits::PLACES_BYTES_MAX - PLACES_HEAD_BYTES - place_bytes(&own);
        let mut places = BTreeMap::from([(own.replica, own)]);
        let peers = self.links.values().filter(|other| {
            other.peer != link.peer && other.synced_spaces().any(|space| shared.contains(&space))
        });
        // Of themselves alone: what they heard of others they tell those themselves.
        let mut peers: Vec<Place> = peers
            .filter_map(|other| {
                let addresses = self.places.told.get(&(other.peer, other.peer))?.clone();
                Some(Place { replica: other.peer, addresses })
            })
            .collect();
        let all_fit = peers.len() < limits::PLACES_MAX
            && peers.iter().map(place_bytes).sum::<usize>() <= left;
        while !peers.is_empty() && places.len() < limits::PLACES_MAX {
            // Where not all can be told, others are the next time.
            let at = if all_fit { 0 } else { self.rng.below(peers.len() as u64) };
            let place = peers.swap_remove(usize::try_from(at).unwrap_or_default());
            let Some(rest) = left.checked_sub(place_bytes(&place)) else { break };
            left = rest;
            places.insert(place.replica, place);
        }
        let places: Vec<Place> = places.into_values().collect();
        let Some(link) = self.links.get_mut(&id).filter(|link| link.told != places) else { return };
        link.told.clone_from(&places);
        self.send(id, &Message::Addresses { places });
    }

    /// Takes what a peer says of where replicas are, in place of what it said before. Of those that
    /// are admitted to nothing it is kept for when they are, up to a limit.
    pub(super) fn told(&mut self, id: LinkId, places: Vec<Place>) {
        let Some(peer) = self.links.get(&id).map(|link| link.peer) else { return };
        let listens = self.config.open
            || self.invited.contains(&peer)
            || self.store.local().is_admitted(&peer);
        if !listens {
            return;
        }
        self.places.forget_said_by(&peer);
        let mut strangers = self.told_strangers().count();
        for Place { replica, addresses } in places {
            if replica == self.store.replica() {
                continue;
            }
            let admitted = self.store.local().is_admitted(&replica);
            if replica == peer {
                if admitted {
                    self.remember(id, &addresses);
                }
            } else if !admitted {
                if strangers >= limits::NEARBY_MAX {
                    continue;
                }
                strangers += 1;
            }
            sometimes!("node-told-of-another", replica != peer);
            self.places.told.insert((replica, peer), addresses);
            self.try_soon(&replica);
        }
        self.tick_dialing();
    }

    /// Keeps where an admitted peer says that it is, behind where it proved to be. Once for each
    /// connection: it may say something else all the time.
    fn remember(&mut self, id: LinkId, addresses: &[String]) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.remembered) else { return };
        let peer = link.peer;
        let known = self.store.local().peer(&peer).map(|known| known.addresses.clone());
        let mut known = known.unwrap_or_default();
        if addresses.iter().all(|address| known.contains(address)) {
            return;
        }
        link.remembered = true;
        let older = known.split_off(known.len().min(limits::PEER_ADDRESSES_MAX / 2));
        for address in addresses.iter().chain(&older) {
            if !known.contains(address) {
                known.push(address.clone());
            }
        }
        known.truncate(limits::PEER_ADDRESSES_MAX);
        // It is a hint: where the disk refuses, it is known until the connection ends.
        let _ = self.store.edit_local(|local| {
            if let Some(peer) = local.peer_mut(peer) {
                peer.addresses = known;
            }
        });
    }

    /// Returns the replicas that peers tell of and that are admitted to nothing here.
    pub(super) fn told_strangers(&self) -> impl Iterator<Item = ReplicaId> {
        let told = self.places.told().into_iter();
        told.filter(|replica| !self.store.local().is_admitted(replica))
    }
}

const LEAST: ReplicaId = ReplicaId([0; 32]);
const GREATEST: ReplicaId = ReplicaId([0xff; 32]);
/// The number of places, before them.
const PLACES_HEAD_BYTES: usize = 1;
