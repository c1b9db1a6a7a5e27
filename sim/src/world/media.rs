//! Bad media: which bytes may go bad, what comes of it, and how a damaged replica is made whole.
//!
//! A fault is drawn for a disk as it is, and spares the last good copy: one bad place at a time on
//! a disk, and what it may concern is held durably by a seat whose disk is good. Damage is mended
//! after the trouble, as an operator would: verify, repair from the peers, verify again. It is not
//! known here what a store must answer while it is damaged; that it is never wrong is checked
//! elsewhere.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use kdelta_engine::base::SpaceId;
use kdelta_engine::causal::Tip;
use kdelta_engine::log::{Disk, FileId, FileKind, Position};
use kdelta_engine::node::{JobId, Report};
use kdelta_engine::store::{Problem, verify};

use super::{Event, NS_PER_MS, World};
use crate::check::Broken;
use crate::disk::{End, Fault, Ledger, Row, SimDisk, Times};
use crate::draw::Stream;
use crate::oracle::{Outline, durable_by, lists_the_end, outline};
use crate::trace::What;

/// How far a seat is with being made whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Repair {
    /// Nothing is known to be wrong.
    #[default]
    Whole,
    /// It is to be verified.
    Due,
    /// Its peers are asked for what is lost.
    Asked {
        /// The requests that are not answered.
        jobs: BTreeSet<JobId>,
        /// Whether one that was had everything.
        in_sync: bool,
        /// Whether one did not end in sync, or somebody was stopped: who was not reached may have
        /// what is lost.
        short: bool,
    },
}

impl World {
    /// Draws a fault for a disk as it is; none if nothing may be hit.
    pub(super) fn draw_fault(&mut self, at: usize, row: Row, number: u64) -> Option<Fault> {
        let mut rng = self.draws.of(Stream::Fault, 1 << 63 | number).rng();
        let disk = Arc::clone(&self.seats.get(at)?.disk);
        let medium = matches!(row, Row::D8 | Row::D9 | Row::D10 | Row::D11 | Row::D12);
        if medium && self.is_spared(&disk) {
            return None;
        }
        let mut spare = |file: FileId, range| {
            // A growing segment that reads as it was is taken for one that ends there.
            let grows = row == Row::D11 && file.kind == FileKind::Segment;
            !grows && self.may_go_bad(at, file, range)
        };
        Fault::draw(&disk, &mut rng, &[row], &mut spare)
    }

    /// Draws a place of a segment that cannot be read until a store was opened. No byte is lost by
    /// that, so that any may be hit; but what could not be read when a store was opened counts as
    /// damaged there until it is repaired, so that good disks of others must have it all.
    pub(super) fn draw_glitch(&self, at: usize, number: u64) -> Option<Fault> {
        let mut source = self.draws.of(Stream::Fault, 1 << 62 | number);
        let disk = &self.seats.get(at)?.disk;
        let segments = disk.memory().files(FileKind::Segment).ok()?;
        if self.is_spared(disk) || segments.is_empty() {
            return None;
        }
        // The newest as often as all others, for it is read most when a store is opened.
        let newest = source.below(2) == 0;
        let file =
            if newest { segments.last() } else { segments.get(source.index(segments.len())) };
        let content = disk.memory().content(*file?)?;
        let used = content.iter().rposition(|byte| *byte != 0)? as u64 + 1;
        let place = outline(&content)?.place;
        if !self.is_held_elsewhere(at, place) {
            return None;
        }
        let front = if source.below(2) == 0 { used.saturating_sub(8_000) } else { 0 };
        let start = source.between(front, used - 1);
        let range = start..(start + source.skewed(4096)).min(used);
        Some(Fault::Unreadable { file: *file?, range, times: Times::Always })
    }

    /// Draws rot in the newest segment; none if nothing there may be hit.
    pub(super) fn draw_rot_in_the_newest(&mut self, at: usize, number: u64) -> Option<Fault> {
        let mut rng = self.draws.of(Stream::Fault, 3 << 61 | number).rng();
        let disk = Arc::clone(&self.seats.get(at)?.disk);
        let newest = disk.memory().files(FileKind::Segment).ok()?.into_iter().max()?;
        if self.is_spared(&disk) {
            return None;
        }
        let mut spare = |file: FileId, range| file == newest && self.may_go_bad(at, file, range);
        (0..TRIES_A_DRAW).find_map(|_| Fault::draw(&disk, &mut rng, &[Row::D9], &mut spare))
    }

