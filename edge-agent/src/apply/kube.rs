//! The `Cluster` port over a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::{AppName, Blake3Digest};
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::autoscaled::Autoscaled;
use super::connection::{Ask, Connection, WHOLE};
use super::discovery::Discovery;
use super::fields::{self, MANAGER_PREFIX, Metadata};
use super::lease::Lease;
use super::listing::{Listing, narrow};
use super::nodes::NodeList;
use super::pace::Pace;
use super::path::{of_kind, of_object, with_query};
use super::refusal::unusable;
use super::watch::watch_kinds;
use crate::clock::Clock;
use crate::core::api::{ApiError, ApiErrorClass, Applied, Found, PodFound};
use crate::core::event::Event;
use crate::core::object::{Generation, Gvk, Health, ObjectRef, Uid};
use crate::ports::Boxed;
use crate::ports::cluster::{ApplyRequest, Cluster, Propagation, Resolved, Room};

/// How an API server says that a webhook with side effects keeps a request from being tried.
const NO_DRY_RUN: &str = "does not support dry run";
/// How long a look at the nodes serves: many workloads settle at the same time, and nodes change seldom.
const NODES_LOOK: Duration = Duration::from_secs(5);

/// A real cluster. Cheap to clone; all clones share one connection, one pace and one knowledge of kinds.
#[derive(Debug, Clone)]
pub struct KubeCluster {
    pub(super) shared: Arc<Shared>,
}

/// What requests and watches share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: Arc<Connection>,
    pub(super) discovery: Discovery,
    pace: Pace,
    nodes: Mutex<Option<(Instant, Vec<NodeStatus>)>>,
    pub(super) autoscaled: Autoscaled,
    /// `None` where nothing guards the cluster.
    lease: Option<Lease>,
}

impl KubeCluster {
    /// The cluster that a kubeconfig file names. Nothing is read yet: K3s may write the file later.
    #[must_use]
    pub fn new(kubeconfig: &Path) -> Self {
        Self::make(Arc::new(Connection::new(kubeconfig)), None)
    }

    /// The same cluster, written to only while the Lease `airlift-system/agent` is held in this name. Must be
    /// called on a runtime, where a task keeps the Lease until the last clone is dropped.
    #[must_use]
    pub fn leased(kubeconfig: &Path, holder: String, clock: Clock) -> Self {
        let connection = Arc::new(Connection::new(kubeconfig));
        let lease = Lease::keep(Arc::clone(&connection), holder, clock);
        Self::make(connection, Some(lease))
    }

    fn make(connection: Arc<Connection>, lease: Option<Lease>) -> Self {
        let discovery = Discovery::default();
        let (pace, nodes, autoscaled) = (Pace::default(), Mutex::default(), Autoscaled::default());
        Self { shared: Arc::new(Shared { connection, discovery, pace, nodes, autoscaled, lease }) }
    }

