//! What must hold when a replica that crashed meets its peer again: both end equal, with all that
//! either held, and nobody ever gave one number to two commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use kdelta_engine::base::{Key, Rng, SpaceId};
use kdelta_engine::crdt::Op;
use kdelta_engine::event::KeyPair;
use kdelta_engine::log::{CrashMode, MemoryDisk};
use kdelta_engine::node::{Input, LinkId, Node};
use kdelta_engine::store::{KeyOp, Write};

use super::content::Content;
use super::judge::{AFTER, LATER_MS, ensure};
use super::model::Model;
use super::scenarios::Kind;
use super::stage::{SUBJECT_KEY, Shared, clocks, drain, open, shut};
use super::tickets::Issued;

type Disk = Arc<MemoryDisk>;

/// Two that meet.
struct Meeting {
    nodes: [Node<Disk>; 2],
    disks: [Disk; 2],
    ms: u64,
}

/// Opens what a crash left and the peer as it is on `peer`, lets them meet, write and meet again.
///
/// # Errors
/// What did not hold.
pub(crate) fn check(
    kind: Kind,
    disk: &MemoryDisk,
    (peer, key): (&MemoryDisk, u8),
    shared: &Shared,
    segment_bytes: u32,
) -> Result<(), String> {
    let disks: [Disk; 2] = [Arc::new(disk.snapshot()), Arc::new(peer.snapshot())];
    let [own, far] = &disks;
    own.faults(|faults| faults.space = None);
    // The peer is alive: what it wrote is there, whether synced or not.
    far.crash(CrashMode::KeepAll, &mut Rng::new([0; 32]));
    let start = |disk: &Disk, key, life| {
        let opened = open(Arc::clone(disk), key, life, clocks(LATER_MS), segment_bytes);
        let (mut node, _) = opened.map_err(|halt| halt.0)?;
        if shared.closed {
            node.set_config(shut());
        }
        Ok::<_, String>(node)
    };
    let nodes = [start(own, SUBJECT_KEY, LATER_MS)?, start(far, key, LATER_MS + 1)?];
    let mut meeting = Meeting { nodes, disks, ms: LATER_MS };
    if let Some(issued) = &shared.issued {
        meeting.take(issued)?;
    }
    let [own, far] = &mut meeting.nodes;
    let before = [Content::read(own.store()), Content::read(far.store())];
    let Some(space) = common(&before) else { return Ok(()) };
    if kind == Kind::Rotten {
        own.store().begin_repair().map_err(|error| format!("a repair begins: {error}"))?;
    }
    meeting.meet()?;
    let [own, _] = &mut meeting.nodes;
    if kind == Kind::Rotten {
        let done =
            own.store().finish_repair().map_err(|error| format!("it is repaired: {error}"))?;
        ensure(done.missing.is_empty(), "a peer makes it whole", &done)?;
    }
    meeting.write(space)?;
    meeting.run()?;
    // Digests are compared anew each minute: what was missed the first time is found.
    for _ in 0..2 {
        meeting.pass(61_000)?;
    }
    meeting.compare(kind, space, &before, &shared.model)?;
    match &shared.issued {
        Some(issued) => {
            let late = Arc::new(MemoryDisk::new());
            let node = start(&late, LATE_KEY, LATER_MS + 2)?;
            meeting.turn_away(issued, node, late)
        }
        None => Ok(()),
    }
}

/// Returns the space that both serve.
fn common([own, far]: &[Content; 2]) -> Option<SpaceId> {
    own.spaces.keys().find(|space| far.spaces.contains_key(space)).copied()
}

impl Meeting {
    /// Whoever was given a ticket takes it, unless that was done.
    fn take(&mut self, issued: &Issued) -> Result<(), String> {
        let taker = self.nodes.iter_mut().find(|node| {
            let id = node.store_ref().replica();
            id != KeyPair::from_seed([issued.by; 32]).id()
        });
        let taken = taker.map(|node| issued.take(node.store()));
        taken.unwrap_or(Ok(())).map_err(|error| format!("a ticket is taken: {error}"))
    }

    /// Somebody else with a ticket that was used gets nothing by it.
    fn turn_away(
        mut self,
        issued: &Issued,
        mut late: Node<Disk>,
        disk: Disk,
    ) -> Result<(), String> {
        issued.take(late.store()).map_err(|error| format!("a ticket is taken: {error}"))?;
        let issuer = KeyPair::from_seed([issued.by; 32]).id();
        let at = usize::from(self.nodes.first().is_none_or(|n| n.store_ref().replica() != issuer));
        if at == 1 {
            self.nodes.swap(0, 1);
            self.disks.swap(0, 1);
        }
        let ([issuer, _], [issuers, _]) = (self.nodes, self.disks);
        let mut meeting = Self { nodes: [late, issuer], disks: [disk, issuers], ms: self.ms };
        meeting.meet()?;
        let [late, _] = &mut meeting.nodes;
        let got = late.store().frontier(&issued.space).unwrap_or_default();
        ensure(got.is_empty(), "a ticket that was used admits nobody else", &got)
    }

