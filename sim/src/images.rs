//! A model container runtime behind the agent's `Images` port: names that mean digests, after a while.
//!
//! An import checks that every blob it was given is there, takes its time, and then the names answer. It does not
//! model layers, snapshots, platforms of an index, disk space or containers that use an image; the image id is the
//! digest of the index or manifest instead of the configuration's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlift_agent::ports::Boxed;
use airlift_agent::ports::cancel::CancelFlag;
use airlift_agent::ports::images::{
    Change, ChangeWatch, ImageToImport, Images, ImportError, ImportedImage, Removal,
};
use airlift_bundles::ids::Sha256Digest;
use tokio::sync::broadcast;

/// Losses that a slow subscriber may lag behind before its watch ends.
const LOSSES: usize = 256;

/// A model runtime; clones are the same one.
#[derive(Debug, Clone)]
pub struct ModelImages {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    import_takes: Duration,
    names: Mutex<BTreeMap<String, Sha256Digest>>,
    losses: broadcast::Sender<String>,
}

impl ModelImages {
    /// A runtime without images, whose imports take this long each.
    #[must_use]
    pub fn new(import_takes: Duration) -> Self {
        let (losses, _) = broadcast::channel(LOSSES);
        Self { shared: Arc::new(Shared { import_takes, names: Mutex::default(), losses }) }
    }

    /// Loses an image, as a person or the kubelet's collector would make it.
    pub fn lose(&self, reference: &str) {
        if self.names().remove(reference).is_some() {
            // Nobody may listen, and then nobody needs to know.
            let _ = self.shared.losses.send(reference.to_owned());
        }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Sha256Digest>> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn import_one(
        &self,
        image: &ImageToImport,
        progress: &mut (dyn FnMut(u64) + Send),
        cancel: &CancelFlag,
    ) -> Result<ImportedImage, ImportError> {
        let path = image.blobs.path(&image.top).ok_or(ImportError::BlobMissing { digest: image.top })?;
        let unreadable = |error: std::io::Error| ImportError::BlobUnreadable {
            digest: image.top,
            reason: error.to_string(),
        };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if let Some(reference) = self.taken(image) {
            let holder = self.names().get(&reference).map(ToString::to_string).unwrap_or_default();
            return Err(ImportError::NameTaken { reference, holder });
        }
        tokio::select! {
            biased;
            () = cancel.raised() => return Err(ImportError::Cancelled),
            () = tokio::time::sleep(self.shared.import_takes) => {}
        }
        progress(bytes);
        self.names().extend(image.references.iter().map(|name| (name.clone(), image.top)));
        Ok(ImportedImage { top: image.top, config: image.top, bytes })
    }

    /// A name of the image that means another one.
    fn taken(&self, image: &ImageToImport) -> Option<String> {
        let names = self.names();
        let mut references = image.references.iter();
        references.find(|name| names.get(*name).is_some_and(|top| *top != image.top)).cloned()
    }
}

struct Losses(broadcast::Receiver<String>);

impl ChangeWatch for Losses {
    fn next(&mut self) -> Boxed<'_, Result<Change, ImportError>> {
        Box::pin(async {
            let lost = self.0.recv().await;
            let step = "watching images";
            lost.map(Change::ImageRemoved)
                .map_err(|error| ImportError::Runtime { step, reason: error.to_string() })
        })
    }
}

impl Images for ModelImages {
    fn import<'a>(
        &'a self,
        image: &'a ImageToImport,
        progress: &'a mut (dyn FnMut(u64) + Send),
        cancel: &'a CancelFlag,
    ) -> Boxed<'a, Result<ImportedImage, ImportError>> {
        Box::pin(self.import_one(image, progress, cancel))
    }

    fn present<'a>(
        &'a self,
        references: &'a [String],
    ) -> Boxed<'a, Result<Vec<Option<Sha256Digest>>, ImportError>> {
        let names = self.names();
        let found = references.iter().map(|reference| names.get(reference).copied()).collect();
        drop(names);
        Box::pin(async { Ok(found) })
    }

    fn watch_changes(&self) -> Boxed<'_, Result<Box<dyn ChangeWatch>, ImportError>> {
        let watch: Box<dyn ChangeWatch> = Box::new(Losses(self.shared.losses.subscribe()));
        Box::pin(async { Ok(watch) })
    }

    fn owned(&self) -> Boxed<'_, Result<Vec<String>, ImportError>> {
        let names = self.names().keys().cloned().collect();
        Box::pin(async { Ok(names) })
    }

    /// Its kube-system runs nothing.
    fn keep_system(&self) -> Boxed<'_, Result<Vec<String>, ImportError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn remove<'a>(&'a self, reference: &'a str) -> Boxed<'a, Result<Removal, ImportError>> {
        let removed = self.names().remove(reference).is_some();
        Box::pin(async move { Ok(if removed { Removal::Removed } else { Removal::NotOurs }) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use airlift_agent::ports::images::{BlobSource, Platform};

    use super::*;

    struct OneFile(Sha256Digest, PathBuf);

    impl BlobSource for OneFile {
        fn path(&self, digest: &Sha256Digest) -> Option<PathBuf> {
            (*digest == self.0).then(|| self.1.clone())
        }
    }

    fn image(content: &[u8], dir: &std::path::Path) -> ImageToImport {
        let top = Sha256Digest::of(content);
        let path = dir.join(top.to_hex());
        std::fs::write(&path, content).expect("a temporary directory");
        ImageToImport {
            references: vec!["shop/app:1".into()],
            top,
            platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
            blobs: Arc::new(OneFile(top, path)),
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn names_answer_after_an_import_and_a_loss_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let images = ModelImages::new(Duration::from_millis(1));
        let image = image(b"one", dir.path());
        let mut losses = images.watch_changes().await.expect("a watch");
        assert_eq!(images.missing(&image.references).await, Ok(image.references.clone()));
        let imported = images.import(&image, &mut |_| (), &CancelFlag::new()).await.expect("it is all there");
        assert_eq!(images.present(&image.references).await, Ok(vec![Some(imported.config)]));
        images.lose("shop/app:1");
        assert_eq!(losses.next().await, Ok(Change::ImageRemoved("shop/app:1".into())));
        assert_eq!(images.missing(&image.references).await, Ok(image.references.clone()));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_that_means_another_image_and_a_missing_blob_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let images = ModelImages::new(Duration::ZERO);
        let cancel = CancelFlag::new();
        images.import(&image(b"one", dir.path()), &mut |_| (), &cancel).await.expect("it is all there");
        let refused = images.import(&image(b"two", dir.path()), &mut |_| (), &cancel).await;
        assert!(matches!(refused, Err(ImportError::NameTaken { .. })), "{refused:?}");
        let mut lost = image(b"three", dir.path());
        lost.top = Sha256Digest::of(b"four");
        let refused = images.import(&lost, &mut |_| (), &cancel).await;
        assert!(matches!(refused, Err(ImportError::BlobMissing { .. })), "{refused:?}");
    }
}
