//! What stands at every level of a route configuration: operations on headers, and `typed_per_filter_config`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;

use super::super::rbac;
use super::headers::header_ops;
use crate::rejection::{Notes, Rejection, Within as _};
use crate::route::{FilterOverride, Levelled};

const RBAC_PER_ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
const FILTER_CONFIG: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";

/// Reads what every level has: the configuration, a virtual host, a route, a weighted cluster.
pub(super) fn levelled(
    request_add: &[HeaderValueOption],
    request_remove: &[String],
    (response_add, response_remove): (&[HeaderValueOption], &[String]),
    filters: &HashMap<String, Any>,
    notes: &mut Notes,
) -> Result<Levelled, Rejection> {
    let sorted: BTreeMap<&String, &Any> = filters.iter().collect();
    let mut overrides = BTreeMap::new();
    for (name, any) in sorted {
        let found = filter_override(any, notes).within(|| format!("typed_per_filter_config[{name}]"))?;
        if let Some(found) = found {
            overrides.insert(name.as_str().into(), found);
        }
    }
    Ok(Levelled {
        request: header_ops(request_add, request_remove).within(|| "request_headers")?,
        response: header_ops(response_add, response_remove).within(|| "response_headers")?,
        filters: overrides,
    })
}

fn filter_override(any: &Any, notes: &mut Notes) -> Result<Option<FilterOverride>, Rejection> {
    let malformed = |error: prost::DecodeError| Rejection::new("", format!("cannot be decoded: {error}"));
    match any.type_url.as_str() {
        RBAC_PER_ROUTE => {
            let wire = RbacPerRoute::decode(&*any.value).map_err(malformed)?;
            Ok(Some(match wire.rbac {
                Some(rbac) => FilterOverride::Rbac(Arc::new(rbac::http(&rbac, notes).within(|| "rbac")?)),
                None => FilterOverride::Disabled,
            }))
        }
        FILTER_CONFIG => {
            let wire = wire::FilterConfig::decode(&*any.value).map_err(malformed)?;
            match wire.config {
                _ if wire.disabled => Ok(Some(FilterOverride::Disabled)),
                None => Err(Rejection::new("config", "is missing")),
                Some(config) if config.type_url == FILTER_CONFIG => {
                    Err(Rejection::new("config", "may not be a FilterConfig again"))
                }
                Some(config) => match filter_override(&config, notes).within(|| "config") {
                    Err(rejection) if wire.is_optional => {
                        notes.ignored(true, &rejection.field);
                        Ok(None)
                    }
                    other => other,
                },
            }
        }
        other => Err(Rejection::new("", format!("{other:?} is not supported by this proxy"))),
    }
}
