//! What every cluster behind the agent's `Cluster` port must do, as checks that run against any of them.
//!
//! The model is checked by this crate's tests and a real API server by the system tests, so the model can be
//! trusted where the simulator and the demo use it.

mod departures;
mod ending;
mod healing;
mod holders;
mod refusing;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use airlift_agent::core::api::{ApiErrorClass, Applied, Found};
use airlift_agent::core::event::Event;
use airlift_agent::core::object::{Generation, Gvk, Health, ObjectRef, Uid, Verdict};
use airlift_agent::ports::cluster::{APP_LABEL, ApplyRequest, Cluster, Propagation};
use airlift_bundles::ids::{AppName, Counter, Sha256Digest, Version};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub use departures::{DEPARTURES, dead_webhook};

const OURS: &str = "airlift/shop";
const OTHER: &str = "somebody";
/// Pauses until something that should come by itself counts as missing.
const PAUSES_MAX: usize = 200;

/// A cluster under check.
pub struct Bench<'a> {
    /// The cluster.
    pub cluster: &'a dyn Cluster,
    /// Starts the names of everything that is made, so that checks may share a cluster.
    pub prefix: String,
    /// Lets a tenth of a second pass.
    pub pause: &'a dyn Fn() -> Check<'static>,
    /// Pods run here, so workloads can become ready or fail.
    pub has_pods: bool,
    /// Makes the API server answer every request with 429, or none; `None` where nobody can.
    pub throttle: Option<&'a dyn Fn(bool)>,
    /// It is the model, which departs from a cluster where [`DEPARTURES`] says so.
    pub is_model: bool,
}

/// A check at work.
pub type Check<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One check, with its name.
pub type Rule = (&'static str, for<'a> fn(&'a Bench<'_>) -> Check<'a>);

/// All checks. Each panics with what it found where the cluster breaks the rule.
pub const RULES: [Rule; 25] = [
    ("the cluster has one identity and at least one node", |bench| Box::pin(identity(bench))),
    ("kinds are resolved one by one", |bench| Box::pin(kinds(bench))),
    ("an apply creates, and the same again changes nothing", |bench| Box::pin(same_again(bench))),
    ("nothing is made in a namespace that is not there", |bench| Box::pin(no_namespace(bench))),
    ("a dry run changes nothing", |bench| Box::pin(dry_run(bench))),
    ("a dry run refuses what would be refused", |bench| Box::pin(refusing::dry_refusals(bench))),
    ("what cannot change is refused, and can be made anew", |bench| Box::pin(refusing::immutable(bench))),
    ("what is left out goes, and what others own stays", |bench| Box::pin(left_out(bench))),
    ("a field of others is a conflict unless forced", |bench| Box::pin(conflict(bench))),
    ("others' objects and others' marks are told apart from ours", |bench| Box::pin(ownership(bench))),
    ("an update of another object under our name is a conflict", |bench| Box::pin(stale_uid(bench))),
    ("a deletion reaches the object of that UID only", |bench| Box::pin(deletion(bench))),
    ("a finalizer keeps an object that is going", |bench| Box::pin(ending::finalizer(bench))),
    ("a namespace that is held takes nothing new", |bench| Box::pin(ending::stuck_namespace(bench))),
    ("dependents go with their owner unless orphaned", |bench| Box::pin(ending::dependents(bench))),
    ("a watch lists, follows, and sees only ours", |bench| Box::pin(watch(bench))),
    ("a watch tells of changes of hands", |bench| Box::pin(watching::changes_of_hands(bench))),
    ("an API server with too much to do says so", |bench| Box::pin(refusing::throttled(bench))),
    ("a new kind is known some time after its definition", |bench| Box::pin(definition(bench))),
    ("health is judged, with evidence", |bench| Box::pin(health(bench))),
    ("what others have in a namespace is found", |bench| Box::pin(holders::namespaces(bench))),
    ("what others have of a kind is found", |bench| Box::pin(holders::definitions(bench))),
    ("claims are held by their pods and belong to their sets", |bench| Box::pin(holders::claims(bench))),
    ("an autoscaler's workload is known", |bench| Box::pin(holders::autoscalers(bench))),
    ("a pod that its controller leaves can be deleted", |bench| Box::pin(healing::pods(bench))),
];

impl Bench<'_> {
    async fn namespace(&self, name: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        let object = object("v1", "Namespace", None, &name);
        self.ours(&object, json!({})).await;
        name
    }

    async fn ours(&self, object: &ObjectRef, fields: Value) -> Applied {
        let applied = self.cluster.apply(request(object, OURS, fields)).await;
        applied.unwrap_or_else(|error| panic!("apply of {object}: {error}"))
    }

    async fn others(&self, object: &ObjectRef, fields: Value) -> Applied {
        let mut request = request(object, OTHER, fields);
        request.body["metadata"]["labels"] = Value::Null;
        request.body["metadata"].as_object_mut().expect("made as an object").remove("labels");
        self.cluster.apply(request).await.unwrap_or_else(|error| panic!("apply of {object}: {error}"))
    }

    async fn find(&self, object: &ObjectRef) -> Option<Found> {
        let only = BTreeSet::from([object.clone()]);
        let found = self.cluster.list(&shop(), &object.gvk, &only).await;
        found.unwrap_or_else(|error| panic!("list of {object}: {error}")).pop()
    }

    async fn live(&self, object: &ObjectRef) -> Value {
        self.cluster.get(object).await.unwrap_or_else(|error| panic!("get of {object}: {error}"))
    }

    async fn delete(&self, object: &ObjectRef, uid: &Uid) {
        let outcome = self.cluster.delete(object, uid, Propagation::Background).await;
        outcome.unwrap_or_else(|error| panic!("deletion of {object}: {error}"));
    }

    async fn until(&self, what: &str, mut reached: impl AsyncFnMut() -> bool) {
        for _ in 0..PAUSES_MAX {
            if reached().await {
                return;
            }
            (self.pause)().await;
        }
        panic!("{what}: not reached");
    }

    async fn until_health(&self, object: &ObjectRef, verdict: Verdict) -> Health {
        let generation = generation();
        let mut last = None;
        for _ in 0..PAUSES_MAX {
            let health = self.cluster.health(&generation, object).await;
            let health = health.unwrap_or_else(|error| panic!("health of {object}: {error}"));
            if health.verdict == verdict {
                return health;
            }
            last = Some(health);
            (self.pause)().await;
        }
        panic!("{object} never became {verdict:?}: {last:?}");
    }
}

