use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration as WireDuration, UInt32Value};
use http::HeaderMap;
use prost::Message as _;
use std::time::Duration;
use weft_routing::matcher::RequestHead;
use wire::route::Action as WireAction;
use wire::route_match::PathSpecifier;

use super::*;
use crate::filter::Override;
use crate::format::FormatContext;
use crate::route::Direction;

fn to_cluster(name: &str) -> wire::RouteAction {
    wire::RouteAction {
        cluster_specifier: Some(wire::route_action::ClusterSpecifier::Cluster(name.into())),
        ..Default::default()
    }
}

fn route(path: PathSpecifier, name: &str) -> wire::Route {
    wire::Route {
        name: name.into(),
        r#match: Some(wire::RouteMatch { path_specifier: Some(path), ..Default::default() }),
        action: Some(WireAction::Route(to_cluster(name))),
        ..Default::default()
    }
}

fn prefix(prefix: &str) -> PathSpecifier {
    PathSpecifier::Prefix(prefix.into())
}

fn regex(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.into(), ..Default::default() }
}

fn host(name: &str, domains: &[&str], routes: Vec<wire::Route>) -> wire::VirtualHost {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    wire::VirtualHost { name: name.into(), domains, routes, ..Default::default() }
}

fn config(virtual_hosts: Vec<wire::VirtualHost>) -> wire::RouteConfiguration {
    wire::RouteConfiguration { name: "r".into(), virtual_hosts, ..Default::default() }
}

fn one(route: wire::Route) -> wire::RouteConfiguration {
    config(vec![host("h", &["*"], vec![route])])
}

fn head<'a>(authority: &'a str, path: &'a str, headers: &'a HeaderMap) -> RequestHead<'a> {
    RequestHead { method: "GET", scheme: "http", authority, path, headers }
}

fn found(config: &RouteConfig, authority: &str, path: &str) -> Option<String> {
    let headers = HeaderMap::new();
    config.find(&head(authority, path, &headers), 0).map(|found| config.route(found).name.to_string())
}

fn decode(wire: &wire::RouteConfiguration) -> RouteConfig {
    route_config(wire).unwrap()
}

#[test]
fn the_most_specific_domain_wins() {
    let hosts = [
        ("exact", "api.example.org"),
        ("long", "*.api.example.org"),
        ("suffix", "*.example.org"),
        ("prefix", "api.*"),
        ("dash", "*-x.example.org"),
        ("any", "*"),
    ];
    let hosts = hosts.into_iter().map(|(name, domain)| host(name, &[domain], vec![route(prefix("/"), name)]));
    let config = decode(&config(hosts.collect()));
    for (authority, wanted) in [
        ("api.example.org", "exact"),
        ("API.Example.ORG", "exact"),
        ("v1.api.example.org", "long"),
        ("www.example.org", "suffix"),
        ("a-x.example.org", "dash"),
        ("api.example.com", "prefix"),
        (".example.org", "any"),
        ("example.org", "any"),
        ("api.example.org:80", "prefix"),
        ("", "any"),
    ] {
        assert_eq!(found(&config, authority, "/").as_deref(), Some(wanted), "{authority}");
    }
}

#[test]
fn the_port_is_ignored_only_on_request() {
    let mut wire = config(vec![host("h", &["web", "[::1]"], vec![route(prefix("/"), "r")])]);
    assert_eq!(found(&decode(&wire), "web:8080", "/"), None);
    wire.ignore_port_in_host_matching = true;
    let config = decode(&wire);
    for authority in ["web:8080", "web", "[::1]:80", "[::1]"] {
        assert!(found(&config, authority, "/").is_some(), "{authority}");
    }
}

#[test]
fn paths_match_without_their_query() {
    let routes = vec![
        route(PathSpecifier::Path("/exact".into()), "exact"),
        route(PathSpecifier::SafeRegex(regex("/v[0-9]+/x")), "regex"),
        route(PathSpecifier::PathSeparatedPrefix("/below".into()), "below"),
        route(prefix("/pre"), "prefix"),
    ];
    let config = decode(&config(vec![host("h", &["*"], routes)]));
    for (path, wanted) in [
        ("/exact?a=b", Some("exact")),
        ("/exact/", None),
        ("/Exact", None),
        ("/v12/x?y", Some("regex")),
        ("/v12/x/y", None),
        ("/below", Some("below")),
        ("/below/it", Some("below")),
        ("/belowit", None),
        ("/prefixed", Some("prefix")),
        ("/other?/pre", None),
    ] {
        assert_eq!(found(&config, "h", path).as_deref(), wanted, "{path}");
    }
}

