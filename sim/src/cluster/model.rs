//! The model API server as a pure machine: every call carries the time, nothing runs by itself.

mod content;
mod ending;
mod pods;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use airlift_agent::apply::fields;
use airlift_agent::apply::others::{Holding, name_others, of_others};
use airlift_agent::core::api::{ApiError, ApiErrorClass, Applied, Found};
use airlift_agent::core::event::Event;
use airlift_agent::core::object::{Gvk, Health, ObjectRef, Uid, Verdict};
use airlift_agent::observe::{Surroundings, evidence, judge};
use airlift_agent::ports::cluster::{APP_LABEL, ApplyRequest, Resolved, Room};
use airlift_bundles::document::status::NodeStatus;
use airlift_bundles::ids::{AppName, Blake3Digest};
use serde_json::{Value, json};

use content::Content;

use super::behaviour::{self, Stage};
use super::guard::{self, storage_version};
use super::kinds;
use super::ownership::{self, Managers};
use super::settings::{Fault, Settings};

/// One watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(u64);

#[derive(Debug)]
struct Watch {
    kinds: BTreeSet<Arc<Gvk>>,
    queue: VecDeque<Event>,
}

#[derive(Debug, Clone)]
struct Stored {
    content: Arc<Content>,
    uid: Uid,
    version: u64,
    generation: i64,
    /// When what pods are made from last changed.
    changed_ms: u64,
    settled: bool,
    /// A StatefulSet's pod of the version before never became ready, and nobody replaces it.
    stuck: bool,
    deleting: bool,
    /// Of a definition: the versions in which objects of its kind were ever stored.
    stored_versions: BTreeSet<String>,
}

/// A model API server with what its controllers and nodes would do.
pub struct Model {
    settings: Settings,
    number: u64,
    nodes: Vec<NodeStatus>,
    kinds: Arc<BTreeMap<Gvk, Resolved>>,
    objects: BTreeMap<ObjectRef, Stored>,
    /// What time alone will change.
    due: BTreeSet<(u64, ObjectRef)>,
    version: u64,
    uids: u64,
    requests: u64,
    fault: Option<Fault>,
    watches: BTreeMap<WatchId, Watch>,
    watches_made: u64,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("number", &self.number).field("objects", &self.objects.len()).finish()
    }
}

impl Model {
    /// A cluster with nothing but its first namespaces; `number` makes its UIDs differ from other clusters'.
    #[must_use]
    pub fn new(number: u64, nodes: Vec<NodeStatus>, settings: Settings) -> Self {
        let mut model = Self {
            settings,
            number,
            nodes,
            kinds: kinds::built_in(),
            objects: BTreeMap::new(),
            due: BTreeSet::new(),
            version: 1,
            uids: 0,
            requests: 0,
            fault: None,
            watches: BTreeMap::new(),
            watches_made: 0,
        };
        for name in ["kube-system", "default"] {
            let namespace = namespace_ref(name);
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            model.create(0, &namespace, Content::shared(body, Managers::new()));
        }
        model
    }

    /// Lets time pass: what became ready, established or gone by `now_ms` does so.
    pub fn advance(&mut self, now_ms: u64) {
        loop {
            let ripe = |(at, object): &&(u64, ObjectRef)| *at <= now_ms && self.can_settle(object);
            let Some(next) = self.due.iter().take_while(|(at, _)| *at <= now_ms).find(ripe).cloned() else {
                return;
            };
            self.due.remove(&next);
            self.fulfil(&next.1);
        }
    }

    /// When time alone will change something next.
    #[must_use]
    pub fn next_change_ms(&self) -> Option<u64> {
        self.due.iter().find(|(_, object)| self.can_settle(object)).map(|(at, _)| *at)
    }

    /// Begins or ends a fault. After an outage every watch lists again.
    pub fn set_fault(&mut self, fault: Option<Fault>) {
        let was_down = self.fault == Some(Fault::Down);
        self.fault = fault;
        if was_down && fault != Some(Fault::Down) {
            self.lose_watches();
        }
    }

