//! What `/api/v1` takes and gives: routes, and the JSON of requests and answers.
//!
//! Every request carries `Authorization: Bearer <token>`. Every refusal is a [`Problem`] (RFC 9457). Signed
//! documents travel as the JSON of their envelopes, byte for byte. Lists come in pages: `limit` (at most 1,000,
//! 100 by default) and `cursor`, the `next` of the page before.

mod records;
pub mod route;

use std::collections::BTreeMap;

use airlift_bundles::code::Code;
use airlift_bundles::document::enrolment::ContactClass;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::document::release::{Release, Scalar};
use airlift_bundles::document::root::{RevokeAction, Root};
use airlift_bundles::document::status::{AppState, SiteStatus};
use airlift_bundles::ids::{
    AppName, Counter, FleetId, KeyId, Name, RandomId, Sha256Digest, SiteId, Timestamp, Version,
};
use airlift_bundles::keys::PublicKey;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use records::{
    AuditEntry, AuditLog, BrokerCheck, BrokerTried, MediaBlob, MediaContent, MediaFile, MediaFileResult,
    MediaImport, MediaImported, MediaPlan, Reconcile, Reconciled, SiteDifference,
};

/// Why a request was not done (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `https://airlift.dev/codes/AL….`, stable per code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, with the names that it is about.
    pub detail: String,
    /// The stable code.
    pub code: Code,
    /// What to do next.
    pub next_step: String,
    /// Blobs that have to be uploaded before the release, at most 1,000 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Sha256Digest>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Give this as `cursor` for the rows that follow; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The hub itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubInfo {
    /// Version of the program.
    pub version: String,
    /// The fleet.
    pub fleet_id: FleetId,
    /// Which life of the hub this is.
    pub hub_incarnation: RandomId,
    /// Names and addresses under which sites reach it.
    pub hosts: Vec<String>,
    /// Port of HTTPS.
    pub https_port: u16,
    /// Port of MQTT over TLS.
    pub mqtt_port: u16,
    /// The broker that stands between it and its sites, as `HOST:PORT`; absent where it listens itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// The key that signs assignments; its place is in the root's director role.
    pub director_key: PublicKey,
    /// SHA-256 of the hub CA's SubjectPublicKeyInfo.
    pub hub_key_sha256: Sha256Digest,
    /// Digest of root 1, which sites pin; absent until roots are published.
    pub root_1_sha256: Option<Sha256Digest>,
    /// Version of the newest root.
    pub root_version: Option<u64>,
    /// Whether the newest root names the director key, without which nothing is signed.
    pub director_in_root: bool,
    /// Set where sites returned newer assignments than the hub knows: it publishes nothing until reconciled.
    pub reconcile_needed: bool,
    /// Counts of sites.
    pub sites: SiteCounts,
}

/// Counts of sites, by state of their worst app and by freshness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SiteCounts {
    /// All that are enrolled and not revoked.
    pub total: u64,
    /// Connected over MQTT now.
    pub connected: u64,
    /// Fresh, and every app healthy at its desired generation.
    pub healthy: u64,
    /// Fresh, on their way.
    pub progressing: u64,
    /// Fresh, and an app refused, failed, degraded or held.
    pub troubled: u64,
    /// No status within the time that the contact class allows, or none ever.
    pub stale: u64,
    /// Set aside because their receipts forked.
    pub quarantined: u64,
}

/// Envelopes of roots, in the order of their versions; those that the hub has are skipped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootsPublish {
    /// The envelopes.
    pub roots: Vec<Box<RawValue>>,
}

/// The chain of roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootList {
    /// Ascending by version.
    pub roots: Vec<RootInfo>,
    /// The newest, in full.
    pub newest: Option<Root>,
}

/// One root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootInfo {
    /// Its version.
    pub version: u64,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// When it was drafted.
    pub issued_at: Timestamp,
}

/// One published release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseInfo {
    /// Digest of its payload, by which assignments name it.
    pub sha256: Sha256Digest,
    /// Digest of the bundle's `index.json`.
    pub bundle: Sha256Digest,
    /// What it says.
    pub release: Release,
    /// Keys of the release role that signed it.
    pub signers: Vec<KeyId>,
    /// Whether the newest root takes it back.
    pub revoked: Option<RevokeAction>,
    /// When it was published here.
    pub published_at: Timestamp,
    /// Sites that are assigned it.
    pub sites: u64,
}

/// How fresh the hub's knowledge of a site is; stale and never are not healthy, whatever was last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freshness {
    /// Connected now, or heard of within the time that its contact class allows.
    Fresh,
    /// Silent for longer than that.
    Stale,
    /// Never heard of.
    Never,
}

