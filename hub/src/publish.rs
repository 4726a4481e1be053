//! Publish: the ways by which what the hub decided reaches sites, and by which sites answer.

pub mod acks;
pub mod broker;
pub mod content;
pub mod desired;
pub mod endpoint;
pub mod ingest;
pub mod known;
pub mod outlet;
pub mod presence;

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::ids::SiteId;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{self, HubState, Topic};
use bytes::Bytes;
use tokio::sync::Notify;

use crate::server::Hub;
use acks::AckQueue;
use content::Content;
use endpoint::Qos;
use outlet::Outlet;

/// The hub's line to its sites.
pub struct Line {
    /// Publishes to the built-in endpoint, or to a broker.
    pub publisher: Outlet,
    /// Wakes the task that publishes what was signed.
    pub(crate) signed: Notify,
    pub(crate) acks: AckQueue,
    pub(crate) content: Arc<Content>,
}

impl Line {
    /// Makes the line over an endpoint's or a broker's handle; `content_bytes_per_s` bounds the content for all sites.
    #[must_use]
    pub fn new(publisher: impl Into<Outlet>, content_bytes_per_s: u64) -> Self {
        let content = Arc::new(Content::new(content_bytes_per_s));
        let publisher = publisher.into();
        Self { publisher, signed: Notify::new(), acks: AckQueue::default(), content }
    }
}

/// Over at least so many milliseconds sites spread their words after a common event, and one more for each site.
const JITTER_MS: u64 = 1_000;

/// Tells all sites which hub this is and how new its roots are.
pub async fn publish_hub_state(hub: &Hub) {
    let Some(line) = hub.line() else { return };
    let state = HubState {
        hub_incarnation: hub.incarnation.clone(),
        jitter_ms: JITTER_MS + hub.site_count(),
        root_version: hub.root().map_or(0, |root| root.version),
        roll_call: match &line.publisher {
            Outlet::Endpoint(_) => None,
            Outlet::Broker(broker) => broker.roll_call(),
        },
    };
    let payload = wire::encode(&state, &Limits::DEFAULT).expect("the hub's state is a few hundred bytes");
    let published = line.publisher.publish(&Topic::HubState, Bytes::from(payload), Qos::AtLeastOnce, true);
    if let Err(error) = published.await {
        tracing::warn!(%error, "hub state was not published");
    }
}

/// Says that sites have a newer assignment, so that it is published soon.
pub fn wake(hub: &Hub) {
    if let Some(line) = hub.line() {
        line.signed.notify_one();
    }
}

/// Runs the line's tasks until it is dropped: publishing what was signed, acks, and contacts.
pub async fn run(hub: Arc<Hub>) {
    publish_hub_state(&hub).await;
    let roll = call_the_roll(Arc::clone(&hub));
    tokio::join!(roll, desired::run(Arc::clone(&hub)), acks::run(Arc::clone(&hub)), presence::run(hub));
}

/// Where a broker stands between, sites are asked now and then who is there.
async fn call_the_roll(hub: Arc<Hub>) {
    let broker = match hub.line().map(|line| &line.publisher) {
        Some(Outlet::Broker(broker)) => broker.clone(),
        _ => return,
    };
    broker::call_the_roll(hub, broker).await;
}

/// Ends a site's connection for good: it is revoked.
pub async fn forget(hub: &Hub, site: &SiteId) {
    let Some(line) = hub.line() else { return };
    line.publisher.forget(site);
    if let Err(error) = line.publisher.clear_retained(&Topic::Desired(site.clone())).await {
        tracing::warn!(%site, %error, "retained assignment was not cleared");
    }
}

/// Waits before a failed task is tried again.
const RETRY: Duration = Duration::from_secs(1);
