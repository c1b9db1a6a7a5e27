//! What a store holds and shows, read through its front door.

use std::collections::BTreeMap;

use kdelta_engine::base::{CommitId, Hash, LogId, Sha256Stream, SpaceId};
use kdelta_engine::log::{Disk, MemoryDisk, Position};
use kdelta_engine::store::{Local, Store};

use super::model::{Shown, show_view};

/// All that must be equal after every recovery of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) spaces: BTreeMap<SpaceId, SpaceContent>,
    /// Where the log ends.
    pub(crate) end: Position,
    pub(crate) local: Local,
}

/// What one space holds and shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpaceContent {
    pub(crate) name: String,
    /// The ids of the commits of each log, from number 1 on; none where one cannot be read.
    pub(crate) logs: BTreeMap<LogId, Vec<Option<CommitId>>>,
    pub(crate) commits: u64,
    /// None while commits are lost to damage.
    pub(crate) state_hash: Option<Hash>,
    pub(crate) value_hash: Option<Hash>,
    /// None if not all can be told.
    pub(crate) shown: Option<Shown>,
}

impl SpaceContent {
    /// Returns how many commits of each log are held.
    pub(crate) fn held(&self) -> BTreeMap<LogId, u64> {
        self.logs.iter().map(|(log, ids)| (*log, ids.len() as u64)).collect()
    }
}

impl Content {
    /// Reads everything.
    pub(crate) fn read<D: Disk + Clone>(store: &mut Store<D>) -> Self {
        let (end, local) = (store.written(), store.local().clone());
        let mut spaces = BTreeMap::new();
        for space in local.spaces.iter().filter(|space| !space.retired) {
            let id = space.id;
            let frontier = store.frontier(&id).unwrap_or_default();
            let logs = frontier.iter().map(|tip| {
                let ids = (1..=tip.seq).map(|seq| store.id_at(&id, &tip.log, seq));
                (tip.log, ids.collect())
            });
            let logs = logs.collect();
            let content = SpaceContent {
                name: space.name.clone(),
                logs,
                commits: store.counts(&id).map_or(0, |counts| counts.0),
                state_hash: store.state_hash(&id).ok().flatten(),
                value_hash: store.value_hash(&id).ok(),
                shown: shown(store, &id),
            };
            spaces.insert(id, content);
        }
        Self { spaces, end, local }
    }
}

fn shown<D: Disk + Clone>(store: &mut Store<D>, space: &SpaceId) -> Option<Shown> {
    let page = store.list(space, "", None, KEYS_MAX, None).ok()?;
    let keys = page.keys.iter().map(|(key, view)| (key.as_str().to_owned(), show_view(view)));
    let keys = keys.collect();
    let tags = store.tags(space, None, KEYS_MAX).ok()?;
    let tags = tags.into_iter().map(|(name, tag)| (name, tag.commit)).collect();
    Some(Shown { keys, tags })
}

/// Returns a digest of all files of a disk that is at rest.
pub(crate) fn fingerprint(disk: &MemoryDisk) -> Hash {
    let mut sum = Sha256Stream::new("kdelta/sim/crashes/disk");
    for file in disk.all_files() {
        let content = disk.content(file).unwrap_or_default();
        sum.update(file.path().as_bytes());
        sum.update(&(content.len() as u64).to_le_bytes());
        // What was only reserved is zeros: most of a small segment.
        let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        sum.update(&(end as u64).to_le_bytes());
        sum.update(content.get(..end).unwrap_or_default());
    }
    sum.finish()
}

/// More keys than any script has.
const KEYS_MAX: usize = 10_000;
