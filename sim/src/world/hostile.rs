//! Hostile peers among the replicas: they come, connect to some, act once a second, and go.
//!
//! A hostile peer sits on a seat of its own without a replica, and is dialled by nobody: it is
//! connected as its scenario says, from either side. What it may cost is checked while it is there.

use kdelta_engine::limits::CHUNK_WHOLE_BYTES_MAX;
use kdelta_engine::log::{Disk, FileKind};
use kdelta_engine::node::Input;

use super::{Event, NS_PER_MS, World};
use crate::byzantine::{self, Attack, Byzantine};
use crate::check::Broken;
use crate::disk::SimDisk;
use crate::draw::Stream;
use crate::trace::What;

/// A hostile peer at its seat.
#[derive(Debug)]
pub(crate) struct Enemy {
    pub(super) peer: Byzantine,
    victims: Vec<usize>,
    until_ns: u64,
}

impl World {
    /// A hostile peer takes the next free seat.
    pub(super) fn seat_enemy(&mut self, to: usize, attack: Attack, ms: u64, victims: &[usize]) {
        if to != self.seats.len() || self.options.absent.contains(&to) {
            return;
        }
        let seed = self.draws.of(Stream::Hostile, to as u64).seed();
        let mut peer = Byzantine::new(seed, attack);
        peer.join(self.now(to), self.space);
        if self.options.owned && attack == Attack::Trespass {
            self.admit_trespasser(peer.replica()).into_iter().for_each(|pass| peer.granted(pass));
        }
        // What it writes in its own logs is its own affair.
        self.facts.may_fork(Some(peer.replica()));
        let at = self.seat(to, SimDisk::new().into());
        let (until_ns, victims) = (self.now_ns + ms * NS_PER_MS, victims.to_vec());
        if let Some(seat) = self.seats.get_mut(at) {
            seat.enemy = Some(Box::new(Enemy { peer, victims, until_ns }));
        }
        self.note(Some(at), What::Note { text: format!("is hostile: {attack}").into() });
        self.enemy_acts(at);
    }

    /// A hostile peer connects to whom it is not connected, and acts; or it is gone.
    pub(super) fn enemy_acts(&mut self, at: usize) {
        let now = self.now(at);
        let Some(enemy) = self.seats.get(at).and_then(|seat| seat.enemy.as_ref()) else { return };
        let (victims, until_ns) = (enemy.victims.clone(), enemy.until_ns);
        if self.healed || self.now_ns >= until_ns {
            return self.hang_up(at, 1);
        }
        for (number, victim) in victims.into_iter().enumerate() {
            let awake = self.seats.get(victim).is_some_and(|seat| seat.node.is_some());
            if awake && !self.are_connected(at, victim) && !self.cut_off(at, victim) {
                let (from, to) = if number % 2 == 0 { (at, victim) } else { (victim, at) };
                self.connect(from, to);
            }
            self.check_spools(victim);
            self.check_waiting_room(victim);
        }
        if let Some(enemy) = self.seats.get_mut(at).and_then(|seat| seat.enemy.as_mut()) {
            let actions = enemy.peer.tick(now);
            self.carry_out(at, actions);
        }
        self.queue.put(self.now_ns + ACT_NS, Event::Enemy { seat: at });
    }

    /// Something happens on a hostile peer's link.
    pub(super) fn enemy_input(&mut self, at: usize, input: Input) {
        let Some(enemy) = self.seats.get_mut(at).and_then(|seat| seat.enemy.as_mut()) else {
            return;
        };
        let actions = match input {
            Input::Connected { link, peer, outgoing } => enemy.peer.connected(link, peer, outgoing),
            Input::Received { link, bytes } => enemy.peer.received(link, &bytes),
            Input::Closed { link, .. } => {
                enemy.peer.closed(link);
                Vec::new()
            }
            Input::DialFailed { .. }
            | Input::Found { .. }
            | Input::Here { .. }
            | Input::Synced(..)
            | Input::Tick => Vec::new(),
        };
        self.carry_out(at, actions);
    }

    fn carry_out(&mut self, at: usize, actions: Vec<byzantine::Action>) {
        for action in actions {
            match action {
                byzantine::Action::Send { link, bytes } => self.post(link, at, bytes),
                byzantine::Action::Close { link } => self.close_after_all(link),
            }
        }
    }

    /// Checks that what waits for its past takes no more than a quarter of a replica's memory.
    fn check_waiting_room(&mut self, at: usize) {
        let bytes_max = self.options.memory_bytes / 4;
        let Some(store) = self.store(at) else { return };
        let waiting = store.waiting_len();
        if waiting * WAITING_BYTES > bytes_max {
            let seen =
                format!("{waiting} commits wait on seat {at}, for {bytes_max} bytes of room");
            self.facts.broken = Some(Broken::new("a peer costs a bounded amount", seen));
        }
    }

    /// Checks that what comes in parts takes no more of a disk than one chunk for each stream.
    fn check_spools(&mut self, at: usize) {
        let links = self.link_count(at) as u64;
        let Some(seat) = self.seats.get(at) else { return };
        let memory = seat.disk.memory();
        let files = memory.files(FileKind::Spool).unwrap_or_default();
        let bytes: u64 = files.iter().filter_map(|file| memory.size(*file)).sum();
        // Of a connection that was just lost the spool may be there still.
        if bytes > (links + 2) * 2 * CHUNK_WHOLE_BYTES_MAX as u64 {
            let seen = format!("seat {at} has {bytes} bytes in parts, from {links} links");
            self.facts.broken = Some(Broken::new("a peer costs a bounded amount", seen));
        }
    }
}

/// The least that a commit costs which waits, in bytes.
const WAITING_BYTES: usize = 512;
/// How often a hostile peer acts, in nanoseconds.
const ACT_NS: u64 = 1_000 * NS_PER_MS;
