//! `/enrol/v1`: sites that join, before they have a certificate.

use std::sync::Arc;

use airlift_bundles::code::Code;
use airlift_bundles::ids::RandomId;
use airlift_bundles::join::JoinReply;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

use super::problem::ApiError;
use crate::db::rows::enrolments::{self, EnrolmentRow, EnrolmentState};
use crate::publish;
use crate::server::Hub;

/// Takes a request: its envelope is the body.
pub(super) async fn request(State(hub): State<Arc<Hub>>, body: Bytes) -> Result<Json<JoinReply>, ApiError> {
    let hub_in = Arc::clone(&hub);
    let taken = hub.db.write(move |connection| {
        let now = hub_in.clock.now();
        Ok::<_, ApiError>(crate::enrol::receive(connection, &hub_in, &body, "https", &now)?)
    });
    let row = taken.await?;
    learn(&hub, &row).await?;
    answer(&hub, row).await
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
