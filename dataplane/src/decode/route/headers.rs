//! `*_headers_to_add` and `*_headers_to_remove`.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use http::{HeaderName, HeaderValue};
use weft_routing::rejection::{Rejection, Within as _};

use crate::format::Format;
use crate::route::{Addition, AppendAction, HeaderOps, HeaderTemplate};

/// Reads additions and removals.
///
/// # Errors
/// A name or value that is no header, a pseudo header or `host`, or a command that is unknown.
pub(crate) fn header_ops(add: &[HeaderValueOption], remove: &[String]) -> Result<HeaderOps, Rejection> {
    let add = add
        .iter()
        .map(|option| addition(option).within(|| format!("headers_to_add[{}]", key(option))))
        .collect::<Result<Vec<_>, _>>()?;
    let remove = remove
        .iter()
        .map(|name| header_name(name).within(|| "headers_to_remove"))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(HeaderOps::new(remove, add))
}

fn key(option: &HeaderValueOption) -> &str {
    option.header.as_ref().map_or("", |header| &header.key)
}

fn addition(option: &HeaderValueOption) -> Result<Addition, Rejection> {
    let header = option.header.as_ref().ok_or_else(|| Rejection::new("header", "is missing"))?;
    let action = match HeaderAppendAction::try_from(option.append_action) {
        // The older field, which is true by default.
        Ok(_) if option.append.as_ref().is_some_and(|append| !append.value) => {
            AppendAction::OverwriteIfExistsOrAdd
        }
        Ok(HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
        Ok(HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
        Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
        Ok(HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
        Err(_) => return Err(Rejection::new("append_action", "is unknown")),
    };
    let fixed = |bytes: &[u8]| {
        HeaderValue::from_bytes(bytes).map_err(|_| Rejection::new("value", "cannot be the value of a header"))
    };
    let value = if !header.raw_value.is_empty() {
        HeaderTemplate::Fixed(fixed(&header.raw_value)?)
    } else if header.value.contains('%') {
        let format =
            Format::parse(&header.value).map_err(|error| Rejection::new("value", error.to_string()))?;
        match format.as_literal() {
            Some(literal) => HeaderTemplate::Fixed(fixed(literal.as_bytes())?),
            None => HeaderTemplate::Formatted(format),
        }
    } else {
        HeaderTemplate::Fixed(fixed(header.value.as_bytes())?)
    };
    Ok(Addition { name: header_name(&header.key)?, value, action, keep_empty: option.keep_empty_value })
}

fn header_name(name: &str) -> Result<HeaderName, Rejection> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(Rejection::new(name, "pseudo headers and host may not be changed this way"));
    }
    HeaderName::try_from(name)
        .map_err(|_| Rejection::new("key", format!("{name:?} is not the name of a header")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FormatContext;
    use envoy_types::pb::envoy::config::core::v3::HeaderValue as Header;
    use http::HeaderMap;

    fn option(key: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
        let header = Header { key: key.into(), value: value.into(), ..Default::default() };
        HeaderValueOption { header: Some(header), append_action: action as i32, ..Default::default() }
    }

    #[test]
    fn removal_comes_before_addition() {
        let ops =
            header_ops(&[option("x-a", "%%new", HeaderAppendAction::AppendIfExistsOrAdd)], &["x-a".into()])
                .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-a", "old".parse().unwrap());
        ops.apply(&mut headers, ops.evaluate(&FormatContext::default()));
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["%new"]);
    }

    #[test]
    fn host_and_pseudo_headers_are_refused() {
        for name in [":path", "Host", "sp ace"] {
            assert!(header_ops(&[option(name, "v", HeaderAppendAction::AddIfAbsent)], &[]).is_err());
        }
    }
}
