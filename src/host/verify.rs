//! Reads a store's files as they lie there, and names all that is wrong; changes none.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::disk::FileDisk;
use super::lock::{Lock, LockError};
use super::replica::OpenError;
use crate::engine::store::{self, Verified};

/// What a store holds, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    verified: Verified,
}

impl Report {
    pub(super) fn new(verified: Verified) -> Self {
        Self { verified }
    }

    /// Returns the report as `verify` prints it.
    pub fn json(&self) -> Value {
        let v = &self.verified;
        let problems: Vec<Value> = v
            .problems
            .iter()
            .map(|problem| {
                let mut shape = json!({
                    "file": problem.file,
                    "offset": problem.offset,
                    "kind": problem.kind,
                    "affected": problem.affected,
                });
                if let (Some(members), 1..) = (shape.as_object_mut(), problem.affected_omitted) {
                    members.insert("affected_omitted".into(), problem.affected_omitted.into());
                }
                shape
            })
            .collect();
        json!({
            "ok": problems.is_empty(),
            "segments": v.segments,
            "commits": v.commits,
            "events": v.events,
            "bytes": v.bytes,
            "recovered": {
                "clean": v.torn_bytes == 0,
                "replayed_events": 0,
                "truncated_bytes": v.torn_bytes,
            },
            "problems": problems,
        })
    }
}

impl Report {
    /// Returns what a repair would do: which files it would replace with what peers hold, which
    /// it would build anew, and whom the damage concerns.
    pub fn repair_plan(&self) -> Value {
        let problems = &self.verified.problems;
        let files = |derived: bool| -> BTreeSet<&str> {
            let wanted = problems.iter().filter(|problem| (problem.kind == "derived") == derived);
            wanted.map(|problem| problem.file.as_str()).collect()
        };
        let affected: BTreeSet<&String> = problems.iter().flat_map(|p| &p.affected).collect();
        json!({
            "dry_run": true,
            "ok": problems.is_empty(),
            "would_replace": files(false),
            "would_rebuild": files(true),
            "affected": affected,
        })
    }
}

/// Reads every truth file, and the derived ones against them.
///
/// # Errors
/// [`OpenError`] if the store is held by another process or cannot be read at all.
pub fn verify(dir: &Path, deep: bool) -> Result<Report, OpenError> {
    if !dir.exists() {
        return Ok(Report::default());
    }
    let _lock = match Lock::acquire(dir, Duration::ZERO) {
        Err(LockError::ReadOnly { .. }) => Lock::acquire_shared(dir, Duration::ZERO)?,
        lock => lock?,
    };
    let disk = Arc::new(FileDisk::new(dir));
    Ok(Report { verified: store::verify(&disk, deep)? })
}
