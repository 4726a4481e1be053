//! Which kinds have a namespace: the built-in ones of Kubernetes 1.33, and those that the bundle itself defines.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::render::object::ObjectId;

/// Every cluster-scoped kind of the groups that Kubernetes 1.33 serves by itself, as `group/Kind`.
const CLUSTER_SCOPED: &[&str] = &[
    "/ComponentStatus",
    "/Namespace",
    "/Node",
    "/PersistentVolume",
    "admissionregistration.k8s.io/MutatingAdmissionPolicy",
    "admissionregistration.k8s.io/MutatingAdmissionPolicyBinding",
    "admissionregistration.k8s.io/MutatingWebhookConfiguration",
    "admissionregistration.k8s.io/ValidatingAdmissionPolicy",
    "admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding",
    "admissionregistration.k8s.io/ValidatingWebhookConfiguration",
    "apiextensions.k8s.io/CustomResourceDefinition",
    "apiregistration.k8s.io/APIService",
    "certificates.k8s.io/CertificateSigningRequest",
    "certificates.k8s.io/ClusterTrustBundle",
    "flowcontrol.apiserver.k8s.io/FlowSchema",
    "flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration",
    "internal.apiserver.k8s.io/StorageVersion",
    "networking.k8s.io/IPAddress",
    "networking.k8s.io/IngressClass",
    "networking.k8s.io/ServiceCIDR",
    "node.k8s.io/RuntimeClass",
    "rbac.authorization.k8s.io/ClusterRole",
    "rbac.authorization.k8s.io/ClusterRoleBinding",
    "resource.k8s.io/DeviceClass",
    "resource.k8s.io/ResourceSlice",
    "scheduling.k8s.io/PriorityClass",
    "storage.k8s.io/CSIDriver",
    "storage.k8s.io/CSINode",
    "storage.k8s.io/StorageClass",
    "storage.k8s.io/VolumeAttachment",
    "storage.k8s.io/VolumeAttributesClass",
    "storagemigration.k8s.io/StorageVersionMigration",
];

/// Groups that Kubernetes itself serves; a kind of theirs that is not in the table has a namespace.
const BUILT_IN_GROUPS: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Whether objects of a kind have a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KindScope {
    /// They have one.
    Namespaced,
    /// They have none.
    Cluster,
    /// Nothing in the bundle says it: a namespace is believed, its absence needs `cluster_scoped`.
    Unknown,
}

/// What is known about the scope of kinds.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    defined: BTreeMap<String, KindScope>,
    stated: BTreeSet<String>,
}

impl Kinds {
    /// Starts from what `airlift.yaml` states.
    pub(super) fn new(stated: &[String]) -> Self {
        Self { defined: BTreeMap::new(), stated: stated.iter().cloned().collect() }
    }

    /// Learns the kind that a CRD of the bundle defines.
    pub(super) fn learn(&mut self, id: &ObjectId, object: &Value) {
        if id.group_kind() != "apiextensions.k8s.io/CustomResourceDefinition" {
            return;
        }
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        if let (Some(group), Some(kind)) = (text("/spec/group"), text("/spec/names/kind")) {
            let scope = match text("/spec/scope") {
                Some("Cluster") => KindScope::Cluster,
                _ => KindScope::Namespaced,
            };
            self.defined.insert(format!("{group}/{kind}"), scope);
        }
    }

    /// The scope of an object's kind.
    pub(super) fn scope(&self, id: &ObjectId) -> KindScope {
        let kind = id.group_kind();
        if let Some(scope) = self.defined.get(&kind) {
            return *scope;
        }
        if CLUSTER_SCOPED.contains(&kind.as_str()) || self.stated.contains(&kind) {
            KindScope::Cluster
        } else if BUILT_IN_GROUPS.contains(&id.group()) {
            KindScope::Namespaced
        } else {
            KindScope::Unknown
        }
    }
}
