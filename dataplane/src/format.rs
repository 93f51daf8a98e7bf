//! Envoy's format strings: access logs, header values and the bodies of local replies.
//!
//! A [`Format`] is parsed once; rendering reads a [`Context`] of borrowed facts and writes into a buffer that the
//! caller keeps. A command that Envoy has and whose subject does not exist in this proxy (dynamic metadata, filter
//! state) parses and renders as absent; a command that is unknown is an error.

#![expect(deprecated, reason = "configurations that use the old forms mean the same")]

mod command;
mod context;
mod filter;
mod flags;
mod json;
mod parse;
mod reply;
mod time;

use std::borrow::Cow;

use envoy_types::pb::envoy::config::core::v3 as wire;
use envoy_types::pb::google::protobuf::Struct;
use wire::substitution_format_string::Format as Wire;

use crate::rejection::{Rejection, Within as _};
use command::Command;
pub use context::{Context, Downstream, Timing, Upstream};
pub use filter::Filter;
pub use flags::ResponseFlags;
use json::Node;
pub use parse::FormatError;
pub use reply::{LocalReplies, Reply};

/// Envoy's default access log format.
pub const DEFAULT_ACCESS_LOG: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% \
    %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A format that is ready to render.
#[derive(Clone, Debug)]
pub struct Format {
    body: Body,
    omit_empty: bool,
    content_type: Option<Box<str>>,
}

#[derive(Clone, Debug)]
enum Body {
    Text(Vec<Part>),
    Json(Node),
}

/// A piece of a text format.
#[derive(Clone, Debug)]
enum Part {
    Literal(Box<str>),
    Command(Command),
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
        Ok(Self { body: Body::Text(parse::parts(text)?), omit_empty: false, content_type: None })
    }

    /// Parses a JSON format, one object a line: a string that is one command becomes a number where the command is
    /// one, and null where it has no value.
    ///
    /// # Errors
    /// As [`Format::parse`].
    pub fn parse_json(object: &Struct) -> Result<Self, FormatError> {
        Ok(Self { body: Body::Json(Node::parse(object)?), omit_empty: false, content_type: None })
    }

    /// Decodes a `SubstitutionFormatString`.
    ///
    /// # Errors
    /// A formatter extension, a source that cannot be read, or a format that does not parse.
    pub fn decode(format: &wire::SubstitutionFormatString) -> Result<Self, Rejection> {
        let known = |name: &str| name.ends_with("req_without_query.v3.ReqWithoutQuery");
        for formatter in &format.formatters {
            if !formatter.typed_config.as_ref().is_some_and(|any| known(&any.type_url)) {
                return Err(Rejection::unsupported(format!("formatters[{}]", formatter.name)));
            }
        }
        let wrong = |error: FormatError| Rejection::new("", error.to_string());
        let mut decoded = match &format.format {
            Some(Wire::TextFormat(text)) => Self::parse(text).map_err(wrong).within(|| "text_format")?,
            Some(Wire::JsonFormat(object)) => {
                Self::parse_json(object).map_err(wrong).within(|| "json_format")?
            }
            Some(Wire::TextFormatSource(source)) => {
                let text = crate::route::data_source(source).within(|| "text_format_source")?;
                let text = String::from_utf8(text.to_vec())
                    .map_err(|_| Rejection::new("text_format_source", "is not UTF-8"))?;
                Self::parse(&text).map_err(wrong).within(|| "text_format_source")?
            }
            None => return Err(Rejection::new("format", "is missing")),
        };
        decoded.omit_empty = format.omit_empty_values;
        decoded.content_type = (!format.content_type.is_empty()).then(|| format.content_type.as_str().into());
        Ok(decoded)
    }

    /// The text, where the format has no command.
    pub fn as_literal(&self) -> Option<Cow<'_, str>> {
        let Body::Text(parts) = &self.body else { return None };
        match parts.as_slice() {
            [] => Some("".into()),
            [Part::Literal(text)] => Some((&**text).into()),
            _ => None,
        }
    }

    /// The `content-type` of a body in this format.
    pub fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or(match self.body {
            Body::Text(_) => "text/plain",
            Body::Json(_) => "application/json",
        })
    }

    /// Appends the rendered text to `out`. A JSON format ends in a line feed, a text format in what it says.
    pub fn render(&self, context: &Context<'_>, out: &mut String) {
        match &self.body {
            Body::Text(parts) => render_parts(parts, context, if self.omit_empty { "" } else { "-" }, out),
            Body::Json(node) => {
                node.render(context, self.omit_empty, out);
                out.push('\n');
            }
        }
    }

    /// The value of a header: what is absent is empty.
    pub fn render_header(&self, context: &Context<'_>) -> String {
        let mut out = String::new();
        match &self.body {
            Body::Text(parts) => render_parts(parts, context, "", &mut out),
            Body::Json(node) => node.render(context, self.omit_empty, &mut out),
        }
        out
    }
}

fn render_parts(parts: &[Part], context: &Context<'_>, absent: &str, out: &mut String) {
    for part in parts {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Command(command) => {
                let start = out.len();
                if command.write(context, out) {
                    command.truncate(out, start);
                } else {
                    out.push_str(absent);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
