//! What stands at every level of a route configuration: operations on headers, and `typed_per_filter_config`.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::google::protobuf::Any;
use weft_routing::rejection::{Notes, Rejection, Within as _};

use super::headers::header_ops;
use crate::filter;
use crate::route::LevelConfig;

/// Reads what every level has: the configuration, a virtual host, a route, a weighted cluster.
pub(super) fn level_config(
    request_add: &[HeaderValueOption],
    request_remove: &[String],
    (response_add, response_remove): (&[HeaderValueOption], &[String]),
    filters: &HashMap<String, Any>,
    notes: &mut Notes,
) -> Result<LevelConfig, Rejection> {
    let sorted: BTreeMap<&String, &Any> = filters.iter().collect();
    let mut overrides = BTreeMap::new();
    for (name, any) in sorted {
        let found =
            filter::decode::per_route(any, notes).within(|| format!("typed_per_filter_config[{name}]"))?;
        if let Some(found) = found {
            overrides.insert(name.as_str().into(), found);
        }
    }
    Ok(LevelConfig {
        request: header_ops(request_add, request_remove).within(|| "request_headers")?,
        response: header_ops(response_add, response_remove).within(|| "response_headers")?,
        filters: overrides,
    })
}
