//! A server's response on its way to the caller.

use std::borrow::Cow;

use http::header::{CONNECTION, HeaderValue, SET_COOKIE};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use http_body::Body as _;

use super::super::body::Transforms;
use super::super::clock::now;
use super::super::forwarded::REQUEST_ID;
use super::super::http_connection::CodecType;
use super::super::pool::Content;
use super::super::request_context::RequestContext;
use super::super::response_body::{ContentBody, ContentSource, ResponseBody};
use super::super::response_head::{SERVICE_TIME, date_header, server_header};
use super::super::{grpc, stream_info};
use super::hop_by_hop;
use super::outgoing::RepeatableRequest;
use super::routed::Routed;
use crate::filter;
use crate::route::WeightedCluster;

/// Passes a response on.
pub(super) fn respond(
    mut context: RequestContext,
    routed: &Routed<'_>,
    weighted: Option<&WeightedCluster>,
    outgoing: &RepeatableRequest,
    response: Response<Content>,
) -> Response<ResponseBody> {
    let (mut parts, content) = response.into_parts();
    let has_content = !content.is_end_stream();
    let (status, headers) = (parts.status, &mut parts.headers);
    let transforms = head(&mut context, routed, weighted, outgoing, status, headers, has_content);
    let mut response = Response::new(());
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    context.stream.responded(parts.status);
    context.stream.details = Cow::Borrowed("via_upstream");
    let mut source = ContentSource::Upstream(content);
    if !transforms.is_empty() {
        source = source.transformed(transforms);
    }
    let body = ContentBody::new(source, context.stream);
    response.map(|()| ResponseBody::Content(body))
}

/// Brings the response's head into the form that the caller sees; answers what filters do with its content, if it has any.
pub(super) fn head(
    context: &mut RequestContext,
    routed: &Routed<'_>,
    weighted: Option<&WeightedCluster>,
    outgoing: &RepeatableRequest,
    status: StatusCode,
    headers: &mut HeaderMap,
    has_content: bool,
) -> Transforms {
    let manager = routed.manager;
    context.stream.status = status.as_u16();
    hop_by_hop::remove_from_response(headers);
    context.stream.grpc_status = grpc::status(headers);
    if !routed.router.suppress_envoy_headers
        && let Some(upstream) = &context.stream.upstream
    {
        let took = now().saturating_duration_since(upstream.started).as_millis() as u64;
        headers.insert(SERVICE_TIME, HeaderValue::from(took));
    }
    let request = context.head(outgoing.parts());
    let ops =
        stream_info::response_ops(&context.stream, routed.routes, routed.found, weighted, &request, headers);
    for (ops, values) in ops {
        ops.apply(headers, values);
    }
    for cookie in context.stream.set_cookies.drain(..) {
        headers.append(SET_COOKIE, cookie);
    }
    if routed.routes.virtual_host(routed.found).options.attempt_count_in_response {
        let name = HeaderName::from_static("x-envoy-attempt-count");
        headers.insert(name, HeaderValue::from(context.stream.attempts));
    }
    // The answer to a HEAD says how long content would be, and has none.
    let has_content = has_content && outgoing.parts().method != Method::HEAD;
    let transforms = filter::chain::on_response(&mut context.stream, &request, headers, has_content);
    server_header(headers, manager);
    date_header(headers, &context.connection.worker);
    if let Some(id) = &context.stream.request_id {
        headers.insert(REQUEST_ID, id.clone());
    }
    if context.connection.should_close(manager)
        && context.connection.protocol == CodecType::Http1
        && status != StatusCode::SWITCHING_PROTOCOLS
    {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        context.connection.worker.shard.inc(manager.stats.downstream_cx_drain_close);
    }
    stream_info::note_response(&mut context.stream, status, headers);
    transforms
}
