//! The lease that holds everything of an import until image records hold it.
//!
//! Without one, containerd's collector may take a blob between its write and the record that names it. The lease is
//! named after the image and outlives a kill, so that the next try finds what the last one wrote.

use airlift_bundles::ids::Sha256Digest;
use tonic::{Code, Status};
use tracing::{debug, info};

use super::labels::LEASE;
use super::messages::{
    AddResourceRequest, CreateLeaseRequest, DeleteLeaseRequest, Empty, Labels, Lease, LeaseResource,
    ListLeasesResponse, ListRequest,
};
use super::socket::{CALL_TIMEOUT, Socket};
use crate::ports::images::ImportError;

/// Age at which a lease counts as forgotten: its image was not tried again for a day.
const FORGOTTEN_S: i64 = 24 * 60 * 60;

/// Takes the lease of this image, which an earlier try may have left.
pub(super) async fn take(socket: &Socket, top: Sha256Digest) -> Result<String, ImportError> {
    let id = format!("airlift-import-{}", top.to_hex());
    create(socket, &id, Labels::from([(LEASE.to_owned(), top.to_string())])).await?;
    Ok(id)
}

/// Makes a lease, or finds the one of this name.
pub(super) async fn create(socket: &Socket, id: &str, labels: Labels) -> Result<(), ImportError> {
    let question = CreateLeaseRequest { id: id.to_owned(), labels };
    let method = "/containerd.services.leases.v1.Leases/Create";
    match socket.call::<_, Empty>(method, None, CALL_TIMEOUT, question).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        Err(status) => Err(socket.failed("taking a lease", &status)),
    }
}

/// Puts a blob or snapshot under a lease, with all that its labels refer to.
pub(super) async fn hold(socket: &Socket, lease: &str, kind: String, id: String) -> Result<(), ImportError> {
    let question = AddResourceRequest { id: lease.to_owned(), resource: Some(LeaseResource { id, kind }) };
    let method = "/containerd.services.leases.v1.Leases/AddResource";
    let held = socket.call::<_, Empty>(method, Some(lease), CALL_TIMEOUT, question).await;
    held.map(drop).map_err(|status| socket.failed("holding content", &status))
}

/// Ends a lease. What only it held is collected; a failure leaves it to [`drop_forgotten`].
pub(super) async fn end(socket: &Socket, id: &str) {
    let method = "/containerd.services.leases.v1.Leases/Delete";
    let question = DeleteLeaseRequest { id: id.to_owned() };
    let ended = socket.call::<_, Empty>(method, None, CALL_TIMEOUT, question).await;
    if let Err(status) = ended.as_ref().map_err(|status| status.message()) {
        debug!(lease = id, reason = status, "lease not ended");
    }
}

/// Ends the leases of imports that were never finished, so that they do not fill the disk for ever.
///
/// Ages are differences between containerd's own stamps; no clock is read, and one that jumps costs at most the
/// bytes of an interrupted import again.
pub(super) async fn drop_forgotten(socket: &Socket, current: &str) {
    // Tidying must not fail an import that is done: the next one tries again.
    let Ok(leases) = list(socket, LEASE).await else { return };
    for lease in forgotten(&leases, current) {
        info!(lease, "lease of an import that nobody finished is ended");
        end(socket, lease).await;
    }
}

/// The leases that carry a label.
pub(super) async fn list(socket: &Socket, label: &str) -> Result<Vec<Lease>, Status> {
    let method = "/containerd.services.leases.v1.Leases/List";
    let question = ListRequest { filters: vec![format!("labels.\"{label}\"")] };
    let answer: ListLeasesResponse = socket.call(method, None, CALL_TIMEOUT, question).await?;
    Ok(answer.leases)
}

fn forgotten<'a>(leases: &'a [Lease], current: &str) -> Vec<&'a str> {
    let seconds = |lease: &Lease| lease.created_at.as_ref().map_or(0, |at| at.seconds);
    let Some(now) = leases.iter().find(|lease| lease.id == current).map(seconds) else { return Vec::new() };
    let old = |lease: &&Lease| lease.id != current && now.saturating_sub(seconds(lease)) > FORGOTTEN_S;
    leases.iter().filter(old).map(|lease| lease.id.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::messages::Timestamp;
    use super::*;

    #[test]
    fn only_leases_a_day_older_than_the_current_one_are_forgotten() {
        let lease = |id: &str, seconds| Lease {
            id: id.into(),
            created_at: Some(Timestamp { seconds }),
            ..Lease::default()
        };
        let leases =
            [lease("old", 1_000), lease("recent", 90_000), lease("now", 100_000), lease("later", 900_000)];
        assert_eq!(forgotten(&leases, "now"), ["old"]);
        assert!(forgotten(&leases, "recent") == ["old"] && forgotten(&leases, "gone").is_empty());
    }
}
