//! Verifying and repairing the store.

use axum::body::Body;
use serde_json::json as value;

use super::backend::Api;
use super::node::{Given, report, target};
use super::problem::{Kind, Problem};
use super::request::Query;
use super::{Answer, json};
use crate::host::peers::SyncTarget;

/// `POST /v1/verify?deep=`
pub(super) async fn verify(api: Api, mut query: Query) -> Answer {
    let deep = query.flag("deep")?;
    let report = api.run(move |backend| backend.verify(deep)).await?;
    json(&report.json())
}

/// `POST /v1/repair?dry_run=` `{"from":[TICKET|ID@ADDR|ID…]}`
pub(super) async fn repair(api: Api, mut query: Query, body: Body) -> Answer {
    let dry_run = query.flag("dry_run")?;
    let given = Given::of(body).await?;
    let mut members = given.members()?;
    let from = members.texts("from")?.unwrap_or_default();
    members.nothing_left("the request", "from")?;
    let targets = from.into_iter().map(|peer| target(Some(peer)));
    let targets: Vec<SyncTarget> = targets.collect::<Result<_, _>>()?;
    if dry_run {
        let report = api.run(|backend| backend.verify(false)).await?;
        return json(&report.repair_plan());
    }
    let done = api.run(move |backend| backend.repair(targets)).await?;
    let unreached = !done.peers.is_empty()
        && done.peers.iter().all(|peer| !peer.in_sync)
        && done.repaired.repaired.is_empty();
    if unreached {
        return Err(Problem::new(Kind::Unavailable, "no peer could be reached")
            .hint("Name one that holds the data: kdelta repair --from ID@ADDR"));
    }
    json(&value!({
        "ok": done.repaired.missing.is_empty(),
        "repaired": done.repaired.repaired,
        "rebuilt": (0..done.repaired.rebuilt).collect::<Vec<_>>(),
        "missing": done.repaired.missing,
        "peers": done.peers.iter().map(report).collect::<Vec<_>>(),
    }))
}
