//! Power cuts under real commands and nodes, on an ext4 file system of its own.
//!
//! The file system is told to forget what it has not written out, at a random moment. That tests
//! which syncs the store waits for; it reorders nothing inside the device and tears no sectors. A
//! sync that is under way at that very moment may still return success, though the file system
//! drops its bytes; where the power fails nobody is there to be told. So only what was acknowledged
//! before the cut was asked for counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Dice, Home, count};
use crate::ledger::Ledger;
use crate::mounts::Ext4;

const WRITERS: u64 = 2;

/// Cuts the power `rounds` times: under a node, under single commands, and so on in turn.
fn cut(rounds: u64) {
    let home = Home::new();
    let Some(mut disk) = Ext4::mount(home.path("image"), home.path("disk")) else { return };
    let mut dice = Dice(count("KDELTA_TEST_SEED", 0x9e37_79b9_7f4a_7c15));
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        let node = (round % 2 == 0).then(|| home.serve("disk/store", &[]));
        let off = AtomicBool::new(false);
        let pause = Duration::from_millis(5 + dice.below(if node.is_some() { 120 } else { 250 }));
        let written = std::thread::scope(|scope| {
            let (home, off) = (&home, &off);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || write(home, off, round, writer)))
                .collect();
            let switch = disk.switch();
            std::thread::sleep(pause);
            off.store(true, Ordering::SeqCst);
            switch.cut();
            writers.into_iter().flat_map(|w| w.join().expect("a writer")).collect::<Vec<_>>()
        });
        if let Some(node) = node {
            node.kill();
        }
        for (keys, value, done) in written {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            ledger.note(&keys, &value, done);
        }
        disk.restart();
        ledger.check(&home, "disk/store", &format!("round {round}, cut after {pause:?}"));
        ledger.put(&home, "disk/store", "next", &format!("after {round}"));
    }
    let acknowledged = ledger.acknowledged() as u64;
    assert!(acknowledged > 2 * rounds, "{acknowledged} writes in {rounds} rounds");
}

/// Keys, value, and whether the write was acknowledged.
type Tried = (Vec<String>, String, bool);

/// Writes single values and batches, some of them long, until the power is off.
fn write(home: &Home, off: &AtomicBool, round: u64, writer: u64) -> Vec<Tried> {
    let mut tried = Vec::new();
    for number in 0.. {
        let long = if number % 4 == 3 { 40_000 } else { 10 };
        let value = format!("{round}:{writer}:{number}:{}", "x".repeat(long));
        let key = format!("{writer}/{}", number % 3);
        let (keys, done) = if number % 2 == 0 {
            let words = ["put", &key, &value, "--string", "--wait", "1s"];
            let done = home.run("disk/store", &words).status.success();
            (vec![key], done)
        } else {
            let keys: Vec<String> = ["a", "b", "c"].map(|end| format!("{key}/{end}")).to_vec();
            let op = |key: &String| format!(r#"{{"op":"put","key":"{key}","value":"{value}"}}"#);
            let lines: Vec<String> = keys.iter().map(op).collect();
            let mut command = home.command("disk/store");
            command.args(["batch", "-", "--wait", "1s"]);
            let output = crate::common::feed(command, lines.join("\n").as_bytes());
            (keys, output.status.success())
        };
        let cut = off.load(Ordering::SeqCst);
        tried.push((keys, value, done && !cut));
        if cut {
            break;
        }
    }
    tried
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    cut(count("KDELTA_TEST_CUTS", 20));
}

#[test]
#[ignore = "takes minutes"]
fn what_was_acknowledged_survives_hundreds_of_power_cuts() {
    cut(count("KDELTA_TEST_CUTS", 300));
}
