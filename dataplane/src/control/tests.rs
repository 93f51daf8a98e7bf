//! How resources warm, replace each other and are refused, without a stream or workers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::{Message, Name};
use tokio::time::Instant;
use weft_api::ResourceKind;

use super::dependencies::Dependency;
use super::resource::{ConfigOrigin, Now, ReceivedResource, RefusedName};
use super::runtime_builder::RuntimeBuilder;
use super::world::World;
use crate::decode::{ConfigSource, EndpointSource};
use crate::runtime::Runtime;

mod virtual_hosts;

fn encoded<M: Message + Name + Default>(yaml: &str) -> Bytes {
    let document: serde_json::Value = serde_yaml::from_str(yaml).unwrap();
    weft_api::json::from_json::<M>(&document).unwrap().encode_to_vec().into()
}

fn incoming(name: &str, version: &str, body: Bytes) -> ReceivedResource {
    ReceivedResource { name: name.into(), version: version.into(), body }
}

fn eds_cluster(name: &str, timeout: &str) -> Bytes {
    encoded::<Cluster>(&format!(
        "{{name: {name}, type: EDS, connect_timeout: {timeout}, eds_cluster_config: {{eds_config: {{ads: {{}}, initial_fetch_timeout: 0s}}}}}}"
    ))
}

fn endpoints(cluster: &str, port: u16) -> Bytes {
    encoded::<ClusterLoadAssignment>(&format!(
        "{{cluster_name: {cluster}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}"
    ))
}

fn rds_listener(route: &str) -> Bytes {
    encoded::<Listener>(&format!(
        "{{name: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{{filters: [{{name: h, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, rds: {{route_config_name: {route}, config_source: {{ads: {{}}, initial_fetch_timeout: 5s}}}}}}}}]}}]}}"
    ))
}

/// A listener whose requests are decided on by a server of the cluster `authz`.
fn authz_listener() -> Bytes {
    let filters = "http_filters: [{name: authz, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, http_service: {server_uri: {uri: authz, cluster: authz, timeout: 1s}}}}, {name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]";
    encoded::<Listener>(&format!(
        "{{name: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{{filters: [{{name: h, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, route_config: {{name: r}}, {filters}}}}}]}}]}}"
    ))
}

struct Bench {
    world: World,
    builder: RuntimeBuilder,
    now: Now,
}

/// What the work after an event looked at.
#[derive(Debug, PartialEq, Eq)]
struct Work {
    /// Warming resources.
    examined: usize,
    /// Things that are asked for now, or no longer.
    asked: usize,
    /// Clusters and listeners that may have to be built anew.
    visited: usize,
    /// Those that were.
    built: usize,
}

impl Bench {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), wall: SystemTime::now() };
        Self { world: World::default(), builder: RuntimeBuilder::default(), now }
    }

    fn take(&mut self, kind: ResourceKind, all: Vec<ReceivedResource>) -> Vec<RefusedName> {
        let refusals = self.world.apply(kind, &ConfigSource::Ads, ConfigOrigin::Dynamic, all, self.now);
        self.promote();
        refusals
    }

    fn promote(&mut self) {
        self.world.promote(&mut self.builder, self.now);
    }

    fn build(&mut self) -> Arc<Runtime> {
        self.builder.build(&mut self.world).runtime
    }

    /// What the control thread does after each event.
    fn work(&mut self) -> Work {
        let promoted = self.world.promote(&mut self.builder, self.now);
        let changes = self.world.take_subscription_changes();
        let visited = self.world.stale.dependents.len();
        let built = self.builder.build(&mut self.world);
        Work {
            examined: promoted.examined,
            asked: changes.begun.len() + changes.ended.len(),
            visited,
            built: built.clusters.len() + built.listeners.len(),
        }
    }

    fn apply(&mut self, kind: ResourceKind, name: &str, version: &str, body: Bytes) {
        let incoming = vec![incoming(name, version, body)];
        assert!(
            self.world.apply(kind, &ConfigSource::Ads, ConfigOrigin::Dynamic, incoming, self.now).is_empty()
        );
    }

    fn port_of(&mut self, cluster: &str) -> Option<u16> {
        let runtime = self.build();
        Some(runtime.clusters.get(cluster)?.endpoints.list.first()?.address.port())
    }
}

