//! The hub's two certificate authorities, its leaf, and how its listeners speak TLS.
//!
//! Hub certificates are what sites accept, site certificates what the hub accepts; neither CA can stand in for the
//! other. All run from 2000 to 9999: rotation and revocation are by key, so that no clock cuts a site off.

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::{FleetId, Sha256Digest, SiteId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use rustls::client::WantsClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use x509_parser::prelude::FromDer as _;

/// A key or certificate could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Making or reading a key or certificate failed.
    #[error("certificate or key cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the configuration.
    #[error("tls cannot be configured")]
    Config(#[from] rustls::Error),
    /// The verifier of client certificates could not be built.
    #[error("client certificates cannot be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// What a site sent is not a P-256 key.
    #[error("the tls key is not a P-256 SubjectPublicKeyInfo")]
    NotP256,
}

/// Which of the two authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityKind {
    /// Issues the hub's leaf.
    Hub,
    /// Issues sites' certificates.
    Site,
}

/// What stands in the subject of a certificate that is there to try a broker.
const PROBE_UNIT: &str = "probe of a broker, no site";

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn name(common: &str, fleet: &FleetId) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, fleet.as_str());
    name.push(DnType::CommonName, common);
    name
}

fn params(common: &str, fleet: &FleetId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common, fleet);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}

impl Authority {
    /// Makes the authority of a key. The same key and fleet give the same name and key id, so that leaves issued
    /// after a restart hang on the certificate made at the start.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn new(kind: AuthorityKind, fleet: &FleetId, key_pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key_pem)?;
        let mut params = params(
            match kind {
                AuthorityKind::Hub => "Airlift hub CA",
                AuthorityKind::Site => "Airlift site CA",
            },
            fleet,
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        to_pem(&self.certificate)
    }

    /// SHA-256 of its SubjectPublicKeyInfo, by which it is pinned.
    #[must_use]
    pub fn key_sha256(&self) -> Sha256Digest {
        Sha256Digest::of(&self.issuer.key().subject_public_key_info())
    }

    /// Issues the hub's leaf for its host names and addresses.
    ///
    /// # Errors
    /// [`TlsError::Certificate`], for a host that is neither.
    pub fn issue_hub(
        &self,
        fleet: &FleetId,
        hosts: &[String],
        key: &KeyPair,
    ) -> Result<CertificateDer<'static>, TlsError> {
        let mut leaf = CertificateParams::new(hosts.to_vec())?;
        let base = params("Airlift hub", fleet);
        leaf.distinguished_name = base.distinguished_name;
        (leaf.not_before, leaf.not_after) = (base.not_before, base.not_after);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        Ok(leaf.signed_by(key, &self.issuer)?.der().clone())
    }

    /// Issues the hub's certificate as a client of a broker, which knows it by this common name.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn issue_client(
        &self,
        fleet: &FleetId,
        common: &str,
        key: &KeyPair,
    ) -> Result<CertificateDer<'static>, TlsError> {
        let mut leaf = params(common, fleet);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        Ok(leaf.signed_by(key, &self.issuer)?.der().clone())
    }

    /// Issues what the hub tries a broker with: no site can have its common name, the subject says what it is for, and
    /// it is valid for no longer than `until`.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn issue_probe(
        &self,
        fleet: &FleetId,
        common: &str,
        key: &KeyPair,
        until: Timestamp,
    ) -> Result<CertificateDer<'static>, TlsError> {
        let mut leaf = params(common, fleet);
        leaf.distinguished_name.push(DnType::OrganizationalUnitName, PROBE_UNIT);
        let since_1970 = Duration::from_secs(u64::try_from(until.unix_s()).unwrap_or_default());
        leaf.not_after = date_time_ymd(1970, 1, 1) + since_1970;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        Ok(leaf.signed_by(key, &self.issuer)?.der().clone())
    }

    /// Issues a site's certificate, whose common name is the site's id and MQTT client id; PEM.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn issue_site(&self, fleet: &FleetId, site: &SiteId, key: &SiteTlsKey) -> Result<String, TlsError> {
        let mut leaf = params(site.as_str(), fleet);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        Ok(to_pem(leaf.signed_by(key, &self.issuer)?.der()))
    }
}

/// Makes a new P-256 key; PEM.
///
/// # Errors
/// [`TlsError::Certificate`].
pub fn generate_key() -> Result<String, TlsError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem())
}

