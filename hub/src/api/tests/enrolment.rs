//! Joining: by token, by a person's word, and what is refused.

use crate::api::types::{
    Approve, Approved, Page, Problem, RequestInfo, RevokeSite, SiteInfo, Standing, TokenInfo, route,
};
use crate::scratch::{ScratchHub, ScratchSite};
use airlift_bundles::code::Code;
use airlift_bundles::envelope::Envelope;
use airlift_bundles::ids::Sha256Digest;
use airlift_bundles::join::{EnrolmentToken, JoinReply, PATH};
use airlift_bundles::limits::Limits;
use hyper::{Method, StatusCode};

fn root_sha256(hub: &ScratchHub) -> Sha256Digest {
    Envelope::parse(&hub.root, &Limits::DEFAULT).unwrap().digest()
}

async fn refusal(hub: &ScratchHub, request: Vec<u8>) -> Code {
    let (status, _, body) = hub.request(Method::POST, PATH, None, request).await;
    assert!(status.is_client_error(), "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice::<Problem>(&body).unwrap().code
}

async fn ask(hub: &ScratchHub, request: Vec<u8>) -> JoinReply {
    let (status, _, body) = hub.request(Method::POST, PATH, None, request).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn a_token_works_once_and_only_for_who_proves_it() {
    let hub = ScratchHub::start().await;
    let token = EnrolmentToken::parse(&hub.token("ship").await).unwrap();
    let guessed = EnrolmentToken { secret: [0; 32], ..token.clone() };
    let root = root_sha256(&hub);
    assert_eq!(refusal(&hub, ScratchSite::new(1).request(root, Some(&guessed))).await, Code::TokenRefused);

    let first = ScratchSite::new(2).request(root, Some(&token));
    assert!(matches!(ask(&hub, first.clone()).await, JoinReply::Granted { .. }));
    assert!(matches!(ask(&hub, first).await, JoinReply::Granted { .. }), "the same request may ask again");
    assert_eq!(refusal(&hub, ScratchSite::new(3).request(root, Some(&token))).await, Code::TokenRefused);
    let tokens: Page<TokenInfo> = hub.get(route::TOKENS).await;
    assert_eq!(tokens.items[0].used_by.as_ref().map(|site| site.as_str()), Some("ship"));
}

#[tokio::test]
async fn a_request_without_a_token_waits_for_a_person_who_compares() {
    let hub = ScratchHub::start().await;
    let site = ScratchSite::new(4);
    let request = site.request(root_sha256(&hub), None);
    assert!(matches!(ask(&hub, request.clone()).await, JoinReply::Waiting { .. }));
    let waiting: Page<RequestInfo> = hub.get(route::REQUESTS).await;
    let waiting = &waiting.items[0];
    let approve = |fingerprint: &str| Approve {
        fingerprint: fingerprint.to_owned(),
        site: Some("ship".parse().unwrap()),
        labels: [("kind".to_owned(), "ship".to_owned())].into(),
        contact: None,
        replace: false,
    };
    let path = route::fill(route::REQUEST_APPROVE, &[waiting.nonce.as_str()]);
    let wrong = hub.try_post::<Approved>(&path, &approve("0000-0000")).await.unwrap_err();
    assert_eq!(wrong.code, Code::RequestInvalid);
    let typed = waiting.fingerprint.to_uppercase().replace('-', " ");
    let approved: Approved = hub.post(&path, &approve(&typed)).await;
    assert_eq!((approved.site.as_str(), approved.incarnation), ("ship", 1));
    let JoinReply::Granted { grant, .. } = ask(&hub, request).await else { panic!("not granted") };
    let mut site = site;
    site.take_grant(grant.get());
    site.connect(&hub).await;
}

#[tokio::test]
async fn strangers_to_the_fleet_are_refused() {
    let hub = ScratchHub::start().await;
    let site = ScratchSite::new(5);
    let elsewhere = site.request(Sha256Digest::of(b"another first root"), None);
    assert_eq!(refusal(&hub, elsewhere).await, Code::OtherFleet);
    let mut forged = site.request(root_sha256(&hub), None);
    let at = forged.windows(5).position(|window| window == b"\"sig\"").unwrap() + 8;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    assert_eq!(refusal(&hub, forged).await, Code::TooFewSignatures);
    assert_eq!(refusal(&hub, b"{}".to_vec()).await, Code::EnvelopeMalformed);
    let (status, ..) = hub.request(Method::POST, PATH, None, vec![b' '; 100 << 10]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// A body that never ends, and of which nothing comes.
struct Drip;

impl hyper::body::Body for Drip {
    type Data = hyper::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn a_request_that_comes_too_slowly_is_given_up() {
    let request = hyper::Request::post(PATH).body(axum::body::Body::new(Drip)).unwrap();
    let patience = std::time::Duration::from_millis(50);
    let refused = crate::api::enrol::read_body(request, patience).await.unwrap_err();
    let body = axum::body::to_bytes(refused.into_body(), 1 << 10).await.unwrap();
    assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap().code, Code::RequestInvalid);
}

#[tokio::test]
async fn a_site_that_enrols_again_leaves_its_old_key_behind() {
    let hub = ScratchHub::start().await;
    let (mut old, mut new) = (ScratchSite::new(6), ScratchSite::new(7));
    old.enrol(&hub, &hub.token("ship").await).await;
    old.connect(&hub).await;
    let before = old.assignment(0).await;
    new.enrol(&hub, &hub.token("ship").await).await;
    let grant = new.grant.as_ref().unwrap();
    assert_eq!((grant.incarnation, grant.minimum), (2, before.counter()));
    new.connect(&hub).await;
    let after = new.assignment(before.assignment_seq).await;
    assert_eq!(after.incarnation, 2);
    let keys = hub.running().hub().site_keys(&new.name());
    assert_eq!(
        keys.iter().map(|key| (key.incarnation, key.revoked)).collect::<Vec<_>>(),
        [(2, false), (1, true)]
    );
}

#[tokio::test]
async fn a_revoked_site_is_cut_off() {
    let hub = ScratchHub::start().await;
    let mut site = ScratchSite::new(8);
    site.enrol(&hub, &hub.token("ship").await).await;
    site.connect(&hub).await;
    let path = route::fill(route::SITE_REVOKE, &["ship"]);
    let shown: SiteInfo = hub.post(&path, &RevokeSite { reason: "stolen".into() }).await;
    assert_eq!(shown.standing, Standing::Revoked);
    assert!(hub.running().hub().connected().is_empty());
    let keys = hub.running().hub().site_keys(&site.name());
    assert!(keys.iter().all(|key| key.revoked));
}
