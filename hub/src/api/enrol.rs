//! `/enrol/v1`: sites that join, before they have a certificate.

use std::sync::Arc;
use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::ids::RandomId;
use airlift_bundles::join::JoinReply;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use tokio::time::timeout;

use super::problem::ApiError;
use crate::db::rows::enrolments::{self, EnrolmentRow, EnrolmentState};
use crate::publish;
use crate::server::Hub;

/// Longest that a body may take: a few kilobytes over the thinnest line. Strangers speak here, and each of them holds one
/// of the places for connections meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes a request: its envelope is the body.
pub(super) async fn request(
    State(hub): State<Arc<Hub>>,
    request: Request,
) -> Result<Json<JoinReply>, Response> {
    let body = read_body(request, PATIENCE).await?;
    receive(&hub, body).await.map_err(ApiError::into_response)
}

/// Reads a whole body of allowed length, or gives it up.
pub(super) async fn read_body(request: Request, patience: Duration) -> Result<Bytes, Response> {
    match timeout(patience, Bytes::from_request(request, &())).await {
        Ok(read) => read.map_err(axum::extract::rejection::BytesRejection::into_response),
        Err(_) => {
            let late = format!("the request was not complete after {} s", patience.as_secs());
            Err(ApiError::new(Code::RequestInvalid, late).into_response())
        }
    }
}

async fn receive(hub: &Arc<Hub>, body: Bytes) -> Result<Json<JoinReply>, ApiError> {
    let hub_in = Arc::clone(hub);
    let taken = hub.db.write(move |connection| {
        let now = hub_in.clock.now();
        Ok::<_, ApiError>(crate::enrol::receive(connection, &hub_in, &body, "https", &now)?)
    });
    let row = taken.await?;
    learn(hub, &row).await?;
    answer(hub, row).await
}

/// Learns the keys of a site that was just granted, and publishes its first assignment.
pub(super) async fn learn(hub: &Hub, row: &EnrolmentRow) -> Result<(), ApiError> {
    if let EnrolmentState::Granted(site, _) = &row.state {
        if let Some(line) = hub.line() {
            line.publisher.disconnect(site);
        }
        hub.reload_site(site).await?;
        publish::wake(hub);
    }
    Ok(())
}

/// Says what became of a request.
pub(super) async fn ask(
    State(hub): State<Arc<Hub>>,
    Path(nonce): Path<String>,
) -> Result<Json<JoinReply>, ApiError> {
    let nonce = RandomId::new(&nonce)?;
    let found = hub.db.read(move |connection| {
        let row = enrolments::find(connection, &nonce)?;
        row.ok_or_else(|| ApiError::new(Code::NotFound, format!("no request {nonce}")))
    });
    let row = found.await?;
    answer(&hub, row).await
}

async fn answer(hub: &Hub, row: EnrolmentRow) -> Result<Json<JoinReply>, ApiError> {
    let reply = hub.db.read(move |connection| Ok::<_, ApiError>(crate::enrol::reply(connection, &row)?));
    reply.await.map(Json)
}
