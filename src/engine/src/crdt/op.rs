//! What a caller asks for, turned into deltas against what this replica holds live.
//!
//! An op supersedes what its author sees and nothing else, so whatever is written at the same time
//! elsewhere survives. No op is optimised away: putting an equal value again, or adding an element
//! that is there, is a new event, and it wins over what concurrently removes the old one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::live::Event;
use super::{Action, Delta, Json, State, Supersedes, Type, payload};
use crate::base::{Dot, LogId};
use crate::limits::{CUT_ENTRIES_MAX, FIELD_BYTES_MAX, PREDS_MAX, VALUE_BYTES_MAX};

/// What a caller asks for on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a register.
    Put(Json),
    /// Sets a register of raw bytes.
    PutBytes(Arc<[u8]>),
    /// Removes everything that is live, of any type.
    Delete,
    /// Adds to a counter.
    CounterAdd(i64),
    /// Adds elements to a set, one event each.
    SetAdd(Vec<Json>),
    /// Removes elements from a set, one event each, whether they are there or not.
    SetRemove(Vec<Json>),
    /// Sets a field of a map.
    MapPut {
        /// The name, at most [`FIELD_BYTES_MAX`] bytes.
        field: Arc<str>,
        /// The new value.
        value: Json,
    },
    /// Removes a field of a map, whether it is there or not.
    MapDelete {
        /// The name, at most [`FIELD_BYTES_MAX`] bytes.
        field: Arc<str>,
    },
}

/// Why an op makes no event. Nothing was changed.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// The key shows another type. Ask for the right one, or to retype the key.
    #[error("the key is a {}, not a {}", .is.name(), .wanted.name())]
    TypeMismatch {
        /// What the key shows.
        is: Type,
        /// What the op is for.
        wanted: Type,
    },
    /// There is nothing to delete.
    #[error("the key holds nothing")]
    NotFound,
    /// The counter would leave the range of an `i64`. Add less.
    #[error("the counter would leave the range of 64 bits")]
    Overflow,
    /// The op names no element. Name at least one.
    #[error("no element is named")]
    NoElements,
    /// The field's name is too long. Use a shorter one.
    #[error("a field's name has at most {FIELD_BYTES_MAX} bytes, this one has {len}")]
    FieldTooLong {
        /// The length in bytes.
        len: usize,
    },
    /// The value is too large. Split it over several keys.
    #[error("a value has at most {VALUE_BYTES_MAX} bytes, this one has {len}")]
    ValueTooLarge {
        /// The length in bytes, a field's name included.
        len: usize,
    },
    /// The other type's events cannot be removed without the shown ones. Delete the key, then
    /// write it again.
    #[error("the other type cannot be removed alone")]
    RetypeTooBroad,
    /// More logs have live events here than one cut can name. Remove the parts one by one.
    #[error("events of {logs} logs are live, one event removes those of {CUT_ENTRIES_MAX}")]
    TooManyLogs {
        /// How many.
        logs: usize,
    },
}

impl State {
    /// Turns `op` into events, in order; all of them belong into one commit.
    ///
    /// With `retype` the op also removes all live events of other types, and everything if another
    /// type than its own is shown. Before the next op on the same key in the same commit, apply
    /// each delta with its stamp. Cost: linear in the live events of what the op speaks of.
    ///
    /// # Errors
    /// [`OpError`] says what to do.
    pub fn deltas(&self, op: &Op, retype: bool) -> Result<Vec<Delta>, OpError> {
        let Some(wanted) = op.value_type() else { return self.delete() };
        let shown = self.shown();
        if let Some(is) = shown.filter(|is| *is != wanted && !retype) {
            return Err(OpError::TypeMismatch { is, wanted });
        }
        let wipes = shown.is_some_and(|is| is != wanted);
        let mut deltas = self.plain(op, wipes)?;
        if retype && self.has_other_than(wanted) {
            let wipes = self.retype(wanted, wipes, &mut deltas)?;
            // What the first event removed is not there any more for the others.
            deltas.iter_mut().skip(1).filter(|_| wipes).for_each(|delta| {
                delta.supersedes = Supersedes::NOTHING;
            });
        }
        Ok(deltas)
    }

    /// Makes the op's events as if only its own type were here.
    fn plain(&self, op: &Op, wipes: bool) -> Result<Vec<Delta>, OpError> {
        let bounded = |payload: Arc<[u8]>| match payload.len() {
            len if len > VALUE_BYTES_MAX => Err(OpError::ValueTooLarge { len }),
            _ => Ok(payload),
        };
        let one = |action, slot: &[u8], payload| {
            Ok(vec![Delta { action, supersedes: self.seen(action, slot), payload }])
        };
        match op {
            Op::Put(json) => one(Action::RegisterPut, &[], json.clone().into_bytes()),
            Op::PutBytes(bytes) => one(Action::BytesPut, &[], bounded(Arc::clone(bytes))?),
            Op::Delete => self.delete(),
            Op::CounterAdd(by) => {
                self.check_sum(*by, wipes)?;
                one(Action::CounterAdd, &[], by.to_le_bytes().into())
            }
            Op::SetAdd(elements) => self.elements(Action::SetAdd, elements),
            Op::SetRemove(elements) => self.elements(Action::SetRemove, elements),
            Op::MapPut { field, value } => {
                let payload = bounded(payload::join_field(checked_field(field)?, value))?;
                one(Action::MapPut, field.as_bytes(), payload)
            }
            Op::MapDelete { field } => {
                let slot = checked_field(field)?.as_bytes();
                one(Action::MapDelete, slot, slot.into())
            }
        }
    }

