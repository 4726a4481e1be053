use std::fs;
use std::path::Path;

use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::ClockQuality;
use airlift_bundles::ids::{AppName, Counter, FleetId, RandomId, Sha256Digest, SiteId, Timestamp, Version};
use airlift_bundles::keys::SecretKey;
use airlift_bundles::layout::LayoutDir;
use airlift_bundles::media::{MediaDirectoryWriter, MediaName, MediaSink as _};
use airlift_bundles::pack::pack;
use tokio::sync::mpsc;

use super::feed::feed;
use super::serve::Server;
use super::watch::find_sticks;
use super::*;
use crate::config::host_platform;
use crate::core::Event;
use crate::core::effect::FetchLimits;
use crate::core::event::{Carrier, DocumentKind, MediaId};
use crate::core::object::Generation;
use crate::core::write::{MetaRow, ReceiptRow, Write};
use crate::ports::{Content, Store};
use crate::receive::content::DiskContent;
use crate::store::MemoryStore;

pub(crate) fn site_meta() -> MetaRow {
    MetaRow {
        fleet: FleetId::new("fleet").unwrap(),
        site: SiteId::new("berta").unwrap(),
        incarnation: 1,
        minimum: Counter::default(),
        outbox_epoch: RandomId::from_bytes([1; 16]),
        outbox_next: 1,
        conn_seq: 0,
        starts: 0,
        chain_id: RandomId::from_bytes([2; 16]),
        receipt_next: 1,
        receipt_head: None,
        receipt_acked_next: 1,
        receipt_first: 1,
        time_floor: Timestamp::from_unix_s(0),
        cluster: None,
        hub_incarnation: None,
        hub_heard: None,
    }
}

pub(crate) async fn content_of(dir: &Path, store: Arc<dyn Store>) -> DiskContent {
    DiskContent::open(dir.join("state"), host_platform(), store).await.unwrap()
}

/// A stick with one bundle, and the generation that wants it.
struct Stick {
    dir: tempfile::TempDir,
    generation: Arc<Generation>,
}

impl Stick {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("app");
        fs::create_dir_all(folder.join("manifests")).unwrap();
        let descriptor = "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: 1.0.0\n";
        fs::write(folder.join("airlift.yaml"), descriptor).unwrap();
        let mut noise = vec![0; 150 << 10];
        getrandom::fill(&mut noise).unwrap();
        let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "noise", "namespace": "shop"},
            "data": {"noise": airlift_bundles::ids::encode_hex(&noise)}});
        fs::write(folder.join("manifests/noise.json"), object.to_string()).unwrap();
        let layout = dir.path().join("bundle");
        let packed = pack(&folder, &layout, &Limits::DEFAULT).unwrap();
        fs::create_dir(dir.path().join("stick")).unwrap();
        let mut writer = MediaDirectoryWriter::open(&dir.path().join("stick")).unwrap();
        let blobs = fs::read_dir(LayoutDir(layout.clone()).0.join("blobs/sha256")).unwrap();
        let files = blobs.map(|entry| entry.unwrap().path()).chain([layout.join("index.json")]);
        for file in files {
            let bytes = fs::read(file).unwrap();
            writer.put_blob(&Sha256Digest::of(&bytes), bytes.len() as u64, &mut bytes.as_slice()).unwrap();
        }
        let generation = Arc::new(Generation {
            id: Sha256Digest::of(b"generation"),
            app: AppName::new("shop").unwrap(),
            release: Sha256Digest::of(b"release"),
            bundle: packed.index,
            counter: Counter { epoch: 0, seq: 1 },
            version: Version::new("1.0.0").unwrap(),
            parameters: Default::default(),
            overlays: vec![],
            secrets: Default::default(),
            stopped: false,
        });
        Self { dir, generation }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("stick")
    }

    /// Fetches from the stick alone, round by round: whether everything is there, and the rounds' bytes.
    async fn serve(&self, content: &Arc<DiskContent>) -> (bool, u64) {
        let limits = FetchLimits { packed_bytes: 64 << 20, unpacked_bytes: 64 << 20, files: 100 };
        let (content, generation) = (Arc::clone(content), Arc::clone(&self.generation));
        let fetching = Arc::clone(&content);
        let fetch = tokio::spawn(async move {
            let (progress, _nobody) = mpsc::channel(1);
            fetching.fetch(generation, limits, progress).await
        });
        let mut server = Server::new(open_source(&self.path()).unwrap());
        let (mut bytes, mut idle) = (0, 0);
        while idle < 20 && !fetch.is_finished() {
            let round = server.round(content.as_ref()).await.unwrap();
            bytes += round.bytes;
            idle = if round.bytes == 0 { idle + 1 } else { 0 };
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let complete = fetch.is_finished();
        fetch.abort();
        let _ = fetch.await; // its wants are taken back when it has ended
        (complete, bytes)
    }
}

#[tokio::test]
async fn content_comes_from_a_stick_and_is_asked_of_it_only_once() {
    let stick = Stick::new();
    let content = Arc::new(content_of(stick.dir.path(), Arc::new(MemoryStore::default())).await);
    let (complete, bytes) = stick.serve(&content).await;
    assert!(complete && bytes > 128 << 10, "{bytes}");
    assert_eq!(stick.serve(&content).await, (true, 0));
}