    /// Draws a segment that loses its tail or is gone while its replica is stopped, be it the
    /// newest; tells whether the newest list of segments is gone with it. None if none may be hit.
    pub(super) fn draw_loss(&self, at: usize, number: u64) -> Option<(Fault, bool)> {
        let mut source = self.draws.of(Stream::Fault, 5 << 60 | number);
        let seat = self.seats.get(at)?;
        let memory = seat.disk.memory();
        let segments = memory.files(FileKind::Segment).ok()?;
        let newest = *segments.last()?;
        let any = *segments.get(source.index(segments.len()))?;
        let file = if source.below(3) == 0 { newest } else { any };
        if seat.disk.bad().iter().any(|(bad, _)| *bad == file) {
            return None;
        }
        let content = memory.content(file)?;
        let Outline { place, sealed, .. } = outline(&content)?;
        // A replica whose disk refuses does not end in order, and its newest segment unmarked: be
        // that sealed, nothing tells of its end but what is lost.
        let closed = sealed && is_closed(&seat.disk, file);
        let ends_well = closed || !seat.disk_faults;
        if self.is_spared(&seat.disk) || !ends_well || !self.is_held_elsewhere(at, place) {
            return None;
        }
        let used = content.iter().rposition(|byte| *byte != 0)? as u64;
        if source.below(2) == 0 {
            return Some((Fault::Cut { file, len: source.below(used) }, false));
        }
        Some((Fault::Gone { file }, file == newest && source.below(2) == 0))
    }

    /// Tells whether a disk has enough bad places already.
    fn is_spared(&self, disk: &SimDisk) -> bool {
        !self.options.annihilation && is_sick(disk)
    }

    /// Tells whether these bytes may go bad: no last copy is lost by it.
    fn may_go_bad(&self, at: usize, file: FileId, range: Range<u64>) -> bool {
        let Some(seat) = self.seats.get(at) else { return false };
        let is_bad = |file: FileId| seat.disk.bad().iter().any(|(bad, _)| *bad == file);
        if is_bad(file) {
            return false;
        }
        if file.kind == FileKind::Local {
            // The other generation is whole, and knows the space.
            let other = FileId::new(FileKind::Local, 1 - file.number.min(1));
            return !is_bad(other) && seat.disk.memory().size(other).is_some() && seat.life > 1;
        }
        // What is written later and lost then is another matter.
        if file.kind != FileKind::Segment || range.end == u64::MAX {
            return true;
        }
        let content = seat.disk.memory().content(file).unwrap_or_default();
        let Some(Outline { place, sealed, mark, names }) = outline(&content) else { return false };
        // In the segment that grows, the end is not told from a torn one before it is marked, and
        // what names logs is needed by what is written later. A seal that no list of segments
        // knows of goes with a torn end.
        let grows = !sealed || !is_closed(&seat.disk, file);
        let named = names.iter().any(|name| name.start < range.end && range.start < name.end);
        if grows && (range.end > mark || named) {
            return false;
        }
        self.is_held_elsewhere(at, place)
    }

    /// Tells whether good disks of others hold all commits that a segment has, durably, or nobody
    /// asks for that.
    fn is_held_elsewhere(&self, at: usize, place: u64) -> bool {
        if self.options.annihilation {
            return true;
        }
        let Some(node) = self.seats.get(at).and_then(|seat| seat.node.as_ref()) else {
            return false;
        };
        let from = Position { segment: place, offset: 0 };
        let upto = Position { segment: place, offset: u32::MAX };
        let store = node.store_ref();
        let keepers: Vec<usize> = self.keepers().filter(|keeper| *keeper != at).collect();
        let is_kept = |space: &SpaceId, tip: &Tip| {
            keepers.iter().any(|keeper| {
                let node = self.seats.get(*keeper).and_then(|seat| seat.node.as_ref());
                let id = node.and_then(|node| node.store_ref().id_at(space, &tip.log, tip.seq));
                id == Some(tip.id)
            })
        };
        // A stranger has a space of its own, which nobody else has.
        store.local().spaces.iter().all(|space| {
            let held = store.arrived(&space.id, from, upto, usize::MAX);
            held.is_ok_and(|(held, _)| held.iter().all(|arrived| is_kept(&space.id, &arrived.tip)))
        })
    }

