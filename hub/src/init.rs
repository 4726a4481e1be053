//! Makes a hub: keys, authorities, database, the administrator's token; and installs its chain of roots.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use airlift_bundles::document::root::{RootError, TrustedRoot};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::{FleetId, RandomId, Sha256Digest, encode_hex};
use airlift_bundles::keys::{KeyError, PublicKey, SecretKey};
use airlift_bundles::limits::Limits;
use rusqlite::Connection;

use crate::clock::Clock;
use crate::config::{Config, DataDir};
use crate::db::rows::{audit, meta, roots, tokens};
use crate::db::{Db, DbError, MigrateError};
use crate::tls::{Authority, AuthorityKind, TlsError, generate_key};

/// What a new hub is to be.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Its data directory.
    pub data: DataDir,
    /// Its fleet.
    pub fleet: FleetId,
    /// Its settings.
    pub config: Config,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The key whose place is in the root's director role.
    pub director_key: PublicKey,
    /// SHA-256 of the hub CA's SubjectPublicKeyInfo.
    pub hub_key_sha256: Sha256Digest,
}

/// The hub was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already; it was left as it is.
    #[error("{0} already holds a hub")]
    Exists(PathBuf),
    /// There is none yet.
    #[error("{0} holds no hub: run `airlift hub init`")]
    Missing(PathBuf),
    /// A file could not be written or read.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gave no randomness.
    #[error("the system has no randomness to give")]
    Random,
    /// A key or certificate could not be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key file is damaged.
    #[error("key file {path} is damaged")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The database could not be opened.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A root was refused.
    #[error(transparent)]
    Root(#[from] RootRefused),
}

impl From<rusqlite::Error> for InitError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error.into())
    }
}

/// A chain of roots was not installed; the newest good one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum RootRefused {
    /// A root does not continue the chain.
    #[error("root is refused")]
    Root(#[from] RootError),
    /// The root governs another fleet.
    #[error("root is of fleet {found}, this hub serves {expected}")]
    OtherFleet {
        /// This hub's.
        expected: FleetId,
        /// The root's.
        found: FleetId,
    },
    /// Another root of this version is installed.
    #[error("root {0} differs from the one that is installed")]
    Differs(u64),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<rusqlite::Error> for RootRefused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], InitError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| InitError::Random)?;
    Ok(bytes)
}

/// Makes a hub in an empty or absent directory. The settings are written last: a directory without them was left
/// by an attempt that failed, and is made anew.
///
/// # Errors
/// [`InitError`].
pub fn init(options: &InitOptions) -> Result<Initialised, InitError> {
    let InitOptions { data, fleet, config } = options;
    if data.config().exists() {
        return Err(InitError::Exists(data.path().to_owned()));
    }
    for directory in [data.path().to_owned(), data.keys(), data.blobs(), data.uploads()] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|source| InitError::Io { path: directory, source })?;
    }
    for name in ["hub.db", "hub.db-wal", "hub.db-shm"] {
        // Only a failed attempt can have left one here.
        let _ = fs::remove_file(data.path().join(name));
    }
    let director = SecretKey::from_seed(&random()?);
    write_private(&data.director_key(), director.to_json().as_bytes())?;
    let public = serde_json::to_string(&director.public()).expect("a key serialises without failure");
    write_file(&data.director_public(), format!("{public}\n").as_bytes(), 0o644)?;

    let mut key_pems = Vec::new();
    for file in ["hub-ca.key.pem", "site-ca.key.pem", "hub.key.pem"] {
        let pem = generate_key()?;
        write_private(&data.keys().join(file), pem.as_bytes())?;
        key_pems.push(pem);
    }
    let hub_ca = Authority::new(AuthorityKind::Hub, fleet, &key_pems[0])?;
    write_file(&data.hub_ca(), hub_ca.certificate_pem().as_bytes(), 0o644)?;
    let site_ca = Authority::new(AuthorityKind::Site, fleet, &key_pems[1])?;
    write_file(&data.path().join("site-ca.pem"), site_ca.certificate_pem().as_bytes(), 0o644)?;

    let token = format!("airlift-api.{}", encode_hex(&random::<32>()?));
    write_private(&data.admin_token(), format!("{token}\n").as_bytes())?;
    let incarnation = RandomId::from_bytes(random()?);
    create_database(data, fleet, &incarnation, &token)?;
    write_file(&data.config(), config.to_toml().as_bytes(), 0o644)?;
    Ok(Initialised { director_key: director.public(), hub_key_sha256: hub_ca.key_sha256() })
}

