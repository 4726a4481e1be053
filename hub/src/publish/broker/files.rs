//! What a broker needs to stand between a hub and its sites.

use rcgen::KeyPair;
use rusqlite::Connection;

use crate::config::DataDir;
use crate::db::rows::meta;
use crate::init::{InitError, read_text};
use crate::tls::{Authority, AuthorityKind, TlsError, generate_key, to_pem};

/// Certificate and key of a broker, and the authority of those whom it admits.
#[derive(Debug, Clone)]
pub struct BrokerFiles {
    /// Issued by the hub's authority, so that sites take it for the hub's; PEM.
    pub certificate: String,
    /// Its key, PKCS #8 in PEM.
    pub key: String,
    /// The authority of the certificates of sites, and of the hub as its client; PEM.
    pub site_ca: String,
}

/// Makes a broker's files for these names and addresses. A hub may be running on the directory.
///
/// # Errors
/// [`InitError`].
pub fn broker_files(data: &DataDir, hosts: &[String]) -> Result<BrokerFiles, InitError> {
    let missing = || InitError::Missing(data.path().to_owned());
    if !data.config().exists() {
        return Err(missing());
    }
    let (fleet, _) = meta::identity(&Connection::open(data.database())?)?.ok_or_else(missing)?;
    let pem = |file: &str| read_text(&data.keys().join(file));
    let hub_ca = Authority::new(AuthorityKind::Hub, &fleet, &pem("hub-ca.key.pem")?)?;
    let site_ca = Authority::new(AuthorityKind::Site, &fleet, &pem("site-ca.key.pem")?)?;
    let key = generate_key()?;
    let pair = KeyPair::from_pem(&key).map_err(TlsError::from)?;
    let certificate = hub_ca.issue_hub(&fleet, hosts, &pair)?;
    Ok(BrokerFiles { certificate: to_pem(&certificate), key, site_ca: site_ca.certificate_pem() })
}
