//! What is kept of a request for its log line.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use weft_routing::matcher::RequestHead;

use super::forwarded::REQUEST_ID;
use super::request_head::{TargetForm, head_of, target};
use crate::format::LogNeeds;

/// A request's head as it came.
#[derive(Debug)]
struct RecordedHead {
    method: Method,
    scheme: &'static str,
    uri: Uri,
    target: TargetForm,
    host: Option<HeaderValue>,
    /// Empty where no log needs them.
    headers: HeaderMap,
}

/// What is kept of a request for its log line; made only where there is a log, or somebody looks on.
#[derive(Debug)]
pub(crate) struct Record {
    /// Of bytes that are no request nothing is known.
    head: Option<RecordedHead>,
    request_id: Option<HeaderValue>,
    needs: LogNeeds,
    pub(super) response: Option<HeaderMap>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) remote: IpAddr,
    /// Whether a log may take it.
    pub(super) is_logged: bool,
    /// When the response's head came.
    pub(super) responded: Option<Duration>,
}

impl Record {
    /// Of a request as it has come.
    pub(super) fn new(parts: &Parts, scheme: &'static str, remote: IpAddr, needs: LogNeeds) -> Self {
        let head = RecordedHead {
            method: parts.method.clone(),
            scheme,
            uri: parts.uri.clone(),
            target: target(parts),
            host: parts.headers.get(HOST).cloned(),
            headers: if needs.request_headers { parts.headers.clone() } else { HeaderMap::new() },
        };
        let request_id = parts.headers.get(&REQUEST_ID).cloned();
        Self { head: Some(head), needs, ..Self::refused(remote, request_id) }
    }

    /// Of bytes that are no request, by the id that they were given.
    pub(super) fn refused(remote: IpAddr, request_id: Option<HeaderValue>) -> Self {
        Self {
            head: None,
            request_id,
            needs: LogNeeds::default(),
            response: None,
            trailers: None,
            remote,
            is_logged: true,
            responded: None,
        }
    }

    /// The response's head has come, `after` the request.
    pub(super) fn respond(&mut self, headers: &HeaderMap, after: Duration) {
        self.response = self.needs.response_headers.then(|| headers.clone());
        self.responded = Some(after);
    }

    /// The response's trailers have come.
    pub(super) fn trail(&mut self, trailers: &HeaderMap) {
        self.trailers = self.needs.response_trailers.then(|| trailers.clone());
    }

    /// So much was kept.
    pub(super) fn needs(&self) -> LogNeeds {
        self.needs
    }

    pub(super) fn head(&self) -> Option<RequestHead<'_>> {
        let head = self.head.as_ref()?;
        let of_host = head.host.as_ref().and_then(|host| host.to_str().ok());
        let known = head_of(&head.method, &head.uri, &head.headers, head.target, head.scheme);
        Some(match (head.uri.authority(), of_host) {
            (None, Some(authority)) => RequestHead { authority, ..known },
            (Some(_), _) | (None, None) => known,
        })
    }

    /// `x-request-id`.
    pub(super) fn request_id(&self) -> &str {
        self.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default()
    }
}
