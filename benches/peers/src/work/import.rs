//! Real input: the history of a public repository, a batch of puts and deletes a line.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::engines::{Kind, Mode, Op};
use crate::figures::Part;
use crate::settings::Settings;
use crate::{Outcome, Res, child};

/// What is imported.
pub(crate) const WHAT: &str = "import of a repository's history";
/// What that takes on disk.
pub(crate) const BYTES: &str = "bytes on disk an op, imported";

#[derive(Deserialize)]
struct Line {
    batch: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    value: Option<Box<RawValue>>,
}

impl Row {
    fn op(&self) -> Op<'_> {
        (self.key.as_bytes(), self.value.as_ref().map(|value| value.get().as_bytes()))
    }
}

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    let Some(file) = &settings.etcd else {
        part.set("skipped", "no file was named with --etcd");
        return Ok(());
    };
    let lines = read(file)?;
    let lines = &lines[..lines.len().min(settings.count(2_000, usize::MAX))];
    let ops: usize = lines.iter().map(|line| line.batch.len()).sum();
    part.set("batches", lines.len());
    part.set("ops", ops);
    super::rounds(settings.rounds(), Kind::ALL, |kind| {
        let dir = settings.fresh()?;
        let engine = kind.open(dir.path(), Mode::Buffered)?;
        let begun = Instant::now();
        for line in lines {
            let ops: Vec<Op<'_>> = line.batch.iter().map(Row::op).collect();
            engine.batch(&ops)?;
        }
        engine.flush()?;
        let rate = ops as f64 / begun.elapsed().as_secs_f64();
        part.add(WHAT, kind.name(), "ops/s", rate);
        engine.close()?;
        let bytes = child::disk_bytes(dir.path())? as f64 / ops as f64;
        part.add(BYTES, kind.name(), "bytes", bytes);
        Ok(())
    })
}

fn read(file: &Path) -> Res<Vec<Line>> {
    let text = BufReader::new(zstd::Decoder::new(std::fs::File::open(file)?)?);
    text.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
