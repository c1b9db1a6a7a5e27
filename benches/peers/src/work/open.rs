//! Opening: after an orderly end, and after the process that wrote was killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use crate::engines::{Kind, Mode};
use crate::figures::Part;
use crate::settings::Settings;
use crate::{Outcome, Res, child, data};

/// What is measured, by how the store was left.
pub(crate) const CLEAN: &str = "open after an orderly end";
/// The same after a kill.
pub(crate) const KILLED: &str = "open after a kill";
/// Kdelta with ten times as many.
pub(crate) const TEN: &str = "ten times as many events, ";

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    let keys: u64 = settings.count(100_000, 1_000_000);
    let after: u64 = settings.count(5_000, 20_000);
    part.set("keys", keys);
    part.set("puts before a kill", after);
    let mut dirs = BTreeMap::new();
    for kind in Kind::ALL {
        let dir = settings.fresh()?;
        child::bulk(*kind, dir.path(), keys)?;
        dirs.insert(kind.name(), dir);
    }
    super::rounds(settings.rounds(), Kind::ALL, |kind| {
        let taken = open(kind, dirs[kind.name()].path(), &[0, keys - 1])?;
        part.add(CLEAN, kind.name(), "ms", taken);
        Ok(())
    })?;
    let mut more = keys;
    super::rounds(settings.rounds(), Kind::ALL, |kind| {
        let dir = dirs[kind.name()].path();
        child::load(kind, dir, more, after, "die")?;
        more += after;
        part.add(KILLED, kind.name(), "ms", open(kind, dir, &[0, keys - 1, more - 1])?);
        Ok(())
    })?;
    drop(dirs);
    if settings.ten_million {
        let (dir, kind, keys) = (settings.fresh()?, Kind::Kdelta, keys * 10);
        child::load(kind, dir.path(), 0, keys, "close")?;
        for _ in 0..settings.rounds() {
            let taken = open(kind, dir.path(), &[0, keys - 1])?;
            part.add(&format!("{TEN}{CLEAN}"), kind.name(), "ms", taken);
        }
        for round in 0..settings.rounds() as u64 {
            let more = keys + (round + 1) * after;
            child::load(kind, dir.path(), more - after, after, "die")?;
            let taken = open(kind, dir.path(), &[0, keys - 1, more - 1])?;
            part.add(&format!("{TEN}{KILLED}"), kind.name(), "ms", taken);
        }
    }
    Ok(())
}

/// Milliseconds until a store is open; that it holds what was put is looked at afterwards.
fn open(kind: Kind, dir: &Path, there: &[u64]) -> Res<f64> {
    let begun = Instant::now();
    let engine = kind.open(dir, Mode::Buffered)?;
    let taken = begun.elapsed().as_secs_f64() * 1000.0;
    for number in there {
        if engine.get(&data::key(*number))? != Some(*number) {
            return Err(format!("{} lost the key {number}", kind.name()).into());
        }
    }
    engine.close()?;
    Ok(taken)
}