    fn meet(&mut self) -> Result<(), String> {
        let now = clocks(self.ms);
        let [own, far] = &mut self.nodes;
        let ids = [own.store_ref().replica(), far.store_ref().replica()];
        let [own_id, far_id] = ids;
        own.handle(now, Input::Connected { link: LINK, peer: far_id, outgoing: true });
        far.handle(now, Input::Connected { link: LINK, peer: own_id, outgoing: false });
        self.run()
    }

    /// Lets time pass.
    fn pass(&mut self, ms: u64) -> Result<(), String> {
        self.ms += ms;
        for node in &mut self.nodes {
            node.handle(clocks(self.ms), Input::Tick);
        }
        self.run()
    }

    fn run(&mut self) -> Result<(), String> {
        let (now, [own, far], [own_disk, far_disk]) =
            (clocks(self.ms), &mut self.nodes, &self.disks);
        for _ in 0..ROUNDS_MAX {
            let there = drain(own, own_disk, far, now, &mut |_, _| {});
            let back = drain(far, far_disk, own, now, &mut |_, _| {});
            if !there && !back {
                return Ok(());
            }
        }
        Err("the two never come to rest".to_owned())
    }

    /// The one that crashed writes.
    fn write(&mut self, space: SpaceId) -> Result<(), String> {
        self.ms += 1;
        let key = Key::new(AFTER).map_err(|error| error.to_string())?;
        let ops = vec![KeyOp { key, op: Op::CounterAdd(1), retype: false, expect: None }];
        let [own, _] = &mut self.nodes;
        let write = Write { space, ops, ..Write::default() };
        let written = own.store().write(clocks(self.ms), write);
        written.map(drop).map_err(|error| format!("it writes after a meeting: {error}"))
    }

    fn compare(
        &mut self,
        kind: Kind,
        space: SpaceId,
        before: &[Content; 2],
        model: &Model,
    ) -> Result<(), String> {
        let [own, far] = &mut self.nodes;
        let closed = own.store().closed_logs(&space).unwrap_or_default();
        let forks = usize::from(kind == Kind::Forked);
        ensure(closed.len() <= forks, "no number names two commits", &closed)?;
        let [own, far] = [Content::read(own.store()), Content::read(far.store())];
        let (Some(own), Some(far)) = (own.spaces.get(&space), far.spaces.get(&space)) else {
            return Err("both still serve the space".to_owned());
        };
        let whole = own.state_hash.is_some() && own.state_hash == far.state_hash;
        ensure(whole, "both hold the same", (&own.logs.keys(), own.held(), far.held()))?;
        ensure(own.value_hash == far.value_hash, "both show the same", (&own.shown, &far.shown))?;
        let mut held: BTreeMap<_, u64> = BTreeMap::new();
        for space in before.iter().filter_map(|content| content.spaces.get(&space)) {
            for (log, seq) in space.held() {
                let last = held.entry(log).or_default();
                *last = (*last).max(seq);
            }
        }
        let expected = match kind {
            // All that both ever told anybody, on either branch.
            Kind::Forked => return check_sums(own.shown.as_ref(), model),
            // What was hidden before is there now.
            Kind::Rotten => model.fold(space, &model.known(space, &own.logs)),
            _ => model.fold(space, &held),
        };
        let mut shown = own.shown.clone().unwrap_or_default();
        shown.keys.remove(AFTER);
        ensure(shown == expected, "together they show all that either held", (&shown, &expected))
    }
}

/// Of a log that was copied, no branch loses what was durable: counters are at least the sum of
/// what was acknowledged, and at most of what was written.
fn check_sums(shown: Option<&super::model::Shown>, model: &Model) -> Result<(), String> {
    let mut bounds: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for entry in model.entries.values().chain(&model.twin) {
        for (key, act) in &entry.acts {
            let super::model::Act::Count(by) = act else { continue };
            let (least, most) = bounds.entry(key).or_default();
            // What the peer wrote is durable there.
            *least += if entry.acked || entry.stamp.is_none() { *by } else { 0 };
            *most += by;
        }
    }
    for (key, (least, most)) in bounds {
        let text = shown.and_then(|shown| shown.keys.get(key));
        let sum = text.and_then(|text| text.strip_prefix("count ")?.parse::<i64>().ok());
        let sum = sum.unwrap_or(0);
        let within = (least..=most).contains(&sum);
        ensure(within, "both branches count", (key, sum, least, most))?;
    }
    Ok(())
}

/// The seed of the key of somebody who comes late.
const LATE_KEY: u8 = 3;
const LINK: LinkId = LinkId(u64::MAX);
/// After so many turns two that still talk never end.
const ROUNDS_MAX: usize = 10_000;
