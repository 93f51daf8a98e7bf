//! What calls take: bodies, queries, paths and headers. What cannot be read is answered by a problem document like everything
//! else.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_api::text::shorten;

use super::error::ApiError;
use super::problem_code::ProblemCode;

/// Documents in YAML or JSON, as text.
#[derive(Debug)]
pub struct DocumentText(pub String);

/// Documents for a call that can do without any.
#[derive(Debug)]
pub struct OptionalDocuments(pub Option<String>);

/// What a call asks for in JSON.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

/// A JSON merge patch (RFC 7396).
#[derive(Debug)]
pub struct MergePatch(pub Value);

/// A whole request that signs a browser in: who sends it is looked at before its body is read.
#[derive(Debug)]
pub struct SignInRequest(pub Request);

/// A request without a body, of which the browser's own part is looked at.
#[derive(Debug)]
pub struct BrowserRequest(pub Request);

/// Media types of documents.
pub const DOCUMENTS: &[&str] =
    &["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json"];
/// Media types of what is asked for in JSON.
pub const JSON: &[&str] = &["application/json"];
/// Media types of patches.
pub const MERGE_PATCH: &[&str] = &["application/merge-patch+json"];

impl<S: Send + Sync> FromRequest<S> for DocumentText {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        body(request, state, DOCUMENTS).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for OptionalDocuments {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let text = body(request, state, DOCUMENTS).await?;
        Ok(Self((!text.trim().is_empty()).then_some(text)))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let text = body(request, state, JSON).await?;
        let read = serde_json::from_str(&text).or_else(|error| with_whole_numbers(&text).ok_or(error));
        read.map(Self).map_err(|error| ApiError::bad_request(format!("the request: {error}")))
    }
}

/// The same where `3.0` stands for 3: in JSON that is one number, and some programs write it so.
fn with_whole_numbers<T: DeserializeOwned>(text: &str) -> Option<T> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    make_whole(&mut value);
    serde_json::from_value(value).ok()
}

fn make_whole(value: &mut Value) {
    /// Beyond that not every whole number has a floating point number of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|whole| whole.fract() == 0.0 && whole.abs() <= EXACT);
            if let Some(whole) = whole.filter(|_| number.is_f64()) {
                *value = format!("{whole:.0}").parse::<i64>().map_or(Value::Null, Value::from);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

impl<S: Send + Sync> FromRequest<S> for MergePatch {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !request.headers().contains_key(header::CONTENT_TYPE) {
            return Err(not_taken("a body without a content-type", MERGE_PATCH));
        }
        let text = body(request, state, MERGE_PATCH).await?;
        let read = serde_json::from_str::<serde_json::Map<String, Value>>(&text);
        read.map(|fields| Self(Value::Object(fields)))
            .map_err(|error| ApiError::bad_request(format!("the patch is no JSON object: {error}")))
    }
}

impl<S: Send + Sync> FromRequest<S> for SignInRequest {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self(request))
    }
}

impl<S: Send + Sync> FromRequest<S> for BrowserRequest {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self(request))
    }
}

/// A body of one of these media types. Without one it is what the call takes.
async fn body<S: Send + Sync>(request: Request, state: &S, taken: &[&str]) -> Result<String, ApiError> {
    let headers = request.headers();
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let detail = format!("content-encoding {encoding:?} is not taken: send the body as it is");
        return Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail));
    }
    if let Some(written) = headers.get(header::CONTENT_TYPE) {
        let media = written.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !taken.iter().any(|one| one.eq_ignore_ascii_case(media)) {
            return Err(not_taken(&format!("content-type {:?}", shorten(media)), taken));
        }
    }
    match String::from_request(request, state).await {
        Ok(text) => Ok(text),
        Err(rejection) if rejection.status() == ProblemCode::TooLarge.status() => Err(ApiError::new(
            ProblemCode::TooLarge,
            "the body is too large: an apply takes 8 MiB, other calls 1 MiB; send it in parts",
        )),
        Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
    }
}

