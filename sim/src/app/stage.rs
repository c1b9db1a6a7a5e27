//! Apps at the seats of a world: starts them, tells them what happened, and checks them.

use std::collections::BTreeSet;
use std::mem;

use kdelta_engine::base::{CommitId, Key};
use kdelta_engine::log::Position;
use kdelta_engine::store::WriteError;

use super::replica::{Reader, Replica};
use super::{App, Event, Failed, VALID};
use crate::check::Broken;
use crate::draw::{Source, Stream};
use crate::world::World;
use crate::world::guests::{News, Programs};

/// All apps of a world.
pub(super) struct Stage<A: App> {
    witness: A::Witness,
    guests: Vec<Option<Guest<A>>>,
}

/// The app of one replica, while that is awake.
struct Guest<A> {
    app: A,
    /// The replica's life in which it started.
    life: u32,
    draws: Source,
    /// Up to where it knows what came.
    told: Position,
    /// How far the log went when it was checked last.
    checked: Option<Position>,
    own: BTreeSet<CommitId>,
}

impl<A: App> Stage<A> {
    pub(super) fn new() -> Self {
        Self { witness: A::Witness::default(), guests: Vec::new() }
    }

    /// Forgets the app of a replica that fell, and starts one where a replica started.
    fn settle(&mut self, world: &mut World, at: usize) {
        if self.guests.len() <= at {
            self.guests.push(None);
        }
        let life = world.seats.get(at).map(|seat| seat.life);
        let there = world.at_seat(at).map(|(_, store)| store.durable());
        let Some(slot) = self.guests.get_mut(at) else { return };
        let (Some(told), Some(life)) = (there, life) else {
            *slot = None;
            return;
        };
        if slot.as_ref().is_some_and(|guest| guest.life == life) {
            return;
        }
        let entity = FROM_LIVES | (at as u64) << 32 | u64::from(life);
        let draws = world.draws.of(Stream::App, entity);
        let (app, own, checked) = (A::start(at), BTreeSet::new(), None);
        *slot = Some(Guest { app, life, draws, told, checked, own });
        self.tell(world, at, &Event::Started, None);
    }

    /// Tells the app at a seat of an event, with draws of its own if it has some.
    fn tell(&mut self, world: &mut World, at: usize, event: &Event, draws: Option<Source>) {
        let Some(guest) = self.guests.get_mut(at).and_then(Option::as_mut) else { return };
        let Some(reader) = reader(world, at) else { return };
        let mut of_event = draws;
        let draws = of_event.as_mut().unwrap_or(&mut guest.draws);
        let mut replica = Replica { reader, draws, deeds: Vec::new(), own: &mut guest.own };
        let outcome = guest.app.on_event(event, &mut replica, &mut self.witness);
        let deeds = mem::take(&mut replica.deeds);
        guest.checked = None;
        world.done(at, deeds);
        note(world, at, outcome);
    }

