//! Sync over loopback QUIC: a fresh replica, a short catch-up, and how soon a put is seen.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kdelta::host::replica::{Replica, SyncReport, SyncTarget};
use tempfile::TempDir;

use crate::engines::{Engine, Kdelta, Mode};
use crate::figures::Part;
use crate::settings::Settings;
use crate::syncs::{Kind, Peer};
use crate::work::rounds;
use crate::{Outcome, Res, data, raw};

/// Whoever syncs.
pub(crate) const WHO: &str = "kdelta";
/// The stream without a store around it.
pub(crate) const STREAM: &str = "raw stream of QUIC, the same bytes";
/// The writer on the spot.
pub(crate) const LOCAL: &str = "kdelta, buffered put of the same";

/// The name of a fresh replica's sync, by events a commit.
pub(crate) fn fresh_named(batch: u64) -> String {
    format!("fresh replica, {batch} event{} a commit", if batch == 1 { "" } else { "s" })
}

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    for (batch, events) in
        [(1, settings.count(10_000, 100_000)), (100, settings.count(20_000, 300_000))]
    {
        fresh(settings, part, batch, events)?;
    }
    catch_up(settings, part)?;
    latency(settings, part)
}

fn open(dir: &Path, mode: Mode) -> Res<Kdelta> {
    Kdelta::open(dir, mode)
}

/// Writes the events of some numbers, so many a commit.
pub(super) fn write(kdelta: &Kdelta, from: u64, count: u64, batch: u64) -> Outcome {
    for first in (from..from + count).step_by(usize::try_from(batch)?) {
        let rows: Vec<_> = (first..first + batch.min(from + count - first))
            .map(|number| (data::key(number), data::value(number)))
            .collect();
        let ops: Vec<_> =
            rows.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))).collect();
        kdelta.batch(&ops)?;
    }
    kdelta.flush()
}

pub(super) fn serve(kdelta: &Kdelta) -> Outcome {
    kdelta.replica.serve("127.0.0.1:0".parse()?, Vec::new(), false)?;
    Ok(())
}

pub(super) fn ticket(kdelta: &Kdelta) -> Res<String> {
    Ok(kdelta.replica.ticket(kdelta.space, Duration::from_secs(600), 1)?)
}

/// Syncs with one peer, which must end in sync.
pub(super) fn sync(replica: &Replica, target: SyncTarget) -> Res<SyncReport> {
    let report = replica.sync(target, None)?.pop().ok_or("nobody was asked")?;
    if report.in_sync { Ok(report) } else { Err(format!("not in sync: {report:?}").into()) }
}

fn fresh(settings: &Settings, part: &mut Part, batch: u64, events: u64) -> Outcome {
    part.set(&format!("events, {batch} a commit"), events);
    let dir = settings.fresh()?;
    let source = open(dir.path(), Mode::Buffered)?;
    write(&source, 0, events, batch)?;
    serve(&source)?;
    let mut others = Vec::new();
    for kind in Kind::ALL.iter().copied().filter(|kind| batch == 1 || kind.has_commits()) {
        let mut other = Other::open(settings, kind)?;
        let events = kind.counts(settings).fresh;
        part.set(&format!("events of a fresh replica of {}", kind.name()), events);
        other.peer.write(0, 0..events, batch)?;
        others.push(other);
    }
    let turns: Vec<usize> = (0..=others.len()).collect();
    rounds(settings.rounds(), &turns, |turn| match turn.checked_sub(1) {
        None => own_fresh(settings, part, &source, batch, events),
        Some(at) => other_fresh(settings, part, &mut others[at], batch),
    })?;
    for other in others {
        other.peer.close()?;
    }
    Ok(source.replica.close()?)
}

/// One of those beside kdelta, with the directory that it lies in.
struct Other {
    kind: Kind,
    peer: Box<dyn Peer>,
    _dir: TempDir,
}

impl Other {
    fn open(settings: &Settings, kind: Kind) -> Res<Self> {
        let dir = settings.fresh()?;
        Ok(Self { kind, peer: kind.open(dir.path())?, _dir: dir })
    }
}

fn other_fresh(settings: &Settings, part: &mut Part, other: &mut Other, batch: u64) -> Outcome {
    let (what, who) = (fresh_named(batch), other.kind.name());
    let events = other.kind.counts(settings).fresh;
    other.peer.empty(settings.fresh()?)?;
    let taken = other.peer.sync(events)?;
    other.peer.check(events)?;
    part.add(&what, who, "events/s", events as f64 / taken.time.as_secs_f64());
    if let Some(wire) = taken.wire {
        let bytes = wire.received as f64 / events as f64;
        part.add(&format!("{what}: bytes an event"), who, "bytes", bytes);
    }
    Ok(())
}

