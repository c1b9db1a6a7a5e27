//! What kdelta costs as work grows: with the events of a space, and with its logs.
//!
//! One store grows from size to size, so that each was written as a user would have. What is looked
//! at runs in a process of its own each time: its memory is what an open store takes. Promises: the
//! same questions at each size. Does not do: other engines, which have neither history nor logs.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kdelta::engine::base::{self, Key, LogId, Now, SpaceId, WallTime};
use kdelta::engine::crdt::Op;
use kdelta::engine::event::KeyPair;
use kdelta::engine::log::MemoryDisk;
use kdelta::engine::store::{self, KeyOp, Run, Serving, Store, Write};
use kdelta::host::replica::{Replica, SyncTarget};

use super::sync;
use crate::engines::{Engine, Kdelta, Kind, Mode};
use crate::figures::Part;
use crate::settings::Settings;
use crate::{Outcome, Res, child, data};

/// What is asked at each size, with its unit.
pub(crate) const ASKED: [(&str, &str); 6] = [
    ("open", "ms"),
    ("memory once it is open", "MiB"),
    ("get, caches empty", "µs"),
    ("get, hot", "ns"),
    ("buffered put", "µs"),
    ("history of 100 events", "ms"),
];
/// What a peer that has all but ten events needs.
pub(crate) const CATCH_UP: &str = "catch-up of 10 events";

/// Events of the key whose history is asked for.
const HISTORY: u64 = 100;
/// Events of each of many logs.
const EACH: u64 = 10;
/// How many gets and puts are timed.
const TIMES: u64 = 2_000;
/// Numbers of what is put while something is timed: beyond all sizes.
const BEYOND: u64 = 1 << 40;

/// How the figures of a size are named.
fn events_named(events: u64) -> String {
    format!("{} events", crate::render::number(events as f64))
}

fn logs_named(logs: u64) -> String {
    format!("{} log{}", crate::render::number(logs as f64), if logs == 1 { "" } else { "s" })
}

/// Tells whether the figures of a name are those of many logs.
pub(crate) fn is_of_logs(who: &str) -> bool {
    who.contains("log")
}

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    part.set("events of the key whose history is asked for", HISTORY);
    part.set("events of each of several logs", EACH);
    part.set("gets and puts a round", TIMES);
    with_events(settings, part)?;
    with_logs(settings, part)
}

/// One log that grows.
fn with_events(settings: &Settings, part: &mut Part) -> Outcome {
    let mut sizes = settings.count(vec![10_000, 100_000], vec![10_000, 100_000, 1_000_000]);
    if settings.ten_million {
        sizes.push(10_000_000);
    }
    let (dir, peer) = (settings.fresh()?, settings.fresh()?);
    old_key(&Kdelta::open(dir.path(), Mode::Buffered)?)?;
    let mut there = 0;
    for size in sizes {
        child::load(Kind::Kdelta, dir.path(), there, size - there, "close")?;
        there = size;
        looked_at(settings, part, &events_named(size), dir.path(), size)?;
        caught_up(settings, part, &events_named(size), dir.path(), peer.path())?;
    }
    if settings.hundred_million {
        let size = 100_000_000;
        child::load(Kind::Kdelta, dir.path(), there, size - there, "close")?;
        // No peer takes them all: what a catch-up costs is seen at the sizes before.
        looked_at(settings, part, &events_named(size), dir.path(), size)?;
    }
    Ok(())
}

/// Logs of as many authors, each of [`EACH`] events.
fn with_logs(settings: &Settings, part: &mut Part) -> Outcome {
    let sizes = settings.count(vec![1, 100, 1_000], vec![1, 100, 1_000, 10_000]);
    let (dir, peer) = (settings.fresh()?, settings.fresh()?);
    old_key(&Kdelta::open(dir.path(), Mode::Buffered)?)?;
    let mut there = 0;
    for size in sizes {
        let kdelta = Kdelta::open(dir.path(), Mode::Buffered)?;
        (there..size).try_for_each(|number| another_author(&kdelta, number))?;
        kdelta.flush()?;
        Box::new(kdelta).close()?;
        there = size;
        looked_at(settings, part, &logs_named(size), dir.path(), size * EACH)?;
        caught_up(settings, part, &logs_named(size), dir.path(), peer.path())?;
    }
    Ok(())
}

/// Writes the key whose history is asked for.
fn old_key(kdelta: &Kdelta) -> Outcome {
    (0..HISTORY).try_for_each(|number| kdelta.put(OLD_KEY, &data::value(number)))?;
    kdelta.flush()
}

const OLD_KEY: &[u8; 16] = b"a key of history";

