//! The replica as a whole: its spaces, its state, its peers.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use serde::Serialize;
use serde_json::{Map, Value, json as value};

use super::backend::{Api, Backend, DEFAULT_SPACE, Store};
use super::histories::Forked;
use super::keys::{Pinned, Range};
use super::ops::Members;
use super::problem::{Kind, Problem};
use super::request::{self, Ask, Query};
use super::{Answer, grants, json};
use crate::engine::base::{LogId, ReplicaId, SpaceId, hex, work};
use crate::engine::causal::Tip;
use crate::engine::node;
use crate::engine::store::{ReadError, ValueHasher, Whose};
use crate::engine::sync::Code;
use crate::host::replica::{PeerStatus, SyncReport, SyncTarget};

/// Largest body of a request that is no write, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a ticket is good if nobody says otherwise.
const TICKET_EXPIRES: Duration = Duration::from_hours(24);
/// What a ticket begins with.
const TICKET_PREFIX: &str = "kd1";

/// `GET /v1/id`
pub(super) async fn id(api: Api) -> Answer {
    let replica = api.run(|backend| backend.read(|store| Ok(store.replica()))).await?;
    json(&value!({"replica": replica.to_string(), "work": work(&replica)}))
}

/// A space as this replica holds it.
#[derive(Debug, Serialize)]
struct SpaceShape {
    name: String,
    id: String,
    keys: Option<u64>,
    events: u64,
    commits: u64,
    /// Whether somebody owns it; none until its genesis has come.
    owned: Option<bool>,
    /// What its commits take, and the most that they may take here.
    bytes: u64,
    quota: Option<u64>,
    frontier: Vec<Value>,
    /// Logs that were forked: by a copied replica, or one that lies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    closed: Vec<Forked>,
    state_hash: Option<String>,
    value_hash: Option<String>,
    /// Why keys and hashes, or the state hash alone, cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
}

/// Describes a space. Costs a read of each of its keys.
fn describe(backend: &Backend, name: &str, id: SpaceId) -> Result<SpaceShape, Problem> {
    let ((commits, events), frontier, usage) =
        backend.read(|store| Ok((store.counts(&id)?, store.frontier(&id)?, store.usage(&id)?)))?;
    let owned = match backend.read(|store| store.whose(&id))? {
        Whose::Unknown => None,
        Whose::Open => Some(false),
        Whose::Owned => Some(true),
    };
    let tip = |tip: &Tip| {
        let (log, id) = (tip.log.to_string(), tip.id.to_string());
        value!({"log": log, "seq": tip.seq, "id": id})
    };
    let closed = backend.read(|store| closed(store, &id))?;
    let counted = || -> Result<(u64, Option<String>, String), Problem> {
        let mut keys = 0;
        let all = Range { prefix: String::new(), after: None };
        let mut values = ValueHasher::new(&id);
        let (pinned, state) = Pinned::now(backend, id)?;
        pinned.walk(backend, all, usize::MAX, |key, view| {
            keys += 1;
            values.add(key, view);
            Ok(true)
        })?;
        Ok((keys, state.map(|state| hex(&state)), hex(&values.finish())))
    };
    let (keys, state_hash, value_hash, damaged) = match counted() {
        Ok((keys, state, values)) => {
            let loss = backend.read(|store| Ok(store.loss(&id)))?;
            let loss = loss.filter(|_| state.is_none()).map(lossy);
            (Some(keys), state, Some(values), loss)
        }
        Err(problem) if problem.kind() == Kind::Damaged => {
            (None, None, None, Some(problem.detail().to_owned()))
        }
        Err(problem) => return Err(problem),
    };
    let frontier = frontier.iter().map(tip).collect();
    let (name, id) = (name.to_owned(), id.to_string());
    Ok(SpaceShape {
        name,
        id,
        keys,
        events,
        commits,
        owned,
        bytes: usage.bytes,
        quota: usage.quota,
        frontier,
        closed,
        state_hash,
        value_hash,
        damaged,
    })
}

