//! TLS towards the hub and the API server: CAs by certificate or by digest, names and usage checked, time never a reason
//! to refuse.
//!
//! A node without a clock may believe that it is 1970. The verifier first asks with the clock's time; where a
//! certificate is not yet or no longer valid, it asks again at the bound that the certificate names.

use std::sync::Arc;

use airlift_bundles::ids::Sha256Digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tracing::warn;

/// TLS cannot be set up from what is stored.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key is not PEM of its kind.
    #[error("{0} is not usable PEM")]
    Pem(&'static str),
    /// rustls refuses the pieces.
    #[error("TLS settings are not usable")]
    Rustls(#[from] rustls::Error),
    /// The authority cannot verify servers.
    #[error("authority is not usable: {0}")]
    Verifier(String),
}

/// Settings for a site that holds its grant: the hub's CA, and the site's own certificate.
///
/// # Errors
/// [`TlsError`].
pub fn granted(hub_ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<ClientConfig, TlsError> {
    let ca = CertificateDer::from_pem_slice(hub_ca_pem.as_bytes()).map_err(|_| TlsError::Pem("hub CA"))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem("site certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TlsError::Pem("TLS key"))?;
    let verifier = ServerVerifier { trust: Trust::Ca(verifier_of(std::slice::from_ref(&ca))?) };
    let builder = builder(verifier)?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

/// Settings for a site that only knows the digest of the hub CA's key, from its token.
///
/// # Errors
/// [`TlsError`].
pub fn pinned(hub_key_sha256: Sha256Digest) -> Result<ClientConfig, TlsError> {
    Ok(builder(ServerVerifier { trust: Trust::Digest(hub_key_sha256) })?.with_no_client_auth())
}

/// Settings for an API server: its authorities, and who we are where that is said by certificate.
///
/// # Errors
/// [`TlsError`].
pub fn cluster(
    authorities: &[CertificateDer<'_>],
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, TlsError> {
    let builder = builder(ServerVerifier { trust: Trust::Ca(verifier_of(authorities)?) })?;
    Ok(match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    })
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder(verifier: ServerVerifier) -> Result<Builder, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn verifier_of(authorities: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone().into_owned())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| TlsError::Verifier(error.to_string()))
}

#[derive(Debug)]
enum Trust {
    Ca(Arc<WebPkiServerVerifier>),
    /// The CA comes with the handshake; its key must have this digest.
    Digest(Sha256Digest),
}

#[derive(Debug)]
struct ServerVerifier {
    trust: Trust,
}

impl ServerVerifier {
    fn trusted(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let digest = match &self.trust {
            Trust::Ca(verifier) => return Ok(Arc::clone(verifier)),
            Trust::Digest(digest) => digest,
        };
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let is_pinned = |certificate: &&CertificateDer<'_>| {
            rustls::server::ParsedCertificate::try_from(*certificate)
                .is_ok_and(|parsed| Sha256Digest::of(&parsed.subject_public_key_info()) == *digest)
        };
        let ca = chain.iter().find(is_pinned).ok_or_else(unknown)?;
        verifier_of(std::slice::from_ref(ca)).map_err(|_| unknown())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.trusted(intermediates)?;
        let ask = |at| verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at);
        let refusal = match ask(now) {
            Err(rustls::Error::InvalidCertificate(refusal)) => refusal,
            other => return other,
        };
        let bound = match &refusal {
            CertificateError::NotValidYetContext { not_before, .. } => *not_before,
            CertificateError::ExpiredContext { not_after, .. } => *not_after,
            _ => return Err(rustls::Error::InvalidCertificate(refusal)),
        };
        warn!(
            clock_unix_s = now.as_secs(),
            bound_unix_s = bound.as_secs(),
            "clock is outside a server certificate's validity"
        );
        ask(bound)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    struct Hub {
        ca_pem: String,
        ca: CertificateDer<'static>,
        spki: Sha256Digest,
        leaf: CertificateDer<'static>,
    }

    fn hub(name: &str, from: i32, to: i32) -> Hub {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::from_params(&params, &ca_key);
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let spki = rustls::server::ParsedCertificate::try_from(ca.der()).unwrap().subject_public_key_info();
        Hub {
            ca_pem: ca.pem(),
            ca: ca.der().clone(),
            spki: Sha256Digest::of(&spki),
            leaf: leaf.der().clone(),
        }
    }

    fn verdict(
        trust: Trust,
        hub: &Hub,
        name: &str,
        unix_s: u64,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(unix_s));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        ServerVerifier { trust }.verify_server_cert(&hub.leaf, std::slice::from_ref(&hub.ca), &name, &[], at)
    }

    #[test]
    fn no_clock_makes_a_good_hub_refused() {
        let hub = hub("hub.example", 2020, 2030);
        for unix_s in [0, 1_700_000_000, 4_300_000_000] {
            let ca = CertificateDer::from_pem_slice(hub.ca_pem.as_bytes()).unwrap();
            assert!(
                verdict(Trust::Ca(verifier_of(&[ca]).unwrap()), &hub, "hub.example", unix_s).is_ok(),
                "{unix_s}"
            );
            assert!(verdict(Trust::Digest(hub.spki), &hub, "hub.example", unix_s).is_ok(), "{unix_s}");
        }
    }

    #[test]
    fn another_name_or_another_ca_is_refused_at_any_time() {
        let (hub, other) = (hub("hub.example", 2020, 2030), hub("hub.example", 2020, 2030));
        for unix_s in [0, 1_700_000_000, 4_300_000_000] {
            assert!(verdict(Trust::Digest(hub.spki), &hub, "other.example", unix_s).is_err());
            assert!(verdict(Trust::Digest(other.spki), &hub, "hub.example", unix_s).is_err());
            let ca = verifier_of(std::slice::from_ref(&other.ca)).unwrap();
            assert!(verdict(Trust::Ca(ca), &hub, "hub.example", unix_s).is_err());
        }
    }
}
