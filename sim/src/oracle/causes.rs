//! Which commits lie in the past of which, and which count: FORMAT sections 3.2, 4.2 and 5.6.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kdelta_engine::base::{CommitId, LogId, SpaceId};

use super::commit::{Commit, Tip};
use super::image::History;

/// A set of commits, by their number in the graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(Vec<u64>);

impl Set {
    /// Tells whether a commit is in the set.
    pub fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub(super) fn add(&mut self, at: usize) {
        if self.0.len() <= at / 64 {
            self.0.resize(at / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    fn join(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }
}

/// A commit that no replica may accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The commit.
    pub commit: CommitId,
    /// Which rule it breaks.
    pub wrong: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {}: {}", self.commit, self.wrong)
    }
}

/// The commits of one space whose whole past is known, in the order of their stamps.
#[derive(Debug, Clone)]
pub struct Causes {
    /// The space.
    pub space: SpaceId,
    pub(super) commits: Vec<Arc<Commit>>,
    /// Of each commit the past, itself included.
    pub(super) pasts: Vec<Set>,
    pub(super) by_id: BTreeMap<CommitId, usize>,
    /// The closed logs, and the least proven seq of each.
    pub(super) closed: BTreeMap<LogId, u64>,
    /// What counts.
    pub(super) counted: Set,
}

impl Causes {
    /// Joins what several images hold of a space, and decides what counts.
    ///
    /// Commits whose past is nowhere are left out. Costs n²/64 words for n commits.
    ///
    /// # Errors
    /// [`Invalid`] if a commit names what is not in its past.
    pub fn new<'a>(
        space: SpaceId,
        histories: impl IntoIterator<Item = &'a History>,
    ) -> Result<Self, Invalid> {
        let mut all: BTreeMap<CommitId, Arc<Commit>> = BTreeMap::new();
        let mut closed: BTreeMap<LogId, u64> = BTreeMap::new();
        for history in histories {
            for commit in &history.commits {
                all.entry(commit.id).or_insert_with(|| Arc::clone(commit));
            }
            for fork in &history.forks {
                let seq = closed.entry(fork.log).or_insert(fork.seq);
                *seq = fork.seq.min(*seq);
            }
        }
        // A stamp is above those of its past, so their order is causal; ties are broken by id.
        let mut commits: Vec<Arc<Commit>> = all.into_values().collect();
        commits.sort_by_key(|commit| commit.hlc);
        let (by_id, counted) = (BTreeMap::new(), Set::default());
        let mut causes =
            Self { space, commits: Vec::new(), pasts: Vec::new(), by_id, closed, counted };
        commits.into_iter().for_each(|commit| causes.take(commit));
        causes.check_references()?;
        causes.count();
        Ok(causes)
    }

    fn take(&mut self, commit: Arc<Commit>) {
        let mut past = Set::default();
        let prev = (commit.seq > 1).then_some(commit.prev);
        for id in commit.deps.iter().map(|dep| dep.id).chain(prev) {
            let Some(before) = self.by_id.get(&id).and_then(|at| self.pasts.get(*at)) else {
                return;
            };
            past.join(before);
        }
        let at = self.commits.len();
        past.add(at);
        self.by_id.insert(commit.id, at);
        self.commits.push(commit);
        self.pasts.push(past);
    }

    /// The ancestry test: what an event names lies in the past of its commit.
    fn check_references(&self) -> Result<(), Invalid> {
        let mut places: BTreeMap<(LogId, u64), Vec<usize>> = BTreeMap::new();
        for (at, commit) in self.commits.iter().enumerate() {
            places.entry((commit.log, commit.seq)).or_default().push(at);
        }
        for (commit, past) in self.commits.iter().zip(&self.pasts) {
            let there = |place: (LogId, u64)| {
                places.get(&place).is_some_and(|at| at.iter().any(|at| past.has(*at)))
            };
            if !commit.named().into_iter().all(there) {
                let wrong = "an event supersedes what is not in its past";
                return Err(Invalid { commit: commit.id, wrong });
            }
        }
        Ok(())
    }

    /// The least set that has all that is not suspect, and what commits of other logs build upon.
    fn count(&mut self) {
        let suspect =
            |commit: &Commit| self.closed.get(&commit.log).is_some_and(|seq| *seq <= commit.seq);
        let mut set = Set::default();
        for (at, _) in self.commits.iter().enumerate().filter(|(_, commit)| !suspect(commit)) {
            set.add(at);
        }
        loop {
            let mut next = set.clone();
            for (at, commit) in self.commits.iter().enumerate().filter(|(at, _)| !set.has(*at)) {
                let builds = |(of, other): (usize, &Arc<Commit>)| {
                    set.has(of)
                        && other.log != commit.log
                        && self.pasts.get(of).is_some_and(|past| past.has(at))
                };
                if self.commits.iter().enumerate().any(builds) {
                    next.add(at);
                }
            }
            if next == set {
                break;
            }
            set = next;
        }
        self.counted = set;
    }

    /// The commits of a set, in causal order.
    pub(super) fn of<'a>(&'a self, set: &'a Set) -> impl Iterator<Item = (usize, &'a Arc<Commit>)> {
        self.commits.iter().enumerate().filter(|(at, _)| set.has(*at))
    }

    /// The commits that count, in causal order.
    pub fn counted(&self) -> impl Iterator<Item = &Arc<Commit>> {
        self.of(&self.counted).map(|(_, commit)| commit)
    }

    /// The past of a commit that counts, itself included.
    pub fn past(&self, id: &CommitId) -> Option<&Set> {
        let at = self.by_id.get(id).filter(|at| self.counted.has(**at))?;
        self.pasts.get(*at)
    }

    pub(super) fn is_past(&self, earlier: usize, later: usize) -> bool {
        self.pasts.get(later).is_some_and(|past| past.has(earlier))
    }

    /// The last commit of each log; of a closed one, the last before the fork.
    pub fn frontier(&self) -> Vec<Tip> {
        let mut tips: BTreeMap<LogId, Tip> = BTreeMap::new();
        for commit in self.counted() {
            let before = self.closed.get(&commit.log).is_none_or(|seq| commit.seq < *seq);
            if before {
                let tip = tips.entry(commit.log).or_insert_with(|| commit.tip());
                *tip = if tip.seq < commit.seq { commit.tip() } else { *tip };
            }
        }
        tips.into_values().collect()
    }

    /// The closed logs: the seq of the fork, and what counts from there on and has no follower.
    pub fn closed(&self) -> BTreeMap<LogId, (u64, Vec<Tip>)> {
        let followed: BTreeSet<CommitId> = self.counted().map(|commit| commit.prev).collect();
        let of = |(log, seq): (&LogId, &u64)| {
            let beyond = self.counted().filter(|c| c.log == *log && c.seq >= *seq);
            let last = beyond.filter(|commit| !followed.contains(&commit.id));
            let mut tips: Vec<Tip> = last.map(|commit| commit.tip()).collect();
            tips.sort_by_key(|tip| (tip.seq, tip.id));
            (*log, (*seq, tips))
        };
        self.closed.iter().map(of).collect()
    }
}
