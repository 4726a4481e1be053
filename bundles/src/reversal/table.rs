//! The kinds of Kubernetes whose updates are refused by fields, from the validation of its releases 1.25 to 1.34.
//!
//! What is not here is either free to change or found by the dry-run at the site.

use super::rules::Rule;
use super::rules::Rule::{Address, Completions, Fixed, FixedBut, Frozen, Grows, PodSpec, StoredVersions};

/// One field of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRow {
    /// `group/Kind`; the core group is empty.
    pub kind: &'static str,
    /// The field, as a JSON pointer.
    pub field: &'static str,
    /// What may happen to it.
    pub rule: Rule,
}

const fn row(kind: &'static str, field: &'static str, rule: Rule) -> TableRow {
    TableRow { kind, field, rule }
}

const ANY: Rule = Fixed("");
const DEFINITION: &str = "apiextensions.k8s.io/CustomResourceDefinition";

/// Every row; `tests/data/reversal.json` has an example of each.
pub const TABLE: &[TableRow] = &[
    row("/ConfigMap", "/data", Frozen),
    row("/ConfigMap", "/binaryData", Frozen),
    row("/ConfigMap", "/immutable", Frozen),
    row("/PersistentVolume", "/spec", FixedBut(VOLUME_FREE)),
    row(
        "/PersistentVolumeClaim",
        "/spec",
        FixedBut(&["resources", "volumeAttributesClassName", "volumeMode"]),
    ),
    row("/PersistentVolumeClaim", "/spec/volumeMode", Fixed("\"Filesystem\"")),
    row("/PersistentVolumeClaim", "/spec/resources/requests/storage", Grows),
    row("/Pod", "/spec", PodSpec),
    row("/Secret", "/data", Frozen),
    row("/Secret", "/immutable", Frozen),
    row("/Secret", "/type", Fixed("\"Opaque\"")),
    row("/Service", "/spec/clusterIP", Address),
    row(DEFINITION, "/spec/group", ANY),
    row(DEFINITION, "/spec/scope", ANY),
    row(DEFINITION, "/spec/names/kind", ANY),
    row(DEFINITION, "/spec/names/plural", ANY),
    row(DEFINITION, "/spec/versions", StoredVersions),
    row("apps/ControllerRevision", "/data", ANY),
    row("apps/DaemonSet", "/spec/selector", ANY),
    row("apps/Deployment", "/spec/selector", ANY),
    row("apps/ReplicaSet", "/spec/selector", ANY),
    row("apps/StatefulSet", "/spec/selector", ANY),
    row("apps/StatefulSet", "/spec/serviceName", Fixed("\"\"")),
    row("apps/StatefulSet", "/spec/podManagementPolicy", Fixed("\"OrderedReady\"")),
    row("apps/StatefulSet", "/spec/volumeClaimTemplates", Fixed("[]")),
    row("batch/Job", "/spec/selector", ANY),
    row("batch/Job", "/spec/template", ANY),
    row("batch/Job", "/spec/completionMode", Fixed("\"NonIndexed\"")),
    row("batch/Job", "/spec/completions", Completions),
    row("batch/Job", "/spec/backoffLimitPerIndex", ANY),
    row("batch/Job", "/spec/managedBy", ANY),
    row("batch/Job", "/spec/podFailurePolicy", ANY),
    row("batch/Job", "/spec/successPolicy", ANY),
    row("discovery.k8s.io/EndpointSlice", "/addressType", ANY),
    row("networking.k8s.io/IngressClass", "/spec/controller", ANY),
    row("node.k8s.io/RuntimeClass", "/handler", ANY),
    row("rbac.authorization.k8s.io/ClusterRoleBinding", "/roleRef", ANY),
    row("rbac.authorization.k8s.io/RoleBinding", "/roleRef", ANY),
    row("resource.k8s.io/ResourceClaim", "/spec", FixedBut(&[])),
    row("resource.k8s.io/ResourceClaimTemplate", "/spec", FixedBut(&[])),
    row("scheduling.k8s.io/PriorityClass", "/value", Fixed("0")),
    row("scheduling.k8s.io/PriorityClass", "/preemptionPolicy", Fixed("\"PreemptLowerPriority\"")),
    row("storage.k8s.io/CSIDriver", "/spec/attachRequired", Fixed("true")),
    row("storage.k8s.io/CSIDriver", "/spec/volumeLifecycleModes", Fixed("[\"Persistent\"]")),
    row("storage.k8s.io/StorageClass", "/provisioner", ANY),
    row("storage.k8s.io/StorageClass", "/parameters", Fixed("{}")),
    row("storage.k8s.io/StorageClass", "/reclaimPolicy", Fixed("\"Delete\"")),
    row("storage.k8s.io/StorageClass", "/volumeBindingMode", Fixed("\"Immediate\"")),
    row("storage.k8s.io/VolumeAttributesClass", "/driverName", ANY),
    row("storage.k8s.io/VolumeAttributesClass", "/parameters", ANY),
];

/// What is not the source of a volume and may change.
const VOLUME_FREE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
];
