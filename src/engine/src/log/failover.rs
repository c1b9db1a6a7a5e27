//! What the log does when its disk fails.
//!
//! A failed sync says nothing about what is on the medium, and a second try proves nothing: the
//! system marks the pages clean (Rebello et al., ATC 2020). So the file is left alone: it ends
//! where it was durable, and the records beyond, which are still in memory, are written to a new
//! segment, after the names that they were written under. If that fails too the log becomes
//! read-only; if there is merely no space, each later change tries again.

use super::active::Active;
use super::append::{Log, Moved};
use super::disk::{Disk, DiskError};
use super::error::LogError;
use super::manifest::{Entry, State};
use super::record::RecordKind;
use super::segment::SegmentId;
use super::survey::hash_sound;
use crate::base::Sha256Stream;

/// Whether the log takes changes.
#[derive(Debug)]
pub(super) enum Health {
    /// It does.
    Good {
        /// The disk failed since the last sync that succeeded.
        shaken: bool,
    },
    /// Records wait in memory for a segment that takes them.
    Stalled(DiskError),
    /// It does not until it is opened again.
    Failed { stage: &'static str, error: DiskError },
}

impl Health {
    pub(super) const GOOD: Self = Self::Good { shaken: false };

    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }

    /// Notes that a sync succeeded.
    pub(super) fn mended(&mut self) {
        if self.is_good() {
            *self = Self::GOOD;
        }
    }

    pub(super) fn trouble(&self) -> Option<&DiskError> {
        match self {
            Self::Good { .. } => None,
            Self::Stalled(error) | Self::Failed { error, .. } => Some(error),
        }
    }
}

impl<D: Disk> Log<D> {
    /// Stands before each change: tries again what stalled, refuses if the log failed.
    pub(super) fn ready(&mut self) -> Result<(), LogError> {
        match &self.health {
            Health::Good { .. } => Ok(()),
            Health::Stalled(_) => self.try_move("writing again"),
            Health::Failed { stage, error } => {
                Err(LogError::Failed { stage, source: error.clone() })
            }
        }
    }

    /// Leaves the active file, whose disk failed, and goes on in a new one.
    pub(super) fn fail_over(
        &mut self,
        stage: &'static str,
        error: DiskError,
    ) -> Result<(), LogError> {
        self.syncing = false;
        if matches!(self.health, Health::Good { shaken: true }) && !error.is_refusal() {
            return Err(self.failed(stage, error));
        }
        self.health = Health::Stalled(error);
        self.try_move(stage)
    }

    fn try_move(&mut self, stage: &'static str) -> Result<(), LogError> {
        match self.move_tail() {
            Ok(()) => {
                self.health = Health::Good { shaken: true };
                Ok(())
            }
            Err(error) if error.is_refusal() => {
                sometimes!("log-stalled");
                self.health = Health::Stalled(error.clone());
                Err(LogError::Stalled(error))
            }
            Err(error) => Err(self.failed(stage, error)),
        }
    }

    fn failed(&mut self, stage: &'static str, error: DiskError) -> LogError {
        sometimes!("log-read-only-for-good");
        self.health = Health::Failed { stage, error: error.clone() };
        LogError::Failed { stage, source: error }
    }

    /// Ends the active segment where it is durable and writes the rest to a new one.
    ///
    /// The manifest says first where the old one ends, for nobody was told of what lies beyond. Of
    /// a tail that an earlier process left that is not known: there the new one is synced first.
    /// Can be called again after an error: the active segment is given up only at the end.
    fn move_tail(&mut self) -> Result<(), DiskError> {
        let Some(old) = &self.active else { return Ok(()) };
        let (place, durable, file) = (old.id.place, old.durable, old.id.file_id());
        let inherited = old.inherited;
        // What is moved is read as before: under the same names and the same base time.
        let base = old.id.base;
        let names = old.names.iter().filter(|(at, _)| *at < durable);
        let names: Vec<Vec<u8>> = names.map(|(_, body)| body.clone()).collect();
        let mut undurable = Vec::new();
        old.undurable(|at, kind, body| undurable.push((old.position(at), kind, body.to_vec())));
        let cut = (durable > 0).then(|| {
            let kept = old.records.saturating_sub(undurable.len() as u64);
            let sha = hash_sound(&self.disk, old.id, old.seed, durable);
            let sha = sha.map_or([0; 32], Sha256Stream::finish);
            old.entry(State::Cut, durable, kept, sha)
        });
        if !inherited {
            self.save_cut(cut)?;
        }
        let id = SegmentId { base, ..self.next_id() };
        let previous =
            cut.map_or_else(|| self.manifest.last_as_predecessor(), |cut| cut.as_predecessor());
        let mut new = Active::begin(self.store, id, previous);
        if !undurable.is_empty() {
            for names in &names {
                new.append(RecordKind::NAMES, names);
            }
        }
        let mut records = Vec::with_capacity(undurable.len());
        for (at, kind, body) in undurable {
            let moved = new.append(kind, &body);
            records.push((at, new.position(moved)));
        }
        if records.is_empty() {
            self.save_cut(cut)?;
            self.active = None;
        } else {
            new.close_group();
            let mut written = self.disk.write(id.file_id(), 0, new.unflushed());
            if inherited {
                written = written.and_then(|()| self.disk.sync(id.file_id()));
            }
            if let Err(error) = written {
                // Best effort: an unfinished file is swept up when the log is opened.
                let _ = self.disk.remove(id.file_id());
                return Err(error);
            }
            if inherited {
                // If this fails the new file stays: the manifest on disk may be the new one.
                self.save_cut(cut)?;
            }
            new.flushed_all();
            if inherited {
                new.durable_to(new.end());
            }
            self.active = Some(new);
        }
        // Best effort: the manifest, or the new header, says already where the old file ends.
        let _ = match durable {
            0 => self.disk.remove(file),
            _ => self.disk.truncate(file, u64::from(durable)),
        };
        sometimes!("log-records-moved", !records.is_empty());
        sometimes!("log-old-tail-moved", inherited);
        let end = super::Position { segment: place, offset: durable };
        self.moved.push_back(Moved { end, records });
        Ok(())
    }

    /// Enters in the manifest where the active segment ends, and whatever else is due.
    fn save_cut(&mut self, cut: Option<Entry>) -> Result<(), DiskError> {
        let Some(cut) = cut else {
            return if self.manifest_due { self.save_manifest() } else { Ok(()) };
        };
        let before = self.manifest.entry(cut.id.place).copied();
        if before == Some(cut) && !self.manifest_due {
            return Ok(());
        }
        self.manifest.put(cut);
        self.save_manifest().inspect_err(|_| match before {
            Some(before) => self.manifest.put(before),
            None => self.manifest.drop_last(),
        })
    }
}
