//! A model Kubernetes behind the agent's `Cluster` port: an API server in memory with what its controllers and
//! nodes would do.
//!
//! It models server-side apply with field ownership, UIDs and resource versions, namespaces that must exist and
//! take time to go, CustomResourceDefinitions that take time to be established, workloads that become ready after
//! a delay or never, owner references, finalizers, metadata watches that can lose their place, and an API server
//! that is down, throttles or fails. A StatefulSet that was in trouble stays so until its broken pod is deleted.
//! Health is judged by the agent's own rules over the statuses it makes.
//!
//! Fields that cannot change are those of the product's own table. Dry runs, namespaces that something holds and
//! dependents are modelled too. What is not modelled stands in [`NOT_MODELLED`]: what a test needs of that it must
//! ask of a real cluster.

mod behaviour;
pub mod contract;
mod guard;
mod kinds;
mod model;
mod ownership;
mod settings;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlift_agent::core::api::{ApiError, Applied, Found, PodFound};
use airlift_agent::core::event::Event;
use airlift_agent::core::object::{Generation, Gvk, Health, ObjectRef, Uid};
use airlift_agent::ports::Boxed;
use airlift_agent::ports::cluster::{ApplyRequest, Cluster, Propagation, Resolved, Room};
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::AppName;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

pub use behaviour::Trouble;
pub use model::{Model, WatchId};
pub use settings::{Diagnosis, Fault, Settings};

/// What the model does not do and a cluster does. The first ones are [`contract::DEPARTURES`], shown on both; the
/// others can only be said.
pub const NOT_MODELLED: [&str; 12] = [
    contract::DEPARTURES[0].0,
    contract::DEPARTURES[1].0,
    contract::DEPARTURES[2].0,
    contract::DEPARTURES[3].0,
    contract::DEPARTURES[4].0,
    contract::DEPARTURES[5].0,
    "managers: nobody writes but by server-side apply, so there are no entries of `Update` or of a subresource",
    "rolling updates: no old pod stays until a new one is ready",
    "nodes: nothing is scheduled, evicted or collected",
    "quotas and limits",
    "permissions: everybody may do everything",
    "events, logs and pods are there only inside a health reading or a workload's list of pods",
];

/// Whether every model cluster knows a kind.
pub(crate) fn knows(gvk: &Gvk) -> bool {
    kinds::built_in().contains_key(gvk)
}

/// Whether objects of a kind have pods.
pub(crate) fn has_pods(gvk: &Gvk) -> bool {
    behaviour::has_pods(gvk)
}

/// Milliseconds since any fixed moment, as the caller counts them.
pub type MonoClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A [`Model`] that several tasks share, under the agent's port.
#[derive(Clone)]
pub struct ModelCluster {
    model: Arc<Mutex<Model>>,
    clock: MonoClock,
    changed: Arc<Notify>,
}

impl std::fmt::Debug for ModelCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelCluster").finish_non_exhaustive()
    }
}

impl ModelCluster {
    /// Puts a model under the port; `clock` says how its time passes.
    #[must_use]
    pub fn new(model: Model, clock: MonoClock) -> Self {
        Self { model: Arc::new(Mutex::new(model)), clock, changed: Arc::new(Notify::new()) }
    }

    /// Lets the model catch up with the clock, then works on it.
    pub fn with<T>(&self, act: impl FnOnce(&mut Model, u64) -> T) -> T {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = (self.clock)();
        model.advance(now_ms);
        let outcome = act(&mut model, now_ms);
        drop(model);
        self.changed.notify_waiters();
        outcome
    }