async fn identity(bench: &Bench<'_>) {
    let one = bench.cluster.cluster_uid().await.expect("an identity");
    let again = bench.cluster.cluster_uid().await.expect("an identity");
    assert!(!one.0.is_empty() && one == again);
    let nodes = bench.cluster.nodes().await.expect("nodes");
    assert!(!bench.has_pods || nodes.iter().any(|node| node.ready && node.schedulable), "{nodes:?}");
}

async fn kinds(bench: &Bench<'_>) {
    let deployment =
        bench.cluster.resolve(&Gvk::new("apps/v1", "Deployment")).await.expect("a built-in kind");
    assert_eq!((deployment.plural.as_str(), deployment.namespaced), ("deployments", true));
    let namespace = bench.cluster.resolve(&Gvk::new("v1", "Namespace")).await.expect("a built-in kind");
    assert_eq!((namespace.plural.as_str(), namespace.namespaced), ("namespaces", false));
    for unknown in [Gvk::new("apps/v1", "Chaos"), Gvk::new("nobody.example/v1", "Chaos")] {
        let refusal = bench.cluster.resolve(&unknown).await.expect_err("nobody knows it");
        assert_eq!(refusal.class, ApiErrorClass::KindUnknown, "{refusal}");
        let refusal = bench.cluster.list(&shop(), &unknown, &BTreeSet::new()).await.expect_err("unknown");
        assert_eq!(refusal.class, ApiErrorClass::KindUnknown, "{refusal}");
    }
}

async fn same_again(bench: &Bench<'_>) {
    let namespace = bench.namespace("same").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "settings");
    assert_eq!(bench.find(&map).await, None);
    let first = bench.ours(&map, json!({"data": {"colour": "blue"}})).await;
    let found = bench.find(&map).await.expect("it was just made");
    assert_eq!((&found.uid, found.fields_hash), (&first.uid, Some(first.fields_hash)));
    assert!(!found.terminating && found.other_owner.is_none());
    let again = bench.ours(&map, json!({"data": {"colour": "blue"}})).await;
    assert_eq!(again, first);
    let changed = bench.ours(&map, json!({"data": {"colour": "red", "size": "1"}})).await;
    assert_eq!(changed.uid, first.uid);
    assert!(changed.resource_version != first.resource_version && changed.fields_hash != first.fields_hash);
    let with_uid = ApplyRequest { uid: Some(first.uid), ..request(&map, OURS, json!({"data": {}})) };
    bench.cluster.apply(with_uid).await.expect("it is that object");
}

