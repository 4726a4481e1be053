//! Nodes as the status document and the settle clock need them.

use airlift_bundles::document::release::Platform;
use airlift_bundles::document::status::NodeStatus;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct NodeList {
    #[serde(default)]
    pub(super) items: Vec<Node>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    conditions: Vec<Condition>,
    node_info: Info,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    name: String,
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Info {
    operating_system: String,
    architecture: String,
    kubelet_version: String,
}

impl Node {
    pub(super) fn status(self) -> NodeStatus {
        let is_true = |name: &str| {
            self.status
                .conditions
                .iter()
                .any(|condition| condition.name == name && condition.status == "True")
        };
        NodeStatus {
            ready: is_true("Ready"),
            disk_pressure: is_true("DiskPressure"),
            schedulable: !self.spec.unschedulable,
            name: self.metadata.name,
            platform: platform(&self.status.node_info),
            kubelet: self.status.node_info.kubelet_version,
        }
    }
}

/// Kubernetes names processors as Go does; OCI adds the variant that Go implies.
fn platform(info: &Info) -> Platform {
    let os = if info.operating_system.is_empty() { "linux" } else { &info.operating_system };
    let variant = match info.architecture.as_str() {
        "arm64" => Some("v8".to_owned()),
        "arm" => Some("v7".to_owned()),
        _ => None,
    };
    Platform { os: os.to_owned(), architecture: info.architecture.clone(), variant }
}
