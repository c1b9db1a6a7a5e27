//! Where commits lie: by log and seq, and by id (FORMAT 8.5).
//!
//! Rows (offset, id) are sorted by log index and seq. Seqs that follow each other form a run, so a
//! commit is found through its run alone. A second table holds the numbers of the rows in the
//! order of their ids, each beside the id's first four bytes.

use crate::base::{CodecError, CommitId, Hash, Reader};
use crate::log::Disk;

use super::piece::Extent;
use super::reader::load;
use super::table::{Page, Shape, Table, partition_point};
use super::{Sidecar, SidecarError};

/// (offset, id) by (index, seq).
pub(super) const ROWS: Shape = Shape { width: 36, page_rows: 64, fence_width: 0 };
/// (index, first seq, first row, count).
pub(super) const RUNS: Shape = Shape { width: 20, page_rows: 128, fence_width: 16 };
/// (first four bytes of the id, row) by id.
pub(super) const BY_ID: Shape = Shape { width: 8, page_rows: 256, fence_width: 4 };

/// A commit of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitAt {
    /// The index that the segment's dictionary gives to the commit's log.
    pub ix: u32,
    /// The commit's number in that log.
    pub seq: u64,
    /// Where its record begins in the segment.
    pub offset: u32,
    /// The commit's id.
    pub id: CommitId,
}

/// The beginning of a commit id: a number of whole hexadecimal digits, perhaps odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPrefix {
    low: Hash,
    high: Hash,
}

impl IdPrefix {
    /// Returns the prefix of the digits of `bytes` and then of `nibble`, the upper half of the
    /// next byte. None if that is more than an id has, or `nibble` is above 15.
    pub fn new(bytes: &[u8], nibble: Option<u8>) -> Option<Self> {
        let (mut low, mut high) = ([0; 32], [0xff; 32]);
        low.get_mut(..bytes.len())?.copy_from_slice(bytes);
        high.get_mut(..bytes.len())?.copy_from_slice(bytes);
        if let Some(nibble) = nibble {
            if nibble > 15 {
                return None;
            }
            *low.get_mut(bytes.len())? = nibble << 4;
            *high.get_mut(bytes.len())? = nibble << 4 | 15;
        }
        Some(Self { low, high })
    }

    /// Returns the prefix that up to 64 lower-case hexadecimal digits are; none if they are not.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let (whole, rest) = digits.split_at_checked(digits.len() & !1)?;
        let nibble = match rest {
            "" => None,
            digit => crate::base::unhex(&format!("0{digit}"))?.first().copied(),
        };
        Self::new(&crate::base::unhex(whole)?, nibble)
    }

    /// Says whether `id` begins with it.
    pub fn matches(&self, id: &CommitId) -> bool {
        (self.low..=self.high).contains(id.as_bytes())
    }
}

/// Commits of one log whose seqs follow each other.
#[derive(Debug, Clone, Copy)]
struct Run {
    ix: u32,
    first: u64,
    row: u32,
    count: u32,
}

impl Run {
    fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let (ix, first) = (reader.u32()?, reader.u64()?);
        let run = Self { ix, first, row: reader.u32()?, count: reader.u32()? };
        let rows_end = run.row.checked_add(run.count);
        let seqs_end = run.first.checked_add(u64::from(run.count));
        rows_end.and(seqs_end).map(|_| run).ok_or(CodecError::TooLarge("run"))
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }
}