fn own_fresh(
    settings: &Settings,
    part: &mut Part,
    source: &Kdelta,
    batch: u64,
    events: u64,
) -> Outcome {
    let what = fresh_named(batch);
    let dir = settings.fresh()?;
    let sink = Replica::open(dir.path())?;
    let target = SyncTarget::Ticket(ticket(source)?);
    let begun = Instant::now();
    let report = sync(&sink, target)?;
    let taken = begun.elapsed().as_secs_f64();
    part.add(&what, WHO, "events/s", events as f64 / taken);
    let bytes = usize::try_from(report.received_bytes)?;
    part.add(&format!("{what}: bytes an event"), WHO, "bytes", bytes as f64 / events as f64);
    sink.close()?;
    let taken = raw::stream(bytes)?.as_secs_f64();
    part.add(&what, STREAM, "events/s", events as f64 / taken);
    let dir = settings.fresh()?;
    let local = open(dir.path(), Mode::Buffered)?;
    let begun = Instant::now();
    write(&local, 0, events, batch)?;
    part.add(&what, LOCAL, "events/s", events as f64 / begun.elapsed().as_secs_f64());
    Ok(local.replica.close()?)
}

/// The catch-up's round trips.
pub(crate) const TRIPS: &str = "catch-up of 10 events, round trips";
/// Its bytes, both ways, without the commits and what vouches for them.
pub(crate) const OVERHEAD: &str = "catch-up of 10 events, bytes besides the commits";
/// The same without the keys and values only.
pub(crate) const HEADERS: &str = "catch-up of 10 events, bytes besides keys and values";
/// How long it takes.
pub(crate) const CATCH_UP: &str = "catch-up of 10 events, with the connection";

/// Logs of the catch-up, of which each gets an event.
const LOGS: u64 = 10;

fn catch_up(settings: &Settings, part: &mut Part) -> Outcome {
    let each: u64 = settings.count(5_000, 100_000);
    part.set("events before a catch-up", each * LOGS);
    let mut own = Own::open(settings, each)?;
    let mut others = Vec::new();
    for kind in Kind::ALL.iter().copied() {
        others.push(behind(settings, part, kind)?);
    }
    let turns: Vec<usize> = (0..=others.len()).collect();
    let mut news = vec![0; turns.len()];
    rounds(settings.rounds(), &turns, |turn| {
        let round = news[turn];
        news[turn] += 1;
        match turn.checked_sub(1) {
            None => own.catch_up(part, LOGS * each + round * LOGS),
            Some(at) => other_catch_up(settings, part, &mut others[at], round),
        }
    })?;
    for other in others {
        other.peer.close()?;
    }
    own.close()
}

/// One of those beside kdelta, with a replica that has everything so far.
fn behind(settings: &Settings, part: &mut Part, kind: Kind) -> Res<Other> {
    let each = kind.counts(settings).each;
    part.set(&format!("events before a catch-up of {}", kind.name()), each * LOGS);
    let mut other = Other::open(settings, kind)?;
    for author in 0..LOGS {
        other.peer.write(author, author * each..(author + 1) * each, 100)?;
    }
    other.peer.empty(settings.fresh()?)?;
    other.peer.sync(LOGS * each)?;
    other.peer.check(LOGS * each)?;
    Ok(other)
}

fn other_catch_up(settings: &Settings, part: &mut Part, other: &mut Other, round: u64) -> Outcome {
    let from = LOGS * (other.kind.counts(settings).each + round);
    for author in 0..LOGS {
        other.peer.write(author, from + author..from + author + 1, 1)?;
    }
    let taken = other.peer.sync(LOGS)?;
    other.peer.check(from + LOGS)?;
    let who = other.kind.name();
    part.add(CATCH_UP, who, "ms", taken.time.as_secs_f64() * 1000.0);
    if let Some(wire) = taken.wire {
        part.add(TRIPS, who, "round trips", f64::from(wire.trips));
        part.add(HEADERS, who, "bytes", (wire.sent + wire.received) as f64 - CARRIED as f64);
    }
    Ok(())
}

/// Bytes of the keys and values of a catch-up.
const CARRIED: u64 = LOGS * (16 + data::VALUE_BYTES as u64);

/// Kdelta's replicas of a catch-up.
struct Own {
    hub: Kdelta,
    /// Those who write to the other logs.
    authors: Vec<Kdelta>,
    reader: Replica,
    _dirs: Vec<TempDir>,
}

