//! Import: from verified blobs on disk to an image that pods can start from, over containerd's own socket.
//!
//! The steps stand in the order of the work: [`manifest`] lists what the image needs on this node, [`lease`] holds it
//! against the collector, [`content`] writes blobs, [`unpack`] makes snapshots, [`records`] gives the names, [`adopt`]
//! proves that Kubernetes' side answers for them, [`watch`] tells when any of it goes, [`system`] keeps what is not ours. Each step finds what an
//! interrupted import left, so doing it again is both the way on and the repair.

mod adopt;
mod content;
mod labels;
mod lease;
mod manifest;
mod messages;
pub mod name;
mod platform;
mod records;
mod socket;
mod system;
mod unpack;
mod watch;

use std::path::Path;
use std::sync::Arc;

use airlift_bundles::ids::Sha256Digest;
use tokio::sync::Mutex;
use tonic::{Code, Status};

use crate::core::event::FailureClass;
use crate::ports::Boxed;
use crate::ports::cancel::CancelFlag;
use crate::ports::images::{ChangeWatch, ImageToImport, Images, ImportError, ImportedImage, Removal};
use content::Progress;
use labels::{of_snapshot, of_sources};
use manifest::ImagePlan;
use messages::{CreateNamespaceRequest, Descriptor, Empty, Labels, Namespace, VersionResponse};
use name::ImageName;
use records::Target;
use socket::{CALL_TIMEOUT, NAMESPACE, Socket};

/// The node's containerd.
#[derive(Debug, Clone)]
pub struct Containerd {
    socket: Socket,
    snapshotter: Option<String>,
    /// One import at a time: the disk is the bottleneck, and unfinished snapshots have one owner.
    turn: Arc<Mutex<()>>,
}

impl Containerd {
    /// Names the socket, such as `/run/k3s/containerd/containerd.sock`; it is opened when first used.
    ///
    /// `snapshotter` overrides what Kubernetes' side reports, for snapshotters that keep their files elsewhere.
    ///
    /// # Errors
    /// [`ImportError::Unreachable`] when the path cannot be that of a socket.
    pub fn new(socket: &Path, snapshotter: Option<String>) -> Result<Self, ImportError> {
        Ok(Self { socket: Socket::new(socket)?, snapshotter, turn: Arc::new(Mutex::new(())) })
    }

    /// containerd's version, for the status document.
    ///
    /// # Errors
    /// [`ImportError::Unreachable`] or [`ImportError::Runtime`].
    pub async fn version(&self) -> Result<String, ImportError> {
        let method = "/containerd.services.version.v1.Version/Version";
        let answer: Result<VersionResponse, Status> =
            self.socket.call(method, None, CALL_TIMEOUT, Empty {}).await;
        Ok(answer.map_err(|status| self.socket.failed("asking for the version", &status))?.version)
    }

    async fn import_alone(
        &self,
        image: &ImageToImport,
        report: &mut (dyn FnMut(u64) + Send),
        cancel: &CancelFlag,
    ) -> Result<ImportedImage, ImportError> {
        let names = names_of(image)?;
        let plan = plan_off_thread(image.clone()).await?;
        let target = Target { descriptor: wire_descriptor(&plan.top)?, config: plan.config };
        let mut records: Vec<String> = names.iter().flat_map(|name| name.records(image.top)).collect();
        records.sort_unstable();
        records.dedup();

        self.make_namespace().await?;
        records::check_free(&self.socket, &records, &target.descriptor).await?;
        let lease = lease::take(&self.socket, image.top).await?;
        let put = Put { containerd: self, lease: &lease, plan: &plan, sources: of_sources(&names) };
        let done = async {
            put.everything(report, cancel).await?;
            // The id last: with it Kubernetes' side knows the image under all its names.
            for name in records.iter().chain([&plan.config.to_string()]) {
                records::put(&self.socket, name, &target).await?;
            }
            for (reference, name) in image.references.iter().zip(&names) {
                adopt::prove(&self.socket, reference, name, plan.config).await?;
            }
            Ok(ImportedImage { top: image.top, config: plan.config, bytes: plan.bytes() })
        };
        let done = done.await;
        let resumes =
            done.as_ref().is_err_and(|error: &ImportError| error.class() == FailureClass::Environment);
        if !resumes {
            lease::drop_forgotten(&self.socket, &lease).await;
            lease::end(&self.socket, &lease).await;
        }
        done
    }

    /// On a node where no pod ever ran, Kubernetes' namespace may not exist yet.
    async fn make_namespace(&self) -> Result<(), ImportError> {
        let method = "/containerd.services.namespaces.v1.Namespaces/Create";
        let question = CreateNamespaceRequest { namespace: Some(Namespace { name: NAMESPACE.to_owned() }) };
        match self.socket.call::<_, Empty>(method, None, CALL_TIMEOUT, question).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(self.socket.failed("making the namespace", &status)),
        }
    }
}

