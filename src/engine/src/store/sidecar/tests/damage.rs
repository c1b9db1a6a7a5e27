//! No damage of a file makes a wrong answer, and no bytes make a panic.

use proptest::prelude::*;

use super::super::Merge;
use super::super::piece::Checksum;
use super::*;

proptest! {
    #[test]
    fn bytes_that_pass_their_checksums_and_mean_nothing_never_panic(
        at: prop::sample::Index,
        byte: u8,
        also: Option<(prop::sample::Index, u8)>,
    ) {
        let model = small();
        let mut bytes = model.build();
        let pieces = pieces(&bytes);
        for (at, byte) in [(at, byte)].into_iter().chain(also) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (offset, len) in pieces {
            let piece = &bytes[offset..][..len];
            let checksum = Checksum::new(&STORE, SEGMENT).of(offset as u64, piece);
            bytes[offset + len..][..4].copy_from_slice(&checksum.to_le_bytes());
        }
        // Answers may be wrong here: whoever can make checksums can make a whole sidecar.
        if let Ok(sidecar) = open(bytes) {
            for key in model.keys.keys() {
                let _ = (ask(&sidecar, key), sidecar.may_contain(key));
            }
            let _ = (walk(&sidecar, Bound::Unbounded), sidecar.check());
            let _ = (walk(&sidecar, Bound::Included(b"b")), sidecar.blob(1), sidecar.blob(9));
            for ix in 0..3 {
                let _ = sidecar.commits(ix, 0).take(100).count();
                let _ = (sidecar.commit(ix, 3), sidecar.commit(ix, u64::MAX));
            }
            for digits in ["", "00", "fff"] {
                let _ = sidecar.find_ids(&IdPrefix::from_hex(digits).unwrap(), 100);
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_no_sidecar(bytes: Vec<u8>) {
        let damaged = matches!(open(bytes), Err(SidecarError::Damaged { .. }));
        prop_assert!(damaged);
    }
}

/// Finds the pieces of a small file: they lie end to end, each with its checksum.
fn pieces(bytes: &[u8]) -> Vec<(usize, usize)> {
    let checksum = Checksum::new(&STORE, SEGMENT);
    let mut pieces = Vec::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let fits = |len: &usize| {
            let sum = checksum.of(offset as u64, &bytes[offset..][..*len]);
            bytes[offset + len..][..4] == sum.to_le_bytes()
        };
        let len = (0..=bytes.len() - offset - 4).find(fits).unwrap();
        pieces.push((offset, len));
        offset += len + 4;
    }
    pieces
}

#[test]
fn every_flipped_bit_is_found_and_none_makes_a_wrong_answer() {
    let model = small();
    let bytes = model.build();
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            match open(flipped) {
                Err(SidecarError::Damaged { .. }) => {}
                Err(error) => panic!("{error:?}"),
                Ok(sidecar) => {
                    let found = sidecar.check();
                    assert!(matches!(found, Err(SidecarError::Damaged { .. })), "{position}");
                    // Asking everything takes longer, and one bit of each byte tells as much.
                    let asked = bit == position % 8;
                    assert!(!asked || ask_all(&model, &sidecar, &[]), "{position} is never read");
                }
            }
        }
    }
}

#[test]
fn a_piece_that_lies_where_another_belongs_is_found() {
    let mut model = Model::default();
    for number in 0..256_u32 {
        let id = CommitId(sha256("", &[&number.to_le_bytes()]));
        model.commits.insert((0, u64::from(number)), (number, id));
    }
    let bytes = model.build();
    let pages: Vec<_> = pieces(&bytes).into_iter().filter(|(_, len)| *len == 64 * 36).collect();
    assert_eq!(pages.len(), 4);
    for (from, len) in &pages {
        for (to, _) in pages.iter().filter(|(to, _)| to != from) {
            let mut misdirected = bytes.clone();
            misdirected.copy_within(*from..from + len + 4, *to);
            assert!(ask_all(&model, &open(misdirected).unwrap(), &[]), "{from} at {to}");
        }
    }
}

#[test]
fn a_file_cut_at_any_length_or_grown_is_refused() {
    let bytes = small().build();
    for len in 0..bytes.len() {
        let error = open(bytes[..len].to_vec()).unwrap_err();
        assert!(matches!(error, SidecarError::Damaged { .. }), "{len}: {error:?}");
    }
    for tail in [&[0][..], &[0; 200], &bytes] {
        let grown = [bytes.as_slice(), tail].concat();
        assert!(matches!(open(grown), Err(SidecarError::Damaged { .. })));
    }
}

#[test]
fn a_file_of_another_store_segment_or_seal_is_refused() {
    let file = File::new(small().build());
    let open = |store, segment, seal| Sidecar::open(file.clone(), FILE, store, segment, seal);
    assert!(open(STORE, SEGMENT, None).is_ok());
    for result in [
        open([0; 16], SEGMENT, None),
        open(STORE, SEGMENT + 1, None),
        open(STORE, SEGMENT, Some([0; 32])),
    ] {
        assert!(matches!(result, Err(SidecarError::Damaged { .. })));
    }
    let other = FileId::new(FileKind::Sidecar, 1);
    let result = Sidecar::open(file, other, STORE, 1, None);
    assert!(matches!(result, Err(SidecarError::Missing)));
}

#[test]
fn a_failed_read_is_not_damage_and_is_not_remembered() {
    let model = small();
    let sidecar = model.open();
    let fault = Rc::clone(&sidecar.source.disk.fault);
    fault.set(Some(DiskErrorKind::Io));
    let prefix = IdPrefix::from_hex("").unwrap();
    assert!(matches!(sidecar.lookup(b"b"), Err(SidecarError::Unreadable { segment: SEGMENT, .. })));
    assert!(matches!(
        sidecar.may_contain(b"b"),
        Err(SidecarError::Unreadable { segment: SEGMENT, .. })
    ));
    assert!(matches!(sidecar.commit(0, 2), Err(SidecarError::Unreadable { segment: SEGMENT, .. })));
    assert!(matches!(
        sidecar.find_ids(&prefix, 1),
        Err(SidecarError::Unreadable { segment: SEGMENT, .. })
    ));
    let mut walk = Merge::new(std::iter::empty::<(_, ())>(), vec![sidecar.range(Bound::Unbounded)]);
    assert!(matches!(walk.next(), Some(Err(SidecarError::Unreadable { segment: SEGMENT, .. }))));
    fault.set(Some(DiskErrorKind::Busy));
    assert!(matches!(sidecar.lookup(b"b"), Err(SidecarError::Disk(_))));
    fault.set(Some(DiskErrorKind::NotFound));
    assert!(matches!(sidecar.lookup(b"b"), Err(SidecarError::Missing)));
    fault.set(Some(DiskErrorKind::PastEnd));
    assert!(matches!(sidecar.lookup(b"b"), Err(SidecarError::Damaged { .. })));
    fault.set(None);
    assert!(walk.next().is_none(), "a walk that failed has ended");
    assert!(!ask_all(&model, &sidecar, &[]));
}

#[test]
fn the_bytes_of_the_format_are_pinned() {
    // Another value here is another format: raise the version in the footer and in FORMAT 8.
    let expected = "c60a0705a46d1a0eb4aff0204b7a95653552ffe5d5313d972e64d458df35b8ac";
    assert_eq!(crate::base::hex(&sha256("", &[&small().build()])), expected);
}
