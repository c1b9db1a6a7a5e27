//! Carries out the steps of a scenario, and mends everything at its end.

use std::sync::Arc;

use kdelta_engine::base::{Hlc, Key, Rng};
use kdelta_engine::crdt::{Json, Op};
use kdelta_engine::log::{CrashMode, Disk, Faults, FileId, FileKind};
use kdelta_engine::store::{KeyOp, Write, WriteError};

use super::guests::News;
use super::links::Shape;
use super::media::bad_faults;
use super::seat::Request;
use super::{Event, NS_PER_MS, SeatDisk, World};
use crate::check::Broken;
use crate::disk::{Fault, FaultId, Row, SimDisk};
use crate::draw::Stream;
use crate::oracle;
use crate::scenario::{Action, DiskFault, WorkOp};
use crate::trace::{Short, What};

impl World {
    /// Carries out what a step says.
    pub(super) fn act(&mut self, action: Action) {
        if self.healed && action.is_fault() {
            return;
        }
        match action {
            Action::Write { seat, ops } => self.write(seat, &ops),
            Action::Sync { seat, with } => self.ask_to_sync(seat, with),
            Action::Ticket { from, to, kind } => self.give_ticket(from, to, kind),
            Action::Grant { from, to, right } => self.grant(from, to, right),
            Action::Revoke { from, of } => self.revoke(from, of),
            Action::Repair { seat } => self.have_repaired(seat),
            Action::Act { seat, number } => self.hear(seat, News::Act(number)),
            Action::Crash { seat, mode, away_ms } => self.fall(seat, mode, away_ms),
            Action::Stop { seat, away_ms } => self.stop(seat, away_ms),
            Action::Copy { seat, to } => self.copy(seat, to),
            Action::Hostile { to, attack, ms, seats } => self.seat_enemy(to, attack, ms, &seats),
            Action::Save { seat } => self.save(seat),
            Action::Restore { seat } => self.restore(seat),
            Action::Wipe { seat } => self.replace_disk(seat, Arc::new(SimDisk::new())),
            Action::Disk { seat, fault } => self.hurt(seat, &fault),
            Action::Part { sides, ms } => self.bar(Shape::Sides(sides), ms),
            Action::OneWay { from, to, ms } => self.bar(Shape::OneWay(from, to), ms),
            Action::Clog { from, to, ms } => self.bar(Shape::Clog(from, to), ms),
            Action::Reset { a, b } => self.reset(a, b),
            Action::Pause { seat, ms } => {
                let until_ns = self.now_ns + ms * NS_PER_MS;
                if let Some(seat) = self.seats.get_mut(seat) {
                    seat.paused_until_ns = seat.paused_until_ns.max(until_ns);
                }
            }
            Action::Jump { seat: at, ms } => {
                if let Some(seat) = self.seats.get_mut(at) {
                    seat.clock.jump(ms);
                    self.note(Some(at), What::ClockJumped { ms });
                }
            }
            Action::Drift { seat: at, ppm } => {
                if let Some(seat) = self.seats.get_mut(at) {
                    seat.clock.drift(self.now_ns, ppm);
                    self.note(Some(at), What::ClockDrifts { ppm: ppm.into() });
                }
            }
        }
    }

    pub(crate) fn write(&mut self, at: usize, ops: &[WorkOp]) {
        let (now, space) = (self.now(at), self.space);
        let outside = self.is_outside(at);
        let Some(seat) = self.seats.get_mut(at).filter(|_| !outside) else { return };
        if seat.paused_until_ns > self.now_ns {
            return;
        }
        let Some(node) = seat.node.as_mut() else { return };
        let asked: Vec<String> = ops.iter().map(ToString::to_string).collect();
        let (asked, key) = (asked.join(" ; "), "");
        let ops: Option<Vec<KeyOp>> = ops.iter().map(key_op).collect();
        let write = Write { space, ops: ops.unwrap_or_default(), ..Write::default() };
        match node.store().write(now, write) {
            Ok(written) => {
                let receipt = node.store_ref().receipt();
                let (tip, stamp) = (written.tip, written.hlc);
                seat.requests.push_back(Request { tip, stamp, receipt });
                self.check_stamp(at, stamp);
                let commit = Some(Short::from(&written.tip.id));
                let (op, key) = (asked.into(), key.into());
                self.note(Some(at), What::Requested { op, key, commit });
            }
            // What users get wrong, or what a type does not allow.
            Err(
                error @ (WriteError::Op { .. }
                | WriteError::Draft(_)
                | WriteError::Empty
                | WriteError::NotYetHere
                | WriteError::Unauthorised(_)),
            ) => {
                let (op, key, reason) = (asked.into(), key.into(), error.to_string().into());
                self.note(Some(at), What::Refused { op, key, reason });
            }
            Err(error) if seat.disk_faults || seat.failing.is_some() => {
                seat.refused = true;
                let (op, key, reason) = (asked.into(), key.into(), error.to_string().into());
                self.note(Some(at), What::Refused { op, key, reason });
            }
            Err(error) => {
                let seen = format!("seat {at} refuses to write: {error}");
                self.facts.broken = Some(Broken::new("an error has a cause", seen));
            }
        }
        self.drain(at);
        self.mark_later(at);
        self.look(at);
    }

