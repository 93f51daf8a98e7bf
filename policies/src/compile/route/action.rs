//! What a rule of an HTTPRoute does: backends by weight, or a redirect, and changes on the way.

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use envoy_types::pb::envoy::config::route::v3::{RedirectAction, Route, RouteAction, WeightedCluster};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use weft_api::Name;

use super::super::compiled::Origins;
use super::super::model::Model;
use super::super::{hashing, traffic, wire};
use super::{ResolvedBackend, resolve};
use crate::kinds::http_rule::Unresolved;
use crate::kinds::port::Protocol;
use crate::kinds::route_filter::{HeaderModifier, NewPath, RequestRedirect, Scheme, UrlRewrite};
use crate::kinds::route_match::{PathMatchType, RouteMatch};
use crate::set::{EffectiveTraffic, HttpRouteMatch};

/// A cluster that exists nowhere: what would go to a backend that is not there is answered 500.
const UNRESOLVED: &str = "unresolved";

/// A route without its match, and the clusters of ours that it names.
#[derive(Debug)]
pub(super) struct CompiledAction {
    pub(super) route: Route,
    pub(super) clusters: Vec<String>,
    /// Policies that shape it beside those of the rule.
    pub(super) origins: Origins,
}

/// Compiles what happens to the requests of one match of a rule.
pub(super) fn compile(
    one: &HttpRouteMatch,
    traffic: &EffectiveTraffic,
    caller: &Name,
    model: &Model<'_>,
) -> CompiledAction {
    let rule = &one.rule;
    let mut clusters = Vec::new();
    let (hash_policy, origins) = hashing::of_backends(
        rule.backend_refs.iter().filter(|backend| backend.weight > 0),
        &one.route.metadata().namespace,
        model,
    );
    let mut route = match rule.redirect() {
        Some(found) => {
            Route { action: Some(Action::Redirect(redirect(found, &one.route_match))), ..Route::default() }
        }
        None => match backends(one, caller, model, &mut clusters) {
            Some(backends) => {
                Route { action: Some(Action::Route(forward(backends, one, traffic))), ..Route::default() }
            }
            None => match one.unresolved {
                Unresolved::InternalServerError => {
                    super::answer(super::any_path(), one.unresolved.status().into(), &no_backend(one))
                }
                // A fixed answer is not put in gRPC's own words by every proxy; one for want of a cluster is.
                Unresolved::ServiceUnavailable => {
                    let nowhere = BackendCluster::named(UNRESOLVED.to_owned());
                    Route { action: Some(Action::Route(forward(nowhere, one, traffic))), ..Route::default() }
                }
            },
        },
    };
    for filter in &rule.filters {
        if let Some(modifier) = &filter.request_header_modifier {
            route.request_headers_to_add.extend(added(modifier));
            route.request_headers_to_remove.extend(removed(modifier));
        }
        if let Some(modifier) = &filter.response_header_modifier {
            route.response_headers_to_add.extend(added(modifier));
            route.response_headers_to_remove.extend(removed(modifier));
        }
    }
    if let Some(Action::Route(action)) = &mut route.action {
        action.hash_policy = hash_policy;
    }
    CompiledAction { route, clusters, origins }
}

fn no_backend(one: &HttpRouteMatch) -> String {
    format!("{} rule {} has no backend that exists", one.route.key(), one.rule_name())
}

/// The backends by weight; `None` when none exists.
fn backends(
    one: &HttpRouteMatch,
    caller: &Name,
    model: &Model<'_>,
    clusters: &mut Vec<String>,
) -> Option<BackendCluster> {
    // What the rule says itself of the host holds for all of them.
    let rewrites = one.rule.filters.iter().filter_map(|filter| filter.url_rewrite.as_ref());
    let is_said = rewrites.into_iter().any(|rewrite| rewrite.hostname.is_some());
    let mut weighted = Vec::new();
    for backend in one.rule.backend_refs.iter().filter(|backend| backend.weight > 0) {
        let found = resolve(backend, &one.route.metadata().namespace, caller, model, Protocol::is_http);
        let (cluster, host) = match found {
            Some(ResolvedBackend { cluster, host }) => (Some(cluster), host.filter(|_| !is_said)),
            None => (None, None),
        };
        clusters.extend(cluster.clone());
        weighted.push(ClusterWeight {
            name: cluster.unwrap_or_else(|| UNRESOLVED.to_owned()),
            weight: Some(wire::uint32(backend.weight)),
            host_rewrite_specifier: host.map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
            ..Default::default()
        });
    }
    if clusters.is_empty() {
        return None;
    }
    if weighted.len() > 1 {
        let weighted = WeightedCluster { clusters: weighted, ..Default::default() };
        return Some(BackendCluster { target: ClusterSpecifier::WeightedClusters(weighted), host: None });
    }
    let only = weighted.pop()?;
    let host = only.host_rewrite_specifier.map(|rewrite| match rewrite {
        cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host) => {
            HostRewriteSpecifier::HostRewriteLiteral(host)
        }
    });
    Some(BackendCluster { host, ..BackendCluster::named(only.name) })
}

/// Where requests go, and the host that they ask for there.
struct BackendCluster {
    target: ClusterSpecifier,
    host: Option<HostRewriteSpecifier>,
}

impl BackendCluster {
    fn named(cluster: String) -> Self {
        Self { target: ClusterSpecifier::Cluster(cluster), host: None }
    }
}

