//! Many operations at once: batch, import and export, as JSON lines.
//!
//! Import and export stream: neither holds the file in memory. An exported file appears under its
//! name when it is whole, or not at all.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use axum::body::{Body, Bytes};
use axum::http::Method;
use indicatif::ProgressBar;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::args::{Batch, Export, Import};
use super::client::{self, Answer};
use super::console::counted;
use super::context::Context;
use super::data::{durably, reached};
use super::failure::{Exit, Failure};
use super::inspect::in_stream;

/// The type of bodies that are JSON lines.
const JSON_LINES: &str = "application/jsonl";
/// Largest file that `batch` takes: all of it is checked before the first write.
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// Bytes read from an imported file at once.
const PIECE_BYTES: usize = 64 << 10;
/// zstd's own default level.
const ZSTD_LEVEL: i32 = 3;

#[derive(Debug, Deserialize)]
struct Counts {
    commits: u64,
    events: u64,
    #[serde(default)]
    tags: u64,
    #[serde(default)]
    skipped: u64,
}

/// `batch FILE`
pub(crate) async fn batch(context: &mut Context<'_>, args: Batch) -> Result<Exit, Failure> {
    let (reader, _) = source(context, &args.file)?;
    let mut lines = Vec::new();
    reader
        .take(BATCH_BYTES_MAX + 1)
        .read_to_end(&mut lines)
        .map_err(|error| Failure::file("read", &args.file, &error))?;
    if u64::try_from(lines.len()).is_ok_and(|len| len > BATCH_BYTES_MAX) {
        let most = BATCH_BYTES_MAX >> 20;
        return Err(Failure::new("limit", Exit::Limit, format!("a batch has at most {most} MiB"))
            .hint("Use kdelta import, which takes any size"));
    }
    let call = context
        .in_space(Method::POST, "batch")
        .query_if("chunk", args.chunk.map(|lines| lines.to_string()))
        .body(JSON_LINES, Body::from(lines));
    let answer = context.call(durably(context, call)?).await?;
    report(context, &answer)
}

/// `import FILE`
pub(crate) async fn import(context: &mut Context<'_>, args: Import) -> Result<Exit, Failure> {
    let (reader, length) = source(context, &args.file)?;
    let bar = context.console.progress(length, "importing");
    let body = upload(Metered { inner: reader, bar: bar.clone() }, &args.file)?;
    let call = context.in_space(Method::POST, "import").body(JSON_LINES, body);
    let answer = context.call(durably(context, call)?).await;
    bar.finish_and_clear();
    report(context, &answer?)
}

fn report(context: &mut Context<'_>, answer: &Answer) -> Result<Exit, Failure> {
    if context.json {
        context.print(answer)?;
    } else {
        let counts: Counts = answer.read()?;
        let mut parts = vec![counted(counts.commits, "commit"), counted(counts.events, "event")];
        parts.extend((counts.tags > 0).then(|| counted(counts.tags, "tag")));
        let skipped = counts.skipped;
        parts.extend((skipped > 0).then(|| format!("{} skipped", counted(skipped, "line"))));
        context.console.line(&parts.join(", "))?;
    }
    Ok(reached(context, answer))
}

/// Opens `path`, or stdin for `-`; with the number of bytes where it is known.
fn source(
    context: &mut Context<'_>,
    path: &Path,
) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path == Path::new("-") {
        let stdin = std::mem::replace(&mut context.console.stdin, Box::new(std::io::empty()));
        return Ok((stdin, None));
    }
    let file = File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    let about = file.metadata().map_err(|error| Failure::file("open", path, &error))?;
    if about.is_dir() {
        return Err(Failure::usage(format!("{} is a directory", path.display())));
    }
    Ok((Box::new(file), about.is_file().then_some(about.len())))
}

/// Counts what is read.
struct Metered {
    inner: Box<dyn Read + Send>,
    bar: ProgressBar,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bar.inc(u64::try_from(length).unwrap_or(0));
        Ok(length)
    }
}

/// A body that is read, and unpacked by the ending of `path`, while it is sent.
fn upload(reader: impl Read + Send + 'static, path: &Path) -> Result<Body, Failure> {
    let mut unpacked: Box<dyn Read + Send> = match packing(path) {
        Packing::Plain => Box::new(reader),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Packing::Zstd => Box::new(
            zstd::stream::read::Decoder::new(reader)
                .map_err(|error| Failure::file("unpack", path, &error))?,
        ),
    };
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(4);
    // A thread of its own: a read of stdin may last for ever, and then nobody waits for it.
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let next = match unpacked.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => Ok(Bytes::copy_from_slice(piece.get(..length).unwrap_or_default())),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let last = next.is_err();
            if sender.blocking_send(next).is_err() || last {
                return;
            }
        }
    });
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    Ok(Body::from_stream(pieces))
}

