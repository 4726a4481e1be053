//! Uploads that break off, lie, or repeat; releases whose blobs are missing.

use crate::api::types::{Problem, ReleaseInfo, route};
use crate::scratch::ScratchHub;
use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use hyper::{Method, StatusCode};

fn path(digest: &Sha256Digest, query: &str) -> String {
    format!("{}{query}", route::fill(route::BLOB, &[&digest.to_hex()]))
}

#[tokio::test]
async fn an_upload_goes_on_where_it_broke_off() {
    let hub = ScratchHub::start().await;
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    let digest = Sha256Digest::of(&bytes);
    let (first, rest) = bytes.split_at(300_000);
    let size = bytes.len();
    let (status, headers, _) =
        hub.call(Method::PUT, &path(&digest, &format!("?size={size}")), first.to_vec()).await;
    assert_eq!((status, headers["upload-offset"].to_str().unwrap()), (StatusCode::CONFLICT, "300000"));
    let (status, headers, _) = hub.call(Method::HEAD, &path(&digest, ""), vec![]).await;
    assert_eq!((status, headers["upload-offset"].to_str().unwrap()), (StatusCode::NOT_FOUND, "300000"));
    let query = format!("?size={size}&offset=299999");
    let (status, headers, _) = hub.call(Method::PUT, &path(&digest, &query), rest.to_vec()).await;
    assert_eq!((status, headers["upload-offset"].to_str().unwrap()), (StatusCode::CONFLICT, "300000"));
    let query = format!("?size={size}&offset=300000");
    let (status, ..) = hub.call(Method::PUT, &path(&digest, &query), rest.to_vec()).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, headers, _) = hub.call(Method::HEAD, &path(&digest, ""), vec![]).await;
    assert_eq!((status, headers["content-length"].to_str().unwrap()), (StatusCode::OK, "800000"));
    let (_, _, body) = hub.call(Method::GET, &path(&digest, "?offset=799000"), vec![]).await;
    assert_eq!(body, bytes[799_000..]);
}

#[tokio::test]
async fn bytes_of_another_digest_are_never_visible() {
    let hub = ScratchHub::start().await;
    let digest = Sha256Digest::of(b"truth");
    let (status, _, body) = hub.call(Method::PUT, &path(&digest, "?size=5"), b"lies!".to_vec()).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, problem.code), (StatusCode::UNPROCESSABLE_ENTITY, Code::BlobDigest));
    assert_eq!(hub.call(Method::GET, &path(&digest, ""), vec![]).await.0, StatusCode::NOT_FOUND);
    let (status, _, body) = hub.call(Method::PUT, &path(&digest, "?size=4"), b"truth".to_vec()).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, problem.code), (StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge));
    assert_eq!(
        hub.call(Method::PUT, &path(&digest, "?size=5"), b"truth".to_vec()).await.0,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_release_waits_for_its_blobs_and_its_number_is_taken_once() {
    let hub = ScratchHub::start().await;
    let app = hub.pack("web", 1);
    let (status, _, body) = hub.call(Method::POST, route::RELEASES, app.release.clone()).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, problem.code), (StatusCode::CONFLICT, Code::ContentMissing));
    assert_eq!(problem.missing, [app.statement.bundle()], "the index leads to the rest");
    hub.publish(&app).await;
    hub.publish(&app).await;
    let info: ReleaseInfo =
        hub.get(&route::fill(route::RELEASE, &[&Sha256Digest::of(&payload(&app.release)).to_hex()])).await;
    assert_eq!(info.signers, [crate::scratch::key(2).public().key_id()]);

    let mut other = app.statement.clone();
    other.predicate.floor = 1;
    let mut envelope = airlift_bundles::envelope::Envelope::draft(&other);
    envelope.sign(&crate::scratch::key(2));
    let (status, _, body) = hub.call(Method::POST, route::RELEASES, envelope.to_json()).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, problem.code), (StatusCode::CONFLICT, Code::ReleaseEqualButDifferent));
}

#[tokio::test]
async fn a_release_that_its_role_did_not_sign_is_refused() {
    let hub = ScratchHub::start().await;
    let app = hub.pack("web", 1);
    let mut envelope = airlift_bundles::envelope::Envelope::draft(&app.statement);
    envelope.sign(&crate::scratch::key(1));
    let (status, _, body) = hub.call(Method::POST, route::RELEASES, envelope.to_json()).await;
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, problem.code), (StatusCode::UNPROCESSABLE_ENTITY, Code::TooFewSignatures));
}

fn payload(envelope: &[u8]) -> Vec<u8> {
    let limits = airlift_bundles::limits::Limits::DEFAULT;
    airlift_bundles::envelope::Envelope::parse(envelope, &limits).unwrap().payload_unverified().to_vec()
}
