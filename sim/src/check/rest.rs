//! When all is at rest: that it comes to that, what holds then, and that silence follows.

use kdelta_engine::base::Hash;
use kdelta_engine::limits::DRIFT_MS_MAX;
use kdelta_engine::log::{Disk, FileId, FileKind, Position};

use super::{Broken, facts};
use crate::disk::SimDisk;
use crate::draw::Stream;
use crate::oracle::generation;
use crate::scenario::WorkOp;
use crate::world::World;

/// What each replica held when that was looked at last.
#[derive(Debug, Default)]
pub(super) struct Rest {
    marks: Vec<(usize, u32, Position)>,
    states: Vec<Option<Hash>>,
}

impl World {
    /// Tells whether all hold the same, and nobody waits for anything. What each holds is hashed
    /// again only if something was written since.
    pub(super) fn is_at_rest(&mut self, rest: &mut Rest) -> bool {
        if !self.is_quiet() || !self.all_are_in() || self.somebody_asks_for_vouchers() {
            return false;
        }
        if self.awaited_ms().is_some_and(|awaited_ms| self.wall_ms() < awaited_ms) {
            return false;
        }
        let space = self.space;
        let mut marks = Vec::new();
        for at in self.members() {
            let life = self.seats.get(at).map_or(0, |seat| seat.life);
            marks.extend(self.store(at).map(|store| (at, life, store.written())));
        }
        if marks != rest.marks || rest.states.contains(&None) {
            let awake = self.members().into_iter();
            let state = |at| self.store(at)?.state_hash(&space).ok()?;
            rest.states = awake.map(state).collect();
            rest.marks = marks;
        }
        rest.states.windows(2).all(|pair| pair.first() == pair.last())
    }

    /// Tells whether damage took what vouches for a log that somebody holds: each session asks for
    /// it, so that it is there soon.
    fn somebody_asks_for_vouchers(&mut self) -> bool {
        let (space, members) = (self.space, self.members());
        let lacks = |at: usize| {
            let ends = self.store(at).and_then(|store| store.unvouched(&space).ok());
            ends.is_some_and(|ends| !ends.is_empty())
        };
        members.into_iter().any(lacks) && self.some_bytes_went_bad()
    }

    /// Checks that those who hold the same show the same.
    pub(super) fn check_values(&mut self) -> Result<(), Broken> {
        let space = self.space;
        let mut first = None;
        for at in self.members() {
            let Some(store) = self.store(at) else { continue };
            let shown = facts::show(store, &space);
            let (other, same) = *first.get_or_insert((at, shown));
            if same != shown {
                let key = self.differing(other, at).unwrap_or_default();
                let seen = format!("seats {other} and {at} hold the same, and show: {key}");
                return Err(Broken::new("equal states show equal values", seen));
            }
        }
        Ok(())
    }

    /// Names the first key that two seats show differently.
    fn differing(&mut self, one: usize, other: usize) -> Option<String> {
        let space = self.space;
        let mut keys = |at: usize| {
            let page = self.store(at)?.list(&space, "", None, usize::MAX, None).ok()?;
            Some(page.keys)
        };
        let (one, other) = (keys(one)?, keys(other)?);
        let pairs = one.iter().zip(&other);
        let differs = pairs.into_iter().find(|(one, other)| one != other);
        Some(match differs {
            Some((one, other)) => format!("{one:?} and {other:?}"),
            None => format!("{} and {} keys", one.len(), other.len()),
        })
    }

    /// Checks that no commits are sent or asked for once all are equal, and little but openings of
    /// sessions, which compare digests, and few of those.
    pub(super) fn check_silence(&mut self) -> Result<(), Broken> {
        // What was on its way has arrived by then.
        self.run_for(PERIOD_MS)?;
        self.listen();
        self.run_for(2 * PERIOD_MS)?;
        let heard = self.heard();
        let links = heard.links.max(1);
        let many = heard.others.max(heard.openings) > links * MESSAGES_A_LINK;
        if heard.commits > 0 || many {
            let seen = format!("{heard:?}");
            return Err(Broken::new("silence follows", seen));
        }
        Ok(())
    }

