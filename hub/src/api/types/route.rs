//! Paths, relative to the hub's address. `{…}` stands for a part that the caller fills in.

/// `GET`: [`super::HubInfo`].
pub const HUB: &str = "/api/v1/hub";
/// `GET`: [`super::RootList`]. `POST` [`super::RootsPublish`]: [`super::RootList`].
pub const ROOTS: &str = "/api/v1/roots";
/// `GET`: the root's envelope.
pub const ROOT: &str = "/api/v1/roots/{version}";
/// `HEAD`: 200 with `Content-Length` where the blob is whole, else 404 with `Upload-Offset`, the bytes that are
/// kept of an unfinished upload. `PUT ?offset=N&size=S` with the bytes from N to S: 204 where that makes it
/// whole and its digest is right; 409 with `Upload-Offset` where N is not what the hub holds; a broken
/// connection keeps what arrived. `GET ?offset=N`: the bytes from N on.
pub const BLOB: &str = "/api/v1/blobs/sha256/{hex}";
/// `GET ?app=`: [`super::Page`] of [`super::ReleaseInfo`], newest first. `POST` with a release's envelope as the
/// body: [`super::ReleaseInfo`]; 409 with code `AL0602` and `missing` where blobs have to be uploaded first.
pub const RELEASES: &str = "/api/v1/releases";
/// `GET`: [`super::ReleaseInfo`].
pub const RELEASE: &str = "/api/v1/releases/{hex}";
/// `GET`: the release's envelope.
pub const RELEASE_ENVELOPE: &str = "/api/v1/releases/{hex}/envelope";
/// `GET ?selector=&app=&limit=&cursor=`: [`super::Page`] of [`super::SiteInfo`], by name.
pub const SITES: &str = "/api/v1/sites";
/// `GET`: [`super::SiteDetail`].
pub const SITE: &str = "/api/v1/sites/{site}";
/// `POST` [`super::LabelChange`]: [`super::SiteInfo`].
pub const SITE_LABELS: &str = "/api/v1/sites/{site}/labels";
/// `POST` [`super::RevokeSite`]: [`super::SiteInfo`]. The site's keys and certificate are refused from now on.
pub const SITE_REVOKE: &str = "/api/v1/sites/{site}/revoke";
/// `GET`: the envelope of the site's newest assignment.
pub const SITE_ASSIGNMENT: &str = "/api/v1/sites/{site}/assignment";
/// `GET`: [`super::Page`] of [`super::TokenInfo`]. `POST` [`super::TokenCreate`]: [`super::TokenCreated`].
pub const TOKENS: &str = "/api/v1/tokens";
/// `DELETE`: 204. A used token stays listed.
pub const TOKEN: &str = "/api/v1/tokens/{id}";
/// `GET`: [`super::Page`] of [`super::RequestInfo`], the waiting room, oldest first.
pub const REQUESTS: &str = "/api/v1/requests";
/// `POST` [`super::Approve`]: [`super::Approved`].
pub const REQUEST_APPROVE: &str = "/api/v1/requests/{nonce}/approve";
/// `POST` [`super::Reject`]: 204.
pub const REQUEST_REJECT: &str = "/api/v1/requests/{nonce}/reject";
/// `POST` [`super::Assign`]: [`super::Assigned`].
pub const ASSIGNMENTS: &str = "/api/v1/assignments";
/// `POST` [`super::Retire`]: [`super::Assigned`].
pub const RETIREMENTS: &str = "/api/v1/retirements";
/// `GET ?site=&app=&envelopes=true&limit=&cursor=`: [`super::Page`] of [`super::ReceiptInfo`], newest first.
pub const RECEIPTS: &str = "/api/v1/receipts";
/// `GET ?site=`: [`super::Page`] of [`super::ChainInfo`].
pub const CHAINS: &str = "/api/v1/chains";
/// `POST` [`super::MediaPlan`]: [`super::MediaContent`]: what a stick for some sites holds.
pub const MEDIA_EXPORT: &str = "/api/v1/media/export";
/// `POST` [`super::MediaImport`] (at most 8 MiB a request): [`super::MediaImported`].
pub const MEDIA_IMPORT: &str = "/api/v1/media/import";
/// `POST` [`super::Reconcile`]: [`super::Reconciled`].
pub const RECONCILE: &str = "/api/v1/reconcile";
/// `POST` with an empty object: [`super::BrokerTried`]. The hub tries with probes of its own whether its broker keeps
/// sites apart; 409 with code `AL0804` where that is going on already, or where there is no broker.
pub const BROKER_TRY: &str = "/api/v1/broker/try";
/// `GET ?after=&limit=`: [`super::AuditLog`].
pub const AUDIT: &str = "/api/v1/audit";

/// Fills the parts of a route in order.
#[must_use]
pub fn fill(route: &str, parts: &[&str]) -> String {
    let mut parts = parts.iter();
    let filled: Vec<&str> = route
        .split('/')
        .map(|level| if level.starts_with('{') { parts.next().copied().unwrap_or_default() } else { level })
        .collect();
    filled.join("/")
}