/// Says why a space has no state hash though all that it shows can be told.
fn lossy(segment: u64) -> String {
    format!(
        "log segment {segment} lost commits, or could not be read whole when the store was \
         opened: `kdelta verify` says whether it is damaged, `kdelta repair` ends it"
    )
}

/// Describes the forked logs of a space: where each is closed, and the tips of what counts beyond.
fn closed(store: &Store, space: &SpaceId) -> Result<Vec<Forked>, ReadError> {
    let shape =
        |(log, seq): (LogId, u64)| Ok(Forked::new(&log, seq, &store.branch_tips(space, &log)?));
    store.closed_logs(space)?.into_iter().map(shape).collect()
}

fn all_spaces(backend: &Backend) -> Result<Vec<SpaceShape>, Problem> {
    let only = backend.only_space();
    match only {
        None => backend.space_to_name(DEFAULT_SPACE).map(drop)?,
        Some(_) => backend.check_read("")?,
    }
    let spaces = backend.read(|store| Ok(store.local().spaces.clone()))?;
    let seen = |id: &SpaceId| only.is_none_or(|only| only == *id);
    let served = spaces.iter().filter(|space| !space.retired && seen(&space.id));
    served.map(|space| describe(backend, &space.name, space.id)).collect()
}

/// `GET /v1/spaces`
pub(super) async fn spaces(api: Api) -> Answer {
    let spaces = api.run(all_spaces).await?;
    json(&value!({ "spaces": spaces }))
}

/// `GET /v1/spaces/{space}`
pub(super) async fn space(api: Api, ask: Ask) -> Answer {
    let shape = api
        .run(move |backend| {
            let id = backend.space(&ask.space, "")?;
            describe(backend, &name_of(backend, id)?, id)
        })
        .await?;
    json(&shape)
}

fn name_of(backend: &Backend, id: SpaceId) -> Result<String, Problem> {
    let spaces = backend.read(|store| Ok(store.local().spaces.clone()))?;
    let space = spaces.into_iter().find(|space| space.id == id && !space.retired);
    Ok(space.map(|space| space.name).unwrap_or_default())
}

/// The body of a request that is no write, member by member.
pub(super) struct Given(axum::body::Bytes);

impl Given {
    pub(super) async fn of(body: Body) -> Result<Self, Problem> {
        request::whole(body, BODY_BYTES_MAX).await.map(Self)
    }

    pub(super) fn members(&self) -> Result<Members<'_>, Problem> {
        Members::of(if self.0.trim_ascii().is_empty() { b"{}" } else { &self.0 })
    }
}

fn needed<T>(value: Option<T>, name: &str) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::usage(format!("the field {name:?} is missing")))
}

/// `POST /v1/spaces` `{"name","owned","roots","difficulty"}`
pub(super) async fn create_space(api: Api, body: Body) -> Answer {
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let name = needed(members.text("name")?, "name")?;
    let (owned, roots) = (members.flag("owned")?, members.texts("roots")?);
    let difficulty = members.number("difficulty")?;
    members.nothing_left("the request", "name, owned, roots, difficulty")?;
    if !owned && (roots.is_some() || difficulty.is_some()) {
        return Err(Problem::usage("roots and difficulty are an owned space's")
            .hint("Say \"owned\": true, or on the command line --owned"));
    }
    let shape = api
        .run(move |backend| {
            let own = backend.id();
            let owned = owned.then(|| grants::owners(own, roots, difficulty)).transpose()?;
            let id = backend.create_space(&name, owned)?;
            describe(backend, &name, id)
        })
        .await?;
    json(&shape)
}

/// `PATCH /v1/spaces/{space}` `{"quota"}`: settings of this replica; `null` is no limit.
pub(super) async fn set(api: Api, ask: Ask, body: Body) -> Answer {
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let quota = needed(members.limit("quota")?, "quota")?;
    members.nothing_left("the request", "quota")?;
    let shape = api
        .run(move |backend| {
            let id = backend.space_to_name(&ask.space)?;
            backend.set_quota(&id, quota)?;
            describe(backend, &name_of(backend, id)?, id)
        })
        .await?;
    json(&shape)
}

