//! What a site shows: its agent's own answer, and beside it what really is in its cluster.

use serde_json::Value;

use super::app::APP;

/// One look at a site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its agent answers.
    pub answers: bool,
    /// Its agent has a connection to the hub.
    pub connected: bool,
    /// State of the app, in the agent's word; empty where there is none.
    pub state: String,
    /// The version that it is about.
    pub version: String,
    /// The version that is assigned.
    pub target: String,
    /// The assigned generation failed here, and is not tried again.
    pub failed: bool,
    /// Why, where something is wrong.
    pub reason: String,
    /// Bytes here and wanted, while fetching.
    pub fetched: Option<(u64, u64)>,
    /// Receipts that the hub has not acknowledged.
    pub receipts_waiting: u64,
    /// Version of the pods in the cluster, how many are ready, how many there should be; `None` for a real cluster.
    pub pods: Option<(String, u64, u64)>,
}

impl Seen {
    /// Reads `airlift-agent status -o json`, and the cluster's own account where there is one.
    #[must_use]
    pub fn read(status: Option<&Value>, cluster: Option<&Value>) -> Self {
        let pods = cluster.map(|cluster| {
            let number = |name: &str| cluster[name].as_u64().unwrap_or_default();
            (text(&cluster["version"]), number("ready"), number("wanted"))
        });
        let Some(status) = status else { return Self { pods, ..Self::default() } };
        let apps = status["apps"].as_array().map(Vec::as_slice).unwrap_or_default();
        let none = Value::Null;
        let app = apps.iter().find(|app| app["app"] == APP).unwrap_or(&none);
        let state = text(&app["state"]);
        let reason = [text(&app["code"]), text(&app["reason"])].join(" ").trim().to_owned();
        Self {
            answers: true,
            connected: status["connected"] == true,
            state: state.clone(),
            version: text(&app["version"]),
            target: text(&app["target_version"]),
            // While work is going on, a code or reason says what it waits for.
            failed: matches!(state.as_str(), "healthy" | "refused" | "failed" | "degraded")
                && app["code"].is_string(),
            reason,
            fetched: app["fetched_bytes"].as_u64().zip(app["wanted_bytes"].as_u64()),
            receipts_waiting: status["receipts_waiting"].as_u64().unwrap_or_default(),
            pods,
        }
    }

    /// Whether the pods in the cluster are of this version and ready; taken as so where the cluster is real, because
    /// then only its agent is asked.
    #[must_use]
    pub fn pods_ready(&self, version: &str) -> bool {
        self.pods
            .as_ref()
            .is_none_or(|(seen, ready, wanted)| seen == version && ready == wanted && *ready > 0)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_that_does_not_answer_shows_nothing_but_its_cluster() {
        let cluster = json!({"version": "2.0.0", "ready": 2, "wanted": 2});
        let seen = Seen::read(None, Some(&cluster));
        assert!(!seen.answers && seen.pods_ready("2.0.0") && !seen.pods_ready("1.0.0"));
    }

    #[test]
    fn only_the_sample_app_is_read() {
        let status = json!({"connected": true, "receipts_waiting": 2, "apps": [
            {"app": "other", "state": "failed"},
            {"app": APP, "state": "fetching", "version": "1.0.0", "target_version": "1.0.0",
                "fetched_bytes": 1, "wanted_bytes": 4, "reason": "", "code": null},
        ]});
        let seen = Seen::read(Some(&status), None);
        assert!(seen.connected && !seen.failed);
        assert_eq!((seen.state.as_str(), seen.fetched, seen.receipts_waiting), ("fetching", Some((1, 4)), 2));
    }
}
