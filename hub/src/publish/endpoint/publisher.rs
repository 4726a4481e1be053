//! The hub's handle on the endpoint: publish, look, and end connections.

use super::packet::Qos;
use super::reason::Reason;
use super::registry::{DueWill, Registry};
use super::route::Fanout;
use super::session::Batch;
use super::topic::NotHubTopic;
use airlift_bundles::ids::SiteId;
use airlift_bundles::wire::Topic;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

/// Presence events kept for a receiver that is slow: a reconnection of the largest fleet on one endpoint.
const PRESENCE_EVENTS_MAX: usize = 16_384;

/// Something that happened to a site's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It connected, or took its own connection over.
    Connected {
        /// The site.
        site: SiteId,
    },
    /// Its connection ended.
    Disconnected {
        /// The site.
        site: SiteId,
        /// It said goodbye, so no will follows.
        clean: bool,
    },
    /// Its will was handed to the ingest: it has been gone for its will delay.
    Will {
        /// The site.
        site: SiteId,
    },
    /// The receiver was too slow and lost events; [`Publisher::connected`] has the truth.
    Missed,
}

/// Receives presence events.
#[derive(Debug)]
pub struct PresenceEvents(broadcast::Receiver<Presence>);

impl PresenceEvents {
    /// Returns the next event; `None` when the endpoint is gone.
    pub async fn next(&mut self) -> Option<Presence> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Presence::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// One connected site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// How long it has been connected.
    pub since: Duration,
    /// How long ago its last byte came: online is at most two and a half keep-alives.
    pub heard: Duration,
    /// The keep-alive that it was granted.
    pub keep_alive: Duration,
    /// Bytes that wait for its socket.
    pub unsent_bytes: usize,
    /// QoS 0 messages dropped because its socket was full.
    pub dropped: u64,
    /// QoS 1 messages that it has not acknowledged.
    pub owed: usize,
}

/// Counts since the endpoint was opened, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that got CONNACK.
    pub connected: u64,
    /// Connections that ended before it, by why.
    pub turned_away: TurnedAway,
    /// Connections that were ended because their socket took nothing.
    pub stalled: u64,
    /// Messages of sites that the ingest committed.
    pub accepted: u64,
    /// Messages of sites that were refused.
    pub refused: u64,
}

/// Counts of connections that ended before CONNACK, or with a refusal in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Too many waited already.
    pub no_room_to_wait: u64,
    /// The handshake or CONNECT did not come in time, or not from a site.
    pub handshake: u64,
    /// CONNECT was not to be granted.
    pub refused: u64,
    /// The site connects too often.
    pub too_often: u64,
    /// As many sites are connected as may be.
    pub no_place: u64,
}

impl TurnedAway {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        let Self { no_room_to_wait, handshake, refused, too_often, no_place } = self;
        no_room_to_wait + handshake + refused + too_often + no_place
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connected: AtomicU64,
    pub(super) no_room_to_wait: AtomicU64,
    pub(super) handshake: AtomicU64,
    pub(super) connect_refused: AtomicU64,
    pub(super) too_often: AtomicU64,
    pub(super) no_place: AtomicU64,
    pub(super) stalled: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connected: read(&self.connected),
            turned_away: TurnedAway {
                no_room_to_wait: read(&self.no_room_to_wait),
                handshake: read(&self.handshake),
                refused: read(&self.connect_refused),
                too_often: read(&self.too_often),
                no_place: read(&self.no_place),
            },
            stalled: read(&self.stalled),
            accepted: read(&self.accepted),
            refused: read(&self.refused),
        }
    }
}

/// Refuses to publish.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The topic is not the hub's.
    #[error(transparent)]
    Topic(#[from] NotHubTopic),
    /// No site would take so much.
    #[error("the payload has {bytes} bytes, and {max} is the most")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The most.
        max: usize,
    },
    /// There is no connection to the broker.
    #[error("there is no connection to the broker")]
    Away,
    /// The endpoint stopped before the message was stored.
    #[error("the endpoint stopped before the message was stored")]
    Stopped,
}

/// Returns the site behind a client id that was accepted.
pub(super) fn site_id(client: &str) -> SiteId {
    SiteId::new(client).expect("a client id is accepted only when it is a site's")
}

/// How far the committing of rows has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Committed {
    pub(super) upto: Batch,
    /// Nothing more will be committed.
    pub(super) stopped: bool,
}

/// What connections, housekeeping and publishers share.
pub(super) struct Core {
    registry: Mutex<Registry>,
    started: Instant,
    pub(super) rows_changed: Notify,
    pub(super) committed: watch::Sender<Committed>,
    stopping: AtomicBool,
    presence: broadcast::Sender<Presence>,
    wills: mpsc::Sender<DueWill>,
    pub(super) counters: Counters,
}

