//! What a replica does with peers: tickets, joining, syncing, and what it knows of them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::http::HttpAddress;
use super::nearby::Nearby;
use super::quic::BindError;
use super::replica::{Disk, Recovered, Replica, Shared};
use super::{clock, locked};
use crate::engine::base::{ReplicaId, SpaceId, WallTime};
use crate::engine::log::{Disk as _, FileKind};
use crate::engine::node::{Config, Input, LinkId, Problem, Report, Ticket, TicketError};
use crate::engine::store::{LocalTicket, Store, WriteError};

/// Whom to sync with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncTarget {
    /// Every peer that is admitted to a space.
    All,
    /// The issuer of a ticket, which is joined first.
    Ticket(String),
    /// One peer.
    Peer {
        /// Who.
        id: ReplicaId,
        /// Where, `host:port`; without it, where it was before.
        addr: Option<String>,
    },
}

/// What came of syncing with one peer.
#[derive(Debug, Clone)]
pub struct SyncReport {
    /// The peer.
    pub peer: ReplicaId,
    /// Events that went out.
    pub sent_events: u64,
    /// Events that came in.
    pub received_events: u64,
    /// Bytes of all frames that went out.
    pub sent_bytes: u64,
    /// Bytes of all frames that came in.
    pub received_bytes: u64,
    /// Those among both that are commits, and what vouches for them.
    pub commit_bytes: u64,
    /// How often this side waited for an answer, one after the other.
    pub round_trips: u32,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Whether both ends durably hold what either held at the start.
    pub in_sync: bool,
    /// Why not.
    pub problem: Option<Problem>,
}

/// A replica at a glance.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its id.
    pub replica: ReplicaId,
    /// Whether it is served to peers.
    pub node_running: bool,
    /// Where it listens for peers.
    pub listen: Option<String>,
    /// Where it listens for HTTP.
    pub http: Option<HttpAddress>,
    /// The peers that it knows.
    pub peers: Vec<PeerStatus>,
    /// Bytes of all its files.
    pub disk_bytes: u64,
    /// Resident memory of the process, in bytes.
    pub memory_bytes: u64,
    /// The replicas that the local network tells of and that are no peers: nothing is exchanged
    /// with them.
    pub strangers: Vec<Stranger>,
    /// What recovery found at the start.
    pub recovered: Recovered,
}

/// A replica that was heard of on the local network.
#[derive(Debug, Clone)]
pub struct Stranger {
    /// Its id, as it says.
    pub replica: ReplicaId,
    /// Where it says it is, `host:port`.
    pub address: String,
}

/// A peer at a glance.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// Its id.
    pub replica: ReplicaId,
    /// Where it was reached last.
    pub address: Option<String>,
    /// Whether it is connected now.
    pub connected: bool,
    /// Whether the last comparison of each space ended equal.
    pub in_sync: bool,
    /// Since when that is as it is; none while it is not connected.
    pub since: Option<WallTime>,
    /// How long an answer takes, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The spaces that it is admitted to.
    pub spaces: Vec<SpaceId>,
}

