//! What controllers and kubelets would make of an object: its status, and the pods that one would see.

use airlift_agent::core::object::Gvk;
use serde_json::{Value, json};

/// Why an object's pods never become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Its image is not there.
    Image,
    /// It ends soon after each start.
    Crash,
    /// It runs, but its readiness probe fails.
    NotReady,
}

impl Trouble {
    /// The annotation `sim.airlift.dev/trouble` (`image`, `crash`, `not-ready`) of the pod template or the object.
    #[must_use]
    pub fn by_annotation(object: &Value) -> Option<Self> {
        let places = ["/spec/template/metadata/annotations", "/metadata/annotations"];
        let mut found =
            places.iter().filter_map(|place| object.pointer(place)?.get("sim.airlift.dev/trouble"));
        match found.next()?.as_str()? {
            "image" => Some(Self::Image),
            "crash" => Some(Self::Crash),
            "not-ready" => Some(Self::NotReady),
            _ => None,
        }
    }
}

/// How far an object has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Just written.
    Rolling,
    /// As desired.
    Settled,
    /// It will never be, since so many milliseconds.
    Troubled(Trouble, u64),
}

/// Kinds whose objects have pods.
pub(super) fn has_pods(gvk: &Gvk) -> bool {
    let kinds = ["DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "StatefulSet"];
    matches!(gvk.group.as_str(), "" | "apps" | "batch") && kinds.contains(&gvk.kind.as_str())
}

/// Kinds that take time until they are as desired.
pub(super) fn takes_time(gvk: &Gvk) -> bool {
    has_pods(gvk) || gvk.kind == "CustomResourceDefinition" || gvk.kind == "PersistentVolumeClaim"
}

/// How many pods an object wants.
pub(super) fn wanted_pods(gvk: &Gvk, body: &Value, nodes: u64) -> u64 {
    match gvk.kind.as_str() {
        "DaemonSet" => nodes,
        "Pod" => 1,
        "Job" => body.pointer("/spec/parallelism").and_then(Value::as_u64).unwrap_or(1),
        _ => body.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1),
    }
}

/// The status that controllers would have written; `None` for kinds without one.
pub(super) fn status(gvk: &Gvk, body: &Value, generation: i64, stage: Stage, nodes: u64) -> Option<Value> {
    let wanted = wanted_pods(gvk, body, nodes);
    let ready = if stage == Stage::Settled { wanted } else { 0 };
    let status = match gvk.kind.as_str() {
        "Deployment" | "ReplicaSet" => json!({
            "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready, "availableReplicas": ready,
        }),
        "StatefulSet" => json!({
            "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready,
            "currentRevision": generation.to_string(), "updateRevision": generation.to_string(),
        }),
        "DaemonSet" => json!({
            "desiredNumberScheduled": wanted, "currentNumberScheduled": wanted,
            "updatedNumberScheduled": wanted, "numberReady": ready, "numberAvailable": ready,
        }),
        "Job" => match stage {
            Stage::Settled => {
                json!({"succeeded": wanted, "conditions": [{"type": "Complete", "status": "True"}]})
            }
            Stage::Troubled(Trouble::Crash, _) => json!({"conditions": [
                {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}),
            _ => json!({"active": wanted}),
        },
        "Pod" => pod("", &body["metadata"], stage)["status"].clone(),
        "CustomResourceDefinition" if stage == Stage::Settled => {
            json!({"conditions": [{"type": "Established", "status": "True"}]})
        }
        "PersistentVolumeClaim" => {
            json!({"phase": if stage == Stage::Settled { "Bound" } else { "Pending" }})
        }
        _ => return None,
    };
    Some(with_generation(status, gvk, generation))
}

fn with_generation(mut status: Value, gvk: &Gvk, generation: i64) -> Value {
    if gvk.group == "apps" {
        status["observedGeneration"] = json!(generation);
    }
    status
}

/// The pods that one would see, at most ten.
pub(super) fn pods(gvk: &Gvk, body: &Value, stage: Stage, nodes: &[String]) -> Vec<Value> {
    if !has_pods(gvk) {
        return Vec::new();
    }
    let count = wanted_pods(gvk, body, nodes.len() as u64).min(10);
    let one = |number: u64| {
        let name =
            format!("{}-{number}", body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or(""));
        let metadata = json!({"name": name, "namespace": body.pointer("/metadata/namespace")});
        let node = nodes.iter().cycle().nth(usize::try_from(number).unwrap_or(0));
        pod(node.map_or("", String::as_str), &metadata, stage)
    };
    (0..count).map(one).collect()
}

fn pod(node: &str, metadata: &Value, stage: Stage) -> Value {
    let ready = if stage == Stage::Settled { "True" } else { "False" };
    let container = match stage {
        Stage::Rolling => json!({"state": {"waiting": {"reason": "ContainerCreating"}}}),
        Stage::Settled => json!({"ready": true, "state": {"running": {}}}),
        Stage::Troubled(Trouble::Image, _) => json!({"state": {"waiting": {
            "reason": "ErrImageNeverPull", "message": "container image is not present with pull policy of Never"}}}),
        Stage::Troubled(Trouble::Crash, for_ms) => json!({
            "restartCount": 1 + for_ms / 10_000,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        }),
        Stage::Troubled(Trouble::NotReady, _) => json!({"ready": false, "state": {"running": {}}}),
    };
    let mut container = container;
    container["name"] = json!("app");
    let phase = if stage == Stage::Rolling { "Pending" } else { "Running" };
    json!({
        "metadata": metadata, "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [container]},
    })
}

/// What a node would warn of.
pub(super) fn warnings(pods: &[Value], stage: Stage) -> Vec<Value> {
    let Stage::Troubled(trouble, _) = stage else { return Vec::new() };
    let (reason, message) = match trouble {
        Trouble::Image => ("Failed", "Error: ErrImageNeverPull"),
        Trouble::Crash => ("BackOff", "Back-off restarting failed container app"),
        Trouble::NotReady => ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
    };
    let event = |pod: &Value| {
        json!({
            "involvedObject": {"kind": "Pod", "namespace": pod.pointer("/metadata/namespace"),
                "name": pod.pointer("/metadata/name")},
            "reason": reason, "message": message, "count": 3,
        })
    };
    pods.iter().take(1).map(event).collect()
}
