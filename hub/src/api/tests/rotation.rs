//! New roots: releases that are signed again, and what a thief of the director's key left behind.

use crate::api::types::{Assigned, HubInfo, MediaFile, MediaImport, MediaImported, RootList, route};
use crate::init::read_director;
use crate::plan::sign::read_own;
use crate::scratch::{ScratchHub, ScratchSite, key, signed};
use airlift_bundles::code::Code;
use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::document::root::Root;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::limits::Limits;
use airlift_bundles::media::MediaName;
use hyper::{Method, StatusCode};
use serde_json::json;

async fn fleet() -> ScratchHub {
    let hub = ScratchHub::start().await;
    let mut site = ScratchSite::new(7);
    site.enrol(&hub, &hub.token("ship").await).await;
    hub
}

/// Publishes a root that follows the first.
async fn change_root(hub: &ScratchHub, change: impl FnOnce(&mut Root)) {
    let first = Envelope::parse(&hub.root, &Limits::DEFAULT).unwrap();
    let mut root: Root = first.read_unverified(&Limits::DEFAULT).unwrap();
    (root.version, root.prev_sha256) = (2, Some(first.digest()));
    change(&mut root);
    let envelope: serde_json::Value = serde_json::from_slice(&signed(&root, &key(1))).unwrap();
    let _: RootList = hub.post(route::ROOTS, &json!({"roots": [envelope]})).await;
}

async fn assignment_of(hub: &ScratchHub) -> Assignment {
    let (_, _, envelope) =
        hub.call(Method::GET, &route::fill(route::SITE_ASSIGNMENT, &["ship"]), vec![]).await;
    read_own(&envelope).unwrap()
}

#[tokio::test]
async fn a_release_of_keys_that_were_replaced_is_not_assigned_until_it_is_signed_again() {
    let hub = fleet().await;
    let app = hub.pack("web", 1);
    hub.publish(&app).await;
    change_root(&hub, |root| {
        root.keys.remove(&key(2).public().key_id());
        root.keys.insert(key(12).public().key_id(), key(12).public());
        root.roles.releases[0].keyids = vec![key(12).public().key_id()];
    })
    .await;
    let order = json!({"app": "web", "release": {"seq": 1}, "sites": {"names": ["ship"]}});
    let refused = hub.try_post::<Assigned>(route::ASSIGNMENTS, &order).await.unwrap_err();
    assert_eq!(refused.code, Code::TooFewSignatures, "sites would refuse it too");

    let again = signed(&app.statement, &key(12));
    let (status, _, body) = hub.call(Method::POST, route::RELEASES, again.clone()).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let assigned: Assigned = hub.post(route::ASSIGNMENTS, &order).await;
    let path = route::fill(route::RELEASE_ENVELOPE, &[&assigned.release.unwrap().to_hex()]);
    let (_, _, served) = hub.call(Method::GET, &path, vec![]).await;
    assert_eq!(served, again, "sites are given the new signatures");
}

#[tokio::test]
async fn a_root_with_a_greater_epoch_leaves_a_thiefs_word_behind() {
    let hub = fleet().await;
    hub.publish(&hub.pack("web", 1)).await;
    hub.assign("web", "ship").await;
    let mut word = assignment_of(&hub).await;
    (word.assignment_seq, word.desired) = ((1 << 53) - 1, Vec::new());
    let stolen = read_director(&hub.data()).unwrap();
    let name = MediaName::Assignment(word.site.clone()).to_string();
    let text = String::from_utf8(signed(&word, &stolen)).unwrap();
    let import = MediaImport { files: vec![MediaFile { name, text }] };
    let _: MediaImported = hub.post(route::MEDIA_IMPORT, &import).await;
    assert!(hub.get::<HubInfo>(route::HUB).await.reconcile_needed);

    change_root(&hub, |root| root.roles.director.epoch = 1).await;
    assert!(!hub.get::<HubInfo>(route::HUB).await.reconcile_needed, "there is nothing to adopt");
    let next = assignment_of(&hub).await;
    assert_eq!((next.epoch, next.desired.len()), (1, 1), "what its people wanted is signed anew");
}
