//! Finds replicas on the local network, and is found there: DNS service discovery (RFC 6763) over
//! multicast DNS (RFC 6762).
//!
//! A node announces its replica id, its port and its addresses as a service `_kdelta._udp`. What it
//! hears of others is a hint about where they are: who is there is proven by the handshake, and
//! nobody is admitted for being near. A node that listens on loopback alone is heard there alone.
//! Not here: what is done with an address, which is the engine's.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Weak;
use std::time::Duration;

use data_encoding::BASE32_DNSSEC;
use mdns_sd::{
    Error, IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo,
};

use super::replica::Shared;
use crate::engine::base::ReplicaId;
use crate::engine::node::Input;

/// The type of the service that nodes announce.
const SERVICE: &str = "_kdelta._udp.local.";

/// The announcement of a node; it ends with this.
pub(super) struct Nearby {
    daemon: ServiceDaemon,
}

impl fmt::Debug for Nearby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nearby").finish_non_exhaustive()
    }
}

impl Nearby {
    /// Announces the replica `own`, which listens at `listen`, and tells the engine who else is
    /// there.
    ///
    /// # Errors
    /// What the operating system refuses at once; a network that cannot be used for it is silent.
    pub(super) fn start(
        own: ReplicaId,
        listen: SocketAddr,
        shared: Weak<Shared>,
    ) -> Result<Self, Error> {
        let daemon = ServiceDaemon::new()?;
        let loopback = || vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
        if listen.ip().is_loopback() {
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(loopback())?;
        } else {
            daemon.disable_interface(loopback())?;
        }
        if listen.is_ipv4() {
            daemon.disable_interface(IfKind::IPv6)?;
        }
        let name = BASE32_DNSSEC.encode(own.as_bytes());
        let host = format!("kdelta-{}.local.", name.get(..HOST_CHARS).unwrap_or(&name));
        let address = if listen.ip().is_unspecified() { Vec::new() } else { vec![listen.ip()] };
        let version: &[(&str, &str)] = &[("v", "1")];
        let info =
            ServiceInfo::new(SERVICE, &name, &host, address.as_slice(), listen.port(), version)?;
        let info = if address.is_empty() { info.enable_addr_auto() } else { info };
        let events = daemon.browse(SERVICE)?;
        daemon.register(info)?;
        std::thread::Builder::new()
            .name("kdelta-nearby".to_owned())
            .spawn(move || listen_to(&events, own, &shared))
            .map_err(|error| Error::Msg(error.to_string()))?;
        Ok(Self { daemon })
    }
}

impl Drop for Nearby {
    fn drop(&mut self) {
        // Ends both threads. The process may end next, and goodbye would not be said.
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv_timeout(GOODBYE);
        }
    }
}

/// Hands what is heard to the engine until one of both is gone.
fn listen_to(events: &Receiver<ServiceEvent>, own: ReplicaId, shared: &Weak<Shared>) {
    while let Ok(event) = events.recv() {
        let (name, addresses) = match &event {
            ServiceEvent::ServiceResolved(service) => (&service.fullname, addresses_of(service)),
            ServiceEvent::ServiceRemoved(_, name) => (name, Vec::new()),
            _ => continue,
        };
        let Some(peer) = replica_of(name).filter(|peer| *peer != own) else { continue };
        let Some(shared) = shared.upgrade() else { return };
        tracing::debug!(%peer, ?addresses, "heard of on the local network");
        shared.input(Input::Found { peer, addresses });
        // It may be connected already, and the way there is known only now.
        shared.keep_met_at(peer);
    }
}

/// Reads the replica id in the full name of a service.
fn replica_of(name: &str) -> Option<ReplicaId> {
    let label = name.strip_suffix(SERVICE)?.strip_suffix('.')?;
    let bytes = BASE32_DNSSEC.decode(label.to_ascii_lowercase().as_bytes()).ok()?;
    Some(ReplicaId(bytes.try_into().ok()?))
}

/// Returns where a service is, the likeliest first.
fn addresses_of(service: &ResolvedService) -> Vec<String> {
    let mut found: Vec<SocketAddr> =
        service.addresses.iter().map(|ip| address(ip, service.port)).collect();
    found.sort_by_key(|addr| (is_link_local(addr), addr.is_ipv6(), *addr));
    found.iter().map(ToString::to_string).collect()
}

fn address(ip: &ScopedIp, port: u16) -> SocketAddr {
    match ip {
        ScopedIp::V6(v6) => {
            let scope = if v6.addr().is_unicast_link_local() { v6.scope_id().index } else { 0 };
            SocketAddrV6::new(*v6.addr(), port, 0, scope).into()
        }
        other => SocketAddr::new(other.to_ip_addr(), port),
    }
}

fn is_link_local(addr: &SocketAddr) -> bool {
    match addr.ip() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// How many letters of a replica's id its host name has: enough to differ in one network.
const HOST_CHARS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_service_names_a_replica_or_is_none_of_ours() {
        let id = ReplicaId([7; 32]);
        let label = BASE32_DNSSEC.encode(id.as_bytes());
        assert_eq!(label.len(), 52, "it fits a label of DNS");
        assert_eq!(replica_of(&format!("{label}.{SERVICE}")), Some(id));
        assert_eq!(replica_of(&format!("{}.{SERVICE}", label.to_uppercase())), Some(id));
        for other in ["", SERVICE, "x._kdelta._udp.local.", "_kdelta._udp.local", "._udp.local."] {
            assert_eq!(replica_of(other), None, "{other:?}");
        }
        // Two of one id are there: the second is another's name, or a copy of the store.
        assert_eq!(replica_of(&format!("{label} (2).{SERVICE}")), None);
        assert_eq!(replica_of(&format!("{label}{label}.{SERVICE}")), None);
    }
}