    fn answer<'a, T: Send + 'a>(
        &self,
        act: impl FnOnce(&mut Model, u64) -> Result<T, ApiError>,
    ) -> Boxed<'a, Result<T, ApiError>> {
        let outcome = self.with(act);
        Box::pin(async { outcome })
    }

    async fn watch_until_dropped(&self, kinds: BTreeSet<Arc<Gvk>>, events: mpsc::Sender<Event>) {
        let id = self.with(|model, _| model.watch(kinds));
        let _end = EndOfWatch { cluster: self, id };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between.
            changed.as_mut().enable();
            let (found, next_ms, now_ms) = self.look(id);
            for event in found {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            let pause =
                next_ms.map_or(IDLE, |next| Duration::from_millis(next.saturating_sub(now_ms).max(1)));
            tokio::select! {
                biased;
                () = events.closed() => return,
                () = changed => {}
                () = tokio::time::sleep(pause.min(IDLE)) => {}
            }
        }
    }

    /// A look that wakes nobody.
    fn look(&self, id: WatchId) -> (Vec<Event>, Option<u64>, u64) {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = (self.clock)();
        model.advance(now_ms);
        (model.take_events(id), model.next_change_ms(), now_ms)
    }
}

/// How long a watch sleeps when nothing is due; only a clock that is set by hand makes it matter.
const IDLE: Duration = Duration::from_secs(1);

struct EndOfWatch<'a> {
    cluster: &'a ModelCluster,
    id: WatchId,
}

impl Drop for EndOfWatch<'_> {
    fn drop(&mut self) {
        self.cluster.with(|model, _| model.unwatch(self.id));
    }
}

impl Cluster for ModelCluster {
    fn apply(&self, request: ApplyRequest) -> Boxed<'_, Result<Applied, ApiError>> {
        self.answer(|model, now_ms| model.apply(now_ms, &request))
    }

    fn get<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<Value, ApiError>> {
        self.answer(|model, now_ms| model.get(now_ms, object))
    }

    fn delete<'a>(
        &'a self,
        object: &'a ObjectRef,
        uid: &'a Uid,
        propagation: Propagation,
    ) -> Boxed<'a, Result<(), ApiError>> {
        self.answer(|model, now_ms| model.delete(now_ms, object, uid, propagation))
    }

    fn list<'a>(
        &'a self,
        app: &'a AppName,
        gvk: &'a Gvk,
        only: &'a BTreeSet<ObjectRef>,
    ) -> Boxed<'a, Result<Vec<Found>, ApiError>> {
        self.answer(|model, _| model.list(app, gvk, only))
    }

    fn others<'a>(
        &'a self,
        object: &'a ObjectRef,
        ours: &'a BTreeSet<Uid>,
        claims: bool,
    ) -> Boxed<'a, Result<Vec<String>, ApiError>> {
        self.answer(|model, _| model.others(object, ours, claims))
    }

    fn is_autoscaled<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<bool, ApiError>> {
        self.answer(|model, _| model.is_autoscaled(object))
    }

    fn watch(&self, kinds: BTreeSet<Arc<Gvk>>, events: mpsc::Sender<Event>) -> Boxed<'_, ()> {
        Box::pin(self.watch_until_dropped(kinds, events))
    }

    fn health<'a>(
        &'a self,
        _generation: &'a Generation,
        object: &'a ObjectRef,
    ) -> Boxed<'a, Result<Health, ApiError>> {
        self.answer(|model, now_ms| model.health(now_ms, object))
    }

    fn pods<'a>(&'a self, object: &'a ObjectRef) -> Boxed<'a, Result<Vec<PodFound>, ApiError>> {
        self.answer(|model, _| model.pods(object))
    }

    fn delete_pod<'a>(
        &'a self,
        pod: &'a ObjectRef,
        uid: &'a Uid,
        _: bool,
    ) -> Boxed<'a, Result<(), ApiError>> {
        self.answer(|model, now_ms| model.delete_pod(now_ms, pod, uid))
    }

    fn resolve<'a>(&'a self, gvk: &'a Gvk) -> Boxed<'a, Result<Resolved, ApiError>> {
        self.answer(|model, _| model.resolve(gvk))
    }

    fn image_room(&self) -> Boxed<'_, Result<Option<Room>, ApiError>> {
        self.answer(|model, _| model.image_room())
    }

    fn cluster_uid(&self) -> Boxed<'_, Result<Uid, ApiError>> {
        self.answer(|model, _| model.cluster_uid())
    }

    fn nodes(&self) -> Boxed<'_, Result<Vec<NodeStatus>, ApiError>> {
        self.answer(|model, _| model.nodes())
    }
}

#[cfg(test)]
mod tests;