#[test]
fn a_cluster_is_used_only_once_its_endpoints_are_there() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Cluster, vec![incoming("a", "1", eds_cluster("a", "1s"))]);
    assert!(bench.build().clusters.is_empty());
    assert!(!bench.world.is_settled(ResourceKind::Cluster, "a", "1"), "its ACK waits");
    assert_eq!(
        bench.world.take_subscription_changes().begun,
        [Dependency::Endpoints((ConfigSource::Ads, "a".into()))]
    );
    bench.take(ResourceKind::Endpoint, vec![incoming("a", "1", endpoints("a", 81))]);
    assert_eq!(bench.port_of("a"), Some(81));
    assert!(bench.world.is_settled(ResourceKind::Cluster, "a", "1"));
}

#[test]
fn endpoints_that_do_not_exist_make_an_empty_cluster() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Cluster, vec![incoming("a", "1", eds_cluster("a", "1s"))]);
    bench.world.remove(ResourceKind::Endpoint, &ConfigSource::Ads, &["a".into()]);
    bench.promote();
    assert_eq!(bench.build().clusters["a"].endpoints.list.len(), 0);
}

#[test]
fn a_refused_version_leaves_the_one_in_use_and_its_siblings() {
    let mut bench = Bench::new();
    bench.take(
        ResourceKind::Endpoint,
        vec![incoming("a", "1", endpoints("a", 81)), incoming("b", "1", endpoints("b", 82))],
    );
    bench.take(ResourceKind::Cluster, vec![incoming("a", "1", eds_cluster("a", "1s"))]);
    let refusals = bench.take(
        ResourceKind::Cluster,
        vec![incoming("a", "2", eds_cluster("a", "0s")), incoming("b", "1", eds_cluster("b", "1s"))],
    );
    assert_eq!(refusals.len(), 1);
    assert_eq!((&*refusals[0].0, refusals[0].1.field.as_str()), ("a", "connect_timeout"));
    let runtime = bench.build();
    assert_eq!(runtime.clusters["a"].connect_timeout, Duration::from_secs(1));
    assert!(runtime.clusters.contains_key("b"));
    let entry = &bench.world.clusters["a"];
    assert_eq!(entry.refused.as_ref().unwrap().rejection.field, "connect_timeout");
}

#[test]
fn of_two_resources_with_one_name_the_first_counts() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Endpoint, vec![incoming("a", "1", endpoints("a", 81))]);
    let twice = vec![incoming("a", "1", eds_cluster("a", "1s")), incoming("a", "2", eds_cluster("a", "2s"))];
    let refusals = bench.take(ResourceKind::Cluster, twice);
    assert_eq!(refusals.len(), 1);
    assert_eq!(bench.build().clusters["a"].connect_timeout, Duration::from_secs(1));
}

#[test]
fn what_did_not_change_is_the_same_object() {
    let mut bench = Bench::new();
    bench.take(
        ResourceKind::Endpoint,
        vec![incoming("a", "1", endpoints("a", 81)), incoming("b", "1", endpoints("b", 82))],
    );
    bench.take(
        ResourceKind::Cluster,
        vec![incoming("a", "1", eds_cluster("a", "1s")), incoming("b", "1", eds_cluster("b", "1s"))],
    );
    let first = bench.build();
    bench.take(
        ResourceKind::Endpoint,
        vec![incoming("a", "2", endpoints("a", 91)), incoming("b", "1", endpoints("b", 82))],
    );
    let second = bench.build();
    assert!(Arc::ptr_eq(&first.clusters["b"], &second.clusters["b"]));
    assert!(!Arc::ptr_eq(&first.clusters["a"], &second.clusters["a"]));
    assert_eq!(first.clusters["a"].identity, second.clusters["a"].identity);
    first.clusters["a"].breaker.claim(crate::breaker::BreakerResource::Requests);
    assert_eq!(second.clusters["a"].breaker.in_use(crate::breaker::BreakerResource::Requests), 1);
}

#[test]
fn a_listener_waits_for_its_routes_until_its_fetch_timeout_ends() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Listener, vec![incoming("l", "1", rds_listener("r"))]);
    assert!(bench.build().listeners.is_empty());
    assert_eq!(bench.world.next_deadline(), Some(bench.now.instant + Duration::from_secs(5)));
    bench.now.instant += Duration::from_secs(5);
    bench.promote();
    assert!(bench.build().listeners.contains_key("l"));
    assert!(bench.world.is_warm());
}

