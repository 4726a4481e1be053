//! Keeps the time at which connected sites were last heard of, so that it is right when they leave or the hub does.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::db::DbError;
use crate::db::rows::sites;
use crate::server::Hub;

/// Between two rounds. Freshness is measured in many minutes, and a round is one commit.
const ROUND: Duration = Duration::from_secs(60);

/// Records in rounds when connected sites last sent a byte; a ping counts.
pub(super) async fn run(hub: Arc<Hub>) {
    loop {
        tokio::time::sleep(ROUND).await;
        if let Err(error) = record(&hub).await {
            tracing::warn!(%error, "contacts of sites were not recorded");
        }
    }
}

/// Records every connected site's last contact, by the clock of the hub.
///
/// # Errors
/// [`DbError`].
pub async fn record(hub: &Hub) -> Result<(), DbError> {
    let Some(line) = hub.line() else { return Ok(()) };
    let (now, connected) = (hub.clock.now(), line.publisher.connected());
    let contacts = move |connection: &rusqlite::Connection| {
        for (site, connected) in connected {
            let heard_ms = u64::try_from(connected.heard.as_millis()).unwrap_or(u64::MAX);
            let seen = Now {
                mono_ms: now.mono_ms.saturating_sub(heard_ms),
                wall_ms: now.wall_ms.saturating_sub(heard_ms),
                boot: now.boot.clone(),
            };
            sites::set_seen(connection, &site, &seen)?;
        }
        Ok(())
    };
    hub.db.write(contacts).await
}
