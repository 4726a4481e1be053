//! What the core knows of Kubernetes objects: names, digests and flags, never a body.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::release::{Scalar, Statement};
use airlift_bundles::ids::{AppName, Counter, Name, Sha256Digest, Version};

/// Group, version and kind of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gvk {
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version, such as `v1`.
    pub version: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
}

impl Gvk {
    /// Joins group and version as `apiVersion` writes them.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Splits an `apiVersion` and takes the kind beside it.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind)
    }
}

/// One object of the cluster, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind; shared, because thousands of objects have the same few.
    pub gvk: Arc<Gvk>,
    /// Its namespace; `None` for a cluster-scoped object.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// The names that the same object of a cluster has in other versions of its API, of those among `kinds`.
    pub fn in_other_versions<'k>(&'k self, kinds: &'k BTreeSet<Arc<Gvk>>) -> impl Iterator<Item = Self> + 'k {
        let other = |gvk: &&Arc<Gvk>| {
            (&gvk.group, &gvk.kind) == (&self.gvk.group, &self.gvk.kind) && gvk.version != self.gvk.version
        };
        kinds.iter().filter(other).map(|gvk| Self { gvk: Arc::clone(gvk), ..self.clone() })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.gvk.kind, self.name),
            None => write!(f, "{} {}", self.gvk.kind, self.name),
        }
    }
}

/// The identity that the API server gave one object; a new object of the same name has another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uid(pub String);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Identity of a generation: the digest of (release, parameters, overlays, secrets).
pub type GenerationId = Sha256Digest;

/// A generation: one release with one choice of values, which is applied and rolled back as a whole.
///
/// Effects carry it in an `Arc`, so that edges need no state of their own to render an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its identity.
    pub id: GenerationId,
    /// The app.
    pub app: AppName,
    /// The release's document digest.
    pub release: Sha256Digest,
    /// The bundle: digest of its `index.json`.
    pub bundle: Sha256Digest,
    /// The release's place in the app's order.
    pub counter: Counter,
    /// The version for people.
    pub version: Version,
    /// Values for declared parameters.
    pub parameters: BTreeMap<Name, Scalar>,
    /// Overlays by name, in the order in which they are applied.
    pub overlays: Vec<Name>,
    /// Digests of the sealed secrets, by slot.
    pub secrets: BTreeMap<Name, Sha256Digest>,
    /// A root stops the release: its workloads are rendered without pods. No part of the identity.
    pub stopped: bool,
}

impl Generation {
    /// What an assignment's entry and the release that it names come to.
    #[must_use]
    pub fn of(desired: &DesiredApp, statement: &Statement) -> Self {
        Self {
            id: desired.generation(),
            app: desired.app.clone(),
            release: desired.release,
            bundle: statement.bundle(),
            counter: desired.counter(),
            version: statement.predicate.version.clone(),
            parameters: desired.parameters.clone(),
            overlays: desired.overlays.clone(),
            secrets: desired.secrets.clone(),
            stopped: false,
        }
    }
}

/// Whose content a generation's objects may have in the cluster now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Predecessors {
    /// The generation that was healthy last, to which the site would come back.
    pub healthy: Option<Arc<Generation>>,
    /// Another that was begun since.
    pub begun: Option<Arc<Generation>>,
}

impl Predecessors {
    /// Both, as far as there are any.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.healthy.iter().chain(&self.begun)
    }
}

/// One object of a prepared generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its line in the bundle's objects layer; with the generation it names the body.
    pub index: u32,
    /// Its name.
    pub object: ObjectRef,
    /// When it is applied: waves go up; all of one wave are sent together. The preparing edge computes it
    /// from the kind (CRDs, then namespaces, then the rest), `airlift.dev/order` and configuration before
    /// workloads, so that the core only counts.
    pub wave: u32,
    /// Digest of the rendered body; an object whose digest did not change is not sent again.
    pub sha256: Sha256Digest,
    /// What is special about it.
    pub traits: ObjectTraits,
}

/// What is special about an object, decided from its kind and the app descriptor when it is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectTraits {
    /// It has a health of its own (a workload, a custom resource); others are healthy when they exist.
    pub observed: bool,
    /// Later waves wait until it is healthy (a CRD must be established before objects of its kind).
    pub gate: bool,
    /// It runs once per generation (a Job, a bare pod): its absence later is no drift.
    pub once: bool,
    /// The app descriptor allows taking over an object that somebody else made.
    pub adopt: bool,
    /// The content that a generation before gave it cannot be updated to this one, and its kind may be deleted and
    /// created anew.
    pub recreate: bool,
}

/// An image that a generation's pods use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageEntry {
    /// The reference name that pods use.
    pub reference: String,
    /// The manifest or index that it stands for.
    pub digest: Sha256Digest,
}

/// What preparing found: everything that the core needs of a bundle to apply it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// All objects, in any order.
    pub objects: Vec<ObjectEntry>,
    /// All images for this site's platform.
    pub images: Vec<ImageEntry>,
    /// The app's own settings.
    pub policy: AppPolicy,
    /// Fields that keep the site from updating to it, or from coming back; empty where nothing does.
    pub irreversible: Vec<Evidence>,
}

/// Settings from the app descriptor, kept with the generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppPolicy {
    /// How long all must stay healthy, without a restart, before the generation counts as healthy.
    pub soak_ms: u64,
    /// How long the settle clock may run before the generation has failed.
    pub timeout_ms: u64,
    /// Trouble within this uptime after success rolls back, once; 0 where the app does not ask for it.
    pub watch_ms: u64,
    /// The most objects that a prune may delete; `None` is the root policy's number.
    pub deletion_budget: Option<u32>,
}

/// How one object is, as read from the live object by the Kubernetes edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Restarts of its containers in all; a growing number starts the soak again.
    pub restarts: u64,
    /// One line for people: what it waits for, or why it fails.
    pub reason: String,
    /// Waiting reasons, terminations, warnings, log lines, at most 8 KiB; empty when fine.
    pub evidence: Vec<Evidence>,
}

impl Health {
    /// The object is not there.
    #[must_use]
    pub fn missing() -> Self {
        Self { verdict: Verdict::Missing, restarts: 0, reason: "not there".to_owned(), evidence: Vec::new() }
    }
}

/// The verdict on one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As desired.
    Current,
    /// On its way.
    Progressing,
    /// Waiting for something that seldom comes by itself (an image that cannot be had, a missing ConfigMap):
    /// fails after 60 s of the settle clock.
    Stuck,
    /// Failed for good (a Job past its backoff limit).
    Failed,
    /// Not there.
    Missing,
    /// Nobody can say: no Ready node, or the object cannot be read.
    Unknown,
}
