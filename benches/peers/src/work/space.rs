//! What a store takes: bytes on disk, and memory of a process that loads it and does nothing else.

use crate::engines::Kind;
use crate::figures::Part;
use crate::settings::Settings;
use crate::{Outcome, child};

/// Bytes on disk, keys and values included.
pub(crate) const DISK: &str = "bytes on disk a key, 116 of them its own";
/// The most memory that the process had.
pub(crate) const PEAK: &str = "peak memory while loading";
/// How fast it was loaded.
pub(crate) const RATE: &str = "load in a process of its own, with the last sync";

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    let keys: u64 = settings.count(30_000, 200_000);
    part.set("keys", keys);
    super::rounds(settings.rounds(), Kind::ALL, |kind| {
        let dir = settings.fresh()?;
        let loaded = child::load(kind, dir.path(), 0, keys, "close")?;
        let bytes = child::disk_bytes(dir.path())? as f64 / keys as f64;
        part.add(DISK, kind.name(), "bytes", bytes);
        part.add(PEAK, kind.name(), "MiB", loaded.peak_mib);
        let anonymous = "memory that is no file, after loading";
        part.add(anonymous, kind.name(), "MiB", loaded.anonymous_mib);
        part.add(RATE, kind.name(), "puts/s", keys as f64 / loaded.seconds);
        Ok(())
    })
}