async fn no_namespace(bench: &Bench<'_>) {
    let lost = object("v1", "ConfigMap", Some(&format!("{}-nowhere", bench.prefix)), "x");
    let refusal = bench.cluster.apply(request(&lost, OURS, json!({}))).await.expect_err("no namespace");
    assert_eq!(refusal.class, ApiErrorClass::NotFound, "{refusal}");
    let refusal = bench.cluster.get(&lost).await.expect_err("no object");
    assert_eq!(refusal.class, ApiErrorClass::NotFound, "{refusal}");
}

async fn dry_run(bench: &Bench<'_>) {
    let namespace = bench.namespace("dry").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    let dry = |data: Value| ApplyRequest { dry_run: true, ..request(&map, OURS, json!({ "data": data })) };
    bench.cluster.apply(dry(json!({"a": "1"}))).await.expect("it could be made");
    assert_eq!(bench.find(&map).await, None);
    let made = bench.ours(&map, json!({"data": {"a": "1"}})).await;
    let would = bench.cluster.apply(dry(json!({"b": "1"}))).await.expect("it could be changed");
    assert_ne!(would.fields_hash, made.fields_hash);
    assert_eq!(bench.live(&map).await["data"], json!({"a": "1"}));
}

async fn left_out(bench: &Bench<'_>) {
    let namespace = bench.namespace("left").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    bench.ours(&map, json!({"data": {"ours": "1", "old": "1"}})).await;
    bench.others(&map, json!({"data": {"theirs": "2"}})).await;
    bench.ours(&map, json!({"data": {"ours": "1"}})).await;
    assert_eq!(bench.live(&map).await["data"], json!({"ours": "1", "theirs": "2"}));
}

async fn conflict(bench: &Bench<'_>) {
    let namespace = bench.namespace("conflict").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    let made = bench.ours(&map, json!({"data": {"a": "1", "b": "1"}})).await;
    let mut polite = request(&map, OTHER, json!({"data": {"a": "2"}}));
    polite.force = false;
    let refusal = bench.cluster.apply(polite).await.expect_err("it is our field");
    assert_eq!(refusal.class, ApiErrorClass::Conflict, "{refusal}");
    bench.others(&map, json!({"data": {"a": "2"}})).await;
    let found = bench.find(&map).await.expect("it is there");
    assert!(found.fields_hash.is_some() && found.fields_hash != Some(made.fields_hash), "our entry shrank");
    let back = bench.ours(&map, json!({"data": {"a": "1", "b": "1"}})).await;
    assert_eq!(back.fields_hash, made.fields_hash);
    assert_eq!(bench.live(&map).await["data"], json!({"a": "1", "b": "1"}));
}

async fn ownership(bench: &Bench<'_>) {
    let namespace = bench.namespace("owner").await;
    let map = |name: &str| object("v1", "ConfigMap", Some(&namespace), name);
    let (foreign, tracked, other_app, ours) = (map("foreign"), map("tracked"), map("other-app"), map("ours"));
    bench.others(&foreign, json!({"data": {"a": "1"}})).await;
    let marked = json!({"metadata": {"annotations": {"meta.helm.sh/release-name": "web"}}});
    bench.cluster.apply(request(&tracked, OTHER, marked)).await.expect("made by Helm");
    bench.cluster.apply(request(&other_app, "airlift/other", json!({}))).await.expect("made by another app");
    bench.ours(&ours, json!({})).await;
    let only = BTreeSet::from([foreign.clone(), tracked.clone(), other_app.clone(), ours.clone()]);
    let listed = bench.cluster.list(&shop(), &foreign.gvk, &only).await.expect("a list");
    let listed: BTreeMap<ObjectRef, Found> =
        listed.into_iter().map(|found| (found.object.clone(), found)).collect();
    assert_eq!(listed.keys().collect::<Vec<_>>(), only.iter().collect::<Vec<_>>());
    let told =
        |object: &ObjectRef| (listed[object].fields_hash.is_some(), listed[object].other_owner.clone());
    assert_eq!(told(&foreign), (false, None));
    assert_eq!(told(&tracked), (false, Some("Helm".to_owned())));
    assert_eq!(told(&other_app), (false, Some("airlift/other".to_owned())));
    assert_eq!(told(&ours), (true, None));
}

