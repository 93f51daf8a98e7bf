//! Answers that this proxy gives itself.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use super::exchange::Exchange;
use super::record;
use super::response_body::{ContentBody, Source};
use crate::format::ResponseFlags;
use crate::matcher::RequestHead;
use crate::runtime::HttpManager;

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
    /// Whether `local_reply_config` applies: not to redirects and direct responses of the configuration.
    pub(crate) mapped: bool,
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
            mapped: true,
        }
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

    /// The response, with which the exchange ends.
    pub(crate) fn into_response(
        self,
        mut exchange: Box<Exchange>,
        manager: &HttpManager,
        head: &RequestHead<'_>,
    ) -> Response<ContentBody> {
        exchange.flags.insert(self.flags);
        exchange.details.clone_from(&self.details);
        exchange.status = self.status.as_u16();
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut bytes = self.bytes.unwrap_or_else(|| match self.body {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        });
        if !bytes.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        if self.mapped
            && let Some(replies) = &manager.local_replies
        {
            bytes = record::map_reply(&mut exchange, replies, head, &mut response, &bytes);
        }
        if is_grpc(head.headers) && self.mapped {
            grpc(&mut response, &bytes);
            bytes = Bytes::new();
        }
        exchange.status = response.status().as_u16();
        server_header(response.headers_mut(), manager);
        if let Some(id) = &exchange.request_id {
            response.headers_mut().insert(super::forwarded::REQUEST_ID, id.clone());
        }
        if exchange.connection.should_close(manager) && exchange.connection.speaks_http1() {
            response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        record::note_response(&mut exchange, manager, response.status(), response.headers());
        if head.method == "HEAD" && !bytes.is_empty() {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, bytes.len().into());
            bytes = Bytes::new();
        }
        let source = if bytes.is_empty() { Source::Empty } else { Source::Full(Some(bytes)) };
        exchange.responding_locally();
        response.map(|()| ContentBody::new(source, exchange))
    }
}

/// The `server` header as the connection manager wants it.
pub(crate) fn server_header(headers: &mut HeaderMap, manager: &HttpManager) {
    use crate::runtime::ServerHeader;
    let ours = || HeaderValue::from_str(&manager.server_name).unwrap_or(HeaderValue::from_static("envoy"));
    let name = http::header::SERVER;
    match manager.server_header {
        ServerHeader::Overwrite => {
            let value =
                if &*manager.server_name == "envoy" { HeaderValue::from_static("envoy") } else { ours() };
            headers.insert(name, value);
        }
        ServerHeader::AppendIfAbsent => {
            headers.entry(name).or_insert_with(ours);
        }
        ServerHeader::PassThrough => {}
    }
}

/// Whether a request is gRPC by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A gRPC caller wants 200 with a status in the head.
fn grpc(response: &mut Response<()>, message: &[u8]) {
    let status = match response.status().as_u16() {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502 | 503 | 504 => "14",
        200 => "0",
        _ => "2",
    };
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status));
    if !message.is_empty()
        && let Ok(value) = HeaderValue::from_str(&percent_encoded(message))
    {
        headers.insert(HeaderName::from_static("grpc-message"), value);
    }
}

fn percent_encoded(text: &[u8]) -> String {
    use std::fmt::Write as _;
    text.iter().fold(String::with_capacity(text.len()), |mut out, byte| {
        if (0x20..0x7f).contains(byte) && *byte != b'%' {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
