//! Gets: hot ones beside concurrent maps with the same keys and values, and cold ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engines::{Engine, Kdelta, Kind, Mode};
use crate::figures::Part;
use crate::raw::{Map, nanoseconds};
use crate::settings::Settings;
use crate::{Outcome, Res, child, data};

/// Hot gets of whoever is measured.
pub(crate) const HOT: &str = "hot get, 10,000 keys";
/// Gets by whoever was just opened.
pub(crate) const COLD: &str = "cold get, all keys";
/// Kdelta's `view`, for those who keep their keys.
pub(crate) const VIEW: &str = "kdelta, `view` with a `Key`";

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    let keys: u64 = settings.count(100_000, 1_000_000);
    let (hot_reads, cold_reads) = settings.count((100_000, 5_000), (300_000, 20_000));
    part.set("keys", keys);
    part.set("hot gets in a round", hot_reads);
    part.set("cold gets in a round", cold_reads);
    let mut dirs = BTreeMap::new();
    for kind in Kind::ALL {
        let dir = settings.fresh()?;
        child::bulk(*kind, dir.path(), keys)?;
        dirs.insert(kind.name(), dir);
    }
    let hot = data::order(3, hot_reads, HOT_KEYS);
    super::rounds(settings.rounds(), Kind::ALL, |kind| {
        let dir = &dirs[kind.name()];
        let engine = kind.open(dir.path(), Mode::Buffered)?;
        let cold = data::order(4, cold_reads, keys);
        part.add(COLD, kind.name(), "ns", reads(engine.as_ref(), &cold)?);
        reads(engine.as_ref(), &(0..HOT_KEYS).collect::<Vec<_>>())?;
        part.add(HOT, kind.name(), "ns", reads(engine.as_ref(), &hot)?);
        engine.close()
    })?;
    let kdelta = Kdelta::open(dirs[Kind::Kdelta.name()].path(), Mode::Buffered)?;
    views(settings, part, &kdelta, &hot)?;
    kdelta.replica.close()?;
    maps(settings, part, keys, &hot)
}

/// How many keys are hot. The maps hold all keys, as the stores do.
const HOT_KEYS: u64 = 10_000;

/// Reads the keys of some numbers; returns the nanoseconds of one. The value must be right.
fn reads(engine: &dyn Engine, numbers: &[u64]) -> Res<f64> {
    let keys: Vec<_> = numbers.iter().map(|number| (*number, data::key(*number))).collect();
    let mut keys = keys.iter();
    nanoseconds(numbers.len() as u64, |_| {
        let (number, key) = keys.next().ok_or("a key each")?;
        if engine.get(key)? != Some(*number) {
            return Err("a key does not hold what was put".into());
        }
        Ok(())
    })
}

fn views(settings: &Settings, part: &mut Part, kdelta: &Kdelta, numbers: &[u64]) -> Outcome {
    use kdelta::engine::{base::Key, crdt::Value};
    let key = |number: &u64| Ok((*number, Key::new(std::str::from_utf8(&data::key(*number))?)?));
    let keys = numbers.iter().map(key).collect::<Res<Vec<_>>>()?;
    let round = || -> Res<f64> {
        let mut keys = keys.iter();
        nanoseconds(numbers.len() as u64, |_| {
            let (number, key) = keys.next().ok_or("a key each")?;
            let view = kdelta.replica.view(&kdelta.space, key)?.ok_or("a key is gone")?;
            match &view.value {
                Value::Bytes(bytes) if bytes.first_chunk() == Some(&number.to_le_bytes()) => Ok(()),
                _ => Err("a key does not hold what was put".into()),
            }
        })
    };
    round()?;
    for _ in 0..settings.rounds() {
        part.add(HOT, VIEW, "ns", round()?);
    }
    Ok(())
}

fn maps(settings: &Settings, part: &mut Part, keys: u64, numbers: &[u64]) -> Outcome {
    for (name, map) in Map::all() {
        for number in 0..keys {
            map.put(data::key(number), Arc::from(data::value(number).as_slice()));
        }
        let wanted: Vec<_> = numbers.iter().map(|number| (*number, data::key(*number))).collect();
        for round in 0..=settings.rounds() {
            let mut wanted = wanted.iter();
            let taken = nanoseconds(numbers.len() as u64, |_| {
                let (number, key) = wanted.next().ok_or("a key each")?;
                let value = map.get(key).ok_or("a key is gone")?;
                if value.first_chunk() != Some(&number.to_le_bytes()) {
                    return Err("a key does not hold what was put".into());
                }
                Ok(())
            })?;
            // The first is to warm up.
            if round > 0 {
                part.add(HOT, name, "ns", taken);
            }
        }
    }
    Ok(())
}
