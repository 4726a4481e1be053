//! Turns layers into the snapshots from which containers start.

use std::path::Path;

use airlift_bundles::ids::Sha256Digest;
use tonic::{Code, Status};
use tracing::debug;

use super::content;
use super::labels::{SNAPSHOT_REF, UNCOMPRESSED};
use super::lease;
use super::manifest::PlannedLayer;
use super::messages::{
    ApplyRequest, ApplyResponse, CommitSnapshotRequest, Descriptor, Empty, ImageFsInfoResponse, Labels,
    Mount, PrepareSnapshotRequest, PrepareSnapshotResponse, SnapshotKey,
};
use super::socket::{CALL_TIMEOUT, LAYER_TIMEOUT, Socket};
use crate::ports::cancel::CancelFlag;
use crate::ports::images::ImportError;

/// The snapshotter that Kubernetes' side uses, and where it keeps its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshotter {
    pub(super) name: String,
    root: Option<String>,
}

/// Asks Kubernetes' side which snapshotter it uses.
///
/// Its file system report names the plugin's directory in 1.6 as in 2.x, where its configuration has moved.
pub(super) async fn find_snapshotter(
    socket: &Socket,
    configured: Option<&str>,
) -> Result<Snapshotter, ImportError> {
    let method = "/runtime.v1.ImageService/ImageFsInfo";
    let answer: Result<ImageFsInfoResponse, Status> = socket.call(method, None, CALL_TIMEOUT, Empty {}).await;
    let answer = answer.map_err(|status| socket.failed("asking for the snapshotter", &status))?;
    let root =
        answer.image_filesystems.into_iter().next().and_then(|usage| usage.fs_id).map(|id| id.mountpoint);
    let reported = root.as_deref().and_then(snapshotter_of).map(str::to_owned);
    let name = configured.map(str::to_owned).or(reported).ok_or_else(|| ImportError::Runtime {
        step: "asking for the snapshotter",
        reason: format!("its directory {root:?} names none; set `snapshotter` in the configuration"),
    })?;
    Ok(Snapshotter { name, root })
}

/// `overlayfs` of `/var/lib/…/io.containerd.snapshotter.v1.overlayfs`.
fn snapshotter_of(root: &str) -> Option<&str> {
    let plugin = Path::new(root).file_name()?.to_str()?;
    plugin.strip_prefix("io.containerd.snapshotter.v1.").filter(|name| !name.is_empty())
}

/// Unpacks the layers that are not unpacked yet, from the bottom, each held by the lease.
pub(super) async fn unpack(
    socket: &Socket,
    lease: &str,
    snapshotter: &Snapshotter,
    layers: &[PlannedLayer],
    cancel: &CancelFlag,
) -> Result<(), ImportError> {
    let mut work = Unpacking { socket, lease, snapshotter, parent: String::new() };
    for layer in layers {
        if cancel.is_raised() {
            return Err(ImportError::Cancelled);
        }
        if !work.is_there(layer).await? {
            work.layer(layer, cancel).await?;
        }
        work.parent = layer.chain.to_string();
    }
    Ok(())
}

struct Unpacking<'a> {
    socket: &'a Socket,
    lease: &'a str,
    snapshotter: &'a Snapshotter,
    parent: String,
}

