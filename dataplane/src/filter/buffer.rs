//! `envoy.filters.http.buffer`: a request goes on when its content has come whole, so that a slow caller holds no server.

pub(super) mod decode;
pub(super) mod run;

/// `envoy.filters.http.buffer`, or what a route says instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Requests with more bytes of content are answered 413. Never 0.
    pub(super) max_request_bytes: u32,
}
