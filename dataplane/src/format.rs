//! Envoy's format strings: access logs, header values and the bodies of local replies.
//!
//! A [`Format`] is parsed once; rendering reads a [`FormatContext`] of borrowed facts and writes into a buffer that the
//! caller keeps. A command that Envoy has and whose subject does not exist in this proxy (dynamic metadata, filter
//! state) parses and renders as absent; a command that is unknown is an error.

mod command;
mod context;
mod filter;
mod flags;
mod json;
mod needs;
mod parse;
mod part;
mod time;

use std::borrow::Cow;

pub use context::{DownstreamInfo, FormatContext, Timing, UpstreamInfo};
pub(crate) use filter::Comparison;
pub use filter::{AccessLogFilter, TextAttribute};
pub use flags::ResponseFlags;
pub(crate) use json::Node;
pub(crate) use needs::LogNeeds;
pub use parse::FormatError;
use part::{FormatPart, render_parts};

/// Envoy's default access log format.
pub const DEFAULT_ACCESS_LOG: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% \
    %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A format that is ready to render.
#[derive(Clone, Debug)]
pub struct Format {
    body: FormatBody,
    omit_empty: bool,
    content_type: Option<Box<str>>,
}

#[derive(Clone, Debug)]
enum FormatBody {
    Text(Vec<FormatPart>),
    Json(Node),
}

impl Default for Format {
    fn default() -> Self {
        Self::parse(DEFAULT_ACCESS_LOG).expect("the default format is tested to parse")
    }
}

impl Format {
    /// Parses a text format.
    ///
    /// # Errors
    /// A command that is unknown or cut off.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        Ok(Self { body: FormatBody::Text(parse::parts(text)?), omit_empty: false, content_type: None })
    }

    /// A JSON format, one object a line: a string that is one command becomes a number where the command is one, and
    /// null where it has no value.
    #[must_use]
    pub(crate) fn json(object: Node) -> Self {
        Self { body: FormatBody::Json(object), omit_empty: false, content_type: None }
    }

    /// The same format, which leaves out what is absent: `omit_empty_values`.
    #[must_use]
    pub(crate) fn omitting_empty(self) -> Self {
        Self { omit_empty: true, ..self }
    }

    /// The same format for a body of this `content_type`.
    #[must_use]
    pub(crate) fn with_content_type(self, content_type: &str) -> Self {
        Self { content_type: Some(content_type.into()), ..self }
    }

    /// The text, where the format has no command.
    pub fn as_literal(&self) -> Option<Cow<'_, str>> {
        let FormatBody::Text(parts) = &self.body else { return None };
        match parts.as_slice() {
            [] => Some("".into()),
            [FormatPart::Literal(text)] => Some((&**text).into()),
            _ => None,
        }
    }

    /// The `content-type` of a body in this format.
    pub fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or(match self.body {
            FormatBody::Text(_) => "text/plain",
            FormatBody::Json(_) => "application/json",
        })
    }

    /// What has to be kept of a request for it.
    pub(crate) fn needs(&self) -> LogNeeds {
        match &self.body {
            FormatBody::Text(parts) => LogNeeds::of_parts(parts),
            FormatBody::Json(node) => LogNeeds::of_node(node),
        }
    }

    /// Appends the rendered text to `out`. A JSON format ends in a line feed, a text format in what it says.
    pub fn render(&self, context: &FormatContext<'_>, out: &mut String) {
        match &self.body {
            FormatBody::Text(parts) => {
                render_parts(parts, context, if self.omit_empty { "" } else { "-" }, out);
            }
            FormatBody::Json(node) => {
                node.render(context, self.omit_empty, out);
                out.push('\n');
            }
        }
    }

    /// The value of a header: what is absent is empty.
    pub fn render_header(&self, context: &FormatContext<'_>) -> String {
        let mut out = String::new();
        match &self.body {
            FormatBody::Text(parts) => render_parts(parts, context, "", &mut out),
            FormatBody::Json(node) => node.render(context, self.omit_empty, &mut out),
        }
        out
    }
}

#[cfg(test)]
mod tests;
