use proptest::prelude::*;

use super::log_tree::Ids;
use super::*;
use crate::base::Reader;

fn id(index: u64) -> CommitId {
    CommitId(sha256("test", &[&index.to_le_bytes()]))
}

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|index| leaf(&id(index))).collect()
}

fn tree(size: u64) -> Tree {
    let mut tree = Tree::default();
    (0..size).for_each(|index| tree.append(&id(index)));
    tree
}

const ANY: Ids<'static> = &|index| Some(id(index));
const NONE: Ids<'static> = &|_| None;

#[test]
fn roots_and_proofs_of_small_trees_are_those_of_the_rfc() {
    for size in 1..=40 {
        let (tree, leaves) = (tree(size), leaves(size));
        assert_eq!(tree.root(), spec::root(&leaves), "{size}");
        assert_eq!(root(&leaves), spec::root(&leaves), "{size}");
        for index in 0..size {
            let proof = tree.proof(index, size, ANY).unwrap();
            assert_eq!(proof, spec::path(index as usize, &leaves), "{index} in {size}");
            assert!(verify(&tree.root(), size, index, &leaves[index as usize], &proof));
        }
    }
    assert_eq!(Tree::default().root(), spec::root(&[]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_prefix_has_the_root_and_proofs_of_the_rfc(
        full in 1u64..2000, part: prop::sample::Index, at: prop::sample::Index,
        from: prop::sample::Index,
    ) {
        let size = part.index(full as usize) as u64 + 1;
        let index = at.index(size as usize) as u64;
        let leaves = leaves(size);
        // Neither a partial cache nor the way through bytes changes an answer.
        let mut bytes = Vec::new();
        tree(full).encode(from.index(full as usize / 256 + 1) as u64, &mut bytes);
        let mut reader = Reader::new(&bytes);
        let read = Tree::decode(&mut reader).unwrap();
        prop_assert_eq!(reader.finish(), Ok(()));
        for tree in [tree(full), read] {
            let root = tree.root_at(size, ANY).unwrap();
            prop_assert_eq!(root, spec::root(&leaves));
            let proof = tree.proof(index, size, ANY).unwrap();
            prop_assert_eq!(&proof, &spec::path(index as usize, &leaves));
            prop_assert!(verify(&root, size, index, &leaves[index as usize], &proof));
        }
    }

    #[test]
    fn a_relay_proves_any_part_of_what_it_holds(
        size in 1u64..1500, held: prop::sample::Index, at: prop::sample::Index, more in 0u64..9,
    ) {
        let prefix = held.index(size as usize) as u64 + 1;
        let index = at.index(prefix as usize) as u64;
        let leaves = leaves(size);
        let hashes = spec::path(prefix as usize - 1, &leaves);
        let relay = tree((prefix + more).min(size));
        let known = PrefixProof { prefix, size, hashes: &hashes };
        let proof = relay.extend_proof(index, known, ANY).unwrap();
        prop_assert_eq!(proof, spec::path(index as usize, &leaves));
        let known = PrefixProof { hashes: &[&hashes[..], &[[0; 32]]].concat(), ..known };
        prop_assert_eq!(relay.extend_proof(index, known, ANY), Err(TreeError::WrongLength));
    }

    #[test]
    fn a_changed_proof_does_not_verify(
        size in 2u64..300, at: prop::sample::Index, bit: prop::sample::Index,
    ) {
        let index = at.index(size as usize) as u64;
        let (tree, leaf) = (tree(size), leaf(&id(index)));
        let mut proof = tree.proof(index, size, ANY).unwrap();
        let root = tree.root();
        prop_assert!(verify(&root, size, index, &leaf, &proof));
        prop_assert!(!verify(&root, size, index + 1, &leaf, &proof));
        prop_assert!(!verify(&root, size, index, &leaf, &proof[1..]));
        let longer = [&proof[..], &[root]].concat();
        prop_assert!(!verify(&root, size, index, &leaf, &longer));
        let bit = bit.index(proof.len() * 256);
        proof[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify(&root, size, index, &leaf, &proof));
    }

    #[test]
    fn a_tree_goes_on_from_its_bytes(
        size in 0u64..1500, more in 1u64..600, from: prop::sample::Index,
    ) {
        let from = from.index(size as usize / 256 + 1) as u64;
        let mut bytes = Vec::new();
        tree(size).encode(from, &mut bytes);
        let mut read = Tree::decode(&mut Reader::new(&bytes)).unwrap();
        (size..size + more).for_each(|index| read.append(&id(index)));
        let whole = tree(size + more);
        prop_assert_eq!(read.root(), whole.root());
        let (first, _) = read.blocks(0);
        let (_, blocks) = whole.blocks(0);
        prop_assert!(read.prepend(0, &blocks[..first as usize]));
        prop_assert_eq!(read, whole);
    }

    #[test]
    fn any_bytes_are_refused_or_are_a_tree(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader::new(&bytes);
        if let Ok(tree) = Tree::decode(&mut reader) {
            let mut again = Vec::new();
            tree.encode(0, &mut again);
            // A first block beyond the last is written as the last: there are no others.
            prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.remaining()]);
        }
    }
}

#[test]
fn a_proof_asks_for_at_most_256_ids_on_either_side() {
    let size = 256 * 40 + 77;
    let tree = tree(size + 300);
    for index in [0, 255, 256, 4000, size - 1] {
        let asked = std::cell::Cell::new(0);
        let ids = |index| {
            asked.set(asked.get() + 1);
            Some(id(index))
        };
        let proof = tree.proof(index, size, &ids).unwrap();
        assert!(asked.get() <= 2 * 256, "{} ids for {index}", asked.get());
        assert!(verify(&tree.root_at(size, ANY).unwrap(), size, index, &leaf(&id(index)), &proof));
    }
}

#[test]
fn what_is_not_known_is_named() {
    let tree = tree(300);
    assert_eq!(tree.proof(5, 300, NONE), Err(TreeError::MissingId { index: 128 }));
    assert_eq!(tree.proof(300, 300, ANY), Err(TreeError::OutOfRange { size: 300 }));
    assert_eq!(tree.root_at(301, ANY), Err(TreeError::OutOfRange { size: 300 }));
    // The whole root needs no id, nor does that of the first block.
    assert_eq!(tree.root_at(300, NONE), Ok(tree.root()));
    assert!(tree.root_at(256, NONE).is_ok());
}
