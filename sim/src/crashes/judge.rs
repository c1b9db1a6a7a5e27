//! What must hold of one disk that a power cut left, and of what comes after it.
//!
//! [`Judge::facts`] looks at the disk alone: it opens without a hand, is not damaged, opens to the
//! same a second time and after further cuts in the middle of each recovery, and takes writes
//! again. These depend on the bytes only, so equal disks are judged once. [`check`] then compares
//! what was found with what the script knows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use kdelta_engine::base::{CommitId, Hash, Hlc, Key, Rng, sha256};
use kdelta_engine::crdt::Op;
use kdelta_engine::log::{CrashMode, Disk, Faults, FileKind, MemoryDisk};
use kdelta_engine::node::Node;
use kdelta_engine::store::{KeyOp, Opened, Write, verify};

use super::content::{Content, fingerprint};
use super::model::{Model, Place};
use super::probe::Probe;
use super::scenarios::Kind;
use super::stage::{SUBJECT_KEY, clocks, open};

/// What was found out about one disk.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// What the store holds; none if it does not open.
    pub(crate) content: Option<Rc<Content>>,
    /// The first commit that was written after the recovery, with its stamp.
    pub(crate) next: Option<(Place, CommitId, Hlc)>,
    /// What did not hold, whatever was written before.
    pub(crate) broken: Option<String>,
    /// How deep recoveries of it were cut short.
    depth: u32,
}

/// Judges disks and remembers those that it saw.
pub(crate) struct Judge {
    pub(crate) kind: Kind,
    pub(crate) segment_bytes: u32,
    /// How deep crashes in recoveries are nested.
    pub(crate) depth: u32,
    /// How often a store was opened.
    pub(crate) recoveries: u64,
    /// How often a recovery was cut short.
    pub(crate) nested: u64,
    known: BTreeMap<Hash, Rc<Facts>>,
}

impl Judge {
    pub(crate) fn new(kind: Kind, segment_bytes: u32, depth: u32) -> Self {
        let known = BTreeMap::new();
        Self { kind, segment_bytes, depth, recoveries: 0, nested: 0, known }
    }

    /// Finds out about a disk at rest, after the first crash (`level` 0) or a further one.
    pub(crate) fn facts(&mut self, disk: &MemoryDisk, level: u32) -> Rc<Facts> {
        let depth = self.depth.saturating_sub(level);
        let print = fingerprint(disk);
        if let Some(known) = self.known.get(&print).filter(|known| known.depth >= depth) {
            return Rc::clone(known);
        }
        let mut facts = Facts { content: None, next: None, broken: None, depth };
        facts.broken = self.find_out(disk, &print, level, &mut facts).err();
        let facts = Rc::new(facts);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(print, Rc::clone(&facts));
        facts
    }

    /// Fills in what is found; what does not hold is the error.
    fn find_out(
        &mut self,
        disk: &MemoryDisk,
        print: &Hash,
        level: u32,
        facts: &mut Facts,
    ) -> Result<(), String> {
        let sound = self.kind != Kind::Rotten;
        // The first look: what every change of the recovery finds is kept.
        let cuts = Rc::new(RefCell::new(Vec::new()));
        let keep = (level < self.depth).then(|| Rc::clone(&cuts));
        let probe = Probe::new(
            disk.snapshot(),
            0,
            Box::new(move |disk, _| {
                if let Some(keep) = &keep {
                    keep.borrow_mut().push(disk.snapshot());
                }
            }),
        );
        let (mut node, opened) = self.open(probe.clone())?;
        probe.watch(None);
        let recovery = &opened.recovery;
        ensure(!sound || recovery.damage.is_empty(), "a crash is no damage", &recovery.damage)?;
        ensure(
            recovery.refused.is_none() || self.kind == Kind::Full,
            "the recovery is done",
            recovery,
        )?;
        let content = Rc::new(Content::read(node.store()));
        facts.content = Some(Rc::clone(&content));
        let spooled = Disk::files(&probe, FileKind::Spool).unwrap_or_default();
        ensure(spooled.is_empty(), "nothing stays spooled", &spooled)?;
        drop(node);
        // What was recovered is durable, and found again.
        let again = probe.disk().snapshot();
        again.crash(CrashMode::LoseAll, &mut Rng::new(*print));
        let again = Arc::new(again);
        let (mut node, _) = self.open(Arc::clone(&again))?;
        let second = Content::read(node.store());
        ensure(
            second == *content,
            "a second opening finds the same",
            Difference(&second, &content),
        )?;
        if sound {
            facts.next = self.go_on(node, &again, &content, print)?;
        }
        let cuts = std::mem::take(&mut *cuts.borrow_mut());
        self.cut_short(&cuts, print, level, &content)
    }

