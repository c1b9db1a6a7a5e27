//! Everything in a space as lines that `import` reads.
//!
//! Without history: the live state, one key after the other; of concurrent values the one that is
//! shown. With history: one line a commit that counts, in the order of arrival, which is causal.
//! Imported into a fresh store, both give the same live state, the latter also history, tags and
//! notes. All of it is of one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::backend::{Api, Backend};
use super::keys::{Pinned, Range};
use super::past::each_commit_until;
use super::problem::{Kind, Problem};
use super::replay::Replay;
use super::request::Ask;
use super::shapes::{Shown, Verbatim, note, op_name};
use super::stream::{Out, stream};
use super::{Answer, render};
use crate::engine::base::{Key, LogId, SpaceId};
use crate::engine::crdt::{Action, Json, Payload, Value, View};
use crate::engine::store::Arrived;

/// Elements of a set, or fields of a map, in one line.
const PARTS_PER_LINE: usize = 1000;
/// A line of elements or fields ends above this many bytes of them.
const LINE_BYTES: usize = 4 << 20;

/// An op as a line of an import spells it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct OpShape {
    op: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elements: Option<Vec<Verbatim>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    ty: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) retype: bool,
}

/// A commit as a line of an import spells it.
#[derive(Debug, Clone, Default, Serialize)]
struct CommitShape {
    batch: Vec<OpShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<Verbatim>,
}

/// `GET /v1/spaces/{space}/export?prefix=&history=`
pub(super) async fn export(api: Api, mut ask: Ask) -> Answer {
    let prefix = ask.query.text("prefix").unwrap_or_default();
    let history = ask.query.flag("history")?;
    let degraded = ask.query.flag("degraded")?;
    let name = ask.space;
    stream(&api, move |backend, out| {
        let backend = &backend.degraded(degraded);
        // A line of history has the notes and tags of its commit, which are of all keys.
        let space = backend.space(&name, if history { "" } else { &prefix })?;
        if history {
            with_history(backend, space, prefix, out)
        } else {
            live(backend, space, prefix, out)
        }
    })
    .await
}

fn live(backend: &Backend, space: SpaceId, prefix: String, out: &mut Out) -> Result<(), Problem> {
    let range = Range { prefix, after: None };
    Pinned::new(backend, space, None)?.walk(backend, range, usize::MAX, |key, view| {
        for mut ops in commits_of(key, view)? {
            let line = match ops.len() {
                1 => render(&ops.swap_remove(0))?,
                _ => render(&CommitShape { batch: ops, ..CommitShape::default() })?,
            };
            out.line(&line)?;
        }
        Ok(true)
    })?;
    Ok(())
}

/// Returns the ops that make a fresh key show what `view` shows, as many as fit in each commit.
pub(super) fn commits_of(key: &Key, view: &View) -> Result<Vec<Vec<OpShape>>, Problem> {
    let new = |op| OpShape { op, key: key.as_str().to_owned(), ..OpShape::default() };
    Ok(match &view.value {
        Value::Json(_) => {
            vec![vec![OpShape { value: Some(Shown(view.value.clone())), ..new("put") }]]
        }
        Value::Bytes(_) => {
            let (value, ty) = (Some(Shown(view.value.clone())), Some("bytes"));
            vec![vec![OpShape { value, ty, ..new("put") }]]
        }
        Value::Counter(sum) => vec![vec![OpShape { by: Some(*sum), ..new("counter_add") }]],
        Value::Overflow(_) => {
            let detail = format!("the counter {key} is out of the range of 64 bits");
            return Err(Problem::new(Kind::Conflict, detail)
                .hint("Bring it back with counter add, or export with --history"));
        }
        Value::Set(elements) => {
            let size = |element: &Json| element.as_bytes().len();
            let line = |part: &[Json]| {
                let elements = Some(part.iter().cloned().map(Verbatim).collect());
                vec![OpShape { elements, ..new("set_add") }]
            };
            parts(elements, size).into_iter().map(line).collect()
        }
        Value::Map(fields) => {
            let fields: Vec<(&Arc<str>, &Json)> = fields.iter().collect();
            let size = |(name, value): &(&Arc<str>, &Json)| name.len() + value.as_bytes().len();
            let put = |(name, value): &(&Arc<str>, &Json)| OpShape {
                field: Some(Arc::clone(name)),
                value: Some(Shown(Value::Json((*value).clone()))),
                ..new("map_put")
            };
            let line = |part: &[_]| part.iter().map(put).collect();
            parts(&fields, size).into_iter().map(line).collect()
        }
    })
}

/// Cuts a list into parts of bounded count and size.
fn parts<T>(all: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut rest) = (Vec::new(), all);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(PARTS_PER_LINE).take_while(|part| {
            bytes += size(part);
            bytes <= LINE_BYTES
        });
        let (part, after) = rest.split_at(fits.count().max(1));
        parts.push(part);
        rest = after;
    }
    parts
}

