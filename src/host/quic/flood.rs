//! Crowds of strangers and rains of datagrams: that they cost little, and admitted peers work on.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::tests::{Side, linked, noise};
use super::*;
use crate::engine::base::Rng;

/// Goal: strangers cost a bounded number of places, and an admitted peer works on among them.
///
/// Method: 500 keys, 64 at a time, each with noise on its stream; the node closes each at its
/// first bytes. Random datagrams come in between. The peer sends bytes all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_strangers_do_not_disturb_an_admitted_peer() {
    const STRANGERS: u64 = 500;
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    let (at_a, at_b) = linked(&mut a, &mut b).await;
    let target = b.endpoint.local_addr().unwrap();
    let replica = b.endpoint.replica();

    let node = tokio::spawn(async move {
        let (mut strangers, mut of_peer) = (0, 0);
        while of_peer < 2 << 20 || strangers < STRANGERS {
            match b.next().await {
                NetEvent::Received { link, bytes, .. } if link == at_b => of_peer += bytes.len(),
                NetEvent::Received { link, .. } => b.endpoint.close(link, 3, "noise"),
                NetEvent::Connected { .. } => strangers += 1,
                NetEvent::Closed { link, .. } => assert_ne!(link, at_b),
                NetEvent::Drained { .. } | NetEvent::DialFailed { .. } => {}
            }
            assert!(b.endpoint.stats().strangers <= 64);
        }
        b
    });
    let rain = tokio::task::spawn_blocking(move || rain(target, 4 << 20));
    let chat = async {
        for piece in noise(2 << 20).chunks(32 << 10) {
            a.endpoint.send(at_a, piece.to_vec()).unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (done, rained, ()) = tokio::join!(crowd(target, replica, STRANGERS, 64), rain, chat);
    rained.unwrap();
    assert_eq!(done, STRANGERS);
    let b = node.await.unwrap();
    assert_eq!(b.endpoint.queued_bytes(at_b), 0);
}

/// Goal: the resident memory of a replica grows by at most 16 MiB under 10,000 strangers and then
/// 640 MiB of random datagrams, and a known peer that dials in meanwhile is served within 5 s.
///
/// Method: the flood comes from another process (this test's binary again), the peer is in this
/// one; resident memory is the peak that the kernel tells, from after the first exchange. Run it
/// alone: `cargo test -p kdelta --lib -- --ignored --nocapture --test-threads 1 full_flood`.
#[cfg(target_os = "linux")]
#[ignore = "takes minutes and measures the whole process"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_flood_grows_memory_by_at_most_16_mib() {
    let (mut known, b) = (Side::new(1), Side::new(2));
    let served = tokio::spawn(serve(b.events, b.endpoint.clone(), known.endpoint.replica()));
    let target = (b.endpoint.replica(), b.endpoint.local_addr().unwrap());
    for _ in 0..8 {
        visit(&mut known, target).await;
    }
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be set back");
    let before = resident_kib();
    for kind in ["crowd", "rain"] {
        let mut flood = flood_process(kind, target);
        let (mut visits, mut slowest) = (0, Duration::ZERO);
        let status = loop {
            let begun = std::time::Instant::now();
            timeout(Duration::from_secs(5), visit(&mut known, target)).await.expect("in time");
            slowest = slowest.max(begun.elapsed());
            visits += 1;
            if let Some(status) = flood.try_wait().unwrap() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(status.success(), "{kind}: {status}");
        let grown = resident_kib() - before;
        println!(
            "{kind}: peak +{grown} KiB over {before} KiB; {visits} visits, slowest {slowest:?}"
        );
        println!("{:?}", b.endpoint.stats());
        assert!(grown <= 16 << 10, "{kind}: grown by {grown} KiB");
    }
    b.endpoint.close_all().await;
    drop(b.endpoint);
    println!("strangers reported to the node: {}", served.await.unwrap());
}

/// The other process of the full flood; without its variable there is nothing to do.
#[ignore = "a part of the full flood, which starts it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_process_main() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.split(' ').collect();
    let (replica, target) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    match words[0] {
        "crowd" => assert_eq!(crowd(target, replica, 10_000, 64).await, 10_000),
        _ => tokio::task::spawn_blocking(move || rain(target, 640 << 20)).await.unwrap(),
    }
}