    /// Sends a request outside of the port's calls.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<bytes::Bytes, ApiError> {
        self.shared.connection.send(ask).await
    }

    /// Where an object lives.
    async fn place(&self, object: &ObjectRef) -> Result<String, ApiError> {
        let resolved = self.shared.discovery.resolve(&self.shared.connection, &object.gvk).await?;
        of_object(object, &resolved).ok_or_else(|| unusable(&format!("{object} needs a namespace")))
    }

    /// Forgets where a kind lives when the server says that nothing is there.
    fn learn<T>(&self, gvk: &Gvk, outcome: Result<T, ApiError>) -> Result<T, ApiError> {
        if let Err(ApiError { class: ApiErrorClass::KindUnknown, .. }) = &outcome {
            self.shared.discovery.forget(gvk);
        }
        outcome
    }

    async fn may_write(&self) -> Result<(), ApiError> {
        match &self.shared.lease {
            Some(lease) => lease.must_be_held().await,
            None => Ok(()),
        }
    }

    async fn apply_one(&self, request: ApplyRequest) -> Result<Applied, ApiError> {
        self.may_write().await?;
        let place = self.place(&request.object).await?;
        let flag = |value: bool| if value { "true" } else { "false" };
        let mut query = vec![
            ("fieldManager", request.field_manager.as_str()),
            ("force", flag(request.force)),
            // Fields that the schema does not know are refused all the same; the check that this leaves out parses the
            // body once more, to look for fields that are there twice, as none can be in a JSON value.
            ("fieldValidation", "Ignore"),
        ];
        if request.dry_run {
            query.push(("dryRun", "All"));
        }
        let path = with_query(place, &query);
        let mut body = request.body;
        if let Some(Uid(uid)) = request.uid {
            let metadata = body.pointer_mut("/metadata").and_then(Value::as_object_mut);
            let metadata = metadata.ok_or_else(|| unusable("body has no metadata"))?;
            metadata.insert("uid".to_owned(), Value::String(uid));
        }
        let bytes = serde_json::to_vec(&body).expect("a JSON value can always be written");
        drop(body);
        let ask = Ask::with_body(Method::PATCH, path, "application/apply-patch+yaml", bytes);
        let reply = self.shared.pace.run(self.shared.connection.send(&ask)).await;
        let reply = match reply {
            Err(error) if request.dry_run && error.message.contains(NO_DRY_RUN) => {
                // It cannot be known beforehand; the real request will tell.
                let (uid, fields_hash) = (Uid(String::new()), Blake3Digest::of(b""));
                return Ok(Applied { uid, fields_hash, resource_version: String::new(), changed: false });
            }
            other => self.learn(&request.object.gvk, other)?,
        };
        let metadata = read_metadata(&reply)?;
        let app = request.field_manager.strip_prefix(MANAGER_PREFIX).unwrap_or(&request.field_manager);
        // A body without a single field leaves no entry; ours always have the app's label.
        let fields_hash = metadata.hash_of(app).unwrap_or_else(|| Blake3Digest::of(b""));
        let resource_version = metadata.resource_version;
        Ok(Applied { fields_hash, uid: Uid(metadata.uid), resource_version, changed: true })
    }

    pub(crate) async fn get_one(&self, object: &ObjectRef) -> Result<Value, ApiError> {
        let place = self.place(object).await?;
        let reply = self.ask(&Ask::get(place, WHOLE)).await;
        let reply = self.learn(&object.gvk, reply)?;
        serde_json::from_slice(&reply).map_err(|error| unusable(&format!("{object} cannot be read: {error}")))
    }

    async fn delete_one(&self, object: &ObjectRef, uid: &Uid, how: Propagation) -> Result<(), ApiError> {
        self.may_write().await?;
        let place = self.place(object).await?;
        let policy = match how {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        };
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": policy, "preconditions": {"uid": uid.0},
        });
        self.send_delete(object, place, &options).await
    }

    async fn delete_one_pod(&self, pod: &ObjectRef, uid: &Uid, force: bool) -> Result<(), ApiError> {
        self.may_write().await?;
        let place = self.place(pod).await?;
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid.0},
        });
        if force {
            options["gracePeriodSeconds"] = json!(0);
        }
        self.send_delete(pod, place, &options).await
    }

    async fn send_delete(&self, object: &ObjectRef, place: String, options: &Value) -> Result<(), ApiError> {
        let bytes = options.to_string().into_bytes();
        let ask = Ask::with_body(Method::DELETE, place, "application/json", bytes);
        let reply = self.shared.pace.run(self.shared.connection.send(&ask)).await;
        match self.learn(&object.gvk, reply) {
            Ok(_) => Ok(()),
            // Gone already, or another object has the name now: the one that was meant is not there.
            Err(error) if matches!(error.class, ApiErrorClass::NotFound | ApiErrorClass::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list_some(
        &self,
        app: &AppName,
        gvk: &Gvk,
        only: &BTreeSet<ObjectRef>,
    ) -> Result<Vec<Found>, ApiError> {
        let resolved = self.shared.discovery.resolve(&self.shared.connection, gvk).await?;
        let (namespace, name) = narrow(only);
        let path = of_kind(gvk, &resolved, namespace);
        let selector = name.as_deref().map(|name| ("fieldSelector", name));
        let kind = Arc::new(gvk.clone());
        let read = |metadata: Metadata<'_>| {
            let namespace = metadata.namespace.clone().filter(|_| resolved.namespaced);
            let object = ObjectRef { gvk: Arc::clone(&kind), namespace, name: metadata.name.clone() };
            let one = Found {
                object: only.get(&object)?.clone(),
                fields_hash: metadata.hash_of(app.as_str()),
                other_owner: metadata.other_owner(app.as_str()),
                terminating: metadata.deletion_timestamp.is_some(),
                uid: Uid(metadata.uid),
            };
            Some((object, one))
        };
        let mut listing = Listing::new(&path, selector);
        let mut found = BTreeMap::new();
        loop {
            let page = listing.page(&self.shared.connection, &read).await;
            match self.learn(gvk, page)? {
                Some(page) => found.extend(page),
                None => return Ok(found.into_values().collect()),
            }
        }
    }

    /// All nodes, as seen a few seconds ago at most.
    pub(crate) async fn recent_nodes(&self) -> Result<Vec<NodeStatus>, ApiError> {
        let lock = || self.shared.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((looked, nodes)) = lock().as_ref()
            && looked.elapsed() < NODES_LOOK
        {
            return Ok(nodes.clone());
        }
        let nodes = self.all_nodes().await?;
        *lock() = Some((Instant::now(), nodes.clone()));
        Ok(nodes)
    }

    async fn all_nodes(&self) -> Result<Vec<NodeStatus>, ApiError> {
        let reply = self.ask(&Ask::get("/api/v1/nodes?limit=500".into(), WHOLE)).await?;
        let list: NodeList = serde_json::from_slice(&reply)
            .map_err(|error| unusable(&format!("list of nodes cannot be read: {error}")))?;
        Ok(list.items.into_iter().map(|node| node.status()).collect())
    }

    async fn kube_system(&self) -> Result<Uid, ApiError> {
        let ask = Ask::get("/api/v1/namespaces/kube-system".into(), WHOLE);
        let reply = self.ask(&ask).await?;
        Ok(Uid(read_metadata(&reply)?.uid))
    }
}

fn read_metadata(bytes: &[u8]) -> Result<Metadata<'_>, ApiError> {
    let read = fields::read(bytes);
    Ok(read.map_err(|error| unusable(&format!("reply cannot be read: {error}")))?.metadata)
}

