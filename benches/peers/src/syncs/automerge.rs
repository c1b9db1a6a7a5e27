//! Automerge: documents that are a map at their root, whose sync messages go over a raw stream.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use automerge::sync::{Message, State, SyncDoc as _};
use automerge::transaction::Transactable as _;
use automerge::{ActorId, AutoCommit, ROOT, ReadDoc as _, ScalarValue, Value};
use quinn::{Endpoint, ReadExactError, RecvStream, SendStream};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Peer, Taken, Wire, bounded};
use crate::{Outcome, Res, data, raw};

/// A document that has everything, and one that comes to it with what it knows of the other.
pub(super) struct Automerge {
    runtime: Runtime,
    hub: Arc<Mutex<AutoCommit>>,
    reader: AutoCommit,
    /// What the reader would keep on disk between two connections.
    known: Vec<u8>,
}

impl Automerge {
    pub(super) fn open() -> Res<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build()?;
        let hub = Arc::new(Mutex::new(AutoCommit::default()));
        let known = State::new().encode();
        Ok(Self { runtime, hub, reader: AutoCommit::default(), known })
    }
}

impl Peer for Automerge {
    fn write(&mut self, author: u64, numbers: Range<u64>, batch: u64) -> Outcome {
        let mut hub = lock(&self.hub)?;
        hub.set_actor(ActorId::from(author.to_be_bytes()));
        let (from, end) = (numbers.start, numbers.end);
        for number in numbers {
            let key = data::key(number);
            let value = ScalarValue::Bytes(data::value(number).to_vec());
            hub.put(ROOT, std::str::from_utf8(&key)?, value)?;
            if (number + 1 - from) % batch == 0 || number + 1 == end {
                hub.commit().ok_or("nothing was put")?;
            }
        }
        Ok(())
    }

    fn empty(&mut self, _: TempDir) -> Outcome {
        self.reader = AutoCommit::default();
        self.known = State::new().encode();
        Ok(())
    }

    fn sync(&mut self, _: u64) -> Res<Taken> {
        let mut state = State::decode(&self.known)?;
        let (reader, hub) = (&mut self.reader, Arc::clone(&self.hub));
        let taken = bounded(&self.runtime, async {
            let (server, client, addr) = raw::ends()?;
            let answering = tokio::spawn(async move { answer(&server, &hub).await });
            let begun = Instant::now();
            let connection = client.connect(addr, "localhost")?.await?;
            let (mut sending, mut receiving) = connection.open_bi().await?;
            let wire = ask(reader, &mut state, &mut sending, &mut receiving).await?;
            let time = begun.elapsed();
            sending.finish()?;
            answering.await??;
            Ok(Taken { time, wire: Some(wire) })
        })?;
        self.known = state.encode();
        Ok(taken)
    }

    fn check(&mut self, events: u64) -> Outcome {
        if self.reader.length(ROOT) as u64 != events {
            return Err(format!("{} of {events} keys came", self.reader.length(ROOT)).into());
        }
        for number in 0..events {
            let key = data::key(number);
            let found = self.reader.get(ROOT, std::str::from_utf8(&key)?)?;
            let Some((Value::Scalar(value), _)) = found else {
                return Err("a key has no value".into());
            };
            if *value != ScalarValue::Bytes(data::value(number).to_vec()) {
                return Err("a value is not what was put".into());
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome {
        Ok(())
    }
}

/// Asks until the document has all that the other had when it answered.
async fn ask(
    doc: &mut AutoCommit,
    state: &mut State,
    sending: &mut SendStream,
    receiving: &mut RecvStream,
) -> Res<Wire> {
    let mut wire = Wire { sent: 0, received: 0, trips: 0 };
    loop {
        let message = doc.sync().generate_sync_message(state).ok_or("nothing is left to ask")?;
        wire.sent += send(sending, &message.encode()).await?;
        let answer = receive(receiving).await?.ok_or("no answer")?;
        wire.received += answer.len() as u64;
        wire.trips += 1;
        doc.sync().receive_sync_message(state, Message::decode(&answer)?)?;
        if state.their_heads.as_ref() == Some(&doc.get_heads()) {
            return Ok(wire);
        }
    }
}

/// Answers one connection until the other has no more to ask.
async fn answer(server: &Endpoint, hub: &Mutex<AutoCommit>) -> Outcome {
    let connection = server.accept().await.ok_or("the endpoint is closed")?.await?;
    let (mut sending, mut receiving) = connection.accept_bi().await?;
    let mut state = State::new();
    while let Some(question) = receive(&mut receiving).await? {
        let answer = {
            let mut hub = lock(hub)?;
            hub.sync().receive_sync_message(&mut state, Message::decode(&question)?)?;
            hub.sync().generate_sync_message(&mut state).ok_or("nothing to answer")?.encode()
        };
        send(&mut sending, &answer).await?;
    }
    Ok(())
}

/// Sends a message behind its length.
async fn send(stream: &mut SendStream, message: &[u8]) -> Res<u64> {
    stream.write_all(&u32::try_from(message.len())?.to_be_bytes()).await?;
    stream.write_all(message).await?;
    Ok(message.len() as u64)
}

/// The next message; none at the end.
async fn receive(stream: &mut RecvStream) -> Res<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut message = vec![0; usize::try_from(u32::from_be_bytes(length))?];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

fn lock(hub: &Mutex<AutoCommit>) -> Res<MutexGuard<'_, AutoCommit>> {
    hub.lock().map_err(|_| "whoever had the document panicked".into())
}
