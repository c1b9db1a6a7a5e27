//! Links to other replicas: one QUIC connection with one stream of bytes each way.
//!
//! Promises: the peer of a link is proven by its key; each link that was reported ends with exactly
//! one [`NetEvent::Closed`], after which nothing comes from it; every queue is bounded, and a slow
//! reader slows down its peer and nobody else; a stranger (who dialled us and is not admitted yet)
//! costs a small, fixed amount of memory and time. Does not do: frames, sessions, admission (the
//! node decides and calls [`Endpoint::admit`]), reconnection, and one link per pair of replicas.
//!
//! The dialler opens the stream and speaks first. No datagrams, no other streams, no 0-RTT.

mod dial;
mod door;
#[cfg(test)]
mod flood;
mod link;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver};
use tokio::time::timeout;

pub use self::link::Credit;
use self::link::Link;
use super::locked;
use super::tls::Tls;
use crate::engine::base::ReplicaId;

/// Names a link within one [`Endpoint`]; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// What the network tells the node.
#[non_exhaustive]
#[derive(Debug)]
pub enum NetEvent {
    /// A link is there. An outgoing one is admitted; the other is a stranger's until
    /// [`Endpoint::admit`] is called for it, and is closed when that takes too long.
    Connected {
        /// The new link.
        link: LinkId,
        /// Whose key the far end has proven to hold.
        peer: ReplicaId,
        /// Where the far end is.
        addr: SocketAddr,
        /// Whether we dialled.
        outgoing: bool,
    },
    /// Bytes of the stream, in order, cut anywhere, at most 64 KiB.
    Received {
        /// The link.
        link: LinkId,
        /// The bytes; never empty.
        bytes: Vec<u8>,
        /// Drop it when the bytes are taken care of: until then they count against the link, and
        /// a peer whose bytes are not taken care of must wait.
        credit: Credit,
    },
    /// There is room again, after [`SendError::Full`] or after the queue was more than half full.
    Drained {
        /// The link.
        link: LinkId,
    },
    /// The link is gone, and with it all that was queued but not sent.
    Closed {
        /// The link.
        link: LinkId,
        /// Why.
        reason: CloseReason,
    },
    /// An address did not lead to the peer.
    DialFailed {
        /// Whom we dialled.
        peer: ReplicaId,
        /// The address as it was given.
        addr: String,
        /// Why not.
        reason: DialError,
        /// Whether that was the last address, so that the dial has failed.
        last: bool,
    },
}

/// Why a link ended.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// [`Endpoint::close`] or [`Endpoint::close_all`] was called.
    #[error("closed here")]
    Here,
    /// The peer closed it.
    #[error("closed by the peer, code {code}: {text}")]
    Peer {
        /// The code it gave.
        code: u64,
        /// The text it gave, cut to 256 characters, control characters replaced.
        text: String,
    },
    /// The peer ended its stream without closing the link.
    #[error("the peer ended its stream")]
    Finished,
    /// The stranger was not admitted in time, or opened no stream.
    #[error("not admitted in time")]
    NotAdmitted,
    /// Nothing came from the peer for [`NetLimits::idle`].
    #[error("the peer fell silent")]
    Silent,
    /// The peer restarted, broke the protocol, or refused our key.
    #[error("the connection failed: {text}")]
    Failed {
        /// What the transport said; of the same form as in [`CloseReason::Peer`].
        text: String,
    },
}

/// Why an address did not lead to a peer.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// It is not `host:port`, or the name has no address.
    #[error("no such address: {text}")]
    Unresolved {
        /// What the resolver said.
        text: String,
    },
    /// This endpoint has no socket for such addresses.
    #[error("an address of this kind cannot be reached from here")]
    Unsupported,
    /// Nobody answered within [`NetLimits::dial`].
    #[error("no answer")]
    NoAnswer,
    /// The peer has too much to do; try again later.
    #[error("the peer is busy")]
    Busy,
    /// Somebody else, who holds another key, answered there.
    #[error("another replica answers there")]
    WrongPeer,
    /// Who answered does not speak this protocol, or the handshake failed otherwise.
    #[error("the handshake failed: {text}")]
    Handshake {
        /// What the transport said.
        text: String,
    },
}

/// Why bytes were not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue has no room for them. [`NetEvent::Drained`] will come: try again then.
    #[error("the queue is full")]
    Full(
        /// The bytes that were not queued.
        Vec<u8>,
    ),
    /// There is no such link, or it is being closed.
    #[error("the link is closed")]
    Closed,
}

/// Why an endpoint is not there.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is in use or not ours.
    #[error("cannot listen on {addr}")]
    Socket {
        /// The address asked for.
        addr: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The key or the limits give no working configuration, or there is no tokio runtime.
    #[error("no transport configuration: {0}")]
    Config(String),
}

