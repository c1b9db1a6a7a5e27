//! Connections between replicas: streams that arrive late, in pieces, or not at all.
//!
//! A connection is a stream each way, as QUIC's are: in order, and gone at both ends when either
//! gives it up or nothing comes through for [`IDLE_MS`]. What is lost below it comes late. Where a
//! scenario asks for it, messages come twice or out of order all the same, against that promise.

use std::collections::BTreeMap;

use kdelta_engine::base::ReplicaId;
use kdelta_engine::causal::Tip;
use kdelta_engine::node::{Input, LinkId};
use kdelta_engine::sync::{Decoder, Message, frame_name};

use super::{Event, NS_PER_MS, NS_PER_US, World};
use crate::check::wire::{Flight, Frames};
use crate::draw::{Source, Stream};
use crate::trace::{self, What};

/// All connections, and the draws of each direction between two seats.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<LinkId, Link>,
    next: u64,
    draws: BTreeMap<(usize, usize), Source>,
}

#[derive(Debug)]
struct Link {
    ends: [usize; 2],
    /// Which ends know it as open.
    open: [bool; 2],
    /// When the last message on its way arrives at each end.
    busy_ns: [u64; 2],
    /// When the sender at the far side of each end is done with what it sent.
    sent_ns: [u64; 2],
    /// What each end said that it holds, in each opening of a session.
    openings: [Vec<Vec<Tip>>; 2],
    /// Whether an end gave it up: it ends once all has arrived.
    ending: bool,
    /// What came to each end.
    frames: [Frames; 2],
    /// What each end sent.
    flights: [Flight; 2],
}

/// Who does not reach whom, until when.
#[derive(Debug, Clone)]
pub(super) struct Barrier {
    pub(super) until_ns: u64,
    pub(super) shape: Shape,
}

#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// Seats with different letters do not reach each other; those beyond are with the last.
    Sides(Vec<u8>),
    /// One does not reach the other; the other way is open, but nobody can connect.
    OneWay(usize, usize),
    /// What one sends to the other comes later.
    Clog(usize, usize),
}

impl Shape {
    fn holds_up(&self, from: usize, to: usize) -> bool {
        match self {
            Self::Sides(sides) => sides.get(from) != sides.get(to),
            Self::OneWay(a, b) | Self::Clog(a, b) => (*a, *b) == (from, to),
        }
    }

    fn cuts(&self) -> bool {
        !matches!(self, Self::Clog(..))
    }

    /// What a trace says of its beginning and its end.
    fn notes(&self, seats: usize) -> (What, What) {
        match self {
            Self::Sides(sides) => {
                let mut groups: BTreeMap<Option<u8>, Vec<usize>> = BTreeMap::new();
                for seat in 0..seats {
                    groups.entry(sides.get(seat).copied()).or_default().push(seat);
                }
                let groups = groups.into_values().collect();
                (What::PartitionBegan { groups }, What::PartitionEnded)
            }
            Self::OneWay(from, to) | Self::Clog(from, to) => {
                let (from, to) = (*from, *to);
                (What::CutBegan { from, to }, What::CutEnded { from, to })
            }
        }
    }
}

impl Links {
    /// Returns the seat at one end of a connection that is open there.
    pub(super) fn end(&self, link: LinkId, side: usize) -> Option<usize> {
        let link = self.links.get(&link).filter(|link| link.open.get(side) == Some(&true))?;
        link.ends.get(side).copied()
    }

    /// Takes note that an end gave a connection up; returns its seat and the far one if it was open
    /// there.
    pub(super) fn close_side(&mut self, id: LinkId, side: usize) -> Option<(usize, usize)> {
        let seat = self.end(id, side)?;
        let link = self.links.get_mut(&id)?;
        let far = link.ends.get(1 - side).copied()?;
        if let Some(open) = link.open.get_mut(side) {
            *open = false;
        }
        if link.open == [false; 2] {
            self.links.remove(&id);
        }
        Some((seat, far))
    }

    /// Returns how many connections there are.
    pub(super) fn count(&self) -> usize {
        self.links.len()
    }

    /// Returns the seat at the far end of a connection.
    pub(super) fn far_end(&self, link: LinkId, seat: usize) -> Option<usize> {
        let [a, b] = self.links.get(&link)?.ends;
        Some(if a == seat { b } else { a })
    }

