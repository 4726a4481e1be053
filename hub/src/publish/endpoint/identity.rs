//! Who a peer is: the hub knows each site by the key in its certificate.

use airlift_bundles::ids::SiteId;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The parts of a client certificate by which the hub knows it.
#[derive(Clone, Copy, Debug)]
pub struct PeerCertificate<'a> {
    /// The subject public key info, DER: what the hub compares with the site's row.
    pub spki: &'a [u8],
    /// The subject's common name: what the certificate calls the site.
    pub common_name: &'a str,
}

/// Knows sites by their keys.
pub trait Identify: Send + Sync + 'static {
    /// Returns the id of the site whose current key this is; `None` is a stranger, or revoked.
    ///
    /// Called once for each connection, from its task: it must answer from memory.
    fn identify(&self, certificate: PeerCertificate<'_>) -> Option<SiteId>;
}

/// Returns the site behind a certificate, if the hub knows its key and the names agree.
///
/// Times of validity are not looked at: rotation and revocation are by key (design: trust, rule 10).
pub(super) fn identify(directory: &impl Identify, certificate: &CertificateDer<'_>) -> Option<SiteId> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut names = parsed.subject().iter_common_name();
    let common_name = names.next()?.as_str().ok()?;
    if names.next().is_some() {
        return None;
    }
    let spki = parsed.tbs_certificate.subject_pki.raw;
    directory.identify(PeerCertificate { spki, common_name }).filter(|site| site.as_str() == common_name)
}