fn flood_process(kind: &str, (replica, target): (ReplicaId, SocketAddr)) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "host::quic::flood::flood_process_main"])
        .env(TASK, format!("{kind} {replica} {target}"))
        .spawn()
        .unwrap()
}

/// A node that knows one peer, answers what it says, and closes everybody else at the first byte.
async fn serve(mut events: Receiver<NetEvent>, endpoint: Endpoint, known: ReplicaId) -> u64 {
    let mut welcome = BTreeSet::new();
    let mut strangers = 0;
    while let Some(event) = events.recv().await {
        match event {
            NetEvent::Connected { link, peer, .. } if peer == known => {
                endpoint.admit(link);
                welcome.insert(link);
            }
            NetEvent::Connected { .. } => strangers += 1,
            NetEvent::Received { link, bytes, .. } if welcome.contains(&link) => {
                endpoint.send(link, bytes).expect("the peer reads what it sent");
            }
            NetEvent::Received { link, .. } => endpoint.close(link, 3, "noise"),
            NetEvent::Closed { link, reason } => {
                let last = reason == CloseReason::Here && endpoint.stats().links == 0;
                if welcome.remove(&link) && last && endpoint.shared.door.is_shut() {
                    break;
                }
            }
            NetEvent::Drained { .. } | NetEvent::DialFailed { .. } => {}
        }
        if endpoint.shared.door.is_shut() && endpoint.stats().links == 0 {
            break;
        }
    }
    strangers
}

/// Dials, sends 256 KiB, takes them back and leaves.
async fn visit(side: &mut Side, (replica, addr): (ReplicaId, SocketAddr)) {
    assert!(side.endpoint.dial(replica, vec![addr.to_string()]));
    let link = side.connected().await;
    let sent = noise(256 << 10);
    side.endpoint.send(link, sent.clone()).unwrap();
    let mut back = Vec::new();
    while back.len() < sent.len() {
        match side.next().await {
            NetEvent::Received { bytes, .. } => back.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(back == sent);
    side.endpoint.close(link, 0, "done");
    assert!(matches!(side.next().await, NetEvent::Closed { .. }));
}

/// Lets `count` new keys connect, `width` at a time, each with 64 KiB of noise for its stream.
///
/// Returns how many handshakes were completed.
async fn crowd(target: SocketAddr, replica: ReplicaId, count: u64, width: usize) -> u64 {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let tls = Tls::new(&[0xee; 32]).unwrap();
    let (raw, _) = socket::open(listen, &tls, &NetLimits::default()).unwrap();
    let places = Arc::new(Semaphore::new(width));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let raw = raw.clone();
        tasks.spawn(async move {
            let shaken = intrude(&raw, target, &replica, number).await;
            drop(place);
            shaken
        });
    }
    let mut done = 0;
    while let Some(shaken) = tasks.join_next().await {
        done += u64::from(shaken.unwrap());
    }
    raw.close(0_u32.into(), b"");
    done
}

async fn intrude(
    raw: &quinn::Endpoint,
    target: SocketAddr,
    replica: &ReplicaId,
    number: u64,
) -> bool {
    let mut seed = [0xcc; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let client = quinn::ClientConfig::new(Tls::new(&seed).unwrap().client);
    let name = crate::host::tls::server_name(replica);
    let Ok(connection) = raw.connect_with(client, target, &name).unwrap().await else {
        return false;
    };
    if let Ok((mut send, _recv)) = connection.open_bi().await {
        // It is cut off in the middle, as it should be.
        let _ = send.write_all(&noise(64 << 10)).await;
        connection.closed().await;
    }
    true
}

/// Sends random datagrams of all sizes and kinds of first bytes, `bytes` in all.
fn rain(target: SocketAddr, bytes: usize) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut rng = Rng::new([5; 32]);
    let pool: Vec<u8> = (0..2048).flat_map(|_| rng.bytes::<32>()).collect();
    let mut sent = 0;
    while sent < bytes {
        let len = 1 + usize::try_from(rng.below(1472)).unwrap();
        let at = usize::try_from(rng.below((pool.len() - len) as u64)).unwrap();
        // A full socket is somebody else's loss.
        let _ = socket.send_to(&pool[at..at + len], target);
        sent += len;
    }
}

/// The peak of resident memory since it was set back, in KiB.
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Tells the other process what to do.
const TASK: &str = "KDELTA_FLOOD_TASK";