async fn stale_uid(bench: &Bench<'_>) {
    let namespace = bench.namespace("uid").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    let first = bench.ours(&map, json!({})).await;
    let update = |uid: &Uid| ApplyRequest {
        uid: Some(uid.clone()),
        ..request(&map, OURS, json!({"data": {"a": "1"}}))
    };
    bench.delete(&map, &first.uid).await;
    bench.until("the object to go", async || bench.find(&map).await.is_none()).await;
    let refusal = bench.cluster.apply(update(&first.uid)).await.expect_err("it is gone");
    assert_eq!(refusal.class, ApiErrorClass::Conflict, "{refusal}");
    let second = bench.others(&map, json!({"data": {"b": "1"}})).await;
    assert_ne!(first.uid, second.uid);
    let refusal = bench.cluster.apply(update(&first.uid)).await.expect_err("it is another one");
    assert_eq!(refusal.class, ApiErrorClass::Conflict, "{refusal}");
}

async fn deletion(bench: &Bench<'_>) {
    let namespace = bench.namespace("delete").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    let made = bench.ours(&map, json!({})).await;
    bench.delete(&map, &Uid("00000000-dead-4000-8000-000000000000".into())).await;
    assert!(bench.find(&map).await.is_some(), "another UID was meant");
    bench.delete(&map, &made.uid).await;
    bench.until("the object to go", async || bench.find(&map).await.is_none()).await;
    bench.delete(&map, &made.uid).await;
    let place = object("v1", "Namespace", None, &namespace);
    let inside = object("v1", "ConfigMap", Some(&namespace), "inside");
    bench.ours(&inside, json!({})).await;
    let uid = bench.find(&place).await.expect("it is there").uid;
    bench.delete(&place, &uid).await;
    bench
        .until("the namespace to go with what is in it", async || {
            bench.find(&place).await.is_none() && bench.find(&inside).await.is_none()
        })
        .await;
}

async fn watch(bench: &Bench<'_>) {
    let namespace = bench.namespace("watch").await;
    let map = |name: &str| object("v1", "ConfigMap", Some(&namespace), name);
    let (before, later, foreign) = (map("before"), map("later"), map("foreign"));
    let first = bench.ours(&before, json!({"data": {"a": "1", "b": "1"}})).await;
    bench.others(&foreign, json!({"data": {"a": "1"}})).await;
    let (sender, mut receiver) = mpsc::channel(16);
    let watching = bench.cluster.watch(BTreeSet::from([Arc::clone(&before.gvk)]), sender);
    let checking = async {
        let mut seen = Vec::new();
        loop {
            match receiver.recv().await.expect("the watch goes on") {
                Event::Listed { .. } => break,
                event => seen.push(event),
            }
        }
        let wanted = entry_of(&before, &first);
        assert!(seen.contains(&wanted), "{seen:?} without {wanted:?}");
        assert!(!seen.iter().any(|event| is_about(event, &foreign)), "{seen:?}");
        bench.others(&foreign, json!({"data": {"a": "2"}})).await;
        let made = bench.ours(&later, json!({})).await;
        assert_eq!(next_about(&mut receiver, &later).await, entry_of(&later, &made));
        bench.others(&before, json!({"data": {"a": "9"}})).await;
        let Event::Seen { entry: Some((app, hash)), resource_version, .. } =
            next_about(&mut receiver, &before).await
        else {
            panic!("our entry is still there")
        };
        assert_eq!(app.as_str(), "shop");
        assert!(hash != first.fields_hash && resource_version != first.resource_version);
        bench.delete(&later, &made.uid).await;
        let gone = Event::Gone { object: later.clone(), uid: made.uid };
        while next_about(&mut receiver, &later).await != gone {}
        assert!(receiver.try_recv().is_err(), "others' objects are not seen");
    };
    tokio::select! {
        () = watching => panic!("a watch does not end by itself"),
        () = checking => {}
    }
}

