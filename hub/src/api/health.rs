//! Health, for whoever keeps the hub running; no token is needed, and no site is named.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::problem::ApiError;
use super::sites::count_sites;
use crate::db::DbError;
use crate::db::rows::meta;
use crate::publish::endpoint::TurnedAway;
use crate::server::Hub;

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The database answers, and the endpoint is open.
pub(super) async fn ready(State(hub): State<Arc<Hub>>) -> Response {
    let stored = hub.db.read(|connection| Ok::<_, DbError>(meta::must_reconcile(connection)?)).await;
    let reconcile = match &stored {
        Ok(true) => "needed: nothing is published (AL0807)",
        Ok(false) => "not needed",
        Err(_) => "unknown",
    };
    let word = |good: bool| if good { "ok" } else { "failed" };
    let (database, endpoint) = (stored.is_ok(), hub.line().is_some());
    let director = if hub.may_direct() { "in the newest root" } else { "not in the newest root" };
    let text = format!(
        "database {}\nmqtt {}\ndirector {director}\nreconcile {reconcile}\n",
        word(database),
        word(endpoint)
    );
    let status = if database && endpoint { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

/// Counts in the text format of Prometheus; none has a label per site.
pub(super) async fn metrics(State(hub): State<Arc<Hub>>) -> Result<Response, ApiError> {
    let counts = count_sites(&hub).await?;
    let endpoint = hub.line().map(|line| line.publisher.counts()).unwrap_or_default();
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let build = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    metric("airlift_build_info", "gauge", "The program's version.", &[(&build, 1)]);
    let states = [
        ("{state=\"healthy\"}", counts.healthy),
        ("{state=\"progressing\"}", counts.progressing),
        ("{state=\"troubled\"}", counts.troubled),
        ("{state=\"stale\"}", counts.stale),
        ("{state=\"quarantined\"}", counts.quarantined),
    ];
    metric("airlift_hub_sites", "gauge", "Sites by state; each stands in one.", &states);
    metric("airlift_hub_sites_connected", "gauge", "Sites connected over MQTT.", &[("", counts.connected)]);
    let messages = [("{result=\"accepted\"}", endpoint.accepted), ("{result=\"refused\"}", endpoint.refused)];
    metric("airlift_hub_messages_total", "counter", "Messages of sites.", &messages);
    let connections = [
        ("{result=\"accepted\"}", endpoint.connected),
        ("{result=\"turned_away\"}", endpoint.turned_away.all()),
    ];
    metric("airlift_hub_connections_total", "counter", "MQTT connections.", &connections);
    let TurnedAway { no_room_to_wait, handshake, refused, too_often, no_place } = endpoint.turned_away;
    let reasons = [
        ("{why=\"no_room_to_wait\"}", no_room_to_wait),
        ("{why=\"handshake\"}", handshake),
        ("{why=\"refused\"}", refused),
        ("{why=\"too_often\"}", too_often),
        ("{why=\"no_place\"}", no_place),
    ];
    let help = "MQTT connections that were turned away, by reason.";
    metric("airlift_hub_connections_turned_away_total", "counter", help, &reasons);
    let help = "MQTT connections that were ended because nothing was read from them.";
    metric("airlift_hub_connections_stalled_total", "counter", help, &[("", endpoint.stalled)]);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
