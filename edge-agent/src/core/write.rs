//! The rows that outlive a crash, and the only ways to change them.
//!
//! A `Write` is a whole-row upsert or delete: no SQL and no read-modify-write, so that the same writes mean the
//! same in SQLite, in a test's memory and after being repeated.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::status::AppState;
use airlift_bundles::ids::{
    AppName, Blake3Digest, Counter, FleetId, RandomId, Sha256Digest, SiteId, Timestamp,
};

use super::object::{AppPolicy, Generation, GenerationId, ImageEntry, ObjectRef, ObjectTraits, Uid};
use super::state::{GenerationVerdict, Purpose, Step};

/// One change of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// The one row of facts about the site itself.
    PutMeta(MetaRow),
    /// A root; roots are never dropped.
    PutRoot(RootRow),
    /// A verified document that is not a root.
    PutDocument(DocumentRow),
    /// A document that nothing names any more.
    DropDocument(Sha256Digest),
    /// A release that was accepted under its number; never dropped, so that no other can take the number.
    PutAccepted(AcceptedRow),
    /// A counter; counters are never dropped and never go down.
    PutCounter(CounterRow),
    /// The accepted assignment, or the one that waits for documents.
    PutAssignment(AssignmentRow),
    /// A slot is empty again.
    DropAssignment(Slot),
    /// An app. The row is shared by whoever holds it, and never changed.
    PutApp(Arc<AppRow>),
    /// A retired app.
    DropApp(AppName),
    /// A generation.
    PutGeneration(GenerationRow),
    /// A generation that is neither wanted nor kept.
    DropGeneration(GenerationId),
    /// An object; shared like an app's row.
    PutObject(Arc<ObjectRow>),
    /// An object that was deleted, or that never came to be.
    DropObject(AppName, ObjectRef),
    /// An image of a generation.
    PutImage(ImageRow),
    /// An image of a generation.
    DropImage(GenerationId, String),
    /// A receipt is made; it is never changed but by [`Write::ReceiptAcked`].
    AppendReceipt(ReceiptRow),
    /// Receipts up to `upto` have reached the hub; the row stays for `history` until it is dropped.
    ReceiptAcked {
        /// The chain.
        chain_id: RandomId,
        /// The last one.
        upto: u64,
    },
    /// Receipts below `below` go: acknowledged, and more than history keeps.
    DropReceipts {
        /// The chain.
        chain_id: RandomId,
        /// The first one that stays.
        below: u64,
    },
    /// The outbox row of a key; a newer one takes the place of the one before.
    PutOutbox(OutboxRow),
    /// The hub has it.
    DropOutbox(String),
    /// How often something was refused.
    PutRefusal(RefusalRow),
    /// A sealed secret came.
    PutSecret(SecretRow),
    /// Bytes that made a process die while they were being parsed.
    PutQuarantine(QuarantineRow),
    /// They were parsed after all.
    DropQuarantine(Sha256Digest),
    /// A transfer's bitmap; written by the content task alone.
    PutTransfer(TransferRow),
    /// A transfer ended; written by the content task alone.
    DropTransfer(Sha256Digest),
    /// A complete blob; written by the content task alone.
    PutBlob(BlobRow),
    /// A blob that nothing keeps; written by the content task alone.
    DropBlob(Sha256Digest),
}

/// Facts about the site itself; made by enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaRow {
    /// The fleet.
    pub fleet: FleetId,
    /// The site.
    pub site: SiteId,
    /// This enrolment of the site.
    pub incarnation: u64,
    /// Assignments at or below this are not for this enrolment.
    pub minimum: Counter,
    /// Identity of this database towards the hub, random.
    pub outbox_epoch: RandomId,
    /// Number of the next outbox row.
    pub outbox_next: u64,
    /// Connections so far.
    pub conn_seq: u64,
    /// Loads of the core so far.
    pub starts: u64,
    /// The receipt chain, random, made with the site key.
    pub chain_id: RandomId,
    /// Number of the next receipt.
    pub receipt_next: u64,
    /// Payload digest of the last receipt; `None` before the first.
    pub receipt_head: Option<Sha256Digest>,
    /// All receipts below are acknowledged.
    pub receipt_acked_next: u64,
    /// All receipts below are dropped.
    pub receipt_first: u64,
    /// The latest moment that signed documents prove; time is never shown as earlier.
    pub time_floor: Timestamp,
    /// UID of the kube-system namespace when it was last seen.
    pub cluster: Option<Uid>,
    /// The hub's incarnation that the last assignment named.
    pub hub_incarnation: Option<RandomId>,
    /// When the hub last spoke: a connection, or the signing of an assignment. For display; exact to an hour.
    pub hub_heard: Option<Timestamp>,
}

