//! `LocalReplyConfig`.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use weft_routing::rejection::{Rejection, Within as _};

use super::route::header_ops;
use super::{fields, format, log_filter};
use crate::runtime::{LocalReplies, Mapper};

/// Reads what answers of the proxy itself look like.
///
/// # Errors
/// A filter, format or header that is not supported.
pub(super) fn local_replies(given: &LocalReplyConfig) -> Result<LocalReplies, Rejection> {
    let mappers = given.mappers.iter().enumerate();
    let mappers = mappers
        .map(|(i, given)| mapper(given).within(|| format!("mappers[{i}]")))
        .collect::<Result<_, _>>()?;
    let format = given.body_format.as_ref().map(format::substitution).transpose().within(|| "body_format")?;
    Ok(LocalReplies { mappers, format })
}

fn mapper(given: &ResponseMapper) -> Result<Mapper, Rejection> {
    let filter = given.filter.as_ref().ok_or_else(|| Rejection::new("filter", "is missing"))?;
    let status = match &given.status_code {
        Some(code) if (200..600).contains(&code.value) => Some(code.value as u16),
        Some(code) => {
            return Err(Rejection::new("status_code", format!("{} is not 200 to 599", code.value)));
        }
        None => None,
    };
    let body = match &given.body {
        Some(source) => {
            let bytes = fields::content(source).within(|| "body")?;
            let text = std::str::from_utf8(&bytes).map_err(|_| Rejection::new("body", "is not UTF-8"))?;
            Some(text.into())
        }
        None => None,
    };
    let format = given.body_format_override.as_ref().map(format::substitution).transpose();
    Ok(Mapper {
        filter: log_filter::filter(filter).within(|| "filter")?,
        status,
        body,
        format: format.within(|| "body_format_override")?,
        headers: header_ops(&given.headers_to_add, &[])?,
    })
}
