//! Programs of users that run at the seats, one at each replica that is awake.
//!
//! A world knows of them only that something is to be told them and that they write; what they do
//! and what must hold of them is [`crate::app`]'s.

use std::fmt;

use kdelta_engine::base::Now;
use kdelta_engine::causal::Tip;
use kdelta_engine::store::{Receipt, Store, Written};

use super::seat::Request;
use super::{Event, NS_PER_MS, SeatDisk, World};
use crate::app::story::SAID;
use crate::check::Broken;
use crate::trace::{Short, What};

/// All programs of a world.
pub(crate) trait Programs {
    /// Looks after everything that happened, and tells the programs what was heard for them: by
    /// seat, with the life in which it was heard.
    fn serve(&mut self, world: &mut World, heard: Vec<(usize, u32, News)>);

    /// Checks what must hold when all replicas hold the same.
    fn end(&mut self, world: &mut World) -> Result<(), Broken>;
}

/// Something that a program is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum News {
    /// Its user does something; the number names the draws.
    Act(u64),
    /// A time is over that it wanted to wait.
    Woken,
    /// What became of something that it wrote.
    Answered { tip: Tip, durable: bool },
}

/// Something that a program did.
#[derive(Debug)]
pub(crate) enum Deed {
    /// It wrote.
    Wrote { op: String, key: String, written: Written, receipt: Receipt },
    /// It was refused what it wanted to write.
    Refused { op: String, key: String, reason: String },
    /// It said something.
    Said(String),
    /// It wants to be woken.
    Wake { after_ms: u64 },
}

/// The programs, if there are any, and what they are to be told.
#[derive(Default)]
pub(super) struct Guests {
    programs: Option<Box<dyn Programs>>,
    heard: Vec<(usize, u32, News)>,
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guests").field("heard", &self.heard).finish_non_exhaustive()
    }
}

impl World {
    /// Lets programs run at the seats from now on.
    pub(crate) fn host(&mut self, programs: Box<dyn Programs>) {
        self.guests.programs = Some(programs);
    }

    /// Tells whether programs run at the seats.
    pub(crate) fn hosts_programs(&self) -> bool {
        self.guests.programs.is_some()
    }

    /// Takes note of what a program is to be told, unless its replica hangs.
    pub(super) fn hear(&mut self, at: usize, heard: News) {
        let Some(seat) = self.seats.get(at) else { return };
        if self.guests.programs.is_some() && seat.paused_until_ns <= self.now_ns {
            self.guests.heard.push((at, seat.life, heard));
        }
    }

    /// Lets the programs act on what happened.
    pub(super) fn serve(&mut self) {
        let Some(mut programs) = self.guests.programs.take() else { return };
        loop {
            let heard = std::mem::take(&mut self.guests.heard);
            programs.serve(self, heard);
            self.guests.programs = Some(programs);
            if self.guests.heard.is_empty() || self.facts.broken.is_some() {
                return;
            }
            let Some(again) = self.guests.programs.take() else { return };
            programs = again;
        }
    }

    /// Checks what must hold of the programs at the end.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) fn end_programs(&mut self) -> Result<(), Broken> {
        let programs = self.guests.programs.take();
        programs.map_or(Ok(()), |mut programs| programs.end(self))
    }

    /// Returns what a program needs to read and write, if its replica runs and is in the space.
    pub(crate) fn at_seat(&mut self, at: usize) -> Option<(Now, &mut Store<SeatDisk>)> {
        let (now, space) = (self.now(at), self.space);
        let store = self.store(at)?;
        store.has_space(&space).then_some((now, store))
    }

    /// Tells whether the disk of a seat may refuse.
    pub(crate) fn may_refuse(&self, at: usize) -> bool {
        self.seats.get(at).is_some_and(|seat| seat.disk_faults || seat.failing.is_some())
    }

    /// Does for a program what follows from what it did, as for a user.
    pub(crate) fn done(&mut self, at: usize, deeds: Vec<Deed>) {
        if deeds.is_empty() {
            return;
        }
        for deed in deeds {
            let what = match deed {
                Deed::Wrote { op, key, written, receipt } => {
                    let (tip, stamp) = (written.tip, written.hlc);
                    if let Some(seat) = self.seats.get_mut(at) {
                        seat.requests.push_back(Request { tip, stamp, receipt });
                    }
                    self.check_stamp(at, stamp);
                    let commit = Some(Short::from(&written.tip.id));
                    What::Requested { op: op.into(), key: key.into(), commit }
                }
                Deed::Refused { op, key, reason } => {
                    What::Refused { op: op.into(), key: key.into(), reason: reason.into() }
                }
                Deed::Said(text) => What::Note { text: format!("{SAID}{text}").into() },
                Deed::Wake { after_ms } => {
                    let life = self.seats.get(at).map_or(0, |seat| seat.life);
                    let at_ns = self.now_ns + after_ms.max(1) * NS_PER_MS;
                    self.queue.put(at_ns, Event::Wake { seat: at, life });
                    continue;
                }
            };
            self.note(Some(at), what);
        }
        self.drain(at);
        self.mark_later(at);
        self.look(at);
    }
}
