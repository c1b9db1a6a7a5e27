//! What a commit says about itself: note, tag and request id (FORMAT 4.3).
//!
//! It is one salted leaf after the events and can be erased like an event. Bytes that break a
//! rule never make a commit invalid: they count as erased.

use std::sync::Arc;

use super::leaf::Content;
use super::tip::check_ascending;
use crate::base::{CodecError, Reader, Writer};
use crate::causal::Tip;
use crate::limits;

/// A name for a point in the space's history.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// The name stands for a point from now on.
    Create {
        /// 1 to 256 bytes without control characters.
        name: String,
        /// The heads that name the point, ascending by log; none: the commit that carries the tag.
        at: Option<Vec<Tip>>,
    },
    /// The name stands for nothing any more.
    Delete {
        /// The name.
        name: String,
    },
}

impl Tag {
    /// Returns the name.
    pub fn name(&self) -> &str {
        match self {
            Self::Create { name, .. } | Self::Delete { name } => name,
        }
    }
}

/// What a commit says about itself. At least one part is present.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Canonical JSON, as the caller gave it; not looked into here.
    pub note: Option<Arc<[u8]>>,
    /// A tag that is created or deleted.
    pub tag: Option<Tag>,
    /// 1 to 128 bytes by which a client recognises its own request.
    pub request_id: Option<Vec<u8>>,
}

impl Meta {
    /// Tells whether no part is present; such a meta has no bytes.
    pub fn is_empty(&self) -> bool {
        self.note.is_none() && self.tag.is_none() && self.request_id.is_none()
    }

    /// Returns the meta that a meta leaf carries; none if it is erased or breaks a rule.
    pub fn of(content: &Content) -> Option<Self> {
        match content {
            Content::Present { key, payload, .. } if key.is_empty() => Self::decode(payload).ok(),
            _ => None,
        }
    }

    /// Returns the canonical form.
    ///
    /// # Errors
    /// [`CodecError`] names the rule that a part breaks.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut out = Vec::new();
        let flags = [self.note.is_some(), self.tag.is_some(), self.request_id.is_some()];
        out.put_u8((0u8..).zip(flags).map(|(bit, set)| u8::from(set) << bit).sum());
        if let Some(note) = &self.note {
            out.put_bytes(note);
        }
        match &self.tag {
            None => {}
            Some(Tag::Create { name, at: None }) => {
                out.put_u8(0);
                out.put_bytes(name.as_bytes());
            }
            Some(Tag::Create { name, at: Some(heads) }) => {
                out.put_u8(1);
                out.put_bytes(name.as_bytes());
                out.put_len(heads.len());
                for head in heads {
                    head.encode(&mut out);
                }
            }
            Some(Tag::Delete { name }) => {
                out.put_u8(2);
                out.put_bytes(name.as_bytes());
            }
        }
        if let Some(id) = &self.request_id {
            out.put_bytes(id);
        }
        // The reader knows all the rules; a writer with rules of its own would drift from it.
        Self::decode(&out).map(|_| out)
    }

    /// Reads the canonical form, which takes all of `bytes`.
    ///
    /// # Errors
    /// [`CodecError`] for any other form.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > limits::META_BYTES_MAX {
            return Err(CodecError::TooLarge("meta"));
        }
        let mut reader = Reader::new(bytes);
        let flags = reader.u8()?;
        if flags == 0 || flags > 0b111 {
            return Err(CodecError::Unknown("parts of meta"));
        }
        let mut meta = Self::default();
        if flags & 1 != 0 {
            meta.note = Some(reader.bytes(limits::META_BYTES_MAX, "note")?.into());
        }
        if flags & 2 != 0 {
            meta.tag = Some(Self::decode_tag(&mut reader)?);
        }
        if flags & 4 != 0 {
            let id = reader.bytes(limits::REQUEST_ID_BYTES_MAX, "request id")?;
            if id.is_empty() {
                return Err(CodecError::NotCanonical("a request id has a byte"));
            }
            meta.request_id = Some(id.to_vec());
        }
        reader.finish()?;
        Ok(meta)
    }

    fn decode_tag(reader: &mut Reader<'_>) -> Result<Tag, CodecError> {
        let verb = reader.u8()?;
        if verb > 2 {
            return Err(CodecError::Unknown("tag verb"));
        }
        let name = std::str::from_utf8(reader.bytes(limits::TAG_BYTES_MAX, "tag name")?)
            .map_err(|_| CodecError::NotCanonical("a tag name is UTF-8"))?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(CodecError::NotCanonical("a tag name has text and no control characters"));
        }
        let name = name.to_owned();
        Ok(match verb {
            0 => Tag::Create { name, at: None },
            1 => {
                let count =
                    reader.count(limits::TAG_HEADS_MAX, Tip::BYTES_MIN, "heads of a tag")?;
                let heads: Vec<_> =
                    (0..count).map(|_| Tip::decode(reader)).collect::<Result<_, _>>()?;
                check_ascending(&heads)?;
                Tag::Create { name, at: Some(heads) }
            }
            _ => Tag::Delete { name },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::arbitrary::{random_bytes, some_meta};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_meta_has_one_encoding(meta in some_meta()) {
            let bytes = meta.encode().unwrap();
            prop_assert_eq!(Meta::decode(&bytes).unwrap(), meta);
        }

        #[test]
        fn bytes_that_read_as_meta_are_what_is_written(bytes in random_bytes(40)) {
            if let Ok(meta) = Meta::decode(&bytes) {
                prop_assert_eq!(meta.encode().unwrap(), bytes);
            }
        }

        #[test]
        fn a_flipped_bit_gives_another_meta_or_none(meta in some_meta(), at: prop::sample::Index) {
            let mut bytes = meta.encode().unwrap();
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(Meta::decode(&bytes).ok(), Some(meta));
        }
    }

    #[test]
    fn parts_that_break_a_rule_are_refused() {
        let tag = |name: &str| Meta {
            tag: Some(Tag::Delete { name: name.to_owned() }),
            ..Meta::default()
        };
        assert!(tag("v1").encode().is_ok());
        assert!(tag("").encode().is_err());
        assert!(tag("a\nb").encode().is_err());
        assert!(tag(&"n".repeat(257)).encode().is_err());
        assert!(Meta { request_id: Some(vec![0; 129]), ..Meta::default() }.encode().is_err());
        assert!(Meta { request_id: Some(vec![]), ..Meta::default() }.encode().is_err());
        assert!(Meta::default().encode().is_err());
        let note = vec![b'1'; limits::META_BYTES_MAX];
        assert!(Meta { note: Some(note.into()), ..Meta::default() }.encode().is_err());
    }
}