    /// Returns the seats that lose nothing by a power cut and have no bad bytes.
    pub(super) fn keepers(&self) -> impl Iterator<Item = usize> {
        let seats = self.seats.iter().enumerate().filter(|(_, seat)| {
            let store = seat.node.as_ref().map(|node| node.store_ref());
            store
                .is_some_and(|store| store.durable() == store.written() && store.damage().is_none())
                && !is_sick(&seat.disk)
        });
        seats.map(|(at, _)| at)
    }

    /// Tells whether a replica knows that something is damaged.
    pub(super) fn is_damaged(&self, at: usize) -> bool {
        let node = self.seats.get(at).and_then(|seat| seat.node.as_ref());
        node.is_some_and(|node| node.store_ref().damage().is_some())
    }

    /// Tells whether the disk of another seat has bad bytes: then no disk is lost.
    pub(super) fn others_are_sick(&self, at: usize) -> bool {
        if self.options.annihilation {
            return false;
        }
        let mut others = self.seats.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, seat)| {
            let damaged = seat.node.as_ref().is_some_and(|n| n.store_ref().damage().is_some());
            damaged || is_sick(&seat.disk)
        })
    }

    /// Tells whether all others were found whole. What their disks lied about they still hold, and
    /// no power fails any more once replicas are repaired.
    fn others_are_whole(&self, at: usize) -> bool {
        let mut others = self.seats.iter().enumerate().filter(|(other, _)| *other != at);
        others.all(|(other, seat)| {
            let stays_away = seat.enemy.is_some() || self.options.absent.contains(&other);
            stays_away || (seat.repair == Repair::Whole && seat.node.is_some())
        })
    }

    /// Stands before a power cut: what a disk lied about may be gone by it.
    /// Nobody can tell that from what never was, so what the seat alone held is lost, and its key
    /// may go on where others know it to be further.
    pub(super) fn doubt(&mut self, at: usize) {
        let Some(seat) = self.seats.get(at) else { return };
        let disk = Arc::clone(&seat.disk);
        for (fault, file, range) in disk.hidden() {
            let entry = disk.ledger(|ledger| ledger.entries().get(fault.0).cloned());
            let Some(entry) = entry else { continue };
            if let Fault::Misdirect { to, offset, .. } = entry.fault
                && (to, offset) == (file, range.start)
                && !self.may_go_bad(at, file, range)
            {
                disk.clear(fault);
            }
        }
        if !disk.hidden().is_empty() {
            if let Some(seat) = self.seats.get_mut(at) {
                seat.lied = true;
            }
            self.facts.may_fork(self.seats.get(at).map(|seat| seat.replica()));
            self.excuse(at);
        }
    }

    /// Stands after a power cut: rot above all that is left to say what was durable is not told
    /// from a torn end, and is taken away. A mark of an idle log is not synced, and may be gone.
    pub(super) fn spare_torn(&mut self, at: usize) {
        let Some(disk) = self.seats.get(at).map(|seat| Arc::clone(&seat.disk)) else { return };
        let rotted = disk.ledger(|ledger| {
            let rotted = ledger.hits().iter().filter(|hit| {
                let fault = ledger.entries().get(hit.fault.0).map(|entry| &entry.fault);
                let landed = |fault: &Fault| match fault {
                    Fault::Misdirect { to, offset, .. } => {
                        (*to, *offset) == (hit.file, hit.range.start)
                    }
                    Fault::Cut { .. } | Fault::Gone { .. } => false,
                    fault => fault.rows().contains(&Row::D9),
                };
                let is_bad = matches!(hit.end, End::Latent | End::Open) && hit.range.end < u64::MAX;
                is_bad && hit.file.kind == FileKind::Segment && fault.is_some_and(landed)
            });
            rotted.map(|hit| (hit.fault, hit.file, hit.range.end)).collect::<Vec<_>>()
        });
        for (fault, file, end) in rotted {
            if end > known_durable(&disk, file) {
                disk.clear(fault);
            }
        }
    }

    /// Stands before a start: a disk that shows old bytes hides what came after them, as a power
    /// cut hides what it lied about.
    pub(super) fn doubt_reads(&mut self, at: usize) {
        let Some(disk) = self.seats.get(at).map(|seat| Arc::clone(&seat.disk)) else { return };
        let bad: BTreeSet<FileId> = disk.bad().into_iter().map(|(file, _)| file).collect();
        let stale = disk.ledger(|ledger| {
            let entries = ledger.entries().iter();
            let mut files = entries.filter_map(|entry| match &entry.fault {
                Fault::Stale { file, .. } => Some(*file),
                _ => None,
            });
            files.any(|file| bad.contains(&file))
        });
        if stale {
            self.facts.may_fork(self.seats.get(at).map(|seat| seat.replica()));
            self.excuse(at);
        }
    }

    /// Takes away what still waits, what comes and goes, and delays; bytes that are bad stay bad.
    pub(super) fn calm(&mut self, at: usize) {
        let Some(disk) = self.seats.get(at).map(|seat| Arc::clone(&seat.disk)) else { return };
        let over: Vec<crate::disk::FaultId> = disk.ledger(|ledger| {
            let ids = (0..ledger.entries().len()).map(crate::disk::FaultId);
            let passes = |id: &crate::disk::FaultId| {
                let fault = ledger.entries().get(id.0).map(|entry| &entry.fault);
                let comes = fault.is_some_and(|fault| {
                    use Fault::{LoseAnswer, Slow, Stale, Stuck};
                    matches!(fault, LoseAnswer { .. } | Slow { .. } | Stuck { .. } | Stale { .. })
                });
                comes || ledger.end(*id) == Some(End::Waiting)
            };
            ids.filter(passes).collect()
        });
        over.into_iter().for_each(|id| disk.clear(id));
        let _ = disk.take_delay();
        let any = self.some_bytes_went_bad();
        let Some(seat) = self.seats.get_mut(at) else { return };
        let begun = seat.repair != Repair::Whole;
        if any && !begun && seat.enemy.is_none() && !self.options.absent.contains(&at) {
            seat.repair = Repair::Due;
            self.verify_later(at);
        } else if begun && self.now_ns / PATIENCE > VERIFY_NS {
            // It was to be looked after by and by.
            self.verify_later(at);
        }
    }

    /// Tells whether bytes of any disk ever went bad: a copy of what was damaged is damaged too.
    pub(crate) fn some_bytes_went_bad(&self) -> bool {
        self.facts.rotted || self.seats.iter().any(|seat| bad_faults(&seat.disk) > 0)
    }

    /// Tells whether a seat was found whole, and nothing can have happened to its disk since.
    pub(crate) fn is_still_whole(&self, at: usize) -> bool {
        let Some(seat) = self.seats.get(at) else { return false };
        let disk = &seat.disk;
        let waiting = disk.ledger(|ledger| {
            let mut ids = (0..ledger.entries().len()).map(crate::disk::FaultId);
            ids.any(|id| ledger.end(id) == Some(End::Waiting))
        });
        let same = seat.verified == Some(bad_faults(disk));
        same && !seat.lied && !waiting && disk.bad().is_empty()
    }

    /// An operator looks after a seat.
    pub(super) fn have_repaired(&mut self, at: usize) {
        let awake = self.seats.get_mut(at).filter(|seat| seat.node.is_some());
        if let Some(seat) = awake.filter(|seat| seat.repair == Repair::Whole) {
            seat.repair = Repair::Due;
            self.verify(at);
        }
    }

    /// A seat that was about to be made whole has just started: what it asked for is void.
    pub(super) fn repair_anew(&mut self, at: usize) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        if seat.repair != Repair::Whole {
            seat.repair = Repair::Due;
            self.verify_later(at);
        }
    }

    fn verify_later(&mut self, at: usize) {
        // Where a world has gone on for weeks nobody looks each few seconds.
        let wait_ns = if self.healed { 0 } else { self.now_ns / PATIENCE };
        self.queue.put(self.now_ns + wait_ns.max(VERIFY_NS), Event::Verify { seat: at });
    }

    /// A seat that is damaged is due to be verified, or its peers have answered.
    pub(super) fn verify(&mut self, at: usize) {
        let Some(seat) = self.seats.get_mut(at).filter(|seat| seat.node.is_some()) else {
            return self.verify_later(at);
        };
        let outcome = match &seat.repair {
            Repair::Whole => return,
            Repair::Due => {
                self.check_degraded(at);
                self.begin_repair(at)
            }
            Repair::Asked { jobs, in_sync, short } if jobs.is_empty() => {
                let (in_sync, short) = (*in_sync, *short);
                self.finish_repair(at, in_sync, short)
            }
            Repair::Asked { .. } => return,
        };
        let text = outcome.unwrap_or_else(|error| format!("is not repaired: {error}"));
        self.note(Some(at), What::Note { text: text.into() });
        self.drain(at);
        self.look(at);
        if self.seats.get(at).is_some_and(|seat| seat.repair == Repair::Due) {
            self.verify_later(at);
        }
    }

    /// Verifies a seat; asks its peers if something is wrong.
    fn begin_repair(&mut self, at: usize) -> Result<String, String> {
        self.finish_sync(at);
        let (now, peers, short) = (self.now(at), self.repairers(at), self.somebody_sleeps(at));
        let Some(seat) = self.seats.get_mut(at) else { return Err("nobody sits there".into()) };
        let Some(node) = seat.node.as_mut() else { return Err("it sleeps".into()) };
        node.store().sync().map_err(|error| error.to_string())?;
        let found = verify(&seat.disk, true).map_err(|error| error.to_string())?;
        if found.problems.is_empty() && node.store_ref().damage().is_none() {
            seat.repair = Repair::Whole;
            seat.verified = Some(bad_faults(&seat.disk));
            return Ok("is whole".to_owned());
        }
        report(&seat.disk, &found.problems);
        seat.owned_up |= !found.problems.is_empty();
        node.store().begin_repair().map_err(|error| error.to_string())?;
        let damage = node.store_ref().damage();
        if let Some(damage) = damage.filter(|_| found.problems.is_empty()) {
            let seen = format!("seat {at}, where `verify` finds nothing: {damage}");
            self.facts.broken = Some(Broken::new("what is whole is not called damaged", seen));
            return Err("it is whole, and called damaged".into());
        }
        let damaged = damage.is_some();
        let jobs: BTreeSet<JobId> = if node.store_ref().wants_help() {
            peers.into_iter().map(|peer| node.sync_with(now, peer)).collect()
        } else {
            BTreeSet::new()
        };
        if jobs.is_empty() {
            self.queue.put(self.now_ns + NS_PER_MS, Event::Verify { seat: at });
        }
        let what: Vec<String> =
            found.problems.iter().map(|p| format!("{} {} {}", p.file, p.offset, p.kind)).collect();
        seat.repair = Repair::Asked { jobs, in_sync: !damaged, short };
        Ok(format!("is damaged: {}", what.join(", ")))
    }

    /// Whom a damaged seat asks: everybody else who is awake and shares the space, its copies too.
    fn repairers(&self, at: usize) -> Vec<kdelta_engine::base::ReplicaId> {
        let members = self.members().into_iter().filter(|other| *other != at);
        let others = members.filter_map(|other| self.seats.get(other)).map(|seat| seat.replica());
        others.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Tells whether another seat cannot be asked now, but will come back, or may.
    fn somebody_sleeps(&self, at: usize) -> bool {
        let mut others = self.seats.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, seat)| seat.enemy.is_none() && seat.node.is_none())
    }

    /// A request to a peer was answered.
    pub(super) fn job_done(&mut self, at: usize, job: JobId, report: &Report) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Repair::Asked { jobs, in_sync, short } = &mut seat.repair else { return };
        if !jobs.remove(&job) {
            return;
        }
        *in_sync |= report.in_sync;
        *short |= !report.in_sync;
        if jobs.is_empty() {
            self.queue.put(self.now_ns + NS_PER_MS, Event::Verify { seat: at });
        }
        if let Some(problem) = &report.problem {
            self.note(Some(at), What::Note { text: format!("is not helped: {problem:?}").into() });
        }
    }

    fn finish_repair(&mut self, at: usize, in_sync: bool, short: bool) -> Result<String, String> {
        self.finish_sync(at);
        let Some(seat) = self.seats.get_mut(at) else { return Err("nobody sits there".into()) };
        seat.repair = Repair::Due;
        let Some(node) = seat.node.as_mut() else { return Err("it sleeps".into()) };
        if !in_sync {
            node.store().end_repair().map_err(|error| error.to_string())?;
            return Err("no peer was reached that holds what is lost".to_owned());
        }
        let done = node.store().finish_repair().map_err(|error| error.to_string())?;
        if done.missing.is_empty() {
            // Where nothing is spared, nobody may have had it.
            if short || self.options.annihilation {
                self.miss(at);
            }
            Ok(format!("is repaired: {}", done.repaired.join(", ")))
        } else {
            seat.tries += 1;
            if seat.lied && seat.tries > TRIES && self.healed && self.others_are_whole(at) {
                // What its disk lost before anybody had it is missing for good: it begins anew.
                self.swap_disk(at, Arc::new(SimDisk::new()));
            }
            Err(format!("missing {}", done.missing.join(", ")))
        }
    }
}

