//! What goes out on sticks and comes back, what a restored hub takes up, and the audit log.

use airlift_bundles::code::Code;
use airlift_bundles::ids::{Counter, Sha256Digest, SiteId, Timestamp};
use serde::{Deserialize, Serialize};

use super::SiteSelection;

/// What a stick is wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediaPlan {
    /// The sites; none of both: every request's grant and no assignment.
    #[serde(default)]
    pub sites: SiteSelection,
    /// Further releases, also those that nobody is assigned.
    #[serde(default)]
    pub releases: Vec<Sha256Digest>,
}

/// What belongs on a stick, in the order in which it should be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaContent {
    /// The documents, whole.
    pub documents: Vec<MediaFile>,
    /// The blobs: fetch each from [`super::route::BLOB`].
    pub blobs: Vec<MediaBlob>,
    /// Chosen sites, by name.
    pub sites: Vec<SiteId>,
}

/// A file under its name on media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediaFile {
    /// Its name under `airlift-media/`.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// A blob for media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MediaBlob {
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its size.
    pub size: u64,
}

/// What a stick brought back: files under `requests/` and `receipts/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediaImport {
    /// The files.
    pub files: Vec<MediaFile>,
}

/// What became of them; the others were taken even where one was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaImported {
    /// In the order given.
    pub files: Vec<MediaFileResult>,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaFileResult {
    /// Its name.
    pub name: String,
    /// Receipts, statuses or requests that were new.
    pub new: u64,
    /// Those that the hub held already.
    pub known: u64,
    /// Why it, or part of it, was refused.
    pub refused: Option<Code>,
    /// In words.
    pub detail: String,
}

/// What trying a broker showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerTried {
    /// Where the broker is, as `HOST:PORT`.
    pub broker: String,
    /// What was looked at, in the order of what rests on what; it ends where nothing more can be tried.
    pub checks: Vec<BrokerCheck>,
}

/// One thing that a broker has to do, or to prevent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerCheck {
    /// What, as a sentence that should be true.
    pub check: String,
    /// Whether it is.
    pub ok: bool,
    /// What was seen.
    pub found: String,
    /// Where it is not: what that means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub means: String,
    /// Where it is not: what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// Where it is not: the stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// Taking up after a restore from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// Adopt what sites returned and publish again; without it the difference is only shown.
    #[serde(default)]
    pub adopt: bool,
}

/// The difference between the hub and what sites returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// Sites that returned a newer assignment than the hub knew, by name.
    pub sites: Vec<SiteDifference>,
    /// Whether it was adopted, so that the hub publishes again.
    pub adopted: bool,
}

/// One site's difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteDifference {
    /// The site.
    pub site: SiteId,
    /// The newest that the hub knew.
    pub known: Option<Counter>,
    /// What the site has in force.
    pub returned: Counter,
    /// What adopting changes in the desired state, a line per app; empty where only the number is taken over.
    pub changes: Vec<String>,
}

/// Entries of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLog {
    /// Ascending by number.
    pub entries: Vec<AuditEntry>,
    /// Whether every entry given hangs on the one before it by digest.
    pub intact: bool,
}

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// 1, 2, 3 …
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who: the name of an API token, `hub`, or a site.
    pub actor: String,
    /// What: `release.publish`, `site.assign` …
    pub action: String,
    /// On what.
    pub subject: String,
    /// More, in words.
    pub detail: String,
    /// Digest of the entry before; absent in the first.
    pub prev_sha256: Option<Sha256Digest>,
    /// Digest of this entry with everything above.
    pub sha256: Sha256Digest,
}
