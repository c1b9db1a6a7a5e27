//! What a batch cannot reach is listed truly: the names are known, and the tests are there.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy.toml grants that to test functions, not to their helpers"
)]

use std::fs;
use std::path::Path;

use kdelta_engine::base::{mark, mutant};
use kdelta_sim::coverage::{Listed, marks, mutants};

/// All Rust code below a folder, as one text.
fn code(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            code(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

fn assert_true(list: &[Listed], known: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = String::new();
    for folder in ["src", "tests", "sim/tests"] {
        code(&root.join(folder), &mut text);
    }
    let mut last = "";
    for Listed { name, why, test } in list {
        assert!(known.contains(name), "there is no {name}");
        assert!(last < *name, "{name} is not in its place: the list is sorted");
        assert!(!why.is_empty(), "{name} has no reason");
        assert!(text.contains(&format!("fn {test}(")), "{name}: there is no test {test}");
        last = name;
    }
}

#[test]
fn each_mark_that_is_out_of_reach_is_known_and_tested_elsewhere() {
    let known: Vec<&str> = mark::ALL.iter().map(|mark| mark.name).collect();
    assert_true(marks::OUT_OF_REACH, &known);
}

#[test]
fn each_planted_bug_that_is_not_found_is_known_and_tested_elsewhere() {
    let known: Vec<&str> = mutant::ALL.iter().map(|mutant| mutant.name).collect();
    assert_true(mutants::NOT_FOUND, &known);
}
