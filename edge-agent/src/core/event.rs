//! Everything that can happen to the core.

use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::{AppName, Blake3Digest, RandomId, Sha256Digest};

use super::api::{ApiError, ApiReply};
use super::object::{Gvk, Health, ObjectRef, Plan, Uid};

/// One happening. The shell hands them in one at a time, in any order, late, twice or never.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The moment that [`Effect::Wake`](super::Effect::Wake) named has come.
    Wake,
    /// The link to the hub is up.
    LinkUp {
        /// This connection.
        conn: ConnId,
        /// The broker kept our session.
        session_present: bool,
    },
    /// A connection ended, or an attempt failed.
    LinkDown {
        /// Which one.
        conn: ConnId,
        /// Why, for people.
        reason: String,
    },
    /// A document arrived: at most 1 MiB, unverified. Its expected kind comes from topic or file name.
    Document {
        /// What it must be.
        expected: DocumentKind,
        /// Who brought it.
        carrier: Carrier,
        /// The envelope.
        bytes: Vec<u8>,
    },
    /// The hub says which root is its newest; a hint.
    RootHint {
        /// Its version.
        version: u64,
    },
    /// The hub, behind a broker, asks who is there; a hint.
    RollCall {
        /// Which call; the same one comes again with each connection.
        id: RandomId,
        /// Over how long the answers spread.
        over_ms: u64,
        /// It stood there before this connection.
        retained: bool,
    },
    /// The hub names an assignment that is too large to come by itself; a hint.
    AssignmentHint {
        /// Digest of its payload.
        sha256: Sha256Digest,
    },
    /// A media was found; its documents follow as [`Event::Document`].
    MediaIn {
        /// The edge's name for it.
        media: MediaId,
    },
    /// A media is gone.
    MediaOut {
        /// Which one.
        media: MediaId,
    },
    /// A fetch went on; at most one a second.
    ContentProgress {
        /// The fetch.
        op: OpId,
        /// Bytes verified and stored.
        have_bytes: u64,
        /// Bytes in all, as far as known.
        total_bytes: u64,
    },
    /// Everything of the bundle is verified and stored.
    ContentReady {
        /// The fetch.
        op: OpId,
    },
    /// A fetch ended without its content.
    ContentFailed {
        /// The fetch.
        op: OpId,
        /// Why.
        failure: Failure,
    },
    /// A generation was rendered and checked.
    Prepared {
        /// The preparation.
        op: OpId,
        /// What it found.
        plan: Plan,
    },
    /// A generation cannot be applied here.
    PrepareFailed {
        /// The preparation.
        op: OpId,
        /// Why.
        failure: Failure,
    },
    /// All images of a generation are in containerd, as the CRI sees it.
    Imported {
        /// The import.
        op: OpId,
    },
    /// An import ended without its images.
    ImportFailed {
        /// The import.
        op: OpId,
        /// Why.
        failure: Failure,
    },
    /// Images that we keep have vanished from containerd.
    ImagesLost {
        /// Their reference names.
        references: Vec<String>,
    },
    /// The answer to [`Effect::Api`](super::Effect::Api).
    Api {
        /// The request.
        op: OpId,
        /// The answer.
        reply: Result<ApiReply, ApiError>,
    },
    /// The API server began or ceased to answer.
    ApiState {
        /// It answers.
        up: bool,
        /// UID of the kube-system namespace, the cluster's identity, where it is known.
        cluster: Option<Uid>,
    },
    /// Why the API server does not answer; told before it is said to be down, and when the words change.
    ApiTrouble {
        /// In the server's words, or the connection's.
        reason: String,
    },
    /// A watch saw an object, at its start or after a change. Objects that are not ours are ignored.
    Seen {
        /// Its name.
        object: ObjectRef,
        /// Its identity.
        uid: Uid,
        /// Its version in the API server's order.
        resource_version: String,
        /// The app whose field manager has an entry, with that entry's hash; `None` where none has.
        entry: Option<(AppName, Blake3Digest)>,
    },
    /// A watch saw an object vanish.
    Gone {
        /// Its name.
        object: ObjectRef,
        /// Its identity.
        uid: Uid,
    },
    /// A watch has handed in, as [`Event::Seen`], everything that exists of this kind: whatever of ours it did
    /// not name since [`Effect::Watch`](super::Effect::Watch) or since the last `Listed` is not there.
    Listed {
        /// The kind.
        gvk: Arc<Gvk>,
    },
    /// The answer to [`Effect::ReadHealth`](super::Effect::ReadHealth).
    Health {
        /// The reading.
        op: OpId,
        /// What was read, or why nothing could be: then nobody can say how the object is.
        reading: Result<Health, ApiError>,
    },
    /// The cluster's nodes, whenever they change.
    Nodes(Vec<NodeStatus>),
    /// Free space of the state directory's file system, when it changes by much.
    Disk {
        /// Free bytes.
        free_bytes: u64,
        /// Free inodes.
        free_inodes: u64,
    },
    /// A cancelled operation has stopped.
    OpEnded {
        /// Which one.
        op: OpId,
    },
    /// A person at the site wants something.
    Local {
        /// Names the request in [`Effect::Reply`](super::Effect::Reply).
        request: RequestId,
        /// What.
        command: LocalCommand,
    },
    /// A commit failed; this core was loaded afresh from what is on disk.
    StoreFailed {
        /// What the store said.
        reason: String,
    },
    /// The database was damaged, and this core was loaded from its backup.
    StoreRestored {
        /// What was wrong, and where the damaged one is.
        reason: String,
    },
    /// The process is asked to end.
    Shutdown {
        /// How long it may take.
        grace_ms: u64,
    },
}

/// One long operation; never used twice, not even over restarts of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId {
    /// The load of the core that began it.
    pub start: u64,
    /// Counts up within that.
    pub number: u64,
}

/// One connection, or attempt at one, numbered by the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// One request over the control socket, numbered by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One media while it is in, named by the edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MediaId(pub String);

/// What a document must be; nothing dispatches on what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    /// A root.
    Root,
    /// A release.
    Release,
    /// An assignment.
    Assignment,
    /// An acknowledgement of outbox rows and receipts.
    Ack,
    /// A request of the hub.
    Command,
}

/// Who brought something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// The link to the hub.
    Hub,
    /// A stick or file.
    Media(MediaId),
    /// A person at the site.
    Local,
}

/// Why an operation did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is, so what to do now.
    pub class: FailureClass,
    /// The stable code.
    pub code: Code,
    /// What happened, for people.
    pub reason: String,
    /// What was seen, at most 8 KiB.
    pub evidence: Vec<Evidence>,
}

impl Failure {
    /// Content that was here is damaged or gone: fetching it again is the way on.
    #[must_use]
    pub fn is_lost_content(&self) -> bool {
        self.class == FailureClass::Environment
            && matches!(self.code, Code::ContentMissing | Code::BlobDigest)
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureClass {
    /// The generation's: final until its tuple or `retry` changes.
    App,
    /// The surroundings': tried again, with growing pauses.
    Environment,
}

/// What a person at the site can ask of the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalCommand {
    /// How is everything?
    Status,
    /// Begin no new generation of the app, and do not retire it.
    Hold(AppName),
    /// Go on.
    Unhold(AppName),
    /// Try the target again, although it failed.
    Retry(AppName),
    /// Back to the healthy generation before this one.
    Rollback(AppName),
}
