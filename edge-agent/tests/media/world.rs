//! A cluster and a container runtime in memory, for an agent that runs inside the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use airlift_agent::World;
use airlift_agent::core::Event;
use airlift_agent::core::api::{ApiError, ApiErrorClass, Applied, Found, PodFound};
use airlift_agent::core::object::{Generation, Gvk, Health, ObjectRef, Uid, Verdict};
use airlift_agent::ports::cancel::CancelFlag;
use airlift_agent::ports::cluster::{ApplyRequest, Propagation, Resolved, Room};
use airlift_agent::ports::images::{Change, ChangeWatch, ImageToImport, ImportError, ImportedImage, Removal};
use airlift_agent::ports::{Boxed, Cluster, Images};
use airlift_bundles::document::release::Platform;
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::{AppName, Blake3Digest, Sha256Digest};
use serde_json::Value;
use tokio::sync::mpsc;

/// Objects by name; everything in it is healthy.
#[derive(Default)]
pub(crate) struct Objects(Mutex<BTreeMap<ObjectRef, Value>>);

impl Objects {
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().map(|object| object.name.clone()).collect()
    }
}

/// The world that an agent is given, and what is in it.
pub(crate) fn world() -> (World, Arc<Objects>) {
    let objects = Arc::new(Objects::default());
    let cluster = Arc::new(MemoryCluster(Arc::clone(&objects)));
    (World { cluster: Some(cluster), images: Some(Arc::new(NoImages)) }, objects)
}

struct MemoryCluster(Arc<Objects>);

fn done<'a, T: Send + 'a, E: Send + 'a>(outcome: Result<T, E>) -> Boxed<'a, Result<T, E>> {
    Box::pin(std::future::ready(outcome))
}

fn uid(object: &ObjectRef) -> Uid {
    Uid(format!("uid of {object}"))
}

fn hash(body: &Value) -> Blake3Digest {
    Blake3Digest::of(body.to_string().as_bytes())
}

impl Cluster for MemoryCluster {
    fn apply(&self, request: ApplyRequest) -> Boxed<'_, Result<Applied, ApiError>> {
        let fields_hash = hash(&request.body);
        if !request.dry_run {
            self.0.0.lock().unwrap().insert(request.object.clone(), request.body);
        }
        done(Ok(Applied {
            uid: uid(&request.object),
            resource_version: "1".into(),
            fields_hash,
            changed: true,
        }))
    }

    fn get<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<Value, ApiError>> {
        let found = self.0.0.lock().unwrap().get(object).cloned();
        let missing = ApiError { class: ApiErrorClass::NotFound, status: 404, message: "not there".into() };
        done(found.ok_or(missing))
    }

    fn delete<'a>(
        &'a self,
        object: &'a ObjectRef,
        _: &'a Uid,
        _: Propagation,
    ) -> Boxed<'a, Result<(), ApiError>> {
        self.0.0.lock().unwrap().remove(object);
        done(Ok(()))
    }

    fn list<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a Gvk,
        only: &'a BTreeSet<ObjectRef>,
    ) -> Boxed<'a, Result<Vec<Found>, ApiError>> {
        let objects = self.0.0.lock().unwrap();
        let found = objects.iter().filter(|(object, _)| only.contains(*object)).map(|(object, body)| Found {
            object: object.clone(),
            uid: uid(object),
            fields_hash: Some(hash(body)),
            other_owner: None,
            terminating: false,
        });
        done(Ok(found.collect()))
    }

    fn others<'a>(
        &'a self,
        _: &'a ObjectRef,
        _: &'a BTreeSet<Uid>,
        _: bool,
    ) -> Boxed<'a, Result<Vec<String>, ApiError>> {
        done(Ok(Vec::new()))
    }

    fn is_autoscaled<'a>(&'a self, _: &'a ObjectRef) -> Boxed<'a, Result<bool, ApiError>> {
        done(Ok(false))
    }

    fn watch(&self, _: BTreeSet<Arc<Gvk>>, _: mpsc::Sender<Event>) -> Boxed<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn health<'a>(&'a self, _: &'a Generation, _: &'a ObjectRef) -> Boxed<'a, Result<Health, ApiError>> {
        done(Ok(Health { verdict: Verdict::Current, restarts: 0, reason: String::new(), evidence: vec![] }))
    }

    fn pods<'a>(&'a self, _: &'a ObjectRef) -> Boxed<'a, Result<Vec<PodFound>, ApiError>> {
        done(Ok(Vec::new()))
    }

    fn delete_pod<'a>(&'a self, _: &'a ObjectRef, _: &'a Uid, _: bool) -> Boxed<'a, Result<(), ApiError>> {
        done(Ok(()))
    }

    fn resolve<'a>(&'a self, gvk: &'a Gvk) -> Boxed<'a, Result<Resolved, ApiError>> {
        done(Ok(Resolved { plural: gvk.kind.to_lowercase() + "s", namespaced: true }))
    }

    fn image_room(&self) -> Boxed<'_, Result<Option<Room>, ApiError>> {
        done(Ok(None))
    }

    fn cluster_uid(&self) -> Boxed<'_, Result<Uid, ApiError>> {
        done(Ok(Uid("kube-system".into())))
    }

    fn nodes(&self) -> Boxed<'_, Result<Vec<NodeStatus>, ApiError>> {
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let node = NodeStatus {
            name: "node".into(),
            ready: true,
            schedulable: true,
            disk_pressure: false,
            platform,
            kubelet: "v1.34.4".into(),
        };
        done(Ok(vec![node]))
    }
}

/// The apps of these tests have no images.
struct NoImages;

impl Images for NoImages {
    fn import<'a>(
        &'a self,
        image: &'a ImageToImport,
        _: &'a mut (dyn FnMut(u64) + Send),
        _: &'a CancelFlag,
    ) -> Boxed<'a, Result<ImportedImage, ImportError>> {
        done(Ok(ImportedImage { top: image.top, config: image.top, bytes: 0 }))
    }

    fn present<'a>(
        &'a self,
        references: &'a [String],
    ) -> Boxed<'a, Result<Vec<Option<Sha256Digest>>, ImportError>> {
        done(Ok(vec![Some(Sha256Digest::of(b"image")); references.len()]))
    }

    fn watch_changes(&self) -> Boxed<'_, Result<Box<dyn ChangeWatch>, ImportError>> {
        done(Ok(Box::new(NothingIsLost) as Box<dyn ChangeWatch>))
    }

    fn owned(&self) -> Boxed<'_, Result<Vec<String>, ImportError>> {
        done(Ok(Vec::new()))
    }

    fn keep_system(&self) -> Boxed<'_, Result<Vec<String>, ImportError>> {
        done(Ok(Vec::new()))
    }

    fn remove<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Removal, ImportError>> {
        done(Ok(Removal::NotOurs))
    }
}

struct NothingIsLost;

impl ChangeWatch for NothingIsLost {
    fn next(&mut self) -> Boxed<'_, Result<Change, ImportError>> {
        Box::pin(std::future::pending())
    }
}
