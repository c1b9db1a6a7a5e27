//! HTTP over TLS 1.3, under a certificate from files.
//!
//! A stranger who does not finish the handshake is let go like one who does not finish a request,
//! and holds a place among the connections meanwhile. Who speaks plain HTTP where TLS is spoken is
//! told so. Nothing is known here of certificates' renewal: a node reads its files when it starts.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::host::identity::loose_mode;

/// Under which certificate HTTP is answered.
#[derive(Debug, Clone)]
pub struct Certificate(Arc<ServerConfig>);

/// Why a certificate cannot be used.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file is not PEM, or what is wanted is not in it.
    #[error("{} holds no {wanted} in PEM", path.display())]
    Holds {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// The key is not that of the certificate, or of a kind that is not known.
    #[error("the certificate cannot be used with that key: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Certificate {
    /// Reads a certificate, with those that vouch for it behind it, and its secret key.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let chain = certificates(certificate)?;
        let secret = pem_of(key, "secret key", PrivateKeyDer::from_pem_slice)?;
        if loose_mode(key).is_some() {
            tracing::warn!(path = %key.display(), "others may read the secret key: chmod 600 it");
        }
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, secret)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Speaks TLS with whoever connected.
    pub(super) async fn accept<S>(&self, mut stream: S) -> io::Result<TlsStream<Rewound<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let first = stream.read_u8().await?;
        if first != HANDSHAKE {
            stream.write_all(PLAIN).await?;
            stream.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it did not begin with TLS"));
        }
        let stream = Rewound { first: Some(first), stream };
        TlsAcceptor::from(Arc::clone(&self.0)).accept(stream).await
    }
}

/// A stream whose first byte was looked at.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    first: Option<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Reads all certificates in a file.
///
/// # Errors
/// [`CertificateError`]; there is none in it.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found = pem_of(path, "certificate", |text| {
        CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>()
    })?;
    if found.is_empty() {
        return Err(CertificateError::Holds { path: path.to_owned(), wanted: "certificate" });
    }
    Ok(found)
}

fn pem_of<T>(
    path: &Path,
    wanted: &'static str,
    read: impl FnOnce(&[u8]) -> Result<T, pem::Error>,
) -> Result<T, CertificateError> {
    let file_error = |source| CertificateError::File { path: path.to_owned(), source };
    let mut text = zeroize::Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(file_error)?;
    io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX), &mut text)
        .map_err(file_error)?;
    read(&text).map_err(|_| CertificateError::Holds { path: path.to_owned(), wanted })
}

/// How much is read of a file, in bytes: the roots of a whole system have half of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The first byte of every TLS connection (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What is said to whoever does not speak TLS.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: 28\r\n\r\nThis port speaks https only.";

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::{Manner, Server};
    use super::*;

    /// Serves one route with a second of patience, under a certificate of its own.
    async fn at() -> (Server, SocketAddr) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (cert, secret) = (dir.path().join("cert"), dir.path().join("key"));
        std::fs::write(&cert, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        let certificate = Some(Certificate::read(&cert, &secret).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "secret" }));
        let manner = Manner { patience: Some(Duration::from_secs(1)), certificate };
        (Server::start_as(listener, router, manner), address)
    }

    async fn said(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // What is not wanted may be answered by a reset.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn who_does_not_come_to_tls_is_let_go() {
        let (server, address) = at().await;
        // Nothing; the beginning of a greeting; a greeting that is nonsense; a length that lies.
        for begun in [
            &b""[..],
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
            b"\x16\x03\x01\xff\xff\x01",
        ] {
            let answer = said(address, begun).await;
            assert!(!answer.windows(6).any(|part| part == b"secret"), "{begun:?}");
        }
        server.stop(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn who_speaks_plain_http_is_told_so() {
        let (server, address) = at().await;
        let answer = said(address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
        assert!(answer.ends_with(b"https only."), "{answer:?}");
        server.stop(Duration::ZERO).await;
    }
}