/// `DELETE /v1/spaces/{space}?dry_run=`: leaves it; its history stays on this disk.
pub(super) async fn leave(api: Api, mut ask: Ask) -> Answer {
    let dry_run = ask.query.flag("dry_run")?;
    let left = api
        .run(move |backend| {
            let id = backend.space_to_name(&ask.space)?;
            let name = name_of(backend, id)?;
            if name.is_empty() {
                return Err(Problem::new(Kind::NotFound, "that space was left already"));
            }
            let (commits, events) = backend.read(|store| store.counts(&id))?;
            if !dry_run {
                backend.leave(id)?;
            }
            Ok(value!({"name": name, "id": id.to_string(), "commits": commits, "events": events,
                "left": !dry_run}))
        })
        .await?;
    json(&left)
}

/// `POST /v1/spaces/join` `{"ticket","as"}`
pub(super) async fn join(api: Api, body: Body) -> Answer {
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let (ticket, name) = (needed(members.text("ticket")?, "ticket")?, members.text("as")?);
    members.nothing_left("the request", "ticket, as")?;
    let joined = api
        .run(move |backend| {
            let id = backend.join(&ticket, name.as_deref())?;
            describe(backend, &name_of(backend, id)?, id)
        })
        .await?;
    json(&joined)
}

/// `GET /v1/status`
pub(super) async fn status(api: Api) -> Answer {
    let status = api
        .run(|backend| {
            let spaces = all_spaces(backend)?;
            let status = backend.status();
            Ok(value!({
                "replica": status.replica.to_string(),
                "node_running": status.node_running,
                "spaces": spaces,
                "listen": status.listen.as_ref().map(|address| vec![address]),
                "http": status.http.as_ref().map(|http| &http.address),
                "https": status.http.as_ref().map(|http| http.encrypted),
                "peers": status.peers.iter().map(peer).collect::<Vec<_>>(),
                "disk_bytes": status.disk_bytes,
                "memory_bytes": status.memory_bytes,
                "recovered": {
                    "clean": status.recovered.clean,
                    "replayed_events": status.recovered.replayed_events,
                    "truncated_bytes": status.recovered.truncated_bytes,
                },
            }))
        })
        .await?;
    json(&status)
}

