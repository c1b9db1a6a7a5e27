//! How new commits spread among many replicas: who is reached, over how many hops, and how often
//! the same bytes arrive.
//!
//! A world of its own, in which nothing falls and messages are lost as they are on real links:
//! seats know those at distances that are powers of two, so that each has more links than new
//! commits are pushed on at first. A copy is a commit in a message that arrives, asked for or not,
//! new or not. Digests are compared meanwhile as often as ever; in the end there is less time than
//! that, so that nobody is reached by it.

use std::collections::BTreeMap;
use std::fmt;

use kdelta_engine::base::{LogId, Reader};
use kdelta_engine::limits;
use kdelta_engine::node::SpreadStats;
use kdelta_engine::sync::{Decoder, Message};

use crate::check::Broken;
use crate::draw::{Draws, Stream};
use crate::running;
use crate::scenario::{LinkOptions, Options, Scenario, Topology, WorkOp};
use crate::trace::Keep;
use crate::world::World;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// What everything is drawn from.
    pub seed: u64,
    /// How many replicas there are.
    pub replicas: usize,
    /// Of a million messages so many are lost once.
    pub loss_ppm: u32,
    /// How many commits are written, one after the other at seats that are drawn.
    pub commits: u64,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// What was played.
    pub setting: Setting,
    /// How many connections there are.
    pub links: u64,
    /// How many copies of commits arrived.
    pub copies: u64,
    /// How many commits reached how many replicas in all.
    pub reached: u64,
    /// Over how many hops, all of those together.
    pub hops: u64,
    /// Most hops of one.
    pub hops_max: u64,
    /// How long after the last commit all had been reached, in milliseconds.
    pub last_ms: u64,
    /// What all nodes counted.
    pub stats: SpreadStats,
}

/// What is followed while somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    copies: u64,
    /// Of each seat, how far it was followed in each log.
    held: BTreeMap<usize, BTreeMap<LogId, u64>>,
    /// Over how many hops a commit came to a seat. What is written there is not in here.
    hops: BTreeMap<(usize, LogId, u64), u64>,
}

impl Setting {
    /// A hundred replicas, of whose messages one in twenty is lost.
    pub const HUNDRED: Self = Self { seed: 1, replicas: 100, loss_ppm: 50_000, commits: 120 };

    /// Few enough to be played for each planted bug.
    pub const SMALL: Self = Self { replicas: 24, commits: 60, ..Self::HUNDRED };

    fn scenario(&self) -> Scenario {
        let link = LinkOptions {
            delay_us: [5_000, 60_000],
            late_ppm: 0,
            loss_ppm: self.loss_ppm,
            reset_ppm: 0,
            bytes_per_s: 0,
            mangle_ppm: 0,
        };
        let (replicas, topology) = (self.replicas, Topology::Web);
        let options = Options { replicas, topology, link, ..Options::default() };
        Scenario { seed: self.seed, options, steps: Vec::new() }
    }
}

impl Figures {
    /// Returns how many copies of a commit a replica got that had not written it, in thousandths.
    pub fn copies_milli(&self) -> u64 {
        self.copies * 1000 / self.reached.max(1)
    }

    /// Returns how many hops a commit went, in thousandths.
    pub fn hops_milli(&self) -> u64 {
        self.hops * 1000 / self.reached.max(1)
    }

    /// Returns the most hops that are allowed: a few for each doubling of the replicas.
    pub fn hops_allowed(&self) -> u64 {
        HOPS_A_DOUBLING * u64::from(self.setting.replicas.next_power_of_two().ilog2())
    }

    /// Checks what new commits may cost, and how far they may go.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn check(&self) -> Result<(), Broken> {
        if self.copies_milli() > COPIES_MILLI_MAX {
            return Err(Broken::new("commits come about once", self.to_string()));
        }
        if self.hops_max > self.hops_allowed() {
            return Err(Broken::new("commits go few hops", self.to_string()));
        }
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { replicas, loss_ppm, commits, .. } = self.setting;
        let SpreadStats { duplicates, prunes, grafts, told, .. } = self.stats;
        let (copies, hops) = (self.copies_milli(), self.hops_milli());
        let (loss, links) = (loss_ppm / 1000, self.links);
        write!(
            f,
            "{replicas} replicas, {links} links, loss {loss} ‰, {commits} commits: all reached"
        )?;
        write!(f, " {} ms after the last; ", self.last_ms)?;
        write!(
            f,
            "copies {}.{:03}; hops {}.{:03}",
            copies / 1000,
            copies % 1000,
            hops / 1000,
            hops % 1000
        )?;
        write!(f, ", at most {}; {duplicates} duplicates, {prunes} prunes", self.hops_max)?;
        write!(f, ", {grafts} grafts, {told} told")
    }
}

