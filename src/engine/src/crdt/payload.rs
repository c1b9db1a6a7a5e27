//! What an event carries, by action.
//!
//! A payload that breaks a rule is not an error of its commit: its event contributes nothing, the
//! same on every replica.

use std::sync::Arc;

use super::{Action, Json};
use crate::base::{Reader, Writer};
use crate::limits::{FIELD_BYTES_MAX, VALUE_BYTES_MAX};

/// A well-formed payload, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: [`Action::Delete`].
    Nothing,
    /// A JSON value: what a register is put to, or the element that a set gets or loses.
    Json(Json),
    /// Raw bytes.
    Bytes(Arc<[u8]>),
    /// What a counter is raised by.
    Add(i64),
    /// A field and its new value.
    Field(Arc<str>, Json),
    /// A field that goes.
    FieldName(Arc<str>),
}

impl Payload {
    /// Takes the payload of an event apart; none if it is malformed.
    pub fn read(action: Action, payload: &Arc<[u8]>) -> Option<Self> {
        if payload.len() > VALUE_BYTES_MAX {
            return None;
        }
        match action {
            Action::Delete => payload.is_empty().then_some(Self::Nothing),
            Action::RegisterPut | Action::SetAdd | Action::SetRemove => {
                Json::from_canonical(Arc::clone(payload)).map(Self::Json)
            }
            Action::BytesPut => Some(Self::Bytes(Arc::clone(payload))),
            Action::CounterAdd => {
                <[u8; 8]>::try_from(&**payload).ok().map(|by| Self::Add(i64::from_le_bytes(by)))
            }
            Action::MapPut => {
                let (name, value) = split_field(payload)?;
                Some(Self::Field(name.into(), Json::from_canonical(value.into())?))
            }
            Action::MapDelete => {
                let name = std::str::from_utf8(payload).ok()?;
                (name.len() <= FIELD_BYTES_MAX).then(|| Self::FieldName(name.into()))
            }
        }
    }
}

/// Tells whether an event with this payload may become live.
pub(super) fn is_well_formed(action: Action, payload: &[u8]) -> bool {
    payload.len() <= VALUE_BYTES_MAX
        && match action {
            Action::RegisterPut | Action::SetAdd => super::is_canonical(payload),
            Action::BytesPut => true,
            Action::CounterAdd => payload.len() == size_of::<i64>(),
            Action::MapPut => {
                split_field(payload).is_some_and(|(_, value)| super::is_canonical(value))
            }
            Action::Delete | Action::SetRemove | Action::MapDelete => false,
        }
}

/// Returns the payload of [`Action::MapPut`].
pub(super) fn join_field(name: &str, value: &Json) -> Arc<[u8]> {
    let mut payload = Vec::with_capacity(name.len() + value.as_bytes().len() + 2);
    payload.put_bytes(name.as_bytes());
    payload.put(value.as_bytes());
    payload.into()
}

/// Takes the payload of [`Action::MapPut`] apart; the value is not checked.
pub(super) fn split_field(payload: &[u8]) -> Option<(&str, &[u8])> {
    let mut reader = Reader::new(payload);
    let name = reader.bytes(FIELD_BYTES_MAX, "field name").ok()?;
    let value = reader.take(reader.remaining()).ok()?;
    Some((std::str::from_utf8(name).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Action; 8] = [
        Action::Delete,
        Action::RegisterPut,
        Action::BytesPut,
        Action::CounterAdd,
        Action::SetAdd,
        Action::SetRemove,
        Action::MapPut,
        Action::MapDelete,
    ];

    proptest! {
        #[test]
        fn what_may_become_live_is_what_can_be_read(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..12),
                "[\u{0}-\u{4}ab\"0-9\\[\\]{}]{0,8}".prop_map(String::into_bytes),
            ],
        ) {
            for action in ALL {
                let read = Payload::read(action, &bytes.clone().into()).is_some();
                prop_assert_eq!(is_well_formed(action, &bytes), read && action.adds());
            }
        }
    }

    #[test]
    fn fields_round_trip_and_are_bounded() {
        let value = Json::parse(b"[1]").unwrap();
        for len in [0, 1, 127, 128, FIELD_BYTES_MAX] {
            let name = "f".repeat(len);
            let read = Payload::read(Action::MapPut, &join_field(&name, &value));
            assert_eq!(read, Some(Payload::Field(name.into(), value.clone())));
        }
        let long = "f".repeat(FIELD_BYTES_MAX + 1);
        assert!(!is_well_formed(Action::MapPut, &join_field(&long, &value)));
        assert!(!is_well_formed(Action::MapPut, b"\x81\x00f1"), "a length in two forms");
        assert!(!is_well_formed(Action::MapPut, b"\x01\xff1"), "not UTF-8");
        assert!(!is_well_formed(Action::MapPut, b"\x01f"), "no value");
    }
}
