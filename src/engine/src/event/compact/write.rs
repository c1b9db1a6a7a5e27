//! Commit to compact bytes.

use super::{action_bits, head, lead, more, zigzag};
use crate::base::{Dot, LogId, SpaceId, Writer};
use crate::causal::Tip;
use crate::crdt::Supersedes;
use crate::event::{Commit, Content, Dictionary, Event, Kind};

/// Why a commit has no compact form with this dictionary. Nothing was appended.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A log that the commit names has no index: intern all of [`logs`] first.
    #[error("log {log} is not in the dictionary")]
    NotInterned {
        /// The log.
        log: LogId,
    },
}

/// Returns every log that the commit names, its own included, ascending.
///
/// All are logs of the commit's own space.
pub fn logs(commit: &Commit) -> Vec<LogId> {
    let mut logs = vec![commit.log()];
    logs.extend(commit.deps().iter().map(|dep| dep.log));
    for event in commit.events() {
        match &event.skeleton.supersedes {
            Supersedes::Dots(dots) => logs.extend(dots.iter().map(|dot| dot.log)),
            Supersedes::Cut(cut) => logs.extend(cut.iter().map(|(log, _)| *log)),
        }
    }
    logs.sort_unstable();
    logs.dedup();
    logs
}

/// Appends the compact form of a commit; stamps are relative to `base_ms`, milliseconds since
/// 1970.
///
/// Leaves `prev` and the ids of deps out where [`Dictionary::id`] gives them. Note the commit in
/// the dictionary afterwards, so that the next one finds it.
///
/// # Errors
/// [`EncodeError::NotInterned`].
pub fn encode(
    commit: &Commit,
    dictionary: &Dictionary,
    base_ms: u64,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode_beside(commit, dictionary, base_ms, &|_, _| false, out)
}

/// The same, but that no id is left out of a commit under a number that has several, as `forked`
/// tells: which of them is the first depends on what else the segment holds, and that may change.
///
/// # Errors
/// [`EncodeError::NotInterned`].
pub fn encode_beside(
    commit: &Commit,
    dictionary: &Dictionary,
    base_ms: u64,
    forked: &dyn Fn(&LogId, u64) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let mut encoder = Encoder { dictionary, forked, space: commit.space(), out: &mut *out };
    let done = encoder.commit(commit, base_ms);
    if done.is_err() {
        out.truncate(start);
    }
    done
}