/// The bounds of an endpoint. Times are wall time, sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetLimits {
    /// Most links at once, strangers included; what we dial is not limited by it.
    pub links_max: usize,
    /// Most strangers at once, from the first packet until admitted.
    pub strangers_max: usize,
    /// Most strangers at once from one IPv4 address or IPv6 /64, this machine's own excepted.
    pub strangers_per_ip_max: usize,
    /// Most strangers that wait for a place; more are refused.
    pub waiting_max: usize,
    /// How long a stranger may take to be admitted, from the handshake; and for the handshake.
    pub stranger: Duration,
    /// How many bytes of a stranger's stream are delivered before it is admitted.
    pub stranger_bytes: usize,
    /// How many bytes a stranger may have under way to us.
    pub stranger_window_bytes: u32,
    /// How many bytes an admitted peer may have under way to us: bounds memory per link, and
    /// throughput to this much per round trip.
    pub window_bytes: u32,
    /// How many received bytes of a link may wait for their [`Credit`] to be dropped.
    pub credit_bytes: usize,
    /// How many bytes a link's queue holds; one larger piece is taken by an empty queue.
    pub queue_bytes: usize,
    /// How many bytes are sent and not yet acknowledged.
    pub unacked_bytes: u64,
    /// How long each address of a dial is tried, names and handshake included. The next one is
    /// tried beside it when it has not answered in a fraction of that.
    pub dial: Duration,
    /// How many dials run at once.
    pub dials_max: usize,
    /// How many addresses one dial tries.
    pub dial_addrs_max: usize,
    /// A link without a sign of life for so long is closed.
    pub idle: Duration,
    /// How often a quiet link is kept alive.
    pub keep_alive: Duration,
    /// How long a closing link may take to send what is queued.
    pub flush: Duration,
    /// How many events wait for the node.
    pub events_max: usize,
    /// Send and receive buffer of the socket; the kernel may grant less.
    pub socket_bytes: usize,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            links_max: 256,
            strangers_max: 64,
            strangers_per_ip_max: 16,
            waiting_max: 128,
            stranger: Duration::from_secs(3),
            stranger_bytes: 4 << 10,
            stranger_window_bytes: 16 << 10,
            window_bytes: 2 << 20,
            credit_bytes: 512 << 10,
            queue_bytes: 8 << 20,
            unacked_bytes: 2 << 20,
            dial: Duration::from_secs(5),
            dials_max: 64,
            dial_addrs_max: 16,
            idle: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            flush: Duration::from_secs(1),
            events_max: 256,
            socket_bytes: 4 << 20,
        }
    }
}

/// What an endpoint has on its hands and what it turned away, since it was bound.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetStats {
    /// Links now.
    pub links: usize,
    /// Strangers now, those in the handshake included.
    pub strangers: usize,
    /// Connections turned away for want of a place.
    pub refused: u64,
    /// Connections asked to prove their address first, as there was much to do.
    pub retried: u64,
    /// Strangers that did not finish the handshake or were not admitted in time.
    pub gave_up: u64,
}

/// A UDP socket on which links are accepted and dialled.
///
/// A cheap handle; all methods are for any thread and, `close_all` apart, do not wait. When the
/// last one is dropped, all links are cut off.
#[derive(Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

