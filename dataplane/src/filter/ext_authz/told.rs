//! What of a request a server is told, over HTTP and by gRPC alike.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use weft_routing::matcher::{StringMatch, UndecidedAs};

/// Headers that say how a message is framed and where it comes by. Said of another message they would be wrong.
pub(super) const OF_THE_MESSAGE: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// The content that a server is told.
#[derive(Debug, Default)]
pub(super) struct CheckBody {
    pub(super) content: Bytes,
    /// Whether there is more; `None` where there is no content, or the server is not told of it.
    pub(super) partial: Option<bool>,
    /// Whether it is told as bytes, not as text, where there is a difference.
    pub(super) as_bytes: bool,
}

impl CheckBody {
    /// Says whether there is more.
    pub(super) fn announce(&self, headers: &mut HeaderMap) {
        if let Some(partial) = self.partial {
            let partial = HeaderValue::from_static(if partial { "true" } else { "false" });
            headers.insert(HeaderName::from_static("x-envoy-auth-partial-body"), partial);
        }
    }
}

/// Whether a header is one of those that a list means.
pub(super) fn matches(matchers: &[StringMatch], name: &HeaderName) -> bool {
    matchers.iter().any(|matcher| matcher.matches(name.as_str().as_bytes(), UndecidedAs::Miss))
}
