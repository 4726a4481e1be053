//! The site's keys on disk, made once and kept over re-enrolment only where the operator says so.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airlift_bundles::document::enrolment::{EnrolmentRequest, TokenProof};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{FleetId, Name, RandomId, Sha256Digest, SiteId, Timestamp};
use airlift_bundles::join::EnrolmentToken;
use airlift_bundles::keys::{KeyError, SecretKey};
use base64::Engine as _;
use rcgen::{KeyPair, PublicKeyData as _};
use serde::{Deserialize, Serialize};

const SITE_KEY: &str = "site.json";
const TLS_KEY: &str = "tls.pem";
const JOIN: &str = "join.json";

/// The keys cannot be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The site key's file is damaged.
    #[error("site key is damaged")]
    SiteKey(#[from] KeyError),
    /// The TLS key's file is damaged, or none could be made.
    #[error("TLS key is not usable: {0}")]
    TlsKey(String),
    /// The random identities are damaged.
    #[error("{0} is damaged")]
    Join(PathBuf),
    /// The system gave no randomness.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

/// Everything secret that a site has, and the random ids that were made with it.
pub struct Identity {
    /// Signs receipts, batches and requests.
    pub site_key: Arc<SecretKey>,
    /// Key of the TLS certificate, PKCS #8 in PEM.
    pub tls_key_pem: String,
    join: Join,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Join {
    chain_id: RandomId,
    nonce: RandomId,
}

impl Identity {
    /// Reads the keys of `dir`, or makes them where there are none. Each file is whole or absent: it is written
    /// beside, synced and renamed.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_or_make(dir: &Path) -> Result<Self, IdentityError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { path, source }
        };
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        }
        let site_key = read_or_write(&dir.join(SITE_KEY), || {
            Ok(SecretKey::generate().map_err(IdentityError::Random)?.to_json().to_string())
        })?;
        let tls_key_pem = read_or_write(&dir.join(TLS_KEY), || {
            let key = KeyPair::generate().map_err(|error| IdentityError::TlsKey(error.to_string()))?;
            Ok(key.serialize_pem())
        })?;
        let join = read_or_write(&dir.join(JOIN), || {
            let join = Join { chain_id: random_id()?, nonce: random_id()? };
            Ok(serde_json::to_string(&join).expect("two ids serialise without failure"))
        })?;
        let join = serde_json::from_str(&join).map_err(|_| IdentityError::Join(dir.join(JOIN)))?;
        Ok(Self { site_key: Arc::new(SecretKey::from_json(&site_key)?), tls_key_pem, join })
    }

    /// The chain of this key's receipts.
    #[must_use]
    pub fn chain_id(&self) -> &RandomId {
        &self.join.chain_id
    }

    /// What the grant must repeat.
    #[must_use]
    pub fn nonce(&self) -> &RandomId {
        &self.join.nonce
    }

    /// Writes and signs the request, with the token's proof where there is one.
    ///
    /// # Errors
    /// [`IdentityError::TlsKey`] where the TLS key is damaged.
    pub fn request(&self, ask: &Ask) -> Result<(EnrolmentRequest, Vec<u8>), IdentityError> {
        let tls =
            KeyPair::from_pem(&self.tls_key_pem).map_err(|error| IdentityError::TlsKey(error.to_string()))?;
        let tls_key = base64::engine::general_purpose::STANDARD.encode(tls.subject_public_key_info());
        let mut request = EnrolmentRequest {
            fleet_id: ask.fleet_id.clone(),
            root_sha256: ask.root_sha256,
            site_key: self.site_key.public(),
            chain_id: self.join.chain_id.clone(),
            age_recipient: None,
            tls_key,
            nonce: self.join.nonce.clone(),
            site: ask.site.clone(),
            machine: machine_facts(),
            token: None,
            issued_at: ask.now,
            crit: Vec::new(),
        };
        request.token = ask
            .token
            .as_ref()
            .map(|token| TokenProof { id: token.id.clone(), hmac: request.prove(&token.secret) });
        let envelope = Envelope::signed(&request, &self.site_key).to_json();
        Ok((request, envelope))
    }
}

/// What a request says beyond the keys.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The fleet.
    pub fleet_id: FleetId,
    /// Digest of the first root.
    pub root_sha256: Sha256Digest,
    /// The name that the site would like.
    pub site: Option<SiteId>,
    /// The token, online.
    pub token: Option<EnrolmentToken>,
    /// The time, as far as it is known.
    pub now: Timestamp,
}

/// Facts by which a person recognises the machine: host name, architecture, model, machine id.
fn machine_facts() -> Vec<(Name, String)> {
    let read = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        let text: String = text.trim_matches(['\0', '\n', ' ']).chars().take(100).collect();
        (!text.is_empty()).then_some(text)
    };
    let facts = [
        ("architecture", Some(std::env::consts::ARCH.to_owned())),
        ("hostname", read("/proc/sys/kernel/hostname")),
        ("machine-id", read("/etc/machine-id")),
        ("model", read("/proc/device-tree/model").or_else(|| read("/sys/class/dmi/id/product_name"))),
    ];
    let named = |(name, value): (&str, Option<String>)| Some((Name::new(name).ok()?, value?));
    facts.into_iter().filter_map(named).collect()
}

/// 128 random bits.
///
/// # Errors
/// [`IdentityError::Random`].
pub fn random_id() -> Result<RandomId, IdentityError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
    Ok(RandomId::from_bytes(bytes))
}

fn read_or_write(
    path: &Path,
    make: impl FnOnce() -> Result<String, IdentityError>,
) -> Result<String, IdentityError> {
    let failed = |source| IdentityError::File { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = make()?;
            write_whole(path, text.as_bytes()).map_err(failed)?;
            Ok(text)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes a file that only its owner reads: beside, synced, renamed, the directory synced.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use airlift_bundles::envelope::open_self_signed;
    use airlift_bundles::limits::Limits;

    use super::*;

    #[test]
    fn keys_are_made_once_and_only_their_owner_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let first = Identity::load_or_make(&keys).unwrap();
        let again = Identity::load_or_make(&keys).unwrap();
        assert_eq!(first.site_key.public(), again.site_key.public());
        assert_eq!((first.chain_id(), first.nonce()), (again.chain_id(), again.nonce()));
        for file in fs::read_dir(&keys).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_request_is_signed_by_its_own_key_and_proves_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_make(dir.path()).unwrap();
        let token = EnrolmentToken {
            fleet_id: FleetId::new("fleet").unwrap(),
            root_sha256: Sha256Digest::of(b"root"),
            hub_key_sha256: Sha256Digest::of(b"hub"),
            id: random_id().unwrap(),
            secret: [3; 32],
        };
        let ask = Ask {
            fleet_id: token.fleet_id.clone(),
            root_sha256: token.root_sha256,
            site: None,
            token: Some(token.clone()),
            now: Timestamp::from_unix_s(0),
        };
        let (_, bytes) = identity.request(&ask).unwrap();
        let opened =
            open_self_signed(&bytes, |request: &EnrolmentRequest| request.site_key.clone(), &Limits::DEFAULT);
        let opened = opened.unwrap();
        let request = opened.document();
        assert_eq!(request.token.as_ref().unwrap().hmac, request.prove(&token.secret));
        assert_ne!(request.token.as_ref().unwrap().hmac, request.prove(&[4; 32]));
    }
}