#[test]
fn case_is_ignored_only_on_request() {
    let mut insensitive = route(prefix("/Api"), "r");
    insensitive.r#match.as_mut().unwrap().case_sensitive = Some(BoolValue { value: false });
    let config = decode(&one(insensitive));
    assert!(found(&config, "h", "/aPI/x").is_some());
}

#[test]
fn headers_query_and_grpc_narrow_a_match() {
    let text = |text: &str| StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.into())),
        ..Default::default()
    };
    let mut narrow = route(prefix("/"), "r");
    let matches = narrow.r#match.as_mut().unwrap();
    matches.headers.push(wire::HeaderMatcher {
        name: ":method".into(),
        header_match_specifier: Some(wire::header_matcher::HeaderMatchSpecifier::StringMatch(text("POST"))),
        ..Default::default()
    });
    matches.query_parameters.push(wire::QueryParameterMatcher {
        name: "v".into(),
        query_parameter_match_specifier: Some(
            wire::query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(text("2")),
        ),
    });
    matches.grpc = Some(wire::route_match::GrpcRouteMatchOptions {});
    let config = decode(&one(narrow));
    let matches = |method, path, content_type: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        config.find(&RequestHead { method, ..head("h", path, &headers) }, 0).is_some()
    };
    assert!(matches("POST", "/?a&v=2", "application/grpc"));
    assert!(matches("POST", "/?v=2&v=3", "application/grpc+proto"));
    assert!(!matches("GET", "/?v=2", "application/grpc"));
    assert!(!matches("POST", "/?v=3&v=2", "application/grpc"));
    assert!(!matches("POST", "/?v=2", "application/grpc-web"));
}

#[test]
fn a_fraction_lets_its_share_through() {
    let mut some = route(prefix("/"), "r");
    some.r#match.as_mut().unwrap().runtime_fraction = Some(Default::default());
    assert_eq!(
        route_config(&one(some.clone())).unwrap_err().field,
        "virtual_hosts[h].routes[r].match.runtime_fraction.default_value"
    );
    let percent = FractionalPercent { numerator: 25, denominator: 0 };
    some.r#match.as_mut().unwrap().runtime_fraction.as_mut().unwrap().default_value = Some(percent);
    let config = decode(&one(some));
    let headers = HeaderMap::new();
    let hits = (0..1_000_000).step_by(100).filter(|n| config.find(&head("h", "/", &headers), *n).is_some());
    assert_eq!(hits.count(), 2500);
}

#[test]
fn weights_split_evenly_spread_random_numbers() {
    let cluster = |name: &str, weight| wire::weighted_cluster::ClusterWeight {
        name: name.into(),
        weight: Some(UInt32Value { value: weight }),
        ..Default::default()
    };
    let weighted = |weights: [u32; 2]| {
        let clusters = vec![cluster("v1", weights[0]), cluster("v2", weights[1])];
        let weighted = wire::WeightedCluster { clusters, ..Default::default() };
        let mut route = route(prefix("/"), "r");
        route.action = Some(WireAction::Route(wire::RouteAction {
            cluster_specifier: Some(wire::route_action::ClusterSpecifier::WeightedClusters(weighted)),
            ..Default::default()
        }));
        one(route)
    };
    assert_eq!(
        route_config(&weighted([0, 0])).unwrap_err().field,
        "virtual_hosts[h].routes[r].route.weighted_clusters.clusters"
    );
    let config = decode(&weighted([80, 20]));
    let headers = HeaderMap::new();
    let head = head("h", "/", &headers);
    let route = config.route(config.find(&head, 0).unwrap());
    let RouteAction::Forward(forward) = &route.effect.action else { panic!("not forwarded") };
    let step = u64::MAX / 10_000;
    let second =
        (0..10_000).filter(|n| forward.cluster.choose(&head, n * step).unwrap().name == "v2").count();
    assert!(second.abs_diff(2000) <= 2, "{second}");
    assert_eq!(config.clusters().iter().map(|name| &***name).collect::<Vec<_>>(), ["v1", "v2"]);
}