/// Returns the op that an event was, unless what it carried is gone or breaks a rule.
pub(super) fn op_of(key: &Key, action: Action, payload: &Arc<[u8]>) -> Option<OpShape> {
    let mut op =
        OpShape { op: op_name(action), key: key.as_str().to_owned(), ..OpShape::default() };
    match Payload::read(action, payload)? {
        Payload::Nothing => {}
        Payload::Json(json) => match action {
            Action::SetAdd | Action::SetRemove => op.elements = Some(vec![Verbatim(json)]),
            _ => op.value = Some(Shown(Value::Json(json))),
        },
        Payload::Bytes(bytes) => {
            (op.value, op.ty) = (Some(Shown(Value::Bytes(bytes))), Some("bytes"));
        }
        Payload::Add(by) => op.by = Some(by),
        Payload::Field(name, value) => {
            (op.field, op.value) = (Some(name), Some(Shown(Value::Json(value))));
        }
        Payload::FieldName(name) => op.field = Some(name),
    }
    Some(op)
}

/// Returns the op that removes whatever a key holds.
pub(super) fn delete_of(key: &Key) -> OpShape {
    OpShape { op: "delete", key: key.as_str().to_owned(), ..OpShape::default() }
}

fn with_history(
    backend: &Backend,
    space: SpaceId,
    prefix: String,
    out: &mut Out,
) -> Result<(), Problem> {
    let (upto, version) = backend.read(|store| {
        let upto = store.place_of_end(&space, store.written())?;
        Ok((upto, store.version(&space)?))
    })?;
    let mut tags = Tags::new(backend, &space)?;
    let mut replay = Replay::new(space, version.clone());
    each_commit_until(backend, &space, upto, Some(&version), |arrived| {
        let mut batch = Vec::new();
        // Written again by somebody else, what is inert would count.
        let counts = !arrived.is_inert;
        if counts {
            replay.begin(backend, arrived)?;
        }
        for event in arrived.commit.events.iter().filter(|_| counts) {
            let (Some(key), Some(delta)) = (event.key(), event.delta()) else { continue };
            if key.as_str().starts_with(&prefix) {
                batch.extend(replay.op(backend, &key, &delta)?);
            }
        }
        if counts {
            replay.end(arrived);
        }
        let mut names = tags.reached(arrived).into_iter();
        let meta = arrived.commit.meta().filter(|_| counts);
        let note = note(meta.as_ref()).map(Verbatim);
        let tag = names.next();
        if !batch.is_empty() || tag.is_some() {
            out.line(&render(&CommitShape { batch, tag, note })?)?;
        }
        // A commit carries one tag.
        for name in names {
            out.line(&render(&CommitShape { tag: Some(name), ..CommitShape::default() })?)?;
        }
        Ok(())
    })?;
    for batch in replay.settle(backend)? {
        out.line(&render(&CommitShape { batch, ..CommitShape::default() })?)?;
    }
    Ok(())
}

/// The live tags, each to be put on the last of the commits that it names.
struct Tags {
    names: Vec<(String, usize)>,
    at: BTreeMap<(LogId, u64), Vec<usize>>,
}

impl Tags {
    fn new(backend: &Backend, space: &SpaceId) -> Result<Self, Problem> {
        let mut tags = Self { names: Vec::new(), at: BTreeMap::new() };
        for (name, tag) in super::tags::live(backend, space, None, usize::MAX)? {
            let heads = tag.target.unwrap_or_default();
            for head in &heads {
                let at = backend.read(|store| Ok(store.inner_name(space, head)))?;
                let at = at.unwrap_or((head.log, head.seq));
                tags.at.entry(at).or_default().push(tags.names.len());
            }
            tags.names.push((name, heads.len()));
        }
        Ok(tags)
    }

    /// Returns the tags whose commits have all come now.
    fn reached(&mut self, arrived: &Arrived) -> Vec<String> {
        let mut reached = Vec::new();
        for ix in self.at.remove(&(arrived.tip.log, arrived.tip.seq)).unwrap_or_default() {
            let Some((name, missing)) = self.names.get_mut(ix) else { continue };
            *missing -= 1;
            if *missing == 0 {
                reached.push(std::mem::take(name));
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_in_count_and_size() {
        let all = vec![1_usize; 2500];
        let lengths = |size: usize| -> Vec<usize> {
            parts(&all, |_| size).iter().map(|part| part.len()).collect()
        };
        assert_eq!(lengths(1), [1000, 1000, 500]);
        assert_eq!(lengths(LINE_BYTES / 1000)[0], 1000);
        assert!(lengths(LINE_BYTES + 1).iter().all(|length| *length == 1));
        assert!(parts(&all[..0], |_| 1).is_empty());
    }
}
