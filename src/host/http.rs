//! Serves the API on a listener: connections, their limits, and an end in order.
//!
//! The same server stands behind the local socket and behind TCP. Towards strangers it has no
//! patience with who stands still: neither with a request that does not come, nor with an answer
//! that is not read, so that nobody holds on to a thread or a place for ever. The user's own socket
//! has all the patience that a pager or a slow pipe wants. Who may ask what is not decided here:
//! see [`Guard`]. Over TCP it speaks TLS where it is given a [`Certificate`].

mod encrypted;

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use axum::http::uri::Authority;
use axum::serve::{Listener, ListenerExt as _};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_io_timeout::TimeoutStream;
use tower_http::timeout::TimeoutBody;

pub use encrypted::{Certificate, CertificateError, certificates};

use super::api::{self, Guard};
use super::locked;
use super::replica::Replica;

/// How long a stranger may stand still: before and in the head of a request, between two pieces of
/// its body, and while an answer waits to be read.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most connections at a time; who comes then is told to come again.
const CONNECTIONS_MAX: usize = 2048;
/// About the longest head of a request, in bytes: a key takes at most 3 KiB of it.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What is said when all places are taken.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

/// What a request knows of the server that it came to: when that stops. It holds the place of its
/// connection, also once that speaks something else than HTTP.
#[derive(Debug, Clone)]
pub struct Served {
    stopped: watch::Receiver<bool>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Served {
    /// Waits until the server stops.
    pub async fn stopping(&mut self) {
        // An error means that the sender is gone, which stops the server too.
        let _ = self.stopped.wait_for(|stop| *stop).await;
    }
}

/// A router that is being served.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `router` on a listener; `patience` is what a caller may take who stands still, none
    /// means for ever. To be called within a tokio runtime.
    pub fn start<L: Listener>(listener: L, router: Router, patience: Option<Duration>) -> Self {
        Self::start_as(listener, router, Manner { patience, certificate: None })
    }

    fn start_as<L: Listener>(listener: L, router: Router, manner: Manner) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(serve(listener, router, manner, stopped)) }
    }

    /// Takes no more connections and waits for the requests that are under way, at most `patience`.
    pub async fn stop(mut self, patience: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where HTTP is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAddress {
    /// `host:port`.
    pub address: String,
    /// Whether TLS is spoken there.
    pub encrypted: bool,
}

/// How a server treats who connects.
struct Manner {
    patience: Option<Duration>,
    certificate: Option<Certificate>,
}

/// The API of a replica on a TCP address.
#[derive(Debug)]
pub struct Door {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub encrypted: bool,
    replica: Replica,
    server: Server,
}

impl Door {
    /// Serves the API of a replica to whom the guard lets pass, over TLS if there is a certificate.
    /// To be called within a tokio runtime.
    ///
    /// # Errors
    /// Why the address cannot be listened on.
    pub async fn open(
        replica: Replica,
        address: SocketAddr,
        guard: Guard,
        certificate: Option<Certificate>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let encrypted = certificate.is_some();
        *locked(&replica.shared.http) =
            Some(HttpAddress { address: address.to_string(), encrypted });
        let router = api::guarded(replica.clone(), guard);
        // Changes that are watched leave at once.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let manner = Manner { patience: Some(PATIENCE), certificate };
        let server = Server::start_as(listener, router, manner);
        Ok(Self { address, encrypted, replica, server })
    }

    /// Takes no more connections and waits for the requests that are under way, at most `patience`.
    pub async fn close(self, patience: Duration) {
        *locked(&self.replica.shared.http) = None;
        self.server.stop(patience).await;
    }
}

/// Returns the host of an authority, an IPv6 address without its brackets.
pub fn host_of(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    manner: Manner,
    mut stopped: watch::Receiver<bool>,
) {
    let Manner { patience, certificate } = manner;
    let attend = move |request: Request<Body>| async move { attend(request, patience) };
    let routes = TowerToHyperService::new(router.layer(axum::middleware::map_request(attend)));
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES_MAX).timer(TokioTimer::new()).header_read_timeout(patience);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (mut io, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error means that the sender is gone, which stops the server too.
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if certificate.is_some() {
                continue;
            }
            // It fits into the empty buffer of the connection, or is not said.
            let _ = tokio::time::timeout(Duration::from_millis(10), io.write_all(FULL)).await;
            continue;
        };
        let served = Served { stopped: stopped.clone(), _place: Arc::new(place) };
        let (http, routes, certificate) = (http.clone(), routes.clone(), certificate.clone());
        tokio::spawn(async move {
            let Some(certificate) = certificate else {
                return converse(io, &http, routes, served, patience).await;
            };
            let mut stop = served.clone();
            let greeting = certificate.accept(io);
            let greeting = tokio::time::timeout(patience.unwrap_or(PATIENCE), greeting);
            let greeted = tokio::select! {
                greeted = greeting => greeted,
                () = stop.stopping() => return,
            };
            match greeted {
                Ok(Ok(io)) => converse(io, &http, routes, served, patience).await,
                Ok(Err(error)) => tracing::debug!(%error, "a connection came to no TLS"),
                Err(_) => tracing::debug!("a connection did not come to TLS in time"),
            }
        });
    }
    drop(listener);
    // Whoever is served holds a place.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

