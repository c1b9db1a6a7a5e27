//! One link: its queue of bytes to send, its reader with credit, and its end.
//!
//! A single task runs a link. It reads only while the node holds less unreturned [`Credit`] than
//! allowed; what is not read stays in QUIC's window, and so the peer waits.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::door::Inside;
use super::{
    CODE_ENDED, CODE_NOT_ADMITTED, CloseReason, LinkId, NetEvent, NetLimits, SendError, Shared,
    TEXT_MAX, tame,
};
use crate::engine::base::ReplicaId;
use crate::host::locked;

/// Stands for received bytes that are not taken care of yet; dropping it lets the peer send more.
#[derive(Debug)]
pub struct Credit {
    _permit: OwnedSemaphorePermit,
}

/// How a link came to be.
pub(super) enum Origin {
    Dialled,
    Accepted(Inside),
}

/// The part of a link that is shared between its task and the endpoint's handles.
pub(super) struct Link {
    connection: Connection,
    queue: Mutex<Queue>,
    /// The queue has got something.
    filled: Notify,
    phase: watch::Sender<Phase>,
    /// Given back on admission, or at the end.
    inside: Mutex<Option<Inside>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Stranger,
    Admitted,
    Closing,
    Ended,
}

impl Link {
    fn new(connection: Connection, origin: Origin) -> Self {
        let (inside, phase) = match origin {
            Origin::Dialled => (None, Phase::Admitted),
            Origin::Accepted(inside) => (Some(inside), Phase::Stranger),
        };
        Self {
            connection,
            queue: Mutex::default(),
            filled: Notify::new(),
            phase: watch::Sender::new(phase),
            inside: Mutex::new(inside),
        }
    }

    pub(super) fn enqueue(&self, bytes: Vec<u8>, limits: &NetLimits) -> Result<(), SendError> {
        // Under the lock, so that what is queued before a close is flushed and nothing after it.
        let mut queue = locked(&self.queue);
        if *self.phase.borrow() >= Phase::Closing {
            return Err(SendError::Closed);
        }
        queue.push(bytes, limits.queue_bytes)?;
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    pub(super) fn queued_bytes(&self) -> usize {
        locked(&self.queue).bytes
    }

    pub(super) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    pub(super) fn remote(&self) -> SocketAddr {
        let remote = self.connection.remote_address();
        // A dual-stack socket has IPv4 mapped into IPv6.
        SocketAddr::new(remote.ip().to_canonical(), remote.port())
    }

    pub(super) fn admit(&self, limits: &NetLimits) {
        let admitted = self.enter(Phase::Admitted);
        if admitted {
            self.connection.set_receive_window(VarInt::from_u32(limits.window_bytes));
            *locked(&self.inside) = None;
        }
    }

    pub(super) fn close(&self, code: u32, text: &str) {
        let mut queue = locked(&self.queue);
        if self.enter(Phase::Closing) {
            let end = text.floor_char_boundary(TEXT_MAX);
            queue.goodbye = Some((code, text.get(..end).unwrap_or_default().to_owned()));
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until the task of the link is done.
    pub(super) async fn ended(&self) {
        self.reached(Phase::Ended).await;
    }

    /// Goes on to a later phase; false if that or a later one is reached already.
    fn enter(&self, phase: Phase) -> bool {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        })
    }

    fn is_closing(&self) -> bool {
        *self.phase.borrow() >= Phase::Closing
    }

    async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }
}

/// Runs a link from its handshake to its end.
pub(super) async fn run(
    shared: Arc<Shared>,
    connection: Connection,
    peer: ReplicaId,
    origin: Origin,
) {
    let outgoing = matches!(origin, Origin::Dialled);
    let link = Arc::new(Link::new(connection, origin));
    let Some((send, recv)) = open_stream(&shared, &link, outgoing).await else {
        link.connection.close(CODE_NOT_ADMITTED.into(), b"no stream");
        shared.door.count_gave_up();
        return;
    };
    let id = shared.next_link();
    locked(&shared.links).insert(id, Arc::clone(&link));
    let addr = link.remote();
    let told = shared.tell(NetEvent::Connected { link: id, peer, addr, outgoing }).await;
    let reason = if told && !shared.door.is_shut() {
        converse(&shared, &link, id, send, recv).await
    } else {
        CloseReason::Here
    };
    end(&shared, &link, id, reason).await;
}

/// The dialler opens the one stream; who accepts waits for it, but not for long.
async fn open_stream(
    shared: &Shared,
    link: &Link,
    outgoing: bool,
) -> Option<(SendStream, RecvStream)> {
    let opened = async {
        if outgoing {
            link.connection.open_bi().await.ok()
        } else {
            link.connection.accept_bi().await.ok()
        }
    };
    let patience = if outgoing { shared.limits.dial } else { shared.limits.stranger };
    timeout(patience, opened).await.ok().flatten()
}

