//! Waits for a request's content.

use http::header::{CONTENT_LENGTH, HeaderValue};

use super::super::Override;
use super::super::request::{Flow, Request};
use super::Buffer;

impl Buffer {
    /// What holds for a request; `None` where it has no content to wait for.
    pub(in super::super) fn applies(
        &self,
        request: &Request<'_>,
        special: Option<&Override>,
    ) -> Option<Self> {
        request.has_body().then(|| special.and_then(Override::buffer).unwrap_or(*self))
    }

    /// Reads all of the content, and says in the head how long it is.
    pub(in super::super) async fn on_request(self, request: &mut Request<'_>) -> Flow {
        let most = self.max_request_bytes as usize;
        let size = match request.read_body(most.saturating_add(1)).await {
            Ok(size) => size,
            Err(reply) => return Flow::Reply(reply),
        };
        if size > most {
            return Flow::Reply(request.too_large());
        }
        request.parts.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(size));
        Flow::Continue
    }
}