fn create_database(
    data: &DataDir,
    fleet: &FleetId,
    incarnation: &RandomId,
    token: &str,
) -> Result<(), InitError> {
    let db = Db::open(&data.database())?;
    db.close();
    let mut connection = Connection::open(data.database())?;
    let transaction = connection.transaction()?;
    let now = Clock::start().now().time();
    meta::put_identity(&transaction, fleet, incarnation)?;
    tokens::add_api(&transaction, &Sha256Digest::of(token.as_bytes()), "admin", now)?;
    audit::append(&transaction, now, "init", "hub.init", fleet.as_str(), "")?;
    transaction.commit()?;
    Ok(())
}

/// Installs roots while no hub runs on the directory.
///
/// # Errors
/// [`InitError`].
pub fn install_roots(data: &DataDir, envelopes: &[Vec<u8>]) -> Result<TrustedRoot, InitError> {
    if !data.config().exists() {
        return Err(InitError::Missing(data.path().to_owned()));
    }
    let mut connection = Connection::open(data.database())?;
    let transaction = connection.transaction()?;
    let (fleet, _) =
        meta::identity(&transaction)?.ok_or_else(|| InitError::Missing(data.path().to_owned()))?;
    let newest = add_roots(&transaction, &fleet, envelopes)?;
    let newest = newest.ok_or_else(|| InitError::Missing(data.path().to_owned()))?;
    let detail = format!("newest is {}", newest.version);
    let now = Clock::start().now().time();
    audit::append(&transaction, now, "init", "root.install", fleet.as_str(), &detail)?;
    transaction.commit()?;
    Ok(newest)
}

/// Walks `envelopes` on from the newest root that is stored, and stores what is new; returns the newest.
///
/// Root 1 is taken on the word of the administrator, who hands its digest to the sites as well.
///
/// # Errors
/// [`RootRefused`]; then nothing may be committed.
pub fn add_roots(
    connection: &Connection,
    fleet: &FleetId,
    envelopes: &[Vec<u8>],
) -> Result<Option<TrustedRoot>, RootRefused> {
    let limits = &Limits::DEFAULT;
    let stored = roots::list(connection)?;
    let mut newest = match roots::newest(connection)? {
        Some(envelope) => Some(TrustedRoot::stored(&envelope, limits)?),
        None => None,
    };
    for bytes in envelopes {
        let digest = Envelope::parse(bytes, limits).map_err(RootError::from)?.digest();
        if stored.iter().any(|root| root.sha256 == digest) {
            continue;
        }
        let next = match &newest {
            None => TrustedRoot::pin(bytes, &digest, limits)?,
            Some(newest) => newest.advance(bytes, limits).map_err(|error| match error {
                RootError::NotNext { found, .. } if found <= newest.version => RootRefused::Differs(found),
                other => other.into(),
            })?,
        };
        if next.fleet_id != *fleet {
            return Err(RootRefused::OtherFleet { expected: fleet.clone(), found: next.fleet_id.clone() });
        }
        if newest.is_none() && next.version != 1 {
            return Err(RootError::NotNext { after: 0, found: next.version }.into());
        }
        let row = roots::RootRow { version: next.version, sha256: digest, issued_at: next.issued_at };
        roots::add(connection, &row, bytes)?;
        newest = Some(next);
    }
    Ok(newest)
}

/// Reads a secret file whole.
///
/// # Errors
/// [`InitError::Io`].
pub fn read_text(path: &Path) -> Result<String, InitError> {
    fs::read_to_string(path).map_err(|source| InitError::Io { path: path.to_owned(), source })
}

/// Reads the director key.
///
/// # Errors
/// [`InitError::Io`], [`InitError::Key`].
pub fn read_director(data: &DataDir) -> Result<SecretKey, InitError> {
    let path = data.director_key();
    let text = zeroize::Zeroizing::new(read_text(&path)?);
    SecretKey::from_json(&text).map_err(|source| InitError::Key { path, source })
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    write_file(path, bytes, 0o600)
}

/// Writes a file whole, and with it its directory's entry, before it returns.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InitError> {
    let write = || {
        let temporary = path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().map_err(|source| InitError::Io { path: path.to_owned(), source })
}
