//! Errors as problem documents (RFC 9457).

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use weft_api::rest::{PROBLEM_JSON, Problem, Violation};
use weft_store::ReadError;

use crate::StoreError;
use crate::identity::revocation::RevocationError;
use crate::policy::log::LogError;

/// Violations that an answer lists, and warnings; its title counts all.
pub const VIOLATIONS: usize = 100;

/// Why a call was refused for want of a right; an extension of answers.
#[derive(Clone, Debug)]
pub struct Forbidden(pub String);

/// Why a call was not carried out.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// The code of a refusal for want of a right.
    pub const FORBIDDEN: &str = "forbidden";

    /// A refusal; its title is the status's own.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self(Box::new(Problem::new(status.as_u16(), code, title, detail)))
    }

    /// Documents that are not valid, or do not fit each other: 422, or 409 when the only trouble is a conflict.
    #[must_use]
    pub fn violations(violations: Vec<Violation>) -> Self {
        let conflict = !violations.is_empty() && violations.iter().all(|one| one.code == "conflict");
        let (status, code) = if conflict {
            (StatusCode::CONFLICT, "conflict")
        } else {
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid")
        };
        let count = violations.len();
        let plural = if count == 1 { "" } else { "s" };
        let title = format!("nothing was applied: {count} problem{plural}");
        let mut problem = Problem::new(status.as_u16(), code, &title, "");
        if count > VIOLATIONS {
            problem.detail = format!("these are the first {VIOLATIONS}");
        }
        problem.violations = violations;
        problem.violations.truncate(VIOLATIONS);
        Self(Box::new(problem))
    }

    /// Something named does not exist.
    pub fn missing(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// The request cannot be read.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// Other changes kept coming in between.
    pub fn contended() -> Self {
        let detail = "other replicas kept changing the policies in between; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "contended", detail)
    }

    /// The store does not answer; what is served goes on.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail)
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        Self::unavailable(format!("the store cannot be read: {error}; proxies keep what they have"))
    }
}

impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string()),
            other => {
                Self::unavailable(format!("{other}; nothing was applied, and proxies keep what they have"))
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(format!("{error}; nothing was acknowledged, try again"))
    }
}

impl From<RevocationError> for ApiError {
    fn from(error: RevocationError) -> Self {
        match error {
            RevocationError::Store(error) => error.into(),
            RevocationError::Authority(_) | RevocationError::Contended => {
                Self::unavailable(format!("{error}; what was done of it is done again by the next try"))
            }
            RevocationError::Unlisted(..) => Self::unavailable(error.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = problem_response(&self.0);
        if self.0.code == Self::FORBIDDEN {
            response.extensions_mut().insert(Forbidden(self.0.detail));
        }
        response
    }
}

/// A problem as an answer.
#[must_use]
pub fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

pub async fn not_found(uri: Uri) -> ApiError {
    ApiError::missing(format!("there is no {}; /openapi.json lists what there is", uri.path()))
}

/// No such method on this path.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{method} does not apply to {}", uri.path()),
    )
}
