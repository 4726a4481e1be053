//! The online way: post the request, ask by nonce until it is decided.

use std::time::Duration;

use airlift_bundles::code::Code;
use airlift_bundles::ids::RandomId;
use airlift_bundles::join::{self, JoinReply};
use hyper::{Method, StatusCode};

use crate::http::{Endpoint, HttpError};

/// Largest answer: a grant and a long chain of roots.
const REPLY_BYTES_MAX: usize = 16 << 20;
/// Bounds on the pause between two questions, whatever the hub says.
const PAUSE_S: std::ops::RangeInclusive<u64> = 1..=60;

/// Why the hub did not grant.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The hub cannot be reached; it is safe to try again.
    #[error("hub did not answer")]
    Http(#[from] HttpError),
    /// The hub refused the request.
    #[error("hub refused the request ({status}): {detail}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The code that the hub gave.
        code: Option<Code>,
        /// The hub's words.
        detail: String,
    },
    /// A person refused the request.
    #[error("enrolment was rejected: {0}")]
    Rejected(String),
    /// The answer is not one.
    #[error("hub's answer is not readable: {0}")]
    Reply(String),
}

/// What an online enrolment yields, not verified yet.
#[derive(Debug)]
pub struct Granted {
    /// Envelopes of the roots from version 1 on.
    pub roots: Vec<Vec<u8>>,
    /// Envelope of the grant.
    pub grant: Vec<u8>,
}

/// Posts `request` and waits for the decision; `waiting` is told the fingerprint each time that the hub says wait.
///
/// # Errors
/// [`JoinError`].
pub async fn join(
    hub: &Endpoint,
    request: Vec<u8>,
    nonce: &RandomId,
    mut waiting: impl FnMut(&str),
) -> Result<Granted, JoinError> {
    let mut reply = exchange(hub, Method::POST, join::PATH, request).await?;
    loop {
        match reply {
            JoinReply::Granted { roots, grant, .. } => {
                let bytes = |raw: &serde_json::value::RawValue| raw.get().as_bytes().to_vec();
                return Ok(Granted {
                    roots: roots.iter().map(|raw| bytes(raw)).collect(),
                    grant: bytes(&grant),
                });
            }
            JoinReply::Rejected { reason } => return Err(JoinError::Rejected(reason)),
            JoinReply::Waiting { fingerprint, retry_after_s } => {
                waiting(&fingerprint);
                let pause_s = retry_after_s.clamp(*PAUSE_S.start(), *PAUSE_S.end());
                tokio::time::sleep(Duration::from_secs(pause_s)).await;
                reply = exchange(hub, Method::GET, &format!("{}/{nonce}", join::PATH), Vec::new()).await?;
            }
        }
    }
}

async fn exchange(hub: &Endpoint, method: Method, path: &str, body: Vec<u8>) -> Result<JoinReply, JoinError> {
    let (status, answer) = hub.send(method, path, body, REPLY_BYTES_MAX).await?;
    if status.is_success() {
        return serde_json::from_slice(&answer).map_err(|error| JoinError::Reply(error.to_string()));
    }
    let problem: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    let text = |field: &str| problem.get(field).and_then(serde_json::Value::as_str).map(str::to_owned);
    let code = text("code").and_then(|code| Code::find(&code));
    Err(JoinError::Refused { status, code, detail: text("detail").unwrap_or_default() })
}
