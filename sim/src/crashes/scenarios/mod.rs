//! The scripts: what a replica lives through while the power is cut everywhere.
//!
//! Each is a few lines over [`Stage`]. Segments are tiny, so that they are sealed often.

mod disks;
mod lives;
mod peers;
mod tickets;
mod writes;

use super::stage::{Done, Stage};

/// Which promises hold in a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All of them.
    Plain,
    /// The disk is full at times: recovery may leave something for later.
    Full,
    /// Something rotted: what it concerns is missing until a peer brings it back.
    Rotten,
    /// The disk was set back: numbers are safe once the peer was met.
    SetBack,
    /// The replica was copied: its log has two branches.
    Forked,
    /// Nobody is open: who meets must be admitted, by a ticket.
    Closed,
}

/// One script.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) segment_bytes: u32,
    pub(crate) script: fn(&mut Stage) -> Done,
}

const fn plain(name: &'static str, script: fn(&mut Stage) -> Done) -> Scenario {
    Scenario { name, kind: Kind::Plain, segment_bytes: 16 << 10, script }
}

/// A script in which segments are sealed after a few commits.
const fn tiny(name: &'static str, kind: Kind, script: fn(&mut Stage) -> Done) -> Scenario {
    Scenario { name, kind, segment_bytes: 2 << 10, script }
}

/// All scripts.
pub(crate) static SCENARIOS: &[Scenario] = &[
    plain("first-open", writes::first_open),
    plain("buffered-puts", writes::buffered_puts),
    plain("durable-puts", writes::durable_puts),
    plain("batches", writes::batches),
    tiny("seals", Kind::Plain, writes::seals),
    tiny("deletes", Kind::Plain, writes::deletes),
    plain("counters", writes::counters),
    plain("sets-and-maps", writes::sets_and_maps),
    tiny("tags", Kind::Plain, writes::tags),
    plain("spaces", writes::spaces),
    plain("admissions", lives::admissions),
    tiny("close-and-reopen", Kind::Plain, lives::close_and_reopen),
    tiny("crash-and-reopen", Kind::Plain, lives::crash_and_reopen),
    tiny("lost-sidecars", Kind::Plain, lives::lost_sidecars),
    tiny("failing-syncs", Kind::Plain, disks::failing_syncs),
    tiny("failing-writes", Kind::Plain, disks::failing_writes),
    tiny("full-disk", Kind::Full, disks::full_disk),
    tiny("sync-in", Kind::Plain, peers::sync_in),
    tiny("both-ways", Kind::Plain, peers::both_ways),
    plain("large-chunk", peers::large_chunk),
    tiny("copy-in", Kind::Plain, peers::copy_in),
    tiny("repair", Kind::Rotten, peers::repair),
    tiny("set-back", Kind::SetBack, peers::set_back),
    tiny("fork", Kind::Forked, peers::fork),
    tiny("ticket-taken", Kind::Closed, tickets::ticket_taken),
    tiny("ticket-issued", Kind::Closed, tickets::ticket_issued),
];
