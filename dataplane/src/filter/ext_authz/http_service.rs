//! A server that is asked over HTTP.

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use weft_routing::matcher::StringMatch;

use super::super::request::Request;
use super::told::{CheckBody, OF_THE_MESSAGE, matches};
use super::{CheckPath, CheckStatus, Denial, ExtAuthz, HeadChanges, HttpService, RequestChange};
use crate::engine::async_client::{Call, CallResponse};
use crate::engine::stream_info::context;
use crate::route::{Addition, AppendAction, HeaderOps, HeaderTemplate};

const HEADERS_TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Bytes of content that an answer may have.
const LARGEST_ANSWER: usize = 1024 * 1024;

impl HttpService {
    /// What the server is asked about a request; `None` where its head cannot be told.
    pub(super) fn call(&self, filter: &ExtAuthz, request: &Request<'_>, body: CheckBody) -> Option<Call> {
        let head = request.head();
        if head.method == Method::CONNECT.as_str() {
            // The answer would make a tunnel of the connection to the server.
            return None;
        }
        let path: PathAndQuery = match &self.path {
            CheckPath::Prefixed(prefix) => format!("{prefix}{}", head.path).parse().ok()?,
            CheckPath::Fixed(path) => path.clone(),
        };
        let mut headers = HeaderMap::new();
        for name in head.headers.keys() {
            let told = *name == AUTHORIZATION || matches(&filter.allowed_headers, name);
            if told && !OF_THE_MESSAGE.contains(name) && !matches(&filter.disallowed_headers, name) {
                headers.insert(name, joined(head.headers, name)?);
            }
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.content.len()));
        body.announce(&mut headers);
        let values = self.headers_to_add.evaluate(&context(request.stream, Some(head), None));
        self.headers_to_add.apply(&mut headers, values);
        Some(Call {
            method: Method::from_bytes(head.method.as_bytes()).ok()?,
            authority: head.authority.parse().ok()?,
            path,
            headers,
            body: body.content,
            timeout: self.timeout,
            largest: LARGEST_ANSWER,
        })
    }

    /// What an answer means.
    pub(super) fn verdict(&self, answer: CallResponse) -> CheckStatus {
        let CallResponse { mut head, body, .. } = answer;
        if head.status.is_server_error() {
            return CheckStatus::Error(None);
        }
        let remove = listed(&head.headers);
        head.headers.remove(HEADERS_TO_REMOVE);
        OF_THE_MESSAGE.iter().for_each(|name| drop(head.headers.remove(name)));
        if head.status != StatusCode::OK {
            let kept = |name: &HeaderName| {
                self.client_headers.is_empty()
                    || *name == LOCATION
                    || *name == WWW_AUTHENTICATE
                    || matches(&self.client_headers, name)
            };
            let headers = head.headers.iter().filter(|(name, _)| kept(name));
            let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
            return CheckStatus::Denied(Denial { status: head.status, headers, body });
        }
        let chosen = |matchers: &[StringMatch]| -> Vec<(HeaderName, HeaderValue)> {
            let headers = head.headers.iter().filter(|(name, _)| matches(matchers, name));
            headers.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let set = chosen(&self.upstream_headers).into_iter();
        let set = set.map(|(name, value)| RequestChange::Set(name, value));
        let appended = chosen(&self.upstream_headers_to_append).into_iter();
        let appended = appended.map(|(name, value)| RequestChange::Append(name, value));
        let response = chosen(&self.client_headers_on_success).into_iter().map(addition).collect();
        CheckStatus::Ok(HeadChanges {
            request: set.chain(appended).collect(),
            remove,
            response: HeaderOps::new(Vec::new(), response),
            ..HeadChanges::default()
        })
    }
}

/// All values of a header as one, as servers are told of them.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&values.join(&b","[..])).ok()
}

/// The headers that the request shall lose. It cannot do without its host.
fn listed(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(HEADERS_TO_REMOVE);
    let names = lists.iter().filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    names.filter_map(|name| name.trim().parse().ok()).filter(|name| *name != HOST).collect()
}

fn addition((name, value): (HeaderName, HeaderValue)) -> Addition {
    let action = AppendAction::AppendIfExistsOrAdd;
    Addition { name, value: HeaderTemplate::Fixed(value), action, keep_empty: true }
}
