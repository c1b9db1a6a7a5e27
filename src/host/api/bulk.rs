//! Many ops at once: atomic batches, and imports of any length.
//!
//! A batch is read whole and checked before anything of it is written. An import is a stream: each
//! line is one commit, written as it comes and made durable every few hundred lines and at the
//! end. A line's request id is a hash of its text and of how often that text came before, so an
//! import that is run again skips what is in.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use http_body_util::BodyExt as _;
use serde_json::{Value, json as value};

use super::backend::{Api, Backend};
use super::keys::{request_id, write_of};
use super::ops::{self, Line};
use super::problem::{Kind, Problem};
use super::request::{self, Ask, Media};
use super::shapes::{BatchCommit, Batched, Counts, Imported};
use super::{Answer, json, written};
use crate::engine::base::{SpaceId, sha256};
use crate::engine::causal::Tip;
use crate::engine::store::Written;
use crate::host::replica::Durability;

/// Largest body of a batch, in bytes: it is held in memory.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// Longest line of an import, in bytes: one commit of 16 MiB with room for escapes.
const LINE_BYTES_MAX: usize = 64 << 20;
/// After so many lines an import is made durable.
const FLUSH_LINES: usize = 512;
/// Lines are handed on when they have so many bytes.
const FLUSH_BYTES: usize = 1 << 20;

