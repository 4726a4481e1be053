//! The whole way to a connected site and back.

use crate::api::types::{Freshness, Page, ReceiptInfo, ReceiptLink, SiteDetail, route};
use crate::scratch::{ScratchHub, ScratchSite};
use airlift_bundles::document::receipt::{ClockQuality, Outcome, RootMark};
use airlift_bundles::document::status::{OutboxRow, SiteStatus};
use airlift_bundles::ids::{RandomId, Sha256Digest, Timestamp};
use airlift_bundles::wire::{Topic, WantedItem};
use std::collections::BTreeMap;

async fn fleet() -> (ScratchHub, ScratchSite) {
    let hub = ScratchHub::start().await;
    let mut site = ScratchSite::new(7);
    site.enrol(&hub, &hub.token("ship").await).await;
    (hub, site)
}

async fn receipts(hub: &ScratchHub) -> Vec<ReceiptInfo> {
    hub.get::<Page<ReceiptInfo>>(&format!("{}?site=ship&envelopes=true", route::RECEIPTS)).await.items
}

#[tokio::test]
async fn what_is_assigned_arrives_is_served_and_its_receipt_is_held() {
    let (hub, mut site) = fleet().await;
    let app = hub.pack("web", 1);
    hub.publish(&app).await;
    site.connect(&hub).await;
    let first = site.assignment(0).await;
    assert!(first.desired.is_empty());

    let assigned = hub.assign("web", "ship").await;
    let assignment = site.assignment(first.assignment_seq).await;
    assert_eq!(Some(assignment.counter()), assigned.sites[0].assignment);
    let release = assignment.desired[0].release;
    assert_eq!(site.fetch_parts(WantedItem::Document(release)).await, app.release);
    assert_eq!(site.fetch_parts(WantedItem::Root(1)).await, hub.root);
    let index = app.statement.bundle();
    let bytes = site.fetch_parts(WantedItem::Blob(index)).await;
    assert_eq!(Sha256Digest::of(&bytes), index);

    let receipt = site.receipt(Outcome::Healthy);
    let batch = site.batch(1, &[receipt]);
    let ack = site.send(&batch).await;
    assert_eq!((ack.upto, ack.receipts.as_ref().map(|mark| mark.upto)), (1, Some(1)));
    let again = site.send(&batch).await;
    assert_eq!(again.receipts, ack.receipts, "a receipt that comes twice is stored once");
    let held = receipts(&hub).await;
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].outcome, held[0].link), (Outcome::Healthy, ReceiptLink::Chained));
    let detail: SiteDetail = hub.get(&route::fill(route::SITE, &["ship"])).await;
    assert!(detail.site.connected);
    assert_eq!(detail.chains[0].head, 1);
}

#[tokio::test]
async fn a_status_that_comes_after_receipts_with_greater_numbers_is_news() {
    let (hub, mut site) = fleet().await;
    site.connect(&hub).await;
    let receipt = site.receipt(Outcome::Healthy);
    let batch = site.batch(7, &[receipt]);
    assert_eq!(site.send(&batch).await.upto, 7);
    let status = |seq, version: &str| OutboxRow {
        seq,
        receipt: None,
        status: Some(Box::new(SiteStatus {
            agent_version: version.to_owned(),
            root: RootMark { version: 1, sha256: Sha256Digest::of(b"root") },
            assignment: None,
            parked: None,
            boot: RandomId::from_bytes([1; 16]),
            apps: BTreeMap::new(),
            nodes: vec![],
            cluster_up: true,
            disk_free_bytes: None,
            refusals: BTreeMap::new(),
            known_time: Timestamp::from_unix_s(1_800_000_000),
            clock_quality: ClockQuality::Floor,
        })),
    };
    for (seq, version) in [(6, "newer"), (5, "older")] {
        let batch = site.batch_of(vec![status(seq, version)]);
        site.send(&batch).await;
        let detail: SiteDetail = hub.get(&route::fill(route::SITE, &["ship"])).await;
        assert_eq!(detail.status.map(|status| status.agent_version).as_deref(), Some("newer"));
    }
}

#[tokio::test]
async fn pieces_are_published_once_for_all_who_ask() {
    let (hub, mut first) = fleet().await;
    let mut second = ScratchSite::new(8);
    second.enrol(&hub, &hub.token("barge").await).await;
    let app = hub.pack("web", 1);
    hub.publish(&app).await;
    for (site, name) in [(&mut first, "ship"), (&mut second, "barge")] {
        hub.assign("web", name).await;
        site.connect(&hub).await;
        let filter = Topic::pieces_filter(&app.largest(), &site.grant.as_ref().unwrap().topic_prefix);
        site.subscribe(filter).await;
    }
    let blob = app.blob(&app.largest());
    let pieces = blob.len().div_ceil(64 << 10) as u64;
    assert!(pieces > 2, "the app is large enough");
    // The answer to the second subscription is waited for by saying something after it.
    first.want(WantedItem::Blob(app.largest()), true, pieces).await;
    second.want(WantedItem::Blob(app.largest()), true, 1).await;
    for site in [&mut first, &mut second] {
        let mut gathered = BTreeMap::new();
        while (gathered.len() as u64) < pieces {
            let (piece, bytes) = site
                .message(|topic, publish| match topic {
                    Topic::BlobPiece(_, piece) => Some((*piece, publish.payload.clone())),
                    _ => None,
                })
                .await;
            assert!(gathered.insert(piece, bytes).is_none(), "piece {piece} came twice");
        }
        let whole: Vec<u8> = gathered.into_values().flat_map(|bytes| bytes.to_vec()).collect();
        assert_eq!(whole, blob, "both have all, though one asked for the first piece only");
    }
}