/// Serves one connection to its end.
async fn converse<S>(
    io: S,
    http: &http1::Builder,
    routes: TowerToHyperService<Router>,
    served: Served,
    patience: Option<Duration>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut io = TimeoutStream::new(io);
    io.set_write_timeout(patience);
    let mut stop = served.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(served.clone());
        routes.call(request)
    });
    let connection = http.serve_connection(TokioIo::new(Box::pin(io)), service);
    let mut connection = pin!(connection.with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Lets go of a body that stands still, and lets a refusal be heard while its request is still
/// being sent.
///
/// A server that stops reading closes the connection, and a client that still writes then sees the
/// end of the connection before the answer. So what nobody wants of a body is read and dropped.
fn attend(request: Request<Body>, patience: Option<Duration>) -> Request<Body> {
    request.map(|rest| {
        let body = Lingering { rest, patience: patience.unwrap_or(PATIENCE) };
        match patience {
            Some(patience) => Body::new(TimeoutBody::new(patience, body)),
            None => Body::new(body),
        }
    })
}

/// A body whose rest is read when it is dropped early, for as long as patience lasts.
struct Lingering {
    rest: Body,
    patience: Duration,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if self.rest.is_end_stream() {
            return;
        }
        let (mut rest, patience) = (std::mem::take(&mut self.rest), self.patience);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let read = async move { while let Some(Ok(_)) = rest.frame().await {} };
            runtime.spawn(tokio::time::timeout(patience, read));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use axum::routing::{get, post};
    use futures_util::stream;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    /// Serves a router with some patience: clients here are slow where much else runs.
    async fn at(router: Router) -> (Server, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Server::start(listener, router, Some(Duration::from_secs(1))), address)
    }

    async fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Reads until the other side is gone.
    async fn rest(mut stream: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes).await {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => bytes,
        }
    }

    #[tokio::test]
    async fn who_does_not_read_an_answer_is_let_go_and_holds_up_nobody() {
        let (held, let_go) = oneshot::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(Some(held)));
        let endless = move || async move {
            let held = held.lock().unwrap().take();
            Body::from_stream(stream::repeat_with(move || {
                let _ = &held;
                Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 64 << 10]))
            }))
        };
        let router = Router::new()
            .route("/endless", get(endless))
            .route("/short", get(|| async { "short" }));
        let (server, address) = at(router).await;
        let stands_still = send(address, "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let short = "GET /short HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        assert!(rest(send(address, short).await).await.ends_with(b"short"));
        assert!(let_go.await.is_err(), "what makes the answer is dropped");
        assert!(rest(stands_still).await.starts_with(b"HTTP/1.1 200"));
        server.stop(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn who_does_not_finish_a_request_is_let_go() {
        let router = Router::new().route("/", post(|body: Bytes| async move { body }));
        let (server, address) = at(router).await;
        for begun in [
            "",
            "POST / HT",
            "POST / HTTP/1.1\r\nHost: h\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf",
        ] {
            let answer = rest(send(address, begun).await).await;
            assert!(!answer.starts_with(b"HTTP/1.1 2"), "{begun:?}");
        }
        server.stop(Duration::ZERO).await;
    }
}