impl Cluster for KubeCluster {
    fn apply(&self, request: ApplyRequest) -> Boxed<'_, Result<Applied, ApiError>> {
        Box::pin(self.apply_one(request))
    }

    fn get<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<Value, ApiError>> {
        Box::pin(self.get_one(object))
    }

    fn delete<'a>(
        &'a self,
        object: &'a ObjectRef,
        uid: &'a Uid,
        propagation: Propagation,
    ) -> Boxed<'a, Result<(), ApiError>> {
        Box::pin(self.delete_one(object, uid, propagation))
    }

    fn list<'a>(
        &'a self,
        app: &'a AppName,
        gvk: &'a Gvk,
        only: &'a BTreeSet<ObjectRef>,
    ) -> Boxed<'a, Result<Vec<Found>, ApiError>> {
        Box::pin(self.list_some(app, gvk, only))
    }

    fn others<'a>(
        &'a self,
        object: &'a ObjectRef,
        ours: &'a BTreeSet<Uid>,
        claims: bool,
    ) -> Boxed<'a, Result<Vec<String>, ApiError>> {
        Box::pin(self.list_others(object, ours, claims))
    }

    fn is_autoscaled<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<bool, ApiError>> {
        Box::pin(self.has_autoscaler(object))
    }

    fn watch(&self, kinds: BTreeSet<Arc<Gvk>>, events: mpsc::Sender<Event>) -> Boxed<'_, ()> {
        Box::pin(watch_kinds(Arc::clone(&self.shared), kinds, events))
    }

    fn health<'a>(
        &'a self,
        _generation: &'a Generation,
        object: &'a ObjectRef,
    ) -> Boxed<'a, Result<Health, ApiError>> {
        Box::pin(crate::observe::reading::read_health(self, object))
    }

    fn pods<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<Vec<PodFound>, ApiError>> {
        Box::pin(crate::observe::reading::read_roster(self, object))
    }

    fn delete_pod<'a>(
        &'a self,
        pod: &'a ObjectRef,
        uid: &'a Uid,
        force: bool,
    ) -> Boxed<'a, Result<(), ApiError>> {
        Box::pin(self.delete_one_pod(pod, uid, force))
    }

    fn resolve<'a>(&'a self, gvk: &'a Gvk) -> Boxed<'a, Result<Resolved, ApiError>> {
        Box::pin(async { self.shared.discovery.resolve(&self.shared.connection, gvk).await })
    }

    fn image_room(&self) -> Boxed<'_, Result<Option<Room>, ApiError>> {
        Box::pin(self.room_for_images())
    }

    fn cluster_uid(&self) -> Boxed<'_, Result<Uid, ApiError>> {
        Box::pin(self.kube_system())
    }

    fn nodes(&self) -> Boxed<'_, Result<Vec<NodeStatus>, ApiError>> {
        Box::pin(self.all_nodes())
    }
}
