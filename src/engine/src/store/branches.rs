//! Names of branches: where a commit of a forked log goes, and what its dots mean.
//!
//! A log whose author forked it ends before the fork. Each branch of which something counts is kept
//! as a log of its own, under a name that is random in each store, so that no author can choose a
//! log id that is one. Tables, clocks, states, sidecars and version vectors speak of these *inner*
//! names; commits, chunks and frontiers of the log's own id. Here is the way from one to the other.
//! In a space without forks the two are the same, and nothing here costs anything.
//!
//! A dot across a fork names every commit in its author's past under that number (FORMAT 5.6).

use super::tables::{Beginning, Chain, LogTable, SpaceTable};
use super::{ReadError, Store};
use crate::base::{CommitId, Dot, Key, LogId, SpaceId, sha256};
use crate::causal::Tip;
use crate::crdt::{Delta, Supersedes};
use crate::event::Commit;
use crate::event::compact::Loose;
use crate::event::tree::Tree;
use crate::log::{Disk, Position};

/// The deps of a commit, by inner names: log and number.
pub(crate) type Deps = Vec<(LogId, u64)>;

impl<D: Disk + Clone> Store<D> {
    /// Finds a commit that counts, by inner name and seq; none if it does not count here.
    ///
    /// Takes a branch's inner name, too.
    pub(crate) fn locate(
        &self,
        space_ix: usize,
        tip: &Tip,
    ) -> Result<Option<(LogId, u64)>, ReadError> {
        let table = self.table(space_ix)?;
        let branches = table.branches(&tip.log).map(|branch| branch.log);
        let names = std::iter::once(tip.log).chain(branches);
        for name in names {
            let holds = |log: &LogTable| log.first <= tip.seq && tip.seq <= log.seq;
            if table.log(&name).is_some_and(holds)
                && self.commit_id(space_ix, &name, tip.seq)? == tip.id
            {
                return Ok(Some((name, tip.seq)));
            }
        }
        Ok(None)
    }

    /// Tells where a commit goes that does not count yet; none if what it follows does not count.
    ///
    /// Outside of forks the hash of what it follows is not compared.
    pub(crate) fn chain_of(
        &self,
        space_ix: usize,
        commit: &Commit,
    ) -> Result<Option<Chain>, ReadError> {
        let table = self.table(space_ix)?;
        let (log, before) = (commit.log(), commit.seq() - 1);
        if !table.is_suspect(&log, commit.seq()) {
            return Ok((before == table.seq(&log)).then(|| Chain::trunk(log)));
        }
        let ends_there = |branch: &&LogTable| branch.seq == before && branch.id == commit.prev();
        if let Some(branch) = table.branches(&log).find(ends_there) {
            return Ok(Some(Chain { name: branch.log, begins: None }));
        }
        let base = if before == 0 {
            None
        } else {
            let base = self.locate(space_ix, &Tip { log, seq: before, id: commit.prev() })?;
            if base.is_none() {
                return Ok(None);
            }
            base
        };
        let tree = self.tree_to(space_ix, base)?;
        sometimes!("store-branch-begun");
        let name = self.branch_name(table.id, &commit.tip());
        Ok(Some(Chain { name, begins: Some(Beginning { base, tree }) }))
    }

    /// Returns the deps of a commit by inner names; none if one of them does not count here.
    ///
    /// Outside of forks their hashes are not compared.
    pub(crate) fn inner_deps(
        &self,
        space_ix: usize,
        commit: &Commit,
    ) -> Result<Option<Deps>, ReadError> {
        let table = self.table(space_ix)?;
        let mut deps = Vec::with_capacity(commit.deps().len());
        for dep in commit.deps() {
            let found = if table.is_suspect(&dep.log, dep.seq) {
                self.locate(space_ix, dep)?
            } else {
                Some((dep.log, dep.seq)).filter(|_| dep.seq <= table.seq(&dep.log))
            };
            let Some(found) = found else { return Ok(None) };
            deps.push(found);
        }
        Ok(Some(deps))
    }

    /// Puts a commit as it was read from the log at `position` into inner names; none if it does
    /// not count.
    pub(crate) fn inner(
        &self,
        position: Position,
        mut loose: Loose,
    ) -> Result<Option<Loose>, ReadError> {
        let space_ix = self.space_index(&loose.space)?;
        let table = self.table(space_ix)?;
        if table.is_unforked() {
            return Ok(Some(loose));
        }
        if table.is_suspect(&loose.log, loose.seq) {
            let mut name = None;
            for branch in table.branches(&loose.log) {
                let place = self.commit_place(space_ix, &branch.log, loose.seq)?;
                if place.is_some_and(|place| place.at() == position) {
                    name = Some(branch.log);
                }
            }
            let Some(name) = name else { return Ok(None) };
            loose.log = name;
        }
        let author = (loose.log, loose.seq);
        for event in &mut loose.events {
            let Some(inner) = inner_supersedes(table, author, &event.skeleton.supersedes) else {
                continue;
            };
            event.skeleton.supersedes = inner;
        }
        for (log, seq) in &mut loose.deps {
            if let Some(name) = in_past(table, author, (*log, *seq)).into_iter().next() {
                *log = name;
            }
        }
        Ok(Some(loose))
    }

