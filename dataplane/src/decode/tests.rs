//! What each resource means, and what is refused by which field.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::runtime::v3::Runtime;
use prost::{Message, Name};
use weft_api::ResourceKind;

use super::*;
use crate::runtime::{EndpointDiscovery, Health, UpstreamProtocol};

/// Bytes of a message written as YAML.
pub(crate) fn encoded<M: Message + Name + Default>(yaml: &str) -> Vec<u8> {
    let document: serde_json::Value = serde_yaml::from_str(yaml).unwrap();
    weft_api::json::from_json::<M>(&document).unwrap().encode_to_vec()
}

fn read(kind: ResourceKind, yaml: &str) -> Result<(DecodedResource, Notes), Rejection> {
    let body = match kind {
        ResourceKind::Cluster => encoded::<Cluster>(yaml),
        ResourceKind::Endpoint => encoded::<ClusterLoadAssignment>(yaml),
        ResourceKind::Listener => encoded::<Listener>(yaml),
        ResourceKind::Route => encoded::<RouteConfiguration>(yaml),
        ResourceKind::Secret => encoded::<Secret>(yaml),
        ResourceKind::VirtualHost => encoded::<VirtualHost>(yaml),
        ResourceKind::Runtime => encoded::<Runtime>(yaml),
    };
    decode(kind, &body, &mut StatsRegistry::new())
}

fn cluster(yaml: &str) -> ClusterPlan {
    match read(ResourceKind::Cluster, yaml).unwrap().0 {
        DecodedResource::Cluster(plan) => ClusterPlan::clone(&plan),
        other => panic!("{other:?}"),
    }
}

fn refused(kind: ResourceKind, yaml: &str) -> Rejection {
    match read(kind, yaml) {
        Err(rejection) => rejection,
        Ok(_) => panic!("accepted: {yaml}"),
    }
}

const EDS: &str = "name: a\ntype: EDS\neds_cluster_config: {service_name: b, eds_config: {ads: {}, initial_fetch_timeout: 0s}}\n";

#[test]
fn a_cluster_without_fields_has_envoys_defaults() {
    let plan = cluster("name: a\nload_assignment: {cluster_name: a}");
    assert_eq!(plan.discovery(), EndpointDiscovery::Static);
    assert_eq!(plan.connect_timeout, Duration::from_secs(5));
    assert_eq!(plan.balancing.panic_threshold, 50);
    assert_eq!(plan.thresholds[0], crate::breaker::Thresholds::default());
    assert_eq!(plan.http.protocol, UpstreamProtocol::Http1);
    assert_eq!(plan.buffer_limit, 1 << 20);
    assert!(plan.outlier.is_none());
}

#[test]
fn an_eds_cluster_names_its_assignment_and_waits_for_ever_at_timeout_zero() {
    let EndpointSource::Eds(reference) = cluster(EDS).source else { panic!("EDS was given") };
    assert_eq!((&*reference.name, reference.fetch_timeout), ("b", None));
    let EndpointSource::Eds(reference) =
        cluster("name: a\ntype: EDS\neds_cluster_config: {eds_config: {ads: {}}}").source
    else {
        panic!("EDS was given")
    };
    assert_eq!((&*reference.name, reference.fetch_timeout), ("a", Some(Duration::from_secs(15))));
}

#[test]
fn the_first_known_balancer_policy_counts() {
    let policies = |list: &str| format!("{EDS}load_balancing_policy: {{policies: [{list}]}}\n");
    let extension = |kind: &str| {
        let kind = format!("envoy.extensions.load_balancing_policies.{kind}");
        format!(
            "{{typed_extension_config: {{name: x, typed_config: {{'@type': type.googleapis.com/{kind}}}}}}}"
        )
    };
    let (subset, maglev) = (extension("subset.v3.Subset"), extension("maglev.v3.Maglev"));
    let plan = cluster(&policies(&format!("{subset}, {maglev}")));
    assert_eq!(plan.balancing.policy, crate::balance::LbPolicy::Maglev { size: 65537 });
    let rejection = refused(ResourceKind::Cluster, &policies(&subset));
    assert_eq!(rejection.field, "load_balancing_policy.policies");
}