/// `export [PREFIX] [FILE]`
pub(crate) async fn export(context: &mut Context<'_>, args: Export) -> Result<Exit, Failure> {
    let (prefix, file) = match (args.prefix, args.file) {
        (Some(only), None) if is_file_name(&only) => (None, Some(PathBuf::from(only))),
        other => other,
    };
    let call = context
        .in_space(Method::GET, "export")
        .query_if("prefix", prefix.as_deref())
        .flag("history", args.history)
        .flag("degraded", args.degraded);
    let api = context.api().await?;
    let mut lines = client::lines(&*api, call).await?;
    let Some(file) = file.filter(|file| file != Path::new("-")) else {
        while let Some(line) = lines.next().await? {
            in_stream(&line)?;
            context.console.bytes(&line)?;
            context.console.bytes(b"\n")?;
        }
        return Ok(Exit::Ok);
    };
    let bar = context.console.progress(None, "exporting");
    let mut target = Target::create(&file)?;
    let failed = |error: std::io::Error| Failure::file("write", &file, &error);
    while let Some(line) = lines.next().await? {
        in_stream(&line)?;
        target.write_all(&line).and_then(|()| target.write_all(b"\n")).map_err(failed)?;
    }
    target.finish().map_err(failed)?;
    bar.finish_and_clear();
    Ok(Exit::Ok)
}

/// Whether the only argument of `export` is the file rather than a prefix.
fn is_file_name(text: &str) -> bool {
    text == "-" || [".jsonl", ".json", ".gz", ".zst"].iter().any(|ending| text.ends_with(ending))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

fn packing(path: &Path) -> Packing {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Packing::Gzip,
        Some("zst") => Packing::Zstd,
        _ => Packing::Plain,
    }
}

/// A file that gets its name when it is whole.
struct Target {
    writer: Packed,
    place: Option<(tempfile::TempPath, PathBuf)>,
}

enum Packed {
    Plain(BufWriter<File>),
    Gzip(flate2::write::GzEncoder<BufWriter<File>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<File>>),
}

impl Target {
    fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::file("write", path, &error);
        // What is there and no plain file (a pipe, a device) is written to as it is.
        let special = std::fs::metadata(path).is_ok_and(|about| !about.is_file());
        let (file, place) = if special {
            (File::options().write(true).open(path).map_err(failed)?, None)
        } else {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let (file, temporary) = tempfile::Builder::new()
                .prefix(".kdelta-export-")
                .tempfile_in(folder.unwrap_or(Path::new(".")))
                .map_err(failed)?
                .into_parts();
            (file, Some((temporary, path.to_owned())))
        };
        let file = BufWriter::new(file);
        let writer = match packing(path) {
            Packing::Plain => Packed::Plain(file),
            Packing::Gzip => {
                Packed::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::default()))
            }
            Packing::Zstd => {
                Packed::Zstd(zstd::stream::write::Encoder::new(file, ZSTD_LEVEL).map_err(failed)?)
            }
        };
        Ok(Self { writer, place })
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.writer {
            Packed::Plain(writer) => writer.write_all(bytes),
            Packed::Gzip(writer) => writer.write_all(bytes),
            Packed::Zstd(writer) => writer.write_all(bytes),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        let buffered = match self.writer {
            Packed::Plain(writer) => writer,
            Packed::Gzip(writer) => writer.finish()?,
            Packed::Zstd(writer) => writer.finish()?,
        };
        let file = buffered.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        if let Some((temporary, path)) = self.place {
            file.sync_all()?;
            temporary.persist(path).map_err(|error| error.error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_argument_of_export_is_a_file_by_its_ending() {
        assert!(is_file_name("a.jsonl") && is_file_name("x/a.jsonl.zst") && is_file_name("-"));
        assert!(!is_file_name("user/") && !is_file_name("jsonl"));
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let mut target = Target::create(&path).unwrap();
        target.write_all(b"half").unwrap();
        drop(target);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_packed_is_unpacked_by_its_ending() {
        use http_body_util::BodyExt as _;
        let dir = tempfile::tempdir().unwrap();
        let text = b"{\"op\":\"delete\",\"key\":\"a\"}\n".repeat(9000);
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
            let path = dir.path().join(name);
            let mut target = Target::create(&path).unwrap();
            target.write_all(&text).unwrap();
            target.finish().unwrap();
            let plain = std::fs::read(&path).unwrap() == text;
            assert_eq!(plain, name == "a.jsonl");
            let body = upload(File::open(&path).unwrap(), &path).unwrap();
            assert_eq!(body.collect().await.unwrap().to_bytes(), text, "{name}");
        }
    }
}