/// Why something with peers did not work.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No node runs on the store.
    #[error("no node runs on this store")]
    NotServing,
    /// The text is not a ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The ticket's time is over.
    #[error("the ticket has expired")]
    Expired,
    /// The ticket was issued by this very replica.
    #[error("the ticket was issued by this replica itself")]
    OwnTicket,
    /// The name stands for another space here.
    #[error("the name {0:?} stands for another space here, which is in use")]
    NameTaken(String),
    /// No peer is known.
    #[error("no peer is known")]
    NoPeers,
    /// The operating system gives no port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The local network cannot be told of the node.
    #[error("the local network cannot be told of this node: {0}")]
    Nearby(String),
    /// The store cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Replica {
    /// Serves the replica to peers until [`close`](Self::close).
    ///
    /// `advertise` are addresses that tickets name first. With `open` every peer may sync every
    /// space that it can name.
    ///
    /// # Errors
    /// [`NodeError::Bind`] if the port cannot be had.
    pub fn serve(
        &self,
        listen: SocketAddr,
        advertise: Vec<String>,
        open: bool,
    ) -> Result<SocketAddr, NodeError> {
        let agent = super::replica::agent();
        let config = Config { open, keep_connected: true, agent };
        self.start_net(listen, true, advertise, config)?;
        let net = locked(&self.shared.net);
        let net = net.as_ref().ok_or(NodeError::NotServing)?;
        net.endpoint.local_addr().map_err(|_| NodeError::NotServing)
    }

    /// Announces a served replica on the local network, and finds admitted peers there that have
    /// moved, until [`close`](Self::close).
    ///
    /// # Errors
    /// [`NodeError::NotServing`], or [`NodeError::Nearby`] with what the operating system said.
    pub fn announce(&self) -> Result<(), NodeError> {
        let mut net = locked(&self.shared.net);
        let net = net.as_mut().filter(|net| net.serving).ok_or(NodeError::NotServing)?;
        let listen = net.endpoint.local_addr().map_err(|_| NodeError::NotServing)?;
        let nearby = Nearby::start(self.id(), listen, Arc::downgrade(&self.shared));
        net.nearby = Some(nearby.map_err(|error| NodeError::Nearby(error.to_string()))?);
        Ok(())
    }

    /// Issues a ticket for a space: one word that admits its bearer and this replica to each other.
    ///
    /// # Errors
    /// [`NodeError::NotServing`] if no peer could reach this replica.
    pub fn ticket(
        &self,
        space: SpaceId,
        expires: Duration,
        uses: u32,
    ) -> Result<String, NodeError> {
        let addresses = self.shared.own_addresses()?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| NodeError::NotServing)?;
        let now_ms = clock::now().wall.0;
        let span = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = now_ms.saturating_add(span);
        self.read(|store| {
            store.edit_local(|local| {
                local.tickets.retain(|ticket| ticket.expires_ms > now_ms);
                local.tickets.push(LocalTicket { secret, space, expires_ms, uses_left: uses });
                mark_shared(local, space);
            })
        })
        .map_err(WriteError::from)?;
        let (replica, expires) = (self.id(), WallTime(expires_ms));
        let ticket = Ticket { replica, space, secret, expires, addresses };
        Ok(format!("{TICKET_PREFIX}{}", TICKET_BASE.encode(&ticket.encode())))
    }

    /// Joins the space of a ticket under a name; `default` if nothing is in that yet. In place of a
    /// ticket there may be the id of a space that was left here.
    ///
    /// Joining is local: commits come with the next sync, or by themselves where a node runs.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed then.
    pub fn join(&self, text: &str, name: Option<&str>) -> Result<SpaceId, NodeError> {
        if let Ok(space) = text.trim().parse() {
            return self.join_again(space, name);
        }
        let ticket = read_ticket(text)?;
        // One of a copy, which has the same id, is a ticket like any other.
        let issued = |store: &mut Store<Disk>| {
            store.local().tickets.iter().any(|own| own.secret == ticket.secret)
        };
        if ticket.replica == self.id() && self.read(issued) {
            return Err(NodeError::OwnTicket);
        }
        if ticket.expires.0 <= clock::now().wall.0 {
            return Err(NodeError::Expired);
        }
        self.read(|store| -> Result<(), NodeError> {
            if !store.has_space(&ticket.space) {
                let name = name.unwrap_or(DEFAULT_SPACE);
                if !store.is_replaceable(name) {
                    return Err(NodeError::NameTaken(name.to_owned()));
                }
                store.retire_space(name).map_err(WriteError::from)?;
                store.join_space(ticket.space, name)?;
            }
            let (replica, space, secret) = (ticket.replica, ticket.space, ticket.secret);
            let edited = store.edit_local(|local| {
                mark_shared(local, space);
                let Some(peer) = local.peer_mut(replica) else { return };
                for address in ticket.addresses.iter().rev() {
                    remember_address(&mut peer.addresses, address);
                }
                if !peer.admitted.contains(&space) {
                    peer.admitted.push(space);
                }
                peer.secrets.retain(|(of, _)| *of != space);
                peer.secrets.push((space, secret));
            });
            Ok(edited.map_err(WriteError::from)?)
        })?;
        {
            let mut state = locked(&self.shared.state);
            state.node.show_tickets(clock::now(), ticket.replica);
            self.shared.settle(&mut state);
        }
        self.tick();
        Ok(ticket.space)
    }

    /// Syncs both ways; returns when both ends hold the other's events durably, or cannot.
    ///
    /// # Errors
    /// [`NodeError`] if nobody could be asked. What went wrong with a peer is in its report.
    pub fn sync(
        &self,
        target: SyncTarget,
        name: Option<String>,
    ) -> Result<Vec<SyncReport>, NodeError> {
        let peers = match target {
            SyncTarget::Ticket(text) => {
                self.join(&text, name.as_deref())?;
                vec![read_ticket(&text)?.replica]
            }
            SyncTarget::Peer { id, addr } => {
                if let Some(addr) = addr {
                    self.edit_peer(id, |peer| remember_address(&mut peer.addresses, &addr))?;
                }
                vec![id]
            }
            SyncTarget::All => self.read(|store| {
                let peers = store.local().peers.iter().filter(|peer| !peer.admitted.is_empty());
                peers.map(|peer| peer.replica).collect()
            }),
        };
        if peers.is_empty() {
            return Err(NodeError::NoPeers);
        }
        let config = Config { agent: super::replica::agent(), ..Config::default() };
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let started = self.start_net(any, false, Vec::new(), config)?;
        let reports = peers.into_iter().map(|peer| self.sync_peer(peer)).collect();
        if started {
            self.stop_net();
        }
        Ok(reports)
    }

    fn sync_peer(&self, peer: ReplicaId) -> SyncReport {
        let begun = Instant::now();
        let mut state = locked(&self.shared.state);
        let job = state.node.sync_with(clock::now(), peer);
        self.shared.settle(&mut state);
        self.shared.changed.notify_all();
        let report = loop {
            if let Some(report) = state.reports.remove(&job) {
                break report;
            }
            state = self.shared.wait(state);
        };
        drop(state);
        shape(&report, begun.elapsed())
    }

    /// Admits a peer to a space, and remembers where it is.
    ///
    /// # Errors
    /// [`NodeError::Write`].
    pub fn peers_add(
        &self,
        id: ReplicaId,
        address: Option<String>,
        space: SpaceId,
    ) -> Result<(), NodeError> {
        self.edit_peer(id, |peer| {
            if let Some(address) = &address {
                remember_address(&mut peer.addresses, address);
            }
            if !peer.admitted.contains(&space) {
                peer.admitted.push(space);
            }
        })?;
        self.read(|store| store.edit_local(|local| mark_shared(local, space)))
            .map_err(WriteError::from)?;
        self.tick();
        Ok(())
    }

    /// Forgets a peer: it is admitted to nothing any more. What it wrote stays.
    ///
    /// The open tickets of the spaces that it was in end too: it may hold one of them.
    ///
    /// # Errors
    /// [`NodeError::Write`].
    pub fn peers_remove(&self, id: ReplicaId) -> Result<(), NodeError> {
        self.read(|store| {
            store.edit_local(|local| {
                let known = local.peer(&id);
                let spaces = known.map(|peer| peer.admitted.clone()).unwrap_or_default();
                local.tickets.retain(|ticket| !spaces.contains(&ticket.space));
                local.peers.retain(|peer| peer.replica != id);
            })
        })
        .map_err(WriteError::from)?;
        let mut state = locked(&self.shared.state);
        state.node.part_with(id);
        self.shared.settle(&mut state);
        Ok(())
    }

    /// Returns the replica at a glance.
    pub fn status(&self) -> Status {
        let (known, connected, nearby) = {
            let mut state = locked(&self.shared.state);
            let first = |(replica, there): (&ReplicaId, &[String])| {
                Some(Stranger { replica: *replica, address: there.first()?.clone() })
            };
            let nearby: Vec<Stranger> = state.node.nearby().filter_map(first).collect();
            (state.node.store().local().peers.clone(), state.node.peers(), nearby)
        };
        let net = locked(&self.shared.net);
        let endpoint = net.as_ref().map(|net| &net.endpoint);
        let serving = net.as_ref().is_some_and(|net| net.serving);
        let mut peers: Vec<PeerStatus> = Vec::new();
        for peer in known {
            peers.push(PeerStatus {
                replica: peer.replica,
                address: peer.addresses.first().cloned(),
                connected: false,
                in_sync: false,
                since: None,
                rtt_ms: None,
                spaces: peer.admitted,
            });
        }
        for link in connected {
            if !peers.iter().any(|peer| peer.replica == link.peer) {
                peers.push(PeerStatus {
                    replica: link.peer,
                    address: None,
                    connected: false,
                    in_sync: false,
                    since: None,
                    rtt_ms: None,
                    spaces: link.spaces.clone(),
                });
            }
            if let Some(peer) = peers.iter_mut().find(|peer| peer.replica == link.peer) {
                peer.connected = true;
                (peer.in_sync, peer.since) = (link.in_sync, Some(link.since));
                let rtt = endpoint.and_then(|e| e.rtt(super::quic::LinkId(link.link.0)));
                peer.rtt_ms = rtt.map(|rtt| rtt.as_secs_f64() * 1000.0);
            }
        }
        let strange = |near: &Stranger| peers.iter().all(|peer| peer.replica != near.replica);
        let strangers = nearby.into_iter().filter(strange).collect();
        let listen = endpoint.filter(|_| serving).and_then(|e| e.local_addr().ok());
        Status {
            replica: self.id(),
            node_running: serving,
            listen: listen.map(|addr| addr.to_string()),
            http: locked(&self.shared.http).clone(),
            peers,
            strangers,
            disk_bytes: self.disk_bytes(),
            memory_bytes: resident_bytes(),
            recovered: self.shared.recovered.clone(),
        }
    }

    /// Returns counters of the inside, by name.
    pub fn stats(&self) -> Vec<(String, u64)> {
        let mut stats = {
            let state = locked(&self.shared.state);
            let mut stats = state.node.store_ref().stats();
            stats.push(("outbox", state.node.outbox_len() as u64));
            let spread = state.node.spreading();
            stats.extend([
                ("spread.pushes", spread.pushes),
                ("spread.duplicates", spread.duplicates),
                ("spread.prunes", spread.prunes),
                ("spread.grafts", spread.grafts),
                ("spread.told", spread.told),
                ("spread.stalls", spread.stalls),
            ]);
            stats
        };
        if let Some(net) = locked(&self.shared.net).as_ref() {
            let net = net.endpoint.stats();
            stats.push(("links", net.links as u64));
            stats.push(("strangers", net.strangers as u64));
            stats.push(("connections_refused", net.refused));
        }
        stats.push(("disk_bytes", self.disk_bytes()));
        stats.push(("memory_bytes", resident_bytes()));
        stats.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn disk_bytes(&self) -> u64 {
        let kinds = [FileKind::Segment, FileKind::Sidecar, FileKind::Quarantine];
        let files = kinds.iter().filter_map(|kind| self.shared.disk.files(*kind).ok()).flatten();
        files.filter_map(|file| self.shared.disk.len(file).ok()).sum()
    }

    fn edit_peer(
        &self,
        id: ReplicaId,
        edit: impl FnOnce(&mut crate::engine::store::LocalPeer),
    ) -> Result<(), NodeError> {
        self.read(|store| {
            store.edit_local(|local| {
                if let Some(peer) = local.peer_mut(id) {
                    edit(peer);
                }
            })
        })
        .map_err(WriteError::from)?;
        Ok(())
    }

    /// Lets the engine look at its peers anew.
    fn tick(&self) {
        self.shared.input(Input::Tick);
    }
}

