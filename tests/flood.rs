//! Crowds of strangers and rains of datagrams against a real node: they cost it little memory, and
//! an admitted peer works on.

#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests: what goes wrong fails the test"
)]
#![expect(clippy::print_stdout, reason = "the long run tells what it measured")]

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Dice, Home, Node};
use kdelta::engine::base::ReplicaId;
use kdelta::host::quic::{Endpoint, NetEvent, NetLimits};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many strangers come at once.
const WIDTH: usize = 64;
/// What each sends, in bytes.
const NOISE: usize = 64 << 10;
/// How much the node may grow, in KiB.
const GROWTH_KIB: i64 = 16 << 10;

#[test]
fn a_node_bears_a_crowd_and_a_rain() {
    flood(300, 8 << 20);
}

/// Run it alone: `cargo test --release --test flood -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn a_node_bears_ten_thousand_strangers_and_640_mib_of_rain() {
    flood(10_000, 640 << 20);
}

fn flood(strangers: u64, rain_bytes: usize) {
    let home = Home::new();
    home.ok("a", &["put", "origin", "a"]);
    let node = home.serve("a", &[]);
    let ticket = home.ok("a", &["ticket"]);
    home.json("b", &["sync", &ticket]);
    for _ in 0..4 {
        visit(&home);
    }
    let target: SocketAddr = node.ready["listen"][0].as_str().unwrap().parse().unwrap();
    let replica: ReplicaId = node.replica().parse().unwrap();
    let pid = node.child.id();
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak can be set back");
    let before = peak_kib(&node);
    among_visits(&home, "crowd", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(crowd(target, replica, strangers)), strangers);
    });
    among_visits(&home, "rain", || rain(target, rain_bytes));
    let grown = peak_kib(&node) - before;
    println!("peak memory: +{grown} KiB over {before} KiB");
    assert!(grown <= GROWTH_KIB, "the node grew by {grown} KiB");
    let log = std::fs::read_to_string(home.path("a.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(home.ok("a", &["get", "origin"]), "a");
    node.stop();
    assert_eq!(home.json("a", &["verify"])["ok"], true);
}

/// A peer that is admitted writes and syncs.
fn visit(home: &Home) {
    home.ok("b", &["counter", "add", "visits", "1"]);
    assert_eq!(home.json("b", &["sync"])["in_sync"], true);
}

/// Visits all the while until `work` is done, and once at least.
fn among_visits(home: &Home, what: &str, work: impl FnOnce() + Send) {
    let done = AtomicBool::new(false);
    let (mut visits, mut slowest) = (0, Duration::ZERO);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            work();
            done.store(true, Ordering::Relaxed);
        });
        while visits == 0 || !(done.load(Ordering::Relaxed) || worker.is_finished()) {
            let begun = Instant::now();
            visit(home);
            slowest = slowest.max(begun.elapsed());
            visits += 1;
        }
        worker.join().expect("the flood does not fail");
    });
    println!("{what}: {visits} visits among it, the slowest took {slowest:?}");
    assert!(slowest < common::PATIENCE, "{what}: a visit took {slowest:?}");
}

/// Lets strangers connect, each with a key of its own and noise for its stream; returns how many
/// handshakes were completed.
async fn crowd(target: SocketAddr, replica: ReplicaId, count: u64) -> u64 {
    let places = Arc::new(Semaphore::new(WIDTH));
    let mut tasks = JoinSet::new();
    let mut done = 0;
    for number in 0..count {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        tasks.spawn(async move {
            let shaken = intrude(target, replica, number).await;
            drop(place);
            shaken
        });
        while let Some(shaken) = tasks.try_join_next() {
            done += u64::from(shaken.unwrap());
        }
    }
    while let Some(shaken) = tasks.join_next().await {
        done += u64::from(shaken.unwrap());
    }
    done
}

async fn intrude(target: SocketAddr, replica: ReplicaId, number: u64) -> bool {
    let mut seed = [0xcc; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let (endpoint, mut events) = Endpoint::bind(listen, &seed, NetLimits::default()).unwrap();
    let mut shaken = false;
    // A node that has no place turns one away: come again.
    for _ in 0..100 {
        assert!(endpoint.dial(replica, vec![target.to_string()]));
        let event = timeout(Duration::from_secs(20), events.recv()).await;
        match event.expect("it comes to an end").expect("the endpoint lives") {
            NetEvent::Connected { link, .. } => {
                shaken = true;
                let mut dice = Dice(number + 1);
                let noise: Vec<u8> = (0..NOISE).map(|_| dice.below(256).to_le_bytes()[0]).collect();
                // It is cut off in the middle, as it should be.
                let _ = endpoint.send(link, noise);
                let closed = async {
                    while let Some(event) = events.recv().await {
                        if matches!(event, NetEvent::Closed { .. }) {
                            return;
                        }
                    }
                };
                timeout(Duration::from_secs(20), closed).await.expect("a stranger is shown out");
                break;
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    endpoint.close_all().await;
    shaken
}

/// Sends random datagrams of all sizes, `bytes` in all.
fn rain(target: SocketAddr, bytes: usize) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut dice = Dice(7);
    let pool: Vec<u8> = (0..64 << 10).map(|_| dice.below(256).to_le_bytes()[0]).collect();
    let mut sent = 0;
    while sent < bytes {
        let len = 1 + usize::try_from(dice.below(1472)).unwrap();
        let at = usize::try_from(dice.below((pool.len() - len) as u64)).unwrap();
        // A full socket is somebody else's loss.
        let _ = socket.send_to(&pool[at..at + len], target);
        sent += len;
    }
}

/// The peak of the node's resident memory since it was set back, in KiB.
fn peak_kib(node: &Node) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
