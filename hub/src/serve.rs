//! Runs the hub: opens its parts in order, serves until it is told to stop, and leaves nothing half done.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::SiteId;
use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config::{BrokerPlace, Config, ConfigError, DataDir, Listen};
use crate::db;
use crate::descriptors::{self, Shares};
use crate::init::{InitError, write_file};
use crate::publish::broker::{self, Broker, BrokerSettings, HUB_NAME};
use crate::publish::endpoint::{self, Endpoint, SessionsFailed};
use crate::publish::ingest::Collector;
use crate::publish::known::KnownSites;
use crate::publish::{self, Line};
use crate::server::{Hub, Ports};
use crate::tls::{ClientAuth, TlsError, client_config, server_config};

/// Between two backups of the database: what a hub decided in between it learns again from its sites.
const BACKUP_EVERY: Duration = Duration::from_secs(3600);

/// The hub does not serve, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The hub cannot be opened.
    #[error(transparent)]
    Open(#[from] InitError),
    /// TLS cannot be configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Another process serves this directory.
    #[error("another hub serves {0}")]
    Locked(PathBuf),
    /// The lock file cannot be used.
    #[error("cannot lock {path}")]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A port cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The endpoint's rows cannot be loaded.
    #[error(transparent)]
    Sessions(#[from] SessionsFailed),
}

/// A hub that listens.
pub struct Running {
    hub: Arc<Hub>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    _lock: File,
}

impl Running {
    /// The hub.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Stops taking anything, lets what is under way finish within a grace, and commits the rest.
    pub async fn stop(mut self) {
        if let Err(error) = publish::presence::record(&self.hub).await {
            tracing::warn!(%error, "contacts of sites were not recorded");
        }
        // The receivers end with their tasks; none left is as good as told.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        let db = self.hub.db.clone();
        // The writer ends when it has nothing left; a failure to join it would have been printed by it.
        let _ = tokio::task::spawn_blocking(move || db.close()).await;
        tracing::info!("hub stopped");
    }
}

/// Takes the data directory for this process alone; the kernel gives it free when the process ends.
///
/// # Errors
/// [`ServeError::Locked`] where a hub serves it.
pub(crate) fn lock(data: &DataDir) -> Result<File, ServeError> {
    let path = data.lock();
    let io = |source| ServeError::Lock { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ServeError::Locked(data.path().to_owned())),
        Err(error) => Err(io(error.into())),
    }
}

/// Listens on an address; where `::` is asked for and the machine has no IPv6, on all of IPv4.
async fn bind(listen: &Listen) -> Result<TcpListener, ServeError> {
    let address = SocketAddr::new(listen.bind, listen.port);
    let bound = match TcpListener::bind(address).await {
        Err(_) if listen.bind == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port)).await
        }
        other => other,
    };
    bound.map_err(|source| ServeError::Bind { address, source })
}

fn port(listener: &TcpListener, listen: &Listen) -> u16 {
    listener.local_addr().map_or(listen.port, |address| address.port())
}

