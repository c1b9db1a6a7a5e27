use std::net::{Ipv4Addr, UdpSocket};

use super::*;

/// An endpoint on loopback with its events.
pub(super) struct Side {
    pub(super) endpoint: Endpoint,
    pub(super) events: Receiver<NetEvent>,
}

impl Side {
    pub(super) fn new(seed: u8) -> Self {
        Self::with(seed, NetLimits::default())
    }

    pub(super) fn with(seed: u8, limits: NetLimits) -> Self {
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let (endpoint, events) = Endpoint::bind(listen, &[seed; 32], limits).unwrap();
        Self { endpoint, events }
    }

    fn addr(&self) -> String {
        self.endpoint.local_addr().unwrap().to_string()
    }

    pub(super) fn dial(&self, other: &Self) {
        assert!(self.endpoint.dial(other.endpoint.replica(), vec![other.addr()]));
    }

    pub(super) async fn next(&mut self) -> NetEvent {
        timeout(Duration::from_secs(20), self.events.recv()).await.expect("an event").unwrap()
    }

    pub(super) async fn connected(&mut self) -> LinkId {
        match self.next().await {
            NetEvent::Connected { link, .. } => link,
            other => panic!("{other:?}"),
        }
    }

    /// Takes events until `count` bytes of one link have come.
    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next().await {
                NetEvent::Received { bytes, .. } => all.extend(bytes),
                NetEvent::Drained { .. } => {}
                other => panic!("{other:?} after {} bytes", all.len()),
            }
        }
        all
    }

    /// Takes events until a link ends; what was received before is returned too.
    async fn closed(&mut self) -> (CloseReason, Vec<u8>) {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                NetEvent::Received { bytes, .. } => all.extend(bytes),
                NetEvent::Closed { reason, .. } => return (reason, all),
                NetEvent::Drained { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Links two sides, the second admitting the first.
pub(super) async fn linked(a: &mut Side, b: &mut Side) -> (LinkId, LinkId) {
    a.dial(b);
    let at_a = a.connected().await;
    a.endpoint.send(at_a, b"hello".to_vec()).unwrap();
    let at_b = b.connected().await;
    b.endpoint.admit(at_b);
    assert_eq!(b.bytes(5).await, b"hello");
    (at_a, at_b)
}

const SOON: Duration = Duration::from_millis(200);

pub(super) fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[tokio::test]
async fn two_replicas_exchange_bytes_both_ways_under_proven_keys() {
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    a.dial(&b);
    let NetEvent::Connected { link: at_a, peer, outgoing: true, addr } = a.next().await else {
        panic!("no link");
    };
    assert_eq!(peer, b.endpoint.replica());
    assert_eq!(addr, b.endpoint.local_addr().unwrap());
    a.endpoint.send(at_a, b"first".to_vec()).unwrap();
    let NetEvent::Connected { link: at_b, peer, outgoing: false, .. } = b.next().await else {
        panic!("no link");
    };
    assert_eq!(peer, a.endpoint.replica());
    assert_eq!(b.bytes(5).await, b"first");
    b.endpoint.admit(at_b);

    let (there, back) = (noise(3 << 20), noise(2 << 20));
    a.endpoint.send(at_a, there.clone()).unwrap();
    b.endpoint.send(at_b, back.clone()).unwrap();
    let (at_there, at_back) = tokio::join!(b.bytes(there.len()), a.bytes(back.len()));
    assert!(at_there == there && at_back == back);
    assert!(a.endpoint.rtt(at_a).unwrap() < Duration::from_secs(5));
    assert_eq!(a.endpoint.queued_bytes(at_a), 0);
}

#[tokio::test]
async fn who_holds_another_key_is_not_the_peer() {
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    let other =
        ReplicaId(ed25519_dalek::SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes());
    assert!(a.endpoint.dial(other, vec![b.addr()]));
    match a.next().await {
        NetEvent::DialFailed { peer, reason, last: true, .. } => {
            assert_eq!((peer, reason), (other, DialError::WrongPeer));
        }
        unexpected => panic!("{unexpected:?}"),
    }
    // The next one to come is a link with the right pin: nothing was reported of the other.
    linked(&mut a, &mut b).await;
}

#[tokio::test]
async fn every_address_is_tried_and_reported() {
    // Time enough for each to fail before the next one is tried beside it.
    let limits = NetLimits { dial: Duration::from_secs(200), ..NetLimits::default() };
    let (mut a, b, other) = (Side::with(1, limits), Side::new(2), Side::new(3));
    let addrs = vec!["no port".into(), other.addr(), b.addr()];
    assert!(a.endpoint.dial(b.endpoint.replica(), addrs));
    assert!(!a.endpoint.dial(b.endpoint.replica(), vec![b.addr()]), "one at a time");
    for expected in ["no port", &other.addr()] {
        match a.next().await {
            NetEvent::DialFailed { addr, last: false, .. } => assert_eq!(addr, expected),
            other => panic!("{other:?}"),
        }
    }
    a.connected().await;
    assert!(!a.endpoint.dial(b.endpoint.replica(), vec![]));
}

#[tokio::test]
async fn dead_addresses_do_not_stand_in_the_way_of_a_good_one() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dead = silent.local_addr().unwrap().to_string();
    // Longer than anybody waits: were they tried one after the other, nothing would be heard.
    let limits = NetLimits { dial: Duration::from_secs(30), ..NetLimits::default() };
    let (mut a, mut b) = (Side::with(1, limits), Side::new(2));
    assert!(a.endpoint.dial(b.endpoint.replica(), vec![dead.clone(), dead, b.addr()]));
    a.connected().await;
    // The others are given up: this side is free to dial anew, and hears of no failure.
    a.endpoint.close_all().await;
    match a.next().await {
        NetEvent::Closed { .. } => {}
        other => panic!("{other:?}"),
    }
    drop(b.events.try_recv());
}

#[tokio::test]
async fn a_dial_of_a_dead_port_ends() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let limits = NetLimits { dial: Duration::from_millis(300), ..NetLimits::default() };
    let mut a = Side::with(1, limits);
    let addr = silent.local_addr().unwrap().to_string();
    assert!(a.endpoint.dial(ReplicaId([7; 32]), vec![addr.clone(), addr]));
    for expected in [false, true] {
        match a.next().await {
            NetEvent::DialFailed { reason: DialError::NoAnswer, last, .. } => {
                assert_eq!(last, expected);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_slow_reader_stops_its_peer_and_loses_nothing() {
    let limits = NetLimits {
        credit_bytes: 128 << 10,
        window_bytes: 128 << 10,
        unacked_bytes: 128 << 10,
        queue_bytes: 256 << 10,
        ..NetLimits::default()
    };
    let (mut a, mut b) = (Side::with(1, limits.clone()), Side::with(2, limits.clone()));
    let (at_a, _) = linked(&mut a, &mut b).await;
    let sent = noise(4 << 20);
    let mut left = sent.chunks(50_000).map(<[u8]>::to_vec);
    // Nobody reads: the sender is stopped before half of it has left the sender's hands.
    let (mut taken, mut refused) = (0, None);
    while refused.is_none() {
        let piece = left.next().expect("the sender was never stopped");
        let len = piece.len();
        match a.endpoint.send(at_a, piece) {
            Ok(()) => taken += len,
            Err(SendError::Full(back)) => match timeout(SOON, a.events.recv()).await {
                Ok(Some(NetEvent::Drained { .. })) => a.endpoint.send(at_a, back).unwrap(),
                Ok(other) => panic!("{other:?}"),
                Err(_) => refused = Some(back),
            },
            Err(SendError::Closed) => panic!("closed"),
        }
        assert!(a.endpoint.queued_bytes(at_a) <= limits.queue_bytes);
    }
    assert!(taken < sent.len() / 2, "{taken} bytes are on their way to nobody");
    // From here on nobody is slow.
    let pump = async {
        while let Some(piece) = refused.take().or_else(|| left.next()) {
            if let Err(SendError::Full(back)) = a.endpoint.send(at_a, piece) {
                refused = Some(back);
                match a.next().await {
                    NetEvent::Drained { link } => assert_eq!(link, at_a),
                    other => panic!("{other:?}"),
                }
            }
        }
    };
    let ((), received) = tokio::join!(pump, b.bytes(sent.len()));
    assert!(received == sent);
}

#[tokio::test]
async fn unreturned_credit_bounds_what_is_delivered() {
    let limits = NetLimits { credit_bytes: 256 << 10, ..NetLimits::default() };
    let (mut a, mut b) = (Side::new(1), Side::with(2, limits.clone()));
    let (at_a, _) = linked(&mut a, &mut b).await;
    a.endpoint.send(at_a, noise(4 << 20)).unwrap();
    let mut held = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_millis(300), b.events.recv()).await {
        held.push(event);
    }
    let bytes = |event: &NetEvent| match event {
        NetEvent::Received { bytes, .. } => bytes.len(),
        other => panic!("{other:?}"),
    };
    let delivered: usize = held.iter().map(bytes).sum();
    assert!(delivered > 0 && delivered <= limits.credit_bytes, "{delivered}");
    drop(held);
    assert_eq!(b.bytes((4 << 20) - delivered).await.len(), (4 << 20) - delivered);
}

#[tokio::test]
async fn closing_sends_what_is_queued_and_says_why() {
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    let (at_a, at_b) = linked(&mut a, &mut b).await;
    let sent = noise(1 << 20);
    a.endpoint.send(at_a, sent.clone()).unwrap();
    a.endpoint.close(at_a, 7, "go\naway");
    assert_eq!(a.endpoint.send(at_a, vec![1]), Err(SendError::Closed));
    let (reason, received) = b.closed().await;
    assert_eq!(reason, CloseReason::Peer { code: 7, text: "go\u{fffd}away".into() });
    assert!(received == sent);
    assert_eq!(a.closed().await.0, CloseReason::Here);
    assert_eq!(b.endpoint.send(at_b, vec![1]), Err(SendError::Closed));
    assert_eq!((a.endpoint.stats().links, b.endpoint.stats().links), (0, 0));
}

#[tokio::test]
async fn a_flush_that_takes_too_long_is_cut() {
    let limits = NetLimits { flush: Duration::from_millis(100), ..NetLimits::default() };
    let (mut a, mut b) = (Side::with(1, limits), Side::new(2));
    let (at_a, _) = linked(&mut a, &mut b).await;
    a.endpoint.send(at_a, vec![0; 16 << 20]).unwrap();
    let mut held = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_millis(200), b.events.recv()).await {
        held.push(event);
    }
    a.endpoint.close(at_a, 0, "");
    assert_eq!(a.closed().await.0, CloseReason::Here);
}

#[tokio::test]
async fn closing_all_tells_every_peer_and_frees_the_port() {
    let mut hub = Side::new(1);
    let mut peers = [Side::new(2), Side::new(3)];
    for peer in &mut peers {
        let (_, _) = linked(peer, &mut hub).await;
    }
    let addr = hub.endpoint.local_addr().unwrap();
    hub.endpoint.close_all().await;
    for peer in &mut peers {
        let (reason, _) = peer.closed().await;
        assert_eq!(reason, CloseReason::Peer { code: 0, text: "shutting down".into() });
    }
    assert!(!hub.endpoint.dial(peers[0].endpoint.replica(), vec![peers[0].addr()]));
    assert_eq!(hub.endpoint.stats().links, 0);
    drop(hub);
    let bound = async {
        while Endpoint::bind(addr, &[1; 32], NetLimits::default()).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), bound).await.expect("the port is free");
}

#[tokio::test]
async fn a_stranger_gets_few_bytes_and_little_time() {
    let limits = NetLimits { stranger: Duration::from_millis(300), ..NetLimits::default() };
    let (mut a, mut b) = (Side::new(1), Side::with(2, limits.clone()));
    a.dial(&b);
    let at_a = a.connected().await;
    a.endpoint.send(at_a, noise(1 << 20)).unwrap();
    b.connected().await;
    let (reason, received) = b.closed().await;
    assert_eq!(reason, CloseReason::NotAdmitted);
    assert_eq!(received, noise(limits.stranger_bytes));
    let (reason, _) = a.closed().await;
    assert_eq!(reason, CloseReason::Peer { code: 1, text: "not admitted in time".into() });
    assert_eq!(b.endpoint.stats().gave_up, 1);
    assert_eq!(b.endpoint.stats().strangers, 0);
}

#[tokio::test]
async fn a_stranger_that_is_admitted_goes_on_where_it_was() {
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    a.dial(&b);
    let at_a = a.connected().await;
    let sent = noise(1 << 20);
    a.endpoint.send(at_a, sent.clone()).unwrap();
    let at_b = b.connected().await;
    let mut received = b.bytes(4096).await;
    assert_eq!(received.len(), 4096);
    assert_eq!(b.endpoint.stats().strangers, 1);
    b.endpoint.admit(at_b);
    b.endpoint.admit(at_b);
    assert_eq!(b.endpoint.stats().strangers, 0);
    received.extend(b.bytes(sent.len() - 4096).await);
    assert!(received == sent);
}

#[tokio::test]
async fn a_peer_that_opens_no_stream_is_never_reported() {
    let limits = NetLimits { stranger: Duration::from_millis(200), ..NetLimits::default() };
    let mut b = Side::with(2, limits.clone());
    let tls = Tls::new(&[1; 32]).unwrap();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let (raw, client) = socket::open(listen, &tls, &limits).unwrap();
    let name = crate::host::tls::server_name(&b.endpoint.replica());
    let target = b.endpoint.local_addr().unwrap();
    let silent = raw.connect_with(client, target, &name).unwrap().await.unwrap();
    // A datagram and a stream of one direction are refused by the limits of the transport.
    assert!(silent.send_datagram(b"x".to_vec().into()).is_err());
    assert!(timeout(Duration::from_millis(100), silent.open_uni()).await.is_err());
    silent.closed().await;
    assert!(b.events.try_recv().is_err());
    assert_eq!(b.endpoint.stats().gave_up, 1);
}

#[tokio::test]
async fn a_second_stream_is_refused() {
    let mut b = Side::new(2);
    let (tls, limits) = (Tls::new(&[1; 32]).unwrap(), NetLimits::default());
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let (raw, client) = socket::open(listen, &tls, &limits).unwrap();
    let name = crate::host::tls::server_name(&b.endpoint.replica());
    let target = b.endpoint.local_addr().unwrap();
    let greedy = raw.connect_with(client, target, &name).unwrap().await.unwrap();
    let (mut send, _recv) = greedy.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let link = b.connected().await;
    b.endpoint.admit(link);
    assert!(timeout(Duration::from_millis(200), greedy.open_bi()).await.is_err());
    // Its stream over, the link is over.
    send.finish().unwrap();
    assert_eq!(b.closed().await, (CloseReason::Finished, b"x".to_vec()));
}

#[tokio::test]
async fn both_kinds_of_addresses_are_reached_from_the_unspecified_one() {
    let listen: SocketAddr = "[::]:0".parse().unwrap();
    let (endpoint, events) = Endpoint::bind(listen, &[1; 32], NetLimits::default()).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    assert_ne!(port, 0);
    let mut hub = Side { endpoint, events };
    let mut four = Side::new(2);
    assert!(four.endpoint.dial(hub.endpoint.replica(), vec![format!("127.0.0.1:{port}")]));
    let link = four.connected().await;
    four.endpoint.send(link, b"4".to_vec()).unwrap();
    match hub.next().await {
        NetEvent::Connected { addr, .. } => assert!(addr.is_ipv4(), "{addr} is not canonical"),
        other => panic!("{other:?}"),
    }
    let mut other = Side::new(3);
    hub.endpoint.dial(other.endpoint.replica(), vec![other.addr()]);
    loop {
        match hub.next().await {
            NetEvent::Connected { outgoing: true, link, .. } => {
                hub.endpoint.send(link, b"x".to_vec()).unwrap();
                break;
            }
            NetEvent::Received { .. } => {}
            unexpected => panic!("{unexpected:?}"),
        }
    }
    other.connected().await;
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let bound = Endpoint::bind(listen, &[1; 32], NetLimits::default());
    assert!(matches!(bound, Err(BindError::Config(_))));
}

#[tokio::test]
async fn when_nobody_takes_events_all_links_end() {
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    linked(&mut a, &mut b).await;
    drop(b.events);
    assert!(matches!(a.closed().await.0, CloseReason::Peer { .. }));
}

#[tokio::test]
async fn dropping_the_last_handle_cuts_all_links() {
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    linked(&mut a, &mut b).await;
    let clone = b.endpoint.clone();
    drop(b.endpoint);
    assert_eq!(clone.stats().links, 1, "not the last one");
    drop(clone);
    assert!(matches!(a.closed().await.0, CloseReason::Peer { .. }));
}
