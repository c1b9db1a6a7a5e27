//! Short of what the system gives: open files, the size of a file, the last pages of a disk. What
//! is refused says so, reads go on, and once there is more all goes on.
//!
//! Disks that fill up, or become read-only, under a store are the matter of `tests/disk_full.rs`.

use std::process::Output;

use crate::common::Home;
use crate::errors::done;
use crate::ledger::Ledger;
use crate::mounts::Tmpfs;

/// Runs a command under a limit, as the shell's `ulimit` sets it.
fn limited(home: &Home, limit: &str, words: &[&str]) -> Output {
    let plain = home.command("s");
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")])
        .arg(plain.get_program())
        .args(words)
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(home.path(""));
    command.output().expect("a shell")
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk() {
    let home = Home::new();
    let mut ledger = Ledger::default();
    ledger.put(&home, "s", "kept", "0");
    let mut refused = 0;
    // In blocks of 512 bytes.
    for blocks in [0, 1, 2, 8, 32, 64, 128, 4096] {
        let limit = format!("-f {blocks}");
        for len in [10, 30_000] {
            let what = format!("a value of {len} bytes under {limit}");
            let value = format!("{blocks}:{}", "x".repeat(len));
            let output = limited(&home, &limit, &["put", "k", &value, "--string", "--json"]);
            let stored = done(&output, false, &what);
            refused += usize::from(!stored);
            ledger.note(&["k"], &value, stored);
            let read = limited(&home, &limit, &["get", "kept"]);
            assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "0", "{what}");
        }
        ledger.check(&home, "s", &limit);
        ledger.put(&home, "s", "next", &limit);
    }
    assert!((2..14).contains(&refused), "{refused} writes were refused");
    ledger.check(&home, "s", "at the end");
}

#[test]
fn a_limit_on_open_files_is_met_with_words() {
    let home = Home::new();
    let mut ledger = Ledger::default();
    ledger.put(&home, "s", "kept", "0");
    let mut refused = 0;
    // Below that the system itself does not start a program.
    for files in 8..=32 {
        let limit = format!("-n {files}");
        let output = limited(&home, &limit, &["put", "k", &limit, "--string", "--json"]);
        let stored = done(&output, false, &limit);
        refused += usize::from(!stored);
        ledger.note(&["k"], &limit, stored);
        ledger.check(&home, "s", &limit);
    }
    assert!((1..24).contains(&refused), "{refused} writes were refused");
    ledger.put(&home, "s", "next", "1");
    ledger.check(&home, "s", "at the end");
}

#[test]
fn a_store_is_begun_or_refused_on_the_last_pages_of_a_disk() {
    let home = Home::new();
    let Some(mount) = Tmpfs::mount(home.path("disk"), "256k") else { return };
    let mut refused = 0;
    for pages in 0..=24_usize {
        let what = format!("{pages} pages are left");
        let store = format!("disk/{pages}");
        let ballast = mount.path().join("ballast");
        let _ = std::fs::write(&ballast, vec![1; 512 << 10]);
        let full = std::fs::metadata(&ballast).expect("it is there").len();
        let file = std::fs::OpenOptions::new().write(true).open(&ballast).expect("it is there");
        file.set_len(full.saturating_sub((pages as u64) << 12)).expect("room");
        // Held open it would keep its space when it is removed.
        drop(file);
        let mut ledger = Ledger::default();
        let output = home.run(&store, &["put", "k", "1", "--string", "--json"]);
        let stored = done(&output, false, &what);
        refused += usize::from(!stored);
        ledger.note(&["k"], "1", stored);
        std::fs::remove_file(&ballast).expect("it is there");
        ledger.check(&home, &store, &what);
        ledger.put(&home, &store, "next", "2");
        ledger.check(&home, &store, &what);
        std::fs::remove_dir_all(mount.path().join(pages.to_string())).expect("it is there");
    }
    assert!((1..25).contains(&refused), "{refused} stores were refused");
}
