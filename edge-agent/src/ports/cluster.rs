//! The Kubernetes API, one object a call.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::AppName;
use tokio::sync::mpsc;

use super::Boxed;
use crate::core::api::{ApiError, Applied, Found, PodFound};
use crate::core::event::Event;
use crate::core::object::{Generation, Gvk, Health, ObjectRef, Uid};

/// The label that rendering puts on every object, with the app's name: watches select by it, and it makes sure
/// that even an object without any other field leaves an entry of ours. Membership is never read from it.
pub const APP_LABEL: &str = "airlift.dev/app";

/// The Kubernetes API itself: the Kubernetes edge over a real one, or the simulator's model.
///
/// Each call is one request (or a few pages of one list) and is not repeated inside: the core decides on repeats.
/// Every call has its own bound in time and then answers `Unavailable`.
pub trait Cluster: Send + Sync {
    /// Server-side apply of a rendered body, force, strict field validation.
    fn apply(&self, request: ApplyRequest) -> Boxed<'_, Result<Applied, ApiError>>;

    /// The live object as a whole, for evidence and comparisons.
    fn get<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<serde_json::Value, ApiError>>;

    /// Deletes with a UID precondition; `Ok` also where the object of that UID was gone already.
    fn delete<'a>(
        &'a self,
        object: &'a ObjectRef,
        uid: &'a Uid,
        propagation: Propagation,
    ) -> Boxed<'a, Result<(), ApiError>>;

    /// Lists a kind's metadata in pages and returns those of `only` that exist; `fields_hash` is of the manager
    /// `airlift/<app>`. A kind that the cluster does not know answers `KindUnknown`.
    fn list<'a>(
        &'a self,
        app: &'a AppName,
        gvk: &'a Gvk,
        only: &'a BTreeSet<ObjectRef>,
    ) -> Boxed<'a, Result<Vec<Found>, ApiError>>;

    /// Names what would go with a namespace, a definition of a kind (its objects) or a claim (pods that use it) and is
    /// neither of `ours` nor owned by one of them; with `claims`, those of our StatefulSets count as ours. What
    /// cannot be listed is an error.
    fn others<'a>(
        &'a self,
        object: &'a ObjectRef,
        ours: &'a BTreeSet<Uid>,
        claims: bool,
    ) -> Boxed<'a, Result<Vec<String>, ApiError>>;

    /// Whether a HorizontalPodAutoscaler sets the object's replicas, as seen a few seconds ago at most.
    fn is_autoscaled<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<bool, ApiError>>;

    /// Watches the metadata of these kinds (our own objects only, by label) until the future is dropped, and hands
    /// in `Seen`, `Gone` and, after each full listing, `Listed`. It reconnects by itself and lists again where
    /// the server asks for it; kinds that are not known yet are tried again with pauses.
    fn watch(&self, kinds: BTreeSet<Arc<Gvk>>, events: mpsc::Sender<Event>) -> Boxed<'_, ()>;

    /// Reads the live object and judges it (kstatus, the app's rules), with pods' evidence where it is not well.
    fn health<'a>(
        &'a self,
        generation: &'a Generation,
        object: &'a ObjectRef,
    ) -> Boxed<'a, Result<Health, ApiError>>;

    /// The pods that belong to a StatefulSet or DaemonSet, and whether its controller wants another revision in
    /// their place; while it has not seen the workload's newest specification it wants nothing else.
    fn pods<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<Vec<PodFound>, ApiError>>;

    /// Deletes a pod with a UID precondition, by force without asking its node; `Ok` also where it was gone already.
    fn delete_pod<'a>(
        &'a self,
        pod: &'a ObjectRef,
        uid: &'a Uid,
        force: bool,
    ) -> Boxed<'a, Result<(), ApiError>>;

    /// Scope and plural of a kind, from discovery of its own group-version alone.
    fn resolve<'a>(&'a self, gvk: &'a Gvk) -> Boxed<'a, Result<Resolved, ApiError>>;

    /// Free space for images on the agent's node, and what its kubelet keeps free of it; `None` where nobody can say
    /// which node that is.
    fn image_room(&self) -> Boxed<'_, Result<Option<Room>, ApiError>>;

    /// UID of the kube-system namespace: the cluster's identity.
    fn cluster_uid(&self) -> Boxed<'_, Result<Uid, ApiError>>;

    /// All nodes.
    fn nodes(&self) -> Boxed<'_, Result<Vec<NodeStatus>, ApiError>>;
}

/// One server-side apply.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyRequest {
    /// Which object.
    pub object: ObjectRef,
    /// Its rendered body.
    pub body: serde_json::Value,
    /// `airlift/<app>`.
    pub field_manager: String,
    /// Take fields that others own.
    pub force: bool,
    /// Check and change nothing.
    pub dry_run: bool,
    /// The object must be this one; sent as `metadata.uid`.
    pub uid: Option<Uid>,
}

/// How dependents of a deleted object go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// After it, by the garbage collector.
    Background,
    /// Before it.
    Foreground,
    /// Not at all.
    Orphan,
}

/// Space for images on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The node.
    pub node: String,
    /// Free bytes.
    pub free_bytes: u64,
    /// With less than this free, the kubelet removes images or evicts pods.
    pub keep_bytes: u64,
}

/// Where a kind lives in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The name in URLs.
    pub plural: String,
    /// Its objects are in namespaces.
    pub namespaced: bool,
}
