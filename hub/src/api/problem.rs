//! Refusals as people and tools read them (RFC 9457).

use airlift_bundles::causes::in_one_line;
use airlift_bundles::code::Code;
use airlift_bundles::ids::{IdError, Sha256Digest};
use axum::Json;
use axum::extract::FromRequest;
use axum::extract::rejection::JsonRejection;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::types::Problem;
use crate::db::DbError;
use crate::enrol::EnrolError;
use crate::init::{InitError, RootRefused};
use crate::plan::order::OrderRefused;
use crate::plan::select::SelectorError;

/// How far an unfinished upload is held.
pub(crate) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// A request is not done.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct ApiError {
    status: StatusCode,
    code: Code,
    detail: String,
    missing: Vec<Sha256Digest>,
    upload_offset: Option<u64>,
}

fn status_of(code: Code) -> StatusCode {
    match code {
        Code::NotAuthorised => StatusCode::UNAUTHORIZED,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::TokenRefused => StatusCode::FORBIDDEN,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::StoreFailed => StatusCode::SERVICE_UNAVAILABLE,
        Code::RequestInvalid | Code::JsonNotStrict | Code::EnvelopeMalformed => StatusCode::BAD_REQUEST,
        Code::Conflict
        | Code::ContentMissing
        | Code::ReleaseEqualButDifferent
        | Code::HubRestored
        | Code::RequiresMissing => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl ApiError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            status: status_of(code),
            code,
            detail: detail.into(),
            missing: Vec::new(),
            upload_offset: None,
        }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::RequestInvalid, detail)
    }

    /// Names the blobs that have to be uploaded first.
    pub(crate) fn missing(mut self, missing: Vec<Sha256Digest>) -> Self {
        self.missing = missing;
        self
    }

    /// Says how far an upload is held.
    pub(crate) fn upload_offset(mut self, offset: u64) -> Self {
        self.upload_offset = Some(offset);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("https://airlift.dev/codes/{}", self.code),
            title: self.code.title().to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code,
            next_step: self.code.next_step().to_owned(),
            missing: self.missing,
        };
        let mut response = (self.status, Json(problem)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(offset) = self.upload_offset {
            response.headers_mut().insert(UPLOAD_OFFSET, offset.into());
        }
        response
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        tracing::error!(error = in_one_line(&error), "a request failed in the database");
        Self::new(Code::StoreFailed, in_one_line(&error))
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        DbError::from(error).into()
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(%error, "a request failed on the disk");
        Self::new(Code::StoreFailed, error.to_string())
    }
}

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<SelectorError> for ApiError {
    fn from(error: SelectorError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<OrderRefused> for ApiError {
    fn from(refused: OrderRefused) -> Self {
        Self::new(refused.code, refused.detail)
    }
}

impl From<EnrolError> for ApiError {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Db(error) => error.into(),
            other => Self::new(other.code(), in_one_line(&other)),
        }
    }
}

impl From<RootRefused> for ApiError {
    fn from(refused: RootRefused) -> Self {
        match refused {
            RootRefused::Db(error) => error.into(),
            RootRefused::OtherFleet { .. } => Self::new(Code::OtherFleet, refused.to_string()),
            RootRefused::Differs(_) => Self::new(Code::Conflict, refused.to_string()),
            RootRefused::Root(ref error) => Self::new(error.code(), in_one_line(&refused)),
        }
    }
}

impl From<InitError> for ApiError {
    fn from(error: InitError) -> Self {
        Self::new(Code::StoreFailed, in_one_line(&error))
    }
}

/// JSON of a request, refused in our own words.
pub(crate) struct Body<T>(pub(crate) T);

impl<T, S> FromRequest<S> for Body<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ApiError::new(Code::TooLarge, rejection.body_text()))
            }
            Err(rejection) => Err(ApiError::invalid(rejection.body_text())),
        }
    }
}
