//! What is kept of a request for its log line.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use super::request_head::{Target, head_of, target};
use crate::matcher::RequestHead;

/// What is kept of a request for its log line; made only where there is a log.
#[derive(Debug)]
pub(crate) struct Record {
    method: Method,
    scheme: &'static str,
    uri: Uri,
    target: Target,
    headers: HeaderMap,
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
        Self {
            method: parts.method.clone(),
            scheme,
            uri: parts.uri.clone(),
            target: target(parts),
            headers: parts.headers.clone(),
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

    pub(super) fn head(&self) -> RequestHead<'_> {
        head_of(&self.method, &self.uri, &self.headers, self.target, self.scheme)
    }
}