    /// Returns the connections that touch a seat, each with the far side's number.
    fn of(&self, seat: usize) -> Vec<(LinkId, usize)> {
        let mut found = Vec::new();
        for (id, link) in &self.links {
            let [a, b] = link.ends;
            found.extend((a == seat).then_some((*id, 1)));
            found.extend((b == seat && a != b).then_some((*id, 0)));
        }
        found
    }

    fn between(&self, a: usize, b: usize) -> Vec<LinkId> {
        let mut ends = [a, b];
        ends.sort_unstable();
        let found = self.links.iter().filter(|(_, link)| {
            let mut of_link = link.ends;
            of_link.sort_unstable();
            of_link == ends
        });
        found.map(|(id, _)| *id).collect()
    }
}

impl World {
    /// Returns until when nothing comes from one seat to the other.
    fn held_until(&self, from: usize, to: usize) -> Option<u64> {
        let held = self.barriers.iter().filter(|b| b.until_ns > self.now_ns);
        held.filter(|b| b.shape.holds_up(from, to)).map(|b| b.until_ns).max()
    }

    pub(super) fn cut_off(&self, a: usize, b: usize) -> bool {
        let live = self.barriers.iter().filter(|x| x.until_ns > self.now_ns && x.shape.cuts());
        live.into_iter().any(|x| x.shape.holds_up(a, b) || x.shape.holds_up(b, a))
    }

    fn link_draws(&mut self, from: usize, to: usize) -> &mut Source {
        let draws = self.draws;
        let entity = (from as u64) << 32 | to as u64;
        self.links.draws.entry((from, to)).or_insert_with(|| draws.of(Stream::Link, entity))
    }

    /// Puts up a barrier; connections across it that idle for too long are given up.
    pub(super) fn bar(&mut self, shape: Shape, ms: u64) {
        self.barriers.retain(|barrier| barrier.until_ns > self.now_ns);
        let until_ns = self.now_ns + ms * NS_PER_MS;
        let (began, ended) = shape.notes(self.seats.len());
        self.note(None, began);
        self.queue.put(until_ns, Event::Lifted { what: ended });
        if shape.cuts() && ms > IDLE_MS {
            let crossing = self.links.links.iter().filter(|(_, link)| {
                let [a, b] = link.ends;
                shape.holds_up(a, b) || shape.holds_up(b, a)
            });
            let crossing: Vec<LinkId> = crossing.map(|(id, _)| *id).collect();
            let at_ns = self.now_ns + IDLE_MS * NS_PER_MS;
            for link in crossing {
                self.queue.put(at_ns, Event::Closed { link, side: 0 });
                self.queue.put(at_ns, Event::Closed { link, side: 1 });
            }
        }
        self.barriers.push(Barrier { until_ns, shape });
    }

    /// Lifts all barriers and makes links do what they should. Connections that broke the promises
    /// of QUIC end: what was repeated on them is answered on and on.
    pub(super) fn clear_links(&mut self) {
        self.barriers.clear();
        let links = self.links.links.keys().filter(|_| self.mangles);
        for link in links.copied().collect::<Vec<LinkId>>() {
            for side in [0, 1] {
                self.queue.put(self.now_ns, Event::Closed { link, side });
            }
        }
        let link = &mut self.options.link;
        (link.late_ppm, link.loss_ppm, link.reset_ppm, link.mangle_ppm) = (0, 0, 0, 0);
    }

