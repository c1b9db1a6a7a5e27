//! Dialling: names to addresses to a proven peer, each step bounded in time and number.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use quinn::{ConnectError, Connection, ConnectionError, TransportErrorCode};
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::link::{self, Origin};
use super::{DialError, NetEvent, Shared, tame};
use crate::engine::base::ReplicaId;
use crate::host::{locked, tls};

/// Starts a task that dials; see `Endpoint::dial`.
pub(super) fn begin(shared: &Arc<Shared>, peer: ReplicaId, mut addrs: Vec<String>) -> bool {
    if addrs.is_empty() || shared.door.is_shut() {
        return false;
    }
    {
        let mut dials = locked(&shared.dials);
        if dials.len() >= shared.limits.dials_max || !dials.insert(peer) {
            return false;
        }
    }
    addrs.truncate(shared.limits.dial_addrs_max.max(1));
    tokio::spawn(dial(Arc::clone(shared), peer, addrs));
    true
}

/// Tries the addresses in order, each a little after the one before or when that has failed, so
/// that dead ones cost little; the first to answer is taken (RFC 8305, section 5).
async fn dial(shared: Arc<Shared>, peer: ReplicaId, addrs: Vec<String>) {
    let mut under_way = Some(UnderWay { shared: Arc::clone(&shared), peer });
    let mut waiting = addrs.into_iter();
    let mut attempts = FuturesUnordered::new();
    let stagger = shared.limits.dial / STAGGER_SHARE;
    loop {
        if let Some(addr) = waiting.next() {
            let shared = &shared;
            attempts.push(async move {
                let outcome = attempt(shared, peer, &addr).await;
                (addr, outcome)
            });
        }
        let done = if waiting.len() > 0 {
            match timeout(stagger, attempts.next()).await {
                Ok(done) => done,
                Err(_) => continue,
            }
        } else {
            attempts.next().await
        };
        let Some((addr, outcome)) = done else { return };
        let reason = match outcome {
            Ok(connection) => {
                drop((under_way.take(), attempts));
                return link::run(shared, connection, peer, Origin::Dialled).await;
            }
            Err(reason) => reason,
        };
        tracing::debug!(%peer, addr, %reason, "no link");
        let last = attempts.is_empty() && waiting.len() == 0;
        if last {
            // The node may dial again as soon as it hears of the failure.
            drop(under_way.take());
        }
        if !shared.tell(NetEvent::DialFailed { peer, addr, reason, last }).await || last {
            return;
        }
    }
}

/// Tries all that one name stands for, until the time for it is up.
async fn attempt(shared: &Shared, peer: ReplicaId, addr: &str) -> Result<Connection, DialError> {
    let deadline = Instant::now() + shared.limits.dial;
    let unresolved = |text: String| DialError::Unresolved { text: tame(text.as_bytes()) };
    let targets: Vec<SocketAddr> = timeout_at(deadline, lookup_host(addr))
        .await
        .map_err(|_| unresolved("the resolver does not answer".into()))?
        .map_err(|error| unresolved(error.to_string()))?
        .take(TARGETS_MAX)
        .collect();
    let mut failure = unresolved("the name has no address".into());
    for (at, target) in targets.iter().enumerate() {
        // A dead first address leaves time for the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(targets.len() - at).unwrap_or(1);
        match connect(shared, peer, *target, Instant::now() + share).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Connects to one address; a busy peer is asked again while there is time.
async fn connect(
    shared: &Shared,
    peer: ReplicaId,
    target: SocketAddr,
    deadline: Instant,
) -> Result<Connection, DialError> {
    let mut pause = PAUSE_MIN;
    loop {
        let name = tls::server_name(&peer);
        let connecting = shared
            .endpoint
            .connect_with(shared.client.clone(), target, &name)
            .map_err(|error| local_failure(&error))?;
        let failure = match timeout_at(deadline, connecting).await {
            Ok(Ok(connection)) if tls::peer(&connection) == Some(peer) => return Ok(connection),
            Ok(Ok(_)) => return Err(DialError::WrongPeer),
            Ok(Err(error)) => remote_failure(&error),
            Err(_) => return Err(DialError::NoAnswer),
        };
        if failure != DialError::Busy || Instant::now() + pause >= deadline {
            return Err(failure);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn local_failure(error: &ConnectError) -> DialError {
    match error {
        ConnectError::InvalidRemoteAddress(_) => DialError::Unsupported,
        other => DialError::Handshake { text: other.to_string() },
    }
}

fn remote_failure(error: &ConnectionError) -> DialError {
    match error {
        ConnectionError::TransportError(e) if e.code == tls::wrong_peer_alert() => {
            DialError::WrongPeer
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            DialError::Busy
        }
        ConnectionError::TimedOut => DialError::NoAnswer,
        other => DialError::Handshake { text: tame(other.to_string().as_bytes()) },
    }
}

/// Keeps a second dial to the same peer from beginning.
struct UnderWay {
    shared: Arc<Shared>,
    peer: ReplicaId,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        locked(&self.shared.dials).remove(&self.peer);
    }
}

/// The part of the time for an address after which the next one is tried beside it.
const STAGGER_SHARE: u32 = 20;
/// How many addresses of one name are tried.
const TARGETS_MAX: usize = 8;
/// The first pause before a busy peer is asked again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(800);
