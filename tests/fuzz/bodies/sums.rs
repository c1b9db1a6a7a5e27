//! Checksums, computed anew over changed bytes, so that what lies behind them is reached.

use kdelta_engine::base::{Reader, sha256};

/// CRC-32 (IEEE) over `parts`, going on from an earlier one; 0 begins.
pub fn crc32(from: u32, parts: &[&[u8]]) -> u32 {
    let mut crc = !from;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (crc & 1).wrapping_neg() & 0xedb8_8320;
        }
    }
    !crc
}

/// The bytes and their CRC-32, as the local file has it.
pub fn with_crc(body: &[u8]) -> Vec<u8> {
    [body, &crc32(0, &[body]).to_le_bytes()].concat()
}

/// The bytes and their SHA-256, as manifest and clean mark have it.
pub fn with_sha(body: &[u8]) -> Vec<u8> {
    [body, &sha256("", &[body])[..]].concat()
}

/// A sidecar of these pieces (FORMAT 8.1).
pub fn sidecar(store: &[u8; 16], segment: u64, pieces: &[&[u8]]) -> Vec<u8> {
    let seed = crc32(0, &[store, &segment.to_le_bytes()]);
    let mut file = Vec::new();
    for piece in pieces {
        let at = (file.len() as u64).to_le_bytes();
        file.extend_from_slice(piece);
        file.extend(crc32(seed, &[&at, piece]).to_le_bytes());
    }
    file
}

/// The pieces of a sidecar, found by their checksums. A byte more or less never has one that fits.
pub fn pieces(store: &[u8; 16], segment: u64, file: &[u8]) -> Vec<Vec<u8>> {
    let seed = crc32(0, &[store, &segment.to_le_bytes()]);
    let (mut found, mut begin) = (Vec::new(), 0);
    while begin < file.len() {
        let mut crc = crc32(seed, &[&(begin as u64).to_le_bytes()]);
        let mut end = begin;
        while file.get(end..end + 4) != Some(&crc.to_le_bytes()) {
            crc = crc32(crc, &[&file[end..=end]]);
            end += 1;
        }
        found.push(file[begin..end].to_vec());
        begin = end + 4;
    }
    found
}

/// Gives a segment's header and, as far as lengths lead, its records the sums that belong to them
/// (FORMAT 7.1 and 7.2), and groups the chain (7.3).
pub fn segment(file: &mut [u8], store: &[u8; 16], number: u64) {
    const HEADER: usize = 128;
    let Some(header) = file.get_mut(..HEADER) else { return };
    let sum = crc32(0, &[&header[..HEADER - 4]]);
    header[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
    let seed = crc32(0, &[store, &number.to_le_bytes(), &header[48..56]]);
    let (mut at, mut chain) = (HEADER, seed);
    while let Some((kind, head, len)) = front(&file[at..]) {
        let Some(record) = file.get_mut(at..at + head + len) else { return };
        if kind == 1 && len == 20 {
            record[head + 16..].copy_from_slice(&chain.to_le_bytes());
        }
        let offset = u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes();
        let front = crc32(seed, &[&offset, &record[6..head]]);
        let check = match (front ^ front >> 16).to_le_bytes() {
            [0, 0, ..] => [1, 1],
            [low, high, ..] => [low, high],
        };
        let sum = crc32(front, &[&record[head..]]);
        record[..4].copy_from_slice(&sum.to_le_bytes());
        record[4..6].copy_from_slice(&check);
        if kind >= 16 {
            chain = crc32(chain, &[&sum.to_le_bytes()]);
        }
        at += head + len;
    }
}

/// Kind, length of the head and length of the body of the record that `bytes` begin with.
fn front(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let kind = *bytes.get(6).filter(|kind| **kind != 0)?;
    let mut reader = Reader::new(bytes.get(7..)?);
    let before = reader.remaining();
    let len = usize::try_from(reader.varint().ok()?).ok()?;
    (len < bytes.len()).then_some((kind, 7 + before - reader.remaining(), len))
}