    /// Sends bytes from a seat over a connection.
    pub(super) fn post(&mut self, id: LinkId, from: usize, mut bytes: Vec<u8>) {
        let Some(link) = self.links.links.get(&id) else { return };
        let [a, b] = link.ends;
        let (to, side) = if from == a { (b, 1) } else { (a, 0) };
        let options = self.options.link;
        let [least, usual] = options.delay_us;
        let draws = self.link_draws(from, to);
        let mut delay_us = draws.between(least, usual.max(least));
        if draws.chance(options.late_ppm) {
            delay_us *= draws.between(2, 100);
        }
        if draws.chance(options.loss_ppm) {
            delay_us += RETRY_US << draws.below(3);
        }
        let resets = draws.chance(options.reset_ppm);
        let kept = draws.index(bytes.len());
        let mangled = draws.chance(options.mangle_ppm);
        let held = self.held_until(from, to).unwrap_or(0);
        self.numbers += 1;
        let number = self.numbers;
        let (kind, content) = (frame_name(&bytes), trace::hash(&bytes));
        if let Some(heard) = &mut self.heard {
            heard.count(kind);
        }
        let honest = self.seats.get(from).is_some_and(|seat| seat.enemy.is_none());
        if let Some(Message::Open(open)) = message_of(&bytes, kind == "Open" && honest)
            && let Some(link) = self.links.links.get_mut(&id)
            && let Some(openings) = link.openings.get_mut(1 - side)
        {
            openings.push(open.frontier.unwrap_or_default());
        }
        if kind == "Grant" || honest && matches!(kind, "Chunk" | "Push") {
            self.check_credit(from, id, 1 - side, &bytes);
        }
        let sent = What::Sent { number, to, kind, bytes: bytes.len() as u64, content };
        self.note(Some(from), sent);
        let message = super::Message { number, from, again: false };
        let Some(link) = self.links.links.get_mut(&id) else { return };
        let (Some(busy), Some(sent)) = (link.busy_ns.get_mut(side), link.sent_ns.get_mut(side))
        else {
            return;
        };
        let mut gone_ns = self.now_ns;
        if let Some(ns) = (bytes.len() as u64 * 1_000_000_000).checked_div(options.bytes_per_s) {
            *sent = (*sent).max(self.now_ns) + ns;
            gone_ns = *sent;
        }
        let at_ns = (gone_ns.max(held) + delay_us * NS_PER_US).max(*busy + 1);
        if mangled {
            // It comes twice, or after what is sent next.
            if kept.is_multiple_of(2) {
                let message = super::Message { again: true, ..message };
                let again = Event::Deliver { link: id, side, message, bytes: bytes.clone() };
                self.queue.put(at_ns + delay_us * NS_PER_US, again);
            } else {
                let late_ns = at_ns + usual * NS_PER_US;
                let event = Event::Deliver { link: id, side, message, bytes };
                return self.queue.put(late_ns, event);
            }
        }
        *busy = at_ns;
        if resets {
            bytes.truncate(kept);
            self.queue.put(at_ns + 1, Event::Closed { link: id, side });
            self.queue
                .put(at_ns + delay_us * NS_PER_US, Event::Closed { link: id, side: 1 - side });
        }
        self.queue.put(at_ns, Event::Deliver { link: id, side, message, bytes });
    }

    /// Ends a connection once all has arrived that was sent on it.
    pub(super) fn close_after_all(&mut self, id: LinkId) {
        let Some(link) = self.links.links.get_mut(&id) else { return };
        link.ending = true;
        let at_ns = link.busy_ns.iter().copied().max().unwrap_or(0).max(self.now_ns) + 1;
        for side in [0, 1] {
            self.queue.put(at_ns, Event::Closed { link: id, side });
        }
    }

    /// Breaks the connections between two seats off, here and now.
    pub(super) fn reset(&mut self, a: usize, b: usize) {
        for link in self.links.between(a, b) {
            for side in [0, 1] {
                self.queue.put(self.now_ns, Event::Closed { link, side });
            }
        }
    }

    /// A seat falls silent: its peers notice soon if its process ended, and when nothing comes any
    /// more if the machine did.
    pub(super) fn hang_up(&mut self, seat: usize, after_ms: u64) {
        for (link, far) in self.links.of(seat) {
            self.links.close_side(link, 1 - far);
            let at_ns = self.now_ns + after_ms * NS_PER_MS;
            self.queue.put(at_ns, Event::Closed { link, side: far });
        }
    }

    /// Tries to reach a peer at one of its addresses.
    pub(super) fn dial(&mut self, from: usize, peer: [u8; 32], addresses: &[String]) {
        let seats: Vec<usize> = addresses.iter().filter_map(|at| seat_at(at)).collect();
        let [least, usual] = self.options.link.delay_us;
        let draws = self.link_draws(from, from);
        let to = seats.get(draws.index(seats.len())).copied();
        let delay_us = 2 * draws.between(least, usual.max(least));
        let life = self.seats.get(from).map_or(0, |seat| seat.life);
        let reached = to.filter(|to| !self.cut_off(from, *to));
        let delay_ns = match reached {
            Some(_) => delay_us * NS_PER_US,
            None => DIAL_MS * NS_PER_MS,
        };
        let event = Event::Dialed { from, life, peer, to: reached };
        self.queue.put(self.now_ns + delay_ns, event);
    }