impl Images for Containerd {
    fn import<'a>(
        &'a self,
        image: &'a ImageToImport,
        progress: &'a mut (dyn FnMut(u64) + Send),
        cancel: &'a CancelFlag,
    ) -> Boxed<'a, Result<ImportedImage, ImportError>> {
        Box::pin(async move {
            let _turn = tokio::select! {
                biased;
                () = cancel.raised() => return Err(ImportError::Cancelled),
                turn = self.turn.lock() => turn,
            };
            self.import_alone(image, progress, cancel).await
        })
    }

    fn present<'a>(
        &'a self,
        references: &'a [String],
    ) -> Boxed<'a, Result<Vec<Option<Sha256Digest>>, ImportError>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(references.len());
            for reference in references {
                found.push(adopt::find(&self.socket, reference).await?);
            }
            Ok(found)
        })
    }

    fn watch_changes(&self) -> Boxed<'_, Result<Box<dyn ChangeWatch>, ImportError>> {
        Box::pin(async move {
            let watch = watch::subscribe(&self.socket).await?;
            Ok(Box::new(watch) as Box<dyn ChangeWatch>)
        })
    }

    fn owned(&self) -> Boxed<'_, Result<Vec<String>, ImportError>> {
        Box::pin(records::owned(&self.socket))
    }

    fn keep_system(&self) -> Boxed<'_, Result<Vec<String>, ImportError>> {
        Box::pin(system::keep(&self.socket))
    }

    fn remove<'a>(&'a self, reference: &'a str) -> Boxed<'a, Result<Removal, ImportError>> {
        Box::pin(async move {
            let name = ImageName::parse(reference)?;
            let _turn = self.turn.lock().await;
            records::remove(&self.socket, &name).await
        })
    }
}

/// Everything of one image but its names.
struct Put<'a> {
    containerd: &'a Containerd,
    lease: &'a str,
    plan: &'a ImagePlan,
    sources: Labels,
}

impl Put<'_> {
    /// Layers, then snapshots, then the documents that refer to both.
    async fn everything(
        &self,
        report: &mut (dyn FnMut(u64) + Send),
        cancel: &CancelFlag,
    ) -> Result<(), ImportError> {
        let Containerd { socket, snapshotter, .. } = self.containerd;
        let snapshotter = unpack::find_snapshotter(socket, snapshotter.as_deref()).await?;
        let mut progress = Progress { done: 0, report };
        for blob in &self.plan.layer_blobs {
            self.blob(blob, &mut progress, cancel).await?;
        }
        unpack::unpack(socket, self.lease, &snapshotter, &self.plan.layers, cancel).await?;
        for blob in &self.plan.document_blobs {
            let mut blob = blob.clone();
            if let Some(layer) = self.plan.layers.last().filter(|_| blob.digest == self.plan.config) {
                blob.labels.extend([of_snapshot(&snapshotter.name, &layer.chain)]);
            }
            self.blob(&blob, &mut progress, cancel).await?;
        }
        Ok(())
    }

    async fn blob(
        &self,
        blob: &manifest::PlannedBlob,
        progress: &mut Progress<'_>,
        cancel: &CancelFlag,
    ) -> Result<(), ImportError> {
        let mut blob = blob.clone();
        blob.labels.extend(self.sources.clone());
        content::write_blob(&self.containerd.socket, self.lease, &blob, progress, cancel).await
    }
}

/// Reads the names and refuses one whose digest is not the image's.
fn names_of(image: &ImageToImport) -> Result<Vec<ImageName>, ImportError> {
    let invalid =
        |reference: &str, reason| ImportError::NameInvalid { reference: reference.to_owned(), reason };
    if image.references.is_empty() {
        return Err(invalid("", "an image without a name cannot be found by any pod"));
    }
    let read = |reference: &String| {
        let name = ImageName::parse(reference)?;
        match name.digest {
            Some(digest) if digest != image.top => {
                Err(invalid(reference, "its digest is not that of the image"))
            }
            _ => Ok(name),
        }
    };
    image.references.iter().map(read).collect()
}

/// Reads and hashes the documents, megabytes on a slow card, where they hold up nobody.
async fn plan_off_thread(image: ImageToImport) -> Result<ImagePlan, ImportError> {
    let planned = tokio::task::spawn_blocking(move || manifest::plan(&image)).await;
    planned.map_err(|error| ImportError::Runtime { step: "reading the image", reason: error.to_string() })?
}

fn wire_descriptor(top: &manifest::Descriptor) -> Result<Descriptor, ImportError> {
    let too_large =
        |_| ImportError::Malformed { digest: top.digest, reason: "larger than any disk".to_owned() };
    let size = i64::try_from(top.size).map_err(too_large)?;
    Ok(Descriptor { media_type: top.media_type.clone(), digest: top.digest.to_string(), size })
}
