//! Who may come in: a bounded number of strangers, of whom each address has its share.
//!
//! A stranger has a *place* from its first packet until it is admitted or gone; of those with a
//! place, a bounded number is *inside* (handshake and what follows) and the others wait in order.
//! Under load an address must be shown to be real before it gets a place (RFC 9000, section 8.1.2).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quinn::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::link::{self, Origin};
use super::{NetLimits, NetStats, Shared};
use crate::host::{locked, tls};

/// The doorkeeper's book.
pub(super) struct Door {
    inside: Arc<Semaphore>,
    inside_max: usize,
    places: Arc<Mutex<Places>>,
    shut: AtomicBool,
    refused: AtomicU64,
    retried: AtomicU64,
    gave_up: AtomicU64,
}

impl Door {
    pub(super) fn new(limits: &NetLimits) -> Self {
        let inside_max = limits.strangers_max.clamp(1, Semaphore::MAX_PERMITS);
        let places = Places {
            places_max: inside_max.saturating_add(limits.waiting_max),
            per_ip_max: limits.strangers_per_ip_max.max(1),
            taken: 0,
            by_ip: BTreeMap::new(),
        };
        Self {
            inside: Arc::new(Semaphore::new(inside_max)),
            inside_max,
            places: Arc::new(Mutex::new(places)),
            shut: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            gave_up: AtomicU64::new(0),
        }
    }

    /// Lets nobody in from now on.
    pub(super) fn shut(&self) {
        self.shut.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> NetStats {
        NetStats {
            strangers: self.inside_max.saturating_sub(self.inside.available_permits()),
            refused: self.refused.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            gave_up: self.gave_up.load(Ordering::Relaxed),
            ..NetStats::default()
        }
    }

    pub(super) fn count_gave_up(&self) {
        self.gave_up.fetch_add(1, Ordering::Relaxed);
    }

    fn is_busy(&self) -> bool {
        self.inside.available_permits() < self.inside_max - self.inside_max / 4
    }

    fn refuse(&self, incoming: Incoming) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        incoming.refuse();
    }
}

/// A stranger's right to be inside; given back when dropped.
pub(super) struct Inside {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

/// Meets whoever comes, until the endpoint is closed.
pub(super) async fn keep(shared: Arc<Shared>) {
    while let Some(incoming) = shared.endpoint.accept().await {
        meet(&shared, incoming);
    }
}

fn meet(shared: &Arc<Shared>, incoming: Incoming) {
    let door = &shared.door;
    if door.is_shut() || locked(&shared.links).len() >= shared.limits.links_max {
        return door.refuse(incoming);
    }
    if door.is_busy() && !incoming.remote_address_validated() && incoming.may_retry() {
        door.retried.fetch_add(1, Ordering::Relaxed);
        // It fails only where a retry is not allowed, which was asked just now.
        let _ = incoming.retry();
        return;
    }
    match Place::take(&door.places, incoming.remote_address().ip()) {
        Some(place) => {
            tokio::spawn(welcome(Arc::clone(shared), incoming, place));
        }
        None => door.refuse(incoming),
    }
}

async fn welcome(shared: Arc<Shared>, incoming: Incoming, place: Place) {
    let patience = shared.limits.stranger;
    let waited = timeout(patience, Arc::clone(&shared.door.inside).acquire_owned()).await;
    let Ok(Ok(permit)) = waited else { return shared.door.refuse(incoming) };
    let inside = Inside { _permit: permit, _place: place };
    let Ok(connecting) = incoming.accept() else { return shared.door.count_gave_up() };
    let shaken = timeout(patience, connecting).await;
    let Ok(Ok(connection)) = shaken else { return shared.door.count_gave_up() };
    let Some(peer) = tls::peer(&connection) else { return shared.door.count_gave_up() };
    link::run(shared, connection, peer, Origin::Accepted(inside)).await;
}

/// How many places are taken, in all and by whom.
struct Places {
    places_max: usize,
    per_ip_max: usize,
    taken: usize,
    by_ip: BTreeMap<IpAddr, usize>,
}

/// A place that is taken; given back when dropped.
struct Place {
    places: Arc<Mutex<Places>>,
    ip: IpAddr,
}

impl Place {
    fn take(places: &Arc<Mutex<Places>>, ip: IpAddr) -> Option<Self> {
        let ip = block_of(ip);
        let mut book = locked(places);
        let of_ip = book.by_ip.get(&ip).copied().unwrap_or(0);
        // On this machine anybody can be many, and processes share one address.
        if book.taken >= book.places_max || of_ip >= book.per_ip_max && !ip.is_loopback() {
            return None;
        }
        book.taken += 1;
        book.by_ip.insert(ip, of_ip + 1);
        drop(book);
        Some(Self { places: Arc::clone(places), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = locked(&self.places);
        book.taken -= 1;
        match book.by_ip.get_mut(&self.ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                book.by_ip.remove(&self.ip);
            }
        }
    }
}

/// Cuts an address to what one owner usually has: an IPv4 address or an IPv6 /64.
fn block_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(places_max: usize, per_ip_max: usize) -> Arc<Mutex<Places>> {
        Arc::new(Mutex::new(Places { places_max, per_ip_max, taken: 0, by_ip: BTreeMap::new() }))
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = places(8, 2);
        let take = |ip: &str| Place::take(&places, ip.parse().unwrap());
        let first = take("192.0.2.1").unwrap();
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        let _other = take("192.0.2.2").unwrap();
        drop(first);
        let _again = take("192.0.2.1").unwrap();
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let places = places(8, 1);
        let take = |ip: &str| Place::take(&places, ip.parse().unwrap());
        let _first = take("2001:db8:0:1::1").unwrap();
        assert!(take("2001:db8:0:1:ffff::2").is_none());
        assert!(take("2001:db8:0:2::1").is_some());
    }

    #[test]
    fn this_machine_is_limited_only_by_the_whole() {
        let places = places(3, 1);
        let take = |ip: &str| Place::take(&places, ip.parse().unwrap());
        let held: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1"].map(take).into_iter().collect();
        assert!(held.iter().all(Option::is_some));
        assert!(take("127.0.0.1").is_none());
        drop(held);
        assert_eq!(locked(&places).taken, 0);
        assert!(locked(&places).by_ip.is_empty());
    }
}
