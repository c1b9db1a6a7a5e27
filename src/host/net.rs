//! A replica's peers over QUIC: carries bytes between the engine and the endpoint.
//!
//! It runs while a node is served, or for as long as one `sync` takes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;

use super::locked;
use super::nearby::Nearby;
use super::quic::{BindError, Endpoint, LinkId, NetEvent, NetLimits, SendError};
use super::replica::{Replica, Shared};
use super::spans::Spans;
use crate::engine::base::ReplicaId;
use crate::engine::limits;
use crate::engine::node::{self, Config, Input, Output};
use crate::engine::sync::Code;

/// The network of a replica.
#[derive(Debug)]
pub(super) struct Net {
    runtime: Option<Runtime>,
    pub(super) endpoint: Endpoint,
    /// Whether peers may find this node: a `sync` on its own listens for nobody.
    pub(super) serving: bool,
    /// Addresses that tickets name first.
    pub(super) advertise: Vec<String>,
    /// What tells the local network of this node, and this node of the network.
    pub(super) nearby: Option<Nearby>,
}

/// What the engine wants done on the network, in order, and who to wake for it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Output>,
    wake: Option<Arc<Notify>>,
    /// Whom to wake once the queue is with the endpoint: nothing more comes.
    ended: Option<Arc<Notify>>,
}

impl Outgoing {
    /// Takes an output for the network; without one it is dropped, as on a cut line.
    pub(super) fn push(&mut self, output: Output) {
        if let Some(wake) = &self.wake {
            self.queue.push_back(output);
            wake.notify_one();
        }
    }

    /// Says that nothing more comes; returns what tells when the queue is with the endpoint.
    fn end(&mut self) -> Arc<Notify> {
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
        Arc::clone(self.ended.insert(Arc::default()))
    }
}

impl Replica {
    /// Starts the network unless it runs; tells whether it was started now.
    pub(super) fn start_net(
        &self,
        listen: SocketAddr,
        serving: bool,
        advertise: Vec<String>,
        config: Config,
    ) -> Result<bool, BindError> {
        let mut net = locked(&self.shared.net);
        if net.is_some() {
            return Ok(false);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kdelta-net")
            .enable_all()
            .build()
            .map_err(|error| BindError::Config(error.to_string()))?;
        let (endpoint, events) = {
            let _inside = runtime.enter();
            Endpoint::bind(listen, self.shared.identity.seed(), NetLimits::default())?
        };
        let wake = Arc::new(Notify::new());
        {
            let mut state = locked(&self.shared.state);
            state.outgoing = Outgoing { wake: Some(Arc::clone(&wake)), ..Outgoing::default() };
            state.node.set_config(config);
        }
        runtime.spawn(carry(Arc::downgrade(&self.shared), endpoint.clone(), events, wake));
        *net = Some(Net { runtime: Some(runtime), endpoint, serving, advertise, nearby: None });
        drop(net);
        self.shared.tell_addresses();
        self.shared.input(Input::Tick);
        Ok(true)
    }

    /// Says goodbye to all peers and stops the network.
    pub(super) fn stop_net(&self) {
        let Some(mut net) = locked(&self.shared.net).take() else { return };
        let carried = {
            // What was written last is told too, and what is said waits until that is durable.
            let mut state = self.shared.sync_rest(locked(&self.shared.state));
            state.node.shut_down();
            self.shared.settle(&mut state);
            state.outgoing.end()
        };
        let Some(runtime) = net.runtime.take() else { return };
        let endpoint = net.endpoint.clone();
        let (done, ended) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            carried.notified().await;
            endpoint.close_all().await;
            let _ = done.send(());
        });
        // Past the time the peers learn of it by silence.
        let _ = ended.recv_timeout(GOODBYE);
        runtime.shutdown_background();
        locked(&self.shared.state).outgoing = Outgoing::default();
    }
}

