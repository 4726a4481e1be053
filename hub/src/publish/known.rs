//! Knows sites by the keys that the hub granted.

use std::sync::Arc;

use airlift_bundles::ids::SiteId;

use super::endpoint::{Identify, PeerCertificate};
use crate::server::Hub;

/// The sites that the hub knows by heart.
#[derive(Clone)]
pub struct KnownSites(pub Arc<Hub>);

impl Identify for KnownSites {
    fn identify(&self, certificate: PeerCertificate<'_>) -> Option<SiteId> {
        self.0.site_of_tls_key(certificate.spki)
    }
}