/// Returns up to where the files of a disk say that a segment was durable.
fn known_durable(disk: &SimDisk, file: FileId) -> u64 {
    let memory = disk.memory();
    let own = memory.content(file).and_then(|content| outline(&content));
    let closed = own.as_ref().is_some_and(|own| own.sealed) && is_closed(disk, file);
    let own = if closed { u64::MAX } else { own.map_or(0, |own| own.mark) };
    let lists = memory.all_files().into_iter().filter_map(|list| {
        let content = memory.content(list)?;
        durable_by(list.kind, &content, file.number)
    });
    lists.max().unwrap_or(0).max(own)
}

/// Tells whether a list of segments on a disk says that one has ended.
fn is_closed(disk: &SimDisk, file: FileId) -> bool {
    let memory = disk.memory();
    let lists = memory.all_files().into_iter().filter(|list| list.kind == FileKind::Manifest);
    let mut contents = lists.filter_map(|list| memory.content(list));
    contents.any(|list| lists_the_end(&list, file.number))
}

/// Returns how many faults of a disk make bytes bad, or put others in their place.
pub(super) fn bad_faults(disk: &SimDisk) -> usize {
    let is_bad = |row: &Row| (Row::D8..=Row::D12).contains(row) || *row == Row::D18;
    let count = |ledger: &mut Ledger| {
        let entries = ledger.entries().iter();
        entries.filter(|entry| entry.fault.rows().iter().any(is_bad)).count()
    };
    disk.ledger(count)
}