    fn copy(&mut self, of: usize, to: usize) {
        let Some(seat) = self.seats.get(of) else { return };
        // A copy is taken as a disk is found after a power cut; it sits on the next free seat.
        let free = to == self.seats.len() && !self.options.absent.contains(&to);
        // What a replica takes for damaged its copy would, and has no fault of its own to show for.
        if !free || seat.enemy.is_some() || self.is_damaged(of) {
            return;
        }
        let mut draws = self.draws.of(Stream::Crash, (to as u64) << 32 | 1 << 31);
        let (key, disk) = (seat.key, after_power_cut(&seat.disk, &mut draws.rng()));
        if !self.options.places {
            self.facts.may_fork(self.seats.get(of).map(|seat| seat.replica()));
        }
        let at = self.seat(key, disk);
        self.note(Some(of), What::Copied { to: at });
        self.start(at);
    }

    fn save(&mut self, at: usize) {
        let damaged = self.is_damaged(at);
        let Some(seat) = self.seats.get_mut(at).filter(|_| !damaged) else { return };
        let mut draws = self.draws.of(Stream::Crash, (at as u64) << 32 | 1 << 30);
        let disk = after_power_cut(&seat.disk, &mut draws.rng());
        self.numbers += 1;
        let backup = self.numbers;
        seat.backup = Some((backup, disk));
        self.note(Some(at), What::BackedUp { backup });
    }

    fn restore(&mut self, at: usize) {
        let backup = self.seats.get(at).and_then(|seat| seat.backup.clone());
        let Some((number, backup)) = backup else { return };
        self.facts.may_fork(self.seats.get(at).map(|seat| seat.replica()));
        self.replace_disk(at, Arc::new(backup.copy()));
        self.note(Some(at), What::Restored { backup: number });
    }

    /// Gives a seat another disk; what only the old one held is lost, and nobody's fault.
    pub(super) fn replace_disk(&mut self, at: usize, disk: SeatDisk) {
        let asleep = self.seats.get(at).is_none_or(|seat| seat.node.is_none());
        if !asleep && !self.others_are_sick(at) {
            self.swap_disk(at, disk);
        }
    }

    /// The same, whatever there is to be said of the disks of others.
    pub(super) fn swap_disk(&mut self, at: usize, disk: SeatDisk) {
        self.excuse(at);
        self.fall(at, CrashMode::LoseAll, 1_000);
        if let Some(seat) = self.seats.get_mut(at) {
            self.disk_ops += seat.disk.asked();
            self.facts.rotted |= bad_faults(&seat.disk) > 0;
            seat.disk = disk;
            seat.glitches.clear();
            seat.unread = false;
            seat.seen.clear();
            seat.disk_faults = false;
            seat.reached = Hlc::default();
            (seat.lied, seat.tries, seat.verified) = (false, 0, None);
        }
        self.note(Some(at), What::Note { text: "gets another disk".into() });
    }

    /// Takes back what was promised at a seat, except what others hold durably.
    pub(super) fn excuse(&mut self, at: usize) {
        let space = self.space;
        let mut told = self.facts.told.remove(&at).unwrap_or_default();
        told.extend(self.facts.told.remove(&usize::MAX).unwrap_or_default());
        let others: Vec<usize> = self.keepers().filter(|other| *other != at).collect();
        told.retain(|tip| {
            others.iter().any(|other| {
                let Some(store) = self.store(*other) else { return false };
                store.id_at(&space, &tip.log, tip.seq) == Some(tip.id)
            })
        });
        self.facts.told.entry(usize::MAX).or_default().extend(told);
        if let Some(seat) = self.seats.get_mut(at) {
            seat.told = Hlc::default();
        }
    }