impl Endpoint {
    /// Opens a socket and starts to accept links, inside a tokio runtime.
    ///
    /// `seed` is the secret half of the replica's key. The address `[::]` takes IPv4 too and falls
    /// back to `0.0.0.0` where there is no IPv6; port 0 takes a free one. The node must go on
    /// taking events: when the receiver is dropped, all links end.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(
        listen: SocketAddr,
        seed: &[u8; 32],
        limits: NetLimits,
    ) -> Result<(Self, Receiver<NetEvent>), BindError> {
        tokio::runtime::Handle::try_current()
            .map_err(|error| BindError::Config(error.to_string()))?;
        let tls = Tls::new(seed).map_err(|error| BindError::Config(error.to_string()))?;
        let (endpoint, client) = socket::open(listen, &tls, &limits)?;
        let (events, receiver) = mpsc::channel(limits.events_max.max(1));
        let shared = Arc::new(Shared {
            door: door::Door::new(&limits),
            replica: tls.replica,
            limits,
            endpoint: endpoint.clone(),
            client,
            events,
            links: Mutex::default(),
            link_next: AtomicU64::new(1),
            dials: Mutex::default(),
        });
        tokio::spawn(door::keep(Arc::clone(&shared)));
        Ok((Self { shared, _owner: Arc::new(Owner(endpoint)) }, receiver))
    }

    /// Returns the address of the socket, with the port that was taken.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.endpoint.local_addr()
    }

    /// Returns the public half of our own key.
    pub fn replica(&self) -> ReplicaId {
        self.shared.replica
    }

    /// Looks for `peer` at each of `addrs` (`host:port`), one after the other.
    ///
    /// Ends in [`NetEvent::Connected`], or in a [`NetEvent::DialFailed`] that says it is the last.
    /// Returns whether the dial was begun: not if one to this peer is under way already, if too
    /// many are, if there is no address, or after [`close_all`](Self::close_all).
    pub fn dial(&self, peer: ReplicaId, addrs: Vec<String>) -> bool {
        dial::begin(&self.shared, peer, addrs)
    }

    /// Queues bytes for the stream of a link. An empty piece is nothing.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, link: LinkId, bytes: Vec<u8>) -> Result<(), SendError> {
        self.shared.link(link).ok_or(SendError::Closed)?.enqueue(bytes, &self.shared.limits)
    }

    /// Returns how many bytes wait to be sent; 0 if there is no such link.
    pub fn queued_bytes(&self, link: LinkId) -> usize {
        self.shared.link(link).map_or(0, |link| link.queued_bytes())
    }

    /// Lifts the limits for strangers from a link: the node knows the peer. Does nothing twice.
    pub fn admit(&self, link: LinkId) {
        if let Some(link) = self.shared.link(link) {
            link.admit(&self.shared.limits);
        }
    }

    /// Closes a link once what is queued has arrived, or after [`NetLimits::flush`].
    ///
    /// From now on nothing received is delivered. The peer is shown `code` and `text` (cut to 256
    /// bytes). Does nothing if there is no such link.
    pub fn close(&self, link: LinkId, code: u32, text: &str) {
        if let Some(link) = self.shared.link(link) {
            link.close(code, text);
        }
    }

    /// Closes all links as [`close`](Self::close) does, dials and accepts no more, and waits until
    /// the peers know, at most [`NetLimits::flush`] and a second: a peer that speaks within some
    /// round trips is told once more.
    pub async fn close_all(&self) {
        self.shared.door.shut();
        let all: Vec<_> = locked(&self.shared.links).values().cloned().collect();
        for link in &all {
            link.close(CODE_SHUT_DOWN, "shutting down");
        }
        let flushed = async {
            for link in &all {
                link.ended().await;
            }
        };
        // Whoever is not done in time is cut off.
        let _ = timeout(self.shared.limits.flush + GRACE / 2, flushed).await;
        self.shared.endpoint.close(CODE_SHUT_DOWN.into(), b"shutting down");
        // QUIC would have it be three times what a lost packet takes (RFC 9000, section 10.2), with
        // what a peer may wait before it answers; who is closed here has answered already.
        let rtt = all.iter().map(|link| link.rtt()).max().unwrap_or_default();
        let patience = (rtt * FAREWELL).clamp(FAREWELL_MIN, GRACE / 2);
        let _ = timeout(patience, self.shared.endpoint.wait_idle()).await;
    }

    /// Returns the current estimate of a link's round trip time.
    pub fn rtt(&self, link: LinkId) -> Option<Duration> {
        Some(self.shared.link(link)?.rtt())
    }

    /// Returns where the far end of a link is.
    pub fn remote(&self, link: LinkId) -> Option<SocketAddr> {
        Some(self.shared.link(link)?.remote())
    }

    /// Returns what there is to know about the load.
    pub fn stats(&self) -> NetStats {
        let links = locked(&self.shared.links).len();
        NetStats { links, ..self.shared.door.stats() }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("replica", &self.shared.replica).finish_non_exhaustive()
    }
}

/// What all tasks of an endpoint share.
struct Shared {
    limits: NetLimits,
    replica: ReplicaId,
    endpoint: quinn::Endpoint,
    client: quinn::ClientConfig,
    events: mpsc::Sender<NetEvent>,
    links: Mutex<BTreeMap<LinkId, Arc<Link>>>,
    link_next: AtomicU64,
    dials: Mutex<BTreeSet<ReplicaId>>,
    door: door::Door,
}

impl Shared {
    fn link(&self, link: LinkId) -> Option<Arc<Link>> {
        locked(&self.links).get(&link).cloned()
    }

    fn next_link(&self) -> LinkId {
        LinkId(self.link_next.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells the node; false when it does not listen any more.
    async fn tell(&self, event: NetEvent) -> bool {
        self.events.send(event).await.is_ok()
    }
}

/// Cuts off everything when the last handle is gone.
struct Owner(quinn::Endpoint);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close(CODE_SHUT_DOWN.into(), b"gone");
    }
}

/// Makes text from the network fit to be shown: at most 256 characters, no control characters.
fn tame(bytes: &[u8]) -> String {
    let tamed = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    String::from_utf8_lossy(bytes).chars().take(TEXT_MAX).map(tamed).collect()
}

/// Longest text of a close, in bytes when sent, in characters when shown.
const TEXT_MAX: usize = 256;
/// What a peer is told when this replica ends.
const CODE_SHUT_DOWN: u32 = 0;
/// What a stranger is told that was not admitted in time.
const CODE_NOT_ADMITTED: u32 = 1;
/// What a peer is told whose stream ended, or when nobody listens here any more.
const CODE_ENDED: u32 = 2;
/// How many round trips a goodbye may be lost and be said again.
const FAREWELL: u32 = 3;
/// The least time for that.
const FAREWELL_MIN: Duration = Duration::from_millis(5);
/// How long the end of an endpoint may take beyond the flush.
const GRACE: Duration = Duration::from_secs(1);
