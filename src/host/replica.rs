//! A replica in this process: the engine, its files, and the threads that drive it.
//!
//! Calls block and may come from any thread. A writer that needs durability either finds a sync
//! under way and waits for the next one, or does the sync itself, outside the lock, for all who
//! wait (leader and followers): no hand-over where none is needed. One thread in the background
//! makes durable what nobody waits for, and keeps time.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::disk::FileDisk;
use super::hot::Hot;
use super::http::HttpAddress;
use super::identity::{Identity, IdentityError, Passphrase};
use super::lock::{Lock, LockError};
use super::metrics::Requests;
use super::net::Net;
use super::{clock, locked};
use crate::engine::base::{ReplicaId, Rng, SpaceId};
use crate::engine::causal::Tip;
use crate::engine::event::KeyPair;
use crate::engine::log::{Disk as _, Position, SyncTicket};
use crate::engine::node::{Config, Input, JobId, Node, Output, Report};
use crate::engine::store::{self, Mirror as _, Outcome, Store, Write, WriteError, Written};

pub use super::backup::BackupReport;
pub use super::peers::{NodeError, PeerStatus, Status, Stranger, SyncReport, SyncTarget};

/// The disk under a replica.
pub type Disk = Arc<FileDisk>;

/// A replica: cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Replica {
    pub(super) shared: Arc<Shared>,
}

/// When a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// As soon as it is visible here; durable within 50 ms.
    Buffered,
    /// Once it is durable here.
    #[default]
    Local,
    /// Once it is durable here and so many peers that are connected said that it is durable there,
    /// or the patience is over: what was reached is told. A peer with several nodes under one key
    /// counts once.
    Peers(u16, Duration),
}

/// A write that was done.
#[derive(Debug, Clone)]
pub struct Committed {
    /// What was written.
    pub written: Written,
    /// Whether it is durable already.
    pub durable: bool,
    /// How many peers hold it durably, as far as that was waited for.
    pub peers: Option<usize>,
}

/// How a replica is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Memory budget in bytes, at least 16 MiB.
    pub memory_bytes: usize,
    /// How long to wait for another process that holds the store.
    pub wait: Duration,
    /// What opens the key if it is locked.
    pub passphrase: Option<Passphrase>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { memory_bytes: 512 << 20, wait: Duration::from_secs(30), passphrase: None }
    }
}

/// Why a replica could not be opened.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the store, or the lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The identity cannot be loaded or made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// The data directory cannot be made or looked at.
    #[error("the data directory {} cannot be used: {source}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The operating system gave no randomness or no thread.
    #[error("the operating system refuses: {0}")]
    System(String),
}

/// What recovery found when the replica was opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Whether the store was closed in order.
    pub clean: bool,
    /// How many events were replayed.
    pub replayed_events: u64,
    /// How many torn bytes were cut.
    pub truncated_bytes: u64,
}

/// What all handles of a replica share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// What readers look at first; the engine keeps it exact.
    pub(super) hot: Arc<Hot>,
    pub(super) changed: Condvar,
    /// Up to where everything is durable, for those who wait without a thread.
    durable: watch::Sender<Position>,
    pub(super) disk: Disk,
    pub(super) dir: PathBuf,
    pub(super) identity: Identity,
    pub(super) net: Mutex<Option<Net>>,
    /// Where the API is served over TCP.
    pub(super) http: Mutex<Option<HttpAddress>>,
    requests: Requests,
    pub(super) recovered: Recovered,
    /// Held as long as the replica is open.
    lock: Lock,
}

/// What the engine's lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) node: Node<Disk>,
    due: Option<SyncTicket>,
    syncing: bool,
    hurry: bool,
    marked: bool,
    last_write: Instant,
    wake: Option<Duration>,
    closed: bool,
    pub(super) reports: BTreeMap<JobId, Report>,
    pub(super) outgoing: super::net::Outgoing,
}

