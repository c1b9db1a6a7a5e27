//! The tables of mutants and marks name what stands in the sources, each at one place.

#![expect(clippy::unwrap_used, reason = "clippy.toml grants that to test functions alone")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kdelta_engine::base::{mark, mutant};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// How often each name stands in the code as the first argument of a macro, comments aside.
fn planted(open: &str) -> BTreeMap<String, usize> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    for path in sources(&root) {
        let text = fs::read_to_string(path).unwrap();
        let code: Vec<&str> =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        for (at, _) in code.match_indices(open) {
            let rest = code.get(at + open.len()..).unwrap().trim_start();
            // The patterns of the macro itself begin with `$`.
            let Some(rest) = rest.strip_prefix('"') else { continue };
            let (name, _) = rest.split_once('"').unwrap();
            *found.entry(name.to_owned()).or_default() += 1;
        }
    }
    found
}

fn assert_agree(planted: &BTreeMap<String, usize>, table: &[&str]) {
    let names: BTreeSet<&str> = table.iter().copied().collect();
    assert_eq!(names.len(), table.len(), "the table names one twice");
    let in_code: BTreeSet<&str> = planted.keys().map(String::as_str).collect();
    assert_eq!(in_code, names, "left: planted; right: in the table");
    let twice: Vec<_> = planted.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "planted at more than one place: {twice:?}");
}

#[test]
fn each_mutant_stands_at_one_place_and_in_the_table() {
    let names: Vec<&str> = mutant::ALL.iter().map(|mutant| mutant.name).collect();
    assert_agree(&planted("mutant!("), &names);
}

#[test]
fn each_mark_stands_at_one_place_and_in_the_table() {
    let names: Vec<&str> = mark::ALL.iter().map(|mark| mark.name).collect();
    assert_agree(&planted("sometimes!("), &names);
}

#[test]
fn every_mutant_says_what_it_does_and_what_should_catch_it() {
    for mutant in mutant::ALL {
        assert!(!mutant.what.is_empty() && !mutant.caught_by.is_empty(), "{}", mutant.name);
        let number = mutant.row.strip_prefix('M').map(str::parse::<u8>);
        let known = matches!(number, Some(Ok(1..=28))) || mutant.row == "extra";
        assert!(known, "{} has row {}", mutant.name, mutant.row);
    }
}
