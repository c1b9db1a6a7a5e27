//! What one event does to its key: an action, what it supersedes, and a payload.

use std::sync::Arc;

use crate::base::{CodecError, Dot, LogId};

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// A JSON value; concurrent puts coexist until one supersedes them.
    Register,
    /// Raw bytes, otherwise like a register.
    Bytes,
    /// The exact sum of signed additions.
    Counter,
    /// Distinct JSON values; an addition wins over a concurrent removal.
    Set,
    /// Named fields, each like a register.
    Map,
}

impl Type {
    /// Returns the name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Bytes => "bytes",
            Self::Counter => "counter",
            Self::Set => "set",
            Self::Map => "map",
        }
    }

    /// Returns the byte that stands for the type in every format.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Register => 1,
            Self::Bytes => 2,
            Self::Counter => 3,
            Self::Set => 4,
            Self::Map => 5,
        }
    }

    /// Reads the byte of a type.
    ///
    /// # Errors
    /// [`CodecError::Unknown`]: a newer version of kdelta wrote this.
    pub fn from_byte(byte: u8) -> Result<Self, CodecError> {
        Ok(match byte {
            1 => Self::Register,
            2 => Self::Bytes,
            3 => Self::Counter,
            4 => Self::Set,
            5 => Self::Map,
            _ => return Err(CodecError::Unknown("value type")),
        })
    }
}

/// What an event does. The pair (type, verb) of bytes is its canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Removes what it supersedes, of any type, and adds nothing.
    Delete,
    /// Puts a JSON value; payload: canonical JSON.
    RegisterPut,
    /// Puts bytes; payload: the bytes.
    BytesPut,
    /// Adds to a counter; payload: eight bytes, a little-endian two's complement `i64`.
    CounterAdd,
    /// Adds an element; payload: its canonical JSON.
    SetAdd,
    /// Removes an element; payload: its canonical JSON.
    SetRemove,
    /// Puts a field; payload: length of the field name (varint), the name, canonical JSON.
    MapPut,
    /// Removes a field; payload: the field name.
    MapDelete,
}

impl Action {
    /// Returns the type of state that the action belongs to; none for [`Action::Delete`].
    pub fn value_type(self) -> Option<Type> {
        match self {
            Self::Delete => None,
            Self::RegisterPut => Some(Type::Register),
            Self::BytesPut => Some(Type::Bytes),
            Self::CounterAdd => Some(Type::Counter),
            Self::SetAdd | Self::SetRemove => Some(Type::Set),
            Self::MapPut | Self::MapDelete => Some(Type::Map),
        }
    }

    /// Tells whether the event itself becomes live, if its payload is well formed.
    pub fn adds(self) -> bool {
        match self {
            Self::Delete | Self::SetRemove | Self::MapDelete => false,
            Self::RegisterPut | Self::BytesPut | Self::CounterAdd | Self::SetAdd | Self::MapPut => {
                true
            }
        }
    }

    /// Returns the bytes (type, verb).
    pub fn to_bytes(self) -> [u8; 2] {
        match self {
            Self::Delete => [0, 1],
            Self::RegisterPut => [1, 1],
            Self::BytesPut => [2, 1],
            Self::CounterAdd => [3, 1],
            Self::SetAdd => [4, 1],
            Self::SetRemove => [4, 2],
            Self::MapPut => [5, 1],
            Self::MapDelete => [5, 2],
        }
    }

    /// Reads the bytes (type, verb).
    ///
    /// # Errors
    /// [`CodecError::Unknown`]: a newer version of kdelta wrote this.
    pub fn from_bytes(bytes: [u8; 2]) -> Result<Self, CodecError> {
        Ok(match bytes {
            [0, 1] => Self::Delete,
            [1, 1] => Self::RegisterPut,
            [2, 1] => Self::BytesPut,
            [3, 1] => Self::CounterAdd,
            [4, 1] => Self::SetAdd,
            [4, 2] => Self::SetRemove,
            [5, 1] => Self::MapPut,
            [5, 2] => Self::MapDelete,
            _ => return Err(CodecError::Unknown("event type")),
        })
    }
}

/// Which earlier events of the same key an event removes from the live ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supersedes {
    /// The listed dots, strictly ascending, at most [`crate::limits::PREDS_MAX`].
    Dots(Vec<Dot>),
    /// Per log, strictly ascending, all events up to and with that seq. An entry for the event's
    /// own log and seq covers the events of a lower index in its own commit.
    Cut(Vec<(LogId, u64)>),
}

impl Supersedes {
    /// Supersedes nothing.
    pub const NOTHING: Self = Self::Dots(Vec::new());

    /// Tells whether `dot` is removed by the event that sits at `own`.
    pub fn covers(&self, dot: &Dot, own: &Dot) -> bool {
        match self {
            Self::Dots(dots) => dots.binary_search(dot).is_ok(),
            Self::Cut(cut) => cut.binary_search_by_key(&dot.log, |(log, _)| *log).is_ok_and(|at| {
                cut.get(at).is_some_and(|(_, seq)| dot.seq <= *seq)
                    && (dot.log != own.log
                        || dot.seq < own.seq
                        || (dot.seq == own.seq && dot.index < own.index))
            }),
        }
    }
}

/// What an event adds to its key's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// What it does.
    pub action: Action,
    /// What it removes from the live events.
    pub supersedes: Supersedes,
    /// What it carries; the form depends on the action.
    pub payload: Arc<[u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_has_its_own_bytes() {
        let mut known = 0;
        for ty in 0..=255 {
            for verb in 0..=255 {
                if let Ok(action) = Action::from_bytes([ty, verb]) {
                    assert_eq!(action.to_bytes(), [ty, verb]);
                    assert_eq!(action.value_type().map_or(0, Type::to_byte), ty);
                    known += 1;
                }
            }
        }
        assert_eq!(known, 8);
    }
}