impl Core {
    pub(super) fn new(registry: Registry, started: Instant, wills: mpsc::Sender<DueWill>) -> Self {
        Self {
            registry: Mutex::new(registry),
            started,
            rows_changed: Notify::new(),
            committed: watch::Sender::new(Committed::default()),
            stopping: AtomicBool::new(false),
            presence: broadcast::Sender::new(PRESENCE_EVENTS_MAX),
            wills,
            counters: Counters::default(),
        }
    }

    /// Runs `act` on the registry, and has the rows that it changed committed soon.
    ///
    /// A lock and not an owning task: every act is short and never waits, a fan-out is one call, and the
    /// hub's own thread publishes without a round trip.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.lock();
        let result = act(&mut registry);
        let changed = registry.has_changes();
        drop(registry);
        if changed {
            self.rows_changed.notify_one();
        }
        result
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Lets the committing of rows end when nothing is left to commit.
    pub(super) fn stop_commits(&self) {
        self.stopping.store(true, Ordering::Release);
        self.rows_changed.notify_one();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn tell(&self, event: Presence) {
        // No receiver is no harm: presence is for those who ask.
        drop(self.presence.send(event));
    }

    pub(super) fn fire(&self, will: Option<DueWill>) {
        if let Some(will) = will
            && let Err(mpsc::error::TrySendError::Full(DueWill { client, .. })) = self.wills.try_send(will)
        {
            // The ingest stands still, and the site connects again and again. A will is a hint.
            warn!(site = %client, "a will was dropped: too many wait");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // A panic in the registry is a broken invariant; the connections of others go on.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hub's handle on its endpoint. Clones are the same handle.
#[derive(Clone)]
pub struct Publisher {
    pub(super) core: Arc<Core>,
    pub(super) payload_bytes_max: usize,
}

impl Publisher {
    /// Publishes to all who read the topic. Resolves when what must be durable is; QoS 1 goes out only
    /// then. An empty retained payload clears, as [`Publisher::clear_retained`].
    pub async fn publish(
        &self,
        topic: &Topic,
        payload: Bytes,
        qos: Qos,
        retain: bool,
    ) -> Result<Fanout, PublishError> {
        if payload.len() > self.payload_bytes_max {
            return Err(PublishError::TooLarge { bytes: payload.len(), max: self.payload_bytes_max });
        }
        if retain && payload.is_empty() {
            return self.clear_retained(topic).await.map(|()| Fanout::default());
        }
        let (fanout, durable) = self.core.with(|registry| {
            let topic = registry.topics.hub_topic(topic)?;
            Ok::<_, NotHubTopic>(registry.publish(&topic, payload, qos, retain))
        })?;
        self.wait_committed(durable).await?;
        Ok(fanout)
    }

    /// Drops the retained message of a topic. Sites that have it keep it; those that do not never get it.
    pub async fn clear_retained(&self, topic: &Topic) -> Result<(), PublishError> {
        let durable = self.core.with(|registry| {
            let topic = registry.topics.hub_topic(topic)?;
            Ok::<_, NotHubTopic>(registry.clear_retained(&topic))
        })?;
        self.wait_committed(durable).await
    }

    /// Ends a site's connection; it may come back.
    pub fn disconnect(&self, site: &SiteId) {
        self.core.with(|registry| registry.close(Some(site.as_str()), Reason::ADMINISTRATIVE));
    }

    /// Ends a site's connection and forgets its session, queue and own retained messages: it is revoked.
    pub fn forget(&self, site: &SiteId) {
        let client: Arc<str> = site.as_str().into();
        self.core.with(|registry| {
            if registry.forget(&client) {
                self.core.tell(Presence::Disconnected { site: site.clone(), clean: false });
            }
        });
    }

    /// Returns every connected site.
    #[must_use]
    pub fn connected(&self) -> BTreeMap<SiteId, Connected> {
        let (now, now_ms) = (Instant::now(), self.core.now_ms());
        let registry = self.core.lock();
        let connected = registry.attached().map(|(site, attached)| {
            let connected = Connected {
                since: now.saturating_duration_since(attached.since),
                heard: Duration::from_millis(now_ms.saturating_sub(attached.outbox.heard_ms())),
                keep_alive: Duration::from_secs(attached.keep_alive_s.into()),
                unsent_bytes: attached.outbox.queued_bytes(),
                dropped: attached.outbox.dropped(),
                owed: registry.queued(site),
            };
            (site_id(site), connected)
        });
        connected.collect()
    }

    /// Subscribes to connections, disconnections and wills from now on.
    #[must_use]
    pub fn presence(&self) -> PresenceEvents {
        PresenceEvents(self.core.presence.subscribe())
    }

    /// Returns what was counted since the endpoint was opened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.core.counters.read()
    }

    async fn wait_committed(&self, batch: Batch) -> Result<(), PublishError> {
        let mut committed = self.core.committed.subscribe();
        let done = committed.wait_for(|done| done.upto >= batch || done.stopped).await;
        match done {
            Ok(done) if done.upto >= batch => Ok(()),
            _ => Err(PublishError::Stopped),
        }
    }
}
