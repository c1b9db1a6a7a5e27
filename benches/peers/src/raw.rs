//! What the machine can do at most: appends, maps, and a stream, without a store around them.

use std::fs::File;
use std::hash::BuildHasher;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};

use crate::engines::Key;
use crate::{Outcome, Res};

/// Writes `record` and syncs it, again and again for so long; returns how often in a second.
///
/// With `preallocated` the file has its length before, and blocks that were written: then a sync
/// has no metadata to write.
pub(crate) fn appends(dir: &Path, record: &[u8], preallocated: bool, span: Duration) -> Res<f64> {
    let mut file = File::create(dir.join("raw"))?;
    if preallocated {
        file.write_all(&vec![0; PREALLOCATED_BYTES])?;
        file.sync_all()?;
        file.seek(SeekFrom::Start(0))?;
    }
    let begun = Instant::now();
    let mut count = 0_usize;
    while begun.elapsed() < span {
        if preallocated && (count + 1) * record.len() > PREALLOCATED_BYTES {
            break;
        }
        file.write_all(record)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

const PREALLOCATED_BYTES: usize = 8 << 20;

/// A value as a map holds it, so that a hit can hand it out.
pub(crate) type Shared = Arc<[u8]>;

/// A concurrent map, as fast as it gets: a fast hash, and the key in the table.
pub(crate) enum Map {
    Dashmap(dashmap::DashMap<Key, Shared, foldhash::fast::RandomState>),
    Papaya(papaya::HashMap<Key, Shared, foldhash::fast::RandomState>),
    Sharded(Sharded),
}

/// Hash tables, each behind a lock that readers share.
pub(crate) struct Sharded {
    hasher: foldhash::fast::RandomState,
    shards: Vec<Shard>,
}

type Shard = std::sync::RwLock<std::collections::HashMap<Key, Shared, foldhash::fast::RandomState>>;

impl Map {
    pub(crate) fn all() -> [(&'static str, Self); 3] {
        let shards = std::iter::repeat_with(Shard::default).take(64).collect();
        let sharded = Sharded { hasher: foldhash::fast::RandomState::default(), shards };
        [
            ("map: dashmap", Self::Dashmap(dashmap::DashMap::default())),
            ("map: papaya", Self::Papaya(papaya::HashMap::default())),
            ("map: 64 locked tables", Self::Sharded(sharded)),
        ]
    }

    pub(crate) fn put(&self, key: Key, value: Shared) {
        match self {
            Self::Dashmap(map) => drop(map.insert(key, value)),
            Self::Papaya(map) => drop(map.pin().insert(key, value)),
            Self::Sharded(map) => {
                if let Ok(mut shard) = map.shard(&key).write() {
                    shard.insert(key, value);
                }
            }
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Shared> {
        match self {
            Self::Dashmap(map) => map.get(key).map(|value| Arc::clone(&value)),
            Self::Papaya(map) => map.pin().get(key).map(Arc::clone),
            Self::Sharded(map) => map.shard(key).read().ok()?.get(key).map(Arc::clone),
        }
    }
}

impl Sharded {
    fn shard(&self, key: &Key) -> &Shard {
        &self.shards[usize::try_from(self.hasher.hash_one(key) >> 40).unwrap_or_default() % 64]
    }
}

/// Sends so many bytes through a stream of QUIC over loopback; returns how long it took, from the
/// first byte to the reader's having the last.
pub(crate) fn stream(bytes: usize) -> Res<Duration> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (server, client, addr) = ends()?;
        let accepting = tokio::spawn(async move { receive(&server).await });
        let connection = client.connect(addr, "localhost")?.await?;
        let begun = Instant::now();
        let mut sending = connection.open_uni().await?;
        let piece = vec![0x5a; 64 << 10];
        let mut left = bytes;
        while left > 0 {
            let part = left.min(piece.len());
            sending.write_all(&piece[..part]).await?;
            left -= part;
        }
        sending.finish()?;
        let received = accepting.await??;
        let taken = begun.elapsed();
        if received != bytes {
            return Err(format!("{received} of {bytes} bytes came").into());
        }
        Ok(taken)
    })
}

async fn receive(server: &Endpoint) -> Res<usize> {
    let connection = server.accept().await.ok_or("the endpoint is closed")?.await?;
    let mut receiving = connection.accept_uni().await?;
    let mut received = 0;
    while let Some(chunk) = receiving.read_chunk(usize::MAX, true).await? {
        received += chunk.bytes.len();
    }
    Ok(received)
}

/// Two ends that know each other's certificate, with large socket buffers and nothing else tuned.
pub(crate) fn ends() -> Res<(Endpoint, Endpoint, std::net::SocketAddr)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let client = ClientConfig::with_root_certificates(Arc::new(roots))?;
    let (server_socket, client_socket) = (socket()?, socket()?);
    let addr = server_socket.local_addr()?;
    let runtime = || Arc::new(TokioRuntime);
    let limits = EndpointConfig::default;
    let server = Endpoint::new(limits(), Some(server), server_socket, runtime())?;
    let mut dialler = Endpoint::new(limits(), None, client_socket, runtime())?;
    dialler.set_default_client_config(client);
    Ok((server, dialler, addr))
}

fn socket() -> Res<std::net::UdpSocket> {
    let any: std::net::SocketAddr = "127.0.0.1:0".parse()?;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&any.into())?;
    Ok(socket.into())
}

/// As large as those of kdelta.
const SOCKET_BYTES: usize = 4 << 20;

/// Nanoseconds of a processor that a call takes, on average over so many.
pub(crate) fn nanoseconds(count: u64, mut call: impl FnMut(u64) -> Outcome) -> Res<f64> {
    let begun = processor_seconds();
    for number in 0..count {
        call(number)?;
    }
    Ok((processor_seconds() - begun) * 1e9 / count as f64)
}

/// Seconds that the process has had on a processor, with all its threads: what others do on the
/// machine is not in it, what an engine does in its background is.
pub(crate) fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