/// Sends and receives until something ends the link, and says what.
async fn converse(
    shared: &Shared,
    link: &Link,
    id: LinkId,
    mut send: SendStream,
    mut recv: RecvStream,
) -> CloseReason {
    tokio::select! {
        reason = write(shared, link, id, &mut send) => reason,
        reason = read(shared, link, id, &mut recv) => reason,
        reason = lose_patience(shared, link) => reason,
        () = shared.events.closed() => CloseReason::Here,
    }
}

/// Tells everybody that a link is over; from here on nothing is known of it.
async fn end(shared: &Shared, link: &Link, id: LinkId, reason: CloseReason) {
    if reason == CloseReason::NotAdmitted {
        shared.door.count_gave_up();
    }
    let (code, text) = match (&reason, locked(&link.queue).goodbye.take()) {
        (_, Some(goodbye)) => goodbye,
        (CloseReason::NotAdmitted, None) => (CODE_NOT_ADMITTED, "not admitted in time".into()),
        (_, None) => (CODE_ENDED, "ended".into()),
    };
    link.connection.close(code.into(), text.as_bytes());
    locked(&shared.links).remove(&id);
    *locked(&link.inside) = None;
    *locked(&link.queue) = Queue::default();
    link.enter(Phase::Ended);
    shared.tell(NetEvent::Closed { link: id, reason }).await;
}

/// Ends a stranger that is not admitted in time, and a flush that takes too long.
async fn lose_patience(shared: &Shared, link: &Link) -> CloseReason {
    if timeout(shared.limits.stranger, link.reached(Phase::Admitted)).await.is_err() {
        return CloseReason::NotAdmitted;
    }
    link.reached(Phase::Closing).await;
    sleep(shared.limits.flush).await;
    CloseReason::Here
}

async fn write(shared: &Shared, link: &Link, id: LinkId, send: &mut SendStream) -> CloseReason {
    let mut spoke = false;
    loop {
        let mut pieces: [Bytes; WRITE_PIECES] = Default::default();
        let count = locked(&link.queue).front(&mut pieces);
        let Some(pieces) = pieces.get_mut(..count).filter(|pieces| !pieces.is_empty()) else {
            if link.is_closing() && link.queued_bytes() == 0 {
                if spoke {
                    // The peer must have it all: closing the connection stops retransmission.
                    let _ = send.finish();
                    let _ = send.stopped().await;
                }
                return CloseReason::Here;
            }
            link.filled.notified().await;
            continue;
        };
        let written = match send.write_chunks(pieces).await {
            Ok(written) => written.bytes,
            Err(WriteError::ConnectionLost(error)) => return reason_of(error),
            Err(_) => return why_ended(shared, link).await,
        };
        spoke = true;
        let drained = locked(&link.queue).sent(written);
        if drained && !link.is_closing() && !shared.tell(NetEvent::Drained { link: id }).await {
            return CloseReason::Here;
        }
    }
}

async fn read(shared: &Shared, link: &Link, id: LinkId, recv: &mut RecvStream) -> CloseReason {
    let credit = Arc::new(Semaphore::new(shared.limits.credit_bytes.max(CHARGE_MAX)));
    let mut buffer = Vec::new();
    let mut stranger_left = shared.limits.stranger_bytes.min(READ_BYTES_MAX);
    loop {
        let stranger = *link.phase.borrow() == Phase::Stranger;
        if stranger && stranger_left == 0 {
            link.reached(Phase::Admitted).await;
            continue;
        }
        let room = if stranger { stranger_left } else { READ_BYTES_MAX };
        buffer.resize(room, 0);
        #[expect(clippy::cast_possible_truncation, reason = "a constant far below u32::MAX")]
        let permit = Arc::clone(&credit).acquire_many_owned(CHARGE_MAX as u32).await;
        let Ok(mut permit) = permit else { return CloseReason::Here };
        let count = match recv.read(&mut buffer).await {
            Ok(Some(count)) => count,
            Ok(None) => return why_ended(shared, link).await,
            Err(ReadError::ConnectionLost(error)) => return reason_of(error),
            Err(_) => return why_ended(shared, link).await,
        };
        stranger_left = stranger_left.saturating_sub(count);
        if link.is_closing() {
            continue;
        }
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        let Some(permit) = permit.split(count + PIECE_OVERHEAD) else {
            return CloseReason::Here;
        };
        let event = NetEvent::Received { link: id, bytes, credit: Credit { _permit: permit } };
        if !shared.tell(event).await {
            return CloseReason::Here;
        }
    }
}

