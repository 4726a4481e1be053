//! The cases of the health table: for each cell of each row what there is, and what is to be said of it.

use airlift_agent::core::object::Verdict::{self, Current, Failed, Missing, Progressing, Stuck, Unknown};
use serde_json::{Value, json};

/// A node that is Ready in most cases.
pub(crate) const HERE: &str = "here";
/// A node that never is.
pub(crate) const AWAY: &str = "away";

/// Stands for the UID of a case's first object in those after it.
pub(crate) const UID_OF_FIRST: &str = "uid-of-the-first";

/// One case of a row.
pub(crate) struct Case {
    /// The first cell of its row in `DESIGN.md`.
    pub(crate) row: &'static str,
    /// What is to be said of the first object.
    pub(crate) verdict: Verdict,
    /// Part of the reason; empty where there is to be none.
    pub(crate) words: &'static str,
    /// What is made, in a namespace of the case's own; a `status` goes through the status subresource.
    pub(crate) objects: Vec<Value>,
    /// When and how the first object is there.
    pub(crate) presence: Presence,
    /// No node is Ready.
    pub(crate) without_nodes: bool,
}

/// When and how the object that is judged is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Made before anything is judged.
    Early,
    /// Made just before it is judged.
    Fresh,
    /// Made, and then deleted.
    Going,
    /// Never made.
    Absent,
    /// The API server has it by itself.
    Given,
}

impl Case {
    fn that_is(self, presence: Presence) -> Self {
        Self { presence, ..self }
    }

    fn without_nodes(self) -> Self {
        Self { without_nodes: true, ..self }
    }
}

fn case<const N: usize>(
    row: &'static str,
    verdict: Verdict,
    words: &'static str,
    objects: [Value; N],
) -> Case {
    let (objects, presence) = (objects.into(), Presence::Early);
    Case { row, verdict, words, objects, presence, without_nodes: false }
}

