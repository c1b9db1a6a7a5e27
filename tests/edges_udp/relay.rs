//! A relay of datagrams between real sockets, with the faults that links have.
//!
//! Who sends to [`Relay::address`] reaches the far end, and is answered through the same relay.
//! What becomes of each datagram is drawn from a seed, so a run draws the same fates again; which
//! datagram meets which fate still depends on the processes. No privileges are needed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::common::Dice;

/// What a link does to datagrams. The default does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Of a thousand datagrams so many are lost.
    pub(crate) loss: u64,
    /// Of a thousand so many come twice.
    pub(crate) twice: u64,
    /// Of a thousand so many are held back, so that later ones pass them.
    pub(crate) held_back: u64,
    /// How long each takes at least, in milliseconds.
    pub(crate) delay_ms: u64,
    /// By how much that varies, in milliseconds.
    pub(crate) jitter_ms: u64,
    /// Bytes that get through in a second, each way; 0 for any number. What would wait for more
    /// than [`QUEUE`] is dropped.
    pub(crate) rate: u64,
    /// Nothing gets through to the far end.
    pub(crate) cut_there: bool,
    /// Nothing comes back.
    pub(crate) cut_back: bool,
}

/// How long a datagram waits for its turn at most.
const QUEUE: Duration = Duration::from_millis(200);
/// How long one that is held back waits more than the others.
const HELD_BACK: Duration = Duration::from_millis(30);

/// What became of the datagrams so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    /// Those over the rate too.
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) held_back: u64,
    pub(crate) cut: u64,
    pub(crate) rebinds: u64,
}

/// A relay; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    link: Arc<Link>,
    runtime: Runtime,
}

#[derive(Debug)]
struct Link {
    front: UdpSocket,
    far: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    faults: Faults,
    counts: Counts,
    /// When the link is free again: there, and back.
    free: [Instant; 2],
    flows: BTreeMap<SocketAddr, Flow>,
}

/// One sender, with the socket that stands for it at the far end.
#[derive(Debug)]
struct Flow {
    back: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to `far`.
    pub(crate) fn new(far: SocketAddr, seed: u64) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let front = runtime.block_on(bind());
        let address = front.local_addr().expect("it is bound");
        let now = Instant::now();
        let state = State {
            dice: Dice(seed | 1),
            faults: Faults::default(),
            counts: Counts::default(),
            free: [now, now],
            flows: BTreeMap::new(),
        };
        let link = Arc::new(Link { front, far, state: Mutex::new(state) });
        runtime.spawn(Arc::clone(&link).read_front());
        Self { address, link, runtime }
    }

    /// Changes what the link does from now on.
    pub(crate) fn set(&self, faults: Faults) {
        self.link.state().faults = faults;
    }

    /// What became of the datagrams so far.
    pub(crate) fn counts(&self) -> Counts {
        self.link.state().counts
    }

    /// Gives every sender another address at the far end, as a NAT does that has forgotten it.
    pub(crate) fn rebind(&self) {
        let mut state = self.link.state();
        state.counts.rebinds += 1;
        for (sender, flow) in &mut state.flows {
            let flow = std::mem::replace(flow, self.runtime.block_on(self.link.flow(*sender)));
            flow.reader.abort();
        }
    }
}

async fn bind() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket on loopback")
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    async fn read_front(self: Arc<Self>) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            // A far end that is gone shows as an error of a read; the next read goes on.
            let Ok((len, sender)) = self.front.recv_from(&mut buffer).await else { continue };
            let known = self.state().flows.contains_key(&sender);
            if !known {
                let flow = self.flow(sender).await;
                self.state().flows.insert(sender, flow);
            }
            let Some(back) = self.state().flows.get(&sender).map(|flow| Arc::clone(&flow.back))
            else {
                continue;
            };
            for at in self.state().fate(len, Way::There) {
                let (back, far, bytes) = (Arc::clone(&back), self.far, buffer[..len].to_vec());
                tokio::spawn(async move {
                    sleep_until(at).await;
                    let _ = back.send_to(&bytes, far).await;
                });
            }
        }
    }

    /// Opens the socket that stands for `sender`, and brings back what comes to it.
    async fn flow(self: &Arc<Self>, sender: SocketAddr) -> Flow {
        let back = Arc::new(bind().await);
        let (link, socket) = (Arc::clone(self), Arc::clone(&back));
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let Ok((len, _)) = socket.recv_from(&mut buffer).await else { continue };
                for at in link.state().fate(len, Way::Back) {
                    let (link, bytes) = (Arc::clone(&link), buffer[..len].to_vec());
                    tokio::spawn(async move {
                        sleep_until(at).await;
                        let _ = link.front.send_to(&bytes, sender).await;
                    });
                }
            }
        });
        Flow { back, reader }
    }
}

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    There,
    Back,
}

impl State {
    /// Draws when a datagram of `len` bytes arrives: never, once or twice.
    fn fate(&mut self, len: usize, way: Way) -> Vec<Instant> {
        let faults = self.faults;
        if matches!(way, Way::There) && faults.cut_there
            || matches!(way, Way::Back) && faults.cut_back
        {
            self.counts.cut += 1;
            return Vec::new();
        }
        if self.dice.below(1000) < faults.loss {
            self.counts.lost += 1;
            return Vec::new();
        }
        let now = Instant::now();
        let mut leaves = now;
        if let Some(nanoseconds) = (len as u64 * 1_000_000_000).checked_div(faults.rate) {
            let free = &mut self.free[way as usize];
            leaves = now.max(*free);
            if leaves > now + QUEUE {
                self.counts.lost += 1;
                return Vec::new();
            }
            *free = leaves + Duration::from_nanos(nanoseconds);
        }
        let mut arrivals = vec![self.arrival(leaves)];
        if self.dice.below(1000) < faults.twice {
            self.counts.twice += 1;
            arrivals.push(self.arrival(leaves));
        }
        self.counts.passed += 1;
        arrivals
    }

    fn arrival(&mut self, leaves: Instant) -> Instant {
        let faults = self.faults;
        let mut at = leaves + Duration::from_millis(faults.delay_ms);
        at += Duration::from_millis(self.dice.below(faults.jitter_ms + 1));
        if self.dice.below(1000) < faults.held_back {
            self.counts.held_back += 1;
            at += HELD_BACK;
        }
        at
    }
}