/// Where a site stands with the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Enrolled.
    Enrolled,
    /// Its receipts forked: it keeps running, and must enrol again.
    Quarantined,
    /// Its keys are refused.
    Revoked,
}

/// One site, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteInfo {
    /// Its name.
    pub site: SiteId,
    /// Which enrolment.
    pub incarnation: u64,
    /// Where it stands.
    pub standing: Standing,
    /// How it is reached.
    pub contact: ContactClass,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is connected over MQTT now.
    pub connected: bool,
    /// How fresh everything below is.
    pub freshness: Freshness,
    /// When it was last heard of, by the hub's clock.
    pub last_seen: Option<Timestamp>,
    /// Number of the newest assignment that was signed for it.
    pub assignment: Option<Counter>,
    /// Number of the assignment that it says is in force.
    pub assignment_reported: Option<Counter>,
    /// Its apps: those desired and those reported.
    pub apps: Vec<SiteApp>,
}

/// One app at a site: what is wanted, and what the site last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteApp {
    /// The app.
    pub app: AppName,
    /// What it should be; absent where it is not assigned.
    pub desired: Option<DesiredInfo>,
    /// Whether it was told to leave.
    pub retiring: bool,
    /// What the site says; absent where it said nothing yet.
    pub state: Option<AppState>,
    /// Version that runs there.
    pub running: Option<Version>,
    /// Number of the release that runs there.
    pub running_seq: Option<u64>,
    /// Digest of the generation that it runs or goes to.
    pub generation: Option<Sha256Digest>,
    /// Why, where something was refused or failed.
    pub reason: Option<Code>,
    /// Fresh, healthy, and at the desired generation: the one meaning of "done".
    pub done: bool,
}

/// What is wanted of an app at a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredInfo {
    /// The release.
    pub release: Sha256Digest,
    /// Its epoch.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// Its version.
    pub version: Version,
    /// Chosen values.
    pub parameters: BTreeMap<Name, Scalar>,
    /// Chosen overlays.
    pub overlays: Vec<Name>,
    /// Raised to try a failed generation again.
    pub retry: u64,
}

/// One site in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteDetail {
    /// As in lists.
    pub site: SiteInfo,
    /// Its keys, newest first.
    pub keys: Vec<SiteKey>,
    /// What it last said of itself.
    pub status: Option<SiteStatus>,
    /// When that arrived, by the hub's clock.
    pub status_as_of: Option<Timestamp>,
    /// How long ago that was, by the hub's clock; absent where that clock went back.
    pub status_age_s: Option<u64>,
    /// Its chains of receipts.
    pub chains: Vec<ChainInfo>,
}

/// A key of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteKey {
    /// The public half.
    pub key: PublicKey,
    /// For which enrolment.
    pub incarnation: u64,
    /// Whether it is refused now.
    pub revoked: bool,
    /// What people compare.
    pub fingerprint: String,
}

/// Labels to set and to take away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    /// To set.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// To take away.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Revoking a site.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeSite {
    /// Why, for the audit log.
    #[serde(default)]
    pub reason: String,
}

/// Making an enrolment token, good for one site.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// The name that the site gets; absent: the name that it asks for.
    #[serde(default)]
    pub site: Option<SiteId>,
    /// Labels that the site gets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How the site is reached.
    #[serde(default)]
    pub contact: ContactClass,
    /// Seconds for which the token is good: a day by default, at most 90 days.
    #[serde(default)]
    pub valid_s: Option<u64>,
}

/// A new token; its text is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// The token's text ([`airlift_bundles::join::EnrolmentToken`]).
    pub token: String,
    /// As in lists.
    pub info: TokenInfo,
}

impl std::fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCreated").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Which.
    pub id: RandomId,
    /// The name that the site gets.
    pub site: Option<SiteId>,
    /// Labels that the site gets.
    pub labels: BTreeMap<String, String>,
    /// How the site is reached.
    pub contact: ContactClass,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// The site that used it.
    pub used_by: Option<SiteId>,
}

/// A request in the waiting room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestInfo {
    /// Which.
    pub nonce: RandomId,
    /// What people compare on both screens.
    pub fingerprint: String,
    /// Id of the site key.
    pub site_keyid: KeyId,
    /// The name that the site would like.
    pub site: Option<SiteId>,
    /// What the machine says of itself.
    pub machine: Vec<(Name, String)>,
    /// How it came: `https` or `media`.
    pub carrier: String,
    /// When it came.
    pub received_at: Timestamp,
}

