//! Puts: durable from several threads, in batches, and buffered to new, hot and cold keys.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engines::{Engine, Kdelta, Key, Kind, Mode, Op};
use crate::figures::Part;
use crate::settings::Settings;
use crate::{Outcome, Res, data, raw};

/// Who takes part in a round of durable puts.
#[derive(Clone, Copy)]
enum Who {
    Engine(Kind),
    Raw { preallocated: bool },
}

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    let span = Duration::from_millis(settings.count(200, 600));
    let record = record_bytes(settings)?;
    part.set("bytes of a record of kdelta", record);
    part.set("span of a round of durable puts, ms", span.as_millis());
    let mut all: Vec<Who> = Kind::ALL.iter().copied().map(Who::Engine).collect();
    all.extend([Who::Raw { preallocated: true }, Who::Raw { preallocated: false }]);
    for threads in [1, 4, 16] {
        super::rounds(settings.rounds(), &all, |who| {
            let dir = settings.fresh()?;
            let what = format!("durable put, {}", threads_named(threads));
            match who {
                Who::Engine(kind) => {
                    let rate = durable(kind, dir.path(), threads, span, 1)?;
                    part.add(&what, kind.name(), "puts/s", rate);
                }
                Who::Raw { preallocated } if threads == 1 => {
                    let rate = raw::appends(dir.path(), &vec![7; record], preallocated, span)?;
                    part.add(&what, RAW[usize::from(preallocated)], "puts/s", rate);
                }
                Who::Raw { .. } => {}
            }
            Ok(())
        })?;
    }
    super::rounds(settings.rounds(), Kind::ALL, |kind| {
        let dir = settings.fresh()?;
        let rate = durable(kind, dir.path(), 1, span, BATCH)?;
        part.add(&format!("durable batch of {BATCH} puts, 1 thread"), kind.name(), "puts/s", rate);
        Ok(())
    })?;
    buffered(settings, part)
}

/// What the raw appends are called: into a file that grows, and into one that has its length.
pub(crate) const RAW: [&str; 2] = ["raw append, growing file", "raw append, prepared file"];
/// How many puts a batch has.
pub(crate) const BATCH: u64 = 100;

fn threads_named(threads: u64) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// Bytes that kdelta appends for a put of its own, its closing record included.
fn record_bytes(settings: &Settings) -> Res<usize> {
    let dir = settings.fresh()?;
    let kdelta = Kdelta::open(dir.path(), Mode::Durable)?;
    let end = || kdelta.replica.read(|store| store.durable());
    kdelta.put(&data::key(0), &data::value(0))?;
    let before = end();
    for number in 1..=1000 {
        kdelta.put(&data::key(number), &data::value(number))?;
    }
    let after = end();
    if before.segment != after.segment {
        return Err("a thousand puts do not fit into a segment".into());
    }
    Ok(usize::try_from((after.offset - before.offset) / 1000)?)
}

/// Puts to new keys for so long, from so many threads; returns how many in a second.
fn durable(kind: Kind, dir: &Path, threads: u64, span: Duration, batch: u64) -> Res<f64> {
    let engine = kind.open(dir, Mode::Durable)?;
    // Whatever is made at the first write is there.
    engine.put(&data::key(u64::MAX), &data::value(0))?;
    let done = AtomicU64::new(0);
    let begun = Instant::now();
    let mut outcomes = Vec::new();
    std::thread::scope(|scope| {
        let write = |thread: u64| -> Outcome {
            let mut number = thread << 40;
            while begun.elapsed() < span {
                several(engine.as_ref(), number..number + batch)?;
                number += batch;
                done.fetch_add(batch, Ordering::Relaxed);
            }
            Ok(())
        };
        let started: Vec<_> = (0..threads).map(|at| scope.spawn(move || write(at))).collect();
        outcomes.extend(started.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(_) => Err("a writer panicked".into()),
        }));
    });
    let taken = begun.elapsed();
    outcomes.into_iter().collect::<Outcome>()?;
    engine.close()?;
    Ok(done.into_inner() as f64 / taken.as_secs_f64())
}

/// Puts the keys of some numbers in one transaction.
pub(crate) fn several(engine: &dyn Engine, numbers: Range<u64>) -> Outcome {
    let rows: Vec<(Key, [u8; data::VALUE_BYTES])> =
        numbers.map(|number| (data::key(number), data::value(number))).collect();
    if let [(key, value)] = rows.as_slice() {
        return engine.put(key, value);
    }
    let ops: Vec<Op<'_>> =
        rows.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))).collect();
    engine.batch(&ops)
}

/// Puts the keys of some numbers, each for itself.
pub(crate) fn fill(engine: &dyn Engine, numbers: Range<u64>) -> Outcome {
    numbers.into_iter().try_for_each(|number| engine.put(&data::key(number), &data::value(number)))
}

/// Puts to keys that are not there yet.
pub(crate) const NEW: &str = "buffered put, new keys";
/// Puts to few keys again and again.
pub(crate) const HOT: &str = "buffered put, hot keys";
/// Puts to keys that are there, by a store that was just opened.
pub(crate) const COLD: &str = "buffered put, cold keys";

fn buffered(settings: &Settings, part: &mut Part) -> Outcome {
    let (new, again) = settings.count((20_000, 10_000), (60_000, 30_000));
    part.set("new keys of a round of buffered puts", new);
    part.set("puts to hot and to cold keys in a round", again);
    part.set("hot keys", HOT_KEYS);
    super::rounds(settings.rounds(), Kind::ALL, |kind| {
        let dir = settings.fresh()?;
        let mut note = |what: &str, count: u64, times: [f64; 3]| {
            let rate = |seconds: f64| count as f64 / seconds;
            part.add(what, kind.name(), "puts/s", rate(times[0]));
            part.add(&format!("{what}, with the last sync"), kind.name(), "puts/s", rate(times[1]));
            part.add(&format!("{what}, processor"), kind.name(), "µs", 1e6 / rate(times[2]));
        };
        let engine = kind.open(dir.path(), Mode::Buffered)?;
        note(NEW, new, timed(engine.as_ref(), 0..new)?);
        let hot = data::order(1, usize::try_from(again)?, HOT_KEYS);
        note(HOT, again, timed(engine.as_ref(), hot)?);
        engine.close()?;
        // Opened anew: nothing is in any cache but the system's.
        let engine = kind.open(dir.path(), Mode::Buffered)?;
        let cold = data::order(2, usize::try_from(again)?, new);
        note(COLD, again, timed(engine.as_ref(), cold)?);
        engine.close()
    })
}

const HOT_KEYS: u64 = 1000;

/// Puts to the keys of some numbers; returns the seconds that took, those with a last sync, and
/// those of a processor, with what the engine did in its background.
fn timed(engine: &dyn Engine, numbers: impl IntoIterator<Item = u64>) -> Res<[f64; 3]> {
    let (begun, processor) = (Instant::now(), raw::processor_seconds());
    for number in numbers {
        engine.put(&data::key(number), &data::value(number))?;
    }
    let put = begun.elapsed();
    engine.flush()?;
    let processor = raw::processor_seconds() - processor;
    Ok([put.as_secs_f64(), begun.elapsed().as_secs_f64(), processor])
}
