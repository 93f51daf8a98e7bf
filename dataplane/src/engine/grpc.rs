//! gRPC's part in heads and trailers.

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// What `grpc-message` has percent-encoded, besides all that is not ASCII.
const NOT_IN_MESSAGES: &AsciiSet = &CONTROLS.add(b'%');

/// `grpc-status` in trailers, or in the head of an answer without messages.
pub(super) fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Turns an answer into a gRPC one: 200 with `grpc-status` in the head, by default the one that Envoy gives for the
/// HTTP status. An answer of ours is no message, so that 200 is "unknown" too.
pub(super) fn answer(response: &mut Response<()>, status: Option<u32>, message: &[u8]) {
    let status = status.unwrap_or(match response.status().as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    });
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(status));
    if !message.is_empty()
        && let Ok(value) = HeaderValue::from_str(&percent_encode(message, NOT_IN_MESSAGES).to_string())
    {
        headers.insert(HeaderName::from_static("grpc-message"), value);
    }
}
