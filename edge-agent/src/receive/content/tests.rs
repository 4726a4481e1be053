use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use airlift_bundles::ids::{AppName, Counter, Version};
use airlift_bundles::layout::LayoutDir;
use airlift_bundles::pack::pack;
use airlift_bundles::pieces::PIECE_BYTES;

use super::*;
use crate::store::MemoryStore;

const LIMITS: FetchLimits = FetchLimits { packed_bytes: 64 << 20, unpacked_bytes: 64 << 20, files: 100 };

/// A bundle of one ConfigMap that does not compress, so that its objects layer has several pieces.
struct Source {
    dir: tempfile::TempDir,
    bundle: Sha256Digest,
}

impl Source {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("app");
        fs::create_dir_all(folder.join("manifests")).unwrap();
        fs::write(
            folder.join("airlift.yaml"),
            "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: 1.0.0\n",
        )
        .unwrap();
        let mut state = seed | 1;
        let noise = (0..40_000).fold(String::new(), |mut text, _| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let _ = write!(text, "{state:016x}"); // writing to a String cannot fail
            text
        });
        let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "noise", "namespace": "shop"}, "data": {"noise": noise}});
        fs::write(folder.join("manifests/noise.json"), object.to_string()).unwrap();
        let packed = pack(&folder, &dir.path().join("bundle"), &Limits::DEFAULT).unwrap();
        Self { bundle: packed.index, dir }
    }

    fn layout(&self) -> LayoutDir {
        LayoutDir(self.dir.path().join("bundle"))
    }

    /// A blob, of which the index stands beside the others.
    fn blob(&self, digest: &Sha256Digest) -> Vec<u8> {
        let path = if *digest == self.bundle {
            self.layout().0.join("index.json")
        } else {
            self.layout().blob_path(digest)
        };
        fs::read(path).unwrap()
    }

    fn generation(&self) -> Arc<Generation> {
        Arc::new(Generation {
            id: Sha256Digest::of(self.bundle.as_bytes()),
            app: AppName::new("shop").unwrap(),
            release: Sha256Digest::of(b"release"),
            bundle: self.bundle,
            counter: Counter { epoch: 0, seq: 1 },
            version: Version::new("1.0.0").unwrap(),
            parameters: BTreeMap::new(),
            overlays: vec![],
            secrets: BTreeMap::new(),
            stopped: false,
        })
    }
}

async fn open(dir: &Path, store: &Arc<MemoryStore>) -> DiskContent {
    let platform = crate::config::host_platform();
    DiskContent::open(dir.to_owned(), platform, Arc::clone(store) as Arc<dyn Store>).await.unwrap()
}

/// Brings what is wanted until the fetch ends or `parts` were taken; each piece goes through `change` first.
async fn carry(
    content: &DiskContent,
    source: &Source,
    parts: usize,
    change: impl Fn(&mut Vec<u8>),
) -> (Option<Result<(), ContentError>>, Vec<PutOutcome>) {
    let (sender, _progress) = mpsc::channel(1);
    let fetch = content.fetch(source.generation(), LIMITS, sender);
    tokio::pin!(fetch);
    let mut outcomes = Vec::new();
    loop {
        if let std::task::Poll::Ready(outcome) = futures_poll(&mut fetch).await {
            return (Some(outcome), outcomes);
        }
        for item in content.wanted(8) {
            let blob = source.blob(&item.sha256);
            if item.pieces == 0 {
                let part = Part::Whole { sha256: item.sha256, bytes: blob };
                outcomes.push(content.put(part).await.unwrap());
                continue;
            }
            let have = |piece: u32| {
                item.bitmap.get(piece as usize / 8).is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
            };
            // From the last to the first: order must not matter.
            for number in (0..item.pieces).rev().filter(|piece| !have(*piece)) {
                let mut bytes = blob.chunks(PIECE_BYTES).nth(number as usize).unwrap().to_vec();
                change(&mut bytes);
                outcomes.push(content.put(Part::Piece { sha256: item.sha256, number, bytes }).await.unwrap());
                if outcomes.len() >= parts {
                    return (None, outcomes);
                }
            }
        }
    }
}

/// Polls a future once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context)))
        .await
}

#[tokio::test]
async fn pieces_in_any_order_become_the_bundle() {
    let (dir, store, source) = (tempfile::tempdir().unwrap(), Arc::default(), Source::new(1));
    let content = open(dir.path(), &store).await;
    let (outcome, puts) = carry(&content, &source, usize::MAX, |_| {}).await;
    assert_eq!(outcome, Some(Ok(())));
    assert!(puts.len() > 6 && puts.iter().all(|put| *put == PutOutcome::Taken), "{puts:?}");
    let bundle = content.bundle(&source.bundle).unwrap();
    assert!(content.held(&bundle.objects().digest));
    assert!(content.wanted(8).is_empty(), "a fetch that ended wants nothing");
}

