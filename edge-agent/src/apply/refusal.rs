//! Sorts the API server's refusals by what to do about them.

use hyper::StatusCode;
use serde::Deserialize;

use crate::core::api::{ApiError, ApiErrorClass};
use crate::observe::evidence::clip;

/// Bytes of a server's message that are kept: an admission webhook may answer with a whole policy.
const MESSAGE_BYTES_MAX: usize = 1024;

/// How an API server says that the object of a name is another one: before, at and after its storage.
const OTHER_UID: [&str; 3] = ["UID in the precondition", "Precondition failed: UID", "uid mismatch"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    reason: String,
    message: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    name: String,
    causes: Vec<Cause>,
    retry_after_seconds: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    field: String,
}

/// Reads a refusal: the status, the `Retry-After` header in seconds, and the body, which should be a `Status`.
#[must_use]
pub fn classify(code: StatusCode, retry_after_s: Option<u64>, body: &[u8]) -> ApiError {
    let status: Option<Status> = serde_json::from_slice(body).ok();
    let is_status = status.as_ref().is_some_and(|status| !status.reason.is_empty());
    let status = status.unwrap_or_default();
    let message =
        if status.message.is_empty() { String::from_utf8_lossy(body).into_owned() } else { status.message };
    let has_cause = |reason: &str| status.details.causes.iter().any(|cause| cause.reason == reason);
    let class = match code.as_u16() {
        429 => {
            let seconds = retry_after_s.unwrap_or(status.details.retry_after_seconds);
            ApiErrorClass::Throttled { retry_after_ms: seconds.saturating_mul(1000) }
        }
        // Credentials were read again before this was given up: somebody must replace them, or K3s is starting.
        401 => ApiErrorClass::Unavailable,
        403 if has_cause("NamespaceTerminating") || message.contains("because it is being terminated") => {
            ApiErrorClass::Retryable
        }
        // The plain 404 of a path that no kind has, in the words of different servers.
        404 if !is_status || status.details.name.is_empty() => ApiErrorClass::KindUnknown,
        404 => ApiErrorClass::NotFound,
        409 if has_cause("FieldManagerConflict") => ApiErrorClass::Conflict,
        409 if OTHER_UID.iter().any(|words| message.contains(words)) => ApiErrorClass::Conflict,
        409 => ApiErrorClass::Retryable,
        // Server-side apply of an object that was made anew: validation is faster than the precondition.
        422 if status.details.causes.iter().any(|cause| cause.field == "metadata.uid") => {
            ApiErrorClass::Conflict
        }
        // A continuation token or a watch's position that is too old: the caller begins again.
        410 => ApiErrorClass::Retryable,
        // The API server's merge reports a body that its schema does not have as an error of its own.
        500 if message.contains("failed to create typed patch object") => ApiErrorClass::Final,
        408 | 500..=599 => ApiErrorClass::Unavailable,
        _ => ApiErrorClass::Final,
    };
    ApiError { class, status: code.as_u16(), message: clip(message.trim(), MESSAGE_BYTES_MAX).to_owned() }
}

/// No answer at all.
#[must_use]
pub fn unavailable(reason: &str) -> ApiError {
    let message = clip(reason, MESSAGE_BYTES_MAX).to_owned();
    ApiError { class: ApiErrorClass::Unavailable, status: 0, message }
}

/// An answer that cannot be used, or a request that cannot be made: the same again would end the same.
#[must_use]
pub fn unusable(reason: &str) -> ApiError {
    ApiError { class: ApiErrorClass::Final, status: 0, message: clip(reason, MESSAGE_BYTES_MAX).to_owned() }
}

