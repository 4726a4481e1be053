//! Space for images on the agent's node, and what its kubelet keeps free: read from the kubelet through the API
//! server's node proxy.

use airlift_bundles::quantity::bytes;
use serde_json::Value;

use super::connection::{Ask, WHOLE};
use super::kube::KubeCluster;
use super::path::encode;
use super::refusal::unusable;
use crate::core::api::ApiError;
use crate::ports::cluster::Room;

/// Where the machine says its name, which is its node's unless somebody chose another.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
/// The kubelet's own default: with more of the disk used than this, images go.
const GC_HIGH_PERCENT: u64 = 85;

impl KubeCluster {
    pub(super) async fn room_for_images(&self) -> Result<Option<Room>, ApiError> {
        let nodes = self.recent_nodes().await?;
        let host = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
        let own = nodes.iter().find(|node| node.name.eq_ignore_ascii_case(host.trim()));
        let Some(node) = own.or_else(|| nodes.first().filter(|_| nodes.len() == 1)) else { return Ok(None) };
        let proxy = format!("/api/v1/nodes/{}/proxy", encode(&node.name));
        let settings = self.read(format!("{proxy}/configz")).await?;
        let summary = self.read(format!("{proxy}/stats/summary?only_cpu_and_memory=false")).await?;
        Ok(room(&node.name, &settings, &summary))
    }

    async fn read(&self, path: String) -> Result<Value, ApiError> {
        let reply = self.ask(&Ask::get(path, WHOLE)).await?;
        serde_json::from_slice(&reply).map_err(|error| unusable(&format!("kubelet's answer: {error}")))
    }
}

/// What the kubelet's settings keep free of the file system that its summary speaks of; `None` where it does not.
fn room(node: &str, settings: &Value, summary: &Value) -> Option<Room> {
    let image_fs = summary.pointer("/node/runtime/imageFs")?;
    let free_bytes = image_fs.get("availableBytes")?.as_u64()?;
    let capacity = image_fs.get("capacityBytes")?.as_u64()?;
    let settings = settings.get("kubeletconfig")?;
    let high = settings.get("imageGCHighThresholdPercent").and_then(Value::as_u64).unwrap_or(GC_HIGH_PERCENT);
    let eviction = settings.pointer("/evictionHard/imagefs.available");
    let keep_bytes = share(capacity, 100_u64.saturating_sub(high))
        .max(eviction.and_then(|threshold| threshold_bytes(threshold, capacity)).unwrap_or(0));
    Some(Room { node: node.to_owned(), free_bytes, keep_bytes })
}

/// An eviction threshold: a share such as `15%`, or a quantity.
fn threshold_bytes(threshold: &Value, capacity: u64) -> Option<u64> {
    match threshold.as_str()?.strip_suffix('%') {
        Some(percent) => {
            let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
            let percent: u64 = whole.parse().ok()?;
            Some(share(capacity, percent.saturating_add(u64::from(!fraction.is_empty()))))
        }
        None => bytes(threshold),
    }
}

fn share(capacity: u64, percent: u64) -> u64 {
    capacity / 100 * percent.min(100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keep(settings: Value) -> u64 {
        let summary =
            json!({"node": {"runtime": {"imageFs": {"availableBytes": 30_000, "capacityBytes": 100_000}}}});
        let room = room("ship", &json!({ "kubeletconfig": settings }), &summary).expect("it says all");
        assert_eq!((room.node.as_str(), room.free_bytes), ("ship", 30_000));
        room.keep_bytes
    }

    #[test]
    fn the_stricter_of_both_thresholds_counts() {
        assert_eq!(keep(json!({})), 15_000);
        let eviction = |threshold: &str| json!({"imagefs.available": threshold});
        assert_eq!(keep(json!({"imageGCHighThresholdPercent": 99, "evictionHard": eviction("5%")})), 5_000);
        assert_eq!(keep(json!({"imageGCHighThresholdPercent": 70, "evictionHard": eviction("5%")})), 30_000);
        assert_eq!(
            keep(json!({"imageGCHighThresholdPercent": 100, "evictionHard": eviction("20k")})),
            20_000
        );
    }

    #[test]
    fn a_kubelet_that_says_nothing_is_not_guessed_at() {
        assert_eq!(room("ship", &json!({"kubeletconfig": {}}), &json!({"node": {}})), None);
    }
}