#[test]
fn what_would_change_a_clusters_meaning_is_refused_by_field() {
    for (yaml, field) in [
        ("lb_policy: MAGLEV\nmaglev_lb_config: {table_size: 65536}", "maglev_lb_config.table_size"),
        (
            "lb_policy: RING_HASH\nring_hash_lb_config: {hash_function: MURMUR_HASH_2}",
            "ring_hash_lb_config.hash_function MURMUR_HASH_2",
        ),
        (
            "lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 9, maximum_ring_size: 8}",
            "ring_hash_lb_config.minimum_ring_size",
        ),
        (
            "common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 120}}",
            "common_lb_config.consistent_hashing_lb_config.hash_balance_factor",
        ),
        ("lb_subset_config: {fallback_policy: NO_FALLBACK}", "lb_subset_config"),
        (
            "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 101}}}]}",
            "circuit_breakers.thresholds[0].retry_budget.budget_percent",
        ),
        ("outlier_detection: {detect_degraded_hosts: true}", "outlier_detection.detect_degraded_hosts"),
        ("connect_timeout: 0s", "connect_timeout"),
        (
            "transport_socket: {name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.alts.v3.Alts}}",
            "transport_socket",
        ),
        (
            "transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, auto_host_sni: true}}",
            "transport_socket.typed_config.auto_host_sni",
        ),
        (
            "typed_extension_protocol_options: {x: {'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http3_protocol_options: {}}}}",
            "typed_extension_protocol_options.http3_protocol_options",
        ),
    ] {
        assert_eq!(refused(ResourceKind::Cluster, &format!("{EDS}{yaml}")).field, field, "{yaml}");
    }
}

#[test]
fn what_is_cosmetic_is_accepted_and_listed() {
    let (_, notes) =
        read(ResourceKind::Cluster, &format!("{EDS}respect_dns_ttl: true\ncleanup_interval: 1s")).unwrap();
    assert_eq!(notes.fields(), ["cleanup_interval", "respect_dns_ttl"]);
}

#[test]
fn identity_changes_with_the_transport_and_not_with_limits() {
    let tls = |sni: &str| {
        format!(
            "{EDS}transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: {sni}}}}}"
        )
    };
    let limited = format!("{EDS}circuit_breakers: {{thresholds: [{{max_requests: 7}}]}}");
    assert_eq!(cluster(EDS).identity, cluster(&limited).identity);
    assert_eq!(cluster(&limited).thresholds[0].max_requests, 7);
    assert_ne!(cluster(EDS).identity, cluster(&tls("a")).identity);
    assert_ne!(cluster(&tls("b")).identity, cluster(&tls("a")).identity);
}

#[test]
fn endpoints_keep_health_weight_priority_and_their_socket() {
    let yaml = "cluster_name: b\nendpoints:\n- priority: 1\n  locality: {region: eu, zone: a}\n  lb_endpoints:\n  - health_status: DEGRADED\n    load_balancing_weight: 3\n    metadata: {filter_metadata: {envoy.transport_socket_match: {tls: 'off'}}}\n    endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}\n";
    let DecodedResource::Endpoints(endpoints) = read(ResourceKind::Endpoint, yaml).unwrap().0 else {
        panic!("endpoints were given")
    };
    let plan = cluster(&format!(
        "{EDS}transport_socket_matches:\n- name: plain\n  match: {{tls: 'off'}}\n  transport_socket: {{name: envoy.transport_sockets.raw_buffer}}\n"
    ));
    let built = plan.endpoints(&endpoints, &|_, _| Vec::new());
    let endpoint = &built.list[0];
    assert_eq!(endpoint.address, "10.0.0.1:80".parse().unwrap());
    assert_eq!((endpoint.weight, endpoint.priority, endpoint.transport), (3, 1, 1));
    assert_eq!(endpoint.health, Health::Degraded);
    assert_eq!(&*endpoint.locality.zone, "a");
    let named = yaml.replace("10.0.0.1", "db.example");
    assert_eq!(refused(ResourceKind::Endpoint, &named).field, "endpoints");
}

