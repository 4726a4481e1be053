//! The HTTPS listener: `/api/v1` for people and their tools, `/enrol/v1` for sites that join, and health.

mod blobs;
mod broker;
mod enrol;
mod health;
pub mod media;
pub mod orders;
mod problem;
mod receipts;
pub mod reconcile;
pub mod releases;
mod requests;
pub mod roots;
pub mod sites;
mod tokens;
pub mod types;
pub mod view;

use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::ids::Sha256Digest;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use types::route;

use crate::db::DbError;
use crate::db::rows::tokens as token_rows;
use crate::server::Hub;
pub use problem::ApiError;

/// A JSON request: more than any document with its envelope's base64.
const JSON_BYTES_MAX: usize = 4 << 20;
/// What a stick brought back, in one request.
const MEDIA_BYTES_MAX: usize = 10 << 20;
/// An enrolment request of a stranger.
const ENROL_BYTES_MAX: usize = 64 << 10;

/// Who asks: the name of the token.
#[derive(Debug, Clone)]
pub(crate) struct Actor(pub(crate) String);

/// The listener's routes.
pub fn router(hub: Arc<Hub>) -> Router {
    let api = Router::new()
        .route(route::HUB, get(sites::hub_info))
        .route(route::ROOTS, get(roots::list).post(roots::publish))
        .route(route::ROOT, get(roots::envelope))
        .route(route::RELEASES, get(releases::list).post(releases::publish))
        .route(route::RELEASE, get(releases::show))
        .route(route::RELEASE_ENVELOPE, get(releases::envelope))
        .route(route::SITES, get(sites::list))
        .route(route::SITE, get(sites::show))
        .route(route::SITE_LABELS, post(sites::label))
        .route(route::SITE_REVOKE, post(sites::revoke))
        .route(route::SITE_ASSIGNMENT, get(sites::assignment))
        .route(route::TOKENS, get(tokens::list).post(tokens::create))
        .route(route::TOKEN, delete(tokens::remove))
        .route(route::REQUESTS, get(requests::list))
        .route(route::REQUEST_APPROVE, post(requests::approve))
        .route(route::REQUEST_REJECT, post(requests::reject))
        .route(route::ASSIGNMENTS, post(orders::assign))
        .route(route::RETIREMENTS, post(orders::retire))
        .route(route::RECEIPTS, get(receipts::list))
        .route(route::CHAINS, get(receipts::chains))
        .route(route::MEDIA_EXPORT, post(media::export))
        .route(route::RECONCILE, post(reconcile::reconcile))
        .route(route::BROKER_TRY, post(broker::try_it))
        .route(route::AUDIT, get(receipts::audit))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .route(route::MEDIA_IMPORT, post(media::import).layer(DefaultBodyLimit::max(MEDIA_BYTES_MAX)))
        .route(
            route::BLOB,
            get(blobs::download).head(blobs::look).put(blobs::upload).layer(DefaultBodyLimit::disable()),
        )
        .layer(from_fn_with_state(Arc::clone(&hub), authorise));
    let enrolment = Router::new()
        .route(airlift_bundles::join::PATH, post(enrol::request))
        .route(&format!("{}/{{nonce}}", airlift_bundles::join::PATH), get(enrol::ask))
        .layer(DefaultBodyLimit::max(ENROL_BYTES_MAX));
    let health = Router::new()
        .route("/livez", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics));
    api.merge(enrolment).merge(health).fallback(no_such_path).with_state(hub)
}

async fn no_such_path() -> ApiError {
    ApiError::new(Code::NotFound, "no such path")
}

/// Lets a request pass whose token the hub knows; everything under `/api/v1` goes through here.
async fn authorise(State(hub): State<Arc<Hub>>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    let Some(token) = token else {
        return ApiError::new(Code::NotAuthorised, "the request carries no bearer token").into_response();
    };
    let sha256 = Sha256Digest::of(token.as_bytes());
    let known = hub.db.read(move |connection| Ok::<_, DbError>(token_rows::api_name(connection, &sha256)?));
    match known.await {
        Ok(Some(name)) => {
            request.extensions_mut().insert(Actor(name));
            next.run(request).await
        }
        Ok(None) => ApiError::new(Code::NotAuthorised, "the hub does not know this token").into_response(),
        Err(error) => ApiError::from(error).into_response(),
    }
}

#[cfg(test)]
mod tests;
