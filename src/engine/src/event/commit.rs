//! A commit: header, events and meta that agree with each other.

use super::header::{Header, Kind};
use super::leaf::{CONTENT_BYTES_MIN, Content, Event, META_SKELETON, meta_leaf_hash};
use super::meta::Meta;
use super::tip::Dep;
use super::tree;
use crate::base::{CodecError, CommitId, Dot, EventId, Hlc, LogId, SpaceId};
use crate::causal::Tip;

/// A structurally valid commit: root, count, size, limits and order all check out.
///
/// It comes only from [`Draft::seal`](super::Draft::seal) and from
/// [`decode`](super::compact::decode). Validity that depends on other commits is the store's
/// business: whether preds and cuts lie in its past, and whether its stamp exceeds those of prev
/// and deps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    id: CommitId,
    header: Header,
    events: Vec<Event>,
    meta: Option<Content>,
}

impl Commit {
    /// Returns the hash of the header.
    pub fn id(&self) -> CommitId {
        self.id
    }

    /// Returns the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the space; of a genesis commit, the one that it founds.
    pub fn space(&self) -> SpaceId {
        match self.header.kind {
            Kind::Genesis => SpaceId(self.id.0),
            _ => self.header.space,
        }
    }

    /// Returns the log.
    pub fn log(&self) -> LogId {
        self.header.log
    }

    /// Returns the number in the log, from 1.
    pub fn seq(&self) -> u64 {
        self.header.seq
    }

    /// Returns the id of the commit before it in the log; all zero for the first.
    pub fn prev(&self) -> CommitId {
        self.header.prev
    }

    /// Returns the stamp.
    pub fn hlc(&self) -> Hlc {
        self.header.hlc
    }

    /// Returns the deps, ascending by log.
    pub fn deps(&self) -> &[Dep] {
        &self.header.deps
    }

    /// Returns what the commit is for.
    pub fn kind(&self) -> Kind {
        self.header.kind
    }

    /// Returns the events, in order of their index.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Reads the meta leaf; none if there is none, or it is erased, or it breaks a rule.
    pub fn meta(&self) -> Option<Meta> {
        self.meta.as_ref().and_then(Meta::of)
    }

    /// Returns the meta leaf as it is.
    pub fn meta_content(&self) -> Option<&Content> {
        self.meta.as_ref()
    }

    /// Returns the short name of the event at `index`.
    pub fn dot(&self, index: u16) -> Dot {
        Dot { log: self.header.log, seq: self.header.seq, index }
    }

    /// Returns the full name of the event at `index`.
    pub fn event_id(&self, index: u16) -> EventId {
        EventId { commit: self.id, index }
    }

    /// Returns the commit's name by place and hash.
    pub fn tip(&self) -> Tip {
        Tip { log: self.header.log, seq: self.header.seq, id: self.id }
    }

    /// Drops salt, key and payload of the event at `index`, if there is one. The id stays.
    pub fn erase_event(&mut self, index: u16) {
        if let Some(event) = self.events.get_mut(usize::from(index)) {
            event.content = event.content.erased();
        }
    }

    /// Drops salt and bytes of the meta leaf, if there is one. The id stays.
    pub fn erase_meta(&mut self) {
        self.meta = self.meta.as_ref().map(Content::erased);
    }

    /// Tells whether any leaf is erased: then the header's size cannot be recomputed.
    pub fn has_erased(&self) -> bool {
        let erased = |content: &Content| matches!(content, Content::Erased(_));
        self.events.iter().any(|event| erased(&event.content))
            || self.meta.as_ref().is_some_and(erased)
    }

    /// Puts a commit together: fills count, flag, size and root into `header`, and checks all.
    ///
    /// `size` is the size that was written down, which is so iff a leaf is erased.
    pub(super) fn assemble(
        mut header: Header,
        events: Vec<Event>,
        meta: Option<Content>,
        size: Option<u32>,
    ) -> Result<Self, CodecError> {
        let too_large = |_| CodecError::TooLarge("commit");
        header.count = u16::try_from(events.len()).map_err(|_| CodecError::TooLarge("events"))?;
        header.has_meta = meta.is_some();
        let (known, erased) = measure(&events, meta.as_ref());
        let known = u32::try_from(known).map_err(too_large)?;
        header.size = match size {
            None if !erased => known,
            Some(size) if erased && size >= known => size,
            _ => return Err(CodecError::NotCanonical("size is that of the leaves")),
        };
        let mut leaves: Vec<_> = events.iter().map(Event::leaf_hash).collect();
        leaves.extend(meta.as_ref().map(meta_leaf_hash));
        header.root = tree::root(&leaves);
        header.check()?;
        for (index, event) in (0..).zip(&events) {
            event.skeleton.check(&Dot { log: header.log, seq: header.seq, index })?;
        }
        if let Some(Content::Present { key, .. }) = &meta
            && !key.is_empty()
        {
            return Err(CodecError::NotCanonical("the meta leaf has no key"));
        }
        Ok(Self { id: header.id(), header, events, meta })
    }
}

/// Returns the sum of the leaves' lengths, erased contents counted at their least, and whether
/// any is erased.
pub(super) fn measure(events: &[Event], meta: Option<&Content>) -> (usize, bool) {
    let skeletons: usize = events.iter().map(|event| event.skeleton.encoded_len()).sum();
    let meta_skeleton = if meta.is_some() { META_SKELETON.len() } else { 0 };
    let contents = events.iter().map(|event| &event.content).chain(meta);
    contents.fold((skeletons + meta_skeleton, false), |(sum, erased), content| {
        match content.encoded_len() {
            Some(len) => (sum + len, erased),
            None => (sum + CONTENT_BYTES_MIN, true),
        }
    })
}
