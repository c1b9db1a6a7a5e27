//! Holds a store against the fold of its own image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;

use kdelta_engine::base::{CommitId, EventId, Key, SpaceId, hex};
use kdelta_engine::causal;
use kdelta_engine::crdt;
use kdelta_engine::log::Disk;
use kdelta_engine::store::{HistoryEvent, Point, ReadError, Store, TagState};

use super::causes::Set;
use super::commit::{Action, Tip};
use super::fold::{Fold, Written};
use super::image::Image;
use super::show::{Conflict, Shown, Ty, Value};

/// Where a store says otherwise than the oracle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The space, key, event or digest that it is about.
    pub about: String,
    /// What the oracle says.
    pub oracle: String,
    /// What the store says.
    pub store: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the oracle has {}, the store {}", self.about, self.oracle, self.store)
    }
}

type Outcome = Result<(), Difference>;

/// How long a group without records is.
const MARK_BYTES: usize = 28;
/// How long a seal is.
const SEAL_BYTES: usize = 88;

/// Compares a store with the fold of its image, in every space.
///
/// The image is of the store's own disk, taken after a flush and before any other call that
/// writes. Costs a read of each key and of each event of its history.
///
/// # Errors
/// The first [`Difference`].
pub fn compare<D: Disk + Clone>(image: &Image, store: &mut Store<D>) -> Outcome {
    let written = store.written();
    let (place, offset) = image.end;
    let end = (written.segment, written.offset as usize);
    // Between segments the end has two names; a mark alone is behind a store's end, and so is a
    // seal that is not synced, perhaps with a mark before it.
    let seal = if image.sealed { SEAL_BYTES } else { 0 };
    let behind = [0, seal, seal + MARK_BYTES];
    if end.0 == place && behind.iter().all(|behind| end.1 + behind != offset) {
        return differ("the end of the log", &(place, offset), &end);
    }
    if let Some((space, tip)) = image.unvouched(&store.replica()).first() {
        let about = format!("space {space}, commit {}", tip.id);
        return differ(&about, &"nothing that vouches for it", &"it as applied");
    }
    let spaces: Vec<SpaceId> = store.local().spaces.iter().map(|space| space.id).collect();
    let known = image.local.iter().flat_map(|local| &local.spaces);
    let known: Vec<SpaceId> = known.map(|(id, _, _)| *id).collect();
    if known != spaces {
        return differ("the spaces", &known, &spaces);
    }
    for space in spaces {
        let fold = match fold(image, space) {
            Ok(fold) => fold,
            Err(invalid) => return differ(&format!("space {space}"), &invalid, &"it as applied"),
        };
        compare_space(&fold, store)?;
    }
    Ok(())
}

/// Folds what an image holds of a space; nothing, if it holds nothing.
fn fold(image: &Image, space: SpaceId) -> Result<Fold, String> {
    Fold::new(space, image.spaces.get(&space)).map_err(|invalid| invalid.to_string())
}

/// Compares one space of a store with a fold.
///
/// # Errors
/// The first [`Difference`].
pub fn compare_space<D: Disk + Clone>(fold: &Fold, store: &mut Store<D>) -> Outcome {
    let space = fold.causes.space;
    let about = |what: &str| format!("space {space}, {what}");
    let frontier = store.frontier(&space).map(|tips| tips.iter().map(tip).collect());
    answered(&about("frontier"), &fold.causes.frontier(), frontier)?;
    let closed = fold.causes.closed().into_iter().map(|(log, (seq, _))| (log, seq)).collect();
    answered(&about("closed logs"), &closed, store.closed_logs(&space))?;
    let shown = fold.shown(None);
    compare_shown(fold, &shown, store, None)?;
    for key in fold.keys() {
        compare_history(fold, key, store)?;
    }
    compare_tags(fold, store)?;
    let state = store.ask(|store| store.state_hash(&space)).map(|hash| hash.map(|hash| hex(&hash)));
    answered(&about("state hash"), &Some(hex(&fold.state_hash())), state)?;
    let values = store.ask(|store| store.value_hash(&space)).map(|hash| hex(&hash));
    answered(&about("value hash"), &hex(&fold.value_hash(&shown)), values)
}

