//! The one way from the API to the replica below it.
//!
//! The replica's calls block for the disk, so each request runs on a thread that may block. A read
//! holds the store's lock only as long as its closure runs: whatever can be long reads in slices.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde_json::{Value, json};

use super::caller::Caller;
use super::problem::{Kind, Problem};
use super::request::Match;
use crate::engine::base::{GrantId, Key, ReplicaId, SpaceId, WallTime};
use crate::engine::causal::{Tip, VersionVector};
use crate::engine::crdt::View;
use crate::engine::event::{Grant, Owned};
use crate::engine::store::{self, Expect, ReadError, Rights, Write, Written};
use crate::host::clock;
use crate::host::repair::RepairReport;
use crate::host::replica::{
    BackupReport, Committed, Disk, Durability, NodeError, Replica, Status, SyncReport, SyncTarget,
};

/// The store of a replica.
pub(super) type Store = store::Store<Disk>;

/// The space that every replica has.
pub(super) const DEFAULT_SPACE: &str = "default";

/// What a handler works with: the replica, and who asks.
#[derive(Clone)]
pub(super) struct Api {
    replica: Replica,
    caller: Caller,
}

impl FromRequestParts<Replica> for Api {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, replica: &Replica) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or(Caller::Nobody);
        Ok(Self::new(replica.clone(), caller))
    }
}

impl Api {
    pub(super) fn new(replica: Replica, caller: Caller) -> Self {
        Self { replica, caller }
    }

    /// Returns the replica.
    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Runs `work` where it may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Backend) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let backend = self.backend();
        match tokio::task::spawn_blocking(move || work(&backend)).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(%error, "a request failed");
                Err(Problem::new(Kind::Other, "the request failed inside")
                    .hint("The log of the node has more"))
            }
        }
    }

    /// Returns the calls that block.
    pub(super) fn backend(&self) -> Backend {
        let (replica, caller) = (self.replica.clone(), self.caller.clone());
        Backend { replica, caller, degraded: false, partial: Arc::default() }
    }
}

/// The replica's calls, which block.
#[derive(Clone)]
pub(super) struct Backend {
    replica: Replica,
    caller: Caller,
    /// Reads answer with what is intact, where something is lost.
    degraded: bool,
    /// Whether one of them met a loss.
    partial: Arc<AtomicBool>,
}

impl Backend {
    /// Runs `read` under the store's lock; a derived file that turns out to be damaged is built
    /// anew, and `read` runs again.
    pub(super) fn read<T>(
        &self,
        read: impl Fn(&mut Store) -> Result<T, ReadError>,
    ) -> Result<T, Problem> {
        let once = |store: &mut Store| {
            if !self.degraded {
                return read(store);
            }
            let (outcome, partial) = store.with_degraded(&read);
            self.partial.fetch_or(partial, Ordering::Relaxed);
            outcome
        };
        Ok(self.replica.read(|store| store.ask(once))?)
    }

    /// Returns what a key shows, now or at an earlier version.
    pub(super) fn view(
        &self,
        space: &SpaceId,
        key: &Key,
        at: Option<&VersionVector>,
    ) -> Result<Option<Arc<View>>, Problem> {
        if at.is_none() && !self.degraded {
            match self.replica.view(space, key) {
                Err(ReadError::Sidecar(_)) => {}
                read => return Ok(read?),
            }
        }
        Ok(self.read(|store| store.get(space, key, at))?.map(Arc::new))
    }

    /// Returns the calls with reads that answer, or do not, with what is left of what is damaged.
    pub(super) fn degraded(&self, degraded: bool) -> Self {
        Self { degraded, partial: Arc::default(), ..self.clone() }
    }

    /// Tells whether a read answered with less than there was.
    pub(super) fn is_partial(&self) -> bool {
        self.partial.load(Ordering::Relaxed)
    }

    /// Returns a space of which keys that begin like `prefix` are read, all of it where that is
    /// empty. Only the default one is made for that.
    pub(super) fn space(&self, name: &str, prefix: &str) -> Result<SpaceId, Problem> {
        let space = self.space_to_name(name)?;
        self.check_read(prefix)?;
        Ok(space)
    }

    /// Checks that the caller may read whatever keys begin like `prefix`, in its space.
    pub(super) fn check_read(&self, prefix: &str) -> Result<(), Problem> {
        self.caller.check_read(&self.replica, prefix)
    }