/// `POST /v1/spaces/{space}/batch[?chunk=N]`
pub(super) async fn batch(api: Api, headers: HeaderMap, mut ask: Ask, body: Body) -> Answer {
    let chunk = match ask.query.number("chunk")? {
        Some(0) => return Err(Problem::usage("a chunk has at least one line")),
        Some(chunk) => usize::try_from(chunk).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let durability = request::durability(&headers)?;
    let media = request::media(&headers, &[Media::Json, Media::Lines])?;
    let text = request::whole(body, BATCH_BYTES_MAX).await?;
    let id = request_id(&headers, None)?;
    let space = ask.space;
    let done = api
        .run(move |backend| {
            let mut lines = match media {
                Media::Json | Media::Bytes => vec![ops::line(&text)?],
                Media::Lines => chunked(&text, chunk)?,
            };
            if let Some(id) = id {
                one_id(&mut lines, id)?;
            }
            write_all(backend, &space, lines, durability)
        })
        .await?;
    written(&done, durability, done.peers)
}

/// Gives the only commit of a request the id of the request.
fn one_id(lines: &mut [Line], id: Vec<u8>) -> Result<(), Problem> {
    match lines {
        [line] if line.request_id.as_ref().is_none_or(|own| *own == id) => {
            line.request_id = Some(id);
            Ok(())
        }
        [_] => Err(Problem::usage("Idempotency-Key and request_id are not the same")),
        _ => Err(Problem::usage("Idempotency-Key names one commit, and these are several")),
    }
}

/// Reads all lines and puts every `chunk` of them into one commit.
fn chunked(text: &[u8], chunk: usize) -> Result<Vec<Line>, Problem> {
    let mut commits: Vec<Line> = Vec::new();
    let mut room = 0;
    for (number, text) in (1_u64..).zip(text.split(|byte| *byte == b'\n')) {
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let named = |problem: Problem| {
            let reason = problem.detail().to_owned();
            ops::within(&format!("line {number}"), problem)
                .with("line", number)
                .with("reason", reason)
        };
        let line = ops::line(text).map_err(named)?;
        match commits.last_mut().filter(|_| room > 0) {
            Some(commit) => join(commit, line).map_err(named)?,
            None => commits.push(line),
        }
        room = if room > 0 { room - 1 } else { chunk - 1 };
    }
    if commits.is_empty() {
        return Err(Problem::usage("the batch is empty"));
    }
    Ok(commits)
}

/// Adds a line to a commit. Tag, note and request id are one each.
fn join(commit: &mut Line, line: Line) -> Result<(), Problem> {
    fn one<T>(own: &mut Option<T>, other: Option<T>, what: &str) -> Result<(), Problem> {
        if own.is_some() && other.is_some() {
            return Err(Problem::usage(format!("one commit has one {what}, this is a second"))
                .hint("Use import, or --chunk 1, where each line is a commit"));
        }
        *own = own.take().or(other);
        Ok(())
    }
    one(&mut commit.tag, line.tag, "tag")?;
    one(&mut commit.note, line.note, "note")?;
    one(&mut commit.request_id, line.request_id, "request id")?;
    commit.ops.extend(line.ops);
    Ok(())
}

fn write_all(
    backend: &Backend,
    space: &str,
    lines: Vec<Line>,
    durability: Durability,
) -> Result<Batched, Problem> {
    let space = backend.space_to_write(space)?;
    let (mut counts, mut all) = (Counts::default(), Vec::new());
    // Of several commits only the last is waited for: what is durable is a prefix.
    let last = lines.len();
    for (number, line) in (1..).zip(lines) {
        let durability = if number == last { durability } else { Durability::Buffered };
        let (id, tags) = (line.request_id.clone(), u64::from(line.tag.is_some()));
        match backend.write(write_of(space, line, id), durability) {
            Ok(committed) => {
                count(&mut counts, &committed.written, tags);
                all.push(committed);
            }
            Err(problem) if number == 1 => return Err(problem),
            Err(problem) => {
                backend.flush()?;
                let problem = ops::within(&format!("commit {number}"), problem);
                return Err(with_counts(problem.of_kind(Kind::Partial), &counts));
            }
        }
    }
    let durable = durability != Durability::Buffered;
    all.iter_mut().for_each(|committed| committed.durable = durable);
    let written = all.iter().map(BatchCommit::new).collect();
    let peers = all.last().and_then(|committed| committed.peers);
    Ok(Batched { counts, durable, peers, written })
}

fn count(counts: &mut Counts, written: &Written, tags: u64) {
    if written.repeated {
        counts.skipped += 1;
        return;
    }
    counts.commits += 1;
    counts.events += written.events.len() as u64;
    counts.tags += tags;
}

fn with_counts(mut problem: Problem, counts: &Counts) -> Problem {
    if let Value::Object(counts) = value!(counts) {
        for (name, count) in counts {
            problem = problem.with(&name, count);
        }
    }
    problem
}

/// `POST /v1/spaces/{space}/import`
pub(super) async fn import(api: Api, headers: HeaderMap, ask: Ask, body: Body) -> Answer {
    request::media(&headers, &[Media::Lines, Media::Json])?;
    // It is durable here at the end whatever is preferred.
    let durability = request::durability(&headers)?;
    let name = ask.space;
    let space = api.run(move |backend| backend.space_to_write(&name)).await?;
    let (seen, counts) = Default::default();
    let mut import = Import { space, seen, number: 0, counts, last: None };
    let mut lines = Lines { body, buffer: Vec::new(), searched: 0, ended: false };
    loop {
        let next = lines.next().await;
        let (ready, problem) = match next {
            Ok(Some(ready)) => (ready, None),
            Ok(None) => break,
            // What came whole before it is taken.
            Err(problem) => (Bytes::new(), Some(problem)),
        };
        if let Some(problem) = problem {
            api.run(Backend::flush).await?;
            return Err(import.stopped(import.number + 1, problem));
        }
        import = api.run(move |backend| import.take(backend, &ready)).await?;
    }
    let Import { counts, last, .. } = import;
    let mut done = Imported { counts, durable: true, peers: None };
    let (Durability::Peers(count, patience), Some(tip)) = (durability, last) else {
        return json(&done);
    };
    // It is all of one log, and who holds the last of that holds what comes before.
    let held = move |backend: &Backend| Ok(backend.held_by(&space, &tip, count, patience));
    done.peers = Some(api.run(held).await?);
    written(&done, durability, done.peers)
}

/// How far an import has come.
struct Import {
    space: SpaceId,
    /// How often each line came so far, by a part of its hash: lines that share it count together,
    /// which is the same whenever the import is run again.
    seen: BTreeMap<u64, u32>,
    number: u64,
    counts: Counts,
    /// The commit that was written last.
    last: Option<Tip>,
}

impl Import {
    /// Writes whole lines, and waits until they are durable.
    fn take(mut self, backend: &Backend, lines: &[u8]) -> Result<Self, Problem> {
        for group in split(lines).collect::<Vec<_>>().chunks(FLUSH_LINES) {
            for text in group {
                self.number += 1;
                let text = text.trim_ascii();
                if text.is_empty() {
                    continue;
                }
                if let Err(problem) = self.line(backend, text) {
                    backend.flush()?;
                    return Err(self.stopped(self.number, problem));
                }
            }
            backend.flush()?;
        }
        Ok(self)
    }

    fn line(&mut self, backend: &Backend, text: &[u8]) -> Result<(), Problem> {
        let mut line = ops::line(text)?;
        if line.request_id.take().is_some() {
            return Err(Problem::usage("a line of an import has no request id of its own"));
        }
        let tags = u64::from(line.tag.is_some());
        let id = Some(self.request_id(text));
        let committed = backend.write(write_of(self.space, line, id), Durability::Buffered)?;
        count(&mut self.counts, &committed.written, tags);
        // A line that was skipped may lie long before the others.
        if !committed.written.repeated || self.last.is_none() {
            self.last = Some(committed.written.tip);
        }
        Ok(())
    }

    fn request_id(&mut self, text: &[u8]) -> Vec<u8> {
        let hash = sha256("kdelta/import/1", &[text]);
        let short = hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let count = self.seen.entry(short).or_default();
        let id = sha256("kdelta/import/id/1", &[&hash, &count.to_le_bytes()]);
        *count = count.saturating_add(1);
        id.to_vec()
    }

    /// Says what is done and where it stopped.
    fn stopped(&self, number: u64, problem: Problem) -> Problem {
        let reason = problem.detail().to_owned();
        // What is wrong with the disk or the caller is not the line's fault, and keeps its status.
        let kind = match problem.kind() {
            kind @ (Kind::Full
            | Kind::ReadOnly
            | Kind::Busy
            | Kind::Damaged
            | Kind::Unauthorised
            | Kind::Forbidden
            | Kind::Other) => kind,
            _ => Kind::Partial,
        };
        let counts = Counts { rejected: 1, ..self.counts.clone() };
        let problem = ops::within(&format!("line {number}"), problem).of_kind(kind);
        with_counts(problem, &counts).with("line", number).with("reason", reason)
    }
}

/// Splits lines; what follows the last newline is a line if there is anything.
fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n')
}

