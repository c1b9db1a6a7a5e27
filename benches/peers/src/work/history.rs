//! The history of one key that was written a thousand times: caches empty, page cache warm.
//!
//! Kdelta keeps it by itself. An app on one of the others keeps a row for each version, under the
//! key and a number, and reads the rows between two bounds: neither order nor cause is in them.

use std::collections::BTreeMap;

use crate::engines::{Engine, Kind, Mode};
use crate::figures::Part;
use crate::settings::Settings;
use crate::{Outcome, data, raw};

/// The events lie between those of other keys.
pub(crate) const SPREAD: &str = "history of 1,000 events, between others";
/// The events lie one after the other.
pub(crate) const ROW: &str = "history of 1,000 events, in a row";

const EVENTS: u64 = 1000;

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    let between: u64 = settings.count(10, 50);
    part.set("puts to other keys between two events", between);
    let mut dirs = BTreeMap::new();
    for kind in Kind::ALL {
        let dir = settings.fresh()?;
        let engine = kind.open(dir.path(), Mode::Buffered)?;
        for number in 0..EVENTS {
            put(*kind, engine.as_ref(), b's', number)?;
            let others = number * between..(number + 1) * between;
            super::put::fill(engine.as_ref(), others)?;
        }
        for number in 0..EVENTS {
            put(*kind, engine.as_ref(), b'r', number)?;
        }
        engine.flush()?;
        engine.close()?;
        dirs.insert(kind.name(), dir);
    }
    super::rounds(settings.rounds(), Kind::ALL, |kind| {
        for (what, letter) in [(SPREAD, b's'), (ROW, b'r')] {
            let engine = kind.open(dirs[kind.name()].path(), Mode::Buffered)?;
            let from = key(kind, letter, 0);
            let to = key(kind, letter, EVENTS);
            let begun = raw::processor_seconds();
            let bytes = engine.range(&from, &to)?;
            part.add(what, kind.name(), "ms", (raw::processor_seconds() - begun) * 1000.0);
            if bytes < data::VALUE_BYTES * 1000 {
                return Err(format!("{} has only {bytes} bytes of history", kind.name()).into());
            }
            engine.close()?;
        }
        Ok(())
    })
}

fn put(kind: Kind, engine: &dyn Engine, letter: u8, number: u64) -> Outcome {
    engine.put(&key(kind, letter, number), &data::value(number))
}

/// Kdelta's one key; for the others, that of a version.
fn key(kind: Kind, letter: u8, number: u64) -> [u8; 16] {
    let mut key = *b"x-of-one-key----";
    key[0] = letter;
    if kind != Kind::Kdelta {
        key[12..].copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    }
    key
}
