//! The order of objects: which wave each belongs to, and what is special about it.
//!
//! Definitions come first and must be established, then namespaces, then the app's own order; within one order
//! configuration before workloads, and webhooks only after their backends are healthy.

use std::collections::BTreeMap;

use airlift_bundles::render::object::ObjectId;
use serde_json::Value;

use crate::core::object::ObjectTraits;

/// Annotation with the app's own order; lower comes first, 0 where it is absent.
const ORDER: &str = "airlift.dev/order";

/// Where an object stands before waves are numbered: phase, order, rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    phase: u8,
    order: i64,
    rank: u8,
}

const DEFINITIONS: u8 = 0;
const NAMESPACES: u8 = 1;
const APP: u8 = 2;
const CONFIGURATION: u8 = 0;
const WORKLOADS: u8 = 1;
const WEBHOOKS: u8 = 2;

/// Places an object.
pub(super) fn place(id: &ObjectId, object: &Value) -> Place {
    let order = object
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(ORDER))
        .and_then(Value::as_str)
        .and_then(|order| order.parse().ok())
        .unwrap_or(0);
    match (id.group(), id.kind.as_str()) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            Place { phase: DEFINITIONS, order: 0, rank: 0 }
        }
        ("", "Namespace") => Place { phase: NAMESPACES, order: 0, rank: 0 },
        ("admissionregistration.k8s.io", _) | ("apiregistration.k8s.io", _) => {
            Place { phase: APP, order, rank: WEBHOOKS }
        }
        _ if is_configuration(id) => Place { phase: APP, order, rank: CONFIGURATION },
        _ => Place { phase: APP, order, rank: WORKLOADS },
    }
}

/// Whether an object only configures: others read it, and it is well when it exists.
fn is_configuration(id: &ObjectId) -> bool {
    matches!(
        (id.group(), id.kind.as_str()),
        (
            "",
            "ConfigMap"
                | "Secret"
                | "ServiceAccount"
                | "Service"
                | "Endpoints"
                | "PersistentVolume"
                | "PersistentVolumeClaim"
                | "LimitRange"
                | "ResourceQuota"
        ) | (
            "rbac.authorization.k8s.io"
                | "storage.k8s.io"
                | "scheduling.k8s.io"
                | "networking.k8s.io"
                | "policy"
                | "node.k8s.io"
                | "discovery.k8s.io",
            _
        )
    )
}

/// Whether an object has a health of its own.
fn is_observed(id: &ObjectId) -> bool {
    !is_configuration(id)
        && !matches!((id.group(), id.kind.as_str()), ("admissionregistration.k8s.io", _) | ("", "Event"))
        || matches!((id.group(), id.kind.as_str()), ("", "PersistentVolumeClaim"))
}

/// What is special about an object, but for gates, which depend on the whole plan.
pub(super) fn traits(id: &ObjectId, adopt: &[ObjectId]) -> ObjectTraits {
    ObjectTraits {
        observed: is_observed(id),
        gate: id.group() == "apiextensions.k8s.io",
        once: matches!((id.group(), id.kind.as_str()), ("batch", "Job") | ("", "Pod")),
        adopt: adopt.iter().any(|other| other.is_same_object(id)),
        recreate: false,
    }
}

/// The workload whose replicas an autoscaler sets; `None` for any other object.
pub(super) fn scale_target(id: &ObjectId, object: &Value) -> Option<ObjectId> {
    if id.group_kind() != "autoscaling/HorizontalPodAutoscaler" {
        return None;
    }
    let text = |field: &str| Some(object.pointer("/spec/scaleTargetRef")?.get(field)?.as_str()?.to_owned());
    Some(ObjectId {
        api_version: text("apiVersion").unwrap_or_default(),
        kind: text("kind")?,
        namespace: id.namespace.clone(),
        name: text("name")?,
    })
}

/// Numbers the waves: equal places are one wave.
pub(super) fn waves(places: &[Place]) -> Vec<u32> {
    let numbers: BTreeMap<Place, u32> = {
        let mut distinct: Vec<Place> = places.to_vec();
        distinct.sort();
        distinct.dedup();
        distinct.into_iter().zip(0..).collect()
    };
    places.iter().map(|place| numbers[place]).collect()
}

/// Whether an object must be healthy before its order's webhooks come.
pub(super) fn gates_webhooks(place: Place, all: &[Place]) -> bool {
    place.phase == APP && place.rank == WORKLOADS && all.contains(&Place { rank: WEBHOOKS, ..place })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(api_version: &str, kind: &str, order: Option<&str>) -> (ObjectId, Value) {
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "b"}});
        if let Some(order) = order {
            object["metadata"]["annotations"] = json!({ORDER: order});
        }
        (ObjectId::of(&object).unwrap(), object)
    }

    fn waves_of(objects: &[(ObjectId, Value)]) -> Vec<u32> {
        let places: Vec<Place> = objects.iter().map(|(id, object)| place(id, object)).collect();
        waves(&places)
    }

    #[test]
    fn an_autoscaler_names_its_workload_in_its_own_namespace() {
        let (id, mut autoscaler) = object("autoscaling/v2", "HorizontalPodAutoscaler", None);
        autoscaler["spec"]["scaleTargetRef"] =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        let target = scale_target(&id, &autoscaler).expect("it names one");
        assert_eq!((target.group_kind().as_str(), target.name.as_str()), ("apps/Deployment", "web"));
        assert_eq!(target.namespace, id.namespace);
        let (plain, map) = object("v1", "ConfigMap", None);
        assert_eq!(scale_target(&plain, &map), None);
    }

    #[test]
    fn definitions_and_namespaces_come_before_everything_else() {
        let objects = [
            object("apps/v1", "Deployment", Some("-5")),
            object("v1", "ConfigMap", None),
            object("v1", "Namespace", Some("9")),
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", Some("9")),
        ];
        assert_eq!(waves_of(&objects), [2, 3, 1, 0]);
    }

    #[test]
    fn configuration_comes_before_workloads_of_the_same_order() {
        let objects = [
            object("apps/v1", "Deployment", None),
            object("v1", "ConfigMap", None),
            object("example.com/v1", "Widget", None),
            object("v1", "ConfigMap", Some("1")),
        ];
        assert_eq!(waves_of(&objects), [1, 0, 1, 2]);
    }

    #[test]
    fn webhooks_wait_for_the_workloads_of_their_order_only() {
        let hook = object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", None);
        let (mine, other) =
            (object("apps/v1", "Deployment", None), object("apps/v1", "Deployment", Some("1")));
        let places: Vec<Place> = [&hook, &mine, &other].map(|(id, object)| place(id, object)).to_vec();
        assert!(gates_webhooks(places[1], &places));
        assert!(!gates_webhooks(places[2], &places));
        assert!(!gates_webhooks(places[0], &places));
    }
}
