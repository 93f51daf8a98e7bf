//! What is kept of a request for its log line.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use super::forwarded::REQUEST_ID;
use super::request_head::{TargetForm, head_of, target};
use crate::format::LogNeeds;
use crate::matcher::RequestHead;

/// A request's head as it came.
#[derive(Debug)]
struct RecordedHead {
    method: Method,
    scheme: &'static str,
    uri: Uri,
    target: TargetForm,
    host: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    /// Empty where no log needs them.
    headers: HeaderMap,
}

/// What is kept of a request for its log line; made only where there is a log, or somebody looks on.
#[derive(Debug)]
pub(crate) struct Record {
    /// Of bytes that are no request nothing is known.
    head: Option<RecordedHead>,
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
            request_id: parts.headers.get(&REQUEST_ID).cloned(),
            headers: if needs.request_headers { parts.headers.clone() } else { HeaderMap::new() },
        };
        Self { head: Some(head), needs, ..Self::refused(remote) }
    }

    /// Of bytes that are no request.
    pub(super) fn refused(remote: IpAddr) -> Self {
        Self {
            head: None,
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
        let id = self.head.as_ref().and_then(|head| head.request_id.as_ref());
        id.and_then(|id| id.to_str().ok()).unwrap_or_default()
    }
}
