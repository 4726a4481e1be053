//! Trying whether the broker between hub and sites keeps them apart.

use std::sync::Arc;

use airlift_bundles::code::Code;
use axum::Json;
use axum::extract::State;

use super::problem::ApiError;
use super::types::BrokerTried;
use crate::publish::broker::{ProbeError, try_broker};
use crate::publish::outlet::Outlet;
use crate::server::Hub;

pub(super) async fn try_it(State(hub): State<Arc<Hub>>) -> Result<Json<BrokerTried>, ApiError> {
    let (Some(Outlet::Broker(broker)), Some(place)) =
        (hub.line().map(|line| &line.publisher), &hub.config.broker)
    else {
        return Err(ApiError::new(Code::Conflict, "no broker stands between this hub and its sites"));
    };
    let checks = try_broker(&hub, broker, place).await.map_err(|error| match error {
        ProbeError::Busy => ApiError::new(Code::Conflict, error.to_string()),
        ProbeError::Tls(_) => ApiError::new(Code::StoreFailed, error.to_string()),
    })?;
    Ok(Json(BrokerTried { broker: place.to_string(), checks }))
}
