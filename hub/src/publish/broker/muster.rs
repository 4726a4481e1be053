//! What the hub does when it is back at the broker, where nobody knows what was lost meanwhile: it publishes again
//! what sites have not confirmed, and calls the roll, so that each says where it is and what was not acknowledged.

use std::sync::Arc;

use airlift_bundles::ids::SiteId;
use rusqlite::Connection;
use tokio::time::sleep;

use super::{Broker, ROLL_EVERY};
use crate::db::DbError;
use crate::db::rows::{assignments, sites, status};
use crate::publish::{publish_hub_state, wake};
use crate::server::Hub;

/// Sites of one commit, so that others get their turn.
const SITES_AT_ONCE: usize = 500;

/// Calls the roll on each connection, and now and then on one that stands.
pub(in crate::publish) async fn call_the_roll(hub: Arc<Hub>, broker: Broker) {
    loop {
        tokio::select! {
            () = broker.0.welcomed.notified() => match publish_again(&hub).await {
                Ok(0) => {}
                Ok(sites) => tracing::info!(sites, "assignments that nobody confirmed are published again"),
                Err(error) => tracing::error!(%error, "assignments that nobody confirmed were not found"),
            },
            () = sleep(ROLL_EVERY) => broker.renew_roll_call(),
        }
        publish_hub_state(&hub).await;
    }
}

/// Marks what no site has confirmed as not published.
async fn publish_again(hub: &Hub) -> Result<usize, DbError> {
    let unconfirmed = hub.db.read(unconfirmed).await?;
    for group in unconfirmed.chunks(SITES_AT_ONCE) {
        let group = group.to_vec();
        let mark = move |connection: &Connection| {
            for site in &group {
                assignments::mark_unpublished(connection, site)?;
            }
            Ok::<_, DbError>(())
        };
        hub.db.write(mark).await?;
    }
    wake(hub);
    Ok(unconfirmed.len())
}

/// The sites whose newest assignment is another one than their last signed status says.
fn unconfirmed(connection: &Connection) -> Result<Vec<SiteId>, DbError> {
    let mut found = Vec::new();
    for row in sites::list(connection, "", u32::MAX)? {
        let Some(newest) = assignments::newest(connection, &row.site)? else { continue };
        let confirmed = status::find(connection, &row.site)?.and_then(|status| status.document.assignment);
        if confirmed != Some(newest.counter) {
            found.push(row.site);
        }
    }
    Ok(found)
}
