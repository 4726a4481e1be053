//! What preparing refuses: content that its digests allow and its release does not.

use airlift_bundles::document::assignment::DesiredApp;
use airlift_bundles::document::release::RollbackRule;
use airlift_bundles::document::root::Pattern;
use airlift_bundles::ids::{Counter, FleetId, Timestamp};
use airlift_bundles::pack::{ReleaseFacts, pack};
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::core::effect::FetchLimits;
use crate::core::write::{DocumentRow, Write};
use crate::ports::absent::AbsentCluster;
use crate::ports::content::{Content as _, Part};
use crate::store::MemoryStore;

const APP: &str = "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: 1.0.0\n";
const MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: door, namespace: shop}\ndata: {open: \"no\"}\n";

/// A bundle as blobs, and the release that names it.
struct Signed {
    blobs: BTreeMap<Sha256Digest, Vec<u8>>,
    statement: Statement,
}

fn put(blobs: &mut BTreeMap<Sha256Digest, Vec<u8>>, bytes: Vec<u8>) -> (Sha256Digest, usize) {
    let (digest, size) = (Sha256Digest::of(&bytes), bytes.len());
    blobs.insert(digest, bytes);
    (digest, size)
}

impl Signed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("manifests")).unwrap();
        std::fs::write(dir.path().join("airlift.yaml"), APP).unwrap();
        std::fs::write(dir.path().join("manifests/door.yaml"), MAP).unwrap();
        let packed = pack(dir.path(), &dir.path().join("bundle"), &Limits::DEFAULT).unwrap();
        let mut blobs = BTreeMap::new();
        for file in std::fs::read_dir(dir.path().join("bundle/blobs/sha256")).unwrap() {
            put(&mut blobs, std::fs::read(file.unwrap().path()).unwrap());
        }
        let facts = ReleaseFacts {
            fleet_id: FleetId::new("fleet").unwrap(),
            counter: Counter { epoch: 0, seq: 1 },
            floor: 0,
            prev: None,
            issued_at: Timestamp::from_unix_s(1_800_000_000),
        };
        Self { blobs, statement: packed.draft(&facts) }
    }

    /// The same bundle with another objects layer, of which it says that it unpacks to 1,000 bytes.
    fn with_objects(mut self, layer: Vec<u8>) -> Self {
        let read = |digest: &Value| -> Value {
            let digest: Sha256Digest = serde_json::from_value(digest.clone()).unwrap();
            serde_json::from_slice(&self.blobs[&digest]).unwrap()
        };
        let mut index = read(&json!(self.statement.bundle()));
        let mut manifest = read(&index["manifests"][0]["digest"]);
        let (digest, size) = put(&mut self.blobs, layer);
        let objects = &mut manifest["layers"][0];
        (objects["digest"], objects["size"]) = (json!(digest), json!(size));
        objects["annotations"]["dev.airlift.raw-size"] = json!("1000");
        let (digest, size) = put(&mut self.blobs, manifest.to_string().into_bytes());
        let top = &mut index["manifests"][0];
        (top["digest"], top["size"]) = (json!(digest), json!(size));
        let (digest, _) = put(&mut self.blobs, index.to_string().into_bytes());
        self.statement = Statement::new(&digest, self.statement.predicate);
        self
    }

    /// Fetches it, and prepares it under the scope of a role.
    async fn prepare(&self, scope: &Scope) -> Result<Plan, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let envelope = Envelope::draft(&self.statement);
        let (sha256, release) = (envelope.digest(), &self.statement.predicate);
        let row = DocumentRow { sha256, envelope: envelope.to_json().into() };
        store.commit(vec![Write::PutDocument(row)]).await.unwrap();
        let content =
            DiskContent::open(dir.path().join("state"), crate::config::host_platform(), Arc::clone(&store));
        let content = Arc::new(content.await.unwrap());
        let desired = DesiredApp {
            app: release.app.clone(),
            release: sha256,
            epoch: release.epoch,
            seq: release.seq,
            parameters: BTreeMap::new(),
            overlays: vec![],
            secrets: BTreeMap::new(),
            retry: 0,
        };
        let generation = Arc::new(Generation::of(&desired, &self.statement));
        let limits = FetchLimits { packed_bytes: 64 << 20, unpacked_bytes: 64 << 20, files: 100 };
        let fetching = (Arc::clone(&content), Arc::clone(&generation));
        let fetch = tokio::spawn(async move {
            let (progress, _nobody) = mpsc::channel(1);
            fetching.0.fetch(fetching.1, limits, progress).await
        });
        while !fetch.is_finished() {
            for item in content.wanted(8) {
                let bytes = self.blobs[&item.sha256].clone();
                content.put(Part::Whole { sha256: item.sha256, bytes }).await.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        fetch.await.unwrap().unwrap();
        let bodies = Bodies::open(&dir.path().join("cache"), content, store).unwrap();
        bodies.prepare(&generation, Some(scope), &Predecessors::default(), &AbsentCluster).await
    }

    async fn code(&self, scope: &Scope) -> Option<Code> {
        let failure = self.prepare(scope).await.err()?;
        assert_eq!(failure.class, FailureClass::App, "{failure:?}");
        Some(failure.code)
    }
}

#[tokio::test]
async fn an_object_outside_of_its_roles_scope_is_refused_before_anything_is_sent() {
    let signed = Signed::new();
    assert_eq!(signed.code(&Scope::all()).await, None);
    let narrow = Scope { namespaces: vec![Pattern("till-*".into())], ..Scope::all() };
    assert_eq!(signed.code(&narrow).await, Some(Code::OutOfScope));
}

#[tokio::test]
async fn a_release_that_says_something_else_than_its_bundle_is_refused() {
    let mut signed = Signed::new();
    signed.statement.predicate.rollback = RollbackRule::Never;
    assert_eq!(signed.code(&Scope::all()).await, Some(Code::DescriptorDiffers));
}

/// A zstd frame (RFC 8878) with this window descriptor and blocks of 128 KiB, each one byte repeated.
fn frame(window: u8, blocks: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(b'{');
    }
    frame
}

#[tokio::test]
async fn bombs_under_a_good_signature_are_refused_and_leave_no_file() {
    const WINDOW_128_KIB: u8 = 7 << 3;
    const WINDOW_2_GIB: u8 = 21 << 3;
    let bomb = Signed::new().with_objects(frame(WINDOW_128_KIB, 8192));
    assert_eq!(bomb.code(&Scope::all()).await, Some(Code::TooLarge));
    let window = Signed::new().with_objects(frame(WINDOW_2_GIB, 1));
    assert_eq!(window.code(&Scope::all()).await, Some(Code::BundleMalformed));
}