fn peer(peer: &PeerStatus) -> Value {
    value!({
        "replica": peer.replica.to_string(),
        "address": peer.address,
        "connected": peer.connected,
        "in_sync": peer.in_sync,
        "since": peer.since.map(super::point::wall_text),
        "rtt_ms": peer.rtt_ms,
        "spaces": peer.spaces.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// `GET /v1/stats`
pub(super) async fn stats(api: Api) -> Answer {
    let stats = api.run(|backend| Ok(backend.stats())).await?;
    json(&nested(stats))
}

/// Nests numbers by the parts of their dotted names.
fn nested(stats: Vec<(String, u64)>) -> Value {
    fn put(all: &mut Map<String, Value>, name: &str, number: u64) {
        if let Some((part, rest)) = name.split_once('.')
            && let Value::Object(inner) =
                all.entry(part).or_insert_with(|| Value::Object(Map::new()))
        {
            return put(inner, rest, number);
        }
        all.insert(name.to_owned(), number.into());
    }
    let mut all = Map::new();
    for (name, number) in stats {
        put(&mut all, &name, number);
    }
    Value::Object(all)
}

/// `GET /v1/peers`
pub(super) async fn peers(api: Api) -> Answer {
    let status = api.run(|backend| Ok(backend.status())).await?;
    let strangers = status.strangers.iter();
    let strangers = strangers
        .map(|near| value!({"replica": near.replica.to_string(), "address": near.address}));
    json(&value!({
        "peers": status.peers.iter().map(peer).collect::<Vec<_>>(),
        "nearby": strangers.collect::<Vec<_>>(),
    }))
}

/// `POST /v1/peers` `{"replica","space","address"}`
pub(super) async fn add_peer(api: Api, body: Body) -> Answer {
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let replica = replica_of(&needed(members.text("replica")?, "replica")?)?;
    let (space, address) = (members.text("space")?, members.text("address")?);
    members.nothing_left("the request", "replica, space, address")?;
    let space = space.unwrap_or_else(|| DEFAULT_SPACE.to_owned());
    let known = api
        .run(move |backend| {
            let space = backend.space_to_name(&space)?;
            backend.peers_add(replica, address.clone(), space)?;
            let peers = backend.status().peers;
            let known = peers.iter().find(|peer| peer.replica == replica).map(peer);
            Ok(known.unwrap_or_else(|| {
                value!({"replica": replica.to_string(), "address": address, "connected": false,
                    "in_sync": null, "since": null, "rtt_ms": null, "spaces": [space.to_string()]})
            }))
        })
        .await?;
    json(&known)
}

/// `DELETE /v1/peers?dry_run=` `{"replica"}` or `?replica=`
pub(super) async fn remove_peer(api: Api, mut query: Query, body: Body) -> Answer {
    let named = query.text("replica");
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let replica = match named {
        Some(replica) => replica,
        None => needed(members.text("replica")?, "replica")?,
    };
    members.nothing_left("the request", "replica")?;
    remove(&api, &replica, query.flag("dry_run")?).await
}

/// `DELETE /v1/peers/{replica}?dry_run=`
pub(super) async fn remove_peer_named(
    api: Api,
    axum::extract::Path(replica): axum::extract::Path<String>,
    mut query: Query,
) -> Answer {
    remove(&api, &replica, query.flag("dry_run")?).await
}

async fn remove(api: &Api, replica: &str, dry_run: bool) -> Answer {
    let replica = replica_of(replica)?;
    if dry_run {
        let would = api.run(move |backend| backend.would_remove(replica)).await?;
        return json(&would);
    }
    api.run(move |backend| backend.peers_remove(replica)).await?;
    json(&value!({"replica": replica.to_string(), "removed": true}))
}

fn replica_of(text: &str) -> Result<ReplicaId, Problem> {
    text.parse().map_err(|_| {
        Problem::usage(format!("{text:?} is no replica id"))
            .hint("It has 64 hexadecimal digits: kdelta id show")
    })
}

/// `POST /v1/tickets` `{"space","expires_ms"|"expires_s","uses"}`
pub(super) async fn ticket(api: Api, body: Body) -> Answer {
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let space = members.text("space")?.unwrap_or_else(|| DEFAULT_SPACE.to_owned());
    let (ms, s) = (members.number("expires_ms")?, members.number("expires_s")?);
    let uses = members.number("uses")?;
    members.nothing_left("the request", "space, expires_ms, expires_s, uses")?;
    let expires = match (ms, s) {
        (Some(_), Some(_)) => {
            return Err(Problem::usage("give either expires_ms or expires_s"));
        }
        (Some(ms), None) => Duration::from_millis(ms),
        (None, Some(s)) => Duration::from_secs(s),
        (None, None) => TICKET_EXPIRES,
    };
    let uses = match uses {
        Some(0) => return Err(Problem::usage("a ticket is good for at least one use")),
        Some(uses) => u32::try_from(uses).unwrap_or(u32::MAX),
        None => u32::MAX,
    };
    let end = super::backend::now().0.saturating_add(millis(expires));
    let ticket = api
        .run(move |backend| {
            let space = backend.space_to_name(&space)?;
            backend.ticket(space, expires, uses)
        })
        .await?;
    let expires = super::point::wall_text(crate::engine::base::WallTime(end));
    json(&value!({"ticket": ticket, "expires": expires}))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// `POST /v1/sync` `{"peer": TICKET|ID@ADDR|ID, "as"}`; without a peer, with all.
pub(super) async fn sync(api: Api, body: Body) -> Answer {
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let (peer, name) = (members.text("peer")?, members.text("as")?);
    members.nothing_left("the request", "peer, as")?;
    let target = target(peer)?;
    let reports = api.run(move |backend| backend.sync(target, name)).await?;
    json(&value!({"peers": reports.iter().map(report).collect::<Vec<_>>()}))
}

pub(super) fn target(peer: Option<String>) -> Result<SyncTarget, Problem> {
    let Some(peer) = peer else { return Ok(SyncTarget::All) };
    if peer.starts_with(TICKET_PREFIX) {
        return Ok(SyncTarget::Ticket(peer));
    }
    let (id, addr) = match peer.split_once('@') {
        Some((id, addr)) => (id, Some(addr.to_owned())),
        None => (peer.as_str(), None),
    };
    let id = id.parse().map_err(|_| {
        Problem::usage(format!("{peer:?} is no ticket and names no peer"))
            .hint("Give a ticket (kd1…), ID@ADDR or ID")
    })?;
    Ok(SyncTarget::Peer { id, addr })
}

pub(super) fn report(report: &SyncReport) -> Value {
    let mut shape = value!({
        "peer": report.peer.to_string(),
        "sent_events": report.sent_events,
        "received_events": report.received_events,
        "sent_bytes": report.sent_bytes,
        "received_bytes": report.received_bytes,
        "round_trips": report.round_trips,
        "elapsed_ms": report.elapsed_ms,
        "in_sync": report.in_sync,
    });
    if let (Some(shape), Some(problem)) = (shape.as_object_mut(), &report.problem) {
        shape.insert("error".to_owned(), sync_problem(problem).object());
    }
    shape
}

/// Says why a sync with one peer did not end well.
fn sync_problem(problem: &node::Problem) -> Problem {
    match problem {
        node::Problem::Unreachable(text) => {
            Problem::new(Kind::Unavailable, format!("the peer cannot be reached: {text}"))
        }
        node::Problem::NothingInCommon => {
            Problem::new(Kind::Conflict, "the two hold no space in common")
                .hint("Join one with a ticket: kdelta ticket, there; kdelta sync TICKET, here")
        }
        node::Problem::NotGranted => {
            Problem::new(Kind::Forbidden, "no grant lets the peer read all of the space")
                .hint("Give it one: kdelta grant create --to ID --can read --space NAME")
        }
        node::Problem::Refused(Code::NOT_GRANTED, text) => {
            Problem::new(Kind::Forbidden, format!("the peer refused: {text}")).hint(
                "It has to know this replica: kdelta id show, here; kdelta grant create, there",
            )
        }
        node::Problem::Refused(_, text) => {
            Problem::new(Kind::Unavailable, format!("the peer refused: {text}"))
        }
        node::Problem::Short(text) => {
            Problem::new(Kind::Partial, format!("something is still missing: {text}"))
                .hint("Sync again")
        }
        node::Problem::Broken(text) => {
            Problem::new(Kind::Unavailable, format!("the conversation broke off: {text}"))
        }
    }
}

/// `POST /v1/backup` `{"path"}`
pub(super) async fn backup(api: Api, body: Body) -> Answer {
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let path = PathBuf::from(needed(members.text("path")?, "path")?);
    members.nothing_left("the request", "path")?;
    if !path.is_absolute() {
        return Err(Problem::usage("the path of a backup must be absolute"));
    }
    let to = path.clone();
    let report = api.run(move |backend| backend.backup(&to)).await?;
    json(&value!({
        "path": path.to_string_lossy(),
        "bytes": report.bytes,
        "commits": report.commits,
        "events": report.events,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_ticket_an_id_or_an_id_with_an_address() {
        let id = "ab".repeat(32);
        assert!(matches!(target(None).unwrap(), SyncTarget::All));
        assert!(matches!(target(Some("kd1xyz".into())).unwrap(), SyncTarget::Ticket(_)));
        let alone = target(Some(id.clone())).unwrap();
        assert!(matches!(alone, SyncTarget::Peer { addr: None, .. }));
        let at = target(Some(format!("{id}@[::1]:7440"))).unwrap();
        assert!(matches!(at, SyncTarget::Peer { addr: Some(a), .. } if a == "[::1]:7440"));
        assert!(target(Some("nobody@host:1".into())).is_err());
    }
}