    /// Puts what a caller's ops supersede into the names that all replicas use.
    pub(crate) fn outer(
        &self,
        space_ix: usize,
        events: Vec<(Key, Delta)>,
    ) -> Result<Vec<(Key, Delta)>, ReadError> {
        let table = self.table(space_ix)?;
        if table.is_unforked() {
            return Ok(events);
        }
        let outer = |(key, mut delta): (Key, Delta)| {
            delta.supersedes = outer_supersedes(table, delta.supersedes);
            (key, delta)
        };
        Ok(events.into_iter().map(outer).collect())
    }

    /// Returns the tree of a log or branch up to a commit.
    ///
    /// Costs nothing at its end, else a look-up for each commit: branches of branches are rare.
    pub(super) fn tree_to(
        &self,
        space_ix: usize,
        end: Option<(LogId, u64)>,
    ) -> Result<Tree, ReadError> {
        let Some((name, seq)) = end else { return Ok(Tree::default()) };
        if let Some(log) = self.table(space_ix)?.log(&name).filter(|log| log.seq == seq) {
            return Ok(log.tree.clone());
        }
        let mut tree = Tree::default();
        for n in 1..=seq {
            tree.append(&self.commit_id(space_ix, &name, n)?);
        }
        Ok(tree)
    }

    /// Makes the inner name of the branch that begins with `tip`.
    fn branch_name(&self, space: SpaceId, tip: &Tip) -> LogId {
        let id = if mutant!("branches-share-a-name") { CommitId::ZERO } else { tip.id };
        let hash = sha256("kdelta/branch", &[&self.local.store, &space.0, &id.0]);
        let incarnation = hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        LogId { replica: tip.log.replica, incarnation }
    }
}

/// Puts what an event of a recorded commit supersedes into inner names; none if they are the same.
pub(crate) fn inner_supersedes(
    table: &SpaceTable,
    author: (LogId, u64),
    supersedes: &Supersedes,
) -> Option<Supersedes> {
    match supersedes {
        Supersedes::Dots(dots) => {
            if !dots.iter().any(|dot| table.is_suspect(&dot.log, dot.seq)) {
                return None;
            }
            let mut inner: Vec<Dot> = Vec::with_capacity(dots.len());
            for dot in dots {
                let names = in_past(table, author, (dot.log, dot.seq));
                inner.extend(names.into_iter().map(|log| Dot { log, ..*dot }));
            }
            inner.sort_unstable();
            Some(Supersedes::Dots(inner))
        }
        Supersedes::Cut(cut) => {
            if !cut.iter().any(|(log, seq)| table.is_suspect(log, *seq)) {
                return None;
            }
            let mut inner = Vec::with_capacity(cut.len());
            for (log, seq) in cut {
                let Some(closed) = table.closed(log).filter(|closed| closed.seq <= *seq) else {
                    inner.push((*log, *seq));
                    continue;
                };
                if closed.seq > 1 {
                    inner.push((*log, closed.seq - 1));
                }
                for branch in table.branches(log) {
                    let known = table.clocks.known(&author.0, author.1, &branch.log).unwrap_or(0);
                    let upto = known.min(*seq);
                    if upto >= branch.first {
                        inner.push((branch.log, upto));
                    }
                }
            }
            inner.sort_unstable();
            Some(Supersedes::Cut(inner))
        }
    }
}

/// Returns the inner names of the logs and branches that hold a commit of `log` under `seq` in the
/// past of a recorded commit.
fn in_past(table: &SpaceTable, author: (LogId, u64), (log, seq): (LogId, u64)) -> Vec<LogId> {
    if !table.is_suspect(&log, seq) {
        return vec![log];
    }
    let past = |name: &LogId| table.clocks.is_past((name, seq), (&author.0, author.1));
    let branches = table.branches(&log).filter(|branch| branch.first <= seq);
    branches.map(|branch| branch.log).filter(|name| past(name) == Some(true)).collect()
}

fn outer_supersedes(table: &SpaceTable, supersedes: Supersedes) -> Supersedes {
    match supersedes {
        Supersedes::Dots(dots) => {
            let outer = dots.into_iter().map(|dot| Dot { log: table.origin(&dot.log), ..dot });
            let mut outer: Vec<Dot> = outer.collect();
            outer.sort_unstable();
            outer.dedup();
            Supersedes::Dots(outer)
        }
        Supersedes::Cut(cut) => {
            let mut outer = std::collections::BTreeMap::new();
            for (log, seq) in cut {
                let upto: &mut u64 = outer.entry(table.origin(&log)).or_default();
                *upto = seq.max(*upto);
            }
            Supersedes::Cut(outer.into_iter().collect())
        }
    }
}