#[tokio::test]
async fn a_site_gets_only_what_its_assignment_needs() {
    let (hub, mut site) = fleet().await;
    let (theirs, other) = (hub.pack("web", 1), hub.pack("secret", 1));
    hub.publish(&theirs).await;
    hub.publish(&other).await;
    hub.assign("web", "ship").await;
    site.connect(&hub).await;
    site.want(WantedItem::Blob(other.statement.bundle()), false, 1).await;
    site.want(WantedItem::Document(Sha256Digest::of(b"unknown")), false, 1).await;
    let bytes = site.fetch_parts(WantedItem::Blob(theirs.statement.bundle())).await;
    assert_eq!(Sha256Digest::of(&bytes), theirs.statement.bundle(), "its own came, and nothing before it");
}

#[tokio::test]
async fn acknowledged_receipts_and_assignments_outlive_the_hub() {
    let (mut hub, mut site) = fleet().await;
    hub.publish(&hub.pack("web", 1)).await;
    site.connect(&hub).await;
    let receipts_sent: Vec<_> = (0..5).map(|_| site.receipt(Outcome::Accepted)).collect();
    site.send(&site.batch(1, &receipts_sent)).await;
    let assigned = hub.assign("web", "ship").await;
    hub.stop().await;
    site.disconnect();
    hub.serve().await;
    assert_eq!(receipts(&hub).await.len(), 5);
    let detail: SiteDetail = hub.get(&route::fill(route::SITE, &["ship"])).await;
    assert_eq!((detail.site.connected, detail.site.freshness), (false, Freshness::Fresh));
    // The ports changed with the restart; the grant of a real site names fixed ones.
    site.grant.as_mut().unwrap().hubs[0].mqtt_port = hub.running().hub().ports().mqtt;
    site.connect(&hub).await;
    let assignment = site.assignment(0).await;
    assert_eq!(Some(assignment.counter()), assigned.sites[0].assignment);
}

#[tokio::test]
async fn gaps_are_shown_and_forks_set_the_site_aside() {
    use crate::api::types::{ChainInfo, Standing};
    let (hub, mut site) = fleet().await;
    site.connect(&hub).await;
    let [one, two, three] = [(); 3].map(|()| site.receipt(Outcome::Accepted));
    let ack = site.send(&site.batch(1, &[one, three])).await;
    assert_eq!(ack.receipts.map(|mark| mark.upto), Some(1), "nothing beyond the gap is acknowledged");
    let chains: Page<ChainInfo> = hub.get(route::CHAINS).await;
    assert_eq!((chains.items[0].head, chains.items[0].highest, chains.items[0].gap), (1, 3, Some((2, 2))));
    assert_eq!(receipts(&hub).await[0].link, ReceiptLink::AfterGap);

    let ack = site.send(&site.batch(3, &[two])).await;
    assert_eq!(ack.receipts.map(|mark| mark.upto), Some(3));
    let other = site.receipt_at(1, None, Outcome::Failed);
    let mut other_envelope = airlift_bundles::envelope::Envelope::draft(&other);
    other_envelope.sign(&site.key);
    site.send(&site.batch(4, &[other_envelope.to_json()])).await;
    let detail: SiteDetail = hub.get(&route::fill(route::SITE, &["ship"])).await;
    assert_eq!((detail.site.standing, detail.chains[0].fork), (Standing::Quarantined, Some(1)));
}

#[tokio::test]
async fn a_batch_under_another_key_is_not_acknowledged_as_success() {
    use airlift_bundles::limits::Limits;
    use rumqttc::v5::mqttbytes::v5::PubAckReason;
    let (hub, mut site) = fleet().await;
    site.connect(&hub).await;
    let receipt = site.receipt(Outcome::Healthy);
    let genuine = std::mem::replace(&mut site.key, crate::scratch::key(99));
    let forged = site.batch(1, &[receipt]);
    site.key = genuine;
    let payload = airlift_bundles::wire::frame(&forged, &Limits::DEFAULT).unwrap();
    let reason = site.say(Topic::Status(site.name()), payload).await;
    assert_ne!(reason, PubAckReason::Success);
    assert!(receipts(&hub).await.is_empty());
}