    fn hurt(&mut self, at: usize, fault: &DiskFault) {
        let Some(seat) = self.seats.get_mut(at).filter(|seat| seat.node.is_some()) else { return };
        let drawn = matches!(
            fault,
            DiskFault::Drawn(..)
                | DiskFault::Media(..)
                | DiskFault::Glitch(_)
                | DiskFault::Newest(_)
                | DiskFault::Lost(..)
        );
        seat.disk_faults |= !drawn;
        let mut used = 0;
        let memory = seat.disk.memory();
        for file in memory.all_files() {
            used += memory.size(file).unwrap_or(0);
        }
        let relief_ms = match fault {
            DiskFault::SyncsFail(pass, fail) => {
                memory.faults(|f| (f.syncs_to_pass, f.syncs_to_fail) = (*pass, *fail));
                None
            }
            DiskFault::WritesFail(pass, fail) => {
                memory.faults(|f| (f.writes_to_pass, f.writes_to_fail) = (*pass, *fail));
                None
            }
            DiskFault::Full(bytes, ms) => {
                memory.faults(|f| f.space = Some(used + bytes));
                Some(*ms)
            }
            DiskFault::ReadOnly(ms) => {
                memory.faults(|f| f.read_only = true);
                Some(*ms)
            }
            DiskFault::PowerOff(changes, mode, away_ms) => {
                seat.failing = Some((*mode, *away_ms));
                memory.faults(|f| f.power_off_in = Some(*changes));
                None
            }
            DiskFault::Drawn(row, number) => return self.hurt_by_chance(at, *row, *number),
            DiskFault::Glitch(number) => {
                let Some(glitch) = self.draw_glitch(at, *number) else { return };
                let id = self.inject(at, glitch);
                if let Some(seat) = self.seats.get_mut(at) {
                    seat.glitches.extend(id);
                }
                return;
            }
            DiskFault::Newest(number) => {
                let rot = self.draw_rot_in_the_newest(at, *number);
                if let Some(fault) = rot {
                    self.inject(at, fault);
                }
                return;
            }
            DiskFault::Lost(number, away_ms) => return self.lose_files(at, *number, *away_ms),
            DiskFault::Media(fault) => {
                self.inject(at, fault.clone());
                return;
            }
        };
        self.note(Some(at), What::FaultInjected { fault: fault.to_string().into() });
        if let Some(ms) = relief_ms {
            self.queue.put(self.now_ns + ms * NS_PER_MS, Event::Relief { seat: at });
        }
    }

    fn hurt_by_chance(&mut self, at: usize, row: Row, number: u64) {
        if let Some(fault) = self.draw_fault(at, row, number) {
            self.inject(at, fault);
        }
        // What rots later may rot to what is here now.
        if let Some(seat) = self.seats.get(at) {
            seat.disk.inject(Fault::Save { slot: 0 });
        }
    }

    /// Stops a replica whose disk loses files meanwhile. Where nothing is spared its power may fail
    /// instead: that a whole file is gone must be noticed then, too, and of the end of one cannot.
    fn lose_files(&mut self, at: usize, number: u64, away_ms: u64) {
        let Some((fault, with_its_list)) = self.draw_loss(at, number) else { return };
        let gone = matches!(fault, Fault::Gone { .. }) && !with_its_list;
        if self.options.annihilation && gone && number.is_multiple_of(2) {
            self.fall(at, CrashMode::KeepAll, away_ms);
        } else {
            self.stop(at, away_ms);
        }
        self.inject(at, fault);
        let disk = self.seats.get(at).map(|seat| Arc::clone(&seat.disk)).filter(|_| with_its_list);
        if let Some(file) = disk.and_then(|disk| newest_list(&disk)) {
            self.inject(at, Fault::Gone { file });
        }
    }

    fn inject(&mut self, at: usize, fault: Fault) -> Option<FaultId> {
        // What restarts a store is another step's business.
        let seat = self.seats.get_mut(at).filter(|_| !fault.restarts())?;
        seat.disk_faults = true;
        let text = fault.to_string().into();
        let id = seat.disk.inject(fault);
        self.note(Some(at), What::FaultInjected { fault: text });
        Some(id)
    }

