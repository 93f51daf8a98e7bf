//! Which filter a message means.

use envoy_types::pb::envoy::config::route::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3 as buffer_v3;
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3 as compressor_v3;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as cors_v3;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as dynamic_forward_proxy;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as ext_authz_v3;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as header_mutation_v3;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt_authn_v3;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as rbac_v3;
use envoy_types::pb::google::protobuf::Any;
use weft_routing::rejection::{Notes, Rejection, Within as _};

use super::{
    Filter, Override, buffer, compressor, cors, ext_authz, fault, header_mutation, jwt_authn,
    local_rate_limit, rbac,
};
use crate::decode::{dns_cache, fields};
use crate::stats::{StatsRegistry, StatsScope};

/// Reads the `typed_config` of an HTTP filter; `None` where it is no filter that is known here.
///
/// # Errors
/// A field that is wrong, or known and not supported.
pub fn filter(
    config: &Any,
    scope: &StatsScope,
    notes: &mut Notes,
    registry: &mut StatsRegistry,
) -> Result<Option<Filter>, Rejection> {
    Ok(Some(if fields::holds::<rbac_v3::Rbac>(config) {
        let given: rbac_v3::Rbac = fields::unpack(config, "")?;
        Filter::Rbac(rbac::decode::filter(&given, scope, notes, registry)?)
    } else if fields::holds::<dynamic_forward_proxy::FilterConfig>(config) {
        let given: dynamic_forward_proxy::FilterConfig = fields::unpack(config, "")?;
        dns_cache::of_filter(&given, notes)?;
        Filter::DynamicForwardProxy
    } else if fields::holds::<header_mutation_v3::HeaderMutation>(config) {
        Filter::HeaderMutation(header_mutation::decode::filter(&fields::unpack(config, "")?)?)
    } else if fields::holds::<HttpFault>(config) {
        Filter::Fault(fault::decode::filter(&fields::unpack(config, "")?, scope, notes, registry)?)
    } else if fields::holds::<LocalRateLimit>(config) {
        let limit = local_rate_limit::decode::filter(&fields::unpack(config, "")?, notes)?;
        limit.register(registry);
        Filter::LocalRateLimit(limit)
    } else if fields::holds::<cors_v3::Cors>(config) {
        Filter::Cors(cors::decode::filter(scope, registry))
    } else if fields::holds::<buffer_v3::Buffer>(config) {
        Filter::Buffer(buffer::decode::filter(&fields::unpack(config, "")?)?)
    } else if fields::holds::<ext_authz_v3::ExtAuthz>(config) {
        Filter::ExtAuthz(ext_authz::decode::filter(&fields::unpack(config, "")?, scope, notes, registry)?)
    } else if fields::holds::<compressor_v3::Compressor>(config) {
        Filter::Compressor(compressor::decode::filter(&fields::unpack(config, "")?, scope, notes, registry)?)
    } else if fields::holds::<jwt_authn_v3::JwtAuthentication>(config) {
        Filter::JwtAuthn(jwt_authn::decode::filter(&fields::unpack(config, "")?, scope, notes, registry)?)
    } else {
        return Ok(None);
    }))
}

/// Reads what `typed_per_filter_config` says of a filter; `None` where it is optional and not known here.
///
/// # Errors
/// A filter that is not known, or a field that is wrong or not supported.
pub(crate) fn per_route(config: &Any, notes: &mut Notes) -> Result<Option<Override>, Rejection> {
    if fields::holds::<FilterConfig>(config) {
        let given: FilterConfig = fields::unpack(config, "")?;
        return match given.config {
            _ if given.disabled => Ok(Some(Override::Disabled)),
            None => Err(Rejection::new("config", "is missing")),
            Some(config) if fields::holds::<FilterConfig>(&config) => {
                Err(Rejection::new("config", "may not be a FilterConfig again"))
            }
            Some(config) => match per_route(&config, notes).within(|| "config") {
                Err(rejection) if given.is_optional => {
                    notes.ignored(true, &rejection.field);
                    Ok(None)
                }
                other => other,
            },
        };
    }
    if fields::holds::<rbac_v3::RbacPerRoute>(config) {
        let given: rbac_v3::RbacPerRoute = fields::unpack(config, "")?;
        return rbac::decode::per_route(&given, notes).map(Some);
    }
    if fields::holds::<header_mutation_v3::HeaderMutationPerRoute>(config) {
        return header_mutation::decode::per_route(&fields::unpack(config, "")?).map(Some);
    }
    if fields::holds::<HttpFault>(config) {
        return fault::decode::per_route(&fields::unpack(config, "")?, notes).map(Some);
    }
    if fields::holds::<LocalRateLimit>(config) {
        return local_rate_limit::decode::per_route(&fields::unpack(config, "")?, notes).map(Some);
    }
    if fields::holds::<cors_v3::CorsPolicy>(config) {
        return cors::decode::per_route(&fields::unpack(config, "")?, notes).map(Some);
    }
    if fields::holds::<buffer_v3::BufferPerRoute>(config) {
        return buffer::decode::per_route(&fields::unpack(config, "")?).map(Some);
    }
    if fields::holds::<ext_authz_v3::ExtAuthzPerRoute>(config) {
        return ext_authz::decode::per_route(&fields::unpack(config, "")?, notes).map(Some);
    }
    if fields::holds::<compressor_v3::CompressorPerRoute>(config) {
        return compressor::decode::per_route(&fields::unpack(config, "")?).map(Some);
    }
    if fields::holds::<jwt_authn_v3::PerRouteConfig>(config) {
        return jwt_authn::decode::per_route(&fields::unpack(config, "")?).map(Some);
    }
    Err(Rejection::new("", format!("{:?} is not supported by this proxy", config.type_url)))
}

/// Gives the statistics that routes have for filters of their own their ids.
pub(crate) fn register<'a>(
    overrides: impl Iterator<Item = (&'a str, &'a Override)>,
    registry: &mut StatsRegistry,
) {
    for (_, special) in overrides {
        match special {
            Override::LocalRateLimit(limit) => limit.register(registry),
            Override::Disabled
            | Override::Rbac(_)
            | Override::HeaderMutation(_)
            | Override::Fault(_)
            | Override::Cors(_)
            | Override::Buffer(_)
            | Override::ExtAuthz(_)
            | Override::Compressor(_)
            | Override::JwtAuthn(_) => {}
        }
    }
}
