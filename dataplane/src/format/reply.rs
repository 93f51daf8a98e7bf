//! `local_reply_config`: what an answer of the proxy itself looks like.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as wire;

use super::context::Context;
use super::filter::Filter;
use super::{Format, FormatError};
use crate::rejection::{Rejection, Within as _};
use crate::route::{HeaderOps, data_source};

/// `LocalReplyConfig`: the first mapper whose filter holds changes the answer.
#[derive(Clone, Debug)]
pub struct LocalReplies {
    mappers: Vec<Mapper>,
    format: Option<Format>,
}

#[derive(Clone, Debug)]
struct Mapper {
    filter: Filter,
    status: Option<u16>,
    body: Option<Box<str>>,
    format: Option<Format>,
    headers: HeaderOps,
}

/// An answer of the proxy.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// The `content-type` of a body that is not empty.
    pub content_type: &'a str,
    /// Headers to add; evaluate them with the context of the request.
    pub headers: Option<&'a HeaderOps>,
}

impl LocalReplies {
    /// Decodes the configuration.
    ///
    /// # Errors
    /// A filter, format or header that is not supported.
    pub fn decode(config: &wire::LocalReplyConfig) -> Result<Self, Rejection> {
        let mappers = config.mappers.iter().enumerate();
        let mappers = mappers
            .map(|(i, mapper)| Mapper::decode(mapper).within(|| format!("mappers[{i}]")))
            .collect::<Result<_, _>>()?;
        let format = config.body_format.as_ref().map(Format::decode).transpose().within(|| "body_format")?;
        Ok(Self { mappers, format })
    }

    /// The answer for the facts in `context`, whose `response_code` and `local_reply_body` are what would be sent
    /// without this configuration.
    pub fn reply<'a>(&'a self, context: &Context<'_>) -> Reply<'a> {
        let mapper = self.mappers.iter().find(|mapper| mapper.filter.accepts(context));
        let status = mapper.and_then(|mapper| mapper.status).unwrap_or(context.response_code);
        let body = mapper.and_then(|mapper| mapper.body.as_deref()).unwrap_or(context.local_reply_body);
        let format = mapper.and_then(|mapper| mapper.format.as_ref()).or(self.format.as_ref());
        let headers = mapper.map(|mapper| &mapper.headers).filter(|headers| !headers.is_empty());
        let Some(format) = format else {
            return Reply { status, body: body.to_owned(), content_type: "text/plain", headers };
        };
        let mut rendered = String::new();
        format.render(&Context { response_code: status, local_reply_body: body, ..*context }, &mut rendered);
        Reply { status, body: rendered, content_type: format.content_type(), headers }
    }
}

impl Mapper {
    fn decode(mapper: &wire::ResponseMapper) -> Result<Self, Rejection> {
        let filter = mapper.filter.as_ref().ok_or_else(|| Rejection::new("filter", "is missing"))?;
        let status = match &mapper.status_code {
            Some(code) if (200..600).contains(&code.value) => Some(code.value as u16),
            Some(code) => {
                return Err(Rejection::new("status_code", format!("{} is not 200 to 599", code.value)));
            }
            None => None,
        };
        let body = match &mapper.body {
            Some(source) => {
                let bytes = data_source(source).within(|| "body")?;
                let text = std::str::from_utf8(&bytes).map_err(|_| Rejection::new("body", "is not UTF-8"))?;
                Some(text.into())
            }
            None => None,
        };
        let format = mapper.body_format_override.as_ref().map(Format::decode).transpose();
        Ok(Self {
            filter: Filter::decode(filter).within(|| "filter")?,
            status,
            body,
            format: format.within(|| "body_format_override")?,
            headers: HeaderOps::decode(&mapper.headers_to_add, &[])?,
        })
    }
}

impl From<FormatError> for Rejection {
    fn from(error: FormatError) -> Self {
        Self::new("", error.to_string())
    }
}