/// A verified root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootRow {
    /// Its version.
    pub version: u64,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// The whole envelope.
    pub envelope: Arc<[u8]>,
}

/// A verified document: a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// The whole envelope.
    pub envelope: Arc<[u8]>,
}

/// A release under its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedRow {
    /// The app.
    pub app: AppName,
    /// Its number.
    pub counter: Counter,
    /// Digest of the release's payload.
    pub release: Sha256Digest,
}

/// A counter that refuses older documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterRow {
    /// What it counts.
    pub key: CounterKey,
    /// Its epoch.
    pub epoch: u64,
    /// Its value within the epoch.
    pub seq: u64,
}

/// What a counter counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterKey {
    /// Accepted assignments.
    Assignment,
    /// The floor that releases of an app have raised.
    Floor(AppName),
}

/// Where an assignment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Accepted and in force.
    Current,
    /// The greatest that waits for documents.
    Parked,
}

/// An assignment's envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentRow {
    /// Where it stands.
    pub slot: Slot,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// The whole envelope.
    pub envelope: Arc<[u8]>,
}

/// An app at this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRow {
    /// The app.
    pub app: AppName,
    /// What the accepted assignment wants; `None` where its entry was refused before there was any.
    pub target: Option<GenerationId>,
    /// The assignment's `retry` number for it.
    pub retry: u64,
    /// The state, as shown; [`AppRow::held`] is shown over it.
    pub state: AppState,
    /// The step of the work.
    pub step: Step,
    /// Why it is walked.
    pub purpose: Purpose,
    /// The generation that the work is on; `None` at rest.
    pub working: Option<GenerationId>,
    /// The generation whose objects are the plan of the `object` rows.
    pub planned: Option<GenerationId>,
    /// The last healthy generation.
    pub current: Option<GenerationId>,
    /// The healthy generation before it.
    pub previous: Option<GenerationId>,
    /// The generation that a rollback leaves; its receipt is owed.
    pub failed: Option<GenerationId>,
    /// A person at the site holds it.
    pub held: bool,
    /// The retire delay that has passed, in milliseconds of uptime.
    pub retire_ms: u64,
    /// The settle clock of `working`, in milliseconds.
    pub settle_ms: u64,
    /// The soak clock of `working`, in milliseconds.
    pub soak_ms: u64,
    /// What is left of the time in which trouble of `current` rolls back, in milliseconds of uptime.
    pub watch_left_ms: u64,
    /// Process starts that found it settling, with no progress committed between them.
    pub starts: u32,
    /// Failures of the surroundings in this step, for growing pauses.
    pub attempts: u32,
    /// What is wrong, by code.
    pub code: Option<Code>,
    /// What is wrong, for people.
    pub reason: String,
    /// What was seen, at most 8 KiB.
    pub evidence: Vec<Evidence>,
    /// When `state` was entered, as far as known.
    pub since: Option<Timestamp>,
}

/// A generation that this site knows.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRow {
    /// Its tuple.
    pub generation: Arc<Generation>,
    /// What came of it.
    pub verdict: GenerationVerdict,
    /// The `retry` number that the verdict was reached with.
    pub retry: u64,
    /// Settings and count of objects, once it was prepared.
    pub prepared: Option<PreparedRow>,
}

/// What preparing found, besides the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedRow {
    /// The app's own settings.
    pub policy: AppPolicy,
    /// Count of its objects; fewer rows than this means that the inventory was lost.
    pub objects: u32,
}

/// An object: what was applied, and what the plan wants of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// The app.
    pub app: AppName,
    /// Its name.
    pub object: ObjectRef,
    /// What is in the cluster by our doing.
    pub applied: Option<AppliedRow>,
    /// What the app's planned generation wants; `None` where it holds no such object any more, so that it is
    /// pruned once that generation is healthy.
    pub wanted: Option<WantedRow>,
    /// Its wave in the last plan that held it; pruning goes down the waves.
    pub wave: u32,
    /// What is special about it.
    pub traits: ObjectTraits,
}