    /// Changes the nodes; without a Ready one no pod becomes ready.
    pub fn set_nodes(&mut self, nodes: Vec<NodeStatus>) {
        self.nodes = nodes;
    }

    /// All nodes.
    ///
    /// # Errors
    /// While a fault lasts.
    pub fn nodes(&mut self) -> Result<Vec<NodeStatus>, ApiError> {
        self.door()?;
        Ok(self.nodes.clone())
    }

    /// Names of everything that exists.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.objects.keys()
    }

    /// What is stored of an object, without asking the API server.
    #[must_use]
    pub fn body(&self, object: &ObjectRef) -> Option<&Value> {
        self.objects.get(object).map(|stored| &stored.content.body)
    }

    /// An object's identity, without asking the API server.
    #[must_use]
    pub fn uid(&self, object: &ObjectRef) -> Option<Uid> {
        self.objects.get(object).map(|stored| stored.uid.clone())
    }

    /// Server-side apply.
    ///
    /// # Errors
    /// As an API server's.
    pub fn apply(&mut self, now_ms: u64, request: &ApplyRequest) -> Result<Applied, ApiError> {
        self.door()?;
        self.known(&request.object.gvk)?;
        let live = self.objects.get(&request.object);
        if let Some(namespace) = &request.object.namespace {
            match self.objects.get(&namespace_ref(namespace)) {
                None => return Err(refuse(ApiErrorClass::NotFound, 404, "namespace not found")),
                Some(found) if found.deleting && live.is_none() => {
                    let words = "the namespace is being terminated";
                    return Err(refuse(ApiErrorClass::Retryable, 403, words));
                }
                Some(_) => {}
            }
        }
        if let Some(uid) = &request.uid
            && live.is_none_or(|live| live.uid != *uid)
        {
            return Err(refuse(ApiErrorClass::Conflict, 409, "uid mismatch"));
        }
        let mut body = live.map_or_else(|| json!({}), |live| live.content.body.clone());
        let mut managers = live.map(|live| live.content.managers.clone()).unwrap_or_default();
        ownership::apply(&mut body, &mut managers, &request.field_manager, &request.body, request.force)
            .map_err(|owners| refuse(ApiErrorClass::Conflict, 409, &format!("conflict with {owners:?}")))?;
        for name in ["apiVersion", "kind"] {
            body[name] = request.body[name].clone();
        }
        body["metadata"]["name"] = json!(request.object.name);
        if let Some(namespace) = &request.object.namespace {
            body["metadata"]["namespace"] = json!(namespace);
        }
        let app =
            request.field_manager.strip_prefix(fields::MANAGER_PREFIX).unwrap_or(&request.field_manager);
        let content = Content::shared(body, managers);
        let fields_hash = hash_in(&metadata_of(&content), app);
        if let Some(live) = live {
            guard::check_update(&request.object, &live.content.body, &content.body, &live.stored_versions)?;
        }
        if request.dry_run {
            let uid = live.map_or_else(|| Uid("dry-run".into()), |live| live.uid.clone());
            let resource_version = live.map_or(0, |live| live.version).to_string();
            return Ok(Applied { uid, resource_version, fields_hash, changed: true });
        }
        let before = live.map(|live| live.uid.clone());
        match live {
            None => self.create(now_ms, &request.object, content),
            Some(live) if Arc::ptr_eq(&live.content, &content) || live.content == content => {}
            Some(_) => self.update(now_ms, &request.object, content),
        }
        let (uid, version) = match (self.objects.get(&request.object), before) {
            (Some(stored), _) => (stored.uid.clone(), stored.version),
            // It went with the last of its finalizers.
            (None, Some(uid)) => (uid, self.version),
            (None, None) => return Err(refuse(ApiErrorClass::Unavailable, 500, "it was not stored")),
        };
        Ok(Applied { uid, resource_version: version.to_string(), fields_hash, changed: true })
    }

    /// The live object with the status that controllers would have written by `now_ms`.
    ///
    /// # Errors
    /// As an API server's.
    pub fn get(&mut self, now_ms: u64, object: &ObjectRef) -> Result<Value, ApiError> {
        self.door()?;
        self.known(&object.gvk)?;
        let stored =
            self.objects.get(object).ok_or_else(|| refuse(ApiErrorClass::NotFound, 404, "not found"))?;
        Ok(self.render(now_ms, object, stored))
    }

    /// Those of `only` that exist.
    ///
    /// # Errors
    /// As an API server's.
    pub fn list(
        &mut self,
        app: &AppName,
        gvk: &Gvk,
        only: &BTreeSet<ObjectRef>,
    ) -> Result<Vec<Found>, ApiError> {
        self.door()?;
        self.known(gvk)?;
        let found = only.iter().filter(|object| *object.gvk == *gvk).filter_map(|object| {
            let stored = self.objects.get(object)?;
            let text = metadata_of(&stored.content);
            let metadata = fields::read(text.as_bytes()).ok()?.metadata;
            Some(Found {
                object: object.clone(),
                uid: stored.uid.clone(),
                fields_hash: metadata.hash_of(app.as_str()),
                other_owner: metadata.other_owner(app.as_str()),
                terminating: stored.deleting,
            })
        });
        Ok(found.collect())
    }

    /// Names what would go with an object and is neither of `ours` nor owned by one of them.
    ///
    /// # Errors
    /// As an API server's.
    pub fn others(
        &mut self,
        object: &ObjectRef,
        ours: &BTreeSet<Uid>,
        claims: bool,
    ) -> Result<Vec<String>, ApiError> {
        self.door()?;
        let defined: Vec<Gvk> = match self.objects.get(object) {
            Some(stored) if object.gvk.kind == "CustomResourceDefinition" => {
                kinds::defined_by(&stored.content.body).into_iter().map(|(gvk, _)| gvk).collect()
            }
            _ => Vec::new(),
        };
        let is_under = |other: &ObjectRef| match object.gvk.kind.as_str() {
            "Namespace" => other.namespace.as_ref() == Some(&object.name),
            "CustomResourceDefinition" => defined.contains(&other.gvk),
            "PersistentVolumeClaim" => other.namespace == object.namespace,
            _ => false,
        };
        let held = self.objects.iter().filter(|(other, _)| is_under(other));
        let holdings: Vec<Holding> = held
            .map(|(other, stored)| guard::holding(other, stored.deleting, &stored.uid, &stored.content.body))
            .collect();
        let mut found = of_others(&holdings, ours, claims);
        if object.gvk.kind == "PersistentVolumeClaim" {
            let users = self
                .objects
                .iter()
                .filter(|(_, stored)| guard::uses_claim(&stored.content.body, &object.name));
            let users: BTreeSet<&Uid> = users.map(|(_, stored)| &stored.uid).collect();
            found.retain(|held| held.kind == "/Pod" && users.contains(&held.uid));
        }
        Ok(name_others(&found))
    }

    /// Whether a HorizontalPodAutoscaler sets an object's replicas.
    ///
    /// # Errors
    /// As an API server's.
    pub fn is_autoscaled(&mut self, object: &ObjectRef) -> Result<bool, ApiError> {
        self.door()?;
        let mut autoscalers = self.objects.iter().filter(|(other, _)| {
            other.gvk.kind == "HorizontalPodAutoscaler" && other.namespace == object.namespace
        });
        Ok(autoscalers.any(|(_, stored)| guard::scales(&stored.content.body, object)))
    }

    /// Where a kind lives.
    ///
    /// # Errors
    /// As an API server's.
    pub fn resolve(&mut self, gvk: &Gvk) -> Result<Resolved, ApiError> {
        self.door()?;
        self.known(gvk)
    }

    /// Space for images, as the settings have it.
    ///
    /// # Errors
    /// While a fault lasts.
    pub fn image_room(&mut self) -> Result<Option<Room>, ApiError> {
        self.door()?;
        Ok(self.settings.image_room.clone())
    }

    /// UID of the kube-system namespace.
    ///
    /// # Errors
    /// While a fault lasts.
    pub fn cluster_uid(&mut self) -> Result<Uid, ApiError> {
        self.door()?;
        Ok(self.objects[&namespace_ref("kube-system")].uid.clone())
    }

    /// Judges a live object by the product's own rules.
    ///
    /// # Errors
    /// As an API server's.
    pub fn health(&mut self, now_ms: u64, object: &ObjectRef) -> Result<Health, ApiError> {
        self.door()?;
        self.known(&object.gvk)?;
        let Some(stored) = self.objects.get(object) else { return Ok(Health::missing()) };
        let stage = self.stage(now_ms, object, stored);
        let ready: Vec<String> = self.ready_nodes().map(|node| node.name.clone()).collect();
        let pods = behaviour::pods(&object.gvk, &stored.content.body, stage, &ready);
        let warnings = behaviour::warnings(&pods, stage);
        let pods: Vec<airlift_agent::observe::pod::Pod> =
            serde_json::from_value(Value::Array(pods)).expect("the model makes pods that can be read");
        let restarts = pods.iter().map(airlift_agent::observe::pod::Pod::restarts).sum();
        let ready_nodes = behaviour::has_pods(&object.gvk).then(|| ready.into_iter().collect());
        let around = Surroundings { pods, ready_nodes, ..Surroundings::default() };
        let judgement = judge(&self.render(now_ms, object, stored), &around);
        let evidence = if judgement.verdict == Verdict::Current {
            Vec::new()
        } else {
            let warnings = serde_json::from_value(Value::Array(warnings)).expect("the model makes events");
            evidence::compose(&object.to_string(), &judgement.reason, &around.pods, warnings, &[])
        };
        Ok(Health { verdict: judgement.verdict, restarts, reason: judgement.reason, evidence })
    }

    /// Begins a watch of our own objects of these kinds, with a full listing.
    pub fn watch(&mut self, kinds: BTreeSet<Arc<Gvk>>) -> WatchId {
        let id = WatchId(self.watches_made);
        self.watches_made += 1;
        self.watches.insert(id, Watch { kinds, queue: VecDeque::new() });
        self.relist(id);
        id
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, id: WatchId) {
        self.watches.remove(&id);
    }

    /// Takes what a watch has to say; nothing while the API server is down.
    pub fn take_events(&mut self, id: WatchId) -> Vec<Event> {
        if self.fault == Some(Fault::Down) {
            return Vec::new();
        }
        // The queue with its room: most of the time nothing happens in a cluster.
        self.watches.get_mut(&id).map(|watch| std::mem::take(&mut watch.queue).into()).unwrap_or_default()
    }

    /// Makes every watch lose its place, as after a 410: what it had not said is gone, and it lists again.
    pub fn lose_watches(&mut self) {
        let ids: Vec<WatchId> = self.watches.keys().copied().collect();
        for id in ids {
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.queue.clear();
            }
            self.relist(id);
        }
    }

    fn door(&mut self) -> Result<(), ApiError> {
        self.requests += 1;
        let hit = |every: u64| self.requests.is_multiple_of(every.max(1));
        match self.fault {
            Some(Fault::Down) => Err(refuse(ApiErrorClass::Unavailable, 0, "connection refused")),
            Some(Fault::Throttled { every, retry_after_ms }) if hit(every) => {
                Err(refuse(ApiErrorClass::Throttled { retry_after_ms }, 429, "too many requests"))
            }
            Some(Fault::Broken { every, status }) if hit(every) => {
                Err(refuse(ApiErrorClass::Unavailable, status, "the server is in trouble"))
            }
            _ => Ok(()),
        }
    }

    fn known(&self, gvk: &Gvk) -> Result<Resolved, ApiError> {
        let words = || format!("the cluster does not know the kind {gvk}");
        self.kinds.get(gvk).cloned().ok_or_else(|| refuse(ApiErrorClass::KindUnknown, 404, &words()))
    }

    fn ready_nodes(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter(|node| node.ready)
    }

    fn can_settle(&self, object: &ObjectRef) -> bool {
        !behaviour::has_pods(&object.gvk) || self.ready_nodes().next().is_some()
    }

    /// What the passing of time does to one object.
    fn fulfil(&mut self, object: &ObjectRef) {
        let Some(stored) = self.objects.get_mut(object) else { return };
        if stored.deleting {
            self.empty_namespace(object);
            return;
        }
        stored.settled = true;
        if object.gvk.kind == "CustomResourceDefinition" {
            let defined = kinds::defined_by(&stored.content.body);
            let new: Vec<Gvk> = defined.iter().map(|(gvk, _)| gvk.clone()).collect();
            Arc::make_mut(&mut self.kinds).extend(defined);
            self.announce(&new);
        }
        self.touch(object);
    }

    fn stage(&self, now_ms: u64, object: &ObjectRef, stored: &Stored) -> Stage {
        match (self.settings.trouble)(&stored.content.body) {
            Some(trouble) if stored.settled && behaviour::has_pods(&object.gvk) => {
                Stage::Troubled(trouble, now_ms.saturating_sub(stored.changed_ms))
            }
            _ if stored.settled => Stage::Settled,
            _ => Stage::Rolling,
        }
    }

    fn render(&self, now_ms: u64, object: &ObjectRef, stored: &Stored) -> Value {
        let mut body = stored.content.body.clone();
        body["metadata"]["uid"] = json!(stored.uid.0);
        body["metadata"]["resourceVersion"] = json!(stored.version.to_string());
        body["metadata"]["generation"] = json!(stored.generation);
        body["metadata"]["managedFields"] = ownership::managed_fields(&stored.content.managers);
        if stored.deleting {
            body["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        }
        let nodes = self.ready_nodes().count() as u64;
        let stage = self.stage(now_ms, object, stored);
        let status = behaviour::status(&object.gvk, &stored.content.body, stored.generation, stage, nodes);
        if let Some(status) = status {
            body["status"] = status;
        } else if stored.deleting {
            body["status"]["phase"] = json!("Terminating");
        }
        if !stored.stored_versions.is_empty() {
            body["status"]["storedVersions"] = json!(stored.stored_versions);
        }
        body
    }

    fn create(&mut self, now_ms: u64, object: &ObjectRef, content: Arc<Content>) {
        self.uids += 1;
        let uid = Uid(format!("{:08x}-0000-4000-8000-{:012x}", self.number, self.uids));
        let (version, settled) = (0, !behaviour::takes_time(&object.gvk));
        let stored = Stored {
            content,
            uid,
            version,
            generation: 1,
            changed_ms: now_ms,
            settled,
            stuck: false,
            deleting: false,
            stored_versions: BTreeSet::new(),
        };
        self.objects.insert(object.clone(), stored);
        self.expect_later(now_ms, object);
        self.touch(object);
    }

    fn update(&mut self, now_ms: u64, object: &ObjectRef, content: Arc<Content>) {
        let Some(stored) = self.objects.get_mut(object) else { return };
        let respecified = stored.content.body["spec"] != content.body["spec"];
        let stuck =
            stored.leaves_a_broken_pod(object, (self.settings.trouble)(&stored.content.body).is_some());
        let was_labelled = labelled(&stored.content.body);
        stored.content = content;
        let uid = stored.uid.clone();
        if stored.deleting && object.gvk.kind != "Namespace" && !ending::held(&stored.content.body) {
            self.vanish(object);
            return;
        }
        if respecified {
            stored.generation += 1;
            stored.changed_ms = now_ms;
            stored.settled = !behaviour::takes_time(&object.gvk);
            stored.stuck = stuck;
            self.expect_later(now_ms, object);
        }
        if was_labelled && !labelled(&self.objects[object].content.body) {
            self.tell(&object.gvk, || Event::Gone { object: object.clone(), uid: uid.clone() });
        }
        self.touch(object);
    }

    fn expect_later(&mut self, now_ms: u64, object: &ObjectRef) {
        self.due.retain(|(_, other)| other != object);
        let stuck = self.objects.get(object).is_some_and(|stored| stored.stuck);
        if stuck || !behaviour::takes_time(&object.gvk) {
            return;
        }
        let definition = object.gvk.kind == "CustomResourceDefinition";
        let after =
            if definition { self.settings.established_after_ms } else { self.settings.ready_after_ms };
        self.due.insert((now_ms + after, object.clone()));
    }

    /// Gives an object its next version and tells the watches.
    fn touch(&mut self, object: &ObjectRef) {
        self.version += 1;
        let version = self.version;
        let Some(stored) = self.objects.get_mut(object) else { return };
        stored.version = version;
        stored.stored_versions.extend(storage_version(&stored.content.body).map(ToOwned::to_owned));
        if labelled(&stored.content.body)
            && self.watches.values().any(|watch| watch.kinds.contains(&object.gvk))
        {
            let event = seen(object, &self.objects[object]);
            self.tell(&object.gvk, || event.clone());
        }
    }

    fn tell(&mut self, gvk: &Gvk, event: impl Fn() -> Event) {
        for watch in self.watches.values_mut().filter(|watch| watch.kinds.iter().any(|kind| **kind == *gvk)) {
            watch.queue.push_back(event());
        }
    }

    /// Says to the watches that wait for these kinds that they are known now, and have no objects.
    fn announce(&mut self, new: &[Gvk]) {
        for watch in self.watches.values_mut() {
            for gvk in watch.kinds.iter().filter(|kind| new.contains(kind)) {
                watch.queue.push_back(Event::Listed { gvk: Arc::clone(gvk) });
            }
        }
    }

    fn relist(&mut self, id: WatchId) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        for gvk in watch.kinds.iter().filter(|gvk| self.kinds.contains_key(gvk)) {
            let ours = self.objects.iter().filter(|(object, _)| object.gvk == *gvk);
            let ours = ours.filter(|(_, stored)| labelled(&stored.content.body));
            watch.queue.extend(ours.map(|(object, stored)| seen(object, stored)));
            watch.queue.push_back(Event::Listed { gvk: Arc::clone(gvk) });
        }
    }
}