impl Shared {
    /// Has the engine tell peers where this node may be reached; those that are elsewhere have no
    /// use for its loopback addresses.
    pub(super) fn tell_addresses(&self) {
        let Ok(mut addresses) = self.own_addresses() else { return };
        let is_loopback = |address: &String| {
            address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
        };
        if !addresses.iter().all(is_loopback) {
            addresses.retain(|address| !is_loopback(address));
        }
        self.input(Input::Here { addresses });
    }

    /// Returns where peers may reach this node: what is advertised, then each interface's address.
    fn own_addresses(&self) -> Result<Vec<String>, NodeError> {
        let net = locked(&self.net);
        let net = net.as_ref().filter(|net| net.serving).ok_or(NodeError::NotServing)?;
        let listen = net.endpoint.local_addr().map_err(|_| NodeError::NotServing)?;
        let mut addresses = net.advertise.clone();
        let mut own = vec![listen.ip()];
        if listen.ip().is_unspecified() {
            own = if_addrs::get_if_addrs()
                .map(|all| all.into_iter().map(|interface| interface.ip()).collect())
                .unwrap_or_default();
            own.retain(|ip| listen.is_ipv6() || ip.is_ipv4());
            own.retain(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()));
            own.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
        }
        addresses.extend(own.into_iter().map(|ip| SocketAddr::new(ip, listen.port()).to_string()));
        addresses.dedup();
        addresses.truncate(crate::engine::limits::PEER_ADDRESSES_MAX);
        Ok(addresses)
    }

    /// Puts the address first at which an admitted peer is met, if the network or a peer told of
    /// it: whoever is there has proven who he is.
    pub(super) fn keep_met(&self, link: LinkId) {
        let remote = locked(&self.net)
            .as_ref()
            .and_then(|net| net.endpoint.remote(super::quic::LinkId(link.0)));
        let mut state = locked(&self.state);
        let peers = state.node.peers();
        let Some(peer) = peers.iter().find(|peer| peer.link == link).map(|link| link.peer) else {
            return;
        };
        let Some(address) = remote.map(|remote| remote.to_string()) else { return };
        let told = state.node.is_said_at(&peer, &address);
        let local = state.node.store_ref().local();
        let first = local.peer(&peer).and_then(|known| known.addresses.first());
        if !told || first == Some(&address) || !local.is_admitted(&peer) {
            return;
        }
        let edited = state.node.store().edit_local(|local| {
            if let Some(peer) = local.peer_mut(peer) {
                remember_address(&mut peer.addresses, &address);
            }
        });
        if let Err(error) = edited {
            tracing::warn!(%error, "the address of a peer is not kept");
        }
    }

    /// Does the same for all connections to a peer.
    pub(super) fn keep_met_at(&self, peer: ReplicaId) {
        let links = locked(&self.state).node.peers();
        links.iter().filter(|link| link.peer == peer).for_each(|link| self.keep_met(link.link));
    }
}