/// Compares what a store shows at a commit, and what it lists then, with the fold of its past.
///
/// Costs a read of each event of each key.
///
/// # Errors
/// The first [`Difference`]; one, if the commit does not count.
pub fn compare_at<D: Disk + Clone>(fold: &Fold, store: &mut Store<D>, commit: CommitId) -> Outcome {
    let point = Point::Event(EventId { commit, index: 0 });
    let version = store.ask(|store| store.resolve(&fold.causes.space, &point));
    match (fold.causes.past(&commit), version) {
        (Some(set), Ok(version)) => {
            let shown = fold.shown(Some(set));
            compare_shown(fold, &shown, store, Some((commit, set, &version)))
        }
        (None, Err(_)) => Ok(()),
        (past, version) => {
            let counts = past.map(|_| "it");
            differ(&format!("the past of commit {commit}"), &counts, &version.map(drop))
        }
    }
}

type At<'a> = (CommitId, &'a Set, &'a causal::VersionVector);

fn compare_shown<D: Disk + Clone>(
    fold: &Fold,
    shown: &BTreeMap<Arc<[u8]>, Shown>,
    store: &mut Store<D>,
    at: Option<At<'_>>,
) -> Outcome {
    let space = fold.causes.space;
    let moment = at.map_or(String::new(), |(id, ..)| format!(" at {id}"));
    let version = at.map(|(_, _, version)| version);
    let about = |name: &[u8]| format!("space {space}, key {}{moment}", text(name));
    for name in fold.keys() {
        let Ok(key) = Key::from_bytes(name) else { continue };
        let found = store
            .ask(|store| store.get(&space, &key, version))
            .map(|view| view.map(|view| shown_by(&view)));
        answered(&about(name), &shown.get(name).cloned(), found)?;
    }
    let listed = store.ask(|store| store.list(&space, "", None, usize::MAX, version));
    let names = listed.as_ref().map(|page| page.keys.iter().map(|(key, _)| text(key.as_bytes())));
    let names = names.map(Vec::from_iter).map_err(|error| format!("{error}"));
    let ours = shown.keys().map(|key| text(key)).collect();
    same(&format!("space {space}, list of keys{moment}"), &Ok(ours), &names)?;
    for ((name, ours), (_, theirs)) in shown.iter().zip(listed.iter().flat_map(|page| &page.keys)) {
        same(&format!("{}, in the list", about(name)), ours, &shown_by(theirs))?;
    }
    Ok(())
}

fn compare_history<D: Disk + Clone>(fold: &Fold, name: &[u8], store: &mut Store<D>) -> Outcome {
    let space = fold.causes.space;
    let Ok(key) = Key::from_bytes(name) else { return Ok(()) };
    let about = format!("space {space}, history of {}", text(name));
    let events: BTreeMap<EventId, &Written> =
        fold.events(name).map(|event| (event.stamp.id, event)).collect();
    let found = match store.ask(|store| store.history(&space, &key, usize::MAX)) {
        Ok(found) => found,
        Err(error) => return differ(&about, &"events", &error),
    };
    let ids: BTreeSet<EventId> = found.iter().map(|event| event.stamp.event_id()).collect();
    same(&about, &events.keys().copied().collect(), &ids)?;
    same(&about, &events.len(), &found.len())?;
    let mut later: Vec<&Written> = Vec::new();
    for event in &found {
        let id = event.stamp.event_id();
        let Some(ours) = events.get(&id) else { continue };
        let about = format!("{about}, event {id}");
        // The newest comes first: nothing that came already may be in the past of what follows.
        if let Some(early) = later.iter().find(|later| fold.saw(ours, later)) {
            return differ(&about, &format!("it after {}", early.stamp.id), &"it before");
        }
        later.push(ours);
        compare_event(&about, fold, name, ours, event)?;
    }
    Ok(())
}

fn compare_event(
    about: &str,
    fold: &Fold,
    key: &[u8],
    ours: &Written,
    theirs: &HistoryEvent,
) -> Outcome {
    let stamp = (theirs.stamp.hlc.0, theirs.stamp.dot.log.replica);
    same(about, &(ours.stamp.hlc, ours.stamp.replica), &stamp)?;
    same(about, &ours.action, &action(theirs.action))?;
    same(about, &Some(&*ours.payload), &theirs.payload.as_deref())?;
    let parents: BTreeSet<EventId> = theirs.parents.iter().copied().collect();
    same(&format!("{about}, parents"), &fold.parents(key, ours), &parents)
}

