//! What damage hides, and who is concerned by it.
//!
//! The sidecar of a sealed segment names the rows that each record touched, so damage there is met
//! only by who needs one of the damaged records. Where no sidecar tells (the growing segment, or a
//! sidecar that is lost too), the segment is *blind* for every space that may have lost events in
//! it: a row of such a space is answered for only if a newer segment holds its folded state. So
//! what is lost is never taken for what never was. A read that was told to make do with what is
//! intact passes over both, and remembers that it did.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};

use super::apply::kinds;
use super::tail::{Namespace, split_row, table_prefix};
use super::{Damaged, ReadError, Store};
use crate::base::{LogId, SpaceId};
use crate::limits;
use crate::log::{Damage, DamageKind, Disk, DiskErrorKind, Position, Record};

/// What is hidden, by segment.
#[derive(Debug, Default)]
pub(super) struct Blind {
    segments: BTreeMap<u64, Hidden>,
    /// Segments of which the log knows that records are lost: if nothing of that is found in
    /// them, anything may be.
    pub(super) noticed: BTreeSet<u64>,
    /// Segments that lost records of which the sidecar tells all.
    pub(super) lost: BTreeSet<u64>,
    /// Whether a read passed over something.
    partial: Cell<bool>,
}

#[derive(Debug)]
struct Hidden {
    damaged: Damaged,
    /// The spaces that may have lost events, by index; none if all may have.
    spaces: Option<BTreeSet<usize>>,
}

impl Hidden {
    fn concerns(&self, space_ix: usize) -> bool {
        self.spaces.as_ref().is_none_or(|spaces| spaces.contains(&space_ix))
    }
}

impl Blind {
    /// Tells whether nothing is hidden.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Forgets what is hidden: the log is read again.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.lost.clear();
    }

    /// Hides what these spaces, or all, have in a segment.
    pub(super) fn hide(&mut self, damaged: Damaged, spaces: Option<BTreeSet<usize>>) {
        match self.segments.get_mut(&damaged.segment) {
            None => drop(self.segments.insert(damaged.segment, Hidden { damaged, spaces })),
            Some(hidden) => match (&mut hidden.spaces, spaces) {
                (Some(known), Some(more)) => known.extend(more),
                (known, _) => *known = None,
            },
        }
    }
}

/// Whom damage concerns, as far as the index tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Affected {
    pub(super) names: Vec<String>,
    pub(super) omitted: u64,
}

impl Affected {
    fn push(&mut self, name: String) {
        if self.names.len() < limits::AFFECTED_NAMES_MAX {
            self.names.push(name);
        } else {
            self.omitted += 1;
        }
    }
}

impl<D: Disk + Clone> Store<D> {
    /// Tells where the log is damaged, if it cannot be told which keys that concerns.
    pub fn damage(&self) -> Option<&Damaged> {
        self.blind.segments.values().next().map(|hidden| &hidden.damaged)
    }

    /// Names the first segment that lost commits which may be of a space, or that could not be read
    /// whole when the store was opened, be it that the index tells which keys that concerns. While
    /// there is one the space has no state hash.
    pub fn loss(&self, space: &SpaceId) -> Option<u64> {
        self.loss_of(self.space_index(space).ok()?)
    }

    fn loss_of(&self, space_ix: usize) -> Option<u64> {
        let hidden = self.blind.segments.iter().find(|(_, hidden)| hidden.concerns(space_ix));
        hidden.map(|(place, _)| *place).into_iter().chain(self.blind.lost.first().copied()).min()
    }

    /// Tells whether no commit of a space is known to be lost.
    pub(super) fn is_whole(&self, space_ix: usize) -> bool {
        self.loss_of(space_ix).is_none()
    }

    /// Asks the log again which segments it knows to have lost records, or cannot read; returns
    /// those that were noticed before.
    pub(super) fn notice_anew(&mut self) -> BTreeSet<u64> {
        let found = self.log.look_again();
        let found = found.iter().filter(|damage| hides(damage)).map(|damage| damage.segment);
        std::mem::replace(&mut self.blind.noticed, found.collect())
    }

    /// Checks that no segment from `from` on hides what it holds of a space, unless the caller
    /// makes do with what is intact.
    pub(super) fn check_sight(&self, space_ix: usize, from: u64) -> Result<(), ReadError> {
        let mut hidden = self.blind.segments.range(from..).map(|(_, hidden)| hidden);
        match hidden.find(|hidden| hidden.concerns(space_ix)) {
            Some(hidden) => self.pass_over(hidden.damaged.clone().into()),
            None => Ok(()),
        }
    }

    /// Returns the error, unless the caller makes do with what is intact: what a disk cannot read
    /// is passed over as what is damaged.
    pub(super) fn pass_over(&self, error: ReadError) -> Result<(), ReadError> {
        let lacks = match &error {
            ReadError::Damaged(_) => true,
            ReadError::Disk(error) => error.kind == DiskErrorKind::Io,
            _ => false,
        };
        if self.degraded && lacks {
            sometimes!("store-read-without-what-is-lost");
            self.blind.partial.set(true);
            return Ok(());
        }
        Err(error)
    }

    /// Turns "no such event" into the damage that may have taken it.
    pub(super) fn unknown(&self, space_ix: usize, error: ReadError) -> ReadError {
        let lost = matches!(error, ReadError::UnknownEvent | ReadError::UnknownTag(_));
        let mut hidden = self.blind.segments.values();
        match hidden.find(|hidden| lost && hidden.concerns(space_ix)) {
            Some(hidden) => hidden.damaged.clone().into(),
            None => error,
        }
    }