/// What waits for a peer that reads more slowly than it is told things.
#[derive(Debug, Default)]
struct Unsent {
    queue: VecDeque<Vec<u8>>,
    bytes: u64,
}

impl Unsent {
    /// Puts bytes at the end; false if more waits than may.
    fn push(&mut self, bytes: Vec<u8>) -> bool {
        self.bytes += bytes.len() as u64;
        self.queue.push_back(bytes);
        self.bytes <= UNSENT_BYTES_MAX
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let bytes = self.queue.pop_front()?;
        self.bytes -= bytes.len() as u64;
        Some(bytes)
    }

    fn put_back(&mut self, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        self.queue.push_front(bytes);
    }
}

/// Most bytes that wait for one peer: all commits that credit allows, the largest chunk begun at
/// its end, and as much again of everything else.
const UNSENT_BYTES_MAX: u64 =
    2 * (limits::CREDIT_WINDOW_BYTES + limits::CHUNK_WHOLE_BYTES_MAX as u64);

/// Carries events in and outputs out until the replica is gone.
async fn carry(
    shared: Weak<Shared>,
    endpoint: Endpoint,
    mut events: Receiver<NetEvent>,
    wake: Arc<Notify>,
) {
    let mut unsent = BTreeMap::new();
    let mut spans = Spans::default();
    let mut moved = tokio::time::interval(ADDRESSES_EVERY);
    moved.tick().await;
    loop {
        let event = tokio::select! {
            event = events.recv() => match event {
                Some(event) => Some(event),
                None => return,
            },
            () = wake.notified() => None,
            _ = moved.tick() => {
                let Some(shared) = shared.upgrade() else { return };
                tokio::task::spawn_blocking(move || shared.tell_addresses());
                None
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        if let Some(event) = event {
            spans.note(&event);
            take(&shared, &endpoint, &mut unsent, event).await;
        }
        let (outputs, ended) = {
            let outgoing = &mut locked(&shared.state).outgoing;
            (std::mem::take(&mut outgoing.queue), outgoing.ended.clone())
        };
        for output in outputs {
            match &output {
                Output::Admit { link } => {
                    spans.admitted(LinkId(link.0));
                    let (shared, link) = (Arc::clone(&shared), *link);
                    tokio::task::spawn_blocking(move || shared.keep_met(link));
                }
                Output::SessionBegan { link, space } => spans.began(LinkId(link.0), *space),
                Output::SessionEnded { link, space, ended } => {
                    spans.ended(LinkId(link.0), *space, ended);
                }
                _ => {}
            }
            put(&shared, &endpoint, &mut unsent, output);
        }
        if let Some(ended) = ended {
            ended.notify_one();
        }
    }
}

/// Hands an event to the engine.
async fn take(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    unsent: &mut BTreeMap<LinkId, Unsent>,
    event: NetEvent,
) {
    let input = match event {
        NetEvent::Connected { link, peer, outgoing, .. } => {
            Input::Connected { link: node::LinkId(link.0), peer, outgoing }
        }
        NetEvent::Received { link, bytes, credit } => {
            let input = Input::Received { link: node::LinkId(link.0), bytes };
            run(shared, input).await;
            drop(credit);
            return;
        }
        NetEvent::Drained { link } => {
            let Some(waiting) = unsent.get_mut(&link) else { return };
            while let Some(bytes) = waiting.pop() {
                match endpoint.send(link, bytes) {
                    Ok(()) => {}
                    Err(SendError::Full(bytes)) => return waiting.put_back(bytes),
                    Err(_) => break,
                }
            }
            unsent.remove(&link);
            return;
        }
        NetEvent::Closed { link, reason } => {
            unsent.remove(&link);
            Input::Closed { link: node::LinkId(link.0), reason: reason.to_string() }
        }
        NetEvent::DialFailed { peer, addr, reason, last } => {
            if !last {
                return;
            }
            Input::DialFailed { peer, reason: format!("{addr}: {reason}") }
        }
    };
    run(shared, input).await;
}

/// The engine may read the disk, so that it runs where blocking is allowed.
async fn run(shared: &Arc<Shared>, input: Input) {
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || shared.input(input)).await;
    if let Err(error) = done {
        tracing::error!(%error, "the engine failed on an input");
    }
}

/// Does on the network what the engine asks for.
fn put(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    unsent: &mut BTreeMap<LinkId, Unsent>,
    output: Output,
) {
    match output {
        Output::Send { link, bytes } => {
            let link = LinkId(link.0);
            let full = match unsent.get_mut(&link) {
                Some(waiting) => !waiting.push(bytes),
                None => match endpoint.send(link, bytes) {
                    Err(SendError::Full(bytes)) => !unsent.entry(link).or_default().push(bytes),
                    _ => false,
                },
            };
            if full {
                // It asks and does not read: what it is told must not pile up here.
                unsent.remove(&link);
                let text = "too much is waiting to be read";
                endpoint.close(link, u32::from(Code::BUSY.0), text);
            }
        }
        Output::Admit { link } => endpoint.admit(LinkId(link.0)),
        Output::Close { link, code, text } => {
            endpoint.close(LinkId(link.0), u32::from(code.0), &text);
        }
        Output::Dial { peer, addresses } => {
            let dialled = endpoint.dial(peer, addresses);
            if !dialled {
                refuse(shared, peer, "it cannot be dialled now".to_owned());
            }
        }
        _ => {}
    }
}

fn refuse(shared: &Arc<Shared>, peer: ReplicaId, reason: String) {
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || shared.input(Input::DialFailed { peer, reason }));
}