impl Own {
    fn open(settings: &Settings, each: u64) -> Res<Self> {
        let mut dirs = (0..LOGS).map(|_| settings.fresh()).collect::<Res<Vec<_>>>()?;
        let hub = open(dirs[0].path(), Mode::Buffered)?;
        serve(&hub)?;
        let mut authors = Vec::new();
        for (at, dir) in (0_u64..).zip(&dirs) {
            let author =
                if at == 0 { None } else { Some(Kdelta::open(dir.path(), Mode::Buffered)?) };
            // Which space is the author's own `default` is settled by the ticket, before it writes.
            let author = match author {
                Some(mut author) => {
                    sync(&author.replica, SyncTarget::Ticket(ticket(&hub)?))?;
                    author.space = hub.space;
                    Some(author)
                }
                None => None,
            };
            write(author.as_ref().unwrap_or(&hub), at * each, each, 100)?;
            if let Some(author) = author {
                sync(&author.replica, SyncTarget::All)?;
                authors.push(author);
            }
        }
        let dir = settings.fresh()?;
        let reader = Replica::open(dir.path())?;
        sync(&reader, SyncTarget::Ticket(ticket(&hub)?))?;
        dirs.push(dir);
        Ok(Self { hub, authors, reader, _dirs: dirs })
    }

    /// Lets each author write one event, and the reader catch up.
    fn catch_up(&mut self, part: &mut Part, from: u64) -> Outcome {
        write(&self.hub, from, 1, 1)?;
        for (at, author) in (1..).zip(&self.authors) {
            write(author, from + at, 1, 1)?;
            sync(&author.replica, SyncTarget::All)?;
        }
        let begun = Instant::now();
        let report = sync(&self.reader, SyncTarget::All)?;
        part.add(CATCH_UP, WHO, "ms", begun.elapsed().as_secs_f64() * 1000.0);
        if report.received_events != LOGS {
            return Err(format!("not ten events: {report:?}").into());
        }
        part.add(TRIPS, WHO, "round trips", f64::from(report.round_trips));
        let bytes = report.sent_bytes + report.received_bytes;
        part.add(OVERHEAD, WHO, "bytes", (bytes - report.commit_bytes) as f64);
        part.add(HEADERS, WHO, "bytes", (bytes - CARRIED) as f64);
        Ok(())
    }

    fn close(self) -> Outcome {
        self.reader.close()?;
        for author in self.authors {
            author.replica.close()?;
        }
        Ok(self.hub.replica.close()?)
    }
}

/// From the call of a put on one to the sight of it, durable, on the other.
pub(crate) const SEEN: &str = "durable put here, seen durable there";
/// The same without the other.
pub(crate) const PUT: &str = "durable put here";

fn latency(settings: &Settings, part: &mut Part) -> Outcome {
    let puts: u64 = settings.count(50, 300);
    part.set("puts of a round of latency", puts);
    let dirs = [settings.fresh()?, settings.fresh()?];
    let here = open(dirs[0].path(), Mode::Durable)?;
    let there = Replica::open(dirs[1].path())?;
    serve(&here)?;
    there.serve("127.0.0.1:0".parse()?, Vec::new(), false)?;
    sync(&there, SyncTarget::Ticket(ticket(&here)?))?;
    let space = here.space;
    let mut cursor = there.read(|store| store.durable());
    let (seen, sight) = mpsc::channel();
    let watcher = there.clone();
    let rounds = settings.rounds() as u64;
    let watching = std::thread::spawn(move || -> Outcome {
        let mut count = 0;
        while count < puts * rounds {
            let durable = watcher.wait_durable_past(cursor, Duration::from_secs(10));
            if durable <= cursor {
                return Err("nothing came for ten seconds".into());
            }
            let (commits, next) =
                watcher.read(|store| store.arrived(&space, cursor, durable, 64 << 10))?;
            cursor = next;
            for _ in &commits {
                seen.send(Instant::now())?;
                count += 1;
            }
        }
        Ok(())
    });
    for round in 0..rounds {
        let (mut put, mut there) = (Vec::new(), Vec::new());
        for number in 0..puts {
            let begun = Instant::now();
            here.put(&data::key(round * puts + number), &data::value(number))?;
            put.push(begun.elapsed());
            let seen = sight.recv_timeout(Duration::from_secs(10))?;
            there.push(seen.duration_since(begun));
        }
        part.add(PUT, WHO, "µs", middle(&mut put));
        part.add(SEEN, WHO, "µs", middle(&mut there));
    }
    watching.join().map_err(|_| "the watcher panicked")??;
    there.close()?;
    Ok(here.replica.close()?)
}

fn middle(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
