//! Knowing the hub by the digest of its CA's key: the CA comes with the hub's chain and is believed on a match.
//!
//! Public authorities count for nothing here, and neither does the CA certificate's wording: a hub may issue a
//! new CA certificate for the same key.

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::Sha256Digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// 2026-01-01, inside every certificate's validity: seconds since 1970.
const VERIFIED_AT_MIN_S: u64 = 1_767_225_600;

/// The chain has no certificate with the pinned key.
#[derive(Debug, thiserror::Error)]
#[error("no certificate of its chain has the pinned key {0}")]
struct NotPinned(Sha256Digest);

#[derive(Debug)]
struct PinnedCa {
    hub_key: Sha256Digest,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A TLS configuration that accepts only servers under the CA whose key has this digest.
pub(crate) fn client_config(hub_key: Sha256Digest) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier = PinnedCa { hub_key, provider: Arc::clone(&provider), algorithms };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo; `None` where it is no certificate.
pub(crate) fn key_digest(certificate: &[u8]) -> Option<Sha256Digest> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(Sha256Digest::of(parsed.tbs_certificate.subject_pki.raw))
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|certificate| key_digest(certificate) == Some(self.hub_key));
        let Some(ca) = pinned else {
            let error = OtherError(Arc::new(NotPinned(self.hub_key)));
            return Err(CertificateError::Other(error).into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        // our certificates are valid for ever: a machine whose clock says 1970 still knows its hub
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().max(VERIFIED_AT_MIN_S)));
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