/// Has an author of its own write a log, and takes it.
fn another_author(kdelta: &Kdelta, number: u64) -> Outcome {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let options = store::Options { memory_bytes: 1 << 20, segment_bytes: 1 << 20, place: None };
    let disk = std::sync::Arc::<MemoryDisk>::default();
    let now = now()?;
    let key = KeyPair::from_seed(seed);
    let (own, founder) = (key.id(), kdelta.replica.id());
    let mut author = Store::open(disk, key, seed, now, options)?.0;
    author.join_space(kdelta.space, "default")?;
    let genesis = kdelta.replica.read(|store| -> Res<Vec<u8>> {
        let frontier = store.frontier(&kdelta.space)?;
        let first = frontier.iter().find(|tip| tip.log.replica == founder).ok_or("no genesis")?;
        chunk_of(store, &kdelta.space, first.log, 1)
    })?;
    author.insert_chunk(now, &genesis)?;
    for event in number * EACH..(number + 1) * EACH {
        let key = Key::new(std::str::from_utf8(&data::key(event))?)?;
        let op = Op::PutBytes(data::value(event).as_slice().into());
        let ops = vec![KeyOp { key, op, retype: false, expect: None }];
        author.write(now, Write { space: kdelta.space, ops, ..Write::default() })?;
    }
    author.sync()?;
    let frontier = author.frontier(&kdelta.space)?;
    let tip = frontier.iter().find(|tip| tip.log.replica == own).ok_or("nothing was written")?;
    let chunk = chunk_of(&mut author, &kdelta.space, tip.log, tip.seq)?;
    kdelta.replica.read(|store| store.insert_chunk(now, &chunk))?;
    Ok(())
}

/// The first commits of a log, as a peer would be sent them.
fn chunk_of<D: kdelta::engine::log::Disk + Clone>(
    store: &mut Store<D>,
    space: &SpaceId,
    log: LogId,
    upto: u64,
) -> Res<Vec<u8>> {
    let mut serving = Serving::new([Run { log, after: 0, upto }]);
    Ok(store.next_chunk(space, &mut serving, 1 << 20)?.ok_or("nothing to send")?.bytes)
}

fn now() -> Res<Now> {
    let wall = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    Ok(Now { mono: base::Instant(wall * 1_000_000), wall: WallTime(wall) })
}

/// Asks a process of its own, round after round.
fn looked_at(settings: &Settings, part: &mut Part, who: &str, dir: &Path, events: u64) -> Outcome {
    for round in 0..settings.rounds() as u64 {
        let seen = child::look(dir, events, round)?;
        for ((what, unit), value) in ASKED.into_iter().zip(seen) {
            part.add(what, who, unit, value);
        }
    }
    Ok(())
}

/// The process's own side: opens the store and asks.
pub(crate) fn look(dir: &Path, events: u64, round: u64) -> Res<[f64; ASKED.len()]> {
    let begun = Instant::now();
    let kdelta = Kdelta::open(dir, Mode::Buffered)?;
    let open = begun.elapsed().as_secs_f64() * 1e3;
    let memory = child::memory_mib("RssAnon:");
    let keys = data::order(round, usize::try_from(TIMES)?, events);
    let gets = |count: u64| -> Res<f64> {
        let begun = Instant::now();
        for _ in 0..count {
            for number in &keys {
                if kdelta.get(&data::key(*number))? != Some(*number) {
                    return Err(format!("the key {number} is lost").into());
                }
            }
        }
        Ok(begun.elapsed().as_secs_f64() / (count * TIMES) as f64)
    };
    let (cold, hot) = (gets(1)?, gets(20)?);
    let first = BEYOND + round * TIMES;
    let begun = Instant::now();
    for number in first..first + TIMES {
        kdelta.put(&data::key(number), &data::value(number))?;
    }
    let put = begun.elapsed().as_secs_f64() / TIMES as f64;
    kdelta.flush()?;
    let begun = Instant::now();
    let bytes = kdelta.range(OLD_KEY, OLD_KEY)?;
    let history = begun.elapsed().as_secs_f64();
    if bytes as u64 != HISTORY * data::VALUE_BYTES as u64 {
        return Err(format!("only {bytes} bytes of history").into());
    }
    Box::new(kdelta).close()?;
    Ok([open, memory, cold * 1e6, hot * 1e9, put * 1e6, history * 1e3])
}

/// Brings a peer up to date, and then ten events at a time.
fn caught_up(settings: &Settings, part: &mut Part, who: &str, dir: &Path, peer: &Path) -> Outcome {
    let kdelta = Kdelta::open(dir, Mode::Buffered)?;
    sync::serve(&kdelta)?;
    let reader = Replica::open(peer)?;
    sync::sync(&reader, SyncTarget::Ticket(sync::ticket(&kdelta)?))?;
    for round in 0..settings.rounds() as u64 {
        sync::write(&kdelta, BEYOND * 2 + round * EACH, EACH, 1)?;
        let begun = Instant::now();
        let report = sync::sync(&reader, SyncTarget::All)?;
        part.add(CATCH_UP, who, "ms", begun.elapsed().as_secs_f64() * 1e3);
        if report.received_events != EACH {
            return Err(format!("not ten events: {report:?}").into());
        }
    }
    reader.close()?;
    Ok(kdelta.replica.close()?)
}