    fn elements(&self, action: Action, elements: &[Json]) -> Result<Vec<Delta>, OpError> {
        if elements.is_empty() {
            return Err(OpError::NoElements);
        }
        let mut named = BTreeSet::new();
        let distinct = elements.iter().filter(|element| named.insert(*element));
        let delta = |element: &Json| Delta {
            action,
            supersedes: self.seen(action, element.as_bytes()),
            payload: element.clone().into_bytes(),
        };
        Ok(distinct.map(delta).collect())
    }

    /// Names the live events of one part of the key; of too many, those with the greatest stamps.
    fn seen(&self, action: Action, slot: &[u8]) -> Supersedes {
        let Some(ty) = action.value_type() else { return Supersedes::NOTHING };
        let mut events = self.live.in_slot(ty, slot);
        if events.len() > PREDS_MAX {
            events.sort_unstable_by_key(|event| Reverse(event.stamp));
            events.truncate(PREDS_MAX);
        }
        Supersedes::Dots(sorted(events))
    }

    fn delete(&self) -> Result<Vec<Delta>, OpError> {
        if self.is_empty() {
            return Err(OpError::NotFound);
        }
        let (action, supersedes) = (Action::Delete, self.everything()?);
        Ok(vec![Delta { action, supersedes, payload: Arc::default() }])
    }

    /// Names all that is live: by dots if they are few, else by a cut.
    fn everything(&self) -> Result<Supersedes, OpError> {
        if self.tallies.is_empty() && self.live.len() <= PREDS_MAX {
            return Ok(Supersedes::Dots(sorted(self.live.iter().collect())));
        }
        let mut cut: BTreeMap<LogId, u64> = BTreeMap::new();
        let adds = self.tallies.iter().map(|tally| tally.last_dot());
        for dot in self.live.iter().map(|event| event.stamp.dot).chain(adds) {
            let seq = cut.entry(dot.log).or_default();
            *seq = dot.seq.max(*seq);
        }
        match cut.len() {
            logs if logs > CUT_ENTRIES_MAX => Err(OpError::TooManyLogs { logs }),
            _ => Ok(Supersedes::Cut(cut.into_iter().collect())),
        }
    }

    fn has_other_than(&self, wanted: Type) -> bool {
        !self.tallies.is_empty() && wanted != Type::Counter
            || self.live.iter().any(|event| event.ty != wanted)
    }

    /// Makes the first of `deltas` remove the other types, too; tells whether it removes all.
    fn retype(&self, wanted: Type, wipes: bool, deltas: &mut [Delta]) -> Result<bool, OpError> {
        let Some(first) = deltas.first_mut() else { return Ok(wipes) };
        let own = match &first.supersedes {
            Supersedes::Dots(dots) if !wipes => dots.as_slice(),
            _ => &[],
        };
        let kept =
            |event: &&Event| event.ty == wanted && own.binary_search(&event.stamp.dot).is_err();
        let keeps = wanted == Type::Counter && !self.tallies.is_empty()
            || self.live.iter().any(|event| kept(&event));
        if wipes || !keeps {
            first.supersedes = self.everything()?;
            return Ok(true);
        }
        let gone: Vec<_> = self.live.iter().filter(|event| !kept(event)).collect();
        let folded = wanted != Type::Counter && !self.tallies.is_empty();
        if folded || gone.len() > PREDS_MAX {
            return Err(OpError::RetypeTooBroad);
        }
        first.supersedes = Supersedes::Dots(sorted(gone));
        Ok(false)
    }

    /// Refuses what would drive the counter out of range, or further out of it.
    fn check_sum(&self, by: i64, wipes: bool) -> Result<(), OpError> {
        let sum = if wipes { 0 } else { self.sum() };
        let in_range = i64::try_from(sum.saturating_add(i128::from(by))).is_ok();
        let returns = (sum > 0) != (by > 0) && i64::try_from(sum).is_err();
        if in_range || returns { Ok(()) } else { Err(OpError::Overflow) }
    }
}

impl Op {
    /// Returns the type that the op is for; none for [`Op::Delete`].
    pub fn value_type(&self) -> Option<Type> {
        match self {
            Self::Put(_) => Some(Type::Register),
            Self::PutBytes(_) => Some(Type::Bytes),
            Self::Delete => None,
            Self::CounterAdd(_) => Some(Type::Counter),
            Self::SetAdd(_) | Self::SetRemove(_) => Some(Type::Set),
            Self::MapPut { .. } | Self::MapDelete { .. } => Some(Type::Map),
        }
    }
}

fn sorted(events: Vec<&Event>) -> Vec<Dot> {
    let mut dots: Vec<_> = events.into_iter().map(|event| event.stamp.dot).collect();
    dots.sort_unstable();
    dots
}

fn checked_field(field: &str) -> Result<&str, OpError> {
    match field.len() {
        len if len > FIELD_BYTES_MAX => Err(OpError::FieldTooLong { len }),
        _ => Ok(field),
    }
}