#[test]
fn timeouts_default_to_envoys_and_zero_is_none() {
    let forward = |action: wire::RouteAction| {
        let mut route = route(prefix("/"), "r");
        route.action = Some(WireAction::Route(action));
        let mut config = decode(&one(route));
        match Arc::into_inner(config.table.virtual_hosts.remove(0)).unwrap().routes.remove(0).effect.action {
            RouteAction::Forward(forward) => *forward,
            other => panic!("{other:?}"),
        }
    };
    let default = forward(to_cluster("c"));
    assert_eq!((default.timeout, default.idle_timeout), (Some(Duration::from_secs(15)), None));
    let zero = Some(WireDuration::default());
    let none = forward(wire::RouteAction { timeout: zero, idle_timeout: zero, ..to_cluster("c") });
    assert_eq!((none.timeout, none.idle_timeout), (None, Some(None)));
    let bad = wire::RouteAction { timeout: Some(WireDuration { seconds: -1, nanos: 0 }), ..to_cluster("c") };
    let mut wire = route(prefix("/"), "r");
    wire.action = Some(WireAction::Route(bad));
    assert_eq!(route_config(&one(wire)).unwrap_err().field, "virtual_hosts[h].routes[r].route.timeout");
}

#[test]
fn a_route_without_a_retry_policy_has_its_hosts() {
    let mut wire = one(route(prefix("/"), "r"));
    wire.virtual_hosts[0].retry_policy = Some(wire::RetryPolicy {
        retry_on: "connect-failure".into(),
        num_retries: Some(UInt32Value { value: 3 }),
        ..Default::default()
    });
    let config = decode(&wire);
    let RouteAction::Forward(forward) = &config.table.virtual_hosts[0].routes[0].effect.action else {
        panic!("not forwarded")
    };
    assert_eq!(forward.retry.as_ref().unwrap().num_retries, 3);
}

fn rewritten(path: PathSpecifier, action: wire::RouteAction, request: &str) -> String {
    let mut wire = route(path, "r");
    wire.action = Some(WireAction::Route(wire::RouteAction {
        prefix_rewrite: action.prefix_rewrite,
        regex_rewrite: action.regex_rewrite,
        ..to_cluster("c")
    }));
    let config = decode(&one(wire));
    let headers = HeaderMap::new();
    let route = config.route(config.find(&head("h", request, &headers), 0).expect("a route"));
    let RouteAction::Forward(forward) = &route.effect.action else { panic!("not forwarded") };
    forward.path_rewrite.as_ref().unwrap().apply(request, &route.matches)
}

#[test]
fn rewrites_change_the_path_and_keep_the_query() {
    let to = |prefix: &str| wire::RouteAction { prefix_rewrite: prefix.into(), ..Default::default() };
    assert_eq!(rewritten(prefix("/api/"), to("/"), "/api/x?q=/api/"), "/x?q=/api/");
    assert_eq!(rewritten(PathSpecifier::Path("/old".into()), to("/new"), "/old?q"), "/new?q");
    assert_eq!(rewritten(PathSpecifier::PathSeparatedPrefix("/a".into()), to("/b"), "/a/c"), "/b/c");
    let swap = wire::RouteAction {
        regex_rewrite: Some(RegexMatchAndSubstitute {
            pattern: Some(regex("^/service/([^/]+)(/.*)$")),
            substitution: r"\2/instance/$\1".into(),
        }),
        ..Default::default()
    };
    assert_eq!(rewritten(prefix("/"), swap, "/service/foo/v1/api?x=1"), "/v1/api/instance/$foo?x=1");
}