/// How often it is looked whether this machine has other addresses: it may have moved.
const ADDRESSES_EVERY: Duration = Duration::from_secs(60);
/// How long goodbyes may take.
const GOODBYE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::base::Key;
    use crate::engine::crdt::Op;
    use crate::engine::store::{KeyOp, Write};
    use crate::host::replica::{Durability, SyncTarget};

    #[test]
    fn what_was_written_last_is_told_before_a_node_leaves() {
        let dirs = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let [here, there] = dirs.each_ref().map(|dir| Replica::open(dir.path()).unwrap());
        for replica in [&here, &there] {
            replica.serve("127.0.0.1:0".parse().unwrap(), Vec::new(), false).unwrap();
        }
        let space = here.default_space().unwrap();
        let ticket = here.ticket(space, Duration::from_secs(600), 1).unwrap();
        let reports = there.sync(SyncTarget::Ticket(ticket), None).unwrap();
        assert!(reports.iter().all(|report| report.in_sync), "{reports:?}");
        let patience = Duration::from_secs(20);
        let write = |key: &str, durability| {
            let (key, op) = (Key::new(key).unwrap(), Op::PutBytes([1].as_slice().into()));
            let ops = vec![KeyOp { key, op, retype: false, expect: None }];
            here.write(Write { space, ops, ..Write::default() }, durability).unwrap()
        };
        // News are on their way without being asked for from here on.
        assert_eq!(write("first", Durability::Peers(1, patience)).peers, Some(1));
        let cursor = there.read(|store| store.durable());
        write("last", Durability::Buffered);
        here.clone().close().unwrap();
        there.wait_durable_past(cursor, patience);
        let last = Key::new("last").unwrap();
        assert!(there.read(|store| store.get(&space, &last, None)).unwrap().is_some());
        there.close().unwrap();
    }

    #[test]
    fn what_waits_for_a_peer_is_counted_and_limited() {
        let mut unsent = Unsent::default();
        let frame = || vec![0; 1 << 20];
        let many = UNSENT_BYTES_MAX >> 20;
        assert!((0..many).all(|_| unsent.push(frame())));
        let first = unsent.pop().unwrap();
        unsent.put_back(first);
        assert!(!unsent.push(frame()), "one more is too much");
        while unsent.pop().is_some() {}
        assert_eq!(unsent.bytes, 0);
    }
}
