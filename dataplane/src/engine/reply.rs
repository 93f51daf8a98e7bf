//! An answer that this proxy gives itself, as it is decided.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use crate::format::ResponseFlags;

/// An answer that is decided here.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Cow<'static, str>,
    pub(crate) flags: ResponseFlags,
    pub(crate) details: Cow<'static, str>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// A body of bytes, for `direct_response`.
    pub(crate) bytes: Option<Bytes>,
    /// `grpc-status` for a gRPC caller, where it is not the one that belongs to the HTTP status.
    pub(crate) grpc_status: Option<u32>,
    pub(crate) origin: ReplyOrigin,
}

/// Who decided an answer, and so what else applies to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyOrigin {
    /// This proxy: `local_reply_config` applies, and gRPC callers get a `grpc-status`.
    Proxy,
    /// A route that redirects or answers: as [`ReplyOrigin::Proxy`], after the route's header operations on responses.
    Route,
    /// A filter that answers in place of the server: neither applies.
    Filter,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, details: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            body: Cow::Borrowed(""),
            flags: ResponseFlags::default(),
            details: details.into(),
            headers: Vec::new(),
            bytes: None,
            grpc_status: None,
            origin: ReplyOrigin::Proxy,
        }
    }

    /// The caller's request ended in bytes that are no HTTP: nothing that an endpoint did.
    pub(crate) fn malformed_request() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "http1.codec_error")
            .body("Bad Request")
            .flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR)
    }

    pub(crate) fn body(mut self, body: impl Into<Cow<'static, str>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn flag(mut self, flag: ResponseFlags) -> Self {
        self.flags.insert(flag);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn grpc_status(mut self, status: Option<u32>) -> Self {
        self.grpc_status = status;
        self
    }
}
