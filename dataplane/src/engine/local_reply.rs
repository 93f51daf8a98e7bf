//! Answers of our own on their way to the caller.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use weft_routing::grpc::is_grpc;
use weft_routing::matcher::RequestHead;

use super::active_stream::ActiveStream;
use super::forwarded::REQUEST_ID;
use super::reply::{Reply, ReplyOrigin};
use super::response_body::{ContentBody, ContentSource};
use super::response_head::{date_header, server_header};
use super::stream_info::context;
use super::{grpc, stream_info};
use crate::filter;
use crate::route::DirectResponse;
use crate::runtime::LocalReplies;

/// The response, with which the stream ends.
pub(super) fn send(
    reply: Reply,
    mut stream: Box<ActiveStream>,
    head: &RequestHead<'_>,
) -> Response<ContentBody> {
    let view = stream.view.clone();
    let manager = &view.manager;
    stream.flags.insert(reply.flags);
    stream.details.clone_from(&reply.details);
    stream.status = reply.status.as_u16();
    let mut response = Response::new(());
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    let mut bytes = reply.bytes.unwrap_or_else(|| match reply.body {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    });
    for (name, value) in reply.headers {
        headers.append(name, value);
    }
    if reply.origin == ReplyOrigin::Route
        && let Some(found) = stream.found
    {
        let ops = stream_info::response_ops(&stream, &view.routes, found, None, head, headers);
        ops.into_iter().for_each(|(ops, values)| ops.apply(headers, values));
    }
    match reply.origin {
        ReplyOrigin::Proxy | ReplyOrigin::Route => {
            if let Some(replies) = &manager.local_replies {
                bytes = map(&mut stream, replies, head, &mut response, &bytes);
            }
            if is_grpc(head.headers) {
                grpc::answer(&mut response, reply.grpc_status, &bytes);
                bytes = Bytes::new();
            }
        }
        ReplyOrigin::Filter => {}
    }
    if !bytes.is_empty() {
        response.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
    }
    let has_content = !bytes.is_empty() && head.method != "HEAD";
    let transforms = filter::chain::on_response(&mut stream, head, response.headers_mut(), has_content);
    stream.status = response.status().as_u16();
    server_header(response.headers_mut(), manager);
    date_header(response.headers_mut(), &stream.connection.worker);
    if let Some(id) = &stream.request_id {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    if stream.connection.should_close(manager) && stream.connection.speaks_http1() {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    stream_info::note_response(&mut stream, response.status(), response.headers());
    if head.method == "HEAD" && !bytes.is_empty() {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, bytes.len().into());
        bytes = Bytes::new();
    }
    let source = if bytes.is_empty() { ContentSource::Empty } else { ContentSource::Full(Some(bytes)) };
    stream.responding_locally();
    response.map(|()| ContentBody::new(source.transformed(transforms), stream))
}

/// What `local_reply_config` makes of an answer.
fn map(
    stream: &mut ActiveStream,
    replies: &LocalReplies,
    head: &RequestHead<'_>,
    response: &mut Response<()>,
    body: &[u8],
) -> Bytes {
    let text = String::from_utf8_lossy(body);
    let headers = response.headers().clone();
    let mut context = context(stream, Some(*head), Some(&headers));
    context.local_reply_body = &text;
    let mapped = replies.reply(&context);
    let values = mapped.headers.map(|ops| (ops, ops.evaluate(&context)));
    if let Ok(status) = StatusCode::from_u16(mapped.status) {
        *response.status_mut() = status;
    }
    let given = response.headers().get(CONTENT_TYPE).cloned();
    if let Some((ops, values)) = values {
        ops.apply(response.headers_mut(), values);
    }
    // What a mapper says of the type holds; that of the body before it goes with that body.
    let headers = response.headers_mut();
    if !mapped.body.is_empty()
        && headers.get(CONTENT_TYPE) == given.as_ref()
        && (given.is_none() || mapped.body != text)
        && let Ok(value) = HeaderValue::from_str(mapped.content_type)
    {
        headers.insert(CONTENT_TYPE, value);
    }
    mapped.body.into()
}

/// The body of a `direct_response`.
pub(super) fn direct_body(stream: &ActiveStream, head: &RequestHead<'_>, direct: &DirectResponse) -> Bytes {
    let Some(format) = &direct.format else { return direct.body.clone() };
    let text = String::from_utf8_lossy(&direct.body);
    let mut context = context(stream, Some(*head), None);
    context.response_code = direct.status.as_u16();
    context.local_reply_body = &text;
    let mut rendered = String::new();
    format.render(&context, &mut rendered);
    rendered.into()
}