fn namespace_ref(name: &str) -> ObjectRef {
    ObjectRef { gvk: Arc::new(Gvk::new("v1", "Namespace")), namespace: None, name: name.to_owned() }
}

fn labelled(body: &Value) -> bool {
    body.pointer("/metadata/labels").is_some_and(|labels| labels.get(APP_LABEL).is_some())
}

fn seen(object: &ObjectRef, stored: &Stored) -> Event {
    let text = metadata_of(&stored.content);
    let entry = fields::read(text.as_bytes()).ok().and_then(|object| object.metadata.entry());
    let (uid, resource_version) = (stored.uid.clone(), stored.version.to_string());
    Event::Seen { object: object.clone(), uid, resource_version, entry }
}

/// The object's metadata as an API server would send it, so that the product's own reader judges it.
fn metadata_of(content: &Content) -> String {
    let mut metadata = content.body["metadata"].clone();
    metadata["managedFields"] = ownership::managed_fields(&content.managers);
    json!({ "metadata": metadata }).to_string()
}

fn hash_in(text: &str, app: &str) -> Blake3Digest {
    let read = fields::read(text.as_bytes()).ok();
    read.and_then(|object| object.metadata.hash_of(app)).unwrap_or_else(|| Blake3Digest::of(b""))
}

fn refuse(class: ApiErrorClass, status: u16, message: &str) -> ApiError {
    ApiError { class, status, message: message.to_owned() }
}