/// Without it each request would be refused, or let on unchecked where `failure_mode_allow` says so.
#[test]
fn a_listener_waits_for_the_cluster_that_decides_on_its_requests() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Listener, vec![incoming("l", "1", authz_listener())]);
    bench.take(ResourceKind::Cluster, vec![incoming("authz", "1", eds_cluster("authz", "1s"))]);
    bench.take(ResourceKind::Cluster, vec![incoming("other", "1", eds_cluster("other", "1s"))]);
    assert!(bench.build().listeners.is_empty(), "a cluster that warms itself decides nothing");
    assert!(!bench.world.is_settled(ResourceKind::Listener, "l", "1"), "its ACK waits");
    bench.take(ResourceKind::Endpoint, vec![incoming("authz", "1", endpoints("authz", 81))]);
    let runtime = bench.build();
    assert!(runtime.clusters.contains_key("authz") && runtime.listeners.contains_key("l"), "both at once");

    bench.take(ResourceKind::Cluster, vec![incoming("authz", "2", eds_cluster("authz", "2s"))]);
    assert!(Arc::ptr_eq(&runtime.listeners["l"], &bench.build().listeners["l"]), "it is not built of it");
}

#[test]
fn a_listener_whose_deciding_cluster_never_comes_serves_in_the_end() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Listener, vec![incoming("l", "1", authz_listener())]);
    assert_eq!(bench.world.next_deadline(), Some(bench.now.instant + Duration::from_secs(15)));
    bench.now.instant += Duration::from_secs(15);
    bench.promote();
    assert!(bench.build().listeners.contains_key("l"));
    assert!(bench.world.is_warm());
}

#[test]
fn a_listener_that_moves_to_other_routes_keeps_serving_until_they_are_there() {
    let mut bench = Bench::new();
    let route = |name: &str| encoded::<RouteConfiguration>(&format!("{{name: {name}}}"));
    bench.take(ResourceKind::Route, vec![incoming("r", "1", route("r"))]);
    bench.take(ResourceKind::Listener, vec![incoming("l", "1", rds_listener("r"))]);
    let first = bench.build();
    bench.take(ResourceKind::Listener, vec![incoming("l", "2", rds_listener("s"))]);
    bench.world.take_subscription_changes();
    assert!(Arc::ptr_eq(&first.listeners["l"], &bench.build().listeners["l"]));
    bench.take(ResourceKind::Route, vec![incoming("s", "1", route("s"))]);
    let second = bench.build();
    assert!(!Arc::ptr_eq(&first.listeners["l"], &second.listeners["l"]));
    bench.world.take_subscription_changes();
    assert!(!bench.build().routes.contains_key("r"), "nobody names it any more");
}

#[test]
fn a_static_cluster_cannot_be_replaced_or_removed_from_outside() {
    let mut bench = Bench::new();
    let body = encoded::<Cluster>("{name: a, load_assignment: {cluster_name: a}}");
    bench.world.apply(
        ResourceKind::Cluster,
        &ConfigSource::Ads,
        ConfigOrigin::Static,
        vec![incoming("a", "static", body)],
        bench.now,
    );
    let refusals = bench.take(ResourceKind::Cluster, vec![incoming("a", "1", eds_cluster("a", "1s"))]);
    assert_eq!(refusals[0].1.field, "name");
    bench.world.remove(ResourceKind::Cluster, &ConfigSource::Ads, &["a".into()]);
    let accepted = bench.world.clusters["a"].active.as_ref().unwrap();
    assert!(matches!(accepted.value.source, EndpointSource::Static(_)));
}

#[test]
fn a_snapshot_holds_what_came_by_the_stream() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Endpoint, vec![incoming("a", "7", endpoints("a", 81))]);
    bench.take(ResourceKind::Cluster, vec![incoming("a", "9", eds_cluster("a", "1s"))]);
    let body = encoded::<Cluster>("{name: s, load_assignment: {cluster_name: s}}");
    bench.world.apply(
        ResourceKind::Cluster,
        &ConfigSource::Ads,
        ConfigOrigin::Static,
        vec![incoming("s", "static", body)],
        bench.now,
    );
    bench.promote();
    let snapshot = bench.world.snapshot("shop/web-1");
    let mut names: Vec<_> =
        snapshot.resources.iter().map(|saved| (saved.name.as_str(), saved.version.as_str())).collect();
    names.sort_unstable();
    assert_eq!(names, [("a", "7"), ("a", "9")]);
}

