//! The state directory in this process's hands: database, keys, and the grant where there is one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::Grant;
use airlift_bundles::ids::{Sha256Digest, Timestamp};

use super::failure::{Ending, Failure};
use crate::clock::Clock;
use crate::config::{Config, host_platform};
use crate::control::desk::Desk;
use crate::core::write::{MetaRow, Rows};
use crate::enrol::grant::{GrantError, admit, kept};
use crate::enrol::identity::IdentityError;
use crate::enrol::online::Granted;
use crate::enrol::{Identity, OfflineError};
use crate::ports::absent::{AbsentCluster, AbsentImages};
use crate::ports::content::ContentError;
use crate::ports::store::StoreError;
use crate::ports::{Content, Store};
use crate::receive::content::DiskContent;
use crate::receive::media::Loader;
use crate::run::{Agent, EVENTS, Ports, RunError, Site};
use crate::store::SqliteStore;

/// How long a command waits for another that holds the directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// The directory, held by this process until it is dropped.
pub(super) struct State {
    pub(super) store: Arc<SqliteStore>,
    pub(super) identity: Identity,
    pub(super) rows: Rows,
}

/// What an enrolled site knows of itself.
pub(super) struct Enrolled {
    pub(super) meta: MetaRow,
    pub(super) grant: Grant,
}

impl State {
    /// Takes the directory, waiting a little for whoever has it.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let mut waited = Duration::ZERO;
        let store = loop {
            match SqliteStore::open(&config.state_dir) {
                Err(StoreError::Locked(_)) if waited < LOCK_PATIENCE => {
                    waited += LOCK_PAUSE;
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                outcome => break Arc::new(outcome?),
            }
        };
        let identity = Identity::load_or_make(&config.keys_dir())?;
        let rows = store.load().await?;
        Ok(Self { store, identity, rows })
    }

    /// The enrolment; `None` before there is one.
    pub(super) fn enrolled(&self, config: &Config) -> Result<Option<Enrolled>, Failure> {
        let grant = kept(&config.keys_dir())?;
        Ok(self.rows.meta.clone().zip(grant).map(|(meta, grant)| Enrolled { meta, grant }))
    }

    /// Verifies a grant and makes the site what it says.
    pub(super) async fn take_grant(
        &mut self,
        config: &Config,
        root_sha256: &Sha256Digest,
        granted: &Granted,
    ) -> Result<Grant, Failure> {
        let admitted = admit(&self.identity, &self.rows, root_sha256, &granted.roots, &granted.grant)?;
        let grant = admitted.grant().clone();
        let writes = admitted.keep(&config.keys_dir())?;
        self.store.commit(writes).await?;
        self.rows = self.store.load().await?;
        Ok(grant)
    }

    /// What the agent runs as.
    pub(super) fn site(&self, config: &Config) -> Site {
        Site {
            key: Arc::clone(&self.identity.site_key),
            platform: host_platform(),
            state_dir: config.state_dir.clone(),
        }
    }

    /// Runs a core with nothing but its disk for as long as `work` takes: no cluster, no hub.
    pub(super) async fn with_core<T, F: Future<Output = T>>(
        &self,
        config: &Config,
        work: impl FnOnce(Loader) -> F,
    ) -> Result<T, Failure> {
        let site = self.site(config);
        let store: Arc<dyn Store> = Arc::clone(&self.store) as Arc<dyn Store>;
        let content =
            DiskContent::open(config.state_dir.clone(), site.platform.clone(), Arc::clone(&store)).await?;
        let content = Arc::new(content);
        let (events, queue) = tokio::sync::mpsc::channel(EVENTS);
        let (media, _nobody_writes) = tokio::sync::mpsc::channel(1);
        let ports = Ports {
            store: Arc::clone(&store),
            content: Arc::clone(&content),
            cluster: Arc::new(AbsentCluster),
            images: Arc::new(AbsentImages),
            link: None,
            media,
        };
        let agent = Agent::load_at_rest(site, ports, events.clone()).await?;
        let desk = Desk::new(events, agent.replies());
        let loader = Loader { desk, store, content: content as Arc<dyn Content> };
        let (end, ending) = tokio::sync::watch::channel(false);
        let work = async {
            let outcome = work(loader).await;
            let _ = end.send(true); // the agent ended by itself, and says why below
            outcome
        };
        let (outcome, ended) = tokio::join!(work, agent.run(queue, ending));
        ended?;
        Ok(outcome)
    }
}

/// The time as far as this machine knows it.
pub(super) fn known_time() -> Timestamp {
    let wall_ms = Clock::system().now().wall_ms.unwrap_or(0);
    Timestamp::from_unix_s(i64::try_from(wall_ms / 1000).unwrap_or(i64::MAX))
}

/// The digest of the first root, from the command line or the configuration; never from media.
pub(super) fn pinned_root(config: &Config, given: Option<Sha256Digest>) -> Result<Sha256Digest, Failure> {
    if let (Some(given), Some(configured)) = (given, config.root_sha256)
        && given != configured
    {
        let message = format!("root {given} is given, but the configuration pins {configured}");
        return Err(Failure::coded(Code::RootNotPinned, message));
    }
    given.or(config.root_sha256).ok_or_else(|| {
        Failure::coded(Code::ConfigInvalid, "the digest of the fleet's first root is not known here").next(
            "Give `--root-sha256`, or set `root_sha256` in agent.toml; the key holders know the digest.",
        )
    })
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        Self::coded(error.code, error.reason)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::coded(Code::KeyFile, error).ending(Ending::Runtime)
    }
}

impl From<GrantError> for Failure {
    fn from(error: GrantError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<OfflineError> for Failure {
    fn from(error: OfflineError) -> Self {
        match &error {
            OfflineError::Media(inner) => Self::coded(inner.code(), error),
            OfflineError::Root(inner) => Self::coded(inner.code(), error),
            OfflineError::Identity(_) => Self::coded(Code::KeyFile, error).ending(Ending::Runtime),
            OfflineError::Name(_) => Self::new(Ending::Runtime, error),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Store(error) => error.into(),
            error => Self::coded(Code::StoreFailed, error),
        }
    }
}
