//! What a store must hold after whatever happened to it: every acknowledged write, each other one
//! whole or not at all, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::common::Home;

/// Writes in the order in which they were tried.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    writes: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    keys: Vec<String>,
    value: String,
    acknowledged: bool,
}

impl Ledger {
    /// Notes one write of the same value to some keys. No two writes may have equal values.
    pub(crate) fn note(&mut self, keys: &[&str], value: &str, acknowledged: bool) {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.writes.push(Write { keys, value: value.to_owned(), acknowledged });
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.writes.iter().filter(|write| write.acknowledged).count()
    }

    /// Writes one more value, which must do, and notes it.
    pub(crate) fn put(&mut self, home: &Home, store: &str, key: &str, value: &str) {
        home.ok(store, &["put", key, value, "--string"]);
        self.note(&[key], value, true);
    }

    /// Checks a store that nobody uses: no truth is damaged before it is opened, it opens without
    /// a hand, it holds what it must, and it is whole then. `what` is said when it is not.
    pub(crate) fn check(&self, home: &Home, store: &str, what: &str) {
        let before = home.run(store, &["verify", "--json"]);
        // There may be no store yet; what is derived may be half written until it is opened.
        if before.status.code() == Some(7) {
            let report: Value = serde_json::from_slice(&before.stdout).expect("JSON");
            for problem in report["problems"].as_array().expect("problems") {
                assert_eq!(problem["kind"], "derived", "{what}: {report}");
            }
        }
        self.check_values(home, store, what);
        let after = home.run(store, &["verify", "--deep", "--json"]);
        let report = String::from_utf8_lossy(&after.stdout).into_owned();
        assert!(after.status.success() && report.contains("\"ok\":true"), "{what}: {report}");
    }

    fn check_values(&self, home: &Home, store: &str, what: &str) {
        let listed = home.run(store, &["list", "--values", "--limit", "0", "--json"]);
        let said = String::from_utf8_lossy(&listed.stderr).into_owned();
        let mut held = BTreeMap::new();
        if self.acknowledged() > 0 || listed.status.code() != Some(3) {
            assert!(listed.status.success(), "{what}: list: {}: {said}", listed.status);
            for line in String::from_utf8_lossy(&listed.stdout).lines() {
                let row: Value = serde_json::from_str(line).expect("JSON");
                let text = |name: &str| row[name].as_str().expect("text").to_owned();
                assert_eq!(row["conflicts"].as_array().map_or(0, Vec::len), 0, "{what}: {row}");
                held.insert(text("key"), text("value"));
            }
        }
        let mut allowed: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
        for write in &self.writes {
            for key in &write.keys {
                let values = allowed.entry(key).or_insert_with(|| vec![None]);
                if write.acknowledged {
                    values.clear();
                }
                values.push(Some(&write.value));
            }
        }
        for key in held.keys() {
            assert!(allowed.contains_key(key.as_str()), "{what}: {key} was never written");
        }
        for (key, values) in &allowed {
            let found = held.get(*key).map(String::as_str);
            let short = |value: &str| value.chars().take(20).collect::<String>();
            let wanted: Vec<_> = values.iter().map(|value| value.map(short)).collect();
            let shown = found.map(short);
            assert!(values.contains(&found), "{what}: {key} is {shown:?}, not one of {wanted:?}");
        }
        let mut later = BTreeSet::new();
        for write in self.writes.iter().rev() {
            if write.keys.iter().all(|key| !later.contains(key)) {
                let there = |key: &&String| held.get(*key) == Some(&write.value);
                let there = write.keys.iter().filter(there).count();
                assert!(there == 0 || there == write.keys.len(), "{what}: half a batch is there");
            }
            later.extend(&write.keys);
        }
    }
}
