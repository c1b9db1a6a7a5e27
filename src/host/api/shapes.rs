//! The JSON that users see, in one place.
//!
//! Ids are lower-case hexadecimal, times RFC 3339 in UTC. Values are embedded as the canonical
//! text that is stored: no digit of a number changes on the way out.

use std::sync::Arc;

use data_encoding::BASE64;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::histories::Why;
use super::point::time_text;
use crate::engine::base::{EventId, Hlc, Key, LogId, hex};
use crate::engine::causal::Tip;
use crate::engine::crdt::{Action, Conflict, Json, Payload, Value, View};
use crate::engine::event::{Event, Meta, Tag};
use crate::engine::store::TagState;
use crate::host::replica;

/// A stored JSON value, embedded as it is.
#[derive(Debug, Clone)]
pub(super) struct Verbatim(pub(super) Json);

impl Serialize for Verbatim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.0.as_str()).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// A value as readers see it.
#[derive(Debug, Clone)]
pub(super) struct Shown(pub(super) Value);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Json(json) => Verbatim(json.clone()).serialize(serializer),
            Value::Bytes(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &BASE64.encode(bytes))?;
                map.end()
            }
            Value::Counter(sum) => serializer.serialize_i64(*sum),
            Value::Overflow(sum) => serializer.serialize_i128(*sum),
            Value::Set(elements) => serializer.collect_seq(elements.iter().cloned().map(Verbatim)),
            Value::Map(fields) => {
                let field =
                    |(name, value): (&Arc<str>, &Json)| (name.to_string(), Verbatim(value.clone()));
                serializer.collect_map(fields.iter().map(field))
            }
        }
    }
}

/// What `get` answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Got {
    key: String,
    #[serde(rename = "type")]
    ty: &'static str,
    value: Shown,
    version: String,
    context: String,
    time: String,
    author: String,
    conflicts: Vec<Other>,
    #[serde(skip_serializing_if = "is_false")]
    type_conflict: bool,
    /// Part of the key's history is lost: this is what is intact.
    #[serde(skip_serializing_if = "is_false")]
    degraded: bool,
}

/// A live value that is not shown.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Other {
    #[serde(rename = "type")]
    ty: &'static str,
    value: Shown,
    version: String,
    time: String,
    author: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Arc<str>>,
}

impl Got {
    pub(super) fn new(key: &Key, view: &View) -> Self {
        Self {
            key: key.as_str().to_owned(),
            ty: view.ty.name(),
            value: Shown(view.value.clone()),
            version: view.version.to_string(),
            context: hex(&view.context),
            time: time_text(view.stamp.hlc),
            author: author(&view.stamp.dot.log),
            conflicts: view.conflicts.iter().map(Other::new).collect(),
            type_conflict: view.type_conflict,
            degraded: false,
        }
    }

    /// Marks it as what is left of a key of which something is lost.
    pub(super) fn marked(mut self, degraded: bool) -> Self {
        self.degraded = degraded;
        self
    }
}

impl Other {
    fn new(conflict: &Conflict) -> Self {
        Self {
            ty: conflict.ty.name(),
            value: Shown(conflict.value.clone()),
            version: conflict.stamp.event_id().to_string(),
            time: time_text(conflict.stamp.hlc),
            author: author(&conflict.stamp.dot.log),
            field: conflict.field.clone(),
        }
    }
}

/// One key of a list.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Listed {
    key: String,
    #[serde(rename = "type")]
    ty: &'static str,
    version: String,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflicts: Option<Vec<Other>>,
}

impl Listed {
    pub(super) fn new(key: &Key, view: &View, values: bool) -> Self {
        Self {
            key: key.as_str().to_owned(),
            ty: view.ty.name(),
            version: view.version.to_string(),
            time: time_text(view.stamp.hlc),
            value: values.then(|| Shown(view.value.clone())),
            conflicts: values.then(|| view.conflicts.iter().map(Other::new).collect()),
        }
    }
}

