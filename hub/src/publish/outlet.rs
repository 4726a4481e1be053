//! Where the hub publishes: at its own endpoint, or at a broker. Whoever publishes does not know which.

use std::collections::BTreeMap;

use airlift_bundles::ids::SiteId;
use airlift_bundles::wire::Topic;
use bytes::Bytes;

use super::broker::Broker;
use super::endpoint::{Connected, Counts, Fanout, PublishError, Publisher, Qos};

/// The hub's way to its sites.
#[derive(Clone)]
pub enum Outlet {
    /// The endpoint that the hub has built in.
    Endpoint(Publisher),
    /// A broker that stands between hub and sites.
    Broker(Broker),
}

impl Outlet {
    /// Publishes to all who read the topic. At the endpoint it resolves when what must be durable is; at a broker
    /// when the link has it, which is no promise.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(
        &self,
        topic: &Topic,
        payload: Bytes,
        qos: Qos,
        retain: bool,
    ) -> Result<Fanout, PublishError> {
        match self {
            Self::Endpoint(publisher) => publisher.publish(topic, payload, qos, retain).await,
            Self::Broker(broker) => broker.publish(topic, payload, qos, retain).await,
        }
    }

    /// Drops the retained message of a topic.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn clear_retained(&self, topic: &Topic) -> Result<(), PublishError> {
        match self {
            Self::Endpoint(publisher) => publisher.clear_retained(topic).await,
            Self::Broker(broker) => {
                broker.publish(topic, Bytes::new(), Qos::AtLeastOnce, true).await.map(drop)
            }
        }
    }

    /// Ends a site's connection; it may come back. A broker ends none for us.
    pub fn disconnect(&self, site: &SiteId) {
        match self {
            Self::Endpoint(publisher) => publisher.disconnect(site),
            Self::Broker(broker) => broker.forget(site),
        }
    }

    /// Ends a site's connection and forgets what was kept for it: it is revoked. At a broker it may stay connected,
    /// and is not listened to.
    pub fn forget(&self, site: &SiteId) {
        match self {
            Self::Endpoint(publisher) => publisher.forget(site),
            Self::Broker(broker) => broker.forget(site),
        }
    }

    /// The sites that are connected, as far as the hub can know.
    #[must_use]
    pub fn connected(&self) -> BTreeMap<SiteId, Connected> {
        match self {
            Self::Endpoint(publisher) => publisher.connected(),
            Self::Broker(broker) => broker.connected(),
        }
    }

    /// What was counted since the hub started.
    #[must_use]
    pub fn counts(&self) -> Counts {
        match self {
            Self::Endpoint(publisher) => publisher.counts(),
            Self::Broker(broker) => broker.counts(),
        }
    }
}

impl From<Publisher> for Outlet {
    fn from(publisher: Publisher) -> Self {
        Self::Endpoint(publisher)
    }
}

impl From<Broker> for Outlet {
    fn from(broker: Broker) -> Self {
        Self::Broker(broker)
    }
}