async fn definition(bench: &Bench<'_>) {
    let namespace = bench.namespace("kind").await;
    let group = format!("{}.example", bench.prefix);
    let name = format!("widgets.{group}");
    let crd = object("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, &name);
    let widget = object(&format!("{group}/v1"), "Widget", Some(&namespace), "one");
    let refusal = bench.cluster.apply(request(&widget, OURS, json!({}))).await.expect_err("no such kind");
    assert_eq!(refusal.class, ApiErrorClass::KindUnknown, "{refusal}");
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let spec = json!({
        "group": group, "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
    });
    let made = bench.ours(&crd, json!({ "spec": spec })).await;
    bench.until_health(&crd, Verdict::Current).await;
    bench.until("the kind to be known", async || bench.cluster.resolve(&widget.gvk).await.is_ok()).await;
    let mut applied = None;
    bench
        .until("an object of the kind", async || {
            applied = bench.cluster.apply(request(&widget, OURS, json!({"spec": {"size": 3}}))).await.ok();
            applied.is_some()
        })
        .await;
    let found = bench.find(&widget).await.expect("it was just made");
    assert_eq!(found.fields_hash, applied.map(|applied| applied.fields_hash));
    assert_eq!(bench.until_health(&widget, Verdict::Current).await.evidence, []);
    bench.delete(&crd, &made.uid).await;
    bench
        .until("the kind to go", async || {
            let listed = bench.cluster.list(&shop(), &widget.gvk, &BTreeSet::from([widget.clone()])).await;
            listed.is_err_and(|refusal| refusal.class == ApiErrorClass::KindUnknown)
        })
        .await;
}

async fn health(bench: &Bench<'_>) {
    let namespace = bench.namespace("health").await;
    let map = object("v1", "ConfigMap", Some(&namespace), "x");
    bench.until_health(&map, Verdict::Missing).await;
    bench.ours(&map, json!({})).await;
    bench.until_health(&map, Verdict::Current).await;
    if !bench.has_pods {
        return;
    }
    let idle = object("apps/v1", "Deployment", Some(&namespace), "idle");
    bench.ours(&idle, deployment(0)).await;
    bench.until_health(&idle, Verdict::Current).await;
    let broken = object("apps/v1", "Deployment", Some(&namespace), "broken");
    bench.ours(&broken, deployment(1)).await;
    let health = bench.until_health(&broken, Verdict::Stuck).await;
    assert!(health.reason.contains("ErrImageNeverPull"), "{health:?}");
    assert!(health.evidence.iter().any(|item| item.reason == "ErrImageNeverPull"), "{health:?}");
    assert!(health.evidence.iter().any(|item| item.object.starts_with("Pod ")), "{health:?}");
}

/// A workload whose image is nowhere.
fn deployment(replicas: u64) -> Value {
    json!({"spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "broken"}},
        "template": {
            "metadata": {"labels": {"app": "broken"}, "annotations": {"sim.airlift.dev/trouble": "image"}},
            "spec": {"containers": [
                {"name": "app", "image": "airlift.test/nowhere:1", "imagePullPolicy": "Never"}]},
        },
    }})
}

async fn next_about(receiver: &mut mpsc::Receiver<Event>, object: &ObjectRef) -> Event {
    loop {
        let event = receiver.recv().await.expect("the watch goes on");
        if is_about(&event, object) {
            return event;
        }
    }
}

fn is_about(event: &Event, wanted: &ObjectRef) -> bool {
    matches!(event, Event::Seen { object, .. } | Event::Gone { object, .. } if object == wanted)
}

fn entry_of(object: &ObjectRef, applied: &Applied) -> Event {
    Event::Seen {
        object: object.clone(),
        uid: applied.uid.clone(),
        resource_version: applied.resource_version.clone(),
        entry: Some((shop(), applied.fields_hash)),
    }
}

fn shop() -> AppName {
    AppName::new("shop").expect("a valid name")
}

fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    let gvk = Arc::new(Gvk::new(api_version, kind));
    ObjectRef { gvk, namespace: namespace.map(Into::into), name: name.into() }
}

/// A forced apply of an object with the app's label and these fields besides.
fn request(object: &ObjectRef, manager: &str, fields: Value) -> ApplyRequest {
    let mut body = fields;
    body["apiVersion"] = json!(object.gvk.api_version());
    body["kind"] = json!(object.gvk.kind);
    body["metadata"]["name"] = json!(object.name);
    if let Some(namespace) = &object.namespace {
        body["metadata"]["namespace"] = json!(namespace);
    }
    body["metadata"]["labels"][APP_LABEL] = json!("shop");
    ApplyRequest {
        object: object.clone(),
        body,
        field_manager: manager.to_owned(),
        force: true,
        dry_run: false,
        uid: None,
    }
}

/// Any generation, for calls that name one.
#[must_use]
pub fn generation() -> Generation {
    let digest = Sha256Digest::of(b"contract");
    Generation {
        id: digest,
        app: shop(),
        release: digest,
        bundle: digest,
        counter: Counter { epoch: 1, seq: 1 },
        version: Version::new("1").expect("a valid version"),
        parameters: BTreeMap::new(),
        overlays: Vec::new(),
        secrets: BTreeMap::new(),
        stopped: false,
    }
}
