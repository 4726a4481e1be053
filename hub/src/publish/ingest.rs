//! Takes what sites say over MQTT: batches into the store, presence into rows, wants into the content queues.

use std::sync::{Arc, Weak};

use airlift_bundles::document::status::SiteStatus;
use airlift_bundles::ids::SiteId;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{self, Conn, ConnState, Get, Topic};
use bytes::Bytes;
use rusqlite::Connection;

use super::desired::publish_desired;
use super::endpoint::{Accepted, Ingest, Refused};
use crate::clock::Now;
use crate::collect::take::{Taken, take_batch};
use crate::collect::verify::{VerifyError, verify_batch};
use crate::db::DbError;
use crate::db::rows::{assignments, sites};
use crate::server::Hub;

/// A site that says this long after its newest assignment that it has another one was not reached.
const UNREACHED_MS: u64 = 30_000;
/// Items of one `u/get` that are looked at.
const WANTED_MAX: usize = 64;

/// The collecting side of the hub.
///
/// Weak, because the hub holds the endpoint's handle: a hub that is gone takes nothing.
#[derive(Clone)]
pub struct Collector(Weak<Hub>);

impl Collector {
    /// Collects for a hub.
    #[must_use]
    pub fn new(hub: &Arc<Hub>) -> Self {
        Self(Arc::downgrade(hub))
    }
}

impl Ingest for Collector {
    async fn publish(&self, site: &SiteId, topic: Topic, payload: Bytes) -> Result<Accepted, Refused> {
        let hub = self.0.upgrade().ok_or(Refused::Busy)?;
        match topic {
            Topic::Status(_) => take_status(&hub, site, &payload).await,
            Topic::Conn(_) => take_presence(&hub, site, &payload).await,
            Topic::Get(_) => {
                let mut get: Get = decode(site, &payload)?;
                get.want.truncate(WANTED_MAX);
                if let Some(line) = hub.line() {
                    line.content.want(&hub, site, get).await;
                }
                Ok(Accepted)
            }
            // The endpoint lets sites write those three only.
            _ => Err(Refused::Forbidden),
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(site: &SiteId, payload: &[u8]) -> Result<T, Refused> {
    wire::decode(payload, &Limits::DEFAULT).map_err(|error| {
        tracing::warn!(%site, %error, "message of a site is not readable");
        Refused::Malformed
    })
}

fn not_committed(site: &SiteId, error: &DbError) -> Refused {
    tracing::error!(%site, %error, "message of a site was not committed");
    Refused::NotCommitted
}

async fn take_status(hub: &Arc<Hub>, site: &SiteId, payload: &[u8]) -> Result<Accepted, Refused> {
    let envelope = wire::unframe(payload, &Limits::DEFAULT).map_err(|error| {
        tracing::warn!(%site, %error, "batch of a site is not readable");
        Refused::Malformed
    })?;
    let keys = hub.site_keys(site);
    let batch = verify_batch(&envelope, &hub.fleet, site, &keys).map_err(|error| {
        tracing::warn!(%site, code = %error.code(), %error, "batch of a site is refused");
        match error {
            VerifyError::Envelope(_) => Refused::Malformed,
            VerifyError::NoKey(_) | VerifyError::Other { .. } => Refused::Forbidden,
        }
    })?;
    for error in batch.refused() {
        tracing::warn!(%site, code = %error.code(), %error, "receipt is refused");
    }
    let outbox_epoch = batch.outbox_epoch().clone();
    let (name, now) = (site.clone(), hub.clock.now());
    let taken = hub.db.write(move |connection| match sites::find(connection, &name)? {
        Some(row) => {
            let taken = take_batch(connection, &row, &batch, "mqtt", &now)?;
            let status = batch.status().map(|(_, status)| status);
            Ok((taken, status.map_or(Ok(false), |status| is_unreached(connection, &name, status, &now))?))
        }
        None => Ok((Taken::default(), false)),
    });
    let (taken, unreached) = taken.await.map_err(|error: DbError| not_committed(site, &error))?;
    tell(site, &taken);
    if unreached {
        publish_again(hub, site);
    }
    if let Some(line) = hub.line() {
        line.acks.owe(site.clone(), outbox_epoch);
    }
    Ok(Accepted)
}

/// Whether a site's own word says that its newest assignment never came: carriers may lose it.
fn is_unreached(
    connection: &Connection,
    site: &SiteId,
    status: &SiteStatus,
    now: &Now,
) -> Result<bool, DbError> {
    let Some(newest) = assignments::newest(connection, site)? else { return Ok(false) };
    // An assignment's number is the moment of its signing, where the clock allows.
    let age_ms = now.wall_ms.saturating_sub(newest.counter.seq);
    let knows = status.assignment.max(status.parked) >= Some(newest.counter);
    Ok(!knows && age_ms > UNREACHED_MS)
}

fn publish_again(hub: &Arc<Hub>, site: &SiteId) {
    let (hub, site) = (Arc::clone(hub), site.clone());
    tokio::spawn(async move {
        if let Err(error) = publish_desired(&hub, &site).await {
            tracing::warn!(%site, %error, "assignment was not published again");
        }
    });
}

/// Says in the log what a person should know of at once.
pub(crate) fn tell(site: &SiteId, taken: &Taken) {
    if let Some(code) = taken.quarantined {
        tracing::error!(%site, %code, "site is quarantined: its receipts contradict each other");
    }
    if taken.hub_restored {
        tracing::error!(%site, code = "AL0807", "site has a newer assignment than this hub: nothing is published until it is reconciled");
    }
}

async fn take_presence(hub: &Arc<Hub>, site: &SiteId, payload: &[u8]) -> Result<Accepted, Refused> {
    let conn: Conn = decode(site, payload)?;
    let (name, now) = (site.clone(), hub.clock.now());
    let stored = hub.db.write(move |connection| presence_rows(connection, &name, &conn, &now));
    let behind: bool = stored.await.map_err(|error| not_committed(site, &error))?;
    if behind {
        publish_again(hub, site);
    }
    Ok(Accepted)
}

/// Records a presence message; whether the site is there with another assignment than its newest.
///
/// # Errors
/// [`DbError`].
pub fn presence_rows(
    connection: &Connection,
    site: &SiteId,
    conn: &Conn,
    now: &Now,
) -> Result<bool, DbError> {
    let fresh = sites::set_presence(connection, site, &conn.boot, conn.conn_seq)?;
    if !fresh || conn.state != ConnState::Online {
        return Ok(false);
    }
    sites::set_seen(connection, site, now)?;
    let newest = assignments::newest(connection, site)?;
    Ok(newest.is_some_and(|newest| Some(newest.counter) != conn.assignment))
}
