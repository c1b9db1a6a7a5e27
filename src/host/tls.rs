//! TLS 1.3 with raw Ed25519 public keys on both sides (RFC 7250): the key is the replica id.
//!
//! Who dials pins the id through the server name `<base32 of the id>.kdelta.invalid`, so one
//! client configuration serves all peers. Who accepts learns an id that is proven but not yet
//! admitted: that is decided later, by the node. There are no certificates, no session tickets
//! and no early data, so the verifiers run on every connection.

use std::sync::Arc;

use data_encoding::BASE32_DNSSEC;
use ed25519_dalek::VerifyingKey;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

use crate::engine::base::ReplicaId;

/// The TLS sides of one endpoint.
pub(super) struct Tls {
    pub(super) client: Arc<QuicClientConfig>,
    pub(super) server: Arc<QuicServerConfig>,
    /// The public key that belongs to the seed.
    pub(super) replica: ReplicaId,
}

/// Why no TLS configuration could be made of a seed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error(transparent)]
    Rustls(#[from] Error),
    #[error(transparent)]
    CipherSuite(#[from] NoInitialCipherSuite),
}

impl Tls {
    /// Makes both sides from the secret seed of an Ed25519 key.
    pub(super) fn new(seed: &[u8; 32]) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let (key, replica) = own_key(&provider, seed)?;
        let verifier = Arc::new(PeerKey(provider.signature_verification_algorithms));
        let tls13 = [&rustls::version::TLS13];

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&tls13)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                Arc::clone(&key),
            )));
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&tls13)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;

        let client = Arc::new(QuicClientConfig::try_from(client)?);
        let server = Arc::new(QuicServerConfig::try_from(server)?);
        Ok(Self { client, server, replica })
    }
}

/// Returns the name under which `peer` is dialled; it is the pin.
pub(super) fn server_name(peer: &ReplicaId) -> String {
    format!("{}{PIN_SUFFIX}", BASE32_DNSSEC.encode(peer.as_bytes()))
}

/// Returns the proven id at the far end of an established connection.
pub(super) fn peer(connection: &quinn::Connection) -> Option<ReplicaId> {
    let keys = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    match keys.as_slice() {
        [key] => replica_of(key),
        _ => None,
    }
}

/// The alert with which a handshake fails when the far end holds another key than the one pinned.
pub(super) fn wrong_peer_alert() -> quinn::TransportErrorCode {
    const ACCESS_DENIED: u8 = 0x31;
    quinn::TransportErrorCode::crypto(ACCESS_DENIED)
}

/// Verifies raw Ed25519 keys, on both sides.
#[derive(Debug)]
struct PeerKey(WebPkiSupportedAlgorithms);

impl PeerKey {
    /// Takes the one key that the far end may present.
    fn sole_key(
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<ReplicaId, Error> {
        match replica_of(end_entity) {
            Some(replica) if intermediates.is_empty() => Ok(replica),
            _ => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0)
    }
}

impl ServerCertVerifier for PeerKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let held = Self::sole_key(end_entity, intermediates)?;
        if pin_of(server_name) == Some(held) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PeerKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::sole_key(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }
}

/// One key exchange, so that no handshake is ever sent back for another; TLS 1.3 suites only.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![ring::kx_group::X25519];
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider
}

fn own_key(
    provider: &CryptoProvider,
    seed: &[u8; 32],
) -> Result<(Arc<CertifiedKey>, ReplicaId), Error> {
    let der = Zeroizing::new([&PKCS8_PREFIX[..], seed].concat());
    let der = PrivatePkcs8KeyDer::from(der.as_slice()).clone_key();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(der))?;
    let no_key = || Error::General("the provider gives no public key".into());
    let public = key.public_key().ok_or_else(no_key)?.to_vec();
    let public = CertificateDer::from(public);
    let replica = replica_of(&public).ok_or_else(no_key)?;
    Ok((Arc::new(CertifiedKey::new(vec![public], key)), replica))
}

/// Reads a raw public key; none but well-formed Ed25519 keys that are not weak will do.
///
/// Under a weak key (of small order) anybody can sign, so it names nobody.
fn replica_of(spki: &[u8]) -> Option<ReplicaId> {
    let bytes = spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
    let key = VerifyingKey::from_bytes(bytes).ok()?;
    if key.is_weak() { None } else { Some(ReplicaId(*bytes)) }
}

fn pin_of(name: &ServerName<'_>) -> Option<ReplicaId> {
    let ServerName::DnsName(name) = name else { return None };
    let label = name.as_ref().strip_suffix(PIN_SUFFIX)?;
    let bytes = BASE32_DNSSEC.decode(label.as_bytes()).ok()?;
    bytes.try_into().ok().map(ReplicaId)
}

/// The protocol of the stream and its major version.
const ALPN: &[u8] = b"kdelta/1";
/// A name that no resolver ever answers (RFC 2606): it is a pin, not an address.
const PIN_SUFFIX: &str = ".kdelta.invalid";
/// What stands before the 32 bytes of every Ed25519 key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 32 bytes of every Ed25519 seed (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    #[test]
    fn the_replica_id_is_the_public_key_of_the_seed() {
        let seed = [9; 32];
        let public = SigningKey::from_bytes(&seed).verifying_key();
        assert_eq!(Tls::new(&seed).unwrap().replica, ReplicaId(public.to_bytes()));
    }

    #[test]
    fn a_server_name_is_the_pin_and_fits_a_dns_label() {
        for replica in [ReplicaId([0; 32]), ReplicaId([0xff; 32]), ReplicaId([0x5a; 32])] {
            let name = server_name(&replica);
            assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
            assert_eq!(pin_of(&ServerName::try_from(name).unwrap()), Some(replica));
        }
        for name in ["kdelta.invalid", "abc.kdelta.invalid", "example.org", "127.0.0.1"] {
            assert_eq!(pin_of(&ServerName::try_from(name).unwrap()), None, "{name}");
        }
    }

    #[test]
    fn other_keys_are_refused() {
        let good = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
        let spki = |key: &[u8]| [&SPKI_PREFIX[..], key].concat();
        assert_eq!(replica_of(&spki(&good)), Some(ReplicaId(good)));
        assert_eq!(replica_of(&spki(&[&good[..], &[0]].concat())), None, "bytes follow");
        assert_eq!(replica_of(&spki(&good[1..])), None, "too short");
        assert_eq!(replica_of(&good), None, "no prefix");
        let mut small_order = [0; 32];
        small_order[0] = 1;
        assert_eq!(replica_of(&spki(&small_order)), None, "anybody can sign under it");
        let mut other_algorithm = spki(&good);
        other_algorithm[8] = 0x6f;
        assert_eq!(replica_of(&other_algorithm), None, "X448 is no signature key");
    }
}
