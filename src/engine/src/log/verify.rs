//! Reads a whole log and names all that is wrong with it, changing nothing.
//!
//! Every byte of manifest, mark and segments is covered by a checksum or known to be zero, so any
//! flipped bit is found. It works on the files as they lie there: before a recovery, and of an open
//! log's flushed part. Torn tails of an unclean end are told apart from problems.

use super::append::LogOptions;
use super::disk::{Disk, FileId};
use super::error::{Damage, DamageKind, OpenError};
use super::layout::{self, Candidate, Layout, Unread};
use super::manifest::{Entry, State};
use super::recovery::{Surveyed, Torn};
use super::segment::{HEADER_BYTES, Predecessor};
use super::survey;

/// What a log holds and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verify {
    /// Segments, the missing ones included.
    pub segments: u64,
    /// Records of callers that validate.
    pub records: u64,
    /// Bytes of all segments up to their ends.
    pub bytes: u64,
    /// What is wrong. Empty if all is well.
    pub problems: Vec<Damage>,
    /// Tails that the next opening cuts: written, but never durable.
    pub torn: Vec<Torn>,
    /// Segment files that belong nowhere, which the next opening puts away.
    pub strays: Vec<FileId>,
}

/// Reads everything and changes nothing. Cost: the whole log is read twice.
///
/// # Errors
/// [`OpenError`] if the files belong to another store or version, or cannot be listed.
pub fn verify<D: Disk>(disk: &D, options: &LogOptions) -> Result<Verify, OpenError> {
    let store = &options.store;
    let mut layout = Layout::load(disk, store, Unread::IsDamage)?;
    let mut out = Verify { problems: std::mem::take(&mut layout.damage), ..Verify::default() };
    let mut before: Option<Entry> = None;
    for entry in &layout.manifest.entries {
        out.segments += 1;
        out.bytes += u64::from(entry.end);
        if layout.files.contains(&entry.id.file) {
            closed(disk, store, entry, before.as_ref(), &mut out)?;
        } else {
            out.problems.extend(layout::check_length(disk, entry).0);
        }
        before = Some(*entry);
    }
    for segment in Surveyed::all(disk, &mut layout)? {
        if mutant!("newest-segment-not-verified") {
            continue;
        }
        let problems = out.problems.len();
        out.segments += 1;
        out.records += segment.survey.records;
        out.bytes += u64::from(segment.survey.end);
        out.problems.extend(segment.damage());
        out.torn.extend(segment.torn());
        let (known, seal) = (&segment.candidate.known, segment.survey.seal);
        if let Some(seal) = seal
            && out.problems.len() == problems
            && survey::hash_file(disk, known.id.file_id(), seal.bytes).is_ok_and(|h| h != seal.sha)
        {
            out.problems.push(whole_file(known.id.place, known.id.file_id(), segment.survey.end));
        }
    }
    out.strays = layout.strays;
    Ok(out)
}

/// Checks a closed segment: header, records, hash, and what it says of its predecessor.
fn closed<D: Disk>(
    disk: &D,
    store: &[u8; 16],
    entry: &Entry,
    before: Option<&Entry>,
    out: &mut Verify,
) -> Result<(), OpenError> {
    let known = Candidate::closed(disk, entry, store).known;
    let (id, file) = (known.id, known.id.file_id());
    let survey = survey::survey(disk, &known)?;
    let problems = out.problems.len();
    let header = Damage { len: u64::from(HEADER_BYTES), ..whole_file(id.place, file, 0) };
    match layout::read_header(disk, file) {
        // It was put off, and holds nothing.
        Ok(_) if entry.end == 0 && survey.is_void() => {}
        Ok(Ok(found)) => {
            let expected = before.map_or_else(Predecessor::default, Entry::as_predecessor);
            // Zero stands for a file that could not be read: nothing to compare with.
            let other_hash =
                found.previous.sha != expected.sha && expected.sha != [0; 32] && before.is_some();
            if found.id != id || found.store != *store {
                out.problems.push(Damage { kind: DamageKind::Header, ..header });
            } else if found.previous.place != expected.place || other_hash {
                out.problems.push(Damage { kind: DamageKind::Order, ..header });
            }
        }
        Ok(Err(_)) => out.problems.push(Damage { kind: DamageKind::Header, ..header }),
        Err(_) => out.problems.push(Damage { kind: DamageKind::Unreadable, ..header }),
    }
    out.records += survey.records;
    let unsealed = entry.state == State::Sealed && survey.seal.is_none();
    out.problems.extend(survey.damage.iter().cloned());
    if survey.is_torn() {
        let (offset, bytes) = (survey.end, survey.torn_to - survey.end);
        if entry.state == State::Cut {
            out.torn.push(Torn { segment: id.place, file, offset, bytes });
        } else {
            let (offset, len) = (u64::from(offset), u64::from(bytes));
            let kind = DamageKind::Rotted;
            out.problems.push(Damage { segment: id.place, file, offset, len, kind });
        }
    }
    if out.problems.len() == problems {
        let hash = survey::hash_file(disk, file, entry.end);
        if unsealed || (entry.sha != [0; 32] && hash.is_ok_and(|hash| hash != entry.sha)) {
            out.problems.push(whole_file(id.place, file, entry.end));
        }
    }
    Ok(())
}

fn whole_file(segment: u64, file: FileId, end: u32) -> Damage {
    Damage { segment, file, offset: 0, len: u64::from(end), kind: DamageKind::Hash }
}