/// All cases, in the order of the table.
pub(crate) fn cases() -> Vec<Case> {
    [
        any(),
        deployments(),
        stateful_sets(),
        daemon_sets(),
        replica_sets(),
        with_nodes_away(),
        all_workloads(),
        pods(),
        others(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn any() -> Vec<Case> {
    let row = "any";
    let mut held = object("v1", "ConfigMap", json!({}));
    held["metadata"]["finalizers"] = json!(["rows.example/wait"]);
    let behind = json!({"observedGeneration": 0, "conditions": [{"type": "Ready", "status": "True"}]});
    vec![
        case(row, Progressing, "being deleted", [held]).that_is(Presence::Going),
        case(row, Progressing, "newest version", [with_status(thing(), behind)]),
        case(row, Missing, "not there", [object("v1", "ConfigMap", json!({}))]).that_is(Presence::Absent),
    ]
}

fn deployments() -> Vec<Case> {
    let row = "Deployment";
    let of = |all: i64, new: i64, available: i64| {
        let status = json!({"observedGeneration": 1, "replicas": all, "updatedReplicas": new,
            "readyReplicas": available, "availableReplicas": available});
        with_status(workload("Deployment", json!({"replicas": 2})), status)
    };
    let with_condition = |condition: Value| {
        let mut deployment = of(2, 2, 1);
        deployment["status"]["conditions"] = json!([condition]);
        deployment
    };
    let quota =
        json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"});
    let late = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
    let crash = waiting("web-b", HERE, "CrashLoopBackOff");
    vec![
        case(row, Current, "", [of(2, 2, 2)]),
        case(row, Progressing, "has not seen it", [workload("Deployment", json!({"replicas": 2}))]),
        case(row, Progressing, "1 of 2 pods are of the new version", [of(2, 1, 2)]),
        case(row, Progressing, "1 of 2 pods are available", [of(2, 2, 1)]),
        case(row, Progressing, "1 pods of the old version", [of(3, 2, 3)]),
        case(row, Progressing, "CrashLoopBackOff", [of(2, 2, 1), pod("web-a", HERE, true), crash]),
        case(row, Stuck, "ErrImageNeverPull", [of(2, 2, 1), waiting("web-a", HERE, "ErrImageNeverPull")]),
        case(
            row,
            Stuck,
            "CreateContainerConfigError",
            [of(2, 2, 1), waiting("web-a", HERE, "CreateContainerConfigError")],
        ),
        case(row, Stuck, "quota", [with_condition(quota)]),
        case(row, Stuck, "ProgressDeadlineExceeded", [with_condition(late)]),
        case(row, Unknown, "no node is Ready", [of(2, 2, 2)]).without_nodes(),
        case(
            row,
            Unknown,
            "not Ready: away",
            [of(2, 2, 0), pod("web-a", AWAY, false), pod("web-b", AWAY, false)],
        ),
    ]
}

fn stateful_sets() -> Vec<Case> {
    let row = "StatefulSet";
    let of = |update: Value, ready: i64, new: i64, revision: &str| {
        let set =
            workload("StatefulSet", json!({"replicas": 3, "serviceName": "web", "updateStrategy": update}));
        let status = json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": ready,
            "updatedReplicas": new, "availableReplicas": ready, "currentRevision": revision,
            "updateRevision": "r2"});
        with_status(set, status)
    };
    let rolling = || json!({"type": "RollingUpdate"});
    let parted = || json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
    let away = ["web-0", "web-1", "web-2"].map(|name| pod(name, AWAY, false));
    let [zero, one, two] = away;
    vec![
        case(row, Current, "", [of(rolling(), 3, 3, "r2")]),
        case(row, Current, "", [of(parted(), 3, 1, "r1")]),
        case(row, Current, "", [of(json!({"type": "OnDelete"}), 3, 0, "r1")]),
        case(row, Progressing, "2 of 3 pods are ready", [of(rolling(), 2, 3, "r2")]),
        case(row, Progressing, "1 of 3 pods are of the new version", [of(rolling(), 3, 1, "r1")]),
        case(row, Progressing, "0 of 1 pods are of the new version", [of(parted(), 3, 0, "r1")]),
        case(
            row,
            Stuck,
            "ImagePullBackOff",
            [of(rolling(), 2, 3, "r2"), waiting("web-2", HERE, "ImagePullBackOff")],
        ),
        case(row, Unknown, "no node is Ready", [of(rolling(), 3, 3, "r2")]).without_nodes(),
        case(row, Unknown, "not Ready: away", [of(rolling(), 0, 3, "r2"), zero, one, two]),
    ]
}

fn daemon_sets() -> Vec<Case> {
    let row = "DaemonSet";
    let of = |scheduled: i64, new: i64, available: i64| {
        let status = json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "numberMisscheduled": 0,
            "currentNumberScheduled": scheduled, "updatedNumberScheduled": new,
            "numberReady": available, "numberAvailable": available});
        with_status(workload("DaemonSet", json!({})), status)
    };
    vec![
        case(row, Current, "", [of(2, 2, 2)]),
        case(row, Progressing, "1 of 2 nodes have their pod", [of(1, 1, 1)]),
        case(row, Progressing, "1 of 2 pods are of the new version", [of(2, 1, 2)]),
        case(row, Progressing, "1 of 2 pods are available", [of(2, 2, 1)]),
        case(row, Stuck, "InvalidImageName", [of(2, 2, 1), waiting("web-a", HERE, "InvalidImageName")]),
        case(row, Unknown, "no node is Ready", [of(2, 2, 2)]).without_nodes(),
    ]
}

fn replica_sets() -> Vec<Case> {
    let row = "ReplicaSet, ReplicationController";
    let of = |kind: &str, all: i64, available: i64| {
        let status = json!({"observedGeneration": 1, "replicas": all, "readyReplicas": available,
            "availableReplicas": available});
        with_status(workload(kind, json!({"replicas": 2})), status)
    };
    let mut cases = Vec::new();
    for kind in ["ReplicaSet", "ReplicationController"] {
        let mut refused = of(kind, 0, 0);
        refused["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True",
            "reason": "FailedCreate", "message": "quota"}]);
        cases.extend([
            case(row, Current, "", [of(kind, 2, 2)]),
            case(row, Progressing, "1 of 2 pods are available", [of(kind, 2, 1)]),
            case(row, Progressing, "1 pods too many", [of(kind, 3, 2)]),
            case(row, Stuck, "ErrImagePull", [of(kind, 2, 1), waiting("web-a", HERE, "ErrImagePull")]),
            case(row, Stuck, "quota", [refused]),
            case(row, Unknown, "no node is Ready", [of(kind, 2, 2)]).without_nodes(),
        ]);
    }
    cases
}