fn listener(chain: &str) -> String {
    format!(
        "name: a\naddress: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}\nfilter_chains:\n{chain}"
    )
}

fn manager(extra: &str) -> String {
    listener(&format!(
        "- filters: [{{name: hcm, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, rds: {{route_config_name: r, config_source: {{ads: {{}}}}}}, {extra}}}}}]\n"
    ))
}

#[test]
fn a_listener_names_its_routes() {
    let (DecodedResource::Listener(plan), _) = read(ResourceKind::Listener, &manager("")).unwrap() else {
        panic!("a listener was given")
    };
    assert_eq!(plan.routes.len(), 1);
    assert_eq!((&*plan.routes[0].name, &plan.routes[0].source), ("r", &ConfigSource::Ads));
}

#[test]
fn an_unknown_http_filter_refuses_its_listener_unless_it_is_optional() {
    let lua = "'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
    let filter = |optional: bool| {
        manager(&format!("http_filters: [{{name: lua, is_optional: {optional}, typed_config: {{{lua}}}}}]"))
    };
    let rejection = refused(ResourceKind::Listener, &filter(false));
    assert_eq!(rejection.field, "filter_chains[0].filters[0].typed_config.http_filters[0]");
    assert!(rejection.reason.contains("lua"), "{rejection}");
    let (_, notes) = read(ResourceKind::Listener, &filter(true)).unwrap();
    assert_eq!(notes.fields(), ["http_filters.lua (optional)"]);
}

#[test]
fn the_original_destination_is_noted_as_ignored() {
    let original_dst =
        "'@type': type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
    let given = format!(
        "{}use_original_dst: true\nlistener_filters: [{{name: original_dst, typed_config: {{{original_dst}}}}}]",
        manager("")
    );
    let (_, notes) = read(ResourceKind::Listener, &given).unwrap();
    assert_eq!(notes.fields(), ["use_original_dst", "listener_filters[0].typed_config"]);
    let (_, notes) =
        read(ResourceKind::Listener, &format!("{}use_original_dst: false", manager(""))).unwrap();
    assert!(notes.fields().is_empty());
}

#[test]
fn what_would_change_a_listeners_meaning_is_refused_by_field() {
    let at = "filter_chains[0].filters[0].typed_config";
    for (yaml, field) in [
        (manager("max_request_headers_kb: 0"), format!("{at}.max_request_headers_kb")),
        (manager("via: x"), format!("{at}.via")),
        (manager("codec_type: HTTP3"), format!("{at}.codec_type HTTP3")),
        (
            manager("http_protocol_options: {allow_chunked_length: true}"),
            format!("{at}.http_protocol_options.allow_chunked_length"),
        ),
        (listener("- filters: []\n"), "filter_chains[0].filters".to_owned()),
        (listener("  []"), "filter_chains".to_owned()),
        (manager("").replace("filter_chains", "transparent: true\nfilter_chains"), "transparent".to_owned()),
        (
            listener(
                "- transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext}}\n  filters: []\n",
            ),
            "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates".to_owned(),
        ),
    ] {
        assert_eq!(refused(ResourceKind::Listener, &yaml).field, field, "{yaml}");
    }
}

#[test]
fn two_chains_with_one_match_are_refused() {
    let chain = "- filters: [{name: tcp, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}]\n";
    let rejection = refused(ResourceKind::Listener, &listener(&chain.repeat(2)));
    assert_eq!(rejection.field, "filter_chains[1].filter_chain_match");
}

