//! `hash_policy`.

use envoy_types::pb::envoy::config::route::v3::route_action as wire;
use weft_routing::decode::fields::header_name;
use weft_routing::decode::route::substitution;
use weft_routing::rejection::{Rejection, Within as _};
use wire::hash_policy::PolicySpecifier;

use super::super::fields;
use crate::route::{HashCookie, HashPolicy, HashSource};

/// Reads what of a request is hashed.
pub(super) fn hash_policies(list: &[wire::HashPolicy]) -> Result<Box<[HashPolicy]>, Rejection> {
    let mut policies = Vec::with_capacity(list.len());
    for (index, given) in list.iter().enumerate() {
        let source = source(given).within(|| format!("hash_policy[{index}]"))?;
        policies.extend(source.map(|source| HashPolicy { source, terminal: given.terminal }));
    }
    Ok(policies.into())
}

fn source(given: &wire::HashPolicy) -> Result<Option<HashSource>, Rejection> {
    Ok(match &given.policy_specifier {
        Some(PolicySpecifier::Header(header)) => {
            let name = match header.header_name.as_str() {
                ":authority" => "host",
                // A request's head has its other parts in no field here.
                pseudo if pseudo.starts_with(':') => {
                    return Err(Rejection::unsupported(format!("header.header_name {pseudo}")));
                }
                name => name,
            };
            let rewrite = header.regex_rewrite.as_ref().map(substitution).transpose();
            Some(HashSource::Header {
                name: header_name(name, "header.header_name")?,
                rewrite: rewrite.within(|| "header.regex_rewrite")?,
            })
        }
        Some(PolicySpecifier::Cookie(cookie)) => Some(HashSource::Cookie(self::cookie(cookie)?)),
        Some(PolicySpecifier::ConnectionProperties(properties)) => {
            properties.source_ip.then_some(HashSource::SourceAddress)
        }
        Some(PolicySpecifier::QueryParameter(parameter)) => {
            if parameter.name.is_empty() {
                return Err(Rejection::new("query_parameter.name", "must not be empty"));
            }
            Some(HashSource::QueryParameter(parameter.name.as_str().into()))
        }
        Some(PolicySpecifier::FilterState(_)) => return Err(Rejection::unsupported("filter_state")),
        None => return Err(Rejection::new("policy_specifier", "is missing")),
    })
}

fn cookie(given: &wire::hash_policy::Cookie) -> Result<HashCookie, Rejection> {
    if given.name.is_empty() {
        return Err(Rejection::new("cookie.name", "must not be empty"));
    }
    let attributes = given.attributes.iter().map(|attribute| match attribute.value.as_str() {
        "" => format!("; {}", attribute.name),
        value => format!("; {}={value}", attribute.name),
    });
    Ok(HashCookie {
        name: given.name.as_str().into(),
        ttl: fields::duration(given.ttl.as_ref(), "cookie.ttl")?,
        path: given.path.as_str().into(),
        attributes: attributes.collect::<String>().into(),
    })
}
