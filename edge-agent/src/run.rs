//! The shell around the core: one event at a time in, commits in order, effects only after their commit.
//!
//! Steps are computed while earlier commits are still on their way to the disk; each step's effects wait for its
//! own. When a commit fails nothing of it is released: the core is dropped, loaded again from what is on disk, and
//! told so.

mod batch;
mod dispatch;
mod images;
mod news;
pub mod ops;
mod surroundings;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::document::release::Platform;
use airlift_bundles::ids::RandomId;
use airlift_bundles::keys::SecretKey;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::core::event::MediaId;
use crate::core::{Core, Effect, Event, LoadError, Start, Step};
use crate::ports::store::StoreError;
use crate::ports::{Boxed, Cluster, Images, Link, Store};
use crate::prepare::Bodies;
use crate::receive::content::DiskContent;
use dispatch::Dispatcher;
use news::{Chronicle, News};

/// Events that may wait for the core. Tasks wait when it is full; the connection's task never fills it, because the
/// inbox in front of it does.
pub const EVENTS: usize = 256;
/// Steps whose commits may be under way at once; then the core waits for the disk.
const COMMITS: usize = 64;
/// How long a failed database is left alone before it is loaded again.
const RELOAD_AFTER: Duration = Duration::from_secs(1);
/// An agent that had nothing to do for so long is at rest.
const QUIET: Duration = Duration::from_secs(10);

/// Everything that an agent acts through.
#[derive(Clone)]
pub struct Ports {
    /// Rows.
    pub store: Arc<dyn Store>,
    /// Blobs.
    pub content: Arc<DiskContent>,
    /// The Kubernetes API.
    pub cluster: Arc<dyn Cluster>,
    /// The container runtime.
    pub images: Arc<dyn Images>,
    /// The way to the hub, where there is one.
    pub link: Option<Arc<dyn Link>>,
    /// Whoever writes receipts onto media.
    pub media: mpsc::Sender<WriteMedia>,
}

/// A media wants the receipts `from..=upto` of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteMedia {
    /// Which one.
    pub media: MediaId,
    /// The chain.
    pub chain_id: RandomId,
    /// First receipt.
    pub from: u64,
    /// Last receipt.
    pub upto: u64,
}

/// Who the agent is.
#[derive(Clone)]
pub struct Site {
    /// The site key.
    pub key: Arc<SecretKey>,
    /// What its node runs.
    pub platform: Platform,
    /// Database, blobs and keys; rendered objects are kept under it while they are applied.
    pub state_dir: PathBuf,
}

