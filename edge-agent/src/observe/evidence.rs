//! Evidence: the lines that tell somebody far away why an object is not well.
//!
//! Most telling first, so that the cut at the end costs the least: why containers wait, how they ended, what the
//! cluster warned of, and the last lines that they logged.

use airlift_bundles::document::receipt::Evidence;
use airlift_bundles::limits::Limits;
use serde::Deserialize;

use super::pod::Pod;

/// Bytes of one line: two sentences of a server's message; a stack trace in one line must not fill everything.
const LINE_BYTES_MAX: usize = 600;
/// Bytes of a reason, which is one word.
const WORD_BYTES_MAX: usize = 64;
/// Warnings that are told; a failing probe repeats one event, so few differ.
const WARNINGS_MAX: usize = 8;

/// A warning event, as far as it is told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Warning {
    involved_object: Involved,
    reason: String,
    message: String,
    count: u64,
    last_timestamp: Option<String>,
    event_time: Option<String>,
    series: Option<Series>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    count: u64,
    last_observed_time: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Involved {
    kind: String,
    namespace: String,
    name: String,
}

impl Warning {
    /// Whether it is about the object of that name, or about something that a controller made for it.
    #[must_use]
    pub fn concerns(&self, name: &str) -> bool {
        let rest = self.involved_object.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    fn times(&self) -> u64 {
        self.count.max(self.series.as_ref().map_or(1, |series| series.count)).max(1)
    }

    /// When it was last seen, in a form that sorts.
    fn moment(&self) -> &str {
        let series = self.series.as_ref().and_then(|series| series.last_observed_time.as_deref());
        series.or(self.last_timestamp.as_deref()).or(self.event_time.as_deref()).unwrap_or("")
    }
}

/// The last lines of one container.
#[derive(Debug, Clone)]
pub struct LogTail {
    /// Its pod's namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// They are of the run before, which ended.
    pub previous: bool,
    /// The lines.
    pub text: String,
}

/// Joins the evidence on one object, at most as much as a receipt may carry.
#[must_use]
pub fn compose(
    object: &str,
    reason: &str,
    pods: &[Pod],
    mut warnings: Vec<Warning>,
    logs: &[LogTail],
) -> Vec<Evidence> {
    let mut found = Vec::new();
    let mut tell = |object: String, reason: &str, message: &str| {
        let message = clean(message);
        if !(reason.is_empty() && message.is_empty()) {
            found.push(Evidence { object, reason: clip(reason, WORD_BYTES_MAX).to_owned(), message });
        }
    };
    tell(object.to_owned(), "NotHealthy", reason);
    for pod in pods.iter().filter(|pod| !pod.is_ready()) {
        let name = format!("Pod {}/{}", pod.namespace(), pod.name());
        if let Some((reason, message)) = pod.unscheduled() {
            tell(name.clone(), reason, message);
        }
        for container in pod.containers() {
            if let Some(waiting) = &container.state.waiting {
                tell(
                    name.clone(),
                    &waiting.reason,
                    &format!("container {}: {}", container.name, waiting.message),
                );
            }
            for (when, state) in [("ended", &container.state), ("ended before", &container.last_state)] {
                let Some(end) = &state.terminated else { continue };
                let signal = if end.signal > 0 { format!(", signal {}", end.signal) } else { String::new() };
                let (code, message) = (end.exit_code, end.message.trim());
                let words = format!("container {} {when} with {code}{signal} {message}", container.name);
                tell(name.clone(), &end.reason, &words);
            }
        }
    }
    warnings.sort_by(|a, b| b.moment().cmp(a.moment()));
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let Involved { kind, namespace, name } = &warning.involved_object;
        let count = warning.times();
        tell(
            format!("{kind} {namespace}/{name}"),
            &warning.reason,
            &format!("{} (×{count})", warning.message),
        );
    }
    for tail in logs {
        let word = if tail.previous { "LogBefore" } else { "Log" };
        for line in tail.text.lines() {
            tell(
                format!("Pod {}/{}", tail.namespace, tail.pod),
                word,
                &format!("{}: {line}", tail.container),
            );
        }
    }
    Evidence::bounded(found, &Limits::DEFAULT)
}

/// One line without control characters, within its bound.
fn clean(message: &str) -> String {
    let line: String = message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clip(line.trim(), LINE_BYTES_MAX).to_owned()
}

/// The longest beginning of `text` within `bytes_max`, cut between characters.
#[must_use]
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}
