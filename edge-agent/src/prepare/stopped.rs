//! A release that a root stops: its workloads are kept and have no pods, its data stays.

use airlift_bundles::render::object::ObjectId;
use serde_json::{Value, json};

/// A label that no node has: what selects nodes by it runs nowhere.
const NOWHERE: &str = "airlift.dev/stopped";

/// Takes the pods from a workload. Jobs and bare pods run to their end: they have no size that could be zero.
pub(super) fn stop(id: &ObjectId, object: &mut Value) {
    let (path, value): (&[&str], Value) = match (id.group(), id.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") | ("", "ReplicationController") => {
            (&["spec", "replicas"], json!(0))
        }
        ("apps", "DaemonSet") => (&["spec", "template", "spec", "nodeSelector", NOWHERE], json!("true")),
        ("batch", "CronJob") => (&["spec", "suspend"], json!(true)),
        _ => return,
    };
    let place = path.iter().try_fold(object, |place, name| {
        place.as_object_mut().map(|fields| fields.entry(*name).or_insert_with(|| json!({})))
    });
    if let Some(place) = place {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(api_version: &str, kind: &str, spec: Value) -> Value {
        let mut object = json!({"apiVersion": api_version, "kind": kind,
            "metadata": {"name": "a", "namespace": "b"}, "spec": spec});
        let id = ObjectId::of(&object).expect("an object");
        stop(&id, &mut object);
        object["spec"].take()
    }

    #[test]
    fn workloads_lose_their_pods_and_nothing_else() {
        let spec = json!({"replicas": 3, "paused": false});
        assert_eq!(stopped("apps/v1", "Deployment", spec), json!({"replicas": 0, "paused": false}));
        assert_eq!(stopped("apps/v1", "StatefulSet", json!({})), json!({"replicas": 0}));
        assert_eq!(stopped("batch/v1", "CronJob", json!({"suspend": false})), json!({"suspend": true}));
        let spec = json!({"template": {"spec": {"nodeSelector": {"disk": "big"}}}});
        let nowhere = json!({"template": {"spec": {"nodeSelector": {"disk": "big", NOWHERE: "true"}}}});
        assert_eq!(stopped("apps/v1", "DaemonSet", spec), nowhere);
    }

    #[test]
    fn data_and_what_runs_once_stay_as_they_are() {
        let spec = json!({"resources": {"requests": {"storage": "1Gi"}}});
        assert_eq!(stopped("v1", "PersistentVolumeClaim", spec.clone()), spec);
        assert_eq!(stopped("batch/v1", "Job", json!({"completions": 1})), json!({"completions": 1}));
    }
}