fn forward(backends: BackendCluster, one: &HttpRouteMatch, traffic: &EffectiveTraffic) -> RouteAction {
    let BackendCluster { target, host } = backends;
    let mut action = RouteAction {
        cluster_specifier: Some(target),
        host_rewrite_specifier: host,
        ..traffic::action(traffic)
    };
    if let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action.cluster_specifier
        && weighted.clusters.iter().any(|cluster| cluster.name == UNRESOLVED)
    {
        action.cluster_not_found_response_code = not_found(one.unresolved) as i32;
    }
    for rewrite in one.rule.filters.iter().filter_map(|filter| filter.url_rewrite.as_ref()) {
        apply_rewrite(rewrite, &one.route_match, &mut action);
    }
    action
}

fn not_found(unresolved: Unresolved) -> ClusterNotFoundResponseCode {
    match unresolved {
        Unresolved::InternalServerError => ClusterNotFoundResponseCode::InternalServerError,
        Unresolved::ServiceUnavailable => ClusterNotFoundResponseCode::ServiceUnavailable,
    }
}

fn apply_rewrite(rewrite: &UrlRewrite, matched: &RouteMatch, action: &mut RouteAction) {
    if let Some(host) = &rewrite.hostname {
        action.host_rewrite_specifier =
            Some(HostRewriteSpecifier::HostRewriteLiteral(host.as_str().to_owned()));
    }
    match rewrite.path.as_ref().and_then(|path| path.new_path()) {
        Some(NewPath::Full(path)) => action.regex_rewrite = Some(whole_path(path)),
        Some(NewPath::Prefix(path)) => match prefix_change(matched, path) {
            PrefixChange::Text(text) => action.prefix_rewrite = text,
            PrefixChange::Expression(expression) => action.regex_rewrite = Some(expression),
        },
        None => {}
    }
}

fn redirect(redirect: &RequestRedirect, matched: &RouteMatch) -> RedirectAction {
    let scheme = redirect.scheme.map(|scheme| match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    });
    let path = redirect.path.as_ref().and_then(|path| path.new_path()).map(|path| match path {
        NewPath::Full(path) => PathRewriteSpecifier::PathRedirect(path.to_owned()),
        NewPath::Prefix(path) => match prefix_change(matched, path) {
            PrefixChange::Text(text) => PathRewriteSpecifier::PrefixRewrite(text),
            PrefixChange::Expression(expression) => PathRewriteSpecifier::RegexRewrite(expression),
        },
    });
    RedirectAction {
        host_redirect: redirect.hostname.as_ref().map(|host| host.as_str().to_owned()).unwrap_or_default(),
        port_redirect: redirect.port.map(u32::from).unwrap_or_default(),
        response_code: status(redirect.status_code) as i32,
        scheme_rewrite_specifier: scheme.map(|name| SchemeRewriteSpecifier::SchemeRedirect(name.to_owned())),
        path_rewrite_specifier: path,
        ..Default::default()
    }
}

fn status(code: Option<u16>) -> RedirectResponseCode {
    match code {
        Some(301) => RedirectResponseCode::MovedPermanently,
        Some(303) => RedirectResponseCode::SeeOther,
        Some(307) => RedirectResponseCode::TemporaryRedirect,
        Some(308) => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    }
}

/// How the matched prefix is replaced.
#[derive(Debug, PartialEq)]
enum PrefixChange {
    Text(String),
    Expression(RegexMatchAndSubstitute),
}

/// Replaces a matched prefix by whole elements: `/a` by `/` makes `/a/b` to `/b`, not to `//b`, and `/` by `/a` makes
/// `/b` to `/a/b`. Envoy replaces the text of the prefix only.
fn prefix_change(matched: &RouteMatch, replacement: &str) -> PrefixChange {
    let path = matched.path();
    debug_assert_eq!(path.match_type, PathMatchType::PathPrefix, "checked when the policy was read");
    let old = path.value.trim_end_matches('/');
    let new = replacement.trim_end_matches('/');
    match (old.is_empty(), new.is_empty()) {
        (false, false) => PrefixChange::Text(new.to_owned()),
        (false, true) => PrefixChange::Expression(substitution(format!("^{}/*", regex::escape(old)), "/")),
        (true, _) => PrefixChange::Text(format!("{new}/")),
    }
}

/// Replaces the whole path; Envoy keeps the query.
fn whole_path(path: &str) -> RegexMatchAndSubstitute {
    substitution("^.*$".to_owned(), &path.replace('\\', r"\\"))
}

fn substitution(expression: String, replacement: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(wire::expression_of(expression)),
        substitution: replacement.to_owned(),
    }
}

/// `set` overwrites, `add` appends. A value is text: Envoy's format language has no meaning in it.
fn added(modifier: &HeaderModifier) -> impl Iterator<Item = HeaderValueOption> + '_ {
    let option =
        |header: &crate::kinds::route_filter::HeaderValue, action: HeaderAppendAction| HeaderValueOption {
            header: Some(HeaderValue {
                key: header.name.as_str().to_owned(),
                value: wire::literal(&header.value),
                ..Default::default()
            }),
            append_action: action as i32,
            keep_empty_value: true,
            ..Default::default()
        };
    let set =
        modifier.set.iter().map(move |header| option(header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = modifier.add.iter().map(move |header| option(header, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add)
}

fn removed(modifier: &HeaderModifier) -> impl Iterator<Item = String> + '_ {
    modifier.remove.iter().map(|name| name.as_str().to_owned())
}