    /// Cuts the power at changes of a recovery; what is found after that must be the same.
    fn cut_short(
        &mut self,
        cuts: &[MemoryDisk],
        print: &Hash,
        level: u32,
        content: &Content,
    ) -> Result<(), String> {
        let mut rng = Rng::new(sha256("kdelta/sim/crashes/nested", &[print]));
        // What lies before the first change is the disk itself.
        let mut places: Vec<_> = (0..).zip(cuts).skip(1).collect();
        let most = if level == 0 { CUTS_MAX } else { 1 };
        while places.len() > most {
            let chosen = rng.below(places.len() as u64);
            places.remove(usize::try_from(chosen).unwrap_or(0));
        }
        for (at, cut) in places {
            let drawn = usize::try_from(rng.below(CrashMode::ALL.len() as u64)).unwrap_or(0);
            let drawn = CrashMode::ALL.get(drawn).copied();
            let lost = (level == 0).then_some(CrashMode::LoseAll);
            for mode in lost.into_iter().chain(drawn) {
                let disk = cut.snapshot();
                disk.crash(mode, &mut Rng::new(rng.bytes()));
                self.nested += 1;
                let found = self.facts(&disk, level + 1);
                let place = format!("change {at} of a recovery, {mode:?}");
                if let Some(broken) = &found.broken {
                    return Err(format!("{place}: {broken}"));
                }
                if let Some(found) = &found.content {
                    let law = format!("{place}: ends in the same");
                    ensure(**found == *content, &law, Difference(found, content))?;
                }
            }
        }
        Ok(())
    }

    /// Writes once more, and looks whether that survives.
    fn go_on(
        &mut self,
        mut node: Node<Arc<MemoryDisk>>,
        disk: &Arc<MemoryDisk>,
        content: &Content,
        print: &Hash,
    ) -> Result<Option<(Place, CommitId, Hlc)>, String> {
        disk.faults(|faults| faults.space = None);
        if content.spaces.is_empty() {
            return Ok(None);
        }
        let store = node.store();
        let mut spaces = content.spaces.keys().copied();
        let space = match spaces.find(|space| store.is_founded(space).unwrap_or_default()) {
            Some(space) => space,
            // It was joined, and nothing of it has come yet.
            None => store
                .create_space(clocks(LATER_MS + 1), AFTER)
                .map_err(|error| format!("it takes spaces again: {error}"))?,
        };
        let key = Key::new(AFTER).map_err(|error| error.to_string())?;
        let op = Op::CounterAdd(1);
        let ops = vec![KeyOp { key: key.clone(), op, retype: false, expect: None }];
        let written = store
            .write(clocks(LATER_MS + 1), Write { space, ops, ..Write::default() })
            .map_err(|error| format!("it takes writes again: {error}"))?;
        store.sync().map_err(|error| format!("it takes writes again: {error}"))?;
        drop(node);
        disk.crash(CrashMode::LoseAll, &mut Rng::new(*print));
        let (mut node, _) = self.open(Arc::clone(disk))?;
        let store = node.store();
        let tip = written.tip;
        let found = store.id_at(&space, &tip.log, tip.seq);
        ensure(found == Some(tip.id), "what is written after a recovery is kept", (tip, found))?;
        let held = content.spaces.get(&space).map_or(0, |content| content.commits);
        let commits = store.counts(&space).map_or(0, |counts| counts.0);
        // An incarnation that ended may cost one commit more.
        ensure(commits > held, "nothing is lost by writing on", (held, commits))?;
        // Reading everything is dear; a few of the disks are enough.
        if print.first().is_some_and(|byte| byte % VERIFY_EVERY == 0) {
            store.close().map_err(|error| format!("it can be closed: {error}"))?;
            drop(node);
            let found = verify(disk, true).map_err(|error| error.to_string())?;
            ensure(found.problems.is_empty(), "all is whole afterwards", &found.problems)?;
        }
        Ok(Some(((space, tip.log, tip.seq), tip.id, written.hlc)))
    }

    /// Opens the store on a disk.
    fn open<D: Disk + Clone>(&mut self, disk: D) -> Result<(Node<D>, Opened), String> {
        self.recoveries += 1;
        open(disk, SUBJECT_KEY, LATER_MS, clocks(LATER_MS), self.segment_bytes)
            .map_err(|halt| format!("it opens without a hand: {}", halt.0))
    }
}

/// Leaves of the switches only what outlasts a power cut: how large the disk is.
pub(crate) fn calm(disk: &MemoryDisk) {
    disk.faults(|faults| *faults = Faults { space: faults.space, ..Faults::default() });
}

