//! Acks: the director's word to a site about what the hub holds, at most one each 250 ms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlift_bundles::document::ack::Ack;
use airlift_bundles::ids::{FleetId, RandomId, SiteId};
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{self, Topic};
use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::Notify;

use super::endpoint::Qos;
use crate::collect::take::receipt_mark;
use crate::db::DbError;
use crate::db::rows::{sites, status};
use crate::server::Hub;

/// Time between two acks to one site.
const SPACING: Duration = Duration::from_millis(250);

/// Sites that are owed an ack. A site stands here once, however much it sent.
#[derive(Debug, Default)]
pub struct AckQueue {
    owed: Mutex<BTreeMap<SiteId, RandomId>>,
    changed: Notify,
}

impl AckQueue {
    /// Owes the site an ack about this outbox. Called after the commit.
    pub fn owe(&self, site: SiteId, outbox_epoch: RandomId) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).insert(site, outbox_epoch);
        self.changed.notify_one();
    }

    fn take(&self) -> BTreeMap<SiteId, RandomId> {
        std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends what is owed, in rounds that start at least the spacing apart: the first word of a quiet site is acked at
/// once, and a busy one's words together.
pub(super) async fn run(hub: Arc<Hub>) {
    while let Some(line) = hub.line() {
        line.acks.changed.notified().await;
        let round = tokio::time::sleep(SPACING);
        for (site, outbox_epoch) in line.acks.take() {
            if let Err(error) = send(&hub, &site, &outbox_epoch).await {
                // Nothing is lost: the site sends its rows again, and is owed an ack again.
                tracing::warn!(%site, %error, "ack was not sent");
            }
        }
        round.await;
    }
}

/// The ack that the hub owes a site about an outbox, signed; `None` for a stranger.
///
/// # Errors
/// [`DbError`].
pub async fn compose_ack(
    hub: &Hub,
    site: &SiteId,
    outbox_epoch: &RandomId,
) -> Result<Option<Vec<u8>>, DbError> {
    let (name, epoch, fleet) = (site.clone(), outbox_epoch.clone(), hub.fleet.clone());
    let facts = hub.db.read(move |connection| ack_rows(connection, &fleet, &name, &epoch));
    Ok(facts.await?.map(|ack| hub.sign(&ack).to_json()))
}

/// How far a site's outbox and its newest chain are held; `None` for a stranger.
///
/// # Errors
/// [`DbError`].
pub fn ack_rows(
    connection: &Connection,
    fleet: &FleetId,
    site: &SiteId,
    outbox_epoch: &RandomId,
) -> Result<Option<Ack>, DbError> {
    let Some(row) = sites::find(connection, site)? else { return Ok(None) };
    Ok(Some(Ack {
        fleet_id: fleet.clone(),
        site: site.clone(),
        incarnation: row.incarnation,
        outbox_epoch: outbox_epoch.clone(),
        upto: status::upto(connection, site, outbox_epoch)?,
        receipts: receipt_mark(connection, site)?,
        crit: Vec::new(),
    }))
}

async fn send(
    hub: &Hub,
    site: &SiteId,
    outbox_epoch: &RandomId,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (Some(line), Some(ack)) = (hub.line(), compose_ack(hub, site, outbox_epoch).await?) else {
        return Ok(());
    };
    let payload = wire::frame(&ack, &Limits::DEFAULT)?;
    let topic = Topic::Ack(site.clone());
    line.publisher.publish(&topic, Bytes::from(payload), Qos::AtLeastOnce, false).await?;
    Ok(())
}
