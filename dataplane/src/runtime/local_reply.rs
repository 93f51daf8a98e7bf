//! `local_reply_config`: what an answer of the proxy itself looks like.

use crate::format::{AccessLogFilter, Format, FormatContext};
use crate::route::HeaderOps;

/// `LocalReplyConfig`: the first mapper whose filter holds changes the answer.
#[derive(Clone, Debug)]
pub struct LocalReplies {
    pub(crate) mappers: Vec<Mapper>,
    /// How a body is written where its mapper does not say.
    pub(crate) format: Option<Format>,
}

/// `ResponseMapper`: what changes of an answer that the filter accepts.
#[derive(Clone, Debug)]
pub(crate) struct Mapper {
    pub(crate) filter: AccessLogFilter,
    pub(crate) status: Option<u16>,
    pub(crate) body: Option<Box<str>>,
    pub(crate) format: Option<Format>,
    pub(crate) headers: HeaderOps,
}

/// An answer of the proxy.
#[derive(Debug)]
pub struct MappedReply<'a> {
    pub status: u16,
    pub body: String,
    /// The `content-type` of a body that is not empty.
    pub content_type: &'a str,
    /// Headers to add; evaluate them with the context of the request.
    pub headers: Option<&'a HeaderOps>,
}

impl LocalReplies {
    /// The answer for the facts in `context`, whose `response_code` and `local_reply_body` are what would be sent
    /// without this configuration.
    pub fn reply<'a>(&'a self, context: &FormatContext<'_>) -> MappedReply<'a> {
        let mapper = self.mappers.iter().find(|mapper| mapper.filter.accepts(context));
        let status = mapper.and_then(|mapper| mapper.status).unwrap_or(context.response_code);
        let body = mapper.and_then(|mapper| mapper.body.as_deref()).unwrap_or(context.local_reply_body);
        let format = mapper.and_then(|mapper| mapper.format.as_ref()).or(self.format.as_ref());
        let headers = mapper.map(|mapper| &mapper.headers).filter(|headers| !headers.is_empty());
        let Some(format) = format else {
            return MappedReply { status, body: body.to_owned(), content_type: "text/plain", headers };
        };
        let mut rendered = String::new();
        format.render(
            &FormatContext { response_code: status, local_reply_body: body, ..*context },
            &mut rendered,
        );
        MappedReply { status, body: rendered, content_type: format.content_type(), headers }
    }
}
