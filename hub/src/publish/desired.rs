//! Publishes assignments: what is signed and not yet published, at once and after every restart.

use std::sync::Arc;

use airlift_bundles::ids::SiteId;
use airlift_bundles::limits::Limits;
use airlift_bundles::wire::{self, Desired, Topic, WireError};
use bytes::Bytes;
use rusqlite::Connection;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::RETRY;
use super::endpoint::Qos;
use crate::db::DbError;
use crate::db::rows::assignments::{self, AssignmentRow};
use crate::db::rows::meta;
use crate::server::Hub;

/// Framed assignments up to this travel inline: 120 KiB.
const INLINE_BYTES_MAX: usize = 120 << 10;
/// Publishes that wait for their commit at once, so that they share it.
const AT_ONCE: usize = 256;

/// An assignment could not be published.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The stored assignment cannot be framed.
    #[error("assignment cannot be framed")]
    Wire(#[from] WireError),
    /// The stored assignment is not JSON.
    #[error("stored assignment is damaged")]
    Damaged(#[from] serde_json::Error),
    /// The endpoint did not take it.
    #[error("the endpoint did not take it")]
    Publish(#[from] super::endpoint::PublishError),
}

/// Publishes whatever is not published, each time it is woken.
pub(super) async fn run(hub: Arc<Hub>) {
    loop {
        match publish_waiting(&hub).await {
            Ok(()) => match hub.line() {
                Some(line) => line.signed.notified().await,
                None => return,
            },
            Err(error) => {
                tracing::error!(%error, "assignments could not be read");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn publish_waiting(hub: &Arc<Hub>) -> Result<(), DbError> {
    let sites = hub.db.read(waiting_sites).await?;
    for group in sites.chunks(AT_ONCE) {
        publish_group(hub, group.to_vec()).await?;
    }
    Ok(())
}

/// Publishes what these sites should have: read at once, published side by side, marked at once.
async fn publish_group(hub: &Arc<Hub>, sites: Vec<SiteId>) -> Result<(), DbError> {
    let newest = hub.db.read(move |connection| {
        let newest = sites.into_iter().map(|site| Ok((newest_desired(connection, &site)?, site)));
        newest.collect::<Result<Vec<_>, DbError>>()
    });
    let mut publishing = JoinSet::new();
    for (assignment, site) in newest.await? {
        let Some(assignment) = assignment else { continue };
        let hub = Arc::clone(hub);
        publishing.spawn(async move {
            match publish_one(&hub, &site, &assignment).await {
                Ok(()) => Some((site, assignment.counter)),
                Err(error) => {
                    tracing::warn!(%site, %error, "assignment was not published");
                    None
                }
            }
        });
    }
    let mut published = Vec::new();
    while let Some(done) = publishing.join_next().await {
        published.extend(done.ok().flatten());
    }
    let mark = move |connection: &Connection| {
        for (site, counter) in &published {
            assignments::mark_published(connection, site, *counter)?;
        }
        Ok(())
    };
    hub.db.write(mark).await
}

/// The sites whose newest assignment is not published; none while the hub has to be reconciled.
///
/// # Errors
/// [`DbError`].
pub fn waiting_sites(connection: &Connection) -> Result<Vec<SiteId>, DbError> {
    #[cfg(feature = "mutations")]
    if crate::mutation::is(crate::mutation::Mutation::OneStopsAll) {
        for site in assignments::unpublished(connection)? {
            if crate::db::rows::sites::find(connection, &site)?.is_none_or(|row| row.seen.is_none()) {
                return Ok(Vec::new());
            }
        }
    }
    Ok(if meta::must_reconcile(connection)? { Vec::new() } else { assignments::unpublished(connection)? })
}

/// The assignment that a site should have; none while the hub has to be reconciled.
///
/// # Errors
/// [`DbError`].
pub fn newest_desired(connection: &Connection, site: &SiteId) -> Result<Option<AssignmentRow>, DbError> {
    Ok(if meta::must_reconcile(connection)? { None } else { assignments::newest(connection, site)? })
}

/// Publishes a site's newest assignment, retained.
///
/// # Errors
/// [`DesiredError`]; it stays marked as not published.
pub async fn publish_desired(hub: &Hub, site: &SiteId) -> Result<(), DesiredError> {
    let name = site.clone();
    let newest = hub.db.read(move |connection| newest_desired(connection, &name));
    let Some(assignment) = newest.await? else { return Ok(()) };
    publish_one(hub, site, &assignment).await?;
    let (name, counter) = (site.clone(), assignment.counter);
    let mark = move |connection: &Connection| {
        Ok::<_, DbError>(assignments::mark_published(connection, &name, counter)?)
    };
    Ok(hub.db.write(mark).await?)
}

async fn publish_one(hub: &Hub, site: &SiteId, assignment: &AssignmentRow) -> Result<(), DesiredError> {
    // A hub without a line publishes when it has one: what is marked is asked for by sites that connect.
    let Some(line) = hub.line() else { return Ok(()) };
    let payload = frame(hub, assignment)?;
    let topic = Topic::Desired(site.clone());
    line.publisher.publish(&topic, Bytes::from(payload), Qos::AtLeastOnce, true).await?;
    tracing::info!(%site, assignment = %assignment.counter, "assignment published");
    Ok(())
}

fn frame(hub: &Hub, assignment: &AssignmentRow) -> Result<Vec<u8>, DesiredError> {
    let root_version = hub.root().map_or(0, |root| root.version);
    let text = String::from_utf8_lossy(&assignment.envelope).into_owned();
    let size = assignment.envelope.len() as u64;
    let inline =
        Desired { envelope: Some(RawValue::from_string(text)?), pointer: None, size: None, root_version };
    match wire::encode(&inline, &Limits::DEFAULT) {
        Ok(framed) if framed.len() <= INLINE_BYTES_MAX => return Ok(framed),
        Ok(_) | Err(WireError::TooLarge { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let (pointer, size) = (Some(assignment.sha256), Some(size));
    Ok(wire::encode(&Desired { envelope: None, pointer, size, root_version }, &Limits::DEFAULT)?)
}