    /// Returns a space of which nothing is read but that it is there.
    pub(super) fn space_to_name(&self, name: &str) -> Result<SpaceId, Problem> {
        let create = name == DEFAULT_SPACE && self.caller.only_space().is_none();
        let found = self.replica.space(name, create)?;
        self.check_space(name, found)?;
        found.ok_or_else(|| {
            Problem::new(Kind::NotFound, format!("no space {name:?} here"))
                .hint("The first write makes it; spaces of others come with a ticket")
                .with("space", name)
        })
    }

    /// Returns a space that is written to; the owner's is made if it is not there.
    pub(super) fn space_to_write(&self, name: &str) -> Result<SpaceId, Problem> {
        let found = self.replica.space(name, self.caller.only_space().is_none())?;
        self.check_space(name, found)?;
        found.ok_or_else(|| {
            Problem::new(Kind::NotFound, format!("no space has the id {name}"))
                .hint("Spaces of others come with a ticket: kdelta space join TICKET")
        })
    }

    /// Who may see one space only is not told whether there are others.
    fn check_space(&self, name: &str, found: Option<SpaceId>) -> Result<(), Problem> {
        match self.caller.only_space() {
            Some(only) if found != Some(only) => Err(Problem::new(
                Kind::Forbidden,
                format!("the token is not for the space {name:?}"),
            )
            .hint(format!("Name its own by --space {only}, or as it is called here"))),
            _ => Ok(()),
        }
    }

    /// Returns the one space that the caller may see; none for the owner, who may see all.
    pub(super) fn only_space(&self) -> Option<SpaceId> {
        self.caller.only_space()
    }

    /// Returns what limits the caller; none if nothing does.
    pub(super) fn rights(&self) -> Result<Option<Rights>, Problem> {
        self.caller.rights(&self.replica)
    }

    /// Makes a space under a name that is not taken, which somebody may own.
    pub(super) fn create_space(
        &self,
        name: &str,
        owned: Option<Owned>,
    ) -> Result<SpaceId, Problem> {
        if self.replica.space(name, false)?.is_some() {
            return Err(Problem::new(Kind::Conflict, format!("a space {name:?} is here already"))
                .hint("Use it, or choose another name"));
        }
        Ok(match owned {
            Some(owned) => self.replica.create_owned_space(name, owned)?,
            None => self.replica.create_space(name)?,
        })
    }

    /// Returns the id of this replica.
    pub(super) fn id(&self) -> ReplicaId {
        self.replica.id()
    }

    /// Grants something in an owned space.
    pub(super) fn grant(&self, space: &SpaceId, grant: Grant) -> Result<Written, Problem> {
        Ok(self.replica.grant(space, grant)?)
    }

    /// Takes a grant back.
    pub(super) fn revoke(&self, space: &SpaceId, target: GrantId) -> Result<Written, Problem> {
        Ok(self.replica.revoke(space, target)?)
    }

    /// Writes; returns when the durability is reached.
    pub(super) fn write(&self, write: Write, durability: Durability) -> Result<Committed, Problem> {
        self.caller.check_write(&self.replica, &write)?;
        Ok(self.replica.write(write, durability)?)
    }

    /// Waits until so many peers hold a commit, or the patience is over; returns how many do.
    pub(super) fn held_by(
        &self,
        space: &SpaceId,
        tip: &Tip,
        count: u16,
        patience: Duration,
    ) -> usize {
        self.replica.held_by(space, tip, count, patience)
    }

    /// Waits until everything written so far is durable.
    pub(super) fn flush(&self) -> Result<(), Problem> {
        Ok(self.replica.flush()?)
    }

    /// Returns the commits that a point stands for.
    pub(super) fn resolve(&self, space: &SpaceId, point: &str) -> Result<VersionVector, Problem> {
        let point = super::point::parse(point, now())?;
        self.read(|store| store.resolve(space, &point))
    }

    /// Returns the commits that a point stands for, if one is given.
    pub(super) fn resolve_any(
        &self,
        space: &SpaceId,
        point: Option<&str>,
    ) -> Result<Option<VersionVector>, Problem> {
        point.map(|point| self.resolve(space, point)).transpose()
    }