impl<D: Disk> Sidecar<D> {
    /// Finds commit `seq` of the log with index `ix`. Costs two reads of about 2 KiB.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn commit(&self, ix: u32, seq: u64) -> Result<Option<CommitAt>, SidecarError> {
        self.search().find(ix, seq)
    }

    /// Starts to look up commits by number, keeping the pages that were read last.
    pub fn search(&self) -> CommitSearch<'_, D> {
        CommitSearch { sidecar: self, run: None, runs: None, rows: None }
    }

    /// Walks over the commits of the log with index `ix` from seq `from` on, ascending; seqs that
    /// are not in the segment are passed over.
    pub fn commits(&self, ix: u32, from: u64) -> CommitIter<'_, D> {
        self.commits_between(ix, from, u64::MAX)
    }

    /// Returns the commits whose ids begin with `prefix`, ascending by id, at most `max` of them.
    ///
    /// Costs a read of about 2 KiB, and two for each commit returned.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn find_ids(&self, prefix: &IdPrefix, max: usize) -> Result<Vec<CommitAt>, SidecarError> {
        let mut search = IdSearch { sidecar: self, by_id: None, rows: None };
        let mut found = Vec::new();
        let mut position = search.lower_bound(&prefix.low)?;
        while position < self.footer.commits && found.len() < max {
            let (_, row) = search.front_and_row(position)?;
            let (offset, id) = search.row(row)?;
            if !prefix.matches(&id) {
                break;
            }
            let (ix, seq) = self.number_of(row)?;
            found.push(CommitAt { ix, seq, offset, id });
            position += 1;
        }
        Ok(found)
    }

    fn commits_between(&self, ix: u32, from: u64, to: u64) -> CommitIter<'_, D> {
        CommitIter { sidecar: self, ix, from, to, at: At::Start, runs: None, rows: None }
    }

    pub(super) fn rows_table(&self) -> Table {
        Table { shape: ROWS, offset: self.footer.rows, rows: self.footer.commits }
    }

    pub(super) fn runs_table(&self) -> Table {
        Table { shape: RUNS, offset: self.footer.runs_at, rows: self.footer.runs }
    }

    pub(super) fn by_id_table(&self) -> Table {
        Table { shape: BY_ID, offset: self.footer.by_id, rows: self.footer.commits }
    }

    /// Reads the fence of the runs: (index, first seq, first row) of each page's first.
    fn runs_fence(&self) -> Result<&[u8], SidecarError> {
        let extent = self.footer.runs_fence;
        load(&self.runs_fence, || self.fence(extent, &self.runs_table())).map(Vec::as_slice)
    }

    pub(super) fn fence(&self, extent: Extent, table: &Table) -> Result<Vec<u8>, SidecarError> {
        let bytes = self.source.piece(extent)?;
        if bytes.len() != table.pages() as usize * table.shape.fence_width {
            return Err(self.source.damaged(extent.offset, "a fence of another length"));
        }
        Ok(bytes)
    }

    /// Finds the last run for which `within` holds; it holds up to some run, and then no more.
    fn last_run(
        &self,
        held: &mut Option<Page>,
        within: impl Fn(u32, u64, u32) -> bool,
    ) -> Result<Option<(u32, Run)>, SidecarError> {
        let table = self.runs_table();
        let fence = self.runs_fence()?;
        let (pages, _) = fence.as_chunks::<16>();
        let malformed = self.source.malformed(self.footer.runs_fence.offset);
        let parse = |page: &[u8; 16]| -> Result<bool, CodecError> {
            let mut reader = Reader::new(page);
            Ok(within(reader.u32()?, reader.u64()?, reader.u32()?))
        };
        let page = partition_point(0..table.pages(), |page| {
            pages.get(page as usize).map_or(Ok(false), parse)
        });
        let Some(page) = page.map_err(malformed)?.checked_sub(1) else { return Ok(None) };
        let first = page * RUNS.page_rows;
        let end = first.saturating_add(RUNS.page_rows).min(table.rows);
        let after = partition_point(first..end, |number| {
            let run = table.row(&self.source, number, held, Run::parse)?;
            Ok(within(run.ix, run.first, run.row))
        })?;
        let Some(number) = after.checked_sub(1) else { return Ok(None) };
        let run = table.row(&self.source, number, held, Run::parse)?;
        if !within(run.ix, run.first, run.row) {
            return Err(self.source.damaged(table.offset, "runs that contradict their fence"));
        }
        Ok(Some((number, run)))
    }

    /// Returns index and seq of the commit in a row.
    fn number_of(&self, row: u32) -> Result<(u32, u64), SidecarError> {
        match self.last_run(&mut None, |_, _, first| first <= row)? {
            Some((_, run)) if row - run.row < run.count => {
                Ok((run.ix, run.first + u64::from(row - run.row)))
            }
            _ => Err(self.source.damaged(self.footer.runs_at, "a commit outside all runs")),
        }
    }
}

/// Yields commits of one log, ascending by seq. After an error it ends.
///
/// It holds a page of rows and one of runs at a time.
#[derive(Debug)]
pub struct CommitIter<'a, D> {
    sidecar: &'a Sidecar<D>,
    ix: u32,
    from: u64,
    to: u64,
    at: At,
    runs: Option<Page>,
    rows: Option<Page>,
}

#[derive(Debug)]
enum At {
    Start,
    /// At the commit `skip` of run `number`.
    Run {
        number: u32,
        run: Run,
        skip: u32,
    },
    End,
}

impl<D: Disk> CommitIter<'_, D> {
    fn advance(&mut self) -> Result<Option<CommitAt>, SidecarError> {
        loop {
            match &mut self.at {
                At::End => return Ok(None),
                At::Start => self.at = self.start()?,
                At::Run { number, run, skip } if *skip >= run.count => {
                    let number = *number + 1;
                    self.at = self.run(number)?;
                }
                At::Run { run, skip, .. } => {
                    let (row, seq) = (run.row + *skip, run.first + u64::from(*skip));
                    if run.ix != self.ix || seq > self.to {
                        return Ok(None);
                    }
                    *skip += 1;
                    let table = self.sidecar.rows_table();
                    let parsed = table.row(&self.sidecar.source, row, &mut self.rows, parse_row)?;
                    return Ok(Some(CommitAt { ix: self.ix, seq, offset: parsed.0, id: parsed.1 }));
                }
            }
        }
    }

    fn start(&mut self) -> Result<At, SidecarError> {
        let (ix, from) = (self.ix, self.from);
        let within = |run_ix: u32, first: u64, _| (run_ix, first) <= (ix, from);
        match self.sidecar.last_run(&mut self.runs, within)? {
            Some((number, run)) if run.ix == ix && from < run.end() => {
                #[expect(clippy::cast_possible_truncation, reason = "below the run's count")]
                let skip = (from - run.first) as u32;
                Ok(At::Run { number, run, skip })
            }
            Some((number, _)) => self.run(number + 1),
            None => self.run(0),
        }
    }

    /// Goes to the begin of a run.
    fn run(&mut self, number: u32) -> Result<At, SidecarError> {
        let table = self.sidecar.runs_table();
        if number >= table.rows {
            return Ok(At::End);
        }
        let run = table.row(&self.sidecar.source, number, &mut self.runs, Run::parse)?;
        Ok(At::Run { number, run, skip: 0 })
    }
}