struct Encoder<'a> {
    dictionary: &'a Dictionary,
    forked: &'a dyn Fn(&LogId, u64) -> bool,
    space: SpaceId,
    out: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    fn commit(&mut self, commit: &Commit, base_ms: u64) -> Result<(), EncodeError> {
        let header = commit.header();
        let (ix, base_seq) = self.find(&header.log)?;
        let erased = commit.has_erased();
        let before = Tip { log: header.log, seq: header.seq.wrapping_sub(1), id: header.prev };
        let prev_known = self.is_known(ix, &before);
        // What is before a log's first commit needs no dictionary.
        let write_prev = !prev_known && header.seq > 1;
        let rare = if header.grant.is_some() { more::GRANT } else { 0 }
            | if write_prev { more::PREV } else { 0 };
        self.head(commit, erased, rare);
        self.out.put_varint(u64::from(ix));
        self.out.put_varint(zigzag(header.seq, base_seq));
        self.out.put_varint(zigzag(header.hlc.wall().0, base_ms));
        self.out.put_varint(header.hlc.0 & 0xffff);
        if write_prev {
            self.out.put(&header.prev.0);
        }
        if let Some(grant) = &header.grant {
            self.out.put(&grant.0);
        }
        self.deps(commit)?;
        if let Some(genesis) = &header.genesis {
            genesis.encode(&mut *self.out);
        }
        if let Some(act) = &header.act {
            act.encode(&mut *self.out);
        }
        if header.kind == Kind::Data && header.count != 1 {
            self.out.put_varint(u64::from(header.count));
        }
        if erased {
            self.out.put_varint(u64::from(header.size));
        }
        let events = commit.events();
        for (left, event) in (0..events.len()).rev().zip(events) {
            self.event(event, left == 0 && !header.has_meta)?;
        }
        match commit.meta_content() {
            None => {}
            Some(Content::Erased(hash)) => {
                self.out.put_u8(1);
                self.out.put(hash);
            }
            Some(Content::Present { salt, payload, .. }) => {
                self.out.put_u8(0);
                self.out.put(salt);
                self.out.put(payload);
            }
        }
        Ok(())
    }

    fn head(&mut self, commit: &Commit, erased: bool, rare: u8) {
        let header = commit.header();
        let mut byte = header.kind.to_byte() & head::KIND;
        for (bit, set) in [
            (head::META, header.has_meta),
            (head::ONE_EVENT, header.count == 1),
            (head::DEPS, !header.deps.is_empty()),
            (head::ERASED, erased),
            (head::MORE, rare != 0),
        ] {
            byte |= if set { bit } else { 0 };
        }
        self.out.put_u8(byte);
        if rare != 0 {
            self.out.put_u8(rare);
        }
    }

    fn deps(&mut self, commit: &Commit) -> Result<(), EncodeError> {
        if commit.deps().is_empty() {
            return Ok(());
        }
        self.out.put_len(commit.deps().len());
        for dep in commit.deps() {
            let (ix, base_seq) = self.find(&dep.log)?;
            let write = !self.is_known(ix, dep);
            self.out.put_varint(u64::from(ix) << 1 | u64::from(write));
            self.out.put_varint(zigzag(dep.seq, base_seq));
            if write {
                self.out.put(&dep.id.0);
            }
        }
        Ok(())
    }

    fn is_known(&self, ix: u32, tip: &Tip) -> bool {
        self.dictionary.id(ix, tip.seq) == Some(tip.id) && !(self.forked)(&tip.log, tip.seq)
    }

    /// `last`: nothing follows, so the payload ends where the commit does.
    fn event(&mut self, event: &Event, last: bool) -> Result<(), EncodeError> {
        let form = match &event.skeleton.supersedes {
            Supersedes::Dots(dots) => match dots.len() {
                0 => lead::NOTHING,
                1 => lead::ONE_DOT,
                _ => lead::DOTS,
            },
            Supersedes::Cut(_) => lead::CUT,
        };
        let erased = if matches!(event.content, Content::Erased(_)) { lead::ERASED } else { 0 };
        self.out.put_u8(action_bits(event.skeleton.action) | form << lead::FORM_SHIFT | erased);
        match &event.skeleton.supersedes {
            Supersedes::Dots(dots) => {
                if dots.len() > 1 {
                    self.out.put_len(dots.len());
                }
                for dot in dots {
                    self.dot(dot)?;
                }
            }
            Supersedes::Cut(cut) => {
                self.out.put_len(cut.len());
                for (log, seq) in cut {
                    self.place(log, *seq)?;
                }
            }
        }
        match &event.content {
            Content::Erased(hash) => self.out.put(hash),
            Content::Present { salt, key, payload } => {
                self.out.put(salt);
                self.out.put_bytes(key);
                if !last {
                    self.out.put_len(payload.len());
                }
                self.out.put(payload);
            }
        }
        Ok(())
    }

    fn dot(&mut self, dot: &Dot) -> Result<(), EncodeError> {
        self.place(&dot.log, dot.seq)?;
        self.out.put_varint(u64::from(dot.index));
        Ok(())
    }

    fn place(&mut self, log: &LogId, seq: u64) -> Result<(), EncodeError> {
        let (ix, base_seq) = self.find(log)?;
        self.out.put_varint(u64::from(ix));
        self.out.put_varint(zigzag(seq, base_seq));
        Ok(())
    }

    /// Returns the index of a log and its base.
    fn find(&self, log: &LogId) -> Result<(u32, u64), EncodeError> {
        let ix = self.dictionary.find(&self.space, log);
        let found = ix.and_then(|ix| Some((ix, self.dictionary.entry(ix)?.base_seq)));
        found.ok_or(EncodeError::NotInterned { log: *log })
    }
}
