//! Whether a session comes forward: one that does not is broken off, however much is said in it.
//!
//! A peer that sends something now and then may keep a session open for ever, and with it whoever
//! waits for its end. So only that counts of which there is an end: steps of the session itself,
//! commits that came for the first time in it, and commits that the peer asked for once and took.
//! A slow link brings those, too, and lives.

use std::time::Duration;

use crate::base::Instant;
use crate::causal::{Tip, VersionVector};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_WHOLE_BYTES_MAX, CREDIT_WINDOW_BYTES};
use crate::store::Run;

/// How far the session about one space has come, and since when.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: Instant,
    /// [`Session::steps_forward`](crate::sync::Session::steps_forward) as of then.
    steps: u64,
    /// What the peer delivered in this session.
    brought: VersionVector,
    /// How many parts of large chunks came since anything was delivered.
    parts: usize,
    /// What the peer asked for in this session.
    asked: VersionVector,
    /// Bytes that were sent of what was asked for the first time, and not given back.
    in_flight: u64,
    /// Bytes of those that were given back since the last time that this counted.
    given: u64,
}

impl Pace {
    /// Begins anew with a session.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Self { since: now, ..Self::default() };
    }

    /// Tells whether nothing came forward for too long.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.since.plus(STANDSTILL) <= now
    }

    /// Takes note of how many steps the session has made.
    pub(super) fn stepped(&mut self, now: Instant, steps: u64) {
        if steps > self.steps {
            (self.steps, self.since) = (steps, now);
        }
    }

    /// Takes note of a part of a large chunk. So many as one chunk has count between deliveries.
    pub(super) fn part_came(&mut self, now: Instant, bytes: usize) {
        if bytes == CHUNK_BYTES_MAX && self.parts < CHUNK_WHOLE_BYTES_MAX / CHUNK_BYTES_MAX {
            self.parts += 1;
            self.since = now;
        }
    }

    /// Takes note of commits that were asked for and are held now.
    pub(super) fn delivered(&mut self, now: Instant, tips: impl Iterator<Item = Tip>) {
        for tip in tips {
            if !self.brought.contains(&tip.log, tip.seq) {
                self.brought.advance(tip.log, tip.seq);
                (self.parts, self.since) = (0, now);
            }
        }
    }

    /// Takes note of a request; tells whether all of it is asked for the first time.
    pub(super) fn asks_for_new(&mut self, runs: &[Run]) -> bool {
        let mut new = true;
        for run in runs {
            new &= run.after >= self.asked.get(&run.log);
            self.asked.advance(run.log, run.upto);
        }
        new
    }

    /// Takes note of bytes that were sent of such a request.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.in_flight += bytes as u64;
    }

    /// Takes note of bytes that the peer gave back. An honest one does so in steps of a quarter of
    /// the window.
    pub(super) fn granted(&mut self, now: Instant, bytes: u64) {
        let bytes = bytes.min(self.in_flight);
        self.in_flight -= bytes;
        self.given += bytes;
        if self.given >= CREDIT_WINDOW_BYTES / 4 {
            (self.given, self.since) = (0, now);
        }
    }
}

/// How long a session may stand still: a link of 4 KiB a second brings a whole part, or takes a
/// quarter of the window, in less.
const STANDSTILL: Duration = Duration::from_secs(300);
