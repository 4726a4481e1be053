//! The hub as one value: its keys, its store, what it knows by heart, and the handles of its parts.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use airlift_bundles::document::enrolment::HubAddress;
use airlift_bundles::document::root::TrustedRoot;
use airlift_bundles::envelope::{Document, Envelope};
use airlift_bundles::ids::{FleetId, RandomId, Sha256Digest, SiteId};
use airlift_bundles::keys::{PublicKey, SecretKey};
use airlift_bundles::limits::Limits;
use rcgen::KeyPair;
use rusqlite::Connection;

use crate::clock::Clock;
use crate::config::{Config, DataDir};
use crate::db::rows::sites::SiteKeyRow;
use crate::db::rows::{meta, roots, sites};
use crate::db::{Db, DbError};
use crate::init::{InitError, read_director, read_text};
use crate::plan::sign::Directing;
use crate::publish::Line;
use crate::tls::{Authority, AuthorityKind};
use crate::uploads::Uploads;

/// The ports that the hub really listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// HTTPS.
    pub https: u16,
    /// MQTT over TLS: the broker's, where there is one.
    pub mqtt: u16,
}

/// A hub that is open: everything that its listeners share.
pub struct Hub {
    /// Where its files are.
    pub data: DataDir,
    /// Its settings.
    pub config: Config,
    /// Its store.
    pub db: Db,
    /// Its clocks.
    pub clock: Clock,
    /// Its fleet.
    pub fleet: FleetId,
    /// Which life of it this is.
    pub incarnation: RandomId,
    /// The authority of its own certificate.
    pub hub_ca: Authority,
    /// The authority of sites' certificates.
    pub site_ca: Authority,
    pub(crate) leaf_key: KeyPair,
    pub(crate) uploads: Uploads,
    director: SecretKey,
    root: RwLock<Option<Arc<TrustedRoot>>>,
    directory: RwLock<Directory>,
    ports: OnceLock<Ports>,
    line: OnceLock<Line>,
}

/// The sites' keys, by heart: listeners ask for each connection and message.
#[derive(Debug, Default)]
struct Directory {
    keys: BTreeMap<SiteId, Arc<Vec<SiteKeyRow>>>,
    by_tls_key: BTreeMap<Sha256Digest, SiteId>,
}

