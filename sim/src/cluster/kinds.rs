//! The kinds that every model cluster knows; others come by CustomResourceDefinitions.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use airlift_agent::core::object::Gvk;
use airlift_agent::ports::cluster::Resolved;

/// apiVersion, kind, plural, and whether its objects are in namespaces.
const BUILT_IN: [(&str, &str, &str, bool); 27] = [
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Node", "nodes", false),
    ("v1", "PersistentVolume", "persistentvolumes", false),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("v1", "Pod", "pods", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    ),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "ReplicaSet", "replicasets", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true),
    ("batch/v1", "CronJob", "cronjobs", true),
    ("batch/v1", "Job", "jobs", true),
    ("coordination.k8s.io/v1", "Lease", "leases", true),
    ("networking.k8s.io/v1", "Ingress", "ingresses", true),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true),
    ("storage.k8s.io/v1", "StorageClass", "storageclasses", false),
];

/// The kinds of every new cluster: one table for all of them, until one learns of more.
pub(super) fn built_in() -> Arc<BTreeMap<Gvk, Resolved>> {
    static TABLE: LazyLock<Arc<BTreeMap<Gvk, Resolved>>> = LazyLock::new(|| {
        let kind = |(api_version, kind, plural, namespaced): (&str, &str, &str, bool)| {
            (Gvk::new(api_version, kind), Resolved { plural: plural.to_owned(), namespaced })
        };
        Arc::new(BUILT_IN.into_iter().map(kind).collect())
    });
    Arc::clone(&TABLE)
}

/// The kinds that a CustomResourceDefinition serves.
pub(super) fn defined_by(definition: &serde_json::Value) -> Vec<(Gvk, Resolved)> {
    let text =
        |pointer: &str| definition.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
    let resolved = Resolved {
        plural: text("/spec/names/plural").to_owned(),
        namespaced: text("/spec/scope") == "Namespaced",
    };
    let versions = definition.pointer("/spec/versions").and_then(serde_json::Value::as_array);
    let served = versions.into_iter().flatten().filter(|version| version["served"] != false);
    let gvk = |version: &serde_json::Value| Gvk {
        group: text("/spec/group").to_owned(),
        version: version["name"].as_str().unwrap_or_default().to_owned(),
        kind: text("/spec/names/kind").to_owned(),
    };
    served.map(|version| (gvk(version), resolved.clone())).collect()
}