/// Compares what a recovery found with what the script knows.
pub(crate) fn check(kind: Kind, facts: &Facts, model: &Model) -> Result<(), String> {
    if let Some(broken) = &facts.broken {
        return Err(broken.clone());
    }
    let Some(content) = &facts.content else { return Ok(()) };
    for (id, name) in &model.spaces {
        let found = content.local.spaces.iter().find(|space| space.id == *id);
        ensure(found.is_some_and(|f| f.name == *name), "a durable space is there", (name, found))?;
    }
    if !model.local.is_empty() {
        let found = (content.local.peers.clone(), content.local.tickets.clone());
        ensure(model.local.contains(&found), "who is admitted is known", &found)?;
    }
    if kind == Kind::Forked {
        return Ok(());
    }
    check_commits(kind, content, model)?;
    if kind != Kind::Rotten {
        check_values(content, model)?;
    }
    let Some((place, id, hlc)) = &facts.next else { return Ok(()) };
    let seen = model.seen.get(place).filter(|_| kind != Kind::SetBack);
    ensure(seen.is_none_or(|seen| seen == id), "no number is given twice", (place, seen))?;
    let later = model.entries.iter().filter(|((space, log, seq), _)| {
        let held = content.spaces.get(space).and_then(|space| space.logs.get(log));
        *space == place.0 && held.is_some_and(|ids| ids.len() as u64 >= *seq)
    });
    let latest = later.map(|(_, entry)| entry.hlc).max();
    ensure(latest.is_none_or(|latest| latest < *hlc), "stamps go on", (latest, hlc))
}

/// Nothing durable is missing, nothing is there that was not written, and what the replica wrote
/// itself is a front part of it.
fn check_commits(kind: Kind, content: &Content, model: &Model) -> Result<(), String> {
    let found = |place: &Place| {
        let space = content.spaces.get(&place.0)?;
        let at = usize::try_from(place.2.checked_sub(1)?).ok()?;
        space.logs.get(&place.1)?.get(at).copied().flatten()
    };
    for (space, held) in &content.spaces {
        for (log, ids) in &held.logs {
            for (seq, id) in (1..).zip(ids) {
                let Some(id) = id else {
                    ensure(kind == Kind::Rotten, "every commit has an id", (log, seq))?;
                    continue;
                };
                let entry = model.entries.get(&(*space, *log, seq));
                let known = entry.is_some_and(|entry| entry.id == *id);
                ensure(known, "nothing is there that was not written", (log, seq, id))?;
                let past = entry.map(|entry| &entry.past).into_iter().flatten();
                for (of, last) in past {
                    let there = held.logs.get(of).map_or(0, Vec::len) as u64;
                    ensure(there >= *last, "what a commit builds upon is there", (log, seq, of))?;
                }
            }
        }
    }
    if kind == Kind::Rotten {
        return Ok(());
    }
    for (place, entry) in model.entries.iter().filter(|(_, entry)| entry.acked) {
        ensure(found(place) == Some(entry.id), "what is durable is there", place)?;
    }
    for (place, id) in model.seen.iter().filter(|_| kind != Kind::SetBack) {
        ensure(found(place) == Some(*id), "what a peer saw is there", place)?;
    }
    let front = model.own.iter().take_while(|place| found(place).is_some()).count();
    let beyond = model.own.iter().skip(front).find(|place| found(place).is_some());
    ensure(beyond.is_none(), "own commits are a front part", (front, beyond))
}

/// Keys and tags show what the model makes of the commits that are there.
fn check_values(content: &Content, model: &Model) -> Result<(), String> {
    for (space, held) in &content.spaces {
        let expected = model.fold(*space, &held.held());
        let Some(shown) = &held.shown else { return Err("all keys can be read".to_owned()) };
        ensure(*shown == expected, "values are the plain fold", (shown, &expected))?;
    }
    Ok(())
}

/// Turns what does not hold into words.
pub(crate) fn ensure(holds: bool, law: &str, seen: impl fmt::Debug) -> Result<(), String> {
    if holds {
        return Ok(());
    }
    let mut seen = format!("{seen:?}");
    if seen.len() > SEEN_MAX {
        let end = (0..=SEEN_MAX).rev().find(|at| seen.is_char_boundary(*at)).unwrap_or(0);
        seen.truncate(end);
    }
    Err(format!("{law}, but: {seen}"))
}

/// Two contents, of which only what differs is told.
struct Difference<'a>(&'a Content, &'a Content);

impl fmt::Debug for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(a, b) = self;
        if a.end != b.end {
            write!(f, "the log ends at {:?}, not {:?}; ", a.end, b.end)?;
        }
        if a.local != b.local {
            write!(f, "local {:?}, not {:?}; ", a.local, b.local)?;
        }
        for (space, a) in &a.spaces {
            let b = b.spaces.get(space);
            if b != Some(a) {
                write!(f, "space {a:?}, not {b:?}; ")?;
            }
        }
        Ok(())
    }
}

/// The key that is written after a recovery.
pub(crate) const AFTER: &str = "after the crash";
/// When recoveries happen, in milliseconds: after everything that scripts do.
pub(crate) const LATER_MS: u64 = 3_600_000;
/// Of so many disks one is read whole after all.
const VERIFY_EVERY: u8 = 8;
/// So many changes of one recovery are cut short, drawn from all of them.
const CUTS_MAX: usize = 4;
/// Facts that are remembered at once.
const KNOWN_MAX: usize = 2048;
/// Bytes of what was seen that are told.
const SEEN_MAX: usize = 1500;