impl Hub {
    /// Opens the hub of a data directory; it does not listen yet.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn open(data: DataDir, config: Config) -> Result<Arc<Self>, InitError> {
        let director = read_director(&data)?;
        let pem = |file: &str| read_text(&data.keys().join(file));
        let (hub_pem, site_pem, leaf_pem) =
            (pem("hub-ca.key.pem")?, pem("site-ca.key.pem")?, pem("hub.key.pem")?);
        let db = Db::open(&data.database())?;
        let missing = data.path().to_owned();
        let identity = db.read(|connection| Ok::<_, DbError>(meta::identity(connection)?)).await?;
        let (fleet, incarnation) = identity.ok_or(InitError::Missing(missing))?;
        let hub = Self {
            hub_ca: Authority::new(AuthorityKind::Hub, &fleet, &hub_pem)?,
            site_ca: Authority::new(AuthorityKind::Site, &fleet, &site_pem)?,
            leaf_key: KeyPair::from_pem(&leaf_pem).map_err(crate::tls::TlsError::from)?,
            data,
            config,
            db,
            clock: Clock::start(),
            fleet,
            incarnation,
            director,
            uploads: Uploads::default(),
            root: RwLock::default(),
            directory: RwLock::default(),
            ports: OnceLock::new(),
            line: OnceLock::new(),
        };
        hub.reload_root().await?;
        hub.reload_directory().await?;
        Ok(Arc::new(hub))
    }

    /// Learns the newest root from the store.
    ///
    /// # Errors
    /// [`InitError`], where the stored root is damaged.
    pub async fn reload_root(&self) -> Result<(), InitError> {
        let envelope = self.db.read(|connection| Ok::<_, DbError>(roots::newest(connection)?)).await?;
        let root = envelope.map(|bytes| TrustedRoot::stored(&bytes, &Limits::DEFAULT)).transpose();
        let root = root.map_err(crate::init::RootRefused::from)?;
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = root.map(Arc::new);
        Ok(())
    }

    /// Learns the sites' keys from the store.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn reload_directory(&self) -> Result<(), DbError> {
        let rows = self.db.read(|connection| {
            let mut directory = Directory::default();
            for site in sites::list(connection, "", u32::MAX)? {
                let keys = sites::keys(connection, &site.site)?;
                directory.insert(site.site, keys);
            }
            Ok::<_, DbError>(directory)
        });
        let directory = rows.await?;
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = directory;
        Ok(())
    }

    /// Learns one site's keys from the store, after they changed.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn reload_site(&self, site: &SiteId) -> Result<(), DbError> {
        let name = site.clone();
        let keys = self.db.read(move |connection| Ok::<_, DbError>(sites::keys(connection, &name)?)).await?;
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        directory.by_tls_key.retain(|_, known| known != site);
        directory.insert(site.clone(), keys);
        Ok(())
    }

    /// The keys of a site, newest enrolment first; empty for a stranger.
    #[must_use]
    pub fn site_keys(&self, site: &SiteId) -> Arc<Vec<SiteKeyRow>> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        directory.keys.get(site).cloned().unwrap_or_default()
    }

    /// The site whose certificate has this TLS key.
    #[must_use]
    pub fn site_of_tls_key(&self, spki: &[u8]) -> Option<SiteId> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        directory.by_tls_key.get(&Sha256Digest::of(spki)).cloned()
    }

    /// How many sites there are.
    #[must_use]
    pub fn site_count(&self) -> u64 {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).keys.len() as u64
    }

    /// Whether a site is enrolled and was not revoked since.
    #[must_use]
    pub fn is_enrolled(&self, site: &SiteId) -> bool {
        self.site_keys(site).iter().any(|key| !key.revoked)
    }

    /// The newest root.
    #[must_use]
    pub fn root(&self) -> Option<Arc<TrustedRoot>> {
        self.root.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The director's public key.
    #[must_use]
    pub fn director_key(&self) -> PublicKey {
        self.director.public()
    }

    /// Whether the newest root lets this hub sign alone.
    #[must_use]
    pub fn may_direct(&self) -> bool {
        self.directing().may_direct()
    }

    /// Signs a document with the director key; its envelope.
    #[must_use]
    pub fn sign<D: Document>(&self, document: &D) -> Envelope {
        self.directing().sign(document)
    }

    /// What its decisions are signed with, under the newest root.
    #[must_use]
    pub fn directing(&self) -> Directing<'_> {
        let (fleet, hub_incarnation) = (&self.fleet, &self.incarnation);
        Directing { key: &self.director, fleet, hub_incarnation, root: self.root() }
    }

    /// Fixes the ports once the listeners are bound.
    pub fn set_ports(&self, ports: Ports) {
        // They are bound once; a second call would say the same.
        let _ = self.ports.set(ports);
    }

    /// The ports that are listened on: those of the settings until then.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let mqtt = self.config.broker.as_ref().map_or(self.config.mqtt.port, |broker| broker.port);
        let configured = Ports { https: self.config.https.port, mqtt };
        self.ports.get().copied().unwrap_or(configured)
    }

    /// The addresses that a grant carries.
    #[must_use]
    pub fn addresses(&self) -> Vec<HubAddress> {
        let ports = self.ports();
        self.config.addresses(ports.https, ports.mqtt)
    }

    /// Connects the hub to its line; once.
    pub fn set_line(&self, line: Line) {
        // A hub has one endpoint; a second call cannot happen before the first has ended.
        let _ = self.line.set(line);
    }

    /// The line to the sites; none while the endpoint is not open, as in tests of the API alone.
    #[must_use]
    pub fn line(&self) -> Option<&Line> {
        self.line.get()
    }

    /// Whether a site is connected over MQTT now, and was heard of within two and a half keep-alives.
    #[must_use]
    pub fn connected(&self) -> BTreeMap<SiteId, bool> {
        let Some(line) = self.line() else { return BTreeMap::new() };
        let alive = |connected: &crate::publish::endpoint::Connected| {
            connected.heard <= connected.keep_alive.mul_f32(2.5)
        };
        line.publisher.connected().into_iter().map(|(site, connected)| (site, alive(&connected))).collect()
    }
}

impl Directory {
    fn insert(&mut self, site: SiteId, keys: Vec<SiteKeyRow>) {
        for key in keys.iter().filter(|key| !key.revoked) {
            self.by_tls_key.insert(key.tls_sha256, site.clone());
        }
        self.keys.insert(site, Arc::new(keys));
    }
}

/// The newest root, read inside a transaction.
///
/// # Errors
/// [`DbError`].
pub fn newest_root(connection: &Connection) -> Result<Option<TrustedRoot>, DbError> {
    let envelope = roots::newest(connection)?;
    let root = envelope.map(|bytes| TrustedRoot::stored(&bytes, &Limits::DEFAULT)).transpose();
    root.map_err(|error| DbError::Broken(format!("the stored root is damaged: {error}")))
}
