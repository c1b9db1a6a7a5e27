//! Scripts about what one replica writes.

use super::super::model::Act::{Add, Bytes, Count, Delete, Field, NoField, Put, Remove};
use super::{Done, Stage};

/// Opens a store for the first time and writes into two spaces.
pub(super) fn first_open(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    stage.sync()?;
    stage.put(&[("first", Put(1))])?;
    stage.create("second")?;
    stage.write(&[("first", Put(2))])?;
    stage.sync()?;
    stage.idle()?;
    stage.close()
}

/// Writes that are flushed at times and rarely waited for.
pub(super) fn buffered_puts(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..120 {
        stage.write(&[(&format!("key-{}", i % 13), Put(i))])?;
        if i % 2 == 0 {
            stage.flush()?;
        }
        if i % 9 == 0 {
            stage.sync()?;
        }
        if i % 18 == 0 {
            stage.idle()?;
        }
    }
    Ok(())
}

/// Writes that are each waited for.
pub(super) fn durable_puts(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..100 {
        stage.put(&[(&format!("key-{}", i % 7), Put(i))])?;
    }
    stage.close()
}

/// Commits of several events, some with values of several sectors.
pub(super) fn batches(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..40_u64 {
        let names: Vec<String> = (0..=i % 12).map(|n| format!("key-{n}")).collect();
        let acts: Vec<_> = names.iter().map(|name| (name.as_str(), Put(i))).collect();
        stage.write(&acts)?;
        stage.write(&[("big", Bytes(i.to_le_bytes()[0], 1500)), ("count", Count(1))])?;
        if i % 3 != 0 {
            stage.sync()?;
        }
    }
    stage.sync()
}

/// Many keys and small segments: sealing, sidecars, the manifest.
pub(super) fn seals(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..260 {
        stage.write(&[(&format!("key-{:02}", (i * 7) % 60), Put(i))])?;
        if i % 2 == 0 {
            stage.sync()?;
        }
        if i % 40 == 0 {
            stage.idle()?;
        }
    }
    stage.close()
}

/// Keys that go and come again, also as another type.
pub(super) fn deletes(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..40 {
        let key = format!("key-{}", i % 5);
        let first = if i % 2 == 0 { Put(i) } else { Count(1) };
        stage.put(&[(&key, first)])?;
        stage.write(&[(&key, Delete)])?;
        stage.sync()?;
        stage.put(&[(&key, Count(7)), ("other", Put(i))])?;
        stage.put(&[(&key, Delete)])?;
    }
    Ok(())
}

/// Sums that are added to, cut and begun anew.
pub(super) fn counters(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..80_i64 {
        stage.write(&[("a", Count(i)), ("b", Count(-3)), ("a", Count(1))])?;
        stage.write(&[("c", Count(1))])?;
        stage.sync()?;
        if i % 20 == 19 {
            stage.put(&[("b", Delete)])?;
        }
    }
    Ok(())
}

/// Elements and fields that come and go.
pub(super) fn sets_and_maps(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..80 {
        stage.put(&[("set", Add(i % 6)), ("map", Field("a", i))])?;
        stage.write(&[("set", Remove(i % 4)), ("map", Field("b", i % 3))])?;
        if i % 3 == 0 {
            stage.put(&[("map", NoField("a")), ("set", Add(100))])?;
        }
    }
    Ok(())
}

/// Names for points in history that are set, moved and taken away.
pub(super) fn tags(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..60_u64 {
        let name = format!("tag-{}", i % 4);
        stage.write_tagged(&[("key", Put(i))], Some((&name, i % 5 != 4)))?;
        stage.sync()?;
        stage.write_tagged(&[], Some(("last", true)))?;
        stage.flush()?;
    }
    stage.sync()
}

/// Several spaces in one log.
pub(super) fn spaces(stage: &mut Stage) -> Done {
    stage.open()?;
    for i in 0..12 {
        stage.create(&format!("space-{i}"))?;
        if i % 2 == 0 {
            stage.sync()?;
        }
        for n in 0..6 {
            stage.write(&[("key", Put(n)), ("count", Count(1))])?;
            if n % 2 == 0 {
                stage.sync()?;
            }
        }
    }
    stage.close()
}