/// Plays a setting.
///
/// # Errors
/// [`Broken`] if somebody is not reached, or any other promise does not hold.
pub fn measure(setting: &Setting) -> Result<Figures, Broken> {
    let _running = running::begin();
    let mut world = World::new(&setting.scenario(), Keep::Digest);
    world.found()?;
    world.run_for(SETTLE_MS)?;
    world.follow();
    let mut work = Draws::new(setting.seed).of(Stream::Work, 0);
    for number in 0..setting.commits {
        let seat = work.index(setting.replicas);
        let value = u32::try_from(number).unwrap_or(0);
        world.write(seat, &[WorkOp::Put(value, value)]);
        world.run_for(work.between(0, 2 * GAP_MS))?;
    }
    let mut last_ms = 0;
    while !world.all_hold_the_same() {
        if last_ms > REACH_MS_MAX {
            let seen = format!("of {setting:?}, {last_ms} ms after the last commit");
            return Err(Broken::new("news reach everybody soon", seen));
        }
        world.run_for(STEP_MS)?;
        last_ms += STEP_MS;
    }
    // What is on its way is a copy, too.
    world.run_for(REACH_MS_MAX)?;
    let followed = world.followed().unwrap_or_default();
    let hops = || followed.hops.values().copied();
    Ok(Figures {
        setting: *setting,
        links: world.link_count_of_all(),
        copies: followed.copies,
        reached: followed.hops.len() as u64,
        hops: hops().sum(),
        hops_max: hops().max().unwrap_or(0),
        last_ms,
        stats: world.spreading(),
    })
}

impl World {
    /// Follows what arrives from now on.
    fn follow(&mut self) {
        let held = self.seats.iter().enumerate().map(|(at, seat)| (at, seat.seen.clone()));
        self.followed = Some(Followed { held: held.collect(), ..Followed::default() });
    }

    fn followed(&mut self) -> Option<Followed> {
        self.followed.take()
    }

    /// Takes note of what came with a message.
    pub(crate) fn follow_message(&mut self, at: usize, from: usize, commits: u64) {
        let Some(followed) = self.followed.as_mut() else { return };
        let Some(seat) = self.seats.get(at) else { return };
        followed.copies += commits;
        let own = seat.replica();
        for (log, seq) in seat.seen.iter().filter(|(log, _)| log.replica != own) {
            let held = followed.held.entry(at).or_default().insert(*log, *seq).unwrap_or(0);
            for seq in held + 1..=*seq {
                let before = followed.hops.get(&(from, *log, seq)).copied().unwrap_or(0);
                followed.hops.insert((at, *log, seq), before + 1);
            }
        }
    }

    fn all_hold_the_same(&mut self) -> bool {
        let space = self.space;
        let mut states = Vec::new();
        for at in self.awake() {
            states.push(self.store(at).and_then(|store| store.state_hash(&space).ok().flatten()));
        }
        states.windows(2).all(|pair| pair.first() == pair.last()) && !states.contains(&None)
    }

    fn spreading(&self) -> SpreadStats {
        let mut sum = SpreadStats::default();
        for node in self.seats.iter().filter_map(|seat| seat.node.as_ref()) {
            let SpreadStats { pushes, duplicates, prunes, grafts, told, stalls } = node.spreading();
            sum.pushes += pushes;
            sum.duplicates += duplicates;
            sum.prunes += prunes;
            sum.grafts += grafts;
            sum.told += told;
            sum.stalls += stalls;
        }
        sum
    }
}

/// Returns how many commits a frame carries, if it is one that carries some.
pub(crate) fn commits_in(frame: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::default();
    decoder.push(frame);
    let (Message::Chunk { bytes, .. } | Message::Push { bytes, .. }) = decoder.next().ok()?? else {
        return None;
    };
    let mut reader = Reader::new(&bytes);
    reader.take(CHUNK_HEAD_BYTES).ok()?;
    reader.bytes(limits::CHUNK_BYTES_MAX, "dictionary").ok()?;
    Some(reader.count(limits::CHUNK_COMMITS_MAX, 1, "commits").ok()? as u64)
}

/// What stands before the dictionary of a chunk, in bytes: version, space and time.
const CHUNK_HEAD_BYTES: usize = 1 + 32 + 8;
/// How long all have to find each other, in milliseconds.
const SETTLE_MS: u64 = 20_000;
/// How far apart commits are on average, in milliseconds.
const GAP_MS: u64 = 500;
/// How soon all must be reached after the last commit, in milliseconds.
const REACH_MS_MAX: u64 = 10_000;
const STEP_MS: u64 = 100;
/// Most copies of a commit that a replica gets on average, in thousandths.
const COPIES_MILLI_MAX: u64 = 1_500;
/// Most hops for each doubling of the replicas.
const HOPS_A_DOUBLING: u64 = 4;