/// Opens the hub of a data directory and starts its listeners.
///
/// # Errors
/// [`ServeError`].
pub async fn start(data: DataDir, config: Config) -> Result<Running, ServeError> {
    let lock = lock(&data)?;
    let descriptors = descriptors::raise();
    let shares = Shares::of(descriptors);
    let hub = Hub::open(data, config).await?;
    let leaf = hub.hub_ca.issue_hub(&hub.fleet, &hub.config.hosts, &hub.leaf_key)?;
    let chain = vec![leaf, hub.hub_ca.certificate().clone()];
    let tls = |client_auth, protocols: &[&[u8]]| {
        server_config(chain.clone(), &hub.leaf_key, hub.site_ca.certificate(), client_auth, protocols)
    };
    let https_tls = tls(ClientAuth::Optional, &[b"h2", b"http/1.1"])?;
    let https = bind(&hub.config.https).await?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mqtt = match hub.config.broker.clone() {
        None => open_endpoint(&hub, tls(ClientAuth::Required, &[])?, shares, &stopped, &mut tasks).await?,
        Some(place) => link_broker(&hub, place, &stopped, &mut tasks)?,
    };
    let ports = Ports { https: port(&https, &hub.config.https), mqtt };
    hub.set_ports(ports);
    let router = crate::api::router(Arc::clone(&hub));
    tasks.spawn(crate::https::serve(https, https_tls, router, shares.https, stopped.clone()));
    tasks.spawn({
        let (line, ending) = (publish::run(Arc::clone(&hub)), stopped.clone());
        async move {
            tokio::select! {
                () = line => {}
                () = until(ending) => {}
            }
        }
    });
    tasks.spawn(keep_backups(hub.data.database(), until(stopped)));
    // Whoever started the hub with port 0 finds the real ones here.
    let text = format!("https = {}\nmqtt = {}\n", ports.https, ports.mqtt);
    write_file(&hub.data.path().join("ports"), text.as_bytes(), 0o644)?;
    tracing::info!(https = ports.https, mqtt = ports.mqtt, fleet = %hub.fleet, "hub serves");
    let sites_max = shares.sites;
    if hub.site_count() > sites_max as u64 {
        tracing::warn!(
            sites_max,
            descriptors,
            "not all sites can be connected at once: raise the limit of open files"
        );
    } else {
        tracing::info!(sites_max, descriptors, "places for sites");
    }
    Ok(Running { hub, stop, tasks, _lock: lock })
}

/// Copies the database every hour, until it is told to stop.
async fn keep_backups(database: PathBuf, ended: impl Future<Output = ()>) {
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = sleep(BACKUP_EVERY) => {}
            () = &mut ended => return,
        }
        let database = database.clone();
        let copied = tokio::task::spawn_blocking(move || db::back_up(&database, &db::backup_of(&database)));
        // A panic was printed by its thread.
        if let Ok(Err(error)) = copied.await {
            tracing::warn!(%error, "no backup of the database was made; the one before stays");
        }
    }
}

/// Opens the line that the hub has built in; its port.
async fn open_endpoint(
    hub: &Arc<Hub>,
    tls: Arc<rustls::ServerConfig>,
    shares: Shares,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> Result<u16, ServeError> {
    let listener = bind(&hub.config.mqtt).await?;
    let port = port(&listener, &hub.config.mqtt);
    let prefix = hub.config.topic_prefix.clone();
    let limits = endpoint::Limits {
        connections_max: shares.sites,
        waiting_max: shares.mqtt.waiting_max,
        handshakes_max: shares.mqtt.turns_max,
        handshakes_per_address_max: shares.mqtt.turns_per_origin_max,
        ..endpoint::Limits::default()
    };
    let endpoint = Endpoint::open(prefix, limits, hub.db.clone(), Collector::new(hub)).await?;
    hub.set_line(Line::new(endpoint.publisher(), hub.config.content_bytes_per_s));
    tasks.spawn(endpoint.serve(listener, tls, KnownSites(Arc::clone(hub)), until(stopped.clone())));
    Ok(port)
}

/// Opens the line over a broker; the broker's port.
fn link_broker(
    hub: &Arc<Hub>,
    place: BrokerPlace,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> Result<u16, ServeError> {
    let certificate = hub.site_ca.issue_client(&hub.fleet, HUB_NAME, &hub.leaf_key)?;
    let tls = client_config(certificate, &hub.leaf_key, hub.hub_ca.certificate())?;
    let broker = Broker::new(hub.config.topic_prefix.clone());
    hub.set_line(Line::new(broker.clone(), hub.config.content_bytes_per_s));
    let settings = BrokerSettings { host: place.host, port: place.port, tls };
    let known = Arc::downgrade(hub);
    let is_known = move |site: &SiteId| known.upgrade().is_some_and(|hub| hub.is_enrolled(site));
    let ingest = Arc::new(Collector::new(hub));
    tasks.spawn(broker::run(broker, settings, ingest, is_known, until(stopped.clone())));
    Ok(place.port)
}

/// Serves until SIGTERM or SIGINT; for a program's main.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(data: DataDir, config: Config) -> Result<(), ServeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let running = start(data, config).await?;
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Without a handler the signal ends the process, which is safe at any instant.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
    running.stop().await;
    Ok(())
}

pub(crate) async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the hub.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
