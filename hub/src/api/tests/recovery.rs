//! Sticks, and a hub that comes back from a backup.

use crate::api::types::{
    Assigned, HubInfo, MediaContent, MediaFile, MediaImport, MediaImported, MediaPlan, Page, ReceiptInfo,
    Reconcile, Reconciled, SiteSelection, route,
};
use crate::scratch::{ScratchHub, ScratchSite};
use airlift_bundles::code::Code;
use airlift_bundles::document::receipt::Outcome;
use airlift_bundles::media::MediaName;
use hyper::Method;

fn ship() -> SiteSelection {
    SiteSelection { names: vec!["ship".parse().unwrap()], selector: None }
}

fn receipts_file(site: &ScratchSite, text: Vec<u8>) -> MediaFile {
    let (site, chain_id) = (site.name(), site.chain_id.clone());
    let name = MediaName::Receipts { site, chain_id, from: 1, upto: 2 }.to_string();
    MediaFile { name, text: String::from_utf8(text).unwrap() }
}

#[tokio::test]
async fn a_stick_carries_everything_out_and_receipts_home() {
    let hub = ScratchHub::start().await;
    let mut site = ScratchSite::new(7);
    site.enrol(&hub, &hub.token("ship").await).await;
    let app = hub.pack("web", 1);
    hub.publish(&app).await;
    hub.assign("web", "ship").await;
    let plan = MediaPlan { sites: ship(), releases: vec![] };
    let content: MediaContent = hub.post(route::MEDIA_EXPORT, &plan).await;
    let kinds: Vec<&str> =
        content.documents.iter().map(|file| file.name.split('/').next().unwrap()).collect();
    assert_eq!(kinds, ["roots", "releases", "assignments", "grants"], "in the order of the list");
    assert!(content.blobs.iter().any(|blob| blob.sha256 == app.largest()));
    for blob in &content.blobs {
        assert_eq!(app.blob(&blob.sha256).len() as u64, blob.size);
    }

    let (one, two) = (site.receipt(Outcome::Accepted), site.receipt(Outcome::Healthy));
    let array = [b"[".as_slice(), &one, b",", &two, b"]"].concat();
    let import = MediaImport { files: vec![receipts_file(&site, array)] };
    let done: MediaImported = hub.post(route::MEDIA_IMPORT, &import).await;
    assert_eq!((done.files[0].new, done.files[0].known, done.files[0].refused), (2, 0, None));
    let done: MediaImported = hub.post(route::MEDIA_IMPORT, &import).await;
    assert_eq!((done.files[0].new, done.files[0].known), (0, 2), "a stick may come twice");
    let held: Page<ReceiptInfo> = hub.get(route::RECEIPTS).await;
    assert!(held.items.iter().all(|receipt| receipt.carrier == "media"));

    let content: MediaContent = hub.post(route::MEDIA_EXPORT, &plan).await;
    let assignment = content.documents.iter().find(|file| file.name.starts_with("assignments/")).unwrap();
    let assignment = crate::plan::sign::read_own(assignment.text.as_bytes()).unwrap();
    assert_eq!(assignment.receipts_acked.map(|mark| mark.upto), Some(2), "the next stick says what is held");
}

#[tokio::test]
async fn what_does_not_belong_on_a_stick_is_refused_file_by_file() {
    let hub = ScratchHub::start().await;
    let mut site = ScratchSite::new(7);
    site.enrol(&hub, &hub.token("ship").await).await;
    let good = site.receipt(Outcome::Accepted);
    let mut forged = airlift_bundles::envelope::Envelope::draft(&site.receipt_at(9, None, Outcome::Failed));
    forged.sign(&crate::scratch::key(99));
    let files = vec![
        MediaFile { name: "../../etc/passwd".into(), text: String::new() },
        receipts_file(&site, b"not json".to_vec()),
        receipts_file(&site, forged.to_json()),
        receipts_file(&site, good),
    ];
    let done: MediaImported = hub.post(route::MEDIA_IMPORT, &MediaImport { files }).await;
    let refused: Vec<_> = done.files.iter().map(|file| file.refused).collect();
    let expected =
        [Some(Code::MediaEntryRefused), Some(Code::EnvelopeMalformed), Some(Code::TooFewSignatures), None];
    assert_eq!(refused, expected);
    assert_eq!(done.files[3].new, 1);
}

#[tokio::test]
async fn a_restored_hub_publishes_nothing_until_it_is_reconciled() {
    let mut hub = ScratchHub::start().await;
    let mut site = ScratchSite::new(7);
    site.enrol(&hub, &hub.token("ship").await).await;
    hub.publish(&hub.pack("web", 1)).await;
    hub.stop().await;
    let backup = hub.data().path().join("backup.db");
    std::fs::copy(hub.data().database(), &backup).unwrap();
    hub.serve().await;
    let later = hub.assign("web", "ship").await.sites[0].assignment.unwrap();
    let path = route::fill(route::SITE_ASSIGNMENT, &["ship"]);
    let (_, _, envelope) = hub.call(Method::GET, &path, vec![]).await;
    hub.stop().await;
    for file in ["hub.db-wal", "hub.db-shm"] {
        let _ = std::fs::remove_file(hub.data().path().join(file));
    }
    std::fs::copy(&backup, hub.data().database()).unwrap();
    hub.serve().await;

    let name = MediaName::Assignment(site.name()).to_string();
    let text = String::from_utf8(envelope.to_vec()).unwrap();
    let import = MediaImport { files: vec![MediaFile { name, text }] };
    let done: MediaImported = hub.post(route::MEDIA_IMPORT, &import).await;
    assert_eq!(done.files[0].new, 1);
    assert!(hub.get::<HubInfo>(route::HUB).await.reconcile_needed);
    let retire = serde_json::json!({"app": "web", "sites": {"names": ["ship"]}});
    let refused = hub.try_post::<Assigned>(route::RETIREMENTS, &retire).await.unwrap_err();
    assert_eq!(refused.code, Code::HubRestored);

    let shown: Reconciled = hub.post(route::RECONCILE, &Reconcile { adopt: false }).await;
    assert_eq!((shown.sites[0].returned, shown.adopted), (later, false));
    assert_eq!(shown.sites[0].changes, ["web is at 1.0"]);
    let _: Reconciled = hub.post(route::RECONCILE, &Reconcile { adopt: true }).await;
    assert!(!hub.get::<HubInfo>(route::HUB).await.reconcile_needed);
    let (_, _, envelope) = hub.call(Method::GET, &path, vec![]).await;
    let next = crate::plan::sign::read_own(&envelope).unwrap();
    assert!(next.counter() > later, "the next number is above what the site has");
    assert_eq!(next.desired.len(), 1, "and the site keeps what it runs");
}