impl Replica {
    /// Opens the replica in `dir`, or makes a new one there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(dir, &OpenOptions::default())
    }

    /// Opens the replica in `dir` with options.
    ///
    /// A directory that cannot be written is opened for reading.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(dir: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, OpenError> {
        let dir = dir.as_ref().to_path_buf();
        let unusable = |source| OpenError::Directory { dir: dir.clone(), source };
        if !dir.exists() {
            super::make_private_dir(&dir).map_err(unusable)?;
        }
        let passphrase = options.passphrase.as_ref();
        let (lock, identity) = match Lock::acquire(&dir, options.wait) {
            Ok(lock) => {
                let identity = Identity::load_or_create(&dir, &lock, passphrase)?;
                (lock, identity)
            }
            Err(LockError::ReadOnly { .. }) => {
                (Lock::acquire_shared(&dir, options.wait)?, Identity::load(&dir, passphrase)?)
            }
            Err(error) => return Err(error.into()),
        };
        Self::open_locked(&dir, options.memory_bytes, lock, identity)
    }

    /// Opens the replica in `dir`, which is locked, under an identity.
    pub(super) fn open_locked(
        dir: &Path,
        memory_bytes: usize,
        lock: Lock,
        identity: Identity,
    ) -> Result<Self, OpenError> {
        let dir = dir.to_path_buf();
        let unusable = |source| OpenError::Directory { dir: dir.clone(), source };
        let place = std::fs::metadata(&dir).map_err(unusable)?.ino();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| OpenError::System(error.to_string()))?;
        let mut rng = Rng::new(seed);
        let disk = Arc::new(FileDisk::new(&dir));
        let memory_bytes = memory_bytes.max(MEMORY_BYTES_MIN);
        let store_options =
            store::Options { memory_bytes, segment_bytes: SEGMENT_BYTES, place: Some(place) };
        let key = KeyPair::from_seed(*identity.seed());
        let now = clock::now();
        let hot = Arc::new(Hot::new(memory_bytes / HOT_SHARE));
        let (mut store, opened) =
            Store::open(Arc::clone(&disk), key, rng.bytes(), now, store_options)?;
        store.set_mirror(Arc::<Hot>::clone(&hot));
        let recovered = Recovered {
            clean: opened.recovery.clean,
            replayed_events: opened.replayed_events,
            truncated_bytes: opened.recovery.truncated_bytes(),
        };
        let config = Config { agent: agent(), ..Config::default() };
        let node = Node::new(store, config, rng.split("node"), now);
        let state = State {
            node,
            due: None,
            syncing: false,
            hurry: false,
            marked: true,
            last_write: Instant::now(),
            wake: None,
            closed: false,
            reports: BTreeMap::new(),
            outgoing: super::net::Outgoing::default(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            hot,
            changed: Condvar::new(),
            durable: watch::Sender::new(Position::default()),
            disk,
            dir,
            identity,
            net: Mutex::new(None),
            http: Mutex::new(None),
            requests: Requests::default(),
            recovered,
            lock,
        });
        shared.start().map_err(|error| OpenError::System(error.to_string()))?;
        Ok(Self { shared })
    }

    /// Returns the replica's id.
    pub fn id(&self) -> ReplicaId {
        self.shared.identity.replica()
    }

    /// Returns the data directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Returns what is counted of requests.
    pub(super) fn requests(&self) -> &Requests {
        &self.shared.requests
    }

    /// Says why nothing can be made durable here now; none if it can.
    pub fn unready(&self) -> Option<String> {
        let state = locked(&self.shared.state);
        if state.closed {
            return Some("the store is closed".to_owned());
        }
        state.node.store_ref().trouble().map(ToString::to_string)
    }

    /// Runs `read` on the store, under the engine's lock: keep it short.
    pub fn read<T>(&self, read: impl FnOnce(&mut Store<Disk>) -> T) -> T {
        read(locked(&self.shared.state).node.store())
    }

    /// Writes; returns when the durability is reached.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was stored then, or it is not known to be durable and says so.
    pub fn write(&self, write: Write, durability: Durability) -> Result<Committed, WriteError> {
        let mut state = self.shared.unhurried(locked(&self.shared.state))?;
        let space = write.space;
        let written = state.node.store().write(clock::now(), write)?;
        let durable = self.shared.finish(state, durability)?;
        let peers = match durability {
            Durability::Peers(count, patience) => {
                Some(self.held_by(&space, &written.tip, count, patience))
            }
            Durability::Buffered | Durability::Local => None,
        };
        Ok(Committed { written, durable, peers })
    }

    /// Waits until `count` peers that are connected said that they hold a commit durably, or the
    /// patience is over; returns how many did.
    pub fn held_by(&self, space: &SpaceId, tip: &Tip, count: u16, patience: Duration) -> usize {
        let shared = &self.shared;
        // Without a node nobody can say anything.
        let patience = if locked(&shared.net).is_some() { patience } else { Duration::ZERO };
        let end = Instant::now() + patience;
        let mut state = locked(&shared.state);
        loop {
            let holders = state.node.holders(space, tip);
            let left = end.saturating_duration_since(Instant::now());
            if holders >= usize::from(count) || left.is_zero() || state.closed {
                return holders;
            }
            let waited = shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns up to where everything is durable, now and as it moves.
    pub fn durable_positions(&self) -> watch::Receiver<Position> {
        let durable = locked(&self.shared.state).node.store_ref().durable();
        self.shared.durable.send_if_modified(|known| std::mem::replace(known, durable) != durable);
        self.shared.durable.subscribe()
    }

    /// Returns once everything written so far is durable.
    ///
    /// # Errors
    /// [`WriteError`] if the disk refuses.
    pub fn flush(&self) -> Result<(), WriteError> {
        self.shared.finish(locked(&self.shared.state), Durability::Local).map(|_| ())
    }

    /// Waits until something beyond `cursor` is durable, or `patience` is over; returns the end
    /// of what is durable.
    pub fn wait_durable_past(&self, cursor: Position, patience: Duration) -> Position {
        let end = Instant::now() + patience;
        let mut state = locked(&self.shared.state);
        loop {
            let durable = state.node.store_ref().durable();
            let left = end.saturating_duration_since(Instant::now());
            if durable > cursor || left.is_zero() || state.closed {
                return durable;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the replica in order: goodbye to peers, everything durable, marks written.
    ///
    /// Other handles answer nothing more.
    ///
    /// # Errors
    /// [`WriteError`] if the disk refuses; what was acknowledged as durable is safe all the same.
    pub fn close(self) -> Result<(), WriteError> {
        self.stop_net();
        // What a buffered write left to be synced comes first: the log syncs one thing at a time.
        let mut state = self.shared.sync_rest(locked(&self.shared.state));
        if state.closed {
            return Ok(());
        }
        state.closed = true;
        self.shared.hot.cleared();
        let closed = state.node.store().close();
        drop(state);
        // Other handles may live on, and nothing is written any more.
        self.shared.lock.release();
        self.shared.changed.notify_all();
        closed
    }
}

impl State {
    pub(super) fn check_open(&self) -> Result<(), WriteError> {
        if self.closed { Err(WriteError::Closed) } else { Ok(()) }
    }
}

impl Shared {
    /// Starts the thread in the background; it ends with the last handle.
    fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let background = Arc::downgrade(self);
        let run = move || {
            while let Some(shared) = background.upgrade() {
                if !shared.step() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("kdelta-engine".into()).spawn(run).map(drop)
    }

    /// Takes one input of the network.
    pub(super) fn input(&self, input: Input) {
        let mut state = locked(&self.state);
        if state.closed {
            return;
        }
        state.node.handle(clock::now(), input);
        self.settle(&mut state);
        // Nobody waits for what the network brought: the thread in the background syncs it.
        state.hurry |= state.due.is_some();
        drop(state);
        self.changed.notify_all();
    }

    /// Does what the engine asks for, except syncing, which is left to whoever comes first.
    pub(super) fn settle(&self, state: &mut State) {
        loop {
            match state.node.poll() {
                Output::Wait(at) => {
                    let now = clock::now().mono;
                    state.wake = at.map(|at| Duration::from_nanos(at.0.saturating_sub(now.0)));
                    let durable = state.node.store_ref().durable();
                    self.durable
                        .send_if_modified(|known| std::mem::replace(known, durable) != durable);
                    return;
                }
                Output::Sync(ticket) => state.due = Some(ticket),
                Output::JobDone { job, report } => drop(state.reports.insert(job, report)),
                output => state.outgoing.push(output),
            }
        }
    }

    /// Brings what was just written to the durability that is asked for.
    pub(super) fn finish<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        durability: Durability,
    ) -> Result<bool, WriteError> {
        let receipt = state.node.store_ref().receipt();
        state.last_write = Instant::now();
        state.marked = false;
        self.settle(&mut state);
        loop {
            match state.node.store_ref().outcome(receipt) {
                Outcome::Durable => return Ok(true),
                Outcome::TakenBack(reason) => return Err(WriteError::TakenBack(reason.to_owned())),
                Outcome::Pending if durability == Durability::Buffered => return Ok(false),
                Outcome::Pending => {}
            }
            if let Some(error) = state.node.store_ref().trouble() {
                return Err(WriteError::NotDurable(error.to_string()));
            }
            state.check_open()?;
            state = if !state.syncing && state.due.is_some() {
                self.lead(state)
            } else {
                self.wait(state)
            };
        }
    }

    /// Waits while far more is written than is durable: a buffered writer cannot outrun the disk.
    fn unhurried<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, WriteError> {
        loop {
            state.check_open()?;
            let (written, durable) = {
                let store = state.node.store_ref();
                (store.written(), store.durable())
            };
            let ahead = written.segment == durable.segment
                && written.offset.saturating_sub(durable.offset) > AHEAD_BYTES_MAX;
            if !ahead || state.node.store_ref().trouble().is_some() {
                return Ok(state);
            }
            state = if !state.syncing && state.due.is_some() {
                self.lead(state)
            } else {
                self.wait(state)
            };
        }
    }

    /// Syncs what is due, outside the lock, for all who wait.
    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(ticket) = state.due.take() else { return state };
        state.syncing = true;
        drop(state);
        let result = self.disk.sync(ticket.file);
        let mut state = locked(&self.state);
        state.syncing = false;
        state.node.handle(clock::now(), Input::Synced(ticket, result));
        self.settle(&mut state);
        self.changed.notify_all();
        state
    }

    /// Syncs all that is left to be synced.
    pub(super) fn sync_rest<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        while state.syncing || state.due.is_some() {
            state = if state.syncing { self.wait(state) } else { self.lead(state) };
        }
        state
    }

    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, PATIENCE);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// One turn of the thread in the background; false once the replica is closed.
    fn step(&self) -> bool {
        let mut state = locked(&self.state);
        if state.closed {
            return false;
        }
        let idle = state.due.is_none() && state.marked;
        let nap = if idle { PATIENCE } else { MARK_AFTER / 2 };
        let nap = state.wake.map_or(nap, |wake| wake.min(nap));
        if !(state.hurry && state.due.is_some()) {
            let waited = self.changed.wait_timeout(state, nap);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closed {
            return false;
        }
        if state.due.is_some() && !state.syncing {
            state.hurry = false;
            state = self.lead(state);
        }
        if state.wake.is_some() {
            state.node.handle(clock::now(), Input::Tick);
            self.settle(&mut state);
        }
        if !state.marked && state.last_write.elapsed() >= MARK_AFTER && !state.syncing {
            // A mark that cannot be written is written later, or never: nothing depends on it.
            let _ = state.node.store().idle_mark();
            state.marked = true;
        }
        true
    }
}

/// What this program calls itself towards peers.
pub(super) fn agent() -> String {
    format!("kdelta {}", env!("CARGO_PKG_VERSION"))
}

/// How far writers may be ahead of the disk, in bytes.
const AHEAD_BYTES_MAX: u32 = 16 << 20;
/// At how many bytes a segment is sealed.
const SEGMENT_BYTES: u32 = 8 << 20;
/// The part of the memory budget that what hot keys show may take: one in so many.
const HOT_SHARE: usize = 8;
/// The least memory budget.
const MEMORY_BYTES_MIN: usize = 16 << 20;
/// After how long without a write the log says what is durable.
const MARK_AFTER: Duration = Duration::from_millis(50);
/// The longest nap of a waiting thread.
const PATIENCE: Duration = Duration::from_secs(1);
