//! From Envoy's `Buffer` and `BufferPerRoute`.

use envoy_types::pb::envoy::extensions::filters::http::buffer::v3 as wire;
use weft_routing::rejection::{Rejection, Within as _};
use wire::buffer_per_route::Override as PerRoute;

use super::super::Override;
use super::Buffer;

pub(in super::super) fn filter(given: &wire::Buffer) -> Result<Buffer, Rejection> {
    let most = given.max_request_bytes.as_ref().map(|most| most.value);
    let max_request_bytes = most.ok_or_else(|| Rejection::new("max_request_bytes", "must be set"))?;
    if max_request_bytes == 0 {
        return Err(Rejection::new("max_request_bytes", "must be greater than 0"));
    }
    Ok(Buffer { max_request_bytes })
}

pub(in super::super) fn per_route(given: &wire::BufferPerRoute) -> Result<Override, Rejection> {
    match &given.r#override {
        Some(PerRoute::Disabled(true)) => Ok(Override::Disabled),
        Some(PerRoute::Disabled(false)) => Err(Rejection::new("disabled", "must be true where it is set")),
        Some(PerRoute::Buffer(given)) => filter(given).within(|| "buffer").map(Override::Buffer),
        None => Err(Rejection::new("override", "disabled or buffer is needed")),
    }
}
