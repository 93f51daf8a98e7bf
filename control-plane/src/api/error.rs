//! Errors as problem documents (RFC 9457).

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use weft_api::ServiceId;
use weft_api::rest::{PROBLEM_JSON, Problem, Violation};
use weft_store::ReadError;

use super::problem_code::ProblemCode;
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
    /// A refusal; its title is the status's own.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let title = code.status().canonical_reason().unwrap_or("Error");
        Self::titled(code, title, detail)
    }

    fn titled(code: ProblemCode, title: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code.status().as_u16(), code.as_str(), title, detail)))
    }

    /// The same refusal in other words.
    #[must_use]
    pub fn saying(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// The same refusal, with what can be done.
    #[must_use]
    pub fn with_remedy(mut self, remedy: &str) -> Self {
        let end = if self.0.detail.ends_with('?') { " Otherwise " } else { "; " };
        self.0.detail += end;
        self.0.detail += remedy;
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// Documents that are not valid, or do not fit each other: 422, or 409 when the only trouble is a conflict.
    #[must_use]
    pub fn violations(violations: Vec<Violation>) -> Self {
        let conflict = !violations.is_empty() && violations.iter().all(|one| one.code == "conflict");
        let code = if conflict { ProblemCode::Conflict } else { ProblemCode::Invalid };
        let count = violations.len();
        let plural = if count == 1 { "" } else { "s" };
        let mut problem = Self::titled(code, &format!("nothing was applied: {count} problem{plural}"), "");
        if count > VIOLATIONS {
            problem = problem.saying(format!("these are the first {VIOLATIONS}"));
        }
        problem.0.violations = violations;
        problem.0.violations.truncate(VIOLATIONS);
        problem
    }

    /// Something named does not exist.
    pub fn missing(what: impl Into<String>) -> Self {
        Self::new(ProblemCode::NotFound, what)
    }

    /// A service that is named does not exist; the nearest of those that the caller may know is told.
    pub fn no_service(wanted: &ServiceId, known: impl Iterator<Item = String>) -> Self {
        let known: Vec<String> = known.collect();
        let hint = match weft_policies::suggest(&wanted.to_string(), known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => "`weft get services` lists those that there are".to_owned(),
        };
        Self::missing(format!("there is no service {wanted}: {hint}"))
    }

    /// The request cannot be read.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::BadRequest, detail)
    }

    /// Other changes kept coming in between.
    pub fn contended() -> Self {
        let detail = "other replicas kept changing the policies in between; try again";
        Self::new(ProblemCode::Contended, detail)
    }

    /// The store does not answer; what is served goes on.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::StoreUnavailable, detail)
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
            LogError::TooLarge(_) => Self::new(ProblemCode::TooLarge, error.to_string()),
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
        if self.0.code == ProblemCode::Forbidden.as_str() {
            response.extensions_mut().insert(Forbidden(self.0.detail));
        }
        response
    }
}

/// What a call is refused with that may be refused in these ways too: statuses that neither what it takes nor what it answers
/// says. The description of the API has them from here.
#[derive(Debug)]
pub struct Refuses<
    const FIRST: u16,
    const SECOND: u16 = 0,
    const THIRD: u16 = 0,
    const FOURTH: u16 = 0,
    const FIFTH: u16 = 0,
>(ApiError);

impl<
    const FIRST: u16,
    const SECOND: u16,
    const THIRD: u16,
    const FOURTH: u16,
    const FIFTH: u16,
    E: Into<ApiError>,
> From<E> for Refuses<FIRST, SECOND, THIRD, FOURTH, FIFTH>
{
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl<const FIRST: u16, const SECOND: u16, const THIRD: u16, const FOURTH: u16, const FIFTH: u16> IntoResponse
    for Refuses<FIRST, SECOND, THIRD, FOURTH, FIFTH>
{
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// A problem as an answer.
#[must_use]
pub fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some((name, value)) = beside(status) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The header that each answer of a status carries.
pub fn beside(status: StatusCode) -> Option<(header::HeaderName, &'static str)> {
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "1")),
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        _ => None,
    }
}

pub async fn not_found(uri: Uri) -> ApiError {
    ApiError::missing(format!("there is no {}; /openapi.json lists what there is", uri.path()))
}

/// No such method on this path.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(ProblemCode::MethodNotAllowed, format!("{method} does not apply to {}", uri.path()))
}