#[test]
fn work_after_an_event_is_in_proportion_to_the_event() {
    const CLUSTERS: usize = 2000;
    let work = |examined, asked, visited, built| Work { examined, asked, visited, built };
    // Read once for all that is written here as YAML.
    let _descriptors = weft_api::json::descriptors();
    let mut bench = Bench::new();
    for name in (0..CLUSTERS).map(|number| format!("c{number}")) {
        bench.apply(ResourceKind::Cluster, &name, "1", eds_cluster(&name, "1s"));
        bench.apply(ResourceKind::Endpoint, &name, "1", endpoints(&name, 81));
    }
    assert_eq!(bench.work(), work(CLUSTERS, CLUSTERS, CLUSTERS, CLUSTERS));
    assert_eq!(bench.work(), work(0, 0, 0, 0), "a question changes nothing");
    bench.apply(ResourceKind::Endpoint, "c7", "2", endpoints("c7", 82));
    assert_eq!(bench.work(), work(0, 0, 1, 1), "endpoints of a cluster in use");
    bench.apply(ResourceKind::Cluster, "c7", "2", eds_cluster("c7", "2s"));
    assert_eq!(bench.work(), work(1, 0, 1, 1), "a cluster that names the same");
    bench.apply(ResourceKind::Cluster, "new", "1", eds_cluster("new", "1s"));
    assert_eq!(bench.work(), work(1, 1, 1, 0), "a cluster that waits for its endpoints");
    assert_eq!(bench.work(), work(0, 0, 0, 0), "what waits is not looked at until something comes");
    bench.apply(ResourceKind::Endpoint, "new", "1", endpoints("new", 81));
    assert_eq!(bench.work(), work(1, 0, 1, 1), "and serves when they are there");
    bench.apply(ResourceKind::Endpoint, "stray", "1", endpoints("stray", 81));
    assert_eq!(bench.work(), work(0, 0, 0, 0), "endpoints that nobody names");
    assert!(!bench.world.endpoints.contains_key(&(ConfigSource::Ads, "stray".into())));
    bench.world.remove(ResourceKind::Cluster, &ConfigSource::Ads, &["new".into()]);
    assert_eq!(bench.work(), work(0, 1, 1, 1), "a cluster that goes, with its endpoints");
    assert!(!bench.world.endpoints.contains_key(&(ConfigSource::Ads, "new".into())));
}

/// A bundle is kept on disk, so that who was revoked stays so over a restart without a control plane; a key is not.
#[test]
fn a_snapshot_has_the_trust_bundle_and_no_keys() {
    let mut bench = Bench::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap().self_signed(&key).unwrap();
    let inline = |text: &str| serde_json::json!({"inline_string": text});
    let secrets = [
        serde_json::json!({"name": "bundle", "validation_context": {"trusted_ca": inline(&certificate.pem())}}),
        serde_json::json!({"name": "own", "tls_certificate": {
            "certificate_chain": inline(&certificate.pem()), "private_key": inline(&key.serialize_pem()),
        }}),
    ];
    for secret in secrets {
        let name = secret["name"].as_str().unwrap().to_owned();
        let body = encoded::<Secret>(&secret.to_string());
        assert!(bench.take(ResourceKind::Secret, vec![incoming(&name, "3", body)]).is_empty());
    }
    let snapshot = bench.world.snapshot("shop/web-1");
    let names: Vec<_> = snapshot.resources.iter().map(|saved| saved.name.as_str()).collect();
    assert_eq!(names, ["bundle"]);
    let wrong = serde_json::json!({"name": "bundle", "validation_context": {
        "trusted_ca": inline(&certificate.pem()), "crl": inline("nonsense"),
    }});
    let body = encoded::<Secret>(&wrong.to_string());
    let refusals = bench.take(ResourceKind::Secret, vec![incoming("bundle", "4", body)]);
    assert_eq!(refusals[0].1.field, "validation_context.crl");
    assert_eq!(bench.world.snapshot("shop/web-1").resources[0].version, "3", "the last good one serves on");
}