/// A certificate as PEM.
#[must_use]
pub fn to_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> =
        (0..encoded.len()).step_by(64).map(|at| &encoded[at..encoded.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The public TLS key that a site brought in its request.
pub struct SiteTlsKey {
    point: Vec<u8>,
    sha256: Sha256Digest,
}

impl SiteTlsKey {
    /// Reads a P-256 SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`TlsError::NotP256`] for anything else, also for one that is spelt differently than we would.
    pub fn from_spki(spki: &[u8]) -> Result<Self, TlsError> {
        let (_, parsed) =
            x509_parser::x509::SubjectPublicKeyInfo::from_der(spki).map_err(|_| TlsError::NotP256)?;
        let key = Self { point: parsed.subject_public_key.data.to_vec(), sha256: Sha256Digest::of(spki) };
        let uncompressed = key.point.len() == 65 && key.point[0] == 4;
        if uncompressed && key.subject_public_key_info() == spki { Ok(key) } else { Err(TlsError::NotP256) }
    }

    /// SHA-256 of the SubjectPublicKeyInfo, by which the hub knows the certificate.
    #[must_use]
    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }
}

impl PublicKeyData for SiteTlsKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Whether a listener insists on a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// MQTT: every peer is a site.
    Required,
    /// HTTPS: people and sites that join have none.
    Optional,
}

/// The TLS settings of a listener; `chain` ends with the authority, for peers that know only its key's digest.
///
/// # Errors
/// [`TlsError`].
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
    site_ca: &CertificateDer<'static>,
    client_auth: ClientAuth,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = SiteVerifier::new(site_ca, client_auth, &provider)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The TLS settings with which the hub connects to a broker: its own certificate, issued by the site CA, and a server
/// that the hub CA has vouched for.
///
/// # Errors
/// [`TlsError`].
pub fn client_config(
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    hub_ca: &CertificateDer<'static>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Arc::new(towards_broker(hub_ca)?.with_client_auth_cert(vec![certificate], key)?))
}

/// The same for somebody who has no certificate, whom a broker has to turn away.
///
/// # Errors
/// [`TlsError`].
pub fn stranger_config(hub_ca: &CertificateDer<'static>) -> Result<Arc<ClientConfig>, TlsError> {
    Ok(Arc::new(towards_broker(hub_ca)?.with_no_client_auth()))
}

fn towards_broker(
    hub_ca: &CertificateDer<'static>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(hub_ca.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(FixedTime))
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

/// A clock that says 1970 keeps the hub from no broker.
#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(VERIFIED_AT))
    }
}

/// Accepts what the site CA issued, at whatever time it is: the hub knows each site by its key.
#[derive(Debug)]
struct SiteVerifier(Arc<dyn ClientCertVerifier>);

/// 2026-01-01, inside every certificate's validity: a hub whose clock says 1970 still knows its sites.
const VERIFIED_AT: Duration = Duration::from_secs(1_767_225_600);

impl SiteVerifier {
    fn new(
        site_ca: &CertificateDer<'static>,
        client_auth: ClientAuth,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(site_ca.clone())?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = match client_auth {
            ClientAuth::Required => builder,
            ClientAuth::Optional => builder.allow_unauthenticated(),
        };
        Ok(Self(builder.build()?))
    }
}

impl ClientCertVerifier for SiteVerifier {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(end_entity, intermediates, UnixTime::since_unix_epoch(VERIFIED_AT))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_read_again_is_the_same_to_those_who_pinned_it() {
        let fleet = FleetId::new("fleet").unwrap();
        let key = generate_key().unwrap();
        let first = Authority::new(AuthorityKind::Hub, &fleet, &key).unwrap();
        let again = Authority::new(AuthorityKind::Hub, &fleet, &key).unwrap();
        assert_eq!(first.key_sha256(), again.key_sha256());
        let (_, parsed) = x509_parser::parse_x509_certificate(first.certificate()).unwrap();
        assert_eq!(Sha256Digest::of(parsed.public_key().raw), first.key_sha256());
        assert_eq!(parsed.validity().not_before.timestamp(), 946_684_800);
        assert_eq!(parsed.validity().not_after.to_datetime().year(), 9999);
    }

    #[test]
    fn what_tries_a_broker_says_so_ends_soon_and_has_no_name_of_a_site() {
        let fleet = FleetId::new("fleet").unwrap();
        let authority = Authority::new(AuthorityKind::Site, &fleet, &generate_key().unwrap()).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let until = Timestamp::from_unix_s(1_800_000_000);
        let probe = authority.issue_probe(&fleet, "_probe-1", &key, until).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&probe).unwrap();
        assert_eq!(parsed.validity().not_after.timestamp(), 1_800_000_000);
        let subject = parsed.subject().to_string();
        assert!(subject.contains(PROBE_UNIT) && subject.contains("CN=_probe-1"), "{subject}");
        assert!(SiteId::new("_probe-1").is_err());
    }

    #[test]
    fn only_p256_keys_in_their_one_spelling_are_taken() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let spki = key.subject_public_key_info();
        assert!(SiteTlsKey::from_spki(&spki).is_ok());
        assert!(SiteTlsKey::from_spki(&spki[..spki.len() - 1]).is_err());
        assert!(SiteTlsKey::from_spki(&[spki.as_slice(), &[0]].concat()).is_err());
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(SiteTlsKey::from_spki(&other.subject_public_key_info()).is_err());
    }
}