/// A page of keys.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Page {
    pub(super) keys: Vec<Listed>,
    pub(super) next: Option<String>,
    /// Something is lost: this is what is intact.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) degraded: bool,
}

/// What a write of one key answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Wrote {
    key: String,
    version: Option<String>,
    #[serde(flatten)]
    commit: Committed,
}

/// What is said of a commit that was just made, or made before under the same request id.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Committed {
    commit: String,
    time: String,
    author: String,
    seq: u64,
    durable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<usize>,
    #[serde(skip_serializing_if = "is_false")]
    repeated: bool,
}

impl Committed {
    pub(super) fn new(committed: &replica::Committed) -> Self {
        let written = &committed.written;
        Self {
            commit: written.tip.id.to_string(),
            time: time_text(written.hlc),
            author: author(&written.tip.log),
            seq: written.tip.seq,
            durable: committed.durable,
            peers: committed.peers,
            repeated: written.repeated,
        }
    }
}

impl Wrote {
    pub(super) fn new(key: &Key, committed: &replica::Committed) -> Self {
        let written = &committed.written;
        // Of several events on a key the last has the greatest stamp, and is what it shows.
        let last = written.events.iter().rev().find(|(of, _)| of == key);
        Self {
            key: key.as_str().to_owned(),
            version: last.map(|(_, id)| id.to_string()),
            commit: Committed::new(committed),
        }
    }
}

/// What `batch` and `import` answer.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Counts {
    pub(super) commits: u64,
    pub(super) events: u64,
    pub(super) rejected: u64,
    pub(super) tags: u64,
    pub(super) skipped: u64,
}

/// What an import answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Imported {
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) durable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peers: Option<usize>,
}

/// What a batch of one commit answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Batched {
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) durable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peers: Option<usize>,
    /// Each commit, in order.
    pub(super) written: Vec<BatchCommit>,
}

/// One commit of a batch.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BatchCommit {
    #[serde(flatten)]
    commit: Committed,
    versions: Vec<KeyVersion>,
}

#[derive(Debug, Clone, Serialize)]
struct KeyVersion {
    key: String,
    version: String,
}

impl BatchCommit {
    pub(super) fn new(committed: &replica::Committed) -> Self {
        let written = &committed.written;
        let version = |(key, id): &(Key, EventId)| KeyVersion {
            key: key.as_str().to_owned(),
            version: id.to_string(),
        };
        let versions = written.events.iter().map(version).collect();
        Self { commit: Committed::new(committed), versions }
    }
}

/// What one event did to its key.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Did {
    op: &'static str,
    /// None for a delete, which is of any type.
    #[serde(rename = "type")]
    ty: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    element: Option<Verbatim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown>,
    /// What it carried was erased.
    #[serde(skip_serializing_if = "is_false")]
    erased: bool,
    /// What it carries breaks a rule, so it contributes nothing.
    #[serde(skip_serializing_if = "is_false")]
    malformed: bool,
}

impl Did {
    /// Describes an action and what it carries; none if that was erased.
    pub(super) fn new(action: Action, payload: Option<&Arc<[u8]>>) -> Self {
        let mut did = Self {
            op: op_name(action),
            ty: action.value_type().map(|ty| ty.name()),
            field: None,
            by: None,
            element: None,
            value: None,
            erased: payload.is_none(),
            malformed: false,
        };
        match payload.map(|payload| Payload::read(action, payload)) {
            None | Some(Some(Payload::Nothing)) => {}
            Some(None) => did.malformed = true,
            Some(Some(Payload::Json(json))) => match action {
                Action::SetAdd | Action::SetRemove => did.element = Some(Verbatim(json)),
                _ => did.value = Some(Shown(Value::Json(json))),
            },
            Some(Some(Payload::Bytes(bytes))) => did.value = Some(Shown(Value::Bytes(bytes))),
            Some(Some(Payload::Add(by))) => did.by = Some(by),
            Some(Some(Payload::Field(name, value))) => {
                did.field = Some(name);
                did.value = Some(Shown(Value::Json(value)));
            }
            Some(Some(Payload::FieldName(name))) => did.field = Some(name),
        }
        did
    }