impl Unpacking<'_> {
    /// Whether the snapshot exists; if so, the lease holds it from now on.
    async fn is_there(&self, layer: &PlannedLayer) -> Result<bool, ImportError> {
        if !self.exists(layer.chain).await? {
            return Ok(false);
        }
        let kind = format!("snapshots/{}", self.snapshotter.name);
        lease::hold(self.socket, self.lease, kind, layer.chain.to_string()).await?;
        // It may have been collected just before the lease held it.
        self.exists(layer.chain).await
    }

    async fn exists(&self, chain: Sha256Digest) -> Result<bool, ImportError> {
        let method = "/containerd.services.snapshots.v1.Snapshots/Stat";
        let question = self.key(chain.to_string());
        match self.socket.call::<_, Empty>(method, Some(self.lease), CALL_TIMEOUT, question).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(self.socket.failed("looking for a layer", &status)),
        }
    }

    async fn layer(&self, layer: &PlannedLayer, cancel: &CancelFlag) -> Result<(), ImportError> {
        let key = format!("extract-airlift {}", layer.chain);
        let Some(mounts) = self.prepare(&key, layer).await? else {
            // Somebody else, a pull perhaps, made the same snapshot meanwhile.
            return match self.is_there(layer).await? {
                true => Ok(()),
                false => {
                    let reason = "the snapshot was made and removed by somebody else".to_owned();
                    Err(ImportError::Runtime { step: "preparing a layer", reason })
                }
            };
        };
        // Dropping the call makes containerd stop; what it wrote goes with the snapshot.
        let applied = tokio::select! {
            biased;
            () = cancel.raised() => Err(ImportError::Cancelled),
            applied = self.apply(layer, mounts) => applied,
        };
        let committed = match applied {
            Ok(()) => self.commit(&key, layer).await,
            Err(error) => Err(error),
        };
        if committed.is_err() {
            self.drop_unfinished(&key).await;
            return committed;
        }
        if layer.is_compressed() {
            let labels = Labels::from([(UNCOMPRESSED.to_owned(), layer.diff_id.to_string())]);
            content::add_labels(self.socket, layer.descriptor.digest.to_string(), &labels).await?;
        }
        Ok(())
    }

    /// Opens a snapshot to unpack into, or `None` if the finished one has appeared.
    async fn prepare(&self, key: &str, layer: &PlannedLayer) -> Result<Option<Vec<Mount>>, ImportError> {
        for first in [true, false] {
            let question = PrepareSnapshotRequest {
                snapshotter: self.snapshotter.name.clone(),
                key: key.to_owned(),
                parent: self.parent.clone(),
                labels: snapshot_labels(layer),
            };
            let method = "/containerd.services.snapshots.v1.Snapshots/Prepare";
            let answer: Result<PrepareSnapshotResponse, Status> =
                self.socket.call(method, Some(self.lease), CALL_TIMEOUT, question).await;
            match answer {
                Ok(answer) => return Ok(Some(answer.mounts)),
                Err(status) if status.code() == Code::AlreadyExists => {
                    if self.exists(layer.chain).await? {
                        return Ok(None);
                    }
                    // Left by an import that was killed: half unpacked, so it starts again.
                    if first {
                        self.drop_unfinished(key).await;
                    }
                }
                Err(status) => return Err(self.socket.failed("preparing a layer", &status)),
            }
        }
        let reason = format!("`{key}` is in the way and cannot be removed");
        Err(ImportError::Runtime { step: "preparing a layer", reason })
    }

    async fn apply(&self, layer: &PlannedLayer, mounts: Vec<Mount>) -> Result<(), ImportError> {
        let descriptor = &layer.descriptor;
        let digest = descriptor.digest;
        let too_large = |_| ImportError::Malformed { digest, reason: "larger than any disk".to_owned() };
        let diff = Descriptor {
            media_type: descriptor.media_type.clone(),
            digest: digest.to_string(),
            size: i64::try_from(descriptor.size).map_err(too_large)?,
        };
        let question = ApplyRequest { diff: Some(diff), mounts, sync_fs: true };
        let method = "/containerd.services.diff.v1.Diff/Apply";
        let answer: Result<ApplyResponse, Status> =
            self.socket.call(method, Some(self.lease), LAYER_TIMEOUT, question).await;
        let answer = answer.map_err(|status| match broken_layer(status.message()) {
            true => ImportError::Malformed { digest, reason: status.message().chars().take(300).collect() },
            false => self.socket.failed("unpacking a layer", &status),
        })?;
        let applied = answer.applied.unwrap_or_default().digest;
        if applied != layer.diff_id.to_string() {
            let reason = format!("its tar is {applied}, but the configuration says {}", layer.diff_id);
            return Err(ImportError::Malformed { digest, reason });
        }
        Ok(())
    }

    async fn commit(&self, key: &str, layer: &PlannedLayer) -> Result<(), ImportError> {
        self.sync_files().await;
        let question = CommitSnapshotRequest {
            snapshotter: self.snapshotter.name.clone(),
            name: layer.chain.to_string(),
            key: key.to_owned(),
            labels: snapshot_labels(layer),
        };
        let method = "/containerd.services.snapshots.v1.Snapshots/Commit";
        match self.socket.call::<_, Empty>(method, Some(self.lease), LAYER_TIMEOUT, question).await {
            Ok(_) => Ok(()),
            // The same layer, from the same bytes, was finished by somebody else.
            Err(status) if status.code() == Code::AlreadyExists => {
                self.drop_unfinished(key).await;
                match self.is_there(layer).await? {
                    true => Ok(()),
                    false => Err(self.socket.failed("committing a layer", &status)),
                }
            }
            Err(status) => Err(self.socket.failed("committing a layer", &status)),
        }
    }

    /// Brings the unpacked files to disk before the snapshot counts as finished.
    ///
    /// Before 2.0 containerd leaves that to chance: after a power cut a committed snapshot could hold empty files,
    /// and no later import would look at it again.
    async fn sync_files(&self) {
        let Some(root) = self.snapshotter.root.clone() else { return };
        let synced =
            tokio::task::spawn_blocking(move || std::fs::File::open(root).map(rustix::fs::syncfs)).await;
        if !matches!(synced, Ok(Ok(Ok(())))) {
            // Not visible from inside a container; containerd 2 was asked to sync by itself.
            debug!(?synced, "files of a layer not synced");
        }
    }

    /// Removes what is half unpacked. If that fails, the next try or the end of the lease does it.
    async fn drop_unfinished(&self, key: &str) {
        let method = "/containerd.services.snapshots.v1.Snapshots/Remove";
        let removed: Result<Empty, Status> =
            self.socket.call(method, Some(self.lease), CALL_TIMEOUT, self.key(key.to_owned())).await;
        if let Err(status) = removed {
            debug!(key, reason = status.message(), "unfinished layer not removed");
        }
    }

    fn key(&self, key: String) -> SnapshotKey {
        SnapshotKey { snapshotter: self.snapshotter.name.clone(), key }
    }
}

