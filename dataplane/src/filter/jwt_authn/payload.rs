//! What of a verified token goes on: in headers, and in metadata for the filters behind.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use weft_routing::metadata::{MetadataFields, MetadataValue, at_path};

use super::TokenProvider;
use super::json::{whole, written};
use super::token::JsonWebToken;

/// What metadata is told, by name. It is told when the request goes on.
pub(super) type ToldMetadata = Vec<(Box<str>, MetadataValue)>;

/// Writes the headers; whether one came of a claim.
pub(super) fn write_headers(
    provider: &TokenProvider,
    token: &JsonWebToken<'_>,
    headers: &mut HeaderMap,
) -> bool {
    if let Some((name, padded)) = &provider.payload_header {
        let mut text = token.payload_text.to_owned();
        while *padded && !text.len().is_multiple_of(4) {
            text.push('=');
        }
        // Base64 is a header's value always.
        headers.extend(HeaderValue::from_str(&text).ok().map(|value| (name.clone(), value)));
    }
    let mut any = false;
    for (path, name) in &provider.claim_headers {
        let text = at_path(&token.payload, path).map(in_header).filter(|text| !text.is_empty());
        // A claim with a line break in it is none that a header can have.
        if let Some(value) = text.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok()) {
            headers.append(name, value);
            any = true;
        }
    }
    any
}

/// A claim as a header has it: lists and objects as JSON in Base64.
fn in_header(claim: &MetadataValue) -> String {
    match claim {
        MetadataValue::Null => String::new(),
        MetadataValue::Bool(value) => value.to_string(),
        MetadataValue::Number(value) => match whole(*value) {
            Some(whole) => whole.to_string(),
            None => format!("{value:.6}"),
        },
        MetadataValue::Text(text) => text.to_string(),
        MetadataValue::List(_) | MetadataValue::Struct(_) => STANDARD.encode(written(claim).to_string()),
    }
}

/// Tells metadata of a token.
pub(super) fn tell(provider: &TokenProvider, token: JsonWebToken<'_>, told: &mut ToldMetadata) {
    if let Some(name) = &provider.header_in_metadata {
        told.push((name.clone(), MetadataValue::Struct(token.header)));
    }
    if let Some(name) = &provider.payload_in_metadata {
        told.push((name.clone(), MetadataValue::Struct(split(token.payload, &provider.space_delimited))));
    }
}

fn split(mut payload: MetadataFields, claims: &[Box<str>]) -> MetadataFields {
    for claim in claims {
        if let Some(value) = payload.get_mut(claim)
            && let Some(text) = value.as_text()
        {
            let parts = text.split(' ').filter(|part| !part.is_empty());
            *value = MetadataValue::List(parts.map(|part| MetadataValue::Text(part.into())).collect());
        }
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_text_as_envoy_writes_it() {
        let text = |text: &str| MetadataValue::Text(text.into());
        for (claim, wanted) in [
            (text("a"), "a"),
            (MetadataValue::Number(3.0), "3"),
            (MetadataValue::Number(-3.0), "-3.000000"),
            (MetadataValue::Number(0.5), "0.500000"),
            (MetadataValue::Bool(true), "true"),
            (MetadataValue::Null, ""),
            (MetadataValue::List(vec![text("a"), MetadataValue::Number(1.0)]), "WyJhIiwxXQ=="),
        ] {
            assert_eq!(in_header(&claim), wanted);
        }
    }

    #[test]
    fn claims_are_split_at_their_spaces() {
        let fields = |value| MetadataFields::from([("scope".into(), value)]);
        let text = |text: &str| MetadataValue::Text(text.into());
        let split = |value| split(fields(value), &["scope".into(), "other".into()]);
        let list = MetadataValue::List(vec![text("a"), text("b")]);
        assert_eq!(split(text(" a  b ")), fields(list.clone()));
        assert_eq!(split(list.clone()), fields(list));
    }
}