#[tokio::test]
async fn wrong_bytes_and_unwanted_ones_change_nothing() {
    let (dir, store, source) = (tempfile::tempdir().unwrap(), Arc::default(), Source::new(2));
    let content = open(dir.path(), &store).await;
    let stray = Part::Whole { sha256: Sha256Digest::of(b"stray"), bytes: b"stray".to_vec() };
    assert_eq!(content.put(stray).await, Ok(PutOutcome::Unneeded));
    let (outcome, puts) = carry(&content, &source, 12, |bytes| bytes[7] ^= 1).await;
    assert_eq!((outcome, puts.contains(&PutOutcome::Wrong)), (None, true));
    let (outcome, _) = carry(&content, &source, usize::MAX, |_| {}).await;
    assert_eq!(outcome, Some(Ok(())));
}

#[tokio::test]
async fn a_transfer_goes_on_where_it_was_cut() {
    let (dir, store, source) = (tempfile::tempdir().unwrap(), Arc::default(), Source::new(3));
    let content = open(dir.path(), &store).await;
    let (_, first) = carry(&content, &source, 6, |_| {}).await;
    // The bits are committed a second after the first piece; then the process is gone.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    std::mem::forget(content);
    let content = open(dir.path(), &store).await;
    let (outcome, second) = carry(&content, &source, usize::MAX, |_| {}).await;
    assert_eq!(outcome, Some(Ok(())));
    let whole = {
        let other = tempfile::tempdir().unwrap();
        let content = open(other.path(), &Arc::default()).await;
        carry(&content, &source, usize::MAX, |_| {}).await.1.len()
    };
    assert_eq!(first.len() + second.len(), whole, "nothing that was committed is brought again");
}

#[tokio::test]
async fn a_bundle_larger_than_its_release_says_is_refused() {
    let (dir, store, source) = (tempfile::tempdir().unwrap(), Arc::default(), Source::new(4));
    let content = open(dir.path(), &store).await;
    let small = FetchLimits { packed_bytes: 10_000, ..LIMITS };
    let (sender, _progress) = mpsc::channel(1);
    let fetch = content.fetch(source.generation(), small, sender);
    tokio::pin!(fetch);
    let outcome = loop {
        if let std::task::Poll::Ready(outcome) = futures_poll(&mut fetch).await {
            break outcome;
        }
        for item in content.wanted(8) {
            let part = Part::Whole { sha256: item.sha256, bytes: source.blob(&item.sha256) };
            assert_eq!(content.put(part).await, Ok(PutOutcome::Taken));
        }
    };
    assert_eq!(outcome.unwrap_err().code, Code::TooLarge);
}

#[tokio::test]
async fn only_kept_generations_keep_their_content() {
    let (dir, store) = (tempfile::tempdir().unwrap(), Arc::default());
    let (old, new) = (Source::new(5), Source::new(6));
    let content = open(dir.path(), &store).await;
    carry(&content, &old, usize::MAX, |_| {}).await;
    carry(&content, &new, usize::MAX, |_| {}).await;
    let objects = content.bundle(&old.bundle).unwrap().objects().digest;
    assert!(content.keep(vec![new.generation()]).await.unwrap() > 0);
    assert!(!content.held(&objects) && content.open(&objects).is_err());
    assert!(content.bundle(&new.bundle).is_ok());
    assert_eq!(content.keep(vec![new.generation()]).await.unwrap(), 0);
    let (outcome, _) = carry(&content, &old, usize::MAX, |_| {}).await;
    assert_eq!(outcome, Some(Ok(())), "what was dropped can be fetched again");
    assert!(content.keep(vec![new.generation()]).await.unwrap() > 0, "and is dropped again");
}

/// Overwrites the middle of a file with zeros, as a disk does that lied about what it had synced.
fn tear(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0);
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_blob_that_the_disk_damaged_is_not_used_and_comes_again() {
    let (dir, store, source) = (tempfile::tempdir().unwrap(), Arc::default(), Source::new(7));
    let content = open(dir.path(), &store).await;
    carry(&content, &source, usize::MAX, |_| {}).await;
    let objects = content.bundle(&source.bundle).unwrap().objects().digest;
    let parts = [objects, source.bundle];
    for damaged in parts {
        tear(&content.blob_path(&damaged).unwrap());
        if damaged == objects {
            let error = content.open_checked(&damaged).unwrap_err();
            assert_eq!((error.class, error.code), (FailureClass::Environment, Code::BlobDigest));
        } else {
            assert!(matches!(content.bundle(&source.bundle), Err(LayoutError::Digest(_))));
        }
        assert!(!content.held(&damaged), "nobody takes it for whole any more");
        let (outcome, _) = carry(&content, &source, usize::MAX, |_| {}).await;
        assert_eq!(outcome, Some(Ok(())));
        assert!(content.open_checked(&damaged).is_ok());
    }
}

#[tokio::test]
async fn pieces_that_were_lost_after_they_were_synced_come_again_and_are_no_fault_of_the_bundle() {
    let (dir, store, source) = (tempfile::tempdir().unwrap(), Arc::default(), Source::new(8));
    let content = open(dir.path(), &store).await;
    carry(&content, &source, 6, |_| {}).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    std::mem::forget(content);
    for file in fs::read_dir(dir.path().join("blobs/partial")).unwrap() {
        tear(&file.unwrap().path());
    }
    let content = open(dir.path(), &store).await;
    let (outcome, _) = carry(&content, &source, usize::MAX, |_| {}).await;
    assert_eq!(outcome, Some(Ok(())));
    let objects = content.bundle(&source.bundle).unwrap().objects().digest;
    assert!(content.open_checked(&objects).is_ok());
}