/// A body, cut after newlines.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
    searched: usize,
    /// A body that has ended must not be asked again.
    ended: bool,
}

impl Lines {
    /// Returns some whole lines, or the rest; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = if self.ended { None } else { self.body.frame().await };
            let Some(frame) = frame else {
                (self.ended, self.searched) = (true, 0);
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty()).then(|| rest.into()));
            };
            let frame =
                frame.map_err(|error| Problem::usage(format!("the body ended early: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            self.buffer.extend_from_slice(&data);
            if self.buffer.len() < FLUSH_BYTES {
                continue;
            }
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                self.searched = rest.len();
                return Ok(Some(std::mem::replace(&mut self.buffer, rest).into()));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(request::too_large(LINE_BYTES_MAX));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_into_one_commit_or_into_chunks() {
        let text = b"{\"op\":\"delete\",\"key\":\"a\"}\n\n".repeat(5);
        let sizes = |chunk: usize| -> Vec<usize> {
            chunked(&text, chunk).unwrap().iter().map(|line| line.ops.len()).collect()
        };
        assert_eq!(sizes(usize::MAX), [5]);
        assert_eq!(sizes(2), [2, 2, 1]);
        assert_eq!(sizes(1), [1; 5]);
        assert!(chunked(b"\n \n", usize::MAX).is_err());
    }

    #[test]
    fn a_bad_line_is_named() {
        let problem =
            chunked(b"{\"op\":\"delete\",\"key\":\"a\"}\n\nnonsense\n", usize::MAX).unwrap_err();
        assert_eq!(problem.object().get("line"), Some(&value!(3)));
        assert!(problem.detail().starts_with("line 3: "), "{}", problem.detail());
    }

    #[test]
    fn a_commit_has_one_tag() {
        let text = b"{\"op\":\"delete\",\"key\":\"a\",\"tag\":\"t\"}\n".repeat(2);
        assert!(chunked(&text, usize::MAX).is_err());
        assert_eq!(chunked(&text, 1).unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_body_is_cut_after_newlines_only() {
        let line = format!("{}\n", "x".repeat(300_000));
        let text = line.repeat(20) + "rest";
        for size in [7_000, 65_536, 1 << 22] {
            let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
                text.as_bytes().chunks(size).map(|piece| Ok(piece.to_vec())).collect();
            // This kind of stream panics if it is asked again after its end.
            let body = futures_util::stream::unfold(pieces.into_iter(), async |mut pieces| {
                Some((pieces.next()?, pieces))
            });
            let body = Body::from_stream(body);
            let mut lines = Lines { body, buffer: Vec::new(), searched: 0, ended: false };
            let (mut whole, mut count) = (Vec::new(), 0);
            while let Some(part) = lines.next().await.unwrap() {
                assert!(part.ends_with(b"\n") || part.ends_with(b"rest"));
                count += split(&part).count();
                whole.extend_from_slice(&part);
            }
            assert_eq!((whole.as_slice(), count), (text.as_bytes(), 21), "pieces of {size}");
        }
    }
}
