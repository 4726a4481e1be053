//! The hub as a whole: real TLS, real HTTP, real MQTT clients.

mod blobs;
mod enrolment;
mod line;
mod orders;
mod recovery;
mod rotation;

use crate::api::types::{HubInfo, Problem, route};
use crate::scratch::{ScratchHub, ScratchSite};
use airlift_bundles::code::Code;
use hyper::{Method, StatusCode};

#[tokio::test]
async fn without_a_token_the_api_says_nothing() {
    let hub = ScratchHub::start().await;
    for token in [None, Some("airlift-api.00"), Some("")] {
        let (status, headers, body) = hub.request(Method::GET, route::HUB, token, vec![]).await;
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, problem.code), (StatusCode::UNAUTHORIZED, Code::NotAuthorised));
        assert_eq!(headers["content-type"], "application/problem+json");
    }
    let info: HubInfo = hub.get(route::HUB).await;
    assert!(info.director_in_root && !info.reconcile_needed);
    assert_eq!((info.root_version, info.sites.total), (Some(1), 0));
}

#[tokio::test]
async fn health_needs_no_token_and_names_no_site() {
    let hub = ScratchHub::start().await;
    let mut site = ScratchSite::new(7);
    site.enrol(&hub, &hub.token("ship").await).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let (status, _, body) = hub.request(Method::GET, path, None, vec![]).await;
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        assert!(!text.contains("ship"), "{text}");
    }
    let (_, _, body) = hub.request(Method::GET, "/metrics", None, vec![]).await;
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(text.contains("airlift_hub_sites{state=\"stale\"} 1\n"), "never heard of is not healthy: {text}");
}
