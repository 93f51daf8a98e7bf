//! What makes a request gRPC.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Whether a message is gRPC by its content type: `application/grpc`, alone or with the encoding of its messages. Others
/// that begin so, such as `application/grpc-web`, have a framing of their own.
#[inline]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}