#[test]
fn a_substitution_may_not_name_a_group_that_is_not_there() {
    let mut wire = route(prefix("/"), "r");
    wire.action = Some(WireAction::Route(wire::RouteAction {
        regex_rewrite: Some(RegexMatchAndSubstitute {
            pattern: Some(regex("a")),
            substitution: r"\1".into(),
        }),
        ..to_cluster("c")
    }));
    assert_eq!(
        route_config(&one(wire)).unwrap_err().field,
        "virtual_hosts[h].routes[r].route.regex_rewrite.substitution"
    );
}

fn location(redirect: wire::RedirectAction, authority: &str, path: &str) -> (u16, String) {
    let mut wire = route(prefix("/old"), "r");
    wire.action = Some(WireAction::Redirect(redirect));
    let config = decode(&one(wire));
    let headers = HeaderMap::new();
    let head = head(authority, path, &headers);
    let route = config.route(config.find(&head, 0).unwrap());
    let RouteAction::Redirect(redirect) = &route.effect.action else { panic!("not redirected") };
    (redirect.status.as_u16(), redirect.location(&head, &route.matches))
}

#[test]
fn redirects_build_their_location() {
    use wire::redirect_action::{PathRewriteSpecifier as Path, SchemeRewriteSpecifier as Scheme};
    let plain = wire::RedirectAction::default();
    let https =
        wire::RedirectAction { scheme_rewrite_specifier: Some(Scheme::HttpsRedirect(true)), ..plain.clone() };
    assert_eq!(location(https.clone(), "web:80", "/old?a"), (301, "https://web/old?a".into()));
    let port = wire::RedirectAction { port_redirect: 8443, ..https };
    assert_eq!(location(port, "web:80", "/old"), (301, "https://web:8443/old".into()));
    let moved = wire::RedirectAction {
        host_redirect: "new".into(),
        response_code: wire::redirect_action::RedirectResponseCode::PermanentRedirect as i32,
        path_rewrite_specifier: Some(Path::PrefixRewrite("/neu".into())),
        strip_query: true,
        ..plain.clone()
    };
    assert_eq!(location(moved, "web", "/old/x?a"), (308, "http://new/neu/x".into()));
    let whole =
        wire::RedirectAction { path_rewrite_specifier: Some(Path::PathRedirect("/p".into())), ..plain };
    assert_eq!(location(whole, "web", "/old/x?a"), (301, "http://web/p?a".into()));
}

#[test]
fn headers_are_changed_from_the_most_specific_level_outwards() {
    let set = |value: &str| HeaderValueOption {
        header: Some(HeaderValue { key: "x-level".into(), value: value.into(), ..Default::default() }),
        append_action: 2,
        ..Default::default()
    };
    let mut wire = one(route(prefix("/"), "r"));
    wire.request_headers_to_add.push(set("configuration"));
    wire.virtual_hosts[0].request_headers_to_add.push(set("host"));
    wire.virtual_hosts[0].routes[0].request_headers_to_add.push(set("route"));
    for (specific_wins, wanted) in [(false, "configuration"), (true, "route")] {
        wire.most_specific_header_mutations_wins = specific_wins;
        let config = decode(&wire);
        let mut headers = HeaderMap::new();
        let found = config.find(&head("h", "/", &HeaderMap::new()), 0).unwrap();
        for ops in config.header_ops(found, None, Direction::Request) {
            ops.apply(&mut headers, ops.evaluate(&FormatContext::default()));
        }
        assert_eq!(headers["x-level"], wanted);
        assert_eq!(config.header_ops(found, None, Direction::Response).count(), 0);
    }
}

fn rbac_per_route(disabled: bool) -> Any {
    use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
    let message = RbacPerRoute { rbac: (!disabled).then(Rbac::default) };
    Any {
        type_url: "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute".into(),
        value: message.encode_to_vec(),
    }
}

#[test]
fn the_most_specific_filter_configuration_counts() {
    let mut wire = one(route(prefix("/"), "r"));
    wire.typed_per_filter_config.insert("rbac".into(), rbac_per_route(false));
    wire.typed_per_filter_config.insert("other".into(), rbac_per_route(false));
    wire.virtual_hosts[0].routes[0].typed_per_filter_config.insert("rbac".into(), rbac_per_route(true));
    let config = decode(&wire);
    let found = config.find(&head("h", "/", &HeaderMap::new()), 0).unwrap();
    assert!(matches!(config.filter_override(found, None, "rbac"), Some(Override::Disabled)));
    assert!(matches!(config.filter_override(found, None, "other"), Some(Override::Rbac(_))));
    assert!(config.filter_override(found, None, "none").is_none());
}

