//! What belongs to one request while it is worked on.

use std::net::IpAddr;
use std::rc::Rc;

use http::Response;
use http::request::Parts;
use weft_routing::matcher::RequestHead;

use super::active_stream::ActiveStream;
use super::clusters::ClusterSnapshot;
use super::http_connection::HttpConnection;
use super::local_reply;
use super::reply::Reply;
use super::request_head::head;
use super::response_body::ResponseBody;

/// A request, from its head to its answer.
pub(super) struct RequestContext {
    pub(super) connection: Rc<HttpConnection>,
    pub(super) snapshot: Rc<ClusterSnapshot>,
    /// Boxed, since it goes through many hands by value on its way into the response's body.
    pub(super) stream: Box<ActiveStream>,
    pub(super) scheme: &'static str,
    /// The caller's address after trusted hops.
    pub(super) remote: IpAddr,
}

impl RequestContext {
    /// The request's head as matchers see it.
    pub(super) fn head<'a>(&self, parts: &'a Parts) -> RequestHead<'a> {
        head(parts, self.scheme)
    }

    /// Ends with an answer of our own.
    pub(super) fn reply(self, parts: &Parts, reply: Reply) -> Response<ResponseBody> {
        let head = head(parts, self.scheme);
        local_reply::send(reply, self.stream, &head).map(ResponseBody::Content)
    }
}