    /// A disk has room again, and takes writes.
    pub(super) fn relieve(&mut self, at: usize) {
        if let Some(seat) = self.seats.get(at) {
            seat.disk.memory().faults(|faults| (faults.space, faults.read_only) = (None, false));
        }
    }

    /// Copies dial nobody of their own key: their user brings them together.
    pub(crate) fn join_copies(&mut self) {
        for a in 0..self.seats.len() {
            for b in a + 1..self.seats.len() {
                let [key_a, key_b] = [a, b].map(|at| self.seats.get(at).map(|seat| seat.key));
                if key_a == key_b && !self.are_connected(a, b) {
                    self.connect(a, b);
                }
            }
        }
    }

    /// Mends everything: links, disks, clocks, who hangs and who is away. What users ask goes on.
    pub fn heal(&mut self) {
        self.healed = true;
        self.note(None, What::HealBegan);
        self.clear_links();
        for at in 0..self.seats.len() {
            let now_ns = self.now_ns;
            let Some(seat) = self.seats.get_mut(at) else { continue };
            seat.paused_until_ns = 0;
            self.queue.put(now_ns, Event::Resume { seat: at });
            let Some(seat) = self.seats.get_mut(at) else { continue };
            seat.failing = None;
            seat.clock.set_right(now_ns);
            seat.disk.memory().faults(|faults| *faults = Faults::default());
            self.calm(at);
            let Some(seat) = self.seats.get_mut(at) else { continue };
            if seat.enemy.is_some() {
                self.hang_up(at, 1);
                continue;
            }
            let troubled = seat.node.as_ref().is_some_and(|n| n.store_ref().trouble().is_some());
            if troubled || seat.unread {
                // Whoever runs it sees the disk's trouble and starts it again.
                self.fall(at, CrashMode::KeepAll, 1);
            }
            let away = self.seats.get(at).is_some_and(|seat| seat.node.is_none());
            if away && !self.options.absent.contains(&at) {
                self.start(at);
            }
            // What the disk refused before is asked of it once more.
            self.settle_in(at);
        }
        self.join_copies();
    }
}

/// Returns the file of the newest list of segments.
fn newest_list(disk: &SimDisk) -> Option<FileId> {
    let lists = disk.memory().files(FileKind::Manifest).ok()?.into_iter();
    let read =
        |file: FileId| Some((oracle::generation(file.kind, &disk.memory().content(file)?)?, file));
    lists.filter_map(read).max().map(|(_, file)| file)
}

/// Copies a disk as it is found after a power cut: its good bytes, and none of its faults.
fn after_power_cut(disk: &SimDisk, rng: &mut Rng) -> SeatDisk {
    let image = disk.memory().snapshot();
    image.faults(|faults| *faults = Faults::default());
    image.crash(CrashMode::LoseAll, rng);
    let copy = SimDisk::new();
    copy.memory().take_over(&image);
    Arc::new(copy)
}

/// Returns what a user's wish means to a store.
fn key_op(op: &WorkOp) -> Option<KeyOp> {
    let number = |n: u32| Json::parse(n.to_string().as_bytes()).ok();
    let field = |n: u8| Arc::from(format!("f{n}"));
    let (kind, key, op, retype) = match op {
        WorkOp::Count(key, by) => ('c', key, Op::CounterAdd(*by), false),
        WorkOp::Put(key, value) => ('r', key, Op::Put(number(*value)?), false),
        WorkOp::Bytes(key, len) => {
            let len = usize::try_from(*len).ok()?;
            let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
            ('b', key, Op::PutBytes(bytes.into()), false)
        }
        WorkOp::Add(key, e) => ('s', key, Op::SetAdd(vec![number(u32::from(*e))?]), false),
        WorkOp::Remove(key, e) => ('s', key, Op::SetRemove(vec![number(u32::from(*e))?]), false),
        WorkOp::Field(key, name, value) => {
            ('m', key, Op::MapPut { field: field(*name), value: number(*value)? }, false)
        }
        WorkOp::Unfield(key, name) => ('m', key, Op::MapDelete { field: field(*name) }, false),
        WorkOp::Delete(kind, key) => (*kind, key, Op::Delete, false),
        WorkOp::Retype(kind, key, value) => (*kind, key, Op::Put(number(*value)?), true),
    };
    let key = Key::new(&format!("{kind}{key}")).ok()?;
    Some(KeyOp { key, op, retype, expect: None })
}
