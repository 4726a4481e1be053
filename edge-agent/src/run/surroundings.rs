//! Looks at the site by itself: does the API answer, how are the nodes, is there room.
//!
//! Only changes become events; nothing here touches the network beyond the node.

use std::path::PathBuf;
use std::time::Duration;

use airlift_bundles::document::status::NodeStatus;
use tokio::sync::mpsc;
use tracing::debug;

use super::Ports;
use crate::core::Event;
use crate::core::api::ApiError;
use crate::core::object::Uid;

/// Between two looks while the API answers.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two looks while it does not: a site that boots should not wait long.
const LOOK_WHILE_DOWN: Duration = Duration::from_secs(1);
/// A change of free space below this is no news.
const DISK_STEP_BYTES: u64 = 64 << 20;

/// Watches nodes, API and disk until the agent ends.
pub(super) async fn watch_site(ports: Ports, state_dir: PathBuf, events: mpsc::Sender<Event>) {
    let mut up: Option<(bool, Option<Uid>)> = None;
    let mut nodes: Option<Vec<NodeStatus>> = None;
    let mut free: Option<u64> = None;
    let mut told: Option<String> = None;
    loop {
        let mut news = Vec::new();
        let cluster = ports.cluster.cluster_uid().await;
        let trouble = cluster.as_ref().err().map(words);
        if let Some(reason) = trouble.clone().filter(|_| trouble != told) {
            debug!(reason, "API server does not answer");
            news.push(Event::ApiTrouble { reason });
        }
        told = trouble;
        let now = (cluster.is_ok(), cluster.ok());
        if up.as_ref() != Some(&now) {
            news.push(Event::ApiState { up: now.0, cluster: now.1.clone() });
        }
        if now.0
            && let Ok(seen) = ports.cluster.nodes().await
            && nodes.as_ref() != Some(&seen)
        {
            news.push(Event::Nodes(seen.clone()));
            nodes = Some(seen);
        }
        let pause = if now.0 { LOOK_EVERY } else { LOOK_WHILE_DOWN };
        up = Some(now);
        if let Ok(disk) = rustix::fs::statvfs(&state_dir) {
            let free_bytes = disk.f_bavail * disk.f_frsize;
            if free.is_none_or(|before| before.abs_diff(free_bytes) >= DISK_STEP_BYTES) {
                news.push(Event::Disk { free_bytes, free_inodes: disk.f_favail });
                free = Some(free_bytes);
            }
        }
        for event in news {
            if events.send(event).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Why the API server does not answer, for people: its status where it gave one, and its message.
fn words(error: &ApiError) -> String {
    match error.status {
        0 => error.message.clone(),
        status => format!("HTTP {status}: {}", error.message),
    }
}