/// A kind that the cluster does not know.
#[must_use]
pub fn kind_unknown(kind: &str) -> ApiError {
    let message = format!("the cluster does not know the kind {kind}");
    ApiError { class: ApiErrorClass::KindUnknown, status: 404, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: u16, body: &str) -> ApiErrorClass {
        classify(StatusCode::from_u16(code).expect("a status"), None, body.as_bytes()).class
    }

    #[test]
    fn throttling_carries_the_servers_advice() {
        let error = classify(StatusCode::TOO_MANY_REQUESTS, Some(3), b"");
        assert_eq!(error.class, ApiErrorClass::Throttled { retry_after_ms: 3000 });
        let body = r#"{"reason":"TooManyRequests","details":{"retryAfterSeconds":7}}"#;
        assert_eq!(class(429, body), ApiErrorClass::Throttled { retry_after_ms: 7000 });
    }

    #[test]
    fn servers_in_trouble_and_failing_webhooks_are_unavailable() {
        let webhook = r#"{"reason":"InternalError","message":"failed calling webhook \"x\": refused"}"#;
        assert_eq!(class(500, webhook), ApiErrorClass::Unavailable);
        assert_eq!(class(503, "apiserver not ready"), ApiErrorClass::Unavailable);
        assert_eq!(class(401, r#"{"reason":"Unauthorized"}"#), ApiErrorClass::Unavailable);
    }

    #[test]
    fn a_terminating_namespace_is_tried_again_and_other_prohibitions_are_final() {
        let terminating = r#"{"reason":"Forbidden","message":"no","details":{"causes":[{"reason":"NamespaceTerminating"}]}}"#;
        assert_eq!(class(403, terminating), ApiErrorClass::Retryable);
        assert_eq!(class(403, r#"{"reason":"Forbidden","message":"exceeded quota"}"#), ApiErrorClass::Final);
    }

    #[test]
    fn an_unknown_kind_differs_from_an_unknown_object_or_namespace() {
        assert_eq!(class(404, "404 page not found\n"), ApiErrorClass::KindUnknown);
        let resource = r#"{"reason":"NotFound","message":"the server could not find the requested resource","details":{}}"#;
        assert_eq!(class(404, resource), ApiErrorClass::KindUnknown);
        let object = r#"{"reason":"NotFound","details":{"name":"x","kind":"namespaces"}}"#;
        assert_eq!(class(404, object), ApiErrorClass::NotFound);
    }

    #[test]
    fn conflicts_of_identity_and_ownership_differ_from_those_of_versions() {
        let uid = r#"{"reason":"Conflict","message":"Precondition failed: UID in precondition: a, UID in object meta: b"}"#;
        assert_eq!(class(409, uid), ApiErrorClass::Conflict);
        let early = r#"{"reason":"Conflict","message":"the UID in the precondition (a) does not match the UID in record (b)"}"#;
        assert_eq!(class(409, early), ApiErrorClass::Conflict);
        let owner = r#"{"reason":"Conflict","details":{"causes":[{"reason":"FieldManagerConflict"}]}}"#;
        assert_eq!(class(409, owner), ApiErrorClass::Conflict);
        let invalid = r#"{"reason":"Invalid","details":{"causes":[{"reason":"FieldValueInvalid","field":"metadata.uid"}]}}"#;
        assert_eq!(class(422, invalid), ApiErrorClass::Conflict);
        let version = r#"{"reason":"Conflict","message":"the object has been modified"}"#;
        assert_eq!(class(409, version), ApiErrorClass::Retryable);
    }

    #[test]
    fn a_body_outside_of_the_schema_is_final_although_the_server_calls_it_its_own_error() {
        let words = r#"{"message":"failed to create typed patch object (a/b; v1, Kind=ConfigMap): .dtaa: field not declared in schema"}"#;
        assert_eq!(class(500, words), ApiErrorClass::Final);
    }

    #[test]
    fn refusals_keep_the_servers_message_within_its_bound() {
        let body = format!(r#"{{"reason":"Invalid","message":"{}"}}"#, "ä".repeat(4000));
        let error = classify(StatusCode::UNPROCESSABLE_ENTITY, None, body.as_bytes());
        assert_eq!(error.class, ApiErrorClass::Final);
        assert!(error.message.starts_with('ä') && error.message.len() <= 1024);
    }
}
