//! Requests to the Kubernetes API as the core states them, and their replies.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_bundles::ids::{AppName, Blake3Digest};

use super::object::{Generation, Gvk, ObjectRef, Uid};

/// One request; the shell renders bodies and calls the `Cluster` port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiCall {
    /// Lists the metadata of all objects of a kind and answers for the named ones only: what is there before
    /// anything is sent. A kind that the cluster does not know answers `KindUnknown`.
    List {
        /// For whom: the field manager whose entry is hashed is `airlift/<app>`.
        app: AppName,
        /// The kind.
        gvk: Arc<Gvk>,
        /// The objects to answer for; all others are dropped at the edge.
        only: Arc<BTreeSet<ObjectRef>>,
    },
    /// Server-side apply of object `index` of the generation, manager `airlift/<app>`, force.
    Apply {
        /// Whose object.
        generation: Arc<Generation>,
        /// Its line in the objects layer.
        index: u32,
        /// Its name.
        object: ObjectRef,
        /// The object must still be this one; `None` where it is created.
        uid: Option<Uid>,
        /// The API server checks and changes nothing.
        dry_run: bool,
    },
    /// Deletes with background propagation.
    Delete {
        /// Its name.
        object: ObjectRef,
        /// Only this very object.
        uid: Uid,
    },
    /// Looks for what would go with a namespace, a definition of a kind or a claim and is not the app's.
    Others {
        /// What is to be deleted.
        object: ObjectRef,
        /// Everything of the app: these, and what they own.
        ours: Arc<BTreeSet<Uid>>,
        /// Claims of the app's StatefulSets may go too.
        claims: bool,
    },
    /// Lists the pods of a StatefulSet or DaemonSet of ours.
    Pods {
        /// The workload.
        object: ObjectRef,
    },
    /// Deletes one pod of a workload of ours, which its controller leaves as it is.
    DeletePod {
        /// Its name.
        pod: ObjectRef,
        /// Only this very pod.
        uid: Uid,
        /// Without asking its node, which is gone.
        force: bool,
    },
}

/// The answer to an [`ApiCall`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiReply {
    /// To `List`: those of `only` that exist.
    Listed(Vec<Found>),
    /// To `Apply`.
    Applied(Applied),
    /// To `Delete` and `DeletePod`: gone or going; also where it was gone already.
    Deleted,
    /// To `Others`: names, the first of them; empty where nothing of others is there.
    Others(Vec<String>),
    /// To `Pods`.
    Pods(Vec<PodFound>),
}

/// One pod of a workload, with what its controller wants of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFound {
    /// Its name; its namespace is the workload's.
    pub name: String,
    /// Its identity.
    pub uid: Uid,
    /// The node that it is on or made for; `None` before it has one.
    pub node: Option<String>,
    /// Its Ready condition is true.
    pub ready: bool,
    /// Its controller wants another revision in its place.
    pub outdated: bool,
    /// It has a deletion timestamp.
    pub terminating: bool,
}

/// One object that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub object: ObjectRef,
    /// Its identity.
    pub uid: Uid,
    /// Hash of our own managedFields entry; `None` where we have none, so the object is not ours.
    pub fields_hash: Option<Blake3Digest>,
    /// Another app of ours or another tool that tracks it (Argo CD, Flux, Helm, …), by name.
    pub other_owner: Option<String>,
    /// It has a deletion timestamp.
    pub terminating: bool,
}

/// What the API server returned for an applied object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its identity.
    pub uid: Uid,
    /// Its version in the API server's order.
    pub resource_version: String,
    /// Hash of our managedFields entry (fields and apiVersion, not the time).
    pub fields_hash: Blake3Digest,
    /// The object is another than before; `true` where that was not looked at.
    pub changed: bool,
}

/// Why the API server did not do it; the class says what to do now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class:?} ({status}): {message}")]
pub struct ApiError {
    /// What to do now.
    pub class: ApiErrorClass,
    /// The HTTP status; 0 where there was no reply.
    pub status: u16,
    /// What the server said, cut to 1 KiB.
    pub message: String,
}

/// What to do about an [`ApiError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiErrorClass {
    /// Try this object again soon (409 on the object's version, a terminating namespace).
    Retryable,
    /// 429: slow down; the settle clock stands.
    Throttled {
        /// The server's advice, or 0.
        retry_after_ms: u64,
    },
    /// No connection, timeout, 5xx, a failing webhook: the settle clock stands.
    Unavailable,
    /// Nothing was asked of the server: content of the bundle is damaged or gone on this disk.
    ContentLost,
    /// The precondition failed: the object of that name is another one now.
    Conflict,
    /// Not there (404 of an object, or of its namespace).
    NotFound,
    /// The cluster does not know the kind (yet).
    KindUnknown,
    /// Any other refusal: it will not get better by trying again.
    Final,
}