fn compare_tags<D: Disk + Clone>(fold: &Fold, store: &mut Store<D>) -> Outcome {
    let space = fold.causes.space;
    let ours: BTreeMap<String, (CommitId, Vec<Tip>)> = fold
        .tags()
        .into_iter()
        .filter_map(|(name, (commit, target))| Some((name, (commit, target?))))
        .collect();
    let theirs = store.ask(|store| store.tags(&space, None, usize::MAX)).map(|tags| {
        // A tag in a branch names it as only this store does.
        let outer =
            |tip: &causal::Tip| Tip { log: store.origin(&space, &tip.log), ..self::tip(tip) };
        let heads = |heads: Vec<causal::Tip>| heads.iter().map(outer).collect();
        let tag = |tag: TagState| (tag.commit, tag.target.map(heads).unwrap_or_default());
        tags.into_iter().map(|(name, state)| (name, tag(state))).collect()
    });
    answered(&format!("space {space}, tags"), &ours, theirs)
}

fn tip(tip: &causal::Tip) -> Tip {
    Tip { log: tip.log, seq: tip.seq, id: tip.id }
}

/// The engine's view in the oracle's words.
fn shown_by(view: &crdt::View) -> Shown {
    let conflict = |conflict: &crdt::Conflict| Conflict {
        event: conflict.stamp.event_id(),
        ty: ty(conflict.ty),
        value: value(&conflict.value),
        field: conflict.field.as_deref().map(str::to_owned),
    };
    Shown {
        ty: ty(view.ty),
        value: value(&view.value),
        version: view.version,
        context: view.context,
        conflicts: view.conflicts.iter().map(conflict).collect(),
        type_conflict: view.type_conflict,
    }
}

fn ty(ty: crdt::Type) -> Ty {
    match ty {
        crdt::Type::Register => Ty::Register,
        crdt::Type::Bytes => Ty::Bytes,
        crdt::Type::Counter => Ty::Counter,
        crdt::Type::Set => Ty::Set,
        crdt::Type::Map => Ty::Map,
    }
}

fn value(value: &crdt::Value) -> Value {
    match value {
        crdt::Value::Json(json) => Value::One(json.as_bytes().to_vec()),
        crdt::Value::Bytes(bytes) => Value::One(bytes.to_vec()),
        crdt::Value::Counter(sum) => Value::Sum(i128::from(*sum)),
        crdt::Value::Overflow(sum) => Value::Sum(*sum),
        crdt::Value::Set(all) => Value::Set(all.iter().map(|e| e.as_bytes().to_vec()).collect()),
        crdt::Value::Map(all) => Value::Map(
            all.iter().map(|(name, v)| (name.as_ref().to_owned(), v.as_bytes().to_vec())).collect(),
        ),
    }
}

fn action(action: crdt::Action) -> Action {
    match action {
        crdt::Action::Delete => Action::Delete,
        crdt::Action::RegisterPut => Action::Put,
        crdt::Action::BytesPut => Action::PutBytes,
        crdt::Action::CounterAdd => Action::CounterAdd,
        crdt::Action::SetAdd => Action::SetAdd,
        crdt::Action::SetRemove => Action::SetRemove,
        crdt::Action::MapPut => Action::MapPut,
        crdt::Action::MapDelete => Action::MapDelete,
    }
}

fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), str::to_owned)
}

/// Two words on one thing.
fn same<T: Debug + PartialEq>(about: &str, oracle: &T, store: &T) -> Outcome {
    if oracle == store { Ok(()) } else { differ(about, oracle, store) }
}

/// The same, of what a store may fail to answer.
fn answered<T: Debug + PartialEq>(about: &str, oracle: &T, store: Result<T, ReadError>) -> Outcome {
    match store {
        Ok(store) => same(about, oracle, &store),
        Err(error) => differ(about, oracle, &error),
    }
}

fn differ(about: &str, oracle: &dyn Debug, store: &dyn Debug) -> Outcome {
    let one_line = |what: &dyn Debug| format!("{what:?}");
    Err(Difference { about: about.to_owned(), oracle: one_line(oracle), store: one_line(store) })
}