impl<D: Disk> Iterator for CommitIter<'_, D> {
    type Item = Result<CommitAt, SidecarError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if matches!(item, None | Some(Err(_))) {
            self.at = At::End;
        }
        item
    }
}

/// Looks up commits by number: those that lie close together cost one read.
///
/// It holds a page of rows and one of runs at a time.
#[derive(Debug)]
pub struct CommitSearch<'a, D> {
    sidecar: &'a Sidecar<D>,
    run: Option<Run>,
    runs: Option<Page>,
    rows: Option<Page>,
}

impl<D: Disk> CommitSearch<'_, D> {
    /// Finds commit `seq` of the log with index `ix`. Costs at most two reads of about 2 KiB, and
    /// none if the one before it lies in the same run and page.
    ///
    /// # Errors
    /// Any [`SidecarError`].
    pub fn find(&mut self, ix: u32, seq: u64) -> Result<Option<CommitAt>, SidecarError> {
        let within = |run: &Run| run.ix == ix && (run.first..run.end()).contains(&seq);
        if !self.run.as_ref().is_some_and(within) {
            let before = |run_ix: u32, first: u64, _| (run_ix, first) <= (ix, seq);
            self.run = self.sidecar.last_run(&mut self.runs, before)?.map(|(_, run)| run);
        }
        let Some(run) = self.run.filter(within) else { return Ok(None) };
        #[expect(clippy::cast_possible_truncation, reason = "below the run's count")]
        let row = run.row + (seq - run.first) as u32;
        let table = self.sidecar.rows_table();
        let (offset, id) = table.row(&self.sidecar.source, row, &mut self.rows, parse_row)?;
        Ok(Some(CommitAt { ix, seq, offset, id }))
    }
}

/// A search by id, with the pages that it last read.
struct IdSearch<'a, D> {
    sidecar: &'a Sidecar<D>,
    by_id: Option<Page>,
    rows: Option<Page>,
}

impl<D: Disk> IdSearch<'_, D> {
    /// Returns the position of the first id that is at least `low`.
    fn lower_bound(&mut self, low: &Hash) -> Result<u32, SidecarError> {
        let sidecar = self.sidecar;
        let table = sidecar.by_id_table();
        let extent = sidecar.footer.by_id_fence;
        let fence = load(&sidecar.by_id_fence, || sidecar.fence(extent, &table))?;
        let (pages, _) = fence.as_chunks::<4>();
        let front = low.first_chunk::<4>().copied().unwrap_or_default();
        let first = count32(pages.partition_point(|page| *page < front)).saturating_sub(1);
        let end = count32(pages.partition_point(|page| *page <= front));
        let first = first * BY_ID.page_rows;
        let end = end.saturating_mul(BY_ID.page_rows).min(table.rows).max(first);
        partition_point(first..end, |position| {
            let (found, row) = self.front_and_row(position)?;
            if found != front {
                return Ok(found < front);
            }
            Ok(self.row(row)?.1.as_bytes() < low)
        })
    }

    /// Returns the first bytes of the id at a position of the sorted table, and its row.
    fn front_and_row(&mut self, position: u32) -> Result<([u8; 4], u32), SidecarError> {
        let table = self.sidecar.by_id_table();
        table.row(&self.sidecar.source, position, &mut self.by_id, |bytes| {
            let mut reader = Reader::new(bytes);
            Ok((reader.array()?, reader.u32()?))
        })
    }

    fn row(&mut self, row: u32) -> Result<(u32, CommitId), SidecarError> {
        let table = self.sidecar.rows_table();
        table.row(&self.sidecar.source, row, &mut self.rows, parse_row)
    }
}

fn parse_row(bytes: &[u8]) -> Result<(u32, CommitId), CodecError> {
    let mut reader = Reader::new(bytes);
    Ok((reader.u32()?, reader.commit_id()?))
}

/// Pages are counted in 32 bits.
fn count32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_made_of_whole_digits() {
        let id = CommitId([0xab; 32]);
        for (digits, matches) in
            [("", true), ("a", true), ("b", false), ("aba", true), ("abb", false)]
        {
            let prefix = IdPrefix::from_hex(digits).unwrap();
            assert_eq!(prefix.matches(&id), matches, "{digits}");
        }
        assert!(IdPrefix::from_hex(&id.to_string()).unwrap().matches(&id));
        for bad in ["g", "A", "é", "abé", &"a".repeat(65), &"a".repeat(66)] {
            assert_eq!(IdPrefix::from_hex(bad), None, "{bad}");
        }
        assert_eq!(IdPrefix::new(&[], Some(16)), None);
    }
}