/// Workloads at a site where a node is not Ready.
fn with_nodes_away() -> Vec<Case> {
    let row = "Deployment, ReplicaSet: pods lacking only on nodes that are not Ready";
    let half = |kind: &str| {
        let status = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1,
            "availableReplicas": 1});
        let mut half = with_status(workload(kind, json!({"replicas": 2})), status);
        if kind == "ReplicaSet" {
            half["status"].as_object_mut().unwrap().remove("updatedReplicas");
        }
        let pods = [pod("web-a", HERE, true), pod("web-b", AWAY, false)];
        let [here, away] = pods;
        case(row, Current, "pending nodes: away", [half, here, away])
    };
    let mut cases = vec![half("Deployment"), half("ReplicaSet")];

    let row = "StatefulSet with pods on nodes that are not Ready";
    let set = |verdict, words, here: Value| {
        let set = workload("StatefulSet", json!({"replicas": 2, "serviceName": "web"}));
        let status = json!({"observedGeneration": 1, "replicas": 2, "readyReplicas": 1, "updatedReplicas": 1,
            "currentRevision": "old", "updateRevision": "new"});
        let away = of_revision(pod("web-0", AWAY, false), "old");
        case(row, verdict, words, [with_status(set, status), away, here])
    };
    cases.extend([
        set(Current, "pending nodes: away", of_revision(pod("web-1", HERE, true), "new")),
        set(Progressing, "1 of 2 pods are ready", of_revision(pod("web-1", HERE, false), "new")),
        set(Stuck, "ErrImagePull", of_revision(waiting("web-1", HERE, "ErrImagePull"), "new")),
        set(Unknown, "waits for its pods on nodes", of_revision(pod("web-1", HERE, true), "old")),
    ]);

    let row = "DaemonSet with pods on nodes that are not Ready";
    let set = |verdict, words, here: Value| {
        let status = json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "numberMisscheduled": 0,
            "currentNumberScheduled": 2, "updatedNumberScheduled": 1, "numberReady": 1, "numberAvailable": 1});
        let set = with_status(workload("DaemonSet", json!({})), status);
        let away = of_revision(pod("web-b", AWAY, false), "old");
        case(row, verdict, words, [set, revision("old", 1), revision("new", 2), away, here])
    };
    cases.extend([
        set(Current, "pending nodes: away", of_revision(pod("web-a", HERE, true), "new")),
        set(
            Progressing,
            "0 of 1 pods on Ready nodes are ready",
            of_revision(pod("web-a", HERE, false), "new"),
        ),
        set(Progressing, "0 of 1 pods on Ready nodes are of", of_revision(pod("web-a", HERE, true), "old")),
        set(Stuck, "ErrImagePull", of_revision(waiting("web-a", HERE, "ErrImagePull"), "new")),
    ]);
    cases
}

fn of_revision(mut pod: Value, revision: &str) -> Value {
    pod["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
    pod
}

/// A revision of the DaemonSet `web`, as its controller writes one at each change.
fn revision(name: &str, number: u64) -> Value {
    let mut revision =
        object("apps/v1", "ControllerRevision", json!({"revision": number, "data": {"of": name}}));
    revision["metadata"] = json!({"name": name, "labels": {"app": "web", "controller-revision-hash": name},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "uid": UID_OF_FIRST,
            "controller": true}]});
    revision
}

fn all_workloads() -> Vec<Case> {
    let row = "any workload whose pods a failing webhook keeps from being made";
    let mut kept = with_status(
        workload("Deployment", json!({"replicas": 2})),
        json!({"observedGeneration": 1, "replicas": 0}),
    );
    kept["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "Internal error occurred: failed calling webhook \"pods.example\": connection refused"}]);
    let idle = |kind: &str, spec: Value, status: Value| {
        let row = "any workload that wants no pods";
        case(row, Current, "", [with_status(workload(kind, spec), status)]).without_nodes()
    };
    let no_pods = || json!({"observedGeneration": 1, "replicas": 0});
    let no_nodes = json!({"observedGeneration": 1, "desiredNumberScheduled": 0, "numberMisscheduled": 0,
        "currentNumberScheduled": 0, "numberReady": 0});
    vec![
        case(row, Unknown, "failed calling webhook", [kept]),
        idle("Deployment", json!({"replicas": 0}), no_pods()),
        idle("ReplicaSet", json!({"replicas": 0}), no_pods()),
        idle("DaemonSet", json!({}), no_nodes),
    ]
}