    /// Tells the app at a seat what came from others since it was told last.
    fn tell_changes(&mut self, world: &mut World, at: usize) {
        let space = world.space;
        let Some(guest) = self.guests.get_mut(at).and_then(Option::as_mut) else { return };
        let Some((_, store)) = world.at_seat(at) else { return };
        let (from, upto) = (guest.told, store.durable());
        if from == upto {
            return;
        }
        guest.told = upto;
        // What is damaged there is nobody's news: the keys show what is left.
        let Ok((arrived, _)) = store.arrived(&space, from, upto, usize::MAX) else { return };
        let mut keys: Vec<Key> = Vec::new();
        for one in arrived.into_iter().filter(|one| !one.is_inert) {
            if !guest.own.remove(&one.tip.id) {
                keys.extend(one.commit.events.iter().filter_map(|event| event.key()));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        if !keys.is_empty() {
            self.tell(world, at, &Event::Changed(keys), None);
        }
    }

    /// Checks the app at a seat if anything changed there.
    fn check(&mut self, world: &mut World, at: usize) {
        let Some(guest) = self.guests.get_mut(at).and_then(Option::as_mut) else { return };
        let Some(mut reader) = reader(world, at) else { return };
        let written = Some(reader.store.written());
        if guest.checked == written {
            return;
        }
        guest.checked = written;
        let outcome = guest.app.check(&mut reader, &self.witness);
        note(world, at, outcome);
    }
}

impl<A: App> Programs for Stage<A> {
    fn serve(&mut self, world: &mut World, heard: Vec<(usize, u32, News)>) {
        for at in 0..world.seats.len() {
            self.settle(world, at);
        }
        for (at, life, heard) in heard {
            let here = self.guests.get(at).and_then(Option::as_ref);
            if here.is_none_or(|guest| guest.life != life) {
                continue;
            }
            let (event, draws) = match heard {
                News::Act(number) => {
                    (Event::User, Some(world.draws.of(Stream::App, number & !FROM_LIVES)))
                }
                News::Woken => (Event::Woken, None),
                News::Answered { tip, durable: true } => (Event::Durable(tip.id), None),
                News::Answered { tip, durable: false } => (Event::TakenBack(tip.id), None),
            };
            self.tell(world, at, &event, draws);
        }
        for at in 0..world.seats.len() {
            self.tell_changes(world, at);
            self.check(world, at);
        }
    }

    fn end(&mut self, world: &mut World) -> Result<(), Broken> {
        let mut first: Option<(usize, String)> = None;
        for (at, guest) in self.guests.iter().enumerate() {
            let (Some(guest), Some(mut reader)) = (guest, reader(world, at)) else { continue };
            let outcome = guest.app.check(&mut reader, &self.witness);
            let outcome = outcome.and_then(|()| guest.app.check_end(&mut reader, &self.witness));
            let shown = outcome.and_then(|()| guest.app.shows(&mut reader));
            match (shown, &first) {
                (Ok(shown), Some((by, expected))) if shown != *expected => {
                    let seen = format!("seat {by}: {expected}; seat {at}: {shown}");
                    return Err(Broken::new("all users see the same at the end", seen));
                }
                (Ok(_), Some(_)) => {}
                (Ok(shown), None) => first = Some((at, shown)),
                (Err(failed), _) => match verdict(world, at, failed) {
                    Some(broken) => return Err(broken),
                    None => continue,
                },
            }
        }
        Ok(())
    }
}

fn reader(world: &mut World, at: usize) -> Option<Reader<'_>> {
    let (space, replicas) = (world.space, world.options.replicas);
    let (now, store) = world.at_seat(at)?;
    Some(Reader { store, space, now, seat: at, replicas })
}

/// Takes note of what did not go well, if it is the app's or the engine's fault.
fn note(world: &mut World, at: usize, outcome: Result<(), Failed>) {
    let Err(failed) = outcome else { return };
    let broken = verdict(world, at, failed);
    world.facts.broken = world.facts.broken.take().or(broken);
}

/// Returns the promise that a failure breaks; none if a faulty disk explains it.
fn verdict(world: &World, at: usize, failed: Failed) -> Option<Broken> {
    let seen = format!("seat {at}: {failed}");
    match failed {
        Failed::Broken(Broken { invariant, seen }) => {
            Some(Broken::new(invariant, format!("seat {at}: {seen}")))
        }
        Failed::Write(
            WriteError::Op { .. } | WriteError::Draft(_) | WriteError::Key(_) | WriteError::Empty,
        ) => Some(Broken::new(VALID, seen)),
        // Whose disk was lost has to meet somebody first.
        Failed::Write(WriteError::NotYetHere) => None,
        Failed::Read(_) | Failed::Write(_) => {
            (!world.may_refuse(at)).then(|| Broken::new("an error has a cause", seen))
        }
    }
}

/// Draws of lives lie apart from those of users' steps.
const FROM_LIVES: u64 = 1 << 63;
