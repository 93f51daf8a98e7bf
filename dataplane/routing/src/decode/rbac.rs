//! `envoy.filters.http.rbac` and `envoy.filters.network.rbac`.

#[cfg(test)]
mod tests;

use std::ops::Range;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::rbac::v3 as wire;
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkFilter;
use envoy_types::pb::envoy::extensions::rbac::matchers::upstream_ip_port::v3::UpstreamIpPortMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::{MetadataMatcher, PathMatcher, path_matcher};
use wire::permission::Rule as P;
use wire::principal::Identifier as I;

use super::{fields, matcher, metadata};
use crate::rbac::{HttpRbac, NetworkRbac, Policy, RbacAction, RbacRule, RbacRules};
use crate::rejection::{Notes, Rejection, Within as _, refuse};

/// Whether rules may look at a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FilterLayer {
    Http,
    Network,
}

/// Reads the filter of requests.
///
/// # Errors
/// A field that is not supported; ignoring one of them could let somebody in.
pub fn http(filter: &HttpFilter, notes: &mut Notes) -> Result<HttpRbac, Rejection> {
    refuse(&filter.matcher, "matcher")?;
    refuse(&filter.shadow_matcher, "shadow_matcher")?;
    notes.ignored(filter.track_per_rule_stats, "rbac.track_per_rule_stats");
    Ok(HttpRbac {
        rules: rules(filter.rules.as_ref(), "rules", FilterLayer::Http)?,
        shadow: rules(filter.shadow_rules.as_ref(), "shadow_rules", FilterLayer::Http)?,
        stat_prefix: filter.rules_stat_prefix.clone(),
        shadow_stat_prefix: filter.shadow_rules_stat_prefix.clone(),
    })
}

/// Reads the filter of connections.
///
/// # Errors
/// A field that is not supported, or a rule about requests, which a connection cannot answer.
pub fn network(filter: &NetworkFilter, notes: &mut Notes) -> Result<NetworkRbac, Rejection> {
    refuse(&filter.matcher, "matcher")?;
    refuse(&filter.shadow_matcher, "shadow_matcher")?;
    notes.ignored(&filter.delay_deny, "rbac.delay_deny");
    notes.ignored(&filter.shadow_rules_stat_prefix, "rbac.shadow_rules_stat_prefix");
    if filter.stat_prefix.is_empty() {
        return Err(Rejection::new("stat_prefix", "is empty"));
    }
    Ok(NetworkRbac {
        rules: rules(filter.rules.as_ref(), "rules", FilterLayer::Network)?,
        shadow: rules(filter.shadow_rules.as_ref(), "shadow_rules", FilterLayer::Network)?,
        stat_prefix: filter.stat_prefix.clone(),
    })
}

fn rules(
    rules: Option<&wire::Rbac>,
    field: &str,
    layer: FilterLayer,
) -> Result<Option<RbacRules>, Rejection> {
    rules.map(|rules| decode_rules(rules, layer).within(|| field)).transpose()
}

