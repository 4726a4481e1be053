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
use tokio::task::JoinSet;

use super::endpoint::Qos;
use crate::collect::take::receipt_mark;
use crate::db::DbError;
use crate::db::rows::{sites, status};
use crate::server::Hub;

/// Acks that wait for their commit at once, so that they share it.
const AT_ONCE: usize = 256;
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
        let owed: Vec<(SiteId, RandomId)> = line.acks.take().into_iter().collect();
        for group in owed.chunks(AT_ONCE) {
            if let Err(error) = send_group(&hub, group.to_vec()).await {
                // Nothing is lost: sites send their rows again, and are owed an ack again.
                tracing::warn!(%error, sites = group.len(), "acks were not composed");
            }
        }
        round.await;
    }
}

/// Reads what is held of all these sites at once, and publishes so that the acks share a commit.
async fn send_group(hub: &Arc<Hub>, owed: Vec<(SiteId, RandomId)>) -> Result<(), DbError> {
    let fleet = hub.fleet.clone();
    let facts = hub.db.read(move |connection| {
        let acks = owed.into_iter().map(|(site, epoch)| ack_rows(connection, &fleet, &site, &epoch));
        acks.collect::<Result<Vec<Option<Ack>>, DbError>>()
    });
    let mut sending = JoinSet::new();
    for ack in facts.await?.into_iter().flatten() {
        let hub = Arc::clone(hub);
        sending.spawn(async move {
            if let Err(error) = send(&hub, &ack).await {
                // As above.
                tracing::warn!(site = %ack.site, %error, "ack was not sent");
            }
        });
    }
    while sending.join_next().await.is_some() {}
    Ok(())
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

async fn send(hub: &Hub, ack: &Ack) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some(line) = hub.line() else { return Ok(()) };
    let payload = wire::frame(&hub.sign(ack).to_json(), &Limits::DEFAULT)?;
    let topic = Topic::Ack(ack.site.clone());
    line.publisher.publish(&topic, Bytes::from(payload), Qos::AtLeastOnce, false).await?;
    Ok(())
}