/// Tells whether a disk has bad bytes, or will have some.
pub(super) fn is_sick(disk: &SimDisk) -> bool {
    let waits = |fault: &Fault| {
        matches!(fault, Fault::Misdirect { .. } | Fault::LoseSync { .. } | Fault::Stale { .. })
    };
    // What a repair put aside is read by nobody.
    let used = |file: &FileId| file.kind != FileKind::Quarantine;
    disk.bad().iter().any(|(file, _)| used(file))
        || disk.ledger(|ledger| {
            let mut all = ledger.entries().iter().enumerate();
            all.any(|(id, entry)| {
                let end = ledger.end(crate::disk::FaultId(id));
                waits(&entry.fault) && end == Some(End::Waiting)
            })
        })
}

/// Tells the ledger which files are known to be damaged.
fn report(disk: &SimDisk, problems: &[Problem]) {
    let files = problems.iter().filter_map(|problem| FileId::from_path(&problem.file));
    for file in files {
        disk.ledger(|ledger| ledger.reported(file, &(0..u64::MAX)));
    }
}

/// How often a replica is repaired whose disk has lied, before it gets another one.
const TRIES: u32 = 3;
/// How often a draw for the newest segment is tried.
const TRIES_A_DRAW: u32 = 16;
/// How long after it was last looked at a damaged seat is verified again, at least.
const VERIFY_NS: u64 = 3_000 * NS_PER_MS;
/// While there is trouble, that is this part of the time that has passed.
const PATIENCE: u64 = 100;