    /// Runs `read` with what is intact, where something is lost; tells whether it met a loss.
    pub fn with_degraded<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        self.blind.partial.set(false);
        self.degraded = true;
        let outcome = read(self);
        self.degraded = false;
        (outcome, self.blind.partial.get())
    }

    /// Runs `fold`; tells whether it is all there is, and nothing was passed over.
    pub(super) fn sound<T>(&mut self, fold: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.blind.partial.replace(false);
        let outcome = fold(self);
        let sound = !self.blind.partial.get();
        self.blind.partial.set(before || !sound);
        (outcome, sound)
    }

    /// Takes note of a damaged stretch of a segment that is being replayed. `named`: all logs of
    /// the segment are known, also those that are named in the stretch.
    pub(super) fn hide_stretch(&mut self, damage: &Damage, named: bool) {
        let kind = self.log.rotted_kind(damage);
        let spaces = match kind {
            // No key lives in what vouches for commits, nor in the log's own records.
            Some(kind) if kind == kinds::VOUCHER || !kind.is_callers() => return,
            Some(kinds::DICTIONARY) if named => return,
            // A commit: its log has been named before, and with it its space.
            _ if named || kind == Some(kinds::COMMIT) => {
                let entries = self.tail.dictionary.entries();
                let spaces = entries.map(|(_, entry)| self.local.space_index(&entry.space));
                spaces.collect::<Option<BTreeSet<usize>>>()
            }
            // Whatever it was, it may have named logs of any space.
            _ => None,
        };
        let offset = u32::try_from(damage.offset).unwrap_or(u32::MAX);
        self.blind.hide(Damaged { segment: damage.segment, offset }, spaces);
    }

    /// Takes note of a whole record that cannot be taken because of what was lost before it.
    pub(super) fn hide_record(&mut self, damaged: Damaged, record: &Record) {
        let spaces = match record.kind {
            kinds::VOUCHER => return,
            kinds::COMMIT => {
                let at = Position { segment: damaged.segment, offset: damaged.offset };
                let loose = self.loose(at, &record.body).ok().flatten();
                let space = loose.and_then(|loose| self.local.space_index(&loose.space));
                space.map(|space_ix| BTreeSet::from([space_ix]))
            }
            _ => None,
        };
        self.blind.hide(damaged, spaces);
    }

    /// Tells whether commits of a space may be lost in a damaged stretch.
    pub(super) fn may_concern(&self, damage: &Damage, space_ix: usize) -> Result<bool, ReadError> {
        if !hides(damage) {
            return Ok(false);
        }
        if let Some(hidden) = self.blind.segments.get(&damage.segment) {
            return Ok(hidden.concerns(space_ix));
        }
        let (sealed, space) = (self.sealed_at(damage.segment)?, self.table(space_ix)?.id);
        for (ix, entry) in self.dictionary(damage.segment)?.entries() {
            if entry.space != space {
                continue;
            }
            for commit in sealed.sidecar.commits(ix, 0) {
                if stretch(damage).contains(&u64::from(commit?.offset)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Tells whom a damaged stretch concerns: keys where the index knows them, else spaces.
    pub(super) fn affected(&self, damage: &Damage) -> Affected {
        let mut affected = Affected::default();
        if !hides(damage) || damage.kind == DamageKind::Hash {
            return affected;
        }
        let hidden = self.blind.segments.get(&damage.segment);
        if hidden.is_none() && self.affected_rows(damage, &mut affected).is_ok() {
            return affected;
        }
        affected = Affected::default();
        for (space_ix, space) in self.local.spaces.iter().enumerate() {
            if hidden.is_none_or(|hidden| hidden.concerns(space_ix)) {
                affected.push(format!("space:{}", space.name));
            }
        }
        affected
    }

    /// Names the keys that a commit touches, as far as it can be read.
    pub(super) fn affected_by(&self, space: &SpaceId, log: &LogId, seq: u64) -> Affected {
        let mut affected = Affected::default();
        let Ok(space_ix) = self.space_index(space) else { return affected };
        if let Ok(Some(place)) = self.commit_place(space_ix, log, seq)
            && let Ok(commit) = self.read_commit(place.segment, place.offset)
        {
            for key in commit.events.iter().filter_map(|event| event.key()) {
                affected.push(self.row_name(space_ix, key.as_bytes()));
            }
        }
        affected
    }

    fn affected_rows(&self, damage: &Damage, affected: &mut Affected) -> Result<(), ReadError> {
        let sidecar = &self.sealed_at(damage.segment)?.sidecar;
        for row in sidecar.range(Bound::Unbounded) {
            let (row, entry) = row?;
            let Some((space_ix, Namespace::Key)) = split_row(&row) else { continue };
            let offsets = sidecar.offsets(&entry)?;
            if offsets.iter().any(|at| stretch(damage).contains(&u64::from(*at))) {
                let key = row.get(table_prefix(space_ix, Namespace::Key).len()..);
                affected.push(self.row_name(space_ix, key.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Names a key of any space in one word.
    fn row_name(&self, space_ix: usize, key: &[u8]) -> String {
        let key = String::from_utf8_lossy(key);
        match self.local.spaces.get(space_ix) {
            Some(space) if space.name != "default" || key.starts_with("space:") => {
                format!("space:{}/{key}", space.name)
            }
            _ => key.into_owned(),
        }
    }
}

/// Returns the offsets of a damaged stretch; of one without a length, up to the segment's end.
fn stretch(damage: &Damage) -> Range<u64> {
    let end = if damage.len == 0 { u64::MAX } else { damage.offset.saturating_add(damage.len) };
    damage.offset..end
}

/// Tells whether damage may hide records.
pub(super) fn hides(damage: &Damage) -> bool {
    !matches!(damage.kind, DamageKind::Bookkeeping | DamageKind::Order) && !damage.is_of_header()
}