fn pods() -> Vec<Case> {
    let row = "Pod";
    let in_phase = |phase: &str| {
        let mut pod = pod("web", HERE, false);
        pod["status"]["phase"] = json!(phase);
        pod
    };
    let mut evicted = in_phase("Failed");
    (evicted["status"]["reason"], evicted["status"]["message"]) = (json!("Evicted"), json!("low on disk"));
    let mut nowhere = in_phase("Pending");
    nowhere["spec"].as_object_mut().unwrap().remove("nodeName");
    nowhere["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/2 nodes are available"}]);
    vec![
        case(row, Current, "", [pod("web", HERE, true)]),
        case(row, Current, "", [in_phase("Succeeded")]),
        case(row, Progressing, "is not ready", [pod("web", HERE, false)]),
        case(row, Progressing, "0/2 nodes are available", [nowhere]),
        case(row, Stuck, "ErrImagePull", [waiting("web", HERE, "ErrImagePull")]),
        case(row, Failed, "Evicted: low on disk", [evicted]),
        case(row, Unknown, "its node away is not Ready", [pod("web", AWAY, true)]),
    ]
}

fn others() -> Vec<Case> {
    [jobs(), claims(), extensions(), neutral_kinds(), things()].into_iter().flatten().collect()
}

fn jobs() -> Vec<Case> {
    let row = "Job";
    let job = |suspend: bool, conditions: Value| {
        let template = template(json!({"restartPolicy": "Never"}));
        let spec =
            json!({"suspend": suspend, "manualSelector": true, "selector": selector(), "template": template});
        let mut status = json!({"conditions": conditions, "startTime": "2026-01-01T00:00:00Z",
            "uncountedTerminatedPods": {}});
        if suspend {
            status.as_object_mut().unwrap().remove("startTime");
        }
        with_status(object("batch/v1", "Job", json!({ "spec": spec })), status)
    };
    let is = |name: &str| json!({"type": name, "status": "True", "reason": "BackoffLimitExceeded"});
    let mut complete = job(false, json!([is("SuccessCriteriaMet"), is("Complete")]));
    complete["status"]["completionTime"] = json!("2026-01-01T00:01:00Z");
    complete["status"]["succeeded"] = json!(1);
    let image = waiting("web-a", HERE, "ErrImageNeverPull");
    vec![
        case(row, Current, "", [complete]),
        case(row, Current, "suspended", [job(true, json!([is("Suspended")]))]),
        case(row, Progressing, "0 of 1 runs", [job(false, json!([]))]),
        case(row, Stuck, "ErrImageNeverPull", [job(false, json!([])), image]),
        case(row, Failed, "BackoffLimitExceeded", [job(false, json!([is("FailureTarget"), is("Failed")]))]),
    ]
}

fn claims() -> Vec<Case> {
    let row = "PersistentVolumeClaim";
    let claim = |class: &str, phase: &str| {
        let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}}});
        with_status(object("v1", "PersistentVolumeClaim", json!({ "spec": spec })), json!({"phase": phase}))
    };
    vec![
        case(row, Current, "", [claim("rows-at-once", "Bound")]),
        case(row, Current, "waits for a pod", [claim("rows-at-use", "Pending")]),
        case(row, Progressing, "not bound", [claim("rows-at-once", "Pending")]),
        case(row, Stuck, "lost", [claim("rows-at-once", "Lost")]),
    ]
}

fn extensions() -> Vec<Case> {
    let named = |api_version: &str, kind: &str, name: &str, spec: Value| {
        let mut made = object(api_version, kind, json!({ "spec": spec }));
        made["metadata"]["name"] = json!(name);
        made
    };
    let namespace = |name: &str| named("v1", "Namespace", name, json!({}));
    let crd = "CustomResourceDefinition";
    let definition = |plural: &str, kind: &str| {
        let name = format!("{plural}.rows.example");
        named("apiextensions.k8s.io/v1", crd, &name, definition_of(plural, kind))
    };
    let service = json!({"group": "dead.rows.example", "version": "v1beta1", "groupPriorityMinimum": 100,
        "versionPriority": 100, "insecureSkipTLSVerify": true,
        "service": {"name": "nobody", "namespace": "default"}});
    let api_service = |name: &str, spec: Value| named("apiregistration.k8s.io/v1", "APIService", name, spec);
    let dead = api_service("v1beta1.dead.rows.example", service);
    vec![
        case("Namespace", Current, "", [namespace("rows-stays")]),
        case("Namespace", Progressing, "being deleted", [namespace("rows-goes")]).that_is(Presence::Going),
        case(crd, Current, "", [definition("things", "Thing")]),
        case(crd, Progressing, "Established", [definition("gears", "Gear")]).that_is(Presence::Fresh),
        case(crd, Stuck, "already in use", [definition("others", "Thing")]).that_is(Presence::Fresh),
        case("APIService", Current, "", [api_service("v1.apps", json!({}))]).that_is(Presence::Given),
        case("APIService", Progressing, "Available is False", [dead]).that_is(Presence::Fresh),
    ]
}

