//! Reads all records from a position on, across groups, segments and damage.

use super::disk::{Disk, DiskErrorKind};
use super::error::{Damage, DamageKind};
use super::walk::Walk;
use super::{Log, Position, Record};

/// Yields the records of a log in order, and each stretch of damage as an item of its own.
///
/// After damage it goes on at the next place where a record validates, found byte by byte; where
/// the disk cannot read it steps on by 512 bytes first; a file that is missing or cut short is
/// passed over as one item. Reads ahead 256 KiB at a time.
#[derive(Debug)]
pub struct Scan<'a, D> {
    log: &'a Log<D>,
    segment: u64,
    at: u32,
    walk: Option<Walk<'a, D>>,
}

impl<'a, D: Disk> Scan<'a, D> {
    pub(super) fn new(log: &'a Log<D>, from: Position) -> Self {
        let mut scan = Self { log, segment: from.segment, at: from.offset, walk: None };
        scan.enter(from.segment, from.offset);
        scan
    }

    /// Goes to the first segment from `place` on.
    fn enter(&mut self, place: u64, offset: u32) {
        self.walk = None;
        if let Some(next) = self.log.place_from(place) {
            self.walk = self.log.walk(next);
            self.at =
                if next == place { offset.max(super::FIRST_OFFSET) } else { super::FIRST_OFFSET };
            self.segment = next;
        }
    }

    fn damage(&self, walk: &Walk<'_, D>, to: u32, kind: DamageKind) -> Damage {
        Damage {
            segment: self.segment,
            file: walk.file(),
            offset: u64::from(self.at),
            len: u64::from(to.saturating_sub(self.at)),
            kind,
        }
    }
}

impl<D: Disk> Iterator for Scan<'_, D> {
    type Item = Result<(Position, Record), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut walk = self.walk.take()?;
            if self.at >= walk.end() {
                let unread = self.log.unread(self.segment).filter(|upto| *upto > self.at);
                if let Some(upto) = unread {
                    let damage = self.damage(&walk, upto, DamageKind::Unreadable);
                    self.at = upto;
                    self.walk = Some(walk);
                    return Some(Err(damage));
                }
                // A list may name the last place that there can be.
                self.enter(self.segment.checked_add(1)?, 0);
                continue;
            }
            let position = Position { segment: self.segment, offset: self.at };
            let found = match walk.look(self.at) {
                Ok(Some(found)) => walk.body(&found).map(|body| Some((found, body.to_vec()))),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            let item = match found {
                Ok(Some((found, body))) => {
                    self.at = found.end();
                    let next = Position { segment: self.segment, offset: self.at };
                    Some(Ok((position, Record { kind: found.kind, body, next })))
                        .filter(|_| found.kind.is_callers())
                }
                Ok(None) => {
                    let to = walk.resync(self.at + 1);
                    let damage = self.damage(&walk, to, DamageKind::Rotted);
                    self.at = to;
                    Some(Err(damage))
                }
                Err(error) => {
                    let gone =
                        matches!(error.kind, DiskErrorKind::NotFound | DiskErrorKind::PastEnd);
                    let (to, kind) = if gone {
                        (walk.end(), DamageKind::Missing)
                    } else {
                        let readable = walk.skip_unreadable(self.at);
                        (walk.resync(readable), DamageKind::Unreadable)
                    };
                    let damage = self.damage(&walk, to, kind);
                    self.at = to;
                    Some(Err(damage))
                }
            };
            self.walk = Some(walk);
            if item.is_some() {
                return item;
            }
        }
    }
}
