//! TLS towards a node at a URL.
//!
//! Who signed its certificate must be known to the system, or be in the file that `--cacert` names.
//! A certificate that is in that file itself is taken too, if it is for the node's name: the usual
//! way with one that nobody else signed.

use std::path::Path;
use std::sync::Arc;

use axum::http::uri::Authority;
use kdelta::host::http::{CertificateError, certificates, host_of};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::{Exit, Failure};
use super::settings::Settings;

/// Begins TLS with the node at `authority`.
pub(crate) async fn connect(
    settings: &Settings,
    authority: &Authority,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    let file = settings.cacert.value.clone();
    let config = tokio::task::spawn_blocking(move || config(&file)).await;
    let config = config.map_err(|error| Failure::other(error.to_string()))??;
    let name = ServerName::try_from(host_of(authority).to_owned())
        .map_err(|_| Failure::usage(format!("{authority} names no host")))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        let refused = error.get_ref().and_then(|error| error.downcast_ref());
        match refused {
            Some(Error::InvalidCertificate(why)) => Failure::new(
                "unauthorised",
                Exit::Unauthorised,
                format!("the certificate of https://{authority} is not to be trusted: {why}"),
            )
            .hint("Name the certificate of who signed it: --cacert FILE"),
            _ => Failure::unavailable(format!("no TLS with https://{authority}: {error}"))
                .hint("Check that the node was started with --http-cert and --http-key"),
        }
    })
}

fn config(file: &str) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(ring::default_provider());
    let (mut roots, mut named) = (RootCertStore::empty(), Vec::new());
    if file.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        named = certificates(Path::new(file)).map_err(|error| unreadable(&error))?;
        roots.add_parsable_certificates(named.iter().cloned());
    }
    if roots.is_empty() {
        return Err(Failure::usage("this system knows nobody who signs certificates")
            .hint("Name the certificate of who signed the node's: --cacert FILE"));
    }
    let unusable = |error: &dyn std::error::Error| Failure::other(format!("no TLS: {error}"));
    let chains =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unusable(&error))?;
    let verifier = Arc::new(Verifier { chains, named, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Says why a file with certificates is of no use.
pub(crate) fn unreadable(error: &CertificateError) -> Failure {
    match error {
        CertificateError::File { path, source } => Failure::file("read", path, source),
        _ => Failure::usage(error.to_string()).hint("Give files in PEM: -----BEGIN …"),
    }
}

/// Checks chains as the web does, and certificates that were named one by one.
#[derive(Debug)]
struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.chains.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match checked {
            // It may sign others, so that it may not stand for itself in a chain; whether it is of
            // this time was looked at before.
            Err(Error::InvalidCertificate(rustls::CertificateError::Other(_)))
                if self.named.iter().any(|named| named == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
