//! What is kept of a request for its log line.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use super::request_head::{Target, head_of, target};
use crate::matcher::RequestHead;

/// A request's head as it came.
#[derive(Debug)]
struct Head {
    method: Method,
    scheme: &'static str,
    uri: Uri,
    target: Target,
    headers: HeaderMap,
}

/// What is kept of a request for its log line; made only where there is a log.
#[derive(Debug)]
pub(crate) struct Record {
    /// Of bytes that are no request nothing is known.
    head: Option<Head>,
    pub(super) response: HeaderMap,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) began: SystemTime,
    pub(super) remote: IpAddr,
    /// When the response's head came.
    pub(super) responded: Option<Duration>,
}

impl Record {
    /// Of a request as it has come.
    pub(super) fn new(parts: &Parts, scheme: &'static str, remote: IpAddr) -> Self {
        let head = Head {
            method: parts.method.clone(),
            scheme,
            uri: parts.uri.clone(),
            target: target(parts),
            headers: parts.headers.clone(),
        };
        Self { head: Some(head), ..Self::refused(remote) }
    }

    /// Of bytes that are no request.
    pub(super) fn refused(remote: IpAddr) -> Self {
        Self {
            head: None,
            response: HeaderMap::new(),
            trailers: None,
            began: SystemTime::now(),
            remote,
            responded: None,
        }
    }

    /// The response's head has come, `after` the request.
    pub(super) fn respond(&mut self, headers: &HeaderMap, after: Duration) {
        self.response = headers.clone();
        self.responded = Some(after);
    }

    pub(super) fn head(&self) -> Option<RequestHead<'_>> {
        let head = self.head.as_ref()?;
        Some(head_of(&head.method, &head.uri, &head.headers, head.target, head.scheme))
    }
}