/// Says why a stream ended: the close that gives the reason comes right behind, if it comes.
async fn why_ended(shared: &Shared, link: &Link) -> CloseReason {
    if link.is_closing() {
        return CloseReason::Here;
    }
    match timeout(shared.limits.flush, link.connection.closed()).await {
        Ok(error) => reason_of(error),
        Err(_) => CloseReason::Finished,
    }
}

fn reason_of(error: ConnectionError) -> CloseReason {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            CloseReason::Peer { code: close.error_code.into_inner(), text: tame(&close.reason) }
        }
        ConnectionError::LocallyClosed => CloseReason::Here,
        ConnectionError::TimedOut => CloseReason::Silent,
        other => CloseReason::Failed { text: tame(other.to_string().as_bytes()) },
    }
}

/// What is to be sent, in order.
#[derive(Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// The node is told when no more than so many bytes are left.
    tell_at: Option<usize>,
    /// What the peer is told at the end.
    goodbye: Option<(u32, String)>,
}

impl Queue {
    fn push(&mut self, bytes: Vec<u8>, max: usize) -> Result<(), SendError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let sum = self.bytes.saturating_add(bytes.len());
        if sum > max && self.bytes > 0 {
            // Told no earlier than these bytes fit, or the node would try in vain.
            self.tell_below((max / 2).min(max.saturating_sub(bytes.len())));
            return Err(SendError::Full(bytes));
        }
        if sum > max / 2 {
            self.tell_below(max / 2);
        }
        self.bytes = sum;
        self.pieces.push_back(bytes.into());
        Ok(())
    }

    fn tell_below(&mut self, level: usize) {
        self.tell_at = Some(self.tell_at.map_or(level, |at| at.min(level)));
    }

    /// Copies the handles of the first pieces and returns how many there are.
    fn front(&self, pieces: &mut [Bytes]) -> usize {
        let mut count = 0;
        for (place, piece) in pieces.iter_mut().zip(&self.pieces) {
            *place = piece.clone();
            count += 1;
        }
        count
    }

    /// Takes the first `count` bytes away; true if the node is to be told.
    fn sent(&mut self, mut count: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                let _ = first.split_to(count);
                break;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
        let told = self.tell_at.is_some_and(|at| self.bytes <= at);
        if told {
            self.tell_at = None;
        }
        told
    }
}

/// Most bytes of one [`NetEvent::Received`].
const READ_BYTES_MAX: usize = 64 << 10;
/// What a received piece is charged beyond its bytes, so that many small ones are bounded too.
const PIECE_OVERHEAD: usize = 256;
/// What a read may cost in credit.
const CHARGE_MAX: usize = READ_BYTES_MAX + PIECE_OVERHEAD;
/// How many pieces are handed to QUIC at once.
const WRITE_PIECES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_queue_takes_one_piece_of_any_size() {
        let mut queue = Queue::default();
        queue.push(vec![0; 100], 10).unwrap();
        assert_eq!(queue.push(vec![1], 10), Err(SendError::Full(vec![1])));
        assert!(!queue.sent(94), "six of ten are left");
        assert!(queue.sent(1), "half of it is free");
        queue.push(vec![1], 10).unwrap();
    }

    #[test]
    fn who_was_refused_is_told_when_the_piece_fits() {
        let mut queue = Queue::default();
        queue.push(vec![0; 4], 10).unwrap();
        assert!(queue.push(vec![0; 8], 10).is_err());
        assert!(!queue.sent(1), "three left, eight do not fit");
        assert!(queue.sent(1));
        queue.push(vec![0; 8], 10).unwrap();
    }

    proptest! {
        /// The specification is one flat vector.
        #[test]
        fn the_queue_keeps_every_byte_in_order(
            steps in prop::collection::vec((0_usize..9, 0_usize..9), 0..40),
        ) {
            let (mut queue, mut expected, mut next) = (Queue::default(), Vec::new(), 0_u8);
            for (put, take) in steps {
                let bytes: Vec<u8> = (0..put)
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                let fits = expected.is_empty() || expected.len() + put <= 20 || put == 0;
                let pushed = queue.push(bytes.clone(), 20);
                prop_assert_eq!(pushed.is_ok(), fits);
                if fits {
                    expected.extend(bytes);
                }
                let take = take.min(expected.len());
                let watched = queue.tell_at;
                expected.drain(..take);
                let told = queue.sent(take);
                prop_assert_eq!(told, watched.is_some_and(|at| expected.len() <= at));
                prop_assert_eq!(queue.bytes, expected.len());
                let mut pieces = vec![Bytes::new(); 64];
                let count = queue.front(&mut pieces);
                prop_assert_eq!(pieces[..count].concat(), expected.clone());
            }
        }
    }
}