fn decode_rules(rules: &wire::Rbac, layer: FilterLayer) -> Result<RbacRules, Rejection> {
    let action = match wire::rbac::Action::try_from(rules.action) {
        Ok(wire::rbac::Action::Allow) => RbacAction::Allow,
        Ok(wire::rbac::Action::Deny) => RbacAction::Deny,
        Ok(wire::rbac::Action::Log) => RbacAction::Log,
        Err(_) => return Err(Rejection::new("action", format!("{} is not an action", rules.action))),
    };
    if let Some(audit) = &rules.audit_logging_options {
        let needed = audit.logger_configs.iter().any(|logger| !logger.is_optional);
        refuse(needed && audit.audit_condition != 0, "audit_logging_options")?;
    }
    let policies = rules
        .policies
        .iter()
        .map(|(name, policy)| decode_policy(name, policy, layer).within(|| format!("policies[{name}]")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RbacRules::new(action, policies))
}

fn decode_policy(name: &str, policy: &wire::Policy, layer: FilterLayer) -> Result<Policy, Rejection> {
    refuse(&policy.condition, "condition")?;
    refuse(&policy.checked_condition, "checked_condition")?;
    refuse(&policy.cel_config, "cel_config")?;
    let permissions = each(&policy.permissions, "permissions", |p| permission(p, layer))?;
    let principals = each(&policy.principals, "principals", |p| principal(p, layer))?;
    Ok(Policy::new(name, permissions, principals))
}

fn each<T>(
    items: &[T],
    field: &str,
    decode: impl Fn(&T) -> Result<RbacRule, Rejection>,
) -> Result<Vec<RbacRule>, Rejection> {
    if items.is_empty() {
        return Err(Rejection::new(field, "is empty"));
    }
    items.iter().enumerate().map(|(i, item)| decode(item).within(|| format!("{field}[{i}]"))).collect()
}

fn permission(permission: &wire::Permission, layer: FilterLayer) -> Result<RbacRule, Rejection> {
    let nested = |p: &wire::Permission| self::permission(p, layer);
    match permission.rule.as_ref().ok_or_else(|| Rejection::new("rule", "is missing"))? {
        P::Any(any) => self::any(*any),
        P::AndRules(set) => each(&set.rules, "and_rules", nested).map(RbacRule::And),
        P::OrRules(set) => each(&set.rules, "or_rules", nested).map(RbacRule::Or),
        P::NotRule(rule) => nested(rule).within(|| "not_rule").map(|rule| RbacRule::Not(Box::new(rule))),
        P::Header(given) => header(given, layer),
        P::UrlPath(path) => url_path(path, layer),
        P::DestinationIp(range) => {
            fields::prefix(range).within(|| "destination_ip").map(RbacRule::DestinationIp)
        }
        P::DestinationPort(port) if *port <= 65_535 => Ok(RbacRule::DestinationPorts(*port..*port + 1)),
        P::DestinationPort(port) => Err(Rejection::new("destination_port", format!("{port} is not a port"))),
        P::DestinationPortRange(range) => {
            ports(range.start.into(), range.end.into(), "destination_port_range")
                .map(RbacRule::DestinationPorts)
        }
        P::RequestedServerName(name) => {
            matcher::string(name).within(|| "requested_server_name").map(RbacRule::ServerName)
        }
        P::Metadata(given) => metadata_of(given, layer).within(|| "metadata"),
        P::SourcedMetadata(given) => sourced_metadata(given, layer).within(|| "sourced_metadata"),
        P::Matcher(extension) => upstream(extension, layer).within(|| "matcher"),
        P::UriTemplate(_) => Err(Rejection::unsupported("uri_template")),
    }
}

fn principal(principal: &wire::Principal, layer: FilterLayer) -> Result<RbacRule, Rejection> {
    let nested = |p: &wire::Principal| self::principal(p, layer);
    match principal.identifier.as_ref().ok_or_else(|| Rejection::new("identifier", "is missing"))? {
        I::Any(any) => self::any(*any),
        I::AndIds(set) => each(&set.ids, "and_ids", nested).map(RbacRule::And),
        I::OrIds(set) => each(&set.ids, "or_ids", nested).map(RbacRule::Or),
        I::NotId(id) => nested(id).within(|| "not_id").map(|rule| RbacRule::Not(Box::new(rule))),
        I::Authenticated(authenticated) => {
            let name = authenticated.principal_name.as_ref().map(matcher::string).transpose();
            name.within(|| "authenticated.principal_name").map(RbacRule::Authenticated)
        }
        I::SourceIp(range) => fields::prefix(range).within(|| "source_ip").map(RbacRule::DirectRemoteIp),
        I::DirectRemoteIp(range) => {
            fields::prefix(range).within(|| "direct_remote_ip").map(RbacRule::DirectRemoteIp)
        }
        I::RemoteIp(range) => fields::prefix(range).within(|| "remote_ip").map(RbacRule::RemoteIp),
        I::Header(given) => header(given, layer),
        I::UrlPath(path) => url_path(path, layer),
        I::Metadata(given) => metadata_of(given, layer).within(|| "metadata"),
        I::FilterState(_) => Err(Rejection::unsupported("filter_state")),
        I::SourcedMetadata(given) => sourced_metadata(given, layer).within(|| "sourced_metadata"),
        I::Custom(_) => Err(Rejection::unsupported("custom")),
    }
}

fn any(any: bool) -> Result<RbacRule, Rejection> {
    if any { Ok(RbacRule::Any) } else { Err(Rejection::new("any", "may only be true")) }
}

fn header(given: &HeaderMatcher, layer: FilterLayer) -> Result<RbacRule, Rejection> {
    if layer == FilterLayer::Network {
        return Err(Rejection::new("header", "a connection has no headers; use the HTTP filter"));
    }
    matcher::header(given).within(|| "header").map(RbacRule::Header)
}

fn metadata_of(given: &MetadataMatcher, layer: FilterLayer) -> Result<RbacRule, Rejection> {
    if layer == FilterLayer::Network {
        return Err(Rejection::new("", "nothing is found out of a connection here; use the HTTP filter"));
    }
    metadata::metadata(given).map(RbacRule::Metadata)
}

fn sourced_metadata(given: &wire::SourcedMetadata, layer: FilterLayer) -> Result<RbacRule, Rejection> {
    if given.metadata_source != i32::from(wire::MetadataSource::Dynamic) {
        return Err(Rejection::unsupported("metadata_source"));
    }
    let matcher = given.metadata_matcher.as_ref();
    let matcher = matcher.ok_or_else(|| Rejection::new("metadata_matcher", "is missing"))?;
    metadata_of(matcher, layer).within(|| "metadata_matcher")
}

fn url_path(path: &PathMatcher, layer: FilterLayer) -> Result<RbacRule, Rejection> {
    if layer == FilterLayer::Network {
        return Err(Rejection::new("url_path", "a connection has no path; use the HTTP filter"));
    }
    match &path.rule {
        Some(path_matcher::Rule::Path(text)) => {
            matcher::string(text).within(|| "url_path.path").map(RbacRule::Path)
        }
        None => Err(Rejection::new("url_path", "is empty")),
    }
}

/// `envoy.rbac.matchers.upstream_ip_port`, the one matcher that is known.
fn upstream(extension: &TypedExtensionConfig, layer: FilterLayer) -> Result<RbacRule, Rejection> {
    let known =
        extension.typed_config.as_ref().filter(|config| fields::holds::<UpstreamIpPortMatcher>(config));
    let (Some(config), FilterLayer::Http) = (known, layer) else {
        return Err(fields::unknown_extension(&extension.name, extension.typed_config.as_ref(), ""));
    };
    let given: UpstreamIpPortMatcher = fields::unpack(config, "typed_config")?;
    if given.upstream_ip.is_none() && given.upstream_port_range.is_none() {
        return Err(Rejection::new("typed_config", "upstream_ip or upstream_port_range is needed"));
    }
    let range =
        given.upstream_ip.as_ref().map(fields::prefix).transpose().within(|| "typed_config.upstream_ip")?;
    let ports = given.upstream_port_range.as_ref();
    let ports = ports.map(|range| self::ports(range.start, range.end, "typed_config.upstream_port_range"));
    Ok(RbacRule::Upstream(range, ports.transpose()?))
}

/// The ports from `start` up to `end`, which is not one of them.
fn ports(start: i64, end: i64, field: &str) -> Result<Range<u32>, Rejection> {
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), Ok(end)) if start < end && end <= 65_536 => Ok(start..end),
        _ => Err(Rejection::new(field, "is not a range of ports")),
    }
}