    /// Describes an event as it lies in a commit: op, type, field, and what was written.
    pub(super) fn parts(
        event: &Event,
    ) -> (&'static str, Option<&'static str>, Option<Arc<str>>, Option<Shown>) {
        let payload = event.payload();
        let Self { op, ty, field, by, element, value, .. } =
            Self::new(event.skeleton.action, payload);
        let element = element.map(|Verbatim(json)| Shown(Value::Json(json)));
        (op, ty, field, value.or(element).or(by.map(|by| Shown(Value::Counter(by)))))
    }
}

/// Returns the name of an op in all JSON.
pub(super) fn op_name(action: Action) -> &'static str {
    match action {
        Action::Delete => "delete",
        Action::RegisterPut | Action::BytesPut => "put",
        Action::CounterAdd => "counter_add",
        Action::SetAdd => "set_add",
        Action::SetRemove => "set_remove",
        Action::MapPut => "map_put",
        Action::MapDelete => "map_delete",
    }
}

/// What a commit says about itself.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct About {
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_deleted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<Verbatim>,
}

impl About {
    pub(super) fn new(meta: Option<&Meta>) -> Self {
        let tag = meta.and_then(|meta| meta.tag.as_ref());
        let (tag, tag_deleted) = match tag {
            Some(Tag::Create { name, .. }) => (Some(name.clone()), None),
            Some(Tag::Delete { name }) => (None, Some(name.clone())),
            _ => (None, None),
        };
        Self { tag, tag_deleted, note: note(meta).map(Verbatim) }
    }
}

/// Returns the note of a commit; one that is not canonical JSON counts as none.
pub(super) fn note(meta: Option<&Meta>) -> Option<Json> {
    meta.and_then(|meta| meta.note.clone()).and_then(Json::from_canonical)
}

/// A tag.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tagged {
    name: String,
    /// The commit that it names; of several heads, the first.
    version: String,
    heads: Vec<String>,
    time: String,
    author: String,
    seq: u64,
}

impl Tagged {
    /// Describes a tag that the commit `by` made.
    pub(super) fn new(name: &str, heads: &[Tip], by: &Tip, hlc: Hlc) -> Self {
        Self {
            name: name.to_owned(),
            version: heads.first().unwrap_or(by).id.to_string(),
            heads: heads.iter().map(|tip| tip.id.to_string()).collect(),
            time: time_text(hlc),
            author: author(&by.log),
            seq: by.seq,
        }
    }

    pub(super) fn of(name: &str, tag: &TagState) -> Self {
        let by = Tip { log: tag.log, seq: tag.seq, id: tag.commit };
        Self::new(name, tag.target.as_deref().unwrap_or_default(), &by, tag.hlc)
    }
}

/// One change, as a watch tells it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Change {
    pub(super) cursor: String,
    pub(super) key: String,
    /// The event; for what became of a fork or a revocation, the one that is shown now, if any.
    pub(super) version: Option<String>,
    /// None for what became of a fork or a revocation.
    pub(super) commit: Option<String>,
    pub(super) index: usize,
    pub(super) of: usize,
    pub(super) previous: Vec<String>,
    pub(super) op: &'static str,
    /// The type of what was written; null for a delete.
    #[serde(rename = "type")]
    pub(super) ty: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<Arc<str>>,
    /// What was written: the value, the element or the amount; null for a delete.
    pub(super) value: Option<Shown>,
    /// What the key shows once all that is durable counts; null if nothing.
    pub(super) current: Option<Shown>,
    pub(super) author: String,
    pub(super) time: String,
    /// Why it does not count, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inert: Option<Why>,
}

/// Returns who wrote a log.
pub(super) fn author(log: &LogId) -> String {
    log.replica.to_string()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it by reference")]
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it by reference")]
pub(super) fn is_one(count: &u64) -> bool {
    *count == 1
}
