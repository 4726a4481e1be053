//! Everything that the core can ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_bundles::document::root::Scope;
use airlift_bundles::ids::{Counter, RandomId, Sha256Digest};

use super::api::ApiCall;
use super::event::{ConnId, MediaId, OpId, RequestId};
use super::object::{Generation, Gvk, ObjectRef, Predecessors};
use super::status::LocalReply;

/// One request of the core. It starts after the commit that holds its step's writes; it may be lost with the
/// process, and then `resume` asks again.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Say [`Event::Wake`](super::Event::Wake) then. There is one such moment: a later `Wake` replaces it.
    Wake {
        /// The moment.
        at_mono_ms: u64,
    },
    /// Try once to connect to the hub; ends in `LinkUp` or `LinkDown`.
    Connect {
        /// Wait this long first.
        after_ms: u64,
    },
    /// End the connection in order.
    Disconnect,
    /// Publish `u/conn`, and its opposite as the will of the next connection.
    Birth {
        /// Over this connection only.
        conn: ConnId,
        /// Counts connections over the life of the database.
        conn_seq: u64,
        /// The assignment in force.
        assignment: Option<Counter>,
        /// Version of the newest root.
        root_version: u64,
    },
    /// Publish outbox rows in signed batches of at most 128 KiB (`outbox::seal_batch`): the receipts
    /// `from..=upto` of the chain, read from the store, and the status row where `status` is set.
    Send {
        /// Over this connection only.
        conn: ConnId,
        /// The receipts' chain.
        chain_id: RandomId,
        /// First receipt; greater than `upto` where there is none to send.
        from: u64,
        /// Last receipt.
        upto: u64,
        /// The status row too.
        status: bool,
    },
    /// Ask for documents by whichever way is open: `root/<version>`, `doc/<sha256>`.
    Want(BTreeSet<WantedDocument>),
    /// Make everything of a bundle that this site's platforms need complete in the content store: index, artifact
    /// manifest, piece lists, blobs. Ends in `ContentReady` or `ContentFailed`.
    Fetch {
        /// The operation.
        op: OpId,
        /// For whom.
        generation: Arc<Generation>,
        /// The release's signed sizes, which cap everything.
        limits: FetchLimits,
    },
    /// Render and check a generation. Ends in `Prepared` or `PrepareFailed`.
    Prepare {
        /// The operation.
        op: OpId,
        /// Which one.
        generation: Arc<Generation>,
        /// What its objects may touch, by the role that signed it; `None` for a generation that was healthy here:
        /// what was accepted stays usable.
        scope: Option<Arc<Scope>>,
        /// What its objects may be now.
        before: Predecessors,
    },
    /// Put a generation's images into containerd, or find that they are there. Ends in `Imported` or
    /// `ImportFailed`.
    Import {
        /// The operation.
        op: OpId,
        /// Which one.
        generation: Arc<Generation>,
    },
    /// One request to the Kubernetes API. Ends in `Event::Api`.
    Api {
        /// The operation.
        op: OpId,
        /// What.
        call: ApiCall,
    },
    /// Read one object's health. Ends in `Event::Health`.
    ReadHealth {
        /// The operation.
        op: OpId,
        /// Whose rules.
        generation: Arc<Generation>,
        /// Which object.
        object: ObjectRef,
    },
    /// Watch the metadata of our objects of exactly these kinds; replaces the set before.
    Watch {
        /// The kinds.
        kinds: BTreeSet<Arc<Gvk>>,
    },
    /// Stop at the next object or piece boundary; always ends in `OpEnded`.
    Cancel {
        /// Which one.
        op: OpId,
    },
    /// Keep the images and content of these generations; all else may be dropped.
    Keep {
        /// Current, previous and coming generations.
        generations: Vec<Arc<Generation>>,
    },
    /// Write our receipts to a media.
    WriteMedia {
        /// Which one.
        media: MediaId,
        /// The chain.
        chain_id: RandomId,
        /// First receipt that is still wanted.
        from: u64,
        /// Last receipt.
        upto: u64,
    },
    /// Answer a request over the control socket.
    Reply {
        /// Which one.
        request: RequestId,
        /// The answer.
        reply: LocalReply,
    },
    /// End the process: everything is committed.
    Exit,
}

/// A document that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WantedDocument {
    /// The root of this version.
    Root(u64),
    /// A release, by digest of its payload.
    Release(Sha256Digest),
    /// An assignment that was too large to come by itself, by digest of its payload.
    Assignment(Sha256Digest),
}

/// Signed sizes of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Bytes of all blobs as they travel.
    pub packed_bytes: u64,
    /// Bytes of all blobs unpacked.
    pub unpacked_bytes: u64,
    /// Count of blobs.
    pub files: u64,
}
