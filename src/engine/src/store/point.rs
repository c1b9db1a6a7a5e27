//! Points in a space's history, and the set of commits that each stands for.

use super::tail::{Namespace, table_key};
use super::{ReadError, Store, TagState};
use crate::base::{EventId, Hlc, LogId, SpaceId, WallTime};
use crate::causal::{Tip, VersionVector};
use crate::log::Disk;

/// A point in a space's history, as a caller names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// Everything in the past of an event, its whole commit included.
    Event(EventId),
    /// The same, the event named by the first digits of its commit's id and perhaps its index.
    Prefix(String),
    /// What a tag names.
    Tag(String),
    /// Everything stamped at or before that time.
    Time(WallTime),
}

impl<D: Disk + Clone> Store<D> {
    /// Returns the causally closed set of commits that a point stands for.
    ///
    /// # Errors
    /// [`ReadError`] if the point is not known here.
    pub fn resolve(&self, space: &SpaceId, point: &Point) -> Result<VersionVector, ReadError> {
        let space_ix = self.space_index(space)?;
        let version = match point {
            Point::Event(id) => self.past_of(space_ix, &id.commit.to_string()),
            Point::Prefix(text) => self.past_of(space_ix, text.split('.').next().unwrap_or(text)),
            Point::Tag(name) => {
                let tag = self.tag(space, name)?;
                let target = tag.and_then(|tag| tag.target);
                match target {
                    Some(target) => self.past_of_tips(space_ix, &target),
                    None => Err(ReadError::UnknownTag(name.clone())),
                }
            }
            Point::Time(time) => self.at_time(space_ix, *time),
        };
        version.map_err(|error| self.unknown(space_ix, error))
    }

    /// Returns the heads of a causally closed set: what a tag at that point names. Of two branches
    /// of one log the one that goes further stands for both.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn heads_of(
        &self,
        space: &SpaceId,
        version: &VersionVector,
    ) -> Result<Vec<Tip>, ReadError> {
        let space_ix = self.space_index(space)?;
        let mut tips = Vec::new();
        let table = self.tables.get(space_ix).ok_or(ReadError::UnknownSpace)?;
        let last: Vec<(LogId, u64)> = version.iter().collect();
        for (log, seq) in &last {
            let covered = last.iter().any(|(other, at)| {
                other != log && table.clocks.is_past((log, *seq), (other, *at)) == Some(true)
            });
            if !covered {
                tips.push((*log, *seq));
            }
        }
        let outer = |(name, seq): (LogId, u64)| {
            Ok(Tip { log: table.origin(&name), seq, id: self.commit_id(space_ix, &name, seq)? })
        };
        let mut tips: Vec<Tip> = tips.into_iter().map(outer).collect::<Result<_, ReadError>>()?;
        tips.sort_unstable_by_key(|tip| (tip.log, std::cmp::Reverse(tip.seq)));
        tips.dedup_by_key(|tip| tip.log);
        Ok(tips)
    }

    /// Returns what was last said of a tag; none if nothing was.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tag(&self, space: &SpaceId, name: &str) -> Result<Option<TagState>, ReadError> {
        let space_ix = self.space_index(space)?;
        self.tag_state(space_ix, &table_key(space_ix, Namespace::Tag, name.as_bytes()))
    }

    /// Returns the live tags after `after`, ascending by name, at most `limit` of them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tags(
        &self,
        space: &SpaceId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, TagState)>, ReadError> {
        let space_ix = self.space_index(space)?;
        let mut tags = Vec::new();
        let mut after = after.map(|name| name.as_bytes().to_vec());
        while tags.len() < limit {
            let rows = self.row_page(space_ix, Namespace::Tag, b"", after.as_deref(), 512)?;
            let Some(last) = rows.last().cloned() else { break };
            for row in rows {
                let Ok(name) = String::from_utf8(row) else { continue };
                match self.tag(space, &name)? {
                    Some(tag) if tag.target.is_some() && tags.len() < limit => {
                        tags.push((name, tag))
                    }
                    _ => {}
                }
            }
            after = Some(last);
        }
        Ok(tags)
    }

    fn past_of(&self, space_ix: usize, prefix: &str) -> Result<VersionVector, ReadError> {
        let tip = self.find_commit(space_ix, prefix)?;
        self.past_of_tips(space_ix, &[tip])
    }

    fn past_of_tips(&self, space_ix: usize, tips: &[Tip]) -> Result<VersionVector, ReadError> {
        let table = self.tables.get(space_ix).ok_or(ReadError::UnknownSpace)?;
        let mut version = VersionVector::default();
        for tip in tips {
            let (name, seq) = match table.is_suspect(&tip.log, tip.seq) {
                true => self.locate(space_ix, tip)?.ok_or(ReadError::UnknownEvent)?,
                false => (tip.log, tip.seq),
            };
            let past = table.clocks.past(&name, seq).ok_or(ReadError::UnknownEvent)?;
            version.join(&past);
        }
        Ok(version)
    }

    /// Finds the one commit of a space whose id begins with these hexadecimal digits; its log is
    /// the inner name.
    pub(crate) fn find_commit(&self, space_ix: usize, prefix: &str) -> Result<Tip, ReadError> {
        let hex = prefix.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        if !hex || prefix.len() < PREFIX_DIGITS_MIN || prefix.len() > 64 {
            return Err(ReadError::UnknownEvent);
        }
        let mut found = self.commits_with_prefix(space_ix, prefix)?.into_iter();
        match (found.next(), found.next()) {
            (Some(tip), None) => Ok(tip),
            (Some(_), Some(_)) => Err(ReadError::AmbiguousEvent(prefix.to_owned())),
            (None, _) => Err(ReadError::UnknownEvent),
        }
    }

    /// Returns everything stamped at or before a time: stamps respect causality, so that is closed.
    fn at_time(&self, space_ix: usize, time: WallTime) -> Result<VersionVector, ReadError> {
        let end = Hlc::from_wall(WallTime(time.0.saturating_add(1)));
        let table = self.tables.get(space_ix).ok_or(ReadError::UnknownSpace)?;
        let logs: Vec<(LogId, u64, Hlc)> = table.logs().map(|l| (l.log, l.seq, l.hlc)).collect();
        let mut version = VersionVector::default();
        for (log, last, hlc) in logs {
            let (mut low, mut high) = if hlc < end { (last, last) } else { (0, last) };
            while low < high {
                let middle = low + (high - low).div_ceil(2);
                if self.commit_hlc(space_ix, &log, middle)? < end {
                    low = middle;
                } else {
                    high = middle - 1;
                }
            }
            if low > 0 {
                version.advance(log, low);
            }
        }
        Ok(version)
    }

    /// Returns the stamp of a commit that was applied.
    pub(crate) fn commit_hlc(
        &self,
        space_ix: usize,
        log: &LogId,
        seq: u64,
    ) -> Result<Hlc, ReadError> {
        let table = self.tables.get(space_ix).ok_or(ReadError::UnknownSpace)?;
        if let Some(last) = table.log(log).filter(|last| last.seq == seq) {
            return Ok(last.hlc);
        }
        let place = self.commit_place(space_ix, log, seq)?.ok_or(ReadError::UnknownEvent)?;
        Ok(self.read_commit(place.segment, place.offset)?.hlc)
    }
}

/// Fewest digits that name an event.
const PREFIX_DIGITS_MIN: usize = 8;