#[tokio::test]
async fn a_stick_pulled_in_the_middle_leaves_what_arrived() {
    let stick = Stick::new();
    let content = Arc::new(content_of(stick.dir.path(), Arc::new(MemoryStore::default())).await);
    let away = stick.dir.path().join("away");
    let largest = largest_blob(&stick.path());
    fs::rename(&largest, &away).unwrap();
    let (complete, first) = stick.serve(&content).await;
    assert!(!complete && first > 0);
    fs::rename(&away, &largest).unwrap();
    let (complete, second) = stick.serve(&content).await;
    assert!(complete && second == fs::metadata(&largest).unwrap().len(), "{first} {second}");
}

fn largest_blob(stick: &Path) -> std::path::PathBuf {
    let blobs = fs::read_dir(stick.join("airlift-media/blobs/sha256")).unwrap();
    blobs.map(|entry| entry.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[tokio::test]
async fn roots_are_fed_in_order_from_the_one_that_is_known_and_the_assignment_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = MediaDirectoryWriter::open(dir.path()).unwrap();
    let site = SiteId::new("berta").unwrap();
    for version in [1, 2, 3, 5] {
        writer.put_document(&MediaName::Root(version), format!("root {version}").as_bytes()).unwrap();
    }
    writer.put_document(&MediaName::Assignment(site.clone()), b"for berta").unwrap();
    writer.put_document(&MediaName::Assignment(SiteId::new("anna").unwrap()), b"for anna").unwrap();
    let (events, mut queue) = mpsc::channel(16);
    let media = MediaId("stick".into());
    let fed = feed(open_source(dir.path()).unwrap(), media.clone(), site, 1, &events).await;
    drop(events);
    let mut found = Vec::new();
    while let Some(Event::Document { expected, carrier, bytes }) = queue.recv().await {
        assert_eq!(carrier, Carrier::Media(media.clone()));
        found.push((expected, String::from_utf8(bytes).unwrap()));
    }
    let root = |version: u64| (DocumentKind::Root, format!("root {version}"));
    assert_eq!(found, [root(2), root(3), (DocumentKind::Assignment, "for berta".into())]);
    assert_eq!((fed.documents, fed.assignment), (3, None), "what cannot be read names no releases");
}

#[tokio::test]
async fn an_entry_that_is_a_link_is_a_fault_and_nothing_is_fed_of_it() {
    let dir = tempfile::tempdir().unwrap();
    MediaDirectoryWriter::open(dir.path()).unwrap();
    let assignments = dir.path().join("airlift-media/assignments");
    fs::create_dir(&assignments).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", assignments.join("berta.json")).unwrap();
    let (events, _queue) = mpsc::channel(16);
    let site = SiteId::new("berta").unwrap();
    let fed = feed(open_source(dir.path()).unwrap(), MediaId("stick".into()), site, 0, &events).await;
    assert_eq!(fed.documents, 0);
    let codes: Vec<Code> = fed.faults.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, [Code::MediaEntryRefused]);
}

fn receipt_row(seq: u64) -> ReceiptRow {
    let receipt = airlift_bundles::document::receipt::Receipt {
        fleet_id: site_meta().fleet,
        site: site_meta().site,
        incarnation: 1,
        chain_id: site_meta().chain_id,
        receipt_seq: seq,
        prev_sha256: (seq > 1).then(|| Sha256Digest::of(b"before")),
        root: airlift_bundles::document::receipt::RootMark { version: 1, sha256: Sha256Digest::of(b"root") },
        assignment: None,
        app: None,
        release: None,
        generation: None,
        outcome: airlift_bundles::document::receipt::Outcome::LocalAct,
        reason: None,
        counts: Default::default(),
        evidence: vec![],
        known_time: Timestamp::from_unix_s(0),
        clock_quality: ClockQuality::Floor,
        crit: vec![],
    };
    let envelope = airlift_bundles::envelope::Envelope::draft(&receipt);
    let (sha256, envelope) = (envelope.digest(), envelope.to_json().into());
    ReceiptRow { chain_id: site_meta().chain_id, seq, outbox_seq: seq, sha256, envelope, acked: false }
}

#[tokio::test]
async fn receipts_go_onto_a_stick_and_into_a_tar_under_their_range() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::default());
    let rows = (1..=5).map(|seq| Write::AppendReceipt(receipt_row(seq))).collect();
    store.commit(rows).await.unwrap();
    let meta = MetaRow { receipt_next: 6, receipt_acked_next: 3, ..site_meta() };
    let writer = ReceiptWriter::new(Arc::new(SecretKey::from_seed(&[7; 32])), meta.clone(), store);
    let tar = dir.path().join("receipts.tar");
    for place in [dir.path(), tar.as_path()] {
        let saved = writer.save_unacked(place).await.unwrap();
        assert_eq!((saved.receipts, saved.files), (3, 1));
        let media = open_source(place).unwrap();
        let name = MediaName::Receipts {
            site: meta.site.clone(),
            chain_id: meta.chain_id.clone(),
            from: 3,
            upto: 5,
        };
        assert!(media.read_document(&name).unwrap().is_some());
    }
}

#[test]
fn sticks_are_found_in_a_place_and_one_level_under_it() {
    let dir = tempfile::tempdir().unwrap();
    for stick in ["a", "deep/er"] {
        fs::create_dir_all(dir.path().join(stick).join("airlift-media")).unwrap();
    }
    assert_eq!(find_sticks(&[dir.path().to_owned()]), [dir.path().join("a")]);
    assert_eq!(find_sticks(&[dir.path().join("a"), dir.path().join("none")]), [dir.path().join("a")]);
}