    /// Turns a condition of a header into one that the store checks. To compare is to read.
    pub(super) fn expect(
        &self,
        space: &SpaceId,
        key: &Key,
        condition: Option<Match>,
    ) -> Result<Option<Expect>, Problem> {
        match condition {
            None => Ok(None),
            Some(Match::Expect(expect)) => Ok(Some(expect)),
            // Whatever is there now must still be there when it is written.
            Some(Match::Exists) => {
                self.check_read(key.as_str())?;
                match self.view(space, key, None)? {
                    Some(view) => Ok(Some(Expect::Context(view.context))),
                    None => Err(Problem::new(Kind::Precondition, format!("{key} holds nothing"))),
                }
            }
        }
    }

    /// Returns the replica itself.
    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(super) fn status(&self) -> Status {
        self.replica.status()
    }

    pub(super) fn stats(&self) -> Vec<(String, u64)> {
        self.replica.stats()
    }

    pub(super) fn peers_add(
        &self,
        id: ReplicaId,
        address: Option<String>,
        space: SpaceId,
    ) -> Result<(), Problem> {
        self.replica.peers_add(id, address, space).map_err(node_problem)
    }

    pub(super) fn peers_remove(&self, id: ReplicaId) -> Result<(), Problem> {
        self.replica.peers_remove(id).map_err(node_problem)
    }

    /// Says what [`peers_remove`](Self::peers_remove) would do.
    pub(super) fn would_remove(&self, id: ReplicaId) -> Result<Value, Problem> {
        self.read(|store| {
            let local = store.local();
            let known = local.peer(&id);
            let spaces = known.map(|peer| peer.admitted.clone()).unwrap_or_default();
            let tickets = local.tickets.iter().filter(|ticket| spaces.contains(&ticket.space));
            Ok(json!({
                "dry_run": true,
                "replica": id.to_string(),
                "known": known.is_some(),
                "spaces": spaces.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "tickets": tickets.count(),
            }))
        })
    }

    pub(super) fn ticket(
        &self,
        space: SpaceId,
        expires: Duration,
        uses: u32,
    ) -> Result<String, Problem> {
        self.replica.ticket(space, expires, uses).map_err(node_problem)
    }

    pub(super) fn sync(
        &self,
        target: SyncTarget,
        as_name: Option<String>,
    ) -> Result<Vec<SyncReport>, Problem> {
        self.replica.sync(target, as_name).map_err(node_problem)
    }

    pub(super) fn set_quota(&self, space: &SpaceId, quota: Option<u64>) -> Result<(), Problem> {
        Ok(self.replica.set_quota(space, quota)?)
    }

    pub(super) fn leave(&self, space: SpaceId) -> Result<(), Problem> {
        self.replica.leave(space).map_err(node_problem)
    }

    pub(super) fn join(&self, ticket: &str, as_name: Option<&str>) -> Result<SpaceId, Problem> {
        self.replica.join(ticket, as_name).map_err(node_problem)
    }

    pub(super) fn verify(&self, deep: bool) -> Result<crate::host::verify::Report, Problem> {
        self.replica.verify(deep).map_err(|error| Problem::new(Kind::Damaged, error.to_string()))
    }

    pub(super) fn repair(&self, from: Vec<SyncTarget>) -> Result<RepairReport, Problem> {
        self.replica.repair(from).map_err(node_problem)
    }

    pub(super) fn backup(&self, path: &Path) -> Result<BackupReport, Problem> {
        self.replica.backup(path).map_err(|error| {
            let kind = if error.is_refusal() { Kind::Full } else { Kind::Other };
            Problem::new(kind, error.to_string()).hint(error.hint())
        })
    }
}

/// Returns the wall clock.
pub(super) fn now() -> WallTime {
    clock::now().wall
}

fn node_problem(error: NodeError) -> Problem {
    let detail = error.to_string();
    match error {
        NodeError::NotServing => {
            Problem::new(Kind::Unavailable, detail).hint("Start a node: kdelta serve")
        }
        NodeError::Write(error) => error.into(),
        NodeError::NameTaken(_) => {
            Problem::new(Kind::Conflict, detail).hint("Give it a name of its own: --as NAME")
        }
        NodeError::Ticket(_) | NodeError::Expired | NodeError::OwnTicket => {
            Problem::new(Kind::Usage, detail).hint("Ask for a new ticket: kdelta ticket")
        }
        NodeError::NoPeers => Problem::new(Kind::Unavailable, detail)
            .hint("Get a ticket from one: kdelta ticket, there"),
        _ => Problem::new(Kind::Unavailable, detail),
    }
}