fn neutral_kinds() -> Vec<Case> {
    let ports = json!([{"port": 80}]);
    let service = |kind: &str| object("v1", "Service", json!({"spec": {"type": kind, "ports": ports}}));
    let scaler = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 3});
    let blind = json!({"currentReplicas": 0, "desiredReplicas": 0, "conditions": [
        {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": "no metrics"}]});
    let tight = json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 1,
        "conditions": [{"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
            "message": "too few", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let budget = json!({"minAvailable": 1, "selector": selector()});
    let (scalers, steady) = ("HorizontalPodAutoscaler, PodDisruptionBudget", "CronJob, Ingress");
    let (scaler_kind, budget_kind) = ("HorizontalPodAutoscaler", "PodDisruptionBudget");
    let make_scaler = || object("autoscaling/v2", scaler_kind, json!({ "spec": scaler }));
    let make_budget = || object("policy/v1", budget_kind, json!({ "spec": budget }));
    let run = json!({"spec": {"template": template(json!({"restartPolicy": "Never"}))}});
    let cron = json!({"spec": {"schedule": "0 0 1 1 *", "jobTemplate": run}});
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    vec![
        case("Service", Current, "", [service("ClusterIP")]),
        case("Service", Current, "load balancer", [service("LoadBalancer")]),
        case(scalers, Current, "", [make_scaler()]),
        case(scalers, Current, "FailedGetResourceMetric", [with_status(make_scaler(), blind)]),
        case(scalers, Current, "InsufficientPods", [with_status(make_budget(), tight)]),
        case(steady, Current, "", [object("batch/v1", "CronJob", cron)]),
        case(
            steady,
            Current,
            "",
            [object("networking.k8s.io/v1", "Ingress", json!({"spec": {"defaultBackend": backend}}))],
        ),
    ]
}

fn things() -> Vec<Case> {
    let row = "any other kind";
    let with = |name: &str, status: &str| {
        let condition = json!({"type": name, "status": status, "reason": "Because"});
        with_status(thing(), json!({"conditions": [condition]}))
    };
    vec![
        case(row, Current, "", [thing()]),
        case(row, Current, "", [with("Ready", "True")]),
        case(row, Progressing, "Ready is False", [with("Ready", "False")]),
        case(row, Progressing, "Ready is Unknown", [with("Ready", "Unknown")]),
        case(row, Progressing, "Reconciling", [with("Reconciling", "True")]),
        case(row, Stuck, "Stalled", [with("Stalled", "True")]),
    ]
}

/// The specification of a definition in the group `rows.example`, with a status of its own.
pub(crate) fn definition_of(plural: &str, kind: &str) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema,
        "subresources": {"status": {}}});
    let singular = plural.trim_end_matches('s');
    json!({"group": "rows.example", "scope": "Namespaced", "versions": [version],
        "names": {"plural": plural, "singular": singular, "kind": kind, "listKind": format!("{kind}List")}})
}

fn object(api_version: &str, kind: &str, rest: Value) -> Value {
    let mut object = rest;
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": "web"});
    object
}

fn with_status(mut object: Value, status: Value) -> Value {
    object["status"] = status;
    object
}

fn thing() -> Value {
    object("rows.example/v1", "Thing", json!({"spec": {"size": 1}}))
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "web"}})
}

fn template(more: Value) -> Value {
    let mut spec = more;
    spec["containers"] = json!([{"name": "app", "image": "airlift.test/nothing:1"}]);
    json!({"metadata": {"labels": {"app": "web"}}, "spec": spec})
}

fn workload(kind: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["template"] = template(json!({}));
    let controller = kind == "ReplicationController";
    spec["selector"] = if controller { json!({"app": "web"}) } else { selector() };
    object(if controller { "v1" } else { "apps/v1" }, kind, json!({ "spec": spec }))
}

fn pod(name: &str, node: &str, ready: bool) -> Value {
    let mut pod = template(json!({"nodeName": node}));
    (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
    pod["metadata"]["name"] = json!(name);
    let container = json!({"name": "app", "image": "airlift.test/nothing:1", "imageID": "", "ready": ready,
        "restartCount": 0, "state": {"running": {}}});
    let ready = if ready { "True" } else { "False" };
    pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": [container]});
    pod
}

fn waiting(name: &str, node: &str, reason: &str) -> Value {
    let mut pod = pod(name, node, false);
    pod["status"]["phase"] = json!("Pending");
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": reason, "message": "no"}});
    pod
}
