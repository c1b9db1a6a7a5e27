//! The fuzz targets on stable: their corpus, and what is near to it, finds nothing.
//!
//! `tests/fuzz/run` looks for new inputs. Those that found a bug stay in `tests/fuzz/corpus/`,
//! and are tried here in every run, each also with bits flipped and cut short.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong fails the test"
)]

#[path = "fuzz/bodies/mod.rs"]
#[allow(unreachable_pub, reason = "the package of the targets has the same file as its library")]
mod bodies;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bodies::{TARGETS, Target, seeds};
use kdelta_engine::base::{Rng, hex, sha256};

/// Most bytes of the committed corpus.
const CORPUS_BYTES_MAX: u64 = 500 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The committed inputs of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = folder().join("corpus").join(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{target}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
    };
    let mut found: Vec<_> = paths.map(read).collect();
    found.sort();
    found
}

/// Runs a target, and names the input if it finds something.
fn attempt(name: &str, target: Target, from: &str, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = path.join(format!("{name}-{}", hex(&sha256("", &[bytes])[..6])));
        std::fs::write(&path, bytes).expect("a directory for findings");
        panic!("target {name}, near {from}: the input is in {}", path.display());
    }
}

/// The input with something changed: bits flipped, cut short, a part repeated, removed or taken
/// from another, numbers at their ends.
fn mutate(rng: &mut Rng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        let at = below(rng, out.len() + 1);
        let len = below(rng, 32).min(out.len() - at);
        match rng.below(8) {
            0 | 1 if at < out.len() => out[at] ^= 1 << rng.below(8),
            2 => out.truncate(at),
            3 => drop(out.drain(at..at + len)),
            4 => {
                let part = out[at..at + len].to_vec();
                out.splice(at..at, part);
            }
            5 if !other.is_empty() => {
                let from = below(rng, other.len());
                let part = &other[from..(from + 64).min(other.len())];
                out.splice(at..at + len, part.iter().copied());
            }
            6 if at < out.len() => out[at] = [0, 1, 0x7f, 0x80, 0xff][below(rng, 5)],
            _ if at < out.len() => out[at] = rng.bytes::<1>()[0],
            _ => {}
        }
    }
    out
}

fn below(rng: &mut Rng, end: usize) -> usize {
    usize::try_from(rng.below(end as u64)).unwrap()
}

/// Tries `rounds` changes of every input of a target.
fn storm(name: &str, target: Target, rounds: usize, seed: u64) {
    let mut inputs = corpus(name);
    inputs.extend(seeds::of(name));
    let mut rng = Rng::new(sha256(name, &[&seed.to_le_bytes()]));
    for round in 0..rounds {
        let (from, bytes) = &inputs[round % inputs.len()];
        let other = &inputs[below(&mut rng, inputs.len())].1;
        attempt(name, target, from, &mutate(&mut rng, bytes, other));
    }
}

#[test]
fn every_target_has_a_file_a_binary_and_a_small_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let files = std::fs::read_dir(folder().join("fuzz_targets")).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let files: BTreeSet<String> = files.map(|entry| stem(entry.unwrap().path())).collect();
    assert_eq!(files, names);
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let mut bytes = 0;
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} has no binary");
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        bytes += inputs.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "a corpus of {bytes} bytes");
}

#[test]
fn the_corpus_finds_nothing() {
    for (name, target) in TARGETS {
        for (from, bytes) in corpus(name).into_iter().chain(seeds::of(name)) {
            attempt(name, *target, &from, &bytes);
        }
    }
}

#[test]
fn what_is_near_to_the_corpus_finds_nothing() {
    for (name, target) in TARGETS {
        storm(name, *target, 100, 1);
    }
}

#[test]
#[ignore = "takes minutes; KDELTA_FUZZ_ROUNDS and KDELTA_FUZZ_SEED change it, KDELTA_FUZZ_TARGET picks one"]
fn a_long_storm_finds_nothing() {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let only = std::env::var("KDELTA_FUZZ_TARGET").ok();
    let rounds = number("KDELTA_FUZZ_ROUNDS", 20_000);
    for (name, target) in TARGETS {
        if only.as_ref().is_none_or(|only| only == name) {
            storm(name, *target, usize::try_from(rounds).unwrap(), number("KDELTA_FUZZ_SEED", 2));
        }
    }
}

/// Writes the examples into the corpus; inputs of another name stay.
#[test]
#[ignore = "changes the work tree: for when a format or a target changed"]
fn the_examples_are_written_into_the_corpus() {
    for (name, _) in TARGETS {
        let dir = folder().join("corpus").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        for (seed, bytes) in seeds::of(name) {
            std::fs::write(dir.join(seed), bytes).unwrap();
        }
    }
}
