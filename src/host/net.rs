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
use super::quic::{BindError, Endpoint, LinkId, NetEvent, NetLimits, SendError};
use super::replica::{Replica, Shared};
use crate::engine::base::ReplicaId;
use crate::engine::node::{self, Config, Input, Output};

/// The network of a replica.
#[derive(Debug)]
pub(super) struct Net {
    runtime: Option<Runtime>,
    pub(super) endpoint: Endpoint,
    /// Whether peers may find this node: a `sync` on its own listens for nobody.
    pub(super) serving: bool,
    /// Addresses that tickets name first.
    pub(super) advertise: Vec<String>,
}

/// What the engine wants done on the network, in order, and who to wake for it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Output>,
    wake: Option<Arc<Notify>>,
}

impl Outgoing {
    /// Takes an output for the network; without one it is dropped, as on a cut line.
    pub(super) fn push(&mut self, output: Output) {
        if let Some(wake) = &self.wake {
            self.queue.push_back(output);
            wake.notify_one();
        }
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
            state.outgoing = Outgoing { queue: VecDeque::new(), wake: Some(Arc::clone(&wake)) };
            state.node.set_config(config);
        }
        runtime.spawn(carry(Arc::downgrade(&self.shared), endpoint.clone(), events, wake));
        *net = Some(Net { runtime: Some(runtime), endpoint, serving, advertise });
        drop(net);
        self.shared.input(Input::Tick);
        Ok(true)
    }

    /// Says goodbye to all peers and stops the network.
    pub(super) fn stop_net(&self) {
        let Some(mut net) = locked(&self.shared.net).take() else { return };
        {
            let mut state = locked(&self.shared.state);
            state.node.shut_down();
            self.shared.settle(&mut state);
        }
        let Some(runtime) = net.runtime.take() else { return };
        let endpoint = net.endpoint.clone();
        let (done, ended) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            // The task that carries outputs empties its queue first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            endpoint.close_all().await;
            let _ = done.send(());
        });
        // Past the time the peers learn of it by silence.
        let _ = ended.recv_timeout(GOODBYE);
        runtime.shutdown_background();
        locked(&self.shared.state).outgoing = Outgoing::default();
    }
}

/// Carries events in and outputs out until the replica is gone.
async fn carry(
    shared: Weak<Shared>,
    endpoint: Endpoint,
    mut events: Receiver<NetEvent>,
    wake: Arc<Notify>,
) {
    let mut unsent: BTreeMap<LinkId, VecDeque<Vec<u8>>> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            event = events.recv() => match event {
                Some(event) => Some(event),
                None => return,
            },
            () = wake.notified() => None,
        };
        let Some(shared) = shared.upgrade() else { return };
        if let Some(event) = event {
            take(&shared, &endpoint, &mut unsent, event).await;
        }
        let outputs = std::mem::take(&mut locked(&shared.state).outgoing.queue);
        for output in outputs {
            put(&shared, &endpoint, &mut unsent, output);
        }
    }
}

/// Hands an event to the engine.
async fn take(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    unsent: &mut BTreeMap<LinkId, VecDeque<Vec<u8>>>,
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
            let Some(queue) = unsent.get_mut(&link) else { return };
            while let Some(bytes) = queue.pop_front() {
                match endpoint.send(link, bytes) {
                    Ok(()) => {}
                    Err(SendError::Full(bytes)) => {
                        queue.push_front(bytes);
                        return;
                    }
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
    unsent: &mut BTreeMap<LinkId, VecDeque<Vec<u8>>>,
    output: Output,
) {
    match output {
        Output::Send { link, bytes } => {
            let link = LinkId(link.0);
            if let Some(queue) = unsent.get_mut(&link) {
                queue.push_back(bytes);
            } else if let Err(SendError::Full(bytes)) = endpoint.send(link, bytes) {
                unsent.entry(link).or_default().push_back(bytes);
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

/// How long goodbyes may take.
const GOODBYE: Duration = Duration::from_secs(2);
