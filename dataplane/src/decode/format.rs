//! `SubstitutionFormatString`.

#[cfg(test)]
mod tests;

use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as Specifier;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use weft_routing::rejection::{Rejection, Within as _};

use super::fields;
use crate::format::{Format, FormatError, Node};

/// Reads a format.
///
/// # Errors
/// A formatter extension, a source that cannot be read, or a format that does not parse.
pub(crate) fn substitution(given: &SubstitutionFormatString) -> Result<Format, Rejection> {
    let known = |name: &str| name.ends_with("req_without_query.v3.ReqWithoutQuery");
    for formatter in &given.formatters {
        if !formatter.typed_config.as_ref().is_some_and(|any| known(&any.type_url)) {
            return Err(Rejection::unsupported(format!("formatters[{}]", formatter.name)));
        }
    }
    let wrong = |error: FormatError| Rejection::new("", error.to_string());
    let mut format = match &given.format {
        Some(Specifier::TextFormat(text)) => Format::parse(text).map_err(wrong).within(|| "text_format")?,
        Some(Specifier::JsonFormat(given)) => {
            Format::json(object(given).map_err(wrong).within(|| "json_format")?)
        }
        Some(Specifier::TextFormatSource(source)) => {
            let text = fields::content(source).within(|| "text_format_source")?;
            let text = std::str::from_utf8(&text)
                .map_err(|_| Rejection::new("text_format_source", "is not UTF-8"))?;
            Format::parse(text).map_err(wrong).within(|| "text_format_source")?
        }
        None => return Err(Rejection::new("format", "is missing")),
    };
    if given.omit_empty_values {
        format = format.omitting_empty();
    }
    if !given.content_type.is_empty() {
        format = format.with_content_type(&given.content_type);
    }
    Ok(format)
}

fn object(given: &Struct) -> Result<Node, FormatError> {
    let member = |(name, value): (&String, &Value)| Ok((name.as_str().into(), node(value)?));
    Ok(Node::object(given.fields.iter().map(member).collect::<Result<_, FormatError>>()?))
}

fn node(given: &Value) -> Result<Node, FormatError> {
    Ok(match &given.kind {
        Some(Kind::StructValue(given)) => object(given)?,
        Some(Kind::ListValue(list)) => Node::List(list.values.iter().map(node).collect::<Result<_, _>>()?),
        Some(Kind::StringValue(text)) => Node::string(text)?,
        Some(Kind::NumberValue(number)) => Node::Number(*number),
        Some(Kind::BoolValue(bool)) => Node::Bool(*bool),
        Some(Kind::NullValue(_)) | None => Node::Null,
    })
}
