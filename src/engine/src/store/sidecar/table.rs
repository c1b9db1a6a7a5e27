//! Tables of rows of a fixed width, in pages that are pieces (FORMAT 8.5).
//!
//! Any row is one read away, for its page's place is computed. A sorted table has a fence beside
//! it, the beginning of the first row of each page: small, read once and kept, so that a search
//! reads one page.

use crate::base::CodecError;
use crate::log::Disk;

use super::SidecarError;
use super::piece::{CHECKSUM_BYTES, Extent, Output, Source};

/// The form of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Bytes of a row.
    pub(super) width: usize,
    /// Rows of every page but the last.
    pub(super) page_rows: u32,
    /// Bytes of each row that the fence repeats.
    pub(super) fence_width: usize,
}

/// Where a table lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) shape: Shape,
    pub(super) offset: u64,
    pub(super) rows: u32,
}

impl Shape {
    fn page_bytes(self) -> usize {
        self.width * self.page_rows as usize
    }

    /// Writes `rows` as pages and returns where the first begins.
    pub(super) fn write(self, out: &mut Output, rows: &[u8]) -> u64 {
        let offset = out.position();
        for page in rows.chunks(self.page_bytes()) {
            out.piece(page);
        }
        offset
    }

    /// Writes the fence of `rows`.
    pub(super) fn write_fence(self, out: &mut Output, rows: &[u8]) -> Extent {
        let firsts = rows.chunks(self.page_bytes()).filter_map(|page| page.get(..self.fence_width));
        out.piece(&firsts.flatten().copied().collect::<Vec<u8>>())
    }
}

impl Table {
    pub(super) fn pages(&self) -> u32 {
        self.rows.div_ceil(self.shape.page_rows)
    }

    /// Reads a page; one that does not exist is empty.
    pub(super) fn page<D: Disk>(
        &self,
        source: &Source<D>,
        number: u32,
    ) -> Result<Page, SidecarError> {
        let first = u64::from(number) * u64::from(self.shape.page_rows);
        let rows = u64::from(self.rows).saturating_sub(first).min(u64::from(self.shape.page_rows));
        if rows == 0 {
            return Ok(Page { number, width: self.shape.width, bytes: Vec::new() });
        }
        let stride = (self.shape.page_bytes() + CHECKSUM_BYTES) as u64;
        let offset = self.offset.saturating_add(u64::from(number) * stride);
        #[expect(clippy::cast_possible_truncation, reason = "at most a page of a few KiB")]
        let len = rows as u32 * self.shape.width as u32;
        let bytes = source.piece(Extent { offset, len })?;
        Ok(Page { number, width: self.shape.width, bytes })
    }

    /// Returns the page of a row, reading it unless `held` is it.
    pub(super) fn page_of<'p, D: Disk>(
        &self,
        source: &Source<D>,
        row: u32,
        held: &'p mut Option<Page>,
    ) -> Result<&'p Page, SidecarError> {
        let number = row / self.shape.page_rows;
        let page = match held.take() {
            Some(page) if page.number == number => page,
            _ => self.page(source, number)?,
        };
        Ok(held.insert(page))
    }

    /// Reads row `row`, keeping its page in `held` for the next.
    pub(super) fn row<T, D: Disk>(
        &self,
        source: &Source<D>,
        row: u32,
        held: &mut Option<Page>,
        parse: impl FnOnce(&[u8]) -> Result<T, CodecError>,
    ) -> Result<T, SidecarError> {
        let page = self.page_of(source, row, held)?;
        let bytes = page.row(row % self.shape.page_rows).unwrap_or_default();
        parse(bytes).map_err(source.malformed(self.offset))
    }
}

/// A page in memory.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) number: u32,
    width: usize,
    bytes: Vec<u8>,
}

impl Page {
    /// Returns the bytes of a row, counted from the page's first.
    fn row(&self, index: u32) -> Option<&[u8]> {
        self.bytes.chunks_exact(self.width).nth(index as usize)
    }
}

/// Returns the first number below `count` for which `before` is false, or `count`.
///
/// `before` is true up to some number and false from there on.
pub(super) fn partition_point<E>(
    range: std::ops::Range<u32>,
    mut before: impl FnMut(u32) -> Result<bool, E>,
) -> Result<u32, E> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
