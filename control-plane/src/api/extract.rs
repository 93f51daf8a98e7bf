//! Bodies and queries; what cannot be read is answered by a problem document like everything else.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;
use weft_api::text::shorten;

use super::error::ApiError;

/// Documents in YAML or JSON, as text.
#[derive(Debug)]
pub struct DocumentText(pub String);

/// What a call asks for in JSON, as text.
#[derive(Debug)]
pub struct JsonText(pub String);

/// A JSON merge patch (RFC 7396), as text.
#[derive(Debug)]
pub struct PatchText(pub String);

const DOCUMENTS: &[&str] =
    &["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json"];
const JSON: &[&str] = &["application/json"];
const MERGE_PATCH: &[&str] = &["application/merge-patch+json"];

impl<S: Send + Sync> FromRequest<S> for DocumentText {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        body(request, state, DOCUMENTS).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonText {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        body(request, state, JSON).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for PatchText {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !request.headers().contains_key(header::CONTENT_TYPE) {
            return Err(not_taken("a body without a content-type", MERGE_PATCH));
        }
        body(request, state, MERGE_PATCH).await.map(Self)
    }
}

/// A body of one of these media types. Without one it is what the call takes.
async fn body<S: Send + Sync>(request: Request, state: &S, taken: &[&str]) -> Result<String, ApiError> {
    let headers = request.headers();
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let detail = format!("content-encoding {encoding:?} is not taken: send the body as it is");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    if let Some(written) = headers.get(header::CONTENT_TYPE) {
        let media = written.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !taken.iter().any(|one| one.eq_ignore_ascii_case(media)) {
            return Err(not_taken(&format!("content-type {:?}", shorten(media)), taken));
        }
    }
    match String::from_request(request, state).await {
        Ok(text) => Ok(text),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "the body is too large: an apply takes 8 MiB, other calls 1 MiB; send it in parts",
        )),
        Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
    }
}

fn not_taken(what: &str, taken: &[&str]) -> ApiError {
    let detail = format!("{what} is not taken here: send {}", taken.join(", "));
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

/// The query of a request; a parameter that does not exist is refused.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(read)) => Ok(Self(read)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}