fn snapshot_labels(layer: &PlannedLayer) -> Labels {
    Labels::from([(SNAPSHOT_REF.to_owned(), layer.chain.to_string())])
}

/// Whether a failed unpacking speaks of the layer's bytes, which have the signed digest and would fail for ever.
fn broken_layer(reason: &str) -> bool {
    let decoders = [
        "archive/tar: ",
        "gzip: ",
        "flate: ",
        "zstd: ",
        "magic number mismatch",
        "no processor for media-type",
    ];
    decoders.iter().any(|words| reason.contains(words)) || reason.ends_with("unexpected EOF")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshotter_is_read_from_its_directory() {
        let name = |root| snapshotter_of(root);
        assert_eq!(name("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"), Some("overlayfs"));
        let k3s = "/var/lib/rancher/k3s/agent/containerd/io.containerd.snapshotter.v1.native";
        assert_eq!(name(k3s), Some("native"));
        assert_eq!(name("/var/lib/containerd-stargz-grpc"), None);
        assert_eq!(name("/x/io.containerd.snapshotter.v1."), None);
    }

    #[test]
    fn a_full_disk_is_not_the_layers_fault() {
        assert!(broken_layer("failed to extract layer: archive/tar: invalid tar header: unknown"));
        assert!(broken_layer("failed to read: unexpected EOF"));
        assert!(!broken_layer("write /x: no space left on device: unknown"));
        assert!(!broken_layer("failed to mount: permission denied"));
    }
}