/// Reads a ticket's word.
fn read_ticket(text: &str) -> Result<Ticket, NodeError> {
    let word = text.trim().strip_prefix(TICKET_PREFIX).ok_or(TicketError::Damaged)?;
    let bytes = TICKET_BASE.decode(word.as_bytes()).map_err(|_| TicketError::Damaged)?;
    Ok(Ticket::decode(&bytes)?)
}

fn mark_shared(local: &mut crate::engine::store::Local, space: SpaceId) {
    if let Some(space) = local.spaces.iter_mut().find(|s| s.id == space) {
        space.shared = true;
    }
}

/// Puts an address first.
fn remember_address(addresses: &mut Vec<String>, address: &str) {
    addresses.retain(|known| known != address);
    addresses.insert(0, address.to_owned());
    addresses.truncate(crate::engine::limits::PEER_ADDRESSES_MAX);
}

fn shape(report: &Report, elapsed: Duration) -> SyncReport {
    SyncReport {
        peer: report.peer,
        sent_events: report.sent_events,
        received_events: report.received_events,
        sent_bytes: report.stats.bytes_sent,
        received_bytes: report.stats.bytes_received,
        commit_bytes: report.stats.commit_bytes_sent + report.stats.commit_bytes_received,
        round_trips: report.stats.round_trips,
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        in_sync: report.in_sync,
        problem: report.problem.clone(),
    }
}

/// Returns the resident memory of this process in bytes, 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}

/// The space that every replica has.
pub(super) const DEFAULT_SPACE: &str = "default";
/// What a ticket begins with: the name and the version of its text form.
const TICKET_PREFIX: &str = "kd1";
/// Letters and digits that survive being spoken, typed and double-clicked.
const TICKET_BASE: data_encoding::Encoding = data_encoding::BASE32_DNSSEC;