fn not_taken(what: &str, taken: &[&str]) -> ApiError {
    let detail = format!("{what} is not taken here: send {}", taken.join(", "));
    ApiError::new(ProblemCode::UnsupportedMediaType, detail)
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

/// What the path names.
#[derive(Debug)]
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(read)) => Ok(Self(read)),
            Err(rejection) => Err(ApiError::bad_request(format!("the path: {}", rejection.body_text()))),
        }
    }
}

/// The versions of an object of which a caller saw one (`If-Match`); anything without the header.
#[derive(Debug)]
pub struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// As it may be written: `*`, or tags with commas between.
    pub const PATTERN: &str = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#;

    /// Whether it is for an object with this tag, or for none. A weak tag is nobody's.
    pub fn is_for(&self, tag: Option<&str>) -> bool {
        let Some(wanted) = &self.0 else { return true };
        tag.is_some_and(|tag| wanted.iter().any(|wanted| wanted == tag || wanted == "*"))
    }
}

impl std::fmt::Display for IfMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.as_deref().unwrap_or_default().join(", "))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let unreadable =
            || ApiError::bad_request("If-Match: send `*`, or the ETag of an answer, in its quotes");
        let mut tags = Vec::new();
        let mut headers = parts.headers.get_all(header::IF_MATCH).into_iter().peekable();
        if headers.peek().is_none() {
            return Ok(Self(None));
        }
        for value in headers {
            let text = value.to_str().map_err(|_| unreadable())?;
            tags.extend(read_tags(text).ok_or_else(unreadable)?);
        }
        if tags.len() > 1 && tags.iter().any(|tag| tag == "*") {
            return Err(unreadable());
        }
        Ok(Self(Some(tags)))
    }
}

/// `*`, or tags in their quotes, with commas between: within quotes a comma is a part of the tag.
fn read_tags(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim();
    let mut tags = Vec::new();
    loop {
        let quoted = rest.strip_prefix("W/").unwrap_or(rest);
        let length = match quoted.strip_prefix('"') {
            Some(inner) => rest.len() - inner.len() + inner.find('"')? + 1,
            None if rest.starts_with('*') => 1,
            None => return None,
        };
        tags.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
        if rest.is_empty() {
            return Some(tags);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// Where a stream of events was left (`Last-Event-ID`).
#[derive(Debug)]
pub struct LastEventId(pub Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(id) = parts.headers.get("last-event-id") else { return Ok(Self(None)) };
        let read = id.to_str().ok().and_then(|text| text.parse().ok());
        read.map(|id| Self(Some(id)))
            .ok_or_else(|| ApiError::bad_request("last-event-id is not the id of an event of this stream"))
    }
}

/// Where the request came from, as far as the listener says.
#[derive(Debug)]
pub struct CallSource(pub Option<SocketAddr>);

impl<S: Send + Sync> FromRequestParts<S> for CallSource {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(source)| *source)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_with_the_commas_in_their_quotes() {
        let read = |text: &str| read_tags(text).map(|tags| tags.join(" | "));
        assert_eq!(read("*").as_deref(), Some("*"));
        assert_eq!(read(r#" "a,b" , W/"c" "#).as_deref(), Some(r#""a,b" | W/"c""#));
        for wrong in ["", "a", "\"a", r#""a" "b""#, r#""a","#, r#"w/"a""#, "*a"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn number_is_whole_however_it_is_written() {
        assert_eq!(with_whole_numbers::<Vec<u64>>("[3.0, 1e3, 7]"), Some(vec![3, 1000, 7]));
        for wrong in ["[3.5]", "[-1.0]", "[1e300]", "[\"3\"]"] {
            assert_eq!(with_whole_numbers::<Vec<u64>>(wrong), None, "{wrong}");
        }
    }
}