/// Wrapped into a group, `spiffe://mesh/a)|(b` would accept every name that only begins or ends so.
#[test]
fn a_pattern_for_a_peers_name_cannot_leave_the_group_that_anchors_it() {
    let names = |regex: &str| {
        format!(
            "name: s\nvalidation_context: {{match_typed_subject_alt_names: [{{san_type: URI, matcher: {{safe_regex: {{regex: '{regex}'}}}}}}]}}"
        )
    };
    assert!(read(ResourceKind::Secret, &names("spiffe://mesh/a|b")).is_ok());
    let rejection = refused(ResourceKind::Secret, &names("spiffe://mesh/a)|(b"));
    assert_eq!(
        rejection.field,
        "validation_context.match_typed_subject_alt_names[0].matcher.safe_regex.regex"
    );
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    assert!(decode(ResourceKind::Cluster, b"\xff\xff\xff", &mut StatsRegistry::new()).is_err());
}

#[test]
fn a_virtual_host_of_its_own_is_read_like_one_in_a_route_configuration() {
    let yaml = "name: r/web\ndomains: [Web.test]\nmetadata: {}\nroutes: [{match: {prefix: /}, route: {cluster: app}}]\n";
    let (decoded, notes) = read(ResourceKind::VirtualHost, yaml).unwrap();
    let DecodedResource::VirtualHost(host) = decoded else { panic!("{decoded:?}") };
    assert_eq!((&*host.name, &*host.domains[0], host.routes.len()), ("r/web", "web.test", 1));
    assert_eq!(notes.fields(), ["virtual_hosts.metadata"]);
    let direct = |body: &str| {
        format!(
            "name: r/web\ndomains: [a]\nroutes: [{{name: d, match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: '{body}'}}}}}}]"
        )
    };
    for (yaml, field) in [
        ("name: r/web", "domains"),
        ("name: r/web\ndomains: [a.test, A.test]", "domains"),
        ("name: r/web\ndomains: [a]\nrequire_tls: ALL", "require_tls"),
        ("name: r/web\ndomains: [a]\nroutes: [{name: x, match: {prefix: /}}]", "routes[x].action"),
        (&direct(&"x".repeat(4097)), "routes[d].direct_response.body"),
    ] {
        assert_eq!(refused(ResourceKind::VirtualHost, yaml).field, field, "{yaml}");
    }
    assert!(read(ResourceKind::VirtualHost, &direct(&"x".repeat(4096))).is_ok());
}

#[test]
fn filters_that_a_virtual_host_of_its_own_overrides_have_their_statistics() {
    let yaml = "name: r/web\ndomains: [a]\ntyped_per_filter_config:\n  limit: {'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: own, token_bucket: {max_tokens: 1, fill_interval: 1s}}\n";
    let mut registry = StatsRegistry::new();
    decode(ResourceKind::VirtualHost, &encoded::<VirtualHost>(yaml), &mut registry).unwrap();
    assert!(!registry.is_empty());
}

#[test]
fn virtual_hosts_of_their_own_come_by_ads_only_and_not_for_routes_inside_a_listener() {
    let vhds = |source: &str| format!("name: r\nvhds: {{config_source: {source}}}");
    let DecodedResource::Route(config) =
        read(ResourceKind::Route, &vhds("{ads: {}, initial_fetch_timeout: 3s}")).unwrap().0
    else {
        panic!("not a route configuration")
    };
    assert_eq!(config.vhds.unwrap().fetch_timeout, Some(Duration::from_secs(3)));
    for (source, field) in [
        ("{path_config_source: {path: /x/hosts.yaml}}", "vhds.config_source"),
        ("{api_config_source: {api_type: DELTA_GRPC}}", "vhds.config_source.api_config_source"),
        ("{}", "vhds.config_source"),
    ] {
        assert_eq!(refused(ResourceKind::Route, &vhds(source)).field, field, "{source}");
    }
    let inline = "- filters: [{name: h, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, route_config: {vhds: {config_source: {ads: {}}}}}}]\n";
    let rejection = refused(ResourceKind::Listener, &listener(inline));
    assert!(rejection.field.ends_with("route_config.vhds"), "{rejection}");
}