/// Why an agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The rows make no site.
    #[error("cannot start from the database")]
    Load(#[from] LoadError),
    /// The database does not open.
    #[error("database failed")]
    Store(#[from] StoreError),
    /// The cache directory cannot be made.
    #[error("cannot use {path}")]
    Cache {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A commit on its way, with the effects that wait for it and what the log will tell of it.
struct Pending {
    commit: Boxed<'static, Result<(), StoreError>>,
    effects: Vec<Effect>,
    news: News,
}

/// A running agent.
pub struct Agent {
    site: Site,
    ports: Ports,
    clock: Clock,
    core: Core,
    dispatcher: Dispatcher,
    pending: VecDeque<Pending>,
    chronicle: Chronicle,
    tidy: Option<fn()>,
}

impl Agent {
    /// Loads the core from the store. `events` is the sending end of the queue that [`Agent::run`] reads.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn load(site: Site, ports: Ports, events: mpsc::Sender<Event>) -> Result<Self, RunError> {
        Self::load_as(site, ports, events, true).await
    }

    /// The same for a process that only takes documents and content in: it is no start that an app which settles
    /// has to survive.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn load_at_rest(
        site: Site,
        ports: Ports,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, RunError> {
        Self::load_as(site, ports, events, false).await
    }

    async fn load_as(
        site: Site,
        ports: Ports,
        events: mpsc::Sender<Event>,
        process_start: bool,
    ) -> Result<Self, RunError> {
        let cache_dir = site.state_dir.join("cache");
        let bodies = Bodies::open(&cache_dir, Arc::clone(&ports.content), Arc::clone(&ports.store))
            .map_err(|source| RunError::Cache { path: cache_dir.clone(), source })?;
        let core = load_core(&site, &ports, process_start).await?;
        let dispatcher = Dispatcher::new(site.clone(), ports.clone(), Arc::new(bodies), events);
        let (clock, pending, chronicle) = (Clock::system(), VecDeque::new(), Chronicle::default());
        Ok(Self { site, ports, clock, core, dispatcher, pending, chronicle, tidy: None })
    }

    /// What to do each time that there was nothing to do for a while: a process with one agent tidies up then.
    #[must_use]
    pub fn when_quiet(mut self, tidy: fn()) -> Self {
        self.tidy = Some(tidy);
        self
    }

    /// Where local requests are answered; see [`crate::control`].
    #[must_use]
    pub fn replies(&self) -> ops::Replies {
        self.dispatcher.replies()
    }

    /// Lives until `shutdown` says so and everything is committed.
    ///
    /// # Errors
    /// [`RunError`] where the database does not come back.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), RunError> {
        let owed = self.core.resume(self.clock.now());
        self.queue(owed);
        let mut watches = self.dispatcher.watch_surroundings();
        let (mut ending, mut tidied, mut worked) = (false, false, Instant::now());
        loop {
            let quiet = self.tidy.filter(|_| !tidied && self.pending.is_empty());
            let quiet = async {
                match quiet {
                    Some(tidy) => {
                        tokio::time::sleep_until(worked + QUIET).await;
                        tidy();
                    }
                    None => std::future::pending().await,
                }
            };
            let wake = self
                .dispatcher
                .wake_at()
                .map(|at| Duration::from_millis(at.saturating_sub(self.clock.now().mono_ms)));
            let wake = async {
                match wake {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                outcome = front(&mut self.pending) => {
                    if let Some(effects) = self.committed(outcome).await? {
                        if effects.iter().any(|effect| matches!(effect, Effect::Exit)) {
                            return self.end().await;
                        }
                        for effect in effects {
                            self.dispatcher.start(effect, self.core.rows().meta.as_ref());
                        }
                    } else {
                        // The core that was loaded anew has seen nothing yet: everything is news again.
                        drop(std::mem::replace(&mut watches, self.dispatcher.watch_surroundings()));
                    }
                    continue;
                }
                _ = shutdown.wait_for(|ending| *ending), if !ending => {
                    ending = true;
                    info!("shutting down");
                    Event::Shutdown { grace_ms: 5_000 }
                }
                event = events.recv(), if self.pending.len() < COMMITS => match event {
                    Some(event) => event,
                    None => return self.end().await,
                },
                () = wake, if self.pending.len() < COMMITS => {
                    self.dispatcher.woken();
                    Event::Wake
                }
                () = quiet => {
                    tidied = true;
                    continue;
                }
            };
            match &event {
                Event::OpEnded { op } => self.dispatcher.forget(*op),
                Event::LinkUp { conn, .. } => self.dispatcher.linked(*conn),
                _ => {}
            }
            let step = self.core.step(self.clock.now(), event);
            // Small news, such as that the disk is a little fuller, is no work.
            if !step.writes.is_empty()
                || step.effects.iter().any(|effect| !matches!(effect, Effect::Wake { .. }))
            {
                (tidied, worked) = (false, Instant::now());
            }
            self.queue(step);
        }
    }

    /// Hands a step's writes to the store; its effects wait behind them.
    fn queue(&mut self, step: Step) {
        let news = News::of(&step.writes);
        let commit: Boxed<'static, Result<(), StoreError>> = if step.writes.is_empty() {
            Box::pin(std::future::ready(Ok(())))
        } else {
            self.ports.store.commit(step.writes)
        };
        self.pending.push_back(Pending { commit, effects: step.effects, news });
    }

    /// What to start now; `None` where the commit failed and the core was loaded anew.
    async fn committed(&mut self, outcome: Result<(), StoreError>) -> Result<Option<Vec<Effect>>, RunError> {
        let Some(done) = self.pending.pop_front() else { return Ok(None) };
        let fault = match outcome {
            Ok(()) => {
                self.chronicle.tell(done.news, self.core.rows());
                return Ok(Some(done.effects));
            }
            // Only a start can mend it.
            Err(fault @ StoreError::Corrupt(_)) => return Err(fault.into()),
            Err(fault) => fault,
        };
        error!(%fault, "a commit failed: nothing of it was done, loading again from disk");
        self.pending.clear();
        self.dispatcher.drop_all();
        self.dispatcher.replies().refuse_all(fault.code(), &fault.to_string());
        loop {
            tokio::time::sleep(RELOAD_AFTER).await;
            match load_core(&self.site, &self.ports, false).await {
                Ok(core) => {
                    self.core = core;
                    break;
                }
                Err(RunError::Store(fault)) if !matches!(fault, StoreError::Corrupt(_)) => {
                    warn!(%fault, "database does not load yet");
                }
                Err(fault) => return Err(fault),
            }
        }
        let owed = self.core.resume(self.clock.now());
        self.queue(owed);
        let told = self.core.step(self.clock.now(), Event::StoreFailed { reason: fault.to_string() });
        self.queue(told);
        Ok(None)
    }

    /// Ends in order: nothing new starts, what was queued is committed, the hub hears goodbye.
    async fn end(mut self) -> Result<(), RunError> {
        self.dispatcher.drop_all();
        while let Some(pending) = self.pending.pop_front() {
            pending.commit.await?;
        }
        if let Some(link) = &self.ports.link {
            link.disconnect().await;
        }
        info!("stopped");
        Ok(())
    }
}

/// Resolves with the oldest commit's outcome; never while none is under way.
async fn front(pending: &mut VecDeque<Pending>) -> Result<(), StoreError> {
    match pending.front_mut() {
        Some(pending) => (&mut pending.commit).await,
        None => std::future::pending().await,
    }
}

async fn load_core(site: &Site, ports: &Ports, process_start: bool) -> Result<Core, RunError> {
    let rows = ports.store.load().await?;
    let start = Start {
        key: Arc::clone(&site.key),
        platform: site.platform.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hub: ports.link.is_some(),
        process_start,
        root: None,
    };
    Ok(Core::load(start, rows)?)
}