impl ObjectRow {
    /// It runs once, and the run that is wanted was begun.
    pub(super) fn has_run(&self) -> bool {
        let begun = |applied: &AppliedRow| self.wanted.is_some_and(|wanted| wanted.sha256 == applied.sha256);
        self.traits.once && self.applied.as_ref().is_some_and(begun)
    }
}

/// What was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedRow {
    /// The object's identity.
    pub uid: Uid,
    /// Digest of the body that was sent.
    pub sha256: Sha256Digest,
    /// Hash of our managedFields entry in the reply; another hash later is drift.
    pub fields_hash: Blake3Digest,
    /// The generation that it was sent for.
    pub generation: GenerationId,
}

/// What the plan wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedRow {
    /// The object's line in the generation's objects layer.
    pub index: u32,
    /// Digest of the rendered body.
    pub sha256: Sha256Digest,
}

/// An image of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// The generation.
    pub generation: GenerationId,
    /// Reference name and digest.
    pub image: ImageEntry,
}

/// A signed receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRow {
    /// The chain.
    pub chain_id: RandomId,
    /// Its number in the chain.
    pub seq: u64,
    /// Its number in the outbox.
    pub outbox_seq: u64,
    /// Digest of its payload.
    pub sha256: Sha256Digest,
    /// The whole envelope.
    pub envelope: Arc<[u8]>,
    /// The hub has it.
    pub acked: bool,
}

/// Something signed that goes to the hub and may be replaced by a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// What it is (`status`); one row each.
    pub key: String,
    /// Its number in the outbox.
    pub seq: u64,
    /// Its JSON: a `SiteStatus`.
    pub payload: Arc<[u8]>,
}

/// How often something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalRow {
    /// The code.
    pub code: Code,
    /// The carrier's kind: `hub`, `media`, `local`.
    pub carrier: String,
    /// How often.
    pub count: u64,
    /// The last one, for people.
    pub last: String,
}

/// A sealed secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Digest of the sealed bytes.
    pub sha256: Sha256Digest,
    /// The sealed bytes.
    pub sealed: Arc<[u8]>,
}

/// Bytes under suspicion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    /// Their digest.
    pub sha256: Sha256Digest,
    /// Processes that died while a committed marker said that these bytes were being parsed.
    pub deaths: u32,
}

/// A transfer that is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRow {
    /// The item.
    pub sha256: Sha256Digest,
    /// Its size in bytes.
    pub size: u64,
    /// One bit for each piece that is verified, written and synced; the lowest bit of the first byte is piece 0.
    pub bitmap: Arc<[u8]>,
}

/// A complete, verified blob on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRow {
    /// Its digest; the file's name follows from it.
    pub sha256: Sha256Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Everything that a core is loaded from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// `None` before enrolment.
    pub meta: Option<MetaRow>,
    /// All roots by version.
    pub roots: BTreeMap<u64, RootRow>,
    /// All documents.
    pub documents: BTreeMap<Sha256Digest, DocumentRow>,
    /// Releases by app and number.
    pub accepted: BTreeMap<(AppName, Counter), Sha256Digest>,
    /// All counters.
    pub counters: BTreeMap<CounterKey, CounterRow>,
    /// Both assignments.
    pub assignments: BTreeMap<Slot, AssignmentRow>,
    /// All apps.
    pub apps: BTreeMap<AppName, Arc<AppRow>>,
    /// All generations.
    pub generations: BTreeMap<GenerationId, GenerationRow>,
    /// All objects.
    pub objects: BTreeMap<AppName, BTreeMap<ObjectRef, Arc<ObjectRow>>>,
    /// All images, by generation and reference.
    pub images: BTreeMap<(GenerationId, String), ImageRow>,
    /// Payload digests of the receipts that are here, by number; their envelopes stay in the store.
    pub receipts: BTreeMap<u64, Sha256Digest>,
    /// The outbox by key.
    pub outbox: BTreeMap<String, OutboxRow>,
    /// Counted refusals.
    pub refusals: BTreeMap<(Code, String), RefusalRow>,
    /// Sealed secrets by digest.
    pub secrets: BTreeMap<Sha256Digest, SecretRow>,
    /// Bytes under suspicion.
    pub quarantine: BTreeMap<Sha256Digest, QuarantineRow>,
}