/// Approving a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The fingerprint as the site shows it; hyphens, spaces and case do not count.
    pub fingerprint: String,
    /// The site's name; absent: the name that it asks for.
    #[serde(default)]
    pub site: Option<SiteId>,
    /// Labels to set.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How the site is reached; absent: by the way that the request came.
    #[serde(default)]
    pub contact: Option<ContactClass>,
    /// Must be true where the name is held by an enrolled site, whose keys are then revoked.
    #[serde(default)]
    pub replace: bool,
}

/// An approved request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// The site's name.
    pub site: SiteId,
    /// Which enrolment of it.
    pub incarnation: u64,
}

/// Rejecting a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Why; the site shows it.
    #[serde(default)]
    pub reason: String,
}

/// Which sites: by name, by label selector, or both (then a site must be in both).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteSelection {
    /// Names; empty: not chosen by name.
    #[serde(default)]
    pub names: Vec<SiteId>,
    /// Terms joined by commas, all of which must hold: `key=value`, `key!=value`, `key`, `!key`,
    /// `key in (a,b)`, `key notin (a,b)`; `*` alone is every site.
    #[serde(default)]
    pub selector: Option<String>,
}

/// Assigning a release of an app to sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseChoice,
    /// The sites.
    pub sites: SiteSelection,
    /// Values for declared parameters; what is not named here goes back to the bundle's own value.
    #[serde(default)]
    pub parameters: BTreeMap<Name, Scalar>,
    /// Overlays in the order in which they are laid on.
    #[serde(default)]
    pub overlays: Vec<Name>,
    /// Raise `retry`, so that a generation that failed is tried again.
    #[serde(default)]
    pub retry: bool,
    /// Say what would happen and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Names one release of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseChoice {
    /// By digest of its payload.
    Sha256(Sha256Digest),
    /// By number, in the newest epoch published.
    Seq(u64),
    /// By version; the newest of that version.
    Version(Version),
    /// The newest that is published.
    Newest,
}

/// Telling an app to leave sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retire {
    /// The app.
    pub app: AppName,
    /// The sites.
    pub sites: SiteSelection,
    /// Say what would happen and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an order did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The release, where one was assigned.
    pub release: Option<Sha256Digest>,
    /// Its version.
    pub version: Option<Version>,
    /// Per site, by name.
    pub sites: Vec<SiteAssigned>,
}

/// What an order did to one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteAssigned {
    /// The site.
    pub site: SiteId,
    /// Whether its desired state differs from before.
    pub changed: bool,
    /// The assignment that says so; absent in a dry run, and where there is none yet.
    pub assignment: Option<Counter>,
}

/// One receipt. All that are listed were verified against a key of the site before they were stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReceiptInfo {
    /// The site.
    pub site: SiteId,
    /// The chain.
    pub chain_id: RandomId,
    /// Its number there.
    pub receipt_seq: u64,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// The site key that signed it.
    pub keyid: KeyId,
    /// How it hangs in its chain.
    pub link: ReceiptLink,
    /// What happened.
    pub outcome: Outcome,
    /// The app.
    pub app: Option<AppName>,
    /// The release's version.
    pub version: Option<Version>,
    /// The release's number.
    pub seq: Option<u64>,
    /// Why, where something was refused or failed.
    pub reason: Option<Code>,
    /// The site's idea of the time.
    pub known_time: Timestamp,
    /// When it came to the hub.
    pub received_at: Timestamp,
    /// How it came: `mqtt` or `media`.
    pub carrier: String,
    /// Its envelope, where `envelopes=true` was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Box<RawValue>>,
}

/// How a receipt hangs in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptLink {
    /// Every receipt before it is held, and it names the one before by digest.
    Chained,
    /// One before it is missing.
    AfterGap,
    /// Another receipt with its number is held, or it names another predecessor.
    Forked,
}

/// A chain of receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainInfo {
    /// The site.
    pub site: SiteId,
    /// The chain.
    pub chain_id: RandomId,
    /// The highest number up to which all are held.
    pub head: u64,
    /// The highest number that is held.
    pub highest: u64,
    /// Numbers between that are missing: first and last.
    pub gap: Option<(u64, u64)>,
    /// The number at which it forked.
    pub fork: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_filled_in_order() {
        assert_eq!(route::fill(route::SITE_LABELS, &["a"]), "/api/v1/sites/a/labels");
        assert_eq!(route::fill(route::HUB, &[]), route::HUB);
    }

    #[test]
    fn a_release_is_chosen_by_one_key() {
        let seq: ReleaseChoice = serde_json::from_str(r#"{"seq":3}"#).unwrap();
        assert_eq!(seq, ReleaseChoice::Seq(3));
        assert_eq!(serde_json::from_str::<ReleaseChoice>(r#""newest""#).unwrap(), ReleaseChoice::Newest);
    }
}