    /// Checks that something new reaches everybody soon, and does not wait until digests are
    /// compared.
    pub(super) fn check_news(&mut self) -> Result<(), Broken> {
        let awake = self.members();
        let drawn = self.draws.of(Stream::Swarm, 3).index(awake.len());
        // Who owns the space may always write.
        let from = awake.get(if self.options.owned { 0 } else { drawn }).copied();
        let Some(from) = from.filter(|_| !self.hosts_programs()) else { return Ok(()) };
        let space = self.space;
        let store = self.store(from).filter(|store| store.is_founded(&space).unwrap_or_default());
        // Where the genesis went with all disks there is nothing left that could be written to.
        let Some(before) = store.map(|store| store.written()) else { return Ok(()) };
        self.write(from, &[WorkOp::Retype('r', 0, 0)]);
        // It is stamped after all that it builds upon, and waits elsewhere where all clocks were
        // ahead when that was taken, and are right now.
        let due_ms = self.latest_ms().saturating_sub(DRIFT_MS_MAX);
        let wait_ms = due_ms.saturating_sub(self.wall_ms());
        self.run_for(wait_ms + NEWS_MS)?;
        let mut rest = Rest::default();
        let fresh = self.store(from).is_some_and(|store| store.written() > before);
        if fresh && self.is_at_rest(&mut rest) {
            return Ok(());
        }
        let seen = format!("of seat {from}, {}", self.why_not(wait_ms + NEWS_MS));
        Err(Broken::new("news reach everybody soon", seen))
    }

    /// Checks that what was bad on disks and was read is good again or was told of.
    pub(super) fn check_disks(&mut self) -> Result<(), Broken> {
        for (at, seat) in self.seats.iter().enumerate() {
            let kinds = [FileKind::Manifest, FileKind::Local, FileKind::Mark];
            let whole = kinds.map(|kind| (kind, all_are_whole(&seat.disk, kind) == Some(true)));
            let masked = |file: FileId| whole.contains(&(file.kind, true));
            let open = seat.disk.ledger(|ledger| {
                let open = ledger.unsettled().filter(|hit| !masked(hit.file));
                let open = open.map(|hit| {
                    let fault = ledger.entries().get(hit.fault.0);
                    format!(
                        "{} {:?} by {:?}",
                        hit.file,
                        hit.range,
                        fault.map(|f| f.fault.to_string())
                    )
                });
                open.collect::<Vec<String>>()
            });
            if let Some(open) = open.first() {
                let seen = format!("seat {at}: {open}");
                return Err(Broken::new("what was bad and read is told of or mended", seen));
            }
        }
        Ok(())
    }
}

/// Tells whether the files of a kind are whole as readers see them, and of lists of segments
/// whether the two follow each other. If one went back to what it once was, nobody can tell: of
/// those that are written in turn the other one says the same or more, and headers what came since;
/// a clean mark that has been outlived is no news, and promises less.
fn all_are_whole(disk: &SimDisk, kind: FileKind) -> Option<bool> {
    let mut generations = Vec::new();
    for file in disk.files(kind).ok()? {
        let mut bytes = vec![0; usize::try_from(disk.len(file).ok()?).ok()?];
        disk.read(file, 0, &mut bytes).ok()?;
        generations.push(generation(kind, &bytes)?);
    }
    generations.sort_unstable();
    Some(match generations[..] {
        [_] if kind == FileKind::Mark => true,
        [only] => only == 1,
        [older, newer] => kind == FileKind::Local || older + 1 == newer,
        _ => false,
    })
}

/// How soon news reach everybody, in milliseconds: as many hops as there are seats.
const NEWS_MS: u64 = 10_000;
/// How often digests are compared, in milliseconds.
const PERIOD_MS: u64 = 60_000;
/// Most openings of sessions on a link in the time that is listened, and most other messages.
const MESSAGES_A_LINK: u64 = 12;