    /// The outcome of an attempt to connect.
    pub(super) fn dialed(&mut self, from: usize, life: u32, peer: [u8; 32], to: Option<usize>) {
        if self.seats.get(from).is_none_or(|seat| seat.life != life || seat.node.is_none()) {
            return;
        }
        let there = to.filter(|to| !self.cut_off(from, *to)).filter(|to| {
            let seat = self.seats.get(*to);
            seat.is_some_and(|seat| seat.node.is_some() && seat.replica().0 == peer)
        });
        match there {
            Some(to) if to != from => self.connect(from, to),
            _ => {
                let (peer, reason) = (ReplicaId(peer), "nobody answers".to_owned());
                self.note(Some(from), What::Note { text: "nobody answers a dial".into() });
                self.input(from, Input::DialFailed { peer, reason });
            }
        }
    }

    /// Makes a connection from one seat to another.
    pub(super) fn connect(&mut self, from: usize, to: usize) {
        self.links.next += 1;
        let id = LinkId(self.links.next);
        let link = Link {
            ends: [from, to],
            open: [true; 2],
            busy_ns: [0; 2],
            sent_ns: [0; 2],
            openings: Default::default(),
            ending: false,
            frames: Default::default(),
            flights: Default::default(),
        };
        self.links.links.insert(id, link);
        self.note(Some(from), What::LinkUp { link: id.0, peer: to });
        for (end, far, outgoing) in [(from, to, true), (to, from, false)] {
            if let Some(peer) = self.seats.get(far).map(|seat| seat.replica()) {
                self.input(end, Input::Connected { link: id, peer, outgoing });
            }
        }
    }

    /// Returns what came of the stream to one end, unless the connection ends anyway.
    pub(crate) fn frames(&mut self, id: LinkId, side: usize) -> Option<&mut Frames> {
        let link = self.links.links.get_mut(&id).filter(|link| !link.ending)?;
        link.frames.get_mut(side)
    }

    /// Returns what two seats said that they hold in the last session that both opened; nothing if
    /// they do not have exactly one connection.
    pub(super) fn openings_between(&self, a: usize, b: usize) -> Vec<Tip> {
        let [link] = self.links.between(a, b)[..] else { return Vec::new() };
        let Some(link) = self.links.links.get(&link) else { return Vec::new() };
        let [one, other] = &link.openings;
        let last = one.len().min(other.len()).wrapping_sub(1);
        let of = |openings: &Vec<Vec<Tip>>| openings.get(last).cloned().unwrap_or_default();
        [of(one), of(other)].concat()
    }

    /// Returns what one end sent.
    pub(crate) fn flight(&mut self, id: LinkId, side: usize) -> Option<&mut Flight> {
        self.links.links.get_mut(&id)?.flights.get_mut(side)
    }

    /// Returns how many connections touch a seat.
    pub(super) fn link_count(&self, seat: usize) -> usize {
        self.links.of(seat).len()
    }

    /// Tells whether two seats have a connection.
    pub(super) fn are_connected(&self, a: usize, b: usize) -> bool {
        !self.links.between(a, b).is_empty()
    }
}

/// Reads the one message that bytes are the frame of, if it is wanted.
fn message_of(bytes: &[u8], wanted: bool) -> Option<Message> {
    let mut decoder = Decoder::default();
    decoder.push(if wanted { bytes } else { &[] });
    decoder.next().ok()?
}

/// Returns the address of a seat.
pub(super) fn address_of(seat: usize) -> String {
    format!("seat-{seat}:1")
}

fn seat_at(address: &str) -> Option<usize> {
    address.strip_prefix("seat-")?.strip_suffix(":1")?.parse().ok()
}

/// After how long without a word a connection is given up, in milliseconds.
pub(super) const IDLE_MS: u64 = 30_000;
/// How long a dial waits for an answer, in milliseconds.
const DIAL_MS: u64 = 3_000;
/// How much later a message comes that was lost once, in microseconds.
const RETRY_US: u64 = 200_000;