#[test]
fn refuses_by_name_what_would_change_the_meaning() {
    type Change = fn(&mut wire::RouteConfiguration);
    fn action(config: &mut wire::RouteConfiguration) -> &mut wire::RouteAction {
        match &mut config.virtual_hosts[0].routes[0].action {
            Some(WireAction::Route(action)) => action,
            _ => unreachable!("built so above"),
        }
    }
    let cases: [(&str, Change); 7] = [
        ("internal_only_headers", |c| c.internal_only_headers.push("x".into())),
        ("virtual_hosts[h].require_tls", |c| c.virtual_hosts[0].require_tls = 2),
        ("virtual_hosts[h].routes[r].route.request_mirror_policies", |c| {
            action(c).request_mirror_policies.push(Default::default());
        }),
        ("virtual_hosts[h].routes[r].route.hedge_policy", |c| {
            action(c).hedge_policy = Some(Default::default());
        }),
        ("virtual_hosts[h].routes[r].match.tls_context", |c| {
            c.virtual_hosts[0].routes[0].r#match.as_mut().unwrap().tls_context = Some(Default::default());
        }),
        ("virtual_hosts[h].typed_per_filter_config[lua]", |c| {
            let any = Any { type_url: "type.googleapis.com/some.Lua".into(), value: Vec::new() };
            c.virtual_hosts[0].typed_per_filter_config.insert("lua".into(), any);
        }),
        ("virtual_hosts[h].domains", |c| c.virtual_hosts.push(host("g", &["*"], vec![]))),
    ];
    for (field, change) in cases {
        let mut wire = one(route(prefix("/"), "r"));
        change(&mut wire);
        let error = route_config(&wire).unwrap_err();
        let field = field.replace("[h].domains", "[g].domains");
        assert_eq!(error.field, field);
    }
}

#[test]
fn accepts_what_is_cosmetic_and_says_so() {
    let mut wire = one(route(prefix("/"), "r"));
    wire.virtual_hosts[0].routes[0].decorator = Some(Default::default());
    assert_eq!(decode(&wire).notes.fields(), ["routes.decorator"]);
}

#[test]
fn a_connect_request_matches_only_the_connect_matcher() {
    let routes = vec![
        route(prefix("/"), "prefix"),
        route(PathSpecifier::ConnectMatcher(wire::route_match::ConnectMatcher {}), "connect"),
    ];
    let config = decode(&config(vec![host("h", &["*"], routes)]));
    let headers = HeaderMap::new();
    let request = RequestHead { method: "CONNECT", ..head("web:80", "", &headers) };
    assert_eq!(&*config.route(config.find(&request, 0).unwrap()).name, "connect");
}

#[test]
fn a_direct_response_has_status_and_body_within_its_limit() {
    let mut wire = route(prefix("/"), "r");
    let body = |size: usize| envoy_types::pb::envoy::config::core::v3::DataSource {
        specifier: Some(envoy_types::pb::envoy::config::core::v3::data_source::Specifier::InlineString(
            "x".repeat(size),
        )),
        ..Default::default()
    };
    let direct =
        |status, size| wire::DirectResponseAction { status, body: Some(body(size)), ..Default::default() };
    wire.action = Some(WireAction::DirectResponse(direct(404, 4096)));
    let config = decode(&one(wire.clone()));
    let RouteAction::Direct(response) = &config.table.virtual_hosts[0].routes[0].effect.action else {
        panic!("not direct")
    };
    assert_eq!((response.status.as_u16(), response.body.len()), (404, 4096));
    wire.action = Some(WireAction::DirectResponse(direct(200, 4097)));
    assert!(route_config(&one(wire.clone())).is_err());
    wire.action = Some(WireAction::DirectResponse(direct(99, 0)));
    assert_eq!(
        route_config(&one(wire)).unwrap_err().field,
        "virtual_hosts[h].routes[r].direct_response.status"
    );
}
