//! Single bits that flip in the files of a real store: each is found, none makes a wrong answer,
//! and a healthy peer makes the store whole again.
//!
//! `KDELTA_TEST_FLIPS` sets how many bits are flipped, one at a time, `KDELTA_TEST_SEED` which.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{Dice, Home, Node, copy_dir, count, feed};
use serde_json::Value;

/// How many bits are flipped in truth files, and how many in derived ones.
const FLIPS: u64 = 12;
/// The keys that are read one by one.
const KEYS: [&str; 4] = ["key/0003", "key/0777", "note", "never"];

/// What a store answers: each question with the status and what was printed.
type Answers = Vec<(Vec<String>, i32, Vec<u8>)>;

fn answers(home: &Home, name: &str) -> Answers {
    let list = ["list", "--values", "--limit", "0", "--json"].map(str::to_owned).to_vec();
    let mut questions = vec![list, ["history", "--json"].map(str::to_owned).to_vec()];
    for key in KEYS {
        questions.push(["get", key, "--json"].map(str::to_owned).to_vec());
        questions.push(["history", key, "--json"].map(str::to_owned).to_vec());
    }
    questions
        .into_iter()
        .map(|words| {
            let output = home.run(name, &words.iter().map(String::as_str).collect::<Vec<_>>());
            (words, output.status.code().unwrap_or(-1), output.stdout)
        })
        .collect()
}

/// Checks that every answer is that of the undamaged twin, or says 7; returns how many say 7.
fn compare(found: &Answers, twin: &Answers, what: &str) -> usize {
    let mut refused = 0;
    for ((words, status, printed), (_, expected, right)) in found.iter().zip(twin) {
        if *status == 7 {
            refused += 1;
            // A long list may have begun: what it said before it met the damage is right.
            assert!(right.starts_with(printed), "{what}: {words:?} began wrong");
        } else {
            assert_eq!((status, printed), (expected, right), "{what}: {words:?}");
        }
    }
    refused
}

/// A store `a` of several sealed segments and a growing one, closed in order, and a node on `b`
/// that holds the same.
fn sample(home: &Home) -> Node {
    for round in 0..3 {
        let lines: String = (0..900)
            .map(|at| {
                let value = format!("{round}.{at:0>240}");
                format!("{{\"op\":\"put\",\"key\":\"key/{at:04}\",\"value\":\"{value}\"}}\n")
            })
            .collect();
        let mut command = home.command("a");
        command.args(["import", "-"]);
        assert!(feed(command, lines.as_bytes()).status.success());
    }
    for at in 0..20 {
        home.ok("a", &["put", "note", &at.to_string()]);
        home.ok("a", &["counter", "add", "count", "2"]);
    }
    let node = home.serve("a", &[]);
    let ticket = home.ok("a", &["ticket"]);
    home.json("b", &["sync", &ticket]);
    node.stop();
    let b = home.serve("b", &[]);
    // An end in order, whatever ran before.
    home.ok("a", &["get", "note"]);
    b
}

/// Flips one bit of a file and returns which.
fn flip(file: &Path, bit: u64) -> String {
    let mut bytes = std::fs::read(file).unwrap();
    let at = usize::try_from(bit / 8).unwrap() % bytes.len();
    bytes[at] ^= 1 << (bit % 8);
    std::fs::write(file, bytes).unwrap();
    format!("bit {} of byte {at} of {}", bit % 8, file.display())
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

#[test]
fn a_flipped_bit_in_the_log_is_found_makes_no_wrong_answer_and_is_repaired() {
    let home = Home::new();
    let peer = sample(&home);
    let (twin, hashes) = (answers(&home, "a"), home.hashes("a"));
    let mut dice = Dice(count("KDELTA_TEST_SEED", 0x9e37_79b9_7f4a_7c15));
    let mut refused = 0;
    let flips = count("KDELTA_TEST_FLIPS", FLIPS);
    for round in 0..flips {
        let store = home.path("damaged");
        let _ = std::fs::remove_dir_all(&store);
        copy_dir(&home.path("a"), &store);
        let segments = files(&store.join("log"), ".seg");
        assert!(segments.len() > 3, "{segments:?}");
        let total: u64 = segments.iter().map(|file| file.metadata().unwrap().len()).sum();
        // Every other one in the small growing segment, which no index covers.
        let last = segments.len() - 1;
        let mut bit = dice.below(total * 8);
        let mut file = &segments[last];
        if round % 2 == 0 {
            for segment in &segments {
                let bits = segment.metadata().unwrap().len() * 8;
                file = segment;
                if bit < bits {
                    break;
                }
                bit -= bits;
            }
        }
        let what = format!("round {round}: {}", flip(file, bit));
        let output = home.run("damaged", &["verify", "--json"]);
        assert_eq!(output.status.code(), Some(7), "{what}: verify");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(!report["problems"].as_array().unwrap().is_empty(), "{what}: {report}");
        refused += compare(&answers(&home, "damaged"), &twin, &what);
        let repaired = home.run("damaged", &["repair", "--from", &peer.address(), "--json"]);
        let said = String::from_utf8_lossy(&repaired.stderr).into_owned();
        let printed = String::from_utf8_lossy(&repaired.stdout).into_owned();
        assert_eq!(repaired.status.code(), Some(0), "{what}: repair: {said}{printed}");
        assert_eq!(home.hashes("damaged"), hashes, "{what}: repaired");
        assert_eq!(compare(&answers(&home, "damaged"), &twin, &what), 0, "{what}: repaired");
        assert_eq!(home.json("damaged", &["verify", "--deep"])["ok"], true, "{what}: repaired");
    }
    let all = twin.len() * usize::try_from(flips).unwrap();
    assert!(refused * 2 < all + twin.len(), "{refused} of {all} reads were refused");
    peer.stop();
}

#[test]
fn a_flipped_bit_in_a_derived_file_changes_no_answer() {
    let home = Home::new();
    sample(&home).stop();
    let twin = answers(&home, "a");
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..count("KDELTA_TEST_FLIPS", FLIPS) {
        let store = home.path("damaged");
        let _ = std::fs::remove_dir_all(&store);
        copy_dir(&home.path("a"), &store);
        let derived = files(&store.join("index"), "");
        let file = &derived[usize::try_from(dice.below(derived.len() as u64)).unwrap()];
        let what = format!("round {round}: {}", flip(file, dice.below(1 << 40)));
        let output = home.run("damaged", &["verify", "--json"]);
        assert_eq!(output.status.code(), Some(7), "{what}: verify");
        assert!(String::from_utf8_lossy(&output.stdout).contains("\"derived\""), "{what}");
        assert_eq!(compare(&answers(&home, "damaged"), &twin, &what), 0, "{what}");
        let repaired = home.run("damaged", &["repair", "--json"]);
        let printed = String::from_utf8_lossy(&repaired.stdout).into_owned();
        assert_eq!(repaired.status.code(), Some(0), "{what}: repair: {printed}");
        assert_eq!(home.json("damaged", &["verify"])["ok"], true, "{what}");
    }
}
